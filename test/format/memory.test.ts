import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BlocksparseError } from '../../lib/errors.ts';
import { Model } from '../../lib/format/model.ts';
import { Network } from '../../lib/nn/network.ts';
import type { LayerSpec } from '../../lib/nn/spec.ts';
import { BsrMatrix } from '../../lib/sparse/bsr.ts';
import { BlockGrid } from '../../lib/sparse/grid.ts';
import { BlockMask } from '../../lib/sparse/mask.ts';
import { inputs, smallSparse } from './networks.ts';

const script = fileURLToPath(new URL('../../bench/kernels/load.mjs', import.meta.url));

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'blocksparse-'));
});
afterAll(() => rm(folder, { recursive: true }));

/** One layer of about 100 MB: side x side in blocks of 16x16, of which every `step`-th is kept. */
async function save(path: string, side: number, step: number): Promise<void> {
  const layers: LayerSpec[] = [{ type: 'linear', inFeatures: side, outFeatures: side }];
  const grid = new BlockGrid([side, side], [16, 16]);
  const kept = Uint8Array.from({ length: grid.blockCount }, (_, i) => Number(i % step === 0));
  const mask = new BlockMask(grid, kept);
  const matrix = BsrMatrix.fromDense(new Float32Array(side * side).fill(0.01), grid, mask);
  await Model.fromNetwork(Network.fromParts(layers, [{ matrix, bias: new Float32Array(side) }])).save(path);
}

describe.skipIf(!existsSync('/proc/self/clear_refs'))('loading 100 MB', () => {
  test.each([
    ['sparse', 11_200, 5],
    ['dense', 5_000, 1],
  ])(
    'takes at most 1.3 times the file, and served weights are there once: %s',
    async (name, side, step) => {
      const path = join(folder, name);
      await save(path, side, step);
      const output = execFileSync(process.execPath, ['--expose-gc', script, path], { encoding: 'utf8' });
      const { file, loading, served } = JSON.parse(output);
      expect(file).toBeGreaterThan(95e6);
      expect(loading).toBeLessThan(1.3 * file);
      expect(served).toBeLessThan(1.3 * file);
    },
    180_000,
  );
});

describe('released weights', () => {
  test.each([true, false])('leave a model that runs as before; run before: %s', async (before) => {
    const model = Model.fromNetwork(smallSparse());
    const x = inputs(3 * 13);
    const expected = Model.fromNetwork(smallSparse()).runSync(x);
    if (before) model.runSync(x);
    model.releaseWeights();
    model.releaseWeights();
    expect(model.runSync(x)).toEqual(expected);
    expect(await model.run(x)).toEqual(expected);
    expect([model.inFeatures, model.outFeatures]).toEqual([13, 3]);
  });

  test('are refused by name where they are needed', async () => {
    const model = Model.fromNetwork(smallSparse());
    model.releaseWeights();
    const message = /^the weights of this model were released/;
    for (const use of [
      () => model.matrices,
      () => model.density,
      () => model.bytes,
      () => model.toNetwork(),
    ]) {
      expect(use).toThrow(BlocksparseError);
      expect(use).toThrow(message);
    }
    await expect(model.save(join(folder, 'none'))).rejects.toMatchObject({ code: 'INVALID_STATE' });
    expect(existsSync(join(folder, 'none'))).toBe(false);
    expect(() => Model.prototype.releaseWeights.call({} as never)).toThrow(/^this must be a Model/);
  });
});
