import { mkdir, rm, stat } from 'node:fs/promises';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { checkInteger } from '../check.ts';
import { loadDataset } from '../data/dataset.ts';
import { checkWritable, writeFileAtomic } from '../format/atomic.ts';
import { Model } from '../format/model.ts';
import { runtime } from '../kernels/choose.ts';
import { split } from '../nn/dataset.ts';
import { evaluate, fit } from '../nn/fit.ts';
import { DENSE_BLOCK_SHAPE } from '../nn/linear.ts';
import { Network } from '../nn/network.ts';
import type { PruneOptions } from '../prune/options.ts';
import { prune } from '../prune/prune.ts';
import { paperSchedule } from '../prune/schedule.ts';
import { scoreModel } from './accuracy.ts';
import { randomInputs } from './bench.ts';
import { demoPage } from './demo-page.ts';
import { CONTROL, type DemoResult } from './demo-result.ts';
import { percent } from './numbers.ts';
import { interleavedMedians } from './timing.ts';

/** Rounds (from 0) whose models are kept and measured: 8.67 % and 2.87 % density. The last one always is. */
const SHOWN_ROUNDS = [10, 15];
const RESULTS = 'results.json';
const REPORT = 'report.html';
const HIDDEN = [300, 100];
const BATCH_SIZE = 128;
const LEARNING_RATE = 1e-3;
const TIMING = { samples: 31, sampleMilliseconds: 4 };

export interface DemoOptions {
  /** Folder of a data set; default as in `loadDataset`. */
  readonly dataDir?: string;
  /** Default `blocksparse-demo`. */
  readonly outputDir?: string;
  /** Default [4, 4]. */
  readonly blockShape?: readonly [number, number];
  /** Dense training; default 20. */
  readonly epochs?: number;
  /** After each round; default 4. */
  readonly retrainEpochs?: number;
  /** Default 16. */
  readonly rounds?: number;
  /** Last images of the training set that choose epochs; default a tenth. */
  readonly validation?: number;
  readonly seed?: number;
  /** Batch sizes of the timing; default 1, 32, 256. */
  readonly batches?: readonly number[];
  readonly signal?: AbortSignal;
  readonly onStage?: (name: string, steps: number) => void;
  readonly onStep?: (step: DemoStep) => void;
}

export interface DemoStep {
  readonly done: number;
  readonly total: number;
  readonly what: string;
  /** On the validation images. */
  readonly accuracy?: number;
}

/** A model on disk before it is measured. */
interface Saved {
  readonly name: string;
  readonly round: number | null;
  readonly file: string;
  readonly validationAccuracy: number;
}

/**
 * Trains LeNet-300-100 on the images, trains a copy on as the dense control, prunes it by the paper's rounds, saves
 * the dense models and those of the shown rounds, loads them back, evaluates and times them through `Model`, and writes `report.html` and
 * `results.json` beside them. The validation images choose epochs; the test images are read once a model.
 */
