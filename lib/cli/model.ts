import { type Command, Option } from 'commander';
import type { ImageData } from '../data/dataset.ts';
import { rangeError } from '../errors.ts';
import { Model, type ServeOptions } from '../format/model.ts';
import type { Activation } from '../kernels/kernels.ts';
import { MAX_DIMENSION } from '../sparse/grid.ts';
import { activationOption, integerList, layersOf } from './options.ts';

export interface ModelOptions {
  layers?: number[];
  activation: Activation;
}

/** For files that say nothing about their layers: a plain state_dict. */
export function modelOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--layers <sizes>', 'sizes of the layers, when the file is a plain state_dict').argParser(
        integerList(1, 2, MAX_DIMENSION),
      ),
    )
    .addOption(activationOption());
}

export async function loadModel(
  path: string,
  options: ModelOptions,
  serving: ServeOptions = {},
): Promise<Model> {
  if (options.layers === undefined) return Model.load(path, serving);
  return Model.load(path, { ...serving, layers: layersOf(options.layers, options.activation) });
}

/** Throws RangeError naming --data when these are not images for this model. */
export function checkFits({ inFeatures, outFeatures }: Model, { train }: ImageData): void {
  if (train.features !== inFeatures)
    throw rangeError('--data', `images of ${inFeatures} features, which the model takes`, train.features);
  const { classes = 1 } = train;
  if (classes > outFeatures)
    throw rangeError('--data', `images of at most ${outFeatures} classes, as the model has`, classes);
}
