import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Random } from '../../lib/nn/random.ts';

const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

export interface Result {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the command line as a user does, in a pipe. `watch` sees stderr as it grows. */
export function cli(
  args: readonly string[],
  options: {
    cwd?: string;
    env?: NodeJS.ProcessEnv;
    watch?: (stderr: string, child: ChildProcess) => void;
  } = {},
): Promise<Result> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [main, ...args], {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk) => {
      stdout += chunk;
    });
    child.stderr.on('data', (chunk) => {
      stderr += chunk;
      options.watch?.(stderr, child);
    });
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });
}

function idx(sizes: readonly number[], data: Uint8Array): Buffer {
  const header = Buffer.alloc(4 + 4 * sizes.length);
  header.set([0, 0, 0x08, sizes.length]);
  sizes.forEach((size, i) => {
    header.writeUInt32BE(size, 4 + 4 * i);
  });
  return Buffer.concat([header, data]);
}

/** Side of an image, and number of classes: quadrants, one of them bright. */
export const SIDE = 8;
export const CLASSES = 4;

/** A small data set in MNIST's files: the class of an image is the bright quadrant, the rest is noise. */
export function writeImages(folder: string, trainCount = 300, testCount = 60): void {
  mkdirSync(folder, { recursive: true });
  const random = new Random(5);
  for (const [part, count] of [
    ['train', trainCount],
    ['t10k', testCount],
  ] as const) {
    const labels = Uint8Array.from({ length: count }, (_, i) => i % CLASSES);
    const pixels = Uint8Array.from({ length: count * SIDE * SIDE }, (_, i) => {
      const y = Math.floor(i / SIDE) % SIDE;
      const quadrant = 2 * Number(y >= SIDE / 2) + Number(i % SIDE >= SIDE / 2);
      const bright = quadrant === labels[Math.floor(i / (SIDE * SIDE))];
      return Math.floor(random.next() * 128) + (bright ? 100 : 0);
    });
    writeFileSync(join(folder, `${part}-images-idx3-ubyte`), idx([count, SIDE, SIDE], pixels));
    writeFileSync(join(folder, `${part}-labels-idx1-ubyte`), idx([count], labels));
  }
}
