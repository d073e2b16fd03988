// NEON belongs to every aarch64 processor, so this needs no target region: the compiler's baseline has it.
#if defined(__aarch64__)
#include <arm_neon.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "table.h"

namespace blocksparse {
namespace {
namespace neon {
#include "vector_neon.h"

#include "operations.inl"
#include "short_forward_f32.inl"
}  // namespace neon
}  // namespace

const KernelTable kNeonTable = neon::MakeTable(Isa::kNeon, neon::ShortOrRowsForward, neon::TileOfShortOrRows);

}  // namespace blocksparse
#endif
