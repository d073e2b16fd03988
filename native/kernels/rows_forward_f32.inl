// The row-major design: vectors along a block's rows, x broadcast. Weights are packed
// k-major ([c][r]), so a block streams once, contiguous.

// Vectors along a block row that a tile takes together: 16 rows or more, a whole cache line of every column.
constexpr int kRowVectors = !Vec::kUnrolled ? 1 : kHalves > 2 ? kHalves : 2;

// Batch rows that share a pointer: two strides are an addressing mode away, and a pointer for each row would
// not fit the registers.
constexpr int kRowsAPointer = 3;

// x of B batch rows as a tile reads it, a column at a time: in place, where their stride is the layer's
// inputs,
template <int B>
struct PlaceColumn {
  static constexpr int kPointers = (B + kRowsAPointer - 1) / kRowsAPointer;
  const float* x[kPointers];
  int64_t in;
  ALWAYS_INLINE PlaceColumn(const float* at, int64_t in) : in(in) {
    Each<kPointers>(EACH(g) { x[g] = at + kRowsAPointer * g * in; });
  }
  ALWAYS_INLINE const float* At(int b) const { return x[b / kRowsAPointer] + b % kRowsAPointer * in; }
  ALWAYS_INLINE float operator[](int b) const { return *At(b); }
  ALWAYS_INLINE void Next() {
    Each<kPointers>(EACH(g) { ++x[g]; });
  }
};

// or copied by lines (CopyLines), where it is a constant, and one pointer reaches all of them.
template <int B>
struct LineColumn {
  const float* x;
  ALWAYS_INLINE float operator[](int b) const { return x[b * kLanes]; }
  ALWAYS_INLINE void Next() { ++x; }
};

// One column of a block: V vectors of weights against an x of each batch row. Tiles of two strips find the
// weights of the second `strip` floats further on. What there is less of stays in registers.
template <int B, int V, typename Column>
ALWAYS_INLINE void RowsColumn(Vec (&sum)[B][V], const float* p, int64_t strip, const Column& x) {
  const auto weight_of = [&](auto v) __attribute__((always_inline)) {
    auto weight = Vec::Load(p + v / kRowVectors * strip + v % kRowVectors * Vec::kWidth);
    weight.Pin();
    return weight;
  };
  if constexpr (V > B && B > 1) {
    Vec one[B];
    Each<B>(EACH(b) {
      one[b] = Vec::Set1(x[b]);
      one[b].Pin();
    });
    Each<V>(EACH(v) {
      const Vec weight = weight_of(v);
      Each<B>(EACH(b) { sum[b][v] = Vec::Fma(weight, one[b], sum[b][v]); });
    });
  } else {
    Vec weight[V];
    Each<V>(EACH(v) { weight[v] = weight_of(v); });
    Each<B>(EACH(b) {
      const Vec one = Vec::Set1(x[b]);
      Each<V>(EACH(v) { sum[b][v] = Vec::Fma(weight[v], one, sum[b][v]); });
    });
  }
}

// The columns of a block, `depth` of them: S sums from F on take them in turn, the first of them what is left
// over; a constant depth unrolls.
template <int S, int F, int B, int V, int U, typename Column>
ALWAYS_INLINE void RowsBlock(Vec (&sum)[U][B][V], int64_t depth, const float* p, int64_t r, int64_t strip,
                             Column x) {
  int64_t k = 0;
  for (; k + S <= depth; k += S) {
    Each<S>(EACH(s) {
      RowsColumn(sum[F + s], p, strip, x);
      x.Next();
      p += r;
    });
  }
  for (; S > 1 && k < depth; ++k) {
    RowsColumn(sum[0], p, strip, x);
    x.Next();
    p += r;
  }
}

// The batch rows of x from some row on, in place.
struct InPlace {
  const float* x;
  int64_t in;
  InPlace From(int64_t sample) const { return {x + sample * in, in}; }
  const float* At(int64_t column) const { return x + column; }
  template <int S, int F, int B, int V, int U>
  ALWAYS_INLINE void Block(Vec (&sum)[U][B][V], int64_t depth, const float* p, int64_t r, int64_t strip,
                           const float* at) const {
    RowsBlock<S, F>(sum, depth, p, r, strip, PlaceColumn<B>(at, in));
  }
};

