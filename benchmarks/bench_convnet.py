"""The ConvNet's training step: ours (channels_last; float32 and bfloat16) beside plain float32 NCHW.

    python -m benchmarks.bench_convnet [--batch_size 32] [--rounds 7]

A step is forward, loss, backward and Adam's update. bfloat16 pays on a processor that multiplies it (AMX,
AVX512-BF16); elsewhere it is emulated and slower than float32, which the last line shows.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F

from benchmarks.timing import by_turns, ratio, spread
from convnet_pytorch import ConvNet


def make_step(batch_size: int, memory_format: torch.memory_format, bf16: bool) -> Callable[[], None]:
    torch.manual_seed(0)
    net = ConvNet(3, 10).to(memory_format=memory_format)
    optimizer = torch.optim.Adam(net.parameters(), 1e-4)
    x = torch.randn(batch_size, 3, 32, 32).to(memory_format=memory_format)
    y = torch.randint(0, 10, (batch_size,))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(net(x).float(), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch_size", type=int, default=32, help="images per step (default: 32)")
    parser.add_argument("--rounds", type=int, default=7, help="times each variant is measured (default: 7)")
    arguments = parser.parse_args()
    seconds = by_turns({
        "float32 NCHW": make_step(arguments.batch_size, torch.contiguous_format, False),
        "float32 channels_last": make_step(arguments.batch_size, torch.channels_last, False),
        "bfloat16 channels_last": make_step(arguments.batch_size, torch.channels_last, True),
    }, arguments.rounds)
    for name, values in seconds.items():
        print(f"{name:24s} {spread([arguments.batch_size / value for value in values], 'images/s')}")
    for name, goal in (("float32 channels_last", 1.15), ("bfloat16 channels_last", 2.2)):
        print(f"{name} against float32 NCHW: {spread([1 / r for r in ratio(seconds, name, 'float32 NCHW')])} x"
              f"   (goal >= {goal})")
