// The kernel suite without Node: every operation of every instruction set this machine has, over random
// shapes and the edges that break kernels, against references in double. It runs where vitest does not: under
// an emulator of another processor, and under the sanitizers. Prints the instruction set that would be chosen
// and those it tested; ends with 0 when all was right. `kernels [random shapes, 400 unless told] [unguarded]`
// Compiled with EMULATED_AVX512 it tests emulated_avx512.cc too, where there is AVX2 and no AVX-512.
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "../../native/cpu/isa.h"
#include "../../native/kernels/packed_layer.h"
#include "../../native/kernels/pattern.h"
#include "../../native/kernels/table.h"
#include "../../native/threads/pool.h"

namespace {
std::atomic<bool> no_memory{false};
std::atomic<int64_t> allocated{0};  // bytes, and the most there were
std::atomic<int64_t> most_allocated{0};
}  // namespace

// What AlignedFloats allocates by.
void* operator new(std::size_t size, std::align_val_t align) {
  const auto to = static_cast<std::size_t>(align);
  void* p = no_memory ? nullptr : std::aligned_alloc(to, (size + to - 1) / to * to);
  if (p == nullptr) throw std::bad_alloc();
  const int64_t all = allocated += static_cast<int64_t>(malloc_usable_size(p));
  if (all > most_allocated) most_allocated = all;
  return p;
}
void operator delete(void* p, std::align_val_t) noexcept {
  allocated -= static_cast<int64_t>(malloc_usable_size(p));
  std::free(p);
}
void operator delete(void* p, std::size_t, std::align_val_t align) noexcept { operator delete(p, align); }

#if defined(EMULATED_AVX512)
namespace blocksparse {
extern const KernelTable kEmulatedAvx512Table;  // emulated_avx512.cc
}
#endif

namespace {

using namespace blocksparse;

constexpr double kEps = 1.0 / (1 << 24);  // half a unit in the last place of 1.0f

// qemu 7.2 reads the masked-off lanes of an AVX load, which real processors leave alone.
bool guarded = true;

[[noreturn]] void Fail(const std::string& what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  std::exit(1);
}

// Floats that end where readable memory ends: a kernel that reads or writes past them dies at once. They
// begin as junk, since a kernel must write every element it owns.
class Floats {
 public:
  explicit Floats(int64_t count) : count_(count) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const auto bytes = static_cast<std::size_t>(count) * sizeof(float);
    const std::size_t whole = (bytes + page - 1) / page * page;
    size_ = whole + page;
    base_ = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base_ == MAP_FAILED) Fail("mmap failed");
    char* const end = static_cast<char*>(base_) + whole;
    if (guarded && mprotect(end, page, PROT_NONE) != 0) Fail("mprotect failed");
    data_ = reinterpret_cast<float*>(end - bytes);
    std::fill(begin(), this->end(), std::numeric_limits<float>::quiet_NaN());
  }
  Floats(const Floats& other) : Floats(other.count_) { std::copy(other.begin(), other.end(), begin()); }
  Floats& operator=(const Floats&) = delete;
  ~Floats() { munmap(base_, size_); }

  float* data() { return data_; }
  const float* data() const { return data_; }
  int64_t size() const { return count_; }
  float* begin() { return data_; }
  float* end() { return data_ + count_; }
  const float* begin() const { return data_; }
  const float* end() const { return data_ + count_; }
  float& operator[](int64_t i) { return data_[i]; }
  float operator[](int64_t i) const { return data_[i]; }
  bool SameBits(const Floats& other) const {
    return count_ == other.count_ &&
           (count_ == 0 || std::memcmp(data_, other.data_, count_ * sizeof(float)) == 0);
  }

 private:
  void* base_;
  std::size_t size_;
  float* data_;
  int64_t count_;
};

// A wanted value and the largest error that any order of float32 operations may leave in it.
struct Wanted {
  double value = 0;
  double bound = 0;
};

using Expected = std::vector<Wanted>;

void ExpectClose(const Floats& actual, const Expected& wanted, const std::string& what) {
  for (int64_t i = 0; i < actual.size(); ++i) {
    const Wanted& w = wanted[static_cast<std::size_t>(i)];
    if (!(std::fabs(actual[i] - w.value) <= w.bound)) {
      Fail(what + ": element " + std::to_string(i) + " is " + std::to_string(actual[i]) + ", not " +
           std::to_string(w.value) + " within " + std::to_string(w.bound * 1e6) + "e-6");
    }
  }
}

class Random {
 public:
  explicit Random(unsigned seed) : engine_(seed) {}
  double Unit() { return engine_() / 4294967296.0; }
  int64_t Below(int64_t n) { return static_cast<int64_t>(Unit() * static_cast<double>(n)); }
  template <std::size_t N>
  int64_t Pick(const int (&list)[N]) {
    return list[Below(N)];
  }
  // Uniform in [-scale, scale).
  Floats Uniform(int64_t count, double scale = 1) {
    Floats floats(count);
    for (float& x : floats) x = static_cast<float>((Unit() * 2 - 1) * scale);
    return floats;
  }

