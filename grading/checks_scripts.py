"""Checks of the training scripts, from what was recorded while they ran (`grading.worker.probes_scripts`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from grading.checks import CheckFunction, Context, Replies
from grading.compare import Outcome, error_sentence, failed
from grading.datasets import TINY_TEST
from grading.sandbox import Probe, Reply

FORWARD, UPDATE = 0, 1
FLAGS = {"learning_rate": 4e-4, "max_steps": 7, "batch_size": 20, "eval_freq": 2}
FLAGS_CONVNET = {"learning_rate": 2e-4, "max_steps": 5, "batch_size": 4, "eval_freq": 2}
STANDIN_STEPS = 120
MOST_EVENTS = 200_000


class Run:
    """A run of a script, recorded.

    updates: number of weight updates. evaluations: {updates before it: test images seen}. modes: of the forward passes
    on test images, and of those that led to an update, whether the model was in training mode. batch_sizes: images in
    the forward pass before each update. trained_on_test: images of the test split in those.
    """

    def __init__(self, reply: Reply):
        self.reply, self.notes = reply, reply.notes
        events, brightness = reply.arrays["events"], reply.arrays["brightness"]
        rows = events[:, 1]
        if len(events) > MOST_EVENTS or (rows < 0).any() or rows.sum() != len(brightness):
            raise ValueError("events that no training script leaves")
        bounds = np.concatenate([[0], np.cumsum(rows)])
        is_test = np.concatenate([[0], np.cumsum(bright(brightness))])
        self.updates = 0
        self.evaluations: dict[int, int] = {}
        self.batch_sizes: list[int] = []
        self.evaluation_modes: list[bool] = []
        self.training_modes: list[bool] = []
        self.trained_on_test = 0
        last: tuple[int, bool, int] | None = None
        for i, (kind, count, training, _) in enumerate(events.tolist()):
            if kind == UPDATE:
                self.updates += 1
                if last:
                    self.batch_sizes.append(last[0])
                    self.training_modes.append(last[1])
                    self.trained_on_test += last[2]
                last = None
                continue
            seen = int(is_test[bounds[i + 1]] - is_test[bounds[i]])
            last = (count, bool(training), seen)
            if seen:
                self.evaluations[self.updates] = self.evaluations.get(self.updates, 0) + seen
                self.evaluation_modes.append(bool(training))

    @property
    def status(self) -> str:
        """'' for a run that ended well, else how it ended."""
        if self.reply.error:
            return error_sentence(self.reply.error)
        status = self.notes.get("status")
        return "" if status == 0 else f"It ends with {status!r} instead of 0."[:400]

    @property
    def learning_rate(self) -> float | None:
        optimizers = self.notes.get("optimizers")
        rate = optimizers[0][1] if optimizers else self.notes.get("learning rate")
        return float(rate) if isinstance(rate, int | float) else None

    @property
    def hidden_units(self) -> list[int] | None:
        """Widths of the hidden layers, from the shapes of the linear layers."""
        layers = self.notes.get("layers")
        if not layers or not all(isinstance(layer, list) and len(layer) == 2 for layer in layers):
            return None
        widths, size = [], 3072
        for shape in layers[:-1]:
            if size not in shape:
                return None
            size = shape[0] if shape[1] == size else shape[1]
            widths.append(size)
        return widths


def bright(brightness: np.ndarray) -> np.ndarray:
    """Which images are of the test split: the data sets made for these runs have far brighter ones there.

    The split stands at the widest gap between two brightnesses, so it survives any scaling of the pixels.
    """
    ordered = np.sort(brightness[np.isfinite(brightness)])
    if len(ordered) < 2:
        return np.zeros(len(brightness), bool)
    gaps = np.diff(ordered)
    widest = int(gaps.argmax())
    if gaps[widest] < 0.4 * (ordered[-1] - ordered[0]) or ordered[-1] - ordered[0] < 1e-6:
        return np.zeros(len(brightness), bool)
    return brightness > ordered[widest] + gaps[widest] / 2


def arguments(flags: Mapping[str, Any], data: str) -> list[str]:
    return [text for name, value in flags.items() for text in (f"--{name}", str(value))] + ["--data_dir", f"{{{data}}}"]


@dataclass(frozen=True)
class Script:
    """A training script and the checks of it.

    model: (module, class) of a torch model, None for the NumPy MLP. defaults: what a run without flags must use.
    """

    file: str
    question: str
    model: tuple[str, str] | None
    defaults: Mapping[str, Any]

    @property
    def is_mlp(self) -> bool:
        return "dnn_hidden_units" in self.defaults

    @property
    def checks(self) -> dict[str, CheckFunction]:
        if self.is_mlp:
            return {"script_flags": self.flags, "accuracy": self.accuracy}
        return {"script_flags": self.flags, "eval_mode": self.eval_mode, "test_split": self.test_split}

    def flags_given(self) -> dict[str, Any]:
        return {"dnn_hidden_units": "7,5", **FLAGS} if self.is_mlp else FLAGS_CONVNET

    def probes(self, context: Context) -> dict[str, Probe]:
        def run(flags: list[str], arrays: Mapping[str, Any] | None = None, seconds: float = 60) -> Probe:
            return Probe("script", arrays or {}, {"script": self.file, "model": self.model, "flags": flags}, seconds,
                         self.file)

        small = "small" if self.is_mlp else "tiny"
        found = {"script": run(arguments(self.flags_given(), small))}
        if not self.is_mlp:
            return found | {"script_default": run(arguments({"max_steps": 1, "eval_freq": 1}, small))}
        found["script_none"] = run(arguments({"dnn_hidden_units": "", "max_steps": 2, "eval_freq": 2, "batch_size": 20},
                                             small))
        short = {} if context.real else {"max_steps": STANDIN_STEPS, "eval_freq": STANDIN_STEPS}
        found["script_default"] = run(arguments(short, "accuracy"), {"hidden": context.hidden_images},
                                      context.accuracy_seconds if context.real else 60)
        return found

    def run(self, replies: Replies, name: str, context: Context) -> Run | None:
        reply = replies[name]
        return Run(reply) if {"events", "brightness"} <= set(reply.arrays) else None

    def flags(self, replies: Replies, context: Context) -> Outcome:
        """Every flag, one share each: it must change what it stands for."""
        run = self.run(replies, "script", context)
        if run is None or not run.updates:
            found = failed(replies["script"]).diagnosis if run is None else run.status
            return Outcome(0.0, found or f"{self.file} does not train the model.", self.command())
        given = self.flags_given()
        steps, freq = given["max_steps"], given["eval_freq"]
        rate = run.learning_rate
        moments = sorted(run.evaluations)
        wrong = {}
        if run.status:
            wrong["status"] = run.status
        if not steps <= run.updates <= steps + 1:
            wrong["max_steps"] = f"--max_steps {steps} makes {run.updates} updates"
        if set(run.batch_sizes) != {given["batch_size"]}:
            wrong["batch_size"] = (f"--batch_size {given['batch_size']} trains on batches of "
                                   f"{sorted(set(run.batch_sizes))}")
        if rate is None or abs(rate / given["learning_rate"] - 1) > 0.02:
            wrong["learning_rate"] = (f"--learning_rate {given['learning_rate']} updates by "
                                      f"{'a rate that cannot be told' if rate is None else f'{rate:.3g}'}")
        if not steps // freq <= len(moments) <= steps // freq + 2 or any(b - a > freq for a, b in pairwise(moments)):
            wrong["eval_freq"] = f"--eval_freq {freq} evaluates the test split after {moments or 'no'} updates"
        flags = 5
        if self.is_mlp:
            flags += 1
            none = self.run(replies, "script_none", context)
            if run.hidden_units != [7, 5]:
                wrong["dnn_hidden_units"] = f"--dnn_hidden_units 7,5 makes hidden layers {run.hidden_units}"
            elif none is None or not none.updates or none.status or none.hidden_units != []:
                wrong["dnn_hidden_units"] = "--dnn_hidden_units '' does not train a model without hidden layer"
        default = self.default_differs(replies, context)
        if default:
            wrong["defaults"] = default
        return Outcome(1 - len(wrong) / (flags + 1), "; ".join(wrong.values()), self.command() if wrong else "",
                       shares=True)

    def command(self) -> str:
        """What was run, to be tried at home."""
        flags = " ".join(f"--{name} {value}" for name, value in self.flags_given().items())
        return f"run as: python {self.file} {flags}, on a small data set"

    def default_differs(self, replies: Replies, context: Context) -> str:
        """What a run without flags does other than the assignment's defaults say."""
        run = self.run(replies, "script_default", context)
        if run is None or not run.updates:
            return "a run with the default values does not train: " + (
                run.status if run else replies["script_default"].error or "nothing was recorded")
        found: dict[str, Any] = {"learning_rate": run.learning_rate,
                                 "batch_size": run.batch_sizes[0] if run.batch_sizes else None}
        if self.is_mlp:
            found["dnn_hidden_units"] = run.hidden_units
        if "optimizer" in self.defaults:
            found["optimizer"] = (run.notes.get("optimizers") or [[None]])[0][0]
        if context.real and self.is_mlp:
            found["max_steps"] = run.updates
        for name, value in found.items():
            wanted = self.defaults.get(name, 1400)
            same = abs(value / wanted - 1) < 0.02 if isinstance(wanted, float) and value else value in (
                wanted, wanted + 1 if name == "max_steps" else wanted)
            if not same:
                used = "what cannot be told" if value is None else value
                return f"the default {name} is {wanted}, the run used {used}"
        return ""

    def accuracy(self, replies: Replies, context: Context) -> Outcome:
        """Accuracy of the model that the default run left, on images whose labels only the grader has."""
        reply = replies["script_default"]
        if "predictions" not in reply.arrays:
            return failed(reply) if reply.error else Outcome(0.0, "The run left no trained model.")
        predictions = reply.arrays["predictions"]
        if predictions.shape != context.hidden_labels.shape:
            return Outcome(0.0, "The model does not give one row of scores an image.",
                           f"expected shape {context.hidden_labels.shape}, received {predictions.shape}")
        run = self.run(replies, "script_default", context)
        if run is not None and run.trained_on_test:
            return Outcome(0.0, "It trains on images of the test split.")
        accuracy = float((predictions == context.hidden_labels).mean())
        bounds = context.accuracy[self.question]["real" if context.real else "standin"]
        fraction = (accuracy - bounds["none"]) / (bounds["full"] - bounds["none"])
        what = "CIFAR-10's test images" if context.real else f"the small stand-in after {STANDIN_STEPS} steps"
        numbers = f"accuracy {accuracy:.3f} on {what}, full points from {bounds['full']:.2f} on"
        if fraction >= 1:
            return Outcome(1.0, "", numbers)
        return Outcome(max(0.0, round(fraction, 2)), "The trained network is less accurate than it should be: check "
                       "the training loop (loss, backward, update) and the defaults.", numbers)

    def eval_mode(self, replies: Replies, context: Context) -> Outcome:
        """Evaluation mode on test images (70 %), training mode when weights are updated (30 %)."""
        run = self.run(replies, "script", context)
        if run is None:
            return failed(replies["script"])
        if not run.updates:
            return Outcome(0.0, run.status or f"{self.file} does not train the model.")
        if not run.evaluation_modes:
            return Outcome(0.0, "The test split is never evaluated, so that the mode cannot be right.")
        in_training = sum(run.evaluation_modes)
        if in_training:
            return Outcome(0.0, "The model is evaluated in training mode: call model.eval() before evaluating, and "
                                "model.train() after it.",
                           f"{in_training} of {len(run.evaluation_modes)} forward passes on test images")
        if not all(run.training_modes):
            return Outcome(0.7, "The model is trained in evaluation mode: call model.train() again after evaluating.",
                           f"{run.training_modes.count(False)} of {len(run.training_modes)} updates")
        return Outcome(1.0)

    def test_split(self, replies: Replies, context: Context) -> Outcome:
        """Every test image at every evaluation, and none in training."""
        run = self.run(replies, "script", context)
        if run is None:
            return failed(replies["script"])
        if not run.updates:
            return Outcome(0.0, run.status or f"{self.file} does not train the model.")
        if run.trained_on_test:
            return Outcome(0.0, "It trains on images of the test split.")
        if not run.evaluations:
            return Outcome(0.0, "It never evaluates the test split: accuracy is measured on the training split or not "
                                "at all.")
        fewest = min(run.evaluations.values())
        if fewest < TINY_TEST:
            return Outcome(0.5, "It evaluates a part of the test split only: the accuracy is over all test images.",
                           f"{fewest} of {TINY_TEST} images")
        return Outcome(1.0)

