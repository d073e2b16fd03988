/** What the measured rows say: rates, shares, speed-ups, break-even sparsities, and their tables. */
import { factor, percent, significant } from '../../dist/report/numbers.js';
import { textTable } from '../../dist/report/table.js';

export const LAYOUTS = ['ours', 'network'];

const byName = (object, f) => Object.fromEntries(Object.entries(object).map(([key, v]) => [key, f(v)]));

/** Name and microseconds of the fastest product with the whole weight; our own dense counts too. */
export function fastestDense({ dense }) {
  return Object.entries(dense).reduce((best, one) => (one[1] < best[1] ? one : best));
}

/** The row with what follows from its times, for each layout: GFLOP/s, share of the peak, speed-ups. */
export function derive(row) {
  const [name, time] = fastestDense(row);
  const peers = { ...row.dense, ...row.sparse };
  const layout = (own) => ({
    gflops: row.work / own / 1e3,
    share: row.peak === null ? null : row.work / own / 1e3 / row.peak,
    overFastestDense: time / own,
    over: byName(peers, (other) => other / own),
  });
  return {
    ...row,
    fastestDense: name,
    denseGflops: byName(row.dense, (t) => row.denseWork / t / 1e3),
    derived: { ours: layout(row.ours), network: layout(row.network) },
  };
}

/**
 * The sparsity, in per cent, from which on the layer is faster than the fastest dense, between measured points
 * along a straight line of time against sparsity. The least of them when it always is, null when it never is. A layer
 * that is stored dense is not, and says nothing of where blocks begin to be faster: after one it is the next point.
 * Rows of one shape, block, batch and number of threads.
 */
export function breakEven(rows, layout = 'ours') {
  const points = rows
    .map((row) => {
      const over = row[layout] - fastestDense(row)[1];
      return { sparsity: 100 * (1 - row.density), over, storedDense: row.storedDense };
    })
    .sort((a, b) => a.sparsity - b.sparsity);
  // One that is stored dense wins or loses by chance alone.
  const last = points.findLastIndex(({ over, storedDense }) => storedDense || over >= 0);
  if (last === points.length - 1) return null;
  if (last < 0) return points[0].sparsity;
  const [slow, fast] = [points[last], points[last + 1]];
  if (slow.storedDense) return fast.sparsity;
  return slow.sparsity + ((fast.sparsity - slow.sparsity) * slow.over) / (slow.over - fast.over);
}

/** Rows by the values of `keys`, in order of appearance. */
export function groupBy(rows, ...keys) {
  const map = new Map();
  for (const row of rows) {
    const key = keys.map((name) => row[name]).join(' ');
    if (!map.has(key)) map.set(key, []);
    map.get(key).push(row);
  }
  return [...map.values()];
}

/** Cells that are slower than our own dense by more than a twentieth. */
export const slowerThanDense = (rows) => rows.filter((row) => row.ours > 1.05 * row.dense['our dense']);

export const threadsText = (threads) => (threads === 1 ? '1 thread' : `${threads} threads`);

export const cellName = ({ shape, block, threads, batch, sparsity }) =>
  `${shape} ${block} M = ${batch}, ${sparsity} %, ${threadsText(threads)}`;

const right = (title) => ({ title, align: 'right' });
const share = (value) => (value === null ? '-' : percent(value, 0));

/** The table of one group at one batch. */
export function groupTable(rows) {
  const peers = [...Object.keys(rows[0].dense), ...Object.keys(rows[0].sparse)];
  const columns = [
    ...['sparsity', 'ours µs', 'GFLOP/s', 'peak', 'network µs', 'GFLOP/s', 'peak'],
    ...['x dense', 'network x dense', ...peers.map((peer) => `x ${peer}`), 'packed kB'],
  ];
  return textTable({
    columns: [...columns.map(right), { title: 'kernel' }],
    rows: rows.map(({ sparsity, ours, network, derived, packedBytes, kernel, storedDense }) => [
      `${sparsity} %`,
      significant(ours),
      significant(derived.ours.gflops),
      share(derived.ours.share),
      significant(network),
      significant(derived.network.gflops),
      share(derived.network.share),
      factor(derived.ours.overFastestDense),
      factor(derived.network.overFastestDense),
      ...peers.map((peer) => factor(derived.ours.over[peer])),
      significant(packedBytes / 1000),
      storedDense ? `${kernel}, dense` : kernel,
    ]),
  });
}

/** The line above it; its core is the lowest of the table. */
export function groupTitle(rows) {
  const { shape, block, batch, threads, peak, l2, spread, runs, denseGflops, dense } = rows[0];
  const libraries = Object.keys(dense)
    .map((name) => `${name} ${significant(dense[name])} µs (${significant(denseGflops[name])} GFLOP/s)`)
    .join(', ');
  const most =
    peak === null
      ? ''
      : `; peak ${significant(peak)} GFLOP/s, core ${percent(Math.min(...rows.flatMap(({ core }) => Object.values(core))), 0)}, L2 read at ${significant(l2)} GB/s${runs > 1 ? `, the quietest samples of ${runs} runs` : ''}${spread > 0.1 ? `; the peak varied by ${percent(spread, 0)}: the machine is not quiet` : ''}`;
  return `${shape} in ${block}, M = ${batch}, ${threadsText(threads)}${most}\ndense: ${libraries}`;
}

