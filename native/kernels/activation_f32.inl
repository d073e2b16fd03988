// Activations as our own polynomials, so that every instruction set gives the same bits.

// exp by Cephes' expf: 2^n times a degree-5 polynomial on [-ln2/2, ln2/2]; 1 ulp or so.
inline Vec Exp(Vec x) {
  const Vec clamped = Vec::Min(Vec::Set1(88.0f), Vec::Max(Vec::Set1(-87.0f), x));
  const Vec n = Vec::Round(clamped * Vec::Set1(1.44269504f));
  Vec f = Vec::Fma(n, Vec::Set1(-0.693359375f), clamped);
  f = Vec::Fma(n, Vec::Set1(2.12194440e-4f), f);
  Vec p = Vec::Set1(1.9875691500e-4f);
  p = Vec::Fma(p, f, Vec::Set1(1.3981999507e-3f));
  p = Vec::Fma(p, f, Vec::Set1(8.3334519073e-3f));
  p = Vec::Fma(p, f, Vec::Set1(4.1665795894e-2f));
  p = Vec::Fma(p, f, Vec::Set1(1.6666665459e-1f));
  p = Vec::Fma(p, f, Vec::Set1(5.0000001201e-1f));
  p = Vec::Fma(p, f * f, f + Vec::Set1(1.0f));
  return p * Vec::Pow2(n);
}

inline Vec Sigmoid(Vec x) { return Vec::Set1(1.0f) / (Vec::Set1(1.0f) + Exp(Vec::Zero() - x)); }

// Cephes' tanhf: a polynomial near 0, where 1 - 2/(e^2x + 1) would cancel.
inline Vec Tanh(Vec x) {
  const Vec a = Vec::Abs(x);
  const Vec s = x * x;
  Vec p = Vec::Set1(-5.70498872745e-3f);
  p = Vec::Fma(p, s, Vec::Set1(2.06390887954e-2f));
  p = Vec::Fma(p, s, Vec::Set1(-5.37397155531e-2f));
  p = Vec::Fma(p, s, Vec::Set1(1.33314422036e-1f));
  p = Vec::Fma(p, s, Vec::Set1(-3.33332819422e-1f));
  p = Vec::Fma(p * s, x, x);
  const Vec big = Vec::Set1(1.0f) - Vec::Set1(2.0f) / (Exp(a + a) + Vec::Set1(1.0f));
  const Vec signed_big = Vec::SelectLess(x, Vec::Zero(), Vec::Zero() - big, big);
  return Vec::SelectLess(a, Vec::Set1(0.625f), p, signed_big);
}

// erf by the Chebyshev fit of Press et al., Numerical Recipes, 6.2: 1.2e-7 everywhere.
inline Vec Erf(Vec x) {
  const Vec a = Vec::Abs(x);
  const Vec t = Vec::Set1(1.0f) / Vec::Fma(a, Vec::Set1(0.5f), Vec::Set1(1.0f));
  Vec p = Vec::Set1(0.17087277f);
  p = Vec::Fma(p, t, Vec::Set1(-0.82215223f));
  p = Vec::Fma(p, t, Vec::Set1(1.48851587f));
  p = Vec::Fma(p, t, Vec::Set1(-1.13520398f));
  p = Vec::Fma(p, t, Vec::Set1(0.27886807f));
  p = Vec::Fma(p, t, Vec::Set1(-0.18628806f));
  p = Vec::Fma(p, t, Vec::Set1(0.09678418f));
  p = Vec::Fma(p, t, Vec::Set1(0.37409196f));
  p = Vec::Fma(p, t, Vec::Set1(1.00002368f));
  p = Vec::Fma(p, t, Vec::Set1(-1.26551223f));
  const Vec y = Vec::Set1(1.0f) - t * Exp(p - a * a);
  return Vec::SelectLess(x, Vec::Zero(), Vec::Zero() - y, y);
}

// Beyond, Exp stays a little above zero, and a product with z would grow again.
inline Vec AtLeast(Vec z) { return Vec::Max(Vec::Set1(-88.0f), z); }

inline Vec Act(Activation activation, Vec z) {
  switch (activation) {
    case Activation::kRelu:
      return Vec::SelectLess(z, Vec::Zero(), Vec::Zero(), z);
    case Activation::kGelu:
      return Vec::Set1(0.5f) * z * (Vec::Set1(1.0f) + Erf(z * Vec::Set1(0.70710678f)));
    case Activation::kSilu:
      return AtLeast(z) * Sigmoid(z);
    case Activation::kSigmoid:
      return Sigmoid(z);
    case Activation::kTanh:
      return Tanh(z);
    default:
      return z;
  }
}

// The derivative by what the forward pass saved: y for relu, sigmoid, tanh; z for gelu and silu.
inline Vec ActGradient(Activation activation, Vec saved) {
  const Vec one = Vec::Set1(1.0f);
  switch (activation) {
    case Activation::kRelu:
      return Vec::SelectLess(Vec::Zero(), saved, one, Vec::Zero());
    case Activation::kGelu: {
      const Vec cdf = Vec::Set1(0.5f) * (one + Erf(saved * Vec::Set1(0.70710678f)));
      const Vec z = Vec::Min(Vec::Set1(88.0f), AtLeast(saved));
      return Vec::Fma(z * Vec::Set1(0.39894228f), Exp(z * z * Vec::Set1(-0.5f)), cdf);
    }
    case Activation::kSilu: {
      const Vec s = Sigmoid(saved);
      return s * Vec::Fma(AtLeast(saved), one - s, one);
    }
    case Activation::kSigmoid:
      return saved * (one - saved);
    case Activation::kTanh:
      return one - saved * saved;
    default:
      return one;
  }
}

// Out of line: the polynomials are a kilobyte, and every tile ends with them.
__attribute__((noinline)) void Activate(Activation activation, const float* z, float* y, int64_t count) {
  int64_t i = 0;
  for (; i + Vec::kWidth <= count; i += Vec::kWidth) Act(activation, Vec::Load(z + i)).Store(y + i);
  if (i < count) Act(activation, Vec::LoadN(z + i, count - i)).StoreN(y + i, count - i);
}

void ActivationGradient(Activation activation, const float* saved, float* dy, int64_t count) {
  int64_t i = 0;
  for (; i + Vec::kWidth <= count; i += Vec::kWidth) {
    (Vec::Load(dy + i) * ActGradient(activation, Vec::Load(saved + i))).Store(dy + i);
  }
  const int64_t left = count - i;
  if (left > 0) {
    (Vec::LoadN(dy + i, left) * ActGradient(activation, Vec::LoadN(saved + i, left))).StoreN(dy + i, left);
  }
}
