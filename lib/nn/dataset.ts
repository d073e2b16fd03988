import { checkArray, checkInteger } from '../check.ts';
import { rangeError, typeError } from '../errors.ts';
import { MAX_DIMENSION } from '../sparse/grid.ts';
import type { LossName, Targets } from './loss.ts';
import type { Network } from './network.ts';

/** Rows of features with what a network should answer to each. */
export interface Dataset {
  /** Row-major [count, features]. */
  readonly x: Float32Array;
  /** Class ids [count] for cross-entropy; row-major Float32Array [count, outputs] for mean squared error. */
  readonly y: Targets;
  readonly count: number;
  readonly features: number;
  /** Number of classes, if y are class ids. */
  readonly classes?: number;
}

/** A data set whose array lengths fit its counts. Throws TypeError or RangeError naming the field. */
export function checkDataset(name: string, value: unknown): asserts value is Dataset {
  if (typeof value !== 'object' || value === null) throw typeError(name, 'a data set', value);
  const { x, y, count, features, classes } = value as Record<string, unknown>;
  checkInteger(`${name}.count`, count, 0, 2 ** 31 - 1);
  checkInteger(`${name}.features`, features, 1, MAX_DIMENSION);
  if (classes !== undefined) checkInteger(`${name}.classes`, classes, 1, MAX_DIMENSION);
  checkArray(`${name}.x`, x, Float32Array, count * features);
  if (y instanceof Float32Array) {
    checkArray(`${name}.y`, y, Float32Array);
    if (count === 0 ? y.length !== 0 : y.length === 0 || y.length % count !== 0)
      throw rangeError(`${name}.y`, `of a multiple of ${count} elements`, y);
  } else if (y instanceof Int32Array) checkArray(`${name}.y`, y, Int32Array, count);
  else if (y instanceof Uint8Array) checkArray(`${name}.y`, y, Uint8Array, count);
  else throw typeError(`${name}.y`, 'an Int32Array, Uint8Array or Float32Array', y);
}

/**
 * What `loss` needs of a data set for `network`: features, at least one row, targets in range. Returns the
 * targets; class ids as a copy, so that no later change can lead outside the outputs.
 */
export function targetsFor(name: string, data: Dataset, network: Network, loss: LossName): Targets {
  const n = network.outFeatures;
  if (data.features !== network.inFeatures)
    throw rangeError(`${name}.features`, `${network.inFeatures}, what the network takes`, data.features);
  if (data.count === 0) throw rangeError(`${name}.count`, 'at least 1', 0);
  if (loss === 'mse') {
    checkArray(`${name}.y`, data.y, Float32Array, data.count * n);
    return data.y;
  }
  if (data.y instanceof Float32Array)
    throw typeError(`${name}.y`, 'an Int32Array or Uint8Array of class ids', data.y);
  const labels = Int32Array.from(data.y);
  for (let i = 0; i < labels.length; i++)
    if (labels[i] < 0 || labels[i] >= n) throw rangeError(`${name}.y[${i}]`, `from 0 to ${n - 1}`, labels[i]);
  return labels;
}

/** The last `validationCount` rows as validation set, the others as training set; both are views. */
export function split(data: Dataset, validationCount: number): { train: Dataset; validation: Dataset } {
  checkDataset('data', data);
  checkInteger('validationCount', validationCount, 0, data.count);
  const first = data.count - validationCount;
  return { train: rowsOf(data, 0, first), validation: rowsOf(data, first, data.count) };
}

function rowsOf(data: Dataset, from: number, to: number): Dataset {
  const width = data.count === 0 ? 0 : data.y.length / data.count;
  return {
    ...data,
    x: data.x.subarray(from * data.features, to * data.features),
    y: data.y.subarray(from * width, to * width),
    count: to - from,
  };
}
