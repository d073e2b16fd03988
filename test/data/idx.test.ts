import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readIdx, readIdxFile } from '../../lib/data/idx.ts';
import { BlocksparseError } from '../../lib/errors.ts';
import { idxOf } from './idx-of.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'blocksparse-'));
});
afterAll(() => rm(folder, { recursive: true }));

const data = Uint8Array.from({ length: 24 }, (_, i) => i * 7);
const good = idxOf([2, 3, 4], data);

describe('whole files', () => {
  test.each([
    ['plain', good],
    ['gzipped', gzipSync(good)],
    ['stored, not deflated', gzipSync(good, { level: 0 })],
    ['in two gzip members', Buffer.concat([gzipSync(good.subarray(0, 9)), gzipSync(good.subarray(9))])],
    ['at an odd offset', Buffer.concat([Buffer.of(1), good]).subarray(1)],
  ])('%s', async (name, bytes) => {
    const file = readIdx(bytes);
    expect(file.shape).toEqual([2, 3, 4]);
    expect([...file.data]).toEqual([...data]);
    await writeFile(join(folder, name), bytes);
    expect((await readIdxFile(join(folder, name))).shape).toEqual([2, 3, 4]);
  });

  test('no items, one dimension, and a megabyte of zeros', () => {
    expect(readIdx(idxOf([0, 28, 28], new Uint8Array(0)))).toMatchObject({ shape: [0, 28, 28] });
    expect(readIdx(idxOf([24], data)).data.length).toBe(24);
    expect(readIdx(gzipSync(idxOf([1000, 1000], new Uint8Array(1e6)))).data.length).toBe(1e6);
  });
});

describe('damaged files', () => {
  const zip = gzipSync(good);
  const wrongSum = Buffer.from(zip);
  wrongSum[wrongSum.length - 8] ^= 1;
  test.each<[string, Uint8Array, RegExp]>([
    ['empty', new Uint8Array(0), /ends inside its header, at byte 0/],
    ['inside the header', good.subarray(0, 15), /ends inside its header, at byte 15/],
    ['no IDX', Buffer.from('PK some zip'), /two zero bytes/],
    ['another type', idxOf([6], data, 0x0d), /type 0xd; only unsigned bytes/],
    ['no dimensions', idxOf([], data), /no dimensions/],
    ['one byte short', good.subarray(0, -1), /has 23 bytes of data, but its sizes \[2,3,4\] need 24/],
    ['one byte long', Buffer.concat([good, Buffer.of(0)]), /has 25 bytes of data/],
    ['huge sizes', idxOf([2 ** 32 - 1, 2 ** 32 - 1], data), /impossible sizes/],
    ['large sizes', idxOf([2 ** 32 - 1, 2 ** 20], data), /need 4503599626321920/],
    [
      'gzipped large sizes',
      gzipSync(idxOf([2 ** 32 - 1, 2 ** 20], data)),
      /more than \d+ gzipped bytes can hold/,
    ],
    ['gzip cut short', zip.subarray(0, -12), /is damaged: unexpected end of file/],
    ['gzip of a cut file', gzipSync(good.subarray(0, -1)), /has 23 bytes of data/],
    ['gzip of half a header', gzipSync(good.subarray(0, 10)), /ends inside its header, at byte 10/],
    [
      'gzip with more than it says',
      gzipSync(Buffer.concat([good, new Uint8Array(1e7)])),
      /inflates to more than the 40 bytes/,
    ],
    ['gzip magic only', Buffer.of(0x1f, 0x8b), /ends inside its header|is damaged/],
    [
      'gzip of another method',
      Buffer.of(0x1f, 0x8b, 7, 0, 0, 0, 0, 0, 0, 0, 0),
      /is damaged: unknown compression method/,
    ],
    ['gzip with a wrong sum', wrongSum, /is damaged: incorrect data check/],
  ])('%s', async (name, bytes, message) => {
    const wanted = {
      name: 'BlocksparseError',
      code: 'INVALID_DATA',
      message: expect.stringMatching(message),
    };
    expect(() => readIdx(bytes)).toThrow(expect.objectContaining(wanted));
    const path = join(folder, name.replaceAll(' ', '-'));
    await writeFile(path, bytes);
    await expect(readIdxFile(path)).rejects.toMatchObject(wanted);
    await expect(readIdxFile(path)).rejects.toThrow(path);
  });

  test('a file that inflates a thousandfold is stopped at what its header says', () => {
    const bomb = gzipSync(Buffer.concat([good, Buffer.alloc(1e8)]));
    const before = process.memoryUsage().arrayBuffers;
    expect(() => readIdx(bomb)).toThrow(/inflates to more than the 40 bytes/);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(5e7);
  });

  test('a device, a folder, a missing file, a wrong argument', async () => {
    await expect(readIdxFile(folder)).rejects.toMatchObject({ code: 'INVALID_DATA' });
    if (process.platform === 'linux')
      await expect(readIdxFile('/dev/zero')).rejects.toMatchObject({ code: 'INVALID_DATA' });
    await expect(readIdxFile(join(folder, 'none'))).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(readIdxFile(1 as never)).rejects.toThrow(TypeError);
    expect(() => readIdx('x' as never)).toThrow(TypeError);
  });

  test('thousands of random harms: an error that says so, or data of the size its header says', () => {
    const pixels = Uint8Array.from({ length: 4 * 30 * 30 }, (_, i) => (i * i) >> 3);
    const plain = idxOf([4, 30, 30], pixels);
    for (const [original, runs] of [
      [plain, 3000],
      [gzipSync(plain), 3000],
    ] as const) {
      const harm = fc.oneof(
        fc.tuple(fc.nat(original.length - 1), fc.nat(7)).map(([at, bit]) => {
          const bytes = Uint8Array.from(original);
          bytes[at] ^= 1 << bit;
          return bytes;
        }),
        fc.tuple(fc.nat(31), fc.nat(255)).map(([at, value]) => {
          const bytes = Uint8Array.from(original);
          bytes[at] = value;
          return bytes;
        }),
        fc.nat(original.length).map((length) => original.subarray(0, length)),
        fc.uint8Array({ maxLength: 60 }).map((end) => Buffer.concat([original, end])),
      );
      fc.assert(
        fc.property(harm, (bytes) => {
          try {
            const { shape, data } = readIdx(bytes);
            expect(data.length).toBe(shape.reduce((a, b) => a * b, 1));
          } catch (error) {
            if (!(error instanceof BlocksparseError) || error.code !== 'INVALID_DATA') throw error;
          }
        }),
        { numRuns: runs },
      );
    }
  });
});
