import { createHash } from 'node:crypto';
import { access } from 'node:fs/promises';
import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import { BlocksparseError } from '../errors.ts';
import { Model } from '../format/model.ts';
import type { Dataset } from '../nn/dataset.ts';
import type { Network } from '../nn/network.ts';
import type { Measurement } from './measured.ts';
import type { PruningPlan, RoundReport } from './options.ts';

/**
 * Everything that decides the result, as JSON: only a run that agrees in all of it may go on from a checkpoint.
 * Data sets count by what they hold, callbacks only by being callbacks.
 */
export type Fingerprint = Readonly<Record<string, unknown>>;

/** What a checkpoint's `info` holds beside the caller's own entries. */
const Progress = z.object({
  /** The last finished round. */
  round: z.int(),
  /** One report a finished round. */
  rounds: z
    .array(
      z.object({
        round: z.int(),
        rounds: z.int(),
        density: z.number(),
        layerDensities: z.array(z.number()),
        // JSON has null for a number that is not finite.
        loss: z
          .number()
          .nullable()
          .transform((loss) => loss ?? Number.NaN)
          .optional(),
        accuracy: z.number().optional(),
        seconds: z.number(),
      }),
    )
    .min(1),
  options: z.record(z.string(), z.unknown()),
});

/** Only JSON, so that it compares equal after a way through a file. */
export function fingerprintOf(plan: PruningPlan): Fingerprint {
  const { grids, schedule, criterion, measurement, scope, floors, retrain, validation } = plan;
  let training: unknown = null;
  if (typeof retrain === 'function') training = 'callback';
  else if (retrain !== null) {
    const { validation: picks, ...how } = retrain.how;
    training = { ...how, data: digest(retrain.data), validation: isDataset(picks) ? digest(picks) : null };
  }
  const fingerprint = {
    blockShape: grids[0].blockShape,
    schedule,
    criterion,
    ...(measurement && { scoring: fingerprintOfScoring(measurement) }),
    scope,
    floor: floors,
    retrain: training,
    validation: validation === null ? null : { data: digest(validation.data), loss: validation.loss },
  };
  return JSON.parse(JSON.stringify(fingerprint));
}

function fingerprintOfScoring({ data, targets, ...how }: Measurement): Fingerprint {
  return { ...how, data: digest({ ...data, y: targets ?? new Uint8Array(0) }) };
}

/** Writes the network and how far it is; whatever goes wrong, the file before it stays whole. */
export async function saveCheckpoint(
  path: string,
  network: Network,
  reports: readonly RoundReport[],
  fingerprint: Fingerprint,
  info: Readonly<Record<string, unknown>>,
): Promise<void> {
  const progress = { round: reports.length - 1, rounds: reports, options: fingerprint };
  await Model.fromNetwork(network, { ...info, ...progress }).save(path);
}

/**
 * Puts the checkpoint's weights into `network` and returns the reports of its finished rounds; none when the file
 * does not exist. Throws BlocksparseError INVALID_STATE, the network unchanged, when the checkpoint is of another
 * network or of other options; INVALID_FILE when it is damaged.
 */
export async function loadCheckpoint(
  path: string,
  network: Network,
  fingerprint: Fingerprint,
): Promise<RoundReport[]> {
  if (!(await exists(path))) return [];
  const model = await Model.load(path);
  const found = Progress.safeParse(model.info);
  if (!found.success || found.data.round !== found.data.rounds.length - 1)
    throw new BlocksparseError(
      'INVALID_STATE',
      `${path} is no checkpoint of a pruning run: it holds no rounds`,
    );
  const { rounds, options } = found.data;
  if (!sameJson(model.layers, network.layers)) throw mismatch(path, 'layers', model.layers, network.layers);
  for (const name of Object.keys(fingerprint))
    if (!isDeepStrictEqual(options[name], fingerprint[name]))
      throw mismatch(path, name, options[name], fingerprint[name]);
  const saved = model.toNetwork();
  network.linears.forEach((linear, l) => {
    const { matrix, bias } = saved.linears[l];
    linear.setMatrix(matrix);
    if (bias !== null) linear.bias?.set(bias);
  });
  return rounds as RoundReport[];
}

function mismatch(path: string, name: string, saved: unknown, given: unknown): BlocksparseError {
  const text = (value: unknown) => {
    const json = JSON.stringify(value) ?? 'nothing';
    return json.length > 300 ? `${json.slice(0, 297)}...` : json;
  };
  return new BlocksparseError(
    'INVALID_STATE',
    `${path} is the checkpoint of a run with ${name} ${text(saved)}, but here ${name} is ${text(given)}`,
  );
}

function sameJson(a: unknown, b: unknown): boolean {
  return isDeepStrictEqual(JSON.parse(JSON.stringify(a)), JSON.parse(JSON.stringify(b)));
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}

function isDataset(value: unknown): value is Dataset {
  return typeof value === 'object';
}

/** Size and contents of a data set. */
function digest({ x, y, count, features }: Dataset): string {
  const hash = createHash('sha256').update(`${count} ${features} ${y.constructor.name}\n`);
  for (const { buffer, byteOffset, byteLength } of [x, y])
    hash.update(new Uint8Array(buffer, byteOffset, byteLength));
  return hash.digest('hex');
}
