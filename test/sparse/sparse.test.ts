import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BsrMatrix } from '../../lib/sparse/bsr.ts';
import { CsrMatrix } from '../../lib/sparse/csr.ts';
import { BlockGrid } from '../../lib/sparse/grid.ts';
import { BlockMask } from '../../lib/sparse/mask.ts';

const side = fc.oneof(fc.integer({ min: 0, max: 40 }), fc.constantFrom(64, 65, 100));
const block = fc.oneof(fc.integer({ min: 1, max: 20 }), fc.constantFrom(32, 64, 70));

/** A matrix with some zeros, its grid and a mask. */
const divided = fc
  .record({ n: side, k: side, r: block, c: block, seed: fc.integer() })
  .map(({ n, k, r, c, seed }) => {
    let state = seed >>> 0;
    const next = () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return state / 4294967296;
    };
    const weight = Float32Array.from({ length: n * k }, () => (next() < 0.3 ? 0 : next() - 0.5));
    const grid = new BlockGrid([n, k], [r, c]);
    const mask = new BlockMask(
      grid,
      Uint8Array.from({ length: grid.blockCount }, () => (next() < 0.5 ? 1 : 0)),
    );
    return { weight, grid, mask };
  });

describe('division and storage', () => {
  it('dense -> BSR -> dense loses nothing, CSR and other blocks likewise', () => {
    fc.assert(
      fc.property(divided, block, block, ({ weight, grid }, r2, c2) => {
        const bsr = BsrMatrix.fromDense(weight, grid);
        expect(bsr.toDense()).toEqual(weight);
        expect(CsrMatrix.fromBsr(bsr).toDense()).toEqual(weight);
        const csr = CsrMatrix.fromDense(weight, grid.shape);
        expect(csr.toDense()).toEqual(weight);
        expect(csr.toBsr([r2, c2]).toDense()).toEqual(weight);
        expect(csr.nnz).toBe(weight.filter((w) => w !== 0).length);
      }),
      { numRuns: 300 },
    );
  });

  it('a mask decides exactly what is stored, and comes back from the matrix', () => {
    fc.assert(
      fc.property(divided, ({ weight, grid, mask }) => {
        const bsr = BsrMatrix.fromDense(weight, grid, mask);
        expect(bsr.mask.kept).toEqual(mask.kept);
        expect(bsr.nnzb).toBe(mask.nnzb);
        const dense = bsr.toDense();
        let inside = 0;
        const [n, k] = grid.shape;
        for (let y = 0; y < n; y++)
          for (let x = 0; x < k; x++) {
            const index =
              Math.floor(y / grid.blockShape[0]) * grid.gridCols + Math.floor(x / grid.blockShape[1]);
            inside += mask.kept[index];
            expect(dense[y * k + x]).toBe(mask.kept[index] ? weight[y * k + x] : 0);
          }
        expect(bsr.density).toBeCloseTo(n * k === 0 ? 0 : inside / (n * k), 12);
      }),
      { numRuns: 100 },
    );
  });

  it('fromArrays takes back what a matrix gives out', () => {
    fc.assert(
      fc.property(divided, ({ weight, grid, mask }) => {
        const bsr = BsrMatrix.fromDense(weight, grid, mask);
        const again = BsrMatrix.fromArrays(bsr);
        expect(again.toDense()).toEqual(bsr.toDense());
        expect(CsrMatrix.fromArrays(CsrMatrix.fromBsr(bsr)).toDense()).toEqual(bsr.toDense());
      }),
      { numRuns: 100 },
    );
  });

  it('a known matrix in PyTorch’s and SciPy’s arrays', () => {
    // torch.tensor([[1, 2, 0], [3, 4, 0], [0, 0, 5]]).to_sparse_bsr((2, 1)) pads nothing in columns; here rows are
    // truncated: the grid is 2 x 3.
    const matrix = BsrMatrix.fromDense(
      Float32Array.of(1, 2, 0, 3, 4, 0, 0, 0, 5),
      new BlockGrid([3, 3], [2, 1]),
    );
    expect([...matrix.crowIndices]).toEqual([0, 2, 3]);
    expect([...matrix.colIndices]).toEqual([0, 1, 2]);
    expect([...matrix.values]).toEqual([1, 3, 2, 4, 5, 0]);
    expect(matrix.density).toBeCloseTo(5 / 9);
    expect(matrix.bytes).toEqual({ values: 24, indices: 24, total: 48, dense: 36, ratio: 0.75 });
  });

  it('refuses bad arguments by name', () => {
    const shape: [number, number] = [4, 4];
    for (const bad of [
      [0, 1],
      [1.5, 1],
      [-1, 1],
      [Number.NaN, 1],
      [1, 5000],
    ])
      expect(() => new BlockGrid(shape, bad as [number, number])).toThrow(RangeError);
    expect(() => new BlockGrid([4] as never, [1, 1])).toThrow(/shape must be/);
    expect(() => new BlockGrid(['4', 4] as never, [1, 1])).toThrow(/shape\[0\]/);
    expect(() => new BlockGrid([1 << 24, 1 << 24], [1, 1])).toThrow(/shape must be/);
    expect(() => new BlockGrid([1 << 15, 1 << 15], [1, 1])).toThrow(/blockShape must be/);
    const grid = new BlockGrid(shape, [2, 2]);
    expect(() => new BlockMask(grid, new Uint8Array(3))).toThrow(/kept must be/);
    expect(() => new BlockMask(grid, Uint8Array.of(0, 1, 2, 0))).toThrow(/kept\[2\]/);
    expect(() => BsrMatrix.fromDense(new Float32Array(15), grid)).toThrow(/weight must be/);
    expect(() => BsrMatrix.fromDense(new Float64Array(16) as never, grid)).toThrow(TypeError);
    const other = BlockMask.full(new BlockGrid(shape, [1, 1]));
    expect(() => BsrMatrix.fromDense(new Float32Array(16), grid, other)).toThrow(/mask belongs to a grid/);
    const good = {
      shape,
      blockShape: [2, 2] as [number, number],
      crowIndices: Int32Array.of(0, 1, 2),
      colIndices: Int32Array.of(1, 0),
      values: new Float32Array(8),
    };
    expect(BsrMatrix.fromArrays(good).nnzb).toBe(2);
    const cases: [Partial<typeof good>, RegExp][] = [
      [{ crowIndices: Int32Array.of(0, 1) }, /crowIndices must be/],
      [{ crowIndices: Int32Array.of(1, 1, 2) }, /crowIndices\[0\]/],
      [{ crowIndices: Int32Array.of(0, 2, 1) }, /colIndices\[1\]/],
      [{ crowIndices: Int32Array.of(0, 0, 1) }, /crowIndices\[2\]/],
      [{ crowIndices: Int32Array.of(0, -1, 2) }, /crowIndices\[1\]/],
      [{ colIndices: Int32Array.of(2, 0) }, /colIndices\[0\]/],
      [{ colIndices: Int32Array.of(-1, 0) }, /colIndices\[0\]/],
      [{ values: new Float32Array(7) }, /values must be/],
      [{ values: new Float64Array(8) as never }, /values must be/],
    ];
    for (const [change, message] of cases)
      expect(() => BsrMatrix.fromArrays({ ...good, ...change })).toThrow(message);
    // What lies outside the matrix must be zero.
    const edge = { ...good, shape: [3, 4] as [number, number], values: new Float32Array(8).fill(1) };
    expect(() => BsrMatrix.fromArrays(edge)).toThrow(/values\[6\] must be 0/);
  });

  it('copies arrays, so later changes change nothing', () => {
    const crowIndices = Int32Array.of(0, 1);
    const colIndices = Int32Array.of(0);
    const values = Float32Array.of(7);
    const matrix = BsrMatrix.fromArrays({
      shape: [1, 1],
      blockShape: [1, 1],
      crowIndices,
      colIndices,
      values,
    });
    crowIndices[1] = 99;
    colIndices[0] = 99;
    values[0] = 0;
    expect([...matrix.toDense()]).toEqual([7]);
  });
});

