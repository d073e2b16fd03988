import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { missing, root, succeed, tool } from './tools.ts';

const folder = mkdtempSync(join(tmpdir(), 'blocksparse-pack-'));
afterAll(() => rmSync(folder, { recursive: true }));

interface Packed {
  readonly filename: string;
  readonly size: number;
  readonly files: readonly { path: string }[];
}

let packed: Packed;
beforeAll(async () => {
  const args = ['pack', '--json', '--ignore-scripts', '--pack-destination', folder];
  packed = JSON.parse((await succeed('npm', args, { cwd: root })).stdout)[0];
});

describe('the package', () => {
  it('holds what a user needs and nothing else', () => {
    const allowed = [
      /^(README\.md|CHANGELOG\.md|LICENSE|package\.json|binding\.gyp|CMakeLists\.txt)$/,
      /^dist\/[\w/-]+(\.js|\.d\.ts)$/,
      /^native\/[\w/-]+\.(cc|h|inl|map)$/,
      /^prebuilds\/[a-z]+-[a-z0-9]+\/blocksparse(\.glibc|\.musl)?\.node$/,
    ];
    const paths = packed.files.map(({ path }) => path);
    expect(paths.filter((path) => !allowed.some((pattern) => pattern.test(path)))).toEqual([]);
    expect(paths).toEqual(
      expect.arrayContaining([
        'LICENSE',
        'README.md',
        'binding.gyp',
        'dist/cli/main.js',
        'dist/index.d.ts',
        'dist/index.js',
        'native/addon.cc',
        'prebuilds/linux-x64/blocksparse.glibc.node',
        ...(missing('aarch64-linux-gnu-g++') ? [] : ['prebuilds/linux-arm64/blocksparse.glibc.node']),
      ]),
    );
  });

  it('is under 3 MB', () => {
    expect(packed.size).toBeLessThan(3e6);
  });

  it.skipIf(missing(tool('publint/src/cli.js')))('passes publint', async () => {
    const { stdout } = await succeed(
      process.execPath,
      [tool('publint/src/cli.js'), '--strict', join(folder, packed.filename)],
      { cwd: root },
    );
    expect(stdout).toContain('All good!');
  });

  it.skipIf(missing(tool('@arethetypeswrong/cli/dist/index.js')))('has types that resolve', async () => {
    const attw = tool('@arethetypeswrong/cli/dist/index.js');
    // The library is ESM only; require() of ESM works on every node it supports.
    const args = [attw, join(folder, packed.filename), '--profile', 'esm-only', '--no-color'];
    await succeed(process.execPath, args, { cwd: root });
  });
});
