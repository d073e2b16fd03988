import { activationFunctions } from './activation.ts';
import type { Activation, BsrArrays } from './kernels.ts';

/**
 * The forward product in plain JS, for single batch rows and where WebAssembly or its memory is missing: out[M, N] =
 * x[M, K] . W^T + bias, row-major. Tiles of sums in local variables, which the compiler keeps in registers. Sums
 * are float64: V8 computes no float32, and rounding each sum to it by Math.fround takes twice the time.
 */
export function rowsForward(
  w: BsrArrays,
  bias: Float32Array | null,
  x: Float32Array,
  m: number,
  out: Float32Array,
): void {
  const [n] = w.shape;
  const [r] = w.blockShape;
  for (let row = 0; row + 1 < w.crowIndices.length; row++) {
    const rows = Math.min(r, n - row * r);
    for (let s = 0; s < m; s++)
      if (rows === 1) tile1x1(w, bias, x, out, row, s);
      else for (let y = 0; y < rows; y += 4) tile4x1(w, bias, x, out, row, y, rows - 1, s);
  }
}

/** Four rows from y (beyond the last row `most` the last again), one batch row. */
function tile4x1(
  { shape, blockShape, crowIndices, colIndices, values }: BsrArrays,
  bias: Float32Array | null,
  x: Float32Array,
  out: Float32Array,
  row: number,
  y: number,
  most: number,
  s: number,
): void {
  const n = shape[0];
  const k = shape[1];
  const r = blockShape[0];
  const c = blockShape[1];
  const end = crowIndices[row + 1];
  const first = row * r;
  const y1 = Math.min(y + 1, most);
  const y2 = Math.min(y + 2, most);
  const y3 = Math.min(y + 3, most);
  let a0 = bias === null ? 0 : bias[first + y];
  let a1 = bias === null ? 0 : bias[first + y1];
  let a2 = bias === null ? 0 : bias[first + y2];
  let a3 = bias === null ? 0 : bias[first + y3];
  for (let e = crowIndices[row]; e < end; e++) {
    const column = colIndices[e] * c;
    const columns = Math.min(c, k - column);
    const w0 = (e * r + y) * c;
    const w1 = (e * r + y1) * c;
    const w2 = (e * r + y2) * c;
    const w3 = (e * r + y3) * c;
    const p = s * k + column;
    for (let f = 0; f < columns; f++) {
      const x0 = x[p + f];
      a0 += values[w0 + f] * x0;
      a1 += values[w1 + f] * x0;
      a2 += values[w2 + f] * x0;
      a3 += values[w3 + f] * x0;
    }
  }
  const to = s * n + first;
  out[to + y] = a0;
  out[to + y1] = a1;
  out[to + y2] = a2;
  out[to + y3] = a3;
}

/** Blocks of one row. */
function tile1x1(
  { shape, blockShape, crowIndices, colIndices, values }: BsrArrays,
  bias: Float32Array | null,
  x: Float32Array,
  out: Float32Array,
  row: number,
  s: number,
): void {
  const n = shape[0];
  const k = shape[1];
  const r = blockShape[0];
  const c = blockShape[1];
  const end = crowIndices[row + 1];
  const first = row * r;
  let sum = bias === null ? 0 : bias[first];
  for (let e = crowIndices[row]; e < end; e++) {
    const column = colIndices[e] * c;
    const columns = Math.min(c, k - column);
    const w = e * r * c;
    const p = s * k + column;
    for (let f = 0; f < columns; f++) sum += values[w + f] * x[p + f];
  }
  out[s * n + first] = sum;
}

/** y = act(z). The common ones are loops of their own: a call through a table boxes its numbers. */
export function activate(activation: Activation, z: Float32Array, y: Float32Array): void {
  if (activation === 'none') {
    if (y !== z) y.set(z);
  } else if (activation === 'relu') {
    for (let i = 0; i < z.length; i++) y[i] = Math.max(z[i], 0);
  } else {
    const act = activationFunctions[activation];
    for (let i = 0; i < z.length; i++) y[i] = act(z[i]);
  }
}
