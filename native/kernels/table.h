// What every instruction set implements: one table of functions, and the arguments they share.
// Nothing here knows Node; sizes and indices were checked before a kernel sees them.
#pragma once

#include <cstdint>

#include "../cpu/isa.h"

namespace blocksparse {

enum class Activation { kNone, kRelu, kGelu, kSilu, kSigmoid, kTanh };
enum class Criterion { kMeanAbs, kL1, kL2, kMaxAbs };

// Panels: a batch's features in columns of some of its rows, padded to kLanes. kPanel is the most, and what
// training's have (lib/kernels/kernels.ts); those that serve have as many as tiles.
constexpr int64_t kLanes = 16;
constexpr int64_t kPanel = 64;

// Block rows that tiles of panels go through at once, at most.
constexpr int64_t kMostBlockRows = 4;

// From this batch on the row-major design has sums enough in a batch, and each runs through k in order, as in
// panels: either design then gives the same bits. (Not so where columns lie side by side: blocks of one row
// by eight and more, which never go row-major from here on, and TakesGroups.)
constexpr int64_t kRowsInOrder = 8;

// Blocks of few rows fill a vector of eight lanes, a group, with columns side by side.
constexpr int kGroup = 8;
constexpr bool FillsGroups(int64_t r, int64_t c) {
  return (r == 2 && c == 2) || (r == 4 && c == 4) || ((r == 2 || r == 4 || r == 8) && r * c % 32 == 0);
}

inline int64_t PadBatch(int64_t m) { return (m + kLanes - 1) / kLanes * kLanes; }
inline int64_t PanelCount(int64_t m) { return (m + kPanel - 1) / kPanel; }
inline int64_t PanelWidth(int64_t m, int64_t panel) {
  const int64_t left = PadBatch(m) - panel * kPanel;
  return left < kPanel ? left : kPanel;
}

// Row-major batches by lines: columns from a multiple of kLanes on are a line for each of `rows` batch rows,
// so that the rows of a tile lie side by side. Lines from one line of a row to its next: odd, or they would
// fall on few sets of the caches.
constexpr int64_t Lines(int64_t rows) { return rows | 1; }
constexpr int64_t LinesFloats(int64_t columns, int64_t rows) {
  return (columns + kLanes - 1) / kLanes * kLanes * Lines(rows);
}
// Batch rows of so many numbers that scratch holds at a time: `most`, of wide layers half as many and again,
// for a megabyte, the L2 of servers with AVX-512; kLanes where those are more.
constexpr int64_t ScratchRows(int64_t numbers, int64_t most) {
  int64_t rows = most;
  while (rows > kLanes && rows * numbers > 256 * 1024) rows /= 2;
  return rows;
}
// Batch rows that are copied by lines at a time: a panel.
constexpr int64_t CopiedRows(int64_t columns) { return ScratchRows(columns, kPanel); }

// A block-sparse operand as a kernel walks it: out x in, in blocks of r x c. Element (i, j) of entry e lies
// at values[block(e) * r * c + i * row_stride + j * col_stride], so that the same loops read a matrix, its
// transpose and the packed form.
struct BlockView {
  const int32_t* ptr;    // [block rows + 1]
  const int32_t* index;  // block column of an entry
  const int32_t* block;  // which block an entry is; null: the entry's own number
  const float* values;
  int64_t r, c;
  int64_t row_stride, col_stride;
  int64_t out, in;
};

// Layers of more weights than these, 4 MB, come from beyond L2, and mostly from memory where a network is
// larger than one layer: what fetches ahead by itself stops at each page. Tiles with products enough to hide
// it behind ask for what comes next.
constexpr int64_t kFarWeights = 1024 * 1024;
inline int64_t BlocksOf(const BlockView& w, int64_t r) { return w.ptr[(w.out + r - 1) / r]; }
inline bool IsFar(const BlockView& w) { return BlocksOf(w, w.r) * w.r * w.c > kFarWeights; }

// Whether the tiles of groups are fastest. Panels compute for kLanes batch rows at least, as fast as groups
// for eight or nine, or of 2x2, whose columns lie apart, for seven or eight. From beyond L2 panels read the
// weights in one go, where tiles of four batch rows go over block rows twice: these are faster still up to
// seven batch rows with blocks of four rows (1.0 to 2 times), at any with eight, of which AVX-512 takes eight
// batch rows at once (1.2 to 1.7 times, with AVX2 1.2 to 1.5), and not with 2x2 (.6). Measured on Zen 5,
// 768 x 768 to 4096 x 4096, 50 to 90 %. By what every instruction set knows: the order of sums is their own
// (short_forward_f32.inl).
constexpr int64_t kShortBatch = 8;
inline bool TakesGroups(const BlockView& w, int64_t m) {
  if (m > kShortBatch - (w.r * w.c < kGroup) || !FillsGroups(w.r, w.c)) return false;
  return m <= 4 || w.r == 8 || (w.r == 4 && m < kShortBatch) || !IsFar(w);
}

// y[out][width] = act(W . x[in][width] + bias) for block rows [begin, end) of one panel.
struct PanelForwardArgs {
  BlockView w;
  const float* bias;  // or null
  Activation activation;
  const float* x;
  float* y;
  int64_t width;  // a multiple of kLanes
  int64_t begin, end;
};

// y[m][out] = act(x[m][in] . W^T + bias), row-major, for block rows [begin, end); W packed k-major
// (row_stride 1, col_stride r). Each `strips` block rows, from the first one on, were cut from the same
// blocks: they have the same columns. The last ones may be fewer.
struct RowsForwardArgs {
  BlockView w;
  int64_t strips;
  const float* bias;
  Activation activation;
  const float* x;
  float* y;
  int64_t m;
  int64_t begin, end;
  float* scratch;  // to copy x by lines: [LinesFloats(in, CopiedRows(in) or m)]; or null
  // Above 0: x lies, or y is to lie, by that many lines; blocks that give y so have kLanes rows.
  int64_t x_lines, y_lines;
};

// gradient[block][i][j] = sum over the batch of dy[row][.] * x[col][.], in panels, for block rows [begin,
// end).
struct WeightGradientArgs {
  const int32_t* ptr;
  const int32_t* index;
  int64_t r, c;
  int64_t out, in;
  const float* dy;
  const float* x;
  int64_t m;
  float* gradient;       // [nnzb, r, c]; padding elements become 0
  float* bias_gradient;  // [out] or null
  int64_t begin, end;
};

struct AdamArgs {
  float* weight;
  const float* gradient;
  float* first;
  float* second;
  int64_t count;
  float rate, beta1, beta2, epsilon, second_scale;  // bias corrections folded into rate and second_scale
  float l2, shrink;                                 // g += l2 * w;  w *= shrink
};

struct SgdArgs {
  float* weight;
  const float* gradient;
  float* velocity;
  int64_t count;
  float rate, momentum, weight_decay;
};

// Sums of columns are stored by vectors that begin anywhere.
inline int64_t ScoreScratch(int64_t cols) { return PadBatch(cols) + kLanes; }

struct BlockScoresArgs {
  const float* weight;
  int64_t rows, cols, r, c;
  Criterion criterion;
  float* scores;
  float* scratch;  // [ScoreScratch(cols)]
  int64_t begin, end;
};

// Outputs of one row of blocks x batch rows that a kernel computes at once. Of short blocks, two or four
// block rows may go so together.
struct Tile {
  int64_t outputs, batch;
};

struct KernelTable {
  Isa isa;
  int64_t lanes;     // of a vector
  int64_t row_tile;  // rows of a block that a row-major tile takes together; 0: that design never gains
  // Of panel_forward, for block rows of so many rows and a panel `width` wide; of rows_forward, for all block
  // rows. Where there are several kinds of tiles: the one that takes most of the batch, the tallest.
  Tile (*panel_tile)(int64_t rows, int64_t width);
  Tile (*rows_tile)(const RowsForwardArgs&);
  void (*panel_forward)(const PanelForwardArgs&);
  void (*rows_forward)(const RowsForwardArgs&);
  bool (*takes_lines)(const RowsForwardArgs&);  // all block rows: whether x by lines is faster
  void (*weight_gradient)(const WeightGradientArgs&);
  void (*activate)(Activation, const float* z, float* y, int64_t count);
  void (*activation_gradient)(Activation, const float* saved, float* dy, int64_t count);
  void (*adam)(const AdamArgs&);
  void (*sgd)(const SgdArgs&);
  void (*block_scores)(const BlockScoresArgs&);
  // dst[f][lane] = src[lane][f]: count rows of k floats, given one pointer a row, into one panel.
  void (*to_panel)(const float* const* rows, int64_t count, int64_t k, float* panel, int64_t width);
  // And back, n features, to rows that lie `stride` floats apart.
  void (*from_panel)(const float* panel, int64_t width, int64_t count, int64_t n, float* out, int64_t stride);
};

extern const KernelTable kScalarTable;    // the reference: one lane, std::fma; for tests
extern const KernelTable kPortableTable;  // plain C++
#if defined(__x86_64__)
extern const KernelTable kAvx2Table;
extern const KernelTable kAvx512Table;
#elif defined(__aarch64__)
extern const KernelTable kNeonTable;
#endif

const KernelTable& TableFor(Isa isa);

}  // namespace blocksparse
