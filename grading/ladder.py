"""The ladder that a network climbs before anything else is worth a look, for `--check`. It gives no points.

Its loss at the start is ln 10, since ten classes are equally likely; its gradients agree with central differences; it
learns a few images by heart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np

from grading.checks import Replies
from grading.compare import Outcome, failed, judge, missing
from grading.replies import Probe, Reply
from grading.rubric import Check

CLASSES = 10
LN_10 = log(CLASSES)
Found = Mapping[str, tuple[Check, Outcome]]  # by id


@dataclass(frozen=True)
class Ladder:
    """The ladder of a question.

    function, options: the probe of its network. shape, spread: of the images. images: how many it must learn. near: how
    far from ln 10 the first loss may be. advice: where to look if it is not. gradients: whether they are the hand-in's
    own, and not PyTorch's. weights_given: whether the assignment says how weights start.
    """

    function: str
    options: Mapping[str, Any]
    shape: tuple[int, ...]
    advice: str
    spread: float = 1.0
    images: int = 50
    near: float = 0.4
    gradients: bool = False
    weights_given: bool = False

    def probes(self) -> dict[str, Probe]:
        rng = np.random.default_rng(10)
        labels = np.arange(self.images) % CLASSES
        x = rng.normal(0, self.spread, (self.images, *self.shape))
        arrays = ({"x": x, "targets": np.eye(CLASSES)[labels]} if self.function == "ladder_numpy" else
                  {"x": x.astype(np.float32), "labels": labels})
        return {"ladder": Probe(self.function, arrays, self.options, 60)}

    def rungs(self, replies: Replies) -> Found:
        """The rungs as checks of their own, in the order in which to climb.

        Where the assignment does not say how weights start, another first loss is a remark.
        """
        reply = replies["ladder"]
        if "loss" not in reply.arrays:
            first = learned = failed(reply)
        else:
            first = self.first_loss(float(np.mean(reply.arrays["loss"])))
            learned = self.learned(reply.arrays["scores"]) if "scores" in reply.arrays else failed(reply)
        judged = first.passed or "loss" not in reply.arrays
        gradients = {"gradients agree with central differences": self.agree(reply) if judged else Outcome(
            1.0, "Not judged: the loss comes first, which is wrong above.")} if self.gradients else {}
        found = {"the initial loss is ln 10 (2.303)": first, **gradients,
                 f"{self.images} images are learned to 100 %": learned}
        remark = first if "loss" in reply.arrays and not self.weights_given else None
        return {f"ladder {i}": (Check(f"ladder {i}", float(outcome is not remark), f"ladder: {title}"), outcome)
                for i, (title, outcome) in enumerate(found.items())}

    def agree(self, reply: Reply) -> Outcome:
        """The slopes of the whole network's loss, by its own gradients and by central differences."""
        if "slopes" not in reply.arrays:
            return Outcome(0.0, missing(reply, "slopes"))
        received, expected = reply.arrays["slopes"]
        return judge(Reply({"slopes": received}), "slopes", expected,
                     "The gradients of the whole network's loss are wrong: the checks below tell which module's.", 1e-2)

    def first_loss(self, loss: float) -> Outcome:
        numbers = f"expected {LN_10:.4g}, received {loss:.4g}"
        if abs(loss - LN_10) <= self.near:
            return Outcome(1.0, "", numbers)
        known = {self.images * LN_10: "The loss is summed over the batch: it is a mean.",
                 LN_10 / CLASSES: "The loss is averaged over the classes too: it is a mean over the batch.",
                 -LN_10: "The sign of the loss is wrong."}
        said = next((text for value, text in known.items() if abs(loss / value - 1) < 0.01), "")
        likely = f"A new network must find all {CLASSES} classes about equally likely: {self.advice}"
        return Outcome(0.0, said or likely, numbers)

    def learned(self, scores: np.ndarray) -> Outcome:
        if scores.shape != (self.images, CLASSES):
            return Outcome(0.0, "The network does not give one score a class.",
                           f"expected shape {(self.images, CLASSES)}, received {scores.shape}")
        right = int((scores.argmax(axis=1) == np.arange(self.images) % CLASSES).sum())
        numbers = f"{right} of {self.images} images are right after {self.options['steps']} steps"
        if right == self.images:
            return Outcome(1.0, "", f"{right} of {self.images}")
        return Outcome(0.0, "It does not learn a few images by heart: get the loss and the gradients right first.",
                       numbers)


LADDERS: dict[str, Ladder] = {
    "1.2": Ladder(
        "ladder_numpy", {"sizes": [3072, 100, CLASSES], "steps": 200, "rate": 1e-3}, (3072,),
        "check the standard deviation of the initial weights (0.0001), the bias (0), softmax and the loss.",
        spread=60.0, near=0.1, weights_given=True, gradients=True),
    "2.1": Ladder(
        "ladder_torch",
        {"network": ["mlp_pytorch", "MLP", "train_mlp_pytorch.py"], "arguments": [48, [64], CLASSES],
         "steps": 200, "rate": 0.01},
        (48,), "weights that start smaller often learn better."),
    "4a": Ladder(
        "ladder_torch",
        {"network": ["convnet_pytorch", "ConvNet", "train_convnet_pytorch.py"], "arguments": [3, CLASSES],
         "steps": 20, "rate": 1e-3},
        (3, 32, 32), "check BatchNorm and ReLU before the linear layer.", images=20, near=0.6),
}
