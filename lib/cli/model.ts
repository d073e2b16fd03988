import { type Command, Option } from 'commander';
import { Model } from '../format/model.ts';
import type { Activation } from '../kernels/kernels.ts';
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
        integerList(1, 2),
      ),
    )
    .addOption(activationOption());
}

export async function loadModel(path: string, options: ModelOptions): Promise<Model> {
  if (options.layers === undefined) return Model.load(path);
  return Model.load(path, { layers: layersOf(options.layers, options.activation) });
}
