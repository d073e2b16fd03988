/** Pictures of the rows: speed-up and share of the peak against sparsity, one of each a block shape. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { lineChart } from '../../dist/report/svg.js';
import { groupBy } from './summary.mjs';

const percentLabel = (value) => `${value} %`;

export function speedUpChart(rows, layout) {
  const sparsities = [...new Set(rows.map((row) => row.sparsity))];
  return lineChart({
    title: `${title(rows)}: speed-up over the fastest dense`,
    x: 'sparsity',
    y: 'times as fast',
    formatX: percentLabel,
    logY: true,
    series: [
      ...groupBy(rows, 'batch').map((list) => ({
        name: `M = ${list[0].batch}`,
        points: list
          // A difference of two times can come out below 0 on a machine that is not quiet.
          .filter((row) => row[layout] > 0)
          .map((row) => [row.sparsity, row.derived[layout].overFastestDense]),
      })),
      { name: '1 / density', points: sparsities.map((s) => [s, 100 / (100 - s)]) },
    ],
  });
}

export function shareChart(rows, layout) {
  return lineChart({
    title: `${title(rows)}: share of the multiply-add peak`,
    x: 'sparsity',
    y: 'share',
    formatX: percentLabel,
    formatY: (share) => `${Math.round(share * 100)} %`,
    series: groupBy(rows, 'batch').map((list) => ({
      name: `M = ${list[0].batch}`,
      points: list.map((row) => [row.sparsity, row.derived[layout].share]),
    })),
  });
}

function title([{ shape, block, threads }]) {
  return `${shape} in ${block}, ${threads === 1 ? '1 thread' : `${threads} threads`}`;
}

/** Writes NAME.svg for each block shape, layout and measure; returns how many. */
export function writePlots(folder, rows) {
  mkdirSync(folder, { recursive: true });
  let count = 0;
  for (const list of groupBy(rows, 'shape', 'block', 'threads'))
    for (const layout of ['ours', 'network'])
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
