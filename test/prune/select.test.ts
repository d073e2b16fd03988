import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BlocksparseError } from '../../lib/errors.ts';
import { paperSchedule } from '../../lib/prune/schedule.ts';
import { type Selection, selectBlocks, selectGlobally } from '../../lib/prune/select.ts';
import { BlockGrid } from '../../lib/sparse/grid.ts';
import { BlockMask } from '../../lib/sparse/mask.ts';

const kept = (mask: BlockMask) => Array.from(mask.kept);

/** Scores with many ties, a grid with truncated edges, and a mask of what is left. */
const layers = fc
  .record({
    shape: fc.tuple(fc.integer({ min: 0, max: 17 }), fc.integer({ min: 0, max: 17 })),
    blockShape: fc.tuple(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 5 })),
    seed: fc.nat({ max: 1e6 }),
    gone: fc.constantFrom(0, 0, 0.3, 0.9),
  })
  .map(({ shape, blockShape, seed, gone }) => {
    const grid = new BlockGrid(shape, blockShape);
    const hash = (i: number) => (Math.imul(seed + i + 1, 0x9e3779b1) >>> 8) / 2 ** 24;
    const scores = Float32Array.from({ length: grid.blockCount }, (_, i) => Math.floor(hash(i) * 12) / 4);
    const bits = Uint8Array.from(scores, (_, i) => (hash(i + 5000) < gone ? 0 : 1));
    return { grid, scores, among: new BlockMask(grid, bits) };
  });
const fraction = fc.double({ min: 0, max: 1, noNaN: true });

describe('selectBlocks by sparsity', () => {
  it('drops in (score, index) order', () => {
    const grid = new BlockGrid([4, 4], [2, 2]);
    const scores = Float32Array.of(2, 1, 1, 3);
    expect(kept(selectBlocks(scores, grid, { sparsity: 0 }))).toEqual([1, 1, 1, 1]);
    expect(kept(selectBlocks(scores, grid, { sparsity: 0.25 }))).toEqual([1, 0, 1, 1]);
    expect(kept(selectBlocks(scores, grid, { sparsity: 0.5 }))).toEqual([1, 0, 0, 1]);
    expect(kept(selectBlocks(scores, grid, { sparsity: 0.75 }))).toEqual([0, 0, 0, 1]);
    expect(kept(selectBlocks(scores, grid, { sparsity: 1 }))).toEqual([0, 0, 0, 0]);
    // The nearest one; the lower of two that are equally near.
    expect(kept(selectBlocks(scores, grid, { sparsity: 0.37 }))).toEqual([1, 0, 1, 1]);
    expect(kept(selectBlocks(scores, grid, { sparsity: 0.375 }))).toEqual([1, 0, 1, 1]);
    expect(kept(selectBlocks(scores, grid, { sparsity: 0.38 }))).toEqual([1, 0, 0, 1]);
  });

  it('counts weights, not blocks: a truncated block is lighter', () => {
    // Blocks of 4, 2, 2 and 1 weights.
    const grid = new BlockGrid([3, 3], [2, 2]);
    const scores = Float32Array.of(9, 2, 8, 1);
    expect(kept(selectBlocks(scores, grid, { sparsity: 0.25 }))).toEqual([1, 0, 1, 0]);
    expect(selectBlocks(scores, grid, { sparsity: 0.25 }).sparsity).toBeCloseTo(3 / 9, 12);
    expect(kept(selectBlocks(scores, grid, { sparsity: 0.2 }))).toEqual([1, 1, 1, 0]);
  });

  it('ranks an infinite score last', () => {
    const grid = new BlockGrid([1, 3], [1, 1]);
    const scores = Float32Array.of(Infinity, 1, Infinity);
    expect(kept(selectBlocks(scores, grid, { sparsity: 0.34 }))).toEqual([1, 0, 1]);
    expect(kept(selectBlocks(scores, grid, { sparsity: 0.67 }))).toEqual([0, 0, 1]);
  });

  it('is the nearest prefix of the order, and brings nothing back', () => {
    fc.assert(
      fc.property(layers, fraction, ({ scores, grid, among }, sparsity) => {
        const mask = selectBlocks(scores, grid, { sparsity, among });
        const order = [...scores.keys()]
          .filter((i) => among.kept[i] === 1)
          .sort((a, b) => scores[a] - scores[b] || a - b);
        const all = grid.shape[0] * grid.shape[1];
        // Sparsities after 0, 1, 2, ... drops.
        const reachable = [all === 0 ? 0 : among.sparsity];
        for (const i of order) reachable.push(reachable.at(-1)! + grid.elementsOf(i) / all);
        const drops = among.nnzb - mask.nnzb;
        for (const other of reachable)
          expect(Math.abs(reachable[drops] - sparsity)).toBeLessThanOrEqual(
            Math.abs(other - sparsity) + 1e-9,
          );
        const expected = among.kept.slice();
        for (const i of order.slice(0, drops)) expected[i] = 0;
        expect(kept(mask)).toEqual(Array.from(expected));
      }),
      { numRuns: 300 },
    );
  });
});

