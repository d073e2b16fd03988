// Block scores: first down the r rows of a block row with vectors along the columns, then across c columns.

template <Criterion kind>
inline Vec ScoreAdd(Vec sum, Vec w) {
  if (kind == Criterion::kL2) return Vec::Fma(w, w, sum);
  if (kind == Criterion::kMaxAbs) return Vec::Max(sum, Vec::Abs(w));
  return sum + Vec::Abs(w);
}

template <Criterion kind>
inline Vec ScoreJoin(Vec a, Vec b) {
  return kind == Criterion::kMaxAbs ? Vec::Max(a, b) : a + b;
}

template <Criterion kind>
inline float ScoreJoin(float a, float b) {
  return kind == Criterion::kMaxAbs ? (a > b ? a : b) : a + b;
}

// Rows that are read side by side: streams that hardware fetches ahead by itself.
constexpr int64_t kScoreRows = 16;

// Weights that are asked for before their turn, in floats. Hardware fetches ahead within a page: where a
// vector is a line it is enough to ask for the first line of the next one, which also finds where that lies.
// Narrower vectors ask for every line.
constexpr int64_t kScoreAhead = kHalves == 1 ? 1024 : 512;
constexpr int64_t kScoreStep = kHalves == 1 ? 1024 : kLanes;

// Columns whose sums are joined while they are in registers, pairwise, as ScorePairs does: 1 or 4.
constexpr int kMostTogether = Vec::kUnrolled ? 4 : 1;

// sums[k] joins `rows` rows, up to kScoreRows, of columns kTogether * k and on of the weight, in as many
// lines of each row at a time. Where none are together, also what it holds already, unless these rows are the
// `first`.
template <Criterion kind, int kTogether>
__attribute__((noinline)) void ScoreColumns(const float* w, int64_t stride, int64_t rows, int64_t count,
                                            bool first, float* sums) {
  constexpr int64_t kColumns = kTogether * kLanes;
  constexpr int kVectors = static_cast<int>(kReference ? kTogether : kColumns / Vec::kWidth);
  constexpr int kUnrolled = Vec::kUnrolled ? 4 : 1;
  // JavaScript's arrays begin anywhere: the first columns reach to the first whole line, for all vectors from
  // there on would be parts of two.
  const int64_t past = static_cast<int64_t>(reinterpret_cast<uintptr_t>(w) / sizeof *w % kLanes);
  const bool aligns = Vec::kUnrolled && past > 0 && past % kTogether == 0 && stride % kLanes == 0;
  const int64_t head = aligns ? kLanes - past : 0;
  for (int64_t k = 0, next_k; k < count; k = next_k) {
    next_k = k < head ? head : k + kVectors * Vec::kWidth;
    if (next_k > count) next_k = count;
    if (Vec::kUnrolled && (k - head) % kScoreStep == 0) {
      const float* next = w + (k + kScoreAhead < count ? k : rows * stride + k - count) + kScoreAhead;
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t at = 0; at < kColumns; at += kScoreStep) __builtin_prefetch(next + i * stride + at);
      }
    }
    const float* from = w + k;
    int64_t step = stride;
    float edge[kScoreRows][kColumns];
    if (next_k - k < kVectors * Vec::kWidth) {
      std::memset(edge, 0, static_cast<std::size_t>(rows) * sizeof edge[0]);
      for (int64_t i = 0; i < rows; ++i)
        std::memcpy(edge[i], from + i * stride, static_cast<std::size_t>(next_k - k) * sizeof *from);
      from = edge[0];
      step = kColumns;
    }
    Vec sum[kVectors];
    Each<kVectors>(EACH(v) { sum[v] = first ? Vec::Zero() : Vec::Load(sums + k + v * Vec::kWidth); });
    const auto add = [&](int64_t i) __attribute__((always_inline)) {
      Each<kVectors>(
          EACH(v) { sum[v] = ScoreAdd<kind>(sum[v], Vec::Load(from + i * step + v * Vec::kWidth)); });
    };
    int64_t i = 0;
    for (; i + kUnrolled <= rows; i += kUnrolled) Each<kUnrolled>(EACH(u) { add(i + u); });
    for (; i < rows; ++i) add(i);
    if constexpr (kTogether > 1) {
      const auto join = [&](auto vectors) __attribute__((always_inline)) {
        Each<vectors>(EACH(v) {
          sum[v] =
              ScoreJoin<kind>(Vec::Even(sum[2 * v], sum[2 * v + 1]), Vec::Odd(sum[2 * v], sum[2 * v + 1]));
        });
      };
      join(std::integral_constant<int, kVectors / 2>());
      join(std::integral_constant<int, kVectors / 4>());
    }
    Each<kVectors / kTogether>(EACH(v) { sum[v].Store(sums + k / kTogether + v * Vec::kWidth); });
  }
}

