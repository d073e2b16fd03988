import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  type DType,
  encodeSafetensors,
  float32Tensor,
  int32Tensor,
  readFloat32,
  readInt32,
  readSafetensors,
  readSafetensorsFile,
  type StoredTensor,
  type Tensor,
  withSafetensorsFile,
  writeSafetensorsFile,
} from '../../lib/format/safetensors.ts';

const join8 = (chunks: Uint8Array[]) => new Uint8Array(Buffer.concat(chunks));
/** What `readFloat32` and `readInt32` make of a tensor, as if it lay in a file. */
const stored = ({ dtype, shape, data }: Tensor): StoredTensor => {
  return { dtype, shape, read: async (at, into) => into.set(data.subarray(at, at + into.length)) };
};
const toFloat32 = async (name: string, tensor: Tensor, from = 0) => {
  const into = new Float32Array(tensor.shape[0] - from);
  await readFloat32(name, stored(tensor), from, into);
  return into;
};
const toInt32 = async (name: string, tensor: Tensor) => {
  const into = new Int32Array(tensor.shape[0]);
  await readInt32(name, stored(tensor), into);
  return into;
};

const encode = (...args: Parameters<typeof encodeSafetensors>) => join8(encodeSafetensors(...args));

/** A file with this header text (or object) and this many data bytes. */
function fileOf(header: unknown, dataBytes = 0, length?: number | bigint): Uint8Array {
  const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(length ?? text.length));
  return join8([size, text, new Uint8Array(dataBytes)]);
}
const tensor = (dtype: unknown, shape: unknown, begin: unknown, end: unknown) => ({
  dtype,
  shape,
  data_offsets: [begin, end],
});

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'blocksparse-'));
});
afterAll(() => rm(folder, { recursive: true }));

