"""The MLP's training step in NumPy beside the same step in eager PyTorch and beside the matrix products alone.

    python -m benchmarks.bench_mlp
    python -m benchmarks.bench_mlp --runs 3 --data_dir ./cifar10/cifar-10-batches-py   # whole runs too

A step is forward, loss, backward and the update of plain gradient descent; batch 200, 3072-100-10, ELU, float32.
The whole runs are the scripts at their defaults, started from the shell: loading, training, evaluations, curves.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.timing import by_turns, ratio, spread
from mlp_numpy import MLP
from mlp_pytorch import MLP as TorchMLP
from modules import CrossEntropyModule, LinearModule

BATCH, D, H, C, RATE = 200, 3072, 100, 10, 1e-3


def steps() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(scale=60, size=(BATCH, D)).astype(np.float32)
    labels = rng.integers(0, C, BATCH)
    y = np.eye(C, dtype=np.float32)[labels]

    model, loss_module = MLP(D, [H], C, rng=rng), CrossEntropyModule()
    linear = [layer for layer in model.layers if isinstance(layer, LinearModule)]

    def numpy_step() -> None:
        probabilities = model.forward(x)
        loss_module.forward(probabilities, y)
        model.backward(loss_module.backward(probabilities, y))
        for module in linear:
            for key, gradient in module.grads.items():
                module.params[key] -= RATE * gradient

    net = TorchMLP(D, [H], C, weight_std=1e-4)
    optimizer = torch.optim.SGD(net.parameters(), RATE)
    images, targets = torch.from_numpy(x), torch.from_numpy(labels)

    def torch_step() -> None:
        loss = F.cross_entropy(net(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    w1, w2 = (np.ascontiguousarray(m.params["weight"]) for m in linear)
    hidden, d_hidden, d_out = (rng.normal(size=s).astype(np.float32) for s in ((BATCH, H), (BATCH, H), (BATCH, C)))

    def gemms() -> None:  # the five products of a step, into memory that is there already
        np.matmul(x, w1.T, out=hidden_out)
        np.matmul(hidden, w2.T, out=logits_out)
        np.matmul(d_out.T, hidden, out=w2_out)
        np.matmul(d_out, w2, out=hidden_out)
        np.matmul(d_hidden.T, x, out=w1_out)

    hidden_out, logits_out = np.empty((BATCH, H), np.float32), np.empty((BATCH, C), np.float32)
    w1_out, w2_out = np.empty((H, D), np.float32), np.empty((C, H), np.float32)

    seconds = by_turns({"NumPy": numpy_step, "PyTorch": torch_step, "matrix products": gemms}, rounds=61, calls=10)
    for name, values in seconds.items():
        print(f"step, {name:16s} {spread(values, 'ms', 1e3)}")
    print(f"step, NumPy / PyTorch          {spread(ratio(seconds, 'NumPy', 'PyTorch'))}   (goal <= 1.0)")
    print(f"step, NumPy / matrix products  {spread(ratio(seconds, 'NumPy', 'matrix products'))}   (goal <= 1.25)")


def whole_runs(data_dir: str, runs: int) -> None:
    for script in ("train_mlp_numpy.py", "train_mlp_pytorch.py"):
        wall, summaries = [], []
        for seed in range(42, 42 + runs):
            with tempfile.TemporaryDirectory() as folder:
                start = time.perf_counter()
                subprocess.run([sys.executable, script, "--data_dir", data_dir, "--seed", str(seed), "--output_dir",
                                f"{folder}/run"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                wall.append(time.perf_counter() - start)
                summaries.append(json.loads(Path(folder, "run", "summary.json").read_text()))
        accuracy = [s["test_accuracy"] for s in summaries]
        deviation = statistics.stdev(accuracy) if runs > 1 else 0.0
        peak = max(s["peak_memory_mb"] for s in summaries)
        print(f"{script}: {runs} seeds, test accuracy {statistics.mean(accuracy):.4f} +- {deviation:.4f}, wall "
              f"{statistics.mean(wall):.2f} s (longest {max(wall):.2f}), peak {peak} MB, data {summaries[0]['data']}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=0, help="whole runs of each script (default: 0)")
    parser.add_argument("--data_dir", default="./cifar10/cifar-10-batches-py", help="data of the whole runs")
    arguments = parser.parse_args()
    steps()
    if arguments.runs:
        whole_runs(arguments.data_dir, arguments.runs)
