import { BlocksparseError, rangeError } from '../errors.ts';
import { kernels } from '../kernels/choose.ts';
import { CRITERIA, type Criterion } from '../kernels/kernels.ts';
import type { Dataset } from '../nn/dataset.ts';
import type { Linear } from '../nn/linear.ts';
import { type LossName, losses, type Targets } from '../nn/loss.ts';
import type { Network } from '../nn/network.ts';
import { type OnGradients, Pass } from '../nn/pass.ts';
import { Random } from '../nn/random.ts';
import { BsrMatrix } from '../sparse/bsr.ts';
import { BlockMask } from '../sparse/mask.ts';

/**
 * Scores that need data, sums over its batches; w: weight, g: dL/dw of one batch, x: the weight's input.
 * - fisher: sum of w² g², the empirical Fisher estimate of the loss that dropping the block costs
 * - taylor: (sum of w g)², the square of that loss to first order (Molchanov et al. 2019, for groups)
 * - variance: sum of w² var(x), what the layer's output loses; needs no labels
 */
export type MeasuredCriterion = 'fisher' | 'taylor' | 'variance';
export const MEASURED_CRITERIA = ['fisher', 'taylor', 'variance'] as const;

/** Everything `prune` can rank blocks by: from the weights alone, or measured on data. */
export type PruningCriterion = Criterion | MeasuredCriterion;
export const PRUNING_CRITERIA = [...CRITERIA, ...MEASURED_CRITERIA] as const;

export function isMeasured(criterion: PruningCriterion): criterion is MeasuredCriterion {
  return (MEASURED_CRITERIA as readonly string[]).includes(criterion);
}

/** On what blocks are scored; checked already. */
export interface Measurement {
  readonly data: Pick<Dataset, 'x' | 'count' | 'features'>;
  /** As `targetsFor` gives them; null only for 'variance'. */
  readonly targets: Targets | null;
  readonly loss: LossName;
  readonly batches: number;
  readonly batchSize: number;
}

/**
 * For each linear layer one score a block of its matrix' own grid, row-major; 0 for blocks it does not have. Each
 * is divided by the number of elements that exist: a truncated block frees less, so it may cost less. The batches
 * are random rows, none twice, chosen by `seed`; without dropout. The network is not changed.
 * Throws INVALID_STATE when the loss or a score is not finite.
 */
export function measureBlocks(
  network: Network,
  criterion: MeasuredCriterion,
  how: Measurement,
  seed: number,
): Float32Array[] {
  const { data, batchSize } = how;
  const rows = rowsOf(how, seed);
  const sums =
    criterion === 'variance'
      ? outputVariance(network, data.x, rows, batchSize)
      : gradientSums(network, criterion, how, rows);
  return network.linears.map((linear, l) => spread(linear, sums[l], l));
}

/**
 * For each linear layer one score a block: how steeply the loss falls if the block grows from where it is, the mean
 * of |mean gradient over the batches| of its elements. Absent blocks count like the others, with weights of zero.
 */
export function measureGrowth(network: Network, how: Measurement, seed: number): Float32Array[] {
  const whole = network.clone();
  for (const linear of whole.linears) {
    const { grid } = linear.matrix;
    linear.setMatrix(BsrMatrix.fromDense(linear.weight(), grid, BlockMask.full(grid)));
  }
  const sums = whole.linears.map(({ matrix }) => new Float32Array(matrix.values.length));
  forGradients(whole, how, rowsOf(how, seed), (l, dValues) => {
    const sum = sums[l];
    for (let i = 0; i < sum.length; i++) sum[i] += dValues[i];
  });
  return whole.linears.map((linear, l) => {
    const blocks = new Float64Array(linear.matrix.nnzb);
    addMagnitudes(sums[l], blocks);
    return spread(linear, blocks, l);
  });
}

/** Adds each block's sum of |value| to `sums`. */
function addMagnitudes(values: Float32Array, sums: Float64Array): void {
  const size = values.length / sums.length;
  for (let block = 0; block < sums.length; block++) {
    let sum = 0;
    for (let i = block * size; i < (block + 1) * size; i++) sum += Math.abs(values[i]);
    sums[block] += sum;
  }
}

/** The rows measured on, batch after batch. */
function rowsOf({ data, batches, batchSize }: Measurement, seed: number): Int32Array {
  const order = Int32Array.from({ length: data.count }, (_, i) => i);
  new Random(seed).shuffle(order);
  return order.subarray(0, Math.min(data.count, batches * batchSize));
}

/** Sums for 'fisher' and 'taylor', one a stored block, in float64. */
function gradientSums(
  network: Network,
  criterion: 'fisher' | 'taylor',
  how: Measurement,
  rows: Int32Array,
): Float64Array[] {
  const sums = network.linears.map(({ matrix }) => new Float64Array(matrix.nnzb));
  const add = criterion === 'fisher' ? addSquares : addSquaredSums;
  forGradients(network, how, rows, (l, dValues) => add(network.linears[l].matrix.values, dValues, sums[l]));
  return sums;
}

