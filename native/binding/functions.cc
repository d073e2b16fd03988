#include "functions.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "../kernels/packed_layer.h"
#include "args.h"

namespace blocksparse {
namespace {

const KernelTable& Table(const Napi::CallbackInfo& info) {
  return *static_cast<const KernelTable*>(info.Data());
}

// (length): zeroed, its first element on a cache line.
Napi::Value Allocate(const Napi::CallbackInfo& info) {
  const int64_t length = Integer(info[0], "length", 0, kMaxElements);
  auto buffer = Napi::ArrayBuffer::New(info.Env(), static_cast<std::size_t>(length) * sizeof(float) + 64);
  const auto address = reinterpret_cast<uintptr_t>(buffer.Data());
  return Napi::Float32Array::New(info.Env(), static_cast<std::size_t>(length), buffer,
                                 (64 - address % 64) % 64);
}

// (x, rows, m, k, panels)
void ToPanels(const Napi::CallbackInfo& info) {
  const int64_t m = Integer(info[2], "m", 0, kMaxDimension);
  const int64_t k = Integer(info[3], "k", 0, kMaxDimension);
  const bool gather = !info[1].IsNull() && !info[1].IsUndefined();
  const Span<float> x = Floats(info[0], "x", gather ? -1 : m * k);
  const Span<int32_t> rows = gather ? Ints(info[1], "rows", m) : Span<int32_t>{};
  const Span<float> panels = Floats(info[4], "panels", k * PadBatch(m));
  CheckApart(info.Env(), x, panels);
  const int64_t available = k == 0 ? kMaxDimension : x.size / k;
  for (int64_t panel = 0; panel < PanelCount(m); ++panel) {
    const int64_t first = panel * kPanel;
    const int64_t count = std::min(kPanel, m - first);
    const float* pointers[kPanel];
    for (int64_t i = 0; i < count; ++i) {
      const int64_t row = gather ? rows.data[first + i] : first + i;
      if (row < 0 || row >= available) {
        throw Napi::RangeError::New(info.Env(),
                                    "rows[" + std::to_string(first + i) + "] must be a row of x, from 0 to " +
                                        std::to_string(available - 1) + ", but is " + std::to_string(row));
      }
      pointers[i] = x.data + row * k;
    }
    Table(info).to_panel(pointers, count, k, panels.data + first * k, PanelWidth(m, panel));
  }
}

// (panels, m, n, out)
void FromPanels(const Napi::CallbackInfo& info) {
  const int64_t m = Integer(info[1], "m", 0, kMaxDimension);
  const int64_t n = Integer(info[2], "n", 0, kMaxDimension);
  const Span<float> panels = Floats(info[0], "panels", n * PadBatch(m));
  const Span<float> out = Floats(info[3], "out", m * n);
  CheckApart(info.Env(), panels, out);
  for (int64_t panel = 0; panel < PanelCount(m); ++panel) {
    const int64_t first = panel * kPanel;
    Table(info).from_panel(panels.data + first * n, PanelWidth(m, panel), std::min(kPanel, m - first), n,
                           out.data + first * n, n);
  }
}

// (activation, z, y)
void Activate(const Napi::CallbackInfo& info) {
  const Span<float> z = Floats(info[1], "z", -1);
  const Span<float> y = Floats(info[2], "y", z.size);
  Table(info).activate(ActivationOf(info[0]), z.data, y.data, z.size);
}

// (activation, saved, dy)
void ActivationGradient(const Napi::CallbackInfo& info) {
  const Span<float> saved = Floats(info[1], "saved", -1);
  const Span<float> dy = Floats(info[2], "dy", saved.size);
  Table(info).activation_gradient(ActivationOf(info[0]), saved.data, dy.data, saved.size);
}

// (weight, gradient, first, second, rate, beta1, beta2, epsilon, secondScale, l2, shrink)
void Adam(const Napi::CallbackInfo& info) {
  const Span<float> weight = Floats(info[0], "weight", -1);
  AdamArgs args{};
  args.weight = weight.data;
  args.gradient = Floats(info[1], "gradient", weight.size).data;
  args.first = Floats(info[2], "first", weight.size).data;
  args.second = Floats(info[3], "second", weight.size).data;
  args.count = weight.size;
  args.rate = static_cast<float>(Number(info[4], "learningRate"));
  args.beta1 = static_cast<float>(Number(info[5], "beta1"));
  args.beta2 = static_cast<float>(Number(info[6], "beta2"));
  args.epsilon = static_cast<float>(Number(info[7], "epsilon"));
  args.second_scale = static_cast<float>(Number(info[8], "secondScale"));
  args.l2 = static_cast<float>(Number(info[9], "weightDecay"));
  args.shrink = static_cast<float>(Number(info[10], "shrink"));
  Table(info).adam(args);
}

// (weight, gradient, velocity, rate, momentum, weightDecay)
void Sgd(const Napi::CallbackInfo& info) {
  const Span<float> weight = Floats(info[0], "weight", -1);
  SgdArgs args{};
  args.weight = weight.data;
  args.gradient = Floats(info[1], "gradient", weight.size).data;
  args.velocity = Floats(info[2], "velocity", weight.size).data;
  args.count = weight.size;
  args.rate = static_cast<float>(Number(info[3], "learningRate"));
  args.momentum = static_cast<float>(Number(info[4], "momentum"));
  args.weight_decay = static_cast<float>(Number(info[5], "weightDecay"));
  Table(info).sgd(args);
}

// (weight, rows, cols, r, c, criterion, out)
void ScoreBlocks(const Napi::CallbackInfo& info) {
  BlockScoresArgs args{};
  args.rows = Integer(info[1], "shape[0]", 0, kMaxDimension);
  args.cols = Integer(info[2], "shape[1]", 0, kMaxDimension);
  args.r = Integer(info[3], "blockShape[0]", 1, kMaxBlockSide);
  args.c = Integer(info[4], "blockShape[1]", 1, kMaxBlockSide);
  args.weight = Floats(info[0], "weight", args.rows * args.cols).data;
  args.criterion = CriterionOf(info[5]);
  args.end = (args.rows + args.r - 1) / args.r;
  args.scores = Floats(info[6], "out", args.end * ((args.cols + args.c - 1) / args.c)).data;
  std::vector<float> scratch(static_cast<std::size_t>(ScoreScratch(args.cols)));
  args.scratch = scratch.data();
  Table(info).block_scores(args);
}

// (crow, col, values, n, k, x, m, out): CSR is BSR in blocks of one weight.
void CsrForward(const Napi::CallbackInfo& info) {
  const int64_t n = Integer(info[3], "n", 0, kMaxDimension);
  const int64_t k = Integer(info[4], "k", 0, kMaxDimension);
  const int64_t m = Integer(info[6], "m", 0, kMaxDimension);
  const Span<int32_t> crow = Ints(info[0], "crowIndices", n + 1);
  const Span<int32_t> col = Ints(info[1], "colIndices", -1);
  const Span<float> values = Floats(info[2], "values", col.size);
  CheckIndices(info.Env(), crow, col, k);
  const Span<float> x = Floats(info[5], "x", m * k);
  const Span<float> out = Floats(info[7], "out", m * n);
  CheckApart(info.Env(), x, out);
  const PackedLayer layer(Table(info), {n, k, 1, 1, crow.data, col.data, values.data}, nullptr,
                          Activation::kNone, 1, 0);
  layer.Forward(x.data, m, out.data);
}

}  // namespace

void DefineFunctions(Napi::Env env, Napi::Object target, const KernelTable& table) {
  void* data = const_cast<KernelTable*>(&table);
  target.Set("allocate", Napi::Function::New<Allocate>(env, "allocate", data));
  target.Set("toPanels", Napi::Function::New<ToPanels>(env, "toPanels", data));
  target.Set("fromPanels", Napi::Function::New<FromPanels>(env, "fromPanels", data));
  target.Set("activate", Napi::Function::New<Activate>(env, "activate", data));
  target.Set("activationGradient", Napi::Function::New<ActivationGradient>(env, "activationGradient", data));
  target.Set("adam", Napi::Function::New<Adam>(env, "adam", data));
  target.Set("sgd", Napi::Function::New<Sgd>(env, "sgd", data));
  target.Set("scoreBlocks", Napi::Function::New<ScoreBlocks>(env, "scoreBlocks", data));
  target.Set("csrForward", Napi::Function::New<CsrForward>(env, "csrForward", data));
}

}  // namespace blocksparse
