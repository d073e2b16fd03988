import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Model } from '../../lib/format/model.ts';
import { float32Tensor, type Tensor, writeSafetensorsFile } from '../../lib/format/safetensors.ts';
import { kernels } from '../../lib/kernels/choose.ts';
import { Network } from '../../lib/nn/network.ts';
import type { LayerSpec } from '../../lib/nn/spec.ts';
import { divide, inputs, SMALL, smallSparse } from './networks.ts';

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'blocksparse-'));
  path = join(folder, 'model.safetensors');
});
afterEach(() => rm(folder, { recursive: true }));

const parts = (model: Model | Network) =>
  ('matrices' in model ? model.matrices : model.linears).map(({ name, activation, matrix, bias }) => {
    const { shape, blockShape, crowIndices, colIndices, values } = matrix;
    return { name, activation, bias, shape, blockShape, crowIndices, colIndices, values };
  });

describe('a model file', () => {
  test('gives back structure, values, layers and info', async () => {
    const network = smallSparse();
    const info = { mean: 0.5, list: [1, 'two', null], __proto__x: true };
    await Model.fromNetwork(network, info).save(path);
    const model = await Model.load(path);
    expect(parts(model)).toEqual(parts(network));
    expect(model.layers).toEqual(SMALL);
    expect(model.info).toEqual(info);
    expect(model.density).toBeCloseTo(network.density, 12);
    expect([model.inFeatures, model.outFeatures]).toEqual([13, 3]);
    expect(parts(model.toNetwork())).toEqual(parts(network));
    expect(await readdir(folder)).toEqual(['model.safetensors']);
  });

  test('saved again is the same file, byte for byte', async () => {
    await Model.fromNetwork(smallSparse(), { a: 1 }).save(path);
    const first = await readFile(path);
    await (await Model.load(path)).save(path);
    expect(await readFile(path)).toEqual(first);
  });

  test('keeps the block shape of a layer with all blocks, zeros in it or not', async () => {
    const network = divide(Network.create(SMALL, 1), [3, 5], () => true);
    network.linears[0].matrix.values.fill(0);
    await Model.fromNetwork(network).save(path);
    expect(parts(await Model.load(path))).toEqual(parts(network));
  });

  test('loads what it saved for blocks far larger than the matrix', async () => {
    const network = divide(Network.create(SMALL, 1), [1000, 2], () => true);
    await Model.fromNetwork(network).save(path);
    expect(parts(await Model.load(path))).toEqual(parts(network));
  });

  test('takes layer names of any text', async () => {
    for (const name of ['__proto__', 'a.weight', 'ü "quoted" \n', 'constructor', '0']) {
      const network = Network.create([{ type: 'linear', name, inFeatures: 2, outFeatures: 2 }], 1);
      await Model.fromNetwork(network).save(path);
      expect(parts(await Model.load(path))).toEqual(parts(network));
    }
  });

  test('is small when pruned', async () => {
    const layers: LayerSpec[] = [
      { type: 'linear', inFeatures: 784, outFeatures: 300 },
      { type: 'relu' },
      { type: 'linear', inFeatures: 300, outFeatures: 100 },
      { type: 'relu' },
      { type: 'linear', inFeatures: 100, outFeatures: 10 },
    ];
    const dense = Model.fromNetwork(Network.create(layers, 1));
    const pruned = Model.fromNetwork(divide(Network.create(layers, 1), [4, 4], (i) => i % 100 < 9));
    await dense.save(path);
    const denseSize = (await stat(path)).size;
    await pruned.save(path);
    expect((await stat(path)).size).toBeLessThan(0.12 * denseSize);
    expect(dense.bytes).toMatchObject({ values: 4 * 266_200, indices: 0, ratio: 1 });
    expect(pruned.bytes.dense).toBe(dense.bytes.total);
    expect(pruned.bytes.ratio).toBeGreaterThan(9);
  });

  test('given its own layers again it loads, given others it does not', async () => {
    await Model.fromNetwork(smallSparse()).save(path);
    const spelled = SMALL.map((layer, i) =>
      layer.type === 'linear' ? { name: String(i), bias: true, ...layer } : layer,
    );
    await expect(Model.load(path, { layers: spelled })).resolves.toBeInstanceOf(Model);
    const other = SMALL.map((layer) => (layer.type === 'relu' ? { type: 'tanh' as const } : layer));
    await expect(Model.load(path, { layers: other })).rejects.toMatchObject({ code: 'INVALID_FILE' });
  });

  test('is independent of the network, and of the info, that it was made from', async () => {
    const network = smallSparse();
    const info = { a: { b: 1 } };
    const model = Model.fromNetwork(network, info);
    const before = parts(network).map(({ values }) => values.slice());
    for (const { matrix, bias } of network.linears) {
      matrix.values.fill(9);
      bias?.fill(9);
    }
    info.a.b = 2;
    expect(parts(model).map(({ values }) => values)).toEqual(before);
    expect(model.info).toEqual({ a: { b: 1 } });
  });

  test('a failed write keeps the old model', async () => {
    await Model.fromNetwork(smallSparse(1)).save(path);
    const old = await readFile(path);
    const model = Model.fromNetwork(smallSparse(2));
    model.matrices[0].matrix.colIndices[0] = -1;
    await expect(model.save(path)).rejects.toThrow(RangeError);
    await expect(Model.fromNetwork(smallSparse(2)).save(join(path, 'below'))).rejects.toMatchObject({
      code: 'WRITE_FAILED',
    });
    expect(await readFile(path)).toEqual(old);
    expect(await readdir(folder)).toEqual(['model.safetensors']);
  });
});

