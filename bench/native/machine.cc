// What the machine can do at most, measured: multiply-adds from registers alone, those of a kernel's tile
// with operands from L1 and L2, reading from each level of memory, and moving a batch to panels and back.
// Compiler vectors only: no code of the product is in it.
#include <napi.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

namespace {

// Sums side by side: two FMA units of 4 to 5 cycles need at least 10, and 12 fit into 16 registers.
constexpr int kSums = 12;
constexpr int64_t kRounds = 4096;

// Beside as many multiply-adds, this many integer additions: about as many operations a cycle as a kernel
// has, with its loads. Cores that issue six a cycle do them at the rate of multiply-adds alone, narrower ones
// at three quarters of it. While another hardware thread uses the core this is slower, and a loop of
// multiply-adds alone may not be.
constexpr int kAdditions = 18;
constexpr int kCounts = 6;

// `PIN` makes a value opaque: the compiler would merge equal sums, or compute them ahead of time.
#define FMA_LOOP(V, PIN, ADDITIONS)                                                       \
  V sum[kSums] = {};                                                                      \
  V a = V{} + 0.5f, b = V{} + 1e-3f;                                                      \
  int64_t count[kCounts] = {}, step = 1;                                                  \
  for (int i = 0; i < kSums; ++i) asm volatile("" : PIN(sum[i]));                         \
  for (int64_t round = 0; round < kRounds; ++round) {                                     \
    asm volatile("" : PIN(a), PIN(b), "+r"(step));                                        \
    _Pragma("GCC unroll 12") for (int i = 0; i < kSums; ++i) { sum[i] = sum[i] * a + b; } \
    _Pragma("GCC unroll 18") for (int i = 0; i < (ADDITIONS); ++i) {                      \
      count[i % kCounts] += step;                                                         \
      asm volatile("" : "+r"(count[i % kCounts]));                                        \
    }                                                                                     \
  }                                                                                       \
  for (int i = 1; i < kSums; ++i) sum[0] += sum[i];                                       \
  return sum[0][0];

// Of whole eights of vectors: what is left over is not read.
#define READ_LOOP(V)                                                                       \
  constexpr int kLanes = sizeof(V) / sizeof(float);                                        \
  V sum[8] = {};                                                                           \
  for (int64_t i = 0; i + 8 * kLanes <= count; i += 8 * kLanes) {                          \
    for (int j = 0; j < 8; ++j) sum[j] += *reinterpret_cast<const V*>(p + i + j * kLanes); \
  }                                                                                        \
  for (int i = 1; i < 8; ++i) sum[0] += sum[i];                                            \
  return sum[0][0];

// A panel of `rows` batch rows from or to row-major ones, by tiles of 16 rows x 16 columns as transposing
// takes them: 16 lines of the one side, each as it is to one of the other. Columns past the last whole tile
// stay.
#define MOVE_LOOP(V)                                                                   \
  constexpr int64_t kLine = 16;                                                        \
  constexpr int kLanes = sizeof(V) / sizeof(float);                                    \
  for (int64_t lane = 0; lane < rows; lane += kLine) {                                 \
    for (int64_t f = 0; f + kLine <= columns; f += kLine) {                            \
      _Pragma("GCC unroll 16") for (int64_t i = 0; i < kLine; ++i) {                   \
        float* const row = major + (lane + i) * columns + f;                           \
        float* const line = panel + (f + i) * rows + lane;                             \
        _Pragma("GCC unroll 4") for (int64_t part = 0; part < kLine; part += kLanes) { \
          V one;                                                                       \
          std::memcpy(&one, (to_panel ? row : line) + part, sizeof(V));                \
          std::memcpy((to_panel ? line : row) + part, &one, sizeof(V));                \
        }                                                                              \
      }                                                                                \
    }                                                                                  \
  }

// What a tile of R x C vectors does and nothing else: for each column R numbers broadcast, C vectors loaded,
// R x C multiply-adds, what there is less of first; S sums take the columns in turn. So many columns, over
// and over: few come from L1, many from L2, in order. Of more than one run of columns each ends as a tile
// does where a block row ends: its sums go to memory and begin anew. Runs are even, for two sums.
constexpr int64_t kMostColumns = 1024;
constexpr int64_t kMostRows = 24;
constexpr int64_t kMostVectors = 4;
constexpr int64_t kTileColumns = 4096;  // of a call
constexpr int64_t kMostSums = 24 * 16;
constexpr int64_t kOutputs = 64;  // tiles of sums, 98 KB: about a panel of outputs
struct Runs {
  const int32_t* columns;
  int64_t count;
  float* outputs;  // [kOutputs][kMostSums]
};
#define TILE_LOOP(V, PIN, R, C, S)                                                               \
  constexpr int kLanes = sizeof(V) / sizeof(float);                                              \
  V sum[S][R][C] = {};                                                                           \
  for (int64_t round = 0; round < kTileColumns / columns; ++round) {                             \
    const float* number = p;                                                                     \
    const float* vector = p + columns * R;                                                       \
    asm volatile("" : "+r"(number), "+r"(vector));                                               \
    for (int64_t run = 0; run < runs.count; ++run) {                                             \
      for (int64_t k = 0; k < runs.columns[run]; k += S) {                                       \
        _Pragma("GCC unroll 2") for (int s = 0; s < S; ++s, number += R, vector += C * kLanes) { \
          if (C > R) {                                                                           \
            V all[R];                                                                            \
            _Pragma("GCC unroll 4") for (int r = 0; r < R; ++r) {                                \
              all[r] = number[r] - V{};                                                          \
              asm("" : PIN(all[r]));                                                             \
            }                                                                                    \
            _Pragma("GCC unroll 4") for (int c = 0; c < C; ++c) {                                \
              V one;                                                                             \
              std::memcpy(&one, vector + c * kLanes, sizeof(V));                                 \
              asm("" : PIN(one));                                                                \
              _Pragma("GCC unroll 4") for (int r = 0; r < R; ++r) sum[s][r][c] += all[r] * one;  \
            }                                                                                    \
          } else {                                                                               \
            V one[C];                                                                            \
            _Pragma("GCC unroll 4") for (int c = 0; c < C; ++c) {                                \
              std::memcpy(&one[c], vector + c * kLanes, sizeof(V));                              \
              asm("" : PIN(one[c]));                                                             \
            }                                                                                    \
            _Pragma("GCC unroll 24") for (int r = 0; r < R; ++r) {                               \
              const V all = number[r] - V{};                                                     \
              _Pragma("GCC unroll 4") for (int c = 0; c < C; ++c) sum[s][r][c] += all * one[c];  \
            }                                                                                    \
          }                                                                                      \
        }                                                                                        \
      }                                                                                          \
      if (runs.count > 1) {                                                                      \
        float* out = runs.outputs + (round * runs.count + run) % kOutputs * kMostSums;           \
        _Pragma("GCC unroll 24") for (int r = 0; r < R; ++r) {                                   \
          _Pragma("GCC unroll 4") for (int c = 0; c < C; ++c) {                                  \
            V all = sum[0][r][c];                                                                \
            sum[0][r][c] = V{};                                                                  \
            if (S > 1) {                                                                         \
              all += sum[S - 1][r][c];                                                           \
              sum[S - 1][r][c] = V{};                                                            \
            }                                                                                    \
            std::memcpy(out + (r * C + c) * kLanes, &all, sizeof(V));                            \
          }                                                                                      \
        }                                                                                        \
      }                                                                                          \
    }                                                                                            \
  }                                                                                              \
  V total = {};                                                                                  \
  for (auto& rows : sum) {                                                                       \
    for (auto& row : rows) {                                                                     \
      for (const V& one : row) total += one;                                                     \
    }                                                                                            \
  }                                                                                              \
  return total[0];

typedef float V4 __attribute__((vector_size(16)));
typedef float V8 __attribute__((vector_size(32)));
typedef float V16 __attribute__((vector_size(64)));

struct Tile {
  int rows, vectors;
  float (*run)(const float* p, int64_t columns, const Runs& runs);
};

struct Isa {
  const char* name;
  int lanes;
  float (*fma)();
  float (*core)();
  float (*read)(const float* p, int64_t count);
  void (*move)(float* major, int64_t rows, int64_t columns, float* panel, bool to_panel);
  std::vector<Tile> tiles;
};

#if defined(__x86_64__)
#define PIN_X(v) "+x"(v)
#define PIN_V(v) "+v"(v)
__attribute__((target("avx512f"))) float Fma512() { FMA_LOOP(V16, PIN_V, 0) }
__attribute__((target("avx512f"))) float Core512() { FMA_LOOP(V16, PIN_V, kAdditions) }
__attribute__((target("avx2,fma"))) float Fma256() { FMA_LOOP(V8, PIN_X, 0) }
__attribute__((target("avx2,fma"))) float Core256() { FMA_LOOP(V8, PIN_X, kAdditions) }
__attribute__((target("sse2"))) float Fma128() { FMA_LOOP(V4, PIN_X, 0) }
__attribute__((target("sse2"))) float Core128() { FMA_LOOP(V4, PIN_X, kAdditions) }
__attribute__((target("avx512f"))) float Read512(const float* p, int64_t count) { READ_LOOP(V16) }
__attribute__((target("avx2,fma"))) float Read256(const float* p, int64_t count) { READ_LOOP(V8) }
__attribute__((target("sse2"))) float Read128(const float* p, int64_t count) { READ_LOOP(V4) }
__attribute__((target("avx512f"))) void Move512(float* major, int64_t rows, int64_t columns, float* panel,
                                                bool to_panel) {
  MOVE_LOOP(V16)
}
__attribute__((target("avx2,fma"))) void Move256(float* major, int64_t rows, int64_t columns, float* panel,
                                                 bool to_panel) {
  MOVE_LOOP(V8)
}
__attribute__((target("sse2"))) void Move128(float* major, int64_t rows, int64_t columns, float* panel,
                                             bool to_panel) {
  MOVE_LOOP(V4)
}
template <int R, int C>
__attribute__((target("avx512f"))) float Tile512(const float* p, int64_t columns, const Runs& runs) {
  // Two sums each, or tiles of two block rows at once: eight sums or more.
  TILE_LOOP(V16, PIN_V, R, C, (R < 4 || (R < 6 && C == 2) ? 2 : 1))
}
template <int R, int C>
__attribute__((target("avx2,fma"))) float Tile256(const float* p, int64_t columns, const Runs& runs) {
  TILE_LOOP(V8, PIN_X, R, C, (R < 4 && C < 4 ? 2 : 1))
}
// Those that most products of the goals go through.
#define TILE512(R, C) \
  { R, C, Tile512<R, C> }
#define TILE256(R, C) \
  { R, C, Tile256<R, C> }
const Isa kIsas[] = {{"avx512",
                      16,
                      Fma512,
                      Core512,
                      Read512,
                      Move512,
                      {TILE512(8, 1), TILE512(16, 1), TILE512(24, 1), TILE512(8, 2), TILE512(12, 2),
                       TILE512(2, 2), TILE512(3, 2), TILE512(4, 2), TILE512(5, 2), TILE512(6, 2),
                       TILE512(4, 4), TILE512(5, 4), TILE512(6, 4)}},
                     {"avx2",
                      8,
                      Fma256,
                      Core256,
                      Read256,
                      Move256,
                      {TILE256(4, 2), TILE256(5, 2), TILE256(6, 2), TILE256(3, 4), TILE256(3, 2)}},
                     {"sse2", 4, Fma128, Core128, Read128, Move128, {}}};

bool Has(const std::string& isa) {
  if (isa == "avx512") return __builtin_cpu_supports("avx512f");
  if (isa == "avx2") return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  return true;
}
#else
#define PIN_W(v) "+w"(v)
float Fma128() { FMA_LOOP(V4, PIN_W, 0) }
float Core128() { FMA_LOOP(V4, PIN_W, kAdditions) }
float Read128(const float* p, int64_t count) { READ_LOOP(V4) }
void Move128(float* major, int64_t rows, int64_t columns, float* panel, bool to_panel) { MOVE_LOOP(V4) }
const Isa kIsas[] = {{"neon", 4, Fma128, Core128, Read128, Move128, {}}};
bool Has(const std::string&) { return true; }
#endif

const Isa& Find(const Napi::Value& name) {
  const std::string wanted = name.As<Napi::String>();
  for (const Isa& isa : kIsas) {
    if (isa.name == wanted && Has(isa.name)) return isa;
  }
  throw Napi::RangeError::New(name.Env(), "no instruction set " + wanted + " here");
}

volatile float sink;

using Floats = std::unique_ptr<float, decltype(&std::free)>;

// So many from the beginning of a page on, written: untouched pages would all be the same page of zeros.
Floats Ones(Napi::Env env, int64_t count) {
  constexpr std::size_t kPage = 4096;
  const std::size_t bytes = (static_cast<std::size_t>(count) * sizeof(float) + kPage - 1) / kPage * kPage;
  Floats floats(static_cast<float*>(std::aligned_alloc(kPage, bytes)), std::free);
  if (floats == nullptr) throw Napi::Error::New(env, "not enough memory");
  std::fill_n(floats.get(), count, 1.0f);
  return floats;
}

// Milliseconds of work(thread) on so many threads at once, the mean of what each takes: they begin together,
// when all have started.
template <typename Work>
Napi::Value Timed(Napi::Env env, int threads, const Work& work) {
  std::vector<double> took(static_cast<std::size_t>(threads));
  std::atomic<int> started{0};
  const auto run = [&](int thread) {
    for (++started; started < threads;) std::this_thread::yield();
    const auto start = std::chrono::steady_clock::now();
    work(thread);
    const std::chrono::duration<double, std::milli> time = std::chrono::steady_clock::now() - start;
    took[static_cast<std::size_t>(thread)] = time.count();
  };
  std::vector<std::thread> others;
  for (int thread = 1; thread < threads; ++thread) others.emplace_back(run, thread);
  run(0);
  for (std::thread& other : others) other.join();
  return Napi::Number::New(env, std::accumulate(took.begin(), took.end(), 0.0) / threads);
}

// (isa, threads, calls): milliseconds of calls * fmaFlops on each thread.
template <float (*Isa::*loop)()>
Napi::Value Fma(const Napi::CallbackInfo& info) {
  const auto run = Find(info[0]).*loop;
  const int64_t calls = info[2].As<Napi::Number>().Int64Value();
  return Timed(info.Env(), info[1].As<Napi::Number>().Int32Value(), [&](int) {
    for (int64_t i = 0; i < calls; ++i) sink = run();
  });
}

// (isa): floating-point operations of one call.
Napi::Value FmaFlops(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), 2.0 * kSums * kRounds * Find(info[0]).lanes);
}

