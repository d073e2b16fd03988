import { readFile } from 'node:fs/promises';
import { PerformanceObserver } from 'node:perf_hooks';
import { setImmediate } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { allocateRows } from '../lib/batch.ts';
import { kernels } from '../lib/kernels/choose.ts';
import { padBatch } from '../lib/kernels/kernels.ts';
import { BsrLinear } from '../lib/linear.ts';
import { BsrMatrix } from '../lib/sparse/bsr.ts';
import { BlockGrid } from '../lib/sparse/grid.ts';
import { makeCase } from './kernels/cases.ts';

const { matrix, x } = makeCase(1, [48, 64], [8, 8], 0.5, 6);
const bias = new Float32Array(48).fill(0.25);
const layer = new BsrLinear(matrix, { bias, activation: 'relu' });

describe('BsrLinear', () => {
  it('computes act(x . W^T + b), sync and async, into out when given', async () => {
    const weight = matrix.toDense();
    const y = layer.forward(x);
    for (let s = 0; s < 6; s++)
      for (let o = 0; o < 48; o++) {
        let sum = bias[o];
        for (let i = 0; i < 64; i++) sum += weight[o * 64 + i] * x[s * 64 + i];
        expect(y[s * 48 + o]).toBeCloseTo(Math.max(sum, 0), 4);
      }
    const out = new Float32Array(y.length);
    expect(layer.forward(x, out)).toBe(out);
    expect(out).toEqual(y);
    const asyncOut = new Float32Array(y.length);
    expect(await layer.forwardAsync(x, asyncOut)).toBe(asyncOut);
    expect(asyncOut).toEqual(y);
    expect(await layer.forwardAsync(x)).toEqual(y);
    expect(layer.forward(new Float32Array(0))).toHaveLength(0);
  });

  // Panels of wide layers have fewer batch rows.
  it.each([
    [[40, 4100], [4, 4], 70],
    [[2500, 30], [16, 16], 33],
    [[64, 5000], [32, 8], 65],
  ] as const)('computes a batch as its rows one by one: %o in %o, M = %i', (shape, block, m) => {
    const { matrix, x } = makeCase(2, [...shape], [...block], 0.3, m);
    const wide = new BsrLinear(matrix);
    const y = wide.forward(x);
    const [n, k] = shape;
    for (let s = 0; s < m; s++) {
      const alone = wide.forward(x.subarray(s * k, (s + 1) * k));
      for (let o = 0; o < n; o++) expect(Math.abs(y[s * n + o] - alone[o])).toBeLessThan(1e-3);
    }
  });

  it('is unmoved by later changes to the matrix, and checks indices changed before', () => {
    const own = BsrMatrix.fromArrays(matrix);
    const made = new BsrLinear(own);
    const before = made.forward(x);
    own.values.fill(0);
    own.colIndices.fill(1000);
    expect(made.forward(x)).toEqual(before);
    expect(() => new BsrLinear(own)).toThrow(/colIndices\[0\]/);
  });

  it('explains itself', () => {
    const { kernel, reason, tile, blockShape, packedBytes, threads } = layer.explain(1);
    expect(tile).toHaveLength(2);
    expect(blockShape).toHaveLength(2);
    expect(['rows', 'panels']).toContain(kernel);
    expect(reason.length).toBeGreaterThan(10);
    expect(packedBytes).toBeGreaterThanOrEqual(matrix.values.byteLength);
    expect(threads).toBeGreaterThanOrEqual(1);
    expect(() => layer.explain(0)).toThrow(RangeError);
  });

  it.each([
    [300, 784],
    [768, 768],
  ])('holds its weights once: %i x %i', (n, k) => {
    const blocks: [number, number][] = [
      [4, 4],
      [16, 1],
      [1, 16],
      [16, 4],
      [5, 5],
      [8, 8],
      [16, 16],
      [64, 64],
    ];
    for (const block of blocks)
      for (const density of [0.02, 0.1, 1]) {
        const { matrix } = makeCase(4, [n, k], block, density, 1);
        const { total } = matrix.bytes;
        expect(new BsrLinear(matrix).explain(32).packedBytes).toBeLessThanOrEqual(1.06 * total);
      }
  });

  it('refuses bad arguments by name', async () => {
    expect(() => new BsrLinear({} as never)).toThrow(/matrix must be a BsrMatrix/);
    expect(() => new BsrLinear(matrix, null as never)).toThrow(/options must be/);
    expect(() => new BsrLinear(matrix, { bias: new Float32Array(3) })).toThrow(/bias must be/);
    expect(() => new BsrLinear(matrix, { activation: 'swish' as never })).toThrow(
      /activation must be one of/,
    );
    for (const threads of [0, -1, 1.5, Number.NaN, 1e9])
      expect(() => new BsrLinear(matrix, { threads })).toThrow(/threads must be/);
    for (const batchHint of [0, -1, 1.5, '8' as never])
      expect(() => new BsrLinear(matrix, { batchHint })).toThrow(/batchHint must be/);
    expect(() => new BsrLinear(matrix, [] as never)).toThrow(/options must be an object/);
    const gone = new Float32Array(64);
    structuredClone(gone.buffer, { transfer: [gone.buffer] });
    expect(() => layer.forward(gone)).toThrow(/x must be .* not transferred away/);
    // Resizable buffers are newer than the library of types.
    const buffer = Reflect.construct(ArrayBuffer, [256, { maxByteLength: 512 }]);
    const cut = new Float32Array(buffer, 0, 64);
    buffer.resize(4);
    expect(() => layer.forward(cut)).toThrow(/x must be .* cut short/);
    expect(() => layer.forward(x.subarray(1))).toThrow(/x must be a Float32Array of M \* 64/);
    expect(() => layer.forward([1, 2] as never)).toThrow(/x must be a Float32Array, but is/);
    expect(() => layer.forward(x, new Float32Array(3))).toThrow(/out must be/);
    expect(() => layer.forward(x, x.subarray(0, 288))).toThrow(/out must be .*apart/);
    expect(() => BsrLinear.prototype.forward.call({} as never, x)).toThrow(/this must be a BsrLinear/);
    await expect(layer.forwardAsync(x, new Float32Array(3))).rejects.toThrow(/out must be/);
    const out = new Float32Array(288);
    const pending = layer.forwardAsync(x, out);
    structuredClone(out.buffer, { transfer: [out.buffer] });
    await expect(pending).rejects.toThrow(/out must be/);
  });
});

