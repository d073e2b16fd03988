import { checkArray, isObject } from '../check.ts';
import { BlocksparseError, rangeError, typeError } from '../errors.ts';
import { kernels } from '../kernels/choose.ts';
import type { Activation, Pattern } from '../kernels/kernels.ts';
import { BsrMatrix, checkBsr } from '../sparse/bsr.ts';
import type { Stage } from './spec.ts';

/** The block shape of a layer that is not pruned; any would do, this one is fast. */
export const DENSE_BLOCK_SHAPE = [16, 16] as const;

/** What a linear layer is made of. */
export interface LinearWeights {
  /** [outFeatures, inFeatures]; a dense layer keeps every block. */
  readonly matrix: BsrMatrix;
  /** [outFeatures] */
  readonly bias: Float32Array | null;
}

let isLinear: (value: unknown) => value is Linear;
let hasOwnStructure: (linear: Linear) => boolean;

/** A trainable linear layer with the activation that follows it. */
export class Linear {
  readonly name: string;
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly activation: Activation;
  /** The parameters themselves: training changes them in place. */
  readonly bias: Float32Array | null;
  #matrix: BsrMatrix;
  #pattern: Pattern;
  /** The index arrays as the pattern was made from them. */
  #crowIndices: Int32Array;
  #colIndices: Int32Array;
  static {
    isLinear = (value): value is Linear => isObject(value) && #matrix in value;
    hasOwnStructure = (linear) =>
      equal(linear.#matrix.crowIndices, linear.#crowIndices) &&
      equal(linear.#matrix.colIndices, linear.#colIndices);
  }

  /**
   * Copies `weights`. Throws TypeError or RangeError when they do not fit the layer.
   * @internal
   */
  constructor(stage: Stage, weights: LinearWeights, name = stage.name) {
    const { inFeatures, outFeatures } = stage.spec;
    this.name = stage.name;
    this.inFeatures = inFeatures;
    this.outFeatures = outFeatures;
    this.activation = stage.activation;
    this.#matrix = this.#own(`${name}.matrix`, weights.matrix);
    this.#pattern = kernels().pattern(this.#matrix);
    this.#crowIndices = this.#matrix.crowIndices.slice();
    this.#colIndices = this.#matrix.colIndices.slice();
    if (stage.spec.bias === false) {
      if (weights.bias) throw typeError(`${name}.bias`, 'null, since the layer has none', weights.bias);
      this.bias = null;
    } else {
      checkArray(`${name}.bias`, weights.bias, Float32Array, outFeatures);
      this.bias = weights.bias.slice();
    }
  }

  /**
   * `matrix.values` are the parameters: training changes them in place. Its index arrays are not to be changed: the
   * network then refuses to predict, to train and to be pruned, with INVALID_STATE; training under way goes on with those it began with. `setMatrix` sets others.
   */
  get matrix(): BsrMatrix {
    checkReceiver(this);
    return this.#matrix;
  }

  /**
   * The kernels' view of the matrix' structure.
   * @internal
   */
  get pattern(): Pattern {
    checkReceiver(this);
    return this.#pattern;
  }

  /** Replaces structure and values by a copy of `matrix`, which must have shape [outFeatures, inFeatures]. */
  setMatrix(matrix: BsrMatrix): void {
    checkReceiver(this);
    this.#matrix = this.#own('matrix', matrix);
    this.#pattern = kernels().pattern(this.#matrix);
    this.#crowIndices = this.#matrix.crowIndices.slice();
    this.#colIndices = this.#matrix.colIndices.slice();
  }

  /** The dense weight, row-major [outFeatures, inFeatures]; a fresh array. */
  weight(): Float32Array {
    checkReceiver(this);
    return this.#matrix.toDense();
  }

  /** A checked copy, so that the caller's matrix is not trained along, nor a damaged one taken. */
  #own(name: string, matrix: unknown): BsrMatrix {
    checkBsr(name, matrix);
    const [n, k] = matrix.shape;
    if (n !== this.outFeatures || k !== this.inFeatures)
      throw rangeError(`${name}.shape`, `[${this.outFeatures}, ${this.inFeatures}]`, [n, k]);
    return BsrMatrix.fromArrays(matrix);
  }
}

function checkReceiver(receiver: unknown): void {
  if (!isLinear(receiver)) throw typeError('this', 'a Linear layer', receiver);
}

/** Throws RangeError for values transferred away, INVALID_STATE when the index arrays no longer say what the
 * pattern, made from them, computes. */
export function checkStructure(linear: Linear, index: number): void {
  checkArray(`network.linears[${index}].matrix.values`, linear.matrix.values, Float32Array);
  if (!hasOwnStructure(linear))
    throw new BlocksparseError(
      'INVALID_STATE',
      `network.linears[${index}].matrix: crowIndices or colIndices were changed; setMatrix sets another structure`,
    );
}

function equal(a: Int32Array, b: Int32Array): boolean {
  return a.length === b.length && a.every((value, i) => value === b[i]);
}
