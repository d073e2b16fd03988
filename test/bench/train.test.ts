import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

it('the benchmark of a training step runs, without PyTorch too', () => {
  const script = fileURLToPath(new URL('../../bench/train.mjs', import.meta.url));
  const { PYTHON: _, ...env } = process.env;
  const out = execFileSync(process.execPath, [script, '--rounds', '1'], { env, encoding: 'utf8' });
  for (const step of ['dense', '4x4', '16x16']) expect(out).toContain(step);
});
