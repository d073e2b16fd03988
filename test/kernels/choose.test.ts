import { afterEach, describe, expect, it, vi } from 'vitest';
import { loadAddon } from '../../lib/kernels/native.ts';

/** The choice is made once a process: each test makes its own. */
async function choose(isa: string) {
  vi.stubEnv('BLOCKSPARSE_BACKEND', 'native');
  vi.stubEnv('BLOCKSPARSE_ISA', isa);
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
});