/** Of each layout: { shape, threads, block, batch, layout, sparsity }, the sparsity being that of breakEven. */
export function breakEvens(rows) {
  return groupBy(rows, 'shape', 'threads', 'block', 'batch').flatMap((list) => {
    const [{ shape, threads, block, batch }] = list;
    return LAYOUTS.map((layout) => {
      return { shape, threads, block, batch, layout, sparsity: breakEven(list, layout) };
    });
  });
}

/** One text for each of `batches`, an empty one where the list has no row of that batch. */
const byBatch = (batches, list, text) =>
  batches.map((batch) => {
    const row = list.find((one) => one.batch === batch);
    return row === undefined ? '' : text(row);
  });

const batchesOf = (rows) => [...new Set(rows.map(({ batch }) => batch))].sort((a, b) => a - b);

/** Their tables, blocks down and batches across, each of a shape, threads and a layout: { title, head, lines }. */
function breakEvenTables(found) {
  return groupBy(found, 'shape', 'threads', 'layout').map((all) => {
    const [{ shape, threads, layout }] = all;
    const batches = batchesOf(all);
    return {
      title: `${shape}, ${threadsText(threads)}, ${layout}: faster than the fastest dense from`,
      head: batches.map((batch) => `M = ${batch}`),
      lines: groupBy(all, 'block').map((list) => [
        list[0].block,
        ...byBatch(batches, list, ({ sparsity }) =>
          sparsity === null ? 'none' : `${sparsity.toFixed(0)} %`,
        ),
      ]),
    };
  });
}

export const breakEvenText = (found) =>
  breakEvenTables(found)
    .map(({ title, head, lines }) => {
      const columns = [{ title: 'block' }, ...head.map(right)];
      return `${title}\n${textTable({ columns, rows: lines })}`;
    })
    .join('\n\n');

export const breakEvenMarkdown = (found) =>
  breakEvenTables(found)
    .map(({ title, head, lines }) => markdownTable([title, ...head], lines))
    .join('\n');

const inUnit = (value, unit) =>
  unit.endsWith('peak') || unit === 'DRAM' || unit === 'points'
    ? `${percent(value, 0)} ${unit}`
    : `${significant(value)} ${unit}`;

/**
 * The goals, each with its worst cell and what limits it (machine.cc). `target` null: measured, but without a number
 * to reach. `worst` null: not measured.
 */
export function goalTable(goals) {
  return textTable({
    columns: [
      { title: 'goal' },
      right('target'),
      right('worst'),
      right('median'),
      { title: 'reached' },
      { title: 'worst cell' },
      { title: 'limit' },
    ],
    rows: goals.map(({ name, unit, target, worst, median, reached, cells, cell, atMost, limit }) => [
      name,
      target === null ? '-' : `${atMost ? '<= ' : ''}${inUnit(target, unit)}`,
      worst === null ? '-' : inUnit(worst, unit),
      median === undefined ? '' : inUnit(median, unit),
      verdict(target, atMost && worst !== null ? -worst : worst, atMost ? -target : target, reached, cells),
      cell === undefined ? '' : cellName(cell),
      limitText(limit, unit),
    ]),
  });
}

/** A bare tile (tileShares) and what else a layer does, plain reading, or what it would be over dense at the limit. */
function limitText(limit, unit) {
  if (limit === undefined) return '';
  const { tile, at, dense, read, core, ...levels } = limit;
  if (dense !== undefined) return `at ${at} ${inUnit(dense, unit)}`;
  const rates = Object.entries(levels).map(([level, value]) => `${level} ${inUnit(value, unit)}`);
  return [
    ...(tile === undefined ? [] : [`tile ${tile.join('x')}`]),
    ...rates,
    ...(core === undefined ? [] : [`meanwhile core ${percent(core, 0)}`]),
    ...(read === undefined ? [] : [`L2 read at ${significant(read)} GB/s`]),
  ].join(', ');
}

function verdict(target, value, least, reached, cells) {
  if (target === null || value === null) return '';
  const yes = value >= least ? 'yes' : 'no';
  return cells > 1 ? `${yes}, ${reached} of ${cells}` : yes;
}

function markdownTable(head, lines) {
  const line = (cells) => `| ${cells.join(' | ')} |\n`;
  return [head, head.map(() => '---'), ...lines].map(line).join('');
}

/**
 * A table in Markdown for each shape and number of threads: blocks down, batches across, at one sparsity. A cell is
 * the layer's time and speed-up over the fastest dense, then those of the layer in a network, and its share of the
 * peak.
 */
export function markdown(rows, sparsity) {
  return groupBy(
    rows.filter((row) => row.sparsity === sparsity),
    'shape',
    'threads',
  )
    .map((all) => {
      const [{ shape, threads }] = all;
      const batches = batchesOf(all);
      // Each block's run has its own: the median of them, of two in the middle the slower, and whose it is.
      const dense = (batch) => {
        const times = all
          .filter((row) => row.batch === batch)
          .map(fastestDense)
          .sort(([, a], [, b]) => a - b);
        const [name, time] = times[times.length >> 1];
        return `${name} ${significant(time)} µs`;
      };
      const cell = ({ ours, network, derived }) =>
        `${significant(ours)} µs, ${factor(derived.ours.overFastestDense)}; ` +
        `${significant(network)} µs, ${factor(derived.network.overFastestDense)}, ${share(derived.network.share)}`;
      return markdownTable(
        [`${shape}, ${sparsity} %, ${threadsText(threads)}`, ...batches.map((batch) => `M = ${batch}`)],
        [
          ['fastest dense', ...batches.map(dense)],
          ...groupBy(all, 'block').map((list) => [list[0].block, ...byBatch(batches, list, cell)]),
        ],
      );
    })
    .join('\n');
}
