import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Dataset, fit } from '../../lib/nn/fit.ts';
import { Network } from '../../lib/nn/network.ts';
import { Random } from '../../lib/nn/random.ts';
import type { LayerSpec } from '../../lib/nn/spec.ts';
import { MEASURED_CRITERIA, type Measurement, measureBlocks } from '../../lib/prune/measured.ts';
import { type PruneOptions, prune } from '../../lib/prune/prune.ts';
import { paperSchedule } from '../../lib/prune/schedule.ts';
import { BsrMatrix } from '../../lib/sparse/bsr.ts';
import { BlockGrid } from '../../lib/sparse/grid.ts';
import { BlockMask } from '../../lib/sparse/mask.ts';

const FEATURES = 7;
const OUTPUTS = 5;
const HIDDEN = 9;

const random = new Random(5);
const uniform = (length: number) => Float32Array.from({ length }, () => random.next() - 0.5);

/** Linear data with a few rows more than whole batches. */
function regression(count: number): Dataset {
  return { x: uniform(count * FEATURES), y: uniform(count * OUTPUTS), count, features: FEATURES };
}

function divide(network: Network, blockShape: [number, number], drop: (block: number) => boolean): void {
  for (const linear of network.linears) {
    const grid = new BlockGrid([linear.outFeatures, linear.inFeatures], blockShape);
    const kept = Uint8Array.from({ length: grid.blockCount }, (_, i) => (drop(i) ? 0 : 1));
    linear.setMatrix(BsrMatrix.fromDense(linear.weight(), grid, new BlockMask(grid, kept)));
  }
}

function expectClose(actual: Float32Array, expected: readonly number[]): void {
  expect(actual.length).toBe(expected.length);
  const scale = Math.max(...expected);
  actual.forEach((score, i) => {
    expect(Math.abs(score - expected[i])).toBeLessThanOrEqual(1e-4 * scale);
  });
}

/** Sums `of(row, column)` over each block of the layer's grid, transforms, and divides by the elements. */
function byBlock(
  grid: BlockGrid,
  of: (y: number, x: number) => number,
  then = (sum: number) => sum,
): number[] {
  const sums = new Array<number>(grid.blockCount).fill(0);
  const [r, c] = grid.blockShape;
  for (let y = 0; y < grid.shape[0]; y++)
    for (let x = 0; x < grid.shape[1]; x++)
      sums[Math.floor(y / r) * grid.gridCols + Math.floor(x / c)] += of(y, x);
  return sums.map((sum, i) => then(sum) / grid.elementsOf(i));
}

