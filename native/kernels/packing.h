// The shape in which a layer's blocks are stored for its forward kernels, and the copy.
#pragma once

#include <cstdint>
#include <vector>

#include "aligned.h"

namespace blocksparse {

struct BsrView {
  int64_t n, k, r, c;
  const int32_t* crow;  // [ceil(n / r) + 1]
  const int32_t* col;
  const float* values;  // [nnzb][r][c]
};

// Blocks of r x c, their values k-major: [nnzb][c][r]. Each `strips` block rows were cut from the same
// blocks. `all`: these hold all weights, those of blocks that are gone too.
struct Packing {
  int64_t r, c, strips;
  bool all;
  std::vector<int32_t> ptr, index;
  AlignedFloats values;
};

// The blocks of the matrix, cut into strips of `row_tile` rows where they are taller (KernelTable); or all
// blocks, those that are gone too, in a shape of its own, where so few are gone that this is faster.
// `batch_hint`: the batch that is to be fast; 0: none of 1, 8, 32 and more may be slower than dense.
Packing Pack(const BsrView& matrix, int64_t row_tile, int64_t batch_hint);

// Time for a weight in blocks of r x c at a batch of m, as a share of one where all blocks are kept.
double WeightTime(int64_t r, int64_t c, int64_t m);

}  // namespace blocksparse
