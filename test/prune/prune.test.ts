import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BlocksparseError } from '../../lib/errors.ts';
import { Model } from '../../lib/format/model.ts';
import { evaluate, fit, split } from '../../lib/nn/fit.ts';
import { Network } from '../../lib/nn/network.ts';
import { type PruneOptions, prune, type RetrainOptions, type RoundReport } from '../../lib/prune/prune.ts';
import { paperSchedule, type Schedule, targetSparsity } from '../../lib/prune/schedule.ts';
import { BsrMatrix } from '../../lib/sparse/bsr.ts';
import { BlockGrid } from '../../lib/sparse/grid.ts';
import { BlockMask } from '../../lib/sparse/mask.ts';
import { CLASSES, images, LAYERS } from './images.ts';

const { train, validation } = split(images(700, 1), 150);
const training = {
  batchSize: 32,
  optimizer: { type: 'adam', learningRate: 4e-3 },
  seed: 11,
} as const;
const retrain: RetrainOptions = { ...training, data: train, epochs: 2, rate: { type: 'cosine' } };
const paper: PruneOptions = { blockShape: [4, 4], schedule: paperSchedule(3, 6), retrain, validation };

let dense: Network;
let folder: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'blocksparse-prune-'));
  dense = Network.create(LAYERS, 3);
  await fit(dense, train, { ...training, epochs: 12, validation });
});
afterAll(() => rmSync(folder, { recursive: true }));

/** All parameters and the structure, for comparison bit for bit. */
function bits(network: Network) {
  const bytes = (array: Float32Array | null) =>
    array ? Buffer.from(array.slice().buffer).toString('hex') : null;
  return network.linears.map(({ matrix, bias }) => ({
    blockShape: matrix.blockShape,
    crow: Array.from(matrix.crowIndices),
    col: Array.from(matrix.colIndices),
    values: bytes(matrix.values),
    bias: bytes(bias),
  }));
}

/** No block that `before` has not. */
function expectWithin(kept: Uint8Array, before: Uint8Array): void {
  expect(kept.every((bit, i) => bit <= before[i])).toBe(true);
}

/** Everything of a report but the time it took. */
const untimed = (reports: readonly RoundReport[]) => reports.map(({ seconds: _, ...rest }) => rest);

