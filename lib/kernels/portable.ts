import { checkArray } from '../check.ts';
import { rangeError } from '../errors.ts';
import { checkIndices } from '../sparse/bsr.ts';
import { BlockGrid } from '../sparse/grid.ts';
import { activationDerivatives, activationFunctions } from './activation.ts';
import {
  type Activation,
  type AdamStep,
  type BsrArrays,
  type Criterion,
  type Kernels,
  type LayerInfo,
  PANEL,
  type PackedChain,
  type PackedLayer,
  type Pattern,
  padBatch,
  type SgdStep,
} from './kernels.ts';
import { activate, rowsForward } from './rows-forward.ts';
import { servesWasm, wasmForward } from './wasm-forward.ts';
import { LANES, TILE_ROWS, tileVectors } from './wasm-tile.ts';

/**
 * The path without native code: the same results as the native one within the tolerance of a different summation
 * order. Forward products of several batch rows run in WebAssembly, in float32; the others sum in float64.
 */

/** Where panel p of `features` features starts, and how wide it is. */
function eachPanel(m: number, visit: (start: number, width: number, firstRow: number) => void): void {
  const padded = padBatch(m);
  for (let row = 0; row < padded; row += PANEL) visit(row, Math.min(PANEL, padded - row), row);
}

function validated(matrix: Omit<BsrArrays, 'values'>): BlockGrid {
  const grid = new BlockGrid(matrix.shape, matrix.blockShape);
  checkArray('crowIndices', matrix.crowIndices, Int32Array, grid.gridRows + 1);
  checkArray('colIndices', matrix.colIndices, Int32Array);
  checkIndices('crowIndices', 'colIndices', matrix.crowIndices, matrix.colIndices, grid.gridCols);
  return grid;
}

class JsPattern implements Pattern {
  readonly grid: BlockGrid;
  readonly crow: Int32Array;
  readonly col: Int32Array;

  constructor(structure: Omit<BsrArrays, 'values'>) {
    this.grid = validated(structure);
    this.crow = structure.crowIndices.slice();
    this.col = structure.colIndices.slice();
  }

  private checkValues(name: string, values: Float32Array): void {
    const [r, c] = this.grid.blockShape;
    checkArray(name, values, Float32Array, this.col.length * r * c);
  }

  forward(
    values: Float32Array,
    bias: Float32Array | null,
    activation: Activation,
    x: Float32Array,
    m: number,
    y: Float32Array,
  ): void {
    const [n, k] = this.grid.shape;
    const [r, c] = this.grid.blockShape;
    this.checkValues('values', values);
    if (bias !== null) checkArray('bias', bias, Float32Array, n);
    checkArray('x', x, Float32Array, k * padBatch(m));
    checkArray('y', y, Float32Array, n * padBatch(m));
    const act = activationFunctions[activation];
    const sums = new Float64Array(PANEL);
    eachPanel(m, (start, width) => {
      for (let out = 0; out < n; out++) {
        const row = Math.floor(out / r);
        sums.fill(bias === null ? 0 : bias[out], 0, width);
        for (let i = this.crow[row]; i < this.crow[row + 1]; i++) {
          const first = this.col[i] * c;
          const last = Math.min(first + c, k);
          const w = (i * r + out - row * r) * c - first;
          for (let f = first; f < last; f++) {
            const weight = values[w + f];
            const from = start * k + f * width;
            for (let lane = 0; lane < width; lane++) sums[lane] += weight * x[from + lane];
          }
        }
        const to = start * n + out * width;
        if (activation === 'none') for (let lane = 0; lane < width; lane++) y[to + lane] = sums[lane];
        else for (let lane = 0; lane < width; lane++) y[to + lane] = act(sums[lane]);
      }
    });
  }

