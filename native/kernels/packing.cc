#include "packing.h"

#include <algorithm>
#include <cstddef>

#include "table.h"

namespace blocksparse {
namespace {

int64_t Ceil(int64_t value, int64_t step) { return (value + step - 1) / step; }

// Of a matrix with all its blocks: as long as a few lines of x, and as tall as the row-major tile.
constexpr int64_t kDenseColumns = 32;
constexpr int64_t kDenseRows = 32;
// All its rows have the same columns: it counts as blocks of two tiles, tall on every instruction set.
constexpr int64_t kDenseStrips = 2;

// Time for a weight in blocks of r x c, as a share of one in those of dense: for one batch row, for a few,
// and from kLanes on. Measured by bench/kernels on 300 x 784 and 768 x 768, on one thread and two, AVX2 and
// AVX-512; the largest of these: it is the one where L2 holds all of dense, or each thread's half of it.
// Short blocks leave lanes of the row-major design empty and walk an index for few weights; a few batch rows
// pay for panels of kLanes, where dense goes row-major.
struct Costs {
  double one, few, many;
};

Costs CostsOf(int64_t r, int64_t c) {
  if (FillsGroups(r, c)) {  // a tile of groups up to four or eight batch rows, panels from there on
    if (r == 8) return {1.4, 1.9, 1.2};
    return r == 4 ? Costs{1.7, 2.5, 1.05} : Costs{2.8, 4.2, 1.7};
  }
  if (r >= 8) {
    // Rows beyond the last whole tile are a pass of their own, over parts of lines.
    const double passes = r == 8 || r % 16 == 0 ? 1 : 1.6;
    const double one = c == 1 ? 1.6 * passes : passes;
    if (r >= 32) return {one, passes, 1};
    if (r >= 16) return {one, 1.25 * passes, 1.15};
    return {1.7, 2.1, 1.2};
  }
  if (r == 1) return {6.5, 6, 2.3};
  if (c == 1) return {3.4, 5.4, 2.3};
  // Fits to sides of 3 and 5 to 7: 3.5, 2.1, 1.7, 1.5, and 3.7, 2.5, 2.1, 1.8.
  const auto side = static_cast<double>(std::min(r, c));
  return {10.4 / side, 14.6 / (0.9 + side), r * c < 16 ? 1.7 : 1.05};
}

double CostFor(const Costs& costs, int64_t batch_hint) {
  if (batch_hint == 0) return std::max({costs.one, costs.few, costs.many});
  return batch_hint == 1 ? costs.one : batch_hint < kLanes ? costs.few : costs.many;
}

// Single weights stay as they are: that is CSR, which is there to be compared with.
// Small matrices pay for the padding of dense; the same decision on every instruction set, for the same bits.
bool DenseIsFaster(const BsrView& w, int64_t batch_hint) {
  if (w.r * w.c == 1) return false;
  const double stored = static_cast<double>(w.crow[Ceil(w.n, w.r)]) * static_cast<double>(w.r * w.c);
  const double dense =
      static_cast<double>(Ceil(w.n, kLanes) * kLanes * Ceil(w.k, kDenseColumns) * kDenseColumns);
  return stored * CostFor(CostsOf(w.r, w.c), batch_hint) > dense;
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
  Packing p{rows, w.c, parts, {0}, {}, {}};
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
  Packing p{rows, kDenseColumns, kDenseStrips, {}, {}, Allocate(block_rows * line)};
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

double WeightTime(int64_t r, int64_t c, int64_t m) { return CostFor(CostsOf(r, c), m); }

Packing Pack(const BsrView& matrix, int64_t row_tile, int64_t batch_hint) {
  if (DenseIsFaster(matrix, batch_hint)) return Dense(matrix, DenseRows(matrix.n, row_tile));
  const bool cut = row_tile > 0 && matrix.r > row_tile && matrix.r % row_tile == 0;
  return Strips(matrix, cut ? row_tile : matrix.r);
}

}  // namespace blocksparse
