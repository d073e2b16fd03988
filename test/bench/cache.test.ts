import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  buildProgram,
  countsPerPass,
  missingForCache,
  readCounts,
  writeNetwork,
} from '../../bench/paper/cache.mjs';
import { BlockGrid, BlockMask, BsrMatrix } from '../../lib/index.ts';

it('reads what cachegrind counts', () => {
  const text = `==42== Cachegrind, a cache and branch-prediction profiler
==42== I   refs:      4,036,303
==42== I1  misses:        2,201
==42== LLi misses:        2,087
==42==
==42== D   refs:      1,353,816  (1,001,021 rd   + 352,795 wr)
==42== D1  misses:       26,349  (   20,404 rd   +   5,945 wr)
==42== LLd misses:       12,345  (    8,181 rd   +   4,164 wr)
==42== D1  miss rate:       1.9% (      2.0%     +     1.7%  )
==42==
==42== LL refs:          28,550  (   22,605 rd   +   5,945 wr)
==42== LL misses:        14,432  (   10,268 rd   +   4,164 wr)
`;
  expect(readCounts(text)).toEqual({ references: 1_353_816, d1Misses: 26_349, llMisses: 12_345 });
  expect(() => readCounts('==42== Cachegrind')).toThrow(/valgrind printed no D \+refs/);
});

const lacking = missingForCache();
describe.skipIf(lacking !== null)(
  `cachegrind on the kernels${lacking === null ? '' : ` (${lacking})`}`,
  () => {
    let folder: string;
    let program: string;
    beforeAll(() => {
      folder = mkdtempSync(join(tmpdir(), 'blocksparse-cache-'));
      program = join(folder, 'cache');
      // Unoptimized, for the compiler takes a minute otherwise: the numbers are other ones, what is counted is not.
      buildProgram(program, '-O0');
    }, 240_000);
    afterAll(() => rmSync(folder, { recursive: true }));

    /** Two layers of 128 x 128 in 16x16 blocks, `kept` of each row of blocks. */
    function measured(kept: number) {
      const grid = new BlockGrid([128, 128], [16, 16]);
      const mask = new BlockMask(
        grid,
        Uint8Array.from({ length: 64 }, (_, i) => (i % 8 < kept ? 1 : 0)),
      );
      const matrix = BsrMatrix.fromDense(new Float32Array(128 * 128).fill(0.01), grid, mask);
      const file = join(folder, `network-${kept}`);
      writeNetwork(file, [matrix, matrix]);
      return countsPerPass(program, file, 1);
    }

    it('counts one pass with warm caches: what fits misses nothing, what does not misses each line of its weights', () => {
      const sparse = measured(1);
      const dense = measured(8);
      expect(dense.references).toBeGreaterThan(3 * sparse.references);
      // 64 KiB a layer, twice the first level, in lines of 64 bytes.
      expect(dense.d1Misses).toBeGreaterThan((2 * 128 * 128 * 4) / 64);
      expect(dense.d1Misses).toBeLessThan(dense.references);
      // 8 KiB a layer.
      expect(sparse.d1Misses).toBeLessThan(64);
      // All of it fits the last level.
      expect(dense.llMisses).toBeLessThan(64);
    });
  },
);
