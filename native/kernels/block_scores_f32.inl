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

// Columns that go from weights to scores at a time: half a page of each row, whose sums stay in L1.
constexpr int64_t kScoreColumns = 512;

// sums[k] joins the first `count` columns of kRows rows of the weight, and what it holds already unless they
// are the first. Asks for as much of the rows from `next` on: memory is to have something to do while sums
// become scores.
template <Criterion kind, int kRows>
void ScoreColumns(const float* w, const float* next, int64_t stride, int64_t count, bool first, float* sums) {
  for (int64_t k = 0; k < count; k += Vec::kWidth) {
    if (Vec::kUnrolled && k % kLanes == 0) {
      for (int i = 0; i < kRows; ++i) __builtin_prefetch(next + i * stride + k, 0, 2);
    }
    const int64_t n = count - k;
    if (n >= Vec::kWidth) {
      Vec sum = first ? Vec::Zero() : Vec::Load(sums + k);
      for (int i = 0; i < kRows; ++i) sum = ScoreAdd<kind>(sum, Vec::Load(w + i * stride + k));
      sum.Store(sums + k);
    } else {
      Vec sum = first ? Vec::Zero() : Vec::LoadN(sums + k, n);
      for (int i = 0; i < kRows; ++i) sum = ScoreAdd<kind>(sum, Vec::LoadN(w + i * stride + k, n));
      sum.StoreN(sums + k, n);
    }
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

// The blocks of one block row from some column on, `count` columns of them; `beyond` is what comes next.
template <Criterion kind>
void ScoreBlocks(const BlockScoresArgs& a, const float* w, int64_t rows, int64_t count, const float* beyond,
                 float* scores) {
  const int64_t whole = count / a.c;
  const int64_t cut = count - whole * a.c;
  // Four rows at a time: more of them, with a power-of-two width, would fall on one set of the cache.
  int64_t y = 0;
  for (; y + 4 <= rows; y += 4) {
    const float* at = w + y * a.cols;
    ScoreColumns<kind, 4>(at, y + 8 <= rows ? at + 4 * a.cols : beyond, a.cols, count, y == 0, a.scratch);
  }
  for (; y < rows; ++y) {
    const float* at = w + y * a.cols;
    ScoreColumns<kind, 1>(at, y + 1 < rows ? at + a.cols : beyond, a.cols, count, y == 0, a.scratch);
  }
  if (cut > 0) {
    float* sums = a.scratch + whole * a.c;
    ScoreRuns<kind>(sums, 1, cut);
    ScoreFinish<kind>(a, sums, 1, rows * cut, scores + whole);
  }
  int64_t width = a.c;
  for (; width % 2 == 0; width /= 2) ScorePairs<kind>(a.scratch, whole * width);
  if (width > 1) ScoreRuns<kind>(a.scratch, whole, width);
  ScoreFinish<kind>(a, a.scratch, whole, rows * a.c, scores);
}

template <Criterion kind>
void ScoreRows(const BlockScoresArgs& a) {
  const int64_t blocks = (a.cols + a.c - 1) / a.c;
  const int64_t together = a.c < kScoreColumns ? kScoreColumns / a.c : 1;
  for (int64_t row = a.begin; row < a.end; ++row) {
    const int64_t first = row * a.r;
    const int64_t rows = a.rows - first < a.r ? a.rows - first : a.r;
    for (int64_t block = 0; block < blocks; block += together) {
      const int64_t column = block * a.c;
      const int64_t count = a.cols - column < together * a.c ? a.cols - column : together * a.c;
      const float* w = a.weight + first * a.cols + column;
      const float* beyond = column + count < a.cols ? w + count : a.weight + (first + rows) * a.cols;
      ScoreBlocks<kind>(a, w, rows, count, beyond, a.scores + row * blocks + block);
    }
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
