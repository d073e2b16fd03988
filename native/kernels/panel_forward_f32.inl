// The panel design: vectors along the batch, weights broadcast. It takes any block shape; the input gradient
// is the same loop over the transposed view.

// The tallest tile. With 32 registers 8 rows x 2 vectors hide the FMA latency (16 > 4 cycles x 2 ports) and
// need 8 broadcasts + 2 loads for 16 FMAs; with 16 registers 6 x 2 is the most that leaves room for x and w.
// Vectors of four lanes go four abreast, the line of x that a column asks for, and 6 x 4 is the most that 32
// of them hold.
constexpr int kMaxTileRows = kReference ? 1 : Vec::kRegisters == 32 && kHalves == 1 ? 8 : 6;

// Vectors a tile of R rows is wide: short tiles take more, to have enough sums in flight.
constexpr int TileVectors(int64_t rows) {
  if (Vec::kRegisters == 32) return rows <= 6 ? 4 : 2;
  return rows <= 3 ? 4 : 2;
}

// As AVX2 has.
constexpr bool kNarrow = Vec::kRegisters == 16 && !kReference;

// Columns of x a tile works on before those it asks for: 4 to 8 cycles each, the latency of L2 and what else
// waits there. Twice that where L2 may be of half a megabyte, and x of wide layers beyond it: 1.02 to 1.1
// times as fast from 3072 inputs on, Zen 3.
constexpr int64_t kAheadColumns = kNarrow ? 16 : 8;

// Tiles of fewer rows do not ask: it would take the place of loads, of which they have more for a product
// than taller ones. But for 3 x 4 narrow vectors, whose x is twice as much, and which have 12 sums to 7
// loads.
constexpr int kLeastAsking = 4;
template <int R, int V>
constexpr bool kAsks = R >= kLeastAsking || (kNarrow && Vec::kUnrolled && R == 3 && V == 4);

// One column of a block: R weights against V vectors of x. Asks for the lines of the same column of a later
// block too, where kAsks: which block that is, no hardware can foresee.
template <int R, int V>
ALWAYS_INLINE void PanelColumn(Vec (&sum)[R][V], const float* p, int64_t row_stride, const float* x,
                               const float* next) {
  if constexpr (kAsks<R, V>) {
    for (int v = 0; v < V; v += kHalves) __builtin_prefetch(next + v * Vec::kWidth);
  }
  const auto x_of = [&](auto v) __attribute__((always_inline)) {
    auto one = Vec::Load(x + v * Vec::kWidth);
    one.Pin();
    return one;
  };
  // What there is less of stays in registers.
  if constexpr (V > R) {
    Vec weight[R];
    Each<R>(EACH(i) {
      weight[i] = Vec::Set1(p[i * row_stride]);
      weight[i].Pin();
    });
    Each<V>(EACH(v) {
      const Vec one = x_of(v);
      Each<R>(EACH(i) { sum[i][v] = Vec::Fma(weight[i], one, sum[i][v]); });
    });
  } else {
    Vec one[V];
    Each<V>(EACH(v) { one[v] = x_of(v); });
    Each<R>(EACH(i) {
      const Vec weight = Vec::Set1(p[i * row_stride]);
      Each<V>(EACH(v) { sum[i][v] = Vec::Fma(weight, one[v], sum[i][v]); });
    });
  }
}

// `depth` columns, S sums taking them in turn; a constant depth unrolls.
template <int R, int V, int S>
ALWAYS_INLINE void PanelColumns(Vec (&sum)[S][R][V], int64_t depth, const float* p, int64_t row_stride,
                                int64_t col_stride, const float* x, const float* next, int64_t width) {
  int64_t k = 0;
  for (; k + S <= depth; k += S) {
    Each<S>(EACH(s) {
      PanelColumn<R, V>(sum[s], p, row_stride, x, next);
      p += col_stride;
      x += width;
      next += width;
    });
  }
  if (S > 1 && k < depth) PanelColumn<R, V>(sum[0], p, row_stride, x, next);
}