// The same, copied: columns from a multiple of kLanes on are a line for each of `lines` batch rows. Blocks
// are whole lines wide or divide one.
struct ByLines {
  const float* x;
  int64_t lines;
  ByLines From(int64_t sample) const { return {x + sample * kLanes, lines}; }
  const float* At(int64_t column) const {
    const uint64_t k = static_cast<uint64_t>(column);
    return x + k / kLanes * kLanes * lines + k % kLanes;
  }
  template <int S, int F, int B, int V, int U>
  ALWAYS_INLINE void Block(Vec (&sum)[U][B][V], int64_t depth, const float* p, int64_t r, int64_t strip,
                           const float* at) const {
    for (;;) {
      int64_t columns = depth < kLanes ? depth : kLanes;
      asm("" : "+r"(columns));  // GCC would unroll what it knows to be at most a line
      RowsBlock<S, F>(sum, columns, p, r, strip, LineColumn<B>{at});
      depth -= kLanes;
      if (depth <= 0) return;
      at += lines * kLanes;
      p += kLanes * r;
    }
  }
};

ALWAYS_INLINE InPlace InPlaceFrom(const RowsForwardArgs& a, int64_t sample) {
  return {a.x + sample * a.w.in, a.w.in};
}

// The first n of each row.
inline __attribute__((noinline)) void CopyRows(const float* from, int64_t from_stride, int64_t rows,
                                               int64_t n, float* to, int64_t to_stride) {
  for (int64_t b = 0; b < rows; ++b) {
    for (int64_t i = 0; i < n; ++i) to[b * to_stride + i] = from[b * from_stride + i];
  }
}

// Weights that tiles of one kind go through before the next kind does: 128 KB, half of the smallest L2 there
// is.
constexpr int64_t kSpanWeights = 32 * 1024;

// Whether tiles can take x from a copy. Where a vector is a line and there are 32 registers those of single
// vectors have 24 batch rows, more than there are registers to point at them in place.
constexpr bool kCopies = Vec::kUnrolled && kHalves == 1;
// Weights for each column of x from which on a copy is worth its time: where the two met when measured. 768
// outputs have 77 at 90 % sparsity.
constexpr int64_t kLeastUses = 64;
// Smaller batches fill no tile of more than twelve; blocks of fewer columns leave the address to one pointer
// for too short a loop.
constexpr int64_t kLeastCopied = 16;
constexpr int64_t kLeastColumns = 4;
// In place batch rows that are a multiple of 4 KB apart fall on one set of L1, which holds eight to twelve:
// tiles of any kind gain by a copy, a tenth to a fifth, if less where they have few rows.
constexpr int64_t kAliased = 1024;

bool TakesLines(const RowsForwardArgs& a) {
  if (TakesGroups(a.w, a.m)) return false;  // which read x in place
  const bool aliased = a.w.in % kAliased == 0;
  if (!kCopies || a.m < (aliased ? kRowsInOrder : kLeastCopied)) return false;
  if (a.w.r >= kRowVectors * Vec::kWidth && !aliased) return false;
  if (a.w.c % kLanes != 0 && (kLanes % a.w.c != 0 || a.w.c < kLeastColumns)) return false;
  return WeightsOf(a) >= (a.m < kLeastCopied ? 2 : 1) * kLeastUses * a.w.in;
}

// Copies batch rows by lines, eight lines of each row at a time: a whole row would go through as many pages
// of the copy as it has lines.
void CopyLines(const float* x, int64_t in, int64_t rows, float* to, int64_t lines) {
  constexpr int kTogether = 8;
  int64_t k = 0;
  const auto copy = [&](auto together) __attribute__((always_inline)) {
    for (; k + together * kLanes <= in; k += together * kLanes) {
      for (int64_t b = 0; b < rows; ++b) {
        Each<together * kHalves>(EACH(v) {
          constexpr int64_t at = v * Vec::kWidth;
          Vec::Load(x + b * in + k + at)
              .Store(to + (k + at / kLanes * kLanes) * lines + b * kLanes + at % kLanes);
        });
      }
    }
  };
  copy(std::integral_constant<int, kTogether>());
  copy(std::integral_constant<int, 1>());
  if (k < in) CopyRows(x + k, in, rows, in - k, to + k * lines, kLanes);
}

// Weights, a kilobyte, from which on it is enough to ask for one line: what lies between the processor
// fetches ahead by itself then, and to ask for it too takes longer than it saves. Tiles with more than one
// sum ask for a line of every kilobyte, others at the beginning of a block; those of eight batch rows and
// more ask for all lines of a smaller one: fewer hinder what fetches ahead. Blocks of constant width are too
// small to ask.
constexpr int64_t kAskedApart = 256;

// Of wide layers AVX2's tiles ask for the first line of the next block in each of their batch rows. Narrower
// blocks come too often to repay it, tiles of one or two batch rows have too few products, and what follows
// in wider blocks the processor fetches. By itself 1.0 to 1.1 times as fast from 2048 inputs on with 16 x 16,
// 16 x 8 and 32 x 32, level at 1024. Measured at 768 to 4096 inputs, 80 and 90 %, Zen 3, as is kWideRows.
constexpr bool kAsksForX = kNarrow && Vec::kUnrolled;
constexpr int64_t kWideInputs = 1024;
constexpr int64_t kLeastAskingColumns = 8;
constexpr int64_t kMostAskingColumns = 32;

