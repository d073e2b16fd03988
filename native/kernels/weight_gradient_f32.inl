// The weight gradient, sampled at the kept blocks: dot products along the batch, in panels. An output sums 16
// lanes of the batch side by side and joins them once at the end (Vec::Sum's order).

// 4 x 4 outputs: 8 loads for 16 FMAs. With 16 registers 2 x 2 outputs of two halves each fit, as do 2 x 2 of
// four in 32.
constexpr int kGradientTile = Vec::kRegisters / kHalves == 32 ? 4 : 2;

// The sum over 16 lanes held in halves (or a half of a half).
inline float JoinHalves(Vec* sum) {
  for (int half = kHalves / 2; half > 0; half /= 2) {
    for (int h = 0; h < half; ++h) sum[h] = sum[h] + sum[h + half];
  }
  return sum[0].Sum();
}

template <int R, int C>
void GradientTile(const WeightGradientArgs& a, int64_t row, int64_t column, float* out) {
  Vec sum[R][C][kHalves];
  for (int i = 0; i < R; ++i) {
    for (int j = 0; j < C; ++j) {
      for (int h = 0; h < kHalves; ++h) sum[i][j][h] = Vec::Zero();
    }
  }
  const int64_t panels = PanelCount(a.m);
  for (int64_t panel = 0; panel < panels; ++panel) {
    const int64_t width = PanelWidth(a.m, panel);
    const float* dy = a.dy + panel * kPanel * a.out + row * width;
    const float* x = a.x + panel * kPanel * a.in + column * width;
    for (int64_t lane = 0; lane < width; lane += kLanes) {
      for (int h = 0; h < kHalves; ++h) {
        const int64_t at = lane + h * Vec::kWidth;
        Vec xv[C];
        for (int j = 0; j < C; ++j) {
          xv[j] = Vec::Load(x + j * width + at);
          xv[j].Pin();
        }
        for (int i = 0; i < R; ++i) {
          Vec dv = Vec::Load(dy + i * width + at);
          dv.Pin();
          for (int j = 0; j < C; ++j) sum[i][j][h] = Vec::Fma(dv, xv[j], sum[i][j][h]);
        }
      }
    }
  }
  for (int i = 0; i < R; ++i) {
    for (int j = 0; j < C; ++j) {
      out[i * a.c + j] = JoinHalves(sum[i][j]);
    }
  }
}

template <int R>
void GradientColumns(const WeightGradientArgs& a, int64_t row, int64_t column, int64_t columns, float* out) {
  int64_t j = 0;
  for (; j + kGradientTile <= columns; j += kGradientTile) {
    GradientTile<R, kGradientTile>(a, row, column + j, out + j);
  }
  if (kGradientTile > 3 && columns - j == 3) {
    GradientTile<R, 3>(a, row, column + j, out + j);
    return;
  }
  if (kGradientTile > 2 && columns - j == 2) {
    GradientTile<R, 2>(a, row, column + j, out + j);
    return;
  }
  for (; j < columns; ++j) GradientTile<R, 1>(a, row, column + j, out + j);
}

void BiasGradient(const WeightGradientArgs& a, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    Vec sum[kHalves];
    for (int h = 0; h < kHalves; ++h) sum[h] = Vec::Zero();
    for (int64_t panel = 0; panel < PanelCount(a.m); ++panel) {
      const int64_t width = PanelWidth(a.m, panel);
      const float* dy = a.dy + panel * kPanel * a.out + row * width;
      for (int64_t lane = 0; lane < width; lane += kLanes) {
        for (int h = 0; h < kHalves; ++h) sum[h] = sum[h] + Vec::Load(dy + lane + h * Vec::kWidth);
      }
    }
    a.bias_gradient[row] = JoinHalves(sum);
  }
}

void WeightGradient(const WeightGradientArgs& a) {
  for (int64_t row = a.begin; row < a.end; ++row) {
    const int64_t out_row = row * a.r;
    const int64_t rows = a.out - out_row < a.r ? a.out - out_row : a.r;
    if (a.bias_gradient != nullptr) BiasGradient(a, out_row, out_row + rows);
    for (int32_t e = a.ptr[row]; e < a.ptr[row + 1]; ++e) {
      const int64_t column = int64_t{a.index[e]} * a.c;
      const int64_t columns = a.in - column < a.c ? a.in - column : a.c;
      float* out = a.gradient + int64_t{e} * a.r * a.c;
      if (rows < a.r || columns < a.c)
        std::memset(out, 0, static_cast<std::size_t>(a.r * a.c) * sizeof(float));
      int64_t i = 0;
      for (; i + kGradientTile <= rows; i += kGradientTile) {
        GradientColumns<kGradientTile>(a, out_row + i, column, columns, out + i * a.c);
      }
      for (; i < rows; ++i) GradientColumns<1>(a, out_row + i, column, columns, out + i * a.c);
    }
  }
}
