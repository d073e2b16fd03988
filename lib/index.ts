export { BlocksparseError, type BlocksparseErrorCode } from './errors.ts';
export { runtime } from './kernels/choose.ts';
export type { Activation, Criterion, LayerInfo } from './kernels/kernels.ts';
export { BsrLinear, type BsrLinearOptions } from './linear.ts';
export { type BsrFields, BsrMatrix, type StorageBytes } from './sparse/bsr.ts';
export { type CsrFields, CsrMatrix } from './sparse/csr.ts';
export { BlockGrid, type Pair } from './sparse/grid.ts';
export { BlockMask } from './sparse/mask.ts';
