import { cpSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { registry } from './registry.ts';
import { root, run, succeed } from './tools.ts';

/** What a project that installed the package computes with it. */
export interface Probe {
  readonly backend: 'native' | 'js';
  readonly isa: string;
  /** Whether sync, async and, where asked for, a worker's products were right. */
  readonly right: boolean;
}

// y = relu(W x + b) with W = 2 I in blocks, so that every output is known: 2 * 0.5 + 1.
const COMPUTE = `
const { BlockGrid, BsrLinear, BsrMatrix, runtime } = blocksparse;
const n = 32;
const weight = new Float32Array(n * n).map((_, i) => (i % (n + 1) === 0 ? 2 : 0));
const layer = new BsrLinear(BsrMatrix.fromDense(weight, new BlockGrid([n, n], [4, 4])), {
  bias: new Float32Array(n).fill(1), activation: 'relu',
});
const isRight = (y, m) => y.length === m * n && y.every((value) => value === 2);
async function compute() {
  let right = true;
  for (const m of [1, 3, 64]) {
    const x = new Float32Array(m * n).fill(0.5);
    right = right && isRight(layer.forward(x), m) && isRight(await layer.forwardAsync(x), m);
  }
  return right;
}
`;

const PROBE = `
import * as blocksparse from 'blocksparse';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
${COMPUTE}
let right = await compute();
if (isMainThread) {
  if (process.argv[2] === 'worker') {
    const worker = new Worker(new URL(import.meta.url));
    right = right && await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
    await worker.terminate();
  }
  console.log(JSON.stringify({ backend: runtime().backend, isa: runtime().isa, right }));
} else parentPort.postMessage(right);
`;

const REQUIRED = `
const blocksparse = require('blocksparse');
${COMPUTE}
compute().then((right) => {
  console.log(JSON.stringify({ backend: runtime().backend, isa: runtime().isa, right }));
});
`;

/** A PATH that finds node and npm and nothing else: no compiler, no python, no shell. */
export function barePath(folder: string): string {
  const bin = join(folder, 'bin');
  mkdirSync(bin);
  const npm = join(dirname(process.execPath), 'npm');
  symlinkSync(process.execPath, join(bin, 'node'));
  symlinkSync(realpathSync(npm), join(bin, 'npm'));
  return bin;
}

/** A project in a new folder, with the packed package installed into it. */
export class Project {
  readonly folder: string;
  readonly env: NodeJS.ProcessEnv;
  private constructor(folder: string) {
    this.folder = folder;
    this.env = { HOME: process.env.HOME, PATH: barePath(folder) };
    for (const [name, value] of Object.entries(process.env))
      if (
        /^(https?_proxy|no_proxy|npm_config_(registry|cafile|userconfig|cache))$/i.test(name) ||
        /^(NODE_EXTRA_CA_CERTS|SSL_CERT_FILE)$/.test(name)
      )
        this.env[name] = value;
  }

  /** Packs the repository as it is and installs it by name; `flags` are npm install's. */
  static async install(flags: readonly string[]): Promise<Project> {
    const project = new Project(realpathSync(mkdtempSync(join(tmpdir(), 'blocksparse-install-'))));
    const { folder, env } = project;
    const packed = await succeed(
      'npm',
      ['pack', '--json', '--ignore-scripts', '--pack-destination', folder],
      {
        cwd: root,
      },
    );
    const { filename, integrity } = JSON.parse(packed.stdout)[0];
    const tarball = join(folder, filename);
    writeFileSync(join(folder, 'package.json'), '{ "private": true }\n');
    writeFileSync(join(folder, 'probe.mjs'), PROBE);
    writeFileSync(join(folder, 'probe.cjs'), REQUIRED);
    const { url, close } = await registry(tarball, integrity);
    const args = ['install', '--no-audit', '--no-fund', '--registry', url, ...flags, 'blocksparse'];
    await succeed(join(env.PATH ?? '', 'npm'), args, { cwd: folder, env }).finally(close);
    return project;
  }

  /** The installed package's folder. */
  get package(): string {
    return join(this.folder, 'node_modules/blocksparse');
  }

  /** Another project with the same files, to damage. */
  copy(): Project {
    const folder = realpathSync(mkdtempSync(join(tmpdir(), 'blocksparse-install-')));
    for (const name of ['package.json', 'probe.mjs', 'probe.cjs', 'node_modules'])
      cpSync(join(this.folder, name), join(folder, name), { recursive: true, verbatimSymlinks: true });
    return new Project(folder);
  }

  node(args: readonly string[], env: NodeJS.ProcessEnv = {}): ReturnType<typeof run> {
    return run(process.execPath, args, { cwd: this.folder, env: { ...this.env, ...env } });
  }

  /** Runs the probe by a command, node itself unless told. */
  async probe(command: readonly string[] = [process.execPath], file = 'probe.mjs'): Promise<Probe> {
    const [program, ...args] = command;
    // By its path: the project's own PATH has no emulator.
    const { stdout: path } = await succeed('which', [program]);
    const { stdout } = await succeed(path.trim(), [...args, file, 'worker'], {
      cwd: this.folder,
      env: this.env,
    });
    return JSON.parse(stdout) as Probe;
  }

  remove(): void {
    rmSync(this.folder, { recursive: true });
  }
}
