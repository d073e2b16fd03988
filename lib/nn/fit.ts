import { checkArray, checkInteger, checkOneOf, checkOptions } from '../check.ts';
import { BlocksparseError, rangeError, typeError } from '../errors.ts';
import { type BsrMatrix, copySharedBlocks } from '../sparse/bsr.ts';
import { checkDataset, type Dataset, split, targetsFor } from './dataset.ts';
import { countCorrect, LOSSES, type LossName, losses, type Targets } from './loss.ts';
import { checkNetwork, type Network } from './network.ts';
import { checkOptimizer, createOptimizer, type Optimizer, type OptimizerOptions } from './optimizer.ts';
import { Pass } from './pass.ts';
import { checkSeed, Random } from './random.ts';
import { checkRate, type RateOptions, rateFactor } from './rate.ts';

export { type Dataset, split } from './dataset.ts';

/** What one epoch came to. */
export interface EpochRecord {
  /** From 1. */
  readonly epoch: number;
  readonly epochs: number;
  /** Mean over the training rows, each seen with the weights of its own step. */
  readonly loss: number;
  readonly validationLoss?: number;
  /** Share of validation rows answered rightly; only for cross-entropy. */
  readonly validationAccuracy?: number;
  readonly seconds: number;
}

export interface FitOptions {
  readonly epochs: number;
  readonly batchSize: number;
  readonly optimizer: OptimizerOptions;
  /** Default constant. */
  readonly rate?: RateOptions;
  /** Default 'cross-entropy'. */
  readonly loss?: LossName;
  /** Orders the rows and drives dropout: the same seed on the same machine gives the same weights. */
  readonly seed: number;
  /** A data set, or that many rows, taken from the end of the data. */
  readonly validation?: Dataset | number;
  /**
   * Which epoch's parameters stay: the best on validation (accuracy for cross-entropy, loss for mse; of equals the
   * later, which a falling learning rate left more settled; default with validation), or the last.
   */
  readonly keep?: 'best' | 'last';
  readonly signal?: AbortSignal;
  readonly onEpoch?: (record: EpochRecord) => void;
}

export interface FitResult {
  readonly epochs: EpochRecord[];
  /** The epoch whose parameters the network has now; 0 after no epoch. */
  readonly bestEpoch: number;
}

export interface EvaluateOptions {
  readonly loss?: LossName;
  /** Rows at a time; changes memory, not results. Default 512. */
  readonly batchSize?: number;
}

export interface Evaluation {
  readonly loss: number;
  /** Share of rows answered rightly; NaN for 'mse'. */
  readonly accuracy: number;
}

/** Milliseconds of work between two turns of the event loop. */
const TURN = 25;
const EVALUATION_ROWS = 512;
/** Streams of the seed; 0 is the network's initialisation. */
const SHUFFLE_STREAM = 1;
const DROPOUT_STREAM = 2;

/** Networks being trained at this moment. */
const inTraining = new WeakSet<Network>();

/**
 * Trains `network` in place, pruned blocks staying exactly zero. Gives the event loop a turn now and then; an
 * aborted `signal` then rejects with its reason, and the network keeps the parameters it had reached. A loss that
 * is not finite, or weights that are not after an epoch, reject with INVALID_STATE; so does training a network that is already being trained.
 */
export async function fit(network: Network, data: Dataset, options: FitOptions): Promise<FitResult> {
  return train(network, data, options, null);
}

/** What happens to the network's structure while it is trained. */
export interface Course {
  /** Called before each step, counted from 0; may replace the network's matrices, and says whether it did. */
  readonly beforeStep: (step: number) => boolean;
  /** The structure is final once so many steps are done: earlier epochs are not kept as the best. */
  readonly settled: number;
}

/**
 * `fit` for a network whose blocks change on the way: the optimizer's state of blocks that stay is carried over,
 * that of new ones begins at zero.
 */
