// The weight gradient, sampled at the kept blocks: dot products along the batch, in panels. An output sums 16
// lanes of the batch side by side and joins them once at the end (Vec::Sum's order).

// 6 x 4 outputs: 10 loads for 24 FMAs, and as much again to add up lanes in the end as 4 x 4 have. With 16
// registers 6 x 2 leave room for what they multiply. Tiles of one row, and of two there, are wider, to have
// enough sums in flight.
constexpr int kGradientRows = Vec::kUnrolled ? 6 : 4;
constexpr int GradientColumns(int rows) {
  if (!Vec::kUnrolled) return 2;
  if (rows == 1) return Vec::kRegisters == 32 ? 8 : 6;
  return rows == 2 || Vec::kRegisters == 32 ? 4 : 2;
}

// One half of the batch rows of one panel. A constant width makes every address one.
template <int R, int C>
ALWAYS_INLINE void GradientHalf(Vec (&sum)[R][C], const float* dy, const float* x, int64_t width) {
  for (int64_t lane = 0; lane < width; lane += kLanes) {
    Vec xv[C];
    Each<C>(EACH(j) {
      xv[j] = Vec::Load(x + j * width + lane);
      xv[j].Pin();
    });
    Each<R>(EACH(i) {
      Vec dv = Vec::Load(dy + i * width + lane);
      dv.Pin();
      Each<C>(EACH(j) { sum[i][j] = Vec::Fma(dv, xv[j], sum[i][j]); });
    });
  }
}

// Outputs [row, row + R) x [column, column + C); `out` has a.c of them a row.
template <int R, int C>
void GradientTile(const WeightGradientArgs& a, int64_t row, int64_t column, float* out) {
  constexpr int kGroups = static_cast<int>((R * C + Vec::kWidth - 1) / Vec::kWidth);
  Vec halves[R * C][kHalves];
  const int64_t whole = a.m / kPanel;
  const int64_t rest = PadBatch(a.m) - whole * kPanel;
  // One half after the other: together they would not fit the registers.
  for (int h = 0; h < kHalves; ++h) {
    Vec sum[R][C];
    Each<R>(EACH(i) { Each<C>(EACH(j) { sum[i][j] = Vec::Zero(); }); });
    const float* dy = a.dy + row * kPanel + h * Vec::kWidth;
    const float* x = a.x + column * kPanel + h * Vec::kWidth;
    for (int64_t panel = 0; panel < whole; ++panel) {
      GradientHalf(sum, dy, x, kPanel);
      dy += kPanel * a.out;
      x += kPanel * a.in;
    }
    if (rest > 0) GradientHalf(sum, dy - row * (kPanel - rest), x - column * (kPanel - rest), rest);
    Each<R>(EACH(i) { Each<C>(EACH(j) { halves[i * C + j][h] = sum[i][j]; }); });
  }
  float totals[kGroups * Vec::kWidth];
  for (int g = 0; g < kGroups; ++g) {
    Vec group[Vec::kWidth];
    for (int64_t i = 0; i < Vec::kWidth; ++i) {
      const int64_t at = g * Vec::kWidth + i;
      group[i] = at < R * C ? JoinHalves(halves[at]) : Vec::Zero();
    }
    Vec::Sums(group).Store(totals + g * Vec::kWidth);
  }
  for (int i = 0; i < R; ++i) std::memcpy(out + i * a.c, totals + i * C, C * sizeof(float));
}

// One tile of R x `columns` outputs, at most C.
template <int R, int C>
void GradientTiles(const WeightGradientArgs& a, int64_t row, int64_t column, int64_t columns, float* out) {
  if constexpr (C > 1) {
    if (columns != C) return GradientTiles<R, C - 1>(a, row, column, columns, out);
  }
  GradientTile<R, C>(a, row, column, out);
}

template <int R>
void GradientRow(const WeightGradientArgs& a, int64_t row, int64_t column, int64_t columns, float* out) {
  constexpr int kWide = GradientColumns(R);
  // Tiles of even width: 3 + 2 columns rather than 4 + 1.
  const int64_t tiles = (columns + kWide - 1) / kWide;
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t j = columns * t / tiles;
    GradientTiles<R, kWide>(a, row, column + j, columns * (t + 1) / tiles - j, out + j);
  }
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
    a.bias_gradient[row] = JoinHalves(sum).Sum();
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
      const int64_t tiles = (rows + kGradientRows - 1) / kGradientRows;
      for (int64_t t = 0; t < tiles; ++t) {
        const int64_t i = rows * t / tiles;
        switch (rows * (t + 1) / tiles - i) {
          case 1:
            GradientRow<1>(a, out_row + i, column, columns, out + i * a.c);
            break;
          case 2:
            GradientRow<2>(a, out_row + i, column, columns, out + i * a.c);
            break;
          case 3:
            GradientRow<3>(a, out_row + i, column, columns, out + i * a.c);
            break;
          case 4:
            GradientRow<4>(a, out_row + i, column, columns, out + i * a.c);
            break;
          case 5:
            // Where tiles have four rows at most, none comes here: no code for it.
            GradientRow<(kGradientRows > 5 ? 5 : 1)>(a, out_row + i, column, columns, out + i * a.c);
            break;
          default:
            GradientRow<kGradientRows>(a, out_row + i, column, columns, out + i * a.c);
        }
      }
    }
  }
}
