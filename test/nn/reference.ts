import fc from 'fast-check';
import type { Activation } from '../../lib/kernels/kernels.ts';
import { Network } from '../../lib/nn/network.ts';
import { Random } from '../../lib/nn/random.ts';
import type { LayerSpec } from '../../lib/nn/spec.ts';
import { BsrMatrix } from '../../lib/sparse/bsr.ts';
import { BlockGrid } from '../../lib/sparse/grid.ts';
import { BlockMask } from '../../lib/sparse/mask.ts';

/** erf by its series of positive terms: nothing cancels (Abramowitz & Stegun 7.1.6). */
function erf(x: number): number {
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x;
  let sum = x;
  for (let n = 1; n < 150; n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

const functions: Record<Activation, (z: number) => number> = {
  none: (z) => z,
  relu: (z) => Math.max(z, 0),
  gelu: (z) => 0.5 * z * (1 + erf(z / Math.SQRT2)),
  silu: (z) => z / (1 + Math.exp(-z)),
  sigmoid: (z) => 1 / (1 + Math.exp(-z)),
  tanh: Math.tanh,
};

/** One linear layer in float64, with what follows it; `mask` are dropout's factors by [row][feature]. */
export interface ReferenceLayer {
  weight: Float64Array;
  bias: Float64Array;
  n: number;
  k: number;
  activation: Activation;
  mask?: (row: number, feature: number) => number;
}

export function referenceLayers(network: Network): ReferenceLayer[] {
  return network.linears.map((linear) => ({
    weight: Float64Array.from(linear.weight()),
    bias: Float64Array.from(linear.bias ?? new Float32Array(linear.outFeatures)),
    n: linear.outFeatures,
    k: linear.inFeatures,
    activation: linear.activation,
  }));
}

/** Outputs [m, n] of `layers` in float64. */
export function referenceForward(layers: ReferenceLayer[], x: ArrayLike<number>, m: number): Float64Array {
  let input = Float64Array.from(x);
  for (const { weight, bias, n, k, activation, mask } of layers) {
    const output = new Float64Array(m * n);
    for (let i = 0; i < m; i++)
      for (let j = 0; j < n; j++) {
        let sum = bias[j];
        for (let l = 0; l < k; l++) sum += input[i * k + l] * weight[j * k + l];
        output[i * n + j] = functions[activation](sum) * (mask?.(i, j) ?? 1);
      }
    input = output;
  }
  return input;
}

export function referenceCrossEntropy(out: Float64Array, labels: ArrayLike<number>): number {
  const m = labels.length;
  const n = out.length / m;
  let loss = 0;
  for (let i = 0; i < m; i++) {
    const row = out.subarray(i * n, (i + 1) * n);
    loss += Math.log(row.reduce((sum, v) => sum + Math.exp(v), 0)) - row[labels[i]];
  }
  return loss / m;
}

export function referenceSquaredError(out: Float64Array, targets: ArrayLike<number>): number {
  return out.reduce((sum, v, i) => sum + (v - targets[i]) ** 2, 0) / out.length;
}

/** d loss / d parameters[i], by central differences; the parameters are float64 and come back unchanged. */
export function centralDifference(parameters: Float64Array, i: number, loss: () => number): number {
  const h = 1e-5;
  const value = parameters[i];
  parameters[i] = value + h;
  const above = loss();
  parameters[i] = value - h;
  const below = loss();
  parameters[i] = value;
  return (above - below) / (2 * h);
}

/** Where element (row, column) of the weight lies in `matrix.values`; -1 in a pruned block. */
export function valueIndex(matrix: BsrMatrix, row: number, column: number): number {
  const [r, c] = matrix.blockShape;
  const blockRow = Math.floor(row / r);
  const blockColumn = Math.floor(column / c);
  for (let i = matrix.crowIndices[blockRow]; i < matrix.crowIndices[blockRow + 1]; i++)
    if (matrix.colIndices[i] === blockColumn) return (i * r + (row % r)) * c + (column % c);
  return -1;
}

/** Normally distributed enough: a sum of uniforms. */
export function noise(random: Random, length: number): Float32Array {
  return Float32Array.from({ length }, () => 2 * (random.next() + random.next() + random.next() - 1.5));
}

/** Prunes random blocks of every layer. */
export function pruneAtRandom(network: Network, blockShape: [number, number], density: number, seed: number) {
  const random = new Random(seed);
  for (const linear of network.linears) {
    const grid = new BlockGrid([linear.outFeatures, linear.inFeatures], blockShape);
    const kept = Uint8Array.from({ length: grid.blockCount }, () => (random.next() < density ? 1 : 0));
    linear.setMatrix(BsrMatrix.fromDense(linear.weight(), grid, new BlockMask(grid, kept)));
  }
}

/** Two-class points on two noisy rings: no linear layer alone separates them. */
export function rings(count: number, seed: number) {
  const random = new Random(seed);
  const x = new Float32Array(2 * count);
  const y = new Uint8Array(count);
  for (let i = 0; i < count; i++) {
    y[i] = random.next() < 0.5 ? 0 : 1;
    const angle = 2 * Math.PI * random.next();
    const radius = 0.6 + y[i] + 0.3 * (random.next() - 0.5);
    x[2 * i] = radius * Math.cos(angle);
    x[2 * i + 1] = radius * Math.sin(angle);
  }
  return { x, y, count, features: 2, classes: 2 };
}

const ACTIVATION = fc.constantFrom('none', 'relu', 'gelu', 'silu', 'tanh', 'sigmoid');

/** Small networks of any activations, some pruned, with a batch size that may cross a panel. */
export const networks = fc
  .record({
    sizes: fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 2, maxLength: 4 }),
    activations: fc.array(ACTIVATION, { minLength: 3, maxLength: 3 }),
    bias: fc.boolean(),
    blockShape: fc.tuple(fc.integer({ min: 1, max: 18 }), fc.integer({ min: 1, max: 18 })),
    density: fc.constantFrom(0, 0.5, 1),
    m: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 60, max: 70 })),
    seed: fc.integer({ min: 0, max: 1e6 }),
  })
  .map(({ sizes, activations, bias, blockShape, density, m, seed }) => {
    const layers: LayerSpec[] = [];
    for (let i = 0; i + 1 < sizes.length; i++) {
      layers.push({ type: 'linear', inFeatures: sizes[i], outFeatures: sizes[i + 1], bias });
      if (activations[i] !== 'none') layers.push({ type: activations[i] } as LayerSpec);
    }
    const network = Network.create(layers, seed);
    for (const { matrix } of network.linears)
      for (let i = 0; i < matrix.values.length; i++) matrix.values[i] *= 2;
    if (density < 1) pruneAtRandom(network, blockShape, density, seed);
    return { network, m, seed };
  });
