// One pass over weight, gradient and state: an optimizer step is bound by memory.

inline void AdamVector(const AdamArgs& a, int64_t i, int64_t n) {
  Vec w = Vec::LoadN(a.weight + i, n);
  const Vec g = Vec::Fma(Vec::Set1(a.l2), w, Vec::LoadN(a.gradient + i, n));
  w = w * Vec::Set1(a.shrink);
  const Vec first = Vec::Fma(Vec::Set1(a.beta1), Vec::LoadN(a.first + i, n), Vec::Set1(1.0f - a.beta1) * g);
  const Vec second =
      Vec::Fma(Vec::Set1(a.beta2), Vec::LoadN(a.second + i, n), Vec::Set1(1.0f - a.beta2) * g * g);
  const Vec scale = Vec::Fma(Vec::Sqrt(second), Vec::Set1(a.second_scale), Vec::Set1(a.epsilon));
  first.StoreN(a.first + i, n);
  second.StoreN(a.second + i, n);
  (w - Vec::Set1(a.rate) * first / scale).StoreN(a.weight + i, n);
}

void Adam(const AdamArgs& a) {
  for (int64_t i = 0; i < a.count; i += Vec::kWidth) {
    AdamVector(a, i, a.count - i < Vec::kWidth ? a.count - i : Vec::kWidth);
  }
}

void Sgd(const SgdArgs& a) {
  for (int64_t i = 0; i < a.count; i += Vec::kWidth) {
    const int64_t n = a.count - i < Vec::kWidth ? a.count - i : Vec::kWidth;
    const Vec w = Vec::LoadN(a.weight + i, n);
    const Vec g = Vec::Fma(Vec::Set1(a.weight_decay), w, Vec::LoadN(a.gradient + i, n));
    const Vec v = Vec::Fma(Vec::Set1(a.momentum), Vec::LoadN(a.velocity + i, n), g);
    v.StoreN(a.velocity + i, n);
    Vec::Fma(Vec::Set1(-a.rate), v, w).StoreN(a.weight + i, n);
  }
}