describe('measureBlocks', () => {
  const layers: LayerSpec[] = [{ type: 'linear', inFeatures: FEATURES, outFeatures: OUTPUTS }];
  const data = regression(20);
  const whole: Measurement = { data, targets: data.y, loss: 'mse', batches: 1, batchSize: 20 };

  /** dL/dw of the mean squared error of one linear layer, over all rows. */
  function gradient(network: Network): number[] {
    const out = network.predict(data.x);
    const g = new Array<number>(OUTPUTS * FEATURES).fill(0);
    for (let i = 0; i < data.count; i++)
      for (let y = 0; y < OUTPUTS; y++) {
        const d = (2 * (out[i * OUTPUTS + y] - data.y[i * OUTPUTS + y])) / (data.count * OUTPUTS);
        for (let x = 0; x < FEATURES; x++) g[y * FEATURES + x] += d * data.x[i * FEATURES + x];
      }
    return g;
  }

  it('follows the definitions, counting only the elements that exist and the blocks that are there', () => {
    const network = Network.create(layers, 1);
    divide(network, [2, 3], (i) => i === 4);
    const g = gradient(network);
    const w = network.linears[0].weight();
    const { grid } = network.linears[0].matrix;
    const product = (y: number, x: number) => w[y * FEATURES + x] * g[y * FEATURES + x];
    const fisher = byBlock(grid, (y, x) => product(y, x) ** 2);
    const taylor = byBlock(grid, product, (sum) => sum ** 2);
    expect(fisher[4]).toBe(0);
    expectClose(measureBlocks(network, 'fisher', whole, 3)[0], fisher);
    expectClose(measureBlocks(network, 'taylor', whole, 3)[0], taylor);
  });

  it('takes the variance of what each layer receives', () => {
    const deep: LayerSpec[] = [
      { type: 'linear', inFeatures: FEATURES, outFeatures: HIDDEN },
      { type: 'relu' },
      { type: 'dropout', p: 0.5 },
      { type: 'linear', inFeatures: HIDDEN, outFeatures: OUTPUTS },
    ];
    const network = Network.create(deep, 2);
    divide(network, [4, 2], (i) => i === 1);
    const hidden = Network.fromParts(deep.slice(0, 2), [network.linears[0]]).predict(data.x);
    const variance = (x: Float32Array, width: number, column: number) => {
      const values = Array.from({ length: data.count }, (_, i) => x[i * width + column]);
      const mean = values.reduce((a, b) => a + b, 0) / values.length;
      return values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length;
    };
    // In batches of 6, so that the last one is smaller and the sums are merged.
    const how: Measurement = { ...whole, targets: null, batches: 64, batchSize: 6 };
    const scores = measureBlocks(network, 'variance', how, 9);
    [data.x, hidden].forEach((x, l) => {
      const { matrix, inFeatures } = network.linears[l];
      const w = matrix.toDense();
      expectClose(
        scores[l],
        byBlock(
          matrix.grid,
          (row, column) => w[row * inFeatures + column] ** 2 * variance(x, inFeatures, column),
        ),
      );
    });
  });

  it('sums over batches, and for single weights fisher and taylor are the same', () => {
    const network = Network.create(layers, 4);
    divide(network, [1, 1], (i) => i % 5 === 0);
    const how: Measurement = { ...whole, batches: 3, batchSize: 6 };
    const [fisher] = measureBlocks(network, 'fisher', how, 7);
    expectClose(measureBlocks(network, 'taylor', how, 7)[0], Array.from(fisher));
    expect(Math.max(...fisher)).toBeGreaterThan(0);
    expect(measureBlocks(network, 'fisher', how, 8)[0]).not.toEqual(fisher);
    expect(measureBlocks(network, 'fisher', how, 7)[0]).toEqual(fisher);
  });

  it('says when a score would not be finite', () => {
    const network = Network.create(layers, 1);
    const x = data.x.slice();
    x[3] = Number.POSITIVE_INFINITY;
    const broken: Measurement = { ...whole, data: { ...data, x } };
    expect(() => measureBlocks(network, 'fisher', broken, 1)).toThrow(/the loss became/);
    expect(() => measureBlocks(network, 'variance', broken, 1)).toThrow(/has the score NaN/);
  });
});

