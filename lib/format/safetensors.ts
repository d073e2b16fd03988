import { type FileHandle, open } from 'node:fs/promises';
import { checkArray, checkOneOf, isObject } from '../check.ts';
import { BlocksparseError, describe, rangeError, typeError } from '../errors.ts';
import { checkPath, writeFileAtomic } from './atomic.ts';

/** The format's element types; those of less than a byte are not read. */
export type DType =
  | 'C64'
  | 'F64'
  | 'I64'
  | 'U64'
  | 'F32'
  | 'I32'
  | 'U32'
  | 'F16'
  | 'BF16'
  | 'I16'
  | 'U16'
  | 'I8'
  | 'U8'
  | 'BOOL'
  | 'F8_E4M3'
  | 'F8_E5M2'
  | 'F8_E8M0';

const ELEMENT_BYTES: Readonly<Record<DType, number>> = {
  C64: 8,
  F64: 8,
  I64: 8,
  U64: 8,
  F32: 4,
  I32: 4,
  U32: 4,
  F16: 2,
  BF16: 2,
  I16: 2,
  U16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  F8_E8M0: 1,
};
const DTYPES = Object.keys(ELEMENT_BYTES) as DType[];

/** The limit of the format's own library. */
const MAX_HEADER_BYTES = 100_000_000;
const METADATA = '__metadata__';

export interface Tensor {
  readonly dtype: DType;
  /** Row-major; [] is a scalar. */
  readonly shape: readonly number[];
  /** The little-endian bytes. */
  readonly data: Uint8Array;
}

export interface SafetensorsFile {
  readonly metadata: ReadonlyMap<string, string>;
  /** In the order of their data. */
  readonly tensors: ReadonlyMap<string, Tensor>;
}

interface Entry {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

interface Header {
  readonly metadata: Map<string, string>;
  readonly entries: Entry[];
}

/** A damaged file: what is wrong with it, and in which tensor. */
export function invalidFile(message: string): BlocksparseError {
  return new BlocksparseError('INVALID_FILE', message);
}

/** `Error` in reading `path`, if it came from the file's content, says so. */
export function inFile(path: string, error: unknown): unknown {
  if (!(error instanceof BlocksparseError) || error.code !== 'INVALID_FILE') return error;
  return new BlocksparseError('INVALID_FILE', `${path}: ${error.message}`, { cause: error });
}

/**
 * Reads a whole safetensors file in memory (https://github.com/huggingface/safetensors#format): 8 bytes of
 * header length, little-endian; a JSON header; the data. The tensors are views of `bytes`, not copies.
 * Everything the header says is checked against the bytes there are, and the tensors must cover the data
 * exactly. Throws TypeError, and BlocksparseError INVALID_FILE for a damaged file.
 */
export function readSafetensors(bytes: Uint8Array): SafetensorsFile {
  checkArray('bytes', bytes, Uint8Array);
  const start = 8 + readHeaderLength(bytes.subarray(0, 8), bytes.length);
  const header = parseHeader(bytes.subarray(8, start), bytes.length - start);
  return cut(header, bytes.subarray(start));
}

/** A tensor in an open file. */
export interface StoredTensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** Fills `into` with its bytes from byte `at`. */
  readonly read: (at: number, into: Uint8Array) => Promise<void>;
}

export interface OpenSafetensors {
  readonly metadata: ReadonlyMap<string, string>;
  readonly tensors: ReadonlyMap<string, StoredTensor>;
}

/**
 * `readSafetensors` of a file. The header is read and checked first, so that no more memory is taken than the
 * file has bytes. Rejects with BlocksparseError INVALID_FILE, or the system's error (ENOENT, EACCES).
 */
export async function readSafetensorsFile(path: string | URL): Promise<SafetensorsFile> {
  return withSafetensorsFile(path, async ({ metadata, tensors }) => {
    const whole = new Map<string, Tensor>();
    for (const [name, { dtype, shape, read }] of tensors) {
      const data = new Uint8Array(shape.reduce((product, side) => product * side, ELEMENT_BYTES[dtype]));
      await read(0, data);
      whole.set(name, { dtype, shape, data });
    }
    return { metadata, tensors: whole };
  });
}

/** What `use` makes of an open file whose header was read and checked: it reads the data where it keeps them. */
export async function withSafetensorsFile<T>(
  path: string | URL,
  use: (content: OpenSafetensors) => Promise<T>,
): Promise<T> {
  const name = checkPath('path', path);
  const file = await open(name, 'r');
  try {
    const stat = await file.stat();
    if (!stat.isFile()) throw invalidFile('not a regular file');
    const first = new Uint8Array(Math.min(8, stat.size));
    await readRange(file, 0, first);
    const header = new Uint8Array(readHeaderLength(first, stat.size));
    await readRange(file, 8, header);
    const start = 8 + header.length;
    const { metadata, entries } = parseHeader(header, stat.size - start);
    const tensors = new Map<string, StoredTensor>();
    for (const { name, dtype, shape, begin } of entries)
      tensors.set(name, { dtype, shape, read: (at, into) => readRange(file, start + begin + at, into) });
    return await use({ metadata, tensors });
  } catch (error) {
    throw inFile(name, error);
  } finally {
    await file.close();
  }
}

