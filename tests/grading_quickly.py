"""Grades hand-ins of one's own without a sandbox, each probe in a forked child: for tests of single checks.

    python tests/grading_quickly.py 1.2 3.1 -- folder folder ...     # prints {folder: {check: [fraction, text]}} as JSON
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
OUTPUT, CLASS = np.array([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]]), np.array([[0, 1, 0], [1, 0, 0]])
LOSSES = {"log-probabilities": -CLASS / 2, "probabilities": -CLASS / 2 / OUTPUT}  # their gradients at OUTPUT


def found(numbers: list[str], hand_ins: dict[str, dict[str, str]], loss: str = "",
          skipped: str = "", without: str = "", seed: str = "public") -> dict[str, dict[str, str]]:
    """{hand-in: {check: diagnosis}} of the checks that are not passed; hand-ins are {file without .py: text}.

    A check's name is that of the rubric, with its question where several are asked. Scripts are not run.
    loss: what the loss of the hand-ins' scripts reads, a key of LOSSES. skipped: a probe that is not run. without: a
    check that is left out. seed: of the inputs.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, files in hand_ins.items():
            (Path(folder) / name).mkdir(parents=True)
            for file, text in files.items():
                (Path(folder) / name / f"{file}.py").write_text(text)
        options = [f"loss={loss}", f"skipped={skipped}", f"without={without}", f"seed={seed}"]
        command = [sys.executable, __file__, *numbers, *options, "--", *(str(Path(folder) / name) for name in hand_ins)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False,
                              env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"})
        assert done.returncode == 0, done.stderr
        return {Path(path).name: failed for path, failed in json.loads(done.stdout.splitlines()[-1]).items()}


def main(words: list[str], folders: list[str]) -> None:
    from test_grading_probes import Trusting

    from grading import expected
    from grading.checks import Context, Replies
    from grading.inputs import PUBLIC, Inputs
    from grading.sandbox import Reply
    from grading.submission import QUESTIONS
    from grading.worker import serve

    options = dict(word.split("=") for word in words if "=" in word)
    loss, skipped, numbers = options.get("loss"), options.get("skipped"), [word for word in words if "=" not in word]
    nowhere = {"none": Path("nowhere")}  # a script that is asked for its arguments must not fetch data
    inputs = Inputs(options.get("seed", PUBLIC))
    context = Context(nowhere, np.zeros(0), np.zeros(0), False, expected=expected.values(inputs), inputs=inputs)
    serve.preload(any(QUESTIONS[number].torch for number in numbers))
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() not in (ROOT, ROOT / "tests")]
    answer: dict[str, dict[str, str]] = {}
    for folder in folders:
        answer[folder] = {}
        for number in numbers:
            question = QUESTIONS[number]
            probes = {name: probe for name, probe in question.asked(question.own_checks, context).items()
                      if name != skipped}
            replies = Replies(Trusting(Path(folder)).run(Path(folder), probes, None, context.data, question.torch))
            if loss:
                replies["script"] = Reply({"output": OUTPUT, "output gradient": LOSSES[loss]})
            for check in question.own_checks:
                if check == options["without"]:
                    continue
                outcome = question.outcome(check, replies, context)
                if not outcome.passed:
                    name = f"{number} {check}" if len(numbers) > 1 else check
                    answer[folder][name] = f"{outcome.diagnosis} ({outcome.numbers}; {outcome.fraction:.2f})" + (
                        f" [follows from {', '.join(outcome.follows)}]" if outcome.follows else "")
    print(json.dumps(answer))


if __name__ == "__main__":
    here = sys.argv.index("--")
    main(sys.argv[1:here], sys.argv[here + 1:])
