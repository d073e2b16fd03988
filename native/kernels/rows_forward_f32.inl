// The row-major design: vectors along a block's rows, x broadcast. Weights are packed
// k-major ([c][r]), so a block streams once, contiguous.

// Blocks of up to 7 x 8 run flat (see FlatRow): taller ones fill half a vector, wider ones would not fit the
// eight-lane window that Expand permutes.
constexpr int64_t kFlatSide = 7;
constexpr int64_t kFlatColumns = 8;

// Vectors along a block row that a tile takes together: 16 rows or more, a whole cache line of every column.
constexpr int kRowVectors = !Vec::kUnrolled ? 1 : kHalves > 2 ? kHalves : 2;

// Batch rows that share a pointer to x: two strides are an addressing mode away, and a pointer for each row
// would not fit the registers.
constexpr int kRowsAPointer = 3;
constexpr int RowPointers(int rows) { return (rows + kRowsAPointer - 1) / kRowsAPointer; }

// One column of a block: V vectors of weights against an x of each batch row. Moves on by a column of x.
template <int B, int V, bool kWhole>
ALWAYS_INLINE void RowsColumn(Vec (&sum)[B][V], const float* p, int64_t lanes,
                              const float* (&x)[RowPointers(B)], int64_t in) {
  Vec weight[V];
  for (int v = 0; v < V; ++v) {
    weight[v] = kWhole ? Vec::Load(p + v * Vec::kWidth) : Vec::LoadN(p + v * Vec::kWidth, lanes);
    weight[v].Pin();
  }
  for (int b = 0; b < B; ++b) {
    const auto one = Vec::Set1(x[b / kRowsAPointer][b % kRowsAPointer * in]);
    for (int v = 0; v < V; ++v) sum[b][v] = Vec::Fma(weight[v], one, sum[b][v]);
  }
  for (int g = 0; g < RowPointers(B); ++g) ++x[g];
}

