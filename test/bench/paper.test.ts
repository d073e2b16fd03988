import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { idxOf } from '../data/idx-of.ts';

const main = fileURLToPath(new URL('../../bench/paper/main.mjs', import.meta.url));

let folder: string;
let cells: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'blocksparse-paper-'));
  cells = join(folder, 'cells');
  for (const [part, count] of [
    ['train', 200],
    ['t10k', 50],
  ] as const) {
    const labels = Uint8Array.from({ length: count }, (_, i) => i % 10);
    const pixels = Uint8Array.from({ length: count * 784 }, (_, i) =>
      // A bright band whose place is the class.
      Math.floor((i % 784) / 78) === labels[Math.floor(i / 784)] ? 255 : (i * 31) % 90,
    );
    writeFileSync(join(folder, `${part}-images-idx3-ubyte`), idxOf([count, 28, 28], pixels));
    writeFileSync(join(folder, `${part}-labels-idx1-ubyte`), idxOf([count], labels));
  }
});
afterAll(() => rmSync(folder, { recursive: true }));

function paper(...args: string[]) {
  const env = { ...process.env, BLOCKSPARSE_THREADS: '1' };
  return spawnSync(process.execPath, [main, ...args], { encoding: 'utf8', env });
}

const grid = (...args: string[]) => {
  const size = ['--dense-epochs', '2', '--epochs', '1', '--validation', '40', '--seeds', '1'];
  const folders = ['--cells', cells, '--work', join(folder, 'work'), '--data', `toy=${folder}`];
  return paper(...size, ...folders, ...args);
};

