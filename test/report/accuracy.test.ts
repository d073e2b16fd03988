import { describe, expect, it } from 'vitest';
import { Model } from '../../lib/format/model.ts';
import { evaluate } from '../../lib/nn/fit.ts';
import { Network } from '../../lib/nn/network.ts';
import { Random } from '../../lib/nn/random.ts';
import { scoreModel } from '../../lib/report/accuracy.ts';
import { denseTwin } from '../../lib/report/bench.ts';

const random = new Random(3);
const count = 600;
const data = {
  x: Float32Array.from({ length: count * 9 }, () => 2 * random.next() - 1),
  y: Int32Array.from({ length: count }, (_, i) => i % 5),
  count,
  features: 9,
};
const network = Network.create(
  [
    { type: 'linear', inFeatures: 9, outFeatures: 20 },
    { type: 'gelu' },
    { type: 'linear', inFeatures: 20, outFeatures: 5 },
  ],
  4,
);

describe('scoreModel', () => {
  it('gives what evaluate gives for the network', async () => {
    const score = await scoreModel(Model.fromNetwork(network), data);
    const { accuracy, loss } = evaluate(network, data);
    expect(score.accuracy).toBeCloseTo(accuracy, 2);
    expect(score.loss).toBeCloseTo(loss, 5);
    expect(score.count).toBe(count);
  });

  it('refuses labels that the model has no output for', async () => {
    const wrong = { ...data, y: new Int32Array(count).fill(5) };
    await expect(scoreModel(Model.fromNetwork(network), wrong)).rejects.toThrow(RangeError);
  });

  it('stops when told to', async () => {
    await expect(scoreModel(Model.fromNetwork(network), data, AbortSignal.abort())).rejects.toThrow(/abort/i);
  });
});

describe('denseTwin', () => {
  it('computes the same function with every block present', () => {
    const model = Model.fromNetwork(network);
    const twin = denseTwin(model);
    expect(twin.density).toBe(1);
    const [a, b] = [model.runSync(data.x), twin.runSync(data.x)];
    for (let i = 0; i < a.length; i++) expect(b[i]).toBeCloseTo(a[i], 5);
  });
});
