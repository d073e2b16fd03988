/** The report's sections on what depends on structure alone: speed.json and cache.json. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { barChart } from '../../dist/report/svg.js';
import { readJson } from './cells.mjs';
import { DENSITY_NAMES, LAST_ROUND, SHORT_ROUND } from './grid.mjs';
import { BATCHES, SWEEPS } from './measure.mjs';
import { markdown } from './text.mjs';

const DRAWN = ['2x2', '4x4', '8x8', '16x16', '16x1'];
const PATTERNS = `LeNet-300-100 with the paper's densities in each layer, the blocks that are left being random ones.
CSR holds the same weights one by one, in plots those of the 4x4 pattern, and runs as blocks of one weight.`;

/** The kept measurements, or null. */
function read(folder, name) {
  const file = join(folder, name);
  return existsSync(file) ? readJson(file) : null;
}

const blocksOf = (records) => [...new Set(records.map(({ block }) => block).filter(Boolean))];

export function speedSection(folder, plot) {
  const kept = read(folder, 'speed.json');
  if (kept === null) return '## Speed\n\nNot measured: `npm run paper -- speed`.';
  const { records, environment, date } = kept;
  const at = (block, stage, m) => records.find((r) => r.block === block && r.stage === stage && r.m === m);
  const blocks = blocksOf(records);
  const tables = [SHORT_ROUND, LAST_ROUND].map((stage) => {
    const head = ['block', ...BATCHES.flatMap((m) => [`M=${m} dense`, 'CSR', 'BSR', 'dense / BSR'])];
    const rows = blocks.map((block) => [
      block,
      ...BATCHES.flatMap((m) => {
        const { dense, csr, bsr } = at(block, stage, m);
        return [...[dense, csr, bsr].map((time) => time.toPrecision(3)), `${(dense / bsr).toFixed(1)}x`];
      }),
    ]);
    return `At ${DENSITY_NAMES[stage]}:\n\n${markdown(head, rows)}`;
  });
  const ratios = (block, format) =>
    BATCHES.map((m) => {
      const times = at(block, SHORT_ROUND, m);
      return times.dense / times[format];
    });
  const shown = DRAWN.filter((block) => blocks.includes(block));
  const series = [
    { name: 'CSR', values: ratios(blocks.includes('4x4') ? '4x4' : blocks[0], 'csr') },
    ...shown.map((block) => ({ name: `BSR ${block}`, values: ratios(block, 'bsr') })),
  ];
  return `## Speed

Microseconds for the products of all three layers on ${environment.cpu}, ${environment.backend} ${environment.isa}, ${environment.threads} thread, ${date}:
row-major in and out, without bias and ReLU, the lowest of ${SWEEPS} sweeps' medians. ${PATTERNS}
Dense is our own, every block kept.

${tables.join('\n\n')}

${plot(
  'speed',
  barChart({
    title: `Speed at ${DENSITY_NAMES[SHORT_ROUND]}, times dense`,
    x: 'batch rows M',
    y: 'times as fast as dense',
    categories: BATCHES.map((m) => `M = ${m}`),
    series,
    reference: 1,
  }),
  'Speed against dense by format and batch',
)}`;
}

/** Of all data references, in per cent. */
const hits = ({ references, d1Misses }) => 100 * (1 - d1Misses / references);

export function cacheSection(folder, plot) {
  const kept = read(folder, 'cache.json');
  if (kept === null) return '## Cache\n\nNot measured: `npm run paper -- cache`.';
  const { records, caches, valgrind, isa, date } = kept;
  const at = (stage, block, format, m) =>
    records.find((r) => r.stage === stage && r.block === block && r.format === format && r.m === m);
  const dense = (m) => at(null, null, 'dense', m);
  const blocks = blocksOf(records);
  const cells = (m, record) =>
    record === undefined
      ? ['–', '–', '–', '–']
      : [
          record.references.toLocaleString('en'),
          `${hits(record).toFixed(2)} %`,
          Math.round(record.d1Misses).toLocaleString('en'),
          `${(dense(m).d1Misses / record.d1Misses).toFixed(1)}x`,
        ];
  const tables = [SHORT_ROUND, LAST_ROUND].flatMap((stage) =>
    BATCHES.map((m) => {
      const rows = [
        ['dense', ...cells(m, dense(m))],
        ...blocks.flatMap((block) =>
          ['csr', 'bsr']
            .filter((format) => at(stage, block, format, m) !== undefined)
            .map((format) => [`${format.toUpperCase()} ${block}`, ...cells(m, at(stage, block, format, m))]),
        ),
      ];
      const head = ['', 'data references', 'first-level hits', 'first-level misses', 'fewer than dense'];
      return `At ${DENSITY_NAMES[stage]}, M = ${m}:\n\n${markdown(head, rows)}`;
    }),
  );
  const csr = blocks.includes('4x4') ? '4x4' : blocks[0];
  const drawn = [
    ['CSR', csr, 'csr'],
    ...DRAWN.filter((block) => blocks.includes(block)).map((block) => [`BSR ${block}`, block, 'bsr']),
  ];
  const chart = (name, title, y, pick) =>
    plot(
      name,
      barChart({
        title,
        x: 'batch rows M',
        y,
        categories: BATCHES.map((m) => `M = ${m}`),
        series: drawn.map(([label, block, format]) => ({
          name: label,
          values: BATCHES.map((m) => pick(at(SHORT_ROUND, block, format, m), dense(m))),
        })),
      }),
      title,
    );
  const size = (text) => {
    const [bytes, ways, line] = text.split(',').map(Number);
    return `${bytes / 1024} KiB, ${ways} ways, lines of ${line} bytes`;
  };
  return `## Cache

Cachegrind (${valgrind}) on the kernels of ${isa}, ${date}; one pass over the three layers with warm caches. First level ${size(caches.D1)};
last level ${size(caches.LL)}, as a core's own. ${PATTERNS}

${tables.join('\n\n')}

${chart('cache-hits', `First-level hits at ${DENSITY_NAMES[SHORT_ROUND]}, % of data references`, '% hits', hits)}

${chart(
  'cache-misses',
  `First-level misses at ${DENSITY_NAMES[SHORT_ROUND]}, times fewer than dense`,
  'dense / format',
  (record, whole) => whole.d1Misses / record.d1Misses,
)}`;
}