// How the partial sums of a tile take turns: columns do within a block, or the blocks of a row, which may
// have any number of columns or, where D > 0, exactly D.
constexpr int kByColumn = 0;
constexpr int kByBlock = -1;

// Block rows [begin, end).
struct RowSpan {
  int64_t begin, end;
};

// f(b, where batch row b of y begins), made when it is needed: the blocks need the registers.
template <int B, typename F>
ALWAYS_INLINE void EachRow(float* y, int64_t y_stride, const F& f) {
  Each<B>(EACH(b) {
    if constexpr (b > 0 && b % kRowsAPointer == 0) {
      y += kRowsAPointer * y_stride;
      asm("" : "+r"(y));
    }
    f(b, y + b % kRowsAPointer * y_stride);
  });
}

// B batch rows of y, the first `stored` of each, which lie y_stride floats apart.
template <int B, int V>
ALWAYS_INLINE void StoreTile(Activation activation, Vec (&sum)[B][V], float* y, int64_t y_stride,
                             int64_t stored) {
  // Max gives its second operand when they do not compare, so NaN stays.
  if (activation == Activation::kRelu) {
    Each<B>(EACH(b) { Each<V>(EACH(v) { sum[b][v] = Vec::Max(Vec::Zero(), sum[b][v]); }); });
  }
  if (stored == V * Vec::kWidth) {
    EachRow<B>(
        y, y_stride, [&](auto b, float* to) __attribute__((always_inline)) {
          Each<V>(EACH(v) { sum[b][v].Store(to + v * Vec::kWidth); });
        });
  } else {
    // By way of memory: few sets store part of a vector well, and none in little code.
    float whole[B][V * Vec::kWidth];
    Each<B>(EACH(b) { Each<V>(EACH(v) { sum[b][v].Store(whole[b] + v * Vec::kWidth); }); });
    CopyRows(&whole[0][0], V * Vec::kWidth, B, stored, y, y_stride);
  }
  if (activation != Activation::kNone && activation != Activation::kRelu) {
    for (int b = 0; b < B; ++b) Activate(activation, y + b * y_stride, y + b * y_stride, stored);
  }
}

