import { checkArray, checkInteger, checkOneOf } from './check.ts';
import { rangeError, typeError } from './errors.ts';
import { kernels } from './kernels/choose.ts';
import { ACTIVATIONS, type Activation, type LayerInfo, type PackedLayer } from './kernels/kernels.ts';
import { BsrMatrix } from './sparse/bsr.ts';
import { MAX_DIMENSION, MAX_ELEMENTS } from './sparse/grid.ts';

export interface BsrLinearOptions {
  /** [N], added before the activation. */
  readonly bias?: Float32Array;
  readonly activation?: Activation;
  /** At most this many threads a product; default: all the machine gives this process. */
  readonly threads?: number;
}

/** Batch rows of x [M, K], by its length. Throws when it is no whole number of rows, or when M * outputs is over
 * the limit of one matrix. */
export function batchRows(x: Float32Array, features: number, outputs: number): number {
  checkArray('x', x, Float32Array);
  if (features === 0) {
    if (x.length !== 0) throw rangeError('x', 'empty, since the layer has no inputs', x);
    return 0;
  }
  const m = x.length / features;
  if (!Number.isInteger(m)) throw rangeError('x', `a Float32Array of M * ${features} elements`, x);
  const most = Math.min(MAX_DIMENSION, Math.floor(MAX_ELEMENTS / Math.max(outputs, 1)));
  if (m > most) throw rangeError('x', `at most ${most} rows of ${features}`, x);
  return m;
}

/** One served layer, Y = act(X . W^T + bias). The weights are packed when it is made; later changes to the
 * matrix change nothing here. */
export class BsrLinear {
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly #layer: PackedLayer;

  /** Throws TypeError or RangeError for anything but a valid matrix, a bias of N and the options above. */
  constructor(matrix: BsrMatrix, options: BsrLinearOptions = {}) {
    if (!(matrix instanceof BsrMatrix)) throw typeError('matrix', 'a BsrMatrix', matrix);
    if (typeof options !== 'object' || options === null) throw typeError('options', 'an object', options);
    const { bias, activation = 'none', threads = kernels().threads } = options;
    if (bias !== undefined) checkArray('bias', bias, Float32Array, matrix.shape[0]);
    checkOneOf('activation', activation, ACTIVATIONS);
    checkInteger('threads', threads, 1, 1024);
    this.outFeatures = matrix.shape[0];
    this.inFeatures = matrix.shape[1];
    this.#layer = kernels().packLayer(matrix, bias ?? null, activation, threads);
  }

  /** x [M, K] to [M, N], into `out` when given, which must not overlap x. */
  forward(x: Float32Array, out?: Float32Array): Float32Array {
    checkReceiver(#layer in this, this);
    const m = batchRows(x, this.inFeatures, this.outFeatures);
    if (out === undefined) out = new Float32Array(m * this.outFeatures);
    else checkArray('out', out, Float32Array, m * this.outFeatures);
    this.#layer.forward(x, m, out);
    return out;
  }

  /** The same off the event loop. x is copied before this returns; `out` is filled when the promise resolves. */
  async forwardAsync(x: Float32Array, out?: Float32Array): Promise<Float32Array> {
    checkReceiver(#layer in this, this);
    const m = batchRows(x, this.inFeatures, this.outFeatures);
    if (out !== undefined) checkArray('out', out, Float32Array, m * this.outFeatures);
    const result = await this.#layer.forwardAsync(x, m);
    if (out === undefined) return result;
    // It may have been transferred meanwhile.
    checkArray('out', out, Float32Array, result.length);
    out.set(result);
    return out;
  }

  /** What serves a batch of this many rows, why, and how many bytes the layer holds. */
  explain(batch: number): LayerInfo {
    checkReceiver(#layer in this, this);
    checkInteger('batch', batch, 1, MAX_DIMENSION);
    return this.#layer.info(batch);
  }
}

function checkReceiver(right: boolean, receiver: unknown): void {
  if (!right) throw typeError('this', 'a BsrLinear', receiver);
}