  inputGradient(values: Float32Array, dy: Float32Array, m: number, dx: Float32Array): void {
    const [n, k] = this.grid.shape;
    const [r, c] = this.grid.blockShape;
    this.checkValues('values', values);
    checkArray('dy', dy, Float32Array, n * padBatch(m));
    checkArray('dx', dx, Float32Array, k * padBatch(m));
    dx.fill(0);
    eachPanel(m, (start, width) => {
      for (let out = 0; out < n; out++) {
        const row = Math.floor(out / r);
        const from = start * n + out * width;
        for (let i = this.crow[row]; i < this.crow[row + 1]; i++) {
          const first = this.col[i] * c;
          const last = Math.min(first + c, k);
          const w = (i * r + out - row * r) * c - first;
          for (let f = first; f < last; f++) {
            const weight = values[w + f];
            const to = start * k + f * width;
            for (let lane = 0; lane < width; lane++) dx[to + lane] += weight * dy[from + lane];
          }
        }
      }
    });
  }

  weightGradient(
    dy: Float32Array,
    x: Float32Array,
    m: number,
    dValues: Float32Array,
    dBias: Float32Array | null,
  ): void {
    const [n, k] = this.grid.shape;
    const [r, c] = this.grid.blockShape;
    checkArray('dy', dy, Float32Array, n * padBatch(m));
    checkArray('x', x, Float32Array, k * padBatch(m));
    this.checkValues('dValues', dValues);
    if (dBias !== null) checkArray('dBias', dBias, Float32Array, n);
    dValues.fill(0);
    for (let out = 0; out < n; out++) {
      const row = Math.floor(out / r);
      for (let i = this.crow[row]; i < this.crow[row + 1]; i++) {
        const first = this.col[i] * c;
        const last = Math.min(first + c, k);
        for (let f = first; f < last; f++) {
          let sum = 0;
          eachPanel(m, (start, width) => {
            const a = start * n + out * width;
            const b = start * k + f * width;
            for (let lane = 0; lane < width; lane++) sum += dy[a + lane] * x[b + lane];
          });
          dValues[(i * r + out - row * r) * c + f - first] = sum;
        }
      }
      if (dBias !== null) {
        let sum = 0;
        eachPanel(m, (start, width) => {
          const a = start * n + out * width;
          for (let lane = 0; lane < width; lane++) sum += dy[a + lane];
        });
        dBias[out] = sum;
      }
    }
  }
}

class JsLayer implements PackedLayer {
  readonly grid: BlockGrid;
  readonly matrix: BsrArrays;
  readonly bias: Float32Array | null;
  readonly activation: Activation;

  constructor(matrix: BsrArrays, bias: Float32Array | null, activation: Activation) {
    this.grid = validated(matrix);
    const [r, c] = this.grid.blockShape;
    checkArray('values', matrix.values, Float32Array, matrix.colIndices.length * r * c);
    if (bias !== null) checkArray('bias', bias, Float32Array, this.grid.shape[0]);
    this.matrix = {
      shape: this.grid.shape,
      blockShape: this.grid.blockShape,
      crowIndices: matrix.crowIndices.slice(),
      colIndices: matrix.colIndices.slice(),
      values: matrix.values.slice(),
    };
    this.bias = bias?.slice() ?? null;
    this.activation = activation;
  }

  forward(x: Float32Array, m: number, out: Float32Array): void {
    const [n, k] = this.grid.shape;
    checkArray('x', x, Float32Array, m * k);
    checkArray('out', out, Float32Array, m * n);
    checkApart(x, out);
    if (m < 2 || !wasmForward(this.matrix, this.bias, x, m, out))
      rowsForward(this.matrix, this.bias, x, m, out);
    if (this.activation !== 'none') activate(this.activation, out, out);
  }

  async forwardAsync(x: Float32Array, m: number): Promise<Float32Array> {
    const out = new Float32Array(m * this.grid.shape[0]);
    this.forward(x, m, out);
    return out;
  }

