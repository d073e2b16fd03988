import { rangeError, typeError } from './errors.ts';

export function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

/** An object of options: an array, which has none of the names, is a mistake. */
export function checkOptions(name: string, value: unknown): asserts value is object {
  if (!isObject(value) || Array.isArray(value)) throw typeError(name, 'an object', value);
}

/** A whole number within [min, max]. */
export function checkInteger(
  name: string,
  value: unknown,
  min: number,
  max: number,
): asserts value is number {
  if (typeof value !== 'number') throw typeError(name, 'a number', value);
  if (!Number.isInteger(value) || value < min || value > max)
    throw rangeError(name, `a whole number from ${min} to ${max}`, value);
}

/** A finite number within [min, max]. */
export function checkNumber(name: string, value: unknown, min: number, max: number): asserts value is number {
  if (typeof value !== 'number') throw typeError(name, 'a number', value);
  if (!(value >= min && value <= max)) throw rangeError(name, `a number from ${min} to ${max}`, value);
}

export function checkOneOf<T extends string>(
  name: string,
  value: unknown,
  allowed: readonly T[],
): asserts value is T {
  if (typeof value !== 'string') throw typeError(name, `one of ${allowed.join(', ')}`, value);
  if (!allowed.includes(value as T)) throw rangeError(name, `one of ${allowed.join(', ')}`, value);
}

type ArrayKind = typeof Float32Array | typeof Int32Array | typeof Uint8Array;

/** A typed array of exactly this kind, its buffer not taken from it; of exactly `length` elements when given. */
export function checkArray<K extends ArrayKind>(
  name: string,
  value: unknown,
  kind: K,
  length?: number,
): asserts value is InstanceType<K> {
  // A view, not only an object with its prototype.
  if (!(ArrayBuffer.isView(value) && value instanceof kind)) throw typeError(name, `a ${kind.name}`, value);
  if (value.length === 0 && isGone(value))
    throw rangeError(name, `a ${kind.name} whose buffer was not transferred away or cut short`, value);
  if (length !== undefined && value.length !== length)
    throw rangeError(name, `a ${kind.name} of ${length} elements`, value);
}

const { keys } = Uint8Array.prototype;

/** Whether the elements are gone: `length` then is 0, as of an empty array, but nothing else works. */
function isGone(array: ArrayBufferView): boolean {
  try {
    keys.call(array as Uint8Array);
    return false;
  } catch {
    return true;
  }
}
