import { activationFunctions } from '../../lib/kernels/activation.ts';
import { allKernels } from '../../lib/kernels/choose.ts';
import { type Activation, type Kernels, PANEL, padBatch } from '../../lib/kernels/kernels.ts';
import { BsrMatrix } from '../../lib/sparse/bsr.ts';
import { BlockGrid } from '../../lib/sparse/grid.ts';
import { BlockMask } from '../../lib/sparse/mask.ts';

/** Every implementation this machine has, or the one the environment asks for. */
export const implementations: Kernels[] = allKernels().filter((k) => {
  const wanted = process.env.BLOCKSPARSE_BACKEND === 'js' ? 'js' : process.env.BLOCKSPARSE_ISA;
  return wanted === undefined || wanted === '' || k.isa === wanted || k.isa === 'scalar';
});
/** Those with a true fused multiply-add, whose results are the same bits. */
export const fused = implementations.filter((k) => ['avx512', 'avx2', 'neon', 'scalar'].includes(k.isa));

/** A small seeded generator (mulberry32), enough for test data. */
export function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

export interface Case {
  name: string;
  matrix: BsrMatrix;
  bias: Float32Array | null;
  activation: Activation;
  m: number;
  x: Float32Array;
  dy: Float32Array;
}

const randoms = (random: () => number, length: number): Float32Array =>
  Float32Array.from({ length }, () => random() * 2 - 1);

export function makeCase(
  seed: number,
  [n, k]: [number, number],
  block: [number, number],
  density: number,
  m: number,
  activation: Activation = 'none',
): Case {
  const random = generator(seed);
  const grid = new BlockGrid([n, k], block);
  const kept = Uint8Array.from({ length: grid.blockCount }, () => (random() < density ? 1 : 0));
  const weight = randoms(random, n * k);
  return {
    name: `[${n}, ${k}] in ${block.join('x')}, density ${density}, M ${m}, ${activation}, seed ${seed}`,
    matrix: BsrMatrix.fromDense(weight, grid, new BlockMask(grid, kept)),
    bias: random() < 0.7 ? randoms(random, n) : null,
    activation,
    m,
    x: randoms(random, m * k),
    dy: randoms(random, m * n),
  };
}

const ACTIVATIONS: Activation[] = ['none', 'relu', 'gelu', 'silu', 'sigmoid', 'tanh'];

/** `count` cases with shapes, blocks, densities and batches drawn at random. */
export function randomCases(count: number): Case[] {
  return Array.from({ length: count }, (_, seed) => {
    const random = generator(seed + 1000);
    const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)];
    const side = () => pick([1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 17, 20, 31, 32, 33, 64, 70]);
    const r = side();
    const c = random() < 0.5 ? r : side();
    const n = 1 + Math.floor(random() * 100);
    const k = 1 + Math.floor(random() * 120);
    const m = pick([1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 31, 33, 48, 64, 65, 100, 130]);
    return makeCase(seed, [n, k], [r, c], pick([0.05, 0.2, 0.5, 1]), m, pick(ACTIVATIONS));
  });
}

/** The shapes that break kernels. */
export const edgeCases: Case[] = [
  makeCase(1, [5, 7], [2, 3], 0, 3, 'relu'), // nothing kept: bias alone
  makeCase(2, [0, 7], [2, 3], 1, 3), // no outputs
  makeCase(3, [5, 0], [2, 3], 1, 3), // no inputs
  makeCase(4, [5, 7], [2, 3], 1, 0), // no batch
  makeCase(5, [1, 1], [1, 1], 1, 1),
  makeCase(6, [3, 3], [64, 64], 1, 20), // a block larger than the matrix
  makeCase(7, [64, 64], [16, 16], 1, 64), // all kept
  makeCase(8, [100, 100], [128, 1], 0.5, 33),
  makeCase(9, [100, 100], [1, 128], 0.5, 33),
  makeCase(10, [300, 784], [4, 4], 0.1, 128, 'relu'),
  makeCase(11, [160, 200], [16, 16], 0.3, 192),
  makeCase(12, [96, 96], [16, 1], 0.2, 17),
];

export interface Expected {
  /** Row-major [M, N] before and after the activation, float64. */
  z: Float64Array;
  y: Float64Array;
  /** Largest error any order of float32 sums may leave in z: (terms + 2) * eps * (sum of |products| + |bias|). */
  bound: Float64Array;
}

const EPSILON = 2 ** -24;

export function expected({ matrix, bias, activation, m, x }: Case): Expected {
  const [n, k] = matrix.shape;
  const weight = matrix.toDense();
  const z = new Float64Array(m * n);
  const bound = new Float64Array(m * n);
  for (let s = 0; s < m; s++)
    for (let o = 0; o < n; o++) {
      let sum = bias === null ? 0 : bias[o];
      let size = Math.abs(sum);
      for (let i = 0; i < k; i++) {
        const product = weight[o * k + i] * x[s * k + i];
        sum += product;
        size += Math.abs(product);
      }
      z[s * n + o] = sum;
      // Every activation here has a slope below 1.13; its own polynomial adds a few units in the last place.
      bound[s * n + o] = (k + 2) * EPSILON * size * 1.13 + 16 * EPSILON * (1 + Math.abs(sum));
    }
  return { z, y: z.map(activationFunctions[activation]), bound };
}

/** Row-major [M, F] as panels, by their definition alone. */
export function panelsOf(x: Float32Array, m: number, features: number): Float32Array {
  const padded = padBatch(m);
  const panels = new Float32Array(features * padded);
  for (let row = 0; row < m; row++) {
    const start = Math.floor(row / PANEL) * PANEL;
    const width = Math.min(PANEL, padded - start);
    for (let f = 0; f < features; f++)
      panels[start * features + f * width + (row - start)] = x[row * features + f];
  }
  return panels;
}

/** The rows of panels, padding left out. */
export function rowsOf(panels: Float32Array, m: number, features: number): Float32Array {
  const padded = padBatch(m);
  const x = new Float32Array(m * features);
  for (let row = 0; row < m; row++) {
    const start = Math.floor(row / PANEL) * PANEL;
    const width = Math.min(PANEL, padded - start);
    for (let f = 0; f < features; f++)
      x[row * features + f] = panels[start * features + f * width + (row - start)];
  }
  return x;
}

/** Outputs begin as junk: a kernel must write every element it owns. */
export const junk = (length: number): Float32Array => new Float32Array(length).fill(Number.NaN);
