// The public types, checked by `npm run typecheck`: nothing here runs. Each @ts-expect-error is a use that must not
// compile.
import { expectTypeOf } from 'vitest';
import * as blocksparse from '../../lib/index.ts';
import { ACTIVATIONS, CRITERIA } from '../../lib/kernels/kernels.ts';
import { LOSSES } from '../../lib/nn/loss.ts';
import { MEASURED_CRITERIA, PRUNING_CRITERIA } from '../../lib/prune/measured.ts';

// The published unions and the lists that arguments are checked against are the same.
expectTypeOf(ACTIVATIONS).items.toEqualTypeOf<blocksparse.Activation>();
expectTypeOf(CRITERIA).items.toEqualTypeOf<blocksparse.Criterion>();
expectTypeOf(LOSSES).items.toEqualTypeOf<blocksparse.LossName>();
expectTypeOf(MEASURED_CRITERIA).items.toEqualTypeOf<blocksparse.MeasuredCriterion>();
expectTypeOf(PRUNING_CRITERIA).items.toEqualTypeOf<blocksparse.PruningCriterion>();

const { BlockGrid, BlockMask, BsrLinear, BsrMatrix, CsrMatrix, Model, Network } = blocksparse;
const weight = new Float32Array(64);
const grid = new BlockGrid([8, 8], [4, 4]);
const scores = blocksparse.scoreBlocks(weight, grid, 'l2');
expectTypeOf(scores).toEqualTypeOf<Float32Array>();
const mask = blocksparse.selectBlocks(scores, grid, { sparsity: 0.5 });
expectTypeOf(mask).toEqualTypeOf<blocksparse.BlockMask>();
expectTypeOf(blocksparse.selectBlocks).toBeCallableWith(scores, grid, { dropFraction: 0.5, among: mask });
expectTypeOf(blocksparse.selectGlobally).returns.toEqualTypeOf<blocksparse.BlockMask[]>();
expectTypeOf(BlockMask.full).parameters.toEqualTypeOf<[blocksparse.BlockGrid]>();
const matrix = BsrMatrix.fromDense(weight, grid, mask);
expectTypeOf(matrix.shape).toEqualTypeOf<readonly [number, number]>();
expectTypeOf(matrix.values).toEqualTypeOf<Float32Array>();
expectTypeOf(matrix.crowIndices).toEqualTypeOf<Int32Array>();
expectTypeOf(BsrMatrix.fromArrays).toBeCallableWith(matrix);
expectTypeOf(CsrMatrix.fromBsr(matrix).toBsr([4, 4])).toEqualTypeOf<blocksparse.BsrMatrix>();

const layer = new BsrLinear(matrix, { bias: new Float32Array(8), activation: 'gelu', threads: 1 });
expectTypeOf(layer.forward(weight)).toEqualTypeOf<Float32Array>();
expectTypeOf(layer.forwardAsync(weight, weight)).resolves.toEqualTypeOf<Float32Array>();
expectTypeOf(layer.explain(8).kernel).toEqualTypeOf<'rows' | 'panels'>();
expectTypeOf(layer.explain(8).tile).toEqualTypeOf<readonly [number, number]>();
expectTypeOf(layer.explain(8).regrouped).toEqualTypeOf<boolean>();
expectTypeOf(blocksparse.runtime()).toEqualTypeOf<{
  backend: 'native' | 'js';
  isa: string;
  threads: number;
}>();

const layers: readonly blocksparse.LayerSpec[] = [
  { type: 'linear', inFeatures: 8, outFeatures: 4 },
  { type: 'dropout', p: 0.1 },
  { type: 'relu' },
];
const network = Network.create(layers, 1);
expectTypeOf(network.predict(weight)).toEqualTypeOf<Float32Array>();
expectTypeOf(network.linears).toEqualTypeOf<readonly blocksparse.Linear[]>();
expectTypeOf(blocksparse.fit).returns.resolves.toEqualTypeOf<blocksparse.FitResult>();
expectTypeOf(blocksparse.evaluate).returns.toEqualTypeOf<blocksparse.Evaluation>();
expectTypeOf(blocksparse.prune).returns.resolves.toEqualTypeOf<blocksparse.PruneResult>();
expectTypeOf(blocksparse.paperSchedule(3)).toExtend<blocksparse.Schedule>();

expectTypeOf(Model.load).toBeCallableWith('model.safetensors');
expectTypeOf(Model.load).toBeCallableWith(new URL('file:///model.safetensors'), { layers });
expectTypeOf(Model.load).returns.resolves.toEqualTypeOf<blocksparse.Model>();
const model = Model.fromNetwork(network, {}, { batchHint: 32 });
expectTypeOf(model.explain(32)).toEqualTypeOf<blocksparse.ModelInfo>();
expectTypeOf(model.run(weight)).resolves.toEqualTypeOf<Float32Array>();
expectTypeOf(model.runSync(weight)).toEqualTypeOf<Float32Array>();
expectTypeOf(model.toNetwork()).toEqualTypeOf<blocksparse.Network>();
expectTypeOf(new blocksparse.BlocksparseError('INVALID_FILE', '')).toExtend<Error>();

// @ts-expect-error a shape has two sides
new BlockGrid([8, 8, 8], [4, 4]);
// @ts-expect-error float64 is not taken
layer.forward(new Float64Array(64));
// @ts-expect-error no such activation
new BsrLinear(matrix, { activation: 'softmax' });
// @ts-expect-error no such option
new BsrLinear(matrix, { batch: 8 });
// @ts-expect-error either a sparsity or a fraction to drop
blocksparse.selectBlocks(scores, grid, {});
// @ts-expect-error a dropout layer has its p
Network.create([{ type: 'dropout' }], 1);
// @ts-expect-error the seed is not left to chance
Network.create(layers);
// @ts-expect-error measured scores need data: prune takes them, scoreBlocks does not
blocksparse.scoreBlocks(weight, grid, 'fisher');
// @ts-expect-error results are not for writing
matrix.shape[0] = 1;
// @ts-expect-error a model comes from a file or a network
new Model();