describe('prune', () => {
  it('follows the paper: densities, shrinking masks, zeros outside, and the network still works', async () => {
    const network = dense.clone();
    const seen: RoundReport[] = [];
    const masks: Uint8Array[][] = [];
    const { rounds } = await prune(network, {
      ...paper,
      onRound(report) {
        seen.push(report);
        masks.push(network.linears.map(({ matrix }) => matrix.mask.kept));
      },
    });
    expect(rounds).toEqual(seen);
    expect(rounds.map(({ round }) => round)).toEqual([0, 1, 2, 3, 4, 5]);
    const blocks = [8 * 9, 6 * 8, 2 * 6];
    rounds.forEach((report, round) => {
      report.layerDensities.forEach((_, l) => {
        blocks[l] -= Math.round([0.2, 0.2, 0.1][l] * blocks[l]);
        expect(masks[round][l].reduce((n, bit) => n + bit, 0)).toBe(blocks[l]);
        if (round > 0) expectWithin(masks[round][l], masks[round - 1][l]);
      });
      expect(report.rounds).toBe(6);
      expect(report.seconds).toBeGreaterThan(0);
    });
    const last = rounds.at(-1)!;
    expect(last.density).toBe(network.density);
    expect(last.layerDensities).toEqual(network.linears.map(({ matrix }) => matrix.density));
    expect(last).toMatchObject(evaluate(network, validation));
    expect(evaluate(dense, validation).accuracy).toBeGreaterThan(0.9);
    expect(last.accuracy).toBeGreaterThan(0.8);
    for (const { matrix } of network.linears) {
      expect(matrix.blockShape).toEqual([4, 4]);
      expect(matrix.values.every(Number.isFinite)).toBe(true);
    }
    // The network that was cloned is as before.
    expect(dense.density).toBe(1);
  });

  it('retrains: better than pruning alone, from the weights that survive', async () => {
    const schedule: Schedule = { type: 'one-shot', sparsity: 0.8, rounds: 1 };
    const pruned = dense.clone();
    const alone = await prune(pruned, { blockShape: [4, 4], schedule, validation });
    const retrained = await prune(dense.clone(), { blockShape: [4, 4], schedule, validation, retrain });
    expect(retrained.rounds[0].loss).toBeLessThan(alone.rounds[0].loss!);
    pruned.linears.forEach(({ matrix }, l) => {
      const before = dense.linears[l].weight();
      expect(matrix.toDense().every((w, i) => w === 0 || w === before[i])).toBe(true);
      expect(pruned.linears[l].bias).toEqual(dense.linears[l].bias);
    });
  });

  it.each(['one-shot', 'linear', 'exponential', 'cubic'] as const)(
    'reaches the targets: %s',
    async (type) => {
      const schedule = { type, sparsity: 0.85, rounds: 4 };
      for (const scope of ['layer', 'global'] as const) {
        const { rounds } = await prune(dense.clone(), { blockShape: [2, 3], schedule, scope, validation });
        for (const { round, density, layerDensities } of rounds) {
          const target = 1 - targetSparsity(schedule, round);
          // Half a block of 2x3.
          expect(Math.abs(density - target)).toBeLessThanOrEqual(3 / (5 * 22));
          if (scope === 'layer')
            for (const d of layerDensities)
              expect(Math.abs(d - target)).toBeLessThanOrEqual(3 / (5 * 22) + 1e-9);
        }
        if (type === 'one-shot') expect(new Set(rounds.map(({ density }) => density)).size).toBe(1);
      }
    },
  );

  it('leaves each layer its floor, whatever selects', async () => {
    const floor = [0.1, 0.5, 0.75];
    const schedules: [Schedule, 'layer' | 'global'][] = [
      [{ type: 'linear', sparsity: 0.95, rounds: 2 }, 'layer'],
      [{ type: 'linear', sparsity: 0.95, rounds: 2 }, 'global'],
      [{ type: 'rounds', fractions: [0.5, 0.5, 0.5], rounds: 4 }, 'layer'],
    ];
    for (const [schedule, scope] of schedules) {
      const network = dense.clone();
      await prune(network, { blockShape: [4, 4], schedule, scope, floor });
      network.linears.forEach(({ matrix }, l) => {
        expect(matrix.density).toBeGreaterThanOrEqual(floor[l]);
        expect(matrix.density).toBeLessThan(floor[l] + 0.2);
      });
    }
  });

  it('drops the lowest blocks of the criterion', async () => {
    for (const criterion of ['l1', 'l2', 'max-abs'] as const) {
      const network = dense.clone();
      await prune(network, {
        blockShape: [1, 1],
        schedule: { type: 'one-shot', sparsity: 0.5, rounds: 1 },
        criterion,
      });
      network.linears.forEach((linear, l) => {
        const before = dense.linears[l].weight();
        const { kept } = linear.matrix.mask;
        const most = Math.max(...before.filter((_, i) => kept[i] === 0).map(Math.abs));
        const least = Math.min(...before.filter((_, i) => kept[i] === 1).map(Math.abs));
        expect(most).toBeLessThanOrEqual(least);
      });
    }
  });

  it('brings no block back that was gone before it began', async () => {
    const network = dense.clone();
    await prune(network, { blockShape: [4, 4], schedule: { type: 'one-shot', sparsity: 0.6, rounds: 1 } });
    const before = network.linears.map(({ matrix }) => matrix.mask.kept);
    const same = network.clone();
    const schedule: Schedule = { type: 'linear', sparsity: 0.7, rounds: 2 };
    await prune(same, { blockShape: [4, 4], schedule, retrain });
    same.linears.forEach(({ matrix }, l) => {
      expectWithin(matrix.mask.kept, before[l]);
    });
    // Finer blocks: the weights that were zero stay so.
    const finer = network.clone();
    const zero = network.linears.map((linear) => linear.weight());
    await prune(finer, { blockShape: [2, 2], schedule, retrain });
    finer.linears.forEach((linear, l) => {
      expect(linear.weight().every((w, i) => w === 0 || zero[l][i] !== 0)).toBe(true);
    });
  });

  it('is the same each time, and other with another seed', async () => {
    const run = async (seed: number) => {
      const network = dense.clone();
      const { rounds } = await prune(network, { ...paper, retrain: { ...retrain, seed } });
      return { bits: bits(network), rounds: untimed(rounds) };
    };
    const first = await run(1);
    expect(await run(1)).toEqual(first);
    expect((await run(2)).bits).not.toEqual(first.bits);
  });

  it('takes a callback, with the round and the signal, and awaits it and onRound', async () => {
    const calls: string[] = [];
    const { signal } = new AbortController();
    const network = dense.clone();
    const pause = () => new Promise((resolve) => setTimeout(resolve, 2));
    const { rounds } = await prune(network, {
      blockShape: [4, 4],
      schedule: paperSchedule(3, 2),
      validation,
      signal,
      async retrain(given, round, itsSignal) {
        expect(given).toBe(network);
        expect(itsSignal).toBe(signal);
        await pause();
        given.linears[0].matrix.values[0] += 0.5;
        calls.push(`retrained ${round}`);
      },
      async onRound({ round }) {
        await pause();
        calls.push(`round ${round}`);
      },
    });
    expect(calls).toEqual(['retrained 0', 'round 0', 'retrained 1', 'round 1']);
    expect(rounds[1]).toMatchObject(evaluate(network, validation));
  });

  it('reports training loss without validation, and none without either', async () => {
    const schedule = paperSchedule(3, 1);
    const trained = await prune(dense.clone(), { blockShape: [4, 4], schedule, retrain });
    expect(trained.rounds[0].loss).toBeGreaterThan(0);
    expect(trained.rounds[0]).not.toHaveProperty('accuracy');
    const neither = await prune(dense.clone(), { blockShape: [4, 4], schedule });
    expect(neither.rounds[0]).not.toHaveProperty('loss');
  });

  it('keeps the last rows from training when retrain.validation is a number', async () => {
    const all = images(700, 1);
    const network = dense.clone();
    const split150 = { ...retrain, data: all, validation: 150 };
    const { rounds } = await prune(network, { ...paper, validation: undefined!, retrain: split150 });
    const other = dense.clone();
    const expected = await prune(other, paper);
    expect(untimed(rounds)).toEqual(untimed(expected.rounds));
    expect(bits(network)).toEqual(bits(other));
  });

  it('takes mean squared error', async () => {
    const y = new Float32Array(train.count * CLASSES);
    train.y.forEach((label, i) => {
      y[i * CLASSES + label] = 1;
    });
    const data = { ...train, y };
    const { rounds } = await prune(dense.clone(), {
      ...paper,
      schedule: paperSchedule(3, 1),
      retrain: { ...retrain, data, loss: 'mse' },
      validation: data,
    });
    expect(rounds[0].loss).toBeGreaterThan(0);
    expect(rounds[0]).not.toHaveProperty('accuracy');
  });
});