describe('selectBlocks by the fraction of what is left', () => {
  it('drops every block strictly below sorted[round(p n)]', () => {
    const grid = new BlockGrid([1, 5], [1, 1]);
    const scores = Float32Array.of(5, 3, 1, 2, 4);
    expect(kept(selectBlocks(scores, grid, { dropFraction: 0.4 }))).toEqual([1, 1, 0, 0, 1]);
    expect(kept(selectBlocks(scores, grid, { dropFraction: 0.25 }))).toEqual([1, 1, 0, 1, 1]);
    expect(kept(selectBlocks(scores, grid, { dropFraction: 0.09 }))).toEqual([1, 1, 1, 1, 1]);
    expect(kept(selectBlocks(scores, grid, { dropFraction: 1 }))).toEqual([0, 0, 0, 0, 0]);
  });

  it('keeps blocks that tie with the cut', () => {
    const grid = new BlockGrid([1, 5], [1, 1]);
    expect(kept(selectBlocks(Float32Array.of(1, 2, 2, 2, 3), grid, { dropFraction: 0.6 }))).toEqual([
      0, 1, 1, 1, 1,
    ]);
    expect(kept(selectBlocks(new Float32Array(5).fill(2), grid, { dropFraction: 0.8 }))).toEqual([
      1, 1, 1, 1, 1,
    ]);
  });

  it('drops as many as are due where the cut is zero, negative scores before zeros', () => {
    const grid = new BlockGrid([1, 5], [1, 1]);
    const drop = (scores: number[], dropFraction: number, among = BlockMask.full(grid)) =>
      kept(selectBlocks(Float32Array.from(scores), grid, { dropFraction, among }));
    expect(drop([0, 0, 0, 0, 0], 0.4)).toEqual([0, 0, 1, 1, 1]);
    expect(drop([2, 0, -0, 0, 1], 0.4)).toEqual([1, 0, 0, 1, 1]);
    expect(drop([0, 0, -1, 0, 3], 0.4)).toEqual([0, 1, 0, 1, 1]);
    expect(drop([0, 0, 0, 0, 3], 0.4, new BlockMask(grid, Uint8Array.of(0, 1, 1, 1, 1)))).toEqual([
      0, 0, 0, 1, 1,
    ]);
  });

  it('rounds halves to the even number, so that a last layer of five blocks keeps them', () => {
    for (const [n, drops] of [
      [5, 0],
      [15, 2],
      [25, 2],
      [35, 4],
    ]) {
      const grid = new BlockGrid([1, n], [1, 1]);
      const scores = Float32Array.from({ length: n }, (_, i) => i);
      expect(selectBlocks(scores, grid, { dropFraction: 0.1 }).nnzb).toBe(n - drops);
    }
  });

  it('counts only the blocks in among', () => {
    const grid = new BlockGrid([1, 5], [1, 1]);
    const among = new BlockMask(grid, Uint8Array.of(1, 1, 0, 0, 1));
    const scores = Float32Array.of(5, 3, 0, 0, 4);
    expect(kept(selectBlocks(scores, grid, { dropFraction: 0.34, among }))).toEqual([1, 0, 0, 0, 1]);
  });

  it('without ties drops round(p n) blocks, whatever the scores', () => {
    fc.assert(
      fc.property(layers, fraction, ({ scores, grid, among }, dropFraction) => {
        const distinct = scores.map((score, i) => score + i / 1024);
        const mask = selectBlocks(distinct, grid, { dropFraction, among });
        const due = dropFraction * among.nnzb;
        // Every other half is rounded the other way.
        if (due % 1 !== 0.5) expect(among.nnzb - mask.nnzb).toBe(Math.round(due));
        const lowest = Math.min(...distinct.filter((_, i) => mask.kept[i] === 1));
        for (let i = 0; i < distinct.length; i++) {
          expect(mask.kept[i]).toBeLessThanOrEqual(among.kept[i]);
          if (among.kept[i] === 1 && mask.kept[i] === 0) expect(distinct[i]).toBeLessThan(lowest);
        }
      }),
    );
  });

  it('gives the densities of the paper for LeNet-300-100 in 4x4 blocks', () => {
    const { fractions, rounds } = paperSchedule();
    const shapes = [
      [300, 784],
      [100, 300],
      [10, 100],
    ] as const;
    const total = 300 * 784 + 100 * 300 + 10 * 100;
    let masks = shapes.map((shape) => BlockMask.full(new BlockGrid(shape, [4, 4])));
    const densities: number[] = [];
    for (let round = 0; round < rounds; round++) {
      masks = masks.map((among, l) => {
        // Distinct scores in an order of their own each round: which blocks go does not matter here.
        const n = among.grid.blockCount;
        const scores = Float32Array.from({ length: n }, (_, i) => (i * 7919 + round * 101) % n);
        return selectBlocks(scores, among.grid, { dropFraction: fractions[l], among });
      });
      densities.push(
        masks.reduce((sum, mask) => sum + mask.density * mask.grid.shape[0] * mask.grid.shape[1], 0) / total,
      );
    }
    const paper = [
      80.0, 64.1, 51.3, 41.1, 32.9, 26.3, 21.1, 16.9, 13.5, 10.8, 8.67, 6.95, 5.57, 4.47, 3.58, 2.87,
    ];
    for (let i = 0; i < paper.length; i++)
      expect(Math.abs(100 * densities[i] - paper[i]), `round ${i}`).toBeLessThan(i < 10 ? 0.06 : 0.012);
  });
});

