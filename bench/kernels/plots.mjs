/** Pictures of the rows: speed-up and share of the peak against sparsity, one of each a block shape. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { lineChart } from '../../dist/report/svg.js';
import { groupBy, LAYOUTS, threadsText } from './summary.mjs';

const sparsitiesOf = (rows) => [...new Set(rows.map((row) => row.sparsity))].sort((a, b) => a - b);

/** Numbers where something was measured, and bare ones: 95 and 98 stand close. */
const sparsityAxis = (rows) => ({ x: 'sparsity, %', ticksX: sparsitiesOf(rows), formatX: String });

/** 1 / density is curved: so many straight pieces. */
const PIECES = 100;

/** The speed-up if only the blocks that are left took time; of one sparsity alone, a level. */
function ideal(rows) {
  const name = '1 / density';
  const sparsities = sparsitiesOf(rows);
  const [low, high] = [sparsities[0], sparsities.at(-1)];
  const at = (sparsity) => [sparsity, 100 / (100 - sparsity)];
  if (low === high) return { name, points: [at(low)], level: true };
  const points = Array.from({ length: PIECES + 1 }, (_, i) => at(low + (i * (high - low)) / PIECES));
  return { name, points, dashed: true };
}

export function speedUpChart(rows, layout) {
  return lineChart({
    ...sparsityAxis(rows),
    title: `${title(rows, layout)}: speed-up over the fastest dense`,
    y: 'times as fast',
    logY: true,
    series: [
      ...groupBy(rows, 'batch').map((list) => ({
        name: `M = ${list[0].batch}`,
        points: list
          // A difference of two times can come out below 0 on a machine that is not quiet.
          .filter((row) => row[layout] > 0)
          .map((row) => [row.sparsity, row.derived[layout].overFastestDense]),
      })),
      ideal(rows),
    ],
  });
}

export function shareChart(rows, layout) {
  return lineChart({
    ...sparsityAxis(rows),
    title: `${title(rows, layout)}: share of the multiply-add peak`,
    y: 'share',
    formatY: (share) => `${Math.round(share * 100)} %`,
    series: groupBy(rows, 'batch').map((list) => ({
      name: `M = ${list[0].batch}`,
      points: list.map((row) => [row.sparsity, row.derived[layout].share]),
    })),
  });
}

function title([{ shape, block, threads }], layout) {
  return `${shape} in ${block}, ${threadsText(threads)}, ${layout}`;
}

/** Writes NAME.svg for each block shape, layout and measure; returns how many. */
export function writePlots(folder, rows) {
  mkdirSync(folder, { recursive: true });
  let count = 0;
  for (const list of groupBy(rows, 'shape', 'block', 'threads'))
    for (const layout of LAYOUTS)
      for (const [measure, chart] of [
        ['speed-up', speedUpChart],
        ...(list[0].peak === null ? [] : [['share', shareChart]]),
      ]) {
        const { shape, block, threads } = list[0];
        writeFileSync(
          join(folder, `${measure}-${layout}-${shape}-${block}-${threads}.svg`),
          chart(list, layout),
        );
        count++;
      }
  return count;
}
