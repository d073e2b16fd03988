import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Model } from '../../lib/format/model.ts';
import { float32Tensor, writeSafetensorsFile } from '../../lib/format/safetensors.ts';
import { Network } from '../../lib/nn/network.ts';
import { CLASSES, cli, SIDE, writeImages } from './run.ts';

const folder = mkdtempSync(join(tmpdir(), 'blocksparse-cli-'));
const data = join(folder, 'images');
const dense = join(folder, 'dense.safetensors');
const LAYERS = `${SIDE * SIDE},24,16,${CLASSES}`;
const TRAIN = ['train', '--output', join(folder, 'x'), '--data', data];
const COMMANDS = ['train', 'prune', 'evaluate', 'inspect', 'bench', 'demo'];

beforeAll(async () => {
  writeImages(data);
  const args = ['train', '--layers', LAYERS, '--data', data, '--output', dense];
  const result = await cli([...args, '--epochs', '8', '--lr', '0.01', '--batch', '32']);
  expect(result.stderr).toContain('epoch 8/8');
  expect(result.code).toBe(0);
});
afterAll(() => rmSync(folder, { recursive: true }));

const pruneArgs = (output: string, ...more: string[]): string[] => [
  'prune',
  dense,
  '--data',
  data,
  '--batch',
  '32',
  '--output',
  output,
  ...more,
];

describe('help and usage', () => {
  it('lists the commands, each with an example of its own', async () => {
    const { code, stdout } = await cli(['--help']);
    expect(code).toBe(0);
    for (const command of COMMANDS) {
      expect(stdout).toContain(command);
      const help = await cli([command, '--help']);
      expect(help.code).toBe(0);
      expect(help.stdout).toMatch(new RegExp(`Example:\\n +\\$ blocksparse ${command}`));
      expect(help.stdout).toContain('--json');
    }
  });

  it('knows its version', async () => {
    const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
    expect(await cli(['--version'])).toMatchObject({ code: 0, stdout: `${version}\n` });
  });

  for (const args of [
    [],
    ['nonsense'],
    ['train'],
    ['train', '--output', 'x', '--epochs', '0'],
    ['train', '--output', 'x', '--epochs', '1.5'],
    ['train', '--output', 'x', '--layers', '784'],
    ['train', '--output', 'x', '--layers', '784,x'],
    ['train', '--output', 'x', '--layers', '784,99999999,10'],
    ['train', '--output', 'x', '--lr', 'NaN'],
    ['train', '--output', 'x', '--activation', 'step'],
    ['prune', '--output', 'x'],
    ['prune', 'm', '--output', './m'],
    ['prune', 'm', '--output', 'x', '--block', '0x4'],
    ['prune', 'm', '--output', 'x', '--block', '4x4x4'],
    ['prune', 'm', '--output', 'x', '--recipe', 'paper', '--sparsity', '0.5'],
    ['prune', 'm', '--output', 'x', '--schedule', 'paper', '--sparsity', '0.5'],
    ['prune', 'm', '--output', 'x', '--recipe', 'worst'],
    ['prune', 'm', '--output', 'x', '--block', '5000x4'],
    ['prune', 'm', '--output', 'x', '--schedule', 'exponential', '--sparsity', '1'],
    ['prune', 'm', '--output', 'x', '--recipe', 'paper', '--floor', 'auto'],
    ['prune', 'm', '--output', 'x', '--schedule', 'cubic', '--sparsity', '1.5'],
    ['prune', 'm', '--output', 'x', '--recipe', 'paper', '--scope', 'global'],
    ['evaluate', 'm', 'n'],
    ['bench', 'm', '--batches', '0'],
    ['bench', 'm', '--batch-hint', '0'],
    ['bench', 'm', '--batches', '16777216'],
    ['inspect', 'm', '--unknown'],
  ])
    it.concurrent(`exits with 2 for wrong usage: ${args.join(' ')}`, async () => {
      const { code, stdout, stderr } = await cli(args);
      expect(code).toBe(2);
      expect(stdout).toBe('');
      expect(stderr).not.toBe('');
    });
});

