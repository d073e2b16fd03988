// Checked arguments: a value from JavaScript becomes a pointer and a length, or a TypeError or RangeError
// that names it. Typed arrays are read through napi_get_typedarray_info alone, so views of a
// SharedArrayBuffer work and a detached one has length 0.
#pragma once

#include <napi.h>

#include <cstdint>
#include <string>

#include "../kernels/table.h"

namespace blocksparse {

constexpr int64_t kMaxDimension = 1 << 24;
constexpr int64_t kMaxBlockSide = 4096;
constexpr int64_t kMaxElements = int64_t{1} << 31;

template <typename T>
struct Span {
  T* data = nullptr;
  int64_t size = 0;
};

int64_t Integer(Napi::Value value, const char* name, int64_t min, int64_t max);
double Number(Napi::Value value, const char* name);
// size < 0: any length.
Span<float> Floats(Napi::Value value, const char* name, int64_t size);
Span<int32_t> Ints(Napi::Value value, const char* name, int64_t size);
// null and undefined give an empty span.
Span<float> OptionalFloats(Napi::Value value, const char* name, int64_t size);
Activation ActivationOf(Napi::Value value);
Criterion CriterionOf(Napi::Value value);

// crow starts at 0, never falls and ends at the number of columns; columns rise within a row, in [0, cols).
void CheckIndices(Napi::Env env, const Span<int32_t>& crow, const Span<int32_t>& col, int64_t cols);
// x and out share no byte.
void CheckApart(Napi::Env env, const Span<float>& x, const Span<float>& out);

}  // namespace blocksparse