// (isa, rows, vectors, runs, calls): milliseconds of calls * tileFlops of that tile on one thread; runs, an
// Int32Array, of columns.
Napi::Value RunTile(const Napi::CallbackInfo& info) {
  const Isa& isa = Find(info[0]);
  const int rows = info[1].As<Napi::Number>().Int32Value();
  const int vectors = info[2].As<Napi::Number>().Int32Value();
  const auto given = info[3].As<Napi::Int32Array>();
  const auto count = static_cast<int64_t>(given.ElementLength());
  const int64_t columns = std::accumulate(given.Data(), given.Data() + count, int64_t{0});
  const int64_t calls = info[4].As<Napi::Number>().Int64Value();
  const auto tile = std::find_if(isa.tiles.begin(), isa.tiles.end(),
                                 [&](const Tile& one) { return one.rows == rows && one.vectors == vectors; });
  const bool even =
      std::all_of(given.Data(), given.Data() + count, [](int32_t run) { return run > 0 && run % 2 == 0; });
  if (tile == isa.tiles.end() || !even || columns < 1 || columns > kMostColumns ||
      kTileColumns % columns != 0)
    throw Napi::RangeError::New(info.Env(), "no such tile, or no such runs");
  alignas(64) static float data[kMostColumns * (kMostRows + kMostVectors * 16)];
  std::iota(std::begin(data), std::end(data), 0.5f);
  alignas(64) static float outputs[kOutputs * kMostSums];
  const Runs runs{given.Data(), count, outputs};
  return Timed(info.Env(), 1, [&](int) {
    for (int64_t i = 0; i < calls; ++i) sink = tile->run(data, columns, runs);
  });
}

