/** The benchmark within its clean process: loads what there is, measures what was asked for, writes it down. */
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { runtime } from '../../dist/index.js';
import { kernels } from '../../dist/kernels/choose.js';
import { significant } from '../../dist/report/numbers.js';
import { measureExtras } from './extras.mjs';
import { judge } from './goals.mjs';
import { pair } from './grid.mjs';
import { L2_BYTES, measureGroup, operands, speedInOrder } from './group.mjs';
import { Cores, interleave } from './measure.mjs';
import { loadPeers } from './peers.mjs';
import { writePlots } from './plots.mjs';
import { callCost, measureServing } from './serving.mjs';
import {
  breakEvenMarkdown,
  breakEvens,
  breakEvenText,
  cellName,
  derive,
  goalTable,
  groupBy,
  groupTable,
  groupTitle,
  markdown,
  slowerThanDense,
} from './summary.mjs';
import { tileOf, tileShares } from './tiles.mjs';

/** Half of L2 and of this kind of machine's L3, so that all of it stays there, and far more than any cache. */
const LEVELS = { L2: L2_BYTES, L3: 8 * 1024 * 1024, DRAM: 512 * 1024 * 1024 };
const READ_BYTES = 2e9;
const READINGS = 5;

/** GB/s read from each level by so many threads, each of its own L2 and a part of what they share: of five, the best. */
function bandwidth(machine, isa, threads) {
  return Object.fromEntries(
    Object.entries(LEVELS).map(([level, all]) => {
      const bytes = level === 'L2' ? all : all / threads;
      const calls = Math.ceil(READ_BYTES / READINGS / bytes);
      const times = Array.from({ length: READINGS }, () => machine.read(isa, threads, bytes, calls));
      return [level, (bytes * calls * threads) / Math.min(...times) / 1e6];
    }),
  );
}

const titleOf = ({ cpu, cores, node, kernels, date }) =>
  `${cpu}, ${cores} cores, node ${node}, ours ${kernels}, ${date}; medians`;

const HINTED = `--goals packs each group with batchHint = its smallest batch; tables without --goals have no hint.
"core" is the share of the peak that multiply-adds reach beside integer additions, all in registers, before and after
the samples. Where it is lower than elsewhere on the same machine, others use the same cores, and kernels are slower.`;

const LEGEND = `In each cell first a call of BsrLinear.forward, row-major in and out: its time, and how many times as
fast it is as the fastest dense of its run. Then the same of the layer within a network, with its share of the peak on
the blocks that are left; of a layer that is not square that is the mean with one of the transposed shape. The fastest
dense of the first row is a median over the blocks' runs.`;

const UNITS = {
  ours: 'µs',
  network: 'µs',
  dense: 'µs',
  sparse: 'µs',
  peak: 'GFLOP/s',
  l2: 'GB/s',
  bandwidth: 'GB/s',
  sparsity: '%',
};

/** What this run is made of: printed, and kept with the results. */
function describe({ machine, dense, blocks, missing }, threads) {
  const { backend, isa } = runtime();
  const peers = [...dense, ...(blocks ? [blocks] : [])];
  const about = {
    date: new Date().toISOString().slice(0, 10),
    cpu: cpus()[0].model,
    cores: cpus().length,
    node: process.version,
    kernels: `${backend} ${isa}`,
    peers: Object.fromEntries(peers.map(({ name, version }) => [name, version])),
    missing,
  };
  if (machine) {
    about.isa = machine.isas.includes(isa) ? isa : machine.isas[0];
    about.bandwidth = Object.fromEntries(threads.map((t) => [t, bandwidth(machine, about.isa, t)]));
  }
  console.log(titleOf(about));
  for (const { name, version } of peers) console.log(`  ${name}: ${version}`);
  if (missing.length > 0) console.log(`  not installed, left out: ${missing.join(', ')} (--help says how)`);
  if (!machine)
    console.log('  without machine, which `npm run bench:peers` builds, no peak and no share of it');
  else console.log(`  peaks, shares of them and rates of reading are of ${about.isa}`);
  for (const [t, levels] of Object.entries(about.bandwidth ?? {}))
    console.log(
      `  read by ${t === '1' ? 'one thread' : `${t} threads`}, GB/s: ${Object.entries(levels)
        .map(([name, rate]) => `${name} ${significant(rate)}`)
        .join(', ')}`,
    );
  return about;
}

