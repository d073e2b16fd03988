import { afterEach, describe, expect, it, vi } from 'vitest';
import type { BsrArrays } from '../../lib/kernels/kernels.ts';
import { portableKernels } from '../../lib/kernels/portable.ts';
import { rowsForward } from '../../lib/kernels/rows-forward.ts';
import { wasmForward } from '../../lib/kernels/wasm-forward.ts';
import { expected, makeCase } from './cases.ts';

afterEach(() => {
  vi.unstubAllGlobals();
  vi.resetModules();
});

function single(k: number, column: number, value: number): BsrArrays {
  return {
    shape: [1, k],
    blockShape: [1, 1],
    crowIndices: Int32Array.of(0, 1),
    colIndices: Int32Array.of(column),
    values: Float32Array.of(value),
  };
}

describe('wasmForward', () => {
  it('is what portable layers run, and gives what plain JS gives', () => {
    // Several parts of the weights, panels of 64, 64 and 22 batch rows, edges that no block fits.
    for (const block of [
      [16, 16],
      [5, 7],
      [3, 1],
    ] as [number, number][]) {
      const c = makeCase(41, [900, 517], block, 0.7, 150, 'none');
      const out = new Float32Array(c.m * 900);
      const plain = new Float32Array(c.m * 900);
      const served = new Float32Array(c.m * 900);
      expect(4 * c.matrix.values.length).toBeGreaterThan(2 ** 20);
      expect(wasmForward(c.matrix, c.bias, c.x, c.m, out)).toBe(true);
      rowsForward(c.matrix, c.bias, c.x, c.m, plain);
      portableKernels.packLayer(c.matrix, c.bias, 'none', 1).forward(c.x, c.m, served);
      expect(served).toEqual(out);
      const { bound } = expected(c);
      for (let i = 0; i < out.length; i++) {
        if (!(Math.abs(out[i] - plain[i]) <= 2 * bound[i])) expect.fail(`${block}: element ${i}`);
      }
    }
  });

  it('keeps the rows of a batch apart', () => {
    const c = makeCase(42, [30, 40], [4, 4], 0.8, 21, 'none');
    const clean = new Float32Array(21 * 30);
    wasmForward(c.matrix, c.bias, c.x, 21, clean);
    c.x.fill(Number.NaN, 5 * 40, 6 * 40);
    const out = new Float32Array(21 * 30);
    wasmForward(c.matrix, c.bias, c.x, 21, out);
    out.copyWithin(5 * 30, 6 * 30, 7 * 30);
    clean.copyWithin(5 * 30, 6 * 30, 7 * 30);
    expect(out).toEqual(clean);
  });

  it('says so where it would need too much memory, and the layer goes on without it', () => {
    const k = 5_000_000;
    const w = single(k, k - 1, 3);
    const x = new Float32Array(2 * k);
    x[2 * k - 1] = 2;
    const out = new Float32Array(2);
    expect(wasmForward(w, null, x, 2, out)).toBe(false);
    const layer = portableKernels.packLayer(w, null, 'none', 1);
    layer.forward(x, 2, out);
    expect([...out]).toEqual([0, 6]);
    const { kernel, reason, tile } = layer.info(2);
    expect([kernel, ...tile]).toEqual(['rows', 1, 1]);
    expect(reason).toMatch(/too little memory/);
  });

  it('has memory enough for any batch of a layer that it has for one of 16 rows', () => {
    const layer = portableKernels.packLayer(single(2 ** 21, 0, 1), null, 'none', 1);
    const batches = [1, 16, 17, 64, 10_000];
    expect(batches.map((m) => layer.info(m).kernel)).toEqual([
      'rows',
      'panels',
      'panels',
      'panels',
      'panels',
    ]);
  });

  it('takes as many batch rows of a wide layer, and outputs of a tall one, as leave its memory small', async () => {
    const memories: { buffer: ArrayBuffer }[] = [];
    const { Instance, ...rest } = Object.fromEntries(
      ['validate', 'Module', 'Instance'].map((name) => [
        name,
        Reflect.get(Reflect.get(globalThis, 'WebAssembly'), name),
      ]),
    );
    vi.resetModules();
    vi.stubGlobal('WebAssembly', {
      ...rest,
      Instance: function Counted(code: object) {
        const instance = new Instance(code);
        memories.push(instance.exports.memory);
        return instance;
      },
    });
    const { wasmForward: fresh } = await import('../../lib/kernels/wasm-forward.ts');
    const m = 70;
    for (const [n, k] of [
      [8, 30_000],
      [30_000, 8],
    ]) {
      const c = makeCase(43, [n, k], [4, 4], 0.05, m, 'none');
      const out = new Float32Array(m * n);
      const plain = new Float32Array(m * n);
      expect(fresh(c.matrix, c.bias, c.x, m, out)).toBe(true);
      rowsForward(c.matrix, c.bias, c.x, m, plain);
      const { bound } = expected(c);
      for (let i = 0; i < out.length; i++)
        if (!(Math.abs(out[i] - plain[i]) <= 2 * bound[i])) expect.fail(`${n}x${k}: element ${i}`);
    }
    expect(memories).toHaveLength(1);
    // x of 16 batch rows, half a megabyte of y, and the weights.
    expect(memories[0].buffer.byteLength).toBeLessThan(4 * 16 * 30_000 + 2 ** 19 + 2 ** 18);
  });

  class Refused {
    constructor() {
      throw new RangeError('WebAssembly.Instance(): Out of memory');
    }
  }
  const missing: [string, unknown][] = [
    ['missing', undefined],
    ['without vectors', { validate: (): boolean => false }],
    ['refused', { validate: (): boolean => true, Module: Object, Instance: Refused }],
  ];

  it.each(missing)('is done without where WebAssembly is %s', async (_what, found) => {
    vi.resetModules();
    vi.stubGlobal('WebAssembly', found);
    const { portableKernels: kernels } = await import('../../lib/kernels/portable.ts');
    const layer = kernels.packLayer(single(2, 1, 3), null, 'none', 1);
    const out = new Float32Array(3);
    layer.forward(Float32Array.of(1, 2, 3, 4, 5, 6), 3, out);
    expect([...out]).toEqual([6, 12, 18]);
    expect(layer.info(3)).toMatchObject({ kernel: 'rows', tile: [1, 1] });
    expect(portableKernels.packLayer(single(2, 1, 3), null, 'none', 1).info(3).kernel).toBe('panels');
  });
});
