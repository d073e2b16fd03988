#include "objects.h"

#include <algorithm>
#include <cstddef>
#include <new>

#include "args.h"

namespace blocksparse {
namespace {

// Marks layer objects, so that another wrapped object given in their place is refused; by the address of a
// variable also a layer of another copy or version of this library in the same process.
napi_type_tag LayerTag() {
  static const char here = 0;
  return {0x6b1f0c2d9a7e4f35, static_cast<uint64_t>(reinterpret_cast<uintptr_t>(&here))};
}

const KernelTable& TableOf(const Napi::CallbackInfo& info) {
  if (info.Length() == 0 || !info[0].IsExternal()) {
    throw Napi::TypeError::New(info.Env(), "this class is not to be constructed directly");
  }
  return *info[0].As<Napi::External<KernelTable>>().Data();
}

struct Structure {
  int64_t n, k, r, c;
  Span<int32_t> crow, col;
};

// n, k, r, c, crow, col at info[first..]
Structure StructureOf(const Napi::CallbackInfo& info, std::size_t first) {
  Structure s{};
  s.n = Integer(info[first], "shape[0]", 0, kMaxDimension);
  s.k = Integer(info[first + 1], "shape[1]", 0, kMaxDimension);
  s.r = Integer(info[first + 2], "blockShape[0]", 1, kMaxBlockSide);
  s.c = Integer(info[first + 3], "blockShape[1]", 1, kMaxBlockSide);
  if (s.n * s.k > kMaxElements) throw Napi::RangeError::New(info.Env(), "shape has too many elements");
  s.crow = Ints(info[first + 4], "crowIndices", (s.n + s.r - 1) / s.r + 1);
  s.col = Ints(info[first + 5], "colIndices", -1);
  CheckIndices(info.Env(), s.crow, s.col, (s.k + s.c - 1) / s.c);
  return s;
}

int64_t BatchOf(Napi::Value value) { return Integer(value, "m", 0, kMaxDimension); }

void ForwardInto(const Layers& layers, const Napi::CallbackInfo& info) {
  const int64_t m = BatchOf(info[1]);
  const Span<float> x = Floats(info[0], "x", m * layers.front()->k());
  const Span<float> out = Floats(info[2], "out", m * layers.back()->n());
  CheckApart(info.Env(), x, out);
  try {
    if (layers.size() == 1) return layers[0]->Forward(x.data, m, out.data);
    const auto pointers = Pointers(layers);
    ForwardChain(pointers.data(), static_cast<int64_t>(pointers.size()), x.data, m, out.data);
  } catch (const std::bad_alloc&) {
    throw NoMemory(info.Env(), m);
  }
}

// How a chain with such a plan serves a batch of m by one of its layers.
Napi::Object InfoOf(Napi::Env env, const PackedLayer& layer, int64_t m, const ChainPlan& plan) {
  auto result = Napi::Object::New(env);
  result.Set("kernel", plan.rows ? "rows" : "panels");
  result.Set("reason", layer.Reason(m, plan.rows));
  const auto set_pair = [&](const char* name, int64_t first, int64_t second) {
    auto pair = Napi::Array::New(env, 2);
    pair.Set(0u, static_cast<double>(first));
    pair.Set(1u, static_cast<double>(second));
    result.Set(name, pair);
  };
  const Tile tile = layer.TileFor(std::min(m, plan.batch), plan.rows);
  set_pair("tile", tile.outputs, tile.batch);
  set_pair("blockShape", layer.r(), layer.c());
  result.Set("regrouped", layer.regrouped());
  result.Set("packedBytes", static_cast<double>(layer.bytes()));
  result.Set("threads", plan.threads);
  return result;
}

template <typename Object>
Napi::Value Construct(const Napi::CallbackInfo& info, const Napi::FunctionReference& constructor) {
  std::vector<napi_value> args{
      Napi::External<KernelTable>::New(info.Env(), static_cast<KernelTable*>(info.Data()))};
  for (std::size_t i = 0; i < info.Length(); ++i) args.push_back(info[i]);
  return constructor.New(args);
}

}  // namespace

Napi::Function LayerObject::Define(Napi::Env env) {
  return DefineClass(env, "PackedLayer",
                     {InstanceMethod<&LayerObject::Forward>("forward"),
                      InstanceMethod<&LayerObject::ForwardAsync>("forwardAsync"),
                      InstanceMethod<&LayerObject::Info>("info")});
}

Napi::Value LayerObject::Create(const Napi::CallbackInfo& info) {
  return Construct<LayerObject>(info, info.Env().GetInstanceData<Addon>()->layer);
}

// (table, n, k, r, c, crow, col, values, bias, activation, threads, batchHint)
LayerObject::LayerObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  const KernelTable& table = TableOf(info);
  const Structure s = StructureOf(info, 1);
  const Span<float> values = Floats(info[7], "values", s.col.size * s.r * s.c);
  const Span<float> bias = OptionalFloats(info[8], "bias", s.n);
  const int threads = static_cast<int>(Integer(info[10], "threads", 1, 1024));
  const int64_t batch_hint = Integer(info[11], "batchHint", 0, kMaxDimension);
  layers_.push_back(
      Shared<PackedLayer>::Make(table, BsrView{s.n, s.k, s.r, s.c, s.crow.data, s.col.data, values.data},
                                bias.data, ActivationOf(info[9]), threads, batch_hint));
  const napi_type_tag tag = LayerTag();
  info.This().As<Napi::Object>().TypeTag(&tag);
  external_ = layers_[0]->bytes();
  Napi::MemoryManagement::AdjustExternalMemory(info.Env(), external_);
}

