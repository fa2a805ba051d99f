"""The worker's probes without confinement, on the reference alone, which may be trusted: they are tried where bubblewrap
is not, and what of them is run is counted. Everything else that runs a submission is tested confined.
"""

import contextlib
import errno
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from grading_help import ROOT
from grading_mutants import copy_reference

from grading import datasets, rubric
from grading.files import whereabouts
from grading.replies import Limits, read_reply
from grading.sandbox import Sandbox
from grading.submission import QUESTIONS, Submission, ask, judge
from grading.worker import packages, serve, student

pytestmark = [pytest.mark.grading, pytest.mark.timeout(900)]


class Trusting(Sandbox):
    """Runs each probe in a child of this process and nothing around it."""

    def _run(self, code, probes, limits, data, torch):
        return {name: self.one(name, probe, code, {key: str(path) for key, path in data.items()})
                for name, probe in probes.items()}

    @staticmethod
    def one(name, probe, code, data):
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            reply, arrays, log = (stack.enter_context(os.fdopen(os.memfd_create(kind), "w+b", buffering=0))
                                  for kind in ("reply", "arrays", "log"))
            shutil.copytree(code, folder / "code")
            if not (pid := os.fork()):
                try:
                    os.dup2(log.fileno(), 1)
                    os.dup2(log.fileno(), 2)
                    os.chdir(folder / "code")
                    sys.path.append(str(folder / "code"))
                    student.answer({"function": probe.function, "options": dict(probe.options)}, dict(probe.arrays), data,
                                   reply.fileno(), arrays.fileno())
                finally:
                    os._exit(0)
            os.waitpid(pid, 0)
            parts = [serve.read(file, 2**26) for file in (reply, arrays, log)]
        status = {"name": name, "end": "ended", "code": 0, "seconds": 0, "sizes": [len(part) for part in parts]}
        return read_reply(io.BytesIO(json.dumps(status).encode() + b"\n" + b"".join(parts)), name, Limits())


def checks_of(number: str, folder: Path) -> list[dict]:
    """The question's checks of the reference; in a process of its own, which has not imported what it forks to run."""
    rules = rubric.load()
    copy_reference(folder / "reference")
    submission = Submission(folder / "reference", "reference")
    submission.take_in(folder / "taken")
    context = datasets.prepare(folder / "data", rules, None, None)
    serve.preload(QUESTIONS[number].torch)
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() not in (ROOT, ROOT / "tests")]
    row = next(row for row in rules.code if row.number == number)
    judge(submission, row, ask(submission, [row], Trusting(folder), rules, context)[number], 0.0, context)
    return submission.questions[number]["checks"]


@pytest.mark.slow
@pytest.mark.parametrize("number", QUESTIONS)
def test_the_reference_has_every_point_of_a_question(number, tmp_path):
    done = subprocess.run([sys.executable, __file__, number, str(tmp_path)], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}, check=False)
    assert done.returncode == 0, done.stderr
    checks = json.loads(done.stdout.splitlines()[-1])
    assert len(checks) == len(QUESTIONS[number].checks)
    assert [check for check in checks if check["fraction"] < 1] == []


def test_a_worker_sees_that_it_is_not_confined(tmp_path):
    (tmp_path / "canary").touch()
    assert serve.unconfined(str(tmp_path / "canary"), network=False)


def test_outside_a_namespace_a_worker_ends_and_removes_nothing(tmp_path, monkeypatch):
    """A mistake, of a test or of a caller, must not cost the machine its processes or its temporary files."""
    (tmp_path / "kept").touch()
    here = serve.Namespace()
    assert here.others() == [] and not here.shared
    monkeypatch.setattr(serve, "HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home/left").touch()
    serve.Worker({"limits": {}}, {}, None, here).clear()
    assert (tmp_path / "kept").exists() and not (tmp_path / "home/left").exists()


FORKED = """
import os, sys
held = bytearray(b"x") * 2**26
children = []
for _ in range(3):
    if not (child := os.fork()):
        own = bytearray(b"y") * 2**24
        os.write(1, b"ready\\n")  # in one piece
        sys.stdin.read()
        os._exit(0)
    children.append(child)
os.write(1, f"{' '.join(map(str, children))}\\n".encode())
sys.stdin.read()
"""


