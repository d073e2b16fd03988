/** What can be measured, and what a command asks for. */
import { MAX_BLOCK_SIDE, MAX_BLOCKS, MAX_DIMENSION } from '../../dist/sparse/grid.js';

export const SHAPES = ['300x784', '768x768', '3072x768', '768x3072', '4096x4096'];
export const BATCHES = [1, 8, 32, 128, 512];
export const BLOCKS = [
  ...[2, 3, 4, 5, 6, 8, 16, 32, 64].map((side) => `${side}x${side}`),
  ...['16x1', '4x1', '1x16', '16x4'],
];
export const SPARSITIES = [0, 50, 70, 80, 90, 95, 98];
export const THREADS = [1, 2];

const ALL = { shape: SHAPES, batch: BATCHES, block: BLOCKS, sparsity: SPARSITIES, threads: THREADS };
/** Under five minutes. */
const QUICK = {
  shape: ['768x768'],
  batch: BATCHES,
  block: ['2x2', '4x4', '8x8', '16x16', '32x32'],
  sparsity: [0, 50, 80, 90, 95],
  threads: [1],
};

export const FILTERS = Object.keys(ALL);

/** Numbers that a flag takes; threads as BsrLinear. */
const RANGES = { sparsity: [0, 99.99], batch: [1, 65536], threads: [1, 1024] };
/** Numbers of one operand, a gigabyte. CSR, which is compared with, holds each weight as a block of its own. */
const MOST_NUMBERS = MAX_BLOCKS;

/** "768x768" as [768, 768]. */
export const pair = (text) => text.split('x').map(Number);

/**
 * The lists to cross: the quick ones or all, each replaced by its filter where one is given, as text with
 * commas. Values outside the grid are allowed: any cell can be measured. Throws RangeError naming the flag.
 */
export function select(filters = {}, all = false) {
  const selection = { ...(all ? ALL : QUICK) };
  for (const name of FILTERS) {
    if (filters[name] === undefined) continue;
    selection[name] = [...new Set(filters[name].split(',').map((text) => value(name, text)))];
  }
  return selection;
}

function value(name, text) {
  if (name === 'shape' || name === 'block') {
    if (/^[1-9]\d*x[1-9]\d*$/.test(text)) return text;
    throw new RangeError(
      `--${name} takes sizes like ${ALL[name][1]}, separated by commas, but not "${text}"`,
    );
  }
  const number = Number(text);
  const [low, high] = RANGES[name];
  const whole = name !== 'sparsity';
  if (text.trim() !== '' && (!whole || Number.isInteger(number)) && number >= low && number <= high)
    return number;
  throw new RangeError(
    `--${name} takes ${whole ? 'whole numbers' : 'numbers'} from ${low} to ${high}, separated by commas, but not "${text}"`,
  );
}

/**
 * The selection as groups, in the order they run. One group shares its dense peers and is one interleaved run;
 * groups of equal shape, block and threads share their layers.
 */
export function groups({ shape, block, threads, batch, sparsity }) {
  return shape.flatMap((s) =>
    block.flatMap((b) =>
      threads.map((t) => ({ shape: s, block: b, threads: t, batches: batch, sparsities: sparsity })),
    ),
  );
}

/** Refuses sizes that the library or memory cannot hold: a RangeError that names the flag. */
export function checkSizes(list) {
  for (const { shape, block, batches } of list) {
    const [n, k] = pair(shape);
    const m = Math.max(...batches);
    const side = Math.min(MAX_DIMENSION, Math.floor(MOST_NUMBERS / m));
    if (Math.max(n, k) > side || n * k > MOST_NUMBERS)
      throw new RangeError(
        `--shape takes at most ${side} rows or columns with a batch of ${m}, and ${MOST_NUMBERS} weights, but not ${shape}`,
      );
    const [r, c] = [n, k].map((one) => Math.min(one, MAX_BLOCK_SIDE));
    if (pair(block)[0] > r || pair(block)[1] > c)
      throw new RangeError(`--shape ${shape} takes a --block of at most ${r}x${c}, but not ${block}`);
  }
}
