import { mkdirSync, mkdtempSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));

export interface Snippet {
  /** Of the fenced block: js, python, sh... */
  readonly language: string;
  /** The file name behind the language, if any. */
  readonly file: string | undefined;
  /** Line of the README where the code begins. */
  readonly line: number;
  readonly code: string;
}

/** The fenced code blocks of README.md, in order. */
export function snippets(): Snippet[] {
  const text = readFileSync(join(root, 'README.md'), 'utf8');
  return [...text.matchAll(/^```(\w+)(?: (\S+))?\n(.*?)^```$/gms)].map((match) => ({
    language: match[1],
    file: match[2],
    line: text.slice(0, match.index).split('\n').length + 1,
    code: match[3],
  }));
}

/** A new folder in which `import 'blocksparse'` finds this repository's dist, as after `npm install`. */
export function workspace(): string {
  const folder = mkdtempSync(join(tmpdir(), 'blocksparse-readme-'));
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(root, join(folder, 'node_modules/blocksparse'), 'dir');
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }\n');
  return folder;
}
