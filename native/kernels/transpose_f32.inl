// Between row-major batches and panels, in square tiles of one vector a side, transposed in registers.

// Columns of the first tile, after which vectors of the row-major side are aligned, in all rows if they lie
// whole lines apart: large arrays of JavaScript's begin 16 bytes into a line. Lines that two tiles write a
// half of each can leave L1 in between, and come and go twice.
inline int64_t FirstColumns(const float* row, int64_t columns) {
  const auto number = static_cast<int64_t>(reinterpret_cast<std::uintptr_t>(row) / sizeof(float));
  const int64_t first = Vec::kWidth - number % Vec::kWidth;
  return first < columns ? first : columns;
}

void ToPanel(const float* const* rows, int64_t count, int64_t k, float* panel, int64_t width) {
  for (int64_t lane = 0; lane < width; lane += Vec::kWidth) {
    int64_t n = FirstColumns(rows[0], k);
    for (int64_t f = 0; f < k; f += n, n = k - f < Vec::kWidth ? k - f : Vec::kWidth) {
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
    int64_t features = FirstColumns(out, n);
    for (int64_t f = 0; f < n; f += features, features = n - f < Vec::kWidth ? n - f : Vec::kWidth) {
      Vec tile[Vec::kWidth];
      for (int64_t i = 0; i < Vec::kWidth; ++i) {
        tile[i] = i < features ? Vec::Load(panel + (f + i) * width + lane) : Vec::Zero();
      }
      Vec::Transpose(tile);
      for (int64_t i = 0; i < lanes; ++i) tile[i].StoreN(out + (lane + i) * stride + f, features);
    }
  }
}
