/** RESULTS.md and its pictures, from the kept cells alone. */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { barChart, lineChart } from '../../dist/report/svg.js';
import {
  DENSITY_NAMES,
  METHOD_BLOCKS,
  METHODS,
  paperDensity,
  REPORTED,
  ROUNDS,
  SHORT_ROUND,
} from './grid.mjs';
import { BATCHES } from './measure.mjs';
import { REFERENCE_DENSE, referenceOf } from './reference.mjs';

const LAST_ROUND = ROUNDS - 1;
const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
/** Standard deviation of a sample; NaN for one value. */
const deviation = (values) => {
  const middle = mean(values);
  return Math.sqrt(values.reduce((sum, v) => sum + (v - middle) ** 2, 0) / (values.length - 1));
};
/** "88.31 ± 0.20" (mean and standard deviation), or the one value. */
const spread = (values, digits = 2) =>
  values.length === 0
    ? '–'
    : mean(values).toFixed(digits) + (values.length > 1 ? ` ± ${deviation(values).toFixed(digits)}` : '');
const signed = (value, digits = 2) => (value >= 0 ? '+' : '−') + Math.abs(value).toFixed(digits);
const markdown = (head, rows) =>
  [head, head.map((_, i) => (i === 0 ? '---' : '---:')), ...rows]
    .map((row) => `| ${row.join(' | ')} |`)
    .join('\n');

