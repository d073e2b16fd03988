import { checkInteger, checkNumber, checkOneOf } from '../check.ts';
import { rangeError, typeError } from '../errors.ts';

/** More rounds than any schedule needs; keeps lists of rounds small. */
export const MAX_ROUNDS = 10_000;
const MAX_LAYERS = 1 << 20;

/**
 * One target sparsity for the whole network (or for each layer), reached over `rounds` rounds from `initial`
 * (0 unless given). With progress t in (0, 1], s = `sparsity` and i = `initial`:
 * - one-shot: s in the first round; further rounds only retrain
 * - linear: i + (s - i) t, the same share of all weights each round
 * - exponential: density (1 - i)^(1-t) (1 - s)^t, the same share of what is left each round
 * - cubic: s + (i - s)(1 - t)^3, fast first and slow at the end (Zhu & Gupta 2017, equation 1)
 */
export interface TargetSchedule {
  readonly type: 'one-shot' | 'linear' | 'exponential' | 'cubic';
  readonly sparsity: number;
  readonly rounds: number;
  readonly initial?: number;
}

/** The paper's rounds: in every round layer l loses the fraction `fractions[l]` of the blocks it still has. */
export interface RoundsSchedule {
  readonly type: 'rounds';
  /** One a linear layer. */
  readonly fractions: readonly number[];
  readonly rounds: number;
}

export type Schedule = TargetSchedule | RoundsSchedule;

const TYPES = ['one-shot', 'linear', 'exponential', 'cubic', 'rounds'] as const;

/** Throws TypeError or RangeError naming the field when `value` is no schedule. */
export function checkSchedule(name: string, value: unknown): asserts value is Schedule {
  if (typeof value !== 'object' || value === null) throw typeError(name, 'a schedule', value);
  const schedule = value as Schedule;
  checkOneOf(`${name}.type`, schedule.type, TYPES);
  checkInteger(`${name}.rounds`, schedule.rounds, 1, MAX_ROUNDS);
  if (schedule.type === 'rounds') {
    if (!Array.isArray(schedule.fractions) || schedule.fractions.length === 0)
      throw typeError(`${name}.fractions`, 'an array of numbers', schedule.fractions);
    for (let i = 0; i < schedule.fractions.length; i++)
      checkNumber(`${name}.fractions[${i}]`, schedule.fractions[i], 0, 1);
    return;
  }
  checkNumber(`${name}.sparsity`, schedule.sparsity, 0, 1);
  if (schedule.initial !== undefined) checkNumber(`${name}.initial`, schedule.initial, 0, schedule.sparsity);
  // A density of 0 is no end that repeated multiplication reaches: every round would already drop everything.
  if (schedule.type === 'exponential' && schedule.sparsity === 1)
    throw rangeError(`${name}.sparsity`, 'less than 1 for an exponential schedule', schedule.sparsity);
}

/**
 * The sparsity that is due at `progress` (0: nothing done, 1: last round done). For the paper's rounds that of
 * linear layer `layer`, before rounding to whole blocks. A pure function.
 */
export function sparsityAt(schedule: Schedule, progress: number, layer = 0): number {
  checkSchedule('schedule', schedule);
  checkNumber('progress', progress, 0, 1);
  const layers = schedule.type === 'rounds' ? schedule.fractions.length : MAX_LAYERS;
  checkInteger('layer', layer, 0, layers - 1);
  if (schedule.type === 'rounds') return 1 - (1 - schedule.fractions[layer]) ** (schedule.rounds * progress);
  const { sparsity, initial = 0 } = schedule;
  if (progress === 0) return initial;
  if (progress === 1) return sparsity;
  switch (schedule.type) {
    case 'one-shot':
      return sparsity;
    case 'linear':
      return initial + (sparsity - initial) * progress;
    case 'exponential':
      return 1 - (1 - initial) ** (1 - progress) * (1 - sparsity) ** progress;
    case 'cubic':
      return sparsity + (initial - sparsity) * (1 - progress) ** 3;
  }
}

/** The sparsity after round `round` (the first is 0, the last `rounds - 1`): that at progress (round + 1) / rounds. */
export function targetSparsity(schedule: Schedule, round: number, layer = 0): number {
  checkSchedule('schedule', schedule);
  checkInteger('round', round, 0, schedule.rounds - 1);
  return sparsityAt(schedule, (round + 1) / schedule.rounds, layer);
}

/**
 * The paper's schedule (Huang et al. 2021): 20 % of the remaining blocks of every layer a round, 10 % of the
 * last layer's. The default is that of LeNet-300-100.
 */
export function paperSchedule(layers = 3, rounds = 16): RoundsSchedule {
  checkInteger('layers', layers, 1, MAX_LAYERS);
  checkInteger('rounds', rounds, 1, MAX_ROUNDS);
  const fractions = Array.from({ length: layers }, (_, i) => (i === layers - 1 ? 0.1 : 0.2));
  return { type: 'rounds', fractions, rounds };
}
