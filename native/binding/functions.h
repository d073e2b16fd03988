// The operations without state, one function each, on the kernel table chosen when `kernels` was called.
#pragma once

#include <napi.h>

#include "../kernels/table.h"

namespace blocksparse {

void DefineFunctions(Napi::Env env, Napi::Object target, const KernelTable& table);

}  // namespace blocksparse
