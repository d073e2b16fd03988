#include "isa.h"

#include <cstring>

namespace blocksparse {

const char* IsaName(Isa isa) {
  switch (isa) {
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kNeon:
      return "neon";
    case Isa::kPortable:
      return "portable";
    case Isa::kScalar:
      return "scalar";
  }
  return "unknown";
}

bool IsaFromName(const char* name, Isa* isa) {
  for (Isa candidate : kIsas) {
    if (std::strcmp(name, IsaName(candidate)) == 0) {
      *isa = candidate;
      return true;
    }
  }
  return false;
}

bool IsaAvailable(Isa isa) {
#if defined(__x86_64__)
  // libgcc's test includes whether the operating system saves the registers.
  __builtin_cpu_init();
  if (isa == Isa::kAvx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (isa == Isa::kAvx512) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
  }
#elif defined(__aarch64__)
  if (isa == Isa::kNeon) return true;  // part of the architecture
#endif
  return isa == Isa::kScalar || isa == Isa::kPortable;
}

Isa BestIsa() {
  for (Isa isa : kIsas) {
    if (IsaAvailable(isa)) return isa;
  }
  return Isa::kPortable;
}

bool ShufflesFast() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  // Of AMD's, only those have this.
  return __builtin_cpu_is("amd") && __builtin_cpu_supports("avx512vp2intersect");
#else
  return false;
#endif
}

}  // namespace blocksparse
