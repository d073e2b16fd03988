// What short_forward_f32.inl computes, in its order: group i of a block row is added to sum i mod `turns`.
void ShortSample(const RowsForwardArgs& a, int64_t sample, int64_t turns) {
  const int64_t r = a.w.r, c = a.w.c;
  for (int64_t row = a.begin; row < a.end; ++row) {
    Vec sum[4][kGroup];
    for (auto& group : sum) std::fill(std::begin(group), std::end(group), Vec::Zero());
    int64_t place = 0;  // of a weight within its block row
    for (int32_t e = a.w.ptr[row]; e < a.w.ptr[row + 1]; ++e) {
      const bool cut = (a.w.index[e] + 1) * c > a.w.in;
      if (cut) place = 0;
      for (int64_t i = 0; i < r * c; ++i, ++place) {
        const int64_t column = a.w.index[e] * c + i / r;
        if (column >= a.w.in) continue;
        Vec& to = sum[cut ? 0 : place / kGroup % turns][place % kGroup];
        to = Vec::Fma(Vec::Load(a.w.values + e * r * c + i), Vec::Load(a.x + sample * a.w.in + column), to);
      }
    }
    for (int64_t half = turns / 2; half > 0; half /= 2) {
      for (int64_t t = 0; t < half; ++t) {
        for (int64_t lane = 0; lane < kGroup; ++lane) sum[t][lane] = sum[t][lane] + sum[t + half][lane];
      }
    }
    for (int64_t half = kGroup / 2; half >= r; half /= 2) {
      for (int64_t lane = 0; lane < half; ++lane) sum[0][lane] = sum[0][lane] + sum[0][lane + half];
    }
    for (int64_t i = 0; i < r && row * r + i < a.w.out; ++i) {
      const int64_t out = row * r + i;
      const Vec z = a.bias == nullptr ? sum[0][i] : sum[0][i] + Vec::Load(a.bias + out);
      Act(a.activation, z).Store(a.y + sample * a.w.out + out);
    }
  }
}

void ShortOrRowsForward(const RowsForwardArgs& a) {
  if (!TakesGroups(a.w, a.m)) return RowsForward(a);
  for (int64_t sample = 0; sample < a.m; ++sample) {
    const bool in_three_or_four = sample < a.m / 4 * 4 || a.m % 4 == 3;
    ShortSample(a, sample, in_three_or_four ? 2 : 4);
  }
}

Tile TileOfShortOrRows(const RowsForwardArgs& a) {
  if (!TakesGroups(a.w, a.m)) return TileOfRows(a);
  return {a.w.r < a.w.out ? a.w.r : a.w.out, 1};
}
