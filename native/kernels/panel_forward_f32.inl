// The panel design: vectors along the batch, weights broadcast. It takes any block shape; the input gradient
// is the same loop over the transposed view.

// The tallest tile. With 32 registers 8 rows x 2 vectors hide the FMA latency (16 > 4 cycles x 2 ports) and
// need 8 broadcasts + 2 loads for 16 FMAs; with 16 registers 6 x 2 is the most that leaves room for x and w.
constexpr int64_t kMaxTileRows = Vec::kRegisters == 32 ? 8 : 6;

// Vectors a tile is wide: short tiles take more, to have enough sums in flight.
template <int R>
constexpr int TileVectors() {
  if (Vec::kRegisters == 32) return R <= 6 ? 4 : 2;
  return R <= 3 ? 4 : 2;
}

template <int R, int V>
void PanelTile(const PanelForwardArgs& a, int64_t row, int64_t first, int64_t lane) {
  const BlockView& w = a.w;
  const int64_t out_row = row * w.r + first;
  Vec sum[R][V];
  for (int i = 0; i < R; ++i) {
    const Vec start = a.bias == nullptr ? Vec::Zero() : Vec::Set1(a.bias[out_row + i]);
    for (int v = 0; v < V; ++v) sum[i][v] = start;
  }
  const int64_t row_stride = w.row_stride;
  const int64_t width = a.width;
  for (int32_t e = w.ptr[row]; e < w.ptr[row + 1]; ++e) {
    const int64_t column = int64_t{w.index[e]} * w.c;
    const int64_t depth = w.in - column < w.c ? w.in - column : w.c;
    const int64_t block = w.block == nullptr ? e : w.block[e];
    const float* p = w.values + block * w.r * w.c + first * row_stride;
    const float* x = a.x + column * width + lane;
    for (int64_t k = 0; k < depth; ++k) {
      Vec xv[V];
      for (int v = 0; v < V; ++v) {
        xv[v] = Vec::Load(x + v * Vec::kWidth);
        xv[v].Pin();
      }
      for (int i = 0; i < R; ++i) {
        const Vec weight = Vec::Set1(p[i * row_stride]);
        for (int v = 0; v < V; ++v) sum[i][v] = Vec::Fma(weight, xv[v], sum[i][v]);
      }
      p += w.col_stride;
      x += width;
    }
  }
  float* y = a.y + out_row * width + lane;
  for (int i = 0; i < R; ++i) {
    for (int v = 0; v < V; ++v) Act(a.activation, sum[i][v]).Store(y + i * width + v * Vec::kWidth);
  }
}

template <int R>
void PanelTileRow(const PanelForwardArgs& a, int64_t row, int64_t first) {
  constexpr int V = TileVectors<R>();
  int64_t lane = 0;
  for (; lane + V * Vec::kWidth <= a.width; lane += V * Vec::kWidth) PanelTile<R, V>(a, row, first, lane);
  if (V > 2 && lane + 2 * Vec::kWidth <= a.width) {
    PanelTile<R, 2>(a, row, first, lane);
    lane += 2 * Vec::kWidth;
  }
  for (; lane < a.width; lane += Vec::kWidth) PanelTile<R, 1>(a, row, first, lane);
}

void PanelForward(const PanelForwardArgs& a) {
  for (int64_t row = a.begin; row < a.end; ++row) {
    const int64_t left = a.w.out - row * a.w.r;
    const int64_t rows = left < a.w.r ? left : a.w.r;
    // Tiles of even height: 5 + 5 + 6 rows rather than 6 + 6 + 4.
    const int64_t tiles = (rows + kMaxTileRows - 1) / kMaxTileRows;
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t first = rows * t / tiles;
      switch (rows * (t + 1) / tiles - first) {
        case 1:
          PanelTileRow<1>(a, row, first);
          break;
        case 2:
          PanelTileRow<2>(a, row, first);
          break;
        case 3:
          PanelTileRow<3>(a, row, first);
          break;
        case 4:
          PanelTileRow<4>(a, row, first);
          break;
        case 5:
          PanelTileRow<5>(a, row, first);
          break;
        case 6:
          PanelTileRow<6>(a, row, first);
          break;
        case 7:
          PanelTileRow < kMaxTileRows<7 ? 1 : 7>(a, row, first);
          break;
        default:
          PanelTileRow < kMaxTileRows<8 ? 1 : 8>(a, row, first);
      }
    }
  }
}
