import { spawnSync } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { has, prebuild, root } from './tools.ts';

/** The newest change of what a binary is made from. */
function changed(): number {
  const files = ['binding.gyp', 'package.json'].concat(
    readdirSync(join(root, 'native'), { recursive: true, encoding: 'utf8' }).map((name) =>
      join('native', name),
    ),
  );
  return Math.max(...files.map((name) => statSync(join(root, name)).mtimeMs));
}

/** The binaries a package holds, made here where they are missing or old. */
export default function build(): void {
  const architectures = has('aarch64-linux-gnu-g++') ? ['x64', 'arm64'] : ['x64'];
  for (const arch of architectures) {
    const made = statSync(prebuild(arch), { throwIfNoEntry: false })?.mtimeMs ?? 0;
    if (made > changed()) continue;
    const { status, stdout, stderr } = spawnSync(process.execPath, ['scripts/prebuild.mjs', arch], {
      cwd: root,
      encoding: 'utf8',
    });
    if (status !== 0) throw new Error(`scripts/prebuild.mjs ${arch} failed:\n${stdout}${stderr}`);
  }
}
