#include "forward_worker.h"

#include <algorithm>
#include <cstddef>
#include <new>
#include <string>

namespace blocksparse {

std::vector<const PackedLayer*> Pointers(const Layers& layers) {
  std::vector<const PackedLayer*> pointers;
  for (const auto& layer : layers) pointers.push_back(layer.get());
  return pointers;
}

Napi::RangeError NoMemory(Napi::Env env, int64_t m) {
  return Napi::RangeError::New(
      env, "x must be a batch whose product fits in memory, beside those that wait; " + std::to_string(m) +
               " rows do not");
}

void Turns::Add(ForwardWorker* worker) {
  waiting_.push_back(worker);
  Advance();
}

void Turns::Done(int threads) {
  free_ += threads;
  --running_;
  Advance();
}

void Turns::Close() {
  closed_ = true;
  for (ForwardWorker* worker : waiting_) delete worker;
  waiting_.clear();
}

void Turns::Advance() {
  while (!closed_ && free_ > 0 && running_ < kMostRunning && !waiting_.empty()) {
    ForwardWorker* next = waiting_.front();
    int most = 1;
    for (const auto& layer : next->layers_) most = std::max(most, layer->ThreadsFor(next->m_));
    const int others = std::min(static_cast<int>(waiting_.size()), kMostRunning - running_);
    const int share = std::max(1, free_ / others);
    waiting_.pop_front();
    next->turns_ = this;
    next->threads_ = std::min(most, share);
    free_ -= next->threads_;
    ++running_;
    next->Queue();
  }
}

Napi::Value ForwardWorker::Start(Turns& turns, const Layers& layers, const Napi::CallbackInfo& info) {
  const int64_t m = Integer(info[1], "m", 0, kMaxDimension);
  const Span<float> x = Floats(info[0], "x", m * layers.front()->k());
  ForwardWorker* worker = nullptr;
  try {
    worker = new ForwardWorker(info.Env(), layers, x, m);
  } catch (const std::bad_alloc&) {
    throw NoMemory(info.Env(), m);
  }
  const Napi::Promise promise = worker->deferred_.Promise();
  turns.Add(worker);
  return promise;
}

// The result's memory is not touched here: its first touch costs more than the copy of x.
ForwardWorker::ForwardWorker(Napi::Env env, const Layers& layers, const Span<float>& x, int64_t m)
    : AsyncWorker(env, "blocksparse.forward"),
      deferred_(Napi::Promise::Deferred::New(env)),
      layers_(layers),
      x_(x.data, x.data + x.size),
      out_(m * layers.back()->n()),
      m_(m) {}

ForwardWorker::~ForwardWorker() {
  if (turns_ != nullptr) turns_->Done(threads_);
}

void ForwardWorker::Execute() {
  const ThreadLimit limit(threads_);
  const auto pointers = Pointers(layers_);
  ForwardChain(pointers.data(), static_cast<int64_t>(pointers.size()), x_.data(), m_, out_.data());
}

void ForwardWorker::OnOK() {
  try {
    // By the constructor, which throws where there is no memory: Node-API's own function ends the process.
    const Napi::Object made =
        turns_->float32_array.New({Napi::Number::New(Env(), static_cast<double>(out_.size()))});
    auto result = made.As<Napi::Float32Array>();
    std::copy(out_.data(), out_.data() + out_.size(), result.Data());
    deferred_.Resolve(result);
  } catch (const Napi::Error& error) {
    Refuse(error);
  }
}

// Nothing else fails while it runs.
void ForwardWorker::OnError(const Napi::Error&) { Refuse(NoMemory(Env(), m_)); }

void ForwardWorker::Refuse(const Napi::Error& error) {
  try {
    deferred_.Reject(error.Value());
  } catch (const Napi::Error&) {
    turns_->Close();
  }
}

}  // namespace blocksparse