describe('writing and reading', () => {
  const sizes: Record<string, number> = { F64: 8, I64: 8, F32: 4, I32: 4, BF16: 2, F16: 2, I8: 1, BOOL: 1 };
  const anyTensor = fc
    .tuple(fc.constantFrom(...Object.keys(sizes)), fc.array(fc.nat(4), { maxLength: 3 }))
    .chain(([dtype, shape]) => {
      const length = shape.reduce((a, b) => a * b, sizes[dtype]);
      const data = fc.uint8Array({ minLength: length, maxLength: length });
      return data.map((data): Tensor => ({ dtype: dtype as DType, shape, data }));
    });
  const anyName = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.constantFrom('__proto__', 'constructor', '0', 'toString', ''),
  );
  const anyTensors = fc.uniqueArray(fc.tuple(anyName, anyTensor), {
    selector: ([name]) => name,
    maxLength: 6,
  });

  test('give back the same tensors and metadata, every one aligned to its type', () => {
    fc.assert(
      fc.property(anyTensors, fc.uniqueArray(anyName), (list, keys) => {
        const tensors = new Map(list);
        const metadata = new Map(keys.map((key) => [key, `value of ${key}`]));
        const bytes = encode(tensors, metadata);
        const file = readSafetensors(bytes);
        expect(new Map(file.tensors)).toEqual(tensors);
        expect(file.metadata).toEqual(metadata);
        expect(Object.getPrototypeOf({})).toBe(Object.prototype);
        for (const { dtype, data } of file.tensors.values())
          if (data.length > 0) expect((data.byteOffset - bytes.byteOffset) % sizes[dtype]).toBe(0);
      }),
      { numRuns: 500 },
    );
  });

  test('through a file', async () => {
    const path = join(folder, 'a.safetensors');
    const tensors = new Map([
      ['a', float32Tensor([2], Float32Array.of(1, -2))],
      ['b', int32Tensor([3], Int32Array.of(1, 2, 3))],
    ]);
    await writeSafetensorsFile(path, tensors, new Map([['k', 'v']]));
    const file = await readSafetensorsFile(path);
    expect(await toFloat32('a', file.tensors.get('a')!)).toEqual(Float32Array.of(1, -2));
    expect(await toInt32('b', file.tensors.get('b')!)).toEqual(Int32Array.of(1, 2, 3));
    expect([...file.metadata]).toEqual([['k', 'v']]);
    const second = new Float32Array(1);
    await withSafetensorsFile(path, ({ tensors }) => readFloat32('a', tensors.get('a')!, 1, second));
    expect(second[0]).toBe(-2);
  });

  test('a Buffer at an odd offset of its memory reads the same', async () => {
    const whole = encode(new Map([['a', float32Tensor([2], Float32Array.of(5, 6))]]));
    const odd = Buffer.concat([Buffer.from([0]), whole]).subarray(1);
    const read = readSafetensors(odd).tensors.get('a')!;
    expect(await toFloat32('a', read)).toEqual(Float32Array.of(5, 6));
  });

  test('wrong arguments name what is wrong', () => {
    const one = (t: unknown) => () => encodeSafetensors(new Map([['a', t as Tensor]]));
    const data = new Uint8Array(4);
    expect(one({ dtype: 'F32', shape: [2], data })).toThrow(/a\.data must be .* 8 elements/);
    expect(one({ dtype: 'X', shape: [1], data })).toThrow(/a\.dtype/);
    expect(one({ dtype: 'F32', shape: [1.5], data })).toThrow(/a\.shape/);
    expect(one({ dtype: 'F32', shape: [1], data: [0, 0, 0, 0] })).toThrow(TypeError);
    expect(one(null)).toThrow(/^a must be a tensor/);
    expect(one({ dtype: 'F32', shape: 1, data })).toThrow(/a\.shape must be an array/);
    const junk = (tensors: unknown, metadata?: unknown) =>
      expect(() => encodeSafetensors(tensors as never, metadata as never));
    for (const tensors of [undefined, null, {}, [], 'x']) junk(tensors).toThrow(/^tensors must be a Map/);
    junk(new Map([[7, float32Tensor([0], new Float32Array(0))]])).toThrow(/^tensors must be .* names/);
    for (const metadata of [null, 0, 'x', Number.NaN, {}])
      junk(new Map(), metadata).toThrow(/^metadata must be a Map/);
    for (const text of [0, Number.NaN, null, {}])
      junk(new Map(), new Map([['k', text]])).toThrow(/^metadata\["k"\] must be a string/);
    const reserved = new Map([['__metadata__', float32Tensor([0], new Float32Array(0))]]);
    expect(() => encodeSafetensors(reserved)).toThrow(RangeError);
    expect(() => readSafetensors('x' as never)).toThrow(TypeError);
  });
});