describe('selectGlobally', () => {
  const grid = new BlockGrid([1, 4], [1, 1]);
  const low = { grid, scores: Float32Array.of(1, 2, 3, 4) };
  const high = { grid, scores: Float32Array.of(3, 5, 6, 7) };

  it('puts the blocks of all layers in one order; ties go to the first layer', () => {
    expect(selectGlobally([low, high], { sparsity: 0.375 }).map(kept)).toEqual([
      [0, 0, 0, 1],
      [1, 1, 1, 1],
    ]);
    expect(selectGlobally([low, high], { sparsity: 0.5 }).map(kept)).toEqual([
      [0, 0, 0, 1],
      [0, 1, 1, 1],
    ]);
  });

  it('leaves each layer its floor and takes the rest from the others', () => {
    expect(selectGlobally([low, high], { sparsity: 0.5, floor: 0.5 }).map(kept)).toEqual([
      [0, 0, 1, 1],
      [0, 0, 1, 1],
    ]);
    expect(selectGlobally([low, high], { sparsity: 1, floor: [0.25, 1] }).map(kept)).toEqual([
      [0, 0, 0, 1],
      [1, 1, 1, 1],
    ]);
  });

  it('refuses null as a floor', () => {
    expect(() => selectGlobally([low], { sparsity: 0.5, floor: null as never })).toThrow(/floor must be/);
  });

  it('lets no lighter block slip beneath a floor that a heavier one has reached', () => {
    // Weights 2 and 1 a block; 2 of 3 weights must stay, so that the first block cannot go.
    const edge = { grid: new BlockGrid([1, 3], [1, 2]), scores: Float32Array.of(1, 2) };
    expect(selectGlobally([edge], { sparsity: 1, floor: 0.6 }).map(kept)).toEqual([[1, 1]]);
  });

  it('takes a floor that is a whole number of weights only up to rounding', () => {
    const wide = { grid: new BlockGrid([1, 100], [1, 1]), scores: new Float32Array(100) };
    expect(selectGlobally([wide], { sparsity: 1, floor: 0.07 })[0].nnzb).toBe(7);
  });

  it('holds the floors and only shrinks, and without floors is near the target', () => {
    fc.assert(
      fc.property(fc.array(layers, { maxLength: 4 }), fraction, fraction, (all, sparsity, floor) => {
        const masks = selectGlobally(all, { sparsity, floor });
        masks.forEach((mask, l) => {
          const { among, grid: g } = all[l];
          for (let i = 0; i < among.kept.length; i++) expect(mask.kept[i]).toBeLessThanOrEqual(among.kept[i]);
          // The library's margin: a millionth of a weight.
          if (g.blockCount > 0)
            expect(mask.density).toBeGreaterThanOrEqual(
              Math.min(floor, among.density) - 1e-6 / (g.shape[0] * g.shape[1]),
            );
        });
        const weights = (list: BlockMask[]) =>
          list.reduce((n, mask) => n + mask.density * mask.grid.shape[0] * mask.grid.shape[1], 0);
        const total = all.reduce((n, { grid: g }) => n + g.shape[0] * g.shape[1], 0);
        const before = total - weights(all.map(({ among }) => among));
        const after = total - weights(selectGlobally(all, { sparsity }));
        // Half a block, 5x5 at most.
        if (before < sparsity * total)
          expect(Math.abs(after - sparsity * total)).toBeLessThanOrEqual(12.5 + 1e-6);
        else expect(after).toBeCloseTo(before, 6);
      }),
    );
  });

  it('keeps so many blocks of each layer, and where asked one of every row', () => {
    expect(selectGlobally([low, high], { sparsity: 1, leastBlocks: 1 }).map(kept)).toEqual([
      [0, 0, 0, 1],
      [0, 0, 0, 1],
    ]);
    const square = new BlockGrid([4, 4], [2, 2]);
    const layer = { grid: square, scores: Float32Array.of(1, 2, 3, 4), everyRow: true };
    expect(selectGlobally([layer], { sparsity: 1 }).map(kept)).toEqual([[0, 1, 0, 1]]);
    // A block that has to stay is passed over: the next ones go in its place.
    expect(selectGlobally([layer], { sparsity: 0.5 }).map(kept)).toEqual([[0, 1, 0, 1]]);
    const among = new BlockMask(square, Uint8Array.of(0, 0, 1, 1));
    expect(selectGlobally([{ ...layer, among }], { sparsity: 1 }).map(kept)).toEqual([[0, 0, 0, 1]]);
    const junk = { ...layer, everyRow: 'yes' as never };
    expect(() => selectGlobally([junk], { sparsity: 1 })).toThrow(/layers\[0\].everyRow must be a boolean/);
    expect(() => selectGlobally([layer], { sparsity: 1, leastBlocks: -1 })).toThrow(/leastBlocks/);
  });

  it('of no layers is no masks', () => {
    expect(selectGlobally([], { sparsity: 0.5 })).toEqual([]);
  });
});

