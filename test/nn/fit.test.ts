import { describe, expect, it } from 'vitest';
import { type Dataset, type EpochRecord, evaluate, type FitOptions, fit, split } from '../../lib/nn/fit.ts';
import { Network } from '../../lib/nn/network.ts';
import { Random } from '../../lib/nn/random.ts';
import type { LayerSpec } from '../../lib/nn/spec.ts';
import { BsrMatrix } from '../../lib/sparse/bsr.ts';
import { noise, pruneAtRandom, rings } from './reference.ts';

const LAYERS: LayerSpec[] = [
  { type: 'linear', inFeatures: 2, outFeatures: 24 },
  { type: 'relu' },
  { type: 'dropout', p: 0.1 },
  { type: 'linear', inFeatures: 24, outFeatures: 24 },
  { type: 'gelu' },
  { type: 'linear', inFeatures: 24, outFeatures: 2 },
];
const OPTIONS: FitOptions = {
  epochs: 20,
  batchSize: 32,
  optimizer: { type: 'adam', learningRate: 0.01 },
  seed: 1,
};

function bits(network: Network): number[] {
  return network.linears.flatMap(({ matrix, bias }) => [
    ...new Int32Array(matrix.values.slice().buffer),
    ...new Int32Array(bias!.slice().buffer),
  ]);
}

