import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import { allocateRows, batchRows } from '../batch.ts';
import { checkArray, checkInteger, checkOptions, isObject } from '../check.ts';
import { BlocksparseError, describe, typeError } from '../errors.ts';
import { kernels } from '../kernels/choose.ts';
import { ACTIVATIONS, type Activation, type LayerInfo, type PackedChain } from '../kernels/kernels.ts';
import type { LinearWeights } from '../nn/linear.ts';
import { checkNetwork, Network } from '../nn/network.ts';
import { checkLayers, type LayerSpec, layerName, planOf, type Stage } from '../nn/spec.ts';
import { BsrMatrix, checkIntact, type StorageBytes, storageBytes } from '../sparse/bsr.ts';
import { MAX_BLOCK_SIDE, MAX_DIMENSION, type Pair } from '../sparse/grid.ts';
import { checkPath, writeFileAtomic } from './atomic.ts';
import { encodeSafetensors, invalidFile, type OpenSafetensors, withSafetensorsFile } from './safetensors.ts';
import { isDense, nameLayers, readWeights, tensorsOf } from './state-dict.ts';

/** What this version writes; it reads no other. */
const FORMAT_VERSION = 1;

const KEYS = {
  format: 'blocksparse.format',
  network: 'blocksparse.network',
  layers: 'blocksparse.layers',
  info: 'blocksparse.info',
} as const;

/** What the tensors of one linear layer mean: `blocksparse.layers` is a list of these, in order. */
const LayerEntries = z.array(
  z.object({
    name: z.string(),
    shape: z.tuple([z.int().min(1).max(MAX_DIMENSION), z.int().min(1).max(MAX_DIMENSION)]),
    blockShape: z.tuple([z.int().min(1).max(MAX_BLOCK_SIDE), z.int().min(1).max(MAX_BLOCK_SIDE)]),
    activation: z.enum(ACTIVATIONS),
  }),
);

/** One linear layer of a model. */
export interface ModelLayer extends LinearWeights {
  /** Prefix of its tensors' names in a file. */
  readonly name: string;
  /** What directly follows it. */
  readonly activation: Activation;
}

/** How a model is to be packed for its runs; nothing of it goes into a file. */
export interface ServeOptions {
  /**
   * The batch that matters most, as of a layer (`BsrLinearOptions`). Without a hint a layer that has lost too few
   * blocks to be ahead at every batch holds all of them; with one it goes by that batch. Without native code it has no
   * effect.
   */
  readonly batchHint?: number;
}

export interface LoadOptions extends ServeOptions {
  /** The network that a plain `state_dict` belongs to. A model file has its own; given too, it must be the same. */
  readonly layers?: readonly LayerSpec[];
}

/** How a model serves a batch. */
export interface ModelInfo {
  /** Of all layers together. */
  readonly packedBytes: number;
  /** Each linear layer, in order, as it goes here: by another kernel, it may be, than alone. */
  readonly layers: readonly (LayerInfo & { readonly name: string })[];
}

let isModel: (value: unknown) => boolean;

/**
 * A trained network, dense or block-sparse, for inference and as a file. Its weights are its own copies; they
 * are packed for the kernels at the first run, and changing them after that has no effect on results.
 */
export class Model {
  readonly layers: readonly LayerSpec[];
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** What else the file should keep, such as the input's normalisation: any JSON object. */
  readonly info: Record<string, unknown>;
  /** As given when it was loaded or made: no part of the file. */
  readonly batchHint: number | undefined;
  /** Undefined once released. */
  #matrices: readonly ModelLayer[] | undefined;
  #chain: PackedChain | undefined;
  static {
    isModel = (value) => isObject(value) && #chain in value;
  }

