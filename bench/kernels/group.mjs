/** One group of the grid: a shape in blocks of one shape, at every sparsity, against its peers. */
import { readFileSync } from 'node:fs';
import { BlockGrid, BlockMask, BsrLinear, BsrMatrix, CsrMatrix } from '../../dist/index.js';
import { pair } from './grid.mjs';
import { check, denseProduct, interleave, randomMask, randoms } from './measure.mjs';
import { timed } from './peers.mjs';

/** Kilobytes of a core's second cache; a megabyte, as of servers with AVX-512, where the system does not say. */
function secondCache() {
  try {
    return Number.parseInt(readFileSync('/sys/devices/system/cpu/cpu0/cache/index2/size', 'utf8'), 10);
  } catch {
    return 1024;
  }
}
/** Half of L2: all of it stays there. */
export const L2_BYTES = secondCache() * 512;
/** What our own dense runs in. */
const DENSE_BLOCK = [32, 32];
/** Layers of the long chain, and of short ones; odd, so that all end in the same shape. */
const LONG = 11;
const SHORTS = [3, 5, 7];

/**
 * Weights of variance 1 / (inputs left): a product keeps the size of its input, however long the chain. Blocks are kept
 * at random places; or, `inOrder`, every block row keeps the same ones, side by side.
 */
function randomMatrix([n, k], block, sparsity, inOrder) {
  const grid = new BlockGrid([n, k], block);
  const { gridRows: rows, gridCols: columns } = grid;
  const left = (count) => Math.max(1, Math.round((1 - sparsity / 100) * count));
  const kept = inOrder ? rows * left(columns) : left(grid.blockCount);
  const bytes = inOrder
    ? Uint8Array.from({ length: grid.blockCount }, (_, i) => (i % columns < left(columns) ? 1 : 0))
    : randomMask(grid.blockCount, kept);
  const mask = new BlockMask(grid, bytes);
  return BsrMatrix.fromDense(randoms(n * k, Math.sqrt((3 * grid.blockCount) / (k * kept))), grid, mask);
}

const dense = (weight, shape) => {
  const grid = new BlockGrid(shape, DENSE_BLOCK);
  return BsrMatrix.fromDense(weight, grid, BlockMask.full(grid));
};

/** The unpruned weight of a shape, its inputs and its result: every group of the shape uses them. */
export function operands(shape, batches) {
  const [n, k] = pair(shape);
  const most = Math.max(...batches);
  const x = randoms(most * k);
  const weight = randoms(n * k, Math.sqrt(3 / k));
  return { n, k, x, weight, expected: denseProduct(weight, n, k, x, most), most };
}

/**
 * A layer within a network: eleven layers less three, by eight. Both chains take and give row-major activations,
 * so what is left is the layer alone, its input and output as they lie between layers. Where three go by another
 * kernel than eleven do it is eleven less five or seven, and a part of all eleven where those do, too. Its weights
 * are the same each time, in whichever cache holds one layer of them; the bias keeps outputs from zero where hardly
 * a block is left. A layer that is not square takes turns with
 * one of the transposed shape and equal density; the time is the mean of the two.
 */
function chainsOf(kernels, matrices, biases, threads, batchHint) {
  const packed = matrices.map((one, i) => kernels.packLayer(one, biases[i], 'none', threads, batchHint));
  const layers = Array.from({ length: LONG }, (_, i) => packed[i % 2]);
  return new Map([...SHORTS, LONG].map((count) => [count, kernels.packChain(layers.slice(0, count))]));
}

/** The first row, one in the middle and the last through chains of so many layers. */
function checkChains(what, chains, weights, x, m) {
  const [{ n, k }] = weights;
  const outputs = new Map();
  for (const [count, chain] of chains) {
    const out = new Float32Array(m * n);
    chain.forward(x.subarray(0, m * k), m, out);
    outputs.set(count, out);
  }
  for (const row of new Set([0, m >> 1, m - 1])) {
    let rows = x.slice(row * k, (row + 1) * k);
    for (let i = 1; i <= LONG; i++) {
      const layer = weights[(i - 1) % 2];
      rows = denseProduct(layer.weight, layer.n, layer.k, rows, 1).map((y, o) => y + layer.bias[o]);
      const out = outputs.get(i)?.subarray(row * n, (row + 1) * n);
      if (out) check(`${what}, row ${row} of ${i} layers`, out, rows, n);
    }
  }
}

