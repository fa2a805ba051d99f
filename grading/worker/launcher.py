"""The workers' launcher: loads the libraries once, then forks one worker process for each job it is sent.

Started by `grading.sandbox` as `python -I -B launcher.py [--torch]`. It never runs a submission's code itself.
On standard input, a JSON line a job: {"id": 7, "job": "/path/of/job.json"}. On standard output, a JSON line when the
worker of job 7 has started, {"id": 7, "pid": ...}, and one when it has ended, {"id": 7, "exit": 0}.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import traceback
from pathlib import Path

HERE = str(Path(__file__).resolve().parents[2])
sys.path.append(HERE)  # until the libraries and the worker's own modules are loaded
from grading.worker import confine, serve, student  # noqa: E402


def say(message: dict) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


def preload(with_torch: bool) -> None:
    """Import what submissions use, from the installed libraries and before any submission's folder is in sight."""
    import matplotlib
    import numpy  # noqa: F401

    matplotlib.use("Agg")
    import matplotlib.pyplot

    from grading.worker import probes_numpy, probes_scripts  # noqa: F401

    with contextlib.suppress(ImportError):
        import tqdm  # noqa: F401
    if with_torch:
        from grading.worker import probes_convnet, probes_layernorm, probes_torch  # noqa: F401
    else:
        student.block_frameworks()


def worker(job_path: str) -> int:
    """Confine this (forked) process as the job says and run its probes. Exit status of the worker."""
    os.setsid()
    confine.die_with_parent()
    job = json.loads(Path(job_path).read_text())
    features = job["features"]
    if not features["namespaces"]:
        confine.prctl(confine.PR_SET_CHILD_SUBREAPER, 1)
        return serve.serve(job)
    confine.new_namespaces(network=features["network"])
    pid = os.fork()  # the first process of the new process namespace: when it ends, the kernel ends all others
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    confine.die_with_parent()
    os._exit(guarded(serve.serve, job))


def probe_features(folder: str) -> dict:
    """What this machine allows: tried in child processes, so that nothing of it sticks."""
    def works(attempt) -> bool:
        pid = os.fork()
        if pid == 0:
            status = 1
            with contextlib.suppress(OSError, ValueError):
                attempt()
                status = 0
            os._exit(status)
        return os.waitpid(pid, 0)[1] == 0

    def namespaces(network: bool) -> None:
        confine.new_namespaces(network)
        pid = os.fork()
        if pid == 0:
            status = 1
            with contextlib.suppress(OSError, ValueError):
                confine.new_root(folder, 16, {})
                confine.drop_privileges(confine.usable_uid())
                status = 0 if os.path.exists(sys.executable) and os.access(sys.prefix, os.R_OK) else 1
            os._exit(status)
        if os.waitpid(pid, 0)[1]:
            raise OSError

    def other_user() -> None:
        uid = confine.usable_uid()
        if uid is None:
            raise OSError("not root")
        confine.drop_privileges(uid)
        for path in (os.path.dirname(os.__file__), sys.prefix, str(Path(__file__).parent)):
            os.listdir(path)

    def with_network() -> None:
        namespaces(True)

    def without_network() -> None:
        namespaces(False)

    closed = works(with_network)
    return {"namespaces": closed or works(without_network), "network": closed, "uid": works(other_user)}


def guarded(function, *arguments) -> int:
    """`function(*arguments)`; an exception is printed and becomes status 1."""
    try:
        return function(*arguments)
    except BaseException:
        traceback.print_exc()
        return 1


def main() -> None:
    confine.die_with_parent()
    preload("--torch" in sys.argv)
    sys.path.remove(HERE)
    say({"ready": True})
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if "features" in request:
            say({"id": request["id"], "features": probe_features(request["features"])})
            continue
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            reply = os.dup(1)
            os.set_inheritable(reply, False)
            os.dup2(2, 1)  # nothing a worker prints can look like an answer of the launcher
            status = guarded(worker, request["job"])
            os.write(reply, json.dumps({"id": request["id"], "exit": status}).encode() + b"\n")
            os._exit(0)
        say({"id": request["id"], "pid": pid})
        reap()


def reap() -> None:
    """Collect workers that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


if __name__ == "__main__":
    main()
