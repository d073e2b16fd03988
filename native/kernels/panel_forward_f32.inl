// The panel design: vectors along the batch, weights broadcast. It takes any block shape; the input gradient
// is the same loop over the transposed view.

// The tallest tile. With 32 registers 8 rows x 2 vectors hide the FMA latency (16 > 4 cycles x 2 ports) and
// need 8 broadcasts + 2 loads for 16 FMAs; with 16 registers 6 x 2 is the most that leaves room for x and w.
constexpr int kMaxTileRows = Vec::kRegisters == 32 ? 8 : 6;

// Vectors a tile of R rows is wide: short tiles take more, to have enough sums in flight.
constexpr int TileVectors(int64_t rows) {
  if (Vec::kRegisters == 32) return rows <= 6 ? 4 : 2;
  return rows <= 3 ? 4 : 2;
}

// Columns of x a tile works on before those it asks for: the latency of L2, at 4 to 8 cycles a column.
constexpr int64_t kAheadColumns = 8;

// One column of a block: R weights against V vectors of x. Asks for the lines of the same column of a later
// block too: which block that is, no hardware can foresee.
template <int R, int V, bool kUnit>
inline void PanelColumn(Vec (&sum)[R][V], const float* p, int64_t row_stride, const float* x,
                        const float* next) {
  for (int v = 0; v < V; v += kHalves) __builtin_prefetch(next + v * Vec::kWidth);
  Vec xv[V];
  for (int v = 0; v < V; ++v) {
    xv[v] = Vec::Load(x + v * Vec::kWidth);
    xv[v].Pin();
  }
  for (int i = 0; i < R; ++i) {
    const Vec weight = Vec::Set1(p[kUnit ? i : i * row_stride]);
    for (int v = 0; v < V; ++v) sum[i][v] = Vec::Fma(weight, xv[v], sum[i][v]);
  }
}

// R rows of block row `row` from its row `first`, V vectors of the panel from `lane`. S sums take the columns
// of a block in turn; blocks of D columns run unrolled (0: any number).
template <int R, int V, int S, int D, bool kUnit>
void PanelTile(const PanelForwardArgs& a, int64_t row, int64_t first, int64_t lane) {
  const BlockView& w = a.w;
  const int64_t out_row = row * w.r + first;
  Vec sum[S][R][V];
  for (int i = 0; i < R; ++i) {
    const Vec start = a.bias == nullptr ? Vec::Zero() : Vec::Set1(a.bias[out_row + i]);
    for (int v = 0; v < V; ++v) {
      sum[0][i][v] = start;
      for (int s = 1; s < S; ++s) sum[s][i][v] = Vec::Zero();
    }
  }
  const int64_t row_stride = w.row_stride;
  const int64_t col_stride = w.col_stride;
  const int64_t width = a.width;
  const float* panel = a.x + lane;
  const int32_t end = w.ptr[row + 1];
  const int32_t last = w.ptr[a.end] - 1;
  const int32_t ahead = static_cast<int32_t>(w.c >= kAheadColumns ? 1 : kAheadColumns / w.c);
  for (int32_t e = w.ptr[row]; e < end; ++e) {
    const int64_t column = int64_t{w.index[e]} * w.c;
    const int64_t depth = w.in - column < w.c ? w.in - column : w.c;
    const int64_t block = w.block == nullptr ? e : w.block[e];
    const float* p = w.values + block * w.r * w.c + first * row_stride;
    const float* x = panel + column * width;
    const float* next = panel + int64_t{w.index[e + ahead < last ? e + ahead : last]} * w.c * width;
    if (D > 0 && depth == D) {
      for (int k = 0; k < D; ++k) {
        PanelColumn<R, V, kUnit>(sum[k % S], p + k * (kUnit ? R : col_stride), row_stride, x + k * width,
                                 next + k * width);
      }
      continue;
    }
    int64_t k = 0;
    for (; k + S <= depth; k += S) {
      for (int s = 0; s < S; ++s) {
        PanelColumn<R, V, kUnit>(sum[s], p, row_stride, x, next);
        p += col_stride;
        x += width;
        next += width;
      }
    }
    if (S > 1 && k < depth) PanelColumn<R, V, kUnit>(sum[0], p, row_stride, x, next);
  }
  float* y = a.y + out_row * width + lane;
  for (int i = 0; i < R; ++i) {
    for (int v = 0; v < V; ++v) {
      for (int s = 1; s < S; ++s) sum[0][i][v] = sum[0][i][v] + sum[s][i][v];
    }
  }
  // One branch a tile for the common activations, not one a vector. Max gives its second operand when they do
  // not compare, so NaN stays.
  if (a.activation == Activation::kRelu) {
    for (int i = 0; i < R; ++i) {
      for (int v = 0; v < V; ++v) Vec::Max(Vec::Zero(), sum[0][i][v]).Store(y + i * width + v * Vec::kWidth);
    }
    return;
  }
  for (int i = 0; i < R; ++i) {
    for (int v = 0; v < V; ++v) sum[0][i][v].Store(y + i * width + v * Vec::kWidth);
  }
  if (a.activation != Activation::kNone) {
    for (int i = 0; i < R; ++i) Activate(a.activation, y + i * width, y + i * width, V * Vec::kWidth);
  }
}