describe('memory of a call', () => {
  it('is none when out is given', async () => {
    const { matrix, x } = makeCase(2, [16, 16], [16, 16], 1, 1);
    const layer = new BsrLinear(matrix, { bias: new Float32Array(16), activation: 'relu' });
    const out = new Float32Array(16);
    let collections = 0;
    const observer = new PerformanceObserver((list) => {
      collections += list.getEntries().length;
    });
    observer.observe({ entryTypes: ['gc'] });
    const calls = 1_000_000;
    const attempt = async () => {
      await setImmediate();
      collections = 0;
      const before = process.memoryUsage();
      for (let i = 0; i < calls; i++) layer.forward(x, out);
      const after = process.memoryUsage();
      await setImmediate();
      // One number a call would fill the young generation at least once.
      return (
        collections === 0 &&
        after.heapUsed - before.heapUsed < calls &&
        after.external + after.arrayBuffers - before.external - before.arrayBuffers < 4096
      );
    };
    // The first compiles; others may meet a collection of what was there before.
    const quiet: boolean[] = [];
    for (let i = 0; i < 4 && !quiet.includes(true); i++) quiet.push(await attempt());
    observer.disconnect();
    expect(quiet).toContain(true);
  }, 120_000);
});

describe('many products at once', () => {
  const { matrix, x } = makeCase(3, [512, 512], [16, 16], 0.5, 64);
  const large = new BsrLinear(matrix, { activation: 'gelu' });
  const batch = (i: number) => x.subarray(0, 512 * (1 + (i % 64)));

  it('equal the sync ones, and end in the order of their start', async () => {
    const ended: number[] = [];
    const results = await Promise.all(
      Array.from({ length: 100 }, async (_, i) => {
        const y = await large.forwardAsync(batch(i));
        ended.push(i);
        return y;
      }),
    );
    for (const [i, y] of results.entries()) expect(y).toEqual(large.forward(batch(i)));
    // Those that run side by side, three at most, may overtake one another.
    for (const [at, i] of ended.entries()) expect(Math.abs(at - i)).toBeLessThan(100 / 2);
  });

  it('leave threads for reading files', async () => {
    if (kernels().backend === 'js') return;
    let done = 0;
    const products = Array.from({ length: 64 }, async () => {
      await large.forwardAsync(x);
      done++;
    });
    await readFile(new URL(import.meta.url));
    expect(done).toBeLessThan(64);
    await Promise.all(products);
    expect(done).toBe(64);
  });
});

describe('a process', () => {
  it('survives workers that end in the middle of async products', async () => {
    // Plain JavaScript on the addon itself: a worker cannot load TypeScript on every supported node.
    const { backend } = kernels();
    if (backend === 'js') return;
    const source = `
      const { workerData } = require('node:worker_threads');
      const native = require('node-gyp-build')(workerData).kernels('portable');
      const n = 256, crow = new Int32Array(n / 16 + 1).map((_, i) => i * 4), col = new Int32Array(n / 4).map((_, i) => i % 4);
      const layer = native.packLayer(n, n, 16, 16, crow, col, new Float32Array(n / 4 * 256).fill(0.01), null, 'relu', 2, 0);
      const x = new Float32Array(64 * n).fill(1);
      const out = new Float32Array(64 * n);
      const go = () => { layer.forward(x, 64, out); layer.forwardAsync(x, 64).then(go); };
      for (let i = 0; i < 8; i++) go();
      require('node:worker_threads').parentPort.postMessage('running');
    `;
    const root = new URL('..', import.meta.url).pathname;
    for (let round = 0; round < 5; round++) {
      const workers = Array.from(
        { length: 8 },
        () => new Worker(source, { eval: true, workerData: root, stderr: true }),
      );
      await Promise.all(
        workers.map(async (worker) => {
          await new Promise((resolve, reject) => {
            worker.once('message', resolve);
            worker.once('error', reject);
          });
          await worker.terminate();
        }),
      );
    }
    const y = kernels().allocate(16 * padBatch(1));
    expect(y).toHaveLength(256);
  }, 120_000);
});

it('says that the batch is too large when there is no memory for its result', () => {
  expect(() => allocateRows(2 ** 24, 2 ** 24)).toThrow(/^x must be a smaller batch: .* 16777216 rows/);
});

it('refuses a result over the limit of one matrix, before it allocates', async () => {
  const tall = BsrMatrix.fromDense(new Float32Array(1 << 20).fill(1), new BlockGrid([1 << 20, 1], [4096, 1]));
  const large = new BsrLinear(tall);
  expect(() => large.forward(new Float32Array(3000))).toThrow(/x must be at most 2048 rows/);
  await expect(large.forwardAsync(new Float32Array(3000))).rejects.toThrow(/x must be at most 2048 rows/);
});