/** Every row of the groups, each group printed as it is done. */
async function measure(list, peers, isa, coresOf) {
  const rows = [];
  const kernelsRun = new Set();
  let shared;
  for (const group of list) {
    if (shared?.shape !== group.shape) {
      const batches = list.filter(({ shape }) => shape === group.shape).flatMap((one) => one.batches);
      shared = { shape: group.shape, ...operands(group.shape, batches) };
    }
    const context = { kernels: kernels(), machine: peers.machine, isa, peers, cores: coresOf(group.threads) };
    const measured = [];
    for await (const row of measureGroup(group, shared, context)) measured.push(derive(row));
    for (const list of groupBy(measured, 'batch')) {
      console.log(`\n${groupTitle(list)}\n${groupTable(list)}`);
      for (const [peer, kernel] of Object.entries(list[0].kernels))
        if (!kernelsRun.has(`${peer} ${kernel}`)) {
          kernelsRun.add(`${peer} ${kernel}`);
          console.log(`${peer} ran ${kernel}`);
        }
    }
    rows.push(...measured);
  }
  return rows;
}

/**
 * The share of the peak of a row-major cell without the time of a call and, where it goes by panels, that of moving the
 * lines of x and y to them and from them: so much is left for the product and for transposing.
 */
async function withoutCall(machine, isa, { shape, batch, kernel, tile, ours, work, peak }, call, cores) {
  const share = (time) => work / time / 1e3 / peak;
  if (kernel === 'rows') return { 'without the call': share(ours - call) };
  const [n, k] = pair(shape);
  const [, rows] = tile;
  const moves = { time: (calls) => machine.move(isa, Math.ceil(batch / rows), rows, k, n, calls) };
  const [{ median: time }] = await interleave([moves], 1, cores);
  return { 'without the call and moving x and y': share(ours - call - time) };
}

/** Whether the goal is one of the layer alone, not of a network. */
const isRowMajor = ({ worst, cell }) => worst === cell.derived.ours.share;

/** What limits one goal of the grid: { limit }, or nothing where it is not known. */
async function limitOf(goal, tileShare, machine, isa, call, cores) {
  const { unit, cell } = goal;
  const { dense, fastestDense, packedBytes, read } = cell;
  if (cell.batch === 1) {
    if (unit === 'x dense')
      return { limit: { at: 'the rate of reading', dense: dense[fastestDense] / read } };
    return { limit: { reading: packedBytes / read / 1e3 } };
  }
  if (unit === 'x dense')
    return {
      limit: { at: 'the peak', dense: (cell.dense[cell.fastestDense] * cell.peak * 1e3) / cell.work },
    };
  if (unit !== 'peak') return {};
  const rowMajor = isRowMajor(goal);
  const reading = cell.work / read / 1e3 / cell.peak;
  return {
    limit: {
      ...tileShare,
      // Less than half as long as the products take limits nothing.
      ...(reading < 2 && { 'weights read once': reading }),
      ...(rowMajor && (await withoutCall(machine, isa, cell, call, cores))),
      'blocks in order': goal.worst * (await speedInOrder(cell, rowMajor, kernels(), cores)),
      core: cell.core[rowMajor ? 'ours' : 'network'],
      read: cell.l2,
    },
  };
}

