import { configDefaults, defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // What users install is proven apart from the code: npm run test:delivery.
    exclude: [...configDefaults.exclude, 'test/delivery/**'],
    globalSetup: ['test/setup/build.ts'],
    testTimeout: 60_000,
    pool: 'forks',
  },
});