describe('failures', () => {
  for (const [what, args, message] of [
    ['no such model', ['inspect', 'no-such-file'], /ENOENT.*no-such-file/],
    ['no data', ['train', '--output', 'x', '--data', folder], /no data set.*fashion-mnist/],
    ['a file that is no model', ['inspect', join(data, 't10k-labels-idx1-ubyte')], /t10k-labels/],
    ['layers that do not fit', [...TRAIN, '--layers', '5,4'], /--layers must be .* begins with 64/],
    ['too few outputs', [...TRAIN, '--layers', '64,3'], /--layers must be .* ends with at least 4/],
    ['too many weights', [...TRAIN, '--layers', '64,16777216,16777216,4'], /--layers must be .* weights/],
    [
      'too many for validation',
      [...TRAIN, '--layers', LAYERS, '--validation', '300'],
      /--validation must be .* from 0 to 299/,
    ],
    [
      'nothing to train on',
      ['demo', '--data', data, '--output', folder, '--validation', '300'],
      /--validation/,
    ],
    [
      'an unwritable place',
      ['train', '--output', join(folder, 'no/such/x'), '--data', data, '--layers', LAYERS, '--epochs', '1'],
      /no\/such/,
    ],
    ['no place for the rounds', pruneArgs(join(folder, 'no/such/x')), /cannot write .*no\/such/],
  ] as const)
    it.concurrent(`exits with 1 and one line: ${what}`, async () => {
      const { code, stdout, stderr } = await cli(args);
      expect(code).toBe(1);
      expect(stdout).toBe('');
      const lines = stderr
        .trimEnd()
        .split('\n')
        .filter((line) => line.startsWith('blocksparse: '));
      expect(lines).toHaveLength(1);
      expect(lines[0]).toMatch(message);
      expect(stderr, 'no work was lost').not.toMatch(/epoch \d|round \d/);
      expect(stderr).not.toMatch(/\n {4}at /);
    });
});

describe('train and evaluate', () => {
  it('names --data when its images do not fit the model', async () => {
    const other = join(folder, 'other.safetensors');
    await Model.fromNetwork(Network.create([{ type: 'linear', inFeatures: 5, outFeatures: 4 }], 0)).save(
      other,
    );
    const args = [other, '--data', data];
    for (const command of [['evaluate'], ['prune', '--output', join(folder, 'x')]]) {
      const { code, stderr } = await cli([...command, ...args]);
      expect(code).toBe(1);
      expect(stderr).toMatch(/--data must be images of 5 features, which the model takes, but is 64/);
    }
  });

  it('learns, and says so in words and in JSON', async () => {
    const words = await cli(['evaluate', dense, '--data', data]);
    expect(words.stdout).toMatch(/accuracy \d+\.\d\d %, loss .* on 60 test images/);
    const json = await cli(['evaluate', dense, '--data', data, '--json']);
    expect(json.stderr).toBe('');
    const value = JSON.parse(json.stdout);
    expect(value.accuracy).toBeGreaterThan(0.9);
    expect(value).toMatchObject({ count: 60, density: 1, data: 'images' });
  });

  it('gives the same file for the same seed, another for another', async () => {
    const train = async (seed: string) => {
      const output = join(folder, `seed.safetensors`);
      await cli([
        'train',
        '--layers',
        LAYERS,
        '--data',
        data,
        '--epochs',
        '1',
        '--seed',
        seed,
        '--output',
        output,
      ]);
      return readFileSync(output);
    };
    const first = await train('1');
    expect(first.equals(await train('1'))).toBe(true);
    expect(first.equals(await train('2'))).toBe(false);
  });

  it('takes BLOCKSPARSE_DATA', async () => {
    const { code } = await cli(['evaluate', dense], { env: { BLOCKSPARSE_DATA: data } });
    expect(code).toBe(0);
  });

  it('reports every epoch in JSON', async () => {
    const args = [
      'train',
      '--layers',
      LAYERS,
      '--data',
      data,
      '--epochs',
      '2',
      '--output',
      join(folder, 'j'),
      '--json',
    ];
    for (const optimizer of ['sgd', 'adamw']) {
      const { stdout, stderr } = await cli([...args, '--optimizer', optimizer, '--validation', '0']);
      expect(stderr).toBe('');
      expect(JSON.parse(stdout).epochs).toHaveLength(2);
    }
  });
});

