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

const KERNELS = ['avx2', 'avx512', 'packed_layer', 'pattern', 'portable', 'scalar', 'table'];
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

/** As cache.cc reads it. */
function bytesOf(matrices) {
  const parts = [Int32Array.of(matrices.length)];
  for (const { shape, blockShape, nnzb, crowIndices, colIndices, values } of matrices)
    parts.push(Int32Array.of(...shape, ...blockShape, nnzb), crowIndices, colIndices, values);
  return Buffer.concat(parts.map((part) => Buffer.from(part.buffer, part.byteOffset, part.byteLength)));
}

/** Data references and misses of a whole run of the program. */
function counts(program, file, m, passes) {
  const sizes = Object.entries(CACHES).map(([name, size]) => `--${name}=${size}`);
  const flags = ['--tool=cachegrind', '--cache-sim=yes', '--cachegrind-out-file=/dev/null', ...sizes];
  const { stderr } = run('valgrind', [...flags, program, file, String(m), String(passes)]);
  const read = (label) => {
    const found = new RegExp(`${label}:\\s+([\\d,]+)`).exec(stderr);
    if (!found) throw new Error(`valgrind printed no ${label}:\n${stderr}`);
    return Number(found[1].replaceAll(',', ''));
  };
  return { references: read('D +refs'), d1: read('D1 +misses'), ll: read('LLd misses') };
}

/**
 * Per pass over the three layers, caches warm: data references, and misses of the first and of the last level; by
 * density, block, format and batch rows.
 */
export function measureCache(blocks, log) {
  const folder = mkdtempSync(join(tmpdir(), 'blocksparse-cache-'));
  try {
    const program = join(folder, 'cache');
    const flags = ['-std=c++17', '-O3', '-ffp-contract=off', '-fno-math-errno', '-pthread'];
    run('g++', [...flags, ...SOURCES, '-o', program], { cwd: root });
    const file = join(folder, 'network');
    const records = [];
    const measure = (stage, block, format, matrices) => {
      writeFileSync(file, bytesOf(matrices.map(FORMATS[format])));
      for (const m of BATCHES) {
        const [first, all] = [1, 1 + PASSES].map((passes) => counts(program, file, m, passes));
        const perPass = (name) => (all[name] - first[name]) / PASSES;
        records.push({
          stage,
          block,
          format,
          m,
          references: perPass('references'),
          d1Misses: perPass('d1'),
          llMisses: perPass('ll'),
        });
      }
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