async function readRange(file: FileHandle, at: number, into: Uint8Array): Promise<void> {
  for (let done = 0; done < into.length; ) {
    const { bytesRead } = await file.read(into, done, Math.min(1 << 30, into.length - done), at + done);
    if (bytesRead === 0) throw invalidFile(`ends at byte ${at + done}, before its end`);
    done += bytesRead;
  }
}

function readHeaderLength(first: Uint8Array, fileBytes: number): number {
  if (first.length < 8) throw invalidFile(`has ${fileBytes} bytes, fewer than the 8 of the header length`);
  const length = Number(new DataView(first.buffer, first.byteOffset, 8).getBigUint64(0, true));
  if (length > MAX_HEADER_BYTES)
    throw invalidFile(`header length ${length} is above the limit of ${MAX_HEADER_BYTES} bytes`);
  if (length > fileBytes - 8)
    throw invalidFile(`header length ${length} is above the ${fileBytes - 8} bytes that follow it`);
  return length;
}

function parseHeader(bytes: Uint8Array, dataBytes: number): Header {
  if (bytes[0] !== 0x7b) throw invalidFile('the header does not begin with "{"');
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch (cause) {
    throw new BlocksparseError('INVALID_FILE', `the header is not JSON: ${(cause as Error).message}`, {
      cause,
    });
  }
  const metadata = new Map<string, string>();
  const entries: Entry[] = [];
  // JSON.parse makes "__proto__" an own property like any other, and entries() gives own ones only.
  for (const [name, value] of Object.entries(json as object)) {
    if (name !== METADATA) {
      entries.push(parseEntry(name, value));
      continue;
    }
    if (!isPlainObject(value)) throw invalidFile(`${METADATA} is not an object`);
    for (const [key, text] of Object.entries(value)) {
      if (typeof text !== 'string') throw invalidFile(`${METADATA}[${describe(key)}] is not a string`);
      metadata.set(key, text);
    }
  }
  entries.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let covered = 0;
  for (const entry of entries) {
    if (entry.begin !== covered)
      throw invalidFile(
        `tensor ${describe(entry.name)} begins at ${entry.begin} of the data, ` +
          `${entry.begin < covered ? 'inside the tensor before it' : 'after a hole'} that ends at ${covered}`,
      );
    covered = entry.end;
  }
  if (covered !== dataBytes)
    throw invalidFile(`the tensors take ${covered} bytes of data, but ${dataBytes} bytes follow the header`);
  return { metadata, entries };
}

function parseEntry(name: string, value: unknown): Entry {
  const where = `tensor ${describe(name)}`;
  if (!isPlainObject(value)) throw invalidFile(`${where} is not described by an object`);
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== 'string' || !Object.hasOwn(ELEMENT_BYTES, dtype))
    throw invalidFile(
      `${where} has an unknown dtype${typeof dtype === 'string' ? ` ${describe(dtype)}` : ''}`,
    );
  if (!Array.isArray(shape) || !shape.every(isSize))
    throw invalidFile(`${where} has a shape that is not a list of whole numbers`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize))
    throw invalidFile(`${where} has data_offsets that are not two whole numbers`);
  const [begin, end] = offsets as [number, number];
  const elements = shape.reduce((product: number, side: number) => product * side, 1);
  const size = elements * ELEMENT_BYTES[dtype as DType];
  // Products beyond 2^53 lose exactness, but stay far above what any file holds.
  if (end - begin !== size)
    throw invalidFile(
      `${where} of ${dtype} [${String(shape).slice(0, 60)}] takes ${size} bytes, but its offsets are ${begin} and ${end}`,
    );
  return { name, dtype: dtype as DType, shape, begin, end };
}

