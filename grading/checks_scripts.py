"""Checks of the training scripts, from what was recorded while they ran (`grading.worker.probes_scripts`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from grading.checks import CheckFunction, Context, Replies
from grading.checks_images import LAYOUTS, Seen
from grading.compare import ANY, PASSED, Outcome, error_sentence, failed, missing
from grading.datasets import TEST_IMAGES
from grading.inputs import Inputs
from grading.replies import Probe, Reply
from grading.worker.images import NEARLY
from grading.worker.probes_scripts import BACKWARD, FORWARD, UPDATE

FLAGS = ("learning_rate", "max_steps", "batch_size", "eval_freq")  # of every script
STANDIN_STEPS = 101  # of a default run: one more than evaluation needs to be seen
CONVNET_STEPS = 501  # of the network that is stubbed
MOST_EVENTS = 200_000
OTHER_RATE, OTHER_UPDATE = 0.02, 0.1  # between two updates; of an update, by norm: float32 is far below
EXACT, ROUNDINGS = 1e-6, 8  # of an update whose rounding is known: the least, and so many times its rounding
SECONDS = 120  # for a run; one takes 3 to 6 on an idle core
EVALUATED_IN_TRAINING = ("The model is evaluated in training mode: call model.eval() before evaluating, and "
                         "model.train() after it.")
TRAINED_IN_EVALUATION = "The model is trained in evaluation mode: call model.train() again after evaluating."
NOT_FINITE = ("After the run the network's parameters are not finite (nan or inf): a loss or gradient overflows, such "
              "as exp of a large x in the branch that np.where or torch.where does not take.")
SOFTMAX_TWICE = ("Softmax is applied twice, by the network and again before or in the loss: the gradient at the "
                 "network's output is not that of the cross-entropy of its probabilities.")
NLL_OF_OTHERS = ("The loss is not the mean cross-entropy: it takes log-probabilities (NLL), which the network's output "
                 "is not. End the network with log_softmax, or return logits and use cross_entropy.")
ONE_LABEL = ("The label that the loss is given is {} for every image: take the place of the largest number of a "
             "one-hot row (argmax), not the number itself.")
MOST_CLASSES = 64
TOO_WIDE = "The network that the script trains has {} outputs, not one for each of 10 classes."
MISLABELLED = ("The labels that the loss is given are not those of the images that the network is given: take both "
                "from one call of next_batch.")


class Run:
    """A run of a script, recorded. Raises ValueError where that cannot be a run on the data of these `inputs`.

    updates: number of weight updates. evaluations: {updates before it: different test images seen}. moments: updates
    before passes on any images that no update was made from. batch_sizes: images of each update. trained_on_test:
    images of the test split in those. evaluation_modes: of the passes on test images, whether any part of the model was
    in training mode. other_modes: of the passes on any images that no update was made from. training_modes: of the
    updates, whether all of it was.
    """

    def __init__(self, reply: Reply, inputs: Inputs, steps: int | None = None):
        self.reply, self.notes, self.steps, self.scores = reply, reply.notes, steps, inputs.scores
        events = reply.arrays["events"]
        if events.shape[1:] != (9,) or len(events) > MOST_EVENTS or (events < 0).any():
            raise ValueError("events that no training script leaves")
        self.seen = Seen(reply)
        self.updates = 0
        self.evaluations: dict[int, int] = {}
        self.bright: dict[int, int] = {}  # of the images of an evaluation
        self.unread: dict[int, int] = {}  # images of an evaluation whose split is not known
        self.shown: dict[int, set[int]] = {}  # passes of an evaluation, each by the number that stands for its images
        self.moments: list[int] = []
        self.other_modes: list[bool] = []  # of passes on any images that no update was made from
        self.batches: set[int] = set()  # different ones that updates were made from
        self.batch_sizes: list[int] = []
        self.evaluation_modes: list[bool] = []
        self.training_modes: list[bool] = []
        self.trained_on_test = self.images = 0
        update = UPDATE if (events[:, 0] == UPDATE).any() else BACKWARD
        batches: list[list[int]] = []  # forward passes that the next update is made from
        others: Counter[tuple[int, ...]] = Counter()  # passes that no update was made from, as often as they came
        on_training = any(kind == BACKWARD and train for kind, _, train, *_ in events.tolist())
        for kind, *event in events.tolist():
            if kind == FORWARD:
                self.images += event[0]
                others[tuple(event)] += 1
            if kind == BACKWARD:
                batches.append(event)
                if others[tuple(event)]:
                    others[tuple(event)] -= 1
            if kind == update and on_training and batches and all(test and not train for _, train, test, *_ in batches):
                self.trained_on_test += sum(batch[2] for batch in batches)  # it does not count as a step
                batches, others = [], Counter()
            elif kind == update:
                self._evaluated(list(others.elements()))
                self.updates += 1
                if batches:
                    self.batches.update(batch[6] for batch in batches)
                    self.batch_sizes.append(sum(batch[0] for batch in batches))
                    self.trained_on_test += sum(batch[2] for batch in batches)
                    self.training_modes.append(all(batch[5] for batch in batches))
                batches, others = [], Counter()
        self._evaluated(list(others.elements()))
        for seen, bright in zip(self.evaluations.values(), self.bright.values(), strict=True):
            times = max(1, round(seen / TEST_IMAGES))  # it may show each image in several forms
            wanted = [times * all for all in (inputs.bright, TEST_IMAGES - inputs.bright)]  # or turn its sign round
            unread = abs(times * TEST_IMAGES - seen)
            if not any(bright - unread <= all <= bright + unread for all in wanted):
                raise ValueError("test images that are not those of this class")
        self.in_evaluation = bool(len(events) and events[-1, 0] == FORWARD and events[-1, 3])

    def _evaluated(self, passes: Sequence[Sequence[int]]) -> None:
        """Take in the forward passes between two updates that no update was made from."""
        if passes:
            self.moments.append(self.updates)
        for images, train, test, new, any_training, _, batch, bright in passes:
            self.other_modes.append(bool(any_training))
            self.unread[self.updates] = self.unread.get(self.updates, 0) + images - train - test
            if test:
                self.shown.setdefault(self.updates, set()).add(batch)
                self.evaluations[self.updates] = self.evaluations.get(self.updates, 0) + new
                self.bright[self.updates] = self.bright.get(self.updates, 0) + bright
                self.evaluation_modes.append(bool(any_training))

    @property
    def error(self) -> str:
        """What ended the run, in the words of Python; '' for one that ended by itself and well."""
        if self.reply.error:
            return self.reply.error
        status = self.notes.get("status")
        return "" if status == 0 else status if isinstance(status, str) else f"it ends with status {status!r}, not 0"

    @property
    def status(self) -> str:
        """'' for a run that ended well, else how far it came and what ended it, as a sentence."""
        if not self.error:
            return ""
        if self.error.startswith("NotImplementedError"):
            return error_sentence(self.error)
        if self.finished:
            when = f"stopped after step {self.updates}, when training had ended"
        elif self.updates or self.images:
            when = f"stopped after step {self.updates}{', in or after an evaluation' if self.in_evaluation else ''}"
        else:
            when = "stopped before the first step"
        return f"It {when}: {self.error}."

    @property
    def finished(self) -> bool:
        """Whether it made all its steps, whatever came then."""
        return self.steps is not None and self.updates >= self.steps

    @property
    def stopped(self) -> bool:
        """Whether the grader stopped it, for it made far more updates than it was to make."""
        return bool(self.notes.get("stopped"))

    @property
    def cut(self) -> bool:
        """Whether it did not come to the end of training: what is missing then says nothing about the flags."""
        return bool(self.error) and not self.finished

    @property
    def trains(self) -> bool:
        """Whether there was an update, or at least the whole of a loop that should have made them."""
        return bool(self.updates) and (self.learning_rate is not None or not self.cut)

    @property
    def learning_rate(self) -> float | None:
        optimizers = self.notes.get("optimizers")
        rate = optimizers[0][1] if optimizers else self.notes.get("learning rate")
        return float(rate) if isinstance(rate, int | float) else None

    @property
    def update_wrong(self) -> str:
        """What is wrong with the way in which weights are updated; '' for nothing."""
        notes = self.notes
        if self.learning_rate is None:
            return "The weights do not change: each update subtracts the learning rate times the gradient."
        if uphill := notes.get("uphill"):
            return f"The update of {among(uphill, 3)} goes up: subtract the learning rate times the gradient."
        if unchanged := notes.get("unchanged"):
            return f"The update leaves out {among(unchanged, 3)}."
        if notes.get("late"):
            return ("The weights are updated after the next forward pass, by the gradients of the batch before: update "
                    "them right after backward.")
        if isinstance(followed := notes.get("followed"), list) and (other := other_updates(followed)):
            return other
        if notes.get("gradients kept"):
            return "Gradients add up over the steps: set them to 0 before each backward pass (optimizer.zero_grad())."
        if notes.get("without gradient"):
            return "The optimizer's step comes without a gradient: zero_grad, then backward, then step."
        return ""

    @property
    def images_wrong(self) -> str:
        """What is wrong with the images that it trains on; '' for nothing."""
        if self.seen.disorder:
            return self.seen.disorder
        if self.trained_on_test > (1 - NEARLY) * sum(self.batch_sizes):  # the mark of one may be misread
            return "It trains on images of the test split."
        if self.updates > 2 and len(self.batches) == 1:
            return "It trains on the same images in every step: take the next batch each time."
        return self.seen.unlike

    @property
    def measure_wrong(self) -> str:
        """What is wrong with the function `accuracy`; '' for nothing, and for a script that has none."""
        found = self.notes.get("accuracies")
        hits = self.scores["predicted"].argmax(axis=1) == self.scores["labels"]
        right, number = hits.mean(), len(hits)
        if not isinstance(found, list) or any(np.isclose(value, right) for value in found):
            return ""
        if not found:
            return "accuracy(predictions, targets) raises an error or returns nothing."
        by = hits.sum() / found[0] if found[0] else 0  # what the number of right ones is divided by, if it is that
        reason = ("The number of right ones is not divided by the size of the batch." if np.isclose(by, 1) else
                  "It is a percentage." if np.isclose(100 * by, number) else
                  f"The number of right ones is divided by {by:.0f}, not by the size of the batch."
                  if round(by) and np.isclose(by, round(by)) else "")
        return (f"accuracy(predictions, targets) gives {found[0]:.3g} where {hits.sum()} of {number} predictions are "
                f"right, not {right:.3g}. {reason}").strip()

    @property
    def mode_wrong(self) -> tuple[str, str]:
        """What is wrong with the model's mode in evaluation or else in training, and how often; '' for nothing."""
        modes = self.evaluation_modes or self.other_modes
        if any(modes):
            return EVALUATED_IN_TRAINING, f"{sum(modes)} of {len(modes)} forward passes in evaluation"
        if not all(self.training_modes):
            return TRAINED_IN_EVALUATION, f"{self.training_modes.count(False)} of {len(self.training_modes)} updates"
        return "", ""

    @property
    def left_out(self) -> int:
        """How many test images each evaluation leaves out at least, where more than one was seen: one does not tell."""
        if len(self.shown) < 2:
            return 0
        return max(0, TEST_IMAGES - max(self.evaluations[at] + self.unread[at] for at in self.shown))

    @property
    def same_left_out(self) -> bool:
        """Whether it leaves out the same ones each time. Whoever draws a new order comes to others."""
        return len({frozenset(passes) for passes in self.shown.values()}) == 1

    @property
    def loss_gradient(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The output of a first training step, and the gradient of each sample's own loss by it; None where unknown."""
        output, gradient = (self.reply.arrays.get(name) for name in ("output", "output gradient"))
        if output is None or gradient is None or output.shape != gradient.shape or output.ndim != 2:
            return None
        parts = max(len(output), self.batch_sizes[0] if self.batch_sizes else 0)  # it may add up parts of a batch
        return output.astype(float), parts * gradient.astype(float)

    def loss_wrong(self, stub: bool) -> str:
        """What the gradient of the script's loss says against the mean cross-entropy of its images; '' for nothing.

        stub: whether the output may be called log-probabilities without being any.
        """
        if self.loss_gradient is None:
            return ""
        output, gradient = self.loss_gradient
        sentence = against_cross_entropy(output, gradient, stub)
        labels = labels_of(output, gradient)
        if not sentence and self.seen.mislabelled(labels):
            return ONE_LABEL.format(labels[0]) if (labels == labels[0]).all() else MISLABELLED
        return sentence

    def has_hidden_units(self, wanted: list[int]) -> bool:
        """Whether the script asked for hidden layers of these widths: by the network's arguments, or by its layers."""
        made = self.notes.get("models") or []
        if any(wanted == argument for model in made for argument in model["arguments"]):
            return True
        return chained(self.notes.get("layers") or [], [3072, *wanted, 10])


def other_updates(followed: Sequence[Mapping[str, Sequence[float]]]) -> str:
    """What says that not every update is the same learning rate times the gradient; '' for nothing.

    followed: of each, by parameter, the rate, how much is something else and how much may be rounding
    (`worker.probes_scripts.Rate`).
    """
    first: dict[str, tuple[float, float]] = {}
    for number, found in enumerate(followed, 1):
        for name, (rate, other, rounding) in found.items():
            usual, rounded = first.setdefault(name, (rate, rounding))
            allowed = max(EXACT, ROUNDINGS * max(rounding, rounded))
            too_much = other > min(OTHER_UPDATE, allowed)
            if too_much or abs(rate - usual) > min(OTHER_RATE, allowed) * abs(usual):
                how = f"{100 * other:.2g} % of it is something else" if too_much else (
                    f"it is {rate:.6g} times it, and {usual:.6g} times in the first")
                return (f"Update {number} of the {name} is not the learning rate times the gradient: {how}. Plain "
                        "gradient descent has no momentum, no weight decay and one learning rate.")
    return ""


def slopes(loss_of: Callable[[np.ndarray], np.ndarray], output: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Central differences (N, C) of a loss of each sample by its output, with steps of `size` (N, C)."""
    steps = [size * np.eye(output.shape[1])[j] for j in range(output.shape[1])]
    return np.stack([(loss_of(output + step) - loss_of(output - step)) / (2 * size[:, j])
                     for j, step in enumerate(steps)], axis=1)


def labels_of(output: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Each sample's class (N,): where the gradient (N, C) of its loss is negative.

    Where a large output has put all probability on the right class, the gradient has come to 0: then it is that class.
    """
    return np.where((gradient < 0).any(axis=1), gradient.argmin(axis=1), output.argmax(axis=1))


def against_cross_entropy(output: np.ndarray, gradient: np.ndarray, stub: bool) -> str:
    """What says that the gradient (N, C) is not that of the cross-entropy of each sample; '' for nothing.

    Of logits, of log-probabilities or of probabilities.
    """
    if output.shape[1] > MOST_CLASSES:  # of which the slopes would take minutes
        return TOO_WIDE.format(output.shape[1])
    rows, labels, usual = np.arange(len(output)), labels_of(output, gradient), np.full_like(output, 1e-4)

    def close(found: np.ndarray, expected: np.ndarray, atol: float = 1e-2) -> bool:
        return np.allclose(found, expected, rtol=1e-2, atol=atol)

    def negative(y: np.ndarray) -> np.ndarray:
        return -y[rows, labels]

    with np.errstate(all="ignore"):
        probabilities = (output >= 0).all() and close(output.sum(axis=1), np.ones(len(output)))
        if close(gradient, slopes(lambda y: np.logaddexp.reduce(y, axis=1) + negative(y), output, usual)):
            return SOFTMAX_TWICE if probabilities and not stub else ""
        if probabilities:  # however small: with relative steps, and with reciprocals, as log(p + 1e-9) is right too
            some = np.maximum(output, 1e-30)  # of 0 the reciprocal of the slope is 0 all the same
            own = slopes(lambda y: -np.log(y[rows, labels]), some, 1e-4 * some)[rows, labels]
            others = np.delete(gradient.ravel(), rows * output.shape[1] + labels)
            if close(others, np.zeros_like(others)) and close(1 / gradient[rows, labels], 1 / own, atol=1e-6):
                return ""
        if close(gradient, slopes(negative, output, usual)):
            return "" if stub or close(np.exp(output).sum(axis=1), np.ones(len(output))) else NLL_OF_OTHERS
    return "The loss, or its gradient, is not the mean cross-entropy of the network's output and the labels."


def chained(shapes: Sequence[Any], sizes: Sequence[int]) -> bool:
    """Whether linear layers of these shapes, in any order, are those of a network of these sizes."""
    pairs = [sorted(pair) for pair in pairwise(sizes)]
    return sorted(sorted(shape) for shape in shapes) == sorted(pairs)


def regular(moments: Sequence[int], freq: int, steps: int, until: int) -> bool:
    """Whether evaluations after these numbers of updates come every `freq` steps.

    Wherever the count starts; one more before the first update, after it, or around the last is fine. A run that was
    stopped has made `until` updates.
    """
    extra = {0, 1, steps - 1, steps, steps + 1}
    for start in range(freq):
        regular_ones = set(range(start, steps + 2, freq))
        needed = {moment for moment in regular_ones - {0, steps, steps + 1} if moment <= until}
        if needed <= set(moments) <= regular_ones | extra:
            return True
    return False


def arguments(flags: Mapping[str, Any]) -> list[str]:
    return [text for name, value in flags.items() for text in (f"--{name}", str(value))]


@dataclass(frozen=True)
class Script:
    """A training script and the checks of it.

    model: (module, class) of a torch model, None for the NumPy MLP. defaults: what a run without flags must use.
    loss_judged: whether a wrong loss is the script's own fault, not that of a module that it uses.
    """

    file: str
    question: str
    model: tuple[str, str] | None
    defaults: Mapping[str, Any]
    loss_judged: Callable[[Replies, Context], bool] = lambda replies, context: True

    @property
    def is_mlp(self) -> bool:
        return "dnn_hidden_units" in self.defaults

    @property
    def checks(self) -> dict[str, CheckFunction]:
        last: dict[str, CheckFunction] = {"accuracy": self.accuracy} if self.is_mlp else {"eval_mode": self.eval_mode}
        return {"script_flags": self.flags, "script_steps": self.one_step_more, "script_loop": self.loop,
                "test_split": self.test_split, **last}

    def flags_of(self, name: str, context: Context) -> dict[str, Any]:
        """The flags of a run. Every run also has --data_dir."""
        if name == "script":
            return {flag: value for flag, value in context.inputs.flags.items() if self.is_mlp or flag in FLAGS}
        if name == "script_none":
            return {"dnn_hidden_units": "", "max_steps": 2, "eval_freq": 2}
        if not self.is_mlp:
            return {"max_steps": CONVNET_STEPS}
        return {} if context.real else {"max_steps": STANDIN_STEPS}

    def probes(self, context: Context) -> dict[str, Probe]:
        found = {}
        for name in ("script", *(["script_none"] if self.is_mlp else []), "script_default"):
            flags = self.flags_of(name, context)
            trained = self.is_mlp and name == "script_default"
            real = trained and context.real
            seconds = context.accuracy_seconds if real else SECONDS
            arrays = context.inputs.scores | ({"hidden": context.hidden_images} if trained else {})
            found[name] = Probe("script", arrays, {
                "script": self.file, "model": self.model, "flags": arguments(flags), "stub": not self.is_mlp,
                "images": name == "script",
                "data": "accuracy" if real else "marked", "seconds": 0.9 * seconds,
                "most": None if real else flags["max_steps"] + 25}, seconds, self.file)
        return found

    def run(self, replies: Replies, name: str, context: Context) -> Run | None:
        reply = replies[name]
        steps = self.flags_of(name, context).get("max_steps", 1400)
        return Run(reply, context.inputs, steps) if "events" in reply.arrays else None

    def flags(self, replies: Replies, context: Context) -> Outcome:
        """Every flag, one share each: it must change what it stands for.

        Where only a run without flags trains, that is one fault: of no flag it is known what it changes.
        """
        run = self.run(replies, "script", context)
        if run is None or not self.training_run(replies, context).trains:
            return self.no_training(replies, run, context)
        shares = {"status": self.ends_badly(replies, context)}
        shares |= self.flags_ignored(run, context) if run.trains else dict.fromkeys((*FLAGS, "data_dir"), "")
        if self.is_mlp and not run.trains:
            shares["dnn_hidden_units"] = ""
        elif self.is_mlp:
            none = self.run(replies, "script_none", context)
            shares["dnn_hidden_units"] = self.hidden_units_ignored(run, none, context)
        ignored = {name for name, sentence in shares.items() if sentence} | (
            {"learning_rate"} if self.divided_again(run, context) else set())
        shares["defaults"] = self.default_differs(replies, context, ignored)
        wrong = [sentence for sentence in shares.values() if sentence]
        command = "" if wrong in ([], [shares["defaults"]]) else self.command(context)  # the default run has no flags
        return Outcome(1 - len(wrong) / len(shares), " ".join(wrong), command,
                       shares=True, compared=run.trains and not shares["batch_size"] and not shares["learning_rate"])

    def training_run(self, replies: Replies, context: Context) -> Run:
        """The run to look at for training: that with flags, unless only the one without them trains.

        Raises ValueError where none was recorded.
        """
        runs = [run for name in ("script", "script_default") if (run := self.run(replies, name, context)) is not None]
        if not runs:
            raise ValueError("no run was recorded")
        return next((run for run in runs if run.trains), runs[0])

    def evaluating(self, run: Run, replies: Replies, context: Context) -> Run:
        """The run to look at for evaluation: `run`, unless only the default one comes to it."""
        default = self.run(replies, "script_default", context)
        return default if default is not None and default.evaluations and not run.evaluations else run

    def no_training(self, replies: Replies, run: Run | None, context: Context) -> Outcome:
        why = failed(replies["script"]).diagnosis if run is None else run.status
        if not why and self.model and run is not None and run.notes.get("trains another"):
            why = f"{self.file} trains another network than {self.model[0]}.{self.model[1]}."
        return Outcome(0.0, why or f"{self.file} does not train the model.", self.command(context))

    def broken_by(self, run: Run | None) -> tuple[str, ...]:
        """The checks of what ended a run in its first update: gradients of a wrong shape, or layers that share inputs.

        Such a fault costs its own check and the flags of the script, whose first step was right as far as can be seen.
        """
        if (run is None or not run.updates or not run.batch_sizes or run.images_wrong or run.loss_gradient is None
                or run.loss_wrong(stub=not self.is_mlp)):
            return ()
        there = any(f" ({name}, line " in run.error for name in ("mlp_numpy.py", "modules.py"))
        return ("linear_backward_weight", "linear_backward_bias", "state") if there or "broadcast" in run.error else ()

    def ends_badly(self, replies: Replies, context: Context) -> str:
        """How a run of the script ends that does not end well; two that do so cost no more than one."""
        run, default = (self.run(replies, name, context) for name in ("script", "script_default"))
        if run is not None and run.status:
            return run.status
        if default is not None and default.trains and default.status:
            return f"With the defaults: {default.status[0].lower()}{default.status[1:]}"
        return ""

    def flags_ignored(self, run: Run, context: Context) -> dict[str, str]:
        """{flag: what is wrong with it, or ''} for the flags that all scripts have."""
        steps, batch, freq, rate = (context.inputs.flags[name]
                                    for name in ("max_steps", "batch_size", "eval_freq", "learning_rate"))
        wrong = dict.fromkeys((*FLAGS, "data_dir"), "")
        if not steps <= run.updates <= steps + 1 and not (run.error and run.updates < steps):
            more = "more than " if run.stopped else ""
            wrong["max_steps"] = f"--max_steps {steps} makes {more}{run.updates} updates."
        if set(run.batch_sizes) != {batch}:
            wrong["batch_size"] = f"--batch_size {batch} trains on batches of {among(run.batch_sizes)}."
        one = not run.notes.get("shared")  # else a rate is that of several updates of the same numbers
        if (one and run.learning_rate is not None and abs(abs(run.learning_rate) / rate - 1) > 0.02
                and not self.divided_again(run, context)):
            wrong["learning_rate"] = (f"With --learning_rate {rate} the weights are updated at a rate of "
                                      f"{abs(run.learning_rate):.3g}.")
        moments = [moment for moment in run.evaluations or run.moments if moment <= steps + 1]
        if not regular(moments, int(freq), int(steps), min(run.updates, int(steps)) - run.cut):
            wrong["eval_freq"] = f"--eval_freq {freq}: " + (
                f"evaluation on the test split comes after {among(run.evaluations)} updates." if run.evaluations else
                "no evaluation on the test split was seen.")
        data = run.notes.get("data")
        if isinstance(data, list) and not all(data):
            wrong["data_dir"] = "--data_dir is ignored: the images are read from another folder."
        unknown = run.notes.get("unknown flags")
        for name, text in wrong.items():
            if text and isinstance(unknown, list) and f"--{name}" in unknown:
                wrong[name] = f"The script has no flag --{name}."
        return wrong

    def one_step_more(self, replies: Replies, context: Context) -> Outcome:
        """Whether it makes one update more than --max_steps says, as many do who count from 0."""
        run, steps = self.run(replies, "script", context), context.inputs.flags["max_steps"]
        if run is None or not self.training_run(replies, context).trains:
            return self.no_training(replies, run, context)
        if run.updates != steps + 1:  # of another number the check of the flags tells
            return PASSED
        return Outcome(0.0, f"--max_steps {steps} makes {run.updates} updates, one too many: range(max_steps + 1) has "
                            "max_steps + 1 numbers.", self.command(context))

    def hidden_units_ignored(self, run: Run, none: Run | None, context: Context) -> str:
        wanted = context.inputs.flags["dnn_hidden_units"]
        if not run.has_hidden_units([int(width) for width in wanted.split(",")]):
            return f"--dnn_hidden_units {wanted} makes linear layers of {among(run.notes.get('layers') or [])}."
        if none is None or not none.updates:
            return ("--dnn_hidden_units '' must train a model without a hidden layer. "
                    + (none.status if none else "")).strip()
        if not none.has_hidden_units([]):
            return f"--dnn_hidden_units '' makes linear layers of {among(none.notes.get('layers') or [])}."
        return ""

    def command(self, context: Context) -> str:
        """What was run, to be tried at home."""
        flags = " ".join(f"--{name} {value}" for name, value in self.flags_of("script", context).items())
        return f"run as: python {self.file} {flags} --data_dir DATA_DIR"

    def default_differs(self, replies: Replies, context: Context, ignored: Set[str]) -> str:
        """What a run without flags does other than the assignment's defaults say; not of flags that are ignored."""
        run = self.run(replies, "script_default", context)
        if run is None or not run.trains:
            why = run.status if run else error_sentence(replies["script_default"].error or "nothing was recorded")
            return f"A run with the default values does not train. {why}"
        found: dict[str, Any] = {"learning_rate": run.learning_rate,
                                 "batch_size": run.batch_sizes[0] if run.batch_sizes else None}
        parser = run.notes.get("defaults") or {}
        found |= {name: parser[name] for name in ("max_steps", "eval_freq") if isinstance(parser.get(name), int)}
        if context.real and self.is_mlp and not run.cut:
            found["max_steps"] = min(run.updates, max(run.updates - 1, self.defaults["max_steps"]))  # or one more
        for name, value in found.items():
            wanted = self.defaults[name]
            shared = name == "learning_rate" and run.notes.get("shared")
            if value is None or not np.isfinite(value) or name in ignored or shared:
                continue  # that no update was seen, or a wrong one, is said where the loop is checked
            if value != wanted and not (isinstance(wanted, float) and abs(abs(value) / wanted - 1) < 0.02):
                used = f"{value:.3g}" if isinstance(value, float) else value
                return f"The assignment's default {name} is {wanted}; run without flags, yours is {used}."
        wanted = self.defaults.get("dnn_hidden_units")
        if wanted and "dnn_hidden_units" not in ignored and not run.has_hidden_units(wanted):
            return (f"The assignment's default dnn_hidden_units is {among(wanted)}; run without flags, yours makes "
                    f"linear layers of {among(run.notes.get('layers') or [])}.")
        return ""

    def divided_again(self, run: Run, context: Context) -> str:
        """Whether a run with flags divides its updates by the batch size, as the loss has done; '' for no."""
        rate = context.inputs.flags["learning_rate"] / context.inputs.flags["batch_size"]
        return ("Each update is divided by the batch size a second time; the loss is a mean already."
                if run.learning_rate is not None and abs(abs(run.learning_rate) / rate - 1) < 0.02 else "")

    def optimizer_wrong(self, run: Run) -> str:
        """What is wrong with the optimizer where the assignment names one; '' for nothing."""
        wanted, (used, *rates) = self.defaults.get("optimizer"), (run.notes.get("optimizers") or [[None]])[0]
        if not wanted or not used:
            return ""
        if used != wanted:
            return f"The optimizer is {used}, not {wanted}."
        if options := run.notes.get("options"):
            return f"{used} has {among(options)}: the assignment asks for its default parameters."
        last = run.notes.get("last learning rate")
        if isinstance(last, int | float) and abs(last - rates[0]) > EXACT * abs(rates[0]):
            return f"The learning rate changes during the run, from {rates[0]:.6g} to {last:.6g}."
        return ""

    def loop(self, replies: Replies, context: Context) -> Outcome:
        """The loss, the update and the measure of accuracy, one share each while update and loss are right.

        Where one of these is not, nothing is learned as it should be: then the check is passed in part at most.
        """
        run = self.run(replies, "script", context)
        if run is None or not (run := self.training_run(replies, context)).trains:
            return replace(self.no_training(replies, run, context), follows=self.broken_by(run))
        learning = [run.update_wrong or self.optimizer_wrong(run) or self.divided_again(run, context),
                    run.loss_wrong(stub=not self.is_mlp) if self.loss_judged(replies, context) else ""]
        wrong = [*learning, run.measure_wrong]
        if run.cut:
            wrong.append(run.status)
        if self.model and self.is_mlp:
            wrong.append(self.evaluating(run, replies, context).mode_wrong[0])
        return Outcome(1 - sum(map(bool, wrong)) / len(wrong), " ".join(filter(None, wrong)), "",
                       shares=not any(learning), follows=self.broken_by(run))

    def accuracy(self, replies: Replies, context: Context) -> Outcome:
        """Accuracy of the model that the default run left, on images whose labels only the grader has."""
        reply = replies["script_default"]
        run = self.run(replies, "script_default", context)
        if "predictions" not in reply.arrays:
            return Outcome(0.0, (run.status if run else "") or missing(reply, "predictions"),
                           follows=("state", *self.broken_by(run)))
        predictions = reply.arrays["predictions"]
        if predictions.shape != context.hidden_labels.shape:
            return Outcome(0.0, "The model does not give one row of scores an image.",
                           f"expected shape {context.hidden_labels.shape}, received {predictions.shape}")
        marked = [run if not context.real else None, self.run(replies, "script", context)]
        if wrong := next((one.images_wrong for one in marked if one is not None and one.images_wrong), ""):
            return Outcome(0.0, wrong, follows=("test_split",))
        last = reply.arrays.get("predictions, channels last", predictions)
        layout = next((one.seen.layout for one in marked if one is not None and one.seen.layout in LAYOUTS), None)
        some = (predictions, last) if layout is None else (last if layout else predictions,)
        if (run is not None and run.notes.get("not finite")) and not run.cut:
            return Outcome(0.0, NOT_FINITE, follows=ANY)
        accuracy = max(float((found == context.hidden_labels).mean()) for found in some
                       if found.shape == context.hidden_labels.shape)
        bounds = context.accuracy[self.question]["real" if context.real else "standin"]
        fraction = (accuracy - bounds["none"]) / (bounds["full"] - bounds["none"])
        what = "CIFAR-10's test images" if context.real else f"the stand-in after {STANDIN_STEPS} steps"
        numbers = f"accuracy {accuracy:.3f} on {what}, full points from {bounds['full']:.2f} on"
        if fraction >= 1:
            return Outcome(1.0, "", numbers, compared=True)
        why = run.status if run is not None and run.cut else ""
        return Outcome(max(0.0, round(fraction, 2)), why or "The trained network is less accurate than it should be: "
                       "check the training loop (loss, backward, update) and the defaults.", numbers, follows=ANY)

    def eval_mode(self, replies: Replies, context: Context) -> Outcome:
        """Evaluation mode on test images (70 %), training mode when weights are updated (30 %)."""
        run = self.run(replies, "script", context)
        if run is None or not (run := self.training_run(replies, context)).trains:
            return self.no_training(replies, run, context)
        run = self.evaluating(run, replies, context)
        if not run.other_modes:
            return Outcome(0.0, run.status or "No evaluation was seen, so that the mode cannot be right.")
        sentence, numbers = run.mode_wrong
        return Outcome({"": 1.0, TRAINED_IN_EVALUATION: 0.7}.get(sentence, 0.0), sentence, numbers)

    def test_split(self, replies: Replies, context: Context) -> Outcome:
        """Every test image at every evaluation, and none in training."""
        run = self.run(replies, "script", context)
        if run is None or not (run := self.training_run(replies, context)).trains:
            return replace(self.no_training(replies, run, context), follows=self.broken_by(run))
        if run.images_wrong:
            return Outcome(0.0, run.images_wrong)
        run = self.evaluating(run, replies, context)
        evaluations = dict(run.evaluations)
        if run.error and run.in_evaluation and evaluations[max(evaluations)] < NEARLY * TEST_IMAGES:
            del evaluations[max(evaluations)]  # the one that the run was stopped in
        if not evaluations:
            return Outcome(0.0, run.status or "No evaluation on the test split was seen: accuracy is measured on the "
                                              "training split or not at all.", follows=self.broken_by(run))
        fewest = min(evaluations.values())
        if fewest < NEARLY * TEST_IMAGES:
            return Outcome(0.5, "It evaluates only a part of the test split: compute the accuracy over all images.",
                           f"{fewest} of {TEST_IMAGES} different images")
        if run.left_out and run.same_left_out:
            return Outcome(0.5, f"It leaves out the same {run.left_out} test images at every evaluation: compute the "
                                "accuracy over all of them, with the last batch where that is not full.",
                           f"{fewest} of {TEST_IMAGES} different images")
        if not run.measure_wrong and (wrong := run.seen.part_reported(TEST_IMAGES)):
            return Outcome(0.5, wrong)
        remark = (f"Each evaluation leaves out {run.left_out} or more of {TEST_IMAGES} test images, others each time. "
                  "That costs no points; with a last batch that is not full it would be over all of them.")
        return Outcome(1.0, remark * bool(run.left_out), compared=True)  # the number of bright marks was: see `Run`


def among(values: Any, most: int = 6) -> str:
    """The different values, in words."""
    texts = list(dict.fromkeys("x".join(map(str, v)) if isinstance(v, list | tuple) else str(v) for v in values))
    return ", ".join(texts[:most]) + (", ..." if len(texts) > most else "") or "no"
