import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { evaluate, fit } from '../../lib/nn/fit.ts';
import { Network } from '../../lib/nn/network.ts';
import { Random } from '../../lib/nn/random.ts';
import type { LayerSpec } from '../../lib/nn/spec.ts';
import { prune } from '../../lib/prune/prune.ts';
import { paperSchedule } from '../../lib/prune/schedule.ts';
import { BsrMatrix } from '../../lib/sparse/bsr.ts';
import { BlockGrid } from '../../lib/sparse/grid.ts';
import { networks, noise, pruneAtRandom, referenceForward, referenceLayers } from './reference.ts';

const LAYERS: LayerSpec[] = [
  { type: 'linear', inFeatures: 9, outFeatures: 20 },
  { type: 'relu' },
  { type: 'dropout', p: 0.5 },
  { type: 'linear', name: 'head', inFeatures: 20, outFeatures: 4, bias: false },
];

describe('Network', () => {
  it('starts as PyTorch does, the same for the same seed', () => {
    const network = Network.create(LAYERS, 5);
    expect(network.linears.map((linear) => linear.name)).toEqual(['0', 'head']);
    expect([network.inFeatures, network.outFeatures, network.density]).toEqual([9, 4, 1]);
    const weight = network.linears[0].weight();
    expect(weight).toHaveLength(180);
    expect(Math.max(...weight.map(Math.abs))).toBeLessThanOrEqual(Math.fround(1 / 3));
    const mean = weight.reduce((sum, v) => sum + v, 0) / 180;
    const deviation = Math.sqrt(weight.reduce((sum, v) => sum + v * v, 0) / 180);
    expect(Math.abs(mean)).toBeLessThan(0.06);
    expect(deviation).toBeCloseTo(1 / 3 / Math.sqrt(3), 1);
    expect(network.linears[0].bias).toHaveLength(20);
    expect(network.linears[1].bias).toBeNull();
    expect(Network.create(LAYERS, 5).linears[1].weight()).toEqual(network.linears[1].weight());
    expect(Network.create(LAYERS, 6).linears[1].weight()).not.toEqual(network.linears[1].weight());
  });

  it('predicts what a float64 reference does, without dropout', () => {
    fc.assert(
      fc.property(networks, ({ network, m, seed }) => {
        const x = noise(new Random(seed), m * network.inFeatures);
        const wanted = referenceForward(referenceLayers(network), x, m);
        const given = network.predict(x);
        expect(given.length).toBe(wanted.length);
        for (let i = 0; i < wanted.length; i++)
          expect(Math.abs(given[i] - wanted[i])).toBeLessThan(1e-5 * (1 + Math.abs(wanted[i])));
      }),
      { numRuns: 100 },
    );
  });

  it('predicts any number of rows, each as if alone', () => {
    const network = Network.create(LAYERS, 1);
    const x = noise(new Random(1), 1100 * 9);
    const all = network.predict(x);
    expect(all).toHaveLength(4400);
    for (const row of [0, 511, 512, 1099])
      expect(network.predict(x.subarray(row * 9, row * 9 + 9))).toEqual(all.slice(row * 4, row * 4 + 4));
    expect(network.predict(new Float32Array(0))).toEqual(new Float32Array(0));
  });

  it('sees every change of the parameters', () => {
    const network = Network.create(LAYERS, 1);
    const x = noise(new Random(1), 9);
    const before = network.predict(x);
    const snapshot = network.snapshot();
    const copy = network.clone();
    network.linears[1].matrix.values.fill(0);
    expect(network.predict(x)).toEqual(new Float32Array(4));
    expect(copy.predict(x)).toEqual(before);
    network.restore(snapshot);
    expect(network.predict(x)).toEqual(before);
    pruneAtRandom(network, [4, 4], 0.5, 1);
    expect(network.density).toBeLessThan(1);
    expect(network.predict(x)).not.toEqual(before);
    network.restore(snapshot);
    expect(network.predict(x)).toEqual(before);
    expect(network.density).toBe(1);
  });

  it('copies what it is given', () => {
    const grid = new BlockGrid([2, 3], [2, 2]);
    const matrix = BsrMatrix.fromDense(Float32Array.of(1, 2, 3, 4, 5, 6), grid);
    const bias = Float32Array.of(1, 2);
    const network = Network.fromParts(
      [{ type: 'linear', inFeatures: 3, outFeatures: 2 }],
      [{ matrix, bias }],
    );
    matrix.values.fill(9);
    bias.fill(9);
    expect(network.predict(Float32Array.of(1, 1, 1))).toEqual(Float32Array.of(7, 17));
    // A matrix whose index arrays were changed after construction is refused, not trusted.
    matrix.colIndices[0] = 7;
    expect(() => network.linears[0].setMatrix(matrix)).toThrow('colIndices[0] must be');
  });

  it.each<[string, unknown]>([
    ['layers', null],
    ['layers', []],
    ['layers', [{ type: 'dropout', p: 0.5 }]],
    ['layers[0]', [3]],
    ['layers[0].type', [{}]],
    ['layers[0].type', [{ type: 'conv' }]],
    ['layers[0].type', [{ type: 'none' }]],
    ['layers[0].type', [{ type: 'relu' }, LAYERS[0]]],
    ['layers[2].type', [LAYERS[0], { type: 'relu' }, { type: 'relu' }]],
    ['layers[2].type', [LAYERS[0], { type: 'dropout', p: 0 }, { type: 'relu' }]],
    ['layers[0].inFeatures', [{ type: 'linear', inFeatures: 0, outFeatures: 1 }]],
    ['layers[0].outFeatures', [{ type: 'linear', inFeatures: 1, outFeatures: Number.NaN }]],
    ['layers[1].inFeatures', [LAYERS[0], { type: 'linear', inFeatures: 19, outFeatures: 1 }]],
    ['layers[0].bias', [{ type: 'linear', inFeatures: 1, outFeatures: 1, bias: 1 }]],
    ['layers[0].name', [{ type: 'linear', inFeatures: 1, outFeatures: 1, name: 1 }]],
    ['layers[0].name', [{ type: 'linear', inFeatures: 1, outFeatures: 1, name: '' }]],
    ['layers[4].name', [...LAYERS, { ...LAYERS[3], inFeatures: 4 }]],
    ['layers[1].p', [LAYERS[0], { type: 'dropout', p: 1 }]],
    ['layers[1].p', [LAYERS[0], { type: 'dropout' }]],
    ['layers[0].outFeatures', [{ type: 'linear', inFeatures: 2 ** 20, outFeatures: 2 ** 20 }]],
  ])('rejects a wrong %s: %j', (name, layers) => {
    const act = () => Network.create(layers as LayerSpec[], 0);
    expect(act).toThrow(`${name} must be`);
  });

  it('refuses index arrays that were changed: it would go on with those it was made from', async () => {
    const network = Network.create(LAYERS, 0);
    pruneAtRandom(network, [4, 4], 0.5, 1);
    const data = { x: new Float32Array(9), y: Uint8Array.of(0), count: 1, features: 9 };
    const { matrix } = network.linears[0];
    const end = matrix.crowIndices[1];
    matrix.crowIndices[1] = 0;
    const changed = /network\.linears\[0\]\.matrix: crowIndices or colIndices were changed/;
    expect(() => network.predict(data.x)).toThrow(changed);
    expect(() => evaluate(network, data)).toThrow(changed);
    const optimizer = { type: 'sgd', learningRate: 1 } as const;
    await expect(fit(network, data, { epochs: 1, batchSize: 1, optimizer, seed: 0 })).rejects.toThrow(
      changed,
    );
    await expect(prune(network, { blockShape: [4, 4], schedule: paperSchedule(2, 1) })).rejects.toThrow(
      changed,
    );
    matrix.crowIndices[1] = end;
    expect(network.predict(data.x)).toHaveLength(4);
  });

  it('restores nothing but a snapshot of its own kind', () => {
    const network = Network.create(LAYERS, 0);
    const good = network.snapshot();
    const restore = (change: object) => expect(() => network.restore({ ...good, ...change } as never));
    expect(() => network.restore(null as never)).toThrow(/snapshot must be/);
    expect(() => network.restore([] as never)).toThrow(/snapshot\.matrices must be an array of 2/);
    restore({ values: [good.values[0]] }).toThrow(/snapshot\.values must be/);
    restore({ matrices: [good.matrices[1], good.matrices[0]] }).toThrow(
      /snapshot\.matrices\[0\]\.shape must be/,
    );
    restore({ matrices: [good.matrices[0], {}] }).toThrow(/snapshot\.matrices\[1\] must be a BsrMatrix/);
    restore({ values: [good.values[0], new Float32Array(3)] }).toThrow(/snapshot\.values\[1\] must be/);
    restore({ biases: [null, null] }).toThrow(/snapshot\.biases\[0\] must be/);
    network.restore(good);
  });

  it('rejects other wrong arguments', () => {
    const network = Network.create(LAYERS, 0);
    const [first, head] = network.linears;
    expect(() => Network.create(LAYERS, 0.5)).toThrow('seed must be');
    expect(() => Network.fromParts(LAYERS, {} as [])).toThrow('weights must be');
    expect(() => Network.fromParts(LAYERS, [first])).toThrow('weights must be of 2 entries');
    expect(() => Network.fromParts(LAYERS, [first, null as never])).toThrow('weights[1] must be');
    expect(() => Network.fromParts(LAYERS, [head, first])).toThrow('weights[0].matrix.shape must be [20, 9]');
    expect(() => Network.fromParts(LAYERS, [{ matrix: first.matrix, bias: null }, head])).toThrow(
      'weights[0].bias must be',
    );
    expect(() => first.setMatrix(head.matrix)).toThrow('matrix.shape must be');
    expect(() => first.setMatrix({} as BsrMatrix)).toThrow('matrix must be a BsrMatrix');
    expect(() => network.predict([1] as never)).toThrow('x must be');
    expect(() => network.predict(new Float32Array(10))).toThrow('x must be');
    expect(() => network.predict(new Float32Array(9), 2)).toThrow('x must be');
    expect(() => network.predict(new Float32Array(9), -1)).toThrow('m must be');
    expect(() => Network.prototype.predict.call({} as Network, new Float32Array(9))).toThrow(TypeError);
  });
});
