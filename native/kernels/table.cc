#include "table.h"

namespace blocksparse {

const KernelTable& TableFor(Isa isa) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::kAvx512:
      return kAvx512Table;
    case Isa::kAvx2:
      return kAvx2Table;
#elif defined(__aarch64__)
    case Isa::kNeon:
      return kNeonTable;
#endif
    case Isa::kScalar:
      return kScalarTable;
    default:
      return kPortableTable;
  }
}

}  // namespace blocksparse