class Cells {
  constructor(folder) {
    this.all = readdirSync(folder)
      .filter((name) => name.endsWith('.json'))
      .sort()
      .map((name) => JSON.parse(readFileSync(join(folder, name), 'utf8')));
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

/** "+1.02 ± 0.11": mean and standard error of paired differences. */
const gainText = (gains) =>
  gains.length === 0
    ? '–'
    : signed(mean(gains)) +
      (gains.length > 1 ? ` ± ${(deviation(gains) / Math.sqrt(gains.length)).toFixed(2)}` : '');

export async function report(cellFolder, outFolder) {
  const cells = new Cells(cellFolder);
  const plots = join(outFolder, 'plots');
  rmSync(plots, { recursive: true, force: true });
  mkdirSync(plots, { recursive: true });
  const plot = (name, svg, alt) => {
    writeFileSync(join(plots, `${name}.svg`), `${svg}\n`);
    return `![${alt}](plots/${name}.svg)`;
  };
  const dataSets = [...new Map(cells.all.map((c) => [c.dataSet, c.dataSetName]))];
  const text = [
    intro(cells),
    ...dataSets.flatMap(([key, name]) => [
      `## ${name}`,
      findings(cells, key),
      accuracyTable(cells, key),
      accuracyPlots(cells, key, name, plot),
      controls(cells, key),
      densities(cells, key),
      better(cells, key, name, plot),
      storage(cells, key, name, plot),
      speed(cells, key, name, plot),
    ]),
  ];
  writeFileSync(join(outFolder, 'RESULTS.md'), `${text.filter(Boolean).join('\n\n')}\n`);
  console.log(`${cells.all.length} cells: ${join(outFolder, 'RESULTS.md')}`);
}

function intro({ all }) {
  const { budget, environment } = all[0];
  const seeds = new Set(all.map(({ seed }) => seed)).size;
  return `# LeNet-300-100: block pruning, reproduced

Made by \`npm run paper -- report\` from the ${all.length} cells in \`cells/\`: do not edit.

784-300-100-10 with ReLU, logits and cross-entropy. ${budget.denseEpochs} dense epochs, then in each of ${ROUNDS} rounds 20 % / 20 % /
10 % of the remaining blocks of the three layers go and the network is retrained for ${budget.epochs} epochs from the weights it
has. Adam ${budget.optimizer.learningRate} with cosine decay, a fresh optimizer each time, batch ${budget.batchSize}. The last ${budget.validation} training images choose the
epoch; the test set is read once for each number here. Means ± standard deviations over seeds (${seeds}, unless a table
says otherwise); gains are paired by seed, with their standard error. All cells of a seed start from the same dense
network. ${environment.cpu}, ${environment.backend} ${environment.isa} kernels, node ${environment.node}.

The paper's own numbers are not set beside these: its runs never zeroed gradients, applied softmax before
cross-entropy, chose the best of hundreds of epochs on the test set and gave the dense and the pruned networks
different budgets. *Reference* below is a clean PyTorch run of the same loop (2 to 4 seeds).`;
}

/** What held and what did not, as far as numbers alone can say it. */
function findings(cells, key) {
  const lines = [];
  const dense = [
    ...new Map(
      cells.all.filter((c) => c.dataSet === key).map((c) => [c.seed, c.dense.testAccuracy * 100]),
    ).values(),
  ];
  const reference = REFERENCE_DENSE[key];
  lines.push(`Dense: ${spread(dense)} %${reference ? ` (reference ${reference})` : ''}.`);
  for (const stage of REPORTED) {
    const pairs = referenceOf(key, stage)
      .filter(([block]) => block !== 'random')
      .map(([block, accuracy]) => [cells.values(key, 'paper', block, stage), accuracy])
      .filter(([ours]) => ours.length > 0);
    if (pairs.length === 0) continue;
    const gap = mean(pairs.map(([ours, accuracy]) => mean(ours) - accuracy));
    const allowed = stage === LAST_ROUND ? 0.8 : 0.3;
    lines.push(
      `At ${DENSITY_NAMES[stage]} our means over ${pairs.length} blocks are ${signed(gap)} points from the reference: ` +
        `${gap >= -allowed ? 'held' : '**not held**'} (at most ${allowed} below).`,
    );
  }
  const sparse = Array.from({ length: ROUNDS }, (_, round) => round).filter(
    (round) => paperDensity(round) < 0.15 && cells.values(key, 'random', '4x4', round).length > 0,
  );
  if (sparse.length > 0) {
    const gains = sparse.map((round) => cells.gains(key, 'paper', '4x4', round, 'random'));
    const known = gains.filter((list) => list.length > 0).map(mean);
    if (known.length > 0)
      lines.push(
        `Block pruning against random blocks (4x4), at every density under 15 %: ${known.every((g) => g > 0) ? 'above' : '**not always above**'}, ` +
          `by ${Math.min(...known).toFixed(2)} to ${Math.max(...known).toFixed(2)} points.`,
      );
  }
  return lines.map((line) => `- ${line}`).join('\n');
}

function accuracyTable(cells, key) {
  const head = ['density', ...cells.blocks(key), '4x4 random', '4x4 dense, same epochs'];
  const rows = REPORTED.map((stage) => {
    const reference = new Map(referenceOf(key, stage));
    const cell = (values, name) =>
      spread(values) + (reference.has(name) && values.length > 0 ? ` (${reference.get(name)})` : '');
    return [
      DENSITY_NAMES[stage],
      ...cells.blocks(key).map((block) => cell(cells.values(key, 'paper', block, stage), block)),
      cell(cells.values(key, 'random', '4x4', stage), 'random'),
      cell(cells.values(key, 'dense', '4x4', stage), 'dense'),
    ];
  });
  return `### Test accuracy by block and density, %\n\nThe paper's recipe; the reference in brackets.\n\n${markdown(
    head.map((name) => name.replace('4x4 dense', 'dense')),
    rows,
  )}`;
}

function accuracyPlots(cells, key, name, plot) {
  const chosen = ['1x1', '2x2', '4x4', '8x8', '16x16'].filter((b) => cells.of(key, 'paper', b).length > 0);
  const series = chosen.map((block) => ({ name: block, points: curve(cells, key, 'paper', block) }));
  const random = curve(cells, key, 'random', '4x4');
  if (random.length > 0) series.push({ name: 'random 4x4', points: random });
  const squares = cells.blocks(key).filter((block) => /^(\d+)x\1$/.test(block));
  const sizes = REPORTED.map((stage) => ({
    name: DENSITY_NAMES[stage],
    points: squares
      .map((block) => [Number(block.split('x')[0]), cells.values(key, 'paper', block, stage)])
      .filter(([, values]) => values.length > 0)
      .map(([side, values]) => [side, mean(values)]),
  })).filter(({ points }) => points.length > 0);
  return [
    plot(
      `${key}-accuracy`,
      lineChart({
        title: `${name}: accuracy against density`,
        x: 'density, % of all weights',
        y: 'test accuracy, %',
        series,
        logX: true,
      }),
      'Accuracy against density, one line a block',
    ),
    plot(
      `${key}-block-size`,
      lineChart({
        title: `${name}: accuracy against block size`,
        x: 'side of the block',
        y: 'test accuracy, %',
        series: sizes,
      }),
      'Accuracy against block size, one line a density',
    ),
  ].join('\n\n');
}

/** [density %, mean accuracy] of each round, the sparsest first. */
function curve(cells, key, method, block) {
  const points = [];
  for (let stage = LAST_ROUND; stage >= 0; stage--) {
    const accuracy = cells.values(key, method, block, stage);
    if (accuracy.length === 0) continue;
    const density = cells.values(key, method, block, stage, (record) => record.density * 100);
    points.push([mean(density), mean(accuracy)]);
  }
  return points;
}

function controls(cells, key) {
  const names = {
    paper: "the paper's rounds",
    'one-shot': 'one shot, then the same epochs',
    cubic: 'cubic schedule, the same epochs',
    'mean-abs-global': 'one order over all layers',
    random: 'random blocks',
    dense: 'dense, the same epochs',
  };
  const rows = Object.entries(names).map(([method, name]) => {
    const gains = cells.gains(key, method, '4x4', SHORT_ROUND);
    return [
      name,
      spread(cells.values(key, method, '4x4', SHORT_ROUND)),
      method === 'paper' ? '' : gainText(gains),
    ];
  });
  return `### Schedules and controls, 4x4 at ${DENSITY_NAMES[SHORT_ROUND]}\n\n${markdown(['', 'test accuracy, %', "against the paper's"], rows)}`;
}

function densities(cells, key) {
  const rows = cells
    .blocks(key)
    .map((block) => [
      block,
      ...['layer 1', 'layer 2', 'layer 3'].map((_, l) =>
        spread(cells.values(key, 'paper', block, LAST_ROUND, (record) => record.layerDensities[l] * 100)),
      ),
      spread(cells.values(key, 'paper', block, LAST_ROUND, (record) => record.density * 100)),
    ]);
  return `### Real density after the last round, %\n\nOf the weights that exist, the paper's recipe; ${DENSITY_NAMES[LAST_ROUND]} in all if blocks were arbitrarily fine.\n\n${markdown(['block', 'layer 1', 'layer 2', 'layer 3', 'all'], rows)}`;
}

function better(cells, key, name, plot) {
  const methods = METHODS.filter((method) => METHOD_BLOCKS.some((b) => cells.of(key, method, b).length > 0));
  if (methods.length === 0) return '';
  const parts = [SHORT_ROUND, LAST_ROUND].map((stage) => {
    const blocks = METHOD_BLOCKS.filter((block) => cells.values(key, 'paper', block, stage).length > 0);
    const rows = ['paper', ...methods].map((method) => [
      method,
      ...blocks.map((block) =>
        method === 'paper'
          ? spread(cells.values(key, 'paper', block, stage))
          : `${gainText(cells.gains(key, method, block, stage))} (${cells.gains(key, method, block, stage).length})`,
      ),
    ]);
    const drawn = ['paper', 'mean-abs-global', 'taylor', 'taylor-global', 'fisher-global', 'variance-global'];
    const whole = blocks.filter((block) =>
      drawn.every(
        (method) =>
          (!methods.includes(method) && method !== 'paper') ||
          cells.values(key, method, block, stage).length > 0,
      ),
    );
    const series = drawn
      .filter((method) => method === 'paper' || methods.includes(method))
      .map((method) => ({
        name: method,
        values: whole.map((block) => 100 - mean(cells.values(key, method, block, stage))),
      }));
    const density = DENSITY_NAMES[stage];
    const picture =
      whole.length === 0
        ? ''
        : `\n\n${plot(
            `${key}-methods-${stage === LAST_ROUND ? 'last' : 'short'}`,
            barChart({
              title: `${name}: test error at ${density}`,
              x: 'block',
              y: 'error, % (lower is better)',
              categories: whole,
              series,
            }),
            `Test error of each method at ${density}`,
          )}`;
    return `At ${density}: the paper's accuracy, %, and the gains over it in points (paired seeds in brackets).\n\n${markdown(['method', ...blocks], rows)}${picture}`;
  });
  return `### Better scores, and one budget for all layers\n\n*-global*: one order of blocks over all layers, counted in weights; each layer keeps a quarter of the mean density and
one block, and no row of the last layer loses all its blocks. Its densities fall by the same share each round and are
within 0.1 points of the paper's. Scores are summed over 64 batches of training images each round.\n\n${parts.join('\n\n')}\n\n${verdict(cells, key, methods)}`;
}

/** Points over the paper's recipe at the last round that were aimed for on Fashion-MNIST. */
const GOALS = { '4x4': 1.0, '8x8': 1.5, '16x16': 1.5, '16x1': 3.0 };

/** Each method against the goals, and where it loses beyond two standard errors. */
function verdict(cells, key, methods) {
  const lines = methods.map((method) => {
    const goals = Object.entries(GOALS)
      .map(([block, goal]) => [block, goal, cells.gains(key, method, block, LAST_ROUND)])
      .filter(([, , gains]) => gains.length > 0);
    const missed = goals.filter(([, goal, gains]) => mean(gains) < goal).map(([block]) => block);
    const losses = Array.from({ length: ROUNDS }, (_, stage) => stage).flatMap((stage) =>
      METHOD_BLOCKS.map((block) => [block, stage, cells.gains(key, method, block, stage)]).filter(
        ([, , gains]) =>
          gains.length > 1 &&
          mean(gains) < (-2 * deviation(gains)) / Math.sqrt(gains.length) &&
          mean(gains) < 0,
      ),
    );
    const lost = losses.map(
      ([block, stage, gains]) =>
        `${block} at ${(paperDensity(stage) * 100).toFixed(1)} % (${gainText(gains)})`,
    );
    const reached =
      key !== 'fashion'
        ? ''
        : ` goals reached: ${goals.length - missed.length} of ${goals.length}${missed.length > 0 ? `, not ${missed.join(', ')}` : ''};`;
    return `- *${method}*:${reached} ${lost.length === 0 ? 'no loss beyond two standard errors' : `loses beyond two standard errors: ${lost.join(', ')}`}.`;
  });
  return `Goals at ${DENSITY_NAMES[LAST_ROUND]} on Fashion-MNIST: ${Object.entries(GOALS)
    .map(([block, goal]) => `${block} +${goal}`)
    .join(', ')}; losses are looked for at every round.\n\n${lines.join('\n')}`;
}

const KIB = 1024;

function storage(cells, key, name, plot) {
  const blocks = cells.blocks(key);
  const at = (block, format) =>
    mean(cells.values(key, 'paper', block, SHORT_ROUND, ({ bytes }) => bytes[format] / KIB));
  const known = blocks.filter((block) => cells.values(key, 'paper', block, SHORT_ROUND).length > 0);
  if (known.length === 0) return '';
  const rows = known.map((block) => [
    block,
    ...['dense', 'csr', 'bsr'].map((format) => at(block, format).toFixed(1)),
    `${(at(block, 'dense') / at(block, 'bsr')).toFixed(1)}x`,
  ]);
  const line = (format, block) => ({
    name: format === 'csr' ? 'CSR' : `BSR ${block}`,
    points: Array.from({ length: ROUNDS }, (_, i) => LAST_ROUND - i).map((stage) => [
      mean(cells.values(key, 'paper', block, stage, ({ density }) => density * 100)),
      mean(cells.values(key, 'paper', block, stage, ({ bytes }) => bytes[format] / KIB)),
    ]),
  });
  const base = known.includes('1x1') ? '1x1' : known[0];
  const shown = known.filter((block) => ['2x2', '4x4', '16x16'].includes(block));
  const dense = { name: 'dense', level: true, points: [[1, at(base, 'dense')]] };
  const { points } = line('csr', base);
  return `### Bytes\n\nKiB of all weights with their indices, at ${DENSITY_NAMES[SHORT_ROUND]}.\n\n${markdown(['block', 'dense', 'CSR', 'BSR', 'dense / BSR'], rows)}\n\n${plot(
    `${key}-bytes`,
    lineChart({
      title: `${name}: bytes against density`,
      x: 'density, % of all weights',
      y: 'KiB',
      series: [
        { ...dense, points: [[points[0][0], dense.points[0][1]]] },
        line('csr', base),
        ...shown.map((block) => line('bsr', block)),
      ],
      logX: true,
    }),
    'Bytes against density by format',
  )}`;
}

/** CSR as fast as we have it: the plain kernel, or blocks of one weight. */
const csrTime = ({ csr, csr1x1 }) => Math.min(csr, csr1x1);

function speed(cells, key, name, plot) {
  const times = (block, stage, m, pick) =>
    cells
      .values(key, 'paper', block, stage, ({ microseconds }) => microseconds && pick(microseconds[m]))
      .filter((time) => time !== undefined);
  const known = cells
    .blocks(key)
    .filter((block) => times(block, SHORT_ROUND, 1, ({ bsr }) => bsr).length > 0);
  if (known.length === 0) return '';
  const tables = [SHORT_ROUND, LAST_ROUND].map((stage) => {
    const rows = known.map((block) => [
      block,
      ...BATCHES.flatMap((m) =>
        [({ dense }) => dense, csrTime, ({ bsr }) => bsr].map((pick) => {
          const values = times(block, stage, m, pick);
          return values.length === 0 ? '–' : mean(values).toPrecision(3);
        }),
      ),
    ]);
    const head = ['block', ...BATCHES.flatMap((m) => [`M=${m} dense`, 'CSR', 'BSR'])];
    return `At ${DENSITY_NAMES[stage]}:\n\n${markdown(head, rows)}`;
  });
  const shown = known.filter((block) => ['2x2', '4x4', '8x8', '16x16', '16x1'].includes(block)).slice(0, 5);
  const ratio = (block, m, pick) =>
    mean(times(block, SHORT_ROUND, m, (all) => all.dense)) / mean(times(block, SHORT_ROUND, m, pick));
  const series = [
    { name: 'CSR', values: BATCHES.map((m) => ratio(known[0], m, csrTime)) },
    ...shown.map((block) => ({
      name: `BSR ${block}`,
      values: BATCHES.map((m) => ratio(block, m, ({ bsr }) => bsr)),
    })),
  ];
  return `### Speed\n\nMicroseconds for the products of all three layers, one thread, row-major in and out, without bias and ReLU; dense is
our own, every block kept; CSR the faster of the plain kernel and of BSR with blocks of one weight.\n\n${tables.join('\n\n')}\n\n${plot(
    `${key}-speed`,
    barChart({
      title: `${name}: speed at ${DENSITY_NAMES[SHORT_ROUND]}, times dense`,
      x: 'batch rows M',
      y: 'times as fast as dense',
      categories: BATCHES.map((m) => `M = ${m}`),
      series,
      reference: 1,
    }),
    'Speed against dense by format and batch',
  )}`;
}
