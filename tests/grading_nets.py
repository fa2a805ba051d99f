"""Asks and judges hand-ins' networks without confinement: `python tests/grading_nets.py NUMBER FOLDER ...` prints JSON.

For hand-ins of the tests' own, which may be trusted: a process that has PyTorch answers for many of them in seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from grading_help import ROOT
from test_grading_probes import Trusting

from grading import expected
from grading.checks import Context, Replies
from grading.replies import Reply
from grading.submission import QUESTIONS
from grading.worker import serve

OUTPUT = np.array([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]])
CLASS = np.array([[0, 1, 0], [1, 0, 0]])
GRADIENTS = {"log-probabilities": -CLASS / 2, "probabilities": -CLASS / 2 / OUTPUT}  # of what a script's loss reads


def judged(number: str, folders: list[Path], loss: str = "") -> dict[str, dict[str, list]]:
    """{folder's name: {check: (fraction, diagnosis, numbers)}}, in a process of its own and without training.

    loss: what the loss of the hand-ins' scripts reads, as `networks.reading` finds it; no script is run.
    """
    done = subprocess.run([sys.executable, __file__, number, loss, *map(str, folders)], cwd=ROOT, capture_output=True,
                          text=True, env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def main(number: str, loss: str, folders: list[str]) -> None:
    serve.preload(True)
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() not in (ROOT, ROOT / "tests")]
    question, found = QUESTIONS[number], {}
    context = Context({}, np.zeros(0), np.zeros(0), False, expected=expected.values())
    with tempfile.TemporaryDirectory() as work:
        for folder in map(Path, folders):
            probes = {name: probe for name, probe in question.probes(context).items() if name != "training"}
            replies = Replies(Trusting(Path(work)).run(folder, probes, None, {}, True))
            if loss:
                replies["script"] = Reply({"output": OUTPUT, "output gradient": GRADIENTS[loss]})
            outcomes = {check: question.outcome(check, replies, context) for check in question.own_checks if check != "convnet_learns"}
            found[folder.name] = {name: (o.fraction, o.diagnosis, o.numbers) for name, o in outcomes.items()}
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