export async function train(
  network: Network,
  data: Dataset,
  options: FitOptions,
  course: Course | null,
): Promise<FitResult> {
  checkNetwork('network', network);
  checkDataset('data', data);
  checkFitOptions('options', options);
  const { loss = 'cross-entropy', signal } = options;
  const sets =
    typeof options.validation === 'number'
      ? splitOff(data, options.validation)
      : { train: data, validation: options.validation };
  const targets = targetsFor('data', sets.train, network, loss);
  const { validation } = sets;
  const answers = validation && targetsFor('options.validation', validation, network, loss);
  const evaluator = () =>
    validation && new Evaluator('options.validation', network, validation, answers!, loss, EVALUATION_ROWS);
  if (options.keep === 'best' && !validation)
    throw rangeError('options.keep', "'last', since there is no validation set", 'best');
  signal?.throwIfAborted();
  if (inTraining.has(network))
    throw new BlocksparseError('INVALID_STATE', 'network is already being trained');
  inTraining.add(network);
  try {
    return await run(network, new Trainer(network, sets.train, targets, options), evaluator, options, course);
  } finally {
    inTraining.delete(network);
  }
}

async function run(
  network: Network,
  trainer: Trainer,
  createEvaluator: () => Evaluator | undefined,
  options: FitOptions,
  course: Course | null,
): Promise<FitResult> {
  const { epochs, seed, loss = 'cross-entropy', signal } = options;
  const keepBest = options.keep !== 'last';
  const { count } = trainer;
  const order = Int32Array.from({ length: count }, (_, i) => i);
  const shuffle = new Random(seed, SHUFFLE_STREAM);
  const pause = createPause(signal);
  const records: EpochRecord[] = [];
  let evaluator = createEvaluator();
  let step = 0;
  let best: { epoch: number; score: number; parameters: ReturnType<Network['snapshot']> } | undefined;
  for (let epoch = 1; epoch <= epochs; epoch++) {
    const start = performance.now();
    shuffle.shuffle(order);
    let sum = 0;
    for (let from = 0; from < count; from += trainer.batchSize) {
      if (course?.beforeStep(step++)) {
        trainer.restructure(network);
        evaluator = createEvaluator();
      }
      const rows = order.subarray(from, Math.min(from + trainer.batchSize, count));
      const batchLoss = trainer.step(rows, epoch - 1 + from / count);
      if (!Number.isFinite(batchLoss))
        throw new BlocksparseError(
          'INVALID_STATE',
          `the loss became ${batchLoss} in epoch ${epoch}: data.x has such values, or optimizer.learningRate is too high`,
        );
      sum += batchLoss * rows.length;
      if (pause.due()) await pause.take();
    }
    checkFiniteWeights(network, epoch);
    let result: Evaluation | undefined;
    if (evaluator) {
      const batches = evaluator.run();
      let next = batches.next();
      for (; !next.done; next = batches.next()) if (pause.due()) await pause.take();
      result = next.value;
    }
    const record: EpochRecord = {
      epoch,
      epochs,
      loss: sum / count,
      ...(result && { validationLoss: result.loss }),
      ...(result && loss === 'cross-entropy' && { validationAccuracy: result.accuracy }),
      seconds: (performance.now() - start) / 1000,
    };
    records.push(record);
    if (result && keepBest && (course === null || step >= course.settled)) {
      const score = loss === 'cross-entropy' ? result.accuracy : -result.loss;
      // A score that is not a number is better than none.
      if (!best || score >= best.score || Number.isNaN(best.score))
        best = { epoch, score, parameters: network.snapshot() };
    }
    options.onEpoch?.(record);
    await pause.take();
  }
  if (best && best.epoch < epochs) network.restore(best.parameters);
  return { epochs: records, bestEpoch: best?.epoch ?? epochs };
}

/** The last step of an epoch has no later loss to show what it did. */
function checkFiniteWeights(network: Network, epoch: number): void {
  for (const parameter of parametersOf(network))
    if (!parameter.every(Number.isFinite))
      throw new BlocksparseError(
        'INVALID_STATE',
        `the weights are no longer finite after epoch ${epoch}: optimizer.learningRate is too high`,
      );
}

