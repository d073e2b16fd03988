// The structure of a block-sparse weight in training: the forward product, its transpose, and the weight
// gradient sampled at the kept blocks, all on the caller's values [nnzb][r][c].
#pragma once

#include <cstdint>
#include <vector>

#include "table.h"

namespace blocksparse {

class Pattern {
 public:
  Pattern(const KernelTable& table, int64_t n, int64_t k, int64_t r, int64_t c, const int32_t* crow,
          const int32_t* col, int threads);

  int64_t n() const { return n_; }
  int64_t k() const { return k_; }
  int64_t value_count() const { return static_cast<int64_t>(col_.size()) * r_ * c_; }

  // Panels in and out; m batch rows.
  void Forward(const float* values, const float* bias, Activation activation, const float* x, int64_t m,
               float* y) const;
  void InputGradient(const float* values, const float* dy, int64_t m, float* dx) const;
  void WeightGradient(const float* dy, const float* x, int64_t m, float* gradient,
                      float* bias_gradient) const;

 private:
  int ThreadsFor(int64_t m) const;

  const KernelTable* table_;
  int64_t n_, k_, r_, c_;
  std::vector<int32_t> crow_, col_;
  std::vector<int32_t> ccol_, row_, block_;  // the transposed walk: block columns, their rows, which block
  int threads_;
};

}  // namespace blocksparse