describe('prune with measured criteria and a global budget', () => {
  const layers: LayerSpec[] = [
    { type: 'linear', inFeatures: FEATURES, outFeatures: 26 },
    { type: 'relu' },
    { type: 'linear', inFeatures: 26, outFeatures: 18 },
    { type: 'relu' },
    { type: 'linear', inFeatures: 18, outFeatures: OUTPUTS },
  ];
  /** The class is the largest of the first features. */
  function labelled(count: number): Dataset {
    const x = uniform(count * FEATURES);
    const y = Uint8Array.from({ length: count }, (_, i) => {
      const row = Array.from(x.subarray(i * FEATURES, i * FEATURES + OUTPUTS));
      return row.indexOf(Math.max(...row));
    });
    return { x, y, count, features: FEATURES };
  }
  const data = labelled(400);
  const retrain = {
    data,
    epochs: 2,
    batchSize: 32,
    optimizer: { type: 'adam', learningRate: 3e-3 },
    seed: 1,
  } as const;
  const schedule = { type: 'exponential', sparsity: 0.9, rounds: 4 } as const;
  const global: PruneOptions = { blockShape: [4, 4], schedule, scope: 'global', floor: 'auto', retrain };
  let folder: string;
  let dense: Network;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'blocksparse-measured-'));
    dense = Network.create(layers, 3);
    await fit(dense, data, { ...retrain, epochs: 10 });
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it.each(MEASURED_CRITERIA)('%s drops no block twice, per layer and over all layers', async (criterion) => {
    for (const options of [{ blockShape: [4, 4], schedule: paperSchedule(3, 4), retrain } as const, global]) {
      const network = dense.clone();
      const { rounds } = await prune(network, { ...options, criterion });
      rounds.forEach(({ layerDensities }, i) => {
        for (let l = 0; i > 0 && l < 3; l++)
          expect(layerDensities[l]).toBeLessThanOrEqual(rounds[i - 1].layerDensities[l]);
      });
      expect(network.density).toBeLessThan(0.6);
    }
  });

  it('keeps floors, and in the last layer every row of blocks', async () => {
    // Zeros: without its floor the last layer would lose every block at once.
    const network = dense.clone();
    network.linears[2].matrix.values.fill(0);
    const { rounds } = await prune(network, { ...global, retrain: () => {} });
    rounds.forEach(({ layerDensities }, round) => {
      const mean = 0.1 ** ((round + 1) / 4);
      for (const density of layerDensities) expect(density).toBeGreaterThanOrEqual(mean / 4 - 1e-9);
    });
    const { crowIndices } = network.linears[2].matrix;
    for (let row = 0; row + 1 < crowIndices.length; row++)
      expect(crowIndices[row + 1]).toBeGreaterThan(crowIndices[row]);
    expect(Math.abs(network.density - 0.1)).toBeLessThan(0.02);
  });

  it.each([
    [1, 1],
    [2, 3],
    [16, 1],
  ] as const)('no output of the last layer loses all its weights with blocks of %ix%i', async (r, c) => {
    const network = dense.clone();
    // The first output is worth nothing and would go first; what training makes of its weights is not asked here.
    const weight = network.linears[2].weight();
    const { inFeatures, outFeatures } = network.linears[2];
    weight.subarray(0, inFeatures).fill(1e-6);
    const grid = new BlockGrid([outFeatures, inFeatures], [r, c]);
    network.linears[2].setMatrix(BsrMatrix.fromDense(weight, grid));
    const oneShot = { type: 'one-shot', sparsity: 0.95, rounds: 1 } as const;
    await prune(network, { ...global, blockShape: [r, c], schedule: oneShot, retrain: () => {} });
    const left = network.linears[2].weight();
    for (let output = 0; output < outFeatures; output++)
      expect(left.subarray(output * inFeatures, (output + 1) * inFeatures).some((w) => w !== 0)).toBe(true);
  });

  it('resumes bit for bit, and only with the same scoring', async () => {
    const checkpoint = join(folder, 'fisher.safetensors');
    const options: PruneOptions = { ...global, criterion: 'fisher' };
    const whole = dense.clone();
    await prune(whole, options);
    const stop = new AbortController();
    await expect(
      prune(dense.clone(), {
        ...options,
        checkpoint,
        signal: stop.signal,
        onRound: ({ round }) => {
          if (round === 1) stop.abort();
        },
      }),
    ).rejects.toThrow();
    const other = prune(dense.clone(), { ...options, checkpoint, resume: true, scoring: { batches: 3 } });
    await expect(other).rejects.toThrow(/scoring/);
    const resumed = dense.clone();
    await prune(resumed, { ...options, checkpoint, resume: true });
    expect(resumed.linears.map(({ matrix }) => matrix.values)).toEqual(
      whole.linears.map(({ matrix }) => matrix.values),
    );
  });

  it('variance needs rows only, the others labels, and all say what is missing', async () => {
    const { y: _, ...rows } = data;
    const bare: PruneOptions = { blockShape: [4, 4], schedule };
    await prune(dense.clone(), { ...bare, criterion: 'variance', scoring: { data: rows } });
    const bad = (options: object) => expect(prune(dense.clone(), { ...bare, ...options } as PruneOptions));
    await bad({ criterion: 'fisher', scoring: { data: rows } }).rejects.toThrow(/scoring.data.y/);
    await bad({ criterion: 'taylor' }).rejects.toThrow(/scoring.data must be a data set/);
    await bad({ criterion: 'taylor', scoring: { data, batches: 0 } }).rejects.toThrow(/scoring.batches/);
    await bad({ criterion: 'fisher', scoring: null }).rejects.toThrow(/scoring must be an object/);
    await bad({
      criterion: 'variance',
      scoring: { data: { ...rows, count: 0, x: new Float32Array(0) } },
    }).rejects.toThrow(/scoring.data.count/);
    await bad({ floor: 'auto' }).rejects.toThrow(/floor must be 'auto' only with scope 'global'/);
    await bad({ floor: 'half' }).rejects.toThrow(/floor/);
  });
});
