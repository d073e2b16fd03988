import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CRITERIA, type Criterion } from '../../lib/kernels/kernels.ts';
import { scoreBlocks } from '../../lib/prune/scores.ts';
import { BlockGrid } from '../../lib/sparse/grid.ts';

/** Straight from the definitions, in float64. */
function naive(weight: Float32Array, grid: BlockGrid, criterion: Criterion): number[] {
  const [n, k] = grid.shape;
  const [r, c] = grid.blockShape;
  const blocks: number[][] = Array.from({ length: grid.blockCount }, () => []);
  for (let y = 0; y < n; y++)
    for (let x = 0; x < k; x++)
      blocks[Math.floor(y / r) * grid.gridCols + Math.floor(x / c)].push(Math.abs(weight[y * k + x]));
  return blocks.map((block) => {
    const sum = block.reduce((a, b) => a + b, 0);
    if (criterion === 'l1') return sum;
    if (criterion === 'mean-abs') return sum / block.length;
    if (criterion === 'l2') return Math.sqrt(block.reduce((a, b) => a + b * b, 0));
    return Math.max(...block);
  });
}

describe('scoreBlocks', () => {
  it('counts only the elements that exist', () => {
    const grid = new BlockGrid([3, 3], [2, 2]);
    const weight = Float32Array.of(1, -2, 3, 4, -5, 6, 7, 8, -9);
    expect(Array.from(scoreBlocks(weight, grid))).toEqual([3, 4.5, 7.5, 9]);
    expect(Array.from(scoreBlocks(weight, grid, 'l1'))).toEqual([12, 9, 15, 9]);
    expect(Array.from(scoreBlocks(weight, grid, 'max-abs'))).toEqual([5, 6, 8, 9]);
    expect(scoreBlocks(weight, grid, 'l2')[1]).toBeCloseTo(Math.sqrt(45), 5);
  });

  it('agrees with the definitions for any shape and block', () => {
    const side = fc.integer({ min: 1, max: 20 });
    fc.assert(
      fc.property(side, side, side, side, fc.constantFrom(...CRITERIA), fc.nat(), (n, k, r, c, how, seed) => {
        const weight = Float32Array.from(
          { length: n * k },
          (_, i) => Math.sin(seed + i * 1.7) * (1 + (i % 7)),
        );
        const grid = new BlockGrid([n, k], [r, c]);
        const scores = scoreBlocks(weight, grid, how);
        const expected = naive(weight, grid, how);
        for (let i = 0; i < scores.length; i++)
          expect(Math.abs(scores[i] - expected[i])).toBeLessThanOrEqual(1e-5 * expected[i]);
      }),
    );
  });

  it('takes an empty matrix and shared memory', () => {
    expect(scoreBlocks(new Float32Array(0), new BlockGrid([0, 5], [2, 2]))).toHaveLength(0);
    const shared = new Float32Array(new SharedArrayBuffer(16)).fill(2);
    expect(Array.from(scoreBlocks(shared, new BlockGrid([2, 2], [2, 2])))).toEqual([2]);
  });

  it('names what is wrong', () => {
    const grid = new BlockGrid([2, 2], [2, 2]);
    const bad = (weight: unknown, g: unknown = grid, criterion?: unknown) =>
      expect(() => scoreBlocks(weight as Float32Array, g as BlockGrid, criterion as Criterion));
    bad([1, 2, 3, 4]).toThrow(/weight must be a Float32Array/);
    bad(new Float64Array(4)).toThrow(TypeError);
    bad(new Float32Array(3)).toThrow(/weight must be a Float32Array of 4 elements/);
    bad(new Float32Array(4), {}).toThrow(/grid must be a BlockGrid/);
    bad(new Float32Array(4), grid, 'l3').toThrow(/criterion must be one of mean-abs, l1, l2, max-abs/);
    bad(Float32Array.of(1, 2, Number.NaN, 4)).toThrow(/weight\[2\] must be a finite number, but is NaN/);
    bad(Float32Array.of(1, -Infinity, 3, 4)).toThrow(RangeError);
    const detached = new Float32Array(4);
    structuredClone(detached.buffer, { transfer: [detached.buffer] });
    bad(detached).toThrow(/weight/);
  });
});
