import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/delivery/**/*.test.ts'],
    globalSetup: ['test/setup/build.ts', 'test/delivery/setup.ts'],
    testTimeout: 1_800_000,
    hookTimeout: 1_800_000,
    pool: 'forks',
    fileParallelism: false,
  },
});