  info(m: number): LayerInfo {
    const { blockShape, crowIndices, colIndices, values } = this.matrix;
    const numbers = values.length + crowIndices.length + colIndices.length + (this.bias?.length ?? 0);
    const packedBytes = 4 * numbers;
    const panels = m > 1 && servesWasm(this.matrix, m);
    const reason = panels
      ? 'WebAssembly has vectors, along the batch'
      : m > 1
        ? 'WebAssembly is missing, or has too little memory for this layer: plain JS serves'
        : 'plain JS is faster for a single batch row';
    // Plain JS has four rows in a tile as well.
    const outputs = Math.min(TILE_ROWS, blockShape[0], this.grid.shape[0]);
    return {
      kernel: panels ? 'panels' : 'rows',
      reason,
      tile: [outputs, panels ? LANES * tileVectors(outputs) : 1],
      blockShape,
      regrouped: false,
      packedBytes,
      threads: 1,
    };
  }
}

/** `out` must not share memory with x: rows would be overwritten before they are read. */
export function checkApart(x: Float32Array, out: Float32Array): void {
  if (x.buffer !== out.buffer) return;
  if (x.byteOffset < out.byteOffset + out.byteLength && out.byteOffset < x.byteOffset + x.byteLength)
    throw new RangeError('out must be memory apart from x, but overlaps it');
}

class JsChain implements PackedChain {
  readonly layers: readonly JsLayer[];
  constructor(layers: readonly JsLayer[]) {
    if (layers.length === 0) throw rangeError('layers', 'at least one layer', layers);
    for (let i = 1; i < layers.length; i++)
      if (layers[i].grid.shape[1] !== layers[i - 1].grid.shape[0])
        throw rangeError(
          `layers[${i}]`,
          `a layer of ${layers[i - 1].grid.shape[0]} inputs`,
          layers[i].grid.shape[1],
        );
    this.layers = layers;
  }

  forward(x: Float32Array, m: number, out: Float32Array): void {
    checkApart(x, out);
    let current = x;
    this.layers.forEach((layer, i) => {
      const next = i === this.layers.length - 1 ? out : new Float32Array(m * layer.grid.shape[0]);
      layer.forward(current, m, next);
      current = next;
    });
  }

  async forwardAsync(x: Float32Array, m: number): Promise<Float32Array> {
    const out = new Float32Array(m * this.layers[this.layers.length - 1].grid.shape[0]);
    this.forward(x, m, out);
    return out;
  }

  info(m: number): LayerInfo[] {
    return this.layers.map((layer) => layer.info(m));
  }
}

const blockNorms: Record<
  Criterion,
  { add(sum: number, w: number): number; end(sum: number, n: number): number }
> = {
  'mean-abs': { add: (s, w) => s + Math.abs(w), end: (s, n) => s / n },
  l1: { add: (s, w) => s + Math.abs(w), end: (s) => s },
  l2: { add: (s, w) => s + w * w, end: (s) => Math.sqrt(s) },
  'max-abs': { add: (s, w) => Math.max(s, Math.abs(w)), end: (s) => s },
};

