"""What the machine lacks is nobody's 0: such a submission is not graded, the exit status says so, and the next run tries again."""

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path

import pytest
from grading_help import MODULES, needs_confinement, reduced, submission

from grading import archive, cli, confinement, datasets, intake, rubric, similarity
from grading.cli import main
from grading.submission import Submission

GRADE = Path(__file__).parent.parent / "grade.py"

pytestmark = [pytest.mark.grading, needs_confinement]
RULES = reduced(["1.2"], scripts=False)


@contextlib.contextmanager
def small_disk(folder: Path, size: str):
    """A file system of this size on `folder`."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
    if done.returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def short_rubric(monkeypatch):
    load = rubric.load
    monkeypatch.setattr(rubric, "load", lambda path=None: RULES if path else load())
    monkeypatch.setattr(datasets, "TRAIN_IMAGES", 500)
    monkeypatch.setattr(datasets, "TEST_IMAGES", 100)


def graded(tmp_path: Path, folder: Path):
    """The record, by grade.py's own main: (exit status, record)."""
    status = main("", [str(folder), "--out", str(tmp_path / "out"), "--jobs", "1",
                       "--results", str(tmp_path / "results.json")])
    path = tmp_path / "out" / "students" / folder.name / "record.json"
    return status, json.loads(path.read_text()) if path.exists() else None


def assert_tried_again(tmp_path: Path, folder: Path, capsys) -> None:
    """After the trouble: graded, and every check is passed."""
    status, record = graded(tmp_path, folder)
    said = capsys.readouterr().err
    assert status == 0 and ", graded before" not in said, said
    assert not record["questions"]["1.2"].get("ungraded") and not record["error"]
    assert all(check["fraction"] == 1 for check in record["questions"]["1.2"]["checks"])


def assert_not_graded(status: int, record: dict, capsys) -> None:
    said = capsys.readouterr().err
    assert status == 1 and "Traceback" not in said, said
    assert record["questions"]["1.2"]["ungraded"], record
    assert "ungraded" in said or "not graded" in said or "could not be" in said, said


def test_a_full_temporary_folder(tmp_path, monkeypatch, capsys, short_rubric):
    folder = submission(tmp_path / "doe")
    with small_disk(tmp_path / "tmp", "10M") as disk:
        monkeypatch.setattr(tempfile, "tempdir", str(disk))
        take_in = intake.take_in

        def fill(*arguments) -> None:
            with contextlib.suppress(OSError), open(disk / "junk", "wb") as file:
                while True:
                    file.write(bytes(2**20))
            take_in(*arguments)

        monkeypatch.setattr(intake, "take_in", fill)
        assert_not_graded(*graded(tmp_path, folder), capsys)
        monkeypatch.setattr(intake, "take_in", take_in)
        (disk / "junk").unlink()
        assert_tried_again(tmp_path, folder, capsys)


def test_a_temporary_folder_that_is_full_from_the_start(tmp_path, monkeypatch, capsys, short_rubric):
    folder = submission(tmp_path / "doe")
    with small_disk(tmp_path / "tmp", "100K") as disk:
        monkeypatch.setattr(tempfile, "tempdir", str(disk))
        status, record = graded(tmp_path, folder)
        said = capsys.readouterr().err
        assert status == 2 and record is None and "No space left" in said and "Traceback" not in said
        assert not list(disk.iterdir())


