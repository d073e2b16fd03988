import { BlocksparseError } from '../errors.ts';
import { kernels } from '../kernels/choose.ts';
import { type Activation, type Kernels, padBatch } from '../kernels/kernels.ts';
import type { BsrMatrix } from '../sparse/bsr.ts';
import { checkStructure, type Linear } from './linear.ts';
import type { Network } from './network.ts';
import type { Random } from './random.ts';

/** Receives one layer's gradients, in buffers that the next layer's overwrite. */
export type OnGradients = (layer: number, dValues: Float32Array, dBias: Float32Array | null) => void;

/** One stage's buffers: all in panels of outFeatures. */
interface Buffers {
  /** Before the activation, where its gradient needs that; else empty. */
  readonly z: Float32Array;
  readonly y: Float32Array;
  /** Dropout's factors and its output; empty without dropout. */
  readonly mask: Float32Array;
  readonly dropped: Float32Array;
  /** Gradient of the loss by z, 0 in padding lanes; empty outside training. */
  readonly dy: Float32Array;
}

/** The gradients of these are functions of z; those of the others of y. */
function needsZ(activation: Activation): boolean {
  return activation === 'gelu' || activation === 'silu';
}

/**
 * Forward and backward through a network, on buffers made once for batches of up to `capacity` rows. Pruned
 * blocks appear in no product here: they cost nothing.
 */
export class Pass {
  readonly #kernels: Kernels;
  readonly #linears: readonly Linear[];
  readonly #matrices: readonly BsrMatrix[];
  readonly #dropouts: readonly number[];
  readonly #inputDropout: number;
  readonly #random: Random | null;
  /** Whole buffers, and views of them for batches of #m rows. */
  readonly #input: Float32Array;
  readonly #inputMask: Float32Array;
  readonly #buffers: readonly Buffers[];
  readonly #rows: Float32Array;
  readonly #dValues: readonly Float32Array[];
  readonly #dBiases: readonly (Float32Array | null)[];
  #m = -1;
  #x: Float32Array;
  #xMask: Float32Array;
  #views: readonly Buffers[] = [];
  #out: Float32Array;

