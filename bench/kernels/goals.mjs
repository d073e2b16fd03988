/** What the kernels are meant to reach, and what they reached: `npm run bench -- --goals`. */
import { median } from '../../dist/report/timing.js';
import { pair } from './grid.mjs';
import { groupBy } from './summary.mjs';

/** A cell's measure, compared with the target, which it should reach or surpass; null where a peer is missing. */
const share = (layout) => (row) => row.derived[layout].share;
const speedUp = (layout) => (row) => row.derived[layout].overFastestDense;
const packedRate = (row) => row.packedBytes / row.ours / 1e3;
/** Our time with every block kept as a share of the fastest library's. */
const overLibrary = (row) => {
  const { 'our dense': _, ...libraries } = row.dense;
  const times = Object.values(libraries);
  return times.length === 0 ? null : Math.min(...times) / row.ours;
};
/** Points of share that a batch of 512 loses against one of 128. */
const kept512 = (row, rows) => {
  const same = ['shape', 'block', 'threads', 'sparsity'];
  const at128 = rows.find((one) => one.batch === 128 && same.every((key) => one[key] === row[key]));
  return row.peak === null ? null : row.derived.network.share - at128.derived.network.share;
};

const RANGE = [70, 80, 90];
const goal = (name, target, unit, value, cells) => ({
  name,
  target,
  unit,
  value,
  cells: { shape: ['768x768'], sparsity: RANGE, threads: [1], ...cells },
});

/** In the order of the requirements; 768x768, 70 to 90 % sparsity and one thread where nothing is said. */
export const GOALS = [
  goal('16x16, 32x32, 64x64, network', 0.9, 'peak', share('network'), {
    block: ['16x16', '32x32', '64x64'],
    batch: [32, 128],
  }),
  goal('the same at 90 %', 9.5, 'x dense', speedUp('network'), {
    block: ['16x16', '32x32', '64x64'],
    batch: [32, 128],
    sparsity: [90],
  }),
  goal('8x8, network', 0.93, 'peak', share('network'), { block: ['8x8'], batch: [32, 128] }),
  goal('4x4, 5x5, 6x6, network', 0.9, 'peak', share('network'), {
    block: ['4x4', '5x5', '6x6'],
    batch: [32, 128],
  }),
  goal('3x3, network', 0.85, 'peak', share('network'), { block: ['3x3'], batch: [32] }),
  goal('2x2, network', 0.65, 'peak', share('network'), { block: ['2x2'], batch: [32] }),
  goal('32x32, 64x64, row-major', 0.92, 'peak', share('ours'), {
    block: ['32x32', '64x64'],
    batch: [8, 32, 128],
  }),
  goal('the same at 90 %', 10, 'x dense', speedUp('ours'), {
    block: ['32x32', '64x64'],
    batch: [8, 32, 128],
    sparsity: [90],
  }),
  goal('16x16, row-major, 80 %', 0.78, 'peak', share('ours'), {
    block: ['16x16'],
    batch: [32, 128],
    sparsity: [80],
  }),
  goal('16x16, row-major, 90 %', 0.73, 'peak', share('ours'), {
    block: ['16x16'],
    batch: [32, 128],
    sparsity: [90],
  }),
  goal('the same', 8, 'x dense', speedUp('ours'), { block: ['16x16'], batch: [32, 128], sparsity: [90] }),
  goal('4x4, row-major, 80 %', 0.7, 'peak', share('ours'), {
    block: ['4x4'],
    batch: [128],
    sparsity: [80],
  }),
  goal('8x8, row-major, 80 %', 0.78, 'peak', share('ours'), {
    block: ['8x8'],
    batch: [128],
    sparsity: [80],
  }),
  goal('M = 512 against 128, network', -0.12, 'points', kept512, {
    block: ['4x4', '8x8', '16x16', '32x32'],
    batch: [512],
  }),
  goal('M = 1, 16x16, 90 %, from L2', 100, 'GB/s', packedRate, {
    block: ['16x16'],
    batch: [1],
    sparsity: [90],
  }),
  goal('the same', 11, 'x dense', speedUp('ours'), { block: ['16x16'], batch: [1], sparsity: [90] }),
  goal('M = 1, 16x16, 90 %, from L3', 75, 'GB/s', packedRate, {
    shape: ['4096x4096'],
    block: ['16x16'],
    batch: [1],
    sparsity: [90],
  }),
  goal('M = 8, 16x16', 0.75, 'peak', share('ours'), { block: ['16x16'], batch: [8] }),
  goal('M = 8, 32x32', 0.92, 'peak', share('ours'), { block: ['32x32'], batch: [8] }),
  goal('4096x4096, 16x16, 90 %, network', 0.8, 'peak', share('network'), {
    shape: ['4096x4096'],
    block: ['16x16'],
    batch: [32, 128],
    sparsity: [90],
  }),
  goal('two threads, 16x16, network', 0.8, 'peak', share('network'), {
    block: ['16x16'],
    batch: [128],
    sparsity: [80, 90],
    threads: [2],
  }),
  goal('two threads, 4096x4096, 16x16, 90 %', 0.8, 'peak', share('network'), {
    shape: ['4096x4096'],
    block: ['16x16'],
    batch: [32, 128],
    sparsity: [90],
    threads: [2],
  }),
  goal('all blocks kept, 32x32, row-major', 0.95, 'x library', overLibrary, {
    block: ['32x32'],
    batch: [32, 128, 512],
    sparsity: [0],
  }),
  goal('the same, 4096x4096', 0.85, 'x library', overLibrary, {
    shape: ['4096x4096'],
    block: ['32x32'],
    batch: [32, 128, 512],
    sparsity: [0],
  }),
];