// Block rows that tiles of so many rows go through at once, each with blocks and sums of its own, where one
// alone has fewer sums in flight than the registers hold: the ends of rows come half or a quarter as often,
// and lines of x from L2 side by side. Six rows and more have sums enough.
constexpr int Together(int rows, int sums) {
  constexpr int kMostSums = Vec::kRegisters == 32 ? 24 : 12;  // they leave room for weights and x
  if (!Vec::kUnrolled || rows >= 6) return 1;
  return 4 * sums <= kMostSums ? 4 : 2 * sums <= kMostSums ? 2 : 1;
}

// Block rows have streams of weights of their own. Where small blocks' do not stay in L2, beside as many
// indices and x, four streams, which batches of one vector have, are slower than one, and so are two whose
// distance, in floats, is about half a page. Blocks of four rows and more, with more products for a weight,
// wait for neither. Measured at 2 x 2 and 3 x 3, 384 to 4096 columns and 70 to 90 %, Zen 5.
constexpr int64_t kTogetherFloats = 208 * 1024;
constexpr int64_t kLeastApart = 384;
constexpr int64_t kMostApart = 768;
inline __attribute__((noinline)) bool StreamsTogether(const PanelForwardArgs& a) {
  const BlockView& w = a.w;
  const int64_t blocks = BlocksOf(w, w.r);
  const int64_t weights = blocks * w.r * w.c;
  if (w.r >= 4 || weights + blocks <= kTogetherFloats) return true;
  const int64_t apart = weights * w.r;  // times the outputs
  return a.width > kLanes && (apart < kLeastApart * w.out || apart > kMostApart * w.out);
}

ALWAYS_INLINE void AskFor(const float* weights, int64_t count) {
  for (int64_t i = 0; i < count; i += kLanes) __builtin_prefetch(weights + i, 0, 2);
}

// R rows of each of the P block rows from `row` on, from their row `first`, V vectors of the panel from
// `lane`. Blocks have D rows and columns (0: any number). kColumnMajor: the weights of a column lie side by
// side, as in packed layers and in the transpose of training's. What is constant here matters: the addresses
// of a small block cost as much as its products.
template <int R, int V, int S, int D, int P, bool kColumnMajor>
void PanelTile(const PanelForwardArgs& a, int64_t row, int64_t first, int64_t lane) {
  const BlockView& w = a.w;
  const int64_t r = D > 0 ? D : w.r;
  const int64_t c = D > 0 ? D : w.c;
  const int64_t out_row = row * r + first;
  Vec sum[P][S][R][V];
  Each<P>(EACH(p) {
    Each<R>(EACH(i) {
      const Vec start = a.bias == nullptr ? Vec::Zero() : Vec::Set1(a.bias[out_row + p * r + i]);
      Each<S>(EACH(s) { Each<V>(EACH(v) { sum[p][s][i][v] = s == 0 ? start : Vec::Zero(); }); });
    });
  });
  const int64_t row_stride = kColumnMajor ? 1 : w.row_stride;
  const int64_t col_stride = kColumnMajor ? r : w.col_stride;
  const int64_t size = r * c;
  const int64_t width = a.width;
  const int64_t step = c * width;
  const float* panel = a.x + lane;
  const int32_t* index = w.index;
  const int32_t last = w.ptr[a.end] - 1;
  const int32_t ahead = static_cast<int32_t>(c >= kAheadColumns ? 1 : kAheadColumns / c);
  const float* values = w.values + first * row_stride;
  const bool far =
      kColumnMajor && Vec::kUnrolled && w.block == nullptr && BlocksOf(w, r) * size > kFarWeights;
  const int64_t whole = w.in / c;
  const auto block = [&](auto p, int32_t e, int64_t depth) __attribute__((always_inline)) {
    const float* weights = values + (P > 1 || w.block == nullptr ? e : w.block[e]) * size;
    if (P == 1 && far) AskFor(weights + kAheadWeights, size);
    const float* next = panel + index[e + ahead < last ? e + ahead : last] * step;
    PanelColumns<R, V, S>(sum[p], depth, weights, row_stride, col_stride, panel + index[e] * step, next,
                          width);
  };
  int32_t at[P];
  Each<P>(EACH(p) { at[p] = w.ptr[row + p]; });
  if constexpr (D > 0) {
    int32_t both = INT32_MAX;
    Each<P>(EACH(p) {
      const int32_t end = w.ptr[row + p + 1];
      // Columns ascend, so only the last block of a row can be cut off by the edge.
      const int32_t blocks = end - at[p] - (at[p] < end && index[end - 1] == whole);
      both = blocks < both ? blocks : both;
    });
    // Two rows ask together for those that follow them: each alone would ask for what the other has read.
    // Those of 2 x 2 have too few products for it: even to look whether to ask costs a twentieth in L2. Four
    // rows, of batches that fill one vector, lose up to that there and gain from tens of megabytes only.
    const float* later = values + w.ptr[row + P] * size;
    for (; both > 0; --both) {
      if (P == 2 && R > 2 && far) {
        AskFor(later, P * size);
        later += P * size;
      }
      Each<P>(EACH(p) { block(p, at[p]++, D); });
    }
  }
  Each<P>(EACH(p) {
    const int32_t end = w.ptr[row + p + 1];
    while (at[p] < end) {
      block(p, at[p], index[at[p]] < whole ? c : w.in - whole * c);
      ++at[p];
      if (P == 1 && D > 0) break;
    }
    float* y = a.y + (out_row + p * r) * width + lane;
    auto& total = sum[p][0];
    if constexpr (S == 2) AddSums(total, sum[p][1]);
    // One branch a tile for the common activations, not one a vector. Max gives its second operand when they
    // do not compare, so NaN stays.
    if (a.activation == Activation::kRelu) {
      Each<R>(EACH(i) { Each<V>(EACH(v) { total[i][v] = Vec::Max(Vec::Zero(), total[i][v]); }); });
    }
    Each<R>(EACH(i) { Each<V>(EACH(v) { total[i][v].Store(y + i * width + v * Vec::kWidth); }); });
    if (a.activation != Activation::kNone && a.activation != Activation::kRelu) {
      for (int i = 0; i < R; ++i) Activate(a.activation, y + i * width, y + i * width, V * Vec::kWidth);
    }
  });
}

