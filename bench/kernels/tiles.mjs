/** What limits a goal: the tile that most products of a cell go through, and what its bare loop reaches. */
import { pair } from './grid.mjs';
import { interleave } from './measure.mjs';

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

/** Of each of these tiles the share of the peak that its bare loop reaches, { L1, L2 }, as a function. */
export async function tileShares(machine, isa, tiles) {
  const list = [...new Map(tiles.map((tile) => [tile.join('x'), tile])).values()];
  const loops = list.flatMap((tile) =>
    Object.entries(COLUMNS).map(([level, columns]) => ({ tile, level, columns })),
  );
  const [peak, ...times] = await interleave(
    [
      { time: (calls) => machine.fma(isa, 1, calls) },
      ...loops.map(({ tile, columns }) => ({ time: (calls) => machine.tile(isa, ...tile, columns, calls) })),
    ],
    1,
  );
  const rate = machine.fmaFlops(isa) / peak.median;
  const shares = new Map(list.map((tile) => [tile.join('x'), {}]));
  for (const [i, { tile, level }] of loops.entries())
    shares.get(tile.join('x'))[level] = machine.tileFlops(isa, ...tile) / times[i].median / rate;
  return (tile) => shares.get(tile.join('x'));
}
