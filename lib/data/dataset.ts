import { access, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { checkArray } from '../check.ts';
import { BlocksparseError } from '../errors.ts';
import { checkPath } from '../format/atomic.ts';
import type { Dataset } from '../nn/dataset.ts';
import { readIdxFile } from './idx.ts';

/** Labelled images, as MNIST's relatives come: a training and a test set. */
export interface ImageData {
  readonly name: string;
  /** x is [count, features], normalised by `normalize`; y holds class ids. */
  readonly train: Dataset;
  readonly test: Dataset;
  /** Names of the classes, where known. */
  readonly classes: readonly string[] | undefined;
  /** Rows and columns of an image: [height, width]; features = height * width. */
  readonly imageShape: readonly [number, number];
}

/** The subset of Fashion-MNIST that the repository holds; an installed package has none. */
const EMBEDDED = fileURLToPath(new URL('../../bench/data', import.meta.url));

const FASHION = [
  'T-shirt/top',
  'Trouser',
  'Pullover',
  'Dress',
  'Coat',
  'Sandal',
  'Shirt',
  'Sneaker',
  'Bag',
  'Ankle boot',
];
const DIGITS = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9'];

/** An optional `dataset.json` beside the files. */
const Description = z.object({ name: z.string().min(1), classes: z.array(z.string()).min(1).optional() });

function invalidData(message: string, cause?: unknown): BlocksparseError {
  return new BlocksparseError('INVALID_DATA', message, { cause });
}

/** The folder `loadDataset` reads: the given one, else BLOCKSPARSE_DATA, else the embedded subset. */
export function dataFolder(folder?: string | URL): string {
  if (folder !== undefined) return checkPath('folder', folder);
  return process.env.BLOCKSPARSE_DATA
    ? checkPath('BLOCKSPARSE_DATA', process.env.BLOCKSPARSE_DATA)
    : EMBEDDED;
}

/** Pixels 0..255 to -1..1, the paper's (x/255 - .5)/.5. */
export function normalize(pixels: Uint8Array): Float32Array {
  checkArray('pixels', pixels, Uint8Array);
  const scale = Float32Array.from({ length: 256 }, (_, pixel) => (pixel / 255 - 0.5) / 0.5);
  const values = new Float32Array(pixels.length);
  for (let i = 0; i < pixels.length; i++) values[i] = scale[pixels[i]];
  return values;
}

/**
 * Reads a data set in MNIST's files (`train-images-idx3-ubyte` and its three fellows, gzipped or not) from the given
 * folder, else from BLOCKSPARSE_DATA, else the subset of Fashion-MNIST that the repository holds.
 * Rejects with BlocksparseError: DATA_NOT_FOUND says where to get one, INVALID_DATA what is wrong with a file.
 */
export async function loadDataset(folder?: string | URL): Promise<ImageData> {
  const from = dataFolder(folder);
  const { name, classes } = await describeFolder(from);
  const train = await readPart(from, 'train');
  const test = await readPart(from, 't10k');
  if (String(train.imageShape) !== String(test.imageShape))
    throw invalidData(`${from}: training images are [${train.imageShape}], test images [${test.imageShape}]`);
  const largest = Math.max(train.largest, test.largest);
  if (classes && largest >= classes.length)
    throw invalidData(`${from}: has a label ${largest}, but only ${classes.length} classes`);
  const count = classes?.length ?? largest + 1;
  return {
    name,
    train: { ...train.data, classes: count },
    test: { ...test.data, classes: count },
    classes,
    imageShape: train.imageShape,
  };
}

async function describeFolder(
  folder: string,
): Promise<{ name: string; classes: readonly string[] | undefined }> {
  const file = join(folder, 'dataset.json');
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if (!isMissing(error)) throw error;
    const name = basename(folder);
    if (/fashion/i.test(name)) return { name: 'Fashion-MNIST', classes: FASHION };
    return /mnist/i.test(name) ? { name: 'MNIST', classes: DIGITS } : { name, classes: undefined };
  }
  try {
    const { name, classes } = Description.parse(JSON.parse(text));
    return { name, classes };
  } catch (cause) {
    throw invalidData(`${file}: must be JSON with a "name" and perhaps "classes", a list of names`, cause);
  }
}

interface Part {
  readonly data: Dataset;
  readonly imageShape: readonly [number, number];
  readonly largest: number;
}

async function readPart(folder: string, part: 'train' | 't10k'): Promise<Part> {
  const imageFile = await find(folder, `${part}-images`, 'idx3-ubyte');
  const labelFile = await find(folder, `${part}-labels`, 'idx1-ubyte');
  const images = await readIdxFile(imageFile);
  const labels = await readIdxFile(labelFile);
  const [count, height, width] = images.shape;
  if (images.shape.length !== 3 || images.data.length === 0)
    throw invalidData(
      `${imageFile}: has sizes [${images.shape}], not images, rows and columns of at least 1`,
    );
  if (labels.shape.length !== 1 || labels.shape[0] !== count)
    throw invalidData(`${labelFile}: has sizes [${labels.shape}], not one label for each of ${count} images`);
  return {
    data: { x: normalize(images.data), y: labels.data, count, features: height * width },
    imageShape: [height, width],
    largest: labels.data.reduce((a, b) => Math.max(a, b), 0),
  };
}

/** Both spellings in use: "train-images-idx3-ubyte" and "train-images.idx3-ubyte", plain before gzipped. */
async function find(folder: string, stem: string, type: string): Promise<string> {
  for (const name of [`${stem}-${type}`, `${stem}.${type}`, `${stem}-${type}.gz`, `${stem}.${type}.gz`]) {
    const file = join(folder, name);
    try {
      await access(file);
      return file;
    } catch (error) {
      if (!isMissing(error)) throw error;
    }
  }
  throw new BlocksparseError(
    'DATA_NOT_FOUND',
    `no data set: ${folder} has no ${stem}-${type} or ${stem}-${type}.gz. Fashion-MNIST comes with ` +
      `"apt install dataset-fashion-mnist" (in /usr/share/datasets/fashion-mnist) or from ` +
      `https://github.com/zalandoresearch/fashion-mnist; name its folder by --data DIR or BLOCKSPARSE_DATA`,
  );
}

function isMissing(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOENT' || code === 'ENOTDIR';
}
