import { join } from 'node:path';
import type { RoundReport } from '../prune/options.ts';
import { bytes, duration, factor, percent, significant } from './numbers.ts';
import { type Table, textTable } from './table.ts';

/** The dense model after as many further epochs as the last pruned one, in the same rounds. */
export const CONTROL = 'dense-control';

export interface DemoModel {
  readonly name: string;
  /** null for the dense models. */
  readonly round: number | null;
  readonly file: string;
  readonly fileBytes: number;
  readonly density: number;
  readonly validationAccuracy: number;
  /** On the test images, read once for this number. */
  readonly testAccuracy: number;
  /** Median microseconds of one `runSync`, one a batch size. */
  readonly microseconds: readonly number[];
  /** Against the dense model, one a batch size. */
  readonly speedup: readonly number[];
}

export interface DemoResult {
  readonly data: { name: string; train: number; validation: number; test: number };
  readonly seed: number;
  readonly blockShape: readonly [number, number];
  readonly epochs: number;
  readonly retrainEpochs: number;
  readonly batches: readonly number[];
  /** The dense model, its control, then the pruned ones. */
  readonly models: readonly DemoModel[];
  readonly rounds: readonly RoundReport[];
  readonly runtime: { backend: string; isa: string; threads: number };
  readonly processor: string;
  readonly seconds: number;
  readonly outputDir: string;
}

/** One row a model: what the demo prints and the report begins with. */
export function demoRows(result: DemoResult): Table {
  const { batches, models } = result;
  const [dense, control] = models;
  return {
    columns: [
      { title: 'model' },
      { title: 'test accuracy', align: 'right' },
      { title: 'points below dense', align: 'right' },
      { title: 'below control', align: 'right' },
      { title: 'density', align: 'right' },
      { title: 'file bytes', align: 'right' },
      ...batches.flatMap((batch) => [
        { title: `µs, batch ${batch}`, align: 'right' as const },
        { title: 'speed-up', align: 'right' as const },
      ]),
    ],
    rows: models.map((model) => [
      model.name,
      percent(model.testAccuracy),
      ...[dense, control].map((base) =>
        model.round === null ? '' : (100 * (base.testAccuracy - model.testAccuracy)).toFixed(2),
      ),
      percent(model.density),
      bytes(model.fileBytes),
      ...batches.flatMap((_, i) => [significant(model.microseconds[i]), factor(model.speedup[i])]),
    ]),
  };
}

export function demoTable(result: DemoResult): string {
  const { runtime: used, data, seconds, outputDir } = result;
  return [
    textTable(demoRows(result)),
    `(${data.name}: ${data.test} test images; ${used.backend} kernels, ${used.isa}, up to ${used.threads} threads)`,
    `Took ${duration(seconds)}. Pictures: ${join(outputDir, 'report.html')}`,
  ].join('\n');
}
