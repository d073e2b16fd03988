import type { BsrArrays } from './kernels.ts';
import { LANES, TILE_ROWS, type Tile, tileModule, tileVectors } from './wasm-tile.ts';

/**
 * The forward product in WebAssembly, in panels: vectors along the batch, weights broadcast, as in
 * native/kernels/panel_forward_f32.inl. A module has a memory of its own, so a call copies what it multiplies,
 * a part of the weights at a time; from two batch rows on that is faster than rowsForward.
 */

/** Batch rows of a panel: whole tiles of any height. */
const PANEL_STEP = LANES * tileVectors(1);
const PANEL_ROWS = 4 * PANEL_STEP;
/**
 * Bytes in memory at a time of x, unless PANEL_STEP batch rows have more, and of weights and of y, unless one block row
 * has more.
 */
const X_BYTES = 1 << 19;
const WEIGHT_BYTES = 1 << 20;
const Y_BYTES = 1 << 19;
/** Bytes of everything, which a process without native code can spare. */
const MOST_BYTES = 1 << 28;
const PAGE = 1 << 16;

interface Memory {
  readonly buffer: ArrayBuffer;
  grow(pages: number): number;
}

/** What is used of it: TypeScript's own declaration comes with those of browsers. */
declare const WebAssembly: {
  validate(code: Uint8Array): boolean;
  Module: new (code: Uint8Array) => object;
  Instance: new (module: object) => { exports: Record<string, unknown> };
};

interface Module {
  memory: Memory;
  tiles: Tile[];
  /** Views of all its memory. */
  floats: Float32Array;
  ints: Int32Array;
}

let module: Module | null | undefined;

/** Compiled at first use; null where WebAssembly or its vectors are missing. */
function load(): Module | null {
  if (module !== undefined) return module;
  module = null;
  if (typeof WebAssembly === 'object') {
    const code = tileModule();
    if (WebAssembly.validate(code)) {
      let exports: Record<string, unknown>;
      try {
        ({ exports } = new WebAssembly.Instance(new WebAssembly.Module(code)));
      } catch {
        return null; // an embedder that forbids code, or too little address space
      }
      const tiles = Array.from({ length: TILE_ROWS }, (_, i) => exports[`tile${i + 1}`] as Tile);
      module = {
        memory: exports.memory as Memory,
        tiles,
        floats: new Float32Array(),
        ints: new Int32Array(),
      };
    }
  }
  return module;
}

/** Whether there is a memory of so many bytes, with its views. */
function grow(loaded: Module, bytes: number): boolean {
  const missing = bytes - loaded.memory.buffer.byteLength;
  if (missing > 0) {
    if (bytes > MOST_BYTES) return false;
    try {
      loaded.memory.grow(Math.ceil(missing / PAGE));
    } catch {
      return false;
    }
  }
  const { buffer } = loaded.memory;
  if (loaded.floats.buffer !== buffer) {
    loaded.floats = new Float32Array(buffer);
    loaded.ints = new Int32Array(buffer);
  }
  return true;
}

/** The end of the block rows from `begin` on that go together: `most` of them, of WEIGHT_BYTES, but one at least. */
function chunkEnd(crow: Int32Array, begin: number, blockBytes: number, most: number): number {
  const last = Math.min(crow.length - 1, begin + most);
  let end = begin + 1;
  while (end < last && (crow[end + 1] - crow[begin]) * blockBytes <= WEIGHT_BYTES) end++;
  return end;
}

/** The module, and where in its memory what a product needs begins, in bytes; x begins at 0. */
interface Room {
  readonly loaded: Module;
  /** Batch rows of a panel, features of x in it, and block rows whose y it holds. */
  readonly widest: number;
  readonly columns: number;
  readonly most: number;
  readonly yAt: number;
  readonly weightsAt: number;
  readonly offsetsAt: number;
}

/** Null where there is no WebAssembly or too little memory. */
function makeRoom({ shape, blockShape, crowIndices: crow }: BsrArrays, m: number): Room | null {
  const loaded = load();
  if (loaded === null) return null;
  const [r, c] = blockShape;
  const blockRows = crow.length - 1;
  const blockBytes = 4 * r * c;
  // Columns of x that the last blocks reach beyond the edge are zeros, like their weights.
  const columns = Math.ceil(shape[1] / c) * c;
  let widest = Math.min(PANEL_ROWS, Math.ceil(m / PANEL_STEP) * PANEL_STEP);
  while (widest > PANEL_STEP && 4 * columns * widest > X_BYTES) widest -= PANEL_STEP;
  const most = Math.max(1, Math.floor(Y_BYTES / (4 * r * widest)));
  let mostBlocks = 0;
  let mostRows = 0;
  for (let begin = 0; begin < blockRows; ) {
    const end = chunkEnd(crow, begin, blockBytes, most);
    mostBlocks = Math.max(mostBlocks, crow[end] - crow[begin]);
    mostRows = Math.max(mostRows, end - begin);
    begin = end;
  }
  const yAt = 4 * columns * widest;
  const weightsAt = yAt + 4 * mostRows * r * widest;
  const offsetsAt = weightsAt + mostBlocks * blockBytes;
  if (!grow(loaded, offsetsAt + 4 * mostBlocks)) return null;
  return { loaded, widest, columns, most, yAt, weightsAt, offsetsAt };
}

