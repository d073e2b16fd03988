// The row-major design: vectors along a block's rows, x broadcast. Weights are packed
// k-major ([c][r]), so a block streams once, contiguous.

// Vectors along a block row that a tile takes together: 16 rows or more, a whole cache line of every column.
constexpr int kRowVectors = !Vec::kUnrolled ? 1 : kHalves > 2 ? kHalves : 2;

// Batch rows that share a pointer to x: two strides are an addressing mode away, and a pointer for each row
// would not fit the registers.
constexpr int kRowsAPointer = 3;
constexpr int RowPointers(int rows) { return (rows + kRowsAPointer - 1) / kRowsAPointer; }

// One column of a block: V vectors of weights against an x of each batch row. Moves on by a column of x.
template <int B, int V>
ALWAYS_INLINE void RowsColumn(Vec (&sum)[B][V], const float* p, const float* (&x)[RowPointers(B)],
                              int64_t in) {
  Vec weight[V];
  for (int v = 0; v < V; ++v) {
    weight[v] = Vec::Load(p + v * Vec::kWidth);
    weight[v].Pin();
  }
  for (int b = 0; b < B; ++b) {
    const auto one = Vec::Set1(x[b / kRowsAPointer][b % kRowsAPointer * in]);
    for (int v = 0; v < V; ++v) sum[b][v] = Vec::Fma(weight[v], one, sum[b][v]);
  }
  for (int g = 0; g < RowPointers(B); ++g) ++x[g];
}

// The columns of a block, `depth` of them: S sums from `first` on take them in turn; a constant depth
// unrolls.
template <int S, int B, int V, int U>
ALWAYS_INLINE void RowsBlock(Vec (&sum)[U][B][V], int first, int64_t depth, const float* p, int64_t r,
                             const float* x, int64_t in) {
  const float* at[RowPointers(B)];
  for (int g = 0; g < RowPointers(B); ++g) at[g] = x + kRowsAPointer * g * in;
  int64_t k = 0;
  for (; k + S <= depth; k += S) {
    for (int s = 0; s < S; ++s) {
      RowsColumn<B, V>(sum[first + s], p, at, in);
      p += r;
    }
  }
  for (; S > 1 && k < depth; ++k) {
    RowsColumn<B, V>(sum[0], p, at, in);
    p += r;
  }
}

// The first n of each row.
inline __attribute__((noinline)) void CopyRows(const float* from, int64_t from_stride, int64_t rows,
                                               int64_t n, float* to, int64_t to_stride) {
  for (int64_t b = 0; b < rows; ++b) {
    for (int64_t i = 0; i < n; ++i) to[b * to_stride + i] = from[b * from_stride + i];
  }
}

// How the partial sums of a tile take turns: columns do within a block, or the blocks of a row, which may
// have any number of columns or, where D > 0, exactly D.
constexpr int kByColumn = 0;
constexpr int kByBlock = -1;