// A whole small square block in one tile, unrolled.
template <int R, int V, bool kUnit>
void SquareTile(const PanelForwardArgs& a, int64_t row, int64_t first, int64_t lane) {
  constexpr int S = R < 4 ? 2 : 1;
  if (a.w.r == R && a.w.c == R) {
    PanelTile<R, V, S, R, kUnit>(a, row, first, lane);
  } else if (a.w.r < 4) {
    PanelTile<R, V, 2, 0, kUnit>(a, row, first, lane);
  } else {
    PanelTile<R, V, 1, 0, kUnit>(a, row, first, lane);
  }
}

// The tiles of one block row over V vectors, one after the other while their x is in L1.
template <int V, bool kUnit>
void PanelTiles(const PanelForwardArgs& a, int64_t row, int64_t rows, int64_t tiles, int64_t lane) {
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t first = rows * t / tiles;
    switch (rows * (t + 1) / tiles - first) {
      case 1:
        SquareTile<1, V, kUnit>(a, row, first, lane);
        break;
      case 2:
        SquareTile<2, V, kUnit>(a, row, first, lane);
        break;
      case 3:
        SquareTile<3, V, kUnit>(a, row, first, lane);
        break;
      case 4:
        SquareTile<V == 4 && TileVectors(4) < 4 ? 1 : 4, V, kUnit>(a, row, first, lane);
        break;
      case 5:
        SquareTile<V == 4 && TileVectors(5) < 4 ? 1 : 5, V, kUnit>(a, row, first, lane);
        break;
      case 6:
        SquareTile<V == 4 && TileVectors(6) < 4 ? 1 : 6, V, kUnit>(a, row, first, lane);
        break;
      case 7:
        SquareTile < kMaxTileRows<7 || V == 4 ? 1 : 7, V, kUnit>(a, row, first, lane);
        break;
      default:
        SquareTile < kMaxTileRows<8 || V == 4 ? 1 : 8, V, kUnit>(a, row, first, lane);
    }
  }
}

template <bool kUnit>
void PanelRows(const PanelForwardArgs& a) {
  for (int64_t row = a.begin; row < a.end; ++row) {
    const int64_t left = a.w.out - row * a.w.r;
    const int64_t rows = left < a.w.r ? left : a.w.r;
    // Tiles of even height: 5 + 5 + 6 rows rather than 6 + 6 + 4.
    const int64_t tiles = (rows + kMaxTileRows - 1) / kMaxTileRows;
    const int vectors = TileVectors((rows + tiles - 1) / tiles);
    int64_t lane = 0;
    if (vectors == 4) {
      for (; lane + 4 * Vec::kWidth <= a.width; lane += 4 * Vec::kWidth)
        PanelTiles<4, kUnit>(a, row, rows, tiles, lane);
    }
    for (; lane + 2 * Vec::kWidth <= a.width; lane += 2 * Vec::kWidth)
      PanelTiles<2, kUnit>(a, row, rows, tiles, lane);
    for (; lane < a.width; lane += Vec::kWidth) PanelTiles<1, kUnit>(a, row, rows, tiles, lane);
  }
}

void PanelForward(const PanelForwardArgs& a) {
  if (a.w.row_stride == 1) {
    PanelRows<true>(a);
  } else {
    PanelRows<false>(a);
  }
}
