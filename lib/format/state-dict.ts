import { describe } from '../errors.ts';
import { DENSE_BLOCK_SHAPE, type LinearWeights } from '../nn/linear.ts';
import { type LayerSpec, planOf, type Stage } from '../nn/spec.ts';
import { BsrMatrix } from '../sparse/bsr.ts';
import { BlockGrid, type Pair } from '../sparse/grid.ts';
import {
  float32Tensor,
  int32Tensor,
  invalidFile,
  type OpenSafetensors,
  readFloat32,
  readInt32,
  type StoredTensor,
  type Tensor,
} from './safetensors.ts';

type Tensors = OpenSafetensors['tensors'];

/** What a layer's tensors are called after its name: a dense weight, or the three arrays of BSR; and the bias. */
const DENSE = 'weight';
const SPARSE = ['crow_indices', 'col_indices', 'values'] as const;
const BIAS = 'bias';

/**
 * Whether a layer is stored as the plain weight that every other program reads: it keeps every block, and
 * these are not so large beside the matrix that reading them back would take far more memory than the file has.
 */
export function isDense({ grid, nnzb }: BsrMatrix): boolean {
  return nnzb === grid.blockCount && blocksFit(grid.shape, grid.blockShape);
}

function blocksFit(shape: Pair, blockShape: Pair): boolean {
  return blockShape[0] <= Math.max(64, shape[0]) && blockShape[1] <= Math.max(64, shape[1]);
}

/** The tensors of one layer, by their names in a file. They share the memory of `weights` where possible. */
export function tensorsOf(name: string, { matrix, bias }: LinearWeights): [string, Tensor][] {
  const tensors: [string, Tensor][] = [];
  if (isDense(matrix)) tensors.push([`${name}.${DENSE}`, float32Tensor(matrix.shape, matrix.toDense())]);
  else {
    const { crowIndices, colIndices, values, nnzb, blockShape } = matrix;
    tensors.push([`${name}.crow_indices`, int32Tensor([crowIndices.length], crowIndices)]);
    tensors.push([`${name}.col_indices`, int32Tensor([nnzb], colIndices)]);
    tensors.push([`${name}.values`, float32Tensor([nnzb, ...blockShape], values)]);
  }
  if (bias) tensors.push([`${name}.${BIAS}`, float32Tensor([bias.length], bias)]);
  return tensors;
}

/**
 * The weights of every linear layer, in order, read straight into the arrays that the layers keep. `blockShapes` are
 * those the file's own description names; without them a dense weight gets the default one. Rejects with
 * BlocksparseError INVALID_FILE when a tensor is missing, has another shape, is damaged, or belongs to no layer.
 */
export async function readWeights(
  tensors: Tensors,
  stages: readonly Stage[],
  blockShapes?: readonly Pair[],
): Promise<LinearWeights[]> {
  const used = new Set<string>();
  const take = (name: string, rank: number): StoredTensor => {
    const tensor = tensors.get(name);
    if (!tensor) throw invalidFile(`has no tensor ${describe(name)}`);
    if (tensor.shape.length !== rank)
      throw invalidFile(`tensor ${describe(name)} has ${tensor.shape.length} dimensions, not ${rank}`);
    used.add(name);
    return tensor;
  };
  const weights: LinearWeights[] = [];
  for (const [i, stage] of stages.entries())
    weights.push(await readLayer(take, tensors, stage, blockShapes?.[i]));
  const extra = [...tensors.keys()].filter((name) => !used.has(name));
  if (extra.length > 0)
    throw invalidFile(`has ${extra.length} tensors that belong to no layer, such as ${describe(extra[0])}`);
  return weights;
}

type Take = (name: string, rank: number) => StoredTensor;

async function readLayer(
  take: Take,
  tensors: Tensors,
  { name, spec }: Stage,
  blockShape: Pair | undefined,
): Promise<LinearWeights> {
  const shape: Pair = [spec.outFeatures, spec.inFeatures];
  const matrix = tensors.has(`${name}.values`)
    ? await readSparse(take, name, shape, blockShape)
    : await readDense(take, name, shape, blockShape ?? DENSE_BLOCK_SHAPE);
  if (spec.bias === false) return { matrix, bias: null };
  const tensor = take(`${name}.${BIAS}`, 1);
  if (tensor.shape[0] !== shape[0])
    throw invalidFile(
      `tensor ${describe(`${name}.${BIAS}`)} has ${tensor.shape[0]} elements, not ${shape[0]}`,
    );
  const bias = new Float32Array(shape[0]);
  await readFloat32(`${name}.${BIAS}`, tensor, 0, bias);
  return { matrix, bias };
}

/** Elements of a dense weight that are read at a time, to be sorted into blocks. */
const BAND = 1 << 18;