LayerObject::~LayerObject() {
  if (external_ > 0) Napi::MemoryManagement::AdjustExternalMemory(Env(), -external_);
}

LayerObject& LayerObject::From(Napi::Value value, const char* name) {
  const napi_type_tag tag = LayerTag();
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&tag)) {
    throw Napi::TypeError::New(value.Env(), std::string(name) + " must be a packed layer of this backend");
  }
  return *Unwrap(value.As<Napi::Object>());
}

Napi::Value LayerObject::Forward(const Napi::CallbackInfo& info) {
  ForwardInto(layers_, info);
  return info.Env().Undefined();
}

Napi::Value LayerObject::ForwardAsync(const Napi::CallbackInfo& info) {
  return ForwardWorker::Start(info.Env().GetInstanceData<Addon>()->turns, layers_, info);
}

Napi::Value LayerObject::Info(const Napi::CallbackInfo& info) {
  const PackedLayer* layer = layers_[0].get();
  const int64_t m = BatchOf(info[0]);
  return InfoOf(info.Env(), *layer, m, PlanChain(&layer, 1, m));
}

Napi::Function ChainObject::Define(Napi::Env env) {
  return DefineClass(env, "PackedChain",
                     {InstanceMethod<&ChainObject::Forward>("forward"),
                      InstanceMethod<&ChainObject::ForwardAsync>("forwardAsync"),
                      InstanceMethod<&ChainObject::Info>("info")});
}

Napi::Value ChainObject::Create(const Napi::CallbackInfo& info) {
  return Construct<ChainObject>(info, info.Env().GetInstanceData<Addon>()->chain);
}

// (table, layers)
ChainObject::ChainObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  TableOf(info);
  if (!info[1].IsArray()) throw Napi::TypeError::New(info.Env(), "layers must be an array");
  const auto list = info[1].As<Napi::Array>();
  if (list.Length() == 0) throw Napi::RangeError::New(info.Env(), "layers must hold at least one layer");
  for (uint32_t i = 0; i < list.Length(); ++i) {
    const std::string name = "layers[" + std::to_string(i) + "]";
    layers_.push_back(LayerObject::From(list.Get(i), name.c_str()).layer());
    if (i > 0 && layers_[i]->k() != layers_[i - 1]->n()) {
      throw Napi::RangeError::New(info.Env(), name + " must have " + std::to_string(layers_[i - 1]->n()) +
                                                  " inputs, but has " + std::to_string(layers_[i]->k()));
    }
  }
}

