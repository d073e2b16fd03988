import { checkInteger, isObject } from '../check.ts';
import { rangeError, typeError } from '../errors.ts';

/** Rows or columns of a matrix: what int32 indices and one allocation comfortably address. */
export const MAX_DIMENSION = 1 << 24;
/** Elements of one matrix (2^31: an 8 GiB float32 weight). */
export const MAX_ELEMENTS = 2 ** 31;
/** Rows or columns of one block. */
export const MAX_BLOCK_SIDE = 4096;
/** Blocks of one grid. */
export const MAX_BLOCKS = 2 ** 28;

export type Pair = readonly [number, number];

function checkPair(name: string, value: unknown, max: number, min: number): Pair {
  if (!Array.isArray(value) || value.length !== 2) throw typeError(name, 'an array of two numbers', value);
  checkInteger(`${name}[0]`, value[0], min, max);
  checkInteger(`${name}[1]`, value[1], min, max);
  return Object.freeze([value[0], value[1]] as const);
}

/** Whether the constructor made it: a prototype alone proves nothing. */
let isGrid: (value: unknown) => boolean;

/**
 * The division of a weight matrix `[out, in]` into blocks of `[r, c]`. Blocks on the last row or column are
 * truncated where the block shape does not divide the matrix (Huang et al. 2021, section 3.1).
 * Throws TypeError or RangeError when a side is not a whole number within the limits above.
 */
export class BlockGrid {
  readonly #brand = true;
  static {
    isGrid = (value) => isObject(value) && #brand in value;
  }

  readonly shape: Pair;
  readonly blockShape: Pair;
  readonly gridRows: number;
  readonly gridCols: number;
  /** gridRows * gridCols */
  readonly blockCount: number;

  constructor(shape: Pair, blockShape: Pair) {
    this.shape = checkPair('shape', shape, MAX_DIMENSION, 0);
    this.blockShape = checkPair('blockShape', blockShape, MAX_BLOCK_SIDE, 1);
    if (this.shape[0] * this.shape[1] > MAX_ELEMENTS)
      throw rangeError('shape', `at most ${MAX_ELEMENTS} elements in all`, shape);
    this.gridRows = Math.ceil(this.shape[0] / this.blockShape[0]);
    this.gridCols = Math.ceil(this.shape[1] / this.blockShape[1]);
    this.blockCount = this.gridRows * this.gridCols;
    if (this.blockCount > MAX_BLOCKS)
      throw rangeError('blockShape', `large enough for at most ${MAX_BLOCKS} blocks`, blockShape);
    Object.freeze(this);
  }

  /**
   * Elements of block `index` (row-major over the grid) that exist: fewer than r*c at a truncated edge. Throws
   * TypeError or RangeError.
   */
  elementsOf(index: number): number {
    checkGrid('this', this);
    checkInteger('index', index, 0, this.blockCount - 1);
    const row = Math.floor(index / this.gridCols);
    const col = index - row * this.gridCols;
    const [r, c] = this.blockShape;
    return Math.min(r, this.shape[0] - row * r) * Math.min(c, this.shape[1] - col * c);
  }

  /** Throws TypeError when `other` is no BlockGrid. */
  equals(other: BlockGrid): boolean {
    checkGrid('this', this);
    checkGrid('other', other);
    return (
      this.shape[0] === other.shape[0] &&
      this.shape[1] === other.shape[1] &&
      this.blockShape[0] === other.blockShape[0] &&
      this.blockShape[1] === other.blockShape[1]
    );
  }
}

export function checkGrid(name: string, value: unknown): asserts value is BlockGrid {
  if (!isGrid(value)) throw typeError(name, 'a BlockGrid', value);
}