 private:
  std::mt19937 engine_;
};

constexpr Activation kActivations[] = {Activation::kNone, Activation::kRelu,    Activation::kGelu,
                                       Activation::kSilu, Activation::kSigmoid, Activation::kTanh};

double Sigmoid(double z) { return 1 / (1 + std::exp(-z)); }
double NormalCdf(double z) { return 0.5 * std::erfc(-z * std::sqrt(0.5)); }

double Activate(Activation activation, double z) {
  switch (activation) {
    case Activation::kRelu:
      return std::max(z, 0.0);
    case Activation::kGelu:
      return z * NormalCdf(z);
    case Activation::kSilu:
      return z * Sigmoid(z);
    case Activation::kSigmoid:
      return Sigmoid(z);
    case Activation::kTanh:
      return std::tanh(z);
    default:
      return z;
  }
}

// By what the forward pass saved: y for relu, sigmoid and tanh, z for gelu and silu.
double ActivationGradient(Activation activation, double saved) {
  switch (activation) {
    case Activation::kRelu:
      return saved > 0 ? 1 : 0;
    case Activation::kGelu:
      return NormalCdf(saved) + saved * std::exp(-saved * saved / 2) / std::sqrt(2 * std::acos(-1.0));
    case Activation::kSilu:
      return Sigmoid(saved) * (1 + saved * (1 - Sigmoid(saved)));
    case Activation::kSigmoid:
      return saved * (1 - saved);
    case Activation::kTanh:
      return 1 - saved * saved;
    default:
      return 1;
  }
}

struct Shape {
  int64_t n, k, r, c, m;
  double density;
  Activation activation;
};

// One product y = act(x W^T + bias) and its gradients, with what they must give.
struct Case {
  Case(unsigned seed, const Shape& shape)
      : s(shape),
        random(seed),
        weight(random.Uniform(s.n * s.k)),
        bias(random.Uniform(s.n)),
        x(random.Uniform(s.m * s.k)),
        dy(random.Uniform(s.m * s.n)),
        has_bias(random.Unit() < 0.7) {
    name = "[" + std::to_string(s.n) + ", " + std::to_string(s.k) + "] in " + std::to_string(s.r) + "x" +
           std::to_string(s.c) + ", M " + std::to_string(s.m) + ", density " + std::to_string(s.density) +
           ", activation " + std::to_string(static_cast<int>(s.activation)) + ", seed " +
           std::to_string(seed);
    const int64_t rows = (s.n + s.r - 1) / s.r, cols = (s.k + s.c - 1) / s.c;
    std::vector<bool> kept(static_cast<std::size_t>(s.n * s.k));
    crow.push_back(0);
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t column = 0; column < cols; ++column) {
        if (random.Unit() < s.density) Keep(row, column, kept);
      }
      crow.push_back(static_cast<int32_t>(col.size()));
    }
    for (int64_t i = 0; i < s.n * s.k; ++i) {
      if (!kept[static_cast<std::size_t>(i)]) weight[i] = 0;
    }
    Reference();
  }

  BsrView matrix() const { return {s.n, s.k, s.r, s.c, crow.data(), col.data(), values.data()}; }
  const float* bias_or_null() const { return has_bias ? bias.data() : nullptr; }

  Shape s;
  Random random;
  Floats weight, bias, x, dy;
  bool has_bias;
  std::string name;
  std::vector<int32_t> crow, col;
  std::vector<float> values;  // [nnzb][r][c], 0 outside the matrix
  Expected y, dx, dvalues, dbias;

 private:
  void Keep(int64_t row, int64_t column, std::vector<bool>& kept) {
    col.push_back(static_cast<int32_t>(column));
    for (int64_t i = row * s.r; i < (row + 1) * s.r; ++i) {
      for (int64_t j = column * s.c; j < (column + 1) * s.c; ++j) {
        const bool inside = i < s.n && j < s.k;
        values.push_back(inside ? weight[i * s.k + j] : 0.0f);
        if (inside) kept[static_cast<std::size_t>(i * s.k + j)] = true;
      }
    }
  }

  // (terms + 2) * eps * the sum of the absolute products: the bound for a sum in any order.
  void Reference() {
    const auto count = [](int64_t size) { return static_cast<std::size_t>(size); };
    y.resize(count(s.m * s.n));
    dx.resize(count(s.m * s.k));
    dbias.resize(count(s.n));
    Expected dw(count(s.n * s.k));
    for (int64_t b = 0; b < s.m; ++b) {
      for (int64_t o = 0; o < s.n; ++o) {
        const double d = dy[b * s.n + o];
        double z = has_bias ? bias[o] : 0, size = std::fabs(z);
        for (int64_t i = 0; i < s.k; ++i) {
          const double w = weight[o * s.k + i], v = x[b * s.k + i];
          z += w * v;
          size += std::fabs(w * v);
          Add(dx[count(b * s.k + i)], d * w, s.n);
          Add(dw[count(o * s.k + i)], d * v, s.m);
        }
        Add(dbias[count(o)], d, s.m);
        // No activation's slope is above 1.13; its polynomial adds some units in the last place.
        y[count(b * s.n + o)] = {
            Activate(s.activation, z),
            static_cast<double>(s.k + 2) * kEps * size * 1.13 + 16 * kEps * (1 + std::fabs(z))};
      }
    }
    for (std::size_t row = 0; row + 1 < crow.size(); ++row) {
      for (int32_t e = crow[row]; e < crow[row + 1]; ++e) {
        for (int64_t at = 0; at < s.r * s.c; ++at) {
          const int64_t o = static_cast<int64_t>(row) * s.r + at / s.c;
          const int64_t i = col[static_cast<std::size_t>(e)] * s.c + at % s.c;
          dvalues.push_back(o < s.n && i < s.k ? dw[count(o * s.k + i)] : Wanted{});
        }
      }
    }
  }

  static void Add(Wanted& sum, double term, int64_t terms) {
    sum.value += term;
    sum.bound += std::fabs(term) * static_cast<double>(terms + 2) * kEps;
  }
};

