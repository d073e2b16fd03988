// Only this region is compiled for the newer instruction set, and only code of this namespace is inside it:
// a shared inline function compiled here could otherwise be the copy that an older machine runs.
#if defined(__x86_64__)
#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "table.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
// A copy of each loop for a stride of one is a tenth of the code, and the designs have such loops already;
// what is worth vectors is written in them. Nor is a loop to be a call of memcpy: vectors held would be
// saved.
#pragma GCC optimize("no-version-loops-for-strides", "no-tree-loop-vectorize", "no-unswitch-loops", \
                     "no-ipa-cp-clone", "no-tree-loop-distribute-patterns")
#endif

namespace blocksparse {
namespace {
namespace avx2 {
#include "vector_avx2.h"

#include "operations.inl"
#include "short_forward_f32.inl"
}  // namespace avx2
}  // namespace

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

const KernelTable kAvx2Table = avx2::MakeTable(Isa::kAvx2, avx2::ShortOrRowsForward, avx2::TileOfShortOrRows);

}  // namespace blocksparse
#endif