describe('running', () => {
  test.each([0, 1, 2, 15, 16, 17, 65, 130])('%i rows: run, runSync and the network agree', async (m) => {
    const network = smallSparse();
    const model = Model.fromNetwork(network);
    const x = inputs(m * 13);
    const sync = model.runSync(x);
    expect(sync.length).toBe(m * 3);
    expect(await model.run(x)).toEqual(sync);
    const wanted = network.predict(x);
    for (let i = 0; i < sync.length; i++) expect(sync[i]).toBeCloseTo(wanted[i], 4);
  });

  test('agrees with the plain formula', () => {
    const network = Network.create(
      [
        { type: 'linear', inFeatures: 5, outFeatures: 4 },
        { type: 'tanh' },
        { type: 'linear', inFeatures: 4, outFeatures: 2 },
      ],
      5,
    );
    const x = inputs(15);
    const out = Model.fromNetwork(network).runSync(x);
    for (let row = 0; row < 3; row++) {
      let h: number[] = Array.from(x.subarray(row * 5, row * 5 + 5));
      network.linears.forEach((linear, i) => {
        const w = linear.weight();
        h = Array.from(linear.bias!, (b, n) => h.reduce((sum, v, k) => sum + v * w[n * h.length + k], b));
        if (i === 0) h = h.map(Math.tanh);
      });
      expect(out[row * 2]).toBeCloseTo(h[0], 5);
      expect(out[row * 2 + 1]).toBeCloseTo(h[1], 5);
    }
  });

  test('many runs at once, the input changed meanwhile', async () => {
    const model = Model.fromNetwork(smallSparse());
    const runs = Array.from({ length: 50 }, (_, i) => {
      const x = inputs(13 * (1 + (i % 5))).map((v) => v + i);
      const wanted = model.runSync(x);
      const result = model.run(x);
      x.fill(NaN);
      return result.then((got) => expect(got).toEqual(wanted));
    });
    await Promise.all(runs);
  });

  test('shared memory works, an empty input has no rows, a detached one is refused', async () => {
    const model = Model.fromNetwork(smallSparse());
    const shared = new Float32Array(new SharedArrayBuffer(4 * 26));
    shared.set(inputs(26));
    expect(model.runSync(shared)).toEqual(model.runSync(inputs(26)));
    const detached = inputs(13);
    structuredClone(null, { transfer: [detached.buffer as ArrayBuffer] });
    expect((await model.run(new Float32Array(0))).length).toBe(0);
    await expect(model.run(detached)).rejects.toThrow(/^x must be .* not transferred away/);
  });

  test('arrays changed or transferred away are named before anything is written', async () => {
    const model = Model.fromNetwork(smallSparse());
    structuredClone(null, { transfer: [model.matrices[0].bias!.buffer as ArrayBuffer] });
    await expect(model.save(path)).rejects.toThrow(/^matrices\[0\]\.bias must be/);
    expect(await readdir(folder)).toEqual([]);
    model.matrices[0].matrix.crowIndices[1] = 2 ** 30;
    expect(() => model.density).toThrow(/^crowIndices\[1\] must be/);
    await expect(Model.load(path, [] as never)).rejects.toThrow(/^options must be an object/);
  });

  test('wrong inputs are named', async () => {
    const model = Model.fromNetwork(smallSparse());
    for (const x of [
      undefined,
      null,
      5,
      [1, 2],
      new Float64Array(13),
      new Uint8Array(13),
      new ArrayBuffer(52),
    ]) {
      expect(() => model.runSync(x as never)).toThrow(/^x must be a Float32Array/);
      await expect(model.run(x as never)).rejects.toThrow(TypeError);
    }
    expect(() => model.runSync(new Float32Array(12))).toThrow(
      /^x must be a Float32Array of M \* 13 elements/,
    );
    await expect(model.run(new Float32Array(14))).rejects.toThrow(RangeError);
    for (const receiver of [undefined, {}, Object.create(Model.prototype)]) {
      expect(() => Model.prototype.runSync.call(receiver as never, new Float32Array(13))).toThrow(TypeError);
      await expect(Model.prototype.run.call(receiver as never, new Float32Array(13))).rejects.toThrow(
        TypeError,
      );
      await expect(Model.prototype.save.call(receiver as never, path)).rejects.toThrow(TypeError);
    }
  });
});

