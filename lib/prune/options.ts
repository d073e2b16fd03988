import { checkInteger, checkOneOf, checkOptions } from '../check.ts';
import { rangeError, typeError } from '../errors.ts';
import { checkPath } from '../format/atomic.ts';
import { checkDataset, type Dataset, split, targetsFor } from '../nn/dataset.ts';
import { checkFitOptions, type FitOptions } from '../nn/fit.ts';
import type { LossName, Targets } from '../nn/loss.ts';
import type { Network } from '../nn/network.ts';
import { BlockGrid, type Pair } from '../sparse/grid.ts';
import {
  checkRows,
  isMeasured,
  type Measurement,
  PRUNING_CRITERIA,
  type PruningCriterion,
} from './measured.ts';
import { checkSchedule, type Schedule } from './schedule.ts';
import { checkFloors } from './select.ts';

/** How `fit` retrains after each round, and on what. The seed of round i is derived from `seed` and i. */
export type RetrainOptions = Omit<FitOptions, 'signal'> & { readonly data: Dataset };

/**
 * Retrains `network` in place after round `round` (from 0); must not change which blocks it has. For a resumed
 * run to give the same result it may depend on nothing but its arguments.
 */
export type RetrainCallback = (
  network: Network,
  round: number,
  signal: AbortSignal | undefined,
) => void | Promise<void>;

/** How the measured criteria are measured, anew in each round. */
export interface ScoringOptions {
  /** Default: `retrain.data`. 'variance' reads no y. */
  readonly data?: Omit<Dataset, 'y'> & { readonly y?: Targets };
  /** Batches summed over, default 64, or as many as the data has. */
  readonly batches?: number;
  /** Default that of `retrain`, else 128. */
  readonly batchSize?: number;
}

/** What one round came to. */
export interface RoundReport {
  /** From 0. */
  readonly round: number;
  readonly rounds: number;
  /** Of all linear layers' weights together. */
  readonly density: number;
  /** One a linear layer. */
  readonly layerDensities: readonly number[];
  /** After retraining: on the validation set; without one, the last retraining epoch's training loss. */
  readonly loss?: number;
  /** After retraining, on the validation set; only for cross-entropy. */
  readonly accuracy?: number;
  readonly seconds: number;
}

export interface PruneOptions {
  readonly blockShape: Pair;
  readonly schedule: Schedule;
  /** Default 'mean-abs', the paper's. 'fisher', 'taylor' and 'variance' are measured on data: see `scoring`. */
  readonly criterion?: PruningCriterion;
  /** On what blocks are scored by a measured criterion. */
  readonly scoring?: ScoringOptions;
  /**
   * 'layer' (default): the schedule holds for each layer. 'global': one order of blocks over all layers. It needs a
   * target sparsity, which a schedule of type 'rounds' has not: that says what each layer loses, so it is refused.
   */
  readonly scope?: 'layer' | 'global';
  /**
   * Fraction of its weights that a layer keeps at least: one number for all (default 0), or one a layer. 'auto',
   * with scope 'global': a quarter of the round's mean density and at least one block, and no row of blocks of the
   * last layer loses all of them. Each covers all its rows of weights, so every single output keeps some.
   */
  readonly floor?: number | readonly number[] | 'auto';
  /** Without it the network is only pruned. */
  readonly retrain?: RetrainOptions | RetrainCallback;
  /** Loss and accuracy of each round are those on this set; `retrain.validation` also follows it by default. */
  readonly validation?: Dataset;
  /** Model file to which each finished round is written. */
  readonly checkpoint?: string | URL;
  /** Goes into the checkpoint's `info`, beside what is needed to resume. */
  readonly info?: Readonly<Record<string, unknown>>;
  /**
   * Continue after the round that `checkpoint` holds, with its weights in place of the network's, whatever those
   * are. Where the file does not exist the run starts with the first round.
   */
  readonly resume?: boolean;
  readonly signal?: AbortSignal;
  /** After each round, its checkpoint already written. Awaited. Not called for rounds read from a checkpoint. */
  readonly onRound?: (report: RoundReport) => void | Promise<void>;
}

/** What `fit` is called with. */
export interface Training {
  readonly data: Dataset;
  readonly how: FitOptions;
}

/** Checked options, with nothing left to default. */
export interface PruningPlan {
  /** One a linear layer. */
  readonly grids: readonly BlockGrid[];
  readonly schedule: Schedule;
  readonly criterion: PruningCriterion;
  /** Not null for a measured criterion. */
  readonly measurement: Measurement | null;
  readonly scope: 'layer' | 'global';
  readonly floors: readonly number[] | 'auto';
  readonly retrain: Training | RetrainCallback | null;
  readonly validation: { readonly data: Dataset; readonly loss: LossName } | null;
  /** An absolute path. */
  readonly checkpoint: string | null;
}

