import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/delivery/**/*.test.ts'],
    globalSetup: ['test/setup/build.ts', 'test/delivery/setup.ts'],
    testTimeout: 600_000,
    hookTimeout: 600_000,
    pool: 'forks',
    fileParallelism: false,
  },
});
