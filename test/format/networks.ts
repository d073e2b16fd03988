import { Network } from '../../lib/nn/network.ts';
import type { LayerSpec } from '../../lib/nn/spec.ts';
import { BsrMatrix } from '../../lib/sparse/bsr.ts';
import { BlockGrid, type Pair } from '../../lib/sparse/grid.ts';
import { BlockMask } from '../../lib/sparse/mask.ts';

export const SMALL: LayerSpec[] = [
  { type: 'dropout', p: 0.1 },
  { type: 'linear', inFeatures: 13, outFeatures: 10 },
  { type: 'relu' },
  { type: 'linear', name: 'middle', inFeatures: 10, outFeatures: 7, bias: false },
  { type: 'gelu' },
  { type: 'linear', inFeatures: 7, outFeatures: 3 },
];

/** The network with each layer divided into these blocks, of which `keep(index, layer)` says which stay. */
export function divide(
  network: Network,
  blockShape: Pair,
  keep: (index: number, layer: number) => boolean,
): Network {
  network.linears.forEach((linear, layer) => {
    const grid = new BlockGrid(linear.matrix.shape, blockShape);
    const kept = Uint8Array.from({ length: grid.blockCount }, (_, i) => Number(keep(i, layer)));
    linear.setMatrix(BsrMatrix.fromDense(linear.weight(), grid, new BlockMask(grid, kept)));
  });
  return network;
}

/** Some blocks of [4, 4] in the first layer, none in the middle one, all in the last. Edges are truncated. */
export function smallSparse(seed = 1): Network {
  return divide(
    Network.create(SMALL, seed),
    [4, 4],
    (i, layer) => layer === 2 || (layer === 0 && i % 3 === 1),
  );
}

export function inputs(length: number): Float32Array {
  return Float32Array.from({ length }, (_, i) => Math.sin(i * 12.9898) * 2);
}