describe('stopping', () => {
  it('rejects with the reason and leaves the last finished round', async () => {
    const network = dense.clone();
    const stop = new AbortController();
    const reason = new Error('enough');
    let finished: unknown;
    let epochs = 0;
    const run = prune(network, {
      ...paper,
      signal: stop.signal,
      // In the middle of round 2.
      retrain: { ...retrain, onEpoch: () => ++epochs === 5 && stop.abort(reason) },
      onRound: () => {
        finished = bits(network);
      },
    });
    await expect(run).rejects.toBe(reason);
    expect(epochs).toBe(5);
    expect(bits(network)).toEqual(finished);
  });

  it('does nothing when stopped before it begins', async () => {
    const network = dense.clone();
    await expect(prune(network, { ...paper, signal: AbortSignal.abort() })).rejects.toThrow(/abort/i);
    expect(bits(network)).toEqual(bits(dense));
  });

  it('does not count a round whose callback returned because it was told to stop', async () => {
    const network = dense.clone();
    const stop = new AbortController();
    const path = join(folder, 'callback.safetensors');
    const run = prune(network, {
      ...paper,
      checkpoint: path,
      signal: stop.signal,
      retrain: (_, round) => {
        if (round === 1) stop.abort();
      },
    });
    await expect(run).rejects.toThrow(/abort/i);
    expect((await Model.load(path)).info.round).toBe(0);
  });

  it('restores the round before when retraining fails', async () => {
    const network = dense.clone();
    const failing = (given: Network) => {
      given.linears[0].matrix.values.fill(7);
      given.linears[0].bias!.fill(7);
      throw new Error('no more memory');
    };
    await expect(prune(network, { ...paper, retrain: failing })).rejects.toThrow('no more memory');
    expect(network.linears[0].weight()).toEqual(dense.linears[0].weight());
    expect(network.linears[0].bias).toEqual(dense.linears[0].bias);
  });
});

