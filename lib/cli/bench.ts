import { Command, Option } from 'commander';
import { benchModel, benchTable } from '../report/bench.ts';
import { MAX_DIMENSION } from '../sparse/grid.ts';
import { interruptible } from './interrupt.ts';
import { loadModel, type ModelOptions, modelOptions } from './model.ts';
import { integer, integerList, jsonOption, seedOption } from './options.ts';
import { makeOutput } from './output.ts';

/** More rows make no other case, but inputs that fill the memory. */
const MAX_BATCH = 1 << 16;

interface Options extends ModelOptions {
  batches: number[];
  batchHint?: number;
  samples: number;
  seed: number;
  json: boolean;
}

export function benchCommand(): Command {
  const command = new Command('bench')
    .description('Time a pruned model against itself with all weights kept, per layer and whole.')
    .argument('<model>', 'model file, or a safetensors state_dict of Linear layers (then give --layers)')
    .addOption(
      new Option('--batches <sizes>', 'rows of input in a call')
        .argParser(integerList(1, 1, MAX_BATCH))
        .default([1, 32, 256], '1,32,256'),
    )
    .addOption(
      new Option(
        '--batch-hint <n>',
        'rows of a call to pack layers for (default: no number of rows is to be slower than dense)',
      ).argParser(integer(1, MAX_DIMENSION)),
    )
    .addOption(
      new Option('--samples <n>', 'samples of each measurement; the median counts')
        .argParser(integer(1, 10_000))
        .default(31),
    )
    .addOption(seedOption());
  return modelOptions(command)
    .addOption(jsonOption())
    .addHelpText('after', '\nExample:\n  $ blocksparse bench pruned.safetensors --batches 1,32,256')
    .action(async (path: string, options: Options) => {
      await interruptible((signal) => benchFile(path, options, signal));
    });
}

async function benchFile(path: string, options: Options, signal: AbortSignal): Promise<void> {
  const { batches, batchHint, samples, seed } = options;
  const output = makeOutput(options.json);
  const model = await loadModel(path, options, batchHint === undefined ? {} : { batchHint });
  const bar = output.bar('measuring', batches.length * (model.matrices.length + 1));
  try {
    const result = await benchModel(model, {
      batches,
      samples,
      seed,
      signal,
      onStep: (done, _total, what) => bar.update(done, what),
    });
    bar.stop();
    output.result(benchTable(result), { model: path, ...result });
  } finally {
    bar.stop();
  }
}
