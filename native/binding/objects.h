// The objects JavaScript holds: packed layers, chains of them, and training patterns. No arithmetic here.
#pragma once

#include <napi.h>

#include <memory>

#include "../kernels/pattern.h"
#include "forward_worker.h"

namespace blocksparse {

// What this environment (main thread or worker) keeps: constructors, and the turns of its async products.
struct Addon {
  explicit Addon(Napi::Env env) : turns(env) {}

  Napi::FunctionReference layer, chain, pattern;
  Turns turns;
};

class LayerObject : public Napi::ObjectWrap<LayerObject> {
 public:
  static Napi::Function Define(Napi::Env env);
  static Napi::Value Create(const Napi::CallbackInfo& info);
  explicit LayerObject(const Napi::CallbackInfo& info);
  ~LayerObject() override;
  const Shared<PackedLayer>& layer() const { return layers_[0]; }
  // Throws a TypeError for anything but a layer.
  static LayerObject& From(Napi::Value value, const char* name);

 private:
  Napi::Value Forward(const Napi::CallbackInfo& info);
  Napi::Value ForwardAsync(const Napi::CallbackInfo& info);
  Napi::Value Info(const Napi::CallbackInfo& info);
  Layers layers_;
  int64_t external_ = 0;
};

class ChainObject : public Napi::ObjectWrap<ChainObject> {
 public:
  static Napi::Function Define(Napi::Env env);
  static Napi::Value Create(const Napi::CallbackInfo& info);
  explicit ChainObject(const Napi::CallbackInfo& info);

 private:
  Napi::Value Forward(const Napi::CallbackInfo& info);
  Napi::Value ForwardAsync(const Napi::CallbackInfo& info);
  Napi::Value Info(const Napi::CallbackInfo& info);
  Layers layers_;
};

class PatternObject : public Napi::ObjectWrap<PatternObject> {
 public:
  static Napi::Function Define(Napi::Env env);
  static Napi::Value Create(const Napi::CallbackInfo& info);
  explicit PatternObject(const Napi::CallbackInfo& info);

 private:
  Napi::Value Forward(const Napi::CallbackInfo& info);
  Napi::Value InputGradient(const Napi::CallbackInfo& info);
  Napi::Value WeightGradient(const Napi::CallbackInfo& info);
  std::unique_ptr<Pattern> pattern_;
};

}  // namespace blocksparse
