// 8 float lanes. Included inside a namespace and a target region.
struct Vec {
  static constexpr int64_t kWidth = 8;
  static constexpr int kRegisters = 16;
  static constexpr bool kUnrolled = true;
  __m256 v;

  static Vec Zero() { return {_mm256_setzero_ps()}; }
  static Vec Set1(float x) { return {_mm256_set1_ps(x)}; }
  static Vec Load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static Vec LoadN(const float* p, int64_t n) { return {_mm256_maskload_ps(p, Mask(n))}; }
  void Store(float* p) const { _mm256_storeu_ps(p, v); }
  // A masked store takes tens of cycles on AMD's cores before Zen 4: only what is not whole goes by it.
  void StoreN(float* p, int64_t n) const {
    if (n >= kWidth) {
      Store(p);
    } else {
      _mm256_maskstore_ps(p, Mask(n), v);
    }
  }

  static Vec Fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
  static Vec Max(Vec a, Vec b) { return {_mm256_max_ps(a.v, b.v)}; }
  static Vec Min(Vec a, Vec b) { return {_mm256_min_ps(a.v, b.v)}; }
  static Vec Abs(Vec a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v)}; }
  static Vec Sqrt(Vec a) { return {_mm256_sqrt_ps(a.v)}; }
  static Vec Round(Vec a) { return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
  static Vec SelectLess(Vec a, Vec b, Vec x, Vec y) {
    return {_mm256_blendv_ps(y.v, x.v, _mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ))};
  }
  static Vec Pow2(Vec n) {
    const __m256i e = _mm256_add_epi32(_mm256_cvtps_epi32(n.v), _mm256_set1_epi32(127));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(e, 23))};
  }
  float Sum() const {
    const __m128 b = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
  }
  static void Transpose(Vec (&r)[8]) {
    __m256 b[8];
    for (int i = 0; i < 8; i += 4) {
      const __m256 low0 = _mm256_unpacklo_ps(r[i].v, r[i + 1].v);
      const __m256 high0 = _mm256_unpackhi_ps(r[i].v, r[i + 1].v);
      const __m256 low1 = _mm256_unpacklo_ps(r[i + 2].v, r[i + 3].v);
      const __m256 high1 = _mm256_unpackhi_ps(r[i + 2].v, r[i + 3].v);
      b[i] = UnpackLow(low0, low1);
      b[i + 1] = UnpackHigh(low0, low1);
      b[i + 2] = UnpackLow(high0, high1);
      b[i + 3] = UnpackHigh(high0, high1);
    }
    for (int j = 0; j < 4; ++j) {
      r[j].v = _mm256_permute2f128_ps(b[j], b[4 + j], 0x20);
      r[4 + j].v = _mm256_permute2f128_ps(b[j], b[4 + j], 0x31);
    }
  }
  static Vec Sums(const Vec (&v)[8]) {
    __m256 by4[4], by2[2];
    for (int i = 0; i < 4; ++i) {
      by4[i] = _mm256_add_ps(_mm256_permute2f128_ps(v[i].v, v[4 + i].v, 0x20),
                             _mm256_permute2f128_ps(v[i].v, v[4 + i].v, 0x31));
    }
    for (int i = 0; i < 2; ++i) {
      by2[i] = _mm256_add_ps(UnpackLow(by4[2 * i], by4[2 * i + 1]), UnpackHigh(by4[2 * i], by4[2 * i + 1]));
    }
    return {_mm256_add_ps(_mm256_shuffle_ps(by2[0], by2[1], 0x88), _mm256_shuffle_ps(by2[0], by2[1], 0xdd))};
  }
  static Vec Even(Vec a, Vec b) { return InOrder(_mm256_shuffle_ps(a.v, b.v, 0x88)); }
  static Vec Odd(Vec a, Vec b) { return InOrder(_mm256_shuffle_ps(a.v, b.v, 0xdd)); }
  // Numbers of x, each for kRows lanes.
  template <int kRows>
  static Vec Spread(const float* x) {
    if constexpr (kRows >= 8) {
      return Set1(*x);
    } else if constexpr (kRows == 4) {
      return Lanes(_mm256_castpd_ps(_mm256_set1_pd(Two(x))), _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1));
    } else {
      return Lanes(_mm256_broadcast_ps(reinterpret_cast<const __m128*>(x)),
                   _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
    }
  }
  // Lanes `first` and on of eight, which is all: two numbers of each, each for two of them.
  template <int first>
  static Vec SpreadPair(const float* x, const float* other) {
    const __m256d both = _mm256_blend_pd(_mm256_set1_pd(Two(x)), _mm256_set1_pd(Two(other)), 0xc);
    return Lanes(_mm256_castpd_ps(both), _mm256_setr_epi32(0, 0, 1, 1, 0, 0, 1, 1));
  }
  // Lane i: that of i + n added.
  template <int n>
  Vec AddUpper() const {
    const __m256 upper = n == 4 ? _mm256_permute2f128_ps(v, v, 1) : _mm256_permute_ps(v, 0x4e);
    return {_mm256_add_ps(v, upper)};
  }
  template <int n>
  void StoreFirst(float* p) const {
    if constexpr (n == 8) {
      Store(p);
    } else if constexpr (n == 4) {
      _mm_storeu_ps(p, _mm256_castps256_ps128(v));
    } else {
      _mm_storel_pi(reinterpret_cast<__m64*>(p), _mm256_castps256_ps128(v));
    }
  }
  void Pin() { asm("" : "+x"(v)); }

 private:
  static double Two(const float* x) {
    double two;
    std::memcpy(&two, x, sizeof two);
    return two;
  }
  // Of each half the lanes that `from` names.
  static Vec Lanes(__m256 halves, __m256i from) { return {_mm256_permutevar_ps(halves, from)}; }
  // A shuffle within halves of two vectors leaves their quarters as a0 b0 a1 b1.
  static Vec InOrder(__m256 quarters) {
    return {_mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(quarters), 0xd8))};
  }
  static __m256 UnpackLow(__m256 a, __m256 b) {
    return _mm256_castpd_ps(_mm256_unpacklo_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)));
  }
  static __m256 UnpackHigh(__m256 a, __m256 b) {
    return _mm256_castpd_ps(_mm256_unpackhi_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)));
  }
  static __m256i Mask(int64_t n) {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int32_t>(n)), lanes);
  }
};

inline Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
inline Vec operator-(Vec a, Vec b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline Vec operator/(Vec a, Vec b) { return {_mm256_div_ps(a.v, b.v)}; }
