import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Model } from '../../lib/format/model.ts';
import { Network } from '../../lib/nn/network.ts';
import { divide, SMALL, smallSparse } from './networks.ts';

/**
 * A reader of its own, by the layout rules of safetensors alone: what it finds in our files is what any other
 * program finds. Nothing below uses the package's reader.
 */
function readByTheRules(path: string) {
  const bytes = readFileSync(path);
  const headerLength = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + headerLength));
  const numbers = (name: string): number[] => {
    const { dtype, shape, data_offsets: offsets } = header[name];
    const [begin, end] = offsets.map((offset: number) => 8 + headerLength + offset);
    const count = shape.reduce((a: number, b: number) => a * b, 1);
    expect(end - begin).toBe(4 * count);
    expect(begin % 4).toBe(0);
    return Array.from({ length: count }, (_, i) =>
      dtype === 'F32' ? bytes.readFloatLE(begin + 4 * i) : bytes.readInt32LE(begin + 4 * i),
    );
  };
  return { header, numbers, metadata: header.__metadata__ as Record<string, string>, bytes };
}

/** Dense weights as torch.sparse_bsr_tensor(crow, col, values).to_dense() and a cut to the shape would give. */
function rebuild(
  { header, numbers }: ReturnType<typeof readByTheRules>,
  name: string,
  shape: number[],
): number[] {
  if (header[`${name}.weight`]) {
    expect(header[`${name}.weight`].shape).toEqual(shape);
    return numbers(`${name}.weight`);
  }
  const [, r, c] = header[`${name}.values`].shape;
  const crow = numbers(`${name}.crow_indices`);
  const col = numbers(`${name}.col_indices`);
  const values = numbers(`${name}.values`);
  const dense: number[] = new Array(shape[0] * shape[1]).fill(0);
  for (let row = 0; row + 1 < crow.length; row++)
    for (let block = crow[row]; block < crow[row + 1]; block++)
      for (let y = 0; y < r; y++)
        for (let x = 0; x < c; x++) {
          const [to, from] = [row * r + y, col[block] * c + x];
          const value = values[(block * r + y) * c + x];
          if (to < shape[0] && from < shape[1]) dense[to * shape[1] + from] = value;
          else expect(value).toBe(0);
        }
  return dense;
}

const lenet = () =>
  divide(
    Network.create(
      [
        { type: 'linear', inFeatures: 784, outFeatures: 300 },
        { type: 'relu' },
        { type: 'linear', inFeatures: 300, outFeatures: 10 },
      ],
      3,
    ),
    [7, 3],
    (i) => i % 11 === 0,
  );

test.each([
  ['sparse, truncated, empty and dense layers', () => smallSparse()],
  ['all dense', () => Network.create(SMALL, 2)],
  ['blocks larger than the matrix', () => divide(Network.create(SMALL, 2), [100, 90], () => true)],
  ['LeNet-like', lenet],
])('another reader rebuilds the same weights: %s', async (_, make) => {
  const folder = mkdtempSync(join(tmpdir(), 'blocksparse-'));
  try {
    const network = make();
    const path = join(folder, 'model.safetensors');
    await Model.fromNetwork(network, { note: 'été' }).save(path);
    const file = readByTheRules(path);
    for (const [key, text] of Object.entries(file.metadata)) {
      expect(key).toMatch(/^blocksparse\./);
      expect(() => JSON.parse(text)).not.toThrow();
    }
    const layers = JSON.parse(file.metadata['blocksparse.layers']);
    expect(layers).toHaveLength(network.linears.length);
    network.linears.forEach((linear, i) => {
      const { name, shape, blockShape, activation } = layers[i];
      expect({ name, shape }).toEqual({ name: linear.name, shape: [...linear.matrix.shape] });
      expect(blockShape).toEqual([...linear.matrix.blockShape]);
      expect(activation).toBe(linear.activation);
      expect(rebuild(file, name, shape)).toEqual(Array.from(linear.weight()));
      if (linear.bias) expect(file.numbers(`${name}.bias`)).toEqual(Array.from(linear.bias));
      else expect(file.header[`${name}.bias`]).toBeUndefined();
    });
    expect(JSON.parse(file.metadata['blocksparse.info'])).toEqual({ note: 'été' });
  } finally {
    rmSync(folder, { recursive: true });
  }
});