/** The layers of one sparsity, and what their products must be; `inOrder` as for randomMatrix. */
export function variant(kernels, shape, block, sparsity, threads, { x, most }, batchHint, inOrder = false) {
  const [n, k] = shape;
  const matrix = randomMatrix([n, k], block, sparsity, inOrder);
  const back = n === k ? matrix : randomMatrix([k, n], block, sparsity, inOrder);
  const weight = matrix.toDense();
  const biases = [n, k].map((count) => randoms(count));
  return {
    sparsity,
    matrix,
    weights: [
      { weight, bias: biases[0], n, k },
      { weight: back.toDense(), bias: biases[1], n: k, k: n },
    ],
    layer: new BsrLinear(matrix, { threads, batchHint }),
    csr: new BsrLinear(CsrMatrix.fromBsr(matrix).toBsr([1, 1]), { threads }),
    chains: chainsOf(kernels, [matrix, back], biases, threads, batchHint),
    expected: denseProduct(weight, n, k, x, most),
  };
}

/**
 * A layer in a network, checked: { kernel, candidates, time }, chains to be timed, and what the time of a layer is by
 * theirs.
 */
export function networkOf(what, { chains, weights }, x, m) {
  const [{ n, k }] = weights;
  const input = x.slice(0, m * k);
  const out = new Float32Array(m * n);
  const long = chains.get(LONG);
  const kernelOf = (chain) => chain.info(m)[0].kernel;
  const less = SHORTS.find((count) => kernelOf(chains.get(count)) === kernelOf(long));
  const timedChains = new Map([less, LONG].filter(Boolean).map((count) => [count, chains.get(count)]));
  checkChains(what, timedChains, weights, x, m);
  return {
    kernel: kernelOf(long),
    candidates: [...timedChains.values()].map((one) => ({ time: timed(() => one.forward(input, m, out)) })),
    time: (times) => (times.at(-1) - (less ? times[0] : 0)) / (LONG - (less ?? 0)),
  };
}

function layerCandidate(what, layer, x, m, expected) {
  const { inFeatures: k, outFeatures: n } = layer;
  const input = x.slice(0, m * k);
  const out = new Float32Array(m * n);
  layer.forward(input, out);
  check(what, out, expected, m * n);
  return { time: timed(() => layer.forward(input, out)) };
}

/** The rate of multiply-adds that needs no memory, as a candidate. */
export function peakCandidate(machine, isa, threads) {
  return { time: (calls) => machine.fma(isa, threads, calls) };
}

/**
 * How many times as fast a cell of measureGroup's is, row-major or in a network, where every block row keeps the same
 * blocks, side by side: as many products, weights, indices and ends of rows, but x comes in order, and mostly from L1.
 */
export async function speedInOrder(cell, rowMajor, kernels, cores) {
  const { threads, batch: m, sparsity, batchHint } = cell;
  const shape = pair(cell.shape);
  const [, k] = shape;
  const shared = { x: randoms(m * k), most: m };
  const both = [false, true].map((inOrder) => {
    const one = variant(kernels, shape, pair(cell.block), sparsity, threads, shared, batchHint, inOrder);
    const what = `${cell.shape} in ${cell.block}, M = ${m}${inOrder ? ', blocks in order' : ''}`;
    const { density } = one.matrix;
    if (!rowMajor) return { density, ...networkOf(what, one, shared.x, m) };
    const layer = layerCandidate(what, one.layer, shared.x, m, one.expected);
    return { density, candidates: [layer], time: ([time]) => time };
  });
  const measured = await interleave(
    both.flatMap(({ candidates }) => candidates),
    threads,
    cores,
  );
  const times = measured.map((one) => one.median);
  const rates = both.map(
    ({ density, candidates, time }) => density / time(times.splice(0, candidates.length)),
  );
  return rates[1] / rates[0];
}

/** A peer on one product: checked, then a candidate. */
async function peerCandidate(what, peer, problem, expected) {
  const product = await peer.make(problem);
  await product.time(1);
  check(`${what}, ${peer.name}`, product.result(), expected, problem.m * problem.n);
  return { time: product.time, settle: peer.settle, kernel: product.kernel, close: product.close };
}

/**
 * The rows of one group: for each batch and sparsity { shape, block, threads, batch, sparsity, density, work,
 * denseWork, peak, core, l2, spread, kernel, tile, networkKernel, batchHint?, packedBytes, storedDense, bsrBytes,
 * kernels, ours, network, dense, sparse, read?, runs? }. Work is floating-point operations on the blocks that are
 * left; peak is in GFLOP/s and spread how much it varied; core the share of it that other work in registers reaches
 * (`Cores`) while `ours` and the `network` are measured, { ours, network }; l2 the rate at which L2 is read in the same
 * run, in GB/s; all null when they cannot be measured. kernel and tile are what `explain` says of the layer alone,
 * networkKernel what serves it in the network; storedDense whether the layer holds the blocks that are gone, too, in
 * larger ones; times are microseconds. `read`, at one batch row and of layers beyond L2, is that of reading the packed
 * bytes once, and nothing else. Samples are those of so many `runs`, of several the quietest.
 */