// Row-major [m][features] to panels and back, by their definition alone.
int64_t PanelIndex(int64_t row, int64_t feature, int64_t m, int64_t features) {
  const int64_t panel = row / kPanel;
  return panel * kPanel * features + feature * PanelWidth(m, panel) + row % kPanel;
}

Floats Panels(const KernelTable& table, const Floats& rows, int64_t m, int64_t features) {
  Floats panels(features * PadBatch(m));
  for (int64_t panel = 0; panel < PanelCount(m); ++panel) {
    std::vector<const float*> pointers;
    for (int64_t row = panel * kPanel; row < std::min(m, (panel + 1) * kPanel); ++row) {
      pointers.push_back(rows.data() + row * features);
    }
    table.to_panel(pointers.data(), static_cast<int64_t>(pointers.size()), features,
                   panels.data() + panel * kPanel * features, PanelWidth(m, panel));
  }
  for (int64_t row = 0; row < PadBatch(m); ++row) {
    for (int64_t f = 0; f < features; ++f) {
      const float from = row < m ? rows[row * features + f] : 0.0f;
      const float to = panels[PanelIndex(row, f, m, features)];
      if (std::memcmp(&from, &to, sizeof to) != 0) {
        Fail("to_panel: row " + std::to_string(row) + ", feature " + std::to_string(f) + " of " +
             std::to_string(m) + " x " + std::to_string(features));
      }
    }
  }
  return panels;
}

Floats Rows(const KernelTable& table, const Floats& panels, int64_t m, int64_t features) {
  Floats rows(m * features);
  for (int64_t panel = 0; panel < PanelCount(m); ++panel) {
    table.from_panel(panels.data() + panel * kPanel * features, PanelWidth(m, panel),
                     std::min(kPanel, m - panel * kPanel), features, rows.data() + panel * kPanel * features,
                     features);
  }
  for (int64_t row = 0; row < m; ++row) {
    for (int64_t f = 0; f < features; ++f) {
      const float from = panels[PanelIndex(row, f, m, features)], to = rows[row * features + f];
      if (std::memcmp(&from, &to, sizeof to) != 0) Fail("from_panel: row " + std::to_string(row));
    }
  }
  return rows;
}

// What one instruction set computes, to be compared with another's bits.
struct Outputs {
  std::vector<std::pair<std::string, Floats>> all;
  Floats& Make(const std::string& name, int64_t count) {
    all.emplace_back(name, Floats(count));
    return all.back().second;
  }
};

void ExpectSameBits(const Outputs& a, const Outputs& b, const std::string& what) {
  for (std::size_t i = 0; i < a.all.size(); ++i) {
    if (!a.all[i].second.SameBits(b.all[i].second)) Fail(what + ": other bits in " + a.all[i].first);
  }
}

