/**
 * What a backend computes. The native addon and the path without it (WebAssembly, JS) implement this interface;
 * everything above it is written once. Arguments are checked by each backend where a wrong one could do harm.
 *
 * Panels: activations between layers in training are feature-major, in panels of PANEL batch rows. A batch of M
 * rows and F features takes F * padBatch(M) floats; panel p starts at p * PANEL * F and is [F][w], with w = PANEL,
 * the last panel's w = what is left rounded up to LANES. Padding lanes hold finite values.
 */
export const LANES = 16;
export const PANEL = 64;

/** Batch rows with padding: what panels hold. */
export function padBatch(m: number): number {
  return Math.ceil(m / LANES) * LANES;
}

/** What is applied to every element of a layer's output. GELU is the exact one, by erf. */
export type Activation = 'none' | 'relu' | 'gelu' | 'silu' | 'sigmoid' | 'tanh';
export const ACTIVATIONS = ['none', 'relu', 'gelu', 'silu', 'sigmoid', 'tanh'] as const;

/** How a block is scored by its weights alone. */
export type Criterion = 'mean-abs' | 'l1' | 'l2' | 'max-abs';
export const CRITERIA = ['mean-abs', 'l1', 'l2', 'max-abs'] as const;

/** Block sparse row arrays, as PyTorch and SciPy have them; truncated edge blocks are padded with zeros. */
export interface BsrArrays {
  readonly shape: readonly [number, number];
  readonly blockShape: readonly [number, number];
  readonly crowIndices: Int32Array;
  readonly colIndices: Int32Array;
  readonly values: Float32Array;
}

/** How a layer serves a batch. */
export interface LayerInfo {
  /** The kernel that serves a batch of this size. */
  readonly kernel: 'rows' | 'panels';
  /** Why, in words; first, where the layer holds all blocks, why it does. */
  readonly reason: string;
  /**
   * [outputs, batch rows] that the kernel computes at once: of one row of the blocks it holds, or of two that were cut
   * from the same blocks; of short blocks two or four such tiles may go at once. Remainders have smaller tiles; this is
   * that of most of the batch. Panels pad the batch.
   */
  readonly tile: readonly [number, number];
  /**
   * Of the blocks it holds: those of the matrix; strips of them, as [32, 64] of [64, 64], where they are taller than
   * the kernel's tile; or others that hold all weights, zeros too.
   */
  readonly blockShape: readonly [number, number];
  /** Whether these are other blocks than the matrix', that hold all weights. */
  readonly regrouped: boolean;
  /** Of the weights, their indices and the bias, in bytes. */
  readonly packedBytes: number;
  /** At most so many compute a batch of this size. */
  readonly threads: number;
}

/** One layer's weights, packed for inference. */
export interface PackedLayer {
  /** out[M, N] = act(x[M, K] . W^T + bias), row-major. `out` must not overlap x. */
  forward(x: Float32Array, m: number, out: Float32Array): void;
  /** Copies x before it returns, or computes before it returns (js); resolves with a fresh result. */
  forwardAsync(x: Float32Array, m: number): Promise<Float32Array>;
  info(m: number): LayerInfo;
}

/** Packed layers run one after the other; between them activations stay as the next wants them. */
export interface PackedChain {
  forward(x: Float32Array, m: number, out: Float32Array): void;
  forwardAsync(x: Float32Array, m: number): Promise<Float32Array>;
  /** Of each layer here, which may go by another kernel than alone. */
  info(m: number): LayerInfo[];
}

/** The structure of a block-sparse weight, for training: the values stay with the caller ([nnzb, r, c]). */
export interface Pattern {
  /** y = act(x . W^T + bias): x panels of K features, y panels of N features. */
  forward(
    values: Float32Array,
    bias: Float32Array | null,
    activation: Activation,
    x: Float32Array,
    m: number,
    y: Float32Array,
  ): void;
  /** dx = dy . W, in panels. */
  inputGradient(values: Float32Array, dy: Float32Array, m: number, dx: Float32Array): void;
  /** dValues = (dy^T . x) at the kept blocks (padding elements get 0); dBias = sum of dy over the batch. */
  weightGradient(
    dy: Float32Array,
    x: Float32Array,
    m: number,
    dValues: Float32Array,
    dBias: Float32Array | null,
  ): void;
}

export interface AdamStep {
  learningRate: number;
  beta1: number;
  beta2: number;
  epsilon: number;
  /** L2 term added to the gradient (Adam), or... */
  weightDecay: number;
  /** ...subtracted from the weight directly (AdamW). */
  decoupled: boolean;
  /** 1 for the first step. */
  step: number;
}

export interface SgdStep {
  learningRate: number;
  momentum: number;
  weightDecay: number;
}

export interface Kernels {
  readonly backend: 'native' | 'js';
  /** avx512, avx2, neon, portable, scalar (the reference), or js. */
  readonly isa: string;
  readonly threads: number;
  /** A zeroed array, aligned for the vector unit where the backend can. */
  allocate(length: number): Float32Array;
  packLayer(
    matrix: BsrArrays,
    bias: Float32Array | null,
    activation: Activation,
    threads: number,
    /** The batch that is to be fast; 0 (default): no batch is to be slower than with all blocks kept. */
    batchHint?: number,
  ): PackedLayer;
  packChain(layers: readonly PackedLayer[]): PackedChain;
  pattern(structure: Omit<BsrArrays, 'values'>): Pattern;
  /** Gathers rows of row-major x[., k] into panels; without `rows`, rows 0..m-1. Padding lanes become 0. */
  toPanels(x: Float32Array, rows: Int32Array | null, m: number, k: number, panels: Float32Array): void;
  /** Row-major out[m, n] from panels. */
  fromPanels(panels: Float32Array, m: number, n: number, out: Float32Array): void;
  /** y = act(z), element by element; y may be z. */
  activate(activation: Activation, z: Float32Array, y: Float32Array): void;
  /** dy *= act'(.), in place. `saved` is y for relu, sigmoid, tanh, and z for gelu, silu. */
  activationGradient(activation: Activation, saved: Float32Array, dy: Float32Array): void;
  adamStep(
    weight: Float32Array,
    gradient: Float32Array,
    first: Float32Array,
    second: Float32Array,
    how: AdamStep,
  ): void;
  /** velocity = momentum * velocity + gradient; weight -= lr * velocity (PyTorch's form). */
  sgdStep(weight: Float32Array, gradient: Float32Array, velocity: Float32Array, how: SgdStep): void;
  /** One score a block of row-major weight [rows, cols], only over elements that exist. */
  scoreBlocks(
    weight: Float32Array,
    shape: readonly [number, number],
    blockShape: readonly [number, number],
    criterion: Criterion,
    out: Float32Array,
  ): void;
  /** out[M, N] = x[M, K] . W^T for a CSR weight (comparison only). */
  csrForward(
    crowIndices: Int32Array,
    colIndices: Int32Array,
    values: Float32Array,
    n: number,
    k: number,
    x: Float32Array,
    m: number,
    out: Float32Array,
  ): void;
}
