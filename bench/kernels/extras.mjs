/** What the grid does not hold: gradients, block scores, and the narrower instruction set. */
import { BlockGrid, BlockMask, BsrMatrix } from '../../dist/index.js';
import { CRITERIA, padBatch } from '../../dist/kernels/kernels.js';
import { loadAddon, nativeKernels } from '../../dist/kernels/native.js';
import { median } from '../../dist/report/timing.js';
import { networkOf, operands, peakCandidate, variant } from './group.mjs';
import { Cores, check, denseProduct, interleave, randomMask, randoms } from './measure.mjs';
import { timed } from './peers.mjs';
import { tileOf, tileShares } from './tiles.mjs';

const SIDE = 768;
const M = 128;

const medians = (measured) => measured.map((one) => one.median);

/** Interleaved with the peak: { peak, core, times }, as of measureGroup's rows, core over all that was measured. */
async function besidePeak(machine, isa, candidates, cores) {
  const [fma, ...measured] = await interleave([peakCandidate(machine, isa, 1), ...candidates], 1, cores);
  const peak = machine.fmaFlops(isa) / fma.median / 1e3;
  const core = cores.rate(median(measured.map(({ probe }) => probe))) / peak;
  return { peak, core, times: medians(measured) };
}

/** Shares of the peak of the two gradients: 16x16, 768x768 at 90 %, M = 128. */
async function gradients({ machine, isa, cores }) {
  const kernels = nativeKernels(loadAddon(), isa, 1);
  const grid = new BlockGrid([SIDE, SIDE], [16, 16]);
  const mask = new BlockMask(grid, randomMask(grid.blockCount, Math.round(grid.blockCount / 10)));
  const matrix = BsrMatrix.fromDense(randoms(SIDE * SIDE, 0.2), grid, mask);
  const pattern = kernels.pattern(matrix);
  const aligned = (from) => {
    const to = kernels.allocate(from.length);
    to.set(from);
    return to;
  };
  const values = aligned(matrix.values);
  const [dy, x] = [randoms(M * SIDE), randoms(M * SIDE)];
  const panels = [dy, x].map((rows) => {
    const to = kernels.allocate(SIDE * padBatch(M));
    kernels.toPanels(rows, null, M, SIDE, to);
    return to;
  });
  const dx = kernels.allocate(SIDE * padBatch(M));
  const gradient = kernels.allocate(values.length);
  const input = () => pattern.inputGradient(values, panels[0], M, dx);
  const weight = () => pattern.weightGradient(panels[0], panels[1], M, gradient, null);
  input();
  weight();
  const turned = (rows, from) => {
    const to = new Float32Array(rows.length);
    for (let s = 0; s < rows.length / from; s++)
      for (let i = 0; i < from; i++) to[i * (rows.length / from) + s] = rows[s * from + i];
    return to;
  };
  const out = new Float32Array(M * SIDE);
  kernels.fromPanels(dx, M, SIDE, out);
  check('input gradient', out, denseProduct(turned(matrix.toDense(), SIDE), SIDE, SIDE, dy, M), M * SIDE);
  // dW = dy^T . x, of which the kept blocks are compared.
  const whole = denseProduct(turned(x, SIDE), SIDE, M, turned(dy, SIDE), SIDE);
  const sampled = BsrMatrix.fromDense(whole, grid, mask);
  check('weight gradient', gradient, sampled.values, gradient.length);
  const candidates = [input, weight].map((run) => ({ time: timed(run) }));
  const { peak, core, times } = await besidePeak(machine, isa, candidates, cores);
  return times.map((time) => ({ worst: (2 * values.length * M) / time / 1e3 / peak, limit: { core } }));
}

/** The slowest of all criteria in GB/s read, on 4096x4096, and the memory's rate in the same run. */
async function scores({ machine, isa, cores }, side) {
  const kernels = nativeKernels(loadAddon(), isa, 1);
  const shape = [4096, 4096];
  const weight = randoms(shape[0] * shape[1]);
  const out = new Float32Array((shape[0] / side) * (shape[1] / side));
  const bytes = 4 * weight.length;
  const reading = { time: (calls) => machine.read(isa, 1, 8 * bytes, calls) };
  // Reading gives back half a gigabyte, after which some systems map every page of the weight anew: 50 ms of the next
  // call, which is not timed.
  const scoring = CRITERIA.map((criterion) => {
    const score = () => kernels.scoreBlocks(weight, shape, [side, side], criterion, out);
    return {
      time: (calls) => {
        score();
        return timed(score)(calls);
      },
    };
  });
  const [read, ...times] = medians(await interleave([reading, ...scoring], 1, cores));
  return { rate: bytes / Math.max(...times) / 1e3, dram: (8 * bytes) / read / 1e3 };
}

/** The lowest share of the AVX2 peak, and its tile's: 16x16, M = 128, network, 70 to 90 %. */
async function avx2({ machine, cores: { runs } }) {
  const cores = new Cores(machine, 'avx2', 1, runs);
  const kernels = nativeKernels(loadAddon(), 'avx2', 1);
  const shared = operands(`${SIDE}x${SIDE}`, [M]);
  const cells = [];
  for (const sparsity of [70, 80, 90]) {
    const one = variant(kernels, [SIDE, SIDE], [16, 16], sparsity, 1, shared);
    const network = networkOf('avx2', one, shared.x, M);
    const { peak, core, times } = await besidePeak(machine, 'avx2', network.candidates, cores);
    const work = 2 * one.matrix.density * SIDE * SIDE * M;
    const share = work / network.time(times) / 1e3 / peak;
    cells.push({ share, core, matrix: one.matrix, kernel: network.kernel });
  }
  const worst = cells.reduce((least, cell) => (cell.share < least.share ? cell : least));
  const info = kernels.packLayer(worst.matrix, null, 'none', 1).info(M);
  const tile = info.kernel === worst.kernel ? tileOf(machine, 'avx2', info) : undefined;
  if (tile === undefined) return { worst: worst.share, limit: { core: worst.core } };
  const cell = { tile, k: SIDE, c: 16, density: worst.matrix.density };
  const [shares] = await tileShares(machine, 'avx2', [cell], cores);
  return { worst: worst.share, limit: { tile, ...shares, core: worst.core } };
}

/** Like the goals of the grid: { name, unit, target, worst }, `limit` where one is known. */
export async function measureExtras(machine, isa, cores) {
  const context = { machine, isa, cores };
  const results = [];
  const [input, weight] = await gradients(context);
  results.push({ name: 'input gradient, 16x16, 90 %, M = 128', unit: 'peak', target: 0.75, ...input });
  results.push({ name: 'weight gradient, the same', unit: 'peak', target: 0.7, ...weight });
  for (const side of [4, 16]) {
    const { rate, dram } = await scores(context, side);
    results.push({
      name: `block scores, ${side}x${side}, slowest criterion: ${rate.toFixed(1)} of ${dram.toFixed(1)} GB/s`,
      unit: 'DRAM',
      target: 0.8,
      worst: rate / dram,
    });
  }
  if (machine.isas.includes('avx2'))
    results.push({
      name: 'AVX2, 16x16, M = 128, network',
      unit: 'AVX2 peak',
      target: 0.88,
      ...(await avx2(context)),
    });
  return results;
}
