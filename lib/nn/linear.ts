import { checkArray } from '../check.ts';
import { rangeError, typeError } from '../errors.ts';
import { kernels } from '../kernels/choose.ts';
import type { Activation, Pattern } from '../kernels/kernels.ts';
import { BsrMatrix } from '../sparse/bsr.ts';
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

  /** Copies `weights`. Throws TypeError or RangeError when they do not fit the layer. */
  constructor(stage: Stage, weights: LinearWeights, name = stage.name) {
    const { inFeatures, outFeatures } = stage.spec;
    this.name = stage.name;
    this.inFeatures = inFeatures;
    this.outFeatures = outFeatures;
    this.activation = stage.activation;
    this.#matrix = this.#own(`${name}.matrix`, weights.matrix);
    this.#pattern = kernels().pattern(this.#matrix);
    if (stage.spec.bias === false) {
      if (weights.bias) throw typeError(`${name}.bias`, 'null, since the layer has none', weights.bias);
      this.bias = null;
    } else {
      checkArray(`${name}.bias`, weights.bias, Float32Array, outFeatures);
      this.bias = weights.bias.slice();
    }
  }

  /** `matrix.values` are the parameters: training changes them in place. */
  get matrix(): BsrMatrix {
    return this.#matrix;
  }

  /** The kernels' view of the matrix' structure. */
  get pattern(): Pattern {
    return this.#pattern;
  }

  /** Replaces structure and values by a copy of `matrix`, which must have shape [outFeatures, inFeatures]. */
  setMatrix(matrix: BsrMatrix): void {
    this.#matrix = this.#own('matrix', matrix);
    this.#pattern = kernels().pattern(this.#matrix);
  }

  /** The dense weight, row-major [outFeatures, inFeatures]; a fresh array. */
  weight(): Float32Array {
    return this.#matrix.toDense();
  }

  /** A checked copy, so that the caller's matrix is not trained along, nor a damaged one taken. */
  #own(name: string, matrix: unknown): BsrMatrix {
    if (!(matrix instanceof BsrMatrix)) throw typeError(name, 'a BsrMatrix', matrix);
    const [n, k] = matrix.shape;
    if (n !== this.outFeatures || k !== this.inFeatures)
      throw rangeError(`${name}.shape`, `[${this.outFeatures}, ${this.inFeatures}]`, [n, k]);
    return BsrMatrix.fromArrays(matrix);
  }
}
