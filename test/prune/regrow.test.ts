import { beforeAll, describe, expect, it } from 'vitest';
import { evaluate, type FitOptions, fit, split, train as trainOn } from '../../lib/nn/fit.ts';
import { Network } from '../../lib/nn/network.ts';
import { createOptimizer, type OptimizerOptions } from '../../lib/nn/optimizer.ts';
import { Random } from '../../lib/nn/random.ts';
import { setBlocks } from '../../lib/prune/blocks.ts';
import { type Measurement, measureGrowth, PRUNING_CRITERIA } from '../../lib/prune/measured.ts';
import { prune } from '../../lib/prune/prune.ts';
import { type RegrowOptions, regrow } from '../../lib/prune/regrow.ts';
import { BsrMatrix, copySharedBlocks } from '../../lib/sparse/bsr.ts';
import { BlockGrid } from '../../lib/sparse/grid.ts';
import { BlockMask } from '../../lib/sparse/mask.ts';
import { CLASSES, images, LAYERS } from './images.ts';

const { train, validation } = split(images(700, 1), 150);
const how: FitOptions = {
  epochs: 12,
  batchSize: 32,
  optimizer: { type: 'adam', learningRate: 4e-3 },
  rate: { type: 'cosine' },
  seed: 11,
};
/** 18 steps an epoch, 216 in all: pruned at 86.4, settled after 172.8, in epoch 10. */
const options: RegrowOptions = {
  blockShape: [4, 4],
  sparsity: 0.8,
  retrain: { ...how, data: train, validation },
  every: 9,
};

let dense: Network;
beforeAll(async () => {
  dense = Network.create(LAYERS, 3);
  await fit(dense, train, { ...how, validation });
});

const parameters = (network: Network) =>
  network.linears.map(({ matrix, bias }) => ({
    crow: matrix.crowIndices,
    col: matrix.colIndices,
    values: matrix.values,
    bias,
  }));
const masksOf = (network: Network) => network.linears.map(({ matrix }) => matrix.mask);

