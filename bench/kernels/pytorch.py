"""PyTorch and SciPy on cells of the benchmark's grid: dense, sparse_bsr @ dense, linear of BSR, SciPy's BSR.

    python bench/kernels/pytorch.py --shape 768x768 --block 16x16 --batch 1,8,32,128 --sparsity 80,90 --threads 1

Needs torch; SciPy is left out where it is missing, and has one thread. Microseconds, medians of interleaved
samples; each result is checked against the dense product first. Python's call is counted, as its user pays it.
"""

import argparse
import itertools
import statistics
import time
import warnings

SAMPLES = 11
SAMPLE_SECONDS = 0.003
# These take and give [M, features]; the others [features, M].
ROW_MAJOR = ("torch dense", "torch linear(bsr)")


def size(text):
    return tuple(int(part) for part in text.split("x"))


def listed(kind):
    return lambda text: [kind(part) for part in text.split(",")]


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--shape", type=listed(size), default=[(768, 768)])
parser.add_argument("--block", type=listed(size), default=[(4, 4), (16, 16), (32, 32)])
parser.add_argument("--batch", type=listed(int), default=[1, 8, 32, 128, 512])
parser.add_argument("--sparsity", type=listed(float), default=[80.0, 90.0])
parser.add_argument("--threads", type=int, default=1)
args = parser.parse_args()

# After the flags: --help needs neither.
try:
    import torch
except ImportError as error:
    parser.exit(1, f"{parser.prog} needs torch (python -m pip install torch): {error}\n")
try:
    import scipy
    from scipy.sparse import bsr_matrix
except ImportError:
    bsr_matrix = None

warnings.filterwarnings("ignore", message="Sparse BSR")
torch.set_num_threads(args.threads)
torch.manual_seed(0)


def measure(run, calls):
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def medians(candidates):
    calls = {}
    for name, run in candidates.items():
        measure(run, 2)
        calls[name] = max(1, round(SAMPLE_SECONDS / min(measure(run, 1) for _ in range(3))))
    samples = {name: [] for name in candidates}
    for _ in range(SAMPLES):
        for name, run in candidates.items():
            samples[name].append(measure(run, calls[name]))
    return {name: statistics.median(times) * 1e6 for name, times in samples.items()}


def products(weight, block, x):
    """Every way to compute x . weight^T, in the layout that each likes: name -> run."""
    bsr = weight.to_sparse_bsr(block)
    columns = x.t().contiguous()
    ways = {
        "torch dense": lambda: torch.nn.functional.linear(x, weight),
        "torch bsr @ x": lambda: bsr @ columns,
        "torch linear(bsr)": lambda: torch.nn.functional.linear(x, bsr),
    }
    if bsr_matrix is not None:
        other = bsr_matrix(weight.numpy(), blocksize=block)
        array = columns.numpy()
        ways["scipy bsr"] = lambda: other @ array
    return ways


print(f"torch {torch.__version__}, {f'scipy {scipy.__version__}' if bsr_matrix else 'no scipy'}, "
      f"{torch.backends.cpu.get_cpu_capability()}, {args.threads} threads; microseconds, medians")
for (n, k), (r, c), sparsity in itertools.product(args.shape, args.block, args.sparsity):
    if n % r or k % c:
        print(f"{n}x{k} is not whole blocks of {r}x{c}, which PyTorch needs: left out")
        continue
    blocks = (n // r) * (k // c)
    kept = torch.zeros(blocks)
    kept[torch.randperm(blocks)[: max(1, round(blocks * (1 - sparsity / 100)))]] = 1
    mask = kept.view(n // r, k // c).repeat_interleave(r, 0).repeat_interleave(c, 1)
    weight = torch.randn(n, k) / k**0.5 * mask
    for m in args.batch:
        x = torch.randn(m, k)
        expected = x.double() @ weight.double().t()
        candidates = {}
        for name, run in products(weight, (r, c), x).items():
            try:
                y = torch.as_tensor(run())
            except RuntimeError as error:
                print(f"  {name} refuses: {str(error).splitlines()[0]}")
                continue
            if name not in ROW_MAJOR:
                y = y.t()
            torch.testing.assert_close(y.double(), expected, rtol=1e-4, atol=1e-4)
            candidates[name] = run
        times = ", ".join(f"{name} {value:.4g}" for name, value in medians(candidates).items())
        print(f"{n}x{k} in {r}x{c}, {sparsity:g} %, M = {m}: {times}", flush=True)
