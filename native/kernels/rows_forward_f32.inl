// The row-major design for small batches: vectors along a block's rows, x broadcast. Weights are packed
// k-major ([c][r]), so a block streams once, contiguous.

constexpr int64_t kFlatSide = 7;  // blocks up to 7 x 8 run flat: see FlatRow
constexpr int64_t kFlatColumns = 8;
constexpr int64_t kFlatVectors = (kFlatSide * kFlatColumns + Vec::kWidth - 1) / Vec::kWidth;

// B batch rows x one vector of at most Vec::kWidth block rows. U partial sums by k keep enough FMAs in flight
// when the batch alone does not; they are joined pairwise, the same on every instruction set.
template <int B, int U>
void RowsTile(const RowsForwardArgs& a, int64_t row, int64_t first, int64_t lanes, int64_t sample) {
  const BlockView& w = a.w;
  Vec sum[B][U];
  for (int b = 0; b < B; ++b) {
    for (int u = 0; u < U; ++u) sum[b][u] = Vec::Zero();
  }
  const bool whole = lanes == Vec::kWidth;
  for (int32_t e = w.ptr[row]; e < w.ptr[row + 1]; ++e) {
    const int64_t column = int64_t{w.index[e]} * w.c;
    const int64_t depth = w.in - column < w.c ? w.in - column : w.c;
    const float* p = w.values + int64_t{e} * w.r * w.c + first;
    const float* x = a.x + sample * w.in + column;
    int64_t k = 0;
    for (; k + U <= depth; k += U) {
      for (int u = 0; u < U; ++u) {
        Vec weight = whole ? Vec::Load(p) : Vec::LoadN(p, lanes);
        weight.Pin();
        for (int b = 0; b < B; ++b) sum[b][u] = Vec::Fma(weight, Vec::Set1(x[b * w.in + k + u]), sum[b][u]);
        p += w.r;
      }
    }
    for (; k < depth; ++k) {
      Vec weight = whole ? Vec::Load(p) : Vec::LoadN(p, lanes);
      weight.Pin();
      for (int b = 0; b < B; ++b) sum[b][0] = Vec::Fma(weight, Vec::Set1(x[b * w.in + k]), sum[b][0]);
      p += w.r;
    }
  }
  const int64_t out_row = row * w.r + first;
  const int64_t left = w.out - out_row;
  const int64_t stored = left < lanes ? left : lanes;
  const Vec start = a.bias == nullptr ? Vec::Zero() : Vec::LoadN(a.bias + out_row, stored);
  for (int b = 0; b < B; ++b) {
    for (int half = U / 2; half > 0; half /= 2) {
      for (int u = 0; u < half; ++u) sum[b][u] = sum[b][u] + sum[b][u + half];
    }
    Act(a.activation, sum[b][0] + start).StoreN(a.y + (sample + b) * w.out + out_row, stored);
  }
}

// Blocks shorter than a vector: the whole block is one flat run of r * c lanes (lane = k * r + i), against x
// expanded to the same order. U sums take the blocks of a row in turn. One small reduction an output.
template <int U>
void FlatRow(const RowsForwardArgs& a, int64_t row, int64_t sample, const int32_t* index, int64_t size) {
  const BlockView& w = a.w;
  const int64_t vectors = (size + Vec::kWidth - 1) / Vec::kWidth;
  Vec sum[U][kFlatVectors];
  for (int u = 0; u < U; ++u) {
    for (int64_t j = 0; j < vectors; ++j) sum[u][j] = Vec::Zero();
  }
  const float* x = a.x + sample * w.in;
  const int32_t begin = w.ptr[row];
  for (int32_t e = begin; e < w.ptr[row + 1]; ++e) {
    const int u = (e - begin) % U;
    const int64_t column = int64_t{w.index[e]} * w.c;
    const int64_t depth = w.in - column < w.c ? w.in - column : w.c;
    const float* p = w.values + int64_t{e} * size;
    for (int64_t j = 0; j < vectors; ++j) {
      const int64_t done = j * Vec::kWidth;
      const Vec weight = Vec::LoadN(p + done, size - done < Vec::kWidth ? size - done : Vec::kWidth);
      sum[u][j] = Vec::Fma(weight, Vec::Expand(x + column, depth, index + done), sum[u][j]);
    }
  }
  float lanes[kFlatVectors * Vec::kWidth];
  for (int64_t j = 0; j < vectors; ++j) {
    for (int half = U / 2; half > 0; half /= 2) {
      for (int u = 0; u < half; ++u) sum[u][j] = sum[u][j] + sum[u + half][j];
    }
    sum[0][j].Store(lanes + j * Vec::kWidth);
  }
  const int64_t left = w.out - row * w.r;
  const int64_t rows = left < w.r ? left : w.r;
  float results[kFlatSide + 1];
  for (int64_t i = 0; i < rows; ++i) {
    float total = a.bias == nullptr ? 0.0f : a.bias[row * w.r + i];
    for (int64_t lane = i; lane < size; lane += w.r) total += lanes[lane];
    results[i] = total;
  }
  float* y = a.y + sample * w.out + row * w.r;
  for (int64_t i = 0; i < rows; i += Vec::kWidth) {
    const int64_t n = rows - i < Vec::kWidth ? rows - i : Vec::kWidth;
    Act(a.activation, Vec::LoadN(results + i, n)).StoreN(y + i, n);
  }
}

void RowsForward(const RowsForwardArgs& a) {
  const BlockView& w = a.w;
  if (w.r <= kFlatSide && w.c <= kFlatColumns) {
    // Lanes past the block are computed and dropped: any index inside the window does for them.
    const int64_t size = w.r * w.c;
    int32_t index[kFlatVectors * Vec::kWidth + Vec::kWidth];
    for (int64_t lane = 0; lane < kFlatVectors * Vec::kWidth + Vec::kWidth; ++lane) {
      index[lane] = static_cast<int32_t>(lane < size ? lane / w.r : kFlatColumns - 1);
    }
    for (int64_t row = a.begin; row < a.end; ++row) {
      for (int64_t sample = 0; sample < a.m; ++sample) {
        if (size <= 16) {
          FlatRow<4>(a, row, sample, index, size);
        } else {
          FlatRow<2>(a, row, sample, index, size);
        }
      }
    }
    return;
  }
  for (int64_t row = a.begin; row < a.end; ++row) {
    const int64_t left = w.out - row * w.r;
    const int64_t rows = left < w.r ? left : w.r;
    for (int64_t first = 0; first < rows; first += Vec::kWidth) {
      const int64_t lanes = w.r - first < Vec::kWidth ? w.r - first : Vec::kWidth;
      int64_t sample = 0;
      for (; sample + 8 <= a.m; sample += 8) RowsTile<8, 1>(a, row, first, lanes, sample);
      for (; sample + 4 <= a.m; sample += 4) RowsTile<4, 2>(a, row, first, lanes, sample);
      for (; sample < a.m; ++sample) RowsTile<1, 4>(a, row, first, lanes, sample);
    }
  }
}
