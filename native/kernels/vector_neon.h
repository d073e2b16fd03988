// 4 float lanes. Included inside a namespace.

// One number for every lane. An FMA takes it from a lane of its register; copying it into all four would cost
// the vector units as much as the FMA.
struct Splat {
  float x;
};

struct Vec {
  static constexpr int64_t kWidth = 4;
  static constexpr int kRegisters = 32;
  static constexpr bool kUnrolled = true;
  float32x4_t v;

  Vec() = default;
  Vec(float32x4_t lanes) : v(lanes) {}
  Vec(Splat s) : v(vdupq_n_f32(s.x)) {}

  static Vec Zero() { return {vdupq_n_f32(0.0f)}; }
  static Splat Set1(float x) { return {x}; }
  static Vec Load(const float* p) { return {vld1q_f32(p)}; }
  // NEON has no masked load or store: part of a vector goes lane by lane.
  static Vec LoadN(const float* p, int64_t n) {
    if (n >= kWidth) return Load(p);
    Vec r = Zero();
    if (n > 0) r.v = vld1q_lane_f32(p, r.v, 0);
    if (n > 1) r.v = vld1q_lane_f32(p + 1, r.v, 1);
    if (n > 2) r.v = vld1q_lane_f32(p + 2, r.v, 2);
    return r;
  }
  void Store(float* p) const { vst1q_f32(p, v); }
  void StoreN(float* p, int64_t n) const {
    if (n >= kWidth) return Store(p);
    if (n > 0) vst1q_lane_f32(p, v, 0);
    if (n > 1) vst1q_lane_f32(p + 1, v, 1);
    if (n > 2) vst1q_lane_f32(p + 2, v, 2);
  }

#if defined(__clang__)
  static Vec Fma(Vec a, Vec b, Vec c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
  static Vec Fma(Vec a, Splat b, Vec c) { return {vfmaq_n_f32(c.v, a.v, b.x)}; }
#else
  // GCC 12 takes its own intrinsic for one that touches memory, and a loop's sums would be stored at every
  // step.
  static Vec Fma(Vec a, Vec b, Vec c) {
    asm("fmla %0.4s, %1.4s, %2.4s" : "+w"(c.v) : "w"(a.v), "w"(b.v));
    return c;
  }
  static Vec Fma(Vec a, Splat b, Vec c) {
    asm("fmla %0.4s, %1.4s, %2.s[0]" : "+w"(c.v) : "w"(a.v), "w"(b.x));
    return c;
  }
#endif
  static Vec Fma(Splat a, Vec b, Vec c) { return Fma(b, a, c); }
  // Not fmax and fmin: the second operand when they do not compare, as on every instruction set.
  static Vec Max(Vec a, Vec b) { return {vbslq_f32(vcgtq_f32(a.v, b.v), a.v, b.v)}; }
  static Vec Min(Vec a, Vec b) { return {vbslq_f32(vcltq_f32(a.v, b.v), a.v, b.v)}; }
  static Vec Abs(Vec a) { return {vabsq_f32(a.v)}; }
  static Vec Sqrt(Vec a) { return {vsqrtq_f32(a.v)}; }
  static Vec Round(Vec a) { return {vrndnq_f32(a.v)}; }
  static Vec SelectLess(Vec a, Vec b, Vec x, Vec y) { return {vbslq_f32(vcltq_f32(a.v, b.v), x.v, y.v)}; }
  static Vec Pow2(Vec n) {
    const int32x4_t e = vaddq_s32(vcvtnq_s32_f32(n.v), vdupq_n_s32(127));
    return {vreinterpretq_f32_s32(vshlq_n_s32(e, 23))};
  }
  float Sum() const {
    const float32x2_t b = vadd_f32(vget_low_f32(v), vget_high_f32(v));
    return vget_lane_f32(b, 0) + vget_lane_f32(b, 1);
  }
  static void Transpose(Vec (&r)[4]) {
    const float32x4_t even0 = vtrn1q_f32(r[0].v, r[1].v);
    const float32x4_t odd0 = vtrn2q_f32(r[0].v, r[1].v);
    const float32x4_t even1 = vtrn1q_f32(r[2].v, r[3].v);
    const float32x4_t odd1 = vtrn2q_f32(r[2].v, r[3].v);
    r[0].v = LowHalves(even0, even1);
    r[1].v = LowHalves(odd0, odd1);
    r[2].v = HighHalves(even0, even1);
    r[3].v = HighHalves(odd0, odd1);
  }
  static Vec Sums(const Vec (&v)[4]) {
    float32x4_t by2[2];
    for (int i = 0; i < 2; ++i) {
      const float32x4_t a = v[2 * i].v, b = v[2 * i + 1].v;
      by2[i] = vaddq_f32(LowHalves(a, b), HighHalves(a, b));
    }
    return {vpaddq_f32(by2[0], by2[1])};
  }
  static Vec Even(Vec a, Vec b) { return {vuzp1q_f32(a.v, b.v)}; }
  static Vec Odd(Vec a, Vec b) { return {vuzp2q_f32(a.v, b.v)}; }
  // Numbers of x, each for kRows lanes.
  template <int kRows>
  static auto Spread(const float* x) {
    if constexpr (kRows >= 4) {
      return Set1(*x);
    } else {
      const float32x2_t two = vld1_f32(x);
      return Vec(vcombine_f32(vdup_lane_f32(two, 0), vdup_lane_f32(two, 1)));
    }
  }
  // Lanes `first` and on of eight: two numbers of each, each for two of them.
  template <int first>
  static Vec SpreadPair(const float* x, const float* other) {
    return Spread<2>(first < 4 ? x : other);
  }
  // Lane i: that of i + n added.
  template <int n>
  Vec AddUpper() const {
    static_assert(n == 2, "of four lanes");
    return {vaddq_f32(v, vcombine_f32(vget_high_f32(v), vget_low_f32(v)))};
  }
  template <int n>
  void StoreFirst(float* p) const {
    if constexpr (n == 4) {
      Store(p);
    } else {
      vst1_f32(p, vget_low_f32(v));
    }
  }
  void Pin() { asm("" : "+w"(v)); }

 private:
  static float32x4_t LowHalves(float32x4_t a, float32x4_t b) {
    return vcombine_f32(vget_low_f32(a), vget_low_f32(b));
  }
  static float32x4_t HighHalves(float32x4_t a, float32x4_t b) {
    return vcombine_f32(vget_high_f32(a), vget_high_f32(b));
  }
};

inline Vec operator+(Vec a, Vec b) { return {vaddq_f32(a.v, b.v)}; }
inline Vec operator-(Vec a, Vec b) { return {vsubq_f32(a.v, b.v)}; }
inline Vec operator*(Vec a, Vec b) { return {vmulq_f32(a.v, b.v)}; }
inline Vec operator/(Vec a, Vec b) { return {vdivq_f32(a.v, b.v)}; }