// B batch rows x V vectors of block rows from row `first` of block row `row`. Lanes past the block hold
// whatever follows it, and are not stored. U partial sums keep enough FMAs in flight when the batch alone
// does not; they are joined pairwise, the same on every instruction set.
template <int B, int V, int U, int D>
__attribute__((noinline)) void RowsTile(const RowsForwardArgs& a, int64_t row, int64_t first,
                                        int64_t sample) {
  const BlockView& w = a.w;
  const int64_t out_row = row * w.r + first;
  const int64_t in_block = w.r - first;
  const int64_t in_output = w.out - out_row;
  const int64_t lanes = in_block < in_output ? in_block : in_output;
  Vec start[V];
  for (int v = 0; v < V; ++v) {
    const int64_t n = lanes - v * Vec::kWidth;
    start[v] = a.bias == nullptr  ? Vec::Zero()
               : n >= Vec::kWidth ? Vec::Load(a.bias + out_row + v * Vec::kWidth)
                                  : Vec::LoadN(a.bias + out_row + v * Vec::kWidth, n < 0 ? 0 : n);
  }
  Vec sum[U][B][V];
  for (int u = 0; u < U; ++u) {
    for (int b = 0; b < B; ++b) {
      for (int v = 0; v < V; ++v) sum[u][b][v] = U == 1 ? start[v] : Vec::Zero();
    }
  }
  const int64_t c = D > 0 ? D : w.c;
  const int64_t size = w.r * c;
  const float* values = w.values + first;
  const float* x = a.x + sample * w.in;
  int32_t e = w.ptr[row];
  const int32_t end = w.ptr[row + 1];
  if constexpr (D > 0) {
    // Columns ascend, so only the last block of a row can be cut off by the edge.
    const bool cut = e < end && w.index[end - 1] == w.in / D;
    for (; e + U <= end - cut; e += U) {
      for (int u = 0; u < U; ++u)
        RowsBlock<1>(sum, u, D, values + (e + u) * size, w.r, x + int64_t{w.index[e + u]} * D, w.in);
    }
    for (int u = 0; u < U; ++u) {
      if (e + u >= end) break;
      const int64_t column = int64_t{w.index[e + u]} * D;
      const int64_t depth = w.in - column < D ? w.in - column : D;
      RowsBlock<1>(sum, u, depth, values + (e + u) * size, w.r, x + column, w.in);
    }
  } else {
    for (; e < end; e += D == kByBlock ? U : 1) {
      for (int u = 0; u < (D == kByBlock ? U : 1); ++u) {
        if (u > 0 && e + u >= end) break;
        const int64_t column = w.index[e + u] * c;
        const int64_t depth = w.in - column < c ? w.in - column : c;
        RowsBlock<D == kByBlock ? 1 : U>(sum, u, depth, values + (e + u) * size, w.r, x + column, w.in);
      }
    }
  }
  for (int half = U / 2; half > 0; half /= 2) {
    for (int u = 0; u < half; ++u) {
      for (int b = 0; b < B; ++b) {
        for (int v = 0; v < V; ++v) sum[u][b][v] = sum[u][b][v] + sum[u + half][b][v];
      }
    }
  }
  if (U > 1) {
    for (int b = 0; b < B; ++b) {
      for (int v = 0; v < V; ++v) sum[0][b][v] = sum[0][b][v] + start[v];
    }
  }
  // Max gives its second operand when they do not compare, so NaN stays.
  if (a.activation == Activation::kRelu) {
    for (int b = 0; b < B; ++b) {
      for (int v = 0; v < V; ++v) sum[0][b][v] = Vec::Max(Vec::Zero(), sum[0][b][v]);
    }
  }
  float* y = a.y + sample * w.out + out_row;
  const int64_t stored = lanes < V * Vec::kWidth ? lanes : V * Vec::kWidth;
  if (stored == V * Vec::kWidth) {
    for (int b = 0; b < B; ++b) {
      for (int v = 0; v < V; ++v) sum[0][b][v].Store(y + b * w.out + v * Vec::kWidth);
    }
  } else {
    // By way of memory: few sets store part of a vector well, and none in little code.
    float whole[B][V * Vec::kWidth];
    for (int b = 0; b < B; ++b) {
      for (int v = 0; v < V; ++v) sum[0][b][v].Store(whole[b] + v * Vec::kWidth);
    }
    CopyRows(&whole[0][0], V * Vec::kWidth, B, stored, y, w.out);
  }
  if (a.activation != Activation::kNone && a.activation != Activation::kRelu) {
    for (int b = 0; b < B; ++b) Activate(a.activation, y + b * w.out, y + b * w.out, stored);
  }
}

