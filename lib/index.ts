export { type ImageData, loadDataset } from './data/dataset.ts';
export { type IdxFile, readIdx, readIdxFile } from './data/idx.ts';
export { BlocksparseError, type BlocksparseErrorCode } from './errors.ts';
export {
  type LoadOptions,
  Model,
  type ModelInfo,
  type ModelLayer,
  type ServeOptions,
} from './format/model.ts';
export {
  type DType,
  readSafetensors,
  readSafetensorsFile,
  type SafetensorsFile,
  type Tensor,
  writeSafetensorsFile,
} from './format/safetensors.ts';
export { runtime } from './kernels/choose.ts';
export type { Activation, Criterion, LayerInfo } from './kernels/kernels.ts';
export { BsrLinear, type BsrLinearOptions } from './linear.ts';
export { type Dataset, split } from './nn/dataset.ts';
export {
  type EpochRecord,
  type EvaluateOptions,
  type Evaluation,
  evaluate,
  type FitOptions,
  type FitResult,
  fit,
} from './nn/fit.ts';
export type { Linear, LinearWeights } from './nn/linear.ts';
export type { LossName, Targets } from './nn/loss.ts';
export { Network, type NetworkSnapshot } from './nn/network.ts';
export type { AdamOptions, OptimizerOptions, SgdOptions } from './nn/optimizer.ts';
export { deriveSeed } from './nn/random.ts';
export type { RateOptions } from './nn/rate.ts';
export type { ActivationSpec, DropoutSpec, LayerSpec, LinearSpec } from './nn/spec.ts';
export type { MeasuredCriterion, PruningCriterion } from './prune/measured.ts';
export {
  type PruneOptions,
  type PruneResult,
  prune,
  type RetrainCallback,
  type RetrainOptions,
  type RoundReport,
  type ScoringOptions,
} from './prune/prune.ts';
export { type RegrowOptions, regrow } from './prune/regrow.ts';
export {
  paperSchedule,
  type RoundsSchedule,
  type Schedule,
  sparsityAt,
  type TargetSchedule,
  targetSparsity,
} from './prune/schedule.ts';
export { scoreBlocks } from './prune/scores.ts';
export {
  type GlobalSelection,
  type LayerScores,
  type Selection,
  selectBlocks,
  selectGlobally,
} from './prune/select.ts';
export { type BsrFields, BsrMatrix, type StorageBytes } from './sparse/bsr.ts';
export { type CsrFields, CsrMatrix } from './sparse/csr.ts';
export { BlockGrid, type Pair } from './sparse/grid.ts';
export { BlockMask } from './sparse/mask.ts';
