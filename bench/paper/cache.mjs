/** The paper's hit-ratio experiment: cachegrind on our kernels, dense against CSR against BSR. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { DENSITY_NAMES, LAST_ROUND, SHORT_ROUND } from './grid.mjs';
import { BATCHES } from './measure.mjs';
import { FORMATS, patternOf } from './pattern.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
/** Size, ways, line. The second level stands for a core's own, which the dense network (1,040 KiB) does not fit. */
const CACHES = { I1: '32768,8,64', D1: '32768,8,64', LL: '524288,8,64' };
/** Passes measured; the one before them fills the caches. */
const PASSES = 1;

const KERNELS = ['avx2', 'avx512', 'packed_layer', 'packing', 'pattern', 'portable', 'scalar', 'table'];
const SOURCES = [
  'bench/paper/cache.cc',
  'native/cpu/isa.cc',
  'native/threads/pool.cc',
  ...KERNELS.map((name) => `native/kernels/${name}.cc`),
];

function run(command, args, options = {}) {
  const result = spawnSync(command, args, { encoding: 'utf8', ...options });
  if (result.error || result.status !== 0)
    throw new Error(`${command} failed: ${result.error?.message ?? result.stderr}`);
  return result;
}

/** What the machine lacks for this experiment, or null. */
export function missingForCache() {
  for (const command of ['valgrind', 'g++'])
    if (spawnSync(command, ['--version']).error) return `${command} is not installed`;
  return process.arch === 'x64' ? null : `the AVX2 kernels are for x64, this is ${process.arch}`;
}

export function buildProgram(program, optimization = '-O3') {
  const flags = ['-std=c++17', optimization, '-ffp-contract=off', '-fno-math-errno', '-pthread'];
  run('g++', [...flags, ...SOURCES, '-o', program], { cwd: root });
}

/** As cache.cc reads it. */
export function writeNetwork(file, matrices) {
  const parts = [Int32Array.of(matrices.length)];
  for (const { shape, blockShape, nnzb, crowIndices, colIndices, values } of matrices)
    parts.push(Int32Array.of(...shape, ...blockShape, nnzb), crowIndices, colIndices, values);
  writeFileSync(
    file,
    Buffer.concat(parts.map((part) => Buffer.from(part.buffer, part.byteOffset, part.byteLength))),
  );
}

/** Data references and misses in what cachegrind prints. */
export function readCounts(text) {
  const read = (label) => {
    const found = new RegExp(`${label}:\\s+([\\d,]+)`).exec(text);
    if (!found) throw new Error(`valgrind printed no ${label}:\n${text}`);
    return Number(found[1].replaceAll(',', ''));
  };
  return { references: read('D +refs'), d1Misses: read('D1 +misses'), llMisses: read('LLd misses') };
}

function countsOf(program, file, m, passes) {
  const sizes = Object.entries(CACHES).map(([name, size]) => `--${name}=${size}`);
  const flags = ['--tool=cachegrind', '--cache-sim=yes', '--cachegrind-out-file=/dev/null', ...sizes];
  return readCounts(run('valgrind', [...flags, program, file, String(m), String(passes)]).stderr);
}

/** Of one pass with warm caches: what a run of more passes counts beyond a run of one. */
export function countsPerPass(program, file, m) {
  const first = countsOf(program, file, m, 1);
  const all = countsOf(program, file, m, 1 + PASSES);
  return Object.fromEntries(Object.keys(all).map((name) => [name, (all[name] - first[name]) / PASSES]));
}

/**
 * Per pass over the three layers, caches warm: data references, and misses of the first and of the last level; by
 * density, block, format and batch rows.
 */
export function measureCache(blocks, log) {
  const folder = mkdtempSync(join(tmpdir(), 'blocksparse-cache-'));
  try {
    const program = join(folder, 'cache');
    buildProgram(program);
    const file = join(folder, 'network');
    const records = [];
    const measure = (stage, block, format, matrices) => {
      writeNetwork(file, matrices.map(FORMATS[format]));
      for (const m of BATCHES) records.push({ stage, block, format, m, ...countsPerPass(program, file, m) });
    };
    measure(null, null, 'dense', patternOf('16x16', 0));
    for (const stage of [SHORT_ROUND, LAST_ROUND])
      for (const block of blocks) {
        const matrices = patternOf(block, stage);
        for (const format of block === '1x1' ? ['csr'] : ['csr', 'bsr'])
          measure(stage, block, format, matrices);
        log(`cache: ${block} at ${DENSITY_NAMES[stage]}`);
      }
    const version = run('valgrind', ['--version']).stdout.trim();
    return { valgrind: version, isa: 'avx2', caches: CACHES, records };
  } finally {
    rmSync(folder, { recursive: true });
  }
}
