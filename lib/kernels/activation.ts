import type { Activation } from './kernels.ts';

/** erf to 1.2e-7 everywhere: the Chebyshev fit of Press et al., Numerical Recipes, 6.2. */
function erf(x: number): number {
  const t = 1 / (1 + 0.5 * Math.abs(x));
  const y =
    1 -
    t *
      Math.exp(
        -x * x -
          1.26551223 +
          t *
            (1.00002368 +
              t *
                (0.37409196 +
                  t *
                    (0.09678418 +
                      t *
                        (-0.18628806 +
                          t *
                            (0.27886807 +
                              t * (-1.13520398 + t * (1.48851587 + t * (-0.82215223 + t * 0.17087277)))))))),
      );
  return x >= 0 ? y : -y;
}

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

/** What a sigmoid as good as zero is multiplied by, bounded as in native code, so that -Infinity gives 0 and not NaN. */
const atLeast = (z: number): number => Math.max(z, -88);

/** The function itself, in float64. GELU is the exact form with erf, PyTorch's default. */
export const activationFunctions: Record<Activation, (z: number) => number> = {
  none: (z) => z,
  relu: (z) => Math.max(z, 0),
  gelu: (z) => 0.5 * z * (1 + erf(z * Math.SQRT1_2)),
  silu: (z) => atLeast(z) * sigmoid(z),
  sigmoid,
  tanh: Math.tanh,
};

/** The derivative by what the forward pass saved: y for relu, sigmoid, tanh; z for gelu and silu. */
export const activationDerivatives: Record<Activation, (saved: number) => number> = {
  none: () => 1,
  relu: (y) => (y > 0 ? 1 : 0),
  gelu: (z) => 0.5 * (1 + erf(z * Math.SQRT1_2)) + (z * Math.exp(-0.5 * z * z)) / Math.sqrt(2 * Math.PI),
  silu: (z) => sigmoid(z) * (1 + atLeast(z) * (1 - sigmoid(z))),
  sigmoid: (y) => y * (1 - y),
  tanh: (y) => 1 - y * y,
};
