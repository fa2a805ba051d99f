"""What the checks of all questions share: a question's probes and checks, and what they may know."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from grading.compare import ANY, Outcome
from grading.inputs import Inputs
from grading.replies import Probe, Reply
from grading.rubric import Check


@dataclass(frozen=True)
class Context:
    """What a grading run has at hand, the same for every submission.

    data: folders of data sets, by the name that workers know them by. hidden_images: float32 (N, 3072), less the mean
    image, whose labels (N,) no worker sees. real: whether they are CIFAR-10 or the small stand-in.
    accuracy: per question, the bounds of the rubric. accuracy_seconds: for a training run on real data. expected: what
    is right for `inputs`, and what well-known mistakes give instead, by name (`grading.expected`).
    """

    data: Mapping[str, Path]
    hidden_images: np.ndarray
    hidden_labels: np.ndarray
    real: bool
    accuracy: Mapping[str, Any] = field(default_factory=dict)
    accuracy_seconds: float = 400
    expected: Mapping[str, np.ndarray] = field(default_factory=dict)
    inputs: Inputs = field(default_factory=Inputs)


NOTHING_COMPARED = "Not judged: no number that this question was asked for is right."


class Replies(dict[str, Reply]):
    """Replies by probe; one that is not there was not run."""

    def __missing__(self, name: str) -> Reply:
        return Reply(error="not run: no answer")


def imported_in_vain(replies: Replies) -> list[str]:
    """Modules that are imported and are not there. An import that nobody uses is excused, and costs nothing."""
    said = [reply.notes.get("missing") for reply in replies.values()]
    return sorted({str(name)[:60] for names in said if isinstance(names, list) for name in names})


def not_there(module: str) -> str:
    return (f"Python stops where {module} is imported, which is not there: hand in {module}.py with the code, or "
            "remove the import.")


LEFT = {  # of the machine that a submission was written on, by what the worker calls it
    "breakpoint": "A breakpoint is left in the code: the checks pass it over, but remove it.",
    "GPU": "The code takes a GPU for granted: ask torch.cuda.is_available(). The checks ran it on the processor.",
    "data": "The path of the data is one of your own machine: take it from --data_dir. The checks put theirs there.",
    "notebook": "The code imports google.colab, which Colab alone has: remove it. The checks pass it over."}


def remarks(replies: Replies) -> list[str]:
    """What costs nothing, and is better removed."""
    said = [reply.notes.get("left") for reply in replies.values()]
    left = {str(name) for names in said if isinstance(names, list) for name in names}
    return [*map(not_there, imported_in_vain(replies)), *(text for name, text in LEFT.items() if name in left)]


CheckFunction = Callable[[Replies, Context], Outcome]


class TrainingScript(Protocol):
    """What a question needs of its script (`checks_scripts.Script`)."""

    @property
    def file(self) -> str: ...

    @property
    def checks(self) -> Mapping[str, CheckFunction]: ...

    def probes(self, context: Context) -> dict[str, Probe]: ...


@dataclass(frozen=True)
class Question:
    """A code question: what to ask a worker, and what each check makes of the answers.

    torch: whether its worker may use PyTorch. file: what most of its probes run. script: the training script and its
    checks, where it has one. more_files: what is handed in besides.
    """

    number: str
    torch: bool
    file: str
    probes: Callable[[Context], dict[str, Probe]]
    own_checks: Mapping[str, CheckFunction]
    script: TrainingScript | None = None
    more_files: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """What is handed in for it."""
        return (self.file, *self.more_files, *((self.script.file,) if self.script else ()))

    @property
    def checks(self) -> dict[str, CheckFunction]:
        return {**self.own_checks, **(self.script.checks if self.script else {})}

    def asked(self, checks: Collection[str], context: Context) -> dict[str, Probe]:
        """The probes for `checks`, each with the file it cannot do without: its own, else the question's.

        The training script, which takes longest, is left alone when none of its checks is among them.
        """
        probes = self.probes(context)
        if self.script and set(checks) & set(self.script.checks):
            probes |= self.script.probes(context)
        return {name: replace(probe, needs=probe.needs or self.file) for name, probe in probes.items()}

    def judged(self, checks: Collection[Check], replies: Replies, context: Context) -> dict[str, Outcome]:
        """{id: outcome} of the rubric's `checks`. One fault costs one share, once: see `settled`.

        What a submission says of itself can be forged, so that it counts only beside an answer that was compared.
        """
        found = {check.id: self.outcome(check.id, replies, context) for check in checks}
        if not any(outcome.compared for outcome in found.values()):
            why = next((f"Not judged before '{check.title}' is right." for check in checks
                        if check.points and found[check.id].diagnosis), NOTHING_COMPARED)
            found = {id: replace(outcome, fraction=0.0) if outcome.diagnosis else Outcome(0.0, why)
                     for id, outcome in found.items()}
        return settled(checks, found)

    def outcome(self, check: str, replies: Replies, context: Context) -> Outcome:
        """The outcome of a check; an answer that the check itself stumbles over earns nothing."""
        try:
            return self.checks[check](replies, context)
        except MemoryError:
            raise  # trouble of the grader, not of the answers
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            return Outcome(0.0, "The answers of the code have an unexpected form.",
                           f"{type(error).__name__} in {Path(last.filename).name}, line {last.lineno}")


def settled(checks: Collection[Check], outcomes: Mapping[str, Outcome]) -> dict[str, Outcome]:
    """The outcomes, in which a failure that follows from another check's costs nothing.

    Only where at least a third of the other points are earned: a hand-in in which little is right has little to keep.
    """
    alone = [check for check in checks if outcomes[check.id].passed or not outcomes[check.id].follows]
    earned = sum(check.points * outcomes[check.id].fraction for check in alone)
    if 3 * earned < sum(check.points for check in alone):
        return dict(outcomes)
    found = dict(outcomes)
    for id, outcome in outcomes.items():
        cause = next((check for check in alone if check.points and not outcomes[check.id].passed
                      and (outcome.follows == ANY or check.id in outcome.follows)), None)
        if not outcome.passed and cause:
            found[id] = Outcome(1.0, f"Not judged: it follows from what is wrong in '{cause.title}'.")
    return found