// Tiles of B batch rows x V vectors of the rows of a block from row `first` on: for every block row of
// `rows`, `tiles` of them from batch row `sample` on. What a tile needs besides its products is some 50
// cycles, as much as ten columns, so what tiles share is found once. Lanes past the block hold whatever
// follows it, and are not stored. U partial sums keep enough FMAs in flight when the batch alone does not;
// they are joined pairwise, the same on every instruction set. V of twice kRowVectors: a row of `rows` and
// the next one, strips of the same blocks.
template <int B, int V, int U, int D, typename Input>
__attribute__((noinline)) void RowsTiles(const RowsForwardArgs& a, Input input, RowSpan rows, int64_t first,
                                         int64_t sample, int64_t tiles) {
  const int64_t r = a.w.r;
  const int64_t c = D > 0 ? D : a.w.c;
  const int64_t in = a.w.in;
  const int64_t out = a.w.out;
  const int64_t size = r * c;
  const int64_t y_stride = a.y_lines > 0 ? kLanes : out;
  constexpr int64_t kStrips = V > kRowVectors ? 2 : 1;
  const int64_t tile_rows = kStrips * r - first;
  const int32_t* ptr = a.w.ptr;
  const int32_t* index = a.w.index;
  const float* bias = a.bias;
  const Activation activation = a.activation;
  const bool far = IsFar(a.w);
  const bool wide = in >= kWideInputs && c >= kLeastAskingColumns && c <= kMostAskingColumns;
  for (int64_t row = rows.begin; row < rows.end; row += kStrips) {
    const int64_t out_row = row * r + first;
    const int64_t lanes = tile_rows < out - out_row ? tile_rows : out - out_row;
    if (lanes <= 0) return;
    const int64_t stored = lanes < V * Vec::kWidth ? lanes : V * Vec::kWidth;
    Vec start[V];
    Each<V>(EACH(v) {
      const int64_t n = lanes - v * Vec::kWidth;
      start[v] = bias == nullptr    ? Vec::Zero()
                 : n >= Vec::kWidth ? Vec::Load(bias + out_row + v * Vec::kWidth)
                                    : Vec::LoadN(bias + out_row + v * Vec::kWidth, n < 0 ? 0 : n);
    });
    const int32_t begin = ptr[row];
    const int32_t end = ptr[row + 1];
    const int64_t strip = (end - begin) * size;
    const float* values = a.w.values + first;
    // Columns ascend, so only the last block of a row can be cut off by the edge.
    const bool cut = begin < end && (index[end - 1] + 1) * c > in;
    const int32_t* const last = index + end;
    const int32_t* const whole = last - cut;
    // The first tile asks for weights that come later, those of the next row where there are more tiles, at
    // the beginning of each block: for a line every `apart` floats. Tiles of up to eight batch rows are soon
    // done with a block, and ask for one every kLanes columns.
    const bool all = B >= kRowsInOrder && size < kAskedApart;
    const int64_t apart = all ? kLanes : B <= 8 ? kLanes * r : size;
    const int64_t ahead = tiles == 1 ? kAheadWeights : kStrips * strip;
    float* y = a.y + (a.y_lines > 0 ? sample * kLanes + out_row * a.y_lines : sample * out + out_row);
    for (int64_t tile = 0; tile < tiles; ++tile, y += B * y_stride) {
      const Input x = input.From(tile * B);
      // Stores wait for their lines, and tiles for stores.
      EachRow<B>(
          y, y_stride, [](auto, float* to) __attribute__((always_inline)) { __builtin_prefetch(to, 1); });
      Vec sum[U][B][V];
      Each<U>(EACH(u) {
        Each<B>(EACH(b) { Each<V>(EACH(v) { sum[u][b][v] = U == 1 ? start[v] : Vec::Zero(); }); });
      });
      int32_t e = begin;
      if constexpr (D > 0) {
        for (; e + U <= end - cut; e += U) {
          Each<U>(EACH(u) {
            x.template Block<1, u>(sum, D, values + (e + u) * size, r, strip,
                                   x.At(int64_t{index[e + u]} * D));
          });
        }
        Each<U>(EACH(u) {
          if (e + u >= end) return;
          const int64_t column = int64_t{index[e + u]} * D;
          const int64_t depth = in - column < D ? in - column : D;
          x.template Block<1, u>(sum, depth, values + (e + u) * size, r, strip, x.At(column));
        });
      } else if constexpr (U == 1) {
        // The address of the next block is ready when its turn comes. What else a block needs is kept small:
        // those of two or four columns have too few products to hide it.
        const float* p = values + begin * size;
        const float* at = begin < end ? x.At(index[begin] * c) : nullptr;
        for (const int32_t* block = index + begin; block < whole; p += size) {
          ++block;
          const float* next = x.At(*(block < last ? block : block - 1) * c);
          asm("" : "+r"(next));
          if constexpr (kAsksForX && B > 2) {
            if (wide) {
              const PlaceColumn<B> column(next, in);
              Each<B>(EACH(b) { __builtin_prefetch(column.At(b)); });
            }
          }
          if (far && tile == 0) {
            for (int64_t i = 0; i < size; i += apart)
              Each<kStrips>(EACH(t) { __builtin_prefetch(p + t * strip + ahead + i, 0, 2); });
          }
          x.template Block<1, 0>(sum, c, p, r, strip, at);
          at = next;
        }
        if (cut) x.template Block<1, 0>(sum, in - *whole * c, p, r, strip, at);
      } else {
        constexpr int kBlocks = D == kByBlock ? U : 1;
        for (; e < end; e += kBlocks) {
          const float* p = values + e * size;
          if (far && tile == 0 && e * size % kAskedApart < kBlocks * size)
            __builtin_prefetch(p + kAheadWeights, 0, 2);
          Each<kBlocks>(EACH(u) {
            if (u > 0 && e + u >= end) return;
            const int64_t column = index[e + u] * c;
            const int64_t depth = in - column < c ? in - column : c;
            x.template Block<D == kByBlock ? 1 : U, u>(sum, depth, p + u * size, r, strip, x.At(column));
          });
        }
      }
      // Pairwise: the second half onto the first.
      if constexpr (U == 4) {
        AddSums(sum[0], sum[2]);
        AddSums(sum[1], sum[3]);
      }
      if constexpr (U > 1) {
        AddSums(sum[0], sum[1]);
        Each<B>(EACH(b) { Each<V>(EACH(v) { sum[0][b][v] = sum[0][b][v] + start[v]; }); });
      }
      StoreTile(activation, sum[0], y, y_stride, stored);
    }
  }
}

