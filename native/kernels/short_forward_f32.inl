// The row-major design for blocks of 2, 4 and 8 rows and few batch rows: a vector holds columns of a block
// side by side, against as many numbers of x, each spread over its rows. A tile of one column at a time would
// leave half of a vector or more empty, and spread a number for every column.

// Lanes of columns side by side, whatever the instruction set: the order of sums is theirs. Wider vectors
// have nothing to fill them with that lies together in short rows, and leave these blocks to AVX2's
// (FillHalves).
constexpr int kParts = static_cast<int>(kGroup / Vec::kWidth);

// How blocks fill groups: two of 2x2 are one, one of 4x4 is two, others are a multiple of four.
enum class Fill { kHalf, kTwo, kFours };

// What half a group is multiplied by where there is no second block.
constexpr float kZeros[2] = {};

// A group of weights, or its first n, times numbers of x: those of part h for batch row b are x_of(b, h).
template <int B, typename Numbers>
ALWAYS_INLINE void AddGroup(Vec (&sum)[B][kParts], const float* p, int64_t n, const Numbers& x_of) {
  Each<kParts>(EACH(h) {
    constexpr int64_t first = h * Vec::kWidth;
    Vec weight = n == kGroup ? Vec::Load(p + first) : Vec::LoadN(p + first, n < first ? 0 : n - first);
    weight.Pin();
    Each<B>(EACH(b) { sum[b][h] = Vec::Fma(weight, x_of(b, h), sum[b][h]); });
  });
}

// The group of R rows whose columns begin at x, batch rows `stride` apart.
template <int R, int B>
ALWAYS_INLINE void AddColumns(Vec (&sum)[B][kParts], const float* p, const float* x, int64_t stride) {
  AddGroup(
      sum, p, kGroup, [&](auto b, auto h) __attribute__((always_inline)) {
        return Vec::template Spread<R>(x + b * stride + h * Vec::kWidth / R);
      });
}

// Two blocks of 2x2, each with its own columns, or one.
template <int B>
ALWAYS_INLINE void AddPair(Vec (&sum)[B][kParts], const float* p, int64_t n, const float* x,
                           const float* other, int64_t stride, int64_t other_stride) {
  AddGroup(
      sum, p, n, [&](auto b, auto h) __attribute__((always_inline)) {
        return Vec::template SpreadPair<h * Vec::kWidth>(x + b * stride, other + b * other_stride);
      });
}

// From the group's sums to those of R rows: of lanes i, i + R, ... pairwise, the farthest first.
template <int R, int B>
ALWAYS_INLINE void JoinColumns(Vec (&sum)[B][kParts]) {
  const auto fold = [&](auto half) __attribute__((always_inline)) {
    if constexpr (half >= R && half >= Vec::kWidth) {
      constexpr int parts = half / Vec::kWidth;
      Each<B>(EACH(b) { Each<parts>(EACH(h) { sum[b][h] = sum[b][h] + sum[b][h + parts]; }); });
    } else if constexpr (half >= R) {
      Each<B>(EACH(b) { sum[b][0] = sum[b][0].template AddUpper<half>(); });
    }
  };
  fold(std::integral_constant<int, 4>());
  fold(std::integral_constant<int, 2>());
}

// The R rows of block row `row` to y.
template <int R, int B>
ALWAYS_INLINE void StoreShort(const RowsForwardArgs& a, int64_t row, int64_t sample, Vec (&sum)[B][kParts]) {
  constexpr int kVectors = R < Vec::kWidth ? 1 : R / Vec::kWidth;
  const int64_t out_row = row * R;
  const int64_t lanes = a.w.out - out_row < R ? a.w.out - out_row : R;
  if (a.bias != nullptr) {
    Each<kVectors>(EACH(v) {
      const int64_t n = lanes - v * Vec::kWidth;
      const Vec start = Vec::LoadN(a.bias + out_row + v * Vec::kWidth, n < 0 ? 0 : n);
      Each<B>(EACH(b) { sum[b][v] = sum[b][v] + start; });
    });
  }
  // Max gives its second operand when they do not compare, so NaN stays.
  if (a.activation == Activation::kRelu) {
    Each<kVectors>(EACH(v) { Each<B>(EACH(b) { sum[b][v] = Vec::Max(Vec::Zero(), sum[b][v]); }); });
  }
  float* y = a.y + sample * a.w.out + out_row;
  Each<B>(EACH(b) {
    float* to = y + b * a.w.out;
    if (lanes == R) {
      Each<kVectors>(EACH(v) {
        sum[b][v].template StoreFirst<(R < Vec::kWidth ? R : Vec::kWidth)>(to + v * Vec::kWidth);
      });
    } else {
      float all[kVectors * Vec::kWidth];
      Each<kVectors>(EACH(v) { sum[b][v].Store(all + v * Vec::kWidth); });
      for (int64_t i = 0; i < lanes; ++i) to[i] = all[i];
    }
  });
  if (a.activation != Activation::kNone && a.activation != Activation::kRelu) {
    for (int b = 0; b < B; ++b) Activate(a.activation, y + b * a.w.out, y + b * a.w.out, lanes);
  }
}

