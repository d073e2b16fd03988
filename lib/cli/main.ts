#!/usr/bin/env node
import { run } from './program.ts';

// `blocksparse inspect ... | head` closes our stdout early; that is no failure. A full disk is one.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  process.stderr.write(`blocksparse: the result could not be written: ${error.message}\n`);
  process.exit(1);
});

process.exitCode = await run(process.argv.slice(2));
