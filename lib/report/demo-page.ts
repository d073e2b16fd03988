import type { Model } from '../format/model.ts';
import { CONTROL, type DemoResult, demoRows } from './demo-result.ts';
import { figure, htmlPage, paragraph } from './html.ts';
import { maskSvg } from './mask.ts';
import { percent } from './numbers.ts';
import { barChart, lineChart } from './svg.ts';
import { htmlTable } from './table.ts';

/** The report of a demo run; `models[i]` is the loaded `result.models[i]`. */
export function demoPage(result: DemoResult, models: readonly Model[]): string {
  const [r, c] = result.blockShape;
  return htmlPage(
    `Block-sparse LeNet on ${result.data.name}`,
    `A dense network, its weights divided into ${r} x ${c} blocks, the weakest blocks pruned in ` +
      `${result.rounds.length} rounds with retraining after each, stored as BSR and served from Node.js.`,
    [
      { heading: 'Result', body: `<div class="scroll">${htmlTable(demoRows(result))}</div>` },
      { heading: 'Accuracy against density', body: accuracyPicture(result) },
      { heading: 'Speed-up against batch', body: speedPicture(result) },
      { heading: 'Block masks', body: maskPictures(result, models) },
      { heading: 'Every round', body: `<div class="scroll">${roundTable(result)}</div>` },
      { heading: 'How this was measured', body: method(result) },
    ],
  );
}

function accuracyPicture(result: DemoResult): string {
  const [dense, control] = result.models;
  const points = result.rounds
    .filter((round) => round.density > 0 && round.accuracy !== undefined)
    .map((round): [number, number] => [round.density, round.accuracy ?? 0]);
  const picture = lineChart({
    title: 'Validation accuracy after each round',
    x: 'density of the weights (logarithmic)',
    y: 'validation accuracy',
    logX: true,
    formatX: (value) => percent(value, value < 0.01 ? 1 : 0),
    formatY: (value) => percent(value, 1),
    series: [
      { name: 'pruned and retrained', points },
      { name: 'dense', points: [[1, dense.validationAccuracy]], level: true },
      { name: 'dense, trained on', points: [[1, control.validationAccuracy]], level: true },
    ],
  });
  return figure(
    picture,
    'Validation images, never seen in training; the test images serve only the table above.',
  );
}

function speedPicture(result: DemoResult): string {
  const picture = barChart({
    title: 'Speed-up over the dense model',
    x: 'batch size',
    y: 'dense time / pruned time',
    categories: result.batches.map(String),
    series: result.models
      .filter(({ round }) => round !== null)
      .map(({ name, density, speedup }) => ({ name: `${name} (${percent(density)})`, values: speedup })),
    reference: 1,
  });
  return figure(picture, 'Whole model, Model.runSync, the dense model through the same API and kernels.');
}

function maskPictures(result: DemoResult, models: readonly Model[]): string {
  return result.models
    .flatMap(({ name, round }, i) =>
      round === null
        ? []
        : models[i].matrices.map(({ name: layer, matrix }) =>
            figure(
              maskSvg(matrix.mask, { title: `${name}, layer ${layer}` }),
              `${name}, layer ${layer}: ${matrix.shape.join(' x ')}, ${matrix.nnzb} of ${matrix.grid.blockCount} ` +
                `blocks kept, density ${percent(matrix.density)}`,
            ),
          ),
    )
    .join('\n');
}

function roundTable(result: DemoResult): string {
  return htmlTable({
    columns: [
      { title: 'round (from 0)', align: 'right' },
      { title: 'density', align: 'right' },
      { title: 'validation accuracy', align: 'right' },
      { title: 'validation loss', align: 'right' },
      { title: 'seconds', align: 'right' },
    ],
    rows: result.rounds.map(({ round, density, accuracy, loss, seconds }) => [
      String(round),
      percent(density),
      accuracy === undefined ? '' : percent(accuracy),
      loss === undefined ? '' : loss.toFixed(4),
      seconds.toFixed(1),
    ]),
  });
}

function method(result: DemoResult): string {
  const { data, epochs, retrainEpochs, seed, runtime, processor } = result;
  return [
    `${data.train} training, ${data.validation} validation and ${data.test} test images of ${data.name}; seed ${seed}.`,
    `${epochs} dense epochs, then ${retrainEpochs} after each round, each stage with a fresh Adam (batch 128, ` +
      'learning rate 0.001, cosine). The epoch of a stage is chosen on the validation images. A pruned model has ' +
      `therefore been trained for longer than the dense one; ${CONTROL} is the dense one after all the same rounds ` +
      'of training with nothing dropped.',
    'The test images were read once for each accuracy in the table, by the models as loaded from their files.',
    `Times are medians of samples taken in turn, on ${processor}, ${runtime.backend} kernels (${runtime.isa}), ` +
      `up to ${runtime.threads} threads.`,
  ]
    .map(paragraph)
    .join('\n');
}