describe('resuming', () => {
  const options = (name: string): PruneOptions => ({
    ...paper,
    checkpoint: join(folder, name),
    info: { normalisation: 'none', round: 'overwritten' },
  });
  let whole: { bits: unknown; reports: unknown };
  beforeAll(async () => {
    const network = dense.clone();
    const { rounds } = await prune(network, options('whole.safetensors'));
    whole = { bits: bits(network), reports: untimed(rounds) };
  });

  it.each([
    ['in the first epoch of round 3', 7],
    ['in the last epoch of round 1', 4],
  ])('gives the bits of an uninterrupted run: stopped %s', async (_, epoch) => {
    const stop = new AbortController();
    const how = options(`stopped-${epoch}.safetensors`);
    let epochs = 0;
    const stopping = { ...retrain, onEpoch: () => ++epochs === epoch && stop.abort() };
    await expect(prune(dense.clone(), { ...how, retrain: stopping, signal: stop.signal })).rejects.toThrow();
    // What a new process has: a network of the same layers with other weights, and equal copies of the data.
    const network = Network.create(LAYERS, 99);
    const copy = split(images(700, 1), 150);
    const reports: RoundReport[] = [];
    const { rounds } = await prune(network, {
      ...how,
      retrain: { ...retrain, data: copy.train },
      validation: copy.validation,
      resume: true,
      onRound: (report) => {
        reports.push(report);
      },
    });
    expect(bits(network)).toEqual(whole.bits);
    expect(untimed(rounds)).toEqual(whole.reports);
    expect(reports).toEqual(rounds.slice(Math.floor((epoch - 1) / 2)));
    const [ours, theirs] = await Promise.all(
      [how.checkpoint as string, join(folder, 'whole.safetensors')].map((path) => Model.load(path)),
    );
    expect(bits(ours.toNetwork())).toEqual(bits(theirs.toNetwork()));
  });

  it('also after round 2, by stopping between rounds, several times', async () => {
    const how = options('between.safetensors');
    for (const last of [2, 3, 4]) {
      const stop = new AbortController();
      const onRound = ({ round }: RoundReport) => {
        if (round === last) stop.abort();
      };
      const run = prune(dense.clone(), { ...how, resume: true, onRound, signal: stop.signal });
      await expect(run).rejects.toThrow();
      expect((await Model.load(how.checkpoint!)).info.round).toBe(last);
    }
    const network = dense.clone();
    await prune(network, { ...how, resume: true });
    expect(bits(network)).toEqual(whole.bits);
  });

  it('of a finished run only loads it', async () => {
    const network = Network.create(LAYERS, 5);
    const { rounds } = await prune(network, {
      ...options('whole.safetensors'),
      resume: true,
      onRound: () => expect.unreachable(),
    });
    expect(bits(network)).toEqual(whole.bits);
    expect(untimed(rounds)).toEqual(whole.reports);
  });

  it('begins with the first round where there is no checkpoint', async () => {
    const network = dense.clone();
    await prune(network, { ...options('new.safetensors'), resume: true });
    expect(bits(network)).toEqual(whole.bits);
  });

  it('without resume begins anew over an old checkpoint', async () => {
    const how = options('old.safetensors');
    copyFileSync(join(folder, 'whole.safetensors'), how.checkpoint as string);
    const network = dense.clone();
    const seen: number[] = [];
    await prune(network, { ...how, onRound: ({ round }) => void seen.push(round) });
    expect(seen).toEqual([0, 1, 2, 3, 4, 5]);
  });

  it('writes a model that carries the caller’s info, the round and the reports', async () => {
    const { info, density } = await Model.load(join(folder, 'whole.safetensors'));
    expect(info).toMatchObject({ normalisation: 'none', round: 5 });
    expect(untimed(info.rounds as RoundReport[])).toEqual(whole.reports);
    expect(density).toBeCloseTo((info.rounds as RoundReport[])[5].density, 12);
  });

  it('refuses a checkpoint of another run and leaves the network alone', async () => {
    const changed: [RegExp, Partial<PruneOptions>][] = [
      [/blockShape \[4,4\], but here blockShape is \[2,2\]/, { blockShape: [2, 2] }],
      [/schedule/, { schedule: paperSchedule(3, 7) }],
      [/criterion "mean-abs", but here criterion is "l2"/, { criterion: 'l2' }],
      [/floor/, { floor: 0.01 }],
      [/retrain/, { retrain: { ...retrain, seed: 12 } }],
      [/retrain/, { retrain: { ...retrain, epochs: 3 } }],
      [/retrain/, { retrain: { ...retrain, data: images(550, 2) } }],
      [/retrain/, { retrain: () => {} }],
      [/with validation|with retrain/, { validation: images(150, 2) }],
    ];
    const network = Network.create(LAYERS, 5);
    const before = bits(network);
    for (const [message, change] of changed) {
      const run = prune(network, { ...options('whole.safetensors'), ...change, resume: true });
      await expect(run).rejects.toThrow(message);
      await expect(run).rejects.toMatchObject({ code: 'INVALID_STATE' });
    }
    const other = Network.create([...LAYERS, { type: 'relu' }], 5);
    await expect(prune(other, { ...options('whole.safetensors'), resume: true })).rejects.toThrow(
      /with layers/,
    );
    expect(bits(network)).toEqual(before);
  });

  it('refuses a model that is no checkpoint, and a damaged file', async () => {
    const path = join(folder, 'plain.safetensors');
    await Model.fromNetwork(dense, { round: 3 }).save(path);
    const run = prune(dense.clone(), { ...paper, checkpoint: path, resume: true });
    await expect(run).rejects.toMatchObject({ code: 'INVALID_STATE' });
    writeFileSync(path, readFileSync(join(folder, 'whole.safetensors')).subarray(0, 2000));
    const damaged = prune(dense.clone(), { ...paper, checkpoint: path, resume: true });
    await expect(damaged).rejects.toMatchObject({ code: 'INVALID_FILE' });
  });

  it('begins no round when the checkpoint cannot be written, and loses none when it no longer can', async () => {
    const network = dense.clone();
    const checkpoint = join(folder, 'missing', 'x.safetensors');
    const run = prune(network, { ...paper, checkpoint });
    await expect(run).rejects.toMatchObject({ code: 'WRITE_FAILED' });
    expect(network.density).toBe(1);
    mkdirSync(join(folder, 'missing'));
    const retrain = () => rmSync(join(folder, 'missing'), { recursive: true });
    const interrupted = prune(network, { ...paper, checkpoint, retrain });
    await expect(interrupted).rejects.toMatchObject({ code: 'WRITE_FAILED' });
    expect(network.density).toBeLessThan(0.85);
    if (process.getuid?.() === 0) return;
    const locked = join(folder, 'whole.safetensors');
    const before = readFileSync(locked);
    chmodSync(folder, 0o555);
    try {
      await expect(prune(dense.clone(), options('whole.safetensors'))).rejects.toThrow(BlocksparseError);
    } finally {
      chmodSync(folder, 0o755);
    }
    expect(readFileSync(locked)).toEqual(before);
  });

  it('leaves no temporary files', () => {
    expect(readdirSync(folder).filter((name) => !name.endsWith('.safetensors'))).toEqual([]);
  });
});

