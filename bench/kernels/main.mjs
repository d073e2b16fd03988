/** The command `npm run bench`; USAGE, which --help prints, says what it does and what it needs. */
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { GOALS, goalGroups, goalsOf } from './goals.mjs';
import { checkSizes, FILTERS, groups, select } from './grid.mjs';
import { cleanEnvironment, nativeModule, traps } from './peers.mjs';

const USAGE = `One layer, block-sparse, against dense libraries and sparse ones, in one interleaved run.

    npm run bench                                              a quick part of the grid, under five minutes
    npm run bench -- --all                                     the whole grid, hours
    npm run bench -- --block 16x16 --batch 128 --sparsity 90   any cells; also --shape, --threads; with commas
    npm run bench -- --goals                                   what the kernels are meant to reach, and do
    npm run bench -- --goals --shape 3072x768,4096x4096        shares of the peak there, 8 points less
    npm run bench -- --serving                                 what a call costs, the event loop, no native code
    npm run bench -- --out FOLDER                              also results.json, tables.md and plots (SVG)
    npm run bench -- --help                                    this text

\`ours\` is BsrLinear.forward: row-major in and out, the call from JavaScript included. \`network\` is one layer
within a network of eleven that have the same weights, its activations left as they are between layers; one that is not
square takes turns with one of the transposed shape, and the time is their mean. Like those of
\`ours\`, its weights lie in the cache they fit in, where a network of other layers may find them in the next. Peers
are timed without JavaScript (but for onnxruntime-node, which has no other way), on operands of their own, packed
beforehand where the library can. Times are medians; every result is checked first, of networks three rows. A kernel
with \`dense\` after it holds the blocks that are gone, too, as larger ones (see batchHint of BsrLinear). Beside the
peak stand \`core\`, the rate of multiply-adds beside integer additions, all in registers, as a share of the peak, and
the rate at which L2 is read. While others use the same physical cores both fall and kernels slow down, and often not
the peak. So \`core\` is measured before and after each sample. With --goals, or any of --shape, --block, --batch,
--sparsity and --threads, up to five times as many samples are taken while it is low, and those with the highest count:
on a machine that others use that takes up to five times as long.
Peers that are not installed are left out:

    npm install --prefix bench                                                    onnxruntime-node
    apt-get install libopenblas-dev libdnnl-dev libxsmm-dev libblis-dev           OpenBLAS, oneDNN, LIBXSMM, BLIS
    npm run bench:peers                                                           builds their modules

PyTorch and SciPy: python bench/kernels/pytorch.py --help.`;

/** These have cells of their own, and take only such flags. */
const OWN_CELLS = { serving: [], goals: ['shape', 'out'] };

function refuseIdle(flags) {
  const command = Object.keys(OWN_CELLS).find((name) => flags[name]);
  if (command === undefined) return;
  const idle = Object.keys(flags).find((name) => name !== command && !OWN_CELLS[command].includes(name));
  if (idle !== undefined) throw new RangeError(`--${command} has cells of its own: it takes no --${idle}`);
}

function makeFolder(out) {
  try {
    mkdirSync(out, { recursive: true });
  } catch (error) {
    throw new Error(`--out takes a folder that is there or can be made, but not "${out}": ${error.code}`);
  }
}

let flags;
try {
  flags = parseArgs({
    options: {
      help: { type: 'boolean', short: 'h' },
      all: { type: 'boolean' },
      goals: { type: 'boolean' },
      serving: { type: 'boolean' },
      out: { type: 'string' },
      ...Object.fromEntries(FILTERS.map((name) => [name, { type: 'string' }])),
    },
  }).values;
  if (flags.help) {
    console.log(USAGE);
    process.exit();
  }
  refuseIdle(flags);
  const selection = select(flags, flags.all);
  if (flags.goals) flags.goals = flags.shape === undefined ? GOALS : goalsOf(selection.shape);
  flags.groups = flags.goals ? goalGroups(flags.goals) : groups(selection);
  flags.quietly = flags.goals !== undefined || FILTERS.some((name) => flags[name] !== undefined);
  checkSizes(flags.groups);
  // Before hours of measuring, not after.
  if (flags.out !== undefined) makeFolder(flags.out);
} catch (error) {
  console.error(error.message);
  process.exit(2);
}

// Libraries read the environment when they load, so those that load them start with a clean one.
if (process.env.BLOCKSPARSE_BENCH === undefined) {
  const isas = nativeModule('machine')?.isas ?? [];
  const unset = traps(process.env);
  if (unset.length > 0) console.log(`unset for this run: ${unset.join(', ')}`);
  const env = { ...cleanEnvironment(process.env, isas.includes('avx512')), BLOCKSPARSE_BENCH: '1' };
  const child = spawnSync(process.execPath, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], {
    env,
    stdio: 'inherit',
  });
  process.exit(child.status ?? 1);
}

const { run } = await import('./run.mjs');
await run(flags);