/** Whether `wasmForward` computes a product of m batch rows; it takes the memory for it. */
export const servesWasm = (w: BsrArrays, m: number): boolean => makeRoom(w, m) !== null;

/**
 * out[M, N] = x[M, K] . W^T + bias, row-major; false, and nothing done, where there is no WebAssembly or too
 * little memory.
 */
export function wasmForward(
  w: BsrArrays,
  bias: Float32Array | null,
  x: Float32Array,
  m: number,
  out: Float32Array,
): boolean {
  const room = makeRoom(w, m);
  if (room === null) return false;
  const { widest, columns, most, yAt, weightsAt, offsetsAt } = room;
  const { tiles, floats, ints } = room.loaded;
  const n = w.shape[0];
  const k = w.shape[1];
  const r = w.blockShape[0];
  const c = w.blockShape[1];
  const crow = w.crowIndices;
  const blockRows = crow.length - 1;
  const blockBytes = 4 * r * c;

  for (let first = 0; first < m; first += widest) {
    const rows = Math.min(widest, m - first);
    const width = Math.ceil(rows / PANEL_STEP) * PANEL_STEP;
    toPanel(x, first * k, rows, k, floats, width, columns);
    for (let begin = 0; begin < blockRows; ) {
      const end = chunkEnd(crow, begin, blockBytes, most);
      // All of them stay where they are for the whole batch.
      if (end - begin < blockRows)
        floats.set(w.values.subarray(crow[begin] * r * c, crow[end] * r * c), weightsAt / 4);
      else if (first === 0) floats.set(w.values, weightsAt / 4);
      for (let e = crow[begin]; e < crow[end]; e++)
        ints[offsetsAt / 4 + e - crow[begin]] = 4 * w.colIndices[e] * c * width;
      for (let row = begin; row < end; row++) {
        const height = Math.min(r, n - row * r);
        const weights = weightsAt + (crow[row] - crow[begin]) * blockBytes;
        const from = offsetsAt + 4 * (crow[row] - crow[begin]);
        const to = offsetsAt + 4 * (crow[row + 1] - crow[begin]);
        for (let i = 0; i < height; i += TILE_ROWS) {
          const tileRows = Math.min(TILE_ROWS, height - i);
          const y = yAt + 4 * ((row - begin) * r + i) * width;
          const count = width / (LANES * tileVectors(tileRows));
          tiles[tileRows - 1](weights + 4 * i * c, from, to, blockBytes, 4 * c, 0, y, 4 * width, count);
        }
      }
      fromPanel(floats, yAt / 4, width, rows, bias, begin * r, Math.min(end * r, n), out, first * n, n);
      begin = end;
    }
  }
  return true;
}

/** panel[feature][lane] from x[lane][feature]; what is beyond either is zero. */
function toPanel(
  x: Float32Array,
  from: number,
  rows: number,
  k: number,
  panel: Float32Array,
  width: number,
  columns: number,
): void {
  for (let f = 0; f < k; f++) {
    let at = from + f;
    const line = f * width;
    for (let lane = 0; lane < rows; lane++) {
      panel[line + lane] = x[at];
      at += k;
    }
    for (let lane = rows; lane < width; lane++) panel[line + lane] = 0;
  }
  panel.fill(0, k * width, columns * width);
}

/** out[lane][feature] of features [begin, end) from panel[feature - begin][lane], plus bias. */
function fromPanel(
  panel: Float32Array,
  from: number,
  width: number,
  rows: number,
  bias: Float32Array | null,
  begin: number,
  end: number,
  out: Float32Array,
  to: number,
  n: number,
): void {
  for (let feature = begin; feature < end; feature++) {
    const line = from + (feature - begin) * width;
    const b = bias === null ? 0 : bias[feature];
    let at = to + feature;
    for (let lane = 0; lane < rows; lane++) {
      out[at] = panel[line + lane] + b;
      at += n;
    }
  }
}
