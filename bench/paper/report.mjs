/** RESULTS.md and its pictures, from the kept cells alone. */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { barChart, lineChart } from '../../dist/report/svg.js';
import { Cells } from './cells.mjs';
import {
  DENSITY_NAMES,
  LAST_ROUND,
  METHOD_BLOCKS,
  METHODS,
  ONE_RUN_EACH,
  paperDensity,
  REPORTED,
  ROUNDS,
  SHORT_ROUND,
} from './grid.mjs';
import { REFERENCE_DENSE, referenceOf } from './reference.mjs';
import { cacheSection, speedSection } from './structure.mjs';
import { deviation, gainText, markdown, mean, median, signed, spread } from './text.mjs';

/** `keptFolder` has findings.md, speed.json and cache.json, each if there is one. */
export async function report(cellFolder, outFolder, keptFolder) {
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
    written(keptFolder),
    ...dataSets.flatMap(([key, name]) => [
      `## ${name}`,
      findings(cells, key),
      accuracyTable(cells, key),
      againstReference(cells, key),
      accuracyPlots(cells, key, name, plot),
      controls(cells, key),
      densities(cells, key),
      better(cells, key, name, plot),
      storage(cells, key, name, plot),
    ]),
    speedSection(keptFolder, plot),
    cacheSection(keptFolder, plot),
  ];
  writeFileSync(join(outFolder, 'RESULTS.md'), `${text.filter(Boolean).join('\n\n')}\n`);
  console.log(`${cells.all.length} cells: ${join(outFolder, 'RESULTS.md')}`);
}

/** What people say about the numbers: findings.md, kept beside the report. */
function written(folder) {
  const file = join(folder, 'findings.md');
  return existsSync(file) ? readFileSync(file, 'utf8').trim() : '';
}

function intro({ all }) {
  const { budget } = all[0];
  const machines = new Set(
    all.map(({ environment: e }) => `${e.cpu}, ${e.backend} ${e.isa} kernels, node ${e.node}`),
  );
  const seeds = new Set(all.map(({ seed }) => seed)).size;
  return `# LeNet-300-100: block pruning, reproduced

Made by \`npm run paper -- report\` from the ${all.length} cells in \`cells/\`, \`speed.json\`, \`cache.json\` and
\`findings.md\`: edit the last, not this.

784-300-100-10 with ReLU, logits and cross-entropy. ${budget.denseEpochs} dense epochs, then in each of ${ROUNDS} rounds 20 % / 20 % /
10 % of the remaining blocks of the three layers go and the network is retrained for ${budget.epochs} epochs from the weights it
has. Adam ${budget.optimizer.learningRate} with cosine decay, a fresh optimizer each time, batch ${budget.batchSize}. The last ${budget.validation} training images choose the
epoch; the test set is read once for each number here. Means ± standard deviations over seeds (${seeds}, unless a table
says otherwise), plots show medians; gains are paired by seed, with their standard error. All cells of a seed start from the same dense
network. ${[...machines].join('; ')}.

The paper's own numbers are not set beside these: its runs never zeroed gradients, applied softmax before
cross-entropy, chose the best of hundreds of epochs on the test set and gave the dense and the pruned networks
different budgets. *Reference* below is a clean PyTorch run of the same loop (2 to 4 seeds).`;
}

/** Test accuracy, %, under which a network has lost whole classes. */
const COLLAPSED = 70;