async function readDense(take: Take, name: string, shape: Pair, blockShape: Pair): Promise<BsrMatrix> {
  const tensor = take(`${name}.${DENSE}`, 2);
  if (tensor.shape[0] !== shape[0] || tensor.shape[1] !== shape[1])
    throw invalidFile(`tensor ${describe(`${name}.${DENSE}`)} has shape [${tensor.shape}], not [${shape}]`);
  if (!blocksFit(shape, blockShape))
    throw invalidFile(`layer ${describe(name)} of shape [${shape}] has too large blocks, [${blockShape}]`);
  const { blockCount, gridRows, gridCols } = damaged(name, () => new BlockGrid(shape, blockShape));
  const [n, k] = shape;
  const [r, c] = blockShape;
  const values = new Float32Array(blockCount * r * c);
  const band = new Float32Array(Math.min(n, Math.ceil(BAND / k)) * k);
  for (let y = 0; y < n; y += band.length / k) {
    const rows = band.subarray(0, Math.min(band.length, (n - y) * k));
    await readFloat32(`${name}.${DENSE}`, tensor, y * k, rows);
    for (let i = 0; i < rows.length; i += k) {
      const row = y + i / k;
      const first = Math.floor(row / r) * gridCols * r + (row % r);
      for (let col = 0; col < gridCols; col++)
        values.set(rows.subarray(i + col * c, i + Math.min((col + 1) * c, k)), (first + col * r) * c);
    }
  }
  return BsrMatrix.adopt({
    shape,
    blockShape,
    crowIndices: Int32Array.from({ length: gridRows + 1 }, (_, row) => row * gridCols),
    colIndices: Int32Array.from({ length: blockCount }, (_, i) => i % gridCols),
    values,
  });
}

async function readSparse(
  take: Take,
  name: string,
  shape: Pair,
  blockShape: Pair | undefined,
): Promise<BsrMatrix> {
  const [crow, col, values] = SPARSE.map((part) => take(`${name}.${part}`, part === 'values' ? 3 : 1));
  const [nnzb, r, c] = values.shape;
  if (col.shape[0] !== nnzb)
    throw invalidFile(`layer ${describe(name)} has ${col.shape[0]} col_indices for ${nnzb} blocks of values`);
  if (blockShape && (r !== blockShape[0] || c !== blockShape[1]))
    throw invalidFile(
      `layer ${describe(name)} has blocks of [${r},${c}], but is described with [${blockShape}]`,
    );
  const fields = {
    shape,
    blockShape: [r, c] as const,
    crowIndices: new Int32Array(crow.shape[0]),
    colIndices: new Int32Array(nnzb),
    values: new Float32Array(nnzb * r * c),
  };
  await readInt32(`${name}.crow_indices`, crow, fields.crowIndices);
  await readInt32(`${name}.col_indices`, col, fields.colIndices);
  await readFloat32(`${name}.values`, values, 0, fields.values);
  return damaged(name, () => BsrMatrix.adopt(fields));
}

/** Turns the argument errors of a constructor that was fed from a file into one that says the file is wrong. */
function damaged<T>(name: string, build: () => T): T {
  try {
    return build();
  } catch (error) {
    if (error instanceof TypeError || error instanceof RangeError)
      throw invalidFile(`layer ${describe(name)}: ${error.message}`);
    throw error;
  }
}

/**
 * The layers with names under which `tensors` has them. Layers whose name is in the file (the given one, or the
 * index in the list) keep it; else the unnamed ones take the file's weights in order of their names (digits by
 * value, so that "fc10" follows "fc2"). Throws INVALID_FILE when counts differ or the order would be a guess.
 */
export function nameLayers(tensors: Tensors, layers: readonly LayerSpec[]): readonly LayerSpec[] {
  const prefixes = new Set<string>();
  for (const name of tensors.keys()) {
    const match = /^(.*)\.(weight|values)$/su.exec(name);
    if (match) prefixes.add(match[1]);
  }
  const { stages } = planOf(layers);
  if (stages.every(({ name }) => prefixes.has(name))) return layers;
  for (const { spec } of stages) {
    if (spec.name === undefined) continue;
    if (!prefixes.delete(spec.name)) throw invalidFile(`has no tensor ${describe(`${spec.name}.${DENSE}`)}`);
  }
  const unnamed = stages.filter(({ spec }) => spec.name === undefined);
  const order = [...prefixes].sort(new Intl.Collator('en', { numeric: true }).compare);
  if (order.length !== unnamed.length)
    throw invalidFile(
      `has weights for ${order.length} layers (${order.slice(0, 5).join(', ')}), but ${unnamed.length} layers need one`,
    );
  checkOrder(unnamed, order);
  let next = 0;
  return layers.map((layer) =>
    layer.type === 'linear' && layer.name === undefined ? { ...layer, name: order[next++] } : layer,
  );
}

/** Two layers of one shape could be swapped unnoticed, unless their names differ in numbers only. */
function checkOrder(stages: readonly Stage[], order: readonly string[]): void {
  const first = new Map<string, string>();
  stages.forEach(({ spec }, i) => {
    const shape = `${spec.outFeatures}x${spec.inFeatures}`;
    const other = first.get(shape);
    if (other === undefined) first.set(shape, order[i]);
    else if (other.replace(/\d+/g, '#') !== order[i].replace(/\d+/g, '#'))
      throw invalidFile(
        `has ${describe(other)} and ${describe(order[i])}, both [${spec.outFeatures}, ` +
          `${spec.inFeatures}]: give the layers a name to say which is which`,
      );
  });
}
