"""PyTorch's side of train.mjs: for each line on stdin, times training steps and prints one line of JSON.

    python train_pytorch.py BATCH STEPS FEATURES...     (one thread; started by train.mjs)

The answer maps each variant of Adam to the median seconds of a step.
"""

import json
import statistics
import sys
import time

import torch

batch, steps, *features = map(int, sys.argv[1:])
ROWS = 10 * batch

torch.set_num_threads(1)
torch.manual_seed(0)
x = torch.randn(ROWS, features[0])
y = torch.randint(0, features[-1], (ROWS,))
criterion = torch.nn.CrossEntropyLoss()


def build(**options):
    layers = []
    for k, n in zip(features, features[1:]):
        layers += [torch.nn.Linear(k, n), torch.nn.ReLU()]
    network = torch.nn.Sequential(*layers[:-1])
    return network, torch.optim.Adam(network.parameters(), lr=1e-4, **options)


variants = {
    "default": build(),
    "fused": build(fused=True),
    "foreach": build(foreach=True),
}


def step(network, optimizer, i):
    # Rows are gathered as a shuffled epoch does it.
    rows = order[i % 10 * batch : (i % 10 + 1) * batch]
    start = time.perf_counter()
    optimizer.zero_grad(set_to_none=True)
    loss = criterion(network(x[rows]), y[rows])
    loss.backward()
    optimizer.step()
    loss.item()
    return time.perf_counter() - start


order = torch.randperm(ROWS)
for pair in variants.values():
    for i in range(5):
        step(*pair, i)
print(json.dumps({"torch": torch.__version__}), flush=True)

for _ in sys.stdin:
    times = {name: statistics.median(step(*pair, i) for i in range(steps)) for name, pair in variants.items()}
    print(json.dumps(times), flush=True)
