/** What is run: one cell a (data set, method, block, seed). */

/** The paper's rounds: 20 %, 20 % and 10 % of the blocks of LeNet-300-100's layers, 16 times. */
export const ROUNDS = 16;
export const FRACTIONS = [0.2, 0.2, 0.1];
const WEIGHTS = [784 * 300, 300 * 100, 100 * 10];

/** The density of the whole network after round `round` (from 0), before rounding to whole blocks. */
export function paperDensity(round) {
  const all = WEIGHTS.reduce((a, b) => a + b);
  return WEIGHTS.reduce((sum, weights, l) => sum + weights * (1 - FRACTIONS[l]) ** (round + 1), 0) / all;
}

/** Rounds whose numbers stand in tables, with the densities they go by. */
export const DENSITY_NAMES = { 3: '41 %', 6: '21 %', 10: '8.67 %', 12: '5.57 %', 15: '2.87 %' };
export const REPORTED = Object.keys(DENSITY_NAMES).map(Number);
/** The round of 8.67 %, where one-shot and cubic pruning end. */
export const SHORT_ROUND = 10;
export const LAST_ROUND = ROUNDS - 1;

export const BLOCKS = ['1x1', '2x2', '3x3', '4x4', '5x5', '6x6', '8x8', '16x16', '16x1'];
/** Blocks on which the better scores and budgets are tried. */
export const METHOD_BLOCKS = ['4x4', '8x8', '16x16', '16x1'];
/** Section "better than the paper": how blocks are scored, and whether layers share one budget. */
export const METHODS = [
  'mean-abs-global',
  'taylor-global',
  'fisher-global',
  'variance-global',
  'taylor',
  'fisher',
  'variance',
];
/**
 * Run anew to each of these densities, by their rounds: schedules that are fast first and slow at the end, for the
 * paper's scores and for Fisher scores with one budget; and the latter with blocks that come back. Every density of
 * the tables for the default of `blocksparse prune`, since it must lose nowhere.
 */
export const ONE_RUN_EACH = {
  'mean-abs-cubic': [SHORT_ROUND, LAST_ROUND],
  'fisher-global-cubic': REPORTED,
  regrow: [SHORT_ROUND, LAST_ROUND],
};

/**
 * All cells in the order they are run: what the paper did before what is new, and three seeds of everything before
 * the next ones, so that an unfinished grid is already worth reading.
 */
export function gridOf(dataSets, seeds, quick) {
  const cells = [];
  const add = (tier, dataSet, method, block, seed) => {
    const id = `${dataSet}-${method}-${block}-s${seed}`;
    cells.push({ tier: seed <= 3 ? tier : tier + 2, id, dataSet, method, block, seed });
  };
  for (let seed = 1; seed <= seeds; seed++)
    for (const dataSet of dataSets) {
      for (const block of quick ? ['1x1', '4x4', '16x16'] : BLOCKS) add(0, dataSet, 'paper', block, seed);
      for (const method of ['random', 'dense', 'one-shot', 'cubic']) add(0, dataSet, method, '4x4', seed);
      for (const method of quick ? ['fisher-global', 'taylor-global'] : METHODS)
        for (const block of quick ? ['4x4', '16x16'] : METHOD_BLOCKS) add(1, dataSet, method, block, seed);
      if (!quick)
        for (const method of Object.keys(ONE_RUN_EACH))
          for (const block of METHOD_BLOCKS) add(1, dataSet, method, block, seed);
    }
  return cells.sort((a, b) => a.tier - b.tier).map(({ tier, ...cell }) => cell);
}
