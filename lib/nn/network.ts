import { allocateRows, batchRows } from '../batch.ts';
import { checkArray, checkInteger, isObject } from '../check.ts';
import { rangeError, typeError } from '../errors.ts';
import { BsrMatrix, checkIntact } from '../sparse/bsr.ts';
import { BlockGrid, MAX_DIMENSION } from '../sparse/grid.ts';
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

let isNetwork: (value: unknown) => value is Network;

/** A feed-forward network of linear layers, dense or block-sparse, that can be trained. */
export class Network {
  readonly #brand = true;
  static {
    isNetwork = (value): value is Network => isObject(value) && #brand in value;
  }

  readonly layers: readonly LayerSpec[];
  readonly linears: readonly Linear[];
  /**
   * The layers as the passes run them.
   * @internal
   */
  readonly plan: Plan;

  private constructor(layers: readonly LayerSpec[], weights: readonly LinearWeights[]) {
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
    this.layers = Object.freeze(copy);
    this.plan = plan;
    this.linears = Object.freeze(linears);
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
    return new Network(layers, weights);
  }

  get inFeatures(): number {
    checkNetwork('this', this);
    return this.linears[0].inFeatures;
  }

  get outFeatures(): number {
    checkNetwork('this', this);
    return this.linears[this.linears.length - 1].outFeatures;
  }

  /** Weights inside kept blocks / all weights, over all linear layers; biases do not count. */
  get density(): number {
    checkNetwork('this', this);
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
    const k = this.inFeatures;
    const n = this.outFeatures;
    const rows = batchRows(x, k, n);
    if (m !== undefined) {
      checkInteger('m', m, 0, MAX_DIMENSION);
      checkArray('x', x, Float32Array, m * k);
    }
    const out = allocateRows(rows, n);
    if (rows === 0) return out;
    const pass = new Pass(this, Math.min(rows, PREDICT_ROWS), null);
    for (let from = 0; from < rows; from += PREDICT_ROWS) {
      const count = Math.min(PREDICT_ROWS, rows - from);
      out.set(pass.forward(x.subarray(from * k, (from + count) * k), null, count), from * n);
    }
    return out;
  }

  /** An independent copy. */
  clone(): Network {
    checkNetwork('this', this);
    return Network.fromParts(this.layers, this.linears);
  }

  /** Copies of all parameters, for `restore`. */
  snapshot(): NetworkSnapshot {
    checkNetwork('this', this);
    return {
      matrices: this.linears.map((linear) => linear.matrix),
      values: this.linears.map((linear) => linear.matrix.values.slice()),
      biases: this.linears.map((linear) => linear.bias?.slice() ?? null),
    };
  }

  /** Back to a snapshot of this network, structure included. Throws, nothing changed, for anything else. */
  restore(snapshot: NetworkSnapshot): void {
    checkNetwork('this', this);
    checkSnapshot(snapshot, this.linears);
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

function checkSnapshot(snapshot: unknown, linears: readonly Linear[]): void {
  if (!isObject(snapshot)) throw typeError('snapshot', 'what Network.snapshot gave', snapshot);
  const { matrices, values, biases } = snapshot as Partial<Record<keyof NetworkSnapshot, unknown>>;
  for (const [name, list] of Object.entries({ matrices, values, biases }))
    if (!Array.isArray(list) || list.length !== linears.length)
      throw typeError(`snapshot.${name}`, `an array of ${linears.length}, one a linear layer`, list);
  linears.forEach(({ inFeatures, outFeatures, bias }, i) => {
    const matrix: unknown = (matrices as unknown[])[i];
    checkIntact(`snapshot.matrices[${i}]`, matrix);
    if (matrix.shape[0] !== outFeatures || matrix.shape[1] !== inFeatures)
      throw rangeError(`snapshot.matrices[${i}].shape`, `[${outFeatures}, ${inFeatures}]`, matrix.shape);
    checkArray(`snapshot.values[${i}]`, (values as unknown[])[i], Float32Array, matrix.values.length);
    if (bias) checkArray(`snapshot.biases[${i}]`, (biases as unknown[])[i], Float32Array, outFeatures);
  });
}

export function checkNetwork(name: string, value: unknown): asserts value is Network {
  if (!isNetwork(value)) throw typeError(name, 'a Network', value);
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
