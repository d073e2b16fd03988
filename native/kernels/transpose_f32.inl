// Between row-major batches and panels, in tiles of 16 x 16 that stay in L1.

void ToPanel(const float* const* rows, int64_t count, int64_t k, float* panel, int64_t width) {
  for (int64_t f0 = 0; f0 < k; f0 += 16) {
    const int64_t f1 = f0 + 16 < k ? f0 + 16 : k;
    for (int64_t lane0 = 0; lane0 < width; lane0 += 16) {
      float tile[16][16];
      for (int64_t l = 0; l < 16; ++l) {
        if (lane0 + l < count) {
          const float* row = rows[lane0 + l];
          for (int64_t f = f0; f < f1; ++f) tile[f - f0][l] = row[f];
        } else {
          for (int64_t f = f0; f < f1; ++f) tile[f - f0][l] = 0.0f;
        }
      }
      for (int64_t f = f0; f < f1; ++f) {
        for (int64_t l = 0; l < 16; l += Vec::kWidth) {
          Vec::Load(&tile[f - f0][l]).Store(panel + f * width + lane0 + l);
        }
      }
    }
  }
}

void FromPanel(const float* panel, int64_t width, int64_t count, int64_t n, float* out) {
  for (int64_t f0 = 0; f0 < n; f0 += 16) {
    const int64_t f1 = f0 + 16 < n ? f0 + 16 : n;
    for (int64_t lane = 0; lane < count; ++lane) {
      for (int64_t f = f0; f < f1; ++f) out[lane * n + f] = panel[f * width + lane];
    }
  }
}
