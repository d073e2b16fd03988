import { createHash } from 'node:crypto';
import { existsSync, realpathSync } from 'node:fs';
import { resolve } from 'node:path';
import { Command, Option } from 'commander';
import { loadDataset } from '../data/dataset.ts';
import { BlocksparseError } from '../errors.ts';
import { Model } from '../format/model.ts';
import type { Network } from '../nn/network.ts';
import { PRUNING_CRITERIA, type PruningCriterion } from '../prune/measured.ts';
import { prune } from '../prune/prune.ts';
import {
  paperSchedule,
  type RoundsSchedule,
  type Schedule,
  sparsityAt,
  type TargetSchedule,
} from '../prune/schedule.ts';
import { percent } from '../report/numbers.ts';
import { interruptible } from './interrupt.ts';
import { checkFits, loadModel, type ModelOptions, modelOptions } from './model.ts';
import {
  addTrainingOptions,
  blockShape,
  dataOption,
  integer,
  jsonOption,
  number,
  optimizerOf,
  rateOf,
  splitImages,
  type TrainingOptions,
} from './options.ts';
import { makeOutput } from './output.ts';

interface Recipe {
  schedule: 'paper' | TargetSchedule['type'];
  criterion: PruningCriterion;
  scope: 'layer' | 'global';
}

/** What options that are not given are. `best` is what bench/paper/RESULTS.md found. */
const RECIPES: Record<'best' | 'paper', Recipe> = {
  best: { schedule: 'cubic', criterion: 'fisher', scope: 'global' },
  paper: { schedule: 'paper', criterion: 'mean-abs', scope: 'layer' },
};

interface Options extends TrainingOptions, ModelOptions, Partial<Recipe> {
  recipe: keyof typeof RECIPES;
  block: [number, number];
  sparsity?: number;
  rounds: number;
  floor?: number | 'auto';
  output: string;
  resume: boolean;
  data?: string;
  json: boolean;
}

export function pruneCommand(): Command {
  const command = new Command('prune')
    .description('Prune a model in rounds, retraining after each; the output file always holds the last one.')
    .argument('<model>', 'model file, or a safetensors state_dict of Linear layers (then give --layers)')
    .addOption(
      new Option('--block <shape>', 'rows x columns of a block, or one number for both')
        .argParser(blockShape)
        .default([4, 4], '4x4'),
    )
    .addOption(
      new Option(
        '--recipe <name>',
        'best: cubic schedule, fisher scores, one budget over all layers; ' +
          'paper: its schedule, mean-abs scores, each layer for itself. Options below replace parts of it',
      )
        .choices(['best', 'paper'])
        .default('best'),
    )
    .addOption(
      new Option('--schedule <name>', 'how sparsity grows over the rounds').choices([
        'paper',
        'one-shot',
        'linear',
        'exponential',
        'cubic',
      ]),
    )
    .addOption(
      new Option(
        '--sparsity <x>',
        "final sparsity, 0 to 1; not for the paper's schedule (default: what that would reach)",
      ).argParser(number(0, 1)),
    )
    .addOption(new Option('--rounds <n>', 'rounds').argParser(integer(1, 10_000)).default(16))
    .addOption(
      new Option(
        '--criterion <name>',
        'score of a block; the last three are measured on training images',
      ).choices([...PRUNING_CRITERIA]),
    )
    .addOption(
      new Option('--scope <name>', 'select blocks in each layer, or over all layers together').choices([
        'layer',
        'global',
      ]),
    )
    .addOption(
      new Option(
        '--floor <x>',
        'least density of a layer: a number, or auto (with --scope global, and its default)',
      ).argParser((text) => (text === 'auto' ? text : number(0, 1)(text))),
    );
  modelOptions(command);
  return addTrainingOptions(command, 4, 'times over the training set after each round')
    .requiredOption('--output <file>', 'model file to write, after every round')
    .option('--resume', 'go on after the round that the output file holds', false)
    .addOption(dataOption())
    .addOption(jsonOption())
    .addHelpText(
      'after',
      '\nExample:\n  $ blocksparse prune dense.safetensors --block 4x4 --sparsity 0.9 --output pruned.safetensors' +
        '\n\nCtrl-C leaves the last finished round in the output file; the same command with --resume goes on.',
    )
    .action(async (path: string, options: Options, self: Command) => {
      const wrong = contradiction(path, options);
      if (wrong !== null) self.error(`error: ${wrong}`, { exitCode: 2 });
      await interruptible((signal) => pruneFile(path, options, signal));
    });
}

