import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type Dataset, evaluate, fit } from '../../lib/nn/fit.ts';
import { type LossName, losses } from '../../lib/nn/loss.ts';
import { Network } from '../../lib/nn/network.ts';
import type { OptimizerOptions } from '../../lib/nn/optimizer.ts';
import { Pass } from '../../lib/nn/pass.ts';
import { Random } from '../../lib/nn/random.ts';
import type { LayerSpec } from '../../lib/nn/spec.ts';
import { BsrMatrix } from '../../lib/sparse/bsr.ts';
import { BlockGrid } from '../../lib/sparse/grid.ts';
import { BlockMask } from '../../lib/sparse/mask.ts';

/** What fixtures/make_nn.py writes; parameters are weight and bias of each layer in turn. */
interface Fixture {
  sizes: number[];
  batch: number;
  steps: number;
  cases: {
    activation: 'relu' | 'gelu' | 'silu' | 'tanh' | 'sigmoid';
    loss: LossName;
    blockShape: [number, number];
    kept: number[][];
    parameters: number[][];
    x: number[];
    y: number[];
    output: number[];
    value: number;
    gradients: number[][];
    trained: { optimizer: OptimizerOptions; losses: number[]; parameters: number[][] }[];
  }[];
}

const fixture: Fixture = JSON.parse(readFileSync(new URL('../fixtures/nn.json', import.meta.url), 'utf8'));
const { sizes, batch, steps } = fixture;

function expectClose(given: ArrayLike<number>, wanted: ArrayLike<number>, tolerance: number) {
  expect(given.length).toBe(wanted.length);
  for (let i = 0; i < wanted.length; i++)
    expect(Math.abs(given[i] - wanted[i]), `element ${i}`).toBeLessThan(
      tolerance * (1 + Math.abs(wanted[i])),
    );
}

function networkOf({ activation, blockShape, kept, parameters }: Fixture['cases'][0]): Network {
  const layers: LayerSpec[] = [];
  const weights = kept.map((bits, i) => {
    if (i > 0) layers.push({ type: activation });
    layers.push({ type: 'linear', inFeatures: sizes[i], outFeatures: sizes[i + 1] });
    const grid = new BlockGrid([sizes[i + 1], sizes[i]], blockShape);
    const mask = new BlockMask(grid, Uint8Array.from(bits));
    const matrix = BsrMatrix.fromDense(Float32Array.from(parameters[2 * i]), grid, mask);
    return { matrix, bias: Float32Array.from(parameters[2 * i + 1]) };
  });
  return Network.fromParts(layers, weights);
}

function dataOf({ loss, x, y }: Fixture['cases'][0]): Dataset {
  const targets = loss === 'mse' ? Float32Array.from(y) : Int32Array.from(y);
  return { x: Float32Array.from(x), y: targets, count: batch, features: sizes[0] };
}

/** The dense form of values laid out like `matrix`'. */
function dense(matrix: BsrMatrix, values: Float32Array): Float32Array {
  const { shape, blockShape, crowIndices, colIndices } = matrix;
  return BsrMatrix.fromArrays({ shape, blockShape, crowIndices, colIndices, values }).toDense();
}

describe.each(fixture.cases)("PyTorch's $activation network with $loss", (given) => {
  const data = dataOf(given);

  it('has the same outputs, loss and gradients', () => {
    const network = networkOf(given);
    expectClose(network.predict(data.x), given.output, 1e-6);
    expect(evaluate(network, data, { loss: given.loss }).loss).toBeCloseTo(given.value, 6);
    const pass = new Pass(network, batch, new Random(0));
    const n = network.outFeatures;
    const dOut = new Float32Array(batch * n);
    losses[given.loss](pass.forward(data.x, null, batch), batch, n, data.y, null, 0, dOut);
    pass.backward(dOut, (layer, dValues, dBias) => {
      expectClose(dense(network.linears[layer].matrix, dValues), given.gradients[2 * layer], 1e-6);
      expectClose(dBias!, given.gradients[2 * layer + 1], 1e-6);
    });
  });

  it.each(given.trained)('has the same weights after steps of $optimizer.type', async (trained) => {
    const network = networkOf(given);
    const result = await fit(network, data, {
      epochs: steps,
      batchSize: batch,
      optimizer: trained.optimizer,
      loss: given.loss,
      seed: 1,
    });
    expectClose(
      result.epochs.map((record) => record.loss),
      trained.losses,
      2e-6,
    );
    network.linears.forEach((linear, i) => {
      expectClose(linear.weight(), trained.parameters[2 * i], 5e-6);
      expectClose(linear.bias!, trained.parameters[2 * i + 1], 5e-6);
    });
  });
});
