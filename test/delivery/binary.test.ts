import { existsSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { describe, expect, it } from 'vitest';
import { missing, prebuild, succeed } from './tools.ts';

/** The oldest system a binary may ask for: Debian 10, RHEL 8 and Ubuntu 18.10, which node 20 needs as well. */
const FLOORS: Record<string, string> = { GLIBC: '2.28', GLIBCXX: '3.4.25', CXXABI: '1.3.11' };

/** The functions of Node-API 8. */
const { v8 } = createRequire(import.meta.url)('node-api-headers').symbols as {
  v8: { js_native_api_symbols: string[]; node_api_symbols: string[] };
};

function atMost(version: string, floor: string): boolean {
  const a = version.split('.').map(Number);
  const b = floor.split('.').map(Number);
  for (let i = 0; i < Math.max(a.length, b.length); i++)
    if ((a[i] ?? 0) !== (b[i] ?? 0)) return (a[i] ?? 0) < (b[i] ?? 0);
  return true;
}

describe.each(['x64', 'arm64'])('the packed binary for linux-%s', (arch) => {
  const file = prebuild(arch);
  const skip = missing('readelf', file);

  it.skipIf(skip)('is under 1 MB', () => {
    expect(existsSync(file)).toBe(true);
    expect(statSync(file).size).toBeLessThan(1e6);
  });

  it.skipIf(skip)('runs with glibc 2.28 and the libstdc++ of GCC 8', async () => {
    const { stdout } = await succeed('readelf', ['-W', '--version-info', file]);
    const needed = [...stdout.matchAll(/Name: (GLIBC|GLIBCXX|CXXABI)_([\d.]+)/g)];
    expect(needed.length).toBeGreaterThan(0);
    const above = needed.filter(([, name, version]) => !atMost(version, FLOORS[name])).map(([text]) => text);
    expect(above).toEqual([]);
  });

  it.skipIf(skip)('exports its two entry points and nothing else', async () => {
    const { stdout } = await succeed('readelf', ['-W', '--dyn-syms', file]);
    const exported = stdout
      .split('\n')
      .map((line) => line.trim().split(/\s+/))
      .filter((columns) => /^(GLOBAL|WEAK|UNIQUE)$/.test(columns[4] ?? '') && columns[6] !== 'UND')
      .map((columns) => columns[7].replace(/@.*/, ''));
    expect(exported.sort()).toEqual(['napi_register_module_v1', 'node_api_module_get_api_version_v1']);
  });

  it.skipIf(skip)(
    'asks for Node-API 8 at most, and makes no external buffer, which Electron forbids',
    async () => {
      const { stdout } = await succeed('readelf', ['-W', '--dyn-syms', file]);
      const asked = [...stdout.matchAll(/ UND (napi_\w+|node_api_\w+)/g)].map(([, name]) => name);
      const known = [...v8.js_native_api_symbols, ...v8.node_api_symbols];
      expect(asked.length).toBeGreaterThan(0);
      expect(asked.filter((name) => !known.includes(name))).toEqual([]);
      expect(asked.filter((name) => /^napi_create_external_(array)?buffer$/.test(name))).toEqual([]);
    },
  );

  it.skipIf(skip)('is stripped', async () => {
    const { stdout } = await succeed('readelf', ['-W', '--sections', file]);
    expect(stdout).not.toMatch(/\.symtab|\.debug_/);
  });

  it.skipIf(skip)('needs only libraries that every system has', async () => {
    const { stdout } = await succeed('readelf', ['-W', '--dynamic', file]);
    const needed = [...stdout.matchAll(/NEEDED.*\[(.+?)\.so/g)].map(([, name]) => name);
    const known = [
      'libstdc++',
      'libm',
      'libgcc_s',
      'libc',
      'libpthread',
      'ld-linux-x86-64',
      'ld-linux-aarch64',
    ];
    expect(needed.filter((name) => !known.includes(name))).toEqual([]);
  });
});
