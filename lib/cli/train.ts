import { Command, Option } from 'commander';
import { loadDataset } from '../data/dataset.ts';
import { rangeError } from '../errors.ts';
import { checkWritable } from '../format/atomic.ts';
import { Model } from '../format/model.ts';
import type { Activation } from '../kernels/kernels.ts';
import { fit } from '../nn/fit.ts';
import { Network } from '../nn/network.ts';
import { percent } from '../report/numbers.ts';
import { MAX_DIMENSION } from '../sparse/grid.ts';
import { interruptible } from './interrupt.ts';
import {
  activationOption,
  addTrainingOptions,
  dataOption,
  integerList,
  jsonOption,
  layersOf,
  number,
  optimizerOf,
  rateOf,
  splitImages,
  type TrainingOptions,
} from './options.ts';
import { makeOutput } from './output.ts';

interface Options extends TrainingOptions {
  layers: number[];
  activation: Activation;
  dropout: number;
  output: string;
  data?: string;
  json: boolean;
}

export function trainCommand(): Command {
  const command = new Command('train')
    .description('Train a dense network on a data set and save it.')
    .addOption(
      new Option('--layers <sizes>', 'features of the input, of each hidden layer, and classes')
        .argParser(integerList(1, 2, MAX_DIMENSION))
        .default([784, 300, 100, 10], '784,300,100,10'),
    )
    .addOption(activationOption())
    .addOption(new Option('--dropout <p>', 'after each hidden layer').argParser(number(0, 0.99)).default(0));
  return addTrainingOptions(command, 20, 'times over the training set')
    .requiredOption('--output <file>', 'model file to write')
    .addOption(dataOption())
    .addOption(jsonOption())
    .addHelpText(
      'after',
      '\nExample:\n  $ blocksparse train --layers 784,300,100,10 --epochs 20 --output dense.safetensors',
    )
    .action(async (options: Options) => {
      await interruptible((signal) => train(options, signal));
    });
}

async function train(options: Options, signal: AbortSignal): Promise<void> {
  const { epochs, batch, seed, output: path } = options;
  const output = makeOutput(options.json);
  await checkWritable(path);
  const data = await loadDataset(options.data);
  if (options.layers[0] !== data.train.features)
    throw rangeError(
      '--layers',
      `a list that begins with ${data.train.features}, the features of ${data.name}`,
      options.layers,
    );
  const { classes = 1 } = data.train;
  if (options.layers[options.layers.length - 1] < classes)
    throw rangeError(
      '--layers',
      `a list that ends with at least ${classes}, the classes of ${data.name}`,
      options.layers,
    );
  const network = Network.create(layersOf(options.layers, options.activation, options.dropout), seed);
  const { train: rows, validation } = splitImages(data.train, options.validation);
  output.line(
    `training on ${rows.count} images of ${data.name}, ${validation.count} for validation, ${epochs} epochs`,
  );
  const bar = output.bar('training', epochs);
  try {
    const result = await fit(network, rows, {
      epochs,
      batchSize: batch,
      optimizer: optimizerOf(options),
      rate: rateOf(options),
      seed,
      signal,
      ...(validation.count > 0 ? { validation } : {}),
      onEpoch(record) {
        const { epoch, loss, validationAccuracy } = record;
        const accuracy =
          validationAccuracy === undefined ? '' : `, validation accuracy ${percent(validationAccuracy)}`;
        bar.update(epoch, `loss ${loss.toFixed(4)}${accuracy}`);
        output.line(`epoch ${epoch}/${epochs}: loss ${loss.toFixed(4)}${accuracy}`);
      },
    });
    bar.stop();
    const best = result.epochs[result.bestEpoch - 1];
    const model = Model.fromNetwork(network, { data: data.name, seed, epochs, bestEpoch: result.bestEpoch });
    await model.save(path);
    output.result(
      `saved ${path}, weights of epoch ${result.bestEpoch}` +
        (best.validationAccuracy === undefined
          ? ''
          : `, validation accuracy ${percent(best.validationAccuracy)}`),
      { output: path, data: data.name, bestEpoch: result.bestEpoch, epochs: result.epochs },
    );
  } finally {
    bar.stop();
  }
}
