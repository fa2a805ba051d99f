"""Question 4a: the ConvNet of the assignment's table."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from grading import checks_scripts, oracle
from grading.checks import Context, Question, Replies
from grading.compare import Outcome, failed, judge
from grading.sandbox import Probe
from grading.worker import weights

PARAMETERS = 11_138_122
rng = np.random.default_rng(4)
IMAGES = rng.standard_normal((2, 3, 32, 32)).astype(np.float32)
TRAINING = (40 * rng.standard_normal((4, 3, 32, 32))).astype(np.float32)
LABELS = np.array([3, 1, 4, 1])
STEPS, LEARNING_RATE = 5, 1e-3
BLOCKS = [name for name, *sizes in oracle.CONVNET if name.startswith("PreAct")]
SCRIPT = checks_scripts.Script("train_convnet_pytorch.py", "4a", ("convnet_pytorch", "ConvNet"), {
    "learning_rate": 1e-4, "batch_size": 32, "max_steps": 5000, "eval_freq": 500, "optimizer": "Adam"})


def probes(context: Context) -> dict[str, Probe]:
    return {"layers": Probe("convnet_layers"), "values": Probe("convnet_values", {"x": IMAGES}),
            "training": Probe("convnet_training", {"x": TRAINING, "labels": LABELS},
                              {"steps": STEPS, "learning_rate": LEARNING_RATE}, 60)}


def table() -> list[tuple[str, list[Any]]]:
    """(name, [kind, weight shape, kernel, stride, padding, shape in, shape out]) of every row of the table."""
    rows, size, channels = [], 32, 3
    for name, *sizes in oracle.CONVNET:
        if not sizes:
            rows.append((name, ["pool", [], [3, 3], [2, 2], [1, 1], [channels, size, size],
                                [channels, size // 2, size // 2]]))
            size //= 2
            continue
        n_in, n_out, k = sizes
        rows.append((name, ["conv", [n_out, n_in, k, k], [k, k], [1, 1], [k // 2, k // 2], [n_in, size, size],
                            [n_out, size, size]]))
        channels = n_out
    return [*rows, ("linear", ["linear", [10, 512], [], [], [], [512], [10]])]


def convnet_parameters(replies: Replies, context: Context) -> Outcome:
    reply = replies["layers"]
    found = reply.notes.get("parameters")
    if found is None:
        return failed(reply)
    return Outcome(float(found == PARAMETERS), "" if found == PARAMETERS else
                   "The number of parameters is not the table's: compare layer by layer, with biases and BatchNorm.",
                   f"expected {PARAMETERS:,}, received {found:,}")


def convnet_layers(replies: Replies, context: Context) -> Outcome:
    """Convolutions, pools and the linear layer in the order in which they run; one share for each row of the table."""
    reply = replies["layers"]
    layers = reply.notes.get("layers")
    if not isinstance(layers, list) or not layers:
        return failed(reply)
    found = [layer for layer in layers if layer[0] != "norm"]
    wanted = table()
    if not any(layer[0] == "pool" for layer in found):  # F.max_pool2d is no module: sizes around it tell as much
        wanted = [row for row in wanted if row[1][0] != "pool"]
    right = sum(layer == row for layer, (_, row) in zip(found, wanted, strict=False))
    wrong = next((i for i, (_, row) in enumerate(wanted) if i >= len(found) or found[i] != row), None)
    if wrong is None and len(found) == len(wanted):
        return Outcome(1.0)
    if wrong is None:
        return Outcome(0.8, "The network has more convolutions, pools or linear layers than the table.",
                       f"expected {len(wanted)}, received {len(found)}")
    name, row = wanted[wrong]
    given = shown(found[wrong]) if wrong < len(found) else "nothing"
    return Outcome(right / len(wanted), f"{name} is not as in the table.", f"expected {shown(row)}, received {given}")


def shown(layer: list[Any]) -> str:
    kind, _, kernel, stride, padding, into, out = layer
    geometry = f" kernel {kernel}, stride {stride}, padding {padding}," if kernel else ""
    return f"{kind}{geometry} {into} -> {out}"


def convnet_skips(replies: Replies, context: Context) -> Outcome:
    """With a block's convolution set to zero, the image must still reach the logits through the skip connection."""
    reply = replies["values"]
    without = reply.arrays.get("without")
    if without is None:
        return failed(reply)
    if without.shape != (len(BLOCKS), 2, 10):
        return Outcome(0.0, f"There must be {len(BLOCKS)} convolutions with as many channels in as out, one a PreAct "
                            "block.", f"received {len(without)}")
    passes = np.abs(without[:, 0] - without[:, 1]).max(axis=1) > 1e-5 * np.abs(without).max(axis=(1, 2))
    blocked = [name for name, through in zip(BLOCKS, passes, strict=True) if not through]
    return Outcome(float(passes.mean()), f"No skip connection around {', '.join(blocked)}: a block returns "
                   "x + conv(...)." if blocked else "")


@functools.cache
def expected_logits() -> np.ndarray:
    return oracle.convnet_logits(IMAGES.astype(np.float64), weights.convolution, weights.batch_norm)


def convnet_values(replies: Replies, context: Context) -> Outcome:
    return judge(replies["values"], "forward", expected_logits(),
                 "With the same parameters the logits differ from the table's network: check the order BatchNorm, "
                 "ReLU, convolution in a block, the skip connections, BatchNorm and ReLU before linear.", 1e-2)


def convnet_learns(replies: Replies, context: Context) -> Outcome:
    """Loss on 8 images over a few steps of Adam, computed here from the logits."""
    reply = replies["training"]
    logits = reply.arrays.get("logits")
    if logits is None or logits.shape != (STEPS, len(LABELS), 10):
        return failed(reply)
    losses = [oracle.cross_entropy(oracle.softmax(step.astype(float)) + 1e-300, np.eye(10)[LABELS]) for step in logits]
    fell = 1 - losses[-1] / losses[0] if np.isfinite(losses).all() else 0.0
    numbers = f"loss {losses[0]:.2f} before, {losses[-1]:.2f} after {STEPS - 1} steps of Adam on {len(LABELS)} images"
    if fell >= 0.3:
        return Outcome(1.0, "", numbers)
    return Outcome(0.0, "The loss does not fall on a handful of images: check that every layer lies on the path from "
                        "image to logits, and that logits are returned, not probabilities.", numbers)


QUESTION = Question(
    number="4a", torch=True, file="convnet_pytorch.py", probes=probes, script=SCRIPT,
    own_checks={check.__name__: check for check in (
        convnet_parameters, convnet_layers, convnet_skips, convnet_values, convnet_learns)})
