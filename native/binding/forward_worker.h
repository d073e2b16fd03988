// Products off the event loop, and the turns in which those of one environment run.
#pragma once

#include <napi.h>

#include <deque>
#include <vector>

#include "../kernels/aligned.h"
#include "../kernels/packed_layer.h"
#include "../threads/pool.h"
#include "args.h"
#include "shared.h"

namespace blocksparse {

// Layers are shared by the objects and the products in flight, so that none outlives its weights.
using Layers = std::vector<Shared<PackedLayer>>;

std::vector<const PackedLayer*> Pointers(const Layers& layers);

class ForwardWorker;

// First come, first served. Products that run have the cores between them, so however many are asked for, no
// more threads compute than there are cores: a product alone splits over all it may use, many run side by
// side on fewer each, which is faster than one after the other split.
class Turns {
 public:
  explicit Turns(Napi::Env env)
      : float32_array(Napi::Persistent(env.Global().Get("Float32Array").As<Napi::Function>())) {}
  Turns(const Turns&) = delete;
  Turns& operator=(const Turns&) = delete;
  ~Turns() { Close(); }

  const Napi::FunctionReference float32_array;

  void Add(ForwardWorker* worker);
  void Done(int threads);
  // Drops what waits, for an environment that is being left: no promise can be settled there any more, and it
  // would wait for products that no one gets.
  void Close();

 private:
  // libuv has four threads unless told otherwise, which files and DNS need too.
  static constexpr int kMostRunning = 3;

  void Advance();

  std::deque<ForwardWorker*> waiting_;
  int free_ = HardwareThreads();
  int running_ = 0;
  bool closed_ = false;
};

// A product of m batch rows that finds no memory for its result, or for what it copies.
Napi::RangeError NoMemory(Napi::Env env, int64_t m);

// x is copied before the call returns and the result is filled in on the main thread, so a buffer changed or
// transferred meanwhile harms nothing.
class ForwardWorker : public Napi::AsyncWorker {
 public:
  // A promise of the result. (x, m)
  static Napi::Value Start(Turns& turns, const Layers& layers, const Napi::CallbackInfo& info);
  ~ForwardWorker() override;

 protected:
  void Execute() override;
  void OnOK() override;
  void OnError(const Napi::Error& error) override;

 private:
  friend class Turns;
  void Refuse(const Napi::Error& error);
  ForwardWorker(Napi::Env env, const Layers& layers, const Span<float>& x, int64_t m);

  Napi::Promise::Deferred deferred_;
  Layers layers_;
  std::vector<float> x_;
  AlignedFloats out_;
  int64_t m_;
  // Whose turns it takes, and how many threads it has; none before its turn.
  Turns* turns_ = nullptr;
  int threads_ = 0;
};

}  // namespace blocksparse
