"""The file for Gradescope, tried in the folders that Gradescope lays out, with namespaces and without."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from grading_help import MODULES, needs_confinement, submission

from grading import rubric
from grading.cli import main
from grading.confinement import ConfinementError
from grading.container import Contained
from grading.replies import Limits, Probe
from grading.sandbox import Sandbox
from grading.worker.container import processes

pytestmark = [pytest.mark.grading]
INIT = {"init": Probe("linear_init", options={"in": 3, "out": 2})}
FAULTY = MODULES.replace("axis=0, keepdims", "axis=1, keepdims")


def why_not_contained() -> str:
    """Why no submission can be run here in a container's way; '' where it can."""
    try:
        with Contained(["sh", "-c", "exec sleep 60"], {}, 1):
            return "" if shutil.which("bwrap") else "bubblewrap is not installed"  # whose refusal is what is tried
    except (ConfinementError, OSError) as error:
        return str(error)


needs_root = pytest.mark.skipif(bool(why_not_contained()), reason=why_not_contained())


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("packed") / "autograder.zip"
    assert main("", ["--autograder", str(path)]) == 0
    return path


def test_it_holds_the_rubric_that_was_given(tmp_path):
    text = rubric.DEFAULT.read_text().replace('title = "', 'title = "Ours: ', 1)
    (tmp_path / "ours.toml").write_text(text)
    assert main("", ["--autograder", str(tmp_path / "a.zip"), "--rubric", str(tmp_path / "ours.toml")]) == 0
    with zipfile.ZipFile(tmp_path / "a.zip") as file:
        assert file.read("grading/rubric.toml").decode() == text


@pytest.mark.parametrize("task", ["--autograder", "--starter"])
def test_a_rubric_that_the_grader_cannot_use_is_refused(tmp_path, capsys, task):
    (tmp_path / "ours.toml").write_text(rubric.DEFAULT.read_text().replace('"linear_forward"', '"linear"'))
    assert main("", [task, str(tmp_path / "made"), "--rubric", str(tmp_path / "ours.toml")]) == 2
    assert "question 1.2 has no check 'linear'" in capsys.readouterr().err and not (tmp_path / "made").exists()


@pytest.fixture
def refused(tmp_path) -> dict[str, str]:
    """An environment in which the kernel refuses namespaces, as bubblewrap would say it."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "bwrap").write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2; exit 1\n")
    (tmp_path / "bin" / "bwrap").chmod(0o755)
    return {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}


class Gradescope:
    """/autograder as Gradescope lays it out for one submission, somewhere else."""

    def __init__(self, root: Path, packed: Path):
        self.root, self.results = root, root / "results" / "results.json"
        (root / "results").mkdir(parents=True)
        with zipfile.ZipFile(packed) as file:
            file.extractall(root / "source")
        shutil.copy(root / "source" / "run_autograder", root / "run_autograder")
        (root / "submission_metadata.json").write_text(json.dumps({"id": 1, "users": [{"email": "doe@example.org"}]}))

    def run(self, **environment: str) -> subprocess.CompletedProcess:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        return subprocess.run(["bash", self.root / "run_autograder"], capture_output=True, text=True, cwd="/", env=kept | {
            "AUTOGRADER_ROOT": str(self.root), "AUTOGRADER_PYTHON": sys.executable} | environment)

    def tests(self) -> dict[str, dict]:
        return {test["number"]: test for test in json.loads(self.results.read_text())["tests"]}


@pytest.fixture
def gradescope(tmp_path, packed) -> Gradescope:
    return Gradescope(tmp_path / "autograder", packed)


def test_scripts_are_shell_and_run_without_a_repository(packed, tmp_path):
    with zipfile.ZipFile(packed) as file:
        file.extractall(tmp_path)
        modes = {info.filename: info.external_attr >> 16 for info in file.infolist()}
    assert modes["run_autograder"] & 0o111 and modes["setup.sh"] & 0o111 and not modes["grade.py"] & 0o111
    for name in ("run_autograder", "setup.sh"):
        assert subprocess.run(["bash", "-n", tmp_path / name]).returncode == 0
    assert not any("__pycache__" in name or name.startswith("grading/gradescope/") for name in modes)
    done = subprocess.run([sys.executable, "-B", tmp_path / "grade.py", "--help"], capture_output=True, cwd="/")
    assert done.returncode == 0, done.stderr


@needs_confinement
def test_a_good_a_faulty_and_an_unreadable_submission(gradescope):
    submission(gradescope.root / "submission", modules=MODULES)
    done = gradescope.run()
    assert done.returncode == 0, done.stderr
    good = gradescope.tests()["1.2"]
    shutil.rmtree(gradescope.root / "submission")
    submission(gradescope.root / "submission", modules=FAULTY)
    assert gradescope.run().returncode == 0
    faulty = gradescope.tests()["1.2"]
    assert 0 < faulty["score"] < good["score"]
    assert "It is summed over the features (axis 1)" in faulty["output"] and faulty["output"] != good["output"]
    shutil.rmtree(gradescope.root / "submission")
    (gradescope.root / "submission").mkdir()
    (gradescope.root / "submission" / "notes.txt").write_text("sorry")
    assert gradescope.run().returncode == 0
    results = json.loads(gradescope.results.read_text())
    assert results["score"] == 0 and "modules.py" in results["output"]  # the student's fault, and said


@needs_root
def test_without_namespaces_the_container_is_relied_on(gradescope, refused):
    submission(gradescope.root / "submission", modules=FAULTY)
    assert gradescope.run().returncode == 0
    inside = gradescope.tests()["1.2"]
    done = gradescope.run(**refused)
    assert done.returncode == 0, done.stderr
    assert "the container alone confines submissions" in done.stderr and "No permissions" in done.stderr
    assert gradescope.tests()["1.2"] == inside and inside["score"] > 0


@pytest.mark.parametrize("cause", ["not asked for", "no interpreter"])
def test_what_cannot_be_graded_has_no_score(gradescope, refused, cause):
    submission(gradescope.root / "submission", modules=MODULES)
    gradescope.results.write_text('{"score": 57}')  # of an earlier try
    script = gradescope.root / "run_autograder"
    if cause == "not asked for":
        script.write_text(script.read_text().replace(" --container --out", " --out"))
        done = gradescope.run(**refused)
    else:
        done = gradescope.run(AUTOGRADER_PYTHON="/nowhere/python")
    assert done.returncode != 0 and "not graded" in done.stderr
    assert not gradescope.results.exists()  # Gradescope then says that the autograder failed, and gives no score


def test_container_is_for_one_submission_and_never_the_default(tmp_path, capsys, monkeypatch, refused):
    with pytest.raises(SystemExit):
        main("", [str(submission(tmp_path / name)) for name in ("a", "b")] + ["--container"])
    assert "exactly one submission" in capsys.readouterr().err
    monkeypatch.setenv("PATH", refused["PATH"])
    assert main("", [str(tmp_path / "a"), "--out", str(tmp_path / "out")]) == 2
    assert "bubblewrap does not start here" in capsys.readouterr().err and not (tmp_path / "out" / "students").exists()


def test_without_root_the_container_is_not_enough(monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    with pytest.raises(ConfinementError, match="takes root"):
        Contained(["true"], {}, 1)


SPY = """
import json, os, signal, subprocess, sys, time
found = {"uid": os.getuid()}
for path in PATHS:
    for what, mode in (("read", "r"), ("write", "a")):
        try:
            open(path, mode).close()
            found[f"{what} {os.path.basename(path)}"] = True
        except OSError:
            pass