describe('regrow', () => {
  it('prunes along a cubic curve, exchanges blocks at a constant density, and lets the last ones settle', async () => {
    const network = dense.clone();
    const masks: BlockMask[][] = [];
    const onEpoch = () => void masks.push(masksOf(network));
    const { epochs, bestEpoch } = await regrow(network, {
      ...options,
      retrain: { ...options.retrain, onEpoch },
    });
    expect(epochs).toHaveLength(12);
    // Only epochs with the final blocks are kept.
    expect(bestEpoch).toBeGreaterThanOrEqual(10);
    expect(Math.abs(network.density - 0.2)).toBeLessThan(0.01);
    const densities = masks.map((epoch) => epoch.map(({ density }) => density));
    for (let epoch = 1; epoch < 5; epoch++)
      densities[epoch].forEach((density, l) => {
        expect(density).toBeLessThanOrEqual(densities[epoch - 1][l]);
      });
    // Fast first.
    expect(densities[0][0]).toBeLessThan(0.75);
    const bits = (epoch: number) => masks[epoch].map(({ kept }) => [...kept]);
    const weights = LAYERS.flatMap((layer) =>
      layer.type === 'linear' ? layer.inFeatures * layer.outFeatures : [],
    );
    const all = weights.reduce((a, b) => a + b);
    for (let epoch = 5; epoch < 12; epoch++) {
      const kept = densities[epoch].reduce((sum, density, l) => sum + density * weights[l], 0);
      expect(Math.abs(kept / all - 0.2)).toBeLessThan(0.015);
    }
    const returned = masks[11].some(({ kept }, l) => kept.some((bit, i) => bit > masks[4][l].kept[i]));
    expect(returned).toBe(true);
    expect(bits(10)).toEqual(bits(11));
    expect(masksOf(network).map(({ kept }) => [...kept])).toEqual(bits(11));
    expect(evaluate(dense, validation).accuracy).toBeGreaterThan(0.9);
    expect(evaluate(network, validation).accuracy).toBeGreaterThan(0.85);
    expect(evaluate(network, validation).accuracy).toBe(epochs[bestEpoch - 1].validationAccuracy);
    // Padding of truncated blocks is still zero: fromArrays refuses anything else.
    for (const { matrix } of network.linears) BsrMatrix.fromArrays(matrix);
  });

  it('gives the same bits for the same seed, others for another', async () => {
    const run = async (seed: number) => {
      const network = dense.clone();
      await regrow(network, { ...options, retrain: { ...options.retrain, seed } });
      return parameters(network);
    };
    const first = await run(11);
    expect(await run(11)).toEqual(first);
    expect(await run(12)).not.toEqual(first);
  });

  it.each(PRUNING_CRITERIA)('ranks blocks by %s, in each layer or over all', async (criterion) => {
    for (const scope of ['layer', 'global'] as const) {
      const network = dense.clone();
      await regrow(network, { ...options, criterion, scope, retrain: { ...options.retrain, epochs: 3 } });
      expect(Math.abs(network.density - 0.2)).toBeLessThan(0.03);
      if (scope === 'layer')
        for (const { matrix } of network.linears) expect(Math.abs(matrix.density - 0.2)).toBeLessThan(0.06);
    }
  });

  it.each([
    [1, 1],
    [2, 3],
    [1, 4],
    [4, 1],
  ] as const)('no output loses all its weights with blocks of %ix%i', async (r, c) => {
    const network = dense.clone();
    const retrain = { ...options.retrain, epochs: 3 };
    await regrow(network, { ...options, blockShape: [r, c], sparsity: 0.97, retrain });
    const weight = network.linears[2].weight();
    for (let output = 0; output < CLASSES; output++)
      expect(weight.subarray(output * 22, (output + 1) * 22).some((w) => w !== 0)).toBe(true);
  });

  it('leaves the network as it was when it is stopped or fails, and is alone with it', async () => {
    const network = dense.clone();
    const before = parameters(dense);
    await expect(regrow(network, { ...options, signal: AbortSignal.abort() })).rejects.toThrow(/abort/i);
    const stop = new AbortController();
    let epochs = 0;
    const stopping = { ...options.retrain, onEpoch: () => void (++epochs === 6 && stop.abort()) };
    const run = regrow(network, { ...options, retrain: stopping, signal: stop.signal });
    await expect(
      prune(network, { blockShape: [4, 4], schedule: { type: 'one-shot', sparsity: 0.5, rounds: 1 } }),
    ).rejects.toThrow(/already being pruned/);
    await expect(run).rejects.toThrow(/abort/i);
    expect(parameters(network)).toEqual(before);
    const optimizer: OptimizerOptions = { type: 'sgd', learningRate: 1e300 };
    await expect(regrow(network, { ...options, retrain: { ...options.retrain, optimizer } })).rejects.toThrow(
      /loss/,
    );
    expect(parameters(network)).toEqual(before);
  });

  it.each([
    [{ sparsity: 1.5 }, /sparsity must be a number from 0 to 1/],
    [{ sparsity: undefined }, /sparsity must be/],
    [{ every: 0 }, /every must be/],
    [{ every: 87 }, /every must be at most 86.4, 40 % of 216 steps, but is 87/],
    [{ retrain: undefined }, /retrain must be an object/],
    [{ retrain: () => {} }, /retrain must be an object/],
    [{ blockShape: [0, 4] }, /blockShape\[0\]/],
    [{ criterion: 'luck' }, /criterion must be/],
    [{ floor: 2 }, /floor must be/],
    [{ scoring: 5 }, /scoring must be an object/],
    [{ scoring: null }, /scoring must be an object/],
    [{ checkpoint: 'x.safetensors' }, /checkpoint must be left out/],
    [{ resume: true }, /resume must be left out/],
  ])('refuses %j', async (wrong, message) => {
    await expect(regrow(dense, { ...options, ...wrong } as RegrowOptions)).rejects.toThrow(message);
  });
});

