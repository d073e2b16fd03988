import { allocateRows, batchRows } from './batch.ts';
import { checkArray, checkInteger, checkOneOf, checkOptions, isObject } from './check.ts';
import { typeError } from './errors.ts';
import { kernels } from './kernels/choose.ts';
import { ACTIVATIONS, type Activation, type LayerInfo, type PackedLayer } from './kernels/kernels.ts';
import { type BsrMatrix, checkBsr } from './sparse/bsr.ts';
import { MAX_DIMENSION } from './sparse/grid.ts';

export interface BsrLinearOptions {
  /** [N], added before the activation. */
  readonly bias?: Float32Array;
  readonly activation?: Activation;
  /** At most this many threads a product; default: all cores the machine gives this process. More are slower. */
  readonly threads?: number;
  /**
   * The batch that matters most: its rows if calls always have as many, and a multiple of 32 otherwise, for of small
   * blocks native code takes 32 rows at a time, and a last 16. Where few blocks are gone the layer holds all of them,
   * as larger blocks, if that is faster: with so many rows, or, without a hint, if otherwise a batch of 1, 8, 32 or
   * more rows could be slower than dense (in layers of some size; measured with AVX2 and AVX-512). A NaN or Inf in x
   * then reaches outputs whose block is gone, too.
   */
  readonly batchHint?: number;
}

let isLayer: (value: unknown) => boolean;

/** One served layer, Y = act(X . W^T + bias). The weights are packed when it is made; later changes to the
 * matrix change nothing here. */
export class BsrLinear {
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly #layer: PackedLayer;
  static {
    isLayer = (value) => isObject(value) && #layer in value;
  }

  /** Throws TypeError or RangeError for anything but a valid matrix, a bias of N and the options above. */
  constructor(matrix: BsrMatrix, options: BsrLinearOptions = {}) {
    checkBsr('matrix', matrix);
    checkOptions('options', options);
    const { bias, activation = 'none', threads = kernels().threads, batchHint } = options;
    if (bias !== undefined) checkArray('bias', bias, Float32Array, matrix.shape[0]);
    checkOneOf('activation', activation, ACTIVATIONS);
    checkInteger('threads', threads, 1, 1024);
    if (batchHint !== undefined) checkInteger('batchHint', batchHint, 1, MAX_DIMENSION);
    this.outFeatures = matrix.shape[0];
    this.inFeatures = matrix.shape[1];
    this.#layer = kernels().packLayer(matrix, bias ?? null, activation, threads, batchHint);
  }

  /** x [M, K] to [M, N], into `out` when given, which must not overlap x. */
  forward(x: Float32Array, out?: Float32Array): Float32Array {
    checkReceiver(this);
    const m = batchRows(x, this.inFeatures, this.outFeatures);
    if (out === undefined) out = allocateRows(m, this.outFeatures);
    else checkArray('out', out, Float32Array, m * this.outFeatures);
    this.#layer.forward(x, m, out);
    return out;
  }

  /**
   * The same off the event loop (without the native addon on it, before this returns). x is copied before this
   * returns; `out` is filled when the promise resolves.
   */
  async forwardAsync(x: Float32Array, out?: Float32Array): Promise<Float32Array> {
    checkReceiver(this);
    const m = batchRows(x, this.inFeatures, this.outFeatures);
    if (out !== undefined) checkArray('out', out, Float32Array, m * this.outFeatures);
    const result = await this.#layer.forwardAsync(x, m);
    if (out === undefined) return result;
    // It may have been transferred meanwhile.
    checkArray('out', out, Float32Array, result.length);
    out.set(result);
    return out;
  }

  /** What serves a batch of this many rows (kernel, tile, threads), why, and how many bytes the layer holds. */
  explain(batch: number): LayerInfo {
    checkReceiver(this);
    checkInteger('batch', batch, 1, MAX_DIMENSION);
    return this.#layer.info(batch);
  }
}

function checkReceiver(receiver: unknown): void {
  if (!isLayer(receiver)) throw typeError('this', 'a BsrLinear', receiver);
}
