// Runs the products of a network's layers, so that a cache simulator can watch: cache FILE M PASSES.
// FILE is what cache.mjs writes, little-endian int32: the number of layers; of each n, k, r, c and the number
// of blocks, then row pointers, block columns and (float32) values. AVX2 kernels: cachegrind knows no
// AVX-512.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "../../native/kernels/packed_layer.h"

namespace {

template <typename T>
std::vector<T> Read(std::FILE* file, int64_t count) {
  std::vector<T> values(static_cast<std::size_t>(count));
  if (std::fread(values.data(), sizeof(T), values.size(), file) != values.size()) {
    std::fprintf(stderr, "the network's file is too short\n");
    std::exit(2);
  }
  return values;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace blocksparse;
  if (argc != 4) {
    std::fprintf(stderr, "usage: cache FILE M PASSES\n");
    return 2;
  }
  const int64_t m = std::atoll(argv[2]);
  const int64_t passes = std::atoll(argv[3]);
  if (!IsaAvailable(Isa::kAvx2)) {
    std::fprintf(stderr, "no AVX2 here\n");
    return 2;
  }
  std::FILE* file = std::fopen(argv[1], "rb");
  if (file == nullptr) {
    std::perror(argv[1]);
    return 2;
  }
  std::vector<PackedLayer> layers;
  const int32_t count = Read<int32_t>(file, 1)[0];
  for (int32_t l = 0; l < count; ++l) {
    const auto size = Read<int32_t>(file, 5);
    const auto crow = Read<int32_t>(file, (size[0] + size[2] - 1) / size[2] + 1);
    const auto col = Read<int32_t>(file, size[4]);
    const auto values = Read<float>(file, int64_t{size[4]} * size[2] * size[3]);
    const BsrView matrix{size[0], size[1], size[2], size[3], crow.data(), col.data(), values.data()};
    layers.emplace_back(TableFor(Isa::kAvx2), matrix, nullptr, Activation::kRelu, 1, 0);
  }
  std::fclose(file);
  std::vector<const PackedLayer*> chain;
  for (const auto& layer : layers) chain.push_back(&layer);
  std::vector<float> x(static_cast<std::size_t>(layers.front().k() * m));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 7 % 13) / 13.0f;
  std::vector<float> y(static_cast<std::size_t>(layers.back().n() * m));
  for (int64_t pass = 0; pass < passes; ++pass) {
    ForwardChain(chain.data(), count, x.data(), m, y.data());
  }
  double sum = 0;
  for (const float value : y) sum += value;
  return std::isfinite(sum) ? 0 : 1;
}
