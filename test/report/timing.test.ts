import { describe, expect, it } from 'vitest';
import { interleavedMedians, median } from '../../lib/report/timing.ts';

describe('median', () => {
  it('takes the middle, or the mean of the two middle ones', () => {
    expect(median([3, 1, 2])).toBe(2);
    expect(median([4, 1, 2, 3])).toBe(2.5);
  });
});

describe('interleavedMedians', () => {
  const spin = (milliseconds: number) => () => {
    const end = performance.now() + milliseconds;
    while (performance.now() < end);
  };

  it('measures microseconds a call', async () => {
    const [short, long] = await interleavedMedians([spin(0.2), spin(0.6)], { samples: 5 });
    expect(short).toBeGreaterThanOrEqual(200);
    expect(long).toBeGreaterThanOrEqual(600);
    expect(short).toBeLessThan(long);
  });

  it('takes the candidates in turn', async () => {
    const calls: string[] = [];
    await interleavedMedians([() => calls.push('a'), () => calls.push('b')], {
      samples: 2,
      sampleMilliseconds: 0,
    });
    expect(calls.join('').replace(/^a+b+/, '')).toBe('abab');
  });

  it('stops when told to', async () => {
    const controller = new AbortController();
    const reason = new Error('enough');
    const work = interleavedMedians([() => controller.abort(reason)], { signal: controller.signal });
    await expect(work).rejects.toBe(reason);
  });

  it('refuses counts that are none', async () => {
    await expect(interleavedMedians([], { samples: 0 })).rejects.toThrow(RangeError);
  });
});
