import { rangeError } from '../errors.ts';
import type { Model } from '../format/model.ts';
import type { Dataset } from '../nn/dataset.ts';

/** Images a call of `run` gets: large enough to be quick, small enough to hear an abort. */
const BATCH = 256;

export interface ModelScore {
  /** Share of images whose largest output is their class. */
  readonly accuracy: number;
  /** Mean cross-entropy of the softmax of the outputs, in nats. */
  readonly loss: number;
  readonly count: number;
}

/** Accuracy and loss of a model as it is served: through `model.run`. */
export async function scoreModel(model: Model, data: Dataset, signal?: AbortSignal): Promise<ModelScore> {
  const { features, count, x, y } = data;
  let right = 0;
  let loss = 0;
  for (let from = 0; from < count; from += BATCH) {
    signal?.throwIfAborted();
    const rows = Math.min(BATCH, count - from);
    const outputs = await model.run(x.subarray(from * features, (from + rows) * features));
    const classes = outputs.length / rows;
    for (let row = 0; row < rows; row++) {
      const logits = outputs.subarray(row * classes, (row + 1) * classes);
      const label = y[from + row];
      if (!(label < classes))
        throw rangeError('data', `labels below ${classes}, the number of outputs of the model`, label);
      const best = largest(logits);
      if (best === label) right++;
      let sum = 0;
      for (const logit of logits) sum += Math.exp(logit - logits[best]);
      loss += Math.log(sum) + logits[best] - logits[label];
    }
  }
  return { accuracy: right / count, loss: loss / count, count };
}

function largest(values: Float32Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
  return best;
}
