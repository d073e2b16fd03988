import { setImmediate as nextTurn } from 'node:timers/promises';
import { checkInteger, checkNumber } from '../check.ts';

export interface TimingOptions {
  /** Samples of each candidate (default 31); their median is reported. */
  readonly samples?: number;
  /** Least length of one sample in milliseconds (default 2): short calls are repeated within it. */
  readonly sampleMilliseconds?: number;
  readonly signal?: AbortSignal;
}

function timeOf(run: () => void, calls: number): number {
  const start = performance.now();
  for (let i = 0; i < calls; i++) run();
  return performance.now() - start;
}

/** How many calls make one sample; running them also warms the caches and the compiler. */
function calibrate(run: () => void, milliseconds: number): number {
  run();
  let calls = 1;
  for (;;) {
    const took = timeOf(run, calls);
    if (took >= milliseconds || calls >= 1 << 24) return calls;
    calls = Math.min(1 << 24, Math.ceil(calls * Math.min(10, (1.2 * milliseconds) / Math.max(took, 1e-3))));
  }
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/**
 * Microseconds a call of each candidate takes: the median over samples that are taken in turn, so that a
 * change of clock speed or load meets all candidates alike. Rejects with the signal's reason when aborted.
 */
export async function interleavedMedians(
  candidates: readonly (() => void)[],
  options: TimingOptions = {},
): Promise<number[]> {
  const { samples = 31, sampleMilliseconds = 2, signal } = options;
  checkInteger('options.samples', samples, 1, 10_000);
  checkNumber('options.sampleMilliseconds', sampleMilliseconds, 0, 60_000);
  const calls = candidates.map((run) => calibrate(run, sampleMilliseconds));
  const times = candidates.map((): number[] => []);
  for (let s = 0; s < samples; s++) {
    // The event loop must turn, or Ctrl-C would never be heard.
    await nextTurn();
    signal?.throwIfAborted();
    candidates.forEach((run, i) => {
      times[i].push((timeOf(run, calls[i]) * 1000) / calls[i]);
    });
  }
  return times.map(median);
}