// B batch rows x V vectors of block rows, `lanes` in all (V > 1: all whole). U partial sums by k keep enough
// FMAs in flight when the batch alone does not; they are joined pairwise, the same on every instruction set.
template <int B, int V, int U, bool kWhole>
__attribute__((noinline)) void RowsTile(const RowsForwardArgs& a, int64_t row, int64_t first, int64_t lanes,
                                        int64_t sample) {
  const BlockView& w = a.w;
  const int64_t out_row = row * w.r + first;
  const int64_t left = w.out - out_row;
  Vec start[V];
  for (int v = 0; v < V; ++v) {
    const int64_t n = left - v * Vec::kWidth;
    if (a.bias == nullptr) {
      start[v] = Vec::Zero();
    } else if (kWhole && n >= Vec::kWidth) {
      start[v] = Vec::Load(a.bias + out_row + v * Vec::kWidth);
    } else {
      start[v] = Vec::LoadN(a.bias + out_row + v * Vec::kWidth, n < lanes ? n < 0 ? 0 : n : lanes);
    }
  }
  Vec sum[U][B][V];
  for (int u = 0; u < U; ++u) {
    for (int b = 0; b < B; ++b) {
      for (int v = 0; v < V; ++v) sum[u][b][v] = U == 1 ? start[v] : Vec::Zero();
    }
  }
  const int64_t in = w.in;
  for (int32_t e = w.ptr[row]; e < w.ptr[row + 1]; ++e) {
    const int64_t column = int64_t{w.index[e]} * w.c;
    const int64_t depth = in - column < w.c ? in - column : w.c;
    const float* p = w.values + int64_t{e} * w.r * w.c + first;
    const float* x[RowPointers(B)];
    for (int g = 0; g < RowPointers(B); ++g) x[g] = a.x + (sample + kRowsAPointer * g) * in + column;
    int64_t k = 0;
    for (; k + U <= depth; k += U) {
      for (int u = 0; u < U; ++u) {
        RowsColumn<B, V, kWhole>(sum[u], p, lanes, x, in);
        p += w.r;
      }
    }
    for (; k < depth; ++k) {
      RowsColumn<B, V, kWhole>(sum[0], p, lanes, x, in);
      p += w.r;
    }
  }
  for (int half = U / 2; half > 0; half /= 2) {
    for (int u = 0; u < half; ++u) {
      for (int b = 0; b < B; ++b) {
        for (int v = 0; v < V; ++v) sum[u][b][v] = sum[u][b][v] + sum[u + half][b][v];
      }
    }
  }
  float* y = a.y + sample * w.out + out_row;
  for (int b = 0; b < B; ++b) {
    for (int v = 0; v < V; ++v) {
      const int64_t n = left - v * Vec::kWidth;
      if (n <= 0) break;
      const Vec z = U == 1 ? sum[0][b][v] : sum[0][b][v] + start[v];
      StoreActivated(a.activation, z, y + b * w.out + v * Vec::kWidth,
                     n < Vec::kWidth ? n
                     : kWhole        ? Vec::kWidth
                                     : lanes);
    }
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
      StoreActivated(a.activation, Vec::LoadN(results + i, n), y + i, n);
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

// Batch rows [sample, m) in tiles. U depends on the batch alone, so that every instruction set sums in the
// same order; B is what its registers hold.
template <int V, bool kWhole>
void RowsBatch(const RowsForwardArgs& a, int64_t row, int64_t first, int64_t lanes, int64_t sample,
               int64_t m) {
  constexpr bool kMany = Vec::kRegisters == 32;
  if (a.m >= kRowsInOrder) {
    // Sums of 12 x 2 or 6 x 4 vectors with 32 registers, 6 x 2 with 16; a remainder in even parts.
    if constexpr (kMany && V <= 2 && kWhole) {
      while (m - sample >= 12 && m - sample != 16) {
        RowsTile<12, V, 1, kWhole>(a, row, first, lanes, sample);
        sample += 12;
      }
    }
    if constexpr (((kMany && V <= 2) || V == 1) && kWhole) {
      for (; sample + 8 <= m; sample += 8) RowsTile<8, V, 1, kWhole>(a, row, first, lanes, sample);
    }
    if constexpr (V > 1 && !(kMany && V == 2)) {
      while (m - sample >= 6 && m - sample != 8) {
        RowsTile<6, V, 1, kWhole>(a, row, first, lanes, sample);
        sample += 6;
      }
    }
    for (; sample + 4 <= m; sample += 4) RowsTile<4, V, 1, kWhole>(a, row, first, lanes, sample);
    for (; sample + 2 <= m; sample += 2) RowsTile<2, V, 1, kWhole>(a, row, first, lanes, sample);
    if (sample < m) RowsTile<1, V, 1, kWhole>(a, row, first, lanes, sample);
    return;
  }
  if (m >= 4) {
    if constexpr (kMany || V == 1) {
      RowsTile<4, V, 2, kWhole>(a, row, first, lanes, sample);
    } else {
      RowsTile<2, V, 2, kWhole>(a, row, first, lanes, sample);
      RowsTile<2, V, 2, kWhole>(a, row, first, lanes, sample + 2);
    }
    sample += 4;
  }
  for (; sample + 2 <= m; sample += 2) {
    if constexpr (kMany || V == 1) {
      RowsTile<2, V, 4, kWhole>(a, row, first, lanes, sample);
    } else {
      RowsTile<1, V, 4, kWhole>(a, row, first, lanes, sample);
      RowsTile<1, V, 4, kWhole>(a, row, first, lanes, sample + 1);
    }
  }
  if (sample < m) RowsTile<1, V, 4, kWhole>(a, row, first, lanes, sample);
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
  for (int64_t sample = 0; sample < a.m; sample += kPanel) {
    const int64_t m = a.m - sample < kPanel ? a.m : sample + kPanel;
    for (int64_t row = a.begin; row < a.end; ++row) {
      const int64_t left = w.out - row * w.r;
      const int64_t rows = left < w.r ? left : w.r;
      int64_t first = 0;
      if constexpr (kRowVectors > 1) {
        for (; first < rows && w.r - first >= kRowVectors * Vec::kWidth; first += kRowVectors * Vec::kWidth) {
          RowsBatch<kRowVectors, true>(a, row, first, kRowVectors * Vec::kWidth, sample, m);
        }
      }
      for (; first < rows; first += Vec::kWidth) {
        const int64_t lanes = w.r - first;
        if (lanes >= Vec::kWidth) {
          RowsBatch<1, true>(a, row, first, Vec::kWidth, sample, m);
        } else {
          RowsBatch<1, false>(a, row, first, lanes, sample, m);
        }
      }
    }
  }
}
