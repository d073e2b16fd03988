/** The command `npm run bench:train`; USAGE, which --help prints, says what it measures. */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const USAGE = `One training step (gather, forward, loss, both gradients, Adam) of 784-1024-1024-10 at batch 128: dense,
against 90 % of the blocks pruned, and against PyTorch on the CPU. One thread each.

    node bench/train.mjs [--python PYTHON] [--rounds 15]

PYTHON (or the environment's PYTHON) is a Python with torch; without it only our own steps are measured. All
candidates take turns within each round; what is printed are medians over the rounds' medians.`;

let flags;
try {
  flags = parseArgs({
    options: {
      help: { type: 'boolean', short: 'h' },
      python: { type: 'string' },
      rounds: { type: 'string', default: '15' },
    },
  }).values;
  if (!/^[1-9]\d*$/.test(flags.rounds))
    throw new RangeError(`--rounds takes a whole number from 1, but not ${flags.rounds}`);
} catch (error) {
  console.error(error.message);
  process.exit(2);
}
if (flags.help) {
  console.log(USAGE);
  process.exit();
}

// The pool is read when the kernels load, so this comes before them.
process.env.BLOCKSPARSE_THREADS = '1';
const { kernels } = await import('../dist/kernels/choose.js');
const { targetsFor } = await import('../dist/nn/dataset.js');
const { Trainer } = await import('../dist/nn/fit.js');
const { Network } = await import('../dist/nn/network.js');
const { Random } = await import('../dist/nn/random.js');
const { BsrMatrix } = await import('../dist/sparse/bsr.js');
const { BlockGrid } = await import('../dist/sparse/grid.js');
const { BlockMask } = await import('../dist/sparse/mask.js');

const python = flags.python ?? process.env.PYTHON;
const rounds = Number(flags.rounds);

const FEATURES = [784, 1024, 1024, 10];
const BATCH = 128;
const ROWS = 10 * BATCH;
const SPARSITY = 0.9;
const SECONDS_A_TURN = 0.15;

const median = (list) => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)];
const milliseconds = (seconds) => `${(seconds * 1e3).toFixed(3).padStart(9)} ms`;

const random = new Random(1);
const data = {
  x: Float32Array.from({ length: ROWS * FEATURES[0] }, () => 2 * random.next() - 1),
  y: Int32Array.from({ length: ROWS }, () => Math.floor(random.next() * FEATURES.at(-1))),
  count: ROWS,
  features: FEATURES[0],
};
const order = Int32Array.from({ length: ROWS }, (_, i) => i);
random.shuffle(order);

/** A network of which each layer keeps a random tenth of its blocks. */
function prune(network, side) {
  for (const linear of network.linears) {
    const grid = new BlockGrid([linear.outFeatures, linear.inFeatures], [side, side]);
    const blocks = Int32Array.from({ length: grid.blockCount }, (_, i) => i);
    random.shuffle(blocks);
    const kept = new Uint8Array(grid.blockCount);
    for (const block of blocks.subarray(0, Math.round((1 - SPARSITY) * grid.blockCount))) kept[block] = 1;
    linear.setMatrix(BsrMatrix.fromDense(linear.weight(), grid, new BlockMask(grid, kept)));
  }
}

function candidate(name, side) {
  const layers = FEATURES.slice(1).flatMap((n, i) => [
    ...(i > 0 ? [{ type: 'relu' }] : []),
    { type: 'linear', inFeatures: FEATURES[i], outFeatures: n },
  ]);
  const network = Network.create(layers, 0);
  if (side) prune(network, side);
  const trainer = new Trainer(network, data, targetsFor('data', data, network, 'cross-entropy'), {
    epochs: 1,
    batchSize: BATCH,
    optimizer: { type: 'adam', learningRate: 1e-4 },
    seed: 0,
  });
  let i = 0;
  const step = () => {
    const from = (i++ % 10) * BATCH;
    const start = performance.now();
    trainer.step(order.subarray(from, from + BATCH), 0);
    return (performance.now() - start) / 1e3;
  };
  const warm = step();
  const steps = Math.max(3, Math.min(100, Math.round(SECONDS_A_TURN / warm)));
  return {
    name,
    density: network.density,
    medians: [],
    turn: () => median(Array.from({ length: steps }, step)),
  };
}

/** The helper process; `ask` gives one round's medians by variant. */
async function startPyTorch() {
  const script = fileURLToPath(new URL('train_pytorch.py', import.meta.url));
  const child = spawn(python, [script, String(BATCH), '10', ...FEATURES.map(String)], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, OMP_NUM_THREADS: '1', MKL_NUM_THREADS: '1' },
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const read = async () => {
    const { value, done } = await lines.next();
    if (done) throw new Error(`${python} ended early: does it have torch?`);
    return JSON.parse(value);
  };
  const { torch } = await read();
  const ask = () => {
    child.stdin.write('\n');
    return read();
  };
  return { torch, ask, end: () => child.stdin.end(), times: {} };
}

const { backend, isa } = kernels();
const ours = [candidate('dense'), candidate('4x4', 4), candidate('16x16', 16)];
const pytorch = python ? await startPyTorch() : undefined;
for (let round = 0; round < rounds; round++) {
  for (const one of ours) one.medians.push(one.turn());
  if (!pytorch) continue;
  for (const [name, seconds] of Object.entries(await pytorch.ask())) {
    pytorch.times[name] ??= [];
    pytorch.times[name].push(seconds);
  }
}
pytorch?.end();

console.log(`${FEATURES.join('-')}, batch ${BATCH}, Adam, one thread, ${backend} ${isa}, ${rounds} rounds`);
const dense = median(ours[0].medians);
for (const { name, density, medians } of ours) {
  const time = median(medians);
  const ratio = name === 'dense' ? '' : `  x${(dense / time).toFixed(2)} of dense`;
  console.log(
    `  ${name.padEnd(16)} density ${(100 * density).toFixed(1).padStart(5)} %${milliseconds(time)}${ratio}`,
  );
}
if (pytorch) {
  const medians = Object.entries(pytorch.times).map(([name, times]) => [name, median(times)]);
  for (const [name, time] of medians)
    console.log(`  PyTorch ${pytorch.torch}, Adam ${name.padEnd(8)}${milliseconds(time)}`);
  const [name, best] = medians.reduce((a, b) => (b[1] < a[1] ? b : a));
  console.log(
    `  our dense step runs at ${(best / dense).toFixed(2)} of the speed of PyTorch's fastest (${name})`,
  );
} else console.log('  PyTorch not measured: give --python PYTHON (or set PYTHON) to a Python with torch');