Outputs RunProducts(const KernelTable& table, const Case& c, int threads) {
  Outputs outputs;
  const auto [n, k, r, cols, m, density, activation] = c.s;
  const PackedLayer layer(table, c.matrix(), c.bias_or_null(), activation, threads, 0);
  layer.Forward(c.x.data(), m, outputs.Make("forward", m * n).data());
  // The design that Forward did not choose must be right as well.
  layer.ForwardRows(c.x.data(), m, 0, outputs.Make("rows forward", m * n).data(), 0, threads);
  const Floats x = Panels(table, c.x, m, k), dy = Panels(table, c.dy, m, n);
  Floats packed(n * PadBatch(m)), y(n * PadBatch(m)), dx(k * PadBatch(m));
  for (int64_t panel = 0; panel < PanelCount(m); ++panel) {
    for (int64_t part = 0; part < 3; ++part) {
      layer.ForwardPanel(x.data() + panel * kPanel * k, packed.data() + panel * kPanel * n,
                         PanelWidth(m, panel), layer.PartBegin(part, 3), layer.PartBegin(part + 1, 3));
    }
  }
  const Pattern pattern(table, n, k, r, cols, c.crow.data(), c.col.data(), threads);
  pattern.Forward(c.values.data(), c.bias_or_null(), activation, x.data(), m, y.data());
  pattern.InputGradient(c.values.data(), dy.data(), m, dx.data());
  outputs.all.emplace_back("panel forward", Rows(table, packed, m, n));
  outputs.all.emplace_back("training forward", Rows(table, y, m, n));
  outputs.all.emplace_back("input gradient", Rows(table, dx, m, k));
  Floats dvalues(pattern.value_count()), dbias(n), alone(pattern.value_count());
  pattern.WeightGradient(dy.data(), x.data(), m, dvalues.data(), dbias.data());
  pattern.WeightGradient(dy.data(), x.data(), m, alone.data(), nullptr);
  if (!alone.SameBits(dvalues)) Fail("weight gradient without bias: " + c.name);
  outputs.all.emplace_back("weight gradient", dvalues);
  outputs.all.emplace_back("bias gradient", dbias);
  return outputs;
}

void CheckProducts(const Outputs& outputs, const Case& c, const std::string& isa) {
  const Expected* const wanted[] = {&c.y, &c.y, &c.y, &c.y, &c.dx, &c.dvalues, &c.dbias};
  for (std::size_t i = 0; i < outputs.all.size(); ++i) {
    ExpectClose(outputs.all[i].second, *wanted[i], isa + " " + outputs.all[i].first + " " + c.name);
  }
}

// A NaN or an infinity of one sample reaches its own outputs and no other's.
void CheckStray(const KernelTable& table, const std::string& isa) {
  for (int64_t m : {1, 2, 4, 16, 40}) {
    for (int64_t block : {3, 4, 5, 16, 32}) {
      Case c(7, {37, 41, block, block, m, 1, Activation::kNone});
      c.x[0] = std::numeric_limits<float>::quiet_NaN();
      c.x[40] = std::numeric_limits<float>::infinity();
      const Outputs outputs = RunProducts(table, c, 1);
      for (std::size_t i = 0; i < 4; ++i) {
        for (int64_t at = 0; at < m * 37; ++at) {
          if (std::isfinite(outputs.all[i].second[at]) != (at >= 37)) Fail(isa + " stray NaN, " + c.name);
        }
      }
    }
  }
}

// A thread's part without block rows writes nothing, at an odd row of strips too.
void CheckEmptyPart(const KernelTable& table, const std::string& isa) {
  for (int64_t m : {1, 9, 40}) {
    const Case c(25, {70, 96, 32, 32, m, 1, Activation::kNone});
    const Packing p = Pack(c.matrix(), table.row_tile, 0);
    const BlockView view{p.ptr.data(), p.index.data(), nullptr, p.values.data(), p.r, p.c, 1, p.r, 70, 96};
    for (int64_t row = 0; row < static_cast<int64_t>(p.ptr.size()); ++row) {
      Floats y(m * 70);
      std::fill(y.begin(), y.end(), 7.0f);
      table.rows_forward(
          {view, p.strips, nullptr, Activation::kNone, c.x.data(), y.data(), m, row, row, nullptr, 0, 0});
      if (std::any_of(y.begin(), y.end(), [](float v) { return v != 7; })) Fail(isa + " empty part");
    }
  }
}

// Layers one after the other give what each gives alone, whatever lies between them: blocks of 16 rows that x
// meets often enough pass it on by lines, to the next but the last.
void CheckChain(const KernelTable& table, const std::string& isa) {
  for (int64_t m : {7, 8, 16, 23, 40, 77, 130}) {
    const Case first(21, {100, 90, 16, 16, m, 0.7, Activation::kRelu});
    const Case second(22, {120, 100, 16, 4, m, 0.7, Activation::kGelu});
    const Case third(23, {140, 120, 16, 32, m, 0.6, Activation::kNone});
    const Case fourth(24, {70, 140, 32, 16, m, 0.5, Activation::kNone});
    std::vector<PackedLayer> layers;
    for (const Case* c : {&first, &second, &third, &fourth})
      layers.emplace_back(table, c->matrix(), c->bias_or_null(), c->s.activation, 2, 0);
    std::vector<const PackedLayer*> chain;
    std::vector<Floats> alone;
    for (const PackedLayer& layer : layers) {
      chain.push_back(&layer);
      alone.emplace_back(m * layer.n());
      const Floats& x = chain.size() == 1 ? first.x : alone[chain.size() - 2];
      layer.Forward(x.data(), m, alone.back().data());
    }
    for (std::size_t count = 1; count <= chain.size(); ++count) {
      Floats y(m * chain[count - 1]->n());
      ForwardChain(chain.data(), static_cast<int64_t>(count), first.x.data(), m, y.data());
      if (!y.SameBits(alone[count - 1]))
        Fail(isa + ": other bits in a chain of " + std::to_string(count) + ", M " + std::to_string(m));
    }
  }
}

