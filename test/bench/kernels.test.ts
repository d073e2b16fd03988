import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { GOALS, goalGroups, goalsOf, judge } from '../../bench/kernels/goals.mjs';
import {
  BATCHES,
  BLOCKS,
  checkSizes,
  groups,
  SHAPES,
  SPARSITIES,
  select,
  THREADS,
} from '../../bench/kernels/grid.mjs';
import { Cores, interleave } from '../../bench/kernels/measure.mjs';
import { cleanEnvironment, traps } from '../../bench/kernels/peers.mjs';
import { shareChart, speedUpChart } from '../../bench/kernels/plots.mjs';
import {
  breakEven,
  breakEvenMarkdown,
  breakEvens,
  breakEvenText,
  derive,
  fastestDense,
  goalTable,
  groupTable,
  groupTitle,
  markdown,
  slowerThanDense,
} from '../../bench/kernels/summary.mjs';
import { tileOf } from '../../bench/kernels/tiles.mjs';

interface Group {
  shape: string;
  block: string;
  threads: number;
  batches: number[];
  sparsities: number[];
}

describe('the grid', () => {
  it('all is every cell once, and a filter replaces one list', () => {
    const cells = (groups(select({}, true)) as Group[]).flatMap(({ shape, block, threads, ...lists }) =>
      lists.batches.flatMap((m) => lists.sparsities.map((s) => [shape, block, threads, m, s].join(' '))),
    );
    const count = SHAPES.length * BLOCKS.length * THREADS.length * BATCHES.length * SPARSITIES.length;
    expect(new Set(cells).size).toBe(count);
    expect(cells).toHaveLength(count);

    const filters = { block: '16x16', batch: '128', sparsity: '90', shape: '768x768', threads: '1' };
    expect(groups(select(filters, true))).toEqual([
      { shape: '768x768', block: '16x16', threads: 1, batches: [128], sparsities: [90] },
    ]);
  });

  it.each([
    [{ block: '16' }, /--block takes sizes like/],
    [{ shape: '0x768' }, /--shape takes sizes like/],
    [{ sparsity: '100' }, /--sparsity takes numbers from 0 to 99.99/],
    [{ batch: '1,,8' }, /--batch takes whole numbers from 1/],
    [{ threads: '1.5' }, /--threads takes whole numbers/],
    [{ threads: '1025' }, /--threads takes whole numbers from 1 to 1024/],
  ])('refuses %j', (filters, message) => {
    expect(() => select(filters)).toThrow(message);
  });

  it('every cell of the grid and of the goals has a size that can be made, and others are refused', () => {
    checkSizes([...groups(select({}, true)), ...goalGroups()]);
    const refused = (filters: Record<string, string>) => () => checkSizes(groups(select(filters)));
    expect(refused({ shape: '99999999x5' })).toThrow(/--shape .* not 99999999x5/);
    expect(refused({ shape: '60000x60000' })).toThrow(/--shape .* 268435456 weights, but not 60000x60000/);
    expect(refused({ shape: '8192x64', batch: '65536' })).toThrow(/--shape takes at most 4096 rows/);
    expect(refused({ shape: '8192x8192', block: '5000x8' })).toThrow(/--block of at most 4096x4096/);
    expect(refused({ shape: '10x784', block: '16x16' })).toThrow(/--shape 10x784 .* 10x784, but not 16x16/);
  });
});