describe('legal files of other programs', () => {
  test.each([
    ['no tensors', '{}', 0],
    ['spaces after the header', '{}      ', 0],
    ['a scalar', { a: tensor('F32', [], 0, 4) }, 4],
    ['empty tensors between others', { a: tensor('U8', [1], 0, 1), b: tensor('F32', [0, 9], 1, 1) }, 1],
    ['a tensor that is not aligned', { a: tensor('U8', [1], 0, 1), b: tensor('F32', [1], 1, 5) }, 5],
    ['an empty list of metadata', { __metadata__: {} }, 0],
  ])('%s', (_, header, dataBytes) => {
    expect(() => readSafetensors(fileOf(header, dataBytes))).not.toThrow();
  });

  test('float16 and bfloat16 become the float32 they mean', async () => {
    const halves = Uint16Array.of(0x3c00, 0xc000, 0x7bff, 0x0001, 0x03ff, 0x8000, 0x7c00, 0xfc00, 0x3555);
    const half = await toFloat32('a', { dtype: 'F16', shape: [9], data: new Uint8Array(halves.buffer) });
    const wanted = [1, -2, 65504, 2 ** -24, 1023 * 2 ** -24, -0, Infinity, -Infinity, 1365 / 4096];
    expect(half).toEqual(Float32Array.from(wanted));
    expect(await toFloat32('a', { dtype: 'F16', shape: [1], data: Uint8Array.of(1, 0x7c) })).toEqual(
      Float32Array.of(NaN),
    );
    const brains = Uint16Array.of(0x3f80, 0xc0a0, 0x0001, 0x7f80);
    const tensor: Tensor = { dtype: 'BF16', shape: [4], data: new Uint8Array(brains.buffer) };
    expect(await toFloat32('a', tensor)).toEqual(Float32Array.of(1, -5, 2 ** -133, Infinity));
    expect(await toFloat32('a', tensor, 2)).toEqual(Float32Array.of(2 ** -133, Infinity));
  });

  test('int64 indices become int32 where they fit', async () => {
    const wide = (...values: bigint[]): Tensor => {
      return {
        dtype: 'I64',
        shape: [values.length],
        data: new Uint8Array(BigInt64Array.from(values).buffer),
      };
    };
    expect(await toInt32('a', wide(0n, 7n, -1n))).toEqual(Int32Array.of(0, 7, -1));
    await expect(toInt32('a', wide(2n ** 31n))).rejects.toThrow(/"a" has 2147483648 at 0/);
    await expect(toInt32('a', wide(2n ** 32n))).rejects.toThrow(/INVALID|no index/);
    const many = Array.from({ length: 70_000 }, (_, i) => BigInt(i));
    expect((await toInt32('a', wide(...many)))[69_999]).toBe(69_999);
    await expect(toInt32('a', wide(...many, 2n ** 31n))).rejects.toThrow(/at 70000/);
  });
});

