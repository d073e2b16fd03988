import { checkArray, checkInteger } from '../check.ts';
import { rangeError, typeError } from '../errors.ts';
import { BsrMatrix } from '../sparse/bsr.ts';
import { BlockGrid } from '../sparse/grid.ts';
import { BlockMask } from '../sparse/mask.ts';
import { DENSE_BLOCK_SHAPE, Linear, type LinearWeights } from './linear.ts';
import { Pass } from './pass.ts';
import { checkSeed, Random } from './random.ts';
import { checkLayers, type LayerSpec, type LinearSpec, type Plan, planOf } from './spec.ts';

/** Rows `predict` computes at a time: bounds its memory. */
const PREDICT_ROWS = 512;

/** All parameters and structures of a network at one moment. */
export interface NetworkSnapshot {
  readonly matrices: readonly BsrMatrix[];
  readonly values: readonly Float32Array[];
  readonly biases: readonly (Float32Array | null)[];
}

/** A feed-forward network of linear layers, dense or block-sparse, that can be trained. */
export class Network {
  readonly layers: readonly LayerSpec[];
  readonly linears: readonly Linear[];
  /** The layers as the passes run them. */
  readonly plan: Plan;

  private constructor(layers: readonly LayerSpec[], plan: Plan, linears: readonly Linear[]) {
    this.layers = layers;
    this.plan = plan;
    this.linears = linears;
  }

  /**
   * A dense network with PyTorch's default initialisation: weights and biases uniform within ±1/sqrt(inFeatures).
   * The same layers and seed give the same parameters on every machine.
   */
  static create(layers: readonly LayerSpec[], seed: number): Network {
    checkLayers('layers', layers);
    checkSeed('seed', seed);
    const random = new Random(seed, 0);
    return Network.fromParts(
      layers,
      planOf(layers).stages.map(({ spec }) => initialWeights(spec, random)),
    );
  }

  /** A network of given weights, one entry a linear layer, in order. They are copied. */
  static fromParts(layers: readonly LayerSpec[], weights: readonly LinearWeights[]): Network {
    checkLayers('layers', layers);
    const copy = layers.map((layer) => Object.freeze({ ...layer }));
    const plan = planOf(copy);
    if (!Array.isArray(weights)) throw typeError('weights', 'an array', weights);
    if (weights.length !== plan.stages.length)
      throw rangeError('weights', `of ${plan.stages.length} entries, one a linear layer`, weights);
    const linears = plan.stages.map((stage, i) => {
      const given: unknown = weights[i];
      if (typeof given !== 'object' || given === null)
        throw typeError(`weights[${i}]`, 'an object with matrix and bias', given);
      return new Linear(stage, weights[i], `weights[${i}]`);
    });
    return new Network(Object.freeze(copy), plan, Object.freeze(linears));
  }

  get inFeatures(): number {
    return this.linears[0].inFeatures;
  }

  get outFeatures(): number {
    return this.linears[this.linears.length - 1].outFeatures;
  }

  /** Weights inside kept blocks / all weights, over all linear layers; biases do not count. */
  get density(): number {
    let kept = 0;
    let all = 0;
    for (const { matrix, inFeatures, outFeatures } of this.linears) {
      kept += matrix.density * inFeatures * outFeatures;
      all += inFeatures * outFeatures;
    }
    return kept / all;
  }

  /**
   * The outputs [m, outFeatures] for row-major `x` [m, inFeatures], with the parameters as they are now and
   * without dropout. Without `m` it follows from the length of `x`. Throws when the length does not fit.
   */
  predict(x: Float32Array, m?: number): Float32Array {
    checkNetwork('this', this);
    checkArray('x', x, Float32Array);
    const k = this.inFeatures;
    if (m === undefined) {
      if (x.length % k !== 0) throw rangeError('x', `of a multiple of ${k} elements`, x);
      m = x.length / k;
    }
    checkInteger('m', m, 0, Math.floor(2 ** 32 / k));
    checkArray('x', x, Float32Array, m * k);
    const n = this.outFeatures;
    const out = new Float32Array(m * n);
    if (m === 0) return out;
    const pass = new Pass(this, Math.min(m, PREDICT_ROWS), null);
    for (let from = 0; from < m; from += PREDICT_ROWS) {
      const rows = Math.min(PREDICT_ROWS, m - from);
      out.set(pass.forward(x.subarray(from * k, (from + rows) * k), null, rows), from * n);
    }
    return out;
  }

  /** An independent copy. */
  clone(): Network {
    return Network.fromParts(this.layers, this.linears);
  }

  /** Copies of all parameters, for `restore`. */
  snapshot(): NetworkSnapshot {
    return {
      matrices: this.linears.map((linear) => linear.matrix),
      values: this.linears.map((linear) => linear.matrix.values.slice()),
      biases: this.linears.map((linear) => linear.bias?.slice() ?? null),
    };
  }

  /** Back to a snapshot of this network, structure included. */
  restore(snapshot: NetworkSnapshot): void {
    this.linears.forEach((linear, i) => {
      const matrix = snapshot.matrices[i];
      const values = snapshot.values[i];
      if (linear.matrix === matrix) matrix.values.set(values);
      else {
        const { shape, blockShape, crowIndices, colIndices } = matrix;
        linear.setMatrix(BsrMatrix.fromArrays({ shape, blockShape, crowIndices, colIndices, values }));
      }
      const bias = snapshot.biases[i];
      if (bias) linear.bias?.set(bias);
    });
  }
}

export function checkNetwork(name: string, value: unknown): asserts value is Network {
  if (!(value instanceof Network)) throw typeError(name, 'a Network', value);
}

function initialWeights(spec: LinearSpec, random: Random): LinearWeights {
  const bound = 1 / Math.sqrt(spec.inFeatures);
  const uniform = (length: number) => {
    const array = new Float32Array(length);
    for (let i = 0; i < length; i++) array[i] = (2 * random.next() - 1) * bound;
    return array;
  };
  const grid = new BlockGrid([spec.outFeatures, spec.inFeatures], DENSE_BLOCK_SHAPE);
  const matrix = BsrMatrix.fromDense(uniform(spec.outFeatures * spec.inFeatures), grid, BlockMask.full(grid));
  return { matrix, bias: spec.bias === false ? null : uniform(spec.outFeatures) };
}