export const portableKernels: Kernels = {
  backend: 'js',
  isa: 'js',
  threads: 1,
  allocate: (length) => new Float32Array(length),
  packLayer: (matrix, bias, activation) => new JsLayer(matrix, bias, activation),
  packChain: (layers) => new JsChain(layers as readonly JsLayer[]),
  pattern: (structure) => new JsPattern(structure),

  toPanels(x, rows, m, k, panels) {
    checkArray('panels', panels, Float32Array, k * padBatch(m));
    if (rows === null) checkArray('x', x, Float32Array, m * k);
    else checkArray('rows', rows, Int32Array, m);
    eachPanel(m, (start, width, first) => {
      const count = Math.min(width, m - first);
      const base = start * k;
      for (let lane = 0; lane < count; lane++) {
        const row = rows === null ? first + lane : rows[first + lane];
        if (row < 0 || (row + 1) * k > x.length) throw rangeError(`rows[${first + lane}]`, `a row of x`, row);
        for (let f = 0; f < k; f++) panels[base + f * width + lane] = x[row * k + f];
      }
      for (let f = 0; f < k; f++) panels.fill(0, base + f * width + count, base + (f + 1) * width);
    });
  },

  fromPanels(panels, m, n, out) {
    checkArray('panels', panels, Float32Array, n * padBatch(m));
    checkArray('out', out, Float32Array, m * n);
    eachPanel(m, (start, width, first) => {
      const count = Math.min(width, m - first);
      for (let lane = 0; lane < count; lane++)
        for (let f = 0; f < n; f++) out[(first + lane) * n + f] = panels[start * n + f * width + lane];
    });
  },

  activate(activation, z, y) {
    checkArray('y', y, Float32Array, z.length);
    activate(activation, z, y);
  },

  activationGradient(activation, saved, dy) {
    checkArray('dy', dy, Float32Array, saved.length);
    const derivative = activationDerivatives[activation];
    for (let i = 0; i < dy.length; i++) dy[i] *= derivative(saved[i]);
  },

  adamStep(weight, gradient, first, second, how: AdamStep) {
    for (const [name, array] of Object.entries({ gradient, first, second }))
      checkArray(name, array, Float32Array, weight.length);
    const { learningRate, beta1, beta2, epsilon, weightDecay, decoupled, step } = how;
    const rate = learningRate / (1 - beta1 ** step);
    const scale = 1 / Math.sqrt(1 - beta2 ** step);
    for (let i = 0; i < weight.length; i++) {
      let w = weight[i];
      let g = gradient[i];
      if (decoupled) w -= learningRate * weightDecay * w;
      else g += weightDecay * w;
      first[i] = beta1 * first[i] + (1 - beta1) * g;
      second[i] = beta2 * second[i] + (1 - beta2) * g * g;
      weight[i] = w - (rate * first[i]) / (Math.sqrt(second[i]) * scale + epsilon);
    }
  },

  sgdStep(weight, gradient, velocity, how: SgdStep) {
    checkArray('gradient', gradient, Float32Array, weight.length);
    checkArray('velocity', velocity, Float32Array, weight.length);
    const { learningRate, momentum, weightDecay } = how;
    for (let i = 0; i < weight.length; i++) {
      velocity[i] = momentum * velocity[i] + gradient[i] + weightDecay * weight[i];
      weight[i] -= learningRate * velocity[i];
    }
  },

  scoreBlocks(weight, shape, blockShape, criterion, out) {
    const grid = new BlockGrid(shape, blockShape);
    const [n, k] = shape;
    const [r, c] = blockShape;
    checkArray('weight', weight, Float32Array, n * k);
    checkArray('out', out, Float32Array, grid.blockCount);
    const { add, end } = blockNorms[criterion];
    const sums = new Float64Array(grid.gridCols);
    for (let row = 0; row < grid.gridRows; row++) {
      sums.fill(0);
      for (let y = row * r; y < Math.min((row + 1) * r, n); y++)
        for (let col = 0; col < grid.gridCols; col++) {
          let sum = sums[col];
          const last = y * k + Math.min((col + 1) * c, k);
          for (let i = y * k + col * c; i < last; i++) sum = add(sum, weight[i]);
          sums[col] = sum;
        }
      for (let col = 0; col < grid.gridCols; col++) {
        const index = row * grid.gridCols + col;
        out[index] = end(sums[col], grid.elementsOf(index));
      }
    }
  },

  csrForward(crowIndices, colIndices, values, n, k, x, m, out) {
    checkArray('crowIndices', crowIndices, Int32Array, n + 1);
    checkArray('values', values, Float32Array, colIndices.length);
    checkIndices('crowIndices', 'colIndices', crowIndices, colIndices, k);
    checkArray('x', x, Float32Array, m * k);
    checkArray('out', out, Float32Array, m * n);
    checkApart(x, out);
    for (let sample = 0; sample < m; sample++)
      for (let row = 0; row < n; row++) {
        let sum = 0;
        for (let i = crowIndices[row]; i < crowIndices[row + 1]; i++)
          sum += values[i] * x[sample * k + colIndices[i]];
        out[sample * n + row] = sum;
      }
  },
};
