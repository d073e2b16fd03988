#include "packing.h"

#include <algorithm>
#include <cstddef>

#include "table.h"

namespace blocksparse {
namespace {

int64_t Ceil(int64_t value, int64_t step) { return (value + step - 1) / step; }

// Of a matrix with all its blocks: as long as a few lines of x, and as tall as the tallest row-major tile.
constexpr int64_t kDenseColumns = 32;
constexpr int64_t kDenseRows = 32;
// All its rows have the same columns: it counts as blocks of two tiles, tall on every instruction set.
constexpr int64_t kDenseStrips = 2;

// Time for a weight in blocks of r x c, as a share of one in those of dense: for one batch row, for a few,
// and from kLanes on. Measured by bench/kernels at M = 1, 8 and 32 to 512 on 300 x 784 to 3072 x 768, on one
// thread and two, AVX2 and AVX-512; the largest of these: it is the one where L2 holds all of dense, or each
// thread's half of it. Short blocks leave lanes of the row-major design empty and walk an index for few
// weights; a few batch rows pay for panels of kLanes, where dense goes row-major.
struct Costs {
  double one, few, many;
};

Costs CostsOf(int64_t r, int64_t c) {
  if (FillsGroups(r, c)) {  // groups up to four, seven or eight batch rows, panels from there on
    if (r == 8) return {1.2, 2, 1.25};
    if (r == 4) return {1.4, 2.7, 1.25};
    return c == 2 ? Costs{2, 4.5, 1.9} : Costs{1.7, 3.7, 2.3};
  }
  if (r % 16 == 0) {
    if (c == 1) return {1.6, 2.4, 1.8};  // few: from beyond L2, 4096 x 4096
    return r >= 32 ? Costs{1, 1, 1} : Costs{c < 8 ? 1.3 : 1, 1.5, 1.25};
  }
  const auto rows = static_cast<double>(r);
  if (r == 1) return {6.5, 8.2, 3.8};
  if (c == 1 && r <= 8) return {13.6 / rows, 37 / (1.25 + rows), 1.2 + 3.6 / rows};  // fits to 2, 4 and 8
  if (r >= 8) return {1.9, 3.7, 1.4};  // 9 to 31 rows: vectors that they do not fill
  // Fits to sides of 2, 3 and 5 to 7: few 5.9, 4.4, 3.3.
  const auto side = static_cast<double>(std::min(r, c));
  return {13 / side, std::max(3.3, 17.5 / (0.95 + side)), r * c < 16 ? 1.8 : 1.25};
}

// Panels go by kPair batch rows at a time; what is left takes as long as a pair, or two thirds where half of
// it is enough.
double PanelWaste(int64_t m) {
  constexpr int64_t kPair = 2 * kLanes;
  const int64_t left = m % kPair;
  const double pairs = static_cast<double>(m / kPair) + (left == 0 ? 0 : left <= kLanes ? 2. / 3 : 1);
  return pairs * kPair / static_cast<double>(m);
}

double CostFor(int64_t r, int64_t c, int64_t batch_hint) {
  const Costs costs = CostsOf(r, c);
  if (batch_hint == 0) return std::max({costs.one, costs.few, costs.many});
  // Of groups it rises from one batch row to eight.
  if (batch_hint < kShortBatch && FillsGroups(r, c)) {
    const double way = static_cast<double>(batch_hint - 1) / (kShortBatch - 1);
    return costs.one + way * (costs.few - costs.one);
  }
  if (batch_hint < kLanes) return batch_hint == 1 ? costs.one : costs.few;
  return costs.many * (r % 16 == 0 ? 1 : PanelWaste(batch_hint));
}

// Weights of the blocks, without the strips of the last ones that lie below the matrix.
int64_t StoredWeights(const BsrView& w) {
  const int64_t last = Ceil(w.n, w.r) - 1;
  const int64_t rows = std::min(w.r, Ceil(w.n - last * w.r, kDenseRows) * kDenseRows);
  return (w.crow[last] * w.r + (w.crow[last + 1] - w.crow[last]) * rows) * w.c;
}

// Single weights stay as they are: that is CSR, which is there to be compared with.
// Small matrices pay for the padding of dense; the same decision on every instruction set, for the same bits.
bool DenseIsFaster(const BsrView& w, int64_t batch_hint) {
  if (w.r * w.c == 1 || w.n == 0) return false;
  const auto stored = static_cast<double>(StoredWeights(w));
  const double dense =
      static_cast<double>(Ceil(w.n, kLanes) * kLanes * Ceil(w.k, kDenseColumns) * kDenseColumns);
  return stored * CostFor(w.r, w.c, batch_hint) > dense;
}

// The row-major design reads whole vectors, up to one past the last block.
AlignedFloats Allocate(int64_t count) {
  AlignedFloats values(count + kLanes);
  std::fill(values.data() + count, values.data() + values.size(), 0.0f);
  return values;
}

// Every block cut into r / rows strips, each contiguous: where a tile takes a part of the rows only, it
// streams.
Packing Strips(const BsrView& w, int64_t rows) {
  const int64_t parts = w.r / rows;
  Packing p{rows, w.c, parts, false, {0}, {}, {}};
  const int64_t strips = Ceil(w.n, rows);
  for (int64_t strip = 0; strip < strips; ++strip) {
    const int32_t* columns = w.col + w.crow[strip / parts];
    p.index.insert(p.index.end(), columns, w.col + w.crow[strip / parts + 1]);
    p.ptr.push_back(static_cast<int32_t>(p.index.size()));
  }
  p.values = Allocate(static_cast<int64_t>(p.index.size()) * rows * w.c);
  float* to = p.values.data();
  for (int64_t strip = 0; strip < strips; ++strip) {
    for (int32_t e = w.crow[strip / parts]; e < w.crow[strip / parts + 1]; ++e) {
      const float* from = w.values + (e * w.r + strip % parts * rows) * w.c;
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < w.c; ++j) to[j * rows + i] = from[i * w.c + j];
      }
      to += rows * w.c;
    }
  }
  return p;
}

