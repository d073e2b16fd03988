import { checkInteger, checkNumber, checkOptions } from '../check.ts';
import { rangeError, typeError } from '../errors.ts';
import { type FitResult, train } from '../nn/fit.ts';
import { checkNetwork, type Network } from '../nn/network.ts';
import { deriveSeed } from '../nn/random.ts';
import { BlockMask } from '../sparse/mask.ts';
import { divide, exclusively, rank, selectAt, setBlocks } from './blocks.ts';
import { type Measurement, measureGrowth } from './measured.ts';
import {
  type PruneOptions,
  type PruningPlan,
  planMeasurement,
  planPruning,
  type RetrainOptions,
  type Training,
} from './options.ts';
import { sparsityAt } from './schedule.ts';
import { selectGlobally } from './select.ts';

/** Shares of all steps: until the first the network only loses blocks, from the second on its blocks are final. */
const PRUNED = 0.4;
const SETTLED = 0.8;
/** Share of its weights that the network exchanges at first; it falls to 0 along half a cosine. */
const EXCHANGED = 0.3;
const SCORING_BATCHES = 16;

export interface RegrowOptions
  extends Pick<PruneOptions, 'blockShape' | 'criterion' | 'scoring' | 'scope' | 'floor' | 'signal'> {
  /** Of all weights, 0 to 1: reached after 40 % of the steps and kept from then on. */
  readonly sparsity: number;
  /** The one training run in which blocks go and come: `epochs` are those of the whole run. */
  readonly retrain: RetrainOptions;
  /** Steps between two changes of the blocks, default 200; at most 40 % of all steps. */
  readonly every?: number;
}

/**
 * Prunes `network` in place within one training run, and lets blocks come back (RigL, Evci et al. 2020, on blocks).
 * In the first 40 % of the steps sparsity grows along a cubic schedule; then every `every` steps the blocks with
 * the lowest scores go, 30 % of the weights at first and none after 80 % of the steps, and as many weights come
 * into the blocks where the mean gradient is largest. They begin at zero, with an optimizer state of zero; blocks
 * that stay keep theirs. A layer gets back what it gave. The last 20 % of the steps train the blocks that are
 * there, and with `retrain.validation` the best of their epochs stays.
 *
 * The gradient of blocks that are absent is measured only when blocks change, on the batches of `scoring` with all
 * blocks present: training itself stays sparse, and many batches tell more than the momentum of the last few.
 *
 * It is one run: there is nothing to resume. An aborted `signal` rejects with its reason; then, and when training
 * fails, the network is as it was before. Rejects with TypeError or RangeError for wrong options,
 * BlocksparseError INVALID_STATE for a network that is being pruned or trained already.
 */
export async function regrow(network: Network, options: RegrowOptions): Promise<FitResult> {
  checkNetwork('network', network);
  const { plan, training, gradients, every, steps } = planRegrowth(network, options);
  const { sparsity, signal } = options;
  signal?.throwIfAborted();
  const pruned = steps * PRUNED;
  const settled = steps * SETTLED;

  const beforeStep = (step: number): boolean => {
    if (step === 0 || step % every !== 0 || step > settled) return false;
    const time = step / every;
    const ranked = rank(network, plan, time);
    if (step < pruned) {
      const due = sparsityAt({ type: 'cubic', sparsity, rounds: 1 }, step / pruned);
      setBlocks(network, selectAt(ranked, plan, due, sparsity));
      return true;
    }
    const exchanged = EXCHANGED * 0.5 * (1 + Math.cos((Math.PI * (step - pruned)) / (settled - pruned)));
    const less = 1 - (1 - sparsity) * (1 - exchanged);
    const growth = measureGrowth(network, gradients, deriveSeed(training.how.seed, time));
    const due = selectAt(ranked, plan, sparsity);
    const stay = selectAt(ranked, plan, less, sparsity);
    setBlocks(
      network,
      ranked.map(({ among }, l) => grow(stay[l], among, growth[l], due[l].sparsity)),
    );
    return true;
  };

  return exclusively(network, async () => {
    const before = network.snapshot();
    try {
      divide(network, plan.grids);
      return await train(
        network,
        training.data,
        { ...training.how, ...(signal && { signal }) },
        { beforeStep, settled },
      );
    } catch (error) {
      network.restore(before);
      throw error;
    }
  });
}

interface RegrowthPlan {
  readonly plan: PruningPlan;
  readonly training: Training;
  readonly gradients: Measurement;
  readonly every: number;
  readonly steps: number;
}

/** Throws TypeError or RangeError naming the option. */
function planRegrowth(network: Network, options: RegrowOptions): RegrowthPlan {
  if (typeof options !== 'object' || options === null) throw typeError('options', 'an object', options);
  const { sparsity, every = 200, retrain, criterion = 'fisher', scope = 'global', ...rest } = options;
  const { floor = scope === 'global' ? 'auto' : 0 } = options;
  if (options.scoring !== undefined) checkOptions('scoring', options.scoring);
  const scoring = { batches: SCORING_BATCHES, ...options.scoring };
  for (const name of ['checkpoint', 'resume', 'schedule', 'onRound'])
    if (name in options)
      throw typeError(
        name,
        'left out: regrowth is one training run, without rounds',
        Reflect.get(options, name),
      );
  if (typeof retrain !== 'object') throw typeError('retrain', 'an object', retrain);
  checkNumber('sparsity', sparsity, 0, 1);
  const schedule = { type: 'one-shot', sparsity, rounds: 1 } as const;
  const plan = planPruning(network, { ...rest, criterion, scope, floor, retrain, scoring, schedule });
  const training = plan.retrain as Training;
  const { epochs, batchSize } = training.how;
  const { count } = training.data;
  const steps = epochs * Math.ceil(count / Math.min(batchSize, count));
  checkInteger('every', every, 1, 2 ** 31 - 1);
  if (every > PRUNED * steps)
    throw rangeError('every', `at most ${PRUNED * steps}, 40 % of ${steps} steps`, every);
  const gradients = planMeasurement(network, { criterion: 'fisher', scoring, retrain }, training);
  return { plan, training, gradients, every, steps };
}

/**
 * The blocks `stay`, and down to `sparsity` those of the highest `scores` that the layer did not have. What was
 * dropped just now does not come back at once: its gradient was measured with its weights in place.
 */
function grow(stay: BlockMask, had: BlockMask, scores: Float32Array, sparsity: number): BlockMask {
  const { grid, kept } = stay;
  const candidates = kept.map((bit, i) => (bit === 1 || had.kept[i] === 0 ? 1 : 0));
  const first = scores.map((score, i) => (kept[i] === 1 ? Number.POSITIVE_INFINITY : score));
  return selectGlobally([{ scores: first, grid, among: new BlockMask(grid, candidates) }], { sparsity })[0];
}
