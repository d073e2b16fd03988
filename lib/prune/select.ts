import { checkArray, checkInteger, checkNumber } from '../check.ts';
import { rangeError, typeError } from '../errors.ts';
import { type BlockGrid, checkGrid, MAX_BLOCKS } from '../sparse/grid.ts';
import { BlockMask, checkMask } from '../sparse/mask.ts';

/** Blocks outside `among` are gone already and stay so; without it every block is there. */
export type Selection =
  | { readonly sparsity: number; readonly among?: BlockMask }
  | { readonly dropFraction: number; readonly among?: BlockMask };

/** One layer's blocks in a selection over several layers. */
export interface LayerScores {
  /** One score a block of the grid. */
  readonly scores: Float32Array;
  readonly grid: BlockGrid;
  readonly among?: BlockMask;
  /** No block row that has a block loses its last one. Default false. */
  readonly everyRow?: boolean;
}

export interface GlobalSelection {
  /** Of the weights of all layers together, 0 to 1. */
  readonly sparsity: number;
  /** Fraction of its weights that a layer keeps at least: one number for all, or one a layer. Default 0. */
  readonly floor?: number | readonly number[];
  /** Blocks that every layer keeps at least, beside its floor. Default 0. */
  readonly leastBlocks?: number;
}

/**
 * The blocks that one layer keeps.
 * - `sparsity`: blocks are dropped in (score, index) order up to the nearest reachable sparsity, of two equally
 *   near ones the lower. Only weights that exist count, so a truncated block is lighter than a whole one.
 * - `dropFraction`: the paper's rule. Of the n blocks in `among`, sorted, cut = sorted[round(dropFraction * n)],
 *   halves rounded to the even number; every block strictly below the cut goes. Blocks that tie with the cut all
 *   stay, but for a cut of zero: blocks that score zero cost nothing, so round(dropFraction * n) blocks go, of the
 *   zeros the first ones. Where the index reaches n, every block goes.
 *
 * Throws TypeError or RangeError (NaN scores too), BlocksparseError INVALID_STATE for a mask of another grid.
 */
export function selectBlocks(scores: Float32Array, grid: BlockGrid, how: Selection): BlockMask {
  if (typeof how !== 'object' || how === null) throw typeError('how', 'an object', how);
  const layer = how.among === undefined ? { scores, grid } : { scores, grid, among: how.among };
  checkLayer('', layer);
  const bySparsity = 'sparsity' in how && how.sparsity !== undefined;
  const byFraction = 'dropFraction' in how && how.dropFraction !== undefined;
  if (bySparsity === byFraction)
    throw typeError('how', 'an object with either sparsity or dropFraction', how);
  if (bySparsity) return selectGlobally([layer], { sparsity: how.sparsity })[0];
  return dropBelowCut(layer, (how as { dropFraction: number }).dropFraction);
}

/**
 * Blocks of all layers in one (score, layer, index) order, dropped up to the nearest reachable sparsity of all
 * weights together. A layer that has come down to its floor drops no more, whatever the others do; so with
 * floors, `leastBlocks` or `everyRow` the sparsity may stay below the one asked for. Returns one mask a layer.
 */
export function selectGlobally(layers: readonly LayerScores[], how: GlobalSelection): BlockMask[] {
  if (!Array.isArray(layers)) throw typeError('layers', 'an array', layers);
  for (let l = 0; l < layers.length; l++) checkLayer(`layers[${l}].`, layers[l]);
  if (typeof how !== 'object' || how === null) throw typeError('how', 'an object', how);
  checkNumber('sparsity', how.sparsity, 0, 1);
  const { floor = 0, leastBlocks = 0 } = how;
  const floors = checkFloors(floor, layers.length);
  checkInteger('leastBlocks', leastBlocks, 0, MAX_BLOCKS);

  const kept = layers.map(keptOf);
  const left = layers.map(({ grid }, l) => weightsIn(grid, kept[l]));
  // Whole weights; the margin absorbs the rounding of floor * weights.
  const least = layers.map(({ grid }, l) => Math.ceil(floors[l] * grid.shape[0] * grid.shape[1] - 1e-6));
  const total = sum(layers.map(({ grid }) => grid.shape[0] * grid.shape[1]));
  const target = how.sparsity * total;
  const closed = layers.map(() => false);
  const rows = layers.map(({ grid, everyRow }, l) => (everyRow ? blocksByRow(grid, kept[l]) : null));
  const blocks = kept.map((bits) => bits.reduce((n, bit) => n + bit, 0));
  let dropped = total - sum(left);

  for (const [l, block] of inOrder(layers, kept)) {
    if (dropped >= target) break;
    const { grid } = layers[l];
    const row = Math.floor(block / grid.gridCols);
    // The last of its row: passed over, without closing the layer.
    if (rows[l]?.[row] === 1) continue;
    const weights = grid.elementsOf(block);
    // Closed for good: a lighter block further on must not overtake this one.
    if (left[l] - weights < least[l] || blocks[l] <= leastBlocks) closed[l] = true;
    if (closed[l]) continue;
    // Past the target by as much as it is short of it, or more: what we have is as near or nearer.
    if (dropped + weights - target >= target - dropped) break;
    kept[l][block] = 0;
    if (rows[l]) rows[l][row]--;
    blocks[l]--;
    left[l] -= weights;
    dropped += weights;
  }
  return layers.map(({ grid }, l) => new BlockMask(grid, kept[l]));
}

