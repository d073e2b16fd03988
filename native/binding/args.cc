#include "args.h"

#include <cstring>

namespace blocksparse {
namespace {

template <typename T>
Span<T> TypedArray(Napi::Value value, const char* name, napi_typedarray_type wanted, const char* kind,
                   int64_t size) {
  const Napi::Env env = value.Env();
  bool typed = false;
  napi_is_typedarray(env, value, &typed);
  napi_typedarray_type type = napi_int8_array;
  std::size_t length = 0;
  void* data = nullptr;
  if (typed) napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr);
  if (!typed || type != wanted) throw Napi::TypeError::New(env, std::string(name) + " must be a " + kind);
  if (size >= 0 && static_cast<int64_t>(length) != size) {
    throw Napi::RangeError::New(env, std::string(name) + " must be a " + kind + " of " +
                                         std::to_string(size) + " elements, but has " +
                                         std::to_string(length));
  }
  return {static_cast<T*>(data), static_cast<int64_t>(length)};
}

int OneOf(Napi::Value value, const char* name, const char* const* allowed, int count) {
  const Napi::Env env = value.Env();
  if (value.IsString()) {
    const std::string given = value.As<Napi::String>().Utf8Value();
    for (int i = 0; i < count; ++i) {
      if (given == allowed[i]) return i;
    }
  }
  std::string message = std::string(name) + " must be one of";
  for (int i = 0; i < count; ++i) message += std::string(i == 0 ? " " : ", ") + allowed[i];
  throw Napi::TypeError::New(env, message);
}

Napi::RangeError IndexError(Napi::Env env, const char* name, int64_t at, const std::string& expected,
                            int64_t given) {
  return Napi::RangeError::New(env, std::string(name) + "[" + std::to_string(at) + "] must be " + expected +
                                        ", but is " + std::to_string(given));
}

}  // namespace

double Number(Napi::Value value, const char* name) {
  if (!value.IsNumber()) throw Napi::TypeError::New(value.Env(), std::string(name) + " must be a number");
  return value.As<Napi::Number>().DoubleValue();
}

int64_t Integer(Napi::Value value, const char* name, int64_t min, int64_t max) {
  const double number = Number(value, name);
  if (!(number >= static_cast<double>(min) && number <= static_cast<double>(max)) ||
      number != static_cast<double>(static_cast<int64_t>(number))) {
    throw Napi::RangeError::New(value.Env(), std::string(name) + " must be a whole number from " +
                                                 std::to_string(min) + " to " + std::to_string(max) +
                                                 ", but is " + value.ToString().Utf8Value());
  }
  return static_cast<int64_t>(number);
}

Span<float> Floats(Napi::Value value, const char* name, int64_t size) {
  return TypedArray<float>(value, name, napi_float32_array, "Float32Array", size);
}

Span<int32_t> Ints(Napi::Value value, const char* name, int64_t size) {
  return TypedArray<int32_t>(value, name, napi_int32_array, "Int32Array", size);
}

Span<float> OptionalFloats(Napi::Value value, const char* name, int64_t size) {
  if (value.IsNull() || value.IsUndefined()) return {};
  return Floats(value, name, size);
}

Activation ActivationOf(Napi::Value value) {
  static const char* const kNames[] = {"none", "relu", "gelu", "silu", "sigmoid", "tanh"};
  return static_cast<Activation>(OneOf(value, "activation", kNames, 6));
}

Criterion CriterionOf(Napi::Value value) {
  static const char* const kNames[] = {"mean-abs", "l1", "l2", "max-abs"};
  return static_cast<Criterion>(OneOf(value, "criterion", kNames, 4));
}

void CheckIndices(Napi::Env env, const Span<int32_t>& crow, const Span<int32_t>& col, int64_t cols) {
  if (crow.data[0] != 0) throw IndexError(env, "crowIndices", 0, "0", crow.data[0]);
  for (int64_t row = 0; row + 1 < crow.size; ++row) {
    const int32_t begin = crow.data[row];
    const int32_t end = crow.data[row + 1];
    if (end < begin || end > col.size) {
      throw IndexError(env, "crowIndices", row + 1,
                       "from " + std::to_string(begin) + " to " + std::to_string(col.size), end);
    }
    int32_t previous = -1;
    for (int32_t e = begin; e < end; ++e) {
      if (col.data[e] <= previous || col.data[e] >= cols) {
        throw IndexError(
            env, "colIndices", e,
            "greater than " + std::to_string(previous) + " and less than " + std::to_string(cols),
            col.data[e]);
      }
      previous = col.data[e];
    }
  }
  if (crow.data[crow.size - 1] != col.size) {
    throw IndexError(env, "crowIndices", crow.size - 1,
                     std::to_string(col.size) + ", the number of colIndices", crow.data[crow.size - 1]);
  }
}

void CheckApart(Napi::Env env, const Span<float>& x, const Span<float>& out) {
  if (x.size > 0 && out.size > 0 && x.data < out.data + out.size && out.data < x.data + x.size) {
    throw Napi::RangeError::New(env, "out must be memory apart from x, but overlaps it");
  }
}

}  // namespace blocksparse
