import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Project } from './installed.ts';

let project: Project;
beforeAll(async () => {
  project = await Project.install(['--ignore-scripts']);
});
afterAll(() => project.remove());

/** Lines every script here begins with: a layer of n x n ones / n, so that a row of ones gives ones. */
const BEGIN = `
import { setImmediate, setTimeout } from 'node:timers/promises';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
import { BlockGrid, BsrLinear, BsrMatrix, runtime } from 'blocksparse';
if (runtime().backend !== 'native') throw new Error('no native backend');
const n = 256, m = 64;
const weight = new Float32Array(n * n).fill(1 / n);
const matrix = BsrMatrix.fromDense(weight, new BlockGrid([n, n], [8, 8]));
const make = () => new BsrLinear(matrix, { activation: 'relu' });
const ones = () => new Float32Array(m * n).fill(1);
const check = (y) => { if (!y.every((value) => Math.abs(value - 1) < 1e-5)) throw new Error('wrong product'); };
const megabytes = () => process.memoryUsage().rss / 2 ** 20;
`;

let count = 0;
/** Runs a script in the installed project; it must end well and print nothing to stderr. Its JSON on stdout. */
async function script(code: string, flags: readonly string[] = []): Promise<unknown> {
  const file = `script-${count++}.mjs`;
  writeFileSync(join(project.folder, file), BEGIN + code);
  const { status, stdout, stderr } = await project.node([...flags, file]);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return stdout === '' ? undefined : JSON.parse(stdout);
}

describe('worker threads', () => {
  it('two hundred, ended in the middle of async products, leave nothing behind', async () => {
    const [early, late] = (await script(`
      if (!isMainThread) {
        const layer = make(), x = ones();
        const go = () => layer.forwardAsync(x).then((y) => { check(y); go(); });
        for (let i = 0; i < 4; i++) { check(layer.forward(x)); go(); }
        parentPort.postMessage('running');
      } else {
        const one = async (i) => {
          const worker = new Worker(new URL(import.meta.url));
          await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
          await setTimeout(i % 7);
          await worker.terminate();
        };
        const batch = async (from, to) => {
          for (let i = from; i < to; i += 6) await Promise.all([0, 1, 2, 3, 4, 5].map((j) => one(i + j)));
          return megabytes();
        };
        console.log(JSON.stringify([await batch(0, 60), await batch(60, 210)]));
      }
    `)) as [number, number];
    // The allocator's own slack is some megabytes; a layer kept by each worker would be fifty more.
    expect(late - early).toBeLessThan(40);
  });

  it('ended early, compute nothing of what still waits', async () => {
    const [used, all] = (await script(`
      const cpu = () => { const { user, system } = process.cpuUsage(); return user + system; };
      if (!isMainThread) {
        const wide = 1024;
        const layer = new BsrLinear(
          BsrMatrix.fromDense(new Float32Array(wide * wide).fill(1), new BlockGrid([wide, wide], [8, 8])));
        const x = new Float32Array(64 * wide).fill(1);
        layer.forward(x);
        const before = cpu();
        for (let i = 0; i < 20; i++) layer.forward(x);
        const one = (cpu() - before) / 20;
        for (let i = 0; i < 400; i++) layer.forwardAsync(x);
        parentPort.postMessage(one);
      } else {
        const worker = new Worker(new URL(import.meta.url));
        const one = await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
        const before = cpu();
        await worker.terminate();
        console.log(JSON.stringify([cpu() - before, 400 * one]));
      }
    `)) as [number, number];
    expect(used).toBeLessThan(all / 4);
  });

  it('may leave of themselves with products in flight', async () => {
    await script(`
      if (!isMainThread) {
        const layer = make();
        for (let i = 0; i < 20; i++) layer.forwardAsync(ones());
        process.exit(0);
      } else for (let i = 0; i < 20; i++) {
        const code = await new Promise((resolve, reject) =>
          new Worker(new URL(import.meta.url)).once('exit', resolve).once('error', reject));
        if (code !== 0) throw new Error('exit code ' + code);
      }
    `);
  });
});

