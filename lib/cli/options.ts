import { type Command, InvalidArgumentError, Option } from 'commander';
import { checkInteger } from '../check.ts';
import { rangeError } from '../errors.ts';
import { ACTIVATIONS, type Activation } from '../kernels/kernels.ts';
import { type Dataset, split } from '../nn/dataset.ts';
import type { OptimizerOptions } from '../nn/optimizer.ts';
import type { RateOptions } from '../nn/rate.ts';
import type { LayerSpec } from '../nn/spec.ts';
import { MAX_BLOCK_SIDE, MAX_ELEMENTS } from '../sparse/grid.ts';

/** Options are parsed here, so that a wrong one is a usage error (exit code 2) before any work begins. */
export function integer(min: number, max = 2 ** 31 - 1): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || value > max)
      throw new InvalidArgumentError(`Give a whole number from ${min} to ${max}.`);
    return value;
  };
}

export function number(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === '' || !(value >= min && value <= max))
      throw new InvalidArgumentError(`Give a number from ${min} to ${max}.`);
    return value;
  };
}

export function integerList(min: number, minCount: number, max?: number): (text: string) => number[] {
  const one = integer(min, max);
  return (text) => {
    const values = text.split(',').map((part) => one(part.trim()));
    if (values.length < minCount)
      throw new InvalidArgumentError(`Give at least ${minCount} numbers, separated by commas.`);
    return values;
  };
}

/** `4x4`, or `4` for the same. */
export function blockShape(text: string): [number, number] {
  const match = /^(\d+)(?:x(\d+))?$/.exec(text);
  const shape: [number, number] | null = match && [Number(match[1]), Number(match[2] ?? match[1])];
  if (!shape?.every((side) => side >= 1 && side <= MAX_BLOCK_SIDE))
    throw new InvalidArgumentError(
      `Give rows and columns of a block, 1 to ${MAX_BLOCK_SIDE}, such as 4x4 or 16x1.`,
    );
  return shape;
}

/** A chain of linear layers with `activation` between them, none after the last. Throws RangeError naming --layers. */
export function layersOf(sizes: readonly number[], activation: Activation, dropout = 0): LayerSpec[] {
  if (sizes.slice(1).some((size, i) => size * sizes[i] > MAX_ELEMENTS))
    throw rangeError('--layers', `sizes whose neighbours make at most ${MAX_ELEMENTS} weights`, sizes);
  return sizes.slice(1).flatMap((outFeatures, i): LayerSpec[] => {
    const layers: LayerSpec[] = [{ type: 'linear', inFeatures: sizes[i], outFeatures }];
    if (i === sizes.length - 2) return layers;
    if (activation !== 'none') layers.push({ type: activation });
    if (dropout > 0) layers.push({ type: 'dropout', p: dropout });
    return layers;
  });
}

export const jsonOption = (): Option => new Option('--json', 'print the result as JSON, and no progress');
export const dataOption = (): Option =>
  new Option(
    '--data <dir>',
    'folder with the IDX files of a data set such as MNIST, gzipped or not (default: $BLOCKSPARSE_DATA, ' +
      'else the images that come with the repository)',
  );
export const seedOption = (): Option =>
  new Option('--seed <n>', 'seed of everything random').argParser(integer(0)).default(0);
export const activationOption = (): Option =>
  new Option('--activation <name>', 'between the layers').choices([...ACTIVATIONS]).default('relu');

/** What `train` and `prune` share. */
export interface TrainingOptions {
  epochs: number;
  batch: number;
  lr: number;
  optimizer: OptimizerOptions['type'];
  momentum: number;
  weightDecay: number;
  rate: 'constant' | 'cosine';
  validation?: number;
  seed: number;
}

export function addTrainingOptions(command: Command, epochs: number, epochsMean: string): Command {
  return command
    .addOption(new Option('--epochs <n>', epochsMean).argParser(integer(1)).default(epochs))
    .addOption(new Option('--batch <n>', 'images a step').argParser(integer(1)).default(128))
    .addOption(new Option('--lr <x>', 'learning rate').argParser(number(0, 1000)).default(1e-3))
    .addOption(
      new Option('--optimizer <name>', 'how to step').choices(['adam', 'adamw', 'sgd']).default('adam'),
    )
    .addOption(new Option('--momentum <x>', 'of sgd').argParser(number(0, 1)).default(0.9))
    .addOption(new Option('--weight-decay <x>', 'weight decay').argParser(number(0, 1000)).default(0))
    .addOption(
      new Option('--rate <name>', 'course of the learning rate')
        .choices(['cosine', 'constant'])
        .default('cosine'),
    )
    .addOption(
      new Option(
        '--validation <n>',
        'last images of the training set that choose the epoch (default: a tenth)',
      ).argParser(integer(0)),
    )
    .addOption(seedOption());
}

export function optimizerOf(options: TrainingOptions): OptimizerOptions {
  const { optimizer, lr: learningRate, weightDecay, momentum } = options;
  if (optimizer === 'sgd') return { type: 'sgd', learningRate, momentum, weightDecay };
  return { type: optimizer, learningRate, weightDecay };
}

export function rateOf(options: TrainingOptions): RateOptions {
  return { type: options.rate };
}

/** The last `count` images, by default a tenth, for validation. Throws RangeError naming --validation. */
export function splitImages(
  images: Dataset,
  count = Math.floor(images.count / 10),
): ReturnType<typeof split> {
  checkInteger('--validation', count, 0, images.count - 1);
  return split(images, count);
}