describe('arrays changed or transferred after construction', () => {
  const made = () => BsrMatrix.fromDense(new Float32Array(64).fill(1), new BlockGrid([8, 8], [4, 4]));
  const detach = (array: Float32Array | Int32Array | Uint8Array) =>
    structuredClone(array.buffer as ArrayBuffer, { transfer: [array.buffer as ArrayBuffer] });

  it('are refused by name, and nothing hangs', () => {
    for (const change of [
      (m: BsrMatrix) => m.crowIndices.set([2 ** 31 - 1], 2),
      (m: BsrMatrix) => m.colIndices.set([1_000_000], 0),
      (m: BsrMatrix) => detach(m.crowIndices),
      (m: BsrMatrix) => detach(m.colIndices),
      (m: BsrMatrix) => detach(m.values),
    ]) {
      const matrix = made();
      change(matrix);
      expect(() => matrix.toDense()).toThrow(/Indices|values/);
      expect(() => matrix.density).toThrow(/Indices|values/);
      expect(() => CsrMatrix.fromBsr(matrix)).toThrow(/Indices|values/);
    }
    const csr = CsrMatrix.fromBsr(made());
    detach(csr.values);
    expect(() => csr.toDense()).toThrow(/values must be/);
    const grid = new BlockGrid([8, 8], [4, 4]);
    const mask = BlockMask.full(grid);
    mask.kept[0] = 7;
    expect(() => BsrMatrix.fromDense(new Float32Array(64), grid, mask)).toThrow(/mask.kept\[0\]/);
    mask.kept[0] = 0;
    expect(() => BsrMatrix.fromDense(new Float32Array(64), grid, mask)).toThrow(/mask.kept was changed/);
    detach(mask.kept);
    expect(() => BsrMatrix.fromDense(new Float32Array(64), grid, mask)).toThrow(/mask.kept must be/);
  });
});
