// Float arrays on cache-line boundaries: a vector load that crosses a line costs two.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace blocksparse {

class AlignedFloats {
 public:
  AlignedFloats() = default;
  explicit AlignedFloats(int64_t count) : count_(count) {
    data_ = static_cast<float*>(::operator new(static_cast<size_t>(count) * sizeof(float), kAlign));
    AdviseHugePages();
  }
  AlignedFloats(AlignedFloats&& other) noexcept { Swap(other); }
  AlignedFloats& operator=(AlignedFloats&& other) noexcept {
    Swap(other);
    return *this;
  }
  ~AlignedFloats() {
    if (data_ != nullptr) ::operator delete(data_, kAlign);
  }

  float* data() { return data_; }
  const float* data() const { return data_; }
  int64_t size() const { return count_; }

  // At least `count` floats; what was there is lost.
  float* Reserve(int64_t count) {
    if (count > count_) Grow(count);
    return data_;
  }

 private:
  static constexpr std::align_val_t kAlign{64};

  // Out of line: calls that have room are many, and short.
  __attribute__((noinline)) void Grow(int64_t count) {
    *this = AlignedFloats();  // not both at a time
    *this = AlignedFloats(count);
  }

  // Weights of many megabytes are more pages of 4 KB than processors keep addresses of, and what fetches
  // ahead stops at each. Huge ones only where they lie wholly inside, so they cost hardly any memory; a
  // system that has none to give is not an error.
  void AdviseHugePages() {
#if defined(__linux__)
    constexpr uintptr_t kHuge = 2 * 1024 * 1024;
    const uintptr_t begin = (reinterpret_cast<uintptr_t>(data_) + kHuge - 1) / kHuge * kHuge;
    const uintptr_t end = reinterpret_cast<uintptr_t>(data_ + count_) / kHuge * kHuge;
    if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
  }
  void Swap(AlignedFloats& other) {
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
  }
  float* data_ = nullptr;
  int64_t count_ = 0;
};

}  // namespace blocksparse
