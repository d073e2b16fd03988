import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Model } from '../lib/format/model.ts';
import { Network } from '../lib/nn/network.ts';
import { Random } from '../lib/nn/random.ts';
import { prune } from '../lib/prune/prune.ts';
import { snippets, workspace } from './setup/readme.ts';

const FEATURES = 784;
const REQUESTS = 1000;
const AT_ONCE = 100;

const folder = workspace();
let server: ChildProcess;
let url: string;
let model: Model;

beforeAll(async () => {
  const network = Network.create(
    [
      { type: 'linear', inFeatures: FEATURES, outFeatures: 300 },
      { type: 'relu' },
      { type: 'linear', inFeatures: 300, outFeatures: 100 },
      { type: 'relu' },
      { type: 'linear', inFeatures: 100, outFeatures: 10 },
    ],
    7,
  );
  await prune(network, { blockShape: [4, 4], schedule: { type: 'one-shot', sparsity: 0.9, rounds: 1 } });
  model = Model.fromNetwork(network);
  await model.save(join(folder, 'pruned.safetensors'));
  const code = snippets().find(({ file }) => file === 'server.mjs')?.code ?? '';
  writeFileSync(join(folder, 'server.mjs'), code);
  server = spawn(process.execPath, ['server.mjs'], {
    cwd: folder,
    env: { ...process.env, PORT: '0' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [first] = await once(server.stdout!, 'data');
  url = `http://127.0.0.1:${/port (\d+)/.exec(String(first))?.[1]}/`;
});

afterAll(() => {
  server?.kill();
  rmSync(folder, { recursive: true });
});

async function post(
  body: string,
): Promise<{ status: number; reply: { outputs?: number[]; error?: string } }> {
  const response = await fetch(url, { method: 'POST', body });
  return {
    status: response.status,
    reply: (await response.json()) as { outputs?: number[]; error?: string },
  };
}

describe("the README's server", () => {
  it('is some twenty lines', () => {
    const code = snippets().find(({ file }) => file === 'server.mjs')?.code ?? '';
    expect(code.split('\n').filter((line) => line.trim() !== '').length).toBeLessThanOrEqual(26);
  });

  it(`answers ${REQUESTS} requests, many at once, as runSync does`, async () => {
    const random = new Random(1);
    const inputs = Array.from({ length: REQUESTS }, (_, i) =>
      Float32Array.from({ length: FEATURES * (1 + (i % 3)) }, () => 2 * random.next() - 1),
    );
    let next = 0;
    const client = async (): Promise<void> => {
      while (next < REQUESTS) {
        const x = inputs[next++];
        const { status, reply } = await post(JSON.stringify([...x]));
        expect(status).toBe(200);
        expect(Float32Array.from(reply.outputs ?? [])).toEqual(model.runSync(x));
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, client));
    expect(next).toBe(REQUESTS);
  });

  it('refuses what it cannot answer, and goes on', async () => {
    expect((await fetch(url)).status).toBe(405);
    for (const body of ['', '{', '{}', '["a"]', '[null]', '[1, 2, 3]']) {
      const { status, reply } = await post(body);
      expect(status, body).toBe(400);
      expect(typeof reply.error).toBe('string');
    }
    // On a connection that is kept: one after the other, none cut off.
    for (let i = 0; i < 10; i++) expect((await post(' '.repeat(5_000_000))).status).toBe(413);
    expect((await post(JSON.stringify(new Array(FEATURES).fill(0)))).status).toBe(200);
  });
});
