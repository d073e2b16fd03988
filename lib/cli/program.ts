import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { benchCommand } from './bench.ts';
import { demoCommand } from './demo.ts';
import { evaluateCommand } from './evaluate.ts';
import { inspectCommand } from './inspect.ts';
import { Interrupted } from './interrupt.ts';
import { pruneCommand } from './prune.ts';
import { trainCommand } from './train.ts';

function version(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

function program(): Command {
  const root = new Command('blocksparse')
    .description('Train, prune, store and serve block-sparse neural networks.')
    .version(version())
    .addHelpText(
      'after',
      '\nExit codes: 0 done, 1 failed, 2 wrong usage, 130 stopped by Ctrl-C.\n' +
        "Example of the whole way: blocksparse demo. Each command's --help has one of its own.",
    );
  const commands = [
    trainCommand(),
    pruneCommand(),
    evaluateCommand(),
    inspectCommand(),
    benchCommand(),
    demoCommand(),
  ];
  // Errors must not end the process from inside: the exit code is decided in one place, below.
  for (const command of commands) root.addCommand(command.exitOverride().showHelpAfterError('(add --help)'));
  return root.exitOverride();
}

/** Runs one command line (without node and script) and returns the exit code. */
export async function run(args: readonly string[]): Promise<number> {
  try {
    await program().parseAsync([...args], { from: 'user' });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    const message = error instanceof Error ? error.message : String(error);
    process.stderr.write(`blocksparse: ${message.replaceAll('\n', ' ')}\n`);
    return error instanceof Interrupted ? error.exitCode : 1;
  }
}
