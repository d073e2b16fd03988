/** Runs one cell: from a trained dense network to the numbers of every round. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import {
  BlockGrid,
  BlockMask,
  BsrMatrix,
  deriveSeed,
  evaluate,
  fit,
  Model,
  Network,
  paperSchedule,
  prune,
  regrow,
  scoreBlocks,
  selectBlocks,
  targetSparsity,
} from '../../dist/index.js';
import { Random } from '../../dist/nn/random.js';
import { FRACTIONS, LAST_ROUND, ONE_RUN_EACH, paperDensity, ROUNDS, SHORT_ROUND } from './grid.mjs';
import { bytesOf } from './measure.mjs';

export const LAYERS = [
  { type: 'linear', inFeatures: 784, outFeatures: 300 },
  { type: 'relu' },
  { type: 'linear', inFeatures: 300, outFeatures: 100 },
  { type: 'relu' },
  { type: 'linear', inFeatures: 100, outFeatures: 10 },
];
const ONE_BUDGET = { scope: 'global', floor: 'auto' };
/** Tells the retraining's seeds from the dense training's. */
const RETRAINING = 1_000_000;

function fitOptions(budget, epochs, seed, validation) {
  const { batchSize, optimizer, rate } = budget;
  return { epochs, batchSize, optimizer, rate, seed, validation };
}

/** Trained once a (data set, seed, budget) and kept in `folder`: all cells of that seed start from it. */
export async function denseNetwork({ dataSet, seed }, sets, budget, folder) {
  const { denseEpochs, batchSize, validation } = budget;
  const file = join(
    folder,
    `dense-${dataSet}-s${seed}-e${denseEpochs}-b${batchSize}-v${validation}.safetensors`,
  );
  if (existsSync(file)) {
    const model = await Model.load(file);
    return { network: model.toNetwork(), result: model.info };
  }
  const network = Network.create(LAYERS, seed);
  await fit(network, sets.train, fitOptions(budget, denseEpochs, seed, sets.validation));
  const result = {
    validationAccuracy: evaluate(network, sets.validation).accuracy,
    testAccuracy: evaluate(network, sets.test).accuracy,
  };
  await Model.fromNetwork(network, result).save(file);
  return { network, result };
}

/**
 * The records of all rounds. `stage` is the round of the paper's schedule that a record compares with, null where
 * there is none (the rounds of a cubic schedule before its last).
 */
export async function runCell(cell, network, sets, budget) {
  const { method, seed } = cell;
  const block = cell.block.split('x').map(Number);
  const retrain = (epochs) => ({
    data: sets.train,
    ...fitOptions(budget, epochs, deriveSeed(seed, RETRAINING), sets.validation),
  });
  const records = [];
  const record = (round, stage) => {
    records.push({
      round,
      stage,
      density: network.density,
      layerDensities: network.linears.map(({ matrix }) => matrix.density),
      validationAccuracy: evaluate(network, sets.validation).accuracy,
      testAccuracy: evaluate(network, sets.test).accuracy,
      bytes: bytesOf(network),
    });
  };
  const retrained = async (round, epochs) => {
    const { data, ...how } = retrain(epochs);
    await fit(network, data, { ...how, seed: deriveSeed(how.seed, round) });
  };

  const oneRun = {
    async 'mean-abs-cubic'(stage) {
      for (let round = 0; round <= stage; round++) {
        dropCubic(network, block, round, stage);
        await retrained(round, budget.epochs);
      }
    },
    async 'fisher-global-cubic'(stage) {
      const schedule = { type: 'cubic', sparsity: 1 - paperDensity(stage), rounds: stage + 1 };
      await prune(network, {
        blockShape: block,
        criterion: 'fisher',
        ...ONE_BUDGET,
        schedule,
        retrain: retrain(budget.epochs),
      });
    },
    async regrow(stage) {
      const epochs = (stage + 1) * budget.epochs;
      const steps = epochs * Math.ceil(sets.train.count / budget.batchSize);
      await regrow(network, {
        blockShape: block,
        sparsity: 1 - paperDensity(stage),
        retrain: retrain(epochs),
        // 200, but for trials with tiny budgets.
        every: Math.min(200, Math.floor(steps / 10)),
      });
    },
  };

  if (method === 'random' || method === 'dense') {
    const random = new Random(seed, RETRAINING);
    const randomly = (_, grid) => Float32Array.from({ length: grid.blockCount }, () => random.next());
    for (let round = 0; round < ROUNDS; round++) {
      if (method === 'random') drop(network, block, randomly, (l) => ({ dropFraction: FRACTIONS[l] }));
      await retrained(round, budget.epochs);
      record(round, round);
    }
  } else if (method === 'one-shot') {
    drop(network, block, scoreBlocks, (l) => ({ sparsity: sparsityOf(l, SHORT_ROUND) }));
    await retrained(0, (SHORT_ROUND + 1) * budget.epochs);
    record(0, SHORT_ROUND);
  } else if (method === 'cubic')
    for (let round = 0; round <= SHORT_ROUND; round++) {
      dropCubic(network, block, round, SHORT_ROUND);
      await retrained(round, budget.epochs);
      record(round, round === SHORT_ROUND ? round : null);
    }
  else if (method in ONE_RUN_EACH) {
    // To each density with all the epochs that the paper's rounds take to get there.
    const dense = network.snapshot();
    for (const [i, stage] of ONE_RUN_EACH[method].entries()) {
      network.restore(dense);
      await oneRun[method](stage);
      record(i, stage);
    }
  } else {
    const global = method.endsWith('-global');
    const criterion = method === 'paper' ? 'mean-abs' : method.replace('-global', '');
    // The same share of what is left each round, to the same end: at most 0.2 points of density apart.
    const schedule = { type: 'exponential', sparsity: 1 - paperDensity(LAST_ROUND), rounds: ROUNDS };
    const budgeted = { ...ONE_BUDGET, schedule };
    await prune(network, {
      blockShape: block,
      criterion,
      ...(global ? budgeted : { schedule: paperSchedule(3, ROUNDS) }),
      retrain: retrain(budget.epochs),
      onRound: ({ round }) => record(round, round),
    });
  }
  return records;
}

/** What layer `l` has lost after the paper's round `round`, where one-shot and cubic pruning end. */
function sparsityOf(l, round) {
  return 1 - (1 - FRACTIONS[l]) ** (round + 1);
}

/** Round `round` of a cubic schedule that ends after round `last`, each layer for itself. */
function dropCubic(network, block, round, last) {
  const due = (l) => ({ type: 'cubic', sparsity: sparsityOf(l, last), rounds: last + 1 });
  drop(network, block, scoreBlocks, (l) => ({ sparsity: targetSparsity(due(l), round) }));
}

/** Drops blocks of each layer l by `scoresOf(weight, grid)`, as many as `howMany(l)` says to selectBlocks. */
function drop(network, blockShape, scoresOf, howMany) {
  network.linears.forEach((linear, l) => {
    const grid = new BlockGrid([linear.outFeatures, linear.inFeatures], blockShape);
    const { mask } = linear.matrix;
    const among = mask.grid.equals(grid) ? mask : BlockMask.full(grid);
    const weight = linear.weight();
    const kept = selectBlocks(scoresOf(weight, grid), grid, { ...howMany(l), among });
    linear.setMatrix(BsrMatrix.fromDense(weight, grid, kept));
  });
}