describe('prune', () => {
  it('does not write over the model it reads by another of its names', async () => {
    const link = join(folder, 'link.safetensors');
    symlinkSync(dense, link);
    const before = readFileSync(dense);
    const result = await cli(pruneArgs(link, '--rounds', '1'));
    expect(result).toMatchObject({ code: 2 });
    expect(result.stderr).toContain('--output must be another file');
    expect(readFileSync(dense).equals(before)).toBe(true);
  });

  it('reaches a target sparsity, tells each round, and leaves a model', async () => {
    const output = join(folder, 'cubic.safetensors');
    const how = [
      '--schedule',
      'cubic',
      '--sparsity',
      '0.75',
      '--rounds',
      '3',
      '--block',
      '4',
      '--epochs',
      '1',
    ];
    const { code, stdout, stderr } = await cli(
      pruneArgs(output, ...how, '--scope', 'global', '--floor', '0.1'),
    );
    expect(code).toBe(0);
    expect(stdout).toMatch(/saved .*cubic.safetensors, density 2\d\.\d\d %/);
    expect(stderr.match(/^round \d\/3: density/gm)).toHaveLength(3);
    expect((await Model.load(output)).density).toBeCloseTo(0.25, 1);
  });

  it('follows the better recipe, to the density of the paper, which is one option away', async () => {
    const how = ['--rounds', '3', '--epochs', '1'];
    const densities = async (...recipe: string[]) => {
      const output = join(folder, `recipe-${recipe.length}.safetensors`);
      expect((await cli(pruneArgs(output, ...how, ...recipe))).code).toBe(0);
      const { density, matrices, info } = await Model.load(output);
      return { density, layers: matrices.map(({ matrix }) => matrix.density), options: info.options };
    };
    const best = await densities();
    const paper = await densities('--recipe', 'paper');
    expect(best.options).toMatchObject({ criterion: 'fisher', scope: 'global', floor: 'auto' });
    expect(paper.options).toMatchObject({
      criterion: 'mean-abs',
      scope: 'layer',
      schedule: { type: 'rounds' },
    });
    expect(best.density).toBeCloseTo(paper.density, 1);
    expect(best.layers).not.toEqual(paper.layers);
  });

  it('takes a plain state_dict with --layers', async () => {
    const file = join(folder, 'state.safetensors');
    const tensor = (...shape: number[]) =>
      float32Tensor(
        shape,
        Float32Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => Math.sin(i)),
      );
    const tensors = new Map([
      ['fc1.weight', tensor(8, SIDE * SIDE)],
      ['fc1.bias', tensor(8)],
      ['fc2.weight', tensor(CLASSES, 8)],
      ['fc2.bias', tensor(CLASSES)],
    ]);
    await writeSafetensorsFile(file, tensors);
    const layers = ['--layers', `${SIDE * SIDE},8,${CLASSES}`];
    expect((await cli(['inspect', file])).code).toBe(1);
    expect((await cli(['inspect', file, ...layers])).stdout).toContain('fc1');
    const output = join(folder, 'from-state.safetensors');
    const args = [
      'prune',
      file,
      ...layers,
      '--rounds',
      '1',
      '--epochs',
      '1',
      '--data',
      data,
      '--output',
      output,
    ];
    expect((await cli(args)).code).toBe(0);
    expect((await Model.load(output)).matrices.map(({ name }) => name)).toEqual(['fc1', 'fc2']);
  });

  it('stops at Ctrl-C with the last finished round on disk, and resumes to the same bits', async () => {
    const how = ['--rounds', '4', '--epochs', '30'];
    const whole = join(folder, 'whole.safetensors');
    expect((await cli(pruneArgs(whole, ...how))).code).toBe(0);

    const output = join(folder, 'stopped.safetensors');
    let sent = false;
    const stopped = await cli(pruneArgs(output, ...how), {
      watch(stderr, child) {
        if (sent || !stderr.includes('round 1/4')) return;
        sent = true;
        child.kill('SIGINT');
      },
    });
    expect(stopped.code).toBe(130);
    expect(stopped.stdout).toBe('');
    const left = await Model.load(output);
    const { round } = left.info as { round: number };
    expect(round).toBeLessThan(3);

    const resumed = await cli(pruneArgs(output, ...how, '--resume'));
    expect(resumed.code).toBe(0);
    expect(resumed.stderr).not.toContain('round 1/4');
    const [a, b] = await Promise.all([Model.load(whole), Model.load(output)]);
    for (const [i, { matrix, bias }] of a.matrices.entries()) {
      expect(b.matrices[i].matrix.colIndices).toEqual(matrix.colIndices);
      expect(b.matrices[i].matrix.values).toEqual(matrix.values);
      expect(b.matrices[i].bias).toEqual(bias);
    }
  });

  it('refuses to resume the pruning of another model', async () => {
    const other = join(folder, 'other.safetensors');
    const trained = await cli([
      'train',
      '--layers',
      LAYERS,
      '--data',
      data,
      '--output',
      other,
      '--epochs',
      '1',
    ]);
    expect(trained.code).toBe(0);
    const output = join(folder, 'pruned-other.safetensors');
    const how = ['--recipe', 'paper', '--rounds', '1', '--epochs', '1'];
    expect((await cli(pruneArgs(output, ...how))).code).toBe(0);
    const args = pruneArgs(output, ...how, '--resume').map((arg) => (arg === dense ? other : arg));
    const { code, stderr } = await cli(args);
    expect(code).toBe(1);
    expect(stderr).toContain(`does not hold a round of pruning ${other}`);
  });

  it('refuses to resume another run', async () => {
    const output = join(folder, 'whole.safetensors');
    const { code, stderr } = await cli(pruneArgs(output, '--rounds', '5', '--epochs', '30', '--resume'));
    expect(code).toBe(1);
    expect(stderr).toMatch(/blocksparse: .*schedule/);
  });
});

