import { readFile, stat } from 'node:fs/promises';
import { constants, gunzipSync } from 'node:zlib';
import { checkArray } from '../check.ts';
import { BlocksparseError } from '../errors.ts';
import { checkPath } from '../format/atomic.ts';

/** The content of an IDX file of unsigned bytes. */
export interface IdxFile {
  /** Row-major; the first is the number of items. */
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

/** 2 zero bytes, the element type, the number of dimensions; then that many big-endian uint32 sizes. */
const MAGIC_BYTES = 4;
const UNSIGNED_BYTE = 0x08;
/** No deflate stream expands further (https://zlib.net/zlib_tech.html). */
const MAX_INFLATION = 1032;
/** Bytes inflated to find the header. */
const MAX_BEGINNING = 1 << 25;

function invalidData(message: string, cause?: unknown): BlocksparseError {
  return new BlocksparseError('INVALID_DATA', message, { cause });
}

/**
 * Reads an IDX file (http://yann.lecun.com/exdb/mnist: MNIST and its relatives) of unsigned bytes, gzipped or
 * not. Not more is inflated than the sizes in its header add up to. The data may be a view of `bytes`. Throws
 * TypeError, and BlocksparseError INVALID_DATA for anything else than one whole IDX file.
 */
export function readIdx(bytes: Uint8Array): IdxFile {
  checkArray('bytes', bytes, Uint8Array);
  const gzipped = bytes[0] === 0x1f && bytes[1] === 0x8b;
  const content = gzipped ? inflate(bytes) : bytes;
  const header = parseHeader(content);
  if (!header) throw invalidData(`ends inside its header, at byte ${content.length}`);
  if (content.length !== header.start + header.size)
    throw invalidData(
      `has ${content.length - header.start} bytes of data, but its sizes [${header.shape}] need ${header.size}`,
    );
  return { shape: header.shape, data: content.subarray(header.start) };
}

/** `readIdx` of a file; the error then names it. Rejects with the system's error when it cannot be read. */
export async function readIdxFile(path: string | URL): Promise<IdxFile> {
  const name = checkPath('path', path);
  // A device or a pipe could go on for ever.
  if (!(await stat(name)).isFile()) throw invalidData(`${name}: is not a regular file`);
  const bytes = await readFile(name);
  try {
    return readIdx(bytes);
  } catch (error) {
    if (error instanceof BlocksparseError) throw invalidData(`${name}: ${error.message}`, error);
    throw error;
  }
}

interface IdxHeader {
  readonly shape: number[];
  /** Where the data begins, in bytes. */
  readonly start: number;
  /** Bytes of data. */
  readonly size: number;
}

/** Undefined when `bytes` end before the header does. */
function parseHeader(bytes: Uint8Array): IdxHeader | undefined {
  if (bytes.length < MAGIC_BYTES) return undefined;
  if (bytes[0] !== 0 || bytes[1] !== 0)
    throw invalidData('is no IDX file: it does not begin with two zero bytes');
  if (bytes[2] !== UNSIGNED_BYTE)
    throw invalidData(`has elements of type 0x${bytes[2].toString(16)}; only unsigned bytes (0x8) are read`);
  const rank = bytes[3];
  if (rank === 0) throw invalidData('has no dimensions');
  const start = MAGIC_BYTES + 4 * rank;
  if (bytes.length < start) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const shape = Array.from({ length: rank }, (_, i) => view.getUint32(MAGIC_BYTES + 4 * i));
  const size = shape.reduce((product, side) => product * side, 1);
  if (!Number.isSafeInteger(size)) throw invalidData(`has impossible sizes [${shape.slice(0, 8)}]`);
  return { shape, start, size };
}

function inflate(bytes: Uint8Array): Uint8Array {
  const header = inflateHeader(bytes);
  const length = header.start + header.size;
  if (length > bytes.length * MAX_INFLATION)
    throw invalidData(`has sizes [${header.shape}], more than ${bytes.length} gzipped bytes can hold`);
  try {
    return gunzipSync(bytes, { maxOutputLength: length });
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE')
      throw invalidData(
        `inflates to more than the ${length} bytes that its sizes [${header.shape}] need`,
        cause,
      );
    throw invalidData(`is damaged: ${(cause as Error).message}`, cause);
  }
}

/** Inflates the beginning only: what is in front of the data is a few bytes, seldom a file name too. */
function inflateHeader(bytes: Uint8Array): IdxHeader {
  for (let taken = 256; ; taken *= 4) {
    let content: Uint8Array;
    try {
      content = gunzipSync(bytes.subarray(0, taken), {
        finishFlush: constants.Z_SYNC_FLUSH,
        maxOutputLength: MAX_BEGINNING,
      });
    } catch (cause) {
      throw invalidData(`is damaged: ${(cause as Error).message}`, cause);
    }
    const header = parseHeader(content);
    if (header) return header;
    if (taken >= bytes.length) throw invalidData(`ends inside its header, at byte ${content.length}`);
  }
}
