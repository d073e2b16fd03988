/** What limits a goal: the tile that most products of a cell go through, and what its bare loop reaches. */
import { pair } from './grid.mjs';
import { interleave, random } from './measure.mjs';

/**
 * The tile of a cell as [numbers broadcast, vectors], from native/kernels: rows_forward_f32.inl where vectors lie
 * along a block's rows (`kernel` rows), panel_forward_f32.inl where they lie along the batch. Undefined where
 * machine.cc has none.
 */
export function tileOf(isa, block, batch, kernel) {
  const [r] = pair(block);
  if (isa === 'avx512') {
    if (r % 32 === 0) return [batch < 12 ? 8 : 12, 2];
    if (r % 16 === 0 && kernel === 'rows') return [batch < 16 ? 8 : batch < 48 ? 16 : 24, 1];
    return r > 6 ? [8, 2] : [r, batch < 64 || r < 4 ? 2 : 4];
  }
  if (isa !== 'avx2' || r === 2) return undefined;
  if (r % 32 === 0) return [3, 4];
  if (r % 16 === 0) return [batch < 12 ? 4 : 6, 2];
  return r > 6 ? [3, 4] : [r, 2];
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
export async function tileShares(machine, isa, tiles) {
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
  );
  const rate = machine.fmaFlops(isa) / peak.median;
  const shares = tiles.map(() => ({}));
  for (const [i, { one, level }] of loops.entries())
    shares[tiles.indexOf(one)][level] = machine.tileFlops(isa, ...one.tile) / times[i].median / rate;
  return shares;
}
