/**
 * One layer, block-sparse against dense, in one interleaved run.
 *
 *     npm run bench [-- --shapes 768x768 --batches 1,8,32,128 --blocks 4x4,16x16 --sparsities 0,80,90 --json FILE]
 *
 * `ours` is BsrLinear.forward: row-major in and out, the call included. `panels` is the product alone, as it runs
 * inside a network, with its activations left in panels. Dense peers compute the same weight with its zeros:
 * onnxruntime-node (npm install in bench/ brings it; else it is skipped, and said so) and our own dense, every
 * block kept. CSR stores the same non-zeros one by one. One thread each; medians; every result is checked first.
 */
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { gemmModel } from './onnx-gemm.mjs';

// Read when the kernels load, so this comes before them.
process.env.BLOCKSPARSE_THREADS = '1';
const { BlockGrid, BlockMask, BsrLinear, BsrMatrix, CsrMatrix, runtime } = await import('../dist/index.js');
const { kernels } = await import('../dist/kernels/choose.js');
const { padBatch } = await import('../dist/kernels/kernels.js');
const { median } = await import('../dist/report/timing.js');

const { values: flags } = parseArgs({
  options: {
    shapes: { type: 'string', default: '768x768' },
    batches: { type: 'string', default: '1,8,32,128' },
    blocks: { type: 'string', default: '4x4,8x8,16x16,32x32' },
    sparsities: { type: 'string', default: '0,80,90,95' },
    json: { type: 'string' },
  },
});
const pairs = (text) => text.split(',').map((pair) => pair.split('x').map(Number));
const numbers = (text) => text.split(',').map(Number);

/** What our own dense runs in. */
const DENSE_BLOCK = [32, 32];
const SAMPLES = 15;
const SAMPLE_MILLISECONDS = 3;

/** Milliseconds of `calls` calls; a call that gives a promise is awaited, as its user would. */
async function timeOf(run, calls) {
  const start = performance.now();
  for (let i = 0; i < calls; i++) {
    const pending = run();
    if (pending) await pending;
  }
  return performance.now() - start;
}

/** Medians in microseconds; the candidates take turns, so that a change of clock speed meets all alike. */
async function interleavedMedians(runs) {
  const calls = [];
  for (const run of runs) {
    await timeOf(run, 2);
    calls.push(Math.max(1, Math.ceil((SAMPLE_MILLISECONDS * 2) / (await timeOf(run, 2)))));
  }
  const times = runs.map(() => []);
  for (let sample = 0; sample < SAMPLES; sample++)
    for (let i = 0; i < runs.length; i++)
      times[i].push(((await timeOf(runs[i], calls[i])) * 1000) / calls[i]);
  return times.map(median);
}

let state = 1;
function random() {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state / 4294967296;
}
const randoms = (length) => Float32Array.from({ length }, () => random() - 0.5);

async function loadOnnxRuntime() {
  try {
    return (await import('onnxruntime-node')).default;
  } catch {
    console.log('onnxruntime-node is not installed (npm install in bench/): skipped');
    return undefined;
  }
}

function check(what, actual, expected) {
  // Sums of thousands of products of numbers below 0.5, in any order.
  const wrong = actual.findIndex((value, i) => !(Math.abs(value - expected[i]) < 1e-3));
  if (wrong >= 0) throw new Error(`${what} gives ${actual[wrong]} at ${wrong}, not ${expected[wrong]}`);
}

function denseProduct(weight, n, k, x, m) {
  const y = new Float32Array(m * n);
  for (let s = 0; s < m; s++)
    for (let o = 0; o < n; o++) {
      let sum = 0;
      for (let i = 0; i < k; i++) sum += weight[o * k + i] * x[s * k + i];
      y[s * n + o] = sum;
    }
  return y;
}

const ort = await loadOnnxRuntime();
const { backend, isa } = runtime();
console.log(`${cpus()[0].model}, node ${process.version}, ${backend} ${isa}, one thread; µs, medians`);
const rows = [];

for (const [n, k] of pairs(flags.shapes))
  for (const block of pairs(flags.blocks))
    for (const sparsity of numbers(flags.sparsities)) {
      const grid = new BlockGrid([n, k], block);
      const kept = Uint8Array.from({ length: grid.blockCount }, () => (random() * 100 < sparsity ? 0 : 1));
      const matrix = BsrMatrix.fromDense(randoms(n * k), grid, new BlockMask(grid, kept));
      const weight = matrix.toDense();
      const layer = new BsrLinear(matrix);
      const dense = new BsrLinear(
        BsrMatrix.fromDense(
          weight,
          new BlockGrid([n, k], DENSE_BLOCK),
          BlockMask.full(new BlockGrid([n, k], DENSE_BLOCK)),
        ),
      );
      const csr = new BsrLinear(CsrMatrix.fromBsr(matrix).toBsr([1, 1]));
      const pattern = kernels().pattern(matrix);
      const values = kernels().allocate(matrix.values.length);
      values.set(matrix.values);
      const session =
        ort && (await ort.InferenceSession.create(gemmModel(weight, n, k), { intraOpNumThreads: 1 }));
      for (const m of numbers(flags.batches)) {
        const x = randoms(m * k);
        const out = new Float32Array(m * n);
        const panels = kernels().allocate(k * padBatch(m));
        const result = kernels().allocate(n * padBatch(m));
        kernels().toPanels(x, null, m, k, panels);
        const feeds = ort && { x: new ort.Tensor('float32', x, [m, k]) };
        const runs = {
          ours: () => void layer.forward(x, out),
          panels: () => void pattern.forward(values, null, 'none', panels, m, result),
          'our dense': () => void dense.forward(x, out),
          csr: () => void csr.forward(x, out),
        };
        if (session) runs.onnxruntime = () => session.run(feeds);
        const expected = denseProduct(weight, n, k, x, m);
        for (const [name, run] of Object.entries(runs)) {
          const y = await run();
          if (name === 'panels') kernels().fromPanels(result, m, n, out);
          check(`${name} ${n}x${k} ${block} M ${m}`, name === 'onnxruntime' ? y.y.data : out, expected);
        }
        const medians = await interleavedMedians(Object.values(runs));
        const times = Object.fromEntries(Object.keys(runs).map((name, i) => [name, medians[i]]));
        const fastest = Math.min(times['our dense'], times.onnxruntime ?? Number.POSITIVE_INFINITY);
        const work = 2 * matrix.density * n * k * m;
        rows.push({
          shape: `${n}x${k}`,
          block: block.join('x'),
          sparsity,
          m,
          ...times,
          'GF/s': work / times.ours / 1e3,
          'GF/s panels': work / times.panels / 1e3,
          'dense GF/s': (2 * n * k * m) / fastest / 1e3,
          'x dense': fastest / times.ours,
        });
        const cells = Object.entries(rows.at(-1)).map(([name, value]) =>
          typeof value === 'number' && !['sparsity', 'm'].includes(name)
            ? Number(value.toPrecision(3))
            : value,
        );
        if (rows.length === 1) console.log(Object.keys(rows[0]).join('\t'));
        console.log(cells.join('\t'));
      }
      await session?.release();
    }
if (flags.json) writeFileSync(flags.json, `${JSON.stringify(rows, null, 2)}\n`);
