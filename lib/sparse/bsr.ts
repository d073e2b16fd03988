import { checkArray, isObject } from '../check.ts';
import { rangeError, typeError } from '../errors.ts';
import { BlockGrid, checkGrid, type Pair } from './grid.ts';
import { BlockMask, checkMask } from './mask.ts';

/** Bytes of one storage, and what the same matrix takes as dense float32. */
export interface StorageBytes {
  readonly values: number;
  readonly indices: number;
  readonly total: number;
  readonly dense: number;
  /** dense / total */
  readonly ratio: number;
}

export function storageBytes(values: number, indices: number, shape: Pair): StorageBytes {
  const dense = shape[0] * shape[1] * 4;
  const total = values + indices;
  return { values, indices, total, dense, ratio: dense / total };
}

/** The fields of `fromArrays`: PyTorch's names (SciPy: indptr, indices, data). */
export interface BsrFields {
  /** Logical shape [N, K]; need not be a multiple of the block shape. */
  readonly shape: Pair;
  readonly blockShape: Pair;
  readonly crowIndices: Int32Array;
  readonly colIndices: Int32Array;
  /** [nnzb, r, c]; elements outside the logical shape must be 0. */
  readonly values: Float32Array;
}

let isBsr: (value: unknown) => value is BsrMatrix;

/** A matrix in Block Sparse Row format: kept blocks sorted by block row, then block column. */
export class BsrMatrix {
  readonly #brand = true;
  static {
    isBsr = (value): value is BsrMatrix => isObject(value) && #brand in value;
  }

  readonly grid: BlockGrid;
  readonly crowIndices: Int32Array;
  readonly colIndices: Int32Array;
  readonly values: Float32Array;

  private constructor(grid: BlockGrid, crow: Int32Array, col: Int32Array, values: Float32Array) {
    checkParts(grid, crow, col, values);
    this.grid = grid;
    this.crowIndices = crow;
    this.colIndices = col;
    this.values = values;
  }

  get shape(): Pair {
    checkBsr('this', this);
    return this.grid.shape;
  }
  get blockShape(): Pair {
    checkBsr('this', this);
    return this.grid.blockShape;
  }
  /** Number of stored blocks. */
  get nnzb(): number {
    checkBsr('this', this);
    return this.colIndices.length;
  }
  get mask(): BlockMask {
    checkIntact('this', this);
    const kept = new Uint8Array(this.grid.blockCount);
    for (let row = 0; row < this.grid.gridRows; row++)
      for (let i = this.crowIndices[row]; i < this.crowIndices[row + 1]; i++)
        kept[row * this.grid.gridCols + this.colIndices[i]] = 1;
    return new BlockMask(this.grid, kept);
  }
  get density(): number {
    checkBsr('this', this);
    return this.mask.density;
  }
  get sparsity(): number {
    checkBsr('this', this);
    return 1 - this.density;
  }
  get bytes(): StorageBytes {
    checkBsr('this', this);
    const indices = 4 * (this.crowIndices.length + this.colIndices.length);
    return storageBytes(4 * this.values.length, indices, this.shape);
  }

  /**
   * The blocks of row-major `weight` [N, K] that `mask` keeps; without a mask every block that holds a
   * non-zero (NaN counts as one). Throws TypeError or RangeError when the length is not N*K.
   */
  static fromDense(weight: Float32Array, grid: BlockGrid, mask?: BlockMask): BsrMatrix {
    checkGrid('grid', grid);
    const [n, k] = grid.shape;
    const [r, c] = grid.blockShape;
    checkArray('weight', weight, Float32Array, n * k);
    if (mask !== undefined) checkMask('mask', mask, grid);
    const kept = mask?.kept ?? nonZeroBlocks(weight, grid);
    const crow = new Int32Array(grid.gridRows + 1);
    const columns: number[] = [];
    for (let row = 0; row < grid.gridRows; row++) {
      for (let col = 0; col < grid.gridCols; col++) if (kept[row * grid.gridCols + col]) columns.push(col);
      crow[row + 1] = columns.length;
    }
    const values = new Float32Array(columns.length * r * c);
    for (let row = 0; row < grid.gridRows; row++) {
      const rows = Math.min(r, n - row * r);
      for (let i = crow[row]; i < crow[row + 1]; i++) {
        const first = columns[i] * c;
        const last = Math.min(first + c, k);
        for (let y = 0; y < rows; y++) {
          const from = (row * r + y) * k;
          values.set(weight.subarray(from + first, from + last), (i * r + y) * c);
        }
      }
    }
    return new BsrMatrix(grid, crow, Int32Array.from(columns), values);
  }

  /**
   * Checked: index ranges, order, counts, and zeros in the padding of truncated edge blocks. The arrays are
   * copied, so that later changes to them change nothing here.
   */
  static fromArrays(fields: BsrFields): BsrMatrix {
    if (typeof fields !== 'object' || fields === null) throw typeError('fields', 'an object', fields);
    const { shape, blockShape, crowIndices, colIndices, values } = fields;
    checkParts(new BlockGrid(shape, blockShape), crowIndices, colIndices, values);
    return BsrMatrix.adopt({
      shape,
      blockShape,
      crowIndices: crowIndices.slice(),
      colIndices: colIndices.slice(),
      values: values.slice(),
    });
  }