describe('inspect and bench', () => {
  const pruned = join(folder, 'pruned.safetensors');
  beforeAll(async () => {
    expect((await cli(pruneArgs(pruned, '--rounds', '4', '--epochs', '1'))).code).toBe(0);
  });

  it('shows layers and masks', async () => {
    const { stdout } = await cli(['inspect', pruned]);
    expect(stdout).toMatch(/24 x 64 +4x4 +\d+ of 96 +\d+\.\d\d %/);
    expect(stdout).toMatch(/[⠁-⣿]/);
    expect(stdout).toContain('a dot is a kept block');
    expect((await cli(['inspect', pruned, '--no-mask'])).stdout).not.toContain('a dot is');
    const narrow = (await cli(['inspect', pruned, '--width', '4'])).stdout;
    expect(narrow).toContain('a character covers');
  });

  it('tells the same in JSON', async () => {
    const value = JSON.parse((await cli(['inspect', pruned, '--json'])).stdout);
    expect(value.layers).toHaveLength(3);
    expect(value.layers[0]).toMatchObject({ shape: [24, 64], blockShape: [4, 4], blocks: 96, grid: [6, 16] });
    expect(value.layers[0].density).toBeCloseTo(value.layers[0].nnzb / 96);
    expect(value.fileBytes).toBe(readFileSync(pruned).length);
  });

  it('times layers and whole at each batch size', async () => {
    const args = ['bench', pruned, '--batches', '1,8', '--samples', '3'];
    const words = await cli(args);
    expect(words.code).toBe(0);
    expect(words.stdout.match(/whole model/g)).toHaveLength(2);
    const value = JSON.parse((await cli([...args, '--json'])).stdout);
    expect(value.layers).toHaveLength(3);
    for (const { batch, dense: slow, pruned: fast, speedup } of value.whole) {
      expect([1, 8]).toContain(batch);
      expect(speedup).toBeCloseTo(slow / fast);
    }
  });

  it('says which layers run as dense, and packs for a batch where one is hinted', async () => {
    const half = join(folder, 'half.safetensors');
    const how = ['--schedule', 'one-shot', '--scope', 'layer', '--sparsity', '0.3', '--epochs', '1'];
    expect((await cli(pruneArgs(half, ...how))).code).toBe(0);
    const args = ['bench', half, '--batches', '8', '--samples', '1'];
    const words = (await cli(args)).stdout;
    const value = JSON.parse((await cli([...args, '--json'])).stdout);
    const native = value.runtime.backend === 'native';
    expect(value.batchHint).toBeNull();
    expect(value.layers.map(({ regrouped }: { regrouped: boolean }) => regrouped)).toContain(native);
    if (native) {
      expect(words).toMatch(/4x4, as dense/);
      expect(words).toMatch(/^run as dense, .* at some batch \(--batch-hint: which one counts\): 0/m);
    } else expect(words).not.toMatch(/as dense/);
    const few = (await cli([...args, '--batch-hint', '8'])).stdout;
    if (native) expect(few).toMatch(/^run as dense, .* at about the hinted batch: 0/m);
    const many = await cli([...args, '--batch-hint', '256', '--json']);
    expect(JSON.parse(many.stdout)).toMatchObject({ batchHint: 256, layers: [{ regrouped: false }, {}, {}] });
  });
});

