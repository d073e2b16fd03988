/**
 * The tiles of wasm-forward.ts as a WebAssembly module, put together here: WebAssembly has vectors of four
 * float32, which JavaScript has not. Most engines compile it; wasm-forward.ts does without elsewhere.
 */

/** Rows of a tile, at most, and vectors of the batch a tile of so many rows takes: eight sums at least. */
export const TILE_ROWS = 4;
export const tileVectors = (rows: number) => (rows < 3 ? 4 : 2);
/** Batch rows in a vector. */
export const LANES = 4;

/** Byte addresses in the module's memory, and byte strides. */
export type Tile = (
  weights: number,
  /** Where in x each block's first column begins, as byte offsets; as many as there are blocks. */
  offsets: number,
  offsetsEnd: number,
  /** Bytes of a block, and of one of its rows. */
  blockBytes: number,
  rowBytes: number,
  /** Panels: a column of x, or a row of y, is so many bytes further on than the last. */
  x: number,
  y: number,
  panelBytes: number,
  /** Tiles side by side along the batch, one at least. */
  tiles: number,
) => void;

const I32 = 0x7f;
const V128 = 0x7b;
const EMPTY = 0x40;

/** An unsigned number in LEB128. */
function leb(value: number): number[] {
  const low = value & 0x7f;
  return value < 0x80 ? [low] : [low | 0x80, ...leb(value >>> 7)];
}
/** A signed one, of up to 31 bits. */
function sleb(value: number): number[] {
  const low = value & 0x7f;
  const rest = value >> 7;
  const done = (rest === 0 && (low & 0x40) === 0) || (rest === -1 && (low & 0x40) !== 0);
  return done ? [low] : [low | 0x80, ...sleb(rest)];
}
const vector = (items: number[][]) => [...leb(items.length), ...items.flat()];
const sized = (bytes: number[]) => [...leb(bytes.length), ...bytes];
const section = (id: number, items: number[][]) => [id, ...sized(vector(items))];
const text = (value: string) => sized([...new TextEncoder().encode(value)]);

const get = (local: number) => [0x20, ...leb(local)];
const set = (local: number) => [0x21, ...leb(local)];
const constant = (value: number) => [0x41, ...sleb(value)];
const add = [0x6a];
const subtract = [0x6b];
const loop = [0x03, EMPTY];
const block = [0x02, EMPTY];
const end = [0x0b];
const branchIf = (depth: number) => [0x0d, ...leb(depth)];
const less = [0x49];
const notLess = [0x4f];
const simd = (code: number) => [0xfd, ...leb(code)];
const memory = (align: number, offset: number) => [...leb(align), ...leb(offset)];
const loadInt = [0x28, ...memory(2, 0)];
const loadVector = (offset: number) => [...simd(0), ...memory(2, offset)];
const loadSplat = [...simd(9), ...memory(2, 0)];
const storeVector = (offset: number) => [...simd(11), ...memory(2, offset)];
const zero = [...simd(12), ...new Array<number>(16).fill(0)];
const addVectors = simd(0xe4);
const multiplyVectors = simd(0xe6);

const range = (count: number) => Array.from({ length: count }, (_, i) => i);

/** y[rows][..] = sum over blocks and their columns of weight . x[column][..], a panel's tiles one by one. */
function tileCode(rows: number): number[] {
  const vectors = tileVectors(rows);
  const [weights, offsets, offsetsEnd, blockBytes, rowBytes, x, y, panelBytes, tiles] = range(9);
  // After the parameters: integers, then vectors.
  const [offset, w, column, to] = range(4).map((i) => 9 + i);
  const row = range(rows).map((i) => 13 + i);
  const first = 13 + rows;
  const sum = range(rows).map((i) => range(vectors).map((v) => first + i * vectors + v));
  const input = range(vectors).map((v) => first + rows * vectors + v);
  const one = first + rows * vectors + vectors;
  const bytes = 4 * LANES;
  const advance = (local: number, by: number[]) => [...get(local), ...by, ...add, ...set(local)];

  const oneColumn = [
    ...input.flatMap((local, v) => [...get(column), ...loadVector(v * bytes), ...set(local)]),
    ...row.flatMap((pointer, i) => [
      ...get(pointer),
      ...loadSplat,
      ...set(one),
      ...sum[i].flatMap((local, v) => [
        ...get(local),
        ...get(one),
        ...get(input[v]),
        ...multiplyVectors,
        ...addVectors,
        ...set(local),
      ]),
      ...advance(pointer, constant(4)),
    ]),
    ...advance(column, get(panelBytes)),
  ];
  const oneBlock = [
    ...[...get(x), ...get(offset), ...loadInt, ...add, ...set(column)],
    ...[...get(w), ...set(row[0])],
    ...row.slice(1).flatMap((pointer, i) => [...get(row[i]), ...get(rowBytes), ...add, ...set(pointer)]),
    ...advance(w, get(rowBytes)),
    ...[...loop, ...oneColumn, ...get(row[0]), ...get(w), ...less, ...branchIf(0), ...end],
    // w stands a row into the block.
    ...[...get(w), ...get(rowBytes), ...subtract, ...get(blockBytes), ...add, ...set(w)],
    ...advance(offset, constant(4)),
  ];
  const body = [
    ...loop,
    ...sum.flat().flatMap((local) => [...zero, ...set(local)]),
    ...[...get(weights), ...set(w), ...get(offsets), ...set(offset)],
    ...[...block, ...get(offset), ...get(offsetsEnd), ...notLess, ...branchIf(0)],
    ...[...loop, ...oneBlock, ...get(offset), ...get(offsetsEnd), ...less, ...branchIf(0), ...end],
    ...end,
    ...[...get(y), ...set(to)],
    ...sum.flatMap((locals) => [
      ...locals.flatMap((local, v) => [...get(to), ...get(local), ...storeVector(v * bytes)]),
      ...advance(to, get(panelBytes)),
    ]),
    ...[...advance(x, constant(vectors * bytes)), ...advance(y, constant(vectors * bytes))],
    ...[...advance(tiles, constant(-1)), ...get(tiles), ...branchIf(0)],
    ...end,
  ];
  const locals = vector([
    [...leb(4 + rows), I32],
    [...leb(rows * vectors + vectors + 1), V128],
  ]);
  return sized([...locals, ...body, ...end]);
}

/** A module that exports its memory and a tile for each height: `tile1` to `tile4`. */
export function tileModule(): Uint8Array<ArrayBuffer> {
  const heights = range(TILE_ROWS).map((i) => i + 1);
  return new Uint8Array([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, [[0x60, ...vector(new Array<number[]>(9).fill([I32])), 0]]),
    ...section(
      3,
      heights.map(() => [0]),
    ),
    ...section(5, [[0, 1]]),
    ...section(7, [[...text('memory'), 2, 0], ...heights.map((rows, i) => [...text(`tile${rows}`), 0, i])]),
    ...section(10, heights.map(tileCode)),
  ]);
}
