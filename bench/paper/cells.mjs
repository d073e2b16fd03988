/** The kept cells, and values of them seed by seed. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { BlocksparseError } from '../../dist/index.js';

/** What `file` keeps. Throws a BlocksparseError that names a damaged one. */
export function readJson(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new BlocksparseError('INVALID_FILE', `${file}: ${error.message}`);
  }
}

const PARTS = [
  'dataSet',
  'method',
  'block',
  'seed',
  'dataSetName',
  'budget',
  'environment',
  'dense',
  'rounds',
];

/** The cell that `file` keeps, errors as above. */
export function readCell(file) {
  const cell = readJson(file);
  const lacking = PARTS.find((name) => cell?.[name] === undefined);
  if (lacking !== undefined)
    throw new BlocksparseError('INVALID_FILE', `${file}: is no cell: it has no ${lacking}`);
  return cell;
}

/** All cells of a folder. Throws a BlocksparseError for a damaged one, and for one of another budget. */
export class Cells {
  constructor(folder) {
    const files = readdirSync(folder).filter((name) => name.endsWith('.json'));
    this.all = files.sort().map((name) => readCell(join(folder, name)));
    const [first, ...rest] = this.all.map(({ budget }) => JSON.stringify(budget));
    const other = rest.findIndex((budget) => budget !== first);
    if (other >= 0)
      throw new BlocksparseError(
        'INVALID_FILE',
        `${join(folder, files[other + 1])} was run with ${rest[other]}, but ${files[0]} with ${first}`,
      );
  }

  of(dataSet, method, block = '4x4') {
    return this.all.filter(
      (cell) => cell.dataSet === dataSet && cell.method === method && cell.block === block,
    );
  }

  /** One value a seed: `pick` of the record at `stage`. */
  values(dataSet, method, block, stage, pick = ({ testAccuracy }) => testAccuracy * 100) {
    return this.of(dataSet, method, block).flatMap(({ rounds }) =>
      rounds.filter((record) => record.stage === stage).map(pick),
    );
  }

  /** Differences in points of test accuracy to the paper's recipe, seed by seed. */
  gains(dataSet, method, block, stage, base = 'paper') {
    const accuracy = (cell) => cell.rounds.find((record) => record.stage === stage)?.testAccuracy;
    const bases = new Map(this.of(dataSet, base, block).map((cell) => [cell.seed, accuracy(cell)]));
    return this.of(dataSet, method, block)
      .filter((cell) => bases.get(cell.seed) !== undefined && accuracy(cell) !== undefined)
      .map((cell) => (accuracy(cell) - bases.get(cell.seed)) * 100);
  }

  blocks(dataSet) {
    const found = new Set(
      this.all.filter((c) => c.dataSet === dataSet && c.method === 'paper').map((c) => c.block),
    );
    return [...found].sort((a, b) => size(a) - size(b));
  }
}

const size = (block) => {
  const [r, c] = block.split('x').map(Number);
  return r * c + (r === c ? 0.5 : 0);
};