/** Points of the peak that other shapes may stay behind. */
const OTHER_SHAPES = 0.08;

/** Blocks of the goals fit in shapes of such sides. */
const LEAST_SIDE = 64;

/** The goals for other shapes: those for shares of the peak, which such shapes may miss by a little. */
export function goalsOf(shapes) {
  for (const shape of shapes) {
    if (shape === '768x768')
      throw new RangeError('--goals without --shape is for 768x768; --shape takes others');
    if (Math.min(...pair(shape)) < LEAST_SIDE)
      throw new RangeError(
        `--goals takes a --shape of ${LEAST_SIDE}x${LEAST_SIDE} or more, for its blocks, but not ${shape}`,
      );
  }
  return GOALS.filter(({ unit, cells }) => unit === 'peak' && cells.shape[0] === '768x768').map((one) => ({
    ...one,
    target: one.target - OTHER_SHAPES,
    cells: { ...one.cells, shape: shapes },
  }));
}

const inCells = (cells, row) => Object.entries(cells).every(([key, list]) => list.includes(row[key]));

/**
 * The groups that the goals need, each packed for its smallest batch (batchHint): without a hint, small blocks that
 * are kept often would be stored dense, for the sake of batches that a goal does not look at. A batch of 512 is
 * compared with one of 128.
 */
export function goalGroups(goals = GOALS) {
  const merged = new Map();
  for (const { cells, value } of goals)
    for (const shape of cells.shape)
      for (const block of cells.block)
        for (const threads of cells.threads) {
          const key = [shape, block, threads].join(' ');
          if (!merged.has(key))
            merged.set(key, { shape, block, threads, batches: new Set(), sparsities: new Set() });
          const group = merged.get(key);
          for (const m of [...cells.batch, ...(value === kept512 ? [128] : [])]) group.batches.add(m);
          for (const s of cells.sparsity) group.sparsities.add(s);
        }
  const sorted = (set) => [...set].sort((a, b) => a - b);
  const list = [...merged.values()].map(({ batches, sparsities, ...rest }) => ({
    ...rest,
    batches: sorted(batches),
    batchHint: Math.min(...batches),
    sparsities: sorted(sparsities),
  }));
  // One shape after the other: its operands are made once.
  return groupBy(list, 'shape').flat();
}

/**
 * Each goal with its cells' values: { name, unit, target, worst, median, cell, reached, cells }, or without a cell and
 * worst null where they cannot be measured.
 */
export function judge(rows, goals = GOALS) {
  return goals.map(({ name, target, unit, value, cells }) => {
    const found = rows
      .filter((row) => inCells(cells, row))
      .map((row) => ({ row, value: value(row, rows) }))
      .filter((one) => one.value !== null)
      .sort((a, b) => a.value - b.value);
    if (found.length === 0) return { name, unit, target, worst: null, reached: 0, cells: 0 };
    return {
      name,
      unit,
      target,
      worst: found[0].value,
      median: median(found.map((one) => one.value)),
      cell: found[0].row,
      reached: found.filter((one) => one.value >= target).length,
      cells: found.length,
    };
  });
}
