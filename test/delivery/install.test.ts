import { readdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { snippets } from '../setup/readme.ts';
import { Project } from './installed.ts';
import { missing, root, succeed, tool } from './tools.ts';

const images = join(root, 'bench/data');
const projects: Project[] = [];
let project: Project;
beforeAll(async () => {
  project = await Project.install(['--ignore-scripts']);
  projects.push(project);
});
afterAll(() => {
  for (const { folder } of projects) rmSync(folder, { recursive: true });
});

/** A copy of the installed project, removed in the end. */
function copy(): Project {
  const other = project.copy();
  projects.push(other);
  return other;
}

/** Removes or replaces every packed binary. */
function damage({ package: folder }: Project, how: (file: string) => void): void {
  for (const platform of readdirSync(join(folder, 'prebuilds')))
    for (const name of readdirSync(join(folder, 'prebuilds', platform)))
      how(join(folder, 'prebuilds', platform, name));
}

describe('npm install with no compiler', () => {
  it('serves natively, imported', async () => {
    expect(await project.probe()).toMatchObject({ backend: 'native', right: true });
  });

  it('serves natively, required', async () => {
    const probe = await project.probe([process.execPath], 'probe.cjs');
    expect(probe).toMatchObject({ backend: 'native', right: true });
  });

  // No shell is on the PATH: a script would fail the installation. With the flag, npm 11's name for what npm 12
  // does unasked, a script that nobody allowed fails it too.
  it.each([
    ['allowed', []],
    ['blocked', ['--strict-allow-scripts']],
  ])('needs no script of its own or of a dependency: %s', async (_, flags) => {
    const other = await Project.install(flags);
    projects.push(other);
    expect(await other.probe()).toMatchObject({ backend: 'native', right: true });
  });

  it("runs the README's first snippet, imported and required", async () => {
    const { code } = snippets().find(({ language }) => language === 'js') ?? { code: '' };
    expect(code).toContain("from 'blocksparse'");
    writeFileSync(join(project.folder, 'first.mjs'), code);
    const required = code.replace(/^import (\{.*?\}) from '(.*?)';/m, "const $1 = require('$2');");
    writeFileSync(join(project.folder, 'first.cjs'), `(async () => {\n${required}})();\n`);
    for (const file of ['first.mjs', 'first.cjs']) {
      const { status, stdout, stderr } = await project.node([file], { BLOCKSPARSE_DATA: images });
      expect(stderr.replace(/.*ExperimentalWarning.*\n(.*--trace-warnings.*\n)?/, '')).toBe('');
      expect(status).toBe(0);
      expect(stdout.trim().split('\n')).toHaveLength(3);
    }
  });

  it('brings the command', async () => {
    const { stdout } = await project.node(['node_modules/.bin/blocksparse', '--version']);
    expect(stdout).toMatch(/^\d+\.\d+\.\d+/);
  });
});

describe.each([
  ['missing', (file: string) => rmSync(file)],
  ['broken', (file: string) => writeFileSync(file, 'not a binary')],
  ['cut off', (file: string) => truncateSync(file, statSync(file).size / 2)],
])('a %s binary', (_, how) => {
  let other: Project;
  beforeAll(() => {
    other = copy();
    damage(other, how);
  });

  it('leaves pure JavaScript, with one notice of what was looked for and how to build it', async () => {
    expect(await other.probe()).toEqual({ backend: 'js', isa: expect.any(String), right: true });
    const { stderr } = await other.node(['probe.mjs']);
    expect(stderr.match(/BlocksparseWarning/g)).toHaveLength(1);
    expect(stderr).toContain(`${process.platform}-${process.arch}`);
    expect(stderr).toContain(other.package);
    expect(stderr).toContain('npx node-gyp rebuild');
  });

  it('is an error where native speed is demanded', async () => {
    const { status, stderr } = await other.node(['probe.mjs'], { BLOCKSPARSE_BACKEND: 'native' });
    expect(status).not.toBe(0);
    expect(stderr).toContain('NATIVE_UNAVAILABLE');
    expect(stderr).toContain(other.package);
    expect(stderr).toContain('npx node-gyp rebuild');
  });

  it('says nothing where JavaScript is asked for', async () => {
    const { status, stderr } = await other.node(['probe.mjs'], { BLOCKSPARSE_BACKEND: 'js' });
    expect([status, stderr]).toEqual([0, '']);
  });
});

describe('a compiler', () => {
  it.skipIf(missing('g++', 'make', 'python3'))('builds the addon in the installed package', async () => {
    const other = copy();
    damage(other, (file) => rmSync(file));
    await succeed('npx', ['-y', 'node-gyp@12', 'rebuild'], { cwd: other.package });
    expect(await other.probe()).toMatchObject({ backend: 'native', right: true });
  });
});

describe('the same files under other runtimes', () => {
  const node22 = tool('node22/bin/node');
  const node24 = tool('node24/bin/node');
  const bun = tool('bun/bin/bun');
  const deno = tool('deno/deno');
  const runtimes: [string, string, string[]][] = [
    ['node 22', node22, []],
    ['node 24', node24, []],
    ['Bun', bun, ['run']],
    ['Deno', deno, ['run', '--allow-all', '--no-lock', '--node-modules-dir=manual']],
  ];
  for (const [name, program, args] of runtimes)
    it.skipIf(missing(program))(`${name}: sync, async, a worker, require()`, async () => {
      const command = [program, ...args];
      expect(await project.probe(command)).toMatchObject({ backend: 'native', right: true });
      expect(await project.probe(command, 'probe.cjs')).toMatchObject({ backend: 'native', right: true });
    });
});

describe('other processors, emulated', () => {
  it.skipIf(missing('qemu-x86_64-static')).each([
    ['without AVX2', 'Nehalem', 'portable'],
    ['without AVX-512', 'Haswell', 'avx2'],
  ])('x64 %s falls back', async (_, cpu, isa) => {
    const probe = await project.probe(['qemu-x86_64-static', '-cpu', cpu, process.execPath], 'probe.cjs');
    expect(probe).toEqual({ backend: 'native', isa, right: true });
  });

  it.skipIf(missing('qemu-x86_64-static'))('x64 without AVX-512 takes AVX2', async () => {
    const command = ['qemu-x86_64-static', '-cpu', 'Haswell', process.execPath];
    const probe = await project.probe(command, 'probe.cjs');
    expect(probe).toEqual({ backend: 'native', isa: 'avx2', right: true });
  });

  it.skipIf(missing('qemu-aarch64-static', '/usr/aarch64-linux-gnu/lib', tool('node20-arm64/bin/node')))(
    'arm64 loads its binary and computes',
    async () => {
      const command = ['qemu-aarch64-static', '-L', '/usr/aarch64-linux-gnu', tool('node20-arm64/bin/node')];
      const probe = await project.probe(command, 'probe.cjs');
      expect(probe).toEqual({ backend: 'native', isa: 'neon', right: true });
    },
  );
});
