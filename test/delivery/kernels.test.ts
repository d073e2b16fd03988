import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadAddon } from '../../lib/kernels/native.ts';
import { missing, root, run, succeed } from './tools.ts';

const folder = mkdtempSync(join(tmpdir(), 'blocksparse-kernels-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Builds test/native/kernels.cc and returns the program. */
async function build(name: string, flags: readonly string[], compiler = 'g++'): Promise<string> {
  const program = join(folder, name);
  const env = { ...process.env, CXX: compiler };
  await succeed('sh', ['test/native/build-kernels.sh', program, ...flags], { cwd: root, env });
  return program;
}

/** Runs it by a command: the instruction set it would choose, and those it found right. */
async function suite(command: readonly string[]): Promise<{ chosen?: string; tested?: string[] }> {
  const { status, stdout, stderr } = await run(command[0], command.slice(1));
  expect({ status, stderr: stderr.replace(/^.*TCG doesn't support.*\n/gm, '') }).toEqual({
    status: 0,
    stderr: '',
  });
  const [, chosen, tested] = /^chosen: (.*)\ntested: (.*)\n$/.exec(stdout) ?? [];
  return { chosen, tested: tested?.split(' ') };
}

describe.skipIf(missing('g++'))('the kernel suite in C++', () => {
  const all = loadAddon().isas;
  let program = '';
  beforeAll(async () => {
    program = await build('plain', process.arch === 'x64' ? ['-DEMULATED_AVX512', '-Wno-psabi'] : []);
  });

  it('passes on every instruction set here, and emulated on older processors', async () => {
    const { chosen, tested } = await suite([program]);
    expect(chosen).toBe(all[0]);
    const emulated = all[0] === 'avx2' ? ['avx512-emulated'] : [];
    expect(new Set(tested)).toEqual(new Set([...all, ...emulated]));
    if (missing('qemu-x86_64-static')) return;
    const emulate = (cpu: string, ...args: string[]) =>
      suite(['qemu-x86_64-static', '-cpu', cpu, program, ...args]);
    // The baseline of x64; then AVX alone, AVX with FMA, AVX2 without FMA: too little for the AVX2 kernels.
    const older = await Promise.all([
      emulate('qemu64', '100'),
      ...['SandyBridge', 'Opteron_G5', 'Haswell,-fma'].map((cpu) => emulate(cpu, '0')),
    ]);
    for (const found of older) expect(found).toEqual({ chosen: 'portable', tested: ['scalar', 'portable'] });
    expect(await emulate('Haswell', '100', 'unguarded')).toEqual({
      chosen: 'avx2',
      tested: ['scalar', 'portable', 'avx2'],
    });
  });

  it.skipIf(process.arch !== 'x64' || missing('objdump'))(
    'holds AVX instructions in the namespaces of AVX2 and AVX-512 alone',
    async () => {
      const { stdout } = await succeed('objdump', ['-d', '-C', '--no-show-raw-insn', program]);
      const holders = new Set<string>();
      // Every AVX instruction begins with a v, and of the others only these two.
      for (const [, name, code] of stdout.matchAll(/^[0-9a-f]+ <(.*)>:\n((?: .*\n)+)/gm))
        if (/:\s+v(?!er[rw]\b)/m.test(code)) holders.add(/::(avx2|avx512)::/.exec(name)?.[1] ?? name);
      expect(holders).toEqual(new Set(['avx2', 'avx512']));
    },
  );

  // One sanitizer a build: both in one take the compiler twice as long as one after the other.
  it.each(['address', 'undefined'])('passes -fsanitize=%s', async (sanitizer) => {
    const flags = ['-O1', '-g1', `-fsanitize=${sanitizer}`, '-fno-sanitize-recover=all'];
    expect(new Set((await suite([await build(sanitizer, flags)])).tested)).toEqual(new Set(all));
  });

  it.skipIf(missing('aarch64-linux-gnu-g++', 'qemu-aarch64-static'))(
    'passes on arm64, emulated',
    async () => {
      const arm64 = await build('arm64', ['-static'], 'aarch64-linux-gnu-g++');
      expect(await suite(['qemu-aarch64-static', arm64, '300'])).toEqual({
        chosen: 'neon',
        tested: ['scalar', 'portable', 'neon'],
      });
    },
  );
});
