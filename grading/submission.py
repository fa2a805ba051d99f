"""Grades one submission: takes it in, scans it, runs workers on it, and keeps what was found as a record.

A record is plain JSON, from which every report is written:

    {"key": ..., "student": "doe_assignment1", "error": "", "flags": [...], "seconds": 21.4, "questions": {"1.2":
     {"seconds": 3.1, "checks": [{"id": ..., "fraction": 1.0, "diagnosis": "", "numbers": "largest relative error ..."},
      ...]}, ...}}

A question that cannot be graded on this machine says why in "ungraded"; it has no score, which is not a score of 0.
Points and titles are the rubric's: `scored` adds them when a record is read, so that they can be changed afterwards.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from string import ascii_lowercase
from typing import Any

from grading import archive, scan
from grading.archive import Unreadable
from grading.checks import Context, Replies, imported_in_vain, remarks
from grading.files import ABSENT, local_imports, whereabouts
from grading.questions import QUESTIONS
from grading.replies import EARLY, one_line
from grading.rubric import Question as Row
from grading.rubric import Rubric
from grading.sandbox import Sandbox
from grading.scan import DATA_UTILITIES
from grading.worker.packages import PACKAGES
from grading.worker.student import without_places
from grading.worker.watch import ALTERED, FRAMEWORK, LOADED

PACKAGE = Path(__file__).parent
REFERENCE = PACKAGE.parent

Record = dict[str, Any]
NOT_YET = "not graded yet"  # of questions that --only left out


def unknown_checks(rubric: Rubric) -> str:
    """A code question or check of the rubric that nothing implements, or ''."""
    for row in rubric.code:
        if row.number not in QUESTIONS:
            return f"question {row.number} has no checks; code questions are {', '.join(QUESTIONS)}"
        for check in row.checks:
            if check.id not in QUESTIONS[row.number].checks:
                return (f"question {row.number} has no check {check.id!r}; there are "
                        f"{', '.join(QUESTIONS[row.number].checks)}")
        if "accuracy" in {check.id for check in row.checks} and not {"real", "standin"} <= set(
                rubric.accuracy.get(row.number, {})):
            return f'[accuracy."{row.number}"] must give bounds for real and standin'
    return ""


def grader_digest() -> str:
    """A hash of the grader's own code: a change of it has everything graded again."""
    result = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        result.update(path.read_bytes())
    return result.hexdigest()[:16]


def data_utilities() -> list[Path]:
    """cifar10_utils.py and the files beside it that it imports, which a submission need not bring."""
    return [REFERENCE / name for name in local_imports(REFERENCE, [DATA_UTILITIES])]


