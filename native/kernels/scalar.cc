// The reference: one lane and a true fused multiply-add, so its bits are those of the FMA instruction sets.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <type_traits>

#include "table.h"

// No one waits for the reference, but everyone downloads it.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("Os")
#endif

namespace blocksparse {
namespace {
namespace scalar {
constexpr int64_t kPlainWidth = 1;
constexpr int kPlainRegisters = 16;
constexpr bool kPlainUnrolled = false;
#define PLAIN_FMA(a, b, c) (Lanes{std::fma((a)[0], (b)[0], (c)[0])})
#include "vector_plain.h"

#include "operations.inl"
#include "short_reference_f32.inl"
}  // namespace scalar
}  // namespace

const KernelTable kScalarTable =
    scalar::MakeTable(Isa::kScalar, scalar::ShortOrRowsForward, scalar::TileOfShortOrRows);

}  // namespace blocksparse
