// The instruction sets a kernel can be built for, and which of them this machine has.
#pragma once

namespace blocksparse {

enum class Isa { kAvx512, kAvx2, kNeon, kPortable, kScalar };
constexpr Isa kIsas[] = {Isa::kAvx512, Isa::kAvx2, Isa::kNeon, Isa::kPortable, Isa::kScalar};  // best first

const char* IsaName(Isa isa);
bool IsaFromName(const char* name, Isa* isa);

// Built into this binary and present on this machine.
bool IsaAvailable(Isa isa);
Isa BestIsa();

// Whether two 512-bit vectors are shuffled a cycle, as they are multiplied: AMD from Zen 5 on. Intel has one
// port for shuffles, Zen 4 halves of vectors.
bool ShufflesFast();

}  // namespace blocksparse