/** One floor a layer. Throws TypeError or RangeError. */
export function checkFloors(floor: unknown, layers: number): number[] {
  if (!Array.isArray(floor)) {
    checkNumber('floor', floor, 0, 1);
    return new Array<number>(layers).fill(floor);
  }
  if (floor.length !== layers) throw rangeError('floor', `one number for each of ${layers} layers`, floor);
  for (let l = 0; l < layers; l++) checkNumber(`floor[${l}]`, floor[l], 0, 1);
  return floor.slice();
}

function checkLayer(prefix: string, layer: LayerScores): void {
  if (typeof layer !== 'object' || layer === null) throw typeError(prefix.slice(0, -1), 'an object', layer);
  checkGrid(`${prefix}grid`, layer.grid);
  checkArray(`${prefix}scores`, layer.scores, Float32Array, layer.grid.blockCount);
  for (let i = 0; i < layer.scores.length; i++)
    if (Number.isNaN(layer.scores[i])) throw rangeError(`${prefix}scores[${i}]`, 'a number', Number.NaN);
  if (layer.among !== undefined) checkMask(`${prefix}among`, layer.among, layer.grid);
  if (layer.everyRow !== undefined && typeof layer.everyRow !== 'boolean')
    throw typeError(`${prefix}everyRow`, 'a boolean', layer.everyRow);
}

function keptOf({ grid, among }: LayerScores): Uint8Array {
  return among === undefined ? new Uint8Array(grid.blockCount).fill(1) : among.kept.slice();
}

function dropBelowCut(layer: LayerScores, fraction: number): BlockMask {
  checkNumber('dropFraction', fraction, 0, 1);
  const kept = keptOf(layer);
  const sorted = layer.scores.filter((_, i) => kept[i] === 1).sort();
  const index = roundHalfToEven(fraction * sorted.length);
  const all = index === sorted.length;
  const cut = sorted[index];
  // Scores measured on data are exactly zero wherever no data arrives: a tie of thousands, which must not stay.
  let zeros = cut === 0 ? index - sorted.indexOf(0) : 0;
  for (let i = 0; i < kept.length; i++) {
    if (kept[i] === 0) continue;
    const score = layer.scores[i];
    if (all || score < cut || (score === 0 && zeros-- > 0)) kept[i] = 0;
  }
  return new BlockMask(layer.grid, kept);
}

/**
 * As Python's round(), in which the paper's rule is written. It matters where few blocks are left: of five, 10 % is
 * none, not one, so a small last layer stops at five.
 */
function roundHalfToEven(value: number): number {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 === 1 ? rounded - 1 : rounded;
}

/** The kept blocks of all layers as [layer, block], by (score, layer, block). */
function* inOrder(
  layers: readonly LayerScores[],
  kept: readonly Uint8Array[],
): Generator<[layer: number, block: number]> {
  const count = sum(kept.map((bits) => bits.reduce((n, bit) => n + bit, 0)));
  const scores = new Float32Array(count);
  const layerOf = new Uint32Array(count);
  const blockOf = new Uint32Array(count);
  let n = 0;
  for (let l = 0; l < layers.length; l++)
    for (let block = 0; block < kept[l].length; block++) {
      if (kept[l][block] === 0) continue;
      scores[n] = layers[l].scores[block];
      layerOf[n] = l;
      blockOf[n++] = block;
    }
  // The position is the last key. Compared, not subtracted: Infinity - Infinity is NaN.
  const order = Uint32Array.from({ length: count }, (_, i) => i).sort((a, b) =>
    scores[a] < scores[b] ? -1 : scores[a] > scores[b] ? 1 : a - b,
  );
  for (const i of order) yield [layerOf[i], blockOf[i]];
}

/** How many kept blocks each block row has. */
function blocksByRow(grid: BlockGrid, kept: Uint8Array): Uint32Array {
  const rows = new Uint32Array(grid.gridRows);
  for (let i = 0; i < kept.length; i++) rows[Math.floor(i / grid.gridCols)] += kept[i];
  return rows;
}

function weightsIn(grid: BlockGrid, kept: Uint8Array): number {
  let weights = 0;
  for (let i = 0; i < kept.length; i++) if (kept[i] === 1) weights += grid.elementsOf(i);
  return weights;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
