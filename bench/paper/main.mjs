/**
 * The paper's experiments on LeNet-300-100.
 *
 *     npm run paper -- --data fashion=DIR --data mnist=DIR [--seeds 5] [--shard 1/2] [--only TEXT]
 *     npm run paper -- --quick
 *     npm run paper -- speed [--samples 9] [--out DIR [--only BLOCK]]
 *     npm run paper -- cache [--out DIR [--only BLOCK]]
 *     npm run paper -- report [--cells DIR] [--out DIR]
 *
 * One JSON a finished cell goes to bench/paper/cells; cells found there are not run again, so an interrupted grid
 * goes on where it was, and shards run elsewhere merge by copying their files there. DIR holds MNIST's four files.
 * --quick runs a small grid on the data in the repository, into bench/paper/runs/quick, and reports on it. --list
 * only names the cells that are still to run; --only runs those with TEXT in their name (16x1-s, since 16x1 is in
 * 16x16, too). findings.md, speed.json and cache.json are read beside the cells' own folder, or, with --cells, in
 * that of --out. --cells, --out and --work (trained dense networks) name other folders; --dense-epochs, --epochs and
 * --validation another budget.
 *
 * speed takes two minutes on a quiet machine and writes speed.json; cache needs valgrind and g++, takes some ten
 * minutes, and writes cache.json. Both depend on structure alone and need no cells. --samples: timings a median is taken of.
 */
import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { cpus } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

// One thread unless told otherwise; read when the kernels load, so this comes before them.
process.env.BLOCKSPARSE_THREADS ??= '1';
const { BlocksparseError, loadDataset, runtime, split } = await import('../../dist/index.js');
const { writeFileAtomic } = await import('../../dist/format/atomic.js');
const { denseNetwork, runCell } = await import('./cell.mjs');
const { readCell } = await import('./cells.mjs');
const { measureCache, missingForCache } = await import('./cache.mjs');
const { BLOCKS, gridOf, REPORTED } = await import('./grid.mjs');
const { measureSpeed } = await import('./measure.mjs');
const { report } = await import('./report.mjs');

const here = fileURLToPath(new URL('.', import.meta.url));
const FASHION = '/usr/share/datasets/fashion-mnist';

function fail(message) {
  console.error(message);
  process.exit(2);
}

// Data that is not there, a damaged cell, a folder that cannot be made: the message says it all.
process.on('uncaughtException', (error) => {
  if (error instanceof BlocksparseError || error.syscall !== undefined) fail(error.message);
  console.error(error);
  process.exit(1);
});

function wholeNumber(name, text) {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) fail(`--${name} must be a whole number from 1, but is ${text}`);
  return value;
}

function hasCells() {
  return existsSync(cellFolder) && readdirSync(cellFolder).some((name) => name.endsWith('.json'));
}

let parsed;
try {
  parsed = parseArgs({
    allowPositionals: true,
    options: {
      data: { type: 'string', multiple: true },
      seeds: { type: 'string' },
      shard: { type: 'string', default: '1/1' },
      only: { type: 'string' },
      quick: { type: 'boolean', default: false },
      list: { type: 'boolean', default: false },
      cells: { type: 'string' },
      out: { type: 'string' },
      work: { type: 'string' },
      'dense-epochs': { type: 'string', default: '20' },
      epochs: { type: 'string', default: '4' },
      validation: { type: 'string' },
      samples: { type: 'string', default: '9' },
    },
  });
} catch (error) {
  fail(error.message.split('\n')[0]);
}
const { values: flags, positionals } = parsed;
const { quick } = flags;
const root = quick ? join(here, 'runs/quick') : here;
const cellFolder = flags.cells ?? join(root, 'cells');
const outFolder = flags.out ?? root;

for (const name of ['cells', 'out', 'work'])
  if (statSync(flags[name] ?? '', { throwIfNoEntry: false })?.isDirectory() === false)
    fail(`--${name} must be a folder, but ${flags[name]} is a file`);

const samples = wholeNumber('samples', flags.samples);

if (positionals.length > 1 || !['run', 'speed', 'cache', 'report', undefined].includes(positionals[0]))
  fail(`unknown command ${positionals.join(' ')}: it is run (default), speed, cache or report`);
if (positionals[0] === 'speed' || positionals[0] === 'cache') {
  await measureStructure(positionals[0]);
  process.exit(0);
}
if (positionals[0] === 'report') {
  if (!hasCells()) fail(`no cells in ${cellFolder}`);
  await report(cellFolder, outFolder, flags.cells === undefined ? root : outFolder);
  process.exit(0);
}

function environment() {
  const { backend, isa, threads } = runtime();
  return { node: process.version, cpu: cpus()[0]?.model, backend, isa, threads };
}

/** Writes speed.json or cache.json: one line a record, so that changes can be read. */
async function measureStructure(what) {
  const blocks = BLOCKS.filter((block) => flags.only === undefined || block === flags.only);
  if (blocks.length === 0) fail(`--only must be one of ${BLOCKS.join(', ')}, but is ${flags.only}`);
  if (flags.only !== undefined && flags.out === undefined)
    fail(`--only needs --out: alone it would replace all of ${what}.json by one block`);
  const lacking = what === 'cache' ? missingForCache() : null;
  if (lacking !== null) {
    console.log(`cache: skipped, since ${lacking}`);
    return;
  }
  const date = new Date().toISOString().slice(0, 10);
  const { records, ...how } =
    what === 'cache'
      ? measureCache(blocks, console.log)
      : { environment: environment(), records: await measureSpeed(blocks, samples, console.log) };
  const lines = records.map((record) => JSON.stringify(record)).join(',\n');
  const head = JSON.stringify({ date, ...how }).slice(0, -1);
  mkdirSync(outFolder, { recursive: true });
  const file = join(outFolder, `${what}.json`);
  await writeFileAtomic(file, [Buffer.from(`${head},\n"records":[\n${lines}\n]}\n`)]);
  console.log(`${records.length} records: ${file}`);
}

