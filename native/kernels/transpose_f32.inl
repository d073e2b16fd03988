// Between row-major batches and panels, in square tiles of one vector a side, transposed in registers.

void ToPanel(const float* const* rows, int64_t count, int64_t k, float* panel, int64_t width) {
  for (int64_t lane = 0; lane < width; lane += Vec::kWidth) {
    for (int64_t f = 0; f < k; f += Vec::kWidth) {
      const int64_t n = k - f < Vec::kWidth ? k - f : Vec::kWidth;
      Vec tile[Vec::kWidth];
      for (int64_t i = 0; i < Vec::kWidth; ++i) {
        // Padding lanes are zero.
        tile[i] = lane + i < count ? Vec::LoadN(rows[lane + i] + f, n) : Vec::Zero();
      }
      Vec::Transpose(tile);
      for (int64_t i = 0; i < n; ++i) tile[i].Store(panel + (f + i) * width + lane);
    }
  }
}

void FromPanel(const float* panel, int64_t width, int64_t count, int64_t n, float* out, int64_t stride) {
  for (int64_t lane = 0; lane < count; lane += Vec::kWidth) {
    const int64_t lanes = count - lane < Vec::kWidth ? count - lane : Vec::kWidth;
    for (int64_t f = 0; f < n; f += Vec::kWidth) {
      const int64_t features = n - f < Vec::kWidth ? n - f : Vec::kWidth;
      Vec tile[Vec::kWidth];
      for (int64_t i = 0; i < Vec::kWidth; ++i) {
        tile[i] = i < features ? Vec::Load(panel + (f + i) * width + lane) : Vec::Zero();
      }
      Vec::Transpose(tile);
      for (int64_t i = 0; i < lanes; ++i) tile[i].StoreN(out + (lane + i) * stride + f, features);
    }
  }
}
