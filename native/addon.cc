// Registers everything, nothing else.
#include <napi.h>

#include <memory>
#include <string>

#if defined(_WIN32)
#define NOMINMAX
#include <windows.h>
#elif defined(__APPLE__)
#include <dlfcn.h>
#endif

#include "binding/functions.h"
#include "binding/objects.h"
#include "cpu/isa.h"
#include "threads/pool.h"

namespace blocksparse {
namespace {

// (isa): the operations on one instruction set.
Napi::Value Kernels(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string name = info[0].IsString() ? info[0].As<Napi::String>().Utf8Value() : "";
  Isa isa;
  if (!IsaFromName(name.c_str(), &isa) || !IsaAvailable(isa)) {
    throw Napi::RangeError::New(env,
                                "isa must be an instruction set of this machine, but is \"" + name + "\"");
  }
  const KernelTable& table = TableFor(isa);
  void* data = const_cast<KernelTable*>(&table);
  auto result = Napi::Object::New(env);
  DefineFunctions(env, result, table);
  result.Set("packLayer", Napi::Function::New<LayerObject::Create>(env, "packLayer", data));
  result.Set("packChain", Napi::Function::New<ChainObject::Create>(env, "packChain", data));
  result.Set("pattern", Napi::Function::New<PatternObject::Create>(env, "pattern", data));
  return result;
}

// The pool's threads outlive a worker's environment, so the library must stay loaded. The linker says so on
// Linux (-z nodelete).
void StayLoaded() {
#if defined(_WIN32)
  HMODULE module;
  GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_PIN | GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS,
                     reinterpret_cast<LPCWSTR>(&StayLoaded), &module);
#elif defined(__APPLE__)
  Dl_info self;
  if (dladdr(reinterpret_cast<const void*>(&StayLoaded), &self) != 0) {
    dlopen(self.dli_fname, RTLD_LAZY | RTLD_NODELETE);
  }
#endif
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  StayLoaded();
  auto* addon = new Addon(env);
  addon->layer = Napi::Persistent(LayerObject::Define(env));
  addon->chain = Napi::Persistent(ChainObject::Define(env));
  addon->pattern = Napi::Persistent(PatternObject::Define(env));
  env.SetInstanceData(addon);

  auto isas = Napi::Array::New(env);
  for (Isa isa : kIsas) {
    if (IsaAvailable(isa)) isas.Set(isas.Length(), IsaName(isa));
  }
  exports.Set("isas", isas);
  exports.Set("threads", HardwareThreads());
  exports.Set("kernels", Napi::Function::New<Kernels>(env, "kernels"));
  return exports;
}

}  // namespace
}  // namespace blocksparse

static Napi::Object InitBlocksparse(Napi::Env env, Napi::Object exports) {
  return blocksparse::Init(env, exports);
}

NODE_API_MODULE(blocksparse, InitBlocksparse)
