// The row-major design for blocks of 2, 4 and 8 rows and few batch rows: vectors hold columns of a block side
// by side, against as many numbers of x, each spread over its rows. A tile of one column at a time would
// leave half of a vector or more empty, and spread a number for every column. kLanes are a line, of two
// groups, whatever the instruction set: the order of sums is theirs.

// How blocks fill lines: four of 2x2 are one, one of 4x4 is one, others are an even number.
enum class Fill { kQuarter, kOne, kTwos };

// What half a group is multiplied by where there is no second block.
constexpr float kZeros[2] = {};

// A line of weights times numbers of x: those of part h for batch row b are x_of(b, h).
template <int B, typename Numbers>
ALWAYS_INLINE void AddLine(Vec (&sum)[B][kHalves], const float* p, const Numbers& x_of) {
  Each<kHalves>(EACH(h) {
    Vec weight = Vec::Load(p + h * Vec::kWidth);
    weight.Pin();
    Each<B>(EACH(b) { sum[b][h] = Vec::Fma(weight, x_of(b, h), sum[b][h]); });
  });
}

// The columns of R rows that begin at x, batch rows `stride` apart.
template <int R, int B>
ALWAYS_INLINE void AddColumns(Vec (&sum)[B][kHalves], const float* p, const float* x, int64_t stride) {
  AddLine(
      sum, p, [&](auto b, auto h) __attribute__((always_inline)) {
        return Vec::template Spread<R>(x + b * stride + h * Vec::kWidth / R);
      });
}

// The first n weights of group g of a line.
template <int g, int B, typename Numbers>
ALWAYS_INLINE void AddGroup(Vec (&sum)[B][kHalves], const float* p, int64_t n, const Numbers& x_of) {
  constexpr int kParts = Vec::kWidth < kGroup ? static_cast<int>(kGroup / Vec::kWidth) : 1;
  Each<kParts>(EACH(h) {
    constexpr int64_t first = h * Vec::kWidth;
    const int64_t left = n < first ? 0 : n - first;
    Vec weight = left < Vec::kWidth ? Vec::LoadN(p + first, left) : Vec::Load(p + first);
    weight.Pin();
    Each<B>(EACH(b) { sum[b][g * kParts + h] = Vec::Fma(weight, x_of(b, h), sum[b][g * kParts + h]); });
  });
}

// Group g of a line: two blocks of 2x2, each with its own columns, or one. V is Vec, looked into only where
// this is called: vectors of a whole line have no SpreadPair.
template <int g, typename V = Vec, int B>
ALWAYS_INLINE void AddPair(Vec (&sum)[B][kHalves], const float* p, int64_t n, const float* x,
                           const float* other, int64_t stride, int64_t other_stride) {
  AddGroup<g>(
      sum, p, n, [&](auto b, auto h) __attribute__((always_inline)) {
        return V::template SpreadPair<h * Vec::kWidth>(x + b * stride, other + b * other_stride);
      });
}

// From the line's sums to those of R rows: of lanes i, i + R, ... pairwise, the farthest first.
template <int R, int B>
ALWAYS_INLINE void JoinColumns(Vec (&sum)[B][kHalves]) {
  const auto fold = [&](auto half) __attribute__((always_inline)) {
    if constexpr (half >= R && half >= Vec::kWidth) {
      constexpr int parts = half / Vec::kWidth;
      Each<B>(EACH(b) { Each<parts>(EACH(h) { sum[b][h] = sum[b][h] + sum[b][h + parts]; }); });
    } else if constexpr (half >= R) {
      Each<B>(EACH(b) { sum[b][0] = sum[b][0].template AddUpper<half>(); });
    }
  };
  fold(std::integral_constant<int, 8>());
  fold(std::integral_constant<int, 4>());
  fold(std::integral_constant<int, 2>());
}

