import { SingleBar } from 'cli-progress';

/** Where a command's words go: results to stdout, progress and complaints to stderr. */
export interface Output {
  /** The result: `text` for people, `value` as one JSON document with --json. */
  result(text: string, value: unknown): void;
  /** A finished step, in a pipe; on a terminal the bar shows the same. Nothing with --json. */
  line(text: string): void;
  /** A bar on a terminal; in a pipe nothing, since `line` tells the steps. */
  bar(label: string, total: number): Bar;
}

export interface Bar {
  update(done: number, detail: string): void;
  stop(): void;
}

const NO_BAR: Bar = { update() {}, stop() {} };

export function makeOutput(json: boolean): Output {
  const terminal = process.stderr.isTTY === true;
  return {
    result(text, value) {
      process.stdout.write(`${json ? JSON.stringify(value, null, 2) : text}\n`);
    },
    line(text) {
      if (!json && !terminal) process.stderr.write(`${text}\n`);
    },
    bar(label, total) {
      if (json || !terminal) return NO_BAR;
      const bar = new SingleBar({
        format: `${label.padEnd(16)} {bar} {value}/{total}  {detail}`,
        stream: process.stderr,
        barsize: 24,
        barCompleteChar: '━',
        barIncompleteChar: '─',
        hideCursor: true,
        // Ctrl-C is ours: it stops the work, then this bar.
        gracefulExit: false,
      });
      bar.start(total, 0, { detail: '' });
      return {
        update(done, detail) {
          bar.update(done, { detail });
        },
        stop() {
          bar.stop();
        },
      };
    },
  };
}
