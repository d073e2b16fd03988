import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PANEL } from '../../lib/kernels/kernels.ts';
import { losses } from '../../lib/nn/loss.ts';
import { Network } from '../../lib/nn/network.ts';
import { Pass } from '../../lib/nn/pass.ts';
import { Random } from '../../lib/nn/random.ts';
import {
  centralDifference,
  networks,
  noise,
  type ReferenceLayer,
  referenceCrossEntropy,
  referenceForward,
  referenceLayers,
  referenceSquaredError,
  valueIndex,
} from './reference.ts';

/** The gradients of every layer for one batch, from the kernels. */
function gradients(
  network: Network,
  x: Float32Array,
  y: Float32Array | Int32Array,
  m: number,
  pass = new Pass(network, m, new Random(0)),
) {
  const n = network.outFeatures;
  const gradient = new Float32Array(m * n);
  const out = pass.forward(x, null, m).slice();
  const loss = losses[y instanceof Float32Array ? 'mse' : 'cross-entropy'](out, m, n, y, null, 0, gradient);
  const layers: { dValues: Float32Array; dBias: Float32Array | undefined }[] = [];
  pass.backward(gradient, (layer, dValues, dBias) => {
    layers[layer] = { dValues: dValues.slice(), dBias: dBias?.slice() };
  });
  return { out, loss, layers };
}

/** Compares outputs, loss, and some of the gradients of every layer with the reference's. */
function checkAgainst(
  layers: ReferenceLayer[],
  network: Network,
  x: Float32Array,
  y: Float32Array | Int32Array,
  m: number,
  given: ReturnType<typeof gradients>,
) {
  const reference = () => {
    const out = referenceForward(layers, x, m);
    return y instanceof Float32Array ? referenceSquaredError(out, y) : referenceCrossEntropy(out, y);
  };
  const out = referenceForward(layers, x, m);
  for (let i = 0; i < out.length; i++)
    expect(Math.abs(given.out[i] - out[i])).toBeLessThan(1e-5 * (1 + Math.abs(out[i])));
  expect(Math.abs(given.loss - reference())).toBeLessThan(1e-5 * (1 + reference()));
  const random = new Random(m);
  const pick = (length: number) => Math.floor(random.next() * length);
  layers.forEach((layer, l) => {
    const { matrix } = network.linears[l];
    for (let trial = 0; trial < 6; trial++) {
      const i = pick(layer.weight.length);
      const at = valueIndex(matrix, Math.floor(i / layer.k), i % layer.k);
      if (at < 0) continue;
      const wanted = centralDifference(layer.weight, i, reference);
      expect(Math.abs(given.layers[l].dValues[at] - wanted)).toBeLessThan(2e-5 * (1 + Math.abs(wanted)));
    }
    const j = pick(layer.n);
    const { dBias } = given.layers[l];
    if (!dBias) return;
    const wanted = centralDifference(layer.bias, j, reference);
    expect(Math.abs(dBias[j] - wanted)).toBeLessThan(2e-5 * (1 + Math.abs(wanted)));
  });
}

/** ReLU's kink makes differences wrong when a pre-activation lies within the step of it. */
function nearKink(layers: ReferenceLayer[], x: Float32Array, m: number): boolean {
  return layers.some((layer, l) => {
    if (layer.activation !== 'relu') return false;
    const upTo = [...layers.slice(0, l), { ...layer, activation: 'none' as const }];
    return referenceForward(upTo, x, m).some((z) => Math.abs(z) < 1e-3);
  });
}

describe('gradients', () => {
  it('agree with finite differences for any network, block shape, batch size and loss', () => {
    fc.assert(
      fc.property(networks, fc.boolean(), ({ network, m, seed }, mse) => {
        const random = new Random(seed);
        const x = noise(random, m * network.inFeatures);
        const y = mse
          ? noise(random, m * network.outFeatures)
          : Int32Array.from({ length: m }, () => Math.floor(random.next() * network.outFeatures));
        const layers = referenceLayers(network);
        fc.pre(!nearKink(layers, x, m));
        checkAgainst(layers, network, x, y, m, gradients(network, x, y, m));
      }),
      { numRuns: 150 },
    );
  });

  it('agree with finite differences through dropout', () => {
    const network = Network.create(
      [
        { type: 'dropout', p: 0.2 },
        { type: 'linear', inFeatures: 7, outFeatures: 20 },
        { type: 'tanh' },
        { type: 'dropout', p: 0.5 },
        { type: 'linear', inFeatures: 20, outFeatures: 9 },
        { type: 'silu' },
        { type: 'dropout', p: 0.3 },
        { type: 'linear', inFeatures: 9, outFeatures: 4 },
      ],
      3,
    );
    const m = 11;
    const random = new Random(1);
    const x = noise(random, m * 7);
    const y = Int32Array.from({ length: m }, (_, i) => i % 4);
    // The same draws in the same order: [feature][16 lanes], layer by layer.
    const draws = new Random(5, 0);
    const masks = (
      [
        [7, 0.2],
        [20, 0.5],
        [9, 0.3],
      ] as const
    ).map(([features, p]) => {
      const mask = new Float32Array(features * 16);
      draws.dropoutMask(mask, p);
      return mask;
    });
    const layers = referenceLayers(network);
    layers[0].mask = (row, feature) => masks[1][feature * 16 + row];
    layers[1].mask = (row, feature) => masks[2][feature * 16 + row];
    const given = gradients(network, x, y, m, new Pass(network, m, new Random(5, 0)));
    checkAgainst(
      layers,
      network,
      x.map((v, i) => v * masks[0][(i % 7) * 16 + Math.floor(i / 7)]),
      y,
      m,
      given,
    );
  });

  it('of a smaller batch after a larger one are those of a fresh pass, bit for bit', () => {
    fc.assert(
      fc.property(networks, fc.integer({ min: 1, max: PANEL + 20 }), ({ network, m, seed }, more) => {
        const random = new Random(seed);
        const large = noise(random, (m + more) * network.inFeatures);
        const targets = noise(random, (m + more) * network.outFeatures);
        const pass = new Pass(network, m + more, new Random(0));
        gradients(network, large, targets, m + more, pass);
        const x = large.slice(0, m * network.inFeatures);
        const y = targets.slice(0, m * network.outFeatures);
        expect(gradients(network, x, y, m, pass)).toEqual(gradients(network, x, y, m));
      }),
      { numRuns: 50 },
    );
  });

  it('are 0 at padding and nowhere junk', () => {
    const network = Network.create([{ type: 'linear', inFeatures: 5, outFeatures: 3 }], 0);
    const { layers } = gradients(network, noise(new Random(2), 15), Int32Array.of(0, 1, 2), 3);
    const { dValues } = layers[0];
    expect(dValues.length).toBe(256);
    for (let i = 0; i < 256; i++)
      if (i >= 48 || i % 16 >= 5) expect(dValues[i]).toBe(0);
      else expect(dValues[i]).not.toBe(0);
  });
});
