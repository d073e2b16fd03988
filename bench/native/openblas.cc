#include <cblas-openblas.h>

#include "peer.h"

namespace peer {
namespace {

class Gemm : public Product {
 public:
  explicit Gemm(const Problem& p)
      : n_(static_cast<int>(p.n)),
        k_(static_cast<int>(p.k)),
        m_(static_cast<int>(p.m)),
        threads_(p.threads),
        w_(p.w, static_cast<std::size_t>(p.n * p.k)) {}
  void Run(const float* x, float* y) override {
    openblas_set_num_threads(threads_);
    if (m_ == 1) {
      cblas_sgemv(CblasRowMajor, CblasNoTrans, n_, k_, 1, w_.data(), k_, x, 1, 0, y, 1);
    } else {
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m_, n_, k_, 1, x, k_, w_.data(), k_, 0, y, n_);
    }
  }
  std::string Kernel() const override { return m_ == 1 ? "sgemv" : "sgemm"; }

 private:
  int n_, k_, m_, threads_;
  Floats w_;
};

}  // namespace

std::string Version() {
  return std::string(openblas_get_config()) + ", kernels of " + openblas_get_corename();
}
std::unique_ptr<Product> Make(const Problem& problem) { return std::make_unique<Gemm>(problem); }

}  // namespace peer
