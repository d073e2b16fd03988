import { checkArray, checkOneOf } from '../check.ts';
import { rangeError } from '../errors.ts';
import { kernels } from '../kernels/choose.ts';
import { CRITERIA, type Criterion } from '../kernels/kernels.ts';
import { type BlockGrid, checkGrid } from '../sparse/grid.ts';

/**
 * One score a block of row-major `weight` [N, K], row-major over the grid; low scores go first. `mean-abs` is
 * the paper's. A block at a truncated edge counts only the elements that exist.
 * Throws TypeError or RangeError, also for a weight that is NaN or infinite: it has no rank.
 */
export function scoreBlocks(
  weight: Float32Array,
  grid: BlockGrid,
  criterion: Criterion = 'mean-abs',
): Float32Array {
  return scoreNamed('weight', weight, grid, criterion);
}

/** `scoreBlocks` with another name for the weight in its errors. */
export function scoreNamed(
  name: string,
  weight: Float32Array,
  grid: BlockGrid,
  criterion: Criterion,
): Float32Array {
  checkGrid('grid', grid);
  checkArray(name, weight, Float32Array, grid.shape[0] * grid.shape[1]);
  checkOneOf('criterion', criterion, CRITERIA);
  const scores = new Float32Array(grid.blockCount);
  if (scores.length > 0) kernels().scoreBlocks(weight, grid.shape, grid.blockShape, criterion, scores);
  // Sums show by themselves that a weight is not finite, so that the weights are read once; a maximum may not.
  if (criterion === 'max-abs' || !allFinite(scores)) checkFinite(name, weight);
  return scores;
}

function allFinite(values: Float32Array): boolean {
  for (let i = 0; i < values.length; i++) if (!Number.isFinite(values[i])) return false;
  return true;
}

function checkFinite(name: string, values: Float32Array): void {
  for (let i = 0; i < values.length; i++)
    if (!Number.isFinite(values[i])) throw rangeError(`${name}[${i}]`, 'a finite number', values[i]);
}