function isSize(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function cut({ metadata, entries }: Header, data: Uint8Array): SafetensorsFile {
  const tensors = new Map<string, Tensor>();
  for (const { name, dtype, shape, begin, end } of entries)
    tensors.set(name, { dtype, shape, data: data.subarray(begin, end) });
  return { metadata, tensors };
}

/**
 * The file's pieces in order: header, then each tensor's bytes, without copying them. Tensors of wide types
 * come first, and the header is padded to a multiple of 8, so that every tensor is aligned to its type in the
 * file. Throws TypeError or RangeError for a tensor whose bytes are not what its shape and type take.
 */
export function encodeSafetensors(
  tensors: ReadonlyMap<string, Tensor>,
  metadata: ReadonlyMap<string, string> = new Map(),
): Uint8Array[] {
  checkTensors(tensors);
  checkMetadata(metadata);
  const sorted = [...tensors].sort((a, b) => ELEMENT_BYTES[b[1].dtype] - ELEMENT_BYTES[a[1].dtype]);
  const header: [string, unknown][] = [];
  if (metadata.size > 0) header.push([METADATA, Object.fromEntries(metadata)]);
  let at = 0;
  for (const [name, { dtype, shape, data }] of sorted) {
    const size = data.byteLength;
    header.push([name, { dtype, shape, data_offsets: [at, at + size] }]);
    at += size;
  }
  const text = new TextEncoder().encode(JSON.stringify(Object.fromEntries(header)));
  const length = Math.ceil(text.length / 8) * 8;
  if (length > MAX_HEADER_BYTES)
    throw rangeError('metadata', `at most ${MAX_HEADER_BYTES} bytes with the names`, length);
  const first = new Uint8Array(8 + length).fill(0x20);
  new DataView(first.buffer).setBigUint64(0, BigInt(length), true);
  first.set(text, 8);
  return [first, ...sorted.map(([, tensor]) => tensor.data)];
}

function checkTensors(tensors: unknown): void {
  if (!(tensors instanceof Map)) throw typeError('tensors', 'a Map', tensors);
  for (const [name, tensor] of tensors as Map<unknown, unknown>) {
    if (typeof name !== 'string') throw typeError('tensors', 'a Map with strings as names', name);
    if (name === METADATA) throw rangeError('tensors', `without the reserved name ${METADATA}`, name);
    if (!isObject(tensor)) throw typeError(name, 'a tensor of dtype, shape and data', tensor);
    const { dtype, shape, data } = tensor as Partial<Record<keyof Tensor, unknown>>;
    checkOneOf(`${name}.dtype`, dtype, DTYPES);
    if (!Array.isArray(shape)) throw typeError(`${name}.shape`, 'an array of whole numbers', shape);
    if (!shape.every(isSize)) throw rangeError(`${name}.shape`, 'whole numbers', shape);
    const size = shape.reduce((product: number, side: number) => product * side, 1) * ELEMENT_BYTES[dtype];
    checkArray(`${name}.data`, data, Uint8Array, size);
  }
}

function checkMetadata(metadata: unknown): void {
  if (!(metadata instanceof Map)) throw typeError('metadata', 'a Map', metadata);
  for (const [key, text] of metadata as Map<unknown, unknown>) {
    if (typeof key !== 'string') throw typeError('metadata', 'a Map with strings as keys', key);
    if (typeof text !== 'string') throw typeError(`metadata[${describe(key)}]`, 'a string', text);
  }
}

/** Writes a safetensors file atomically. Rejects with BlocksparseError WRITE_FAILED; the old file then stays. */
export async function writeSafetensorsFile(
  path: string | URL,
  tensors: ReadonlyMap<string, Tensor>,
  metadata?: ReadonlyMap<string, string>,
): Promise<void> {
  await writeFileAtomic(path, encodeSafetensors(tensors, metadata));
}

/** A float32 tensor that shares the array's memory. */
export function float32Tensor(shape: readonly number[], values: Float32Array): Tensor {
  return { dtype: 'F32', shape, data: bytesOf(values) };
}

/** An int32 tensor that shares the array's memory. */
export function int32Tensor(shape: readonly number[], values: Int32Array): Tensor {
  return { dtype: 'I32', shape, data: bytesOf(values) };
}

function bytesOf(array: ArrayBufferView): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

/** Elements that are converted at a time: what that takes beside the result. */
const PIECE = 1 << 16;

/**
 * Fills `into` from element `from` on, from F32, F16 or BF16, all exact. Rejects with INVALID_FILE for other types.
 */
export async function readFloat32(
  name: string,
  { dtype, read }: StoredTensor,
  from: number,
  into: Float32Array,
): Promise<void> {
  if (dtype === 'F32') return read(4 * from, bytesOf(into));
  if (dtype !== 'BF16' && dtype !== 'F16')
    throw invalidFile(`tensor ${describe(name)} is ${dtype}; weights are read from F32, F16 and BF16`);
  const bits = new Uint32Array(into.buffer, into.byteOffset, into.length);
  for (let at = 0; at < into.length; at += PIECE) {
    const halves = new Uint16Array(Math.min(PIECE, into.length - at));
    await read(2 * (from + at), bytesOf(halves));
    if (dtype === 'BF16') for (let i = 0; i < halves.length; i++) bits[at + i] = halves[i] << 16;
    else for (let i = 0; i < halves.length; i++) into[at + i] = halfToNumber(halves[i]);
  }
}

/** IEEE 754 binary16: 1 bit sign, 5 bits exponent with bias 15, 10 bits fraction. */
function halfToNumber(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}

/** Fills `into` from I32, or from I64 (PyTorch's default for indices) whose entries all fit. */
export async function readInt32(
  name: string,
  { dtype, read }: StoredTensor,
  into: Int32Array,
): Promise<void> {
  if (dtype === 'I32') return read(0, bytesOf(into));
  if (dtype !== 'I64') throw invalidFile(`tensor ${describe(name)} is ${dtype}; indices are I32 or I64`);
  for (let at = 0; at < into.length; at += PIECE) {
    const wide = new BigInt64Array(Math.min(PIECE, into.length - at));
    await read(8 * at, bytesOf(wide));
    for (let i = 0; i < wide.length; i++) {
      into[at + i] = Number(wide[i]);
      if (BigInt(into[at + i]) !== wide[i])
        throw invalidFile(`tensor ${describe(name)} has ${wide[i]} at ${at + i}, which no index can be`);
    }
  }
}
