// 16 float lanes. Included inside a namespace and a target region.
struct Vec {
  static constexpr int64_t kWidth = 16;
  static constexpr int kRegisters = 32;
  static constexpr bool kUnrolled = true;
  __m512 v;

  static Vec Zero() { return {_mm512_setzero_ps()}; }
  static Vec Set1(float x) { return {_mm512_set1_ps(x)}; }
  static Vec Load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Vec LoadN(const float* p, int64_t n) { return {_mm512_maskz_loadu_ps(Mask(n), p)}; }
  void Store(float* p) const { _mm512_storeu_ps(p, v); }
  void StoreN(float* p, int64_t n) const { _mm512_mask_storeu_ps(p, Mask(n), v); }

  static Vec Fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
  static Vec Max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
  static Vec Min(Vec a, Vec b) { return {_mm512_min_ps(a.v, b.v)}; }
  static Vec Abs(Vec a) { return {_mm512_abs_ps(a.v)}; }
  static Vec Sqrt(Vec a) { return {_mm512_sqrt_ps(a.v)}; }
  static Vec Round(Vec a) { return {_mm512_roundscale_ps(a.v, 0)}; }
  // a < b ? x : y
  static Vec SelectLess(Vec a, Vec b, Vec x, Vec y) {
    return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), y.v, x.v)};
  }
  // 2^n for whole n within the exponent range
  static Vec Pow2(Vec n) {
    const __m512i e = _mm512_add_epi32(_mm512_cvtps_epi32(n.v), _mm512_set1_epi32(127));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(e, 23))};
  }
  // Lane l with l+8, then +4, +2, +1: the order every instruction set sums in.
  float Sum() const {
    const __m256 high = _mm512_extractf32x8_ps(v, 1);
    const __m256 a = _mm256_add_ps(_mm512_castps512_ps256(v), high);
    const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
  }
  // Rows become columns, in place.
  static void Transpose(Vec (&r)[16]) {
    __m512 b[16];
    for (int i = 0; i < 16; i += 4) {
      const __m512 low0 = _mm512_unpacklo_ps(r[i].v, r[i + 1].v);
      const __m512 high0 = _mm512_unpackhi_ps(r[i].v, r[i + 1].v);
      const __m512 low1 = _mm512_unpacklo_ps(r[i + 2].v, r[i + 3].v);
      const __m512 high1 = _mm512_unpackhi_ps(r[i + 2].v, r[i + 3].v);
      b[i] = UnpackLow(low0, low1);
      b[i + 1] = UnpackHigh(low0, low1);
      b[i + 2] = UnpackLow(high0, high1);
      b[i + 3] = UnpackHigh(high0, high1);
    }
    // Quarter q of b[i + j] now holds column 4q + j of rows i to i + 3.
    for (int j = 0; j < 4; ++j) {
      const __m512 even0 = _mm512_shuffle_f32x4(b[j], b[4 + j], 0x88);
      const __m512 odd0 = _mm512_shuffle_f32x4(b[j], b[4 + j], 0xdd);
      const __m512 even1 = _mm512_shuffle_f32x4(b[8 + j], b[12 + j], 0x88);
      const __m512 odd1 = _mm512_shuffle_f32x4(b[8 + j], b[12 + j], 0xdd);
      r[j].v = _mm512_shuffle_f32x4(even0, even1, 0x88);
      r[4 + j].v = _mm512_shuffle_f32x4(odd0, odd1, 0x88);
      r[8 + j].v = _mm512_shuffle_f32x4(even0, even1, 0xdd);
      r[12 + j].v = _mm512_shuffle_f32x4(odd0, odd1, 0xdd);
    }
  }
  // Lane i: the Sum of v[i].
  static Vec Sums(const Vec (&v)[16]) {
    Vec by8[8], by4[4], by2[2];
    for (int i = 0; i < 4; ++i) {
      by8[i] = Fold<0x44, 0xee>(v[i], v[4 + i]);
      by8[4 + i] = Fold<0x44, 0xee>(v[8 + i], v[12 + i]);
      by4[i] = Fold<0x88, 0xdd>(by8[i], by8[4 + i]);
    }
    for (int i = 0; i < 2; ++i) {
      const __m512 a = by4[2 * i].v, b = by4[2 * i + 1].v;
      by2[i] = {_mm512_add_ps(UnpackLow(a, b), UnpackHigh(a, b))};
    }
    return {_mm512_add_ps(_mm512_shuffle_ps(by2[0].v, by2[1].v, 0x88),
                          _mm512_shuffle_ps(by2[0].v, by2[1].v, 0xdd))};
  }
  // The even and the odd elements of a and b, side by side.
  static Vec Even(Vec a, Vec b) {
    const __m512i lanes = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    return {_mm512_permutex2var_ps(a.v, lanes, b.v)};
  }
  static Vec Odd(Vec a, Vec b) {
    const __m512i lanes = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    return {_mm512_permutex2var_ps(a.v, lanes, b.v)};
  }
  // Numbers of x, each for kRows lanes.
  template <int kRows>
  static Vec Spread(const float* x) {
    if constexpr (kRows == 8) {
      double two;
      std::memcpy(&two, x, sizeof two);
      return Lanes(_mm512_castpd_ps(_mm512_set1_pd(two)),
                   _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1));
    } else {
      static_assert(kRows == 4, "or 8");
      return Lanes(_mm512_broadcast_f32x4(_mm_loadu_ps(x)),
                   _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3));
    }
  }
  // Lane i: that of i + n added.
  template <int n>
  Vec AddUpper() const {
    static_assert(n == 8 || n == 4, "whole quarters");
    return {_mm512_add_ps(v, _mm512_shuffle_f32x4(v, v, n == 8 ? 0x4e : 0xb1))};
  }
  template <int n>
  void StoreFirst(float* p) const {
    if constexpr (n == 8) {
      _mm256_storeu_ps(p, _mm512_castps512_ps256(v));
    } else {
      static_assert(n == 4, "or 8");
      _mm_storeu_ps(p, _mm512_castps512_ps128(v));
    }
  }
  // Keeps a loaded vector in a register: GCC 12 folds the load into each FMA's memory operand otherwise.
  void Pin() { asm("" : "+v"(v)); }

 private:
  // Of each quarter the elements that `lanes` names.
  static Vec Lanes(__m512 v, __m512i lanes) { return {_mm512_permutevar_ps(v, lanes)}; }
  // Adds two choices of quarters of a and b.
  template <int kOne, int kOther>
  static Vec Fold(Vec a, Vec b) {
    return {_mm512_add_ps(_mm512_shuffle_f32x4(a.v, b.v, kOne), _mm512_shuffle_f32x4(a.v, b.v, kOther))};
  }
  static __m512 UnpackLow(__m512 a, __m512 b) {
    return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
  }
  static __m512 UnpackHigh(__m512 a, __m512 b) {
    return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
  }
  static __mmask16 Mask(int64_t n) { return static_cast<__mmask16>((1u << n) - 1); }
};

inline Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Vec operator/(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
