import { execFile, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../..', import.meta.url));

const installed = fileURLToPath(new URL('tools/node_modules', import.meta.url));

/** The packed addon of one architecture. */
export function prebuild(arch: string): string {
  return join(root, `prebuilds/linux-${arch}/blocksparse.glibc.node`);
}

/** Whether a program is on the PATH. */
export function has(program: string): boolean {
  return spawnSync('which', [program]).status === 0;
}

/** A file of test/delivery/tools, which `npm ci --prefix test/delivery/tools --force --ignore-scripts` fills. */
export function tool(name: string): string {
  return join(installed, name);
}

/** Whether a test can run without these files or programs. With CI set a missing one is a failure instead. */
export function missing(...tools: string[]): boolean {
  const absent = tools.filter((name) => !(name.includes('/') ? existsSync(name) : has(name)));
  if (absent.length > 0 && process.env.CI) throw new Error(`missing: ${absent.join(', ')}`);
  return absent.length > 0;
}

export interface Finished {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end, whatever its exit code. `env` replaces the environment. */
export function run(
  program: string,
  args: readonly string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<Finished> {
  return new Promise((resolve) => {
    execFile(program, args, { maxBuffer: 1 << 26, ...options }, (error, stdout, stderr) =>
      resolve({ status: error === null ? 0 : Number(error.code) || 1, stdout, stderr }),
    );
  });
}

/** As `run`, but a failure throws with all the program printed. */
export async function succeed(...args: Parameters<typeof run>): Promise<Finished> {
  const finished = await run(...args);
  if (finished.status !== 0)
    throw new Error(`${args[0]} ${args[1].join(' ')}:\n${finished.stdout}${finished.stderr}`);
  return finished;
}
