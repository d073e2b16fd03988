// A read-only value with a reference count. std::shared_ptr would do, but its copies raise the glibc floor to
// 2.32 (__libc_single_threaded).
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

namespace blocksparse {

template <typename T>
class Shared {
 public:
  template <typename... Args>
  static Shared Make(Args&&... args) {
    return Shared(new Counted{{1}, T(std::forward<Args>(args)...)});
  }

  Shared(const Shared& other) : counted_(other.counted_) {
    if (counted_ != nullptr) counted_->count.fetch_add(1, std::memory_order_relaxed);
  }
  Shared(Shared&& other) noexcept : counted_(std::exchange(other.counted_, nullptr)) {}
  Shared& operator=(Shared other) noexcept {
    std::swap(counted_, other.counted_);
    return *this;
  }
  ~Shared() {
    // The last holder must see all that the others did before it frees.
    if (counted_ != nullptr && counted_->count.fetch_sub(1, std::memory_order_acq_rel) == 1) delete counted_;
  }

  const T* get() const { return &counted_->value; }
  const T& operator*() const { return counted_->value; }
  const T* operator->() const { return &counted_->value; }

 private:
  struct Counted {
    std::atomic<int64_t> count;
    const T value;
  };
  explicit Shared(Counted* counted) : counted_(counted) {}
  Counted* counted_;
};

}  // namespace blocksparse
