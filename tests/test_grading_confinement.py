"""Workers are confined, or there are none: every single protection taken away is noticed before anything is run."""

import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from grading_help import needs_confinement, submission

from grading import confinement
from grading.confinement import PLACE, Confined, ConfinementError, command, unconfined
from grading.replies import Limits, Probe
from grading.sandbox import Sandbox

pytestmark = [pytest.mark.grading]
SERVE = Path(confinement.WORKER) / "serve.py"
ROOT_USER = os.getuid() == 0
STARTED = ["sh", "-c", "echo started; exec sleep 60"]
SHOWN = {"/submission": SERVE.parent}  # nothing of a submission: these workers get no job


def ask(canary: Path, change=lambda line: line, monkeypatch=None) -> tuple[str, str, str]:
    """Start a worker with a changed command line: (its first answer, its last line, what is wrong from outside)."""
    if monkeypatch:
        monkeypatch.setattr(confinement, "command", lambda *arguments: change(command(*arguments)))
    with Confined([sys.executable, "-I", "-B", f"{PLACE}/serve.py", str(canary), "closed"], SHOWN, 8) as worker:
        said = worker.stdout.readline().decode().strip()
        wrong = unconfined(worker.pid) if said else ""
        if not said:
            worker.process.wait()
        return said, worker.last_line(), wrong


@pytest.fixture
def canary(tmp_path):
    (tmp_path / "canary").touch()
    return tmp_path / "canary"


@needs_confinement
def test_a_worker_finds_itself_confined_and_so_do_we(canary):
    assert ask(canary) == ('{"confined": true}', "", "")


def without(*flags: str):
    def change(line: list[str]) -> list[str]:
        start = next(i for i in range(len(line)) if tuple(line[i:i + len(flags)]) == flags)
        return line[:start] + line[start + len(flags):]
    return change


def without_setpriv(line: list[str]) -> list[str]:
    return line[:line.index("setpriv")]


CHANGES = {
    "not the first process": (without("--as-pid-1"), "not the first process"),
    "the network": (without("--unshare-net"), "the network is open"),
    "writable root": (without("--remount-ro", "/"), "files outside can be written"),
    "our files": (lambda line: line, "files outside can be seen"),
    "a submission that can be written": (lambda line: [part.replace("--ro-bind", "--bind") if line[i + 2:i + 3] ==
                                                       ["/submission"] else part for i, part in enumerate(line)],
                                         "files outside can be written"),
    "root": (without_setpriv, "this runs as root"),
    "capabilities": (lambda line: [*line[:line.index("--ambient-caps=-all") - 1], "--inh-caps=+setuid",
                                   "--ambient-caps=+setuid", *line[line.index("--ambient-caps=-all") + 1:]],
                     "capabilities|setpriv"),
}


@needs_confinement
@pytest.mark.parametrize("name", CHANGES)
def test_each_protection_is_missed_when_it_is_gone(name, canary, monkeypatch, tmp_path):
    change, reason = CHANGES[name]
    if ROOT_USER if name == "writable root" else not ROOT_USER and name in ("root", "capabilities"):
        pytest.skip("of another kind of grader")  # root's worker is another user, who cannot write there anyway
    if name == "a submission that can be written":
        tmp_path.chmod(0o777)
        monkeypatch.setitem(SHOWN, "/submission", tmp_path)
        canary = tmp_path / "elsewhere"
    if name == "our files":
        canary = Path(f"{PLACE}/serve.py")  # a file that it can see
    said, last, _ = ask(canary, change, monkeypatch)
    assert not said
    assert re.search(reason, last), last


def test_a_worker_outside_of_bubblewrap_refuses_to_start(canary):
    done = subprocess.run([sys.executable, "-I", "-B", SERVE, canary, "closed"], input=b"", capture_output=True)
    assert done.returncode == 1
    assert b"not confined, so nothing was run" in done.stderr
    assert done.stdout == b""


def test_this_process_is_not_taken_for_confined():
    assert unconfined(os.getpid()) == "it shares our pid namespace"
    assert "nothing can be learned" in unconfined(2**22 + 1)


@needs_confinement
@pytest.mark.parametrize("field, value, reason", [
    ("CapEff", "0000000000000001", "capabilities"), ("NoNewPrivs", "0", "gain privileges"), ("NSpid", "77\t2", "first"),
    *([("Uid", "0\t0\t0\t0", "root"), ("Groups", "0", "root")] if ROOT_USER else [])])
