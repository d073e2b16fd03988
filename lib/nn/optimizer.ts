import { checkNumber, checkOneOf } from '../check.ts';
import { rangeError, typeError } from '../errors.ts';
import { kernels } from '../kernels/choose.ts';
import type { AdamStep, SgdStep } from '../kernels/kernels.ts';

/** Stochastic gradient descent, PyTorch's form: velocity = momentum * velocity + gradient. */
export interface SgdOptions {
  readonly type: 'sgd';
  readonly learningRate: number;
  /** Default 0. */
  readonly momentum?: number;
  /** Factor of the L2 term that is added to the gradient; default 0. */
  readonly weightDecay?: number;
}

/** Adam (Kingma & Ba 2015), or AdamW (Loshchilov & Hutter 2019), whose weight decay bypasses the moments. */
export interface AdamOptions {
  readonly type: 'adam' | 'adamw';
  readonly learningRate: number;
  /** Default 0.9. */
  readonly beta1?: number;
  /** Default 0.999. */
  readonly beta2?: number;
  /** Default 1e-8; not 0. */
  readonly epsilon?: number;
  /** Default 0 for Adam and 0.01 for AdamW, as in PyTorch. */
  readonly weightDecay?: number;
}

/** Defaults are PyTorch's; weight decay acts on biases too. */
export type OptimizerOptions = SgdOptions | AdamOptions;

/** Throws TypeError or RangeError naming the option. */
export function checkOptimizer(name: string, value: unknown): asserts value is OptimizerOptions {
  if (typeof value !== 'object' || value === null) throw typeError(name, 'an object with a type', value);
  const given = value as Record<string, unknown>;
  checkOneOf(`${name}.type`, given.type, ['sgd', 'adam', 'adamw']);
  checkNumber(`${name}.learningRate`, given.learningRate, 0, Number.MAX_VALUE);
  const number = (key: string, max: number) => {
    if (given[key] !== undefined) checkNumber(`${name}.${key}`, given[key], 0, max);
  };
  number('weightDecay', Number.MAX_VALUE);
  number('epsilon', Number.MAX_VALUE);
  // As float32, what the kernels compute in: 0 would divide 0 by 0 where a gradient has always been 0.
  if (given.epsilon !== undefined && Math.fround(given.epsilon as number) === 0)
    throw rangeError(`${name}.epsilon`, 'a number that float32 tells from 0', given.epsilon);
  for (const key of ['momentum', 'beta1', 'beta2']) {
    number(key, 1);
    if (given[key] === 1) throw rangeError(`${name}.${key}`, 'less than 1', 1);
  }
}

/** Updates parameters in place; keeps the moments of each. */
export interface Optimizer {
  /** Begins a step, with the learning rate of the options times `factor`. */
  begin(factor: number): void;
  /** Updates parameter `index` of the list given at creation. */
  update(index: number, gradient: Float32Array): void;
  /**
   * Goes on with other arrays in place of the parameters. Where one is another than before, its moments are new and
   * zero, and `carry(index, old, fresh)` copies into them what stays.
   */
  replace(parameters: readonly Float32Array[], carry: Carry): void;
}

/** Copies one moment of parameter `index`, laid out as the parameter was, to one laid out as it is now. */
export type Carry = (index: number, old: Float32Array, fresh: Float32Array) => void;

/** An optimizer for `parameters`, with checked options. */
export function createOptimizer(options: OptimizerOptions, parameters: readonly Float32Array[]): Optimizer {
  return options.type === 'sgd' ? new Sgd(options, parameters) : new Adam(options, parameters);
}

class Sgd implements Optimizer {
  readonly #kernels = kernels();
  #parameters: readonly Float32Array[];
  #velocities: readonly Float32Array[];
  readonly #learningRate: number;
  readonly #how: SgdStep;

  constructor(
    { learningRate, momentum = 0, weightDecay = 0 }: SgdOptions,
    parameters: readonly Float32Array[],
  ) {
    this.#parameters = parameters;
    this.#velocities = parameters.map((parameter) => this.#kernels.allocate(parameter.length));
    this.#learningRate = learningRate;
    this.#how = { learningRate, momentum, weightDecay };
  }

  begin(factor: number): void {
    this.#how.learningRate = this.#learningRate * factor;
  }

  update(index: number, gradient: Float32Array): void {
    this.#kernels.sgdStep(this.#parameters[index], gradient, this.#velocities[index], this.#how);
  }

  replace(parameters: readonly Float32Array[], carry: Carry): void {
    this.#velocities = carried(this.#velocities, this.#parameters, parameters, carry);
    this.#parameters = parameters;
  }
}

class Adam implements Optimizer {
  readonly #kernels = kernels();
  #parameters: readonly Float32Array[];
  #first: readonly Float32Array[];
  #second: readonly Float32Array[];
  readonly #learningRate: number;
  readonly #how: AdamStep;

  constructor(options: AdamOptions, parameters: readonly Float32Array[]) {
    const decoupled = options.type === 'adamw';
    const { learningRate, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8 } = options;
    const weightDecay = options.weightDecay ?? (decoupled ? 0.01 : 0);
    this.#parameters = parameters;
    this.#first = parameters.map((parameter) => this.#kernels.allocate(parameter.length));
    this.#second = parameters.map((parameter) => this.#kernels.allocate(parameter.length));
    this.#learningRate = learningRate;
    this.#how = { learningRate, beta1, beta2, epsilon, weightDecay, decoupled, step: 0 };
  }

  begin(factor: number): void {
    this.#how.learningRate = this.#learningRate * factor;
    this.#how.step++;
  }

  update(index: number, gradient: Float32Array): void {
    this.#kernels.adamStep(
      this.#parameters[index],
      gradient,
      this.#first[index],
      this.#second[index],
      this.#how,
    );
  }

  replace(parameters: readonly Float32Array[], carry: Carry): void {
    this.#first = carried(this.#first, this.#parameters, parameters, carry);
    this.#second = carried(this.#second, this.#parameters, parameters, carry);
    this.#parameters = parameters;
  }
}

/** One moment of every parameter, after `before` were replaced by `after`. */
function carried(
  moments: readonly Float32Array[],
  before: readonly Float32Array[],
  after: readonly Float32Array[],
  carry: Carry,
): Float32Array[] {
  return moments.map((moment, i) => {
    if (after[i] === before[i]) return moment;
    const fresh = kernels().allocate(after[i].length);
    carry(i, moment, fresh);
    return fresh;
  });
}