@dataclass(eq=False)
class Submission:
    """A submission on its way through the grader.

    path: what was handed in. student: its name. key: what its grades depend on. error: why it was not graded.
    ungraded: the same, where that is not its fault, so that it has no score instead of 0. digest: of what was handed
    in. about: further entries of its record. notes: flags that its file's name and its earlier record give. todo: the
    questions to grade, where it is not all of them. hide: names that its record must not tell. expected: the
    files that are to be in it. absent: where those lie that are not. pdfs: names of PDF files that came beside it.
    """

    path: Path
    student: str
    key: str = ""
    code: Path | None = None
    folder: Path | None = None
    error: str = ""
    ungraded: str = ""
    expected: Sequence[str] = archive.EXPECTED
    flags: list[str] = field(default_factory=list)
    questions: dict[str, dict[str, Any]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    digest: str = ""
    absent: dict[str, str] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    todo: frozenset[str] = frozenset()
    hide: tuple[str, ...] = ()
    pdfs: Sequence[str] = ()

    def take_in(self, folder: Path) -> None:
        """Extract and scan it. What cannot be read is an error in its record, not an exception."""
        self.folder = folder
        try:
            taken = archive.take_in(self.path, folder)
            self._look_at(taken)
        except Unreadable as error:
            self.error = one_line(str(error))
        except Exception as error:  # whatever somebody handed in, the others are graded
            what = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            self.error = one_line(f"could not be taken in by the grader ({type(error).__name__}: {what})")
            self.ungraded = self.error

    def _look_at(self, taken: archive.Submission) -> None:
        """Scan it, add what it need not bring, and let its worker, who is another user, read it."""
        assert self.folder is not None
        self.code = taken.code
        self.flags = [*taken.notes, *scan.scan(self.code)]
        if older := scan.edition(self.code):
            self.error = self.ungraded = f"is of the {older}: this rubric grades the 2020 edition"
            return
        absent = [name for name in self.expected if not (self.code / name).is_file()]
        self.absent = {name: whereabouts(name, self.code, self.folder) for name in absent}
        if missing := [name for name, where in self.absent.items() if where.endswith(ABSENT)]:
            self.flags.append(f"missing: {', '.join(missing)}")
        self.flags += [where for where in self.absent.values() if not where.endswith(ABSENT)]
        taken.pdfs += self.pdfs
        if wrong := taken.no_report():
            self.flags.append(wrong)
        for path in data_utilities():
            target = self.code / path.relative_to(REFERENCE)
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
        for path in [self.folder, *self.folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)

    def clear(self) -> None:
        """Remove the extracted files."""
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def record(self, rubric: Rubric) -> Record:
        """What is kept of it. A question that was not graded has no score, or counts 0 where that is its own fault."""
        error, questions = self._hidden(self.error), {}
        for row in rubric.code:
            failed = blank(row, f"The submission {error}." if error else "")
            if self.ungraded or not error:
                failed["ungraded"] = f"the submission {error}" if error else "the grader itself failed at it"
            questions[row.number] = self.questions.get(row.number) or failed
        flags = dict.fromkeys(self._hidden(one_line(flag)) for flag in [*self.notes, *self.flags])
        return {"key": self.key, "student": self.student, "source": self._hidden(self.path.name), "error": error,
                "flags": list(flags), "questions": questions,
                "seconds": round(sum(question["seconds"] for question in questions.values()), 2)}

    def _hidden(self, text: str) -> str:
        for name in self.hide:
            text = text.replace(name, self.student) if len(name) > 2 else text
        return text


def blank(row: Row, reason: str) -> dict[str, Any]:
    """A question of which nothing is right, for one reason."""
    return {"seconds": 0.0, "checks": [
        {"id": check.id, "fraction": 0.0, "diagnosis": reason, "numbers": ""} for check in row.checks]}


def scored(record: Record, rubric: Rubric) -> Record:
    """The record with a title, points and a score for each check, and a score for each question that was graded.

    A question that was graded by other checks than the rubric's has none: it has to be graded again.
    """
    questions = {}
    for row in rubric.code:
        question = record["questions"].get(row.number, {"checks": []})
        found = {check["id"]: check for check in question["checks"] if "fraction" in check}
        if found.keys() != {check.id for check in row.checks}:
            question = {**blank(row, ""), "ungraded": "it was graded by other checks; grade it again"}
            found = {check["id"]: check for check in question["checks"]}
        checks = [{**found[check.id], "title": check.title, "points": check.points,
                   "score": points_of(found[check.id], check.points, rubric.partial)} for check in row.checks]
        questions[row.number] = {**question, "checks": checks, "score": None if question.get("ungraded") else round(
            sum(check["score"] for check in checks), 2)}
    return {**record, "questions": questions}


def points_of(check: Mapping[str, Any], points: float, partial: float) -> float:
    """A check's points; passed in part, and not in shares, at most `partial`."""
    score = points * check["fraction"]
    return round(score if check["fraction"] >= 1 or check.get("shares") else min(score, partial), 2)


def of_one_worker(rows: Sequence[Row]) -> list[list[Row]]:
    """Questions in groups of which one worker does each: parts of one number, such as 3.2b and 3.2c.

    To start takes a worker seconds. What 3.1 may do and 3.2b may not, 3.1 could pass on within a worker.
    """
    groups: dict[tuple[str, bool], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.number.rstrip(ascii_lowercase), QUESTIONS[row.number].torch), []).append(row)
    return list(groups.values())