// As a tile of RowsTiles, two block rows of one vector at once: one alone has no more sums than are in
// flight, and waits for them at its end. `rows` are whole, and an even number.
template <int B>
__attribute__((noinline)) void RowPairs(const RowsForwardArgs& a, InPlace x, RowSpan rows, int64_t sample) {
  const int64_t r = Vec::kWidth;
  const int64_t c = a.w.c;
  const int64_t whole = a.w.in / c;
  const int32_t* index = a.w.index;
  for (int64_t row = rows.begin; row < rows.end; row += 2) {
    Vec sum[2][B][1];
    int32_t at[2];
    int32_t both = INT32_MAX;
    Each<2>(EACH(p) {
      const Vec start = a.bias == nullptr ? Vec::Zero() : Vec::Load(a.bias + (row + p) * r);
      Each<B>(EACH(b) { sum[p][b][0] = start; });
      at[p] = a.w.ptr[row + p];
      const int32_t end = a.w.ptr[row + p + 1];
      const int32_t blocks = end - at[p] - (at[p] < end && index[end - 1] == whole);
      both = blocks < both ? blocks : both;
    });
    for (; both > 0; --both) {
      const float* p = a.w.values + at[0] * r * c;
      const float* q = a.w.values + at[1] * r * c;
      PlaceColumn<B> of_p(x.At(index[at[0]++] * c), x.in);
      PlaceColumn<B> of_q(x.At(index[at[1]++] * c), x.in);
      for (int64_t k = 0; k < c; ++k, p += r, q += r) {
        RowsColumn(sum[0], p, 0, of_p);
        RowsColumn(sum[1], q, 0, of_q);
        of_p.Next();
        of_q.Next();
      }
    }
    Each<2>(EACH(p) {
      for (; at[p] < a.w.ptr[row + p + 1]; ++at[p]) {
        const int64_t column = index[at[p]] * c;
        const int64_t depth = a.w.in - column < c ? a.w.in - column : c;
        x.template Block<1, p>(sum, depth, a.w.values + at[p] * r * c, r, 0, x.At(column));
      }
      const int64_t out_row = (row + p) * r;
      const bool lines = a.y_lines > 0;
      float* y = a.y + (lines ? sample * kLanes + out_row * a.y_lines : sample * a.w.out + out_row);
      StoreTile(a.activation, sum[p], y, lines ? kLanes : a.w.out, r);
    });
  }
}

// Batch rows of a tile of V vectors, the most first: 12 x 2, 6 x 4 or, by lines, 24 x 1 vectors with 32
// registers; 6 x 2 or 3 x 4 with 16. Smaller ones take the rest.
constexpr int kBatches[] = {24, 16, 12, 8, 6, 4, 3, 2, 1};
template <int V, bool kLines>
constexpr bool HasTile(int batch) {
  constexpr bool kMany = Vec::kRegisters == 32;
  if (batch == 1 || !Vec::kUnrolled) return batch == 1;
  if (batch >= 16) return V == 1 && kLines;
  if (batch == 12) return kMany && V <= 2;
  if (batch == 8) return V == 1 || (kMany && V == 2);
  if (batch == 6) return V == (kMany ? 4 : 2);
  if (batch == 2) return true;
  return batch == (!kMany && V == 4 ? 3 : 4);
}

// How many of the `left` batch rows they take: all that fit, less one where two smaller tiles take the rest
// evenly: 16 rows are two tiles of 8, not one of 12 and one of 4.
constexpr int64_t TilesIn(int64_t left, int batch) {
  const bool halves = batch == 24 || batch == 12 || batch == 6;
  return left / batch - (halves && left >= batch && left % batch * 3 == batch);
}

// Batch rows [sample, m) of kRowsInOrder or more: one sum for each output, in tiles of as many batch rows as
// the registers hold. A remainder in even parts.
template <int V, int D, typename Input>
void ManyRows(const RowsForwardArgs& a, Input x, RowSpan rows, int64_t first, int64_t sample, int64_t m) {
  Each<std::extent_v<decltype(kBatches)>>(EACH(i) {
    constexpr int kBatch = kBatches[i];
    if constexpr (HasTile<V, std::is_same_v<Input, ByLines>>(kBatch)) {
      const int64_t tiles = TilesIn(m - sample, kBatch);
      if (tiles == 0) return;
      RowSpan single = rows;
      if constexpr (kHalves == 1 && V == 1 && kBatch == 8 && D == kByColumn &&
                    std::is_same_v<Input, InPlace>) {
        if (tiles == 1 && a.w.r == Vec::kWidth && !IsFar(a.w)) {
          const int64_t whole = a.w.out / a.w.r < rows.end ? a.w.out / a.w.r : rows.end;
          single.begin += (whole - rows.begin) / 2 * 2;
          RowPairs<kBatch>(a, x, {rows.begin, single.begin}, sample);
        }
      }
      RowsTiles<kBatch, V, 1, (kBatch < 4 ? kByColumn : D)>(a, x, single, first, sample, tiles);
      sample += tiles * kBatch;
      x = x.From(tiles * kBatch);
    }
  });
}

// The tile that takes most of m batch rows there.
template <int V, bool kLines>
int64_t BatchOfMany(int64_t m) {
  int64_t most = 0, of = 0;
  for (const int batch : kBatches) {
    const int64_t taken = HasTile<V, kLines>(batch) ? TilesIn(m, batch) * batch : 0;
    if (taken > most) {
      most = taken;
      of = batch;
    }
    m -= taken;
  }
  return of;
}