// Batch rows [sample, m) of kRowsInOrder or more: one sum each, of as many tiles as the registers hold. A
// remainder in even parts.
template <int V, int D>
void ManyRows(const RowsForwardArgs& a, int64_t row, int64_t first, int64_t sample, int64_t m) {
  // 12 x 2 or 6 x 4 vectors with 32 registers, 6 x 2 with 16.
  constexpr bool kMany = Vec::kRegisters == 32;
  if constexpr (kMany && V <= 2) {
    while (m - sample >= 12 && m - sample != 16) {
      RowsTile<12, V, 1, D>(a, row, first, sample);
      sample += 12;
    }
  }
  if constexpr (Vec::kUnrolled && ((kMany && V <= 2) || V == 1)) {
    for (; sample + 8 <= m; sample += 8) RowsTile<8, V, 1, D>(a, row, first, sample);
  }
  if constexpr (V > 1 && !(kMany && V == 2)) {
    while (m - sample >= 6 && m - sample != 8) {
      RowsTile<6, V, 1, D>(a, row, first, sample);
      sample += 6;
    }
  }
  if constexpr (Vec::kUnrolled) {
    for (; sample + 4 <= m; sample += 4) RowsTile<4, V, 1, D>(a, row, first, sample);
    for (; sample + 2 <= m; sample += 2) RowsTile<2, V, 1, kByColumn>(a, row, first, sample);
  }
  for (; sample < m; ++sample) RowsTile<1, V, 1, kByColumn>(a, row, first, sample);
}

// Blocks with fewer columns than there are sums take turns, and so do those too small to be worth a loop
// each: by the shape alone, the same on every instruction set.
constexpr int64_t kFewColumns = 3;
constexpr int64_t kSmallSide = 7;

// Fewer batch rows than that: two sums each, or four. How many depends on the batch alone, so that every
// instruction set adds in the same order. Plain C++ takes one batch row at a time: the compiler loses track
// of more sums and puts them in memory.
template <int V, int D>
void FewRows(const RowsForwardArgs& a, int64_t row, int64_t first) {
  constexpr bool kFit = Vec::kUnrolled && (Vec::kRegisters == 32 || V == 1);
  // Unrolling longer blocks pays for a single batch row only.
  constexpr int kShort = D <= kFewColumns ? D : kByBlock;
  int64_t sample = 0;
  if (a.m >= 4) {
    if constexpr (kFit) {
      RowsTile<4, V, 2, kShort>(a, row, first, 0);
    } else if constexpr (Vec::kUnrolled) {
      RowsTile<2, V, 2, kShort>(a, row, first, 0);
      RowsTile<2, V, 2, kShort>(a, row, first, 2);
    } else {
      for (int64_t b = 0; b < 4; ++b) RowsTile<1, V, 2, kShort>(a, row, first, b);
    }
    sample = 4;
  }
  for (; sample + 2 <= a.m; sample += 2) {
    if constexpr (kFit) {
      RowsTile<2, V, 4, kShort>(a, row, first, sample);
    } else {
      RowsTile<1, V, 4, D>(a, row, first, sample);
      RowsTile<1, V, 4, D>(a, row, first, sample + 1);
    }
  }
  if (sample < a.m) RowsTile<1, V, 4, D>(a, row, first, sample);
}

template <int V>
void FewRowsOf(const RowsForwardArgs& a, int64_t row, int64_t first) {
  const int64_t c = a.w.c;
  const bool few = c <= kFewColumns;
  if (!few && (a.w.r > kSmallSide || c > kSmallSide)) return FewRows<V, kByColumn>(a, row, first);
  if constexpr (Vec::kUnrolled) {
    if (c == 1) return FewRows<V, 1>(a, row, first);
  }
  if constexpr (Vec::kUnrolled && V == 1) {
    if (c == 2) return FewRows<V, 2>(a, row, first);
    if (c == 3) return FewRows<V, 3>(a, row, first);
    if (c == 4) return FewRows<V, 4>(a, row, first);
    if (c == 5) return FewRows<V, 5>(a, row, first);
    if (c == 6) return FewRows<V, 6>(a, row, first);
  }
  FewRows<V, kByBlock>(a, row, first);
}

template <int V>
void RowsOf(const RowsForwardArgs& a, int64_t row, int64_t first, int64_t sample, int64_t m) {
  if (a.m < kRowsInOrder) {
    FewRowsOf<V>(a, row, first);
  } else if (Vec::kUnrolled && a.w.c == 1) {
    // The loop over a single column costs as much as the column.
    ManyRows<V, Vec::kUnrolled ? 1 : kByColumn>(a, row, first, sample, m);
  } else {
    ManyRows<V, kByColumn>(a, row, first, sample, m);
  }
}

