/** Interleaved timing, random operands, and the plain product that every result is checked against. */
import { setTimeout as sleep } from 'node:timers/promises';
import { median } from '../../dist/report/timing.js';

const SAMPLE_MILLISECONDS = 3;
const ROUNDS = 11;
const FEWEST_ROUNDS = 5;
const LONG_ROUND_MILLISECONDS = 500;

/** How many calls make a sample. The best of three counts: one may meet threads that sleep, or other work. */
async function callsOfSample({ time }) {
  await time(1);
  for (let count = 1; ; count *= 4) {
    let best = await time(count);
    for (let i = 0; i < 2 && best < 2 * SAMPLE_MILLISECONDS; i++) best = Math.min(best, await time(count));
    if (best >= SAMPLE_MILLISECONDS / 4) return Math.max(1, Math.round((count * SAMPLE_MILLISECONDS) / best));
  }
}

/** Some tens of microseconds: short against a sample, so that it tells of the moment beside it. */
const PROBE_CALLS = 4;
/** The best of so many counts, for an interrupt may meet one. */
const PROBE_TRIES = 3;
/** A probe is quiet that reaches this share of the best rate so far. */
const QUIET = 0.95;

/**
 * How much of its cores this process has, told by work in registers (machine.cc's `core`). Others on the same machine
 * may run on the other hardware thread of a core: that slows a kernel, which is many operations a cycle, by up to a
 * half, for milliseconds or minutes, and leaves a loop of multiply-adds at its peak.
 */
export class Cores {
  /** Where cores are not quiet `interleave` goes on, up to `runs` times as long. */
  constructor(machine, isa, threads, runs) {
    this.runs = runs;
    this.work = () => machine.core(isa, threads, PROBE_CALLS);
    this.flops = machine.fmaFlops(isa) * threads * PROBE_CALLS;
    this.best = Number.POSITIVE_INFINITY;
  }

  /** Milliseconds of that work, now. */
  probe() {
    const time = Math.min(...Array.from({ length: PROBE_TRIES }, this.work));
    this.best = Math.min(this.best, time);
    return time;
  }

  /** GFLOP/s of it that took so many milliseconds. */
  rate(time) {
    return this.flops / time / 1e6;
  }

  isQuiet(time) {
    return QUIET * time <= this.best;
  }
}

/** The median of times, and how far they lie apart, but for the quarter at either end, as a share of it. */
function summary(times) {
  const sorted = times.toSorted((a, b) => a - b);
  const quarter = Math.floor(sorted.length / 4);
  const middle = median(times);
  return { median: middle, spread: (sorted.at(-1 - quarter) - sorted[quarter]) / middle };
}

/**
 * Median microseconds of one call of each candidate, `{ time(calls), settle? }`: time gives milliseconds, or a
 * promise of them; settle is how many milliseconds its threads need to fall asleep. They take turns, so that a
 * change of clock speed meets all alike, and each warms its own data before a sample. Of each: { median, spread };
 * with `cores` also { probe, runs }. Cores are probed before and after each sample, and the slower one counts. Where
 * there is more than one run, of each candidate the quietest samples are used, as many as one run has, whichever the
 * others' are; `probe` is the median of theirs.
 */
export async function interleave(candidates, threads, cores) {
  const settle = async ({ settle = 1 }) => {
    if (threads > 1) await sleep(settle);
  };
  const calls = [];
  for (const candidate of candidates) {
    calls.push(await callsOfSample(candidate));
    await settle(candidate);
  }
  const samples = candidates.map(() => []);
  let rounds = ROUNDS;
  const quietest = (list) => list.toSorted((a, b) => a.probe - b.probe).slice(0, rounds);
  const isDone = (runs) =>
    runs === (cores?.runs ?? 1) ||
    samples.every((list) => quietest(list).every(({ probe }) => cores.isQuiet(probe)));
  let runs = 0;
  do {
    for (let round = 0; round < rounds; round++) {
      const start = performance.now();
      for (const [i, candidate] of candidates.entries()) {
        const before = cores?.probe();
        // Threads that slept may wake on one core, and take milliseconds to part.
        if (threads > 1) await candidate.time(5 * calls[i]);
        else await candidate.time(1);
        const time = ((await candidate.time(calls[i])) * 1000) / calls[i];
        await settle(candidate);
        samples[i].push({ time, probe: Math.max(before, cores?.probe()) });
      }
      if (runs === 0 && performance.now() - start > LONG_ROUND_MILLISECONDS)
        rounds = Math.max(FEWEST_ROUNDS, round + 1);
    }
  } while (!isDone(++runs));
  return samples.map((list) => {
    const used = runs > 1 ? quietest(list) : list;
    return {
      ...summary(used.map(({ time }) => time)),
      ...(cores && { runs, probe: median(used.map(({ probe }) => probe)) }),
    };
  });
}

let state = 1;
export function random() {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state / 4294967296;
}

/** Even over [-scale, scale). */
export function randoms(length, scale = 1) {
  const values = new Float32Array(length);
  for (let i = 0; i < length; i++) values[i] = (2 * random() - 1) * scale;
  return values;
}

/** A mask's bytes with exactly `kept` ones, at random places. */
export function randomMask(count, kept) {
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  const mask = new Uint8Array(count);
  for (let i = 0; i < kept; i++) {
    const j = i + Math.floor(random() * (count - i));
    [order[i], order[j]] = [order[j], order[i]];
    mask[order[i]] = 1;
  }
  return mask;
}

/** Row-major x[m, k] . weight[n, k]^T, summed in double precision. Zeros are left out, or it would take hours. */
export function denseProduct(weight, n, k, x, m) {
  const columns = new Float32Array(k * m);
  for (let s = 0; s < m; s++) for (let i = 0; i < k; i++) columns[i * m + s] = x[s * k + i];
  const y = new Float32Array(m * n);
  const sums = new Float64Array(m);
  for (let o = 0; o < n; o++) {
    sums.fill(0);
    for (let i = 0; i < k; i++) {
      const w = weight[o * k + i];
      if (w === 0) continue;
      const column = i * m;
      for (let s = 0; s < m; s++) sums[s] += w * columns[column + s];
    }
    for (let s = 0; s < m; s++) y[s * n + o] = sums[s];
  }
  return y;
}

/** Operands are scaled so that results are about 1; sums of thousands in f32, in any order, stay well below. */
const TOLERANCE = 2e-4;

/** Throws when `actual` is not the beginning of `expected`. */
export function check(what, actual, expected, length) {
  if (actual.length !== length) throw new Error(`${what} gives ${actual.length} numbers, not ${length}`);
  for (let i = 0; i < length; i++)
    if (!(Math.abs(actual[i] - expected[i]) < TOLERANCE * Math.max(1, Math.abs(expected[i]))))
      throw new Error(`${what} gives ${actual[i]} at ${i}, not ${expected[i]}`);
}
