import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import type {
  Activation,
  AdamStep,
  Criterion,
  Kernels,
  PackedChain,
  PackedLayer,
  Pattern,
} from './kernels.ts';

/** What the addon exports for one instruction set: the operations, with their arguments flattened. */
interface NativeOperations {
  allocate(length: number): Float32Array;
  packLayer(
    n: number,
    k: number,
    r: number,
    c: number,
    crow: Int32Array,
    col: Int32Array,
    values: Float32Array,
    bias: Float32Array | null,
    activation: Activation,
    threads: number,
    batchHint: number,
  ): PackedLayer;
  packChain(layers: readonly PackedLayer[]): PackedChain;
  pattern(
    n: number,
    k: number,
    r: number,
    c: number,
    crow: Int32Array,
    col: Int32Array,
    threads: number,
  ): Pattern;
  toPanels: Kernels['toPanels'];
  fromPanels: Kernels['fromPanels'];
  activate: Kernels['activate'];
  activationGradient: Kernels['activationGradient'];
  adam(
    weight: Float32Array,
    gradient: Float32Array,
    first: Float32Array,
    second: Float32Array,
    rate: number,
    beta1: number,
    beta2: number,
    epsilon: number,
    secondScale: number,
    l2: number,
    shrink: number,
  ): void;
  sgd(
    weight: Float32Array,
    gradient: Float32Array,
    velocity: Float32Array,
    rate: number,
    momentum: number,
    weightDecay: number,
  ): void;
  scoreBlocks(
    weight: Float32Array,
    rows: number,
    cols: number,
    r: number,
    c: number,
    criterion: Criterion,
    out: Float32Array,
  ): void;
  csrForward: Kernels['csrForward'];
}

interface Addon {
  /** Instruction sets of this machine, best first; 'portable' and 'scalar' (the reference) are always there. */
  readonly isas: readonly string[];
  readonly threads: number;
  kernels(isa: string): NativeOperations;
}

/** The package's root: where node-gyp-build looks for prebuilds/ and build/. */
export const packageRoot = fileURLToPath(new URL('../../', import.meta.url));

/** Loads the addon. Throws what the loader throws: the caller decides what that means. */
export function loadAddon(): Addon {
  const require = createRequire(import.meta.url);
  const path: string = require('node-gyp-build').path(packageRoot);
  checkWhole(path);
  return require(path) as Addon;
}

/**
 * Throws for an ELF file that was cut off, which the system's loader maps and then dies of (SIGBUS). Its last part is
 * the table of sections, and the header says where that is: e_shoff at 40, e_shentsize at 58, e_shnum at 60.
 */
function checkWhole(path: string): void {
  const file = openSync(path, 'r');
  try {
    const header = Buffer.alloc(64);
    // ELF, 64 bits, little-endian; others have these numbers elsewhere.
    if (readSync(file, header, 0, 64, 0) < 64 || header.readUIntBE(0, 6) !== 0x7f454c460201) return;
    const end = Number(header.readBigUInt64LE(40)) + header.readUInt16LE(58) * header.readUInt16LE(60);
    const { size } = fstatSync(file);
    if (size < end) throw new Error(`${path} was cut off: it has ${size} of ${end} bytes`);
  } finally {
    closeSync(file);
  }
}

/** The addon's operations on one instruction set, as `Kernels`. */
export function nativeKernels(addon: Addon, isa: string, threads: number): Kernels {
  const native = addon.kernels(isa);
  return {
    backend: 'native',
    isa,
    threads,
    allocate: native.allocate,
    packLayer: (
      { shape, blockShape, crowIndices, colIndices, values },
      bias,
      activation,
      layerThreads,
      batchHint = 0,
    ) =>
      native.packLayer(
        shape[0],
        shape[1],
        blockShape[0],
        blockShape[1],
        crowIndices,
        colIndices,
        values,
        bias,
        activation,
        layerThreads,
        batchHint,
      ),
    packChain: native.packChain,
    pattern: ({ shape, blockShape, crowIndices, colIndices }) =>
      native.pattern(shape[0], shape[1], blockShape[0], blockShape[1], crowIndices, colIndices, threads),
    toPanels: native.toPanels,
    fromPanels: native.fromPanels,
    activate: native.activate,
    activationGradient: native.activationGradient,
    adamStep: (weight, gradient, first, second, how: AdamStep) =>
      native.adam(
        weight,
        gradient,
        first,
        second,
        how.learningRate / (1 - how.beta1 ** how.step),
        how.beta1,
        how.beta2,
        how.epsilon,
        1 / Math.sqrt(1 - how.beta2 ** how.step),
        how.decoupled ? 0 : how.weightDecay,
        how.decoupled ? 1 - how.learningRate * how.weightDecay : 1,
      ),
    sgdStep: (weight, gradient, velocity, how) =>
      native.sgd(weight, gradient, velocity, how.learningRate, how.momentum, how.weightDecay),
    scoreBlocks: (weight, shape, blockShape, criterion, out) =>
      native.scoreBlocks(weight, shape[0], shape[1], blockShape[0], blockShape[1], criterion, out),
    csrForward: native.csrForward,
  };
}