describe('the command', () => {
  const kernels = fileURLToPath(new URL('../../bench/kernels/', import.meta.url));
  const command = (...args: string[]) =>
    spawnSync(process.execPath, [`${kernels}main.mjs`, ...args], { encoding: 'utf8' });

  it.each([
    [['--block', 'big'], /--block takes sizes/],
    [['--block', '5000x5000'], /--block of at most 768x768, but not 5000x5000/],
    [['--goals', '--block', '16x16'], /--goals .* no --block/],
    [['--goals', '--all'], /--goals .* no --all/],
    [['--goals', '--shape', '8x8'], /--goals takes a --shape of 64x64 or more.* not 8x8/],
    [['--serving', '--goals'], /--serving .* no --goals/],
    [['--serving', '--out', 'folder'], /--serving .* no --out/],
    [['--out', fileURLToPath(import.meta.url)], /--out takes a folder .*kernels.test.ts": EEXIST/],
  ])('%j says what is wrong and measures nothing', (args, message) => {
    const { status, stderr, stdout } = command(...args);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toMatch(message);
  });

  it.each(['--help', '-h'])('%s says what there is', (flag) => {
    const { status, stderr, stdout } = command(flag);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    for (const text of ['--goals', '--serving', '--out', 'npm run bench:peers'])
      expect(stdout).toContain(text);
  });

  const noPython = spawnSync('python3', ['--version']).status !== 0;
  it.skipIf(noPython)("PyTorch's says so without torch, too", () => {
    // -I -S: without what is installed.
    const python = (...args: string[]) =>
      spawnSync('python3', ['-I', '-S', `${kernels}pytorch.py`, ...args], { encoding: 'utf8' });
    expect(python('--help')).toMatchObject({ status: 0, stdout: expect.stringContaining('--sparsity') });
    expect(python()).toMatchObject({
      status: 1,
      stdout: '',
      stderr: expect.stringMatching(/^pytorch.py needs torch/),
    });
  });
});

it('the environment loses what would change a library, and nothing else', () => {
  const environment = {
    OPENBLAS_CORETYPE: 'Haswell',
    OMP_NUM_THREADS: '1',
    BLOCKSPARSE_ISA: 'avx2',
    PATH: '/',
  };
  expect(traps(environment)).toEqual(['OPENBLAS_CORETYPE', 'OMP_NUM_THREADS']);
  expect(cleanEnvironment(environment, false)).toEqual({ BLOCKSPARSE_ISA: 'avx2', PATH: '/' });
  expect(cleanEnvironment(environment, true)).toMatchObject({ BLIS_ARCH_TYPE: '0' });
});

/** A layer of one megaflop when whole, whose dense products take 100 and 80 µs. */
const row = (sparsity: number, ours: number, network = ours) => ({
  ...{ shape: '768x768', block: '4x4', threads: 1, batch: 8, sparsity, density: 1 - sparsity / 100 },
  ...{ work: 1e6 * (1 - sparsity / 100), denseWork: 1e6, peak: 200, ours, network },
  ...{ dense: { 'our dense': 100, onednn: 80 }, sparse: { csr: 400 } },
});

describe('what the rows say', () => {
  it('speed-ups are over the fastest dense and over each peer, shares are of the peak', () => {
    expect(fastestDense(row(0, 1))).toEqual(['onednn', 80]);
    const { derived, denseGflops, fastestDense: name } = derive(row(90, 10, 5));
    expect(name).toBe('onednn');
    expect(denseGflops.onednn).toBeCloseTo(12.5);
    expect(derived.ours.overFastestDense).toBe(8);
    expect(derived.network.over).toEqual({ 'our dense': 20, onednn: 16, csr: 80 });
    expect(derived.ours.gflops).toBeCloseTo(10);
    expect(derived.network.share).toBeCloseTo(0.1);
    expect(derive({ ...row(90, 10), peak: null }).derived.ours.share).toBeNull();
  });

  it('break-even lies between the last slower and the next faster sparsity', () => {
    // 160 µs at 0 %, 40 at 50 %: 80 lies two thirds of the way.
    expect(breakEven([row(50, 40), row(0, 160)])).toBeCloseTo(100 / 3);
    expect(breakEven([row(0, 70), row(50, 40)])).toBe(0);
    expect(breakEven([row(0, 160), row(50, 90)])).toBeNull();
    // Faster, slower, faster: only the last change counts.
    expect(breakEven([row(0, 70), row(50, 100), row(100, 60)])).toBeCloseTo(75);
    expect(breakEven([row(0, 160, 70), row(50, 90, 40)], 'network')).toBe(0);
    // The least that was measured, and no win of a layer that is stored dense.
    expect(breakEven([row(95, 40), row(98, 30)])).toBeCloseTo(95);
    expect(breakEven([{ ...row(70, 70), storedDense: true }, row(90, 40)])).toBeCloseTo(90);
  });

  it('break-even has a cell for each layout, in text and in Markdown', () => {
    const found = breakEvens([row(0, 160, 70), row(50, 40), { ...row(0, 90), batch: 32 }]);
    const place = { shape: '768x768', threads: 1, block: '4x4' };
    expect(found).toEqual([
      { ...place, batch: 8, layout: 'ours', sparsity: expect.closeTo(100 / 3) },
      { ...place, batch: 8, layout: 'network', sparsity: 0 },
      { ...place, batch: 32, layout: 'ours', sparsity: null },
      { ...place, batch: 32, layout: 'network', sparsity: null },
    ]);
    expect(breakEvenMarkdown(found).split('\n')).toEqual([
      '| 768x768, 1 thread, ours: faster than the fastest dense from | M = 8 | M = 32 |',
      '| --- | --- | --- |',
      '| 4x4 | 33 % | none |',
      '',
      '| 768x768, 1 thread, network: faster than the fastest dense from | M = 8 | M = 32 |',
      '| --- | --- | --- |',
      '| 4x4 | 0 % | none |',
      '',
    ]);
    expect(breakEvenText(found)).toMatch(/, ours: .*\n.*\n.*\n4x4 +33 % +none\n\n.*, network: /);
  });

  it('a table says which layers are stored dense', () => {
    const rows = [
      { ...row(50, 40), packedBytes: 975e3, kernel: 'rows', storedDense: true },
      { ...row(90, 10), packedBytes: 1e5, kernel: 'panels', storedDense: false },
    ].map(derive);
    const [head, , dense, sparse] = groupTable(rows).split('\n');
    expect(head).toMatch(/ packed kB +kernel$/);
    expect(dense).toMatch(/ 975 +rows, dense$/);
    expect(sparse).toMatch(/ 100 +panels$/);
  });

  it('its title says the lowest core of all rows, and nothing of a machine that was not measured', () => {
    const machine = { l2: 100, spread: 0, runs: 5 };
    const rows = [
      { ...row(80, 20), ...machine, core: { ours: 0.98, network: 0.97 } },
      { ...row(90, 10), ...machine, core: { ours: 0.99, network: 0.72 } },
    ].map(derive);
    expect(groupTitle(rows)).toMatch(
      /^768x768 in 4x4, M = 8, 1 thread; peak 200 GFLOP\/s, core 72 %, L2 read at 100 GB\/s, the quietest samples of 5 runs\n/,
    );
    const bare = { ...row(80, 20), peak: null, l2: null, core: null, spread: null };
    expect(groupTitle([derive(bare)])).toMatch(/^768x768 in 4x4, M = 8, 1 thread\ndense: /);
  });

  it('pictures have numbers at the measured sparsities, and 1 / density as a dashed curve', () => {
    const rows = [row(0, 90), row(90, 10), row(95, 6)].map(derive);
    const numbers = (svg: string) => [...svg.matchAll(/>([\d.]+)<\/text>/g)].map((match) => Number(match[1]));
    const svg = speedUpChart(rows, 'ours');
    // 0.89 is the least speed-up: the axis goes on to 0.5.
    expect(numbers(svg)).toEqual([0.5, 1, 2, 5, 10, 20, 0, 90, 95]);
    expect(svg).toContain('768x768 in 4x4, 1 thread, ours: speed-up');
    expect(shareChart(rows, 'network')).toContain('1 thread, network: share');
    expect(svg.match(/<circle/g)).toHaveLength(rows.length);
    expect(/d="([^"]*)"[^>]*stroke-dasharray/.exec(svg)?.[1].split('L')).toHaveLength(101);
    expect(numbers(shareChart(rows, 'ours'))).toEqual([0, 90, 95]);
    expect(speedUpChart(rows.slice(1, 2), 'ours')).toMatch(/H620"[^>]*stroke-dasharray/);
  });

  it('a block that was measured at some of the batches has its cells under those', () => {
    const rows = [row(90, 10), { ...row(90, 16), batch: 32 }, { ...row(90, 20), batch: 32, block: '8x8' }];
    const line = markdown(rows.map(derive), 90).split('\n')[4];
    expect(line).toMatch(/^\| 8x8 \| {2}\| 20.0 µs[^|]*\|$/);
    expect(breakEvenMarkdown(breakEvens(rows))).toMatch(/\| 8x8 \| {2}\| 90 % \|/);
  });

  it('a table in Markdown has blocks down and batches across, at one sparsity', () => {
    const rows = [row(90, 10, 5), { ...row(90, 16, 8), batch: 32 }, row(80, 20)].map(derive);
    expect(markdown(rows, 90).split('\n')).toEqual([
      '| 768x768, 90 %, 1 thread | M = 8 | M = 32 |',
      '| --- | --- | --- |',
      '| fastest dense | onednn 80.0 µs | onednn 80.0 µs |',
      '| 4x4 | 10.0 µs, x8.00; 5.00 µs, x16.0, 10 % | 16.0 µs, x5.00; 8.00 µs, x10.0, 6 % |',
      '',
    ]);
  });

  it('a layer may be slower than our own dense by a twentieth', () => {
    expect(slowerThanDense([row(0, 104), row(50, 106), row(80, 20)])).toEqual([row(50, 106)]);
  });
});

describe('a machine that others use', () => {
  const machine = (core: () => number) => ({ core, fmaFlops: () => 1e6 });
  /** A candidate that takes a millisecond a call, or two while the machine is busy. */
  const candidate = (isBusy: () => boolean) => ({ time: (calls: number) => calls * (isBusy() ? 2 : 1) });

  it('counts the samples of its quiet moments, and goes on until there are as many as in one run', async () => {
    let probes = 0;
    // Half of the time others are busy, for ten probes, of three each, at a time: that is five samples.
    const isBusy = () => (probes / 30) % 2 >= 1;
    const cores = new Cores(
      machine(() => {
        const time = isBusy() ? 0.2 : 0.1;
        probes++;
        return time;
      }),
      'avx2',
      1,
      5,
    );
    const [first, second] = await interleave([candidate(isBusy), candidate(isBusy)], 1, cores);
    expect(first).toMatchObject({ median: 1000, probe: 0.1, runs: 3 });
    expect(second).toMatchObject({ median: 1000, probe: 0.1, runs: 3 });
    expect(cores.best).toBe(0.1);
    // Four calls of a megaflop in a tenth of a millisecond.
    expect(cores.rate(first.probe)).toBeCloseTo(40);
  });

  it('is measured five times as long at most, and once where it is quiet or nobody asked', async () => {
    let probe = 0.1;
    const cores = (runs: number) =>
      new Cores(
        machine(() => probe),
        'avx2',
        1,
        runs,
      );
    const busy = () => true;
    const asked = cores(5);
    expect(await interleave([candidate(busy)], 1, asked)).toMatchObject([{ median: 2000, runs: 1 }]);
    probe = 0.104;
    expect(await interleave([candidate(busy)], 1, asked)).toMatchObject([{ probe: 0.104, runs: 1 }]);
    probe = 0.2;
    expect(await interleave([candidate(busy)], 1, asked)).toMatchObject([{ probe: 0.2, runs: 5 }]);
    const once = cores(1);
    once.best = 0.1;
    expect(await interleave([candidate(busy)], 1, once)).toMatchObject([{ probe: 0.2, runs: 1 }]);
    expect(await interleave([candidate(busy)], 1)).toEqual([{ median: 2000, spread: 0 }]);
  });
});

describe('the goals', () => {
  // Every cell that the goals need, as if each product took a tenth of its share of the dense time.
  const rows = (goalGroups() as Group[]).flatMap(({ batches, sparsities, ...place }) =>
    batches.flatMap((batch) =>
      sparsities.map((sparsity) => {
        const one = row(sparsity, 8 * (1 - sparsity / 100));
        return derive({ ...one, ...place, batch, packedBytes: 1e6 * one.density });
      }),
    ),
  );

  it('each finds its cells in the groups that are measured for them', () => {
    const verdicts = judge(rows);
    expect(verdicts).toHaveLength(GOALS.length);
    for (const { cells, worst } of verdicts) {
      expect(cells).toBeGreaterThan(0);
      expect(worst).not.toBeNaN();
    }
    expect(verdicts[0]).toMatchObject({ cells: 18, reached: 0 });
    expect(verdicts[0].worst).toBeCloseTo(0.625);
    expect(verdicts[1].worst).toBeCloseTo(100);
  });

  it('are not judged where a peer is missing', () => {
    const bare = rows.map(({ dense, ...one }) =>
      derive({ ...one, peak: null, dense: { 'our dense': dense['our dense'] } }),
    );
    for (const verdict of judge(bare)) {
      const missing = ['peak', 'points', 'x library'].includes(verdict.unit);
      expect(verdict.worst === null).toBe(missing);
      const [, , line] = goalTable([verdict]).split('\n');
      expect(line).not.toMatch(/NaN|Infinity| 0 %/);
      expect(/ (yes|no)/.test(line)).toBe(!missing);
    }
  });

  it('of shapes that they are not for are refused', () => {
    expect(() => goalsOf(['300x784', '768x768'])).toThrow(/--goals without --shape is for 768x768/);
    expect(() => goalsOf(['64x63'])).toThrow(/--goals takes a --shape of 64x64 or more.* not 64x63/);
    expect(goalsOf(['64x64']).length).toBeGreaterThan(8);
  });

  it('of other shapes are those for shares, 8 points lower', () => {
    const goals = goalsOf(['3072x768', '300x784']);
    expect(goals.length).toBeGreaterThan(8);
    for (const { unit, cells } of goals)
      expect({ unit, shape: cells.shape }).toEqual({ unit: 'peak', shape: ['3072x768', '300x784'] });
    expect(goals[0].target).toBeCloseTo(GOALS[0].target - 0.08);
    expect(new Set((goalGroups(goals) as Group[]).map(({ shape }) => shape)).size).toBe(2);
  });

  it('a goal is reached when its worst cell reaches it, from below when less is better', () => {
    const lines = goalTable([
      {
        name: 'low',
        target: 0.9,
        unit: 'peak',
        worst: 0.8,
        median: 0.95,
        reached: 2,
        cells: 3,
        cell: rows[0],
        limit: { tile: [8, 2], L1: 0.91, 'without the call': 0.88, core: 0.97, read: 205 },
      },
      { name: 'cheap', target: 0.5, unit: 'µs', worst: 0.4, atMost: true },
      { name: 'open', target: null, unit: 'ms', worst: 3 },
      { name: 'fast', target: 10, unit: 'x dense', worst: 9, limit: { at: 'the peak', dense: 10.5 } },
      { name: 'read', target: 75, unit: 'GB/s', worst: 70, limit: { reading: 88 } },
    ]).split('\n');
    expect(lines[2]).toMatch(
      /low .* 90 % peak .* 80 % peak .* 95 % peak .* no, 2 of 3 .*768x768.* tile 8x2, L1 91 % peak, without the call 88 % peak, meanwhile core 97 %, L2 read at 205 GB\/s$/,
    );
    expect(lines[3]).toMatch(/cheap .*<= 0.50 µs .*0.40 µs .*yes/);
    expect(lines[4]).toMatch(/open .* - .*3.00 ms$/);
    expect(lines[5]).toMatch(/fast .* at the peak 10.5 x dense$/);
    expect(lines[6]).toMatch(/read .* reading 88.0 GB\/s$/);
  });

  it('are limited by the tile that most of a cell goes through', () => {
    const machine = {
      tiles: {
        avx512: {
          lanes: 16,
          shapes: [
            [8, 1],
            [12, 2],
            [8, 2],
            [5, 4],
          ],
        },
        avx2: { lanes: 8, shapes: [[3, 4]] },
        sse2: { lanes: 4, shapes: [] },
      },
    };
    const tile = (isa: string, kernel: string, outputs: number, batch: number) =>
      tileOf(machine, isa, { kernel, tile: [outputs, batch] });
    expect(tile('avx512', 'rows', 32, 12)).toEqual([12, 2]);
    expect(tile('avx512', 'rows', 16, 8)).toEqual([8, 1]);
    expect(tile('avx512', 'panels', 8, 32)).toEqual([8, 2]);
    expect(tile('avx512', 'panels', 5, 64)).toEqual([5, 4]);
    expect(tile('avx2', 'panels', 3, 32)).toEqual([3, 4]);
    expect(tile('avx512', 'panels', 7, 32)).toBeUndefined();
    expect(tile('sse2', 'rows', 16, 6)).toBeUndefined();
  });
});