def test_each_fact_of_the_kernel_counts(field, value, reason, monkeypatch):
    facts = confinement.status
    monkeypatch.setattr(confinement, "status", lambda pid: facts(pid) | {field: value})
    with Confined(STARTED, {}, 1) as worker:
        worker.stdout.readline()
        assert reason in unconfined(worker.pid)
        with pytest.raises(ConfinementError, match="ended before it had anything to run"):
            worker.prove()
        assert worker.process.poll() is not None


def script(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


FAKES = {  # a bwrap that does not confine, and one that says nothing of what it starts
    "confines nothing": 'while [ "$1" != -- ]; do [ "$1" = --info-fd ] && fd=$2; shift; done; shift\n'
                        'while [ "$1" = setpriv ] || [ "${1#--}" != "$1" ]; do shift; done\n'
                        'eval "echo \'{\\"child-pid\\": $$}\' >&$fd; exec $fd>&-"; exec "$@"',
    "fails": "echo 'bwrap: No permissions to create new namespace' >&2; exit 1",
    "says nothing": "exec sleep 5",
}


@pytest.mark.parametrize("kind", FAKES)
def test_where_bubblewrap_does_not_confine_nothing_is_run(kind, tmp_path, monkeypatch):
    """The submission only leaves a file behind, so that running it unconfined would harm nothing."""
    (tmp_path / "bin").mkdir()
    script(tmp_path / "bin", "bwrap", FAKES[kind])
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    code = submission(tmp_path / "code", modules=f"open({str(tmp_path / 'executed')!r}, 'w')")
    work = tmp_path / "work"
    work.mkdir()
    for tried in (False, True):  # with the trial at the start, and as if that had gone well
        with Sandbox(work) as sandbox:
            sandbox._tried = tried
            with pytest.raises(ConfinementError):
                sandbox.run(code, {"a": Probe("linear_init", options={"in": 3, "out": 2})}, Limits(seconds=5), {}, False)
    assert not (tmp_path / "executed").exists()


@needs_confinement
def test_a_submission_is_run_only_after_the_proof(tmp_path, monkeypatch):
    """Confined as ever, but the proof from outside says otherwise: nothing may be run."""
    sent = []
    work = tmp_path / "work"
    work.mkdir()
    code = submission(tmp_path / "code")
    with Sandbox(work) as sandbox:
        sandbox.try_out()
        monkeypatch.setattr(confinement, "unconfined", lambda *_: "planted")
        monkeypatch.setattr("grading.sandbox.read_reply", lambda *_: sent.append(1))
        with pytest.raises(ConfinementError, match="planted"):
            sandbox.run(code, {"a": Probe("linear_init", options={"in": 3, "out": 2})}, Limits(seconds=5), {}, False)
    assert not sent
    monkeypatch.undo()
    with Sandbox(work) as sandbox:
        monkeypatch.setattr(confinement, "unconfined", lambda *_: "planted")
        with pytest.raises(ConfinementError, match="planted"):
            sandbox.try_out()


@needs_confinement
def test_odd_names_of_folders_are_only_names(tmp_path):
    (tmp_path / "work").mkdir()
    code = submission(tmp_path / "{info}" / "--ro-bind")
    with Sandbox(tmp_path / "work") as sandbox:
        reply = sandbox.run(code, {"a": Probe("linear_init", options={"in": 3, "out": 2})}, Limits(), {}, False)["a"]
    assert reply.error is None


def test_without_bubblewrap_the_way_out_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfinementError, match="apt install bubblewrap"):
        confinement.tools()


@needs_confinement
@pytest.mark.skipif(not ROOT_USER, reason="of a grader that is root")
def test_each_worker_has_a_user_of_its_own():
    with Confined(STARTED, {}, 1) as one, Confined(STARTED, {}, 1) as other:
        for worker in (one, other):
            worker.stdout.readline()
        users = [confinement.status(worker.pid)["Uid"].split()[0] for worker in (one, other)]
    assert len(set(users)) == 2 and "0" not in users


@needs_confinement
def test_killing_a_worker_ends_all_it_started():
    mark = f"{os.getpid()}.25"  # an odd length of sleep, to be found by
    with Confined(["sh", "-c", f"sleep {mark} & setsid sleep {mark} & echo ready; wait"], {}, 1) as worker:
        assert worker.stdout.readline() == b"ready\n"
        assert becomes(lambda: running(mark) >= 2)  # they may not have got as far as being called sleep
    assert becomes(lambda: running(mark) == 0)


def becomes(condition: Callable[[], bool], seconds: float = 20) -> bool:
    give_up = time.time() + seconds
    while not (true := condition()) and time.time() < give_up:
        time.sleep(0.05)
    return true


def running(mark: str) -> int:
    found = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += path.read_bytes().startswith(f"sleep\0{mark}".encode())
        except OSError:
            continue
    return found
