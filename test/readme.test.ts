import { execFile } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, describe, expect, it } from 'vitest';
import { float32Tensor, writeSafetensorsFile } from '../lib/format/safetensors.ts';
import { snippets, workspace } from './setup/readme.ts';

const run = promisify(execFile);
const folder = workspace();
afterAll(() => rmSync(folder, { recursive: true }));

/** What the README's lines of Python write: the state_dict of a Sequential. */
async function writeStateDict(): Promise<void> {
  const tensors = new Map(
    [
      [784, 300],
      [300, 100],
      [100, 10],
    ].flatMap(([k, n], i) => [
      [`${2 * i}.weight`, float32Tensor([n, k], new Float32Array(n * k).fill(0.01))] as const,
      [`${2 * i}.bias`, float32Tensor([n], new Float32Array(n))] as const,
    ]),
  );
  await writeSafetensorsFile(join(folder, 'lenet.safetensors'), tensors);
}

describe('README', () => {
  const code = snippets().filter(
    ({ language, file }) => ['js', 'ts'].includes(language) && file === undefined,
  );

  it('has snippets', () => {
    expect(code.length).toBeGreaterThanOrEqual(5);
  });

  it('gives each runtime dependency its line', () => {
    const read = (name: string) => readFileSync(join(import.meta.dirname, '..', name), 'utf8');
    const lines = [...read('README.md').matchAll(/^- `([\w-]+)`:? .+\.$/gm)].map(([, name]) => name);
    expect(lines.sort()).toEqual(Object.keys(JSON.parse(read('package.json')).dependencies).sort());
  });

  // In order and in one folder: the later ones load the files that the earlier ones save.
  for (const snippet of code)
    it(`runs line ${snippet.line}: ${snippet.code.split('\n', 1)[0]}`, async () => {
      await writeStateDict();
      const file = join(folder, `line-${snippet.line}.mjs`);
      writeFileSync(file, snippet.code);
      const { stdout } = await run(process.execPath, [file], { cwd: folder });
      expect(stdout).not.toMatch(/NaN|undefined/);
    }, 120_000);
});