def test_memory_that_forked_processes_share_counts_once():
    """The workers of a DataLoader have their parent's data: 3 times 2.5 GB, of which nothing is there twice."""
    with subprocess.Popen([sys.executable, "-c", FORKED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as one:
        lines = [one.stdout.readline().split() for _ in range(4)]
        pids = [one.pid, *(int(word) for line in lines for word in line if word != "ready")]
        each, once = serve.used_memory(pids), serve.used_memory(pids, once=True)
        one.stdin.close()
    assert len(pids) == 4 and each > 4 * 2**26 + 3 * 2**24
    assert 2**26 + 3 * 2**24 < once < 2 * 2**26 + 3 * 2**24
    assert serve.used_memory([one.pid], once=True) == 0  # it is gone


def test_a_worker_measures_processes():
    """Only looks: what ends processes is for a namespace of its own."""
    held = np.ones(2**21)
    with os.fdopen(os.memfd_create("held"), "w+b") as file:
        file.write(bytes(2**24))
        file.flush()
        assert serve.used_memory([os.getpid()]) > held.nbytes + 2**24
        assert serve.read(file, 5) == bytes(5)
    assert serve.waiting_seconds([os.getpid()]) >= 0


def test_a_job_without_time_or_room_is_answered(tmp_path, monkeypatch):
    """No child is started for it."""
    def no_room(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "code").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "code/modules.py").write_bytes(bytes(2**20))
    monkeypatch.setattr(serve, "CODE", str(tmp_path / "code"))
    monkeypatch.setattr(serve, "HOME", str(tmp_path / "home"))
    monkeypatch.setattr(shutil, "copytree", no_room)
    for seconds, end in ((0, "no time left"), (5, "no room for the submission's files")):
        out = io.BytesIO()
        probe = {"name": "a", "question": "", "function": "linear", "options": {}, "seconds": 5}
        serve.Worker({"probes": [probe], "limits": {"seconds": seconds, "disk_mb": 1}, "data": {}}, {}, out,
                     serve.Namespace()).run()
        out.seek(0)
        assert read_reply(out, "a", Limits()).error.startswith(end if seconds else "not run")


def test_limits_hold():
    """In a child, for which they are meant."""
    limits = {"memory_mb": 100, "file_mb": 1, "processes": 50}
    code = f"""
import numpy as np, os
from grading.worker import serve
serve.limit(5, {limits})
print(os.write(os.memfd_create("x"), bytes(2**21)))  # a file is cut at its limit
np.ones(2**25)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [str(2**20)] and "MemoryError" in done.stderr


def test_what_a_submission_raises_is_a_note_that_names_the_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("theirs.py").write_text("def f():\n    raise ValueError('no')\n")
    monkeypatch.syspath_prepend(tmp_path)
    task = student.Task({}, {}, {})
    assert task.attempt("f", student.submitted("theirs").f) is None
    task.send("word", "text")
    assert task.notes == {"f failed": "ValueError: no (theirs.py, line 2)", "word is": "str"}
    with pytest.raises(student.Absent, match=r"modules\.py is not in the submission"):
        student.submitted("modules")


def test_a_file_that_is_no_utf_8_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("others.py").write_text("x = 1")
    Path("wide.py").write_text("x = 1", encoding="utf-16")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises((SyntaxError, ValueError)) as error:
        student.submitted("wide")
    assert student.describe(error.value) == "Absent: wide.py has null bytes, as a file saved as UTF-16 does: save it as UTF-8"


def test_a_class_of_another_name_is_pointed_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(packages, "folder", str(tmp_path))
    Path("renamed.py").write_text("from pathlib import Path\nclass VGG:\n    pass\ndef f():\n    return Path.nothing\n")
    monkeypatch.syspath_prepend(tmp_path)
    said = []
    for use in (lambda: student.submitted("renamed").ConvNet, lambda: student.submitted("renamed").f()):
        with pytest.raises(AttributeError) as raised:
            use()
        said.append(student.describe(raised.value))
    assert said == ["Absent: renamed.py has no ConvNet; it has VGG: call it as the assignment does",
                    "AttributeError: type object 'Path' has no attribute 'nothing' (renamed.py, line 5)"]


def test_a_file_of_another_name_is_pointed_out(tmp_path):
    for name in ("custom_layernorm_final.py", "train_convnet.py", "mlp.py", "convnet_pytorch.py"):
        (tmp_path / name).write_text("")
    for name, said in (("custom_layernorm.py", "; if it is custom_layernorm_final.py, name it custom_layernorm.py"),
                       ("train_convnet_pytorch.py", "; if it is train_convnet.py, name it train_convnet_pytorch.py"),
                       ("mlp_numpy.py", ""), ("modules.py", "")):
        assert whereabouts(name, tmp_path, tmp_path) == f"{name} is not in the submission{said}"


if __name__ == "__main__":
    print(json.dumps(checks_of(sys.argv[1], Path(sys.argv[2]))))
