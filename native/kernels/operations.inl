// Every operation once; an instruction set's file includes this after its Vec, inside its own namespace.
// Sums over kLanes side by side are held in this many vectors.
constexpr int kHalves = static_cast<int>(kLanes / Vec::kWidth);

// Code of the reference is small instead of fast.
constexpr bool kReference = Vec::kWidth == 1;

// The sum over 16 lanes held in halves (or a half of a half).
inline Vec JoinHalves(Vec* sum) {
  for (int half = kHalves / 2; half > 0; half /= 2) {
    for (int h = 0; h < half; ++h) sum[h] = sum[h] + sum[h + half];
  }
  return sum[0];
}

// Sums that are passed by reference stay in registers only inside their caller, and GCC leaves that to
// chance.
#define ALWAYS_INLINE inline __attribute__((always_inline))

// f(0) to f(N - 1), each index a constant: an array of sums that is only ever indexed by constants is a set
// of registers to GCC, while one that a loop runs over is memory until the loop is unrolled, which is too
// late.
template <int N, int I = 0, typename F>
ALWAYS_INLINE void Each(const F& f) {
  if constexpr (I < N) {
    f(std::integral_constant<int, I>());
    Each<N, I + 1>(f);
  }
}
#define EACH(i) [&](auto i) __attribute__((always_inline))

template <int B, int V>
ALWAYS_INLINE void AddSums(Vec (&sum)[B][V], const Vec (&other)[B][V]) {
  Each<B>(EACH(b) { Each<V>(EACH(v) { sum[b][v] = sum[b][v] + other[b][v]; }); });
}

// Weights of the block rows of a call.
template <typename Args>
inline int64_t WeightsOf(const Args& a) {
  return int64_t{a.w.ptr[a.end] - a.w.ptr[a.begin]} * a.w.r * a.w.c;
}

// How far ahead tiles ask for weights, in floats: to read 8 KB from memory takes longer than its latency.
constexpr int64_t kAheadWeights = 2048;

#include "activation_f32.inl"
#include "block_scores_f32.inl"
#include "optimizer_f32.inl"
#include "panel_forward_f32.inl"
#include "rows_forward_f32.inl"
#include "transpose_f32.inl"
#include "weight_gradient_f32.inl"

constexpr KernelTable MakeTable(Isa isa, void (*rows_forward)(const RowsForwardArgs&),
                                Tile (*rows_tile)(const RowsForwardArgs&)) {
  return {isa,          Vec::kWidth,        Vec::kUnrolled ? kRowVectors * Vec::kWidth : 0,
          TileOfPanel,  rows_tile,          PanelForward,
          rows_forward, TakesLines,         WeightGradient,
          Activate,     ActivationGradient, Adam,
          Sgd,          BlockScores,        ToPanel,
          FromPanel};
}
