/** What limits a goal: the tile that most products of a cell go through, and what its bare loop reaches. */
import { interleave, random } from './measure.mjs';

/**
 * The tile of a batch as [numbers broadcast, vectors], from what `explain` says: vectors lie along a block's rows in
 * the kernel `rows`, along the batch in `panels`. Undefined where machine.cc has none.
 */
export function tileOf({ tiles }, isa, { kernel, tile: [outputs, batch] }) {
  const { lanes, shapes } = tiles[isa];
  const [rows, vectors] = kernel === 'rows' ? [batch, outputs / lanes] : [outputs, batch / lanes];
  return shapes.find((shape) => shape[0] === rows && shape[1] === vectors);
}

/** Columns of a tile's operands, at most 88 floats each: they stay in L1, or in L2. */
const COLUMNS = { L1: 64, L2: 1024 };

/** Even runs of columns, as many as blocks of c columns that are kept at random leave a block row of k columns. */
function runsOf(total, { k, c, density }) {
  const runs = [];
  for (let left = total; left > 0; left -= runs.at(-1)) {
    let kept = 0;
    for (let block = 0; block < Math.ceil(k / c); block++) kept += random() < density ? 1 : 0;
    runs.push(Math.min(left, Math.max(2, Math.round((kept * c) / 2) * 2)));
  }
  return Int32Array.from(runs);
}

/**
 * Of each of these tiles, { tile, k, c, density }, the share of the peak that its bare loop reaches: with operands
 * from L1, from L2, and from L2 with an end for every block row, { L1, L2, 'L2 by rows' }.
 */
export async function tileShares(machine, isa, tiles, cores) {
  const loops = tiles.flatMap((one) => [
    { one, level: 'L1', runs: Int32Array.of(COLUMNS.L1) },
    { one, level: 'L2', runs: Int32Array.of(COLUMNS.L2) },
    { one, level: 'L2 by rows', runs: runsOf(COLUMNS.L2, one) },
  ]);
  const [peak, ...times] = await interleave(
    [
      { time: (calls) => machine.fma(isa, 1, calls) },
      ...loops.map(({ one, runs }) => ({ time: (calls) => machine.tile(isa, ...one.tile, runs, calls) })),
    ],
    1,
    cores,
  );
  const rate = machine.fmaFlops(isa) / peak.median;
  const shares = tiles.map(() => ({}));
  for (const [i, { one, level }] of loops.entries())
    shares[tiles.indexOf(one)][level] = machine.tileFlops(isa, ...one.tile) / times[i].median / rate;
  return shares;
}
