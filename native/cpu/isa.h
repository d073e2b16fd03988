// The instruction sets a kernel can be built for, and which of them this machine has.
#pragma once

namespace blocksparse {

enum class Isa { kScalar, kPortable, kAvx2, kAvx512 };

const char* IsaName(Isa isa);
bool IsaFromName(const char* name, Isa* isa);

// Built into this binary and present on this machine.
bool IsaAvailable(Isa isa);
Isa BestIsa();

}  // namespace blocksparse
