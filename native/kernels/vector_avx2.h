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
  void Pin() { asm("" : "+x"(v)); }

 private:
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