// What both threads of a job throw reaches its caller, and the pool takes the next job.
void CheckPool() {
  struct Job {
    std::atomic<int> started{0};
    bool fails;
  };
  // Each thread waits for the other, so neither can have both items.
  const auto run = [](void* context, int64_t) {
    Job& job = *static_cast<Job*>(context);
    ++job.started;
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (job.started < 2) {
      if (std::chrono::steady_clock::now() > end) Fail("the pool left a job to one thread");
      std::this_thread::yield();
    }
    if (job.fails) throw std::bad_alloc();
  };
  for (bool fails : {false, true, true, false}) {
    Job job{{}, fails};
    bool failed = false;
    try {
      ParallelFor(2, 2, run, &job);
    } catch (const std::bad_alloc&) {
      failed = true;
    }
    if (failed != fails) Fail("what a job of the pool threw did not reach its caller");
  }
}

// Products that find no memory for their scratch say so, and the next is whole again.
void CheckNoMemory(const KernelTable& table, const std::string& isa) {
  for (int64_t block : {5, 16}) {
    const Case c(31, {40, 400, block, block, 70, 0.6, Activation::kNone});
    const auto layer_of = [&](int threads) {
      return PackedLayer(table, c.matrix(), c.bias_or_null(), c.s.activation, threads, 0);
    };
    Floats expected(c.s.m * c.s.n), y(c.s.m * c.s.n);
    layer_of(1).Forward(c.x.data(), c.s.m, expected.data());
    for (int threads : {2, 1}) {
      const PackedLayer layer = layer_of(threads);
      bool refused = false;
      // A thread of its own has no scratch yet.
      std::thread([&] {
        no_memory = true;
        try {
          layer.Forward(c.x.data(), c.s.m, y.data());
        } catch (const std::bad_alloc&) {
          refused = true;
        }
        no_memory = false;
        layer.Forward(c.x.data(), c.s.m, y.data());
      }).join();
      const bool scratch = !layer.UsesRows(c.s.m) || layer.TakesLines(c.s.m);
      // Of two, one that has scratch may take all the work.
      if (threads == 1 ? refused != scratch : refused && !scratch)
        Fail(isa + ": no memory, and no word of it, " + c.name);
      if (!y.SameBits(expected)) Fail(isa + ": other bits after there was no memory, " + c.name);
    }
  }
}

// Wide and tall layers, alone and two in a chain, with one block in each block row: their products, and that
// scratch is a megabyte, x of 16 batch rows where these are more, or 48 rows (and up to seven left over) of
// what lies between the layers of a chain; an eighth more for odd numbers of lines, and the outputs of a
// layer alone.
void CheckScratch(const KernelTable& table, const std::string& isa) {
  struct Sizes {
    int64_t n, k, layers;
  };
  for (const Sizes& s : {Sizes{32, 20000, 1}, Sizes{12000, 64, 1}, Sizes{6000, 6000, 2}}) {
    for (int64_t block : {2, 16}) {
      const std::string what = isa + ": " + std::to_string(s.layers) + " layers of " + std::to_string(s.n) +
                               " x " + std::to_string(s.k) + " in blocks of " + std::to_string(block);
      Random random(5);
      const int64_t m = 40, block_rows = (s.n + block - 1) / block;
      std::vector<int32_t> crow{0}, col;
      for (int64_t row = 0; row < block_rows; ++row) {
        col.push_back(static_cast<int32_t>(random.Below(s.k / block)));
        crow.push_back(static_cast<int32_t>(row + 1));
      }
      const Floats values = random.Uniform(block_rows * block * block), x = random.Uniform(m * s.k);
      const BsrView matrix{s.n, s.k, block, block, crow.data(), col.data(), values.data()};
      std::vector<Wanted> wanted;
      for (const float v : x) wanted.push_back({v, 0});
      for (int64_t layer = 0, k = s.k; layer < s.layers; ++layer, k = s.n) {
        const std::vector<Wanted> from = std::move(wanted);
        wanted.clear();
        for (int64_t b = 0; b < m; ++b) {
          for (int64_t o = 0; o < s.n; ++o) {
            const int64_t e = o / block;
            Wanted sum;
            double size = 0;
            for (int64_t j = 0; j < block; ++j) {
              const double w = values[(e * block + o % block) * block + j];
              const Wanted& v =
                  from[static_cast<std::size_t>(b * k + col[static_cast<std::size_t>(e)] * block + j)];
              sum.value += w * v.value;
              sum.bound += std::fabs(w) * v.bound;
              size += std::fabs(w * v.value) + std::fabs(w) * v.bound;
            }
            sum.bound += static_cast<double>(block + 2) * kEps * size;
            wanted.push_back(sum);
          }
        }
      }
      for (int threads : {1, 2}) {
        const PackedLayer layer(table, matrix, nullptr, Activation::kNone, threads, 0);
        const std::vector<const PackedLayer*> chain(static_cast<std::size_t>(s.layers), &layer);
        Floats y(m * s.n);
        int64_t bytes = 0;
        // A thread of its own has no scratch yet.
        std::thread([&] {
          const int64_t before = allocated;
          most_allocated = before;
          ForwardChain(chain.data(), s.layers, x.data(), m, y.data());
          bytes = most_allocated - before;
        }).join();
        ExpectClose(y, wanted, what);
        const bool rows = s.layers > 1 && PlanChain(chain.data(), s.layers, m).rows;
        const int64_t least = rows ? 55 * s.n : s.layers == 1 ? 16 * s.k : 16 * (s.n + s.k);
        const int64_t most = std::max<int64_t>(1 << 20, 4 * least);
        if (threads == 1 && bytes > most + most / 8 + (1 << 17))
          Fail(what + ": " + std::to_string(bytes) + " bytes of scratch, not " + std::to_string(most));
      }
    }
  }
}

