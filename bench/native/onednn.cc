#include <omp.h>

#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>

#include "peer.h"

namespace peer {
namespace {

using dnnl::memory;

// An inner product whose weights oneDNN has laid out as it likes best for this batch, once.
class InnerProduct : public Product {
 public:
  explicit InnerProduct(const Problem& p)
      : threads_(p.threads), engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {
    omp_set_num_threads(threads_);
    const auto f32 = memory::data_type::f32;
    const memory::desc source({p.m, p.k}, f32, memory::format_tag::ab);
    const memory::desc result({p.m, p.n}, f32, memory::format_tag::ab);
    const memory::desc any({p.n, p.k}, f32, memory::format_tag::any);
    const dnnl::inner_product_forward::primitive_desc description(
        {dnnl::prop_kind::forward_inference, source, any, result}, engine_);
    kernel_ = description.impl_info_str();
    weights_ = memory(description.weights_desc(), engine_);
    memory plain({{p.n, p.k}, f32, memory::format_tag::ab}, engine_, const_cast<float*>(p.w));
    dnnl::reorder(plain, weights_).execute(stream_, plain, weights_);
    stream_.wait();
    product_ = dnnl::inner_product_forward(description);
    source_ = memory(source, engine_, nullptr);
    result_ = memory(result, engine_, nullptr);
    arguments_ = {{DNNL_ARG_SRC, source_}, {DNNL_ARG_WEIGHTS, weights_}, {DNNL_ARG_DST, result_}};
  }
  void Run(const float* x, float* y) override {
    omp_set_num_threads(threads_);
    source_.set_data_handle(const_cast<float*>(x));
    result_.set_data_handle(y);
    product_.execute(stream_, arguments_);
    stream_.wait();
  }
  std::string Kernel() const override { return kernel_; }

 private:
  int threads_;
  dnnl::engine engine_;
  dnnl::stream stream_;
  dnnl::inner_product_forward product_;
  memory weights_, source_, result_;
  std::unordered_map<int, memory> arguments_;
  std::string kernel_;
};

}  // namespace

std::string Version() {
  const dnnl_version_t* v = dnnl_version();
  static const std::unordered_map<int, const char*> kNames = {
      {dnnl_cpu_isa_avx2, "AVX2"},
      {dnnl_cpu_isa_avx512_core, "AVX-512"},
      {dnnl_cpu_isa_avx512_core_vnni, "AVX-512 with VNNI"},
      {dnnl_cpu_isa_avx512_core_bf16, "AVX-512 with bf16"},
  };
  const int isa = static_cast<int>(dnnl::get_effective_cpu_isa());
  const auto name = kNames.find(isa);
  return "oneDNN " + std::to_string(v->major) + '.' + std::to_string(v->minor) + '.' +
         std::to_string(v->patch) + ", " +
         (name == kNames.end() ? "instruction set " + std::to_string(isa) : name->second);
}
std::unique_ptr<Product> Make(const Problem& problem) { return std::make_unique<InnerProduct>(problem); }

}  // namespace peer
