import { checkArray, isObject } from '../check.ts';
import { BlocksparseError, rangeError, typeError } from '../errors.ts';
import { type BlockGrid, checkGrid } from './grid.ts';

let isMask: (value: unknown) => value is BlockMask;

/** Which blocks of a grid are kept. `kept[i]` is 1 or 0, row-major over the grid. */
export class BlockMask {
  readonly #brand = true;
  static {
    isMask = (value): value is BlockMask => isObject(value) && #brand in value;
  }

  readonly grid: BlockGrid;
  readonly kept: Uint8Array;
  /** Number of kept blocks. */
  readonly nnzb: number;
  /** Weights inside kept blocks / all weights, counting only elements that exist; 0 for an empty matrix. */
  readonly density: number;

  /** Copies `kept`. Throws when its length is not the grid's block count or an entry is not 0 or 1. */
  constructor(grid: BlockGrid, kept: Uint8Array) {
    checkGrid('grid', grid);
    checkArray('kept', kept, Uint8Array, grid.blockCount);
    this.grid = grid;
    this.kept = kept.slice();
    let nnzb = 0;
    let elements = 0;
    for (let i = 0; i < this.kept.length; i++) {
      const bit = this.kept[i];
      if (bit > 1) throw rangeError(`kept[${i}]`, '0 or 1', bit);
      if (bit === 1) {
        nnzb++;
        elements += grid.elementsOf(i);
      }
    }
    this.nnzb = nnzb;
    const all = grid.shape[0] * grid.shape[1];
    this.density = all === 0 ? 0 : elements / all;
  }

  get sparsity(): number {
    if (!isMask(this)) throw typeError('this', 'a BlockMask', this);
    return 1 - this.density;
  }

  static full(grid: BlockGrid): BlockMask {
    checkGrid('grid', grid);
    return new BlockMask(grid, new Uint8Array(grid.blockCount).fill(1));
  }
}

/** A mask, and of this very grid. */
export function checkMask(name: string, value: unknown, grid: BlockGrid): asserts value is BlockMask {
  if (!isMask(value)) throw typeError(name, 'a BlockMask', value);
  checkArray(`${name}.kept`, value.kept, Uint8Array, value.grid.blockCount);
  let nnzb = 0;
  for (let i = 0; i < value.kept.length; i++) {
    if (value.kept[i] > 1) throw rangeError(`${name}.kept[${i}]`, '0 or 1', value.kept[i]);
    nnzb += value.kept[i];
  }
  if (nnzb !== value.nnzb)
    throw new BlocksparseError('INVALID_STATE', `${name}.kept was changed after the mask was made`);
  if (!value.grid.equals(grid))
    throw new BlocksparseError(
      'INVALID_STATE',
      `${name} belongs to a grid of shape [${value.grid.shape}] in blocks of [${value.grid.blockShape}], ` +
        `but the grid here has shape [${grid.shape}] in blocks of [${grid.blockShape}]`,
    );
}
