"""Compares what a submission answered with what is right, and says so in one sentence and in numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from grading.replies import Reply

SHAPE = re.compile(r"invalid gradient at index (\d+) - got (\[[\d, ]*\]) but expected shape compatible with (\[.*?\])")
GRADIENTS = re.compile(r"returned an incorrect number of gradients \(expected (\d+), got (\d+)\)")
CRASH = re.compile(r"It (?:raises|stopped .*?:) (\w+)\b.* (\([^()]+, line \d+\))\.$")
TOLERANCE = 3e-4  # relative; a wrong formula is off by far more, float32 inside a submission by less


@dataclass(frozen=True)
class Outcome:
    """What a check found: the fraction of its points, a sentence a student can act on, and the numbers behind it.

    diagnosis: what is wrong; of a check that has all its points, why it was not judged.
    shares: whether the parts of the check are things of their own, such as the flags of a script, so that each that is
    right keeps its share. Otherwise a check that is passed in part earns at most what the rubric's `partial` says.
    compared: whether numbers that were drawn for this class are behind it.
    follows: the ids of the checks of which a failure may be the consequence, ANY for all others of its question.
    """

    fraction: float
    diagnosis: str = ""
    numbers: str = ""
    shares: bool = False
    follows: tuple[str, ...] = ()
    compared: bool = False

    @property
    def passed(self) -> bool:
        return self.fraction >= 1

    @property
    def unjudged(self) -> bool:
        """Whether it has its points without having been judged."""
        return self.passed and bool(self.diagnosis)


PASSED = Outcome(1.0)
ANY = ("any other check",)
Suspects = Sequence[tuple[np.ndarray, str]]


def all_of(*outcomes: Outcome) -> Outcome:
    """The mean of several, with what the first one that failed says."""
    failed = next((outcome for outcome in outcomes if not outcome.passed), None)
    if failed is None:
        return Outcome(1.0, "", next((outcome.numbers for outcome in outcomes if outcome.numbers), ""),
                       compared=any(outcome.compared for outcome in outcomes))
    return Outcome(sum(outcome.fraction for outcome in outcomes) / len(outcomes), failed.diagnosis, failed.numbers,
                   compared=any(outcome.compared for outcome in outcomes))


def share(items: Mapping[str, Outcome | bool]) -> Outcome:
    """One point an item: the fraction that is right, and the sentences of all that are not.

    Items: {sentence for the failure: whether it is right}.
    """
    failed = [(sentence, item) for sentence, item in items.items()
              if not (item.passed if isinstance(item, Outcome) else item)]
    sentences = [(item.diagnosis if isinstance(item, Outcome) else "") or sentence for sentence, item in failed]
    numbers = next((item.numbers for _, item in failed if isinstance(item, Outcome) and item.numbers), "")
    return Outcome(1 - len(failed) / len(items), "; ".join(dict.fromkeys(sentences)), numbers, shares=True)


def squeezed(array: np.ndarray) -> tuple[int, ...]:
    return tuple(n for n in array.shape if n != 1)


def relative_errors(expected: np.ndarray, received: np.ndarray) -> np.ndarray:
    """|expected - received| over the larger of the two, and over 1/100 of the largest expected number at least."""
    with np.errstate(all="ignore"):
        size = np.maximum(np.maximum(np.abs(expected), np.abs(received)), 1e-2 * np.abs(expected).max(initial=0))
        errors = np.abs(expected - received) / np.maximum(size, 1e-12)
    return np.where(np.isfinite(received), errors, np.inf)


def close(expected: np.ndarray, received: np.ndarray, tolerance: float = TOLERANCE) -> bool:
    """Same numbers in the same shape, axes of length 1 aside."""
    if squeezed(expected) != squeezed(received):
        return False
    return bool((relative_errors(expected, received.reshape(expected.shape).astype(float)) <= tolerance).all())


def factor(expected: np.ndarray, received: np.ndarray, tolerance: float = TOLERANCE) -> float | None:
    """What every number was multiplied by; None where that differs, or is 1, or where too few numbers can tell."""
    if squeezed(expected) != squeezed(received) or np.count_nonzero(expected) < 3:
        return None
    received = received.reshape(expected.shape).astype(float)
    found = float(np.median(received[expected != 0] / expected[expected != 0]))
    if not np.isfinite(found) or abs(found) < 1e-9 or abs(found - 1) < 1e-2:
        return None
    return found if close(found * expected, received, tolerance) else None


def describe(expected: np.ndarray, received: np.ndarray) -> str:
    """Where the largest error is, its size, expected, received.

    The size is relative where it follows from the two numbers, absolute for a number that is close to 0.
    """
    received = received.reshape(expected.shape).astype(float)
    errors = relative_errors(expected, received)
    where = np.unravel_index(int(errors.argmax()), errors.shape)
    difference = abs(expected[where] - received[where])
    if not np.isfinite(difference):
        size = "not a finite number"
    elif difference <= 1.01 * errors[where] * max(abs(expected[where]), abs(received[where])):
        size = f"largest relative error {errors[where]:.1e}"
    else:
        size = f"largest error {difference:.1e}"
    place = f" at [{', '.join(str(int(i)) for i in where)}]" if where else ""
    return f"{size}{place}: expected {expected[where]:.6g}, received {received[where]:.6g}"


def judge(reply: Reply, name: str, expected: np.ndarray, sentence: str, tolerance: float = TOLERANCE,
          suspects: Suspects = ()) -> Outcome:
    """Compare the array `name` of a reply with `expected`.

    sentence: the diagnosis when they differ, unless a suspect (the numbers of a well-known mistake) explains it. A
    constant factor is named as well.
    """
    expected = np.asarray(expected, float)
    if name not in reply.arrays:
        return Outcome(0.0, missing(reply, name))
    received = reply.arrays[name]
    if close(expected, received, tolerance):
        return Outcome(1.0, "", describe(expected, received) if expected.size else "", compared=True)
    for wrong, explanation in suspects:
        if close(np.asarray(wrong, float), received, tolerance):
            numbers = describe(expected, received) if squeezed(expected) == squeezed(received) else shapes(
                expected, received)
            return Outcome(0.0, explanation, numbers)
    if squeezed(expected) != squeezed(received):
        return Outcome(0.0, sentence, shapes(expected, received))
    if multiple := factor(expected, received, tolerance):
        sentence = f"{sentence} Every number is {multiple:.4g} times the right one: look for a factor.".lstrip()
    return Outcome(0.0, sentence, describe(expected, received))


def judge_by(expected: Mapping[str, np.ndarray], key: str, reply: Reply, name: str, sentence: str,
             suspects: Mapping[str, str] | None = None, tolerance: float = TOLERANCE) -> Outcome:
    """`judge` against recorded numbers: `expected[key]` is right, `expected[f"{key}: {mistake}"]` a known mistake's.

    suspects: {mistake: its sentence}.
    """
    known = [(expected[f"{key}: {mistake}"], text) for mistake, text in (suspects or {}).items()]
    return judge(reply, name, expected[key], sentence, tolerance, known)


def shapes(expected: np.ndarray, received: np.ndarray) -> str:
    return f"expected shape {expected.shape}, received {received.shape}"


def missing(reply: Reply, name: str = "") -> str:
    """Why a reply lacks something, as a sentence. Without a name, what failed first of all that was tried."""
    tried = (name, name.partition(" ")[0]) if name or reply.error else (
        key.removesuffix(" failed") for key in reply.notes if key.endswith(" failed"))
    for part in tried:
        note = reply.notes.get(f"{part} failed")
        if isinstance(note, str):
            return error_sentence(note[:400])
    if f"{name} is" in reply.notes:
        return f"It returns {str(reply.notes[f'{name} is'])[:40]} where an array of numbers is expected."
    if reply.error is None:
        return "It returned nothing where an array of numbers is expected."
    return error_sentence(reply.error)


def error_sentence(error: str) -> str:
    if error.startswith("Absent: "):
        return f"{error.removeprefix('Absent: ').rstrip('.')}."
    if error.startswith(("stopped", "not run", "the ")):
        return f"{error[0].upper()}{error[1:]}."
    if error.startswith("NotImplementedError"):
        return f"It is not implemented{error[error.rfind(' ('):] if error.endswith(')') else ''}."
    if count := GRADIENTS.search(error):
        return (f"backward returns {count[2]} values, but forward takes {count[1]} inputs: return one for each, and "
                "None for those without a gradient, such as eps.")
    if found := SHAPE.search(error):
        return (f"backward returns a gradient of shape {found[2]} for argument {int(found[1]) + 1} of forward, which "
                f"is of shape {found[3]}: check what is summed and over what.")
    return f"It raises {error}."


def failed(reply: Reply) -> Outcome:
    """Zero, with what ended the probe."""
    return Outcome(0.0, missing(reply))


def told_once(told: dict[Any, str], title: str, diagnosis: str) -> str:
    """What is said of the check `title`; of a crash that another one tells, where that is. told: {crash: title} so far.

    Of one and the same line, whatever the sizes are there.
    """
    crash = CRASH.search(diagnosis)
    if not crash or (first := told.setdefault(crash.groups(), title)) == title:
        return diagnosis
    return diagnosis.replace(crash[0], f"The same error as in '{first}'.")