// Whole tiles, where that does not leave more than a twentieth of the rows empty.
int64_t DenseRows(int64_t n, int64_t row_tile) {
  if (row_tile == 0) return kDenseRows;
  const bool empty = Ceil(n, row_tile) * row_tile * 20 > Ceil(n, kLanes) * kLanes * 21;
  return empty ? kLanes : row_tile;
}

Packing Dense(const BsrView& w, int64_t rows) {
  const int64_t block_rows = Ceil(w.n, rows);
  const int64_t block_columns = Ceil(w.k, kDenseColumns);
  const int64_t line = block_columns * kDenseColumns * rows;  // of blocks, one after the other
  Packing p{rows, kDenseColumns, kDenseStrips, true, {}, {}, Allocate(block_rows * line)};
  for (int64_t row = 0; row <= block_rows; ++row) p.ptr.push_back(static_cast<int32_t>(row * block_columns));
  for (int64_t block = 0; block < block_rows * block_columns; ++block)
    p.index.push_back(static_cast<int32_t>(block % block_columns));
  float* values = p.values.data();
  std::fill(values, values + block_rows * line, 0.0f);
  for (int64_t row = 0; row < Ceil(w.n, w.r); ++row) {
    for (int32_t e = w.crow[row]; e < w.crow[row + 1]; ++e) {
      const int64_t first = w.col[e] * w.c;
      const int64_t last = std::min(first + w.c, w.k);
      for (int64_t y = row * w.r; y < std::min((row + 1) * w.r, w.n); ++y) {
        const float* from = w.values + (e * w.r + y - row * w.r) * w.c;
        float* to = values + y / rows * line + y % rows;
        for (int64_t x = first; x < last; ++x) to[x * rows] = from[x - first];
      }
    }
  }
  return p;
}

}  // namespace

double WeightTime(int64_t r, int64_t c, int64_t m) { return CostFor(r, c, m); }

Packing Pack(const BsrView& matrix, int64_t row_tile, int64_t batch_hint) {
  if (DenseIsFaster(matrix, batch_hint)) return Dense(matrix, DenseRows(matrix.n, row_tile));
  const bool cut = row_tile > 0 && matrix.r > row_tile && matrix.r % row_tile == 0;
  return Strips(matrix, cut ? row_tile : matrix.r);
}

}  // namespace blocksparse
