// Only this region is compiled for the newer instruction set, and only code of this namespace is inside it:
// a shared inline function compiled here could otherwise be the copy that an older machine runs.
#if defined(__x86_64__)
#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "table.h"

#if defined(__GNUC__) && !defined(__clang__)
// GCC 12 takes its own _mm512_undefined_ps for a mistake of ours (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")
// A copy of each loop for a stride of one is a tenth of the code, and the designs have such loops already;
// what is worth vectors is written in them. Nor is a loop to be a call of memcpy: vectors held would be
// saved.
#pragma GCC optimize("no-version-loops-for-strides", "no-tree-loop-vectorize", "no-unswitch-loops", \
                     "no-ipa-cp-clone", "no-tree-loop-distribute-patterns")
#endif

namespace blocksparse {
namespace {
namespace avx512 {
#include "vector_avx512.h"

#include "operations.inl"
#include "short_forward_f32.inl"
}  // namespace avx512
}  // namespace

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

namespace {
namespace avx512 {
#include "halves_forward_f32.inl"
}  // namespace avx512
}  // namespace

const KernelTable kAvx512Table =
    avx512::MakeTable(Isa::kAvx512, avx512::HalvesOrRowsForward, avx512::TileOfHalvesOrRows);

}  // namespace blocksparse
#endif