@contextlib.contextmanager
def descriptors(left: int):
    """Only so many more files can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(map(int, os.listdir("/proc/self/fd"))) + 1
    opened: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        with contextlib.suppress(OSError):
            while True:
                opened.append(os.open("/dev/null", os.O_RDONLY))
        resource.setrlimit(resource.RLIMIT_NOFILE, (most + left, hard))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in opened:
            os.close(fd)


def test_no_file_descriptors(tmp_path, monkeypatch, capsys, short_rubric):
    folder = submission(tmp_path / "doe")
    with monkeypatch.context() as patch, contextlib.ExitStack() as short:
        take_in, keep = intake.take_in, similarity.keep
        patch.setattr(intake, "take_in", lambda *arguments: (take_in(*arguments), short.enter_context(descriptors(2)))[0])
        patch.setattr(similarity, "keep", lambda *arguments: (short.close(), keep(*arguments)))
        assert_not_graded(*graded(tmp_path, folder), capsys)
    assert_tried_again(tmp_path, folder, capsys)


@pytest.mark.parametrize("kind", ["folder", "ZIP"])
def test_no_file_descriptors_for_reading_it(tmp_path, kind):
    path = submission(tmp_path / "doe")
    if kind == "ZIP":
        path = tmp_path / "doe.zip"
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("modules.py", MODULES)
    one, other = Submission(path, "doe"), Submission(path, "doe")
    with descriptors(0):
        with pytest.raises(OSError, match="Too many open files"):
            archive.digest(path)
        one.take_in(tmp_path / "in")
        intake.take_in(other, tmp_path / "in2")
    assert one.ungraded == one.error != "" and other.ungraded == other.error != ""


@pytest.mark.parametrize("what", ["the worker", "bubblewrap"])
def test_a_worker_that_is_killed(tmp_path, capsys, short_rubric, what):
    """As the kernel does where memory runs out."""
    folder = submission(tmp_path / "doe", modules=f"import os, time\nif not os.environ.get('x'): time.sleep(0.3)\n{MODULES}")
    killed: list[int] = []
    sandbox_run = cli.classroom.Sandbox.run

    def run(self, *arguments):
        def kill() -> None:
            give_up = time.time() + 60
            while not killed and time.time() < give_up:
                for worker in list(self._running):
                    seen = Path(f"/proc/{worker.pid}/task/{worker.pid}/children")
                    if seen.exists() and seen.read_text():  # it has a probe to run
                        pid = worker.pid if what == "the worker" else worker.process.pid
                        os.kill(pid, signal.SIGKILL)
                        killed.append(pid)
                time.sleep(0.01)

        thread = threading.Thread(target=kill)
        thread.start()
        try:
            return sandbox_run(self, *arguments)
        finally:
            thread.join()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli.classroom.Sandbox, "run", run)
        status, record = graded(tmp_path, folder)
        assert killed
        if what == "bubblewrap" and status == 0:  # where the worker outlives it
            assert all(check["fraction"] == 1 for check in record["questions"]["1.2"]["checks"])
            return
        assert_not_graded(status, record, capsys)
    assert any("ended from outside (SIGKILL)" in flag for flag in record["flags"])
    assert_tried_again(tmp_path, folder, capsys)


@pytest.mark.parametrize("error", [BlockingIOError(11, "Resource temporarily unavailable"), OSError(12, "Cannot allocate memory")])
def test_no_processes_and_no_memory_for_one(tmp_path, monkeypatch, capsys, short_rubric, error):
    folder = submission(tmp_path / "doe")
    with monkeypatch.context() as patch:
        popen, started = subprocess.Popen, []

        def fail(line, *arguments, **options):
            if line[0] == "bwrap" and len(started) > 0:
                raise error
            started.extend([1] * (line[0] == "bwrap"))
            return popen(line, *arguments, **options)

        patch.setattr(confinement.subprocess, "Popen", fail)
        status, record = graded(tmp_path, folder)
    assert_not_graded(status, record, capsys)
    assert error.strerror in record["questions"]["1.2"]["ungraded"]
    assert_tried_again(tmp_path, folder, capsys)


def test_bubblewrap_that_fails_later(tmp_path, monkeypatch, capsys, short_rubric):
    folder, fake = submission(tmp_path / "doe"), tmp_path / "bin" / "bwrap"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\n[ -e {tmp_path}/once ] && exec false\ntouch {tmp_path}/once\n"
                    f"exec {shutil.which('bwrap')} \"$@\"\n")
    fake.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
        assert_not_graded(*graded(tmp_path, folder), capsys)
    assert_tried_again(tmp_path, folder, capsys)


def test_no_room_for_the_results(tmp_path, capsys, short_rubric):
    folder = submission(tmp_path / "doe")
    with small_disk(tmp_path / "out", "4K"):
        status, record = graded(tmp_path, folder)
        said = capsys.readouterr().err
        assert status == 2 and record is None and "No space left on device" in said and "Traceback" not in said
        subprocess.run(["mount", "-o", "remount,size=10M", tmp_path / "out"], check=True)
        assert_tried_again(tmp_path, folder, capsys)


def test_what_lies_in_the_submission_is_kept(tmp_path, capsys, short_rubric):
    folder = submission(tmp_path / "doe", modules="import os\nos.kill(os.getpid(), 9)")
    status, record = graded(tmp_path, folder)
    assert status == 0 and not record["questions"]["1.2"].get("ungraded")
    assert graded(tmp_path, folder)[0] == 0 and "graded before" in capsys.readouterr().err


@needs_confinement
@pytest.mark.parametrize("environment", [{"MPLBACKEND": "nonsense"}, {"MATPLOTLIBRC": "settings"}])
@pytest.mark.parametrize("where", [">&- 2>&-", ">/dev/full 2>/dev/full"])
def test_lost_output_and_settings_of_matplotlib_stop_no_grading(tmp_path, environment, where):
    """The settings are a damaged file, read when matplotlib is imported."""
    (tmp_path / "settings").write_bytes(b"\xff\xfe\0")
    submission(tmp_path / "doe", modules=MODULES)
    done = subprocess.run(["bash", "-c", f"{sys.executable} {GRADE} doe --only 3.1 --out out {where}"], cwd=tmp_path,
                          env=os.environ | environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert {"grades.csv", "summary.html", "histogram.png", "written.csv"} <= set(os.listdir(tmp_path / "out"))


@needs_confinement
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_closed_terminal_ends_grading_as_ctrl_c_does(tmp_path, number):
    submission(tmp_path / "doe", modules="import time\ntime.sleep(100)")
    with subprocess.Popen([sys.executable, GRADE, "doe", "--only", "1.2", "--out", "out"], cwd=tmp_path, text=True,
                          stderr=subprocess.PIPE) as process:
        assert any(line.startswith("submissions: 1") for line in process.stderr)
        time.sleep(2)  # until it waits for a worker
        process.send_signal(number)
        said = process.stderr.read()
        assert process.wait(60) == 130 and "interrupted: 0 submissions are finished" in said, said
    assert (tmp_path / "out" / "summary.html").exists()
