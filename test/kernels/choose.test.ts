import { afterEach, describe, expect, it, vi } from 'vitest';
import { loadAddon } from '../../lib/kernels/native.ts';

/** The choice is made once a process: each test makes its own. */
async function choose(isa: string, backend = 'native', threads = '') {
  vi.stubEnv('BLOCKSPARSE_BACKEND', backend);
  vi.stubEnv('BLOCKSPARSE_ISA', isa);
  vi.stubEnv('BLOCKSPARSE_THREADS', threads);
  vi.resetModules();
  const { runtime } = await import('../../lib/kernels/choose.ts');
  return runtime();
}

afterEach(() => vi.unstubAllEnvs());

describe('BLOCKSPARSE_ISA', () => {
  const { isas } = loadAddon();

  it('unset takes the best of the machine', async () => {
    expect(await choose('')).toMatchObject({ backend: 'native', isa: isas[0] });
  });

  it.each(isas)('%s is taken', async (isa) => {
    expect(await choose(isa)).toMatchObject({ backend: 'native', isa });
  });

  it.each([process.arch === 'arm64' ? 'avx2' : 'neon', 'mmx'])(
    '%s, which this machine lacks, is a typed error that names those it has',
    async (isa) => {
      await expect(choose(isa)).rejects.toMatchObject({
        name: 'BlocksparseError',
        code: 'NATIVE_UNAVAILABLE',
        message: `BLOCKSPARSE_ISA must be one of ${isas.join(', ')} here, but is "${isa}"`,
      });
    },
  );

  it('changes nothing without the addon', async () => {
    for (const isa of ['', ...isas, 'avx2', 'neon'])
      expect(await choose(isa, 'js', '8')).toEqual({ backend: 'js', isa: 'js', threads: 1 });
  });
});

describe('what no machine has', () => {
  it.each([
    ['mmx', '', 'BLOCKSPARSE_ISA must be one of avx512, avx2, neon, portable, scalar here, but is "mmx"'],
    ['avx2', 'all', 'BLOCKSPARSE_THREADS must be a whole number from 1 to 1024, but is "all"'],
  ])('is a typed error without the addon, too: %s %s', async (isa, threads, message) => {
    await expect(choose(isa, 'js', threads)).rejects.toMatchObject({ code: 'NATIVE_UNAVAILABLE', message });
  });
});