describe('a process', () => {
  it('exits with products in flight', async () => {
    for (let round = 0; round < 5; round++)
      await script(`
        const layer = make();
        for (let i = 0; i < 100; i++) layer.forwardAsync(ones());
        await setTimeout(${round});
        process.exit(0);
      `);
  });

  it('gets the right product of an input whose buffer is transferred away meanwhile', async () => {
    await script(`
      const layer = make();
      for (let i = 0; i < 50; i++) {
        const x = ones();
        const product = layer.forwardAsync(x);
        structuredClone(x.buffer, { transfer: [x.buffer] });
        if (x.length !== 0) throw new Error('not transferred');
        check(await product);
      }
    `);
  });

  it('survives an output whose buffer is transferred away meanwhile', async () => {
    await script(`
      const layer = make();
      for (let i = 0; i < 50; i++) {
        const out = new Float32Array(m * n);
        const product = layer.forwardAsync(ones(), out);
        structuredClone(out.buffer, { transfer: [out.buffer] });
        const error = await product.then(() => undefined, (reason) => reason);
        if (!(error instanceof RangeError)) throw new Error('no error: ' + error);
      }
      check(layer.forward(ones()));
    `);
  });

  it('takes shared memory as input', async () => {
    await script(`
      const layer = make();
      const x = new Float32Array(new SharedArrayBuffer(m * n * 4)).fill(1);
      check(layer.forward(x));
      check(await layer.forwardAsync(x));
    `);
  });

  it.each(['as it is', '0.0.1'])('may load the package a second time, %s', async (version) => {
    const second = join(project.folder, 'node_modules/second');
    cpSync(project.package, second, { recursive: true });
    const manifest = JSON.parse(readFileSync(join(second, 'package.json'), 'utf8'));
    if (version !== 'as it is') manifest.version = version;
    writeFileSync(join(second, 'package.json'), JSON.stringify({ ...manifest, name: 'second' }));
    await script(`
      const second = await import('second');
      if (second.runtime().backend !== 'native' || second.BsrLinear === BsrLinear) throw new Error('not another');
      const other = new second.BsrLinear(
        second.BsrMatrix.fromDense(weight, new second.BlockGrid([n, n], [4, 4])), { activation: 'relu' });
      const layer = make();
      for (let i = 0; i < 20; i++) {
        check(layer.forward(ones()));
        check(other.forward(ones()));
        (await Promise.all([layer.forwardAsync(ones()), other.forwardAsync(ones())])).forEach(check);
      }
    `);
  });
});

describe('memory', () => {
  it('stays flat over a million calls', async () => {
    const { heap, rss } = (await script(
      `
      const grid = new BlockGrid([8, 8], [4, 4]);
      const layer = new BsrLinear(BsrMatrix.fromDense(new Float32Array(64).fill(1 / 8), grid), {});
      const x = new Float32Array(8).fill(1);
      const calls = async (times) => {
        for (let i = 0; i < times; i++) {
          layer.forward(x);
          if (i % 100 === 0) await layer.forwardAsync(x);
        }
        for (let i = 0; i < 3; i++) { gc(); await setImmediate(); }
        return [process.memoryUsage().heapUsed / 2 ** 20, megabytes()];
      };
      const before = await calls(200_000), after = await calls(1_000_000);
      console.log(JSON.stringify({ heap: after[0] - before[0], rss: after[1] - before[1] }));
    `,
      ['--expose-gc'],
    )) as { heap: number; rss: number };
    expect(heap).toBeLessThan(2);
    expect(rss).toBeLessThan(20);
  });

  it('is given back over ten thousand layers made and dropped, with no call to the collector', async () => {
    // 2.5 GB in all: the collector must be told what a layer holds outside its heap.
    const peak = (await script(`
      const x = ones();
      let peak = 0;
      for (let i = 0; i < 10_000; i++) {
        const layer = make();
        if (i % 100 === 0) check(layer.forward(x));
        if (i % 20 === 0) {
          await setImmediate();
          peak = Math.max(peak, megabytes());
        }
      }
      console.log(JSON.stringify(peak));
    `)) as number;
    expect(peak).toBeLessThan(600);
  });
});
