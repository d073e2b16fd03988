/** Cross-entropy of the softmax of the outputs against class labels, or mean squared error. */
export type LossName = 'cross-entropy' | 'mse';
export const LOSSES = ['cross-entropy', 'mse'] as const;

/** What a data set's rows should give: class ids, one a row, or row-major [count, outFeatures]. */
export type Targets = Int32Array | Uint8Array | Float32Array;

/**
 * The loss of one batch, its mean over the rows (and outputs, for 'mse'), as in PyTorch. `out` is row-major
 * [m, n]; row i's target is row `rows[i]` of `targets` (without rows: row first + i). The gradient by `out` goes to
 * `gradient` [m, n], when given.
 */
export type Loss = (
  out: Float32Array,
  m: number,
  n: number,
  targets: Targets,
  rows: Int32Array | null,
  first: number,
  gradient: Float32Array | null,
) => number;

function crossEntropy(
  out: Float32Array,
  m: number,
  n: number,
  targets: Targets,
  rows: Int32Array | null,
  first: number,
  gradient: Float32Array | null,
): number {
  let loss = 0;
  for (let i = 0; i < m; i++) {
    const at = i * n;
    const label = targets[rows ? rows[i] : first + i];
    let largest = out[at];
    for (let j = 1; j < n; j++) if (out[at + j] > largest) largest = out[at + j];
    // Differences from the largest, so that no exponential overflows.
    let sum = 0;
    for (let j = 0; j < n; j++) {
      const e = Math.exp(out[at + j] - largest);
      if (gradient) gradient[at + j] = e;
      sum += e;
    }
    loss += Math.log(sum) + largest - out[at + label];
    if (gradient) {
      const scale = 1 / (sum * m);
      for (let j = 0; j < n; j++) gradient[at + j] *= scale;
      gradient[at + label] -= 1 / m;
    }
  }
  return loss / m;
}

function meanSquaredError(
  out: Float32Array,
  m: number,
  n: number,
  targets: Targets,
  rows: Int32Array | null,
  first: number,
  gradient: Float32Array | null,
): number {
  const scale = 2 / (m * n);
  let loss = 0;
  for (let i = 0; i < m; i++) {
    const from = (rows ? rows[i] : first + i) * n;
    for (let j = 0; j < n; j++) {
      const difference = out[i * n + j] - targets[from + j];
      loss += difference * difference;
      if (gradient) gradient[i * n + j] = difference * scale;
    }
  }
  return loss / (m * n);
}

export const losses: Readonly<Record<LossName, Loss>> = {
  'cross-entropy': crossEntropy,
  mse: meanSquaredError,
};

/** How many of m rows have their largest output at their label; of equal outputs the first counts. */
export function countCorrect(
  out: Float32Array,
  m: number,
  n: number,
  labels: Targets,
  first: number,
): number {
  let correct = 0;
  for (let i = 0; i < m; i++) {
    let best = 0;
    for (let j = 1; j < n; j++) if (out[i * n + j] > out[i * n + best]) best = j;
    if (best === labels[first + i]) correct++;
  }
  return correct;
}