for number in (os.getppid(), GRADER):
    try:
        os.kill(number, 0 if number != GRADER else signal.SIGTERM)
    except OSError:
        pass
if os.fork() == 0:
    os.setsid()
    while True:
        time.sleep(0.1)
try:
    os.setuid(0)
    found["root"] = True
except OSError:
    pass
raise ValueError(json.dumps(found))
"""


@needs_root
def test_what_a_container_holds(tmp_path, refused, monkeypatch):
    """The submission cannot read the grader, touch its results, end it, become root, or leave a process behind."""
    monkeypatch.setenv("PATH", refused["PATH"])
    tmp_path.chmod(0o700)
    secret = tmp_path / "results.json"
    secret.write_text("{}")
    paths = [str(secret), str(tmp_path / "new"), "/etc/shadow"]
    spy = SPY.replace("PATHS", repr(paths)).replace("GRADER", str(os.getpid()))
    code, work = submission(tmp_path / "code", modules=spy), tmp_path / "work"
    work.mkdir(mode=0o700)
    monkeypatch.setattr("grading.container.PACKAGE", work)  # the grader's own folder: a developer's may be open to all
    with Sandbox(work, container=True) as sandbox:
        assert "container alone" in sandbox.warnings()[0]
        reply = sandbox.run(code, INIT, Limits(seconds=20), {}, False)["init"]
    assert reply.error and reply.error.startswith("ValueError: {"), reply
    found = json.loads(reply.error.removeprefix("ValueError: ").partition(" (modules.py")[0])
    assert set(found) == {"uid"} and 50_000 <= found["uid"] < 60_000
    assert secret.read_text() == "{}" and not (tmp_path / "new").exists()
    assert not processes(found["uid"])


@needs_root
@pytest.mark.parametrize("gone, reason", [
    ("setpriv", "this runs as root|it has capabilities"), ("--no-new-privs", "may gain|gain privileges"),
    ("a readable grader", "can be read: allow nobody but root")])
def test_each_protection_of_a_container_is_missed_when_it_is_gone(gone, reason, tmp_path, refused, monkeypatch):
    monkeypatch.setenv("PATH", refused["PATH"])
    work = tmp_path / "work"
    work.mkdir(mode=0o700)
    real = subprocess.Popen
    monkeypatch.setattr("grading.container.PACKAGE", Path("/usr") if gone == "a readable grader" else work)

    def start(line, **options):
        if line[0] == "setpriv":
            line = line[line.index("--") + 1:] if gone == "setpriv" else [part for part in line if part != gone]
        return real(line, **options)

    monkeypatch.setattr("grading.container.subprocess.Popen", start)
    code = submission(tmp_path / "code", modules=f"open({str(tmp_path / 'executed')!r}, 'w')")
    with Sandbox(work, container=True) as sandbox:
        sandbox._tried, sandbox._worker = gone != "--no-new-privs", Contained
        with pytest.raises(ConfinementError, match=reason):
            sandbox.run(code, INIT, Limits(seconds=5), {}, False)
    assert not (tmp_path / "executed").exists()