/** Throws TypeError or RangeError naming the option. */
export function planPruning(network: Network, options: PruneOptions): PruningPlan {
  checkOptions('options', options);
  checkSchedule('schedule', options.schedule);
  const { schedule, criterion = 'mean-abs', scope = 'layer', floor = 0, checkpoint } = options;
  checkOneOf('criterion', criterion, PRUNING_CRITERIA);
  checkOneOf('scope', scope, ['layer', 'global']);
  const layers = network.linears.length;
  if (schedule.type === 'rounds') {
    if (schedule.fractions.length !== layers)
      throw rangeError('schedule.fractions', `of ${layers} numbers, one a linear layer`, schedule.fractions);
    if (scope === 'global')
      throw rangeError('scope', "'layer' for a schedule of fractions for each layer", scope);
  }
  if (floor === 'auto' && scope !== 'global')
    throw rangeError('floor', "'auto' only with scope 'global'", floor);
  checkRest(options);
  const { retrain, validation } = planTraining(network, options);
  return {
    grids: network.linears.map(
      ({ inFeatures, outFeatures }) => new BlockGrid([outFeatures, inFeatures], options.blockShape),
    ),
    schedule,
    criterion,
    measurement: isMeasured(criterion) ? planMeasurement(network, options, retrain) : null,
    scope,
    floors: floor === 'auto' ? 'auto' : checkFloors(floor, layers),
    retrain,
    validation,
    checkpoint: checkpoint === undefined ? null : checkPath('checkpoint', checkpoint),
  };
}

function checkRest({ checkpoint, info, resume, signal, onRound }: PruneOptions): void {
  if (info !== undefined) checkInfo(info);
  if (resume !== undefined && typeof resume !== 'boolean') throw typeError('resume', 'a boolean', resume);
  if (resume && checkpoint === undefined)
    throw typeError('checkpoint', 'a path, since resume is set', checkpoint);
  if (signal !== undefined && !(signal instanceof AbortSignal))
    throw typeError('signal', 'an AbortSignal', signal);
  if (onRound !== undefined && typeof onRound !== 'function')
    throw typeError('onRound', 'a function', onRound);
}

/** Checked here already: found out when the first checkpoint is written, it would cost a round. */
function checkInfo(info: unknown): void {
  if (typeof info !== 'object' || info === null || Array.isArray(info))
    throw typeError('info', 'an object', info);
  let json: string | undefined;
  try {
    json = JSON.stringify(info);
  } catch (cause) {
    throw new TypeError(`info must be an object that JSON can hold: ${(cause as Error).message}`, { cause });
  }
  // toJSON may make anything of it.
  if (!json?.startsWith('{')) throw typeError('info', 'an object that JSON can hold', info);
}

/** How the gradients or, for 'variance', the inputs are measured. */
export function planMeasurement(
  network: Network,
  { criterion, scoring = {}, retrain: given }: Pick<PruneOptions, 'criterion' | 'scoring' | 'retrain'>,
  retrain: PruningPlan['retrain'],
): Measurement {
  checkOptions('scoring', scoring);
  const training = typeof retrain === 'function' ? null : retrain;
  const { batches = 64, batchSize = training?.how.batchSize ?? 128 } = scoring;
  checkInteger('scoring.batches', batches, 1, 2 ** 31 - 1);
  checkInteger('scoring.batchSize', batchSize, 1, 2 ** 31 - 1);
  const data = scoring.data ?? training?.data;
  if (data === undefined)
    throw typeError(
      'scoring.data',
      `a data set, since criterion is '${criterion}' and ${given === undefined ? 'retrain is not given' : 'retrain is a function'}`,
      data,
    );
  if (typeof data !== 'object' || data === null) throw typeError('scoring.data', 'a data set', data);
  if (criterion === 'variance') {
    checkDataset('scoring.data', { ...data, y: new Uint8Array(data.count) });
    checkRows('scoring.data', data, network.inFeatures);
    return { data, targets: null, loss: 'cross-entropy', batches, batchSize };
  }
  checkDataset('scoring.data', data);
  const loss = training?.how.loss ?? (data.y instanceof Float32Array ? 'mse' : 'cross-entropy');
  return { data, targets: targetsFor('scoring.data', data, network, loss), loss, batches, batchSize };
}

/** Everything training needs is checked here, before the first block is dropped. */
function planTraining(network: Network, options: PruneOptions): Pick<PruningPlan, 'retrain' | 'validation'> {
  const { retrain, validation } = options;
  if (validation !== undefined) checkDataset('validation', validation);
  if (retrain === undefined || typeof retrain === 'function') {
    const loss = validation?.y instanceof Float32Array ? 'mse' : 'cross-entropy';
    if (validation !== undefined) targetsFor('validation', validation, network, loss);
    return { retrain: retrain ?? null, validation: validation ? { data: validation, loss } : null };
  }
  if (typeof retrain !== 'object' || retrain === null)
    throw typeError('retrain', 'an object or a function', retrain);
  const { data, validation: own, ...rest } = retrain;
  checkDataset('retrain.data', data);
  checkFitOptions('retrain', { ...rest, ...(own !== undefined && { validation: own }) });
  const loss = rest.loss ?? 'cross-entropy';
  // Rows that are validated on are not trained on, so they leave the data once and for all.
  const sets = typeof own === 'number' ? split(data, own) : { train: data, validation: own };
  targetsFor('retrain.data', sets.train, network, loss);
  const chosen = own === 0 ? validation : (sets.validation ?? validation);
  if (chosen !== undefined) targetsFor('validation', chosen, network, loss);
  if (rest.keep === 'best' && chosen === undefined)
    throw rangeError('retrain.keep', "'last', since there is no validation set", rest.keep);
  const reported = validation ?? chosen;
  if (reported !== undefined) targetsFor('validation', reported, network, loss);
  return {
    retrain: { data: sets.train, how: chosen === undefined ? rest : { ...rest, validation: chosen } },
    validation: reported === undefined ? null : { data: reported, loss },
  };
}
