import { BlocksparseError } from '../errors.ts';
import type { Kernels } from './kernels.ts';
import { loadAddon, nativeKernels, packageRoot } from './native.ts';
import { portableKernels } from './portable.ts';

const BACKENDS = ['native', 'js'];
/** Of every machine. */
const ISAS = ['avx512', 'avx2', 'neon', 'portable', 'scalar'];

/** A variable's value when it is one of these; undefined when unset or empty. */
function setting(name: string, allowed: readonly string[]): string | undefined {
  const value = process.env[name];
  if (value === undefined || value === '') return undefined;
  if (!allowed.includes(value))
    throw new BlocksparseError(
      'NATIVE_UNAVAILABLE',
      `${name} must be one of ${allowed.join(', ')} here, but is ${JSON.stringify(value)}`,
    );
  return value;
}

function threadCount(available: number): number {
  const value = process.env.BLOCKSPARSE_THREADS;
  if (value === undefined || value === '') return available;
  const threads = Number(value);
  if (!Number.isInteger(threads) || threads < 1 || threads > 1024)
    throw new BlocksparseError(
      'NATIVE_UNAVAILABLE',
      `BLOCKSPARSE_THREADS must be a whole number from 1 to 1024, but is ${JSON.stringify(value)}`,
    );
  return threads;
}

function unavailable(cause: unknown): BlocksparseError {
  const reason = cause instanceof Error ? cause.message.split('\n')[0] : String(cause);
  return new BlocksparseError(
    'NATIVE_UNAVAILABLE',
    `blocksparse found no native addon for ${process.platform}-${process.arch} under ${packageRoot} (${reason}). ` +
      'With a C++ compiler, "npx node-gyp rebuild" in that folder builds one',
    { cause },
  );
}

/** What the other variables ask for makes no difference here, but a mistake in them is one all the same. */
function withoutAddon(): Kernels {
  setting('BLOCKSPARSE_ISA', ISAS);
  threadCount(1);
  return portableKernels;
}

function choose(): Kernels {
  const backend = setting('BLOCKSPARSE_BACKEND', BACKENDS);
  if (backend === 'js') return withoutAddon();
  let addon: ReturnType<typeof loadAddon>;
  try {
    addon = loadAddon();
  } catch (cause) {
    const error = unavailable(cause);
    if (backend === 'native') throw error;
    process.emitWarning(
      `${error.message}; the slower path without native code serves instead`,
      'BlocksparseWarning',
    );
    return withoutAddon();
  }
  const isa = setting('BLOCKSPARSE_ISA', addon.isas) ?? addon.isas[0];
  return nativeKernels(addon, isa, threadCount(addon.threads));
}

let chosen: Kernels | undefined;

/**
 * The backend that serves this process: the native addon on the best instruction set of the machine, or
 * WebAssembly and JS, with a one-time warning, when no addon loads. BLOCKSPARSE_BACKEND=native|js, BLOCKSPARSE_ISA and
 * BLOCKSPARSE_THREADS override; a value that cannot be had throws BlocksparseError NATIVE_UNAVAILABLE. Without the
 * addon any instruction set's name and any number of threads will do: they change nothing.
 */
export function kernels(): Kernels {
  chosen ??= choose();
  return chosen;
}

/** Every implementation this machine can run, for tests and comparisons; threads as given. */
export function allKernels(threads = 1): Kernels[] {
  const addon = loadAddon();
  return [...addon.isas.map((isa) => nativeKernels(addon, isa, threads)), portableKernels];
}

/** What serves this process. */
export function runtime(): { backend: 'native' | 'js'; isa: string; threads: number } {
  const { backend, isa, threads } = kernels();
  return { backend, isa, threads };
}