constexpr int kCounts[] = {0, 1, 3, 4, 7, 8, 9, 15, 16, 17, 33, 100, 1000};

void RunActivations(const KernelTable& table, const std::string& isa, Outputs& outputs) {
  Random random(11);
  for (Activation activation : kActivations) {
    for (int count : kCounts) {
      for (double scale : {1.0, 10.0, 200.0}) {
        const std::string what = " activation " + std::to_string(static_cast<int>(activation));
        Floats z = random.Uniform(count, scale);
        if (count > 3) z[3] = -0.0f;
        Floats& y = outputs.Make(what, count);
        table.activate(activation, z.data(), y.data(), count);
        Expected wanted, gradient;
        const Floats dy = random.Uniform(count);
        for (int64_t i = 0; i < count; ++i) {
          wanted.push_back({Activate(activation, z[i]), 16 * kEps * (1 + std::fabs(z[i]))});
        }
        ExpectClose(y, wanted, isa + what);
        const bool by_input = activation == Activation::kGelu || activation == Activation::kSilu;
        const Floats saved = by_input ? z : y;
        for (int64_t i = 0; i < count; ++i) {
          gradient.push_back({dy[i] * ActivationGradient(activation, saved[i]),
                              16 * kEps * (1 + std::min(std::fabs(saved[i]), 16.0f))});
        }
        outputs.all.emplace_back(what + " gradient", dy);
        Floats& dz = outputs.all.back().second;
        table.activation_gradient(activation, saved.data(), dz.data(), count);
        ExpectClose(dz, gradient, isa + what + " gradient");
      }
    }
  }
}

void RunOptimizers(const KernelTable& table, const std::string& isa, Outputs& outputs) {
  Random random(12);
  for (int count : kCounts) {
    for (const auto& [l2, shrink] : {std::pair{0.0f, 1.0f}, std::pair{0.1f, 1.0f}, std::pair{0.0f, 0.999f}}) {
      Floats w = random.Uniform(count), first = random.Uniform(count), second = random.Uniform(count);
      const Floats g = random.Uniform(count);
      for (float& v : second) v = 0.01f + v * v;
      const float rate = 0.01f, beta1 = 0.9f, beta2 = 0.999f, epsilon = 1e-8f, scale = 18.2f;
      Expected wanted_w, wanted_first, wanted_second;
      for (int64_t i = 0; i < count; ++i) {
        const double gi = double{g[i]} + double{l2} * w[i], size = std::fabs(g[i]) + std::fabs(l2 * w[i]);
        const double m = double{beta1} * first[i] + (1 - double{beta1}) * gi;
        const double m_size = std::fabs(beta1 * first[i]) + (1 - double{beta1}) * size;
        const double v = double{beta2} * second[i] + (1 - double{beta2}) * gi * gi;
        const double v_size = double{beta2} * second[i] + (1 - double{beta2}) * size * size;
        const double divisor = std::sqrt(v) * scale + epsilon;
        wanted_first.push_back({m, 8 * kEps * m_size});
        wanted_second.push_back({v, 8 * kEps * v_size});
        wanted_w.push_back({double{shrink} * w[i] - rate * m / divisor,
                            16 * kEps * (std::fabs(w[i]) + rate * m_size / divisor)});
      }
      table.adam({w.data(), g.data(), first.data(), second.data(), count, rate, beta1, beta2, epsilon, scale,
                  l2, shrink});
      ExpectClose(w, wanted_w, isa + " adam weight");
      ExpectClose(first, wanted_first, isa + " adam first moment");
      ExpectClose(second, wanted_second, isa + " adam second moment");
      for (const Floats* state : {&w, &first, &second}) outputs.all.emplace_back("adam", *state);
    }
    Floats w = random.Uniform(count), velocity = random.Uniform(count);
    const Floats g = random.Uniform(count);
    Expected wanted_w, wanted_velocity;
    for (int64_t i = 0; i < count; ++i) {
      const double v = 0.9f * double{velocity[i]} + g[i] + 0.01f * double{w[i]};
      wanted_velocity.push_back({v, 8 * kEps * 3});
      wanted_w.push_back({w[i] - 0.1f * v, 8 * kEps * 3});
    }
    table.sgd({w.data(), g.data(), velocity.data(), count, 0.1f, 0.9f, 0.01f});
    ExpectClose(w, wanted_w, isa + " sgd weight");
    ExpectClose(velocity, wanted_velocity, isa + " sgd velocity");
    for (const Floats* state : {&w, &velocity}) outputs.all.emplace_back("sgd", *state);
  }
}

