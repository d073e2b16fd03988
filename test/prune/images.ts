/** A small data set and a network for it, as the tests of pruning share them. */
import type { Dataset } from '../../lib/nn/dataset.ts';
import { Random } from '../../lib/nn/random.ts';
import type { LayerSpec } from '../../lib/nn/spec.ts';

export const FEATURES = 36;
export const CLASSES = 5;
/** Sides that 4 does not divide, so that edge blocks are truncated. */
export const LAYERS: LayerSpec[] = [
  { type: 'linear', inFeatures: FEATURES, outFeatures: 30 },
  { type: 'relu' },
  { type: 'dropout', p: 0.1 },
  { type: 'linear', name: 'hidden', inFeatures: 30, outFeatures: 22 },
  { type: 'tanh' },
  { type: 'linear', inFeatures: 22, outFeatures: CLASSES, bias: false },
];

/** 6x6 images of a bar at a place that the class decides, with noise. */
export function images(count: number, seed: number): Dataset {
  const random = new Random(seed);
  const x = new Float32Array(count * FEATURES);
  const y = new Uint8Array(count);
  for (let i = 0; i < count; i++) {
    y[i] = random.nextBits() % CLASSES;
    const at = random.nextBits() % 6;
    for (let j = 0; j < FEATURES; j++) {
      const [row, col] = [Math.floor(j / 6), j % 6];
      const bar = row === y[i] || (col === at && row <= y[i]);
      x[i * FEATURES + j] = (bar ? 0.6 : -0.3) + (random.next() - 0.5);
    }
  }
  return { x, y, count, features: FEATURES, classes: CLASSES };
}
