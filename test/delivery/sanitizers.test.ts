import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { missing, root, run, succeed } from './tools.ts';

const folder = mkdtempSync(join(tmpdir(), 'blocksparse-sanitizers-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('the thread pool and shared layers', () => {
  for (const kind of ['thread', 'address,undefined'])
    it.skipIf(missing('g++'))(`pass -fsanitize=${kind}`, async () => {
      const program = join(folder, kind.replace(',', '-'));
      const flags = [
        '-std=c++17',
        '-O1',
        '-g',
        `-fsanitize=${kind}`,
        '-fno-sanitize-recover=all',
        '-pthread',
      ];
      const sources = ['test/native/pool.cc', 'native/threads/pool.cc'];
      await succeed('g++', [...flags, ...sources, '-o', program], { cwd: root });
      const { status, stdout, stderr } = await run(program, []);
      expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: 'wrong: 0, alive: 0\n', stderr: '' });
    });
});
