/** What a pruned network stores and how fast its products are, as dense, CSR and BSR. */
import { BlockGrid, BlockMask, BsrLinear, BsrMatrix, CsrMatrix } from '../../dist/index.js';
import { kernels } from '../../dist/kernels/choose.js';
import { DENSE_BLOCK_SHAPE } from '../../dist/nn/linear.js';
import { interleavedMedians } from '../../dist/report/timing.js';

export const BATCHES = [1, 32, 256];
/** Length of one timing sample, of which medians are taken. */
const SAMPLE_MILLISECONDS = 2;

/** Bytes of all weights; biases, the same everywhere, do not count. */
export function bytesOf(network) {
  const bytes = { dense: 0, csr: 0, bsr: 0 };
  for (const { matrix } of network.linears) {
    bytes.dense += matrix.bytes.dense;
    bytes.bsr += matrix.bytes.total;
    bytes.csr += CsrMatrix.fromBsr(matrix).bytes.total;
  }
  return bytes;
}

/**
 * Microseconds for the products of all layers, one after the other, by batch rows and format: `csr` is the plain
 * CSR kernel, `csr1x1` the same non-zeros as BSR with blocks of one weight, which vectorises along the batch.
 */
export async function timesOf(network, samples) {
  const formats = {
    dense: network.linears.map(({ matrix }) => denseLayer(matrix)),
    bsr: network.linears.map(({ matrix }) => new BsrLinear(matrix)),
    csr1x1: network.linears.map(({ matrix }) => new BsrLinear(CsrMatrix.fromBsr(matrix).toBsr([1, 1]))),
    csr: network.linears.map(({ matrix }) => csrLayer(matrix)),
  };
  const times = {};
  for (const m of BATCHES) {
    const x = Float32Array.from({ length: m * network.inFeatures }, (_, i) => Math.sin(i * 1.7));
    const buffers = network.linears.map(({ outFeatures }) => new Float32Array(m * outFeatures));
    const runs = Object.values(formats).map((layers) => () => {
      let input = x;
      layers.forEach((layer, l) => {
        layer.forward(input, buffers[l]);
        input = buffers[l];
      });
    });
    // The formats hold the same weights, so they must give the same results.
    const results = runs.map((run) => {
      run();
      return buffers[buffers.length - 1].slice();
    });
    const scale = Math.max(1e-3, ...results[0].map(Math.abs));
    for (const result of results)
      if (result.some((value, i) => !(Math.abs(value - results[0][i]) < 1e-4 * scale)))
        throw new Error(`formats disagree at batch ${m}`);
    const medians = await interleavedMedians(runs, { samples, sampleMilliseconds: SAMPLE_MILLISECONDS });
    times[m] = Object.fromEntries(
      Object.keys(formats).map((name, i) => [name, Number(medians[i].toPrecision(4))]),
    );
  }
  return times;
}

function denseLayer(matrix) {
  const grid = new BlockGrid(matrix.shape, DENSE_BLOCK_SHAPE);
  return new BsrLinear(BsrMatrix.fromDense(matrix.toDense(), grid, BlockMask.full(grid)));
}

function csrLayer(matrix) {
  const { crowIndices, colIndices, values } = CsrMatrix.fromBsr(matrix);
  const [n, k] = matrix.shape;
  return {
    forward: (x, out) => kernels().csrForward(crowIndices, colIndices, values, n, k, x, x.length / k, out),
  };
}