export async function runDemo(options: DemoOptions = {}): Promise<DemoResult> {
  const { outputDir = 'blocksparse-demo', blockShape = [4, 4], epochs = 20, retrainEpochs = 4 } = options;
  const { rounds = 16, seed = 0, batches = [1, 32, 256], signal, onStage, onStep } = options;
  const start = performance.now();
  const data = await loadDataset(options.dataDir);
  const validationCount = options.validation ?? Math.floor(data.train.count / 10);
  checkInteger('--validation', validationCount, 1, data.train.count - 1);
  const { train, validation } = split(data.train, validationCount);
  await mkdir(outputDir, { recursive: true });
  for (const name of ['dense.safetensors', RESULTS, REPORT]) await checkWritable(join(outputDir, name));

  const training = {
    batchSize: BATCH_SIZE,
    optimizer: { type: 'adam', learningRate: LEARNING_RATE },
    rate: { type: 'cosine' },
    seed,
  } as const;
  const network = Network.create(lenet(train.features, data.train.classes ?? 10), seed);
  onStage?.('dense training', epochs);
  await fit(network, train, {
    ...training,
    epochs,
    validation,
    ...(signal ? { signal } : {}),
    onEpoch: ({ epoch, validationAccuracy }) =>
      onStep?.({
        done: epoch,
        total: epochs,
        what: 'epochs',
        ...(validationAccuracy === undefined ? {} : { accuracy: validationAccuracy }),
      }),
  });
  const saved: Saved[] = [];
  const keep = async (
    of: Network,
    name: string,
    round: number | null,
    validationAccuracy: number,
  ): Promise<void> => {
    const file = join(outputDir, `${name}.safetensors`);
    await Model.fromNetwork(of, { data: data.name, seed, round, validationAccuracy }).save(file);
    saved.push({ name, round, file, validationAccuracy });
  };
  await keep(network, 'dense', null, evaluate(network, validation).accuracy);

  const retraining = {
    retrain: { ...training, data: train, epochs: retrainEpochs },
    validation,
    ...(signal ? { signal } : {}),
  };
  // The same rounds of training with nothing dropped: what pruning is to be measured against.
  const control = network.clone();
  onStage?.('dense control', rounds);
  await prune(control, {
    ...retraining,
    blockShape: DENSE_BLOCK_SHAPE,
    schedule: { type: 'rounds', fractions: network.linears.map(() => 0), rounds },
    onRound: ({ round, accuracy = Number.NaN }) =>
      onStep?.({ done: round + 1, total: rounds, what: 'rounds of training on, nothing dropped', accuracy }),
  });
  await keep(control, CONTROL, null, evaluate(control, validation).accuracy);

  const shown = SHOWN_ROUNDS.filter((round) => round < rounds - 1).concat(rounds - 1);
  // What an interrupted run leaves behind: the last finished round.
  const unfinished = join(outputDir, 'last-round.safetensors');
  onStage?.('pruning', rounds);
  const pruning: PruneOptions = {
    blockShape,
    schedule: paperSchedule(network.linears.length, rounds),
    ...retraining,
    checkpoint: unfinished,
    async onRound({ round, density, accuracy = Number.NaN }) {
      if (shown.includes(round)) await keep(network, `round-${round}`, round, accuracy);
      onStep?.({
        done: round + 1,
        total: rounds,
        what: `rounds; after round ${round} (the first is 0): density ${percent(density)}`,
        accuracy,
      });
    },
  };
  const pruned = await prune(network, pruning);
  await rm(unfinished);

  onStage?.('measuring', saved.length + batches.length);
  const models = await Promise.all(saved.map(({ file }) => Model.load(file)));
  const tested: number[] = [];
  for (const [i, model] of models.entries()) {
    tested.push((await scoreModel(model, data.test, signal)).accuracy);
    onStep?.({
      done: i + 1,
      total: saved.length + batches.length,
      what: `${saved[i].name} on the test images`,
    });
  }
  const times: number[][] = [];
  for (const [i, batch] of batches.entries()) {
    const x = randomInputs(batch, train.features, seed);
    const runs = models.map((model) => () => void model.runSync(x));
    times.push(await interleavedMedians(runs, { ...TIMING, ...(signal ? { signal } : {}) }));
    onStep?.({
      done: saved.length + i + 1,
      total: saved.length + batches.length,
      what: `time at batch ${batch}`,
    });
  }

  const result: DemoResult = {
    data: { name: data.name, train: train.count, validation: validation.count, test: data.test.count },
    seed,
    blockShape,
    epochs,
    retrainEpochs,
    batches,
    models: await Promise.all(
      saved.map(async (model, i) => ({
        ...model,
        fileBytes: (await stat(model.file)).size,
        density: models[i].density,
        testAccuracy: tested[i],
        microseconds: times.map((of) => of[i]),
        speedup: times.map((of) => of[0] / of[i]),
      })),
    ),
    rounds: pruned.rounds,
    runtime: runtime(),
    processor: cpus()[0]?.model ?? 'unknown processor',
    seconds: (performance.now() - start) / 1000,
    outputDir,
  };
  const encoder = new TextEncoder();
  await writeFileAtomic(join(outputDir, RESULTS), [encoder.encode(`${JSON.stringify(result, null, 2)}\n`)]);
  await writeFileAtomic(join(outputDir, REPORT), [encoder.encode(demoPage(result, models))]);
  return result;
}

function lenet(features: number, classes: number) {
  return [
    { type: 'linear', inFeatures: features, outFeatures: HIDDEN[0] },
    { type: 'relu' },
    { type: 'linear', inFeatures: HIDDEN[0], outFeatures: HIDDEN[1] },
    { type: 'relu' },
    { type: 'linear', inFeatures: HIDDEN[1], outFeatures: classes },
  ] as const;
}