describe('bad input', () => {
  const grid = new BlockGrid([2, 2], [1, 1]);
  const scores = new Float32Array(4);
  const other = BlockMask.full(new BlockGrid([2, 2], [2, 2]));
  const bad = (how: unknown, s: unknown = scores, g: unknown = grid) =>
    expect(() => selectBlocks(s as Float32Array, g as BlockGrid, how as Selection));

  it('is named', () => {
    bad({ sparsity: 0.5 }, [1, 2, 3, 4]).toThrow(/scores must be a Float32Array/);
    bad({ sparsity: 0.5 }, new Float32Array(3)).toThrow(/scores must be a Float32Array of 4 elements/);
    bad({ sparsity: 0.5 }, Float32Array.of(1, Number.NaN, 1, 1)).toThrow(
      /scores\[1\] must be a number, but is NaN/,
    );
    bad({ sparsity: 0.5 }, scores, null).toThrow(/grid must be a BlockGrid/);
    bad(null).toThrow(/how must be an object/);
    bad({}).toThrow(/either sparsity or dropFraction/);
    bad({ sparsity: 0.5, dropFraction: 0.5 }).toThrow(/either sparsity or dropFraction/);
    bad({ sparsity: -0.1 }).toThrow(/sparsity must be a number from 0 to 1/);
    bad({ sparsity: '0.1' }).toThrow(TypeError);
    bad({ dropFraction: Number.NaN }).toThrow(/dropFraction must be a number from 0 to 1/);
    bad({ dropFraction: 0.5, among: [1, 1, 1, 1] }).toThrow(/among must be a BlockMask/);
    bad({ dropFraction: 0.5, among: other }).toThrow(BlocksparseError);
    bad({ sparsity: 0.5, among: other }).toThrow(/among belongs to a grid/);
  });

  it('is named in a global selection', () => {
    const layer = { scores, grid };
    expect(() => selectGlobally(layer as never, { sparsity: 0.5 })).toThrow(/layers must be an array/);
    expect(() => selectGlobally([layer, null as never], { sparsity: 0.5 })).toThrow(
      /layers\[1\] must be an object/,
    );
    expect(() => selectGlobally([{ ...layer, scores: new Float32Array(1) }], { sparsity: 0.5 })).toThrow(
      /layers\[0\].scores/,
    );
    expect(() => selectGlobally([{ ...layer, among: other }], { sparsity: 0.5 })).toThrow(
      /layers\[0\].among/,
    );
    expect(() => selectGlobally([layer], { sparsity: 2 })).toThrow(/sparsity/);
    expect(() => selectGlobally([layer], { sparsity: 0.5, floor: 1.5 })).toThrow(/floor/);
    expect(() => selectGlobally([layer], { sparsity: 0.5, floor: [0.1, 0.2] })).toThrow(
      /floor must be one number/,
    );
    expect(() => selectGlobally([layer], { sparsity: 0.5, floor: [-1] })).toThrow(/floor\[0\]/);
  });
});