  private constructor(
    layers: readonly LayerSpec[],
    weights: readonly LinearWeights[],
    info: Record<string, unknown>,
    batchHint: number | undefined,
  ) {
    checkLayers('layers', layers);
    this.layers = Object.freeze(layers.map((layer) => Object.freeze({ ...layer })));
    const { stages } = planOf(this.layers);
    checkWeights(weights, stages);
    this.inFeatures = stages[0].spec.inFeatures;
    this.outFeatures = stages[stages.length - 1].spec.outFeatures;
    this.#matrices = Object.freeze(
      stages.map(({ name, activation }, i) => {
        const { matrix, bias } = weights[i];
        return Object.freeze({ name, activation, matrix, bias });
      }),
    );
    this.info = info;
    this.batchHint = batchHint;
  }

  /**
   * Reads a model file, or with `layers` a plain safetensors `state_dict` of Linear layers: NAME.weight and
   * NAME.bias in F32, F16 or BF16, found by the layer's `name`, by its index in the list, or by order. Rejects
   * with TypeError or RangeError for wrong arguments, BlocksparseError INVALID_FILE for a file that is damaged
   * or holds something else, and with the system's error (ENOENT, EACCES) for one that cannot be read.
   */
  static async load(path: string | URL, options: LoadOptions = {}): Promise<Model> {
    const file = checkPath('path', path);
    const batchHint = hintOf(options);
    const given = options.layers;
    if (given !== undefined) checkLayers('options.layers', given);
    return withSafetensorsFile(file, async (content) => {
      const { layers, weights, info } = content.metadata.has(KEYS.format)
        ? await decodeModel(content, given)
        : await decodeStateDict(content, given);
      return new Model(layers, weights, info, batchHint);
    });
  }

  /**
   * A copy of the network as it is now. `info` must be an object that JSON can hold. Throws TypeError, or RangeError
   * for the options.
   */
  static fromNetwork(
    network: Network,
    info: Record<string, unknown> = {},
    options: ServeOptions = {},
  ): Model {
    checkNetwork('network', network);
    const batchHint = hintOf(options);
    return new Model(network.layers, copyWeights(network.linears), cloneInfo(info), batchHint);
  }

  /**
   * Writes the model file, atomically: until it is complete, the old file of that name stays. Rejects with
   * BlocksparseError WRITE_FAILED (full disk, unwritable folder), or RangeError when weights were damaged.
   */
  async save(path: string | URL): Promise<void> {
    checkReceiver(this);
    const file = checkPath('path', path);
    // Checked copies: what is changed while the disk works, or was changed wrongly before, never gets there.
    const weights = copyWeights(this.matrices);
    const tensors = new Map(this.matrices.flatMap(({ name }, i) => tensorsOf(name, weights[i])));
    const entries = this.matrices.map(({ name, matrix, activation }) => {
      return { name, shape: matrix.shape, blockShape: matrix.blockShape, activation };
    });
    const metadata = new Map([
      [KEYS.format, JSON.stringify(FORMAT_VERSION)],
      [KEYS.network, JSON.stringify(this.layers)],
      [KEYS.layers, JSON.stringify(entries)],
      [KEYS.info, JSON.stringify(cloneInfo(this.info))],
    ]);
    await writeFileAtomic(file, encodeSafetensors(tensors, metadata));
  }

  /**
   * Outputs [M, outFeatures] for row-major `x` [M, inFeatures], any M from 0, computed off the event loop (without the
   * native addon on it, before this returns). `x` is copied before this returns. Rejects with TypeError or RangeError
   * when x is no Float32Array of whole rows.
   */
  async run(x: Float32Array): Promise<Float32Array> {
    checkReceiver(this);
    const m = batchRows(x, this.inFeatures, this.outFeatures);
    return m === 0 ? new Float32Array(0) : this.#packed().forwardAsync(x, m);
  }

  /** The same result as `run`, computed before it returns. */
  runSync(x: Float32Array): Float32Array {
    checkReceiver(this);
    const m = batchRows(x, this.inFeatures, this.outFeatures);
    const out = allocateRows(m, this.outFeatures);
    if (m > 0) this.#packed().forward(x, m, out);
    return out;
  }

  /**
   * What serves a batch of this many rows, layer by layer, why, and how many bytes the packed weights take. Packs them,
   * if no run did.
   */
  explain(batch: number): ModelInfo {
    checkReceiver(this);
    checkInteger('batch', batch, 1, MAX_DIMENSION);
    const { stages } = planOf(this.layers);
    const layers = this.#packed()
      .info(batch)
      .map((info, i) => ({ name: stages[i].name, ...info }));
    return { packedBytes: layers.reduce((sum, layer) => sum + layer.packedBytes, 0), layers };
  }

  /** A trainable copy. */
  toNetwork(): Network {
    checkReceiver(this);
    return Network.fromParts(this.layers, this.matrices);
  }

  /** The linear layers, in order. Throws BlocksparseError INVALID_STATE after `releaseWeights`. */
  get matrices(): readonly ModelLayer[] {
    checkReceiver(this);
    if (this.#matrices === undefined)
      throw new BlocksparseError(
        'INVALID_STATE',
        'the weights of this model were released; load it again for what needs them',
      );
    return this.#matrices;
  }

  /**
   * Packs the weights, if no run did, and lets go of the copies in JavaScript: from here on the model holds them once.
   * `run`, `runSync` and `explain` go on as before; what needs the weights (`matrices`, `save`, `toNetwork`, `density`,
   * `bytes`) throws BlocksparseError INVALID_STATE. Arrays you took from `matrices` stay yours. Between packing and
   * letting go there are two copies: about 2.1 times the file's size in memory, and then 1.05. Layers that keep so many
   * blocks that they hold all of them (`explain`) take more.
   */
  releaseWeights(): void {
    checkReceiver(this);
    this.#packed();
    this.#matrices = undefined;
  }

  /** Weights inside kept blocks / all weights, over all layers; biases do not count. */
  get density(): number {
    checkReceiver(this);
    let kept = 0;
    let all = 0;
    for (const [i, { matrix }] of this.matrices.entries()) {
      checkIntact(`matrices[${i}].matrix`, matrix);
      kept += keptElements(matrix);
      all += matrix.shape[0] * matrix.shape[1];
    }
    return kept / all;
  }

  /** Bytes of the weights as a file stores them, and as dense ones; biases and the header do not count. */
  get bytes(): StorageBytes {
    checkReceiver(this);
    let values = 0;
    let indices = 0;
    let elements = 0;
    for (const { matrix } of this.matrices) {
      const all = matrix.shape[0] * matrix.shape[1];
      elements += all;
      values += isDense(matrix) ? 4 * all : matrix.bytes.values;
      indices += isDense(matrix) ? 0 : matrix.bytes.indices;
    }
    return storageBytes(values, indices, [1, elements]);
  }

  #packed(): PackedChain {
    if (!this.#chain) {
      const { packLayer, packChain, threads } = kernels();
      this.#chain = packChain(
        this.matrices.map(({ matrix, bias, activation }) =>
          packLayer(matrix, bias, activation, threads, this.batchHint),
        ),
      );
    }
    return this.#chain;
  }
}