// (isa, rows, vectors): floating-point operations of one call.
Napi::Value TileFlops(const Napi::CallbackInfo& info) {
  const double products = info[1].As<Napi::Number>().DoubleValue() * info[2].As<Napi::Number>().DoubleValue();
  return Napi::Number::New(info.Env(), 2.0 * products * Find(info[0]).lanes * kTileColumns);
}

// (isa, threads, bytes, calls): milliseconds to read the bytes `calls` times on each thread, of its own
// buffer.
Napi::Value Read(const Napi::CallbackInfo& info) {
  const Isa& isa = Find(info[0]);
  const int threads = info[1].As<Napi::Number>().Int32Value();
  const int64_t calls = info[3].As<Napi::Number>().Int64Value();
  const int64_t count = info[2].As<Napi::Number>().Int64Value() / 64 * 16;  // whole lines
  const Floats data = Ones(info.Env(), count * threads);
  const auto read = [&](int thread) {
    for (int64_t i = 0; i < calls; ++i) sink = isa.read(data.get() + thread * count, count);
  };
  for (int thread = 0; thread < threads; ++thread) isa.read(data.get() + thread * count, count);
  return Timed(info.Env(), threads, read);
}

// (isa, panels, rows, k, n, calls): milliseconds to move x of so many panels of batch rows, row-major of k
// columns, to one panel, and a panel of n outputs to as many row-major ones, `calls` times: what a layer
// moves that goes by panels, without transposing. Rows are a multiple of 16.
Napi::Value Move(const Napi::CallbackInfo& info) {
  const Isa& isa = Find(info[0]);
  const auto number = [&](std::size_t i) { return info[i].As<Napi::Number>().Int64Value(); };
  const int64_t panels = number(1), rows = number(2), k = number(3), n = number(4), calls = number(5);
  const Floats x = Ones(info.Env(), panels * rows * k), y = Ones(info.Env(), panels * rows * n);
  const Floats x_panel = Ones(info.Env(), rows * k), y_panel = Ones(info.Env(), rows * n);
  return Timed(info.Env(), 1, [&](int) {
    for (int64_t i = 0; i < calls; ++i) {
      for (int64_t p = 0; p < panels; ++p) {
        isa.move(x.get() + p * rows * k, rows, k, x_panel.get(), true);
        isa.move(y.get() + p * rows * n, rows, n, y_panel.get(), false);
      }
    }
  });
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  auto isas = Napi::Array::New(env);
  for (const Isa& isa : kIsas) {
    if (Has(isa.name)) isas.Set(isas.Length(), isa.name);
  }
  exports.Set("isas", isas);
  // Of each set its lanes and the [rows, vectors] of its tiles.
  auto tiles = Napi::Object::New(env);
  for (const Isa& isa : kIsas) {
    auto shapes = Napi::Array::New(env);
    for (const Tile& tile : isa.tiles) {
      auto shape = Napi::Array::New(env);
      shape.Set(0u, tile.rows);
      shape.Set(1u, tile.vectors);
      shapes.Set(shapes.Length(), shape);
    }
    auto of = Napi::Object::New(env);
    of.Set("lanes", isa.lanes);
    of.Set("shapes", shapes);
    tiles.Set(isa.name, of);
  }
  exports.Set("tiles", tiles);
  exports.Set("fma", Napi::Function::New<Fma<&Isa::fma>>(env));
  // The same beside integer additions.
  exports.Set("core", Napi::Function::New<Fma<&Isa::core>>(env));
  exports.Set("fmaFlops", Napi::Function::New<FmaFlops>(env));
  exports.Set("tile", Napi::Function::New<RunTile>(env));
  exports.Set("tileFlops", Napi::Function::New<TileFlops>(env));
  exports.Set("read", Napi::Function::New<Read>(env));
  exports.Set("move", Napi::Function::New<Move>(env));
  return exports;
}

}  // namespace

NODE_API_MODULE(machine, Init)
