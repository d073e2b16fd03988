/**
 * What loading a model takes beyond what the process had, in a process of its own on Linux:
 *
 *     node bench/kernels/load.mjs MODEL      prints { file, loading, served }, all bytes
 *
 * `loading` is the most that was resident until the model was there, `served` what stays when it has run once and
 * released its weights.
 */
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Model } from '../../dist/index.js';

const [path] = process.argv.slice(2);

/** Bytes by the kernel's own count: VmRSS is resident now, VmHWM the most since it was reset. */
const status = (field) =>
  1024 *
  Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(readFileSync('/proc/self/status', 'utf8'))[1]);

writeFileSync('/proc/self/clear_refs', '5'); // resets VmHWM
const before = status('VmRSS');
const model = await Model.load(path);
const loading = status('VmHWM') - before;
model.releaseWeights();
model.runSync(new Float32Array(model.inFeatures));
for (let i = 0; i < 3; i++) {
  globalThis.gc?.();
  await sleep(50);
}
console.log(JSON.stringify({ file: statSync(path).size, loading, served: status('VmRSS') - before }));
