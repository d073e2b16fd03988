// The kernels of AVX-512, their tiles and their choices, on vectors of 16 floats in plain C++: what else than
// its own instructions can be wrong shows on any machine with AVX2. Wants -Wno-psabi: vectors that no
// register holds are passed within this file alone.
#if defined(EMULATED_AVX512)
#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "../../native/kernels/table.h"

#pragma GCC push_options
#pragma GCC target("avx2,fma")
// It is the compiler that takes long.
#pragma GCC optimize("O1")

namespace blocksparse {
namespace {
namespace avx512 {
constexpr int64_t kPlainWidth = 16;
constexpr int kPlainRegisters = 32;
constexpr bool kPlainUnrolled = true;
using Sixteen = float __attribute__((vector_size(64)));
inline Sixteen FusedHalves(Sixteen a, Sixteen b, Sixteen c) {
  __m256 x[2], y[2], z[2];
  std::memcpy(x, &a, sizeof a);
  std::memcpy(y, &b, sizeof b);
  std::memcpy(z, &c, sizeof c);
  for (int half = 0; half < 2; ++half) z[half] = _mm256_fmadd_ps(x[half], y[half], z[half]);
  std::memcpy(&c, z, sizeof c);
  return c;
}
#define PLAIN_FMA(a, b, c) FusedHalves(a, b, c)
#include "../../native/kernels/vector_plain.h"

#include "../../native/kernels/operations.inl"
#include "../../native/kernels/short_forward_f32.inl"
}  // namespace avx512
}  // namespace

#pragma GCC pop_options

namespace {
namespace avx512 {
#include "../../native/kernels/halves_forward_f32.inl"
}  // namespace avx512
}  // namespace

extern const KernelTable kEmulatedAvx512Table;
const KernelTable kEmulatedAvx512Table =
    avx512::MakeTable(Isa::kAvx512, avx512::HalvesOrRowsForward, avx512::TileOfHalvesOrRows);

}  // namespace blocksparse
#endif
