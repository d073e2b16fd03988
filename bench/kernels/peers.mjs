/** The libraries to compare with, and the environment they need to be at their best. */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { gemmModel } from './onnx-gemm.mjs';

const BUILD = fileURLToPath(new URL('../native/build/', import.meta.url));
const DENSE = ['openblas', 'onednn', 'blis'];
const TRAPS = /^(OPENBLAS|GOTO|BLIS|MKL|DNNL|ONEDNN|LIBXSMM|OMP|GOMP|KMP|NVPL|BLOCKSPARSE_THREADS)/;

/** Settings that make a library run another kernel, or other threads, than it would choose. */
export function traps(environment) {
  return Object.keys(environment).filter((name) => TRAPS.test(name));
}

/** The environment without them. They are read when a library loads, so a process must start with it. */
export function cleanEnvironment(environment, hasAvx512) {
  const clean = { ...environment };
  for (const name of traps(environment)) delete clean[name];
  // BLIS 0.9 knows no AMD core after Zen 3 and would run its generic kernels; 0 are those for AVX-512.
  if (hasAvx512) clean.BLIS_ARCH_TYPE = '0';
  return clean;
}

/** A module of bench/native, or undefined when it was not built. */
export function nativeModule(name) {
  const file = `${BUILD}${name}.node`;
  return existsSync(file) ? createRequire(import.meta.url)(file) : undefined;
}

/** Milliseconds of `calls` calls from JavaScript. */
export const timed = (run) => (calls) => {
  const start = performance.now();
  for (let i = 0; i < calls; i++) run();
  return performance.now() - start;
};

function nativePeer(name, module) {
  return {
    name,
    version: module.version,
    // OpenBLAS keeps its threads spinning for 2^26 cycles after a product, OpenMP for some 5 ms.
    settle: name === 'openblas' ? 40 : 20,
    make(problem) {
      const product = new module.Product(problem);
      return {
        time: (calls) => product.run(calls),
        result: () => product.result(),
        kernel: product.kernel(),
        close() {},
      };
    },
  };
}

async function onnxRuntime() {
  let ort;
  try {
    ort = (await import('onnxruntime-node')).default;
  } catch {
    return undefined;
  }
  return {
    name: 'onnxruntime',
    version: `onnxruntime-node ${ort.env.versions.node ?? ort.env.versions.common}, Gemm`,
    settle: 20,
    async make({ n, k, m, threads, x, weight }) {
      const session = await ort.InferenceSession.create(gemmModel(weight, n, k), {
        intraOpNumThreads: threads,
      });
      const feeds = { x: new ort.Tensor('float32', x, [m, k]) };
      // Into the same array each time: fresh ones cost it up to three times the product.
      const y = new ort.Tensor('float32', new Float32Array(m * n), [m, n]);
      return {
        async time(calls) {
          const start = performance.now();
          for (let i = 0; i < calls; i++) await session.run(feeds, { y });
          return performance.now() - start;
        },
        result: () => y.data,
        kernel: '',
        close: () => session.release(),
      };
    },
  };
}

/** { machine, dense, blocks, missing }: the modules that are there, and the names of those that are not. */
export async function loadPeers() {
  const missing = [];
  const found = (name) => {
    const module = nativeModule(name);
    if (module === undefined) missing.push(name);
    return module;
  };
  const machine = found('machine');
  if (machine && !machine.core)
    throw new Error('bench/native/build is of another version: npm run bench:peers builds it again');
  const dense = [];
  const ort = await onnxRuntime();
  if (ort) dense.push(ort);
  else missing.push('onnxruntime-node');
  for (const name of DENSE) {
    const module = found(name);
    if (module) dense.push(nativePeer(name, module));
  }
  const libxsmm = found('libxsmm');
  return { machine, dense, blocks: libxsmm && nativePeer('libxsmm', libxsmm), missing };
}