// Joins neighbours, in place: sums[0, count) become sums[0, count / 2).
template <Criterion kind>
void ScorePairs(float* sums, int64_t count) {
  int64_t k = 0;
  for (; k + 2 * Vec::kWidth <= count; k += 2 * Vec::kWidth) {
    const Vec a = Vec::Load(sums + k), b = Vec::Load(sums + k + Vec::kWidth);
    ScoreJoin<kind>(Vec::Even(a, b), Vec::Odd(a, b)).Store(sums + k / 2);
  }
  for (; k < count; k += 2) sums[k / 2] = ScoreJoin<kind>(sums[k], sums[k + 1]);
}

// Joins neighbours, in place, `width` at a time.
template <Criterion kind>
void ScoreRuns(float* sums, int64_t count, int64_t width) {
  for (int64_t block = 0; block < count; ++block) {
    float sum = sums[block * width];
    for (int64_t k = 1; k < width; ++k) sum = ScoreJoin<kind>(sum, sums[block * width + k]);
    sums[block] = sum;
  }
}

// Blocks of `weights` elements: from their sums to their scores.
template <Criterion kind>
void ScoreFinish(const BlockScoresArgs& a, const float* sums, int64_t count, int64_t weights, float* scores) {
  const Vec divisor = Vec::Set1(static_cast<float>(weights));
  for (int64_t k = 0; k < count; k += Vec::kWidth) {
    const int64_t n = count - k < Vec::kWidth ? count - k : Vec::kWidth;
    Vec score = Vec::LoadN(sums + k, n);
    if (kind == Criterion::kL2) score = Vec::Sqrt(score);
    if (a.criterion == Criterion::kMeanAbs) score = score / divisor;
    score.StoreN(scores + k, n);
  }
}

// One block row of `rows` rows.
template <Criterion kind>
void ScoreBlocks(const BlockScoresArgs& a, const float* w, int64_t rows, float* scores) {
  const int64_t whole = a.cols / a.c;
  const int64_t cut = a.cols - whole * a.c;
  float* sums = a.scratch;
  const auto columns = [&](const float* from, int64_t count) {
    for (int64_t y = 0; y < rows; y += kScoreRows) {
      const int64_t some = rows - y < kScoreRows ? rows - y : kScoreRows;
      ScoreColumns<kind, 1>(from + y * a.cols, a.cols, some, count, y == 0, sums);
    }
  };
  if (cut > 0) {
    columns(w + whole * a.c, cut);
    ScoreRuns<kind>(sums, 1, cut);
    ScoreFinish<kind>(a, sums, 1, rows * cut, scores + whole);
  }
  int64_t width = a.c;
  if (width % 4 == 0 && rows <= kScoreRows && kMostTogether == 4) {
    ScoreColumns<kind, kMostTogether>(w, a.cols, rows, whole * width, true, sums);
    width /= 4;
  } else {
    columns(w, whole * width);
  }
  for (; width % 2 == 0; width /= 2) ScorePairs<kind>(sums, whole * width);
  if (width > 1) ScoreRuns<kind>(sums, whole, width);
  ScoreFinish<kind>(a, sums, whole, rows * a.c, scores);
}

template <Criterion kind>
void ScoreRows(const BlockScoresArgs& a) {
  const int64_t blocks = (a.cols + a.c - 1) / a.c;
  for (int64_t row = a.begin; row < a.end; ++row) {
    const int64_t left = a.rows - row * a.r;
    ScoreBlocks<kind>(a, a.weight + row * a.r * a.cols, left < a.r ? left : a.r, a.scores + row * blocks);
  }
}

void BlockScores(const BlockScoresArgs& a) {
  switch (a.criterion) {
    case Criterion::kMeanAbs:
    case Criterion::kL1:
      return ScoreRows<Criterion::kL1>(a);
    case Criterion::kL2:
      return ScoreRows<Criterion::kL2>(a);
    case Criterion::kMaxAbs:
      return ScoreRows<Criterion::kMaxAbs>(a);
  }
}
