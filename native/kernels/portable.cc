// Plain C++ on the baseline of the compiler: multiply and add, no FMA.
#include <cmath>
#include <cstdint>
#include <cstring>

#include "table.h"

namespace blocksparse {
namespace {
namespace portable {
constexpr int64_t kPlainWidth = 8;
#define PLAIN_FMA(a, b, c) ((a) * (b) + (c))
#include "vector_plain.h"

#include "operations.inl"
}  // namespace portable
}  // namespace

const KernelTable kPortableTable = portable::MakeTable(Isa::kPortable);

}  // namespace blocksparse
