// The row-major design for small batches: vectors along a block's rows, x broadcast. Weights are packed
// k-major ([c][r]), so a block streams once, contiguous.

// Blocks of up to 7 x 8 run flat (see FlatRow): taller ones fill half a vector, wider ones would not fit the
// eight-lane window that Expand permutes.
constexpr int64_t kFlatSide = 7;
constexpr int64_t kFlatColumns = 8;

// B batch rows x one vector of at most Vec::kWidth block rows. U partial sums by k keep enough FMAs in flight
// when the batch alone does not; they are joined pairwise, the same on every instruction set.
template <int B, int U, bool kWhole>
void RowsTile(const RowsForwardArgs& a, int64_t row, int64_t first, int64_t lanes, int64_t sample) {
  const BlockView& w = a.w;
  Vec sum[B][U];
  for (int b = 0; b < B; ++b) {
    for (int u = 0; u < U; ++u) sum[b][u] = Vec::Zero();
  }
  for (int32_t e = w.ptr[row]; e < w.ptr[row + 1]; ++e) {
    const int64_t column = int64_t{w.index[e]} * w.c;
    const int64_t depth = w.in - column < w.c ? w.in - column : w.c;
    const float* p = w.values + int64_t{e} * w.r * w.c + first;
    const float* x = a.x + sample * w.in + column;
    int64_t k = 0;
    for (; k + U <= depth; k += U) {
      for (int u = 0; u < U; ++u) {
        Vec weight = kWhole ? Vec::Load(p) : Vec::LoadN(p, lanes);
        weight.Pin();
        for (int b = 0; b < B; ++b) sum[b][u] = Vec::Fma(weight, Vec::Set1(x[b * w.in + k + u]), sum[b][u]);
        p += w.r;
      }
    }
    for (; k < depth; ++k) {
      Vec weight = kWhole ? Vec::Load(p) : Vec::LoadN(p, lanes);
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
// expanded to the same order, in J groups of kLanes. U sums take the blocks of a row in turn. Lanes past the
// block hold whatever follows and are dropped by the one small reduction an output.
template <int U, int J>
struct FlatRow {
  const RowsForwardArgs& a;
  const int32_t* index;
  Vec sum[U][J][kHalves];

  void Add(int32_t e, const float* x, Vec (&into)[J][kHalves]) {
    const BlockView& w = a.w;
    const int64_t column = int64_t{w.index[e]} * w.c;
    const int64_t depth = w.in - column < w.c ? w.in - column : w.c;
    const float* p = w.values + int64_t{e} * w.r * w.c;
    for (int j = 0; j < J; ++j) {
      for (int h = 0; h < kHalves; ++h) {
        const int64_t at = j * kLanes + h * Vec::kWidth;
        into[j][h] = Vec::Fma(Vec::Load(p + at), Vec::Expand(x + column, depth, index + at), into[j][h]);
      }
    }
  }

  void Run(int64_t row, int64_t sample) {
    const BlockView& w = a.w;
    for (int u = 0; u < U; ++u) {
      for (int j = 0; j < J; ++j) {
        for (int h = 0; h < kHalves; ++h) sum[u][j][h] = Vec::Zero();
      }
    }
    const float* x = a.x + sample * w.in;
    const int32_t end = w.ptr[row + 1];
    int32_t e = w.ptr[row];
    for (; e + U <= end; e += U) {
      for (int u = 0; u < U; ++u) Add(e + u, x, sum[u]);
    }
    for (int u = 0; u < U - 1; ++u) {
      if (e + u < end) Add(e + u, x, sum[u]);
    }
    float lanes[J * kLanes];
    for (int j = 0; j < J; ++j) {
      for (int h = 0; h < kHalves; ++h) {
        for (int half = U / 2; half > 0; half /= 2) {
          for (int u = 0; u < half; ++u) sum[u][j][h] = sum[u][j][h] + sum[u + half][j][h];
        }
        sum[0][j][h].Store(lanes + j * kLanes + h * Vec::kWidth);
      }
    }
    const int64_t left = w.out - row * w.r;
    const int64_t rows = left < w.r ? left : w.r;
    float results[kFlatSide + 1];
    for (int64_t i = 0; i < rows; ++i) {
      float total = a.bias == nullptr ? 0.0f : a.bias[row * w.r + i];
      for (int64_t lane = i; lane < w.r * w.c; lane += w.r) total += lanes[lane];
      results[i] = total;
    }
    float* y = a.y + sample * w.out + row * w.r;
    for (int64_t i = 0; i < rows; i += Vec::kWidth) {
      const int64_t n = rows - i < Vec::kWidth ? rows - i : Vec::kWidth;
      Act(a.activation, Vec::LoadN(results + i, n)).StoreN(y + i, n);
    }
  }
};

template <int U, int J>
void FlatForward(const RowsForwardArgs& a) {
  int32_t index[J * kLanes];
  for (int64_t lane = 0; lane < J * kLanes; ++lane) {
    index[lane] = static_cast<int32_t>(lane < a.w.r * a.w.c ? lane / a.w.r : 0);
  }
  FlatRow<U, J> flat{a, index, {}};
  for (int64_t row = a.begin; row < a.end; ++row) {
    for (int64_t sample = 0; sample < a.m; ++sample) flat.Run(row, sample);
  }
}

template <bool kWhole>
void RowsVector(const RowsForwardArgs& a, int64_t row, int64_t first, int64_t lanes) {
  // U depends on what is left of the batch alone, so that every instruction set sums in the same order; B is
  // what its registers hold.
  int64_t sample = 0;
  if (Vec::kRegisters == 32) {
    for (; sample + 8 <= a.m; sample += 8) RowsTile<8, 2, kWhole>(a, row, first, lanes, sample);
  }
  for (; sample + 4 <= a.m; sample += 4) RowsTile<4, 2, kWhole>(a, row, first, lanes, sample);
  for (; sample + 2 <= a.m; sample += 2) RowsTile<2, 4, kWhole>(a, row, first, lanes, sample);
  if (sample < a.m) RowsTile<1, 4, kWhole>(a, row, first, lanes, sample);
}

void RowsForward(const RowsForwardArgs& a) {
  const BlockView& w = a.w;
  if (w.r <= kFlatSide && w.c <= kFlatColumns) {
    switch ((w.r * w.c + kLanes - 1) / kLanes) {
      case 1:
        FlatForward<4, 1>(a);
        break;
      case 2:
        FlatForward<2, 2>(a);
        break;
      case 3:
        FlatForward<2, 3>(a);
        break;
      default:
        FlatForward<2, 4>(a);
    }
    return;
  }
  for (int64_t row = a.begin; row < a.end; ++row) {
    const int64_t left = w.out - row * w.r;
    const int64_t rows = left < w.r ? left : w.r;
    for (int64_t first = 0; first < rows; first += Vec::kWidth) {
      const int64_t lanes = w.r - first < Vec::kWidth ? w.r - first : Vec::kWidth;
      if (lanes == Vec::kWidth) {
        RowsVector<true>(a, row, first, lanes);
      } else {
        RowsVector<false>(a, row, first, lanes);
      }
    }
  }
}