// Blocks with fewer columns than there are sums take turns as a whole, and so do those too small to be worth
// a loop each: by the shape alone, the same on every instruction set.
constexpr int64_t kFewColumns = 3;
constexpr int64_t kSmallSide = 7;

// Tiles for so many batch rows with U sums each, as the registers ask for; the reference takes a row at a
// time.
constexpr int FewTiles(int batch, int V, int U) {
  if (kReference) return batch;
  return (batch * U + 1) * V < Vec::kRegisters ? 1 : 2;
}
template <int B, int V, int U, int D>
ALWAYS_INLINE void BatchOf(const RowsForwardArgs& a, RowSpan rows, int64_t first, int64_t sample) {
  constexpr int kTiles = FewTiles(B, V, U);
  static_assert(B % kTiles == 0, "no batch row is left over");
  RowsTiles<B / kTiles, V, U, D>(a, InPlaceFrom(a, sample), rows, first, sample, kTiles);
}

// Fewer batch rows than kRowsInOrder: one, two or four sums each, for eight in flight where the registers
// hold them. How many depends on the batch and on the block shape alone, so that every instruction set adds
// in the same order.
template <int V, int D>
void FewRows(const RowsForwardArgs& a, RowSpan rows, int64_t first) {
  // The fewest rows of blocks that come here with V vectors.
  constexpr int64_t kLeastRows = V > 1 ? V * Vec::kWidth : 1;
  // Unrolling longer blocks pays for a single batch row only.
  constexpr int kShort = D <= kFewColumns ? D : kByBlock;
  const int64_t height = a.w.r * a.strips;
  int64_t sample = 0;
  if (a.m >= 4) {
    if (height >= 2 * kLanes) {
      BatchOf<4, V, 1, kByColumn>(a, rows, first, 0);
    } else if constexpr (kLeastRows < 2 * kLanes) {
      BatchOf<4, V, 2, kShort>(a, rows, first, 0);
    }
    sample = 4;
  }
  const int64_t left = a.m - sample;
  if (left >= 2 && height >= kLanes) {
    constexpr int kTall = kShort > 1 ? kByBlock : kShort;
    return left == 3 ? BatchOf<3, V, 2, kTall>(a, rows, first, sample)
                     : BatchOf<2, V, 2, kTall>(a, rows, first, sample);
  }
  if constexpr (kLeastRows < kLanes) {
    if (left >= 2) BatchOf<2, V, 4, kShort>(a, rows, first, sample);
  }
  if (left % 2 == 1) RowsTiles<1, V, 4, D>(a, InPlaceFrom(a, a.m - 1), rows, first, a.m - 1, 1);
}

// The tile that takes most of the batch there.
template <int V>
int64_t BatchOfFew(const RowsForwardArgs& a) {
  const int64_t height = a.w.r * a.strips;
  if (a.m >= 4) return 4 / FewTiles(4, V, height >= 2 * kLanes ? 1 : 2);
  if (a.m == 1) return 1;
  if (height >= kLanes) return a.m / FewTiles(static_cast<int>(a.m), V, 2);
  return 2 / FewTiles(2, V, 4);
}

template <int V>
void FewRowsOf(const RowsForwardArgs& a, RowSpan rows, int64_t first) {
  const int64_t c = a.w.c;
  const bool few = c <= kFewColumns;
  if (!few && (a.w.r > kSmallSide || c > kSmallSide)) return FewRows<V, kByColumn>(a, rows, first);
  if constexpr (Vec::kUnrolled) {
    if (c == 1) return FewRows<V, 1>(a, rows, first);
  }
  // Blocks of so few rows never come to vectors that are whole lines (FillHalves); taller ones of three
  // columns do, and are not worth the code.
  if constexpr (Vec::kUnrolled && V == 1 && kHalves > 1) {
    if (c == 3) return FewRows<V, 3>(a, rows, first);
    if (c == 5) return FewRows<V, 5>(a, rows, first);
    if (c == 6) return FewRows<V, 6>(a, rows, first);
  }
  FewRows<V, kByBlock>(a, rows, first);
}

// Batch rows [sample, m) of some block rows, V vectors of each from row `first` on.
template <int V, typename Input>
void RowsOf(const RowsForwardArgs& a, Input x, RowSpan rows, int64_t first, int64_t sample, int64_t m) {
  if constexpr (V <= kRowVectors && std::is_same_v<Input, InPlace>) {
    if (a.m < kRowsInOrder) return FewRowsOf<V>(a, rows, first);
    // The loop over a single column costs as much as the column.
    if (Vec::kUnrolled && a.w.c == 1)
      return ManyRows<V, (Vec::kUnrolled ? 1 : kByColumn)>(a, x, rows, first, sample, m);
  }
  ManyRows<V, kByColumn>(a, x, rows, first, sample, m);
}

