// Float arrays on cache-line boundaries: a vector load that crosses a line costs two.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

namespace blocksparse {

class AlignedFloats {
 public:
  AlignedFloats() = default;
  explicit AlignedFloats(int64_t count) : count_(count) {
    data_ = static_cast<float*>(::operator new(static_cast<size_t>(count) * sizeof(float), kAlign));
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
    if (count > count_) *this = AlignedFloats(count);
    return data_;
  }

 private:
  static constexpr std::align_val_t kAlign{64};
  void Swap(AlignedFloats& other) {
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
  }
  float* data_ = nullptr;
  int64_t count_ = 0;
};

}  // namespace blocksparse