describe('a plain state_dict', () => {
  const network = () => Network.create(SMALL, 4);
  /** The network's tensors under other layer names. */
  async function write(names: string[], change: (tensors: Map<string, Tensor>) => void = () => {}) {
    const tensors = new Map<string, Tensor>();
    network().linears.forEach((linear, i) => {
      tensors.set(
        `${names[i]}.weight`,
        float32Tensor([linear.outFeatures, linear.inFeatures], linear.weight()),
      );
      if (linear.bias) tensors.set(`${names[i]}.bias`, float32Tensor([linear.outFeatures], linear.bias));
    });
    change(tensors);
    await writeSafetensorsFile(path, new Map([...tensors].reverse()), new Map([['format', 'pt']]));
  }
  const unnamed = (layers = SMALL): LayerSpec[] =>
    layers.map((layer) => {
      if (layer.type !== 'linear') return layer;
      const { name: _, ...rest } = layer;
      return rest;
    });
  const weights = (model: Model) => model.matrices.map(({ matrix }) => matrix.toDense());
  const wanted = () => network().linears.map((linear) => linear.weight());

  test('by given names and indices in the list', async () => {
    await write(['1', 'middle', '5']);
    const model = await Model.load(path, { layers: SMALL });
    expect(parts(model)).toEqual(parts(network()));
    await model.save(path);
    expect(parts(await Model.load(path))).toEqual(parts(network()));
  });

  test('by order, numbers by their value', async () => {
    await write(['net.fc2', 'net.fc9', 'net.fc10']);
    const model = await Model.load(path, { layers: unnamed() });
    expect(weights(model)).toEqual(wanted());
    expect(model.matrices.map(({ name }) => name)).toEqual(['net.fc2', 'net.fc9', 'net.fc10']);
  });

  test('a given name and the rest by order', async () => {
    await write(['a', 'middle', 'z']);
    expect(weights(await Model.load(path, { layers: SMALL }))).toEqual(wanted());
  });

  test('what does not fit is named', async () => {
    const cases: [string[], LayerSpec[], RegExp, ((tensors: Map<string, Tensor>) => void)?][] = [
      [['1', 'other', '5'], SMALL, /no tensor "middle\.weight"/],
      [['1', 'middle', '5'], SMALL.slice(0, 4), /2 tensors that belong to no layer, such as "5\./],
      [['z', 'm', 'a'], unnamed(), /"a\.weight" has shape \[3,7\], not \[10,13\]/],
      [['1', 'middle', '5'], SMALL, /no tensor "1\.bias"/, (t) => t.delete('1.bias')],
      [
        ['1', 'middle', '5'],
        SMALL,
        /"1\.bias" has 2 elements, not 10/,
        (t) => t.set('1.bias', float32Tensor([2], new Float32Array(2))),
      ],
      [
        ['1', 'middle', '5'],
        SMALL,
        /belong to no layer, such as "middle\.bias"/,
        (t) => t.set('middle.bias', float32Tensor([7], new Float32Array(7))),
      ],
      [
        ['1', 'middle', '5'],
        SMALL,
        /"5\.weight" has 1 dimensions/,
        (t) => t.set('5.weight', float32Tensor([21], new Float32Array(21))),
      ],
      [
        ['1', 'middle', '5'],
        SMALL,
        /"5\.weight" is F64/,
        (t) => t.set('5.weight', { dtype: 'F64', shape: [3, 7], data: new Uint8Array(168) }),
      ],
      [
        ['1', 'middle', '5'],
        unnamed().slice(0, 3),
        /weights for 3 layers \(1, 5, middle\), but 1 layers|tensors that belong/,
      ],
    ];
    for (const [names, layers, message, change] of cases) {
      await write(names, change);
      const error = { code: 'INVALID_FILE', message: expect.stringMatching(message) };
      await expect(Model.load(path, { layers })).rejects.toMatchObject(error);
    }
    await expect(Model.load(path)).rejects.toThrow(/options\.layers/);
  });

  test('an order that would be a guess is refused', async () => {
    const square: LayerSpec[] = [
      { type: 'linear', inFeatures: 2, outFeatures: 2, bias: false },
      { type: 'linear', inFeatures: 2, outFeatures: 2, bias: false },
    ];
    const weight = float32Tensor([2, 2], Float32Array.of(1, 2, 3, 4));
    const names = (a: string, b: string) =>
      writeSafetensorsFile(
        path,
        new Map([
          [`${a}.weight`, weight],
          [`${b}.weight`, weight],
        ]),
      );
    await names('encoder', 'decoder');
    await expect(Model.load(path, { layers: square })).rejects.toThrow(/give the layers a name/);
    await names('fc1', 'fc2');
    await expect(Model.load(path, { layers: square })).resolves.toBeInstanceOf(Model);
  });

  test('half precision weights, and BSR arrays with int64 indices as PyTorch makes them', async () => {
    const layers: LayerSpec[] = [{ type: 'linear', inFeatures: 4, outFeatures: 2, bias: false }];
    const halves = Uint16Array.from({ length: 8 }, (_, i) => (i % 2 ? 0x3c00 : 0));
    await writeSafetensorsFile(
      path,
      new Map([['0.weight', { dtype: 'F16', shape: [2, 4], data: new Uint8Array(halves.buffer) }]]),
    );
    expect(weights(await Model.load(path, { layers }))).toEqual([Float32Array.of(0, 1, 0, 1, 0, 1, 0, 1)]);
    const wide = (...values: bigint[]): Tensor => {
      return {
        dtype: 'I64',
        shape: [values.length],
        data: new Uint8Array(BigInt64Array.from(values).buffer),
      };
    };
    await writeSafetensorsFile(
      path,
      new Map([
        ['0.crow_indices', wide(0n, 1n)],
        ['0.col_indices', wide(1n)],
        ['0.values', float32Tensor([1, 2, 2], Float32Array.of(1, 2, 3, 4))],
      ]),
    );
    const model = await Model.load(path, { layers });
    expect(weights(model)).toEqual([Float32Array.of(0, 0, 1, 2, 0, 0, 3, 4)]);
    expect(model.density).toBe(0.5);
  });
});

describe('how a model serves', () => {
  // Of 4x4 blocks three quarters are kept: as dense, but for large batches.
  const network = () =>
    divide(
      Network.create(
        [
          { type: 'linear', name: 'wide', inFeatures: 160, outFeatures: 96 },
          { type: 'relu' },
          { type: 'linear', inFeatures: 96, outFeatures: 160 },
        ],
        1,
      ),
      [4, 4],
      (i) => i % 4 > 0,
    );
  const native = kernels().backend === 'native';

  test('explains itself, layer by layer, before a run and after the weights are released', () => {
    const model = Model.fromNetwork(network());
    const info = model.explain(8);
    expect(info.layers.map(({ name }) => name)).toEqual(['wide', '2']);
    for (const { regrouped, reason } of info.layers) {
      expect(regrouped).toBe(native);
      expect(reason.length).toBeGreaterThan(10);
    }
    expect(info.packedBytes).toBe(info.layers[0].packedBytes + info.layers[1].packedBytes);
    expect(info.packedBytes).toBeGreaterThanOrEqual(model.bytes.values);
    model.releaseWeights();
    expect(model.explain(8)).toEqual(info);
  });

  test('goes by batchHint, in whatever way it is made', async () => {
    const made = Model.fromNetwork(network(), {}, { batchHint: 128 });
    await made.save(path);
    const loaded = await Model.load(path, { batchHint: 128 });
    expect((await Model.load(path)).batchHint).toBeUndefined();
    const x = inputs(128 * 160);
    const expected = Model.fromNetwork(network()).runSync(x);
    for (const model of [made, loaded]) {
      expect(model.batchHint).toBe(128);
      for (const layer of model.explain(128).layers)
        expect(layer).toMatchObject({ regrouped: false, blockShape: [4, 4] });
      // From eight rows on, all but a few kinds of blocks add in the order of columns, as dense does.
      expect(model.runSync(x)).toEqual(expected);
    }
  });
});

describe('wrong arguments', () => {
  test('are named', async () => {
    await Model.fromNetwork(smallSparse()).save(path);
    await expect(Model.load(undefined as never)).rejects.toThrow(/^path must be/);
    await expect(Model.load(path, null as never)).rejects.toThrow(/^options must be/);
    await expect(Model.load(path, { layers: 5 as never })).rejects.toThrow(/^options\.layers must be/);
    for (const batchHint of [0, 1.5, '8' as never]) {
      const message = /^options\.batchHint must be/;
      await expect(Model.load(path, { batchHint })).rejects.toThrow(message);
      expect(() => Model.fromNetwork(smallSparse(), {}, { batchHint })).toThrow(message);
    }
    expect(() => Model.fromNetwork(smallSparse(), {}, null as never)).toThrow(/^options must be/);
    expect(() => Model.fromNetwork(smallSparse()).explain(0)).toThrow(/^batch must be/);
    expect(() => Model.prototype.explain.call({} as never, 1)).toThrow(/^this must be a Model/);
    await expect(Model.load(join(folder, 'none'))).rejects.toMatchObject({ code: 'ENOENT' });
    expect(() => Model.fromNetwork({} as never)).toThrow(/^network must be a Network/);
    const circular: Record<string, unknown> = {};
    circular.self = circular;
    for (const info of [null, 5, [], circular, { big: 1n }])
      expect(() => Model.fromNetwork(smallSparse(), info as never)).toThrow(/^info must be/);
  });

  test('a file that is something else', async () => {
    for (const content of ['', 'hello, world, this is text', '\x80\x04\x95pickle'.padEnd(100, 'x')]) {
      await writeFile(path, content);
      await expect(Model.load(path)).rejects.toMatchObject({ code: 'INVALID_FILE' });
    }
  });
});
