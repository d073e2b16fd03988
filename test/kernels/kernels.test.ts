import { describe, expect, it } from 'vitest';
import { allKernels } from '../../lib/kernels/choose.ts';
import { CRITERIA, type Kernels, padBatch } from '../../lib/kernels/kernels.ts';
import { BsrMatrix } from '../../lib/sparse/bsr.ts';
import { CsrMatrix } from '../../lib/sparse/csr.ts';
import { BlockGrid } from '../../lib/sparse/grid.ts';
import { BlockMask } from '../../lib/sparse/mask.ts';
import {
  type Case,
  edgeCases,
  expected,
  fused,
  generator,
  implementations,
  junk,
  makeCase,
  panelsOf,
  randomCases,
  rowsOf,
} from './cases.ts';

const cases = [...edgeCases, ...randomCases(400)];

function expectClose(actual: Float32Array, wanted: Float64Array, bound: Float64Array, what: string): void {
  expect(actual.length, what).toBe(wanted.length);
  for (let i = 0; i < wanted.length; i++)
    if (!(Math.abs(actual[i] - wanted[i]) <= bound[i]))
      expect.fail(`${what}: element ${i} is ${actual[i]}, not ${wanted[i]} within ${bound[i]}`);
}

function forward(k: (typeof implementations)[number], c: Case, threads = 1): Float32Array {
  const out = junk(c.m * c.matrix.shape[0]);
  k.packLayer(c.matrix, c.bias, c.activation, threads).forward(c.x, c.m, out);
  return out;
}

function train(k: (typeof implementations)[number], c: Case) {
  const [n, kk] = c.matrix.shape;
  const pattern = k.pattern(c.matrix);
  const x = panelsOf(c.x, c.m, kk);
  const dy = panelsOf(c.dy, c.m, n);
  const y = junk(n * padBatch(c.m));
  const dx = junk(kk * padBatch(c.m));
  const dValues = junk(c.matrix.values.length);
  const dBias = junk(n);
  pattern.forward(c.matrix.values, c.bias, c.activation, x, c.m, y);
  pattern.inputGradient(c.matrix.values, dy, c.m, dx);
  pattern.weightGradient(dy, x, c.m, dValues, dBias);
  return { y: rowsOf(y, c.m, n), dx: rowsOf(dx, c.m, kk), dValues, dBias };
}

describe('known answers', () => {
  it.each(implementations)('$isa: [[1 2] [3 4]] . [5 6] + [1 -50], relu', (k) => {
    const c = makeCase(0, [2, 2], [1, 2], 1, 1, 'relu');
    c.matrix.values.set([1, 2, 3, 4]);
    const out = new Float32Array(2);
    k.packLayer(c.matrix, Float32Array.of(1, -50), 'relu', 1).forward(Float32Array.of(5, 6), 1, out);
    expect([...out]).toEqual([18, 0]);
  });
});