// All block rows against B batch rows, in blocks of R rows. T sums take the groups of a block row in turn,
// for enough FMAs in flight.
template <int R, Fill fill, int B, int T>
__attribute__((noinline)) void ShortTiles(const RowsForwardArgs& a, int64_t sample) {
  constexpr int kColumns = kGroup / R;
  constexpr int kBlocks = fill == Fill::kHalf ? 2 * T : fill == Fill::kTwo ? T / 2 : 1;
  const int64_t c = fill == Fill::kHalf ? 2 : fill == Fill::kTwo ? 2 * kColumns : a.w.c;
  const int64_t in = a.w.in;
  const int64_t size = R * c;
  const int32_t* index = a.w.index;
  const float* x = a.x + sample * in;
  // Single rows of tall blocks read their weights so fast that the processor fetches ahead as well.
  const bool far = Vec::kUnrolled && (B > 1 || R < 8) && IsFar(a.w);
  for (int64_t row = a.begin; row < a.end; ++row) {
    Vec sum[T][B][kParts];
    Each<T>(EACH(t) { Each<B>(EACH(b) { Each<kParts>(EACH(h) { sum[t][b][h] = Vec::Zero(); }); }); });
    int32_t e = a.w.ptr[row];
    const int32_t end = a.w.ptr[row + 1];
    // Columns ascend, so only the last block of a row can be cut off by the edge.
    const bool cut = e < end && (index[end - 1] + 1) * c > in;
    const float* p = a.w.values + e * size;
    const auto at = [&](int32_t u) __attribute__((always_inline)) { return x + index[e + u] * c; };
    for (; e + kBlocks <= end - cut; e += kBlocks, p += kBlocks * size) {
      for (int64_t i = 0; far && i < kBlocks * size; i += kLanes)
        __builtin_prefetch(p + kAheadWeights + i, 0, 2);
      if constexpr (fill == Fill::kHalf) {
        Each<T>(EACH(t) { AddPair(sum[t], p + t * kGroup, kGroup, at(2 * t), at(2 * t + 1), in, in); });
      } else if constexpr (fill == Fill::kTwo) {
        Each<T>(EACH(t) { AddColumns<R>(sum[t], p + t * kGroup, at(t / 2) + t % 2 * kColumns, in); });
      } else {
        const float* numbers = at(0);
        for (int64_t k = 0; k < c; k += T * kColumns) {
          Each<T>(
              EACH(t) { AddColumns<R>(sum[t], p + (k + t * kColumns) * R, numbers + k + t * kColumns, in); });
        }
      }
    }
    // What is left of a turn.
    if constexpr (fill == Fill::kHalf) {
      Each<T>(EACH(t) {
        const int32_t left = end - cut - e - 2 * t;
        if (left >= 2) {
          AddPair(sum[t], p + t * kGroup, kGroup, at(2 * t), at(2 * t + 1), in, in);
        } else if (left == 1) {
          AddPair(sum[t], p + t * kGroup, size, at(2 * t), kZeros, in, 0);
        }
      });
    } else if constexpr (kBlocks > 1) {
      Each<T>(EACH(t) {
        if (e + t / 2 < end - cut) AddColumns<R>(sum[t], p + t * kGroup, at(t / 2) + t % 2 * kColumns, in);
      });
    }
    // Columns past the edge are zero, whatever lies there.
    for (int64_t k = 0; cut && index[end - 1] * c + k < in; k += kColumns) {
      const int64_t column = index[end - 1] * c + k;
      float edge[B][kGroup] = {};
      CopyRows(x + column, in, B, in - column < kColumns ? in - column : kColumns, &edge[0][0], kGroup);
      const float* last = a.w.values + (end - 1) * size + k * R;
      if constexpr (fill == Fill::kHalf) {
        AddPair(sum[0], last, size, &edge[0][0], kZeros, kGroup, 0);
      } else {
        AddColumns<R>(sum[0], last, &edge[0][0], kGroup);
      }
    }
    if constexpr (T == 4) {
      AddSums(sum[0], sum[2]);
      AddSums(sum[1], sum[3]);
    }
    AddSums(sum[0], sum[1]);
    JoinColumns<R>(sum[0]);
    StoreShort<R>(a, row, sample, sum[0]);
  }
}

// Eight groups in flight, or six; for single rows four, which wait for their weights. Without an instruction
// set of its own more than one row is not worth the code, and the bits are not those of the others anyway.
template <int R, Fill fill>
void ShortBlocks(const RowsForwardArgs& a) {
  int64_t sample = 0;
  if constexpr (Vec::kUnrolled) {
    for (; sample + 4 <= a.m; sample += 4) ShortTiles<R, fill, 4, 2>(a, sample);
    if (a.m - sample == 3) return ShortTiles<R, fill, 3, 2>(a, sample);
    if (a.m - sample == 2) return ShortTiles<R, fill, 2, 4>(a, sample);
  }
  for (; sample < a.m; ++sample) ShortTiles<R, fill, 1, 4>(a, sample);
}

// RowsForward with the blocks above.
void ShortOrRowsForward(const RowsForwardArgs& a) {
  if (!TakesGroups(a.w, a.m)) return RowsForward(a);
  if (a.w.r == 8) return ShortBlocks<8, Fill::kFours>(a);
  if (a.w.r == 4 && a.w.c == 4) return ShortBlocks<4, Fill::kTwo>(a);
  if (a.w.r == 4) return ShortBlocks<4, Fill::kFours>(a);
  return a.w.c == 2 ? ShortBlocks<2, Fill::kHalf>(a) : ShortBlocks<2, Fill::kFours>(a);
}
