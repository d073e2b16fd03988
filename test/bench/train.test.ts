import { execFileSync, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const script = fileURLToPath(new URL('../../bench/train.mjs', import.meta.url));

it('the benchmark of a training step runs, without PyTorch too', () => {
  const { PYTHON: _, ...env } = process.env;
  const out = execFileSync(process.execPath, [script, '--rounds', '1'], { env, encoding: 'utf8' });
  for (const step of ['dense', '4x4', '16x16']) expect(out).toContain(step);
});

it.each([
  ['--help', 0, /--python PYTHON/, /^$/],
  ['--steps', 2, /^$/, /Unknown option '--steps'/],
  ['--rounds=0', 2, /^$/, /--rounds takes a whole number from 1, but not 0/],
])('%s ends with %i and a message', (flag, status, out, err) => {
  const ended = spawnSync(process.execPath, [script, flag], { encoding: 'utf8' });
  expect(ended).toMatchObject({
    status,
    stdout: expect.stringMatching(out),
    stderr: expect.stringMatching(err),
  });
});