/** Each goal with its `limit`: what the machine does in its place when it does nothing else. */
async function withLimits(goals, machine, isa, coresOf) {
  const tiles = new Map(
    goals
      .filter(({ unit, cell }) => unit === 'peak' && cell !== undefined)
      // The tile is known of the layer alone.
      .filter((goal) => isRowMajor(goal) || goal.cell.kernel === goal.cell.networkKernel)
      .map((goal) => {
        const { cell } = goal;
        const { shape, block, density } = cell;
        return [goal, { tile: tileOf(machine, isa, cell), k: pair(shape)[1], c: pair(block)[1], density }];
      })
      .filter(([, { tile }]) => tile !== undefined),
  );
  const shares = await tileShares(machine, isa, [...tiles.values()], coresOf(1));
  const ofTile = new Map([...tiles].map(([goal, { tile }], i) => [goal, { tile, ...shares[i] }]));
  const call = await callCost();
  const limited = [];
  for (const goal of goals)
    limited.push(
      goal.cell === undefined
        ? goal
        : {
            ...goal,
            ...(await limitOf(goal, ofTile.get(goal), machine, isa, call, coresOf(goal.cell.threads))),
          },
    );
  return limited;
}

function printSlower(rows) {
  const slower = slowerThanDense(rows);
  console.log(`\nslower than our own dense by more than 5 %: ${slower.length} of ${rows.length} cells`);
  for (const row of slower)
    console.log(
      `  ${cellName(row)}: ${significant(row.ours)} µs, dense ${significant(row.dense['our dense'])}${row.storedDense ? '; it is stored dense, too' : ''}`,
    );
}

function write(out, results) {
  writeFileSync(join(out, 'results.json'), `${JSON.stringify(results, null, 1)}\n`);
  const sparsities = [...new Set(results.rows.map((row) => row.sparsity))];
  writeFileSync(
    join(out, 'tables.md'),
    [
      `${titleOf(results.about)}\n\n${LEGEND}\n`,
      ...sparsities.map((sparsity) => markdown(results.rows, sparsity)),
      ...(results.goals ? [`${HINTED}\n\n\`\`\`\n${goalTable(results.goals)}\n\`\`\`\n`] : []),
      ...(results.breakEven ? [breakEvenMarkdown(results.breakEven)] : []),
    ].join('\n'),
  );
  console.log(`\n${join(out, 'results.json')}, tables.md and ${writePlots(out, results.rows)} plots written`);
}

/** Where the machine is not quiet, cells that were asked for are measured up to so many times as long. */
const MOST_RUNS = 5;

/**
 * Measures `groups` of cells and judges them by `goals`, if any: with a `shape` of their own, by nothing else. With
 * `quietly` the samples of quiet moments count, for as long as it takes to find some.
 */
export async function run({ groups, goals, serving, out, shape, quietly }) {
  if (serving) {
    console.log(goalTable(await measureServing()));
    return;
  }
  const peers = await loadPeers();
  const about = describe(peers, [...new Set(groups.map(({ threads }) => threads))]);
  const cores = new Map();
  const coresOf = (threads) => {
    if (peers.machine && !cores.has(threads))
      cores.set(threads, new Cores(peers.machine, about.isa, threads, quietly ? MOST_RUNS : 1));
    return cores.get(threads);
  };
  const rows = await measure(groups, peers, about.isa, coresOf);
  const results = { about, units: UNITS, rows };
  if (goals) {
    results.goals = judge(rows, goals);
    if (shape === undefined) results.goals.push(...(await measureServing()));
    if (peers.machine) {
      results.goals = await withLimits(results.goals, peers.machine, about.isa, coresOf);
      if (shape === undefined)
        results.goals.push(...(await measureExtras(peers.machine, about.isa, coresOf(1))));
    }
    console.log(`\n${HINTED}`);
    console.log(goalTable(results.goals));
  } else if (groups[0].sparsities.length > 1) {
    results.breakEven = breakEvens(rows);
    console.log(`\n${breakEvenText(results.breakEven)}`);
  }
  printSlower(rows);
  if (out !== undefined) write(out, results);
}