describe.each(implementations)('$isa', (k) => {
  it('forward: a layer so wide that its batch is copied in parts', () => {
    const c = makeCase(51, [112, 4200], [16, 16], 0.7, 33, 'none');
    const { y, bound } = expected(c);
    expectClose(forward(k, c), y, bound, 'wide');
  });

  it(`forward: ${cases.length} shapes within the derived tolerance`, () => {
    for (const c of cases) {
      const { y, bound } = expected(c);
      expectClose(forward(k, c), y, bound, c.name);
    }
  });

  it('training: forward, input gradient, weight gradient, bias gradient', () => {
    const eps = 2 ** -24;
    for (const c of cases) {
      const [n, kk] = c.matrix.shape;
      const weight = c.matrix.toDense();
      const got = train(k, c);
      const { y, bound } = expected(c);
      expectClose(got.y, y, bound, `forward ${c.name}`);
      const dx = new Float64Array(c.m * kk);
      const dxBound = new Float64Array(c.m * kk);
      const dw = new Float64Array(n * kk);
      const dwBound = new Float64Array(n * kk);
      const db = new Float64Array(n);
      const dbBound = new Float64Array(n);
      for (let s = 0; s < c.m; s++)
        for (let o = 0; o < n; o++) {
          const d = c.dy[s * n + o];
          db[o] += d;
          dbBound[o] += Math.abs(d) * (c.m + 2) * eps;
          for (let i = 0; i < kk; i++) {
            dx[s * kk + i] += d * weight[o * kk + i];
            dxBound[s * kk + i] += Math.abs(d * weight[o * kk + i]) * (n + 2) * eps;
            dw[o * kk + i] += d * c.x[s * kk + i];
            dwBound[o * kk + i] += Math.abs(d * c.x[s * kk + i]) * (c.m + 2) * eps;
          }
        }
      expectClose(got.dx, dx, dxBound, `input gradient ${c.name}`);
      expectClose(got.dBias, db, dbBound, `bias gradient ${c.name}`);
      const [r, cc] = c.matrix.blockShape;
      const { crowIndices, colIndices } = c.matrix;
      for (let row = 0; row + 1 < crowIndices.length; row++)
        for (let e = crowIndices[row]; e < crowIndices[row + 1]; e++)
          for (let i = 0; i < r; i++)
            for (let j = 0; j < cc; j++) {
              const o = row * r + i;
              const f = colIndices[e] * cc + j;
              const actual = got.dValues[(e * r + i) * cc + j];
              const inside = o < n && f < kk;
              const wanted = inside ? dw[o * kk + f] : 0;
              if (!(Math.abs(actual - wanted) <= (inside ? dwBound[o * kk + f] : 0)))
                expect.fail(`weight gradient ${c.name}: [${o}, ${f}] is ${actual}, not ${wanted}`);
            }
    }
  });

  it('a chain equals its layers one by one', () => {
    for (const m of [1, 5, 9, 20, 64, 100]) {
      const a = makeCase(1, [70, 50], [4, 4], 0.4, m, 'relu');
      const b = makeCase(2, [33, 70], [16, 16], 0.6, m, 'tanh');
      const c = makeCase(3, [10, 33], [3, 5], 0.6, m);
      const layers = [a, b, c].map((l) => k.packLayer(l.matrix, l.bias, l.activation, 1));
      const out = junk(m * 10);
      k.packChain(layers).forward(a.x, m, out);
      const first = junk(m * 70);
      const second = junk(m * 33);
      const third = junk(m * 10);
      layers[0].forward(a.x, m, first);
      layers[1].forward(first, m, second);
      layers[2].forward(second, m, third);
      // The layers may differ in which design serves them: in the last bits only.
      for (let i = 0; i < out.length; i++) expect(Math.abs(out[i] - third[i])).toBeLessThan(1e-5);
    }
  });

  it('a chain of one goes as its layer alone', () => {
    const c = makeCase(4, [64, 96], [16, 16], 0.5, 1);
    const layer = k.packLayer(c.matrix, null, 'none', 1);
    for (const m of [0, 1, 8, 64, 200]) expect(k.packChain([layer]).info(m)).toEqual([layer.info(m)]);
  });

  it.skipIf(k.backend === 'js')('a chain says by what each layer goes in it, and why not as alone', () => {
    const tall = makeCase(4, [64, 96], [16, 16], 0.5, 1);
    const small = makeCase(5, [96, 64], [3, 3], 0.2, 1);
    const layers = [tall, small].map(({ matrix }) => k.packLayer(matrix, null, 'none', 1));
    for (const m of [1, 40]) {
      const alone = layers.map((layer) => layer.info(m));
      const infos = k.packChain(layers).info(m);
      const kernel = m === 1 ? 'rows' : 'panels';
      if (k.isa === 'avx2' && m > 1) expect(alone.map((info) => info.kernel)).toEqual(['rows', 'panels']);
      expect(infos.map((info) => info.kernel)).toEqual([kernel, kernel]);
      infos.forEach((info, i) => {
        if (alone[i].kernel === kernel) expect(info.reason).toBe(alone[i].reason);
        else expect(info.reason).toMatch(/^the network goes by panels/);
        expect(info.blockShape).toEqual(alone[i].blockShape);
        expect(info.packedBytes).toBe(alone[i].packedBytes);
        expect(info.tile[1]).toBeGreaterThan(0);
      });
    }
  });

  it('a chain of tall blocks gives the bits of its layers one by one, at any batch', () => {
    for (const threads of [1, 2])
      for (const m of [1, 8, 63, 64, 71, 72, 130, 300]) {
        const a = makeCase(34, [96, 160], [32, 16], 0.4, m, 'relu');
        const b = makeCase(35, [64, 96], [32, 32], 0.6, m, 'tanh');
        const layers = [a, b].map((l) => k.packLayer(l.matrix, l.bias, l.activation, threads));
        const out = junk(m * 64);
        k.packChain(layers).forward(a.x, m, out);
        const first = junk(m * 96);
        const second = junk(m * 64);
        layers[0].forward(a.x, m, first);
        layers[1].forward(first, m, second);
        expect(out).toEqual(second);
      }
  });

  it('explains a layer without outputs', () => {
    const { matrix } = makeCase(33, [0, 8], [4, 4], 1, 1);
    const layer = k.packLayer(matrix, null, 'none', 1);
    for (const m of [1, 4, 16, 100]) expect(layer.info(m).tile[0]).toBe(0);
  });

  // Pure JS holds the blocks as they are.
  it.skipIf(k.backend === 'js')('holds all blocks, as larger ones, where few are gone', () => {
    const shapeOf = (block: [number, number], density: number, hint?: number) => {
      const { matrix } = makeCase(31, [96, 160], block, density, 1);
      return k.packLayer(matrix, null, 'none', 1, hint).info(8);
    };
    for (const block of [
      [1, 8],
      [2, 2],
      [4, 1],
      [4, 4],
      [8, 8],
    ] as [number, number][]) {
      const { blockShape, reason, regrouped, packedBytes } = shapeOf(block, 1);
      expect(blockShape[0]).toBeGreaterThanOrEqual(16);
      expect(regrouped).toBe(true);
      expect(reason).toMatch(/so many blocks are kept/);
      expect(packedBytes).toBeGreaterThan(4 * 96 * 160);
      expect(packedBytes).toBeLessThan(1.1 * 4 * 96 * 160);
      expect(shapeOf(block, 0.1)).toMatchObject({ blockShape: block, regrouped: false });
      // That is CSR.
      expect(shapeOf([1, 1], 1).blockShape).toEqual([1, 1]);
    }
    // 4x4 blocks fill panels: only for a few batch rows dense is faster while a quarter is gone.
    expect(shapeOf([4, 4], 0.75, 8).blockShape).not.toEqual([4, 4]);
    expect(shapeOf([4, 4], 0.75).blockShape).not.toEqual([4, 4]);
    expect(shapeOf([4, 4], 0.75, 128).blockShape).toEqual([4, 4]);
    // What a block has below the matrix does not count.
    expect(shapeOf([4096, 1], 0.1).reason).not.toMatch(/so many blocks are kept/);
    for (const density of [0.6, 0.75, 1])
      for (const m of [1, 7, 8, 40])
        for (const block of [
          [2, 3],
          [5, 5],
          [3, 1],
        ] as [number, number][]) {
          const c = makeCase(32, [83, 101], block, density, m, 'relu');
          const { y, bound } = expected(c);
          for (const hint of [1, 8, 128]) {
            const out = junk(m * 83);
            k.packLayer(c.matrix, c.bias, c.activation, 1, hint).forward(c.x, m, out);
            for (let i = 0; i < out.length; i++)
              expect(Math.abs(out[i] - y[i])).toBeLessThanOrEqual(bound[i]);
          }
        }
  });

  it.skipIf(k.backend === 'js')('says that it holds all blocks, whatever their shape was', () => {
    const reason = (block: [number, number], gone: number, m: number, hint?: number) => {
      const grid = new BlockGrid([300, 784], block);
      const mask = new BlockMask(grid, new Uint8Array(grid.blockCount).fill(1, gone));
      const matrix = BsrMatrix.fromDense(new Float32Array(300 * 784).fill(1), grid, mask);
      return k.packLayer(matrix, null, 'none', 1, hint).info(m).reason;
    };
    for (const block of [
      [32, 32],
      [64, 32],
    ] as [number, number][]) {
      for (const gone of [0, 1, 5]) {
        // And why its kernel serves.
        expect(reason(block, gone, 1)).toMatch(
          /^so many .* at some batch .*batchHint.*; the batch is too small/,
        );
        expect(reason(block, gone, 1, 32)).toMatch(
          /^so many .* about the hinted batch .*; the batch is too small/,
        );
      }
      expect(reason(block, 60, 1)).toMatch(/^the batch is too small/);
    }
  });

  it('tells its tile', () => {
    const isas = ['avx512', 'avx2', 'neon', 'portable', 'scalar', 'js'];
    const cases: [n: number, block: [number, number], m: number, tiles: string][] = [
      [768, [32, 32], 1, '32x1 16x1 16x1 4x1 1x1 4x1'],
      // AVX2 takes two strips of a block together.
      [768, [32, 32], 64, '32x12 32x3 16x6 6x8 1x4 4x8'],
      // AVX-512 copies x by lines.
      [768, [16, 16], 16, '16x16 16x6 16x6 6x8 1x4 4x8'],
      [768, [4, 4], 6, '4x4 4x4 4x4 4x1 4x1 4x8'],
      [768, [4, 4], 9, '4x16 4x16 4x16 4x8 1x4 4x8'],
      [768, [4, 4], 64, '4x64 4x16 4x16 4x8 1x4 4x8'],
      [768, [8, 8], 64, '8x32 3x32 4x16 3x16 1x4 4x8'],
      [768, [1, 8], 3, '1x2 1x2 1x2 1x2 1x2 1x16'],
      [3, [4, 4], 6, '3x4 3x4 3x4 3x1 3x1 3x8'],
    ];
    for (const [n, block, m, tiles] of cases) {
      const { matrix } = makeCase(37, [n, 160], block, 0.1, 1);
      const { tile } = k.packLayer(matrix, null, 'none', 1).info(m);
      expect(tile.join('x'), `${n} ${block} ${m}`).toBe(tiles.split(' ')[isas.indexOf(k.isa)]);
    }
  });

  it.skipIf(k.backend === 'js')('cuts blocks taller than its tile into strips', () => {
    for (const [n, r] of [
      [128, 64],
      [100, 64],
      [65, 32],
    ]) {
      const c = makeCase(33, [n, 70], [r, 20], 0.5, 33);
      const { blockShape, packedBytes } = k.packLayer(c.matrix, c.bias, 'none', 1).info(33);
      expect(r % blockShape[0]).toBe(0);
      expect(blockShape[1]).toBe(20);
      expect(packedBytes).toBeLessThanOrEqual(1.06 * (c.matrix.bytes.total + 4 * n));
    }
  });

  it('the async product equals the sync one, many at once', async () => {
    const c = makeCase(5, [128, 96], [8, 8], 0.4, 40, 'gelu');
    const layer = k.packLayer(c.matrix, c.bias, c.activation, 2);
    const out = junk(c.m * 128);
    layer.forward(c.x, c.m, out);
    const results = await Promise.all(Array.from({ length: 50 }, () => layer.forwardAsync(c.x, c.m)));
    for (const result of results) expect(result).toEqual(out);
  });

  it('x is copied before forwardAsync returns', async () => {
    const c = makeCase(6, [64, 64], [4, 4], 0.5, 16);
    const layer = k.packLayer(c.matrix, c.bias, c.activation, 1);
    const out = junk(c.m * 64);
    layer.forward(c.x, c.m, out);
    const x = c.x.slice();
    const pending = layer.forwardAsync(x, c.m);
    x.fill(Number.NaN);
    structuredClone(x.buffer, { transfer: [x.buffer] });
    expect(await pending).toEqual(out);
  });

  it('SiLU and its slope are zero at -Infinity', () => {
    const one = BsrMatrix.fromDense(Float32Array.of(1), new BlockGrid([1, 1], [1, 1]));
    const x = Float32Array.of(Number.NEGATIVE_INFINITY);
    const y = junk(1);
    k.packLayer(one, null, 'silu', 1).forward(x, 1, y);
    const slope = Float32Array.of(1);
    k.activationGradient('silu', x, slope);
    expect(y[0]).toBeCloseTo(0, 30);
    expect(slope[0]).toBeCloseTo(0, 30);
  });

  it('activations and their slopes go to their limits', () => {
    const one = BsrMatrix.fromDense(Float32Array.of(1), new BlockGrid([1, 1], [1, 1]));
    const x = Float32Array.of(-3e38, -1e30, -1e4, -100, 100, 1e4, 1e30, 3e38);
    for (const activation of ['gelu', 'silu', 'sigmoid', 'tanh'] as const) {
      const y = junk(x.length);
      k.packLayer(one, null, activation, 1).forward(x, x.length, y);
      const slope = new Float32Array(x.length).fill(1);
      k.activationGradient(activation, activation === 'gelu' || activation === 'silu' ? x : y, slope);
      const unbounded = activation === 'gelu' || activation === 'silu';
      const low = activation === 'tanh' ? -1 : 0;
      for (const [i, z] of x.entries()) {
        if (z > 0 && unbounded) expect(y[i]).toBe(z);
        else expect(y[i]).toBeCloseTo(z > 0 ? 1 : low, 30);
        expect(slope[i]).toBeCloseTo(z > 0 && unbounded ? 1 : 0, 30);
      }
    }
  });

  it('a NaN or Inf reaches only the outputs that use it', () => {
    for (const m of [1, 4, 16, 40])
      for (const block of [4, 5, 16, 32]) {
        const c = makeCase(7, [37, 41], [block, block], 1, m);
        c.x[0] = Number.NaN;
        c.x[40] = Number.POSITIVE_INFINITY;
        const out = forward(k, c);
        for (let i = 0; i < out.length; i++) expect(Number.isFinite(out[i])).toBe(i >= 37);
      }
  });

  it('panels: to and from, with gathered rows', () => {
    const random = generator(3);
    for (const [m, f] of [
      [1, 1],
      [17, 5],
      [64, 33],
      [100, 20],
      [130, 16],
    ]) {
      const x = Float32Array.from({ length: 200 * f }, () => random());
      const rows = Int32Array.from({ length: m }, () => Math.floor(random() * 200));
      const gathered = new Float32Array(m * f);
      rows.forEach((row, i) => {
        gathered.set(x.subarray(row * f, (row + 1) * f), i * f);
      });
      const panels = junk(f * padBatch(m));
      k.toPanels(x, rows, m, f, panels);
      expect(panels).toEqual(panelsOf(gathered, m, f));
      const back = junk(m * f);
      k.fromPanels(panels, m, f, back);
      expect(back).toEqual(gathered);
    }
  });

  it('panels: to and from arrays that begin anywhere in a line, of which nothing else is touched', () => {
    const random = generator(9);
    const lines = 16;
    for (const [m, f] of [
      [5, 16],
      [32, 40],
      [19, 100],
    ])
      for (let begin = 0; begin < lines; begin++) {
        const whole = Float32Array.from({ length: m * f + 2 * lines }, () => random());
        const x = whole.subarray(begin, begin + m * f);
        const panels = junk(f * padBatch(m));
        k.toPanels(x, null, m, f, panels);
        expect(panels).toEqual(panelsOf(x, m, f));
        const back = junk(whole.length);
        k.fromPanels(panels, m, f, back.subarray(begin, begin + m * f));
        const wanted = junk(whole.length);
        wanted.set(x, begin);
        expect(back).toEqual(wanted);
      }
  });

  it('block scores, every criterion, truncated edges', () => {
    const random = generator(4);
    for (const [n, kk, r, c] of [
      [13, 29, 4, 4],
      [32, 32, 16, 16],
      [10, 300, 3, 5],
      [7, 7, 1, 1],
      [5, 40, 64, 7],
      [0, 5, 2, 2],
    ]) {
      const weight = Float32Array.from({ length: n * kk }, () => random() * 2 - 1);
      const gridCols = Math.ceil(kk / c);
      for (const criterion of CRITERIA) {
        const out = junk(Math.ceil(n / r) * gridCols);
        k.scoreBlocks(weight, [n, kk], [r, c], criterion, out);
        out.forEach((score, index) => {
          const values: number[] = [];
          const top = Math.floor(index / gridCols) * r;
          const left = (index % gridCols) * c;
          for (let y = top; y < Math.min(top + r, n); y++)
            for (let x = left; x < Math.min(left + c, kk); x++) values.push(Math.abs(weight[y * kk + x]));
          const sum = values.reduce((a, b) => a + b, 0);
          const wanted = {
            'mean-abs': sum / values.length,
            l1: sum,
            l2: Math.hypot(...values),
            'max-abs': Math.max(...values),
          }[criterion];
          expect(Math.abs(score - wanted)).toBeLessThanOrEqual(wanted * (values.length + 4) * 2 ** -24);
        });
      }
    }
  });

  it('block scores are the same wherever the array begins', () => {
    const random = generator(9);
    for (const [n, kk, r, c] of [
      [32, 64, 16, 16],
      [19, 48, 4, 4],
      [40, 160, 20, 3],
      [3, 16, 2, 2],
    ]) {
      const weight = Float32Array.from({ length: n * kk }, () => random() * 2 - 1);
      const count = Math.ceil(n / r) * Math.ceil(kk / c);
      for (const criterion of CRITERIA) {
        const wanted = junk(count);
        k.scoreBlocks(weight, [n, kk], [r, c], criterion, wanted);
        for (let begin = 1; begin <= 16; begin++) {
          const moved = new Float32Array(n * kk + 16).subarray(begin, begin + n * kk);
          moved.set(weight);
          const out = junk(count);
          k.scoreBlocks(moved, [n, kk], [r, c], criterion, out);
          expect(out).toEqual(wanted);
        }
      }
    }
  });

  it('CSR forward', () => {
    for (const m of [1, 3, 20, 70]) {
      const c = makeCase(8, [45, 60], [1, 1], 0.15, m);
      c.bias = null;
      const csr = CsrMatrix.fromBsr(c.matrix);
      const out = junk(m * 45);
      k.csrForward(csr.crowIndices, csr.colIndices, csr.values, 45, 60, c.x, m, out);
      const { z, bound } = expected(c);
      expectClose(out, z, bound, `csr M ${m}`);
    }
  });

  it('optimizer steps follow their formulas', () => {
    const random = generator(9);
    const length = 37;
    const make = () => Float32Array.from({ length }, () => random() - 0.5);
    const [w, g, m] = [make(), make(), make()];
    const v = make().map(Math.abs);
    for (const decoupled of [false, true]) {
      const how = {
        learningRate: 0.01,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weightDecay: 0.1,
        decoupled,
        step: 3,
      };
      const [w1, m1, v1] = [w.slice(), m.slice(), v.slice()];
      k.adamStep(w1, g, m1, v1, how);
      for (let i = 0; i < length; i++) {
        const gi = decoupled ? g[i] : g[i] + 0.1 * w[i];
        const mi = 0.9 * m[i] + 0.1 * gi;
        const vi = 0.999 * v[i] + 0.001 * gi * gi;
        const start = decoupled ? w[i] * (1 - 0.001) : w[i];
        const wi = start - (0.01 * (mi / (1 - 0.9 ** 3))) / (Math.sqrt(vi / (1 - 0.999 ** 3)) + 1e-8);
        expect(m1[i]).toBeCloseTo(mi, 6);
        expect(v1[i]).toBeCloseTo(vi, 6);
        expect(w1[i]).toBeCloseTo(wi, 5);
      }
    }
    const [w2, velocity] = [w.slice(), m.slice()];
    k.sgdStep(w2, g, velocity, { learningRate: 0.1, momentum: 0.9, weightDecay: 0.01 });
    for (let i = 0; i < length; i++) {
      const vi = 0.9 * m[i] + g[i] + 0.01 * w[i];
      expect(velocity[i]).toBeCloseTo(vi, 6);
      expect(w2[i]).toBeCloseTo(w[i] - 0.1 * vi, 6);
    }
  });

  it('refuses wrong arguments by name', () => {
    const c = makeCase(10, [8, 8], [4, 4], 1, 2);
    const layer = k.packLayer(c.matrix, null, 'none', 1);
    const out = new Float32Array(16);
    expect(() => layer.forward(c.x.subarray(1), 2, out)).toThrow(/x must be .*16/);
    expect(() => layer.forward(c.x, 2, out.subarray(1))).toThrow(/out must be .*16/);
    expect(() => layer.forward(new Float64Array(16) as never, 2, out)).toThrow(TypeError);
    expect(() => layer.forward(c.x, 2, c.x)).toThrow(/out must be memory apart from x, but overlaps it/);
    const shared = new Float32Array(40);
    expect(() => layer.forward(shared.subarray(0, 16), 2, shared.subarray(15, 31))).toThrow(/out must be/);
    const { crowIndices, values, shape, blockShape } = c.matrix;
    const colIndices = c.matrix.colIndices.slice();
    colIndices[1] = 9;
    const bad = { shape, blockShape, crowIndices, colIndices, values };
    expect(() => k.packLayer(bad, null, 'none', 1)).toThrow(/colIndices\[1\]/);
    expect(() => k.pattern(bad)).toThrow(/colIndices\[1\]/);
    expect(() => k.toPanels(c.x, Int32Array.of(0, 5), 2, 8, new Float32Array(128))).toThrow(/rows\[1\]/);
    expect(() => k.packChain([])).toThrow(/layers/);
    expect(() => k.packChain([layer, {} as never])).toThrow(TypeError);
    const gone = new Float32Array(16);
    structuredClone(gone.buffer, { transfer: [gone.buffer] });
    expect(() => layer.forward(gone, 2, out)).toThrow(/x must be/);
    expect(() => layer.forward.call({}, c.x, 2, out)).toThrow();
  });

  it('takes views of a SharedArrayBuffer', () => {
    const c = makeCase(11, [8, 8], [4, 4], 1, 2);
    const x = new Float32Array(new SharedArrayBuffer(64));
    const out = new Float32Array(new SharedArrayBuffer(64));
    x.set(c.x);
    k.packLayer(c.matrix, c.bias, 'none', 1).forward(x, 2, out);
    expect([...out]).toEqual([...forward(k, c)]);
  });
});