/** Ours minus the reference, points: by block, then the mean over the blocks, which must not be far below. */
function againstReference(cells, key) {
  const ofStage = (stage) =>
    referenceOf(key, stage)
      .map(([block, accuracy]) => [
        block,
        (block === 'random'
          ? cells.values(key, 'random', '4x4', stage)
          : cells.values(key, 'paper', block, stage)
        ).map((value) => ({ gap: value - accuracy, collapsed: value < COLLAPSED })),
      ])
      .filter(([, runs]) => runs.length > 0);
  const stages = REPORTED.map((stage) => ({ stage, pairs: ofStage(stage) })).filter(({ pairs }) =>
    pairs.some(([block]) => block !== 'random'),
  );
  if (stages.length === 0) return '';
  const blocks = [...new Set(stages.flatMap(({ pairs }) => pairs.map(([block]) => block)))];
  const rows = stages.map(({ stage, pairs }) => {
    const allowed = stage === LAST_ROUND ? 0.8 : 0.3;
    const verdict = (choose) => {
      const gaps = pairs
        .filter(([block]) => block !== 'random')
        .map(([, runs]) => mean(runs.filter(choose).map(({ gap }) => gap)))
        .filter(Number.isFinite);
      return `${signed(mean(gaps))}, ${mean(gaps) >= -allowed ? 'held' : '**not held**'}`;
    };
    return [
      DENSITY_NAMES[stage],
      ...blocks.map((block) => gainText((new Map(pairs).get(block) ?? []).map(({ gap }) => gap))),
      verdict(() => true),
      verdict(({ collapsed }) => !collapsed),
      allowed,
    ];
  });
  const head = ['density', ...blocks, 'mean over blocks', 'without collapsed runs', 'at most below'];
  return `### Against the reference, points\n\nOurs minus the reference, with the standard error of ours; the reference's 2 to 4 seeds spread by 0.3 to 0.5, at\n2.87 % by up to 1. The mean over blocks is without random ones; a run under ${COLLAPSED} % has collapsed.\n\n${markdown(head, rows)}`;
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
  const collapsed = cells.all.flatMap(({ dataSet, method, block, seed, rounds }) =>
    rounds
      .filter(({ testAccuracy }) => dataSet === key && method !== 'random' && testAccuracy * 100 < COLLAPSED)
      .slice(0, 1)
      .map(({ density, testAccuracy }) => {
        const name = method === 'paper' ? block : `${method} ${block}`;
        return `${name} seed ${seed}, from ${(density * 100).toFixed(2)} % (${(testAccuracy * 100).toFixed(1)})`;
      }),
  );
  if (collapsed.length > 0)
    lines.push(
      `Runs that collapsed, with their first accuracy under ${COLLAPSED} %: ${collapsed.join('; ')}.`,
    );
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
      .map(([side, values]) => [side, median(values)]),
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

/** [density %, median accuracy] of each round, the sparsest first. */
function curve(cells, key, method, block) {
  const points = [];
  for (let stage = LAST_ROUND; stage >= 0; stage--) {
    const accuracy = cells.values(key, method, block, stage);
    if (accuracy.length === 0) continue;
    const density = cells.values(key, method, block, stage, (record) => record.density * 100);
    points.push([median(density), median(accuracy)]);
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
  const methods = [...METHODS, ...Object.keys(ONE_RUN_EACH)].filter((method) =>
    METHOD_BLOCKS.some((b) => cells.of(key, method, b).length > 0),
  );
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
    const drawn = ['paper', 'fisher', 'fisher-global', ...Object.keys(ONE_RUN_EACH)];
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
        values: whole.map((block) => 100 - median(cells.values(key, method, block, stage))),
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
at most 0.25 points above the paper's. Scores are summed over 64 batches of training images each round, *regrow*'s
over 16 each time. *-cubic*: in as many
rounds and epochs as the paper takes to that density, on a schedule that is fast first and slow at the end. *regrow*:
Fisher scores, one budget and that schedule in one training run with as many epochs, in which blocks come back.\n\n${parts.join('\n\n')}\n\n${verdict(cells, key, methods)}\n\n${everyDensity(cells, key)}\n\n${sources(cells, key)}`;
}

/** The default of `blocksparse prune` over the paper's recipe: nowhere may it lose. */
function everyDensity(cells, key) {
  const rows = REPORTED.map((stage) => [
    DENSITY_NAMES[stage],
    ...METHOD_BLOCKS.map((block) => gainText(cells.gains(key, 'fisher-global-cubic', block, stage))),
  ]);
  return `The default of \`blocksparse prune\`, *fisher-global-cubic*, over the paper's recipe at each density, points:\n\n${markdown(['density', ...METHOD_BLOCKS], rows)}`;
}

/** Points over the paper's recipe at the last round that were aimed for on Fashion-MNIST. */
const GOALS = { '4x4': 1.0, '8x8': 1.5, '16x16': 1.5, '16x1': 3.0 };

/** What the gain comes from: each part alone, together, and what comes on top. */
function sources(cells, key) {
  const steps = [
    ['Fisher scores alone', 'fisher', 'paper'],
    ['one budget alone', 'mean-abs-global', 'paper'],
    ['cubic schedule alone', 'mean-abs-cubic', 'paper'],
    ['scores and budget', 'fisher-global', 'paper'],
    ['cubic schedule on top of them', 'fisher-global-cubic', 'fisher-global'],
    ['all three', 'fisher-global-cubic', 'paper'],
    ['regrowth on top of all three', 'regrow', 'fisher-global-cubic'],
  ];
  const tables = [SHORT_ROUND, LAST_ROUND].map((stage) => {
    const rows = steps.map(([name, method, base]) => [
      name,
      ...METHOD_BLOCKS.map((block) => gainText(cells.gains(key, method, block, stage, base))),
    ]);
    return `At ${DENSITY_NAMES[stage]}:\n\n${markdown(['', ...METHOD_BLOCKS], rows)}`;
  });
  return `Where the gain comes from, points:\n\n${tables.join('\n\n')}`;
}

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
    .join(', ')}; losses are looked for at every density that a method was run to.\n\n${lines.join('\n')}`;
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
