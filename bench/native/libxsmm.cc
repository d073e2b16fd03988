#include <libxsmm.h>

#include <stdexcept>
#include <utility>

#include "peer.h"

namespace peer {
namespace {

using Reduce = libxsmm_smmfunction_reducebatch_offs;

Reduce Dispatch(int64_t r, int64_t m, int64_t c, int64_t lda, int64_t ldb, int64_t ldc, float beta) {
  const libxsmm_blasint a = static_cast<int>(lda), b = static_cast<int>(ldb), y = static_cast<int>(ldc);
  const float alpha = 1;
  const Reduce kernel =
      libxsmm_smmdispatch_reducebatch_offs(static_cast<int>(r), static_cast<int>(m), static_cast<int>(c), &a,
                                           &b, &y, &alpha, &beta, nullptr, nullptr);
  if (kernel == nullptr) throw std::runtime_error("LIBXSMM makes no kernel of this size");
  return kernel;
}

// A batch-reduce product over the blocks that are left, one call a block row. Row-major x and y are LIBXSMM's
// column-major operands as they lie: y[r x m] = sum of w[r x c] . x[c x m]. Blocks on the last column read
// past a row of x, into the next, against zero weights.
class BlockRows : public Product {
 public:
  explicit BlockRows(const Problem& p)
      : n_(p.n),
        m_(p.m),
        r_(p.r),
        rows_((p.n + p.r - 1) / p.r),
        threads_(p.threads),
        crow_(p.crow, p.crow + rows_ + 1),
        w_(static_cast<std::size_t>(crow_.back() * p.r * p.c)),
        whole_(Dispatch(p.r, p.m, p.c, p.r, p.k, p.n, 0)),
        last_(Dispatch(p.n - (rows_ - 1) * p.r, p.m, p.c, p.r, p.k, p.n, 0)) {
    for (int64_t e = 0; e < crow_.back(); ++e) {
      for (int64_t i = 0; i < p.r; ++i) {
        for (int64_t j = 0; j < p.c; ++j) {
          w_.data()[(e * p.c + j) * p.r + i] = p.values[(e * p.r + i) * p.c + j];
        }
      }
      blocks_.push_back(static_cast<unsigned long long>(e * p.r * p.c) * sizeof(float));
      columns_.push_back(static_cast<unsigned long long>(p.col[e] * p.c) * sizeof(float));
    }
  }
  void Run(const float* x, float* y) override {
    // Halves by the number of blocks, as evenly as whole rows allow.
#pragma omp parallel for num_threads(threads_) schedule(static, 1) if (threads_ > 1)
    for (int part = 0; part < threads_; ++part) {
      const int64_t begin = Split(part), end = Split(part + 1);
      for (int64_t row = begin; row < end; ++row) Row(row, x, y);
    }
  }

 private:
  int64_t Split(int64_t part) const {
    int64_t row = 0;
    while (row < rows_ && crow_[static_cast<std::size_t>(row)] * threads_ < crow_.back() * part) ++row;
    return part == threads_ ? rows_ : row;
  }
  void Row(int64_t row, const float* x, float* y) const {
    const auto first = static_cast<std::size_t>(crow_[static_cast<std::size_t>(row)]);
    const auto count = static_cast<unsigned long long>(crow_[static_cast<std::size_t>(row) + 1]) - first;
    if (count == 0) {
      const int64_t height = row == rows_ - 1 ? n_ - row * r_ : r_;
      for (int64_t s = 0; s < m_; ++s) {
        std::memset(y + s * n_ + row * r_, 0, static_cast<std::size_t>(height) * sizeof(float));
      }
      return;
    }
    (row == rows_ - 1 ? last_ : whole_)(w_.data(), x, y + row * r_, &count, blocks_.data() + first,
                                        columns_.data() + first);
  }

  int64_t n_, m_, r_, rows_;
  int threads_;
  std::vector<int64_t> crow_;
  Floats w_;
  Reduce whole_, last_;
  std::vector<unsigned long long> blocks_, columns_;
};

}  // namespace

std::string Version() {
  libxsmm_init();
  return std::string("LIBXSMM ") + LIBXSMM_VERSION + ", BRGEMM for " + libxsmm_get_target_arch();
}
std::unique_ptr<Product> Make(const Problem& problem) { return std::make_unique<BlockRows>(problem); }

}  // namespace peer