double Score(Criterion criterion, const std::vector<double>& values) {
  double sum = 0, squares = 0, most = 0;
  for (double v : values) {
    sum += std::fabs(v);
    squares += v * v;
    most = std::max(most, std::fabs(v));
  }
  switch (criterion) {
    case Criterion::kMeanAbs:
      return sum / static_cast<double>(values.size());
    case Criterion::kL1:
      return sum;
    case Criterion::kL2:
      return std::sqrt(squares);
    default:
      return most;
  }
}

void RunBlockScores(const KernelTable& table, const std::string& isa, Outputs& outputs) {
  Random random(13);
  for (int round = 0; round < 60; ++round) {
    // Half of them in whole lines, which are read as such wherever the weight begins.
    const int64_t rows = 1 + random.Below(60);
    const int64_t cols = round % 2 == 0 ? 1 + random.Below(90) : kLanes * (1 + random.Below(12));
    const int64_t r = 1 + random.Below(20), c = 1 + random.Below(20);
    const int64_t grid_rows = (rows + r - 1) / r, grid_cols = (cols + c - 1) / c;
    const Floats data = random.Uniform(rows * cols + kLanes);
    const float* weight = data.data() + random.Below(kLanes);
    for (Criterion criterion : {Criterion::kMeanAbs, Criterion::kL1, Criterion::kL2, Criterion::kMaxAbs}) {
      Floats& scores = outputs.Make("block scores", grid_rows * grid_cols);
      Floats scratch(ScoreScratch(cols));
      for (int64_t row = 0; row < grid_rows; ++row) {
        table.block_scores(
            {weight, rows, cols, r, c, criterion, scores.data(), scratch.data(), row, row + 1});
      }
      Expected wanted;
      for (int64_t block = 0; block < grid_rows * grid_cols; ++block) {
        std::vector<double> values;
        const int64_t top = block / grid_cols * r, left = block % grid_cols * c;
        for (int64_t i = top; i < std::min(top + r, rows); ++i) {
          for (int64_t j = left; j < std::min(left + c, cols); ++j) values.push_back(weight[i * cols + j]);
        }
        const double score = Score(criterion, values);
        wanted.push_back({score, score * static_cast<double>(values.size() + 4) * kEps});
      }
      ExpectClose(scores, wanted, isa + " block scores");
    }
  }
}