describe('the runner of the paper', () => {
  it('runs each cell once, keeps it as JSON, and goes on where it was', () => {
    const first = grid('--only', 'paper-16x16');
    expect(first.stderr).toBe('');
    expect(first.stdout).toMatch(/1 cells, 0 finished before, 1 to run/);
    expect(first.stdout).toMatch(/1\/1 toy-paper-16x16-s1: dense .* left/);
    const file = join(cells, 'toy-paper-16x16-s1.json');
    const cell = JSON.parse(readFileSync(file, 'utf8'));
    expect(cell).toMatchObject({ method: 'paper', block: '16x16', seed: 1, budget: { epochs: 1 } });
    expect(cell.rounds).toHaveLength(16);
    expect(cell.rounds[10].density).toBeLessThan(0.12);
    expect(cell.rounds[0].bytes.dense).toBe(266_200 * 4);

    const before = statSync(file).mtimeMs;
    expect(grid('--only', 'paper-16x16').stdout).toMatch(/1 cells, 1 finished before, 0 to run/);
    expect(statSync(file).mtimeMs).toBe(before);
    const other = grid('--only', 'paper-16x16', '--epochs', '2');
    expect(other.status).toBe(2);
    expect(other.stderr).toMatch(/was run with/);
  });

  it.each([
    'random',
    'dense',
    'one-shot',
    'cubic',
    'fisher-global',
    'mean-abs-cubic',
    'fisher-global-cubic',
    'regrow',
  ])('knows %s', (method) => {
    const { stdout, stderr } = grid('--only', `toy-${method}-4x4`);
    expect(stderr).toBe('');
    expect(stdout).toMatch(/1 cells, 0 finished before, 1 to run/);
    const { rounds } = JSON.parse(readFileSync(join(cells, `toy-${method}-4x4-s1.json`), 'utf8'));
    const record = rounds.find(({ stage }: { stage: number }) => stage === 10);
    if (method === 'dense') expect(record.density).toBe(1);
    else expect(Math.abs(record.density - 0.0867)).toBeLessThan(0.005);
  });

  it('shards are the whole grid, without overlap', () => {
    const list = (...args: string[]) =>
      grid('--list', ...args)
        .stdout.split('\n')
        .filter((line) => line.startsWith('toy-') && !line.includes(' '));
    const whole = list();
    expect(whole.length).toBeGreaterThan(20);
    expect([...list('--shard', '1/2'), ...list('--shard', '2/2')].sort()).toEqual(whole.sort());
  });

  it('measures speed without cells, and says what the cache experiment lacks', () => {
    const out = join(folder, 'report');
    const { stdout, stderr } = paper('speed', '--only', '16x16', '--samples', '1', '--out', out);
    expect(stderr).toBe('');
    expect(stdout).toMatch(/15 records: /);
    const { date, environment, records } = JSON.parse(readFileSync(join(out, 'speed.json'), 'utf8'));
    expect(date).toMatch(/^\d{4}-\d\d-\d\d$/);
    expect(environment.cpu).toEqual(expect.any(String));
    for (const { dense, csr, bsr } of records) expect(Math.min(dense, csr, bsr)).toBeGreaterThan(0);

    const env = { ...process.env, PATH: folder };
    const cache = spawnSync(process.execPath, [main, 'cache', '--out', out], { encoding: 'utf8', env });
    expect(cache.status).toBe(0);
    expect(cache.stdout).toBe('cache: skipped, since valgrind is not installed\n');
  });

  it('reports from the cells alone', () => {
    const out = join(folder, 'report');
    writeFileSync(join(out, 'findings.md'), 'Written by hand.\n');
    const records = [1, 32, 256].flatMap((m) => [
      { stage: null, block: null, format: 'dense', m, references: 1000, d1Misses: 200, llMisses: 9 },
      ...[10, 15].flatMap((stage) =>
        ['csr', 'bsr'].map((format) => ({
          stage,
          block: '16x16',
          format,
          m,
          references: 500,
          d1Misses: 50,
          llMisses: 0,
        })),
      ),
    ]);
    const caches = { D1: '32768,8,64', LL: '524288,8,64' };
    const cache = { date: '2026-01-01', valgrind: 'valgrind-3', isa: 'avx2', caches, records };
    writeFileSync(join(out, 'cache.json'), JSON.stringify(cache));
    const { stdout, stderr } = paper('report', '--cells', cells, '--out', out);
    expect(stderr).toBe('');
    expect(stdout).toMatch(/cells: /);
    const text = readFileSync(join(out, 'RESULTS.md'), 'utf8');
    expect(text).toContain('Written by hand.');
    expect(text).toContain('| BSR 16x16 | 500 | 90.00 % | 50 | 4.0x |');
    expect(text).not.toMatch(/NaN|undefined/);
    for (const [, picture] of text.matchAll(/\]\((plots\/[^)]+)\)/g))
      expect(readFileSync(join(out, picture), 'utf8')).toMatch(/^<svg/);
    expect(readdirSync(join(out, 'plots')).length).toBeGreaterThanOrEqual(4);
  });

  it('sets its means beside the reference, with and without runs that collapsed', () => {
    const [compared, out] = ['compared', 'comparison'].map((name) => join(folder, name));
    mkdirSync(compared);
    const cell = JSON.parse(readFileSync(join(cells, 'toy-paper-16x16-s1.json'), 'utf8'));
    [0.837, 0.29].forEach((testAccuracy, seed) => {
      const rounds = cell.rounds.map((record: object) => ({ ...record, testAccuracy }));
      const content = { ...cell, dataSet: 'fashion', seed, rounds };
      writeFileSync(join(compared, `${seed}.json`), JSON.stringify(content));
    });
    expect(paper('report', '--cells', compared, '--out', out).stderr).toBe('');
    const text = readFileSync(join(out, 'RESULTS.md'), 'utf8');
    expect(text).toContain('| density | 16x16 | mean over blocks | without collapsed runs | at most below |');
    expect(text).toContain('| 2.87 % | −27.35 ± 27.35 | −27.35, **not held** | +0.00, held | 0.8 |');
    expect(text).toContain('Runs that collapsed, with their first accuracy under 70 %: 16x16 seed 1,');
  });

  it('says what is wrong with its flags, its data and its cells', () => {
    const small = ['--cells', join(folder, 'unused'), '--work', join(folder, 'unused')];
    const damaged = join(folder, 'damaged');
    mkdirSync(damaged);
    writeFileSync(join(damaged, 'toy-dense-4x4-s1.json'), '{"rounds": [');
    const [partial, mixed] = ['partial', 'mixed'].map((name) => join(folder, name));
    mkdirSync(partial);
    writeFileSync(join(partial, 'other.json'), '{"rounds": [], "budget": {}}');
    mkdirSync(mixed);
    const cell = JSON.parse(readFileSync(join(cells, 'toy-paper-16x16-s1.json'), 'utf8'));
    writeFileSync(join(mixed, 'a.json'), JSON.stringify(cell));
    const budget = { ...cell.budget, epochs: 9 };
    writeFileSync(join(mixed, 'b.json'), JSON.stringify({ ...cell, budget }));
    for (const [args, message] of [
      [['--shard', '3/2'], /--shard must be i\/n/],
      [['--seeds', '0'], /--seeds must be a whole number/],
      [['--nonsense'], /nonsense/],
      [['bake'], /unknown command bake/],
      [['speed', '--only', '7x7'], /--only must be one of 1x1, .* but is 7x7/],
      [['speed', '--only', '16x16'], /--only needs --out/],
      [['report', '--cells', join(folder, 'none')], /no cells in/],
      [['--cells', main], /--cells must be a folder, but .*main.mjs is a file/],
      [['--data', `toy=${folder}`], /--data names a data set twice: toy, toy/],
      [[...small, '--validation', '200'], /--validation must be less than the 200 images of toy, but is 200/],
      [
        [...small, '--only', 'none-dense', '--data', `none=${join(folder, 'none')}`],
        /no data set: .*none has no train-images/,
      ],
      [['report', '--cells', damaged], /toy-dense-4x4-s1.json: .*JSON/],
      [['--cells', damaged], /toy-dense-4x4-s1.json: .*JSON/],
      [['report', '--cells', partial], /other.json: is no cell: it has no dataSet/],
      [['report', '--cells', mixed], /b.json was run with .*"epochs":9.* but a.json with .*"epochs":1/],
      [[...small, '--work', join(main, 'below'), '--only', 'dense'], /ENOTDIR/],
    ] as const) {
      const { status, stderr } = paper('--data', `toy=${folder}`, ...args);
      expect(status).toBe(2);
      expect(stderr).toMatch(message);
    }
  });
});
