import { checkInteger, checkNumber } from '../check.ts';
import { rangeError, typeError } from '../errors.ts';
import { ACTIVATIONS, type Activation } from '../kernels/kernels.ts';
import { MAX_DIMENSION, MAX_ELEMENTS } from '../sparse/grid.ts';

/** `type: 'linear'`: y = x . W^T + b with W of shape [outFeatures, inFeatures]. */
export interface LinearSpec {
  readonly type: 'linear';
  /** Prefix of the parameters' names in a file; by default the index in the list ('0', '2', ...), as in PyTorch's Sequential. */
  readonly name?: string;
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** Default true. */
  readonly bias?: boolean;
}

/** Element by element; directly follows a linear layer. GELU is the exact one (erf), PyTorch's default. */
export interface ActivationSpec {
  readonly type: Exclude<Activation, 'none'>;
}

/** In training each element becomes 0 with probability `p`, at least 0 and below 1; the others are scaled by 1 / (1 - p). */
export interface DropoutSpec {
  readonly type: 'dropout';
  readonly p: number;
}

/** One entry of a network's list of layers. */
export type LayerSpec = LinearSpec | ActivationSpec | DropoutSpec;

/** One linear layer with what follows it up to the next one. */
export interface Stage {
  readonly spec: LinearSpec;
  readonly name: string;
  readonly activation: Activation;
  /** Dropout after the activation; 0 for none. */
  readonly dropout: number;
}

/** A checked list of layers as the passes run it. */
export interface Plan {
  /** Dropout on the network's input. */
  readonly inputDropout: number;
  readonly stages: readonly Stage[];
}

const TYPES = ['linear', ...ACTIVATIONS.filter((a) => a !== 'none'), 'dropout'] as const;

/**
 * A network's layers: at least one linear layer, each taking as many features as the one before gives, names
 * unique, activations only directly after a linear layer. Throws TypeError or RangeError naming the entry.
 */
export function checkLayers(name: string, value: unknown): asserts value is LayerSpec[] {
  if (!Array.isArray(value)) throw typeError(name, 'an array of layers', value);
  const names = new Set<string>();
  let features = -1;
  for (let i = 0; i < value.length; i++) {
    const at = `${name}[${i}]`;
    const layer: unknown = value[i];
    if (typeof layer !== 'object' || layer === null) throw typeError(at, 'an object with a type', layer);
    const type: unknown = (layer as { type?: unknown }).type;
    if (typeof type !== 'string') throw typeError(`${at}.type`, `one of ${TYPES.join(', ')}`, type);
    if (!(TYPES as readonly string[]).includes(type))
      throw rangeError(`${at}.type`, `one of ${TYPES.join(', ')}`, type);
    if (type === 'linear') features = checkLinear(at, layer as LinearSpec, i, features, names);
    else if (type === 'dropout') checkDropout(at, layer as DropoutSpec);
    else if (i === 0 || (value[i - 1] as LayerSpec).type !== 'linear')
      throw rangeError(
        `${at}.type`,
        'linear or dropout, since no linear layer comes directly before it',
        type,
      );
  }
  if (features < 0) throw rangeError(name, 'a list with at least one linear layer', value);
}

function checkLinear(at: string, layer: LinearSpec, i: number, features: number, names: Set<string>): number {
  checkInteger(`${at}.inFeatures`, layer.inFeatures, 1, MAX_DIMENSION);
  checkInteger(`${at}.outFeatures`, layer.outFeatures, 1, MAX_DIMENSION);
  if (features >= 0 && layer.inFeatures !== features)
    throw rangeError(`${at}.inFeatures`, `${features}, what the layer before gives`, layer.inFeatures);
  if (layer.inFeatures * layer.outFeatures > MAX_ELEMENTS)
    throw rangeError(
      `${at}.outFeatures`,
      `small enough for at most ${MAX_ELEMENTS} weights`,
      layer.outFeatures,
    );
  if (layer.bias !== undefined && typeof layer.bias !== 'boolean')
    throw typeError(`${at}.bias`, 'a boolean', layer.bias);
  if (layer.name !== undefined && typeof layer.name !== 'string')
    throw typeError(`${at}.name`, 'a string', layer.name);
  const name = layerName(layer, i);
  if (name === '') throw rangeError(`${at}.name`, 'a string that is not empty', name);
  if (names.has(name)) throw rangeError(`${at}.name`, 'a name no other layer has', name);
  names.add(name);
  return layer.outFeatures;
}

function checkDropout(at: string, layer: DropoutSpec): void {
  checkNumber(`${at}.p`, layer.p, 0, 1);
  if (layer.p === 1) throw rangeError(`${at}.p`, 'less than 1', layer.p);
}

/** The name of the linear layer at `index` of the list. */
export function layerName(layer: LinearSpec, index: number): string {
  return layer.name ?? String(index);
}

/** Splits checked layers into stages. Dropouts in a row become the one with the same survival probability. */
export function planOf(layers: readonly LayerSpec[]): Plan {
  let inputDropout = 0;
  const stages: { spec: LinearSpec; name: string; activation: Activation; dropout: number }[] = [];
  layers.forEach((layer, i) => {
    const last = stages[stages.length - 1];
    if (layer.type === 'linear')
      stages.push({ spec: layer, name: layerName(layer, i), activation: 'none', dropout: 0 });
    else if (layer.type !== 'dropout') last!.activation = layer.type;
    else if (last) last.dropout = 1 - (1 - last.dropout) * (1 - layer.p);
    else inputDropout = 1 - (1 - inputDropout) * (1 - layer.p);
  });
  return { inputDropout, stages };
}