std::vector<Shape> Shapes(int random_cases) {
  std::vector<Shape> shapes = {
      {5, 7, 2, 3, 3, 0, Activation::kRelu},  // nothing kept: bias alone
      {0, 7, 2, 3, 3, 1, Activation::kNone},          {5, 0, 2, 3, 3, 1, Activation::kNone},
      {5, 7, 2, 3, 0, 1, Activation::kNone},          {1, 1, 1, 1, 1, 1, Activation::kNone},
      {3, 3, 64, 64, 20, 1, Activation::kGelu},  // a block larger than the matrix
      {64, 64, 16, 16, 64, 1, Activation::kNone},     {100, 100, 128, 1, 33, 0.5, Activation::kSilu},
      {100, 100, 1, 128, 33, 0.5, Activation::kTanh}, {160, 200, 16, 16, 192, 0.3, Activation::kNone},
      {96, 96, 16, 1, 17, 0.2, Activation::kSigmoid}, {130, 100, 16, 8, 75, 0.6, Activation::kRelu},
      {250, 70, 16, 48, 30, 0.4, Activation::kGelu},  {32, 2100, 32, 4, 90, 1, Activation::kNone},
      {70, 1024, 32, 32, 41, 0.6, Activation::kRelu}, {64, 1024, 64, 8, 28, 0.7, Activation::kNone},
      {48, 1024, 16, 16, 9, 0.9, Activation::kNone},  {48, 1100, 16, 16, 31, 0.3, Activation::kRelu},
      {40, 1100, 16, 8, 57, 0.3, Activation::kNone},  {36, 1025, 16, 4, 32, 0.3, Activation::kGelu},
      {50, 1050, 24, 16, 55, 0.3, Activation::kRelu}, {64, 64, 16, 16, 71, 0.5, Activation::kNone},
      {64, 70, 32, 16, 70, 0.5, Activation::kRelu},
  };
  // More than kFarWeights, which an emulator would take minutes for.
  if (random_cases >= 400) {
    shapes.push_back({900, 1200, 32, 48, 9, 1, Activation::kNone});
    shapes.push_back({1030, 1100, 4, 4, 4, 1, Activation::kNone});
    shapes.push_back({1030, 1100, 4, 4, 6, 1, Activation::kRelu});
    shapes.push_back({1030, 1100, 8, 8, 7, 1, Activation::kRelu});
    shapes.push_back({1030, 1100, 8, 8, kShortBatch, 1, Activation::kNone});
  }
  // Blocks that fill groups of eight lanes, at every batch, whole and cut off by the edges.
  const int64_t groups[][2] = {{2, 2}, {2, 16}, {4, 4}, {4, 8}, {8, 4}, {8, 8}, {8, 12}};
  for (const auto& [r, c] : groups) {
    for (int64_t m = 1; m <= kShortBatch + 1; ++m) {
      shapes.push_back({48, 96, r, c, m, 0.4, kActivations[m % 6]});
      shapes.push_back({47, 95, r, c, m, 0.7, Activation::kNone});
    }
  }
  Random random(1);
  const int sides[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 17, 20, 31, 32, 33, 64, 70};
  const int batches[] = {1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 31, 33, 48, 64, 65, 100, 130};
  const double densities[] = {0.05, 0.2, 0.5, 1};
  for (int i = 0; i < random_cases; ++i) {
    const int64_t r = random.Pick(sides), c = random.Unit() < 0.5 ? r : random.Pick(sides);
    const int64_t n = 1 + random.Below(100), k = 1 + random.Below(120), m = random.Pick(batches);
    shapes.push_back({n, k, r, c, m, densities[random.Below(4)], kActivations[random.Below(6)]});
  }
  return shapes;
}

}  // namespace

int main(int argc, char** argv) {
  guarded = argc < 3;
  struct Tested {
    const KernelTable& table;
    std::string name;
    // Portable C++ has no fused multiply-add.
    bool promises_bits() const { return table.isa != Isa::kPortable; }
  };
  // The scalar reference comes first.
  std::vector<Tested> all;
  for (const char* name : {"scalar", "portable", "avx2", "avx512", "neon"}) {
    Isa isa;
    if (!IsaFromName(name, &isa) || !IsaAvailable(isa)) continue;
    all.push_back({TableFor(isa), name});
    if (all.back().table.isa != isa) Fail(std::string("no table for ") + name);
  }
#if defined(EMULATED_AVX512)
  if (guarded && IsaAvailable(Isa::kAvx2) && !IsaAvailable(Isa::kAvx512))
    all.push_back({kEmulatedAvx512Table, "avx512-emulated"});
#endif

  const std::vector<Shape> shapes = Shapes(argc > 1 ? std::atoi(argv[1]) : 400);
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    const Case c(static_cast<unsigned>(i), shapes[i]);
    Outputs scalar;
    for (const Tested& one : all) {
      Outputs outputs = RunProducts(one.table, c, 1);
      CheckProducts(outputs, c, one.name);
      if (one.table.isa == Isa::kScalar)
        scalar = std::move(outputs);
      else if (one.promises_bits())
        ExpectSameBits(scalar, outputs, one.name + " " + c.name);
    }
  }

  CheckPool();

  Outputs scalar;
  for (const Tested& one : all) {
    const auto& [table, name] = one;
    Outputs outputs;
    RunActivations(table, name, outputs);
    RunOptimizers(table, name, outputs);
    RunBlockScores(table, name, outputs);
    CheckStray(table, name);
    CheckEmptyPart(table, name);
    CheckChain(table, name);
    CheckNoMemory(table, name);
    CheckScratch(table, name);
    if (table.isa == Isa::kScalar)
      scalar = std::move(outputs);
    else if (one.promises_bits())
      ExpectSameBits(scalar, outputs, name);
  }

  // Large enough that the pool splits them.
  for (int64_t m : {4, 33, 130}) {
    for (int64_t block : {4, 16}) {
      const Case c(20, {256, 160, block, block, m, m == 4 ? 1.0 : 0.5, Activation::kRelu});
      for (const auto& [table, name] : all) {
        const Outputs outputs = RunProducts(table, c, 2);
        CheckProducts(outputs, c, name);
        ExpectSameBits(RunProducts(table, c, 1), outputs, name + " on two threads, " + c.name);
      }
    }
  }

  std::printf("chosen: %s\ntested:", IsaName(BestIsa()));
  for (const Tested& one : all) std::printf(" %s", one.name.c_str());
  std::printf("\n");
}
