// Builds prebuilds/<platform>-<arch>/ for this platform: `node scripts/prebuild.mjs [arch]`. In a folder of its
// own, since a binary for another architecture in build/ would be found before the one for this machine.
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, realpathSync, rmSync, symlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const arch = process.argv[2] ?? process.arch;
const prebuildify = join(dirname(createRequire(import.meta.url).resolve('prebuildify')), 'bin.js');

const args = ['--napi', '--strip', '--target', process.versions.node, '--arch', arch];
const env = { ...process.env };
if (process.platform === 'linux' && arch === 'arm64' && process.arch !== 'arm64') {
  env.CC ??= 'aarch64-linux-gnu-gcc';
  env.CXX ??= 'aarch64-linux-gnu-g++';
  args.push('--strip-bin', 'aarch64-linux-gnu-strip');
}
// The headers beside this node, where there are any, spare a download.
const prefix = join(dirname(process.execPath), '..');
if (existsSync(join(prefix, 'include/node/node_api.h'))) env.npm_config_nodedir ??= prefix;

const folder = realpathSync(mkdtempSync(join(tmpdir(), 'blocksparse-prebuild-')));
try {
  for (const name of ['native', 'binding.gyp', 'package.json'])
    cpSync(join(root, name), join(folder, name), { recursive: true });
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'), 'junction');
  args.push('--cwd', folder, '--out', root);
  // The C library is part of the name, so that a package can hold a binary for each.
  if (process.platform === 'linux') args.push('--tag-libc');
  const { status } = spawnSync(process.execPath, [prebuildify, ...args], { env, stdio: 'inherit' });
  process.exitCode = status ?? 1;
} finally {
  rmSync(folder, { recursive: true });
}
