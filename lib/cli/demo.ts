import { Command, Option } from 'commander';
import { runDemo } from '../report/demo.ts';
import { demoTable } from '../report/demo-result.ts';
import { percent } from '../report/numbers.ts';
import { interruptible } from './interrupt.ts';
import { blockShape, dataOption, integer, jsonOption, seedOption } from './options.ts';
import { type Bar, makeOutput } from './output.ts';

interface Options {
  output: string;
  block: [number, number];
  epochs: number;
  retrainEpochs: number;
  rounds: number;
  validation?: number;
  seed: number;
  data?: string;
  json: boolean;
}

export function demoCommand(): Command {
  return new Command('demo')
    .description('The whole way once: train on images, prune in rounds, save, load, serve, measure, report.')
    .option('--output <dir>', 'folder for the models, results and report', 'blocksparse-demo')
    .addOption(
      new Option('--block <shape>', 'rows x columns of a block').argParser(blockShape).default([4, 4], '4x4'),
    )
    .addOption(new Option('--epochs <n>', 'of the dense network').argParser(integer(1)).default(20))
    .addOption(new Option('--retrain-epochs <n>', 'after each round').argParser(integer(1)).default(4))
    .addOption(new Option('--rounds <n>', "of the paper's schedule").argParser(integer(1, 100)).default(16))
    .addOption(
      new Option(
        '--validation <n>',
        'last images of the training set that choose the epoch (default: a tenth)',
      ).argParser(integer(1)),
    )
    .addOption(seedOption())
    .addOption(dataOption())
    .addOption(jsonOption())
    .addHelpText('after', '\nExample:\n  $ blocksparse demo --data ./fashion-mnist --output ./my-demo')
    .action(async (options: Options) => {
      await interruptible((signal) => demo(options, signal));
    });
}

async function demo(options: Options, signal: AbortSignal): Promise<void> {
  const output = makeOutput(options.json);
  let bar: Bar | undefined;
  try {
    const result = await runDemo({
      outputDir: options.output,
      blockShape: options.block,
      epochs: options.epochs,
      retrainEpochs: options.retrainEpochs,
      rounds: options.rounds,
      seed: options.seed,
      signal,
      ...(options.data === undefined ? {} : { dataDir: options.data }),
      ...(options.validation === undefined ? {} : { validation: options.validation }),
      onStage(name, steps) {
        bar?.stop();
        output.line(name);
        bar = output.bar(name, steps);
      },
      onStep(step) {
        const accuracy = step.accuracy === undefined ? '' : `, validation accuracy ${percent(step.accuracy)}`;
        const detail = step.what + accuracy;
        bar?.update(step.done, detail);
        output.line(`  ${step.done}/${step.total} ${detail}`);
      },
    });
    bar?.stop();
    output.result(demoTable(result), result);
  } finally {
    bar?.stop();
  }
}