def ask(submission: Submission, rows: Sequence[Row], sandbox: Sandbox, rubric: Rubric,
        context: Context) -> dict[str, Replies]:
    """{number: replies} of questions of one worker, on a submission that was taken in."""
    assert submission.code is not None
    probes = {f"{row.number} {name}": replace(probe, question=row.number) for row in rows
              for name, probe in QUESTIONS[row.number].asked([check.id for check in row.checks], context).items()}
    longer = context.accuracy_seconds if context.real and any(probe.seconds == context.accuracy_seconds
                                                              for probe in probes.values()) else 0
    limits = replace(rubric.limits, seconds=rubric.limits.seconds + longer)
    found = sandbox.run(submission.code, probes, limits, context.data, QUESTIONS[rows[0].number].torch)
    return {row.number: Replies({name.partition(" ")[2]: reply for name, reply in found.items()
                                 if probes[name].question == row.number}) for row in rows}


def judge(submission: Submission, row: Row, replies: Replies, seconds: float, context: Context) -> None:
    """Grade a question by the replies, which took this many seconds; adds to the submission's questions and flags."""
    started = time.monotonic() - seconds
    checks: list[dict[str, Any]] = []
    for id, outcome in QUESTIONS[row.number].judged(row.checks, replies, context).items():
        fraction, diagnosis = min(max(outcome.fraction, 0.0), 1.0), without_places(outcome.diagnosis)
        for name, where in submission.absent.items():
            diagnosis = diagnosis.replace(f"{name} {ABSENT}", submission._hidden(where))
        checks.append({"id": id, "fraction": fraction, "diagnosis": one_line(diagnosis, 600),
                       "numbers": one_line(without_places(outcome.numbers)), "shares": outcome.shares})
    result: dict[str, Any] = {"checks": checks, "seconds": round(time.monotonic() - started, 2)}
    absent = imported_in_vain(replies)
    if found := remarks(replies):
        result["remark"] = one_line(" ".join(found), 600)
    packages = needed(replies)
    if packages and any(check["fraction"] < 1 for check in checks):
        result["ungraded"] = (f"needs {' and '.join(packages)}, which {'is' if len(packages) == 1 else 'are'} not "
                              "installed on this machine")
    with submission.lock:
        submission.questions[row.number] = result
        submission.flags += [f"{row.number} imports {', '.join(absent[:5])}, which is not there"] * bool(absent)
        submission.flags += found_while_running(row.number, replies)


def needed(replies: Mapping[str, Any]) -> list[str]:
    """Packages that the submission used and that are not installed here."""
    said = [reply.notes.get("needs") for reply in replies.values()]
    names = {str(name) for names in said if isinstance(names, list) for name in names}
    return sorted(name for name in names & PACKAGES if importlib.util.find_spec(name) is None)


def found_while_running(number: str, replies: Mapping[str, Any]) -> list[str]:
    flags = []
    with contextlib.suppress(TypeError, AttributeError):
        if used := sorted({name for reply in replies.values() for name in scan.dispatched(reply.notes)}):
            flags.append(f"{number} runs ready-made operators: {', '.join(used[:3])}")
    with contextlib.suppress(TypeError, AttributeError):
        if number == "3.2b" and (used := sorted({name for reply in replies.values()
                                                 for name in scan.differentiated(reply.notes)})):
            flags.append(f"{number} goes back by autograd: {', '.join(used[:3])}")
    seen = {name for reply in replies.values() for name in reply.seen}
    if FRAMEWORK in seen:
        flags.append(f"{number} uses a framework where NumPy alone is asked for")
    if ALTERED in seen:
        flags.append(f"{number} replaces functions that the checks record or report by")
    if others := sorted(seen - {FRAMEWORK, ALTERED} - ({LOADED} if QUESTIONS[number].script else set())):
        flags.append(f"{number} does what no answer needs: {', '.join(others[:5])}")
    if early := sum(reply.error == EARLY for reply in replies.values()):
        flags.append(f"{number} ended its process in the middle of {early} of {len(replies)} checks")
    killed = sorted({reply.error.partition(":")[2].strip()[:60] for reply in replies.values()
                     if reply.error and reply.error.startswith("stopped")})
    if killed:
        flags.append(f"{number} was stopped ({'; '.join(killed)})")
    return flags
