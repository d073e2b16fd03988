/** What a pruned network stores and how fast its products are, as dense, CSR and BSR. */
import { BsrLinear, CsrMatrix } from '../../dist/index.js';
import { interleavedMedians } from '../../dist/report/timing.js';
import { REPORTED } from './grid.mjs';
import { FORMATS, patternOf } from './pattern.mjs';

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

/** Whoever else uses a machine slows it for seconds at a time: a time is the lowest of the medians of so many sweeps. */
export const SWEEPS = 5;

/** One record a block, round and batch: microseconds by format for the products of all layers one after the other. */
export async function measureSpeed(blocks, samples, log) {
  const products = blocks.flatMap((block) =>
    REPORTED.flatMap((stage) => {
      const matrices = patternOf(block, stage);
      return BATCHES.map((m) => ({ block, stage, m, matrices }));
    }),
  );
  const records = products.map(({ matrices, ...record }) => record);
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    for (const [i, { matrices, m }] of products.entries()) {
      const times = await timesOf(matrices, m, samples);
      for (const [format, time] of Object.entries(times))
        records[i][format] = Math.min(records[i][format] ?? Number.POSITIVE_INFINITY, time);
    }
    log(`speed: sweep ${sweep + 1} of ${SWEEPS}`);
  }
  return records;
}

async function timesOf(matrices, m, samples) {
  const x = Float32Array.from({ length: m * matrices[0].shape[1] }, (_, i) => Math.sin(i * 1.7));
  const buffers = matrices.map(({ shape }) => new Float32Array(m * shape[0]));
  const runs = Object.values(FORMATS).map((stored) => {
    const layers = matrices.map((matrix) => new BsrLinear(stored(matrix)));
    return () => {
      let input = x;
      layers.forEach((layer, l) => {
        layer.forward(input, buffers[l]);
        input = buffers[l];
      });
    };
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
  return Object.fromEntries(Object.keys(FORMATS).map((name, i) => [name, Number(medians[i].toPrecision(4))]));
}
