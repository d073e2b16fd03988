/** What serving costs beside the product: the call, the event loop, and the path without native code. */
import { monitorEventLoopDelay, performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { BlockGrid, BlockMask, BsrLinear, BsrMatrix } from '../../dist/index.js';
import { loadAddon, nativeKernels } from '../../dist/kernels/native.js';
import { portableKernels } from '../../dist/kernels/portable.js';
import { median } from '../../dist/report/timing.js';
import { check, denseProduct, interleave, randomMask, randoms } from './measure.mjs';
import { timed } from './peers.mjs';

/** Microseconds of forward on a layer of 16x16 at M = 1: all but some ten nanoseconds of it is the call. */
export async function callCost() {
  const grid = new BlockGrid([16, 16], [16, 16]);
  const layer = new BsrLinear(BsrMatrix.fromDense(randoms(256), grid), { threads: 1 });
  const [x, out] = [randoms(16), new Float32Array(16)];
  const [{ median: time }] = await interleave([{ time: timed(() => layer.forward(x, out)) }], 1);
  return time;
}

const ROUNDS = 5;

/**
 * Two threads of plain JavaScript in the rhythm of products, some milliseconds of work and a short rest, that never
 * touch the event loop: what any two do to it on this machine. A thread that has just woken keeps its core until the
 * system's next tick, so they delay it by more than threads that never rest.
 */
function working() {
  const code = `
    const never = new Int32Array(new SharedArrayBuffer(4));
    for (;;) {
      const start = performance.now();
      while (performance.now() - start < 6);
      Atomics.wait(never, 0, 0, 0.1);
    }`;
  const workers = [1, 2].map(() => new Worker(code, { eval: true }));
  return () => Promise.all(workers.map((worker) => worker.terminate()));
}

/**
 * Milliseconds of the event loop's delay (90 and 99 % of a second's), and how much of the time its own thread was
 * busy: idle, beside two working threads, and with two dense products of 4096x4096 under way. In turns, medians.
 */
async function eventLoop() {
  const grid = new BlockGrid([4096, 4096], [32, 32]);
  const layer = new BsrLinear(BsrMatrix.fromDense(randoms(4096 * 4096), grid, BlockMask.full(grid)));
  const x = randoms(32 * 4096);
  const products = () => {
    let busy = true;
    const running = [1, 2].map(async () => {
      while (busy) await layer.forwardAsync(x);
    });
    return () => {
      busy = false;
      return Promise.all(running);
    };
  };
  const works = { idle: () => async () => {}, working, products };
  const samples = Object.fromEntries(Object.keys(works).map((name) => [name, []]));
  for (let round = 0; round < ROUNDS; round++)
    for (const [name, work] of Object.entries(works)) {
      const stop = work();
      await sleep(100);
      const delay = monitorEventLoopDelay({ resolution: 1 });
      const start = performance.eventLoopUtilization();
      delay.enable();
      await sleep(1000);
      delay.disable();
      const { utilization } = performance.eventLoopUtilization(start);
      const [delay90, delay99] = [90, 99].map((share) => delay.percentile(share) / 1e6);
      samples[name].push({ delay90, delay99, utilization });
      await stop();
    }
  return Object.fromEntries(
    Object.entries(samples).map(([name, list]) => [
      name,
      Object.fromEntries(Object.keys(list[0]).map((key) => [key, median(list.map((one) => one[key]))])),
    ]),
  );
}

/** A straightforward dense product, as one writes it. */
function plainProduct(weight, n, k, x, m, out) {
  for (let s = 0; s < m; s++)
    for (let o = 0; o < n; o++) {
      let sum = 0;
      for (let i = 0; i < k; i++) sum += weight[o * k + i] * x[s * k + i];
      out[s * n + o] = sum;
    }
}

/** Microseconds of plain dense JavaScript, our own and portable C++: 768x768 at 90 %, M = 32. */
async function withoutNative(side) {
  const [n, k, m] = [768, 768, 32];
  const grid = new BlockGrid([n, k], [side, side]);
  const mask = new BlockMask(grid, randomMask(grid.blockCount, Math.round(grid.blockCount / 10)));
  const matrix = BsrMatrix.fromDense(randoms(n * k, 0.2), grid, mask);
  const weight = matrix.toDense();
  const [x, out] = [randoms(m * k), new Float32Array(m * n)];
  const expected = denseProduct(weight, n, k, x, m);
  const layers = [portableKernels, nativeKernels(loadAddon(), 'portable', 1)].map((kernels) =>
    kernels.packLayer(matrix, null, 'none', 1),
  );
  const runs = [
    () => plainProduct(weight, n, k, x, m, out),
    ...layers.map((layer) => () => layer.forward(x, m, out)),
  ];
  for (const run of runs) {
    out.fill(0);
    run();
    check(`${side}x${side} without native code`, out, expected, m * n);
  }
  const measured = await interleave(
    runs.map((run) => ({ time: timed(run) })),
    1,
  );
  return measured.map((one) => one.median);
}

/** Like the goals of the grid: { name, unit, target, worst }, and `atMost` where less is better. */
export async function measureServing() {
  const results = [
    {
      name: 'a call, 16x16, M = 1, with its kernel',
      unit: 'µs',
      target: 0.5,
      worst: await callCost(),
      atMost: true,
    },
  ];
  const { idle, working, products } = await eventLoop();
  results.push(
    ...['delay90', 'delay99'].map((key) => ({
      name: `event loop delay, 4096x4096 async, ${key.slice(5)} % (idle ${idle[key].toFixed(1)} ms, beside two threads at work ${working[key].toFixed(1)} ms)`,
      unit: 'ms',
      target: null,
      worst: products[key],
    })),
    { name: 'event loop busy meanwhile', unit: 'points', target: null, worst: products.utilization },
  );
  for (const side of [4, 16]) {
    const [dense, js, portable] = await withoutNative(side);
    results.push(
      {
        name: `without native code, over a plain dense loop in JS, ${side}x${side}, 90 %, M = 32`,
        unit: 'x the loop',
        target: 7,
        worst: dense / js,
      },
      {
        name: 'its time over that of portable C++',
        unit: 'x',
        target: 2.5,
        worst: js / portable,
        atMost: true,
      },
    );
  }
  return results;
}