// The R rows of block row `row` to y.
template <int R, int B>
ALWAYS_INLINE void StoreShort(const RowsForwardArgs& a, int64_t row, int64_t sample, Vec (&sum)[B][kHalves]) {
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

// All block rows against B batch rows, in blocks of R rows, P block rows at once. L lines of sums
// take the lines of a block row in turn, for enough FMAs in flight.
template <int R, Fill fill, int B, int L, int P>
__attribute__((noinline)) void ShortTiles(const RowsForwardArgs& a, int64_t sample) {
  constexpr int kColumns = static_cast<int>(kLanes) / R;
  constexpr int kBlocks = fill == Fill::kQuarter ? 4 * L : fill == Fill::kOne ? L : 1;
  const int64_t c = fill == Fill::kQuarter ? 2 : fill == Fill::kOne ? kColumns : a.w.c;
  const int64_t in = a.w.in;
  const int64_t size = R * c;
  const int32_t* index = a.w.index;
  const float* x = a.x + sample * in;
  // Single rows of tall blocks read their weights so fast that the processor fetches ahead as well.
  const bool far = P == 1 && Vec::kUnrolled && (B > 1 || R < 8) && IsFar(a.w);
  for (int64_t row = a.begin; row < a.end; row += P) {
    Vec sum[P][L][B][kHalves];
    int32_t e[P], whole[P];
    const float* weights[P];
    int32_t turns = INT32_MAX;
    Each<P>(EACH(i) {
      Each<L>(EACH(l) { Each<B>(EACH(b) { Each<kHalves>(EACH(h) { sum[i][l][b][h] = Vec::Zero(); }); }); });
      const bool exists = i == 0 || row + i < a.end;
      e[i] = exists ? a.w.ptr[row + i] : 0;
      whole[i] = exists ? a.w.ptr[row + i + 1] : 0;
      weights[i] = a.w.values + e[i] * size;
      // Columns ascend, so only the last block of a row can be cut off by the edge.
      if (e[i] < whole[i] && (index[whole[i] - 1] + 1) * c > in) --whole[i];
      turns = (whole[i] - e[i]) / kBlocks < turns ? (whole[i] - e[i]) / kBlocks : turns;
    });
    const auto turn = [&](auto i) __attribute__((always_inline)) {
      const float* p = weights[i];
      for (int64_t k = 0; far && k < kBlocks * size; k += kLanes)
        __builtin_prefetch(p + kAheadWeights + k, 0, 2);
      const auto at = [&](int32_t u) __attribute__((always_inline)) { return x + index[e[i] + u] * c; };
      if constexpr (fill == Fill::kQuarter) {
        Each<2 * L>(EACH(t) {
          AddPair<t % 2>(sum[i][t / 2], p + t * kGroup, kGroup, at(2 * t), at(2 * t + 1), in, in);
        });
      } else if constexpr (fill == Fill::kOne) {
        Each<L>(EACH(l) { AddColumns<R>(sum[i][l], p + l * kLanes, at(l), in); });
      } else {
        const float* numbers = at(0);
        for (int64_t k = 0; k < c; k += L * kColumns) {
          Each<L>(EACH(l) {
            AddColumns<R>(sum[i][l], p + (k + l * kColumns) * R, numbers + k + l * kColumns, in);
          });
        }
      }
      e[i] += kBlocks;
      weights[i] += kBlocks * size;
    };
    for (; P > 1 && turns > 0; --turns) Each<P>(turn);
    Each<P>(EACH(i) {
      if (i > 0 && row + i >= a.end) return;
      while (whole[i] - e[i] >= kBlocks) turn(i);
      const int32_t left = whole[i] - e[i];
      const float* p = weights[i];
      const auto at = [&](int32_t u) __attribute__((always_inline)) { return x + index[e[i] + u] * c; };
      if constexpr (fill == Fill::kQuarter) {
        Each<2 * L>(EACH(t) {
          if (left >= 2 * t + 2) {
            AddPair<t % 2>(sum[i][t / 2], p + t * kGroup, kGroup, at(2 * t), at(2 * t + 1), in, in);
          } else if (left == 2 * t + 1) {
            AddPair<t % 2>(sum[i][t / 2], p + t * kGroup, size, at(2 * t), kZeros, in, 0);
          }
        });
      } else if constexpr (kBlocks > 1) {
        if (left > 0) AddColumns<R>(sum[i][0], p, at(0), in);
      }
      // Columns past the edge are zero, whatever lies there.
      const bool cut = whole[i] < a.w.ptr[row + i + 1];
      for (int64_t k = 0; cut && index[whole[i]] * c + k < in; k += kGroup / R) {
        const int64_t column = index[whole[i]] * c + k;
        float edge[B][kLanes] = {};
        CopyRows(x + column, in, B, in - column < kGroup / R ? in - column : kGroup / R, &edge[0][0], kLanes);
        const float* last = p + left * size + k * R;
        if constexpr (fill == Fill::kQuarter) {
          AddPair<0>(sum[i][0], last, size, &edge[0][0], kZeros, kLanes, 0);
        } else {
          AddGroup<0>(
              sum[i][0], last, kGroup, [&](auto b, auto h) __attribute__((always_inline)) {
                return Vec::template Spread<R>(&edge[b][h * Vec::kWidth / R]);
              });
        }
      }
      if constexpr (L == 2) AddSums(sum[i][0], sum[i][1]);
      JoinColumns<R>(sum[i][0]);
      StoreShort<R>(a, row + i, sample, sum[i][0]);
    });
  }
}

// Eight vectors in flight, or six; for single rows four, which wait for their weights: of two block rows
// where a vector is a whole line, or of one for eight batch rows of blocks of eight (4x4, whose block is one
// line, would wait for the index). Without an instruction set of its own more than one row is not worth the
// code, and the bits are not those of the others anyway.
template <int R, Fill fill>
void ShortTilesOf(const RowsForwardArgs& a) {
  constexpr int P = kHalves == 1 ? 2 : 1;
  if constexpr (kHalves == 1 && R == 8) {
    if (a.m == kShortBatch) return ShortTiles<R, fill, kShortBatch, 1, 1>(a, 0);
  }
  int64_t sample = 0;
  if constexpr (Vec::kUnrolled) {
    for (; sample + 4 <= a.m; sample += 4) ShortTiles<R, fill, 4, 1, P>(a, sample);
    if (a.m - sample == 3) return ShortTiles<R, fill, 3, 1, P>(a, sample);
    if (a.m - sample == 2) return ShortTiles<R, fill, 2, 2, P>(a, sample);
  }
  for (; sample < a.m; ++sample) ShortTiles<R, fill, 1, 2, P>(a, sample);
}

// Weights from beyond L2 that two tiles of batch rows read are read by so many block rows at once, that the
// second tile finds them in L2: 400 KB of 8x8 with 3072 columns of which half are left.
constexpr int64_t kShortRows = 8;

template <int R, Fill fill>
void ShortBlocks(const RowsForwardArgs& a) {
  if (a.m <= 4 || !IsFar(a.w)) return ShortTilesOf<R, fill>(a);
  RowsForwardArgs part = a;
  for (; part.begin < a.end; part.begin = part.end) {
    part.end = a.end - part.begin < kShortRows ? a.end : part.begin + kShortRows;
    ShortTilesOf<R, fill>(part);
  }
}

// Their tile, or that of RowsForward.
Tile TileOfShortOrRows(const RowsForwardArgs& a) {
  if (!TakesGroups(a.w, a.m)) return TileOfRows(a);
  const bool all = a.m < 4 || (kHalves == 1 && a.w.r == 8 && a.m == kShortBatch);
  return {a.w.r < a.w.out ? a.w.r : a.w.out, !Vec::kUnrolled ? 1 : all ? a.m : 4};
}

// RowsForward with the blocks above.
void ShortOrRowsForward(const RowsForwardArgs& a) {
  if (!TakesGroups(a.w, a.m)) return RowsForward(a);
  if (a.w.r == 8) return ShortBlocks<8, Fill::kTwos>(a);
  if (a.w.r == 4 && a.w.c == 4) return ShortBlocks<4, Fill::kOne>(a);
  if (a.w.r == 4) return ShortBlocks<4, Fill::kTwos>(a);
  // Blocks of two rows do not come to vectors of a whole line (FillHalves).
  constexpr int kRows = kHalves > 1 ? 2 : 4;
  constexpr Fill kFill = kHalves > 1 ? Fill::kQuarter : Fill::kOne;
  if (kHalves > 1 && a.w.c > 2) return ShortBlocks<kRows, Fill::kTwos>(a);
  ShortBlocks<kRows, kFill>(a);
}