// Blocks of a single row have nothing to put side by side but their columns: kLanes of them against as many
// of each of B batch rows, whose lanes are added up in the end. The blocks of a row take U sums in turn, as
// many as keep enough FMAs in flight.
template <int B, int U>
void DotTile(const RowsForwardArgs& a, int64_t row, int64_t sample) {
  const BlockView& w = a.w;
  Vec sum[U][B][kHalves];
  for (int u = 0; u < U; ++u) {
    for (int b = 0; b < B; ++b) {
      for (int h = 0; h < kHalves; ++h) sum[u][b][h] = Vec::Zero();
    }
  }
  const auto add = [&](int32_t entry, int u) __attribute__((always_inline)) {
    const int64_t column = w.index[entry] * w.c;
    const int64_t depth = w.in - column < w.c ? w.in - column : w.c;
    const float* p = w.values + entry * w.c;
    const float* x = a.x + sample * w.in + column;
    int64_t k = 0;
    for (; k + kLanes <= depth; k += kLanes) {
      for (int h = 0; h < kHalves; ++h) {
        const int64_t at = k + h * Vec::kWidth;
        for (int b = 0; b < B; ++b)
          sum[u][b][h] = Vec::Fma(Vec::Load(p + at), Vec::Load(x + b * w.in + at), sum[u][b][h]);
      }
    }
    if (k == depth) return;
    for (int h = 0; h < kHalves; ++h) {
      const int64_t at = k + h * Vec::kWidth;
      const int64_t n = at < depth ? depth - at : 0;
      for (int b = 0; b < B; ++b)
        sum[u][b][h] = Vec::Fma(Vec::LoadN(p + at, n), Vec::LoadN(x + b * w.in + at, n), sum[u][b][h]);
    }
  };
  int32_t e = w.ptr[row];
  const int32_t end = w.ptr[row + 1];
  for (; e + U <= end; e += U) {
    for (int u = 0; u < U; ++u) add(e + u, u);
  }
  for (int u = 0; u < U - 1 && e < end; ++u, ++e) add(e, u);
  for (int half = U / 2; half > 0; half /= 2) {
    for (int u = 0; u < half; ++u) {
      for (int b = 0; b < B; ++b) {
        for (int h = 0; h < kHalves; ++h) sum[u][b][h] = sum[u][b][h] + sum[u + half][b][h];
      }
    }
  }
  for (int b = 0; b < B; ++b) {
    const float z = JoinHalves(sum[0][b]).Sum() + (a.bias == nullptr ? 0.0f : a.bias[row]);
    float* y = a.y + (sample + b) * w.out + row;
    // NaN stays.
    *y = a.activation == Activation::kRelu && z < 0 ? 0.0f : z;
    if (a.activation != Activation::kNone && a.activation != Activation::kRelu)
      Activate(a.activation, y, y, 1);
  }
}

void DotForward(const RowsForwardArgs& a) {
  for (int64_t row = a.begin; row < a.end; ++row) {
    int64_t sample = 0;
    for (; sample + 4 <= a.m; sample += 4) DotTile<4, 1>(a, row, sample);
    for (; sample + 2 <= a.m; sample += 2) DotTile<2, 2>(a, row, sample);
    if (sample < a.m) DotTile<1, 4>(a, row, sample);
  }
}

void RowsForward(const RowsForwardArgs& a) {
  const BlockView& w = a.w;
  if (w.r == 1 && w.c > kSmallSide) return DotForward(a);
  for (int64_t sample = 0; sample < a.m; sample += kPanel) {
    const int64_t m = a.m - sample < kPanel ? a.m : sample + kPanel;
    for (int64_t row = a.begin; row < a.end; ++row) {
      const int64_t left = w.out - row * w.r;
      const int64_t rows = left < w.r ? left : w.r;
      int64_t first = 0;
      if constexpr (kRowVectors > 1) {
        for (; first < rows && w.r - first >= kRowVectors * Vec::kWidth; first += kRowVectors * Vec::kWidth) {
          RowsOf<kRowVectors>(a, row, first, sample, m);
        }
      }
      for (; first < rows; first += Vec::kWidth) RowsOf<1>(a, row, first, sample, m);
    }
  }
}
