// Block scores: first down the r rows of a block row with vectors along the columns, then across c columns.

template <Criterion kind>
inline Vec ScoreAdd(Vec sum, Vec w) {
  if (kind == Criterion::kL2) return Vec::Fma(w, w, sum);
  if (kind == Criterion::kMaxAbs) return Vec::Max(sum, Vec::Abs(w));
  return sum + Vec::Abs(w);
}

template <Criterion kind>
void ScoreRows(const BlockScoresArgs& a) {
  const int64_t grid_cols = (a.cols + a.c - 1) / a.c;
  for (int64_t row = a.begin; row < a.end; ++row) {
    const int64_t first = row * a.r;
    const int64_t rows = a.rows - first < a.r ? a.rows - first : a.r;
    for (int64_t k = 0; k < a.cols; k += Vec::kWidth) {
      const int64_t n = a.cols - k < Vec::kWidth ? a.cols - k : Vec::kWidth;
      Vec sum = Vec::Zero();
      for (int64_t y = 0; y < rows; ++y) {
        sum = ScoreAdd<kind>(sum, Vec::LoadN(a.weight + (first + y) * a.cols + k, n));
      }
      sum.StoreN(a.scratch + k, n);
    }
    for (int64_t col = 0; col < grid_cols; ++col) {
      const int64_t begin = col * a.c;
      const int64_t end = begin + a.c < a.cols ? begin + a.c : a.cols;
      float sum = 0.0f;
      for (int64_t k = begin; k < end; ++k) {
        sum = kind == Criterion::kMaxAbs ? (a.scratch[k] > sum ? a.scratch[k] : sum) : sum + a.scratch[k];
      }
      if (kind == Criterion::kL2) sum = std::sqrt(sum);
      if (kind == Criterion::kMeanAbs) sum /= static_cast<float>(rows * (end - begin));
      a.scores[row * grid_cols + col] = sum;
    }
  }
}

void BlockScores(const BlockScoresArgs& a) {
  switch (a.criterion) {
    case Criterion::kMeanAbs:
      return ScoreRows<Criterion::kMeanAbs>(a);
    case Criterion::kL1:
      return ScoreRows<Criterion::kL1>(a);
    case Criterion::kL2:
      return ScoreRows<Criterion::kL2>(a);
    case Criterion::kMaxAbs:
      return ScoreRows<Criterion::kMaxAbs>(a);
  }
}
