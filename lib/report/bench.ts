import { Model } from '../format/model.ts';
import { runtime } from '../kernels/choose.ts';
import { BsrLinear } from '../linear.ts';
import { DENSE_BLOCK_SHAPE } from '../nn/linear.ts';
import { Network } from '../nn/network.ts';
import { Random } from '../nn/random.ts';
import { planOf } from '../nn/spec.ts';
import { BsrMatrix } from '../sparse/bsr.ts';
import { BlockGrid } from '../sparse/grid.ts';
import { BlockMask } from '../sparse/mask.ts';
import { factor, percent, significant } from './numbers.ts';
import { type Table, textTable } from './table.ts';
import { interleavedMedians, type TimingOptions } from './timing.ts';

/** Microseconds of one call at one batch size. */
export interface Timing {
  readonly batch: number;
  readonly dense: number;
  readonly pruned: number;
  /** dense / pruned */
  readonly speedup: number;
}

export interface LayerTimings {
  readonly name: string;
  readonly shape: readonly [number, number];
  readonly blockShape: readonly [number, number];
  readonly density: number;
  /** Whether it is run as dense: by larger blocks, which hold all weights. */
  readonly regrouped: boolean;
  readonly timings: readonly Timing[];
}

export interface BenchResult {
  readonly runtime: { backend: string; isa: string; threads: number };
  readonly density: number;
  /** That of the model; null where none was given. */
  readonly batchHint: number | null;
  readonly whole: readonly Timing[];
  readonly layers: readonly LayerTimings[];
}

export interface BenchOptions extends TimingOptions {
  /** Rows of x in a call. Default 1, 32, 256. */
  readonly batches?: readonly number[];
  /** Seed of the random inputs. Default 0. */
  readonly seed?: number;
  readonly onStep?: (done: number, total: number, what: string) => void;
}

/** The matrix with every block present, in the block shape that dense layers have. */
function filled(matrix: BsrMatrix): BsrMatrix {
  const grid = new BlockGrid(matrix.shape, DENSE_BLOCK_SHAPE);
  return BsrMatrix.fromDense(matrix.toDense(), grid, BlockMask.full(grid));
}

/** The same function as `model`, computed densely: the pruned weights are there, as zeros. */
export function denseTwin(model: Model): Model {
  const weights = model.matrices.map(({ matrix, bias }) => ({ matrix: filled(matrix), bias }));
  return Model.fromNetwork(Network.fromParts(model.layers, weights));
}

/** Random inputs within [-1, 1), [batch, features]: what normalised images lie within. */
export function randomInputs(batch: number, features: number, seed: number): Float32Array {
  const random = new Random(seed, 0);
  return Float32Array.from({ length: batch * features }, () => 2 * random.next() - 1);
}

async function compare(
  batch: number,
  dense: (x: Float32Array) => unknown,
  pruned: (x: Float32Array) => unknown,
  x: Float32Array,
  options: TimingOptions,
): Promise<Timing> {
  const [slow, fast] = await interleavedMedians([() => dense(x), () => pruned(x)], options);
  return { batch, dense: slow, pruned: fast, speedup: slow / fast };
}

/**
 * Times `model` against its dense twin, whole (`runSync`) and layer by layer (`BsrLinear.forward`), through
 * the public API, both on the same kernels, backend and threads.
 */
export async function benchModel(model: Model, options: BenchOptions = {}): Promise<BenchResult> {
  const { batches = [1, 32, 256], seed = 0, onStep } = options;
  const twin = denseTwin(model);
  const { stages } = planOf(model.layers);
  const total = batches.length * (1 + stages.length);
  let done = 0;
  const whole: Timing[] = [];
  for (const batch of batches) {
    const x = randomInputs(batch, stages[0].spec.inFeatures, seed);
    whole.push(
      await compare(
        batch,
        (input) => twin.runSync(input),
        (input) => model.runSync(input),
        x,
        options,
      ),
    );
    onStep?.(++done, total, `whole, batch ${batch}`);
  }
  const layers: LayerTimings[] = [];
  for (const [i, { name, matrix, bias }] of model.matrices.entries()) {
    const how = { activation: stages[i].activation, ...(bias ? { bias } : {}) };
    const dense = new BsrLinear(filled(matrix), how);
    const hint = model.batchHint === undefined ? {} : { batchHint: model.batchHint };
    const pruned = new BsrLinear(matrix, { ...how, ...hint });
    const timings: Timing[] = [];
    for (const batch of batches) {
      const x = randomInputs(batch, matrix.shape[1], seed);
      timings.push(
        await compare(
          batch,
          (input) => dense.forward(input),
          (input) => pruned.forward(input),
          x,
          options,
        ),
      );
      onStep?.(++done, total, `layer ${name}, batch ${batch}`);
    }
    const { shape, blockShape, density } = matrix;
    const { regrouped } = pruned.explain(1);
    layers.push({ name, shape, blockShape, density, regrouped, timings });
  }
  return {
    runtime: runtime(),
    density: model.density,
    batchHint: model.batchHint ?? null,
    whole,
    layers,
  };
}

/** A layer that has lost none of its blocks is dense. */
function runsAsDense({ regrouped, density }: LayerTimings): boolean {
  return regrouped && density < 1;
}

export function benchTable(result: BenchResult): string {
  const row = (name: string, shape: string, block: string, density: number, timing: Timing): string[] => [
    name,
    shape,
    block,
    percent(density),
    String(timing.batch),
    significant(timing.dense),
    significant(timing.pruned),
    factor(timing.speedup),
  ];
  const table: Table = {
    columns: [
      { title: 'layer' },
      { title: 'shape' },
      { title: 'block' },
      { title: 'density', align: 'right' },
      { title: 'batch', align: 'right' },
      { title: 'dense µs', align: 'right' },
      { title: 'pruned µs', align: 'right' },
      { title: 'speed-up', align: 'right' },
    ],
    rows: [
      ...result.layers.flatMap((layer) =>
        layer.timings.map((timing) =>
          row(
            layer.name,
            layer.shape.join(' x '),
            `${layer.blockShape.join('x')}${runsAsDense(layer) ? ', as dense' : ''}`,
            layer.density,
            timing,
          ),
        ),
      ),
      ...result.whole.map((timing) => row('whole model', '', '', result.density, timing)),
    ],
  };
  const { backend, isa, threads } = result.runtime;
  const dense = result.layers.filter(runsAsDense).map(({ name }) => name);
  const when = result.batchHint
    ? 'at about the hinted batch'
    : 'at some batch (--batch-hint: which one counts)';
  const note =
    dense.length === 0
      ? ''
      : `\nrun as dense, as so many of their blocks are kept that this can be faster ${when}: ${dense.join(', ')}`;
  return `${textTable(table)}\n(${backend} kernels, ${isa}, up to ${threads} threads; medians)${note}`;
}
