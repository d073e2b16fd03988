#include <blis.h>

#include "peer.h"

namespace peer {
namespace {

class Gemm : public Product {
 public:
  explicit Gemm(const Problem& p)
      : n_(p.n), k_(p.k), m_(p.m), threads_(p.threads), w_(p.w, static_cast<std::size_t>(p.n * p.k)) {}
  void Run(const float* x, float* y) override {
    bli_thread_set_num_threads(threads_);
    float one = 1, zero = 0;
    float* in = const_cast<float*>(x);
    if (m_ == 1) {
      bli_sgemv(BLIS_NO_TRANSPOSE, BLIS_NO_CONJUGATE, n_, k_, &one, w_.data(), k_, 1, in, 1, &zero, y, 1);
    } else {
      bli_sgemm(BLIS_NO_TRANSPOSE, BLIS_TRANSPOSE, m_, n_, k_, &one, in, k_, 1, w_.data(), k_, 1, &zero, y,
                n_, 1);
    }
  }
  std::string Kernel() const override { return m_ == 1 ? "sgemv" : "sgemm"; }

 private:
  dim_t n_, k_, m_, threads_;
  Floats w_;
};

}  // namespace

std::string Version() {
  bli_init();
  return std::string("BLIS ") + bli_info_get_version_str() + ", kernels of " +
         bli_arch_string(bli_arch_query_id());
}
std::unique_ptr<Product> Make(const Problem& problem) { return std::make_unique<Gemm>(problem); }

}  // namespace peer
