import { checkInteger } from '../check.ts';

/** A seed is any whole number a double holds exactly. */
export function checkSeed(name: string, value: unknown): asserts value is number {
  checkInteger(name, value, 0, Number.MAX_SAFE_INTEGER);
}

/** sfc32 (Chris Doty-Humphrey, PractRand): small, fast, the same numbers on every machine. */
export class Random {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  /** Different `stream`s (whole numbers below 2^32) of one seed are independent. */
  constructor(seed: number, stream = 0) {
    this.#a = seed | 0;
    this.#b = Math.floor(seed / 2 ** 32) | 0;
    this.#c = stream | 0;
    for (let i = 0; i < 15; i++) this.nextBits();
  }

  /** 32 random bits as a whole number in [0, 2^32). */
  nextBits(): number {
    const sum = (((this.#a + this.#b) | 0) + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0;
    return sum >>> 0;
  }

  /** Uniform in [0, 1). */
  next(): number {
    return this.nextBits() / 2 ** 32;
  }

  /** Fisher-Yates, in place. */
  shuffle(array: Int32Array): void {
    for (let i = array.length - 1; i > 0; i--) {
      const j = Math.floor(this.next() * (i + 1));
      const swap = array[i];
      array[i] = array[j];
      array[j] = swap;
    }
  }

  /**
   * Fills `mask` for dropout with probability `p`: 0 for dropped elements, 1 / (1 - p) for the others.
   * The generator's state lives in local variables here: millions of draws an epoch.
   */
  dropoutMask(mask: Float32Array, p: number): void {
    const threshold = Math.round(p * 2 ** 32);
    const scale = 1 / (1 - p);
    let a = this.#a;
    let b = this.#b;
    let c = this.#c;
    let counter = this.#counter;
    for (let i = 0; i < mask.length; i++) {
      const sum = (((a + b) | 0) + counter) | 0;
      counter = (counter + 1) | 0;
      a = b ^ (b >>> 9);
      b = (c + (c << 3)) | 0;
      c = (((c << 21) | (c >>> 11)) + sum) | 0;
      mask[i] = sum >>> 0 < threshold ? 0 : scale;
    }
    this.#a = a;
    this.#b = b;
    this.#c = c;
    this.#counter = counter;
  }
}

/**
 * A seed for part `index` (a whole number below 2^32 - 1) of something seeded by `seed`, such as one round of many.
 * Throws TypeError or RangeError.
 */
export function deriveSeed(seed: number, index: number): number {
  checkSeed('seed', seed);
  checkInteger('index', index, 0, 2 ** 32 - 2);
  const random = new Random(seed, index + 1);
  return (random.nextBits() & 0x1fffff) * 2 ** 32 + random.nextBits();
}