describe('fit', () => {
  it('learns what no linear layer could, dense and pruned; pruned blocks stay zero', async () => {
    const data = rings(1000, 1);
    const test = rings(500, 2);
    const network = Network.create(LAYERS, 0);
    expect(evaluate(network, test).accuracy).toBeLessThan(0.8);
    const result = await fit(network, data, { ...OPTIONS, validation: 200 });
    expect(result.epochs).toHaveLength(20);
    expect(result.epochs.map((record) => record.epoch)).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
    expect(evaluate(network, test).accuracy).toBeGreaterThan(0.97);
    pruneAtRandom(network, [3, 2], 0.5, 3);
    const before = network.linears.map((linear) => linear.weight());
    const masks = network.linears.map((linear) => linear.matrix.mask.kept);
    await fit(network, data, OPTIONS);
    expect(evaluate(network, test).accuracy).toBeGreaterThan(0.97);
    network.linears.forEach((linear, l) => {
      expect(linear.matrix.mask.kept).toEqual(masks[l]);
      const after = linear.weight();
      before[l].forEach((value, i) => {
        if (value === 0) expect(after[i]).toBe(0);
      });
      // Padding of truncated edge blocks too: this checks it.
      BsrMatrix.fromArrays(linear.matrix);
    });
  });

  it('learns a regression by mean squared error, and keeps the epoch of the smallest loss', async () => {
    const count = 600;
    const x = noise(new Random(4), count);
    const data = { x, y: x.map(Math.sin), count, features: 1 };
    const network = Network.create(
      [
        { type: 'linear', inFeatures: 1, outFeatures: 32 },
        { type: 'tanh' },
        { type: 'linear', inFeatures: 32, outFeatures: 1 },
      ],
      0,
    );
    const { epochs, bestEpoch } = await fit(network, data, {
      ...OPTIONS,
      loss: 'mse',
      rate: { type: 'cosine' },
      epochs: 40,
      validation: 100,
    });
    const { loss, accuracy } = evaluate(network, split(data, 100).validation, { loss: 'mse' });
    expect(loss).toBeLessThan(0.01);
    expect(accuracy).toBeNaN();
    expect(loss).toBe(Math.min(...epochs.map((record) => record.validationLoss!)));
    expect(loss).toBe(epochs[bestEpoch - 1].validationLoss);
    expect(epochs[0].validationAccuracy).toBeUndefined();
  });

  it('gives the same bits for the same seed, others for another', async () => {
    const data = rings(101, 5);
    const run = async (seed: number) => {
      const network = Network.create(LAYERS, 7);
      const { epochs } = await fit(network, data, { ...OPTIONS, epochs: 3, seed });
      return { bits: bits(network), losses: epochs.map((record) => record.loss) };
    };
    const first = await run(1);
    expect(await run(1)).toEqual(first);
    expect((await run(2)).bits).not.toEqual(first.bits);
  });

  it('uses each row once an epoch, those of a smaller last batch too', async () => {
    // At learning rate 0 the mean over the batches is the loss on the whole set.
    const data = rings(45, 6);
    for (const batchSize of [1, 16, 44, 45, 1000]) {
      const network = Network.create([{ type: 'linear', inFeatures: 2, outFeatures: 2 }], 7);
      const { epochs } = await fit(network, data, {
        ...OPTIONS,
        batchSize,
        epochs: 2,
        optimizer: { type: 'sgd', learningRate: 0 },
      });
      for (const { loss } of epochs) expect(loss).toBeCloseTo(evaluate(network, data).loss, 6);
    }
  });

  it('keeps the best epoch on validation, the later of equals, or the last', async () => {
    const data = rings(400, 8);
    const validation = rings(100, 9);
    // The learning rate explodes, so the last epochs are bad.
    const options: FitOptions = {
      ...OPTIONS,
      epochs: 8,
      validation,
      rate: { type: 'step', every: 5, factor: 300 },
    };
    const network = Network.create(LAYERS, 0);
    const { epochs, bestEpoch } = await fit(network, data, options);
    const accuracies = epochs.map((record) => record.validationAccuracy!);
    const best = Math.max(...accuracies);
    expect(bestEpoch).toBe(accuracies.lastIndexOf(best) + 1);
    expect(bestEpoch).toBeLessThan(8);
    expect(evaluate(network, validation)).toEqual({
      loss: epochs[bestEpoch - 1].validationLoss,
      accuracy: best,
    });
    const other = Network.create(LAYERS, 0);
    const last = await fit(other, data, { ...options, keep: 'last' });
    expect(last.bestEpoch).toBe(8);
    expect(evaluate(other, validation).loss).toBe(last.epochs[7].validationLoss);
  });

  it('reports each epoch and stops at a signal, also within an epoch', async () => {
    const reason = new Error('enough');
    const stop = (signal: AbortSignal, onEpoch?: (record: EpochRecord) => void) =>
      fit(Network.create(LAYERS, 0), rings(2000, 1), {
        ...OPTIONS,
        batchSize: 1,
        epochs: 100_000,
        signal,
        ...(onEpoch && { onEpoch }),
      });
    await expect(stop(AbortSignal.abort(reason))).rejects.toBe(reason);
    const byEpoch = new AbortController();
    const seen: number[] = [];
    await expect(
      stop(byEpoch.signal, ({ epoch }) => {
        seen.push(epoch);
        if (epoch === 2) byEpoch.abort(reason);
      }),
    ).rejects.toBe(reason);
    expect(seen).toEqual([1, 2]);
    const byTime = new AbortController();
    setTimeout(() => byTime.abort(reason), 60);
    await expect(stop(byTime.signal)).rejects.toBe(reason);
  });

  it('rejects when the loss is no longer finite', async () => {
    const data = rings(50, 1);
    data.x[7] = Number.NaN;
    await expect(fit(Network.create(LAYERS, 0), data, OPTIONS)).rejects.toMatchObject({
      code: 'INVALID_STATE',
      message: expect.stringContaining('optimizer.learningRate'),
    });
  });

  it('rejects when the very last step spoils the weights', async () => {
    const data = rings(50, 1);
    const optimizer = { type: 'sgd', learningRate: 1e300 } as const;
    const run = fit(Network.create(LAYERS, 0), data, { ...OPTIONS, optimizer, epochs: 1, batchSize: 50 });
    await expect(run).rejects.toMatchObject({
      code: 'INVALID_STATE',
      message: expect.stringContaining('weights are no longer finite'),
    });
  });

  it('refuses an epsilon that is 0 in float32', async () => {
    for (const epsilon of [0, 1e-60]) {
      const optimizer = { type: 'adam', learningRate: 0.01, epsilon } as const;
      const run = fit(Network.create(LAYERS, 0), rings(50, 1), { ...OPTIONS, optimizer });
      await expect(run).rejects.toThrow(/optimizer\.epsilon must be/);
    }
  });

  it('rejects a second training, a replaced matrix and a transferred buffer meanwhile', async () => {
    const network = Network.create(LAYERS, 0);
    const data = rings(200, 1);
    const first = fit(network, data, OPTIONS);
    await expect(fit(network, data, OPTIONS)).rejects.toMatchObject({ code: 'INVALID_STATE' });
    network.linears[0].setMatrix(network.linears[0].matrix);
    await expect(first).rejects.toMatchObject({ code: 'INVALID_STATE' });
    const second = fit(network, data, OPTIONS);
    structuredClone(data.x, { transfer: [data.x.buffer] });
    await expect(second).rejects.toThrow(/data\.x/);
    const validation = rings(50, 2);
    const third = fit(network, rings(200, 1), { ...OPTIONS, validation });
    structuredClone(validation.x, { transfer: [validation.x.buffer] });
    await expect(third).rejects.toThrow(/^options\.validation\.x must be/);
    const targets = { x: new Float32Array(40), y: new Float32Array(40), count: 20, features: 2 };
    const fourth = fit(network, targets, { ...OPTIONS, loss: 'mse' });
    structuredClone(targets.y, { transfer: [targets.y.buffer] });
    await expect(fourth).rejects.toThrow(/^data\.y must be/);
    // The network is free again.
    await fit(network, rings(200, 1), { ...OPTIONS, epochs: 1 });
  });

  it('does nothing in 0 epochs, and copes with a network without a block', async () => {
    const network = Network.create(LAYERS, 0);
    const before = bits(network);
    expect(await fit(network, rings(20, 1), { ...OPTIONS, epochs: 0 })).toEqual({ epochs: [], bestEpoch: 0 });
    expect(bits(network)).toEqual(before);
    pruneAtRandom(network, [4, 4], 0, 1);
    await fit(network, rings(20, 1), OPTIONS);
    expect(network.density).toBe(0);
  });

  it('reads shared memory', async () => {
    const data = rings(60, 1);
    const shared = new Float32Array(new SharedArrayBuffer(4 * data.x.length));
    shared.set(data.x);
    const labels = new Uint8Array(new SharedArrayBuffer(60));
    labels.set(data.y);
    const networks = [Network.create(LAYERS, 0), Network.create(LAYERS, 0)];
    await fit(networks[0], data, { ...OPTIONS, epochs: 2 });
    await fit(networks[1], { ...data, x: shared, y: labels }, { ...OPTIONS, epochs: 2 });
    expect(bits(networks[1])).toEqual(bits(networks[0]));
  });

  it.each<[string, unknown]>([
    ['options', null],
    ['options.epochs', { epochs: 1.5 }],
    ['options.epochs', { epochs: -1 }],
    ['options.epochs', { epochs: '3' }],
    ['options.batchSize', { batchSize: 0 }],
    ['options.batchSize', { batchSize: Number.NaN }],
    ['options.seed', { seed: -1 }],
    ['options.seed', { seed: undefined }],
    ['options.optimizer', { optimizer: undefined }],
    ['options.optimizer.type', { optimizer: { type: 'lion', learningRate: 1 } }],
    ['options.optimizer.learningRate', { optimizer: { type: 'sgd' } }],
    ['options.optimizer.learningRate', { optimizer: { type: 'sgd', learningRate: Number.NaN } }],
    ['options.optimizer.momentum', { optimizer: { type: 'sgd', learningRate: 1, momentum: 1 } }],
    ['options.optimizer.beta2', { optimizer: { type: 'adam', learningRate: 1, beta2: 1 } }],
    ['options.optimizer.weightDecay', { optimizer: { type: 'adam', learningRate: 1, weightDecay: -1 } }],
    ['options.rate.type', { rate: { type: 'linear' } }],
    ['options.rate.minimum', { rate: { type: 'cosine', minimum: 2 } }],
    ['options.rate.every', { rate: { type: 'step', every: 0, factor: 1 } }],
    ['options.rate.factor', { rate: { type: 'step', every: 1 } }],
    ['options.loss', { loss: 'hinge' }],
    ['options.validation', { validation: 100 }],
    ['options.validation', { validation: 'some' }],
    ['options.validation.features', { validation: { ...rings(5, 1), features: 1, x: new Float32Array(5) } }],
    ['options.keep', { keep: 'first' }],
    ['options.keep', { keep: 'best' }],
    ['options.signal', { signal: {} }],
    ['options.onEpoch', { onEpoch: 1 }],
  ])('rejects a wrong %s: %j', async (name, changed) => {
    const options = changed === null ? null : { ...OPTIONS, ...(changed as object) };
    const rejected = fit(Network.create(LAYERS, 0), rings(100, 1), options as FitOptions);
    await expect(rejected).rejects.toThrow(`${name} `);
    await expect(rejected).rejects.toSatisfy((e) => e instanceof TypeError || e instanceof RangeError);
  });

  it.each<[string, unknown]>([
    ['data', null],
    ['data.count', { count: 2.5 }],
    ['data.count', { count: 0, x: new Float32Array(0), y: new Uint8Array(0) }],
    ['data.features', { features: 3, x: new Float32Array(30) }],
    ['data.classes', { classes: 'three' }],
    ['data.x', { x: new Float32Array(19) }],
    ['data.x', { x: [1, 2] }],
    ['data.x', { x: new Float64Array(20) }],
    ['data.y', { y: new Uint8Array(9) }],
    ['data.y', { y: new Float32Array(10) }],
    ['data.y', { y: [1] }],
    ['data.y[3]', { y: Uint8Array.of(0, 1, 1, 2, 0, 0, 0, 0, 0, 0) }],
    ['data.y[0]', { y: Int32Array.of(-1, 1, 1, 1, 0, 0, 0, 0, 0, 0) }],
  ])('rejects a wrong %s', async (name, changed) => {
    const data = changed === null ? null : { ...rings(10, 1), ...(changed as object) };
    const network = Network.create(LAYERS, 0);
    await expect(fit(network, data as Dataset, OPTIONS)).rejects.toThrow(`${name} `);
    expect(() => evaluate(network, data as Dataset)).toThrow(`${name} `);
  });

  it('rejects what is not a network', async () => {
    await expect(fit({} as Network, rings(10, 1), OPTIONS)).rejects.toThrow('network must be');
    expect(() => evaluate({} as Network, rings(10, 1))).toThrow('network must be');
  });
});

describe('evaluate', () => {
  it('does not depend on the batch size', () => {
    const network = Network.create(LAYERS, 0);
    const data = rings(301, 3);
    const whole = evaluate(network, data);
    for (const batchSize of [1, 7, 300]) {
      const part = evaluate(network, data, { batchSize });
      expect(part.accuracy).toBe(whole.accuracy);
      expect(part.loss).toBeCloseTo(whole.loss, 6);
    }
  });
});

describe('split', () => {
  it('takes the last rows for validation', () => {
    const data = rings(10, 1);
    const { train, validation } = split(data, 3);
    expect([train.count, validation.count]).toEqual([7, 3]);
    expect([...train.x, ...validation.x]).toEqual([...data.x]);
    expect([...train.y, ...validation.y]).toEqual([...data.y]);
    expect(split({ ...data, y: new Float32Array(40) }, 3).validation.y).toHaveLength(12);
    expect(() => split(data, 11)).toThrow('validationCount must be');
  });
});