Napi::Value ChainObject::Forward(const Napi::CallbackInfo& info) {
  ForwardInto(layers_, info);
  return info.Env().Undefined();
}

Napi::Value ChainObject::ForwardAsync(const Napi::CallbackInfo& info) {
  return ForwardWorker::Start(info.Env().GetInstanceData<Addon>()->turns, layers_, info);
}

Napi::Value ChainObject::Info(const Napi::CallbackInfo& info) {
  const auto pointers = Pointers(layers_);
  const int64_t m = BatchOf(info[0]);
  const ChainPlan plan = PlanChain(pointers.data(), static_cast<int64_t>(pointers.size()), m);
  auto result = Napi::Array::New(info.Env(), pointers.size());
  for (uint32_t i = 0; i < pointers.size(); ++i) result.Set(i, InfoOf(info.Env(), *pointers[i], m, plan));
  return result;
}

Napi::Function PatternObject::Define(Napi::Env env) {
  return DefineClass(env, "Pattern",
                     {InstanceMethod<&PatternObject::Forward>("forward"),
                      InstanceMethod<&PatternObject::InputGradient>("inputGradient"),
                      InstanceMethod<&PatternObject::WeightGradient>("weightGradient")});
}

Napi::Value PatternObject::Create(const Napi::CallbackInfo& info) {
  return Construct<PatternObject>(info, info.Env().GetInstanceData<Addon>()->pattern);
}

// (table, n, k, r, c, crow, col, threads)
PatternObject::PatternObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  const KernelTable& table = TableOf(info);
  const Structure s = StructureOf(info, 1);
  const int threads = static_cast<int>(Integer(info[7], "threads", 1, 1024));
  pattern_ = std::make_unique<Pattern>(table, s.n, s.k, s.r, s.c, s.crow.data, s.col.data, threads);
}

// (values, bias, activation, x, m, y)
Napi::Value PatternObject::Forward(const Napi::CallbackInfo& info) {
  const Span<float> values = Floats(info[0], "values", pattern_->value_count());
  const Span<float> bias = OptionalFloats(info[1], "bias", pattern_->n());
  const int64_t m = BatchOf(info[4]);
  const Span<float> x = Floats(info[3], "x", pattern_->k() * PadBatch(m));
  const Span<float> y = Floats(info[5], "y", pattern_->n() * PadBatch(m));
  CheckApart(info.Env(), x, y);
  pattern_->Forward(values.data, bias.data, ActivationOf(info[2]), x.data, m, y.data);
  return info.Env().Undefined();
}

// (values, dy, m, dx)
Napi::Value PatternObject::InputGradient(const Napi::CallbackInfo& info) {
  const Span<float> values = Floats(info[0], "values", pattern_->value_count());
  const int64_t m = BatchOf(info[2]);
  const Span<float> dy = Floats(info[1], "dy", pattern_->n() * PadBatch(m));
  const Span<float> dx = Floats(info[3], "dx", pattern_->k() * PadBatch(m));
  CheckApart(info.Env(), dy, dx);
  pattern_->InputGradient(values.data, dy.data, m, dx.data);
  return info.Env().Undefined();
}

// (dy, x, m, dValues, dBias)
Napi::Value PatternObject::WeightGradient(const Napi::CallbackInfo& info) {
  const int64_t m = BatchOf(info[2]);
  const Span<float> dy = Floats(info[0], "dy", pattern_->n() * PadBatch(m));
  const Span<float> x = Floats(info[1], "x", pattern_->k() * PadBatch(m));
  const Span<float> gradient = Floats(info[3], "dValues", pattern_->value_count());
  const Span<float> bias = OptionalFloats(info[4], "dBias", pattern_->n());
  pattern_->WeightGradient(dy.data, x.data, m, gradient.data, bias.data);
  return info.Env().Undefined();
}

}  // namespace blocksparse
