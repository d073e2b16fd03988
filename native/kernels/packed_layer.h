// A layer's weights as the forward kernels read them, and the choice between the two designs.
#pragma once

#include <cstdint>
#include <vector>

#include "aligned.h"
#include "table.h"

namespace blocksparse {

struct BsrView {
  int64_t n, k, r, c;
  const int32_t* crow;  // [ceil(n / r) + 1]
  const int32_t* col;
  const float* values;  // [nnzb][r][c]
};

class PackedLayer {
 public:
  // Copies everything: values become k-major, [nnzb][c][r]. `bias` may be null.
  PackedLayer(const KernelTable& table, const BsrView& matrix, const float* bias, Activation activation,
              int threads);

  int64_t n() const { return n_; }
  int64_t k() const { return k_; }
  int threads() const { return threads_; }
  int64_t bytes() const;

  // Whether a batch of m goes through the row-major design, why, and with how many threads.
  bool UsesRows(int64_t m) const;
  const char* Reason(int64_t m) const;
  int ThreadsFor(int64_t m) const;
  // Batch rows that its tiles take at a time in the panel design.
  int64_t TileBatch() const { return table_->tile_batch(r_); }

  // Row-major x[m][k] to y[m][n]; neither may overlap the other.
  void Forward(const float* x, int64_t m, float* y) const;
  void ForwardRows(const float* x, int64_t m, float* y) const;
  // One panel, x[k][width] to y[n][width], for part `part` of `parts` of the block rows.
  void ForwardPanel(const float* x, float* y, int64_t width, int64_t part, int64_t parts) const;

  const KernelTable& table() const { return *table_; }

 private:
  BlockView View() const;

  const KernelTable* table_;
  int64_t n_, k_, r_, c_;
  std::vector<int32_t> ptr_, index_;
  AlignedFloats values_;
  std::vector<float> bias_;
  bool has_bias_;
  Activation activation_;
  int threads_;
};

// Runs layers one after the other on a row-major batch; between them activations stay in panels. A layer
// alone is a chain of one.
void ForwardChain(const PackedLayer* const* layers, int64_t count, const float* x, int64_t m, float* y);

}  // namespace blocksparse
