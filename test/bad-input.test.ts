import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { describe as describeValue } from '../lib/errors.ts';
import * as api from '../lib/index.ts';

const { BlockGrid, BlockMask, BsrLinear, BsrMatrix, CsrMatrix, Model, Network } = api;

/** Messages of the language itself, which name no argument of ours. */
const NAMELESS =
  /Cannot |is not a function|is not iterable|is not a constructor|undefined \(reading|Invalid (typed )?array|allocation failed|private|object null/;

const folder = mkdtempSync(join(tmpdir(), 'blocksparse-bad-'));
const file = join(folder, 'model.safetensors');
afterAll(() => rmSync(folder, { recursive: true }));

function detached<T extends Float32Array | Int32Array | Uint8Array>(array: T): T {
  structuredClone(array.buffer, { transfer: [array.buffer as ArrayBuffer] });
  return array;
}

const JUNK: readonly unknown[] = [
  undefined,
  null,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  -1,
  1.5,
  1e300,
  2 ** 53,
  7,
  true,
  'x',
  '',
  {},
  [],
  [null],
  [Number.NaN, -1],
  [1e300, 1e300],
  Symbol('junk'),
  7n,
  () => 7,
  new Map([[7, 7]]),
  Object.create(null),
  Object.create(Float32Array.prototype),
  Object.create(BlockGrid.prototype),
  Object.create(BsrMatrix.prototype),
  Object.create(Network.prototype),
  new Float64Array(4),
  Float32Array.of(Number.NaN),
  new Int32Array(3).fill(-1),
  detached(new Float32Array(4)),
  detached(new Int32Array(4)),
  detached(new Uint8Array(4)),
];

const grid = new BlockGrid([4, 6], [2, 2]);
const weight = Float32Array.from({ length: 24 }, (_, i) => Math.sin(i));
const matrix = BsrMatrix.fromDense(weight, grid);
const mask = BlockMask.full(grid);
const scores = api.scoreBlocks(weight, grid);
const layers: api.LayerSpec[] = [
  { type: 'linear', inFeatures: 6, outFeatures: 4 },
  { type: 'relu' },
  { type: 'linear', inFeatures: 4, outFeatures: 2 },
];
const network = () => Network.create(layers, 0);
const trained = network();
const data = { x: new Float32Array(30).fill(0.5), y: Int32Array.of(0, 1, 0, 1, 1), count: 5, features: 6 };
const training = {
  epochs: 1,
  batchSize: 2,
  optimizer: { type: 'adam', learningRate: 0.01, beta1: 0.9, epsilon: 1e-8, weightDecay: 0 } as const,
  rate: { type: 'step', every: 1, factor: 0.5 } as const,
  loss: 'cross-entropy' as const,
  seed: 1,
};
const csr = CsrMatrix.fromBsr(matrix);
const layer = new BsrLinear(matrix);
const model = Model.fromNetwork(trained);
const linear = trained.linears[0];
const tensor = { dtype: 'F32' as const, shape: [1], data: new Uint8Array(4) };
const cubic = { type: 'cubic', sparsity: 0.5, rounds: 2, initial: 0.1 } as const;
const paper = { type: 'rounds', fractions: [0.2, 0.1], rounds: 2 } as const;
const pruning = {
  blockShape: [2, 2] as const,
  schedule: cubic,
  criterion: 'fisher' as const,
  scoring: { data, batches: 2, batchSize: 2 },
  scope: 'layer' as const,
  floor: 0.1,
  retrain: { ...training, data },
  validation: data,
  checkpoint: file,
  info: {},
  resume: false,
};

interface Call {
  readonly name: string;
  /** By the names that errors must use. */
  readonly args: Record<string, unknown>;
  // biome-ignore lint/suspicious/noExplicitAny: wrong types are the point
  readonly run: (args: any) => unknown;
}

// biome-ignore lint/suspicious/noExplicitAny: wrong types are the point
const call = (name: string, args: Record<string, unknown>, run: (args: any) => unknown): Call => {
  return { name, args, run };
};

const CALLS: readonly Call[] = [
  call('BlockGrid', { shape: [4, 6], blockShape: [2, 2] }, (a) => new BlockGrid(a.shape, a.blockShape)),
  call('BlockGrid.elementsOf', { index: 0 }, (a) => grid.elementsOf(a.index)),
  call('BlockGrid.equals', { other: grid }, (a) => grid.equals(a.other)),
  call('BlockMask', { grid, kept: mask.kept }, (a) => new BlockMask(a.grid, a.kept)),
  call('BlockMask.full', { grid }, (a) => BlockMask.full(a.grid)),
  call('BsrMatrix', {}, () => Reflect.construct(BsrMatrix, [])),
  call('BsrMatrix.fromDense', { weight, grid, mask }, (a) => BsrMatrix.fromDense(a.weight, a.grid, a.mask)),
  call('BsrMatrix.fromArrays', { fields: fieldsOf(matrix) }, (a) => BsrMatrix.fromArrays(a.fields)),
  call('CsrMatrix', {}, () => Reflect.construct(CsrMatrix, [])),
  call('CsrMatrix.fromDense', { weight, shape: [4, 6] }, (a) => CsrMatrix.fromDense(a.weight, a.shape)),
  call('CsrMatrix.fromBsr', { matrix }, (a) => CsrMatrix.fromBsr(a.matrix)),
  call('CsrMatrix.fromArrays', { fields: fieldsOf(csr) }, (a) => CsrMatrix.fromArrays(a.fields)),
  call('CsrMatrix.toBsr', { blockShape: [2, 2] }, (a) => csr.toBsr(a.blockShape)),
  call(
    'BsrLinear',
    { matrix, options: { bias: new Float32Array(4), activation: 'relu', threads: 1 } },
    (a) => new BsrLinear(a.matrix, a.options),
  ),
  call('BsrLinear.forward', { x: new Float32Array(6), out: new Float32Array(4) }, (a) =>
    layer.forward(a.x, a.out),
  ),
  call('BsrLinear.forwardAsync', { x: new Float32Array(6), out: new Float32Array(4) }, (a) =>
    layer.forwardAsync(a.x, a.out),
  ),
  call('BsrLinear.explain', { batch: 1 }, (a) => layer.explain(a.batch)),
  call('Network', {}, () => Reflect.construct(Network, [])),
  call('Network.create', { layers, seed: 1 }, (a) => Network.create(a.layers, a.seed)),
  call('Network.fromParts', { layers, weights: trained.linears }, (a) =>
    Network.fromParts(a.layers, a.weights),
  ),
  call('Network.predict', { x: new Float32Array(6), m: 1 }, (a) => trained.predict(a.x, a.m)),
  call('Network.restore', { snapshot: trained.snapshot() }, (a) => trained.restore(a.snapshot)),
  call('Linear.setMatrix', { matrix: linear.matrix }, (a) => linear.setMatrix(a.matrix)),
  call('Model', {}, () => Reflect.construct(Model, [])),
  call('Model.load', { path: file, options: { layers, batchHint: 8 } }, (a) => Model.load(a.path, a.options)),
  call('Model.fromNetwork', { network: trained, info: {}, options: { batchHint: 8 } }, (a) =>
    Model.fromNetwork(a.network, a.info, a.options),
  ),
  call('Model.run', { x: new Float32Array(6) }, (a) => model.run(a.x)),
  call('Model.runSync', { x: new Float32Array(6) }, (a) => model.runSync(a.x)),
  call('Model.explain', { batch: 1 }, (a) => model.explain(a.batch)),
  call('Model.save', { path: file }, (a) => model.save(a.path)),
  call('readSafetensors', { bytes: new Uint8Array(8) }, (a) => api.readSafetensors(a.bytes)),
  call('readSafetensorsFile', { path: file }, (a) => api.readSafetensorsFile(a.path)),
  call(
    'writeSafetensorsFile',
    { path: file, tensors: new Map([['a', tensor]]), metadata: new Map([['k', 'v']]) },
    (a) => api.writeSafetensorsFile(a.path, a.tensors, a.metadata),
  ),
  call('writeSafetensorsFile of a tensor', { a: tensor }, ({ a }) =>
    api.writeSafetensorsFile(file, new Map([['a', a]])),
  ),
  call('writeSafetensorsFile of metadata', { metadata: { k: 'v' } }, (a) =>
    api.writeSafetensorsFile(file, new Map(), new Map(Object.entries(a.metadata ?? { k: 0 })) as never),
  ),
  call('readIdx', { bytes: new Uint8Array(8) }, (a) => api.readIdx(a.bytes)),
  call('readIdxFile', { path: file }, (a) => api.readIdxFile(a.path)),
  call('loadDataset', { folder }, (a) => (a.folder === undefined ? 0 : api.loadDataset(a.folder))),
  call('split', { data, validationCount: 1 }, (a) => api.split(a.data, a.validationCount)),
  call('evaluate', { network: trained, data, options: { loss: 'cross-entropy', batchSize: 2 } }, (a) =>
    api.evaluate(a.network, a.data, a.options),
  ),
  call('fit', { network: trained, data, options: { ...training, validation: data, keep: 'best' } }, (a) =>
    api.fit(a.network === trained ? network() : a.network, a.data, a.options),
  ),
  call('prune', { network: trained, options: pruning }, (a) =>
    api.prune(a.network === trained ? network() : a.network, a.options),
  ),
  call('prune by the paper', { network: trained, options: { blockShape: [2, 2], schedule: paper } }, (a) =>
    api.prune(a.network === trained ? network() : a.network, a.options),
  ),
  call('deriveSeed', { seed: 1, index: 0 }, (a) => api.deriveSeed(a.seed, a.index)),
  call('paperSchedule', { layers: 3, rounds: 16 }, (a) => api.paperSchedule(a.layers, a.rounds)),
  call('sparsityAt', { schedule: cubic, progress: 0.5, layer: 0 }, (a) =>
    api.sparsityAt(a.schedule, a.progress, a.layer),
  ),
  call('targetSparsity', { schedule: paper, round: 0, layer: 0 }, (a) =>
    api.targetSparsity(a.schedule, a.round, a.layer),
  ),
  call('scoreBlocks', { weight, grid, criterion: 'l1' }, (a) =>
    api.scoreBlocks(a.weight, a.grid, a.criterion),
  ),
  call('selectBlocks', { scores, grid, how: { sparsity: 0.5, among: mask } }, (a) =>
    api.selectBlocks(a.scores, a.grid, a.how),
  ),
  call('selectBlocks', { scores, grid, how: { dropFraction: 0.5 } }, (a) =>
    api.selectBlocks(a.scores, a.grid, a.how),
  ),
  call(
    'selectGlobally',
    { layers: [{ scores, grid }], how: { sparsity: 0.5, floor: 0.1, leastBlocks: 1 } },
    (a) => api.selectGlobally(a.layers, a.how),
  ),
  call('selectGlobally of a layer', { layer: { scores, grid, among: mask, everyRow: true } }, (a) =>
    api.selectGlobally([a.layer], { sparsity: 0.5 }),
  ),
];

/** Files are written where a path says: only one of ours may be a string. */
const WRITERS = ['Model.save', 'writeSafetensorsFile', 'prune'];

function fieldsOf(of: api.BsrFields | api.CsrFields): Record<string, unknown> {
  const { shape, crowIndices, colIndices, values } = of;
  return { shape, crowIndices, colIndices, values, ...('blockShape' in of && { blockShape: of.blockShape }) };
}

function isPlain(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}

/** `args` with each of its values, and each field of its plain objects, replaced by `junk` in turn. */
function* replaced(
  args: Record<string, unknown>,
  junk: unknown,
): Generator<{ name: string; args: Record<string, unknown> }> {
  for (const [name, value] of Object.entries(args)) {
    yield { name, args: { ...args, [name]: junk } };
    if (isPlain(value))
      for (const inner of replaced(value, junk))
        yield { name: inner.name, args: { ...args, [name]: inner.args } };
  }
}

async function errorOf(run: () => unknown): Promise<unknown> {
  try {
    await run();
  } catch (error) {
    return error;
  }
  return undefined;
}

function isSystemError(error: unknown): boolean {
  return error instanceof Error && 'syscall' in error;
}

/** Why an error is not one of ours that says which argument is wrong; undefined when it is. */
function complaint(error: unknown): string | undefined {
  if (error === undefined || isSystemError(error) || error instanceof api.BlocksparseError) return undefined;
  if (!(error instanceof TypeError || error instanceof RangeError)) return `${error}`;
  return / must be /.test(error.message) && !NAMELESS.test(error.message) ? undefined : error.message;
}

describe('wrong arguments are refused by name, or have a meaning', () => {
  it.each(CALLS)('$name', async ({ name, args, run }) => {
    const complaints: string[] = [];
    // Where two arguments disagree, either may be named.
    const names = ['this', ...[...replaced(args, undefined)].map((one) => one.name)];
    const say = (what: string, junk: unknown, error: unknown) => {
      const found = complaint(error);
      if (found !== undefined) complaints.push(`${what} = ${describeValue(junk)}: ${found}`);
    };
    if (Object.keys(args).length === 0) {
      const error = await errorOf(() => run({}));
      expect(error).toBeInstanceOf(TypeError);
      say('nothing', undefined, error);
    } else expect(complaint(await errorOf(() => run(args)))).toBeUndefined();
    for (const junk of JUNK)
      for (const wrong of replaced(args, junk)) {
        const isPath = wrong.name === 'path' || wrong.name === 'checkpoint';
        if (isPath && WRITERS.includes(name) && typeof junk === 'string') continue;
        const error = await errorOf(() => run(wrong.args));
        say(wrong.name, junk, error);
        if (error instanceof TypeError || error instanceof RangeError)
          if (!names.some((known) => error.message.includes(known)))
            complaints.push(`${wrong.name}: ${error.message}`);
      }
    expect([...new Set(complaints)]).toEqual([]);
  });
});

describe('wrong receivers are refused by name', () => {
  const classes = { BlockGrid, BlockMask, BsrLinear, BsrMatrix, CsrMatrix, Model, Network };
  const prototypes: [string, object][] = Object.entries(classes).map(([name, { prototype }]) => [
    name,
    prototype,
  ]);
  prototypes.push(['Linear', Object.getPrototypeOf(linear)]);
  it.each(prototypes)('%s', async (name, prototype) => {
    for (const [key, { get, value }] of Object.entries(Object.getOwnPropertyDescriptors(prototype))) {
      if (key === 'constructor') continue;
      for (const receiver of [undefined, null, {}, 7, 'x', Object.create(prototype), prototype]) {
        const error = await errorOf(() => Reflect.apply(get ?? value, receiver, []));
        expect(error, `${name}.${key}`).toBeInstanceOf(TypeError);
        expect((error as Error).message, `${name}.${key}`).toMatch(new RegExp(`^this must be a ${name}`));
      }
    }
  });
});