/** The batchHint of checked options, read once. */
function hintOf(options: ServeOptions): number | undefined {
  checkOptions('options', options);
  const { batchHint } = options;
  if (batchHint !== undefined) checkInteger('options.batchHint', batchHint, 1, MAX_DIMENSION);
  return batchHint;
}

/** Elements that exist in the kept blocks. Not by a mask, whose size a small file could make huge. */
function keptElements({ grid, crowIndices, colIndices }: BsrMatrix): number {
  let kept = 0;
  for (let row = 0; row < grid.gridRows; row++)
    for (let i = crowIndices[row]; i < crowIndices[row + 1]; i++)
      kept += grid.elementsOf(row * grid.gridCols + colIndices[i]);
  return kept;
}

function checkReceiver(receiver: unknown): void {
  if (!isModel(receiver)) throw typeError('this', 'a Model', receiver);
}

function checkWeights(weights: unknown, stages: readonly Stage[]): void {
  if (!Array.isArray(weights) || weights.length !== stages.length)
    throw typeError('weights', `an array of ${stages.length}, one a linear layer`, weights);
  weights.forEach((given: unknown, i) => {
    if (!isObject(given)) throw typeError(`weights[${i}]`, 'an object with matrix and bias', given);
    checkIntact(`weights[${i}].matrix`, (given as Partial<LinearWeights>).matrix);
  });
}

function copyWeights(weights: readonly LinearWeights[]): LinearWeights[] {
  return weights.map(({ matrix, bias }, i) => {
    if (bias) checkArray(`matrices[${i}].bias`, bias, Float32Array, matrix.shape[0]);
    return { matrix: BsrMatrix.fromArrays(matrix), bias: bias?.slice() ?? null };
  });
}

