import { checkArray, checkInteger, isObject } from '../check.ts';
import { typeError } from '../errors.ts';
import { BsrMatrix, checkIndices, checkIntact, type StorageBytes, storageBytes } from './bsr.ts';
import { BlockGrid, MAX_DIMENSION, type Pair } from './grid.ts';

/** The fields of `CsrMatrix.fromArrays`: one column index and one value a stored weight. */
export interface CsrFields {
  readonly shape: Pair;
  readonly crowIndices: Int32Array;
  readonly colIndices: Int32Array;
  readonly values: Float32Array;
}

let isCsr: (value: unknown) => value is CsrMatrix;

/** Compressed Sparse Row: what unstructured pruning stores; here for comparison and exchange. */
export class CsrMatrix {
  readonly #brand = true;
  static {
    isCsr = (value): value is CsrMatrix => isObject(value) && #brand in value;
  }

  readonly shape: Pair;
  readonly crowIndices: Int32Array;
  readonly colIndices: Int32Array;
  readonly values: Float32Array;

  private constructor(shape: Pair, crow: Int32Array, col: Int32Array, values: Float32Array) {
    this.shape = checkParts(shape, crow, col, values);
    this.crowIndices = crow;
    this.colIndices = col;
    this.values = values;
  }

  get nnz(): number {
    checkCsr('this', this);
    return this.values.length;
  }
  get bytes(): StorageBytes {
    checkCsr('this', this);
    const indices = 4 * (this.crowIndices.length + this.colIndices.length);
    return storageBytes(4 * this.values.length, indices, this.shape);
  }

  /** Every non-zero of row-major `weight` [rows, columns]. */
  static fromDense(weight: Float32Array, shape: Pair): CsrMatrix {
    const matrix = BsrMatrix.fromDense(weight, new BlockGrid(shape, [1, 1]));
    return new CsrMatrix(matrix.shape, matrix.crowIndices, matrix.colIndices, matrix.values);
  }

  /** The stored elements of `matrix` that exist, zeros inside its blocks included: nothing is lost. */
  static fromBsr(matrix: BsrMatrix): CsrMatrix {
    checkIntact('matrix', matrix);
    const [n, k] = matrix.shape;
    const [r, c] = matrix.blockShape;
    const crow = new Int32Array(n + 1);
    const columns: number[] = [];
    const values: number[] = [];
    for (let y = 0; y < n; y++) {
      const row = Math.floor(y / r);
      for (let i = matrix.crowIndices[row]; i < matrix.crowIndices[row + 1]; i++) {
        const first = matrix.colIndices[i] * c;
        for (let x = first; x < Math.min(first + c, k); x++) {
          columns.push(x);
          values.push(matrix.values[(i * r + (y - row * r)) * c + (x - first)]);
        }
      }
      crow[y + 1] = columns.length;
    }
    return new CsrMatrix(matrix.shape, crow, Int32Array.from(columns), Float32Array.from(values));
  }

  /** Checked and copied, like `BsrMatrix.fromArrays`. */
  static fromArrays(fields: CsrFields): CsrMatrix {
    if (typeof fields !== 'object' || fields === null) throw typeError('fields', 'an object', fields);
    const shape = checkParts(fields.shape, fields.crowIndices, fields.colIndices, fields.values);
    const crow = fields.crowIndices.slice();
    const col = fields.colIndices.slice();
    checkIndices('crowIndices', 'colIndices', crow, col, shape[1]);
    return new CsrMatrix(shape, crow, col, fields.values.slice());
  }

  /** Row-major [rows, columns]. */
  toDense(): Float32Array {
    checkCsr('this', this);
    const [n, k] = checkParts(this.shape, this.crowIndices, this.colIndices, this.values);
    checkIndices('crowIndices', 'colIndices', this.crowIndices, this.colIndices, k);
    const weight = new Float32Array(n * k);
    for (let y = 0; y < n; y++)
      for (let i = this.crowIndices[y]; i < this.crowIndices[y + 1]; i++)
        weight[y * k + this.colIndices[i]] = this.values[i];
    return weight;
  }

  /** The blocks that hold a stored non-zero. */
  toBsr(blockShape: Pair): BsrMatrix {
    checkCsr('this', this);
    if (Array.isArray(blockShape)) checkInteger('blockShape[0]', blockShape[0], 1, MAX_DIMENSION);
    return BsrMatrix.fromDense(this.toDense(), new BlockGrid(this.shape, blockShape));
  }
}

function checkCsr(name: string, value: unknown): asserts value is CsrMatrix {
  if (!isCsr(value)) throw typeError(name, 'a CsrMatrix', value);
}

/** Kinds and lengths; not what the indices say. Returns the checked shape. */
function checkParts(given: Pair, crow: unknown, col: unknown, values: unknown): Pair {
  const { shape } = new BlockGrid(given, [1, 1]);
  checkArray('crowIndices', crow, Int32Array, shape[0] + 1);
  checkArray('colIndices', col, Int32Array);
  checkArray('values', values, Float32Array, col.length);
  return shape;
}