describe('damaged files', () => {
  const deep = '['.repeat(200_000) + ']'.repeat(200_000);
  test.each<[string, Uint8Array, RegExp]>([
    ['empty', new Uint8Array(0), /0 bytes, fewer than the 8/],
    ['shorter than the length', new Uint8Array(7), /7 bytes/],
    ['no header', new Uint8Array(8), /does not begin with "\{"/],
    ['header longer than the file', fileOf('{}', 0, 3), /header length 3 is above the 2 bytes/],
    ['header longer than any', fileOf('{}', 0, 2n ** 64n - 1n), /above the limit/],
    ['header cut short', fileOf('{}', 0, 1), /not JSON/],
    ['header not an object', fileOf('[]'), /does not begin with "\{"/],
    ['space first', fileOf(' {}'), /does not begin with "\{"/],
    ['byte order mark', fileOf('\ufeff{}'), /does not begin with "\{"/],
    [
      'not UTF-8',
      join8([fileOf('', 0, 6), Buffer.from('{"'), Uint8Array.of(0xff), Buffer.from('":1')]),
      /not JSON/,
    ],
    ['text after the object', fileOf('{}x'), /not JSON/],
    ['deep nesting', fileOf(`{"a":${deep}}`), /"a" is not described by an object/],
    [
      'deep nesting in a dtype',
      fileOf(`{"a":{"dtype":${deep},"shape":[],"data_offsets":[0,0]}}`),
      /unknown dtype/,
    ],
    [
      'deep nesting in a shape',
      fileOf(`{"a":{"dtype":"U8","shape":[${deep}],"data_offsets":[0,0]}}`),
      /shape/,
    ],
    ['bytes without a tensor', fileOf('{}', 1), /tensors take 0 bytes of data, but 1/],
    ['null tensor', fileOf({ a: null }), /"a" is not described/],
    ['array tensor', fileOf({ a: [] }), /"a" is not described/],
    ['no dtype', fileOf({ a: {} }), /"a" has an unknown dtype/],
    ['unknown dtype', fileOf({ a: tensor('F31', [1], 0, 4) }, 4), /unknown dtype "F31"/],
    ['dtype of the prototype', fileOf({ a: tensor('toString', [1], 0, 4) }, 4), /unknown dtype/],
    ['negative side', fileOf({ a: tensor('F32', [-1, -1], 0, 4) }, 4), /shape/],
    ['fractional side', fileOf({ a: tensor('F32', [0.5, 2], 0, 4) }, 4), /shape/],
    ['side as text', fileOf({ a: tensor('F32', ['1'], 0, 4) }, 4), /shape/],
    ['shape not a list', fileOf({ a: tensor('F32', { length: 0 }, 0, 4) }, 4), /shape/],
    ['huge shape', fileOf({ a: tensor('F32', [2 ** 52, 2 ** 52, 2 ** 52], 0, 4) }, 4), /takes .* bytes/],
    ['huge and empty shape', fileOf({ a: tensor('F32', [...Array(40).fill(2 ** 52), 0], 0, 4) }, 4), /takes/],
    ['size and offsets differ', fileOf({ a: tensor('F32', [1], 0, 5) }, 5), /takes 4 bytes, but .* 0 and 5/],
    ['end before begin', fileOf({ a: tensor('U8', [0], 4, 0) }, 4), /offsets are 4 and 0/],
    ['offsets missing', fileOf({ a: { dtype: 'U8', shape: [0] } }), /data_offsets/],
    ['three offsets', fileOf({ a: { dtype: 'U8', shape: [0], data_offsets: [0, 0, 0] } }), /data_offsets/],
    ['negative offset', fileOf({ a: tensor('U8', [4], -4, 0) }), /data_offsets/],
    ['beyond the file', fileOf({ a: tensor('U8', [9], 0, 9) }, 8), /take 9 bytes of data, but 8/],
    [
      'overlap',
      fileOf({ a: tensor('U8', [3], 0, 3), b: tensor('U8', [3], 2, 5) }, 5),
      /"b" .*inside the tensor/,
    ],
    [
      'twice the same',
      fileOf({ a: tensor('U8', [3], 0, 3), b: tensor('U8', [3], 0, 3) }, 3),
      /inside the tensor/,
    ],
    ['hole', fileOf({ a: tensor('U8', [1], 0, 1), b: tensor('U8', [1], 2, 3) }, 3), /"b" .*after a hole/],
    ['hole before', fileOf({ a: tensor('U8', [1], 1, 2) }, 2), /after a hole/],
    ['hole behind', fileOf({ a: tensor('U8', [1], 0, 1) }, 2), /take 1 bytes of data, but 2/],
    [
      'doubled name',
      fileOf(
        '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}',
        2,
      ),
      /after a hole/,
    ],
    ['metadata not an object', fileOf({ __metadata__: [] }), /__metadata__ is not an object/],
    ['metadata not text', fileOf({ __metadata__: { a: 1 } }), /__metadata__\["a"\] is not a string/],
  ])('%s', async (name, bytes, message) => {
    const wanted = {
      name: 'BlocksparseError',
      code: 'INVALID_FILE',
      message: expect.stringMatching(message),
    };
    expect(() => readSafetensors(bytes)).toThrow(expect.objectContaining(wanted));
    const path = join(folder, name.replaceAll(' ', '-'));
    await writeFile(path, bytes);
    await expect(readSafetensorsFile(path)).rejects.toMatchObject(wanted);
    await expect(readSafetensorsFile(path)).rejects.toThrow(path);
  });

  test('a header that lies about a huge sparse file costs nothing', async () => {
    const path = join(folder, 'huge');
    const file = await open(path, 'w');
    await file.write(fileOf({ a: tensor('U8', [100], 0, 100) }));
    await file.truncate(2 ** 40);
    await file.close();
    await expect(readSafetensorsFile(path)).rejects.toThrow(/take 100 bytes of data/);
  });

  test('a folder or a device is no file; one that is missing gives the system error', async () => {
    await expect(readSafetensorsFile(folder)).rejects.toMatchObject({
      code: expect.stringMatching(/INVALID_FILE|EISDIR/),
    });
    if (process.platform === 'linux')
      await expect(readSafetensorsFile('/dev/zero')).rejects.toMatchObject({ code: 'INVALID_FILE' });
    await expect(readSafetensorsFile(join(folder, 'none'))).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(readSafetensorsFile(5 as never)).rejects.toThrow(TypeError);
  });
});
