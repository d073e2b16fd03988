import { spawnSync } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));

function newest(folder: string): number {
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.ts'),
  );
  return Math.max(...files.map((name) => statSync(join(folder, name)).mtimeMs));
}

function built(): number {
  return statSync(join(root, 'dist/index.js'), { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

/** Tests of the command line and the README run what users run: dist, made here if it is missing or old. */
export default function build(): void {
  if (built() > newest(join(root, 'lib'))) return;
  const tsc = join(root, 'node_modules/typescript/bin/tsc');
  const { status, stdout } = spawnSync(process.execPath, [tsc, '-p', 'tsconfig.build.json'], {
    cwd: root,
    encoding: 'utf8',
  });
  // tsc writes its output in spite of type errors; `npm run typecheck` is what fails for them.
  if (status !== 0) console.error(`tsc -p tsconfig.build.json:\n${stdout}`);
}
