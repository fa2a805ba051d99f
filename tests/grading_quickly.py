"""Grades hand-ins of one's own without a sandbox, each probe in a forked child: for tests of single checks.

    python tests/grading_quickly.py 1.2 3.1 seed=public -- folder folder ...     # [{folder: {check: text}}] as JSON
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
OUTPUT, CLASS = np.array([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]]), np.array([[0, 1, 0], [1, 0, 0]])
LOSSES = {"log-probabilities": -CLASS / 2, "probabilities": -CLASS / 2 / OUTPUT}  # their gradients at OUTPUT


def found(numbers: list[str], hand_ins: dict[str, dict[str, str]], loss: str = "",
          skipped: str = "", without: str = "") -> dict[str, dict[str, str]]:
    """{hand-in: {check: diagnosis}} of the checks that are not passed; hand-ins are {file without .py: text}.

    A check's name is that of the rubric, with its question where several are asked. Scripts are not run.
    loss: what the loss of the hand-ins' scripts reads, a key of LOSSES. skipped: a probe that is not run. without: a
    check that is left out.
    """
    [answer] = found_in_classes(numbers, hand_ins, ["public"], f"loss={loss}", f"skipped={skipped}", f"without={without}")
    return answer


def found_in_classes(numbers: list[str], hand_ins: dict[str, dict[str, str]], seeds: Sequence[str],
                     *options: str) -> list[dict[str, dict[str, str]]]:
    """What `found` says where inputs are drawn from each of these seeds."""
    with tempfile.TemporaryDirectory() as folder:
        for name, files in hand_ins.items():
            (Path(folder) / name).mkdir(parents=True)
            for file, text in files.items():
                (Path(folder) / name / f"{file}.py").write_text(text)
        words = [*numbers, *(f"seed={seed}" for seed in seeds), *options]
        command = [sys.executable, __file__, *words, "--", *(str(Path(folder) / name) for name in hand_ins)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False,
                              env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"})
        assert done.returncode == 0, done.stderr
        return [{Path(path).name: failed for path, failed in answer.items()}
                for answer in json.loads(done.stdout.splitlines()[-1])]


def main(words: list[str], folders: list[str]) -> None:
    from test_grading_probes import Trusting

    from grading import expected
    from grading.checks import Context
    from grading.inputs import Inputs
    from grading.submission import QUESTIONS
    from grading.worker import serve

    numbers, options = [word for word in words if "=" not in word], [word.split("=") for word in words if "=" in word]
    nowhere = {"none": Path("nowhere")}  # a script that is asked for its arguments must not fetch data
    contexts = [Context(nowhere, np.zeros(0), np.zeros(0), False, expected=expected.values(inputs), inputs=inputs)
                for inputs in [Inputs(value) for name, value in options if name == "seed"]]
    serve.preload(any(QUESTIONS[number].torch for number in numbers))
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() not in (ROOT, ROOT / "tests")]
    print(json.dumps([{folder: not_passed(numbers, Trusting(Path(folder)), context, dict(options)) for folder in folders}
                      for context in contexts]))


def not_passed(numbers: list[str], hand_in: Any, context: Any, options: dict[str, str]) -> dict[str, str]:
    """{check: diagnosis} of a hand-in, whose probes `Trusting` runs."""
    from grading.checks import Replies
    from grading.sandbox import Reply
    from grading.submission import QUESTIONS

    answer: dict[str, str] = {}
    for number in numbers:
        question = QUESTIONS[number]
        probes = {name: probe for name, probe in question.asked(question.own_checks, context).items()
                  if name != options.get("skipped")}
        replies = Replies(hand_in.run(hand_in.work, probes, None, context.data, question.torch))
        if loss := options.get("loss"):
            replies["script"] = Reply({"output": OUTPUT, "output gradient": LOSSES[loss]})
        for check in question.own_checks:
            if check == options.get("without"):
                continue
            outcome = question.outcome(check, replies, context)
            if not outcome.passed:
                name = f"{number} {check}" if len(numbers) > 1 else check
                answer[name] = f"{outcome.diagnosis} ({outcome.numbers}; {outcome.fraction:.2f})" + (
                    f" [follows from {', '.join(outcome.follows)}]" if outcome.follows else "")
    return answer


if __name__ == "__main__":
    here = sys.argv.index("--")
    main(sys.argv[1:here], sys.argv[here + 1:])
