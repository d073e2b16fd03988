/** Networks with the densities of the paper's recipe but without training: for what depends on structure alone. */
import { BlockGrid, BlockMask, BsrMatrix, CsrMatrix, Network, selectBlocks } from '../../dist/index.js';
import { DENSE_BLOCK_SHAPE } from '../../dist/nn/linear.js';
import { Random } from '../../dist/nn/random.js';
import { LAYERS } from './cell.mjs';
import { FRACTIONS } from './grid.mjs';

/** The layers' matrices after round `stage` of the paper's fractions, which blocks being left to chance. */
export function patternOf(block, stage) {
  const random = new Random(1);
  return Network.create(LAYERS, 1).linears.map(({ matrix }, l) => {
    const grid = new BlockGrid(matrix.shape, block.split('x').map(Number));
    let among = BlockMask.full(grid);
    for (let round = 0; round <= stage; round++) {
      const scores = Float32Array.from({ length: grid.blockCount }, () => random.next());
      among = selectBlocks(scores, grid, { dropFraction: FRACTIONS[l], among });
    }
    return BsrMatrix.fromDense(matrix.toDense(), grid, among);
  });
}

/**
 * The same weights as each format stores them; `csr` as blocks of one weight, which is how our kernels run it.
 * Bytes and products are those of CSR.
 */
export const FORMATS = {
  dense: (matrix) => {
    const grid = new BlockGrid(matrix.shape, DENSE_BLOCK_SHAPE);
    return BsrMatrix.fromDense(matrix.toDense(), grid, BlockMask.full(grid));
  },
  csr: (matrix) => CsrMatrix.fromBsr(matrix).toBsr([1, 1]),
  bsr: (matrix) => matrix,
};
