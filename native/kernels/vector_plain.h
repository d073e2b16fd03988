// kPlainWidth float lanes in the vectors of GCC and Clang, which become those of the compiler's baseline, or
// loops; kPlainRegisters and kPlainUnrolled say which tiles they are for. PLAIN_FMA(a, b, c) says how a
// multiply and an add of Lanes combine. Included inside a namespace.
struct Vec {
  static constexpr int64_t kWidth = kPlainWidth;
  static constexpr int kRegisters = kPlainRegisters;
  static constexpr bool kUnrolled = kPlainUnrolled;
  using Lanes = float __attribute__((vector_size(kPlainWidth * sizeof(float))));
  Lanes v;

  template <typename Function>
  static Vec Each(Function f) {
    Vec r;
    for (int64_t i = 0; i < kWidth; ++i) r.v[i] = f(i);
    return r;
  }

  static Vec Zero() { return {Lanes{}}; }
  static Vec Set1(float x) { return {Lanes{} + x}; }
  static Vec Load(const float* p) {
    Vec r;
    std::memcpy(&r.v, p, sizeof r.v);
    return r;
  }
  static Vec LoadN(const float* p, int64_t n) {
    return Each([&](int64_t i) { return i < n ? p[i] : 0.0f; });
  }
  void Store(float* p) const { std::memcpy(p, &v, sizeof v); }
  void StoreN(float* p, int64_t n) const {
    for (int64_t i = 0; i < n && i < kWidth; ++i) p[i] = v[i];
  }

  static Vec Fma(Vec a, Vec b, Vec c) { return {PLAIN_FMA(a.v, b.v, c.v)}; }
  // As maxps and minps: the second operand when they do not compare.
  static Vec Max(Vec a, Vec b) { return {a.v > b.v ? a.v : b.v}; }
  static Vec Min(Vec a, Vec b) { return {a.v < b.v ? a.v : b.v}; }
  static Vec Abs(Vec a) {
    return Each([&](int64_t i) { return std::fabs(a.v[i]); });
  }
  static Vec Sqrt(Vec a) {
    return Each([&](int64_t i) { return std::sqrt(a.v[i]); });
  }
  static Vec Round(Vec a) {
    return Each([&](int64_t i) { return std::nearbyint(a.v[i]); });
  }
  static Vec SelectLess(Vec a, Vec b, Vec x, Vec y) { return {a.v < b.v ? x.v : y.v}; }
  static Vec Pow2(Vec n) {
    return Each([&](int64_t i) {
      // NaN and out-of-range values have no integer: the caller's clamp leaves only NaN, which stays in the
      // sum.
      const int32_t whole = n.v[i] == n.v[i] ? static_cast<int32_t>(n.v[i]) : 0;
      const uint32_t bits = static_cast<uint32_t>(whole + 127) << 23;
      float r;
      std::memcpy(&r, &bits, sizeof r);
      return r;
    });
  }
  float Sum() const {
    Vec t = *this;
    for (int64_t half = kWidth / 2; half > 0; half /= 2) {
      for (int64_t i = 0; i < half; ++i) t.v[i] += t.v[i + half];
    }
    return t.v[0];
  }
  static void Transpose(Vec (&r)[kPlainWidth]) {
    for (int64_t i = 0; i < kWidth; ++i) {
      for (int64_t j = 0; j < i; ++j) {
        const float t = r[i].v[j];
        r[i].v[j] = r[j].v[i];
        r[j].v[i] = t;
      }
    }
  }
  static Vec Sums(const Vec (&v)[kPlainWidth]) {
    return Each([&](int64_t i) { return v[i].Sum(); });
  }
  static Vec Even(Vec a, Vec b) {
    return Each([&](int64_t i) { return 2 * i < kWidth ? a.v[2 * i] : b.v[2 * i - kWidth]; });
  }
  static Vec Odd(Vec a, Vec b) {
    return Each([&](int64_t i) { return 2 * i + 1 < kWidth ? a.v[2 * i + 1] : b.v[2 * i + 1 - kWidth]; });
  }
  // Numbers of x, each for kRows lanes.
  template <int kRows>
  static Vec Spread(const float* x) {
    return Each([&](int64_t i) { return x[i / kRows]; });
  }
  // Lanes `first` and on of eight: two numbers of each, each for two of them.
  template <int first>
  static Vec SpreadPair(const float* x, const float* other) {
    return Each([&](int64_t i) { return first + i < 4 ? x[(first + i) / 2] : other[(first + i - 4) / 2]; });
  }
  // Lane i: that of i + n added.
  template <int n>
  Vec AddUpper() const {
    return Each([&](int64_t i) { return i + n < kWidth ? v[i] + v[i + n] : 0.0f; });
  }
  template <int n>
  void StoreFirst(float* p) const {
    std::memcpy(p, &v, n * sizeof *p);
  }
  void Pin() {}
};

inline Vec operator+(Vec a, Vec b) { return {a.v + b.v}; }
inline Vec operator-(Vec a, Vec b) { return {a.v - b.v}; }
inline Vec operator*(Vec a, Vec b) { return {a.v * b.v}; }
inline Vec operator/(Vec a, Vec b) { return {a.v / b.v}; }