function cloneInfo(info: unknown): Record<string, unknown> {
  if (typeof info !== 'object' || info === null || Array.isArray(info))
    throw typeError('info', 'an object', info);
  try {
    return JSON.parse(JSON.stringify(info));
  } catch (cause) {
    throw new TypeError(`info must be an object that JSON can hold: ${(cause as Error).message}`, { cause });
  }
}

interface Decoded {
  readonly layers: readonly LayerSpec[];
  readonly weights: readonly LinearWeights[];
  readonly info: Record<string, unknown>;
}

async function decodeModel(
  { metadata, tensors }: OpenSafetensors,
  expected: readonly LayerSpec[] | undefined,
): Promise<Decoded> {
  const version = parseJson(metadata, KEYS.format);
  if (version !== FORMAT_VERSION)
    throw invalidFile(
      `is of format version ${metadata.get(KEYS.format)?.slice(0, 20)}; this reads ${FORMAT_VERSION}`,
    );
  const layers = parseNetwork(parseJson(metadata, KEYS.network));
  if (expected && !isDeepStrictEqual(canonical(layers), canonical(expected)))
    throw invalidFile('holds another network than options.layers describes');
  const { stages } = planOf(layers);
  const found = LayerEntries.safeParse(parseJson(metadata, KEYS.layers));
  if (!found.success) {
    const { path, message } = found.error.issues[0];
    throw invalidFile(`${KEYS.layers}: ${message} at ${path.join('.') || 'the top'}`);
  }
  const entries = found.data;
  if (entries.length !== stages.length)
    throw invalidFile(`${KEYS.layers} has ${entries.length} entries for ${stages.length} linear layers`);
  stages.forEach(({ name, activation, spec }, i) => {
    const shape: Pair = [spec.outFeatures, spec.inFeatures];
    const { blockShape: _, ...entry } = entries[i];
    if (!isDeepStrictEqual(entry, { name, shape, activation }))
      throw invalidFile(`${KEYS.layers}[${i}] does not fit layer ${describe(name)} of ${KEYS.network}`);
  });
  const info = metadata.has(KEYS.info) ? parseJson(metadata, KEYS.info) : {};
  if (typeof info !== 'object' || info === null || Array.isArray(info))
    throw invalidFile(`${KEYS.info} is not an object`);
  const blockShapes = entries.map(({ blockShape }) => blockShape);
  return {
    layers,
    weights: await readWeights(tensors, stages, blockShapes),
    info: info as Record<string, unknown>,
  };
}

async function decodeStateDict(
  { tensors }: OpenSafetensors,
  given: readonly LayerSpec[] | undefined,
): Promise<Decoded> {
  if (!given)
    throw invalidFile(
      `does not describe a network (${KEYS.format}); options.layers can say what its tensors are`,
    );
  const layers = nameLayers(tensors, given);
  return { layers, weights: await readWeights(tensors, planOf(layers).stages), info: {} };
}

function parseJson(metadata: ReadonlyMap<string, string>, key: string): unknown {
  const text = metadata.get(key);
  if (text === undefined) throw invalidFile(`has no ${key} in its metadata`);
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new BlocksparseError('INVALID_FILE', `${key} is not JSON: ${(cause as Error).message}`, { cause });
  }
}

function parseNetwork(value: unknown): readonly LayerSpec[] {
  try {
    checkLayers(KEYS.network, value);
    return value.map(knownFields);
  } catch (cause) {
    throw new BlocksparseError('INVALID_FILE', (cause as Error).message, { cause });
  }
}

/** A checked layer without whatever else the file says about it. */
function knownFields(layer: LayerSpec): LayerSpec {
  if (layer.type === 'dropout') return { type: layer.type, p: layer.p };
  if (layer.type !== 'linear') return { type: layer.type };
  const { type, name, inFeatures, outFeatures, bias } = layer;
  return {
    type,
    ...(name === undefined ? {} : { name }),
    inFeatures,
    outFeatures,
    ...(bias === undefined ? {} : { bias }),
  };
}

/** The layers with their defaults filled in, for comparison. */
function canonical(layers: readonly LayerSpec[]): unknown {
  return layers.map(knownFields).map((layer, i) => {
    if (layer.type !== 'linear') return layer;
    return { ...layer, name: layerName(layer, i), bias: layer.bias !== false };
  });
}