// A small square block is one tile, unrolled where it is worth the code: not for the last batch rows of a
// training step, nor without an instruction set of its own. Blocks of fewer than four rows have too few sums
// in flight: they take two, by their shape alone, so that every instruction set adds in the same order.
template <int R, int V, bool kColumnMajor>
void AnyTile(const PanelForwardArgs& a, int64_t row, int64_t count, int64_t first, int64_t lane) {
  constexpr int S = R < 4 ? 2 : 1;
  constexpr bool kUnrolled = Vec::kUnrolled && (kColumnMajor || V > 1);
  if (kUnrolled && a.w.r == R && a.w.c == R) {
    constexpr int D = kUnrolled ? R : 0;
    constexpr int P = kColumnMajor ? Together(R, S * R * V) : 1;
    if (P > 1 && a.w.block == nullptr && StreamsTogether(a)) {
      for (; count >= P; count -= P, row += P) PanelTile<R, V, S, D, P, kColumnMajor>(a, row, first, lane);
    }
    // Of blocks that always go together what is left over, and training's last batch rows, is no code of its
    // own.
    constexpr int kAlone = P == 4 && R >= 4 ? 0 : D;
    for (; count > 0; --count, ++row) PanelTile<R, V, S, kAlone, 1, kColumnMajor>(a, row, first, lane);
  }
  for (; count > 0; --count, ++row) {
    if (R < 4 && a.w.r < 4)
      PanelTile<R, V, S, 0, 1, kColumnMajor>(a, row, first, lane);
    else
      PanelTile<R, V, 1, 0, 1, kColumnMajor>(a, row, first, lane);
  }
}

// Heights that never go with V vectors are no code of their own.
template <int R, int V, bool kColumnMajor>
ALWAYS_INLINE void TileOf(const PanelForwardArgs& a, int64_t row, int64_t count, int64_t first,
                          int64_t lane) {
  constexpr bool kExists = R <= kMaxTileRows && (V < 4 || TileVectors(R) == 4);
  AnyTile<kExists ? R : 1, V, kColumnMajor>(a, row, count, first, lane);
}