describe('training whose structure changes', () => {
  it('goes on bit for bit where the blocks stay the same', async () => {
    const whole = dense.clone();
    await fit(whole, train, { ...how, epochs: 2 });
    const network = dense.clone();
    const beforeStep = (step: number) => {
      if (step % 7 !== 3) return false;
      setBlocks(network, masksOf(network));
      return true;
    };
    await trainOn(network, train, { ...how, epochs: 2 }, { beforeStep, settled: 0 });
    expect(parameters(network)).toEqual(parameters(whole));
  });

  it.each([
    { type: 'sgd', learningRate: 0.1, momentum: 0.9 },
    { type: 'adam', learningRate: 0.1 },
    { type: 'adamw', learningRate: 0.1 },
  ] as const)('$type: what stays keeps its moments, what is new begins without', (optimizer) => {
    const start = Float32Array.of(1, 2, 3);
    const gradient = Float32Array.of(0.5, -1, 2);
    const moved = Float32Array.from(start);
    const still = Float32Array.from(start);
    const changed = createOptimizer(optimizer, [moved]);
    const same = createOptimizer(optimizer, [still]);
    for (const one of [changed, same]) {
      one.begin(1);
      one.update(0, gradient);
    }
    // The first element goes, a new one comes in its place at the end.
    const fresh = Float32Array.of(moved[1], moved[2], 0);
    changed.replace([fresh], (_, old, now) => now.set(old.subarray(1)));
    changed.begin(1);
    changed.update(0, Float32Array.of(gradient[1], gradient[2], 0));
    same.begin(1);
    same.update(0, gradient);
    expect([...fresh]).toEqual([still[1], still[2], 0]);
  });

  it('copies the blocks that two structures share', () => {
    const grid = new BlockGrid([5, 6], [2, 3]);
    const weight = Float32Array.from({ length: 30 }, (_, i) => i + 1);
    const matrixOf = (...kept: number[]) =>
      BsrMatrix.fromDense(weight, grid, new BlockMask(grid, Uint8Array.from(kept)));
    const from = matrixOf(1, 0, 1, 1, 0, 1);
    const to = matrixOf(1, 1, 0, 1, 1, 1);
    const target = new Float32Array(to.values.length);
    copySharedBlocks(from, from.values, to, target);
    const shared = matrixOf(1, 0, 0, 1, 0, 1).toDense();
    expect([...target]).toEqual([...BsrMatrix.fromDense(shared, grid, to.mask).values]);
  });
});

describe('measureGrowth', () => {
  it('is the mean of |mean gradient| of each block, absent ones included', () => {
    const count = 40;
    const random = new Random(4);
    const x = Float32Array.from({ length: count * 7 }, () => random.next() - 0.5);
    const y = Float32Array.from({ length: count * 5 }, () => random.next() - 0.5);
    const network = Network.create([{ type: 'linear', inFeatures: 7, outFeatures: 5 }], 1);
    const grid = new BlockGrid([5, 7], [2, 3]);
    setBlocks(network, [new BlockMask(grid, Uint8Array.of(1, 0, 1, 0, 1, 0, 0, 0, 1))]);
    const before = parameters(network.clone());
    const how: Measurement = {
      data: { x, count, features: 7 },
      targets: y,
      loss: 'mse',
      batches: 4,
      batchSize: 10,
    };
    const [scores] = measureGrowth(network, how, 9);
    // Of all rows: four batches of ten are all there are. mse is the mean over rows and outputs.
    const out = network.predict(x);
    const sums = new Float64Array(grid.blockCount);
    for (let n = 0; n < 5; n++)
      for (let k = 0; k < 7; k++) {
        let gradient = 0;
        for (let i = 0; i < count; i++) gradient += 2 * (out[i * 5 + n] - y[i * 5 + n]) * x[i * 7 + k];
        // A sum of four batch means.
        sums[Math.floor(n / 2) * grid.gridCols + Math.floor(k / 3)] += Math.abs((4 * gradient) / (count * 5));
      }
    sums.forEach((sum, block) => {
      expect(scores[block]).toBeCloseTo(sum / grid.elementsOf(block), 6);
    });
    expect(parameters(network)).toEqual(before);
  });
});
