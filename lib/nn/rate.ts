import { checkInteger, checkNumber, checkOneOf } from '../check.ts';
import { typeError } from '../errors.ts';

/** How the learning rate changes: a factor of the optimizer's, as a pure function of the time passed. */
export type RateOptions =
  | { readonly type: 'constant' }
  /** From 1 down to `minimum` (default 0) along half a cosine, step by step (Loshchilov & Hutter 2017). */
  | { readonly type: 'cosine'; readonly minimum?: number }
  /** Multiplied by `factor` after every `every` epochs. */
  | { readonly type: 'step'; readonly every: number; readonly factor: number };

/** Throws TypeError or RangeError naming the option. */
export function checkRate(name: string, value: unknown): asserts value is RateOptions {
  if (typeof value !== 'object' || value === null) throw typeError(name, 'an object with a type', value);
  const given = value as Record<string, unknown>;
  checkOneOf(`${name}.type`, given.type, ['constant', 'cosine', 'step']);
  if (given.type === 'cosine' && given.minimum !== undefined)
    checkNumber(`${name}.minimum`, given.minimum, 0, 1);
  if (given.type === 'step') {
    checkInteger(`${name}.every`, given.every, 1, Number.MAX_SAFE_INTEGER);
    checkNumber(`${name}.factor`, given.factor, 0, Number.MAX_VALUE);
  }
}

/** The factor after `passed` of `epochs` epochs; `passed` has a fraction within an epoch. */
export function rateFactor(rate: RateOptions, passed: number, epochs: number): number {
  if (rate.type === 'cosine') {
    const minimum = rate.minimum ?? 0;
    return minimum + (1 - minimum) * 0.5 * (1 + Math.cos((Math.PI * passed) / epochs));
  }
  return rate.type === 'step' ? rate.factor ** Math.floor(passed / rate.every) : 1;
}
