import { Command } from 'commander';
import { loadDataset } from '../data/dataset.ts';
import { scoreModel } from '../report/accuracy.ts';
import { percent } from '../report/numbers.ts';
import { interruptible } from './interrupt.ts';
import { checkFits, loadModel, type ModelOptions, modelOptions } from './model.ts';
import { dataOption, jsonOption } from './options.ts';
import { makeOutput } from './output.ts';

interface Options extends ModelOptions {
  data?: string;
  json: boolean;
}

export function evaluateCommand(): Command {
  const command = new Command('evaluate')
    .description('Accuracy and loss of a model on the test images of a data set.')
    .argument('<model>', 'model file, or a safetensors state_dict of Linear layers (then give --layers)');
  return modelOptions(command)
    .addOption(dataOption())
    .addOption(jsonOption())
    .addHelpText('after', '\nExample:\n  $ blocksparse evaluate pruned.safetensors --data ./fashion-mnist')
    .action(async (path: string, options: Options) => {
      await interruptible((signal) => evaluateFile(path, options, signal));
    });
}

async function evaluateFile(path: string, options: Options, signal: AbortSignal): Promise<void> {
  const model = await loadModel(path, options);
  const data = await loadDataset(options.data);
  checkFits(model, data);
  const score = await scoreModel(model, data.test, signal);
  makeOutput(options.json).result(
    `${path}: accuracy ${percent(score.accuracy)}, loss ${score.loss.toFixed(4)} ` +
      `on ${score.count} test images of ${data.name}; density ${percent(model.density)}`,
    { model: path, data: data.name, density: model.density, ...score },
  );
}
