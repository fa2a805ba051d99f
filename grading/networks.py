"""What the questions about networks share: the ConvNet's table, and how a hand-in's loss reads its output."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from grading.replies import Reply

# Question 4a's table: name, channels in and out, kernel. "PreAct" rows are blocks with a skip connection; rows without
# numbers are max pools.
CONVNET = (("conv0", 3, 64, 3), ("PreAct1", 64, 64, 3), ("conv1", 64, 128, 1), ("maxpool1",),
           ("PreAct2_a", 128, 128, 3), ("PreAct2_b", 128, 128, 3), ("conv2", 128, 256, 1), ("maxpool2",),
           ("PreAct3_a", 256, 256, 3), ("PreAct3_b", 256, 256, 3), ("conv3", 256, 512, 1), ("maxpool3",),
           ("PreAct4_a", 512, 512, 3), ("PreAct4_b", 512, 512, 3), ("maxpool4",),
           ("PreAct5_a", 512, 512, 3), ("PreAct5_b", 512, 512, 3), ("maxpool5",))


GUARDED = 1e-6  # what is added to a probability before its logarithm, or the least it is clamped to, is far below
ROUNDED = 1e-4  # relative: numbers that differ by less tell nothing, as float32 and what is added come near it
# What is said of a network whose output the loss of the script reads as this, and which ends otherwise.
AGAINST = {
    "logits": "The network ends with softmax and the loss applies softmax again: return logits.",
    "log-probabilities": "Your script's loss takes log-probabilities, which the network does not return: end it with "
                         "log_softmax, or return logits and use cross_entropy.",
    "probabilities": "Your script takes the logarithm of what are not probabilities: end the network with softmax."}


def convnet_parameters(channels: int, classes: int) -> int:
    """Number of parameters of the table's network for images of so many channels, with a bias in each convolution."""
    found = 2 * 512 + (512 + 1) * classes  # the last BatchNorm, and the linear layer
    for name, *sizes in CONVNET:
        if sizes:
            n_in, n_out, kernel = [channels, *sizes[1:]] if name == "conv0" else sizes
            found += (n_in * kernel**2 + 1) * n_out + 2 * n_in * name.startswith("PreAct")
    return found


def reading(replies: Mapping[str, Reply], otherwise: str = "logits") -> str:
    """What the loss of the hand-in's own script takes the network's output for.

    From output (B, C) and dL/d output of a training step: 'log-probabilities' if each sample's gradient is the same
    constant at its class and 0 elsewhere, as of NLL; 'probabilities' if that holds for the gradient times the output,
    as of a logarithm and NLL; else 'logits'. Of probabilities that are all alike the constant tells: 1 or 1 / B. Where
    no step was recorded, what the assignment asks for: `otherwise`.
    """
    for name in ("script", "script_default"):
        found = replies[name].arrays
        if not {"output", "output gradient"} <= set(found):
            continue
        output, gradient = found["output"].astype(float), found["output gradient"].astype(float)
        if output.shape != gradient.shape or output.ndim != 2 or output.shape[1] < 2:
            continue
        finite = np.isfinite(output).all(axis=1) & np.isfinite(gradient).all(axis=1)
        at_class = (gradient != 0) & finite[:, None]
        if (at_class.sum(axis=1) > 1).any():
            return "logits"
        y, g = output[at_class], -gradient[at_class]  # not of samples whose probability is clamped: their gradient is 0
        y, g = y[y != 0], g[y != 0]  # one of 0 tells nothing, and what is added to it before the logarithm all
        if not len(y):
            continue
        if (y < 0).any():
            return "log-probabilities"
        if (clear := y > GUARDED).sum() > 1:
            y, g = y[clear], g[clear]
        alike = max(unequal(y * g), unequal(g)) < ROUNDED  # each probability is 0.1 in an untrained network
        nearer = from_one(y * g, len(output)) < from_one(g, len(output))
        return "probabilities" if (nearer if alike else unequal(y * g) < unequal(g)) else "log-probabilities"
    return otherwise


def against_its_loss(reading: str, tail: Collection[str]) -> str:
    """What is wrong with the functions after the last layer, for a loss that reads the output so; '' for nothing."""
    fits = {"logits": "softmax" not in tail, "log-probabilities": "log_softmax" in tail,
            "probabilities": "softmax" in tail}
    return "" if fits[reading] else AGAINST[reading]


def unequal(values: np.ndarray) -> float:
    """How many powers of e lie between the smallest and the largest, without their signs."""
    return float(np.ptp(np.log(np.abs(values))))


def from_one(values: np.ndarray, samples: int) -> float:
    """How many powers of e their mean is from 1, as of a loss that is a sum, or from 1 over the number of samples."""
    size = np.log(max(abs(values.mean()), 1e-300))
    return float(min(abs(size), abs(size + np.log(samples))))