/** Calls `onGradients` for each batch of `rows` and each layer. */
function forGradients(
  network: Network,
  { data, targets, loss, batchSize }: Measurement,
  rows: Int32Array,
  onGradients: OnGradients,
): void {
  const n = network.outFeatures;
  const capacity = Math.min(batchSize, rows.length);
  const pass = new Pass(network, capacity, null, true);
  const gradient = new Float32Array(capacity * n);
  for (let from = 0; from < rows.length; from += capacity) {
    const batch = rows.subarray(from, Math.min(from + capacity, rows.length));
    const m = batch.length;
    const dOut = gradient.subarray(0, m * n);
    const value = losses[loss](pass.forward(data.x, batch, m), m, n, targets!, batch, 0, dOut);
    if (!Number.isFinite(value))
      throw new BlocksparseError('INVALID_STATE', `the loss became ${value} while blocks were scored`);
    pass.backward(dOut, onGradients);
  }
}

/** Adds each block's sum of (w g)² to `sums`; padding elements have w = 0. */
function addSquares(values: Float32Array, dValues: Float32Array, sums: Float64Array): void {
  const size = values.length / sums.length;
  for (let block = 0; block < sums.length; block++) {
    let sum = 0;
    for (let i = block * size; i < (block + 1) * size; i++) sum += (values[i] * dValues[i]) ** 2;
    sums[block] += sum;
  }
}

/** Adds the square of each block's sum of w g to `sums`. */
function addSquaredSums(values: Float32Array, dValues: Float32Array, sums: Float64Array): void {
  const size = values.length / sums.length;
  for (let block = 0; block < sums.length; block++) {
    let sum = 0;
    for (let i = block * size; i < (block + 1) * size; i++) sum += values[i] * dValues[i];
    sums[block] += sum ** 2;
  }
}

/** Each stored block's sum of w² var(x), over the rows `rows`. */
function outputVariance(
  network: Network,
  x: Float32Array,
  rows: Int32Array,
  batchSize: number,
): Float64Array[] {
  const capacity = Math.min(batchSize, rows.length);
  const pass = new Pass(network, capacity, null);
  const moments = network.linears.map(({ inFeatures }) => new Moments(inFeatures));
  const inputs = network.linears.map(({ inFeatures }) => new Float32Array(capacity * inFeatures));
  for (let from = 0; from < rows.length; from += capacity) {
    const batch = rows.subarray(from, Math.min(from + capacity, rows.length));
    const m = batch.length;
    pass.forward(x, batch, m);
    moments.forEach((moment, l) => {
      const { inFeatures } = network.linears[l];
      const input = inputs[l].subarray(0, m * inFeatures);
      kernels().fromPanels(pass.input(l), m, inFeatures, input);
      moment.add(input, m);
    });
  }
  return network.linears.map(({ matrix }, l) => weighted(matrix, moments[l].variance()));
}

function weighted(matrix: Linear['matrix'], variance: Float64Array): Float64Array {
  const [r, c] = matrix.blockShape;
  return Float64Array.from(matrix.colIndices, (column, block) => {
    let sum = 0;
    for (let y = 0; y < r; y++)
      for (let i = 0; i < Math.min(c, variance.length - column * c); i++)
        sum += matrix.values[(block * r + y) * c + i] ** 2 * variance[column * c + i];
    return sum;
  });
}

/** Mean and variance of each feature, batch by batch (Chan et al. 1979): no difference of large sums. */
class Moments {
  readonly #mean: Float64Array;
  readonly #squares: Float64Array;
  #count = 0;

  constructor(features: number) {
    this.#mean = new Float64Array(features);
    this.#squares = new Float64Array(features);
  }

  /** x is row-major [m, features]. */
  add(x: Float32Array, m: number): void {
    const features = this.#mean.length;
    const total = this.#count + m;
    for (let j = 0; j < features; j++) {
      let mean = 0;
      for (let i = 0; i < m; i++) mean += x[i * features + j];
      mean /= m;
      let squares = 0;
      for (let i = 0; i < m; i++) squares += (x[i * features + j] - mean) ** 2;
      const shift = mean - this.#mean[j];
      this.#mean[j] += (shift * m) / total;
      this.#squares[j] += squares + (shift ** 2 * this.#count * m) / total;
    }
    this.#count = total;
  }

  /** Of the rows seen, all of them: divided by their count. */
  variance(): Float64Array {
    return this.#squares.map((squares) => squares / this.#count);
  }
}

/** From one sum a stored block to one score a block of the grid. */
function spread({ matrix, name }: Linear, sums: Float64Array, l: number): Float32Array {
  const { grid, crowIndices, colIndices } = matrix;
  const scores = new Float32Array(grid.blockCount);
  for (let row = 0; row < grid.gridRows; row++)
    for (let i = crowIndices[row]; i < crowIndices[row + 1]; i++) {
      const block = row * grid.gridCols + colIndices[i];
      const score = sums[i] / grid.elementsOf(block);
      if (!Number.isFinite(score))
        throw new BlocksparseError(
          'INVALID_STATE',
          `a block of layer ${name} (network.linears[${l}]) has the score ${score}: weights or data are not finite`,
        );
      scores[block] = score;
    }
  return scores;
}

/** Rows of features without answers are enough for 'variance'. */
export function checkRows(name: string, data: Pick<Dataset, 'count' | 'features'>, features: number): void {
  if (data.features !== features)
    throw rangeError(`${name}.features`, `${features}, what the network takes`, data.features);
  if (data.count === 0) throw rangeError(`${name}.count`, 'at least 1', 0);
}