/** Steps of training on one data set, with everything they need made once. */
export class Trainer {
  /** Rows of a full batch. */
  readonly batchSize: number;
  /** Rows of the data. */
  readonly count: number;
  readonly #data: Dataset;
  readonly #targets: Targets;
  readonly #outFeatures: number;
  readonly #random: Random;
  #matrices: readonly BsrMatrix[];
  #pass: Pass;
  readonly #gradient: Float32Array;
  readonly #loss: (typeof losses)[LossName];
  readonly #optimizer: Optimizer;
  readonly #rate: RateOptions;
  readonly #epochs: number;
  readonly #apply: (layer: number, dValues: Float32Array, dBias: Float32Array | null) => void;

  /** Takes checked arguments; `targets` as `targetsFor` gives them. */
  constructor(network: Network, data: Dataset, targets: Targets, options: FitOptions) {
    this.batchSize = Math.min(options.batchSize, data.count);
    this.count = data.count;
    this.#data = data;
    this.#targets = targets;
    this.#outFeatures = network.outFeatures;
    this.#random = new Random(options.seed, DROPOUT_STREAM);
    this.#matrices = network.linears.map(({ matrix }) => matrix);
    this.#pass = new Pass(network, this.batchSize, this.#random);
    this.#gradient = new Float32Array(this.batchSize * network.outFeatures);
    this.#loss = losses[options.loss ?? 'cross-entropy'];
    this.#rate = options.rate ?? { type: 'constant' };
    this.#epochs = options.epochs;
    const optimizer = createOptimizer(options.optimizer, parametersOf(network));
    this.#optimizer = optimizer;
    this.#apply = (layer, dValues, dBias) => {
      if (dValues.length > 0) optimizer.update(2 * layer, dValues);
      if (dBias) optimizer.update(2 * layer + 1, dBias);
    };
  }

  /**
   * One step on the rows `rows`, after `passed` epochs (with a fraction). Returns the loss before it; where that
   * is not finite nothing is changed.
   */
  step(rows: Int32Array, passed: number): number {
    const { x } = this.#data;
    checkThere('data', this.#data, this.#targets);
    const m = rows.length;
    const n = this.#outFeatures;
    const gradient = m === this.batchSize ? this.#gradient : this.#gradient.subarray(0, m * n);
    const out = this.#pass.forward(x, rows, m);
    const loss = this.#loss(out, m, n, this.#targets, rows, 0, gradient);
    if (!Number.isFinite(loss)) return loss;
    this.#optimizer.begin(rateFactor(this.#rate, passed, this.#epochs));
    this.#pass.backward(gradient, this.#apply);
    return loss;
  }

  /** To be called when matrices of the network were replaced by others of the same grids. */
  restructure(network: Network): void {
    const before = this.#matrices;
    this.#matrices = network.linears.map(({ matrix }) => matrix);
    this.#pass = new Pass(network, this.batchSize, this.#random);
    this.#optimizer.replace(parametersOf(network), (index, old, fresh) => {
      copySharedBlocks(before[index / 2], old, this.#matrices[index / 2], fresh);
    });
  }
}

const NO_BIAS = new Float32Array(0);

/** Weights and bias of each layer in turn, as the optimizer numbers them. */
function parametersOf(network: Network): Float32Array[] {
  return network.linears.flatMap(({ matrix, bias }) => [matrix.values, bias ?? NO_BIAS]);
}

/** Loss and accuracy of `network` on `data`, with the parameters as they are now and without dropout. */
export function evaluate(network: Network, data: Dataset, options: EvaluateOptions = {}): Evaluation {
  checkNetwork('network', network);
  checkDataset('data', data);
  checkOptions('options', options);
  const { loss = 'cross-entropy', batchSize = EVALUATION_ROWS } = options;
  checkOneOf('options.loss', loss, LOSSES);
  checkInteger('options.batchSize', batchSize, 1, 2 ** 31 - 1);
  const targets = targetsFor('data', data, network, loss);
  const batches = new Evaluator('data', network, data, targets, loss, batchSize).run();
  for (;;) {
    const next = batches.next();
    if (next.done) return next.value;
  }
}

