// Registers everything, nothing else.
#include <napi.h>

#include <memory>
#include <string>

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

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  auto* addon = new Addon();
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
