// What a peer implements, and how JavaScript sees it. A peer keeps aligned copies of all operands and is
// timed in a loop of C++: nothing of JavaScript is counted against it.
#pragma once

#include <napi.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <vector>

namespace peer {

// Cache-line aligned, with a spare block at the end for peers that read whole blocks. Zero where not written.
class Floats {
 public:
  explicit Floats(std::size_t size) : size_(size) {
    const std::size_t bytes = ((size + kSpare) * sizeof(float) + 63) / 64 * 64;
    data_.reset(static_cast<float*>(std::aligned_alloc(64, bytes)));
    if (data_ == nullptr) throw std::bad_alloc();
    std::memset(data_.get(), 0, bytes);
  }
  Floats(const float* from, std::size_t size) : Floats(size) {
    std::memcpy(data(), from, size * sizeof(float));
  }
  float* data() { return data_.get(); }
  const float* data() const { return data_.get(); }
  std::size_t size() const { return size_; }

 private:
  static constexpr std::size_t kSpare = 4096;
  struct Free {
    void operator()(float* p) const { std::free(p); }
  };
  std::unique_ptr<float, Free> data_;
  std::size_t size_;
};

// y[m][n] = x[m][k] . w[n][k]^T, all row-major. The sparse peer reads the blocks instead of w.
struct Problem {
  int64_t n, k, m;
  int threads;
  const float* w = nullptr;
  int64_t r = 0, c = 0;
  const int32_t* crow = nullptr;
  const int32_t* col = nullptr;
  const float* values = nullptr;  // [nnzb][r][c]
};

struct Product {
  virtual ~Product() = default;
  virtual void Run(const float* x, float* y) = 0;
  // Which kernel of the library serves this product, where it says so.
  virtual std::string Kernel() const { return ""; }
};

// Each peer's file defines these two. Version: name, version and the kernels it chose for this machine.
std::string Version();
std::unique_ptr<Product> Make(const Problem& problem);

class Wrap : public Napi::ObjectWrap<Wrap> {
 public:
  // ({ n, k, m, threads, x, weight } or { ..., r, c, crow, col, values })
  explicit Wrap(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    const auto given = info[0].As<Napi::Object>();
    const auto number = [&](const char* name) { return given.Get(name).As<Napi::Number>().Int64Value(); };
    Problem problem{number("n"), number("k"), number("m"), static_cast<int>(number("threads"))};
    if (given.Has("weight")) {
      problem.w = given.Get("weight").As<Napi::Float32Array>().Data();
    } else {
      problem.r = number("r");
      problem.c = number("c");
      problem.crow = given.Get("crow").As<Napi::Int32Array>().Data();
      problem.col = given.Get("col").As<Napi::Int32Array>().Data();
      problem.values = given.Get("values").As<Napi::Float32Array>().Data();
    }
    x_ = std::make_unique<Floats>(given.Get("x").As<Napi::Float32Array>().Data(),
                                  static_cast<std::size_t>(problem.m * problem.k));
    y_ = std::make_unique<Floats>(static_cast<std::size_t>(problem.m * problem.n));
    product_ = Make(problem);
  }

  // (calls): milliseconds.
  Napi::Value Run(const Napi::CallbackInfo& info) {
    const int64_t calls = info[0].As<Napi::Number>().Int64Value();
    const auto start = std::chrono::steady_clock::now();
    for (int64_t i = 0; i < calls; ++i) product_->Run(x_->data(), y_->data());
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
    return Napi::Number::New(info.Env(), took.count());
  }

  Napi::Value Result(const Napi::CallbackInfo& info) {
    auto result = Napi::Float32Array::New(info.Env(), y_->size());
    std::memcpy(result.Data(), y_->data(), y_->size() * sizeof(float));
    return result;
  }

  Napi::Value Kernel(const Napi::CallbackInfo& info) {
    return Napi::String::New(info.Env(), product_->Kernel());
  }

 private:
  std::unique_ptr<Floats> x_, y_;
  std::unique_ptr<Product> product_;
};

inline Napi::Object Init(Napi::Env env, Napi::Object exports) {
  exports.Set("version", Version());
  exports.Set("Product", Wrap::DefineClass(env, "Product",
                                           {Wrap::InstanceMethod<&Wrap::Run>("run"),
                                            Wrap::InstanceMethod<&Wrap::Result>("result"),
                                            Wrap::InstanceMethod<&Wrap::Kernel>("kernel")}));
  return exports;
}

}  // namespace peer

using peer::Init;
NODE_API_MODULE(peer, Init)
