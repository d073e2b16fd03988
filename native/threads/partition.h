// How block rows are shared out: by the number of stored blocks, not of rows.
#pragma once

#include <cstdint>

namespace blocksparse {

// The first block row of part `part` of `parts`: about part/parts of all work lies before it. A row counts as
// one block beside its own, since an empty one still writes its outputs.
inline int64_t RowSplit(const int32_t* ptr, int64_t rows, int64_t part, int64_t parts) {
  const int64_t target = (int64_t{ptr[rows]} + rows) * part / parts;
  int64_t low = 0, high = rows;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (int64_t{ptr[middle]} + middle < target) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

}  // namespace blocksparse