/** Evaluations of one network on one data set, with buffers made once. */
class Evaluator {
  readonly #name: string;
  readonly #data: Dataset;
  readonly #targets: Targets;
  readonly #loss: LossName;
  readonly #capacity: number;
  readonly #outFeatures: number;
  readonly #pass: Pass;

  /** Takes checked arguments; `name` is what errors call the data. */
  constructor(
    name: string,
    network: Network,
    data: Dataset,
    targets: Targets,
    loss: LossName,
    batchSize: number,
  ) {
    this.#name = name;
    this.#data = data;
    this.#targets = targets;
    this.#loss = loss;
    this.#capacity = Math.min(batchSize, data.count);
    this.#outFeatures = network.outFeatures;
    this.#pass = new Pass(network, this.#capacity, null);
  }

  /** Yields after each batch, so that the caller can give the event loop a turn. */
  *run(): Generator<undefined, Evaluation> {
    const { x, count, features } = this.#data;
    const n = this.#outFeatures;
    let sum = 0;
    let correct = 0;
    for (let from = 0; from < count; from += this.#capacity) {
      checkThere(this.#name, this.#data, this.#targets);
      const m = Math.min(this.#capacity, count - from);
      const out = this.#pass.forward(x.subarray(from * features, (from + m) * features), null, m);
      sum += m * losses[this.#loss](out, m, n, this.#targets, null, from, null);
      if (this.#loss === 'cross-entropy') correct += countCorrect(out, m, n, this.#targets, from);
      yield;
    }
    return { loss: sum / count, accuracy: this.#loss === 'cross-entropy' ? correct / count : Number.NaN };
  }
}

/** Another task may have transferred a buffer meanwhile: class ids are a copy, other targets are the caller's. */
function checkThere(name: string, { x, y, count, features }: Dataset, targets: Targets): void {
  checkArray(`${name}.x`, x, Float32Array, count * features);
  if (targets === y) checkArray(`${name}.y`, y, Float32Array);
}

/** Throws TypeError or RangeError naming the option. */
export function checkFitOptions(name: string, value: unknown): asserts value is FitOptions {
  checkOptions(name, value);
  const given = value as Record<keyof FitOptions, unknown>;
  checkInteger(`${name}.epochs`, given.epochs, 0, 2 ** 31 - 1);
  checkInteger(`${name}.batchSize`, given.batchSize, 1, 2 ** 31 - 1);
  checkOptimizer(`${name}.optimizer`, given.optimizer);
  if (given.rate !== undefined) checkRate(`${name}.rate`, given.rate);
  if (given.loss !== undefined) checkOneOf(`${name}.loss`, given.loss, LOSSES);
  checkSeed(`${name}.seed`, given.seed);
  if (given.validation !== undefined && typeof given.validation !== 'number')
    checkDataset(`${name}.validation`, given.validation);
  if (given.keep !== undefined) checkOneOf(`${name}.keep`, given.keep, ['best', 'last']);
  if (given.signal !== undefined && !(given.signal instanceof AbortSignal))
    throw typeError(`${name}.signal`, 'an AbortSignal', given.signal);
  if (given.onEpoch !== undefined && typeof given.onEpoch !== 'function')
    throw typeError(`${name}.onEpoch`, 'a function', given.onEpoch);
}

function splitOff(
  data: Dataset,
  validationCount: number,
): { train: Dataset; validation: Dataset | undefined } {
  checkInteger('options.validation', validationCount, 0, Math.max(0, data.count - 1));
  const { train, validation } = split(data, validationCount);
  return { train, validation: validationCount === 0 ? undefined : validation };
}

/** Turns for the event loop, when enough time has passed since the last. */
function createPause(signal: AbortSignal | undefined) {
  let last = performance.now();
  return {
    due: () => performance.now() - last > TURN,
    async take() {
      await new Promise((resolve) => setImmediate(resolve));
      last = performance.now();
      signal?.throwIfAborted();
    },
  };
}