  /**
   * `fromArrays` of arrays that nobody else has: it keeps them.
   * @internal
   */
  static adopt({ shape, blockShape, crowIndices, colIndices, values }: BsrFields): BsrMatrix {
    const matrix = new BsrMatrix(new BlockGrid(shape, blockShape), crowIndices, colIndices, values);
    checkIndices('crowIndices', 'colIndices', crowIndices, colIndices, matrix.grid.gridCols);
    checkPadding(matrix);
    return matrix;
  }

  /** Row-major [N, K]. */
  toDense(): Float32Array {
    checkIntact('this', this);
    const [n, k] = this.shape;
    const [r, c] = this.blockShape;
    const weight = new Float32Array(n * k);
    for (let row = 0; row < this.grid.gridRows; row++) {
      const rows = Math.min(r, n - row * r);
      for (let i = this.crowIndices[row]; i < this.crowIndices[row + 1]; i++) {
        const first = this.colIndices[i] * c;
        const columns = Math.min(c, k - first);
        for (let y = 0; y < rows; y++) {
          const from = (i * r + y) * c;
          weight.set(this.values.subarray(from, from + columns), (row * r + y) * k + first);
        }
      }
    }
    return weight;
  }
}

/** Zeros in the padding of truncated edge blocks. */
function checkPadding({ grid, crowIndices, colIndices, values }: BsrMatrix): void {
  const [n, k] = grid.shape;
  const [r, c] = grid.blockShape;
  for (let row = 0; row < grid.gridRows; row++) {
    for (let i = crowIndices[row]; i < crowIndices[row + 1]; i++) {
      const rows = Math.min(r, n - row * r);
      const columns = Math.min(c, k - colIndices[i] * c);
      if (rows === r && columns === c) continue;
      for (let y = 0; y < r; y++)
        for (let x = y < rows ? columns : 0; x < c; x++)
          if (values[(i * r + y) * c + x] !== 0)
            throw rangeError(
              `values[${(i * r + y) * c + x}]`,
              '0, since it lies outside the matrix',
              values[(i * r + y) * c + x],
            );
    }
  }
}

export function checkBsr(name: string, value: unknown): asserts value is BsrMatrix {
  if (!isBsr(value)) throw typeError(name, 'a BsrMatrix', value);
}

/** Kinds and lengths, which take no time; not what the indices say. */
function checkParts(grid: unknown, crow: unknown, col: unknown, values: unknown): void {
  checkGrid('grid', grid);
  const [r, c] = grid.blockShape;
  checkArray('crowIndices', crow, Int32Array, grid.gridRows + 1);
  checkArray('colIndices', col, Int32Array);
  checkArray('values', values, Float32Array, col.length * r * c);
}

/** A matrix whose arrays still describe one: they are the caller's to change, or to transfer away. */
export function checkIntact(name: string, matrix: unknown): asserts matrix is BsrMatrix {
  checkBsr(name, matrix);
  const { grid, crowIndices, colIndices, values } = matrix;
  checkParts(grid, crowIndices, colIndices, values);
  checkIndices('crowIndices', 'colIndices', crowIndices, colIndices, grid.gridCols);
}

/**
 * Copies the blocks that two matrices of one grid share, from `source`, laid out as the values of `from`, to
 * `target`, laid out as those of `to`. The rest of `target` stays.
 */
export function copySharedBlocks(
  from: BsrMatrix,
  source: Float32Array,
  to: BsrMatrix,
  target: Float32Array,
): void {
  const [r, c] = to.blockShape;
  const size = r * c;
  for (let row = 0; row < to.grid.gridRows; row++) {
    let i = from.crowIndices[row];
    const end = from.crowIndices[row + 1];
    for (let j = to.crowIndices[row]; j < to.crowIndices[row + 1]; j++) {
      while (i < end && from.colIndices[i] < to.colIndices[j]) i++;
      if (i < end && from.colIndices[i] === to.colIndices[j])
        target.set(source.subarray(i * size, (i + 1) * size), j * size);
    }
  }
}

function nonZeroBlocks(weight: Float32Array, grid: BlockGrid): Uint8Array {
  const [n, k] = grid.shape;
  const [r, c] = grid.blockShape;
  const kept = new Uint8Array(grid.blockCount);
  for (let y = 0; y < n; y++) {
    const base = Math.floor(y / r) * grid.gridCols;
    for (let x = 0; x < k; x++) if (weight[y * k + x] !== 0) kept[base + Math.floor(x / c)] = 1;
  }
  return kept;
}

/** Compressed row pointers that start at 0, never fall, and end at the count; columns in range and rising. */
export function checkIndices(
  crowName: string,
  colName: string,
  crow: Int32Array,
  col: Int32Array,
  columns: number,
): void {
  if (crow[0] !== 0) throw rangeError(`${crowName}[0]`, '0', crow[0]);
  for (let row = 0; row + 1 < crow.length; row++) {
    if (crow[row + 1] < crow[row] || crow[row + 1] > col.length)
      throw rangeError(`${crowName}[${row + 1}]`, `from ${crow[row]} to ${col.length}`, crow[row + 1]);
    for (let i = crow[row]; i < crow[row + 1]; i++) {
      if (col[i] < 0 || col[i] >= columns)
        throw rangeError(`${colName}[${i}]`, `from 0 to ${columns - 1}`, col[i]);
      if (i > crow[row] && col[i] <= col[i - 1])
        throw rangeError(`${colName}[${i}]`, `greater than the one before it, ${col[i - 1]}`, col[i]);
    }
  }
  if (crow[crow.length - 1] !== col.length)
    throw rangeError(
      `${crowName}[${crow.length - 1}]`,
      `${col.length}, the number of ${colName}`,
      crow.at(-1),
    );
}
