import { BlocksparseError } from '../errors.ts';
import { checkWritable } from '../format/atomic.ts';
import { evaluate, fit } from '../nn/fit.ts';
import { checkStructure, type Linear } from '../nn/linear.ts';
import { checkNetwork, type Network } from '../nn/network.ts';
import { deriveSeed } from '../nn/random.ts';
import type { BlockMask } from '../sparse/mask.ts';
import { divide, exclusively, rank, selectAt, setBlocks } from './blocks.ts';
import { fingerprintOf, loadCheckpoint, saveCheckpoint } from './checkpoint.ts';
import { type PruneOptions, type PruningPlan, planPruning, type RoundReport } from './options.ts';
import { targetSparsity } from './schedule.ts';
import { type LayerScores, selectBlocks, selectGlobally } from './select.ts';

export type {
  PruneOptions,
  RetrainCallback,
  RetrainOptions,
  RoundReport,
  ScoringOptions,
} from './options.ts';

export interface PruneResult {
  /** One report a round, those read from a checkpoint included. */
  readonly rounds: RoundReport[];
}

/**
 * Prunes `network` in place, in rounds (Huang et al. 2021, algorithm 1): score the blocks that are left, drop the
 * lowest as the schedule says, retrain what stays from the weights it has. Dropped blocks never come back; biases
 * are not pruned. With a `checkpoint` a stopped run can be resumed and then gives, on the same machine, the same
 * bits as one that was never stopped.
 *
 * An aborted `signal` rejects with its reason. Then, and when retraining fails, the network is as it was after
 * the last finished round. Rejects with TypeError or RangeError for wrong options and for weights that are not
 * finite, BlocksparseError INVALID_STATE for a checkpoint of another run or a network that is being pruned already.
 */
export async function prune(network: Network, options: PruneOptions): Promise<PruneResult> {
  checkNetwork('network', network);
  network.linears.forEach(checkStructure);
  const plan = planPruning(network, options);
  options.signal?.throwIfAborted();
  return exclusively(network, () => run(network, plan, options));
}

async function run(network: Network, plan: PruningPlan, options: PruneOptions): Promise<PruneResult> {
  const { signal, info = {} } = options;
  const { checkpoint } = plan;
  if (checkpoint !== null) await checkWritable(checkpoint);
  const fingerprint = checkpoint === null ? {} : fingerprintOf(plan);
  const reports =
    checkpoint !== null && options.resume ? await loadCheckpoint(checkpoint, network, fingerprint) : [];
  for (let round = reports.length; round < plan.schedule.rounds; round++) {
    signal?.throwIfAborted();
    const before = network.snapshot();
    let report: RoundReport;
    try {
      report = await runRound(network, plan, round, signal);
    } catch (error) {
      network.restore(before);
      throw error;
    }
    reports.push(report);
    if (checkpoint !== null) await saveCheckpoint(checkpoint, network, reports, fingerprint, info);
    await options.onRound?.(report);
  }
  return { rounds: reports };
}

async function runRound(
  network: Network,
  plan: PruningPlan,
  round: number,
  signal: AbortSignal | undefined,
): Promise<RoundReport> {
  const start = performance.now();
  const masks = dropBlocks(network, plan, round);
  const trainingLoss = await retrain(network, plan, round, signal);
  // A callback that just returns when told to stop has not finished its work.
  signal?.throwIfAborted();
  network.linears.forEach((linear, l) => {
    checkMaskKept(linear, masks[l], l);
  });
  return {
    round,
    rounds: plan.schedule.rounds,
    density: network.density,
    layerDensities: masks.map((mask) => mask.density),
    ...quality(network, plan, trainingLoss),
    seconds: (performance.now() - start) / 1000,
  };
}

/** Scores, selects, and leaves in each layer only the blocks that its mask keeps. */
function dropBlocks(network: Network, plan: PruningPlan, round: number): BlockMask[] {
  divide(network, plan.grids);
  const masks = select(rank(network, plan, round), plan, round);
  setBlocks(network, masks);
  return masks;
}

function select(layers: readonly LayerScores[], plan: PruningPlan, round: number): BlockMask[] {
  const { schedule, floors } = plan;
  if (schedule.type !== 'rounds') return selectAt(layers, plan, targetSparsity(schedule, round));
  return layers.map((layer, l) => {
    const { scores, grid, among } = layer;
    const how = { dropFraction: schedule.fractions[l], ...(among && { among }) };
    const mask = selectBlocks(scores, grid, how);
    // The paper's rule knows no floor: where it goes below, drop only as far as the floor.
    const floor = (floors as readonly number[])[l];
    return mask.density >= floor ? mask : selectGlobally([layer], { sparsity: 1, floor })[0];
  });
}

/** Returns the training loss of the last epoch, if there was one. */
async function retrain(
  network: Network,
  plan: PruningPlan,
  round: number,
  signal: AbortSignal | undefined,
): Promise<number | undefined> {
  const { retrain: how } = plan;
  if (how === null) return undefined;
  if (typeof how === 'function') {
    await how(network, round, signal);
    return undefined;
  }
  // A seed of its own and a fresh optimizer: a round depends on nothing but the weights it starts from.
  const seed = deriveSeed(how.how.seed, round);
  const { epochs } = await fit(network, how.data, { ...how.how, seed, ...(signal && { signal }) });
  return epochs.at(-1)?.loss;
}

function checkMaskKept({ matrix }: Linear, mask: BlockMask, l: number): void {
  const now = matrix.mask;
  if (now.grid.equals(mask.grid) && now.kept.every((bit, i) => bit === mask.kept[i])) return;
  throw new BlocksparseError('INVALID_STATE', `retrain changed which blocks network.linears[${l}] has`);
}

function quality(
  network: Network,
  { validation }: PruningPlan,
  trainingLoss: number | undefined,
): Pick<RoundReport, 'loss' | 'accuracy'> {
  if (validation === null) return trainingLoss === undefined ? {} : { loss: trainingLoss };
  const { loss, accuracy } = evaluate(network, validation.data, { loss: validation.loss });
  return Number.isNaN(accuracy) ? { loss } : { loss, accuracy };
}
