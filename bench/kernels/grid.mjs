/** What can be measured, and what a command asks for. */

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
    selection[name] = filters[name].split(',').map((text) => value(name, text));
  }
  return selection;
}

function value(name, text) {
  if (name === 'shape' || name === 'block') {
    if (/^[1-9]\d*x[1-9]\d*$/.test(text)) return text;
    throw new RangeError(`--${name} takes sizes like ${ALL[name][1]}, separated by commas, but not ${text}`);
  }
  const number = Number(text);
  const [low, high] = name === 'sparsity' ? [0, 99.99] : [1, 65536];
  const whole = name === 'sparsity' || Number.isInteger(number);
  if (text.trim() !== '' && whole && number >= low && number <= high) return number;
  throw new RangeError(
    `--${name} takes numbers from ${low} to ${high}, separated by commas, but not ${text}`,
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
