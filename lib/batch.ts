import { checkArray } from './check.ts';
import { rangeError } from './errors.ts';
import { MAX_DIMENSION, MAX_ELEMENTS } from './sparse/grid.ts';

/** Batch rows of x [M, K], by its length. Throws when it is no whole number of rows, or when M * outputs is over
 * the limit of one matrix. */
export function batchRows(x: Float32Array, features: number, outputs: number): number {
  checkArray('x', x, Float32Array);
  if (features === 0) {
    if (x.length !== 0) throw rangeError('x', 'empty, since the layer has no inputs', x);
    return 0;
  }
  const m = x.length / features;
  if (!Number.isInteger(m)) throw rangeError('x', `a Float32Array of M * ${features} elements`, x);
  const most = Math.min(MAX_DIMENSION, Math.floor(MAX_ELEMENTS / Math.max(outputs, 1)));
  if (m > most) throw rangeError('x', `at most ${most} rows of ${features}`, x);
  return m;
}

/** Room for the result of a batch. Throws RangeError when this machine has none. */
export function allocateRows(m: number, outputs: number): Float32Array {
  try {
    return new Float32Array(m * outputs);
  } catch (cause) {
    throw new RangeError(
      `x must be a smaller batch: there is no memory for a result of ${m} rows of ${outputs}`,
      { cause },
    );
  }
}
