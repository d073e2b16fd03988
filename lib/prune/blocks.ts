import { BlocksparseError } from '../errors.ts';
import type { Criterion } from '../kernels/kernels.ts';
import type { Network } from '../nn/network.ts';
import { deriveSeed } from '../nn/random.ts';
import { BsrMatrix } from '../sparse/bsr.ts';
import type { BlockGrid } from '../sparse/grid.ts';
import { BlockMask } from '../sparse/mask.ts';
import { isMeasured, measureBlocks } from './measured.ts';
import type { PruningPlan } from './options.ts';
import { scoreNamed } from './scores.ts';
import { type LayerScores, selectGlobally } from './select.ts';

/** Networks being pruned at this moment. */
const inPruning = new WeakSet<Network>();

/** Runs `work`, unless the network is being pruned already: then BlocksparseError INVALID_STATE. */
export async function exclusively<T>(network: Network, work: () => Promise<T>): Promise<T> {
  if (inPruning.has(network)) throw new BlocksparseError('INVALID_STATE', 'network is already being pruned');
  inPruning.add(network);
  try {
    return await work();
  } finally {
    inPruning.delete(network);
  }
}

/**
 * Divides each layer by its grid, the weights as they are. A layer that was divided otherwise keeps the blocks with
 * a weight that is not 0, a dense one all.
 */
export function divide(network: Network, grids: readonly BlockGrid[]): void {
  network.linears.forEach((linear, l) => {
    const { mask } = linear.matrix;
    if (mask.grid.equals(grids[l])) return;
    const all = mask.nnzb === mask.grid.blockCount ? BlockMask.full(grids[l]) : undefined;
    linear.setMatrix(BsrMatrix.fromDense(linear.weight(), grids[l], all));
  });
}

/** Leaves each layer the blocks of its mask; those it did not have begin at zero. */
export function setBlocks(network: Network, masks: readonly BlockMask[]): void {
  network.linears.forEach((linear, l) => {
    linear.setMatrix(BsrMatrix.fromDense(linear.weight(), masks[l].grid, masks[l]));
  });
}

/** The blocks of a network divided by the plan's grids, with their scores; `time` chooses the rows measured on. */
export function rank(
  network: Network,
  { grids, criterion, measurement, retrain }: PruningPlan,
  time: number,
): Required<Pick<LayerScores, 'scores' | 'grid' | 'among'>>[] {
  const seed = retrain !== null && typeof retrain !== 'function' ? retrain.how.seed : 0;
  const measured = isMeasured(criterion)
    ? measureBlocks(network, criterion, measurement!, deriveSeed(seed, time))
    : null;
  return network.linears.map((linear, l) => ({
    scores:
      measured?.[l] ??
      scoreNamed(`network.linears[${l}].weight`, linear.weight(), grids[l], criterion as Criterion),
    grid: grids[l],
    among: linear.matrix.mask,
  }));
}

/**
 * The blocks that stay at `sparsity`, in the plan's scope and down to its floors; an automatic floor is that of
 * `floorSparsity`.
 */
export function selectAt(
  layers: readonly LayerScores[],
  { scope, floors }: PruningPlan,
  sparsity: number,
  floorSparsity = sparsity,
): BlockMask[] {
  if (floors === 'auto') {
    const last = layers.length - 1;
    return selectGlobally(
      // A block row's blocks cover each of its rows, so no single row of outputs loses all its weights either.
      layers.map((layer, l) => ({ ...layer, everyRow: l === last })),
      { sparsity, floor: (1 - floorSparsity) / 4, leastBlocks: 1 },
    );
  }
  if (scope === 'global') return selectGlobally(layers, { sparsity, floor: floors });
  return layers.map((layer, l) => selectGlobally([layer], { sparsity, floor: floors[l] })[0]);
}