  /**
   * With a generator for dropout it is a training pass; with null it only predicts, or, with `training`, gives
   * gradients without dropout.
   */
  constructor(network: Network, capacity: number, random: Random | null, training = random !== null) {
    network.linears.forEach(checkStructure);
    const k = kernels();
    const padded = padBatch(capacity);
    const dropping = random !== null;
    const buffer = (wanted: boolean, features: number) => k.allocate(wanted ? features * padded : 0);
    this.#kernels = k;
    this.#random = random;
    this.#linears = network.linears;
    this.#matrices = network.linears.map((linear) => linear.matrix);
    this.#dropouts = network.plan.stages.map((stage) => (dropping ? stage.dropout : 0));
    this.#inputDropout = dropping ? network.plan.inputDropout : 0;
    this.#input = buffer(true, network.inFeatures);
    this.#inputMask = buffer(this.#inputDropout > 0, network.inFeatures);
    this.#buffers = network.linears.map(({ outFeatures, activation }, i) => ({
      z: buffer(training && needsZ(activation), outFeatures),
      y: buffer(true, outFeatures),
      mask: buffer(this.#dropouts[i] > 0, outFeatures),
      dropped: buffer(this.#dropouts[i] > 0, outFeatures),
      dy: buffer(training, outFeatures),
    }));
    this.#rows = new Float32Array(capacity * network.outFeatures);
    // One buffer for the gradients of all layers: it stays in the cache while they are applied one by one.
    const largest = Math.max(...this.#matrices.map((matrix) => matrix.values.length));
    const widest = Math.max(...this.#linears.map((linear) => linear.outFeatures));
    const dValues = k.allocate(training ? largest : 0);
    const dBias = k.allocate(training ? widest : 0);
    this.#dValues = this.#matrices.map((matrix) => dValues.subarray(0, matrix.values.length));
    this.#dBiases = this.#linears.map(({ bias }) => (bias ? dBias.subarray(0, bias.length) : null));
    this.#x = this.#input;
    this.#xMask = this.#inputMask;
    this.#out = this.#rows;
  }

  /**
   * The outputs, row-major [m, outFeatures], for rows `rows` of row-major `x` (without: rows 0 to m-1). The
   * result is this pass' own buffer, valid until the next call.
   */
  forward(x: Float32Array, rows: Int32Array | null, m: number): Float32Array {
    const k = this.#kernels;
    this.#resize(m);
    k.toPanels(x, rows, m, this.#linears[0].inFeatures, this.#x);
    if (this.#inputDropout > 0) {
      this.#random!.dropoutMask(this.#xMask, this.#inputDropout);
      multiply(this.#x, this.#xMask, this.#x);
    }
    let input = this.#x;
    for (let i = 0; i < this.#linears.length; i++) {
      const { pattern, bias, activation } = this.#linears[i];
      const { z, y, mask, dropped } = this.#views[i];
      const { values } = this.#matrices[i];
      if (z.length > 0) {
        pattern.forward(values, bias, 'none', input, m, z);
        k.activate(activation, z, y);
      } else pattern.forward(values, bias, activation, input, m, y);
      input = y;
      if (mask.length > 0) {
        this.#random!.dropoutMask(mask, this.#dropouts[i]);
        multiply(y, mask, dropped);
        input = dropped;
      }
    }
    k.fromPanels(input, m, this.#linears[this.#linears.length - 1].outFeatures, this.#out);
    return this.#out;
  }

  /**
   * The gradients for the batch of the last `forward`, given that of the loss by its outputs [m, outFeatures].
   * Layers come from last to first; `onGradients` may change a layer's parameters at once, since nothing reads
   * them any more.
   */
  backward(dOut: Float32Array, onGradients: OnGradients): void {
    const k = this.#kernels;
    const m = this.#m;
    const last = this.#linears.length - 1;
    k.toPanels(dOut, null, m, this.#linears[last].outFeatures, this.#views[last].dy);
    for (let i = last; i >= 0; i--) {
      const { pattern, activation } = this.#linears[i];
      const { z, y, mask, dy } = this.#views[i];
      if (mask.length > 0) multiply(dy, mask, dy);
      if (activation !== 'none') k.activationGradient(activation, z.length > 0 ? z : y, dy);
      pattern.weightGradient(dy, this.input(i), m, this.#dValues[i], this.#dBiases[i]);
      if (i > 0) pattern.inputGradient(this.#matrices[i].values, dy, m, this.#views[i - 1].dy);
      onGradients(i, this.#dValues[i], this.#dBiases[i]);
    }
  }

  /** What linear layer `layer` received in the last `forward`: this pass' own panels, valid until the next. */
  input(layer: number): Float32Array {
    if (layer === 0) return this.#x;
    const { dropped, y } = this.#views[layer - 1];
    return dropped.length > 0 ? dropped : y;
  }

  /** Cuts views for batches of m rows; a run of batches of one size cuts them once. */
  #resize(m: number): void {
    for (let i = 0; i < this.#linears.length; i++)
      if (this.#linears[i].matrix !== this.#matrices[i])
        throw new BlocksparseError(
          'INVALID_STATE',
          `the matrix of layer ${this.#linears[i].name} was replaced during a pass over the network`,
        );
    if (m === this.#m) return;
    const padded = padBatch(m);
    const cut = (buffer: Float32Array, features: number) =>
      buffer.length === 0 ? buffer : buffer.subarray(0, features * padded);
    this.#m = m;
    this.#x = cut(this.#input, this.#linears[0].inFeatures);
    this.#xMask = cut(this.#inputMask, this.#linears[0].inFeatures);
    this.#views = this.#buffers.map(({ z, y, mask, dropped, dy }, i) => {
      const { outFeatures } = this.#linears[i];
      return {
        z: cut(z, outFeatures),
        y: cut(y, outFeatures),
        mask: cut(mask, outFeatures),
        dropped: cut(dropped, outFeatures),
        dy: cut(dy, outFeatures),
      };
    });
    this.#out = this.#rows.subarray(0, m * this.#linears[this.#linears.length - 1].outFeatures);
  }
}

function multiply(a: Float32Array, b: Float32Array, out: Float32Array): void {
  for (let i = 0; i < out.length; i++) out[i] = a[i] * b[i];
}
