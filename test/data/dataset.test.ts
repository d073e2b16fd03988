import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { loadDataset, normalize } from '../../lib/data/dataset.ts';
import { idxOf } from './idx-of.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'blocksparse-'));
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true });
});

const pixels = (count: number) => Uint8Array.from({ length: count * 6 }, (_, i) => (i * 37) % 256);
const small: Record<string, Uint8Array> = {
  'train-images-idx3-ubyte.gz': gzipSync(idxOf([4, 2, 3], pixels(4))),
  'train-labels-idx1-ubyte': idxOf([4], Uint8Array.of(0, 1, 2, 1)),
  't10k-images.idx3-ubyte': idxOf([2, 2, 3], pixels(2)),
  't10k-labels-idx1-ubyte.gz': gzipSync(idxOf([2], Uint8Array.of(3, 0))),
};
async function put(files: Record<string, Uint8Array | string>): Promise<void> {
  for (const [name, content] of Object.entries(files)) await writeFile(join(folder, name), content);
}

describe('the embedded subset', () => {
  test('is what its script says', async () => {
    vi.stubEnv('BLOCKSPARSE_DATA', '');
    const { name, train, test: held, classes, imageShape } = await loadDataset();
    expect(name).toMatch(/Fashion-MNIST/);
    expect(train).toMatchObject({ count: 10_000, features: 784, classes: 10 });
    expect(held).toMatchObject({ count: 2_000, features: 784, classes: 10 });
    expect(train.x.length).toBe(7_840_000);
    expect(imageShape).toEqual([28, 28]);
    expect(classes?.[train.y[0]]).toBe('Ankle boot');
    expect(Array.from(held.y.subarray(0, 6))).toEqual([9, 2, 1, 1, 6, 1]);
    const counts = new Array(10).fill(0);
    for (const label of train.y) counts[label]++;
    for (const count of counts) expect(count).toBeGreaterThan(900);
    let sum = 0;
    for (const value of train.x) sum += value;
    expect(sum / train.x.length).toBeCloseTo(2 * 0.286 - 1, 1);
  });
});

describe('a folder', () => {
  test('plain or gzipped, either spelling; images normalised', async () => {
    await put(small);
    const { name, train, test: held, classes, imageShape } = await loadDataset(folder);
    expect(name).toMatch(/^blocksparse-/);
    expect(classes).toBeUndefined();
    expect(imageShape).toEqual([2, 3]);
    expect(train).toMatchObject({ count: 4, features: 6, classes: 4, x: normalize(pixels(4)) });
    expect(held).toMatchObject({ count: 2, features: 6, classes: 4 });
    expect([...held.y]).toEqual([3, 0]);
  });

  test('by BLOCKSPARSE_DATA, described by dataset.json', async () => {
    await put({ ...small, 'dataset.json': '{"name": "Tiny", "classes": ["a", "b", "c", "d", "e"]}' });
    vi.stubEnv('BLOCKSPARSE_DATA', folder);
    expect(await loadDataset()).toMatchObject({
      name: 'Tiny',
      train: { classes: 5 },
      classes: { length: 5 },
    });
  });

  test('pixels become -1 to 1', () => {
    const values = normalize(Uint8Array.of(0, 51, 255));
    expect([values[0], values[2]]).toEqual([-1, 1]);
    expect(values[1]).toBeCloseTo(-0.6, 6);
  });

  test('what is missing is named, and where to get it', async () => {
    const error = {
      name: 'BlocksparseError',
      code: 'DATA_NOT_FOUND',
      message: expect.stringMatching(/train-images.*BLOCKSPARSE_DATA/),
    };
    await expect(loadDataset(folder)).rejects.toMatchObject(error);
    await expect(loadDataset(join(folder, 'none'))).rejects.toMatchObject(error);
    const { 't10k-labels-idx1-ubyte.gz': _, ...rest } = small;
    await put(rest);
    await expect(loadDataset(folder)).rejects.toThrow(/has no t10k-labels-idx1-ubyte or/);
    await expect(loadDataset(5 as never)).rejects.toThrow(TypeError);
  });

  test.each<[string, Record<string, Uint8Array | string>, RegExp]>([
    [
      'too few labels',
      { 'train-labels-idx1-ubyte': idxOf([3], new Uint8Array(3)) },
      /labels.*not one label for each of 4/,
    ],
    [
      'labels in place of images',
      { 't10k-images.idx3-ubyte': idxOf([2], new Uint8Array(2)) },
      /sizes \[2\], not images/,
    ],
    [
      'empty images',
      { 't10k-images.idx3-ubyte': idxOf([2, 0, 3], new Uint8Array(0)) },
      /sizes \[2,0,3\], not images/,
    ],
    [
      'other test images',
      { 't10k-images.idx3-ubyte': idxOf([2, 3, 2], pixels(2)) },
      /are \[2,3\], test images \[3,2\]/,
    ],
    ['damaged images', { 't10k-images.idx3-ubyte': 'text' }, /t10k-images.idx3-ubyte: is no IDX file/],
    ['damaged description', { 'dataset.json': '{"name": 5}' }, /dataset\.json: must be JSON/],
    [
      'a label without a class',
      { 'dataset.json': '{"name": "a", "classes": ["a", "b", "c"]}' },
      /label 3, but only 3 classes/,
    ],
  ])('%s', async (_, files, message) => {
    await put({ ...small, ...files });
    const error = { code: 'INVALID_DATA', message: expect.stringMatching(message) };
    await expect(loadDataset(folder)).rejects.toMatchObject(error);
  });
});