function expectSameBits(
  a: Record<string, Float32Array>,
  b: Record<string, Float32Array>,
  what: string,
): void {
  for (const [name, array] of Object.entries(a)) {
    const other = b[name];
    const equal = Buffer.from(array.buffer).equals(Buffer.from(other.buffer));
    if (!equal) {
      const at = array.findIndex((value, i) => !Object.is(value, other[i]));
      expect.fail(`${what}: ${name}[${at}] is ${other[at]}, not ${array[at]}`);
    }
  }
}

describe('the same bits', () => {
  it('on every instruction set with FMA', () => {
    expect(fused.length).toBeGreaterThan(0);
    for (const c of cases) {
      const reference = fused[fused.length - 1];
      const wanted = forward(reference, c);
      const trained = train(reference, c);
      for (const k of fused) {
        expectSameBits(
          { out: wanted, ...trained },
          { out: forward(k, c), ...train(k, c) },
          `${k.isa} ${c.name}`,
        );
      }
    }
  });

  // 16 rows a block may lie by lines for the next layer, and 4x4 at few batch rows has an order of its own.
  it.each<[[number, number], [number, number]][]>([
    [
      [
        [1024, 64],
        [16, 16],
      ],
      [
        [512, 1024],
        [4, 4],
      ],
    ],
    [
      [
        [512, 384],
        [16, 16],
      ],
      [
        [256, 512],
        [32, 32],
      ],
    ],
    [
      [
        [96, 64],
        [4, 4],
      ],
      [
        [128, 96],
        [24, 24],
      ],
      [
        [64, 128],
        [8, 8],
      ],
    ],
  ])('of a network of %j, %j on every instruction set with FMA', (...shapes) => {
    for (const m of [1, 5, 7, 8, 9, 16, 31, 40, 65]) {
      const layers = shapes.map(([shape, block], i) => makeCase(40 + i, shape, block, 0.3, m, 'relu'));
      const outs = fused.map((k) => {
        const packed = layers.map((l) => k.packLayer(l.matrix, l.bias, l.activation, 1));
        const [[n]] = shapes[shapes.length - 1];
        const out = junk(m * n);
        k.packChain(packed).forward(layers[0].x, m, out);
        let one = layers[0].x;
        for (const [i, layer] of packed.entries()) {
          const next = junk(m * shapes[i][0][0]);
          layer.forward(one, m, next);
          one = next;
        }
        const apart = out.reduce((most, y, i) => Math.max(most, Math.abs(y - one[i]) / (1 + Math.abs(y))), 0);
        expect({ isa: k.isa, m, apart }).toEqual({ isa: k.isa, m, apart: expect.closeTo(0, 4) });
        return out;
      });
      for (const out of outs) expectSameBits({ out: outs[0] }, { out }, `M = ${m}`);
    }
  });

  it('with two threads as with one', () => {
    const one = allKernels(1).filter((k) => k.backend === 'native');
    const two = allKernels(2);
    for (const m of [1, 8, 33, 65, 128, 300])
      for (const block of [4, 16]) {
        const c = makeCase(20 + m, [512, 384], [block, block], 0.5, m, 'relu');
        one.slice(0, 3).forEach((k, i) => {
          expectSameBits(
            { out: forward(k, c, 1), ...train(k, c) },
            { out: forward(two[i], c, 2), ...train(two[i], c) },
            `${k.isa} ${c.name}`,
          );
        });
      }
  });

  it('with two threads as with one, of a network', () => {
    const one = allKernels(1).filter((k) => k.backend === 'native');
    const two = allKernels(2);
    for (const m of [7, 16, 24, 33, 65, 127, 300])
      for (const block of [4, 16, 32]) {
        const a = makeCase(60 + m, [512, 384], [block, block], 0.5, m, 'relu');
        const b = makeCase(61 + m, [384, 512], [block, block], 0.5, m, 'relu');
        const run = (k: Kernels, threads: number) => {
          const pack = (c: Case) => k.packLayer(c.matrix, c.bias, c.activation, threads, m);
          const out = junk(m * 512);
          k.packChain([pack(a), pack(b), pack(a)]).forward(a.x, m, out);
          return out;
        };
        one.slice(0, 3).forEach((k, i) => {
          expectSameBits({ out: run(k, 1) }, { out: run(two[i], 2) }, `${k.isa} ${a.name}, M = ${m}`);
        });
      }
  });
});