/** What is wrong with options that are right each for itself, or null. */
function contradiction(path: string, options: Options): string | null {
  const { schedule, scope } = chosen(options);
  if (actualPath(path) === actualPath(options.output))
    return '--output must be another file than the model, which pruning would replace';
  if (schedule === 'paper' && options.sparsity !== undefined)
    return "--sparsity does not go with the paper's schedule, which has fixed fractions";
  if (schedule === 'paper' && scope === 'global')
    return "the paper's schedule selects in each layer; --scope global needs another --schedule";
  if (schedule === 'exponential' && options.sparsity === 1)
    return '--sparsity must be less than 1 for an exponential schedule';
  if (scope === 'layer' && options.floor === 'auto') return '--floor auto needs --scope global';
  return null;
}

/** The recipe with the options that replace parts of it. The paper's schedule leaves no choice of scope. */
function chosen({ recipe, schedule, criterion, scope }: Options): Recipe {
  const usual = RECIPES[recipe];
  const type = schedule ?? usual.schedule;
  return {
    schedule: type,
    criterion: criterion ?? usual.criterion,
    scope: scope ?? (type === 'paper' ? 'layer' : usual.scope),
  };
}

function scheduleOf(type: Recipe['schedule'], options: Options, network: Network): Schedule {
  const paper = paperSchedule(network.linears.length, options.rounds);
  if (type === 'paper') return paper;
  return { type, sparsity: options.sparsity ?? sparsityOf(paper, network), rounds: options.rounds };
}

/** Of all weights, when the paper's rounds are over. */
function sparsityOf(paper: RoundsSchedule, network: Network): number {
  const weights = network.linears.map(({ inFeatures, outFeatures }) => inFeatures * outFeatures);
  const gone = weights.map((count, l) => count * sparsityAt(paper, 1, l));
  return gone.reduce((a, b) => a + b) / weights.reduce((a, b) => a + b);
}

async function pruneFile(path: string, options: Options, signal: AbortSignal): Promise<void> {
  const { rounds, seed, epochs, output: checkpoint } = options;
  const { schedule, criterion, scope } = chosen(options);
  const output = makeOutput(options.json);
  const model = await loadModel(path, options);
  const prunedFrom = digestOf(model);
  if (options.resume) await checkOrigin(path, checkpoint, prunedFrom);
  const network = model.toNetwork();
  const data = await loadDataset(options.data);
  checkFits(model, data);
  const { train, validation } = splitImages(data.train, options.validation);
  output.line(
    `pruning ${path} in ${rounds} rounds, ${epochs} epochs each on ${train.count} images of ${data.name}`,
  );
  const bar = output.bar('pruning', rounds);
  let done = 0;
  try {
    const result = await prune(network, {
      blockShape: options.block,
      schedule: scheduleOf(schedule, options, network),
      criterion,
      scope,
      floor: options.floor ?? (scope === 'global' ? 'auto' : 0),
      retrain: {
        data: train,
        epochs,
        batchSize: options.batch,
        optimizer: optimizerOf(options),
        rate: rateOf(options),
        seed,
        onEpoch: ({ epoch, loss }) => bar.update(done, `epoch ${epoch}/${epochs}, loss ${loss.toFixed(4)}`),
      },
      ...(validation.count > 0 ? { validation } : {}),
      checkpoint,
      info: { ...model.info, data: data.name, seed, prunedFrom },
      resume: options.resume,
      signal,
      onRound({ round, density, loss, accuracy }) {
        const detail =
          `density ${percent(density)}` +
          (loss === undefined ? '' : `, validation loss ${loss.toFixed(4)}`) +
          (accuracy === undefined ? '' : `, validation accuracy ${percent(accuracy)}`);
        done = round + 1;
        bar.update(done, detail);
        output.line(`round ${round + 1}/${rounds}: ${detail}`);
      },
    });
    bar.stop();
    const saved = await Model.load(checkpoint);
    output.result(`saved ${checkpoint}, density ${percent(saved.density)}`, {
      output: checkpoint,
      data: data.name,
      density: saved.density,
      rounds: result.rounds,
    });
  } finally {
    bar.stop();
  }
}

/** Layers and weights of a model. */
function digestOf({ layers, matrices }: Model): string {
  const hash = createHash('sha256').update(JSON.stringify(layers));
  for (const { matrix, bias } of matrices) hash.update(matrix.toDense()).update(bias ?? '');
  return hash.digest('hex');
}

/** The library goes on from a checkpoint whatever network it is given; here another model is a mistake. */
async function checkOrigin(path: string, checkpoint: string, prunedFrom: string): Promise<void> {
  if (!existsSync(checkpoint)) return;
  const { info } = await Model.load(checkpoint);
  if (info.prunedFrom === prunedFrom) return;
  throw new BlocksparseError('INVALID_STATE', `${checkpoint} does not hold a round of pruning ${path}`);
}

/** Where links lead, so that a file is known by any of its names. */
function actualPath(path: string): string {
  return existsSync(path) ? realpathSync(path) : resolve(path);
}
