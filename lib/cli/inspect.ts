import { stat } from 'node:fs/promises';
import { Command, Option } from 'commander';
import type { Model } from '../format/model.ts';
import { planOf } from '../nn/spec.ts';
import { maskText } from '../report/mask.ts';
import { bytes, percent, significant } from '../report/numbers.ts';
import { textTable } from '../report/table.ts';
import { loadModel, type ModelOptions, modelOptions } from './model.ts';
import { integer, jsonOption } from './options.ts';
import { makeOutput } from './output.ts';

interface Options extends ModelOptions {
  mask: boolean;
  width?: number;
  json: boolean;
}

export function inspectCommand(): Command {
  const command = new Command('inspect')
    .description('Layers, shapes, density and bytes of a model, and its block masks.')
    .argument('<model>', 'model file, or a safetensors state_dict of Linear layers (then give --layers)')
    .option('--no-mask', 'do not draw the block masks')
    .addOption(
      new Option('--width <n>', 'characters a mask may be wide (default: the terminal, else 80)').argParser(
        integer(1, 10_000),
      ),
    );
  return modelOptions(command)
    .addOption(jsonOption())
    .addHelpText('after', '\nExample:\n  $ blocksparse inspect pruned.safetensors')
    .action(async (path: string, options: Options) => {
      const model = await loadModel(path, options);
      const { size } = await stat(path);
      makeOutput(options.json).result(describe(path, size, model, options), facts(path, size, model));
    });
}

function layersOf(model: Model) {
  const { stages } = planOf(model.layers);
  return model.matrices.map(({ name, matrix, bias }, i) => ({
    name,
    shape: matrix.shape,
    blockShape: matrix.blockShape,
    grid: [matrix.grid.gridRows, matrix.grid.gridCols],
    nnzb: matrix.nnzb,
    blocks: matrix.grid.blockCount,
    density: matrix.density,
    // As the file stores it: with every block kept, as a plain dense tensor.
    bytes: matrix.nnzb === matrix.grid.blockCount ? matrix.bytes.dense : matrix.bytes.total,
    denseBytes: matrix.bytes.dense,
    bias: bias !== null,
    activation: stages[i].activation,
  }));
}

function facts(path: string, fileBytes: number, model: Model): unknown {
  const { density, layers, info } = model;
  return { model: path, fileBytes, density, network: layers, info, layers: layersOf(model) };
}

function describe(path: string, fileBytes: number, model: Model, options: Options): string {
  const layers = layersOf(model);
  const { total, dense, ratio } = model.bytes;
  const table = textTable({
    columns: [
      { title: 'layer' },
      { title: 'shape [out, in]' },
      { title: 'block' },
      { title: 'blocks kept', align: 'right' },
      { title: 'density', align: 'right' },
      { title: 'bytes', align: 'right' },
      { title: 'dense bytes', align: 'right' },
      { title: 'then' },
    ],
    rows: [
      ...layers.map((layer) => [
        layer.name,
        layer.shape.join(' x '),
        layer.blockShape.join('x'),
        `${layer.nnzb} of ${layer.blocks}`,
        percent(layer.density),
        bytes(layer.bytes),
        bytes(layer.denseBytes),
        layer.activation === 'none' ? '' : layer.activation,
      ]),
      ['all', '', '', '', percent(model.density), bytes(total), bytes(dense), ''],
    ],
  });
  const parts = [
    `${path}: ${bytes(fileBytes)} bytes; dense weights / stored weights = ${significant(ratio)}`,
    table,
  ];
  if (options.mask) {
    const width = options.width ?? Math.min(process.stdout.columns ?? 80, 10_000);
    for (const { name, matrix } of model.matrices) parts.push(`\n${name}\n${maskText(matrix.mask, width)}`);
  }
  return parts.join('\n');
}