/** [key, folder] of each data set; the folder undefined for the embedded one. */
function dataSets() {
  if (flags.data)
    return flags.data.map((text) => {
      const found = /^([a-z0-9]+)=(.+)$/.exec(text);
      return found ? found.slice(1) : fail(`--data must be NAME=DIR, but is ${text}`);
    });
  if (quick) return [['subset', undefined]];
  if (existsSync(FASHION)) return [['fashion', FASHION]];
  return fail('no data: give --data fashion=DIR and --data mnist=DIR, or --quick for the embedded subset');
}

const budget = {
  denseEpochs: wholeNumber('dense-epochs', flags['dense-epochs']),
  epochs: wholeNumber('epochs', flags.epochs),
  batchSize: 128,
  optimizer: { type: 'adam', learningRate: 1e-3 },
  rate: { type: 'cosine' },
  validation: wholeNumber('validation', flags.validation ?? (quick ? '1000' : '5000')),
};
const seeds = flags.seeds === undefined ? (quick ? 2 : 5) : wholeNumber('seeds', flags.seeds);
const shard = /^(\d+)\/(\d+)$/.exec(flags.shard)?.slice(1).map(Number);
if (!shard || shard[0] < 1 || shard[0] > shard[1])
  fail(`--shard must be i/n with i from 1 to n, but is ${flags.shard}`);

const sources = dataSets();
const names = sources.map(([name]) => name);
if (new Set(names).size < names.length) fail(`--data names a data set twice: ${names.join(', ')}`);
const fileOf = (cell) => join(cellFolder, `${cell.id}.json`);
const isNamed = ({ id }) => id.includes(flags.only ?? '');
const grid = gridOf(names, seeds, quick);
if (!grid.some(isNamed))
  fail(`--only must be part of a cell's name, but no cell has ${flags.only}; see --list`);
const mine = grid.filter((_, i) => i % shard[1] === shard[0] - 1).filter(isNamed);

/** Is the cell finished? One of another budget must not be mixed in. */
function isDone(cell) {
  const file = fileOf(cell);
  if (!existsSync(file)) return false;
  const found = readCell(file);
  if (JSON.stringify(found.budget) !== JSON.stringify(budget))
    fail(`${file} was run with ${JSON.stringify(found.budget)}, not ${JSON.stringify(budget)}`);
  return true;
}

const open = mine.filter((cell) => !isDone(cell));
console.log(`${mine.length} cells, ${mine.length - open.length} finished before, ${open.length} to run`);
if (flags.list) {
  for (const { id } of open) console.log(id);
  process.exit(0);
}

const loaded = new Map();
async function setsOf(name) {
  if (!loaded.has(name)) {
    const data = await loadDataset(new Map(sources).get(name));
    if (budget.validation >= data.train.count)
      fail(
        `--validation must be less than the ${data.train.count} images of ${name}, but is ${budget.validation}`,
      );
    loaded.set(name, { name: data.name, test: data.test, ...split(data.train, budget.validation) });
  }
  return loaded.get(name);
}

/** One line a round, so that cells are short to keep and to compare; shares to six digits. */
function jsonOf({ rounds, ...rest }) {
  const short = (key, value) =>
    typeof value === 'number' && !Number.isInteger(value)
      ? Number(value.toFixed(key === 'seconds' ? 1 : 6))
      : value;
  const lines = rounds.map((round) => JSON.stringify(round, short)).join(',\n');
  return `${JSON.stringify(rest, short).slice(0, -1)},\n"rounds":[\n${lines}\n]}\n`;
}

function clock(seconds) {
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

mkdirSync(cellFolder, { recursive: true });
const modelFolder = flags.work ?? join(here, 'runs', quick ? 'quick' : 'models');
mkdirSync(modelFolder, { recursive: true });
const start = performance.now();
for (const [i, cell] of open.entries()) {
  const began = performance.now();
  const sets = await setsOf(cell.dataSet);
  const { network, result: dense } = await denseNetwork(cell, sets, budget, modelFolder);
  const rounds = await runCell(cell, network, sets, budget);
  const content = {
    ...cell,
    dataSetName: sets.name,
    images: { train: sets.train.count, validation: sets.validation.count, test: sets.test.count },
    budget,
    environment: environment(),
    dense,
    rounds,
    seconds: (performance.now() - began) / 1000,
  };
  await writeFileAtomic(fileOf(cell), [Buffer.from(jsonOf(content))]);
  const spent = (performance.now() - start) / 1000;
  const left = (spent / (i + 1)) * (open.length - i - 1);
  const shown = rounds.filter(({ stage }) => REPORTED.includes(stage));
  console.log(
    `${i + 1}/${open.length} ${cell.id}: dense ${(dense.testAccuracy * 100).toFixed(1)}, ` +
      shown
        .map(
          ({ density, testAccuracy }) =>
            `${(density * 100).toFixed(2)} %: ${(testAccuracy * 100).toFixed(2)}`,
        )
        .join(', ') +
      `; ${content.seconds.toFixed(0)} s, about ${clock(left)} left`,
  );
}
if (quick) await report(cellFolder, outFolder, outFolder);
else {
  const given = ['cells', 'out'].filter((name) => flags[name] !== undefined);
  const same = given.map((name) => ` --${name} ${flags[name]}`).join('');
  const file = join(relative(process.cwd(), outFolder), 'RESULTS.md');
  console.log(`done; npm run paper -- report${same} writes ${file}`);
}