// Each, or a loop: without an instruction set of its own this is not worth that much code.
template <int N, typename F>
ALWAYS_INLINE void Times(const F& f) {
  if constexpr (Vec::kUnrolled) {
    Each<N>(f);
  } else {
    for (int i = 0; i < N; ++i) f(i);
  }
}

// Blocks of a single row have nothing to put side by side but their columns: kLanes of them against as many
// of each of B batch rows, whose lanes are added up in the end. The blocks of a row take U sums in turn, as
// many as keep enough FMAs in flight.
template <int B, int U>
void DotTile(const RowsForwardArgs& a, int64_t row, int64_t sample) {
  const BlockView& w = a.w;
  Vec sum[U][B][kHalves];
  Times<U>(EACH(u) { Times<B>(EACH(b) { Times<kHalves>(EACH(h) { sum[u][b][h] = Vec::Zero(); }); }); });
  const auto add = [&](auto u, int32_t entry) __attribute__((always_inline)) {
    const int64_t column = w.index[entry] * w.c;
    const int64_t depth = w.in - column < w.c ? w.in - column : w.c;
    const float* p = w.values + entry * w.c;
    const float* x = a.x + sample * w.in + column;
    int64_t k = 0;
    for (; k + kLanes <= depth; k += kLanes) {
      Times<kHalves>(EACH(h) {
        const int64_t at = k + h * Vec::kWidth;
        Times<B>(EACH(b) {
          sum[u][b][h] = Vec::Fma(Vec::Load(p + at), Vec::Load(x + b * w.in + at), sum[u][b][h]);
        });
      });
    }
    if (k == depth) return;
    Times<kHalves>(EACH(h) {
      const int64_t at = k + h * Vec::kWidth;
      const int64_t n = at < depth ? depth - at : 0;
      Times<B>(EACH(b) {
        sum[u][b][h] = Vec::Fma(Vec::LoadN(p + at, n), Vec::LoadN(x + b * w.in + at, n), sum[u][b][h]);
      });
    });
  };
  int32_t e = w.ptr[row];
  const int32_t end = w.ptr[row + 1];
  for (; e + U <= end; e += U) Times<U>(EACH(u) { add(u, e + u); });
  Times<U - 1>(EACH(u) {
    if (e + u < end) add(u, e + u);
  });
  const auto join = [&](auto half) __attribute__((always_inline)) {
    if constexpr (half > 0) Times<half>(EACH(u) { AddSums(sum[u], sum[u + half]); });
  };
  join(std::integral_constant<int, U / 2>());
  join(std::integral_constant<int, U / 4>());
  Times<B>(EACH(b) {
    const float z = JoinHalves(sum[0][b]).Sum() + (a.bias == nullptr ? 0.0f : a.bias[row]);
    float* y = a.y + (sample + b) * w.out + row;
    // NaN stays.
    *y = a.activation == Activation::kRelu && z < 0 ? 0.0f : z;
    if (a.activation != Activation::kNone && a.activation != Activation::kRelu)
      Activate(a.activation, y, y, 1);
  });
}

void DotForward(const RowsForwardArgs& a) {
  for (int64_t row = a.begin; row < a.end; ++row) {
    int64_t sample = 0;
    for (; sample + 4 <= a.m; sample += 4) DotTile<4, 1>(a, row, sample);
    for (; sample + 2 <= a.m; sample += 2) DotTile<2, 2>(a, row, sample);
    if (sample < a.m) DotTile<1, 4>(a, row, sample);
  }
}

// Block rows [begin, end) against batch rows [sample, m), as many vectors at a time as a row has.
template <typename Input>
void RowsSpan(const RowsForwardArgs& a, Input x, RowSpan rows, int64_t sample, int64_t m) {
  int64_t first = 0;
  if constexpr (kRowVectors > 1) {
    constexpr int64_t kTile = kRowVectors * Vec::kWidth;
    for (; a.w.r - first >= kTile; first += kTile) RowsOf<kRowVectors>(a, x, rows, first, sample, m);
  }
  for (; first < a.w.r; first += Vec::kWidth) RowsOf<1>(a, x, rows, first, sample, m);
}

// Two strips at a time have fewer loads where six batch rows of one are all that the registers hold.
constexpr bool kPairs = kRowVectors == 2 && Vec::kRegisters == 16;
constexpr int kPairVectors = kPairs ? 2 * kRowVectors : 1;
inline bool TakesPairs(const RowsForwardArgs& a) {
  return kPairs && a.m >= kRowsInOrder && a.strips % 2 == 0 && a.end - a.begin > 1;
}