describe('demo', () => {
  const output = join(folder, 'demo');

  it('goes the whole way and writes models, results and one page', async () => {
    const args = ['demo', '--data', data, '--output', output, '--epochs', '3', '--retrain-epochs', '1'];
    const { code, stdout, stderr } = await cli(args);
    expect(stderr).not.toContain('blocksparse:');
    expect(code).toBe(0);
    for (const name of ['dense', 'dense-control', 'round-10', 'round-15']) {
      expect(stdout).toMatch(new RegExp(`${name} .*%`));
      expect((await Model.load(join(output, `${name}.safetensors`))).inFeatures).toBe(SIDE * SIDE);
    }
    expect(existsSync(join(output, 'last-round.safetensors'))).toBe(false);
    const results = JSON.parse(readFileSync(join(output, 'results.json'), 'utf8'));
    expect(results.rounds).toHaveLength(16);
    expect(results.models).toHaveLength(4);
    expect(results.models[1].density).toBe(1);
    for (const model of results.models) {
      expect(model.microseconds).toHaveLength(3);
      expect(model.fileBytes).toBe(readFileSync(model.file).length);
    }
    const page = readFileSync(join(output, 'report.html'), 'utf8');
    expect(page.match(/<svg/g)).toHaveLength(2 + 2 * 3);
    expect(page.replaceAll('http://www.w3.org/2000/svg', '')).not.toMatch(/https?:|<script|<link|<img/);
    expect(page).not.toMatch(/NaN|undefined/);
    expect(stderr).toMatch(/ 11\/16 rounds; after round 10 \(the first is 0\): density/);
  });

  it('says where to get data when there is none', async () => {
    const { code, stderr } = await cli(['demo', '--data', join(folder, 'empty'), '--output', output]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/apt install dataset-fashion-mnist/);
  });
});
