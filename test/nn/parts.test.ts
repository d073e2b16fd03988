import { describe, expect, it } from 'vitest';
import { losses } from '../../lib/nn/loss.ts';
import { deriveSeed, Random } from '../../lib/nn/random.ts';
import { rateFactor } from '../../lib/nn/rate.ts';
import { planOf } from '../../lib/nn/spec.ts';

describe('rateFactor', () => {
  it('is a pure function of the epochs passed', () => {
    expect(rateFactor({ type: 'constant' }, 3.5, 10)).toBe(1);
    expect(rateFactor({ type: 'cosine' }, 0, 10)).toBe(1);
    expect(rateFactor({ type: 'cosine' }, 5, 10)).toBeCloseTo(0.5, 12);
    expect(rateFactor({ type: 'cosine', minimum: 0.2 }, 10, 10)).toBeCloseTo(0.2, 12);
    const step = { type: 'step', every: 3, factor: 0.5 } as const;
    expect([0, 2.9, 3, 5.9, 6].map((passed) => rateFactor(step, passed, 10))).toEqual([1, 1, 0.5, 0.5, 0.25]);
  });
});

describe('Random', () => {
  it('is uniform, and differs by seed and stream', () => {
    const random = new Random(1);
    const draws = Array.from({ length: 20_000 }, () => random.next());
    expect(draws.reduce((a, b) => a + b) / draws.length).toBeCloseTo(0.5, 1);
    expect(Math.min(...draws)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...draws)).toBeLessThan(1);
    const firsts = [0, 1, 2 ** 32, 2 ** 53 - 1].flatMap((seed) =>
      [0, 1, 2].map((stream) => new Random(seed, stream).nextBits()),
    );
    expect(new Set(firsts).size).toBe(12);
    const derived = Array.from({ length: 100 }, (_, i) => deriveSeed(3, i));
    expect(new Set(derived).size).toBe(100);
    expect(derived.every((seed) => Number.isSafeInteger(seed) && seed >= 0)).toBe(true);
  });

  it('shuffles every element to every place', () => {
    const random = new Random(2);
    const counts = Array.from({ length: 4 }, () => [0, 0, 0, 0]);
    for (let trial = 0; trial < 4000; trial++) {
      const order = Int32Array.of(0, 1, 2, 3);
      random.shuffle(order);
      expect([...order].sort()).toEqual([0, 1, 2, 3]);
      order.forEach((element, place) => {
        counts[element][place]++;
      });
    }
    for (const count of counts.flat()) expect(Math.abs(count - 1000)).toBeLessThan(150);
  });

  it('draws dropout masks of the asked probability that keep the mean, going on where it stopped', () => {
    const mask = new Float32Array(40_000);
    const random = new Random(3);
    random.dropoutMask(mask, 0.25);
    expect(mask.filter((v) => v === 0).length / mask.length).toBeCloseTo(0.25, 1);
    expect(mask.reduce((a, b) => a + b) / mask.length).toBeCloseTo(1, 1);
    expect(new Set(mask)).toEqual(new Set([0, Math.fround(1 / 0.75)]));
    const again = new Random(3);
    const halves = [new Float32Array(20_000), new Float32Array(20_000)];
    for (const half of halves) again.dropoutMask(half, 0.25);
    expect([...halves[0], ...halves[1]]).toEqual([...mask]);
    expect(again.nextBits()).toBe(random.nextBits());
  });
});

describe('losses', () => {
  it('stay finite for large logits', () => {
    const gradient = new Float32Array(4);
    const out = Float32Array.of(1e4, -1e4, -3e38, 3e38);
    const loss = losses['cross-entropy'](out, 2, 2, Uint8Array.of(0, 1), null, 0, gradient);
    expect(loss).toBe(0);
    expect([...gradient].every((v) => v === 0)).toBe(true);
  });

  it('take rows of the targets by index or from a first one', () => {
    const out = Float32Array.of(1, 2);
    const targets = Float32Array.of(9, 9, 3, 5);
    const gradient = new Float32Array(2);
    expect(losses.mse(out, 1, 2, targets, Int32Array.of(1), 0, gradient)).toBe((4 + 9) / 2);
    expect([...gradient]).toEqual([-2, -3]);
    expect(losses.mse(out, 1, 2, targets, null, 1, null)).toBe((4 + 9) / 2);
  });
});

describe('planOf', () => {
  it('gives each linear layer its activation and the dropout after it', () => {
    const plan = planOf([
      { type: 'dropout', p: 0.1 },
      { type: 'linear', inFeatures: 1, outFeatures: 2 },
      { type: 'tanh' },
      { type: 'dropout', p: 0.5 },
      { type: 'dropout', p: 0.5 },
      { type: 'linear', inFeatures: 2, outFeatures: 3 },
    ]);
    expect(plan.inputDropout).toBeCloseTo(0.1, 12);
    expect(plan.stages.map(({ name, activation, dropout }) => [name, activation, dropout])).toEqual([
      ['1', 'tanh', 0.75],
      ['5', 'none', 0],
    ]);
  });
});