// The block rows of `a` against batch rows [sample, m).
template <typename Input>
void RowsPanel(const RowsForwardArgs& a, Input x, int64_t sample, int64_t m) {
  const bool pairs = TakesPairs(a);
  const int64_t spans = WeightsOf(a) / kSpanWeights + 1;
  const int64_t least = pairs ? 2 : 1;
  const int64_t step = ((a.end - a.begin) / spans + least) / least * least;
  int64_t row = a.begin;
  if (pairs && row % 2 == 1) {
    RowsSpan(a, x, {row, row + 1}, sample, m);
    ++row;
  }
  for (; row < a.end; row += step) {
    RowSpan rows{row, row + step < a.end ? row + step : a.end};
    if (pairs) {
      const int64_t even = rows.end - (rows.end - row) % 2;
      RowsOf<kPairVectors>(a, x, {row, even}, 0, sample, m);
      rows.begin = even;
    }
    RowsSpan(a, x, rows, sample, m);
  }
}

inline bool TakesDots(const RowsForwardArgs& a) { return a.w.r == 1 && a.w.c > kSmallSide; }

// Whether vectors of half a line are faster: short blocks fill no more, and whole lines would cross two at
// nearly every column. Groups of blocks of four rows and more fill a line, two block rows at once, which is
// faster where both streams of weights come from L2; kShortBatch batch rows have one stream.
inline bool FillHalves(const RowsForwardArgs& a) {
  if (TakesGroups(a.w, a.m)) return a.w.r < 4 || (IsFar(a.w) && a.m < kShortBatch);
  return a.m < kRowsInOrder && a.w.r <= kLanes / 2 && !TakesDots(a);
}

// Batch rows of a panel of x in place: kPanel, but of wide x four of AVX2's tiles, of which L2 keeps more
// from one block row to the next: 1.05 to 1.25 times as fast with blocks of 16 rows at 2048 and 3072 inputs.
// Pairs, which have half the loads of x, and layers whose weights come from memory lose by reading weights
// more often what they gain.
constexpr int64_t kWideRows = 24;
int64_t RowsInPlace(const RowsForwardArgs& a) {
  return kAsksForX && a.w.in >= kWideInputs && !TakesPairs(a) && !IsFar(a.w) ? kWideRows : kPanel;
}

void RowsForward(const RowsForwardArgs& a) {
  // A thread's part may have none, and pairs would take one.
  if (a.begin >= a.end) return;
  if (TakesDots(a)) return DotForward(a);
  if constexpr (kCopies) {
    if (a.x_lines > 0) return RowsPanel(a, ByLines{a.x, a.x_lines}, 0, a.m);
  }
  // A panel of x, of layers that are not wider than it fits, stays in L2 while all weights pass by, once for
  // each panel. Where a block row alone has as many weights as L2 holds, it is the batch that passes by, and
  // each pass is to be a long one.
  const bool long_rows = WeightsOf(a) > (a.end - a.begin) * 2 * kSpanWeights;
  const int64_t panel = a.scratch != nullptr ? CopiedRows(a.w.in) : long_rows ? 2 * kPanel : RowsInPlace(a);
  // In place fewer than kRowsInOrder more go along, not as a pass of their own.
  const int64_t most = a.scratch != nullptr ? panel : panel + kRowsInOrder - 1;
  for (int64_t sample = 0, m; sample < a.m; sample = m) {
    m = a.m - sample <= most ? a.m : sample + panel;
    if constexpr (kCopies) {
      if (a.scratch != nullptr) {
        const int64_t lines = Lines(m - sample);
        CopyLines(a.x + sample * a.w.in, a.w.in, m - sample, a.scratch, lines);
        RowsPanel(a, ByLines{a.scratch, lines}, sample, m);
        continue;
      }
    }
    RowsPanel(a, InPlaceFrom(a, sample), sample, m);
  }
}

// The tile of RowsForward, as most of a panel takes it.
template <int V>
Tile TileOfVectors(const RowsForwardArgs& a) {
  const int64_t rows = a.w.r * (V > kRowVectors ? 2 : 1);
  const int64_t most = rows < a.w.out ? rows : a.w.out;
  const int64_t outputs = V * Vec::kWidth < most ? V * Vec::kWidth : most;
  if (a.m < kRowsInOrder) return {outputs, BatchOfFew<V>(a)};
  const bool lines = TakesLines(a);
  const int64_t panel = lines ? CopiedRows(a.w.in) : RowsInPlace(a);
  const int64_t m = a.m < panel ? a.m : panel;
  return {outputs, lines ? BatchOfMany<V, true>(m) : BatchOfMany<V, false>(m)};
}
Tile TileOfRows(const RowsForwardArgs& a) {
  if (TakesDots(a)) return {1, a.m >= 4 ? 4 : a.m >= 2 ? 2 : 1};
  if (TakesPairs(a)) return TileOfVectors<kPairVectors>(a);
  const bool whole = a.w.r >= kRowVectors * Vec::kWidth;
  return whole ? TileOfVectors<kRowVectors>(a) : TileOfVectors<1>(a);
}
