"""Takes a submission in, in a process of its own and under limits: to unpack and to scan it costs nobody else anything.

16 KB of ZIP can hold hours of work for what unpacks it and reads its source. That ends this process, and is the
submission's error.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from grading import scan
from grading.replies import one_line, signal_name
from grading.submission import REFERENCE, Submission

SECONDS = 10  # of processor time; a large submission takes one or two
PATIENCE = 20  # times as long may it take on a slow disk or a busy machine
MEMORY = 2 * 2**30
SENT = ("flags", "error", "ungraded")


def take_in(one: Submission, folder: Path) -> None:
    """`one.take_in(folder)` under limits."""
    one.folder = folder
    request = {"path": str(one.path), "student": one.student, "folder": str(folder), "expected": list(one.expected),
               "pdfs": list(one.pdfs), "utilities": sorted(scan.COURSE_UTILITIES),
               "handed_out": sorted(scan.HANDED_OUT), "seconds": SECONDS}
    program, trouble = [sys.executable, "-X", f"utf8={sys.flags.utf8_mode}", "-B", "-m", "grading.intake"], ""
    try:
        with tempfile.TemporaryFile() as errors:
            done = subprocess.run(program, input=json.dumps(request).encode(), stdout=subprocess.PIPE, stderr=errors,
                                  timeout=PATIENCE * SECONDS, cwd=REFERENCE)
            errors.seek(0)
            last = one_line(errors.read(10**5).decode(errors="replace").strip().rpartition("\n")[2], 150)
        if done.returncode == 0:
            answer = json.loads(done.stdout)
            one.code = Path(answer["code"]) if answer["code"] else None
            one.flags, one.error, one.ungraded = (answer[name] for name in SENT)
        elif done.returncode == -signal.SIGXCPU:
            one.error = f"takes more than {SECONDS} s to unpack and scan"
        elif done.returncode < 0 and done.returncode != -signal.SIGKILL:
            one.error = f"makes Python fail ({signal_name(-done.returncode)}) at unpacking or scanning it"
        else:
            trouble = last or "the process was ended from outside"
    except subprocess.TimeoutExpired:
        trouble = f"it took more than {PATIENCE * SECONDS} s"
    except OSError as error:
        trouble = error.strerror or str(error)
    if trouble:
        one.error = one.ungraded = f"could not be taken in by the grader ({trouble})"


def main() -> None:
    import resource  # not on Windows, where students import this package

    request = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_CPU, (request["seconds"], request["seconds"] + 1))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    scan.COURSE_UTILITIES, scan.HANDED_OUT = set(request["utilities"]), set(request["handed_out"])
    one = Submission(Path(request["path"]), request["student"], expected=request["expected"], pdfs=request["pdfs"])
    one.take_in(Path(request["folder"]))
    json.dump({"code": str(one.code) if one.code else None, **{name: getattr(one, name) for name in SENT}}, sys.stdout)


if __name__ == "__main__":
    main()
