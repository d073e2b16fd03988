// Plain C++ on the baseline of the compiler: multiply and add, no FMA.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "table.h"

// GCC's loop vectoriser works across the vectors of a tile and spills them all: three times the code at a
// quarter of the speed. Lanes are vectorised without it. Nor are copies needed, of each loop for a stride of
// one and of functions for some arguments.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-tree-loop-vectorize", "no-version-loops-for-strides", "no-ipa-cp-clone")
#endif

namespace blocksparse {
namespace {
namespace portable {
constexpr int64_t kPlainWidth = 4;
constexpr int kPlainRegisters = 16;
constexpr bool kPlainUnrolled = false;
#define PLAIN_FMA(a, b, c) ((a) * (b) + (c))
#include "vector_plain.h"

#include "operations.inl"
#include "short_forward_f32.inl"
}  // namespace portable
}  // namespace

const KernelTable kPortableTable =
    portable::MakeTable(Isa::kPortable, portable::ShortOrRowsForward, portable::TileOfShortOrRows);

}  // namespace blocksparse