export async function* measureGroup(group, shared, { kernels, machine, isa, peers, cores }) {
  const { threads, batches, sparsities, batchHint } = group;
  const shape = pair(group.shape);
  const [n, k] = shape;
  const block = pair(group.block);
  const variants = sparsities.map((s) => variant(kernels, shape, block, s, threads, shared, batchHint));
  const ownDense = new BsrLinear(dense(shared.weight, shape), { threads });
  for (const m of batches) {
    const where = `${group.shape} in ${group.block}, M = ${m}, ${threads} threads`;
    const x = shared.x.slice(0, m * k);
    const candidates = new Map();
    const networks = new Map();
    if (machine) {
      candidates.set('peak', peakCandidate(machine, isa, threads));
      candidates.set('L2', { time: (calls) => machine.read(isa, threads, L2_BYTES, calls) });
    }
    candidates.set(
      'our dense',
      layerCandidate(`${where}, our dense`, ownDense, shared.x, m, shared.expected),
    );
    for (const peer of peers.dense) {
      const problem = { n, k, m, threads, x, weight: shared.weight };
      candidates.set(peer.name, await peerCandidate(where, peer, problem, shared.expected));
    }
    for (const one of variants) {
      const { sparsity, matrix, layer, csr, expected } = one;
      const what = `${where}, ${sparsity} %`;
      candidates.set(`${sparsity} ours`, layerCandidate(what, layer, shared.x, m, expected));
      candidates.set(`${sparsity} csr`, layerCandidate(`${what}, csr`, csr, shared.x, m, expected));
      const network = networkOf(what, one, shared.x, m);
      networks.set(sparsity, network);
      network.candidates.forEach((chain, i) => {
        candidates.set(`${sparsity} chain ${i}`, chain);
      });
      const { packedBytes } = layer.explain(m);
      if (machine && (m === 1 || packedBytes > 2 * L2_BYTES))
        candidates.set(`${sparsity} read`, {
          time: (calls) => machine.read(isa, threads, packedBytes / threads, calls),
        });
      if (peers.blocks) {
        const { crowIndices: crow, colIndices: col, values } = matrix;
        const problem = { n, k, m, threads, x, r: block[0], c: block[1], crow, col, values };
        candidates.set(
          `${sparsity} ${peers.blocks.name}`,
          await peerCandidate(what, peers.blocks, problem, expected),
        );
      }
    }
    const names = [...candidates.keys()];
    const list = [...candidates.values()];
    const measured = new Map((await interleave(list, threads, cores)).map((one, i) => [names[i], one]));
    const times = new Map([...measured].map(([name, one]) => [name, one.median]));
    const peak = machine ? (machine.fmaFlops(isa) * threads) / times.get('peak') / 1e3 : null;
    const coreOf = (name) => cores.rate(measured.get(name).probe) / peak;
    const kernelNames = {};
    for (const [name, { close, kernel }] of candidates) {
      await close?.();
      if (kernel && peers.dense.some((peer) => peer.name === name)) kernelNames[name] = kernel;
    }
    const denseTimes = Object.fromEntries(
      ['our dense', ...peers.dense.map(({ name }) => name)].map((name) => [name, times.get(name)]),
    );
    for (const { sparsity, matrix, layer } of variants) {
      const time = (name) => times.get(`${sparsity} ${name}`);
      const network = networks.get(sparsity);
      const { kernel, tile, packedBytes, regrouped } = layer.explain(m);
      yield {
        shape: group.shape,
        block: group.block,
        threads,
        batch: m,
        sparsity,
        density: matrix.density,
        work: 2 * matrix.density * n * k * m,
        denseWork: 2 * n * k * m,
        peak,
        core: machine ? { ours: coreOf(`${sparsity} ours`), network: coreOf(`${sparsity} chain 0`) } : null,
        l2: machine ? (L2_BYTES * threads) / times.get('L2') / 1e3 : null,
        spread: machine ? measured.get('peak').spread : null,
        runs: measured.get('our dense').runs,
        kernel,
        tile,
        networkKernel: network.kernel,
        batchHint,
        packedBytes,
        storedDense: regrouped,
        bsrBytes: 4 * (matrix.values.length + matrix.colIndices.length + matrix.crowIndices.length),
        kernels: kernelNames,
        ours: time('ours'),
        network: network.time(network.candidates.map((_, i) => time(`chain ${i}`))),
        dense: denseTimes,
        sparse: {
          ...(peers.blocks && { [peers.blocks.name]: time(peers.blocks.name) }),
          csr: time('csr'),
        },
        ...(times.has(`${sparsity} read`) && { read: time('read') }),
      };
    }
  }
}