describe('bad input', () => {
  const bad = (change: Record<string, unknown>, network: unknown = dense) =>
    expect(prune(network as Network, { ...paper, ...change } as PruneOptions)).rejects;

  it('is named, and the network stays as it is', async () => {
    const before = bits(dense);
    await bad({}, {}).toThrow(/network must be a Network/);
    await expect(prune(dense, null as never)).rejects.toThrow(/options must be an object/);
    await bad({ blockShape: 4 }).toThrow(/blockShape must be an array of two numbers/);
    await bad({ blockShape: [4, 0] }).toThrow(/blockShape\[1\]/);
    await bad({ blockShape: [1.5, 4] }).toThrow(RangeError);
    await bad({ schedule: undefined }).toThrow(/schedule must be a schedule/);
    await bad({ schedule: paperSchedule(2) }).toThrow(/schedule.fractions must be of 3 numbers/);
    await bad({ scope: 'global' }).toThrow(/scope must be 'layer'/);
    await bad({ scope: 'all' }).toThrow(/scope must be one of layer, global/);
    await bad({ criterion: 'l3' }).toThrow(/criterion must be one of/);
    await bad({ floor: 1.5 }).toThrow(/floor must be a number from 0 to 1/);
    await bad({ floor: [0.1] }).toThrow(/floor must be one number for each of 3 layers/);
    await bad({ retrain: 5 }).toThrow(/retrain must be an object or a function/);
    await bad({ retrain: { ...retrain, data: undefined } }).toThrow(/retrain.data must be a data set/);
    await bad({ retrain: { ...retrain, epochs: -1 } }).toThrow(/retrain.epochs/);
    await bad({ retrain: { ...retrain, data: { ...train, features: 35 } } }).toThrow(/retrain.data/);
    await bad({ retrain: { ...retrain, validation: 5000 } }).toThrow(/validation/i);
    await bad({ retrain: { ...retrain, keep: 'best' }, validation: undefined }).toThrow(/retrain.keep/);
    await bad({ validation: { ...validation, y: new Uint8Array(150).fill(9) } }).toThrow(/validation.y\[0\]/);
    await bad({ retrain: () => {}, validation: images(0, 1) }).toThrow(/validation.count/);
    await bad({ checkpoint: 5 }).toThrow(/checkpoint must be a path/);
    await bad({ resume: true }).toThrow(/checkpoint must be a path, since resume is set/);
    await bad({ resume: 'yes' }).toThrow(/resume must be a boolean/);
    await bad({ info: 5 }).toThrow(/info must be an object/);
    await bad({ info: { big: 1n } }).toThrow(/info must be an object that JSON can hold/);
    await bad({ info: { toJSON() {} } }).toThrow(/info must be an object that JSON can hold/);
    await bad({ floor: null }).toThrow(/floor must be a number, but is null/);
    await bad({ signal: {} }).toThrow(/signal must be an AbortSignal/);
    await bad({ onRound: 'log' }).toThrow(/onRound must be a function/);
    expect(bits(dense)).toEqual(before);
  });

  it('weights that are not finite have no rank', async () => {
    const network = dense.clone();
    network.linears[1].matrix.values[0] = Number.NaN;
    await bad({}, network).toThrow(/network.linears\[1\].weight\[0\] must be a finite number, but is NaN/);
    expect(network.density).toBe(1);
  });

  it('weights transferred away', async () => {
    const network = dense.clone();
    const { buffer } = network.linears[0].matrix.values;
    structuredClone(buffer, { transfer: [buffer as ArrayBuffer] });
    await bad({}, network).toThrow(/network.linears\[0\].matrix.values must be/);
  });

  it('a callback that changes the structure', async () => {
    const network = dense.clone();
    const revive = ({ linears: [linear] }: Network) => {
      const grid = new BlockGrid(linear.matrix.shape, [4, 4]);
      linear.setMatrix(BsrMatrix.fromDense(linear.weight(), grid, BlockMask.full(grid)));
    };
    await bad({ retrain: revive }, network).toMatchObject({ code: 'INVALID_STATE' });
    expect(network.density).toBe(1);
  });

  it('a network that is being pruned', async () => {
    const network = dense.clone();
    const first = prune(network, paper);
    await bad({}, network).toThrow(/already being pruned/);
    await first;
  });
});
