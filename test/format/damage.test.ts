import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { BlocksparseError } from '../../lib/errors.ts';
import { Model } from '../../lib/format/model.ts';
import { readSafetensors, writeSafetensorsFile } from '../../lib/format/safetensors.ts';
import { tensorsOf } from '../../lib/format/state-dict.ts';
import { Network } from '../../lib/nn/network.ts';
import { Random } from '../../lib/nn/random.ts';
import { inputs, SMALL, smallSparse } from './networks.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'blocksparse-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

type Rng = (below: number) => number;

const NUMBERS = [
  '0',
  '-1',
  '1',
  '3',
  '0.5',
  '1e3',
  '255',
  '4096',
  '16777216',
  '4294967296',
  '9007199254740993',
  '1e400',
];
const WORDS = ['null', '{}', '[]', '""', 'true', '"__proto__"', '[[[[]]]]'];

/** One random harm to the file. Most hit the header and the indices: the values can hold anything. */
function damage(original: Buffer, below: Rng): Buffer {
  const header = Number(original.readBigUInt64LE(0));
  const bytes = Buffer.from(original);
  const at = below(3) === 0 ? below(bytes.length) : below(Math.min(bytes.length, header + 400));
  switch (below(9)) {
    case 0:
    case 1:
      bytes[at] ^= 1 << below(8);
      return bytes;
    case 2:
      bytes[at] = below(256);
      return bytes;
    case 3:
      return bytes.subarray(0, at);
    case 4:
      return Buffer.concat([bytes, Buffer.alloc(1 + below(40), below(256))]);
    case 5:
      bytes.writeBigUInt64LE(
        BigInt(below(2) ? below(2 * bytes.length) : below(2 ** 32)) << BigInt(below(33)),
        0,
      );
      return bytes;
    case 6: // a piece taken out
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + below(12))]);
    default: // another number or word in the header, whose length is put right so that the rest is read
      return rewriteHeader(bytes, header, below);
  }
}

function rewriteHeader(bytes: Buffer, length: number, below: Rng): Buffer {
  const text = bytes.toString('utf8', 8, 8 + length);
  const places = [...text.matchAll(below(4) ? /-?\d+/g : /\\?"[^"\\]*\\?"|\[[^[\]]*\]/g)];
  const place = places[below(places.length)];
  const from = below(4) ? NUMBERS : WORDS;
  const changed =
    text.slice(0, place.index) + from[below(from.length)] + text.slice(place.index + place[0].length);
  const header = Buffer.from(changed);
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(header.length));
  return Buffer.concat([size, header, bytes.subarray(8 + length)]);
}

const cases: [string, () => Promise<unknown>, object][] = [
  ['sparse', () => Model.fromNetwork(smallSparse(), { epochs: [1, 2] }).save(join(folder, 'sparse')), {}],
  ['dense', () => Model.fromNetwork(Network.create(SMALL, 1)).save(join(folder, 'dense')), {}],
  [
    'plain',
    () => {
      const tensors = smallSparse().linears.flatMap((linear) => tensorsOf(linear.name, linear));
      return writeSafetensorsFile(join(folder, 'plain'), new Map(tensors));
    },
    { layers: SMALL },
  ],
];

test.each(cases)('a damaged file is an error or a model that runs: %s', async (name, make, options) => {
  await make();
  const original = readFileSync(join(folder, name));
  const random = new Random(7, 1);
  const below: Rng = (limit) => Math.floor(random.next() * limit);
  const path = join(folder, `${name}-damaged`);
  let errors = 0;
  for (let i = 0; i < 1500; i++) {
    const bytes = damage(original, below);
    writeFileSync(path, bytes);
    try {
      const model = await Model.load(path, options);
      expect(model.runSync(inputs(2 * model.inFeatures)).length).toBe(2 * model.outFeatures);
      const stored = model.matrices.reduce((sum, { matrix }) => sum + matrix.values.byteLength, 0);
      expect(stored).toBeLessThan(100 * bytes.length);
    } catch (error) {
      if (!(error instanceof BlocksparseError) || error.code !== 'INVALID_FILE')
        throw new Error(`harm ${i}: ${error}`, { cause: error });
      expect(error.message).toContain(path);
      expect(error.message.length).toBeLessThan(path.length + 600);
      errors++;
    }
  }
  expect(errors).toBeGreaterThan(600);
});

test('every truncation and every bit of the header', async () => {
  await Model.fromNetwork(smallSparse()).save(join(folder, 'model'));
  const original = readFileSync(join(folder, 'model'));
  for (let length = 0; length < original.length; length++)
    expect(() => readSafetensors(original.subarray(0, length))).toThrow(BlocksparseError);
  const end = 8 + Number(original.readBigUInt64LE(0));
  for (let bit = 0; bit < 8 * end; bit++) {
    const bytes = Uint8Array.from(original);
    bytes[bit >> 3] ^= 1 << (bit & 7);
    try {
      readSafetensors(bytes);
    } catch (error) {
      if (!(error instanceof BlocksparseError)) throw error;
    }
  }
});