// Tiles of even height: 5 + 5 + 6 rows rather than 6 + 6 + 4. With 16 registers, 4 + 4 rows by 2 vectors
// would have eight sums each, just enough to hide the latency; 2 + 3 + 3 by 4 have more. Blocks of three rows
// have two sums each, and those of 4 vectors would not fit.
template <int V>
int64_t TilesOf(int64_t rows) {
  constexpr int64_t kMost = kNarrow && V == 4 ? 3 : kMaxTileRows;
  return (rows + kMost - 1) / kMost;
}
inline int VectorsOf(int64_t rows) {
  if (kNarrow && rows >= 7 && rows <= 9) return 4;
  if (kNarrow && rows == 3) return 2;
  const int64_t tiles = TilesOf<2>(rows);
  return TileVectors((rows + tiles - 1) / tiles);
}

// The tiles of `count` block rows of `rows` rows over V vectors, one after the other while their x is in L1.
template <int V, bool kColumnMajor>
void PanelTiles(const PanelForwardArgs& a, int64_t row, int64_t count, int64_t rows, int64_t lane) {
  const int64_t tiles = TilesOf<V>(rows);
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t first = rows * t / tiles;
    switch (rows * (t + 1) / tiles - first) {
      case 1:
        TileOf<1, V, kColumnMajor>(a, row, count, first, lane);
        break;
      case 2:
        TileOf<2, V, kColumnMajor>(a, row, count, first, lane);
        break;
      case 3:
        TileOf<3, V, kColumnMajor>(a, row, count, first, lane);
        break;
      case 4:
        TileOf<4, V, kColumnMajor>(a, row, count, first, lane);
        break;
      case 5:
        TileOf<5, V, kColumnMajor>(a, row, count, first, lane);
        break;
      case 6:
        TileOf<6, V, kColumnMajor>(a, row, count, first, lane);
        break;
      case 7:
        TileOf<7, V, kColumnMajor>(a, row, count, first, lane);
        break;
      default:
        TileOf<8, V, kColumnMajor>(a, row, count, first, lane);
    }
  }
}

// The tile of PanelRows.
Tile TileOfPanel(int64_t rows, int64_t width) {
  int vectors = VectorsOf(rows);
  while (vectors * Vec::kWidth > width) vectors /= 2;
  const int64_t tiles = vectors == 4 ? TilesOf<4>(rows) : TilesOf<2>(rows);
  return {(rows + tiles - 1) / tiles, vectors * Vec::kWidth};
}

template <bool kColumnMajor>
void PanelRows(const PanelForwardArgs& a) {
  const int64_t most = a.w.r <= kMaxTileRows ? kMostBlockRows : 1;
  for (int64_t row = a.begin, count; row < a.end; row += count) {
    const int64_t left = a.w.out - row * a.w.r;
    const int64_t rows = left < a.w.r ? left : a.w.r;
    count = a.end - row < most ? a.end - row : most;
    while (count > 1 && count * a.w.r > left) --count;
    const int vectors = VectorsOf(rows);
    int64_t lane = 0;
    if (vectors == 4) {
      for (; lane + 4 * Vec::kWidth <= a.width; lane += 4 * Vec::kWidth)
        PanelTiles<4, kColumnMajor>(a, row, count, rows, lane);
    }
    for (; lane + 2 * Vec::kWidth <= a.width; lane += 2 * Vec::kWidth)
      PanelTiles<2, kColumnMajor>(a, row, count, rows, lane);
    if constexpr (kHalves == 1) {
      if (lane < a.width) PanelTiles<1, kColumnMajor>(a, row, count, rows, lane);
    }
  }
}

void PanelForward(const PanelForwardArgs& a) {
  if (Vec::kUnrolled && a.w.row_stride == 1 && a.w.col_stride == a.w.r) {
    PanelRows<Vec::kUnrolled>(a);
  } else {
    PanelRows<false>(a);
  }
}
