"""Grades a class: several submissions at once, each finished one kept, so that a second run does only what is left."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from grading import archive, datasets, submission
from grading.archive import Unreadable
from grading.checks import Context
from grading.confinement import ConfinementError
from grading.files import alphabetical, folder_name, write_json
from grading.rubric import Rubric
from grading.sandbox import Sandbox
from grading.submission import Record, Submission, scored
from grading.unpack import without_ending

RECORD = "record.json"
REAL, STANDIN = "CIFAR-10", "a small stand-in, in shorter runs"  # what accuracy was measured on


class ClassError(Exception):
    """Submissions that cannot be graded together: one line with the way out."""


def name_of(path: Path) -> str:
    """The student: the archive's name without its ending, or the folder's name."""
    resolved = Path(path).resolve()
    return (resolved.name if resolved.is_dir() else without_ending(resolved.name)) or "root"


def submissions(paths: Sequence[Path]) -> list[Submission]:
    """One for each path, by name. Raises ClassError on a path that is not there and on two of one name."""
    found: dict[str, Path] = {}
    for path in dict.fromkeys(Path(path).resolve() for path in paths):
        if not path.exists():
            raise ClassError(f"{path} does not exist")
        name = name_of(path)
        if name in found:
            raise ClassError(f"two submissions are called {name}: {found[name]} and {path}; rename one of them")
        found[name] = path
    return [Submission(found[name], name) for name in sorted(found, key=alphabetical)]


class Classroom:
    """A class being graded into the folder `out`.

    Use as a context manager: it holds the workers and their files. read_batch: see `datasets.prepare`.
    """

    def __init__(self, out: Path, rubric: Rubric, jobs: int = 1, data_dir: Path | None = None,
                 read_batch: datasets.ReadBatch | None = None, network: bool = False):
        self.out, self.rubric, self.jobs, self.data_dir, self.read_batch = out, rubric, jobs, data_dir, read_batch
        self.work = Path(tempfile.mkdtemp(prefix="grade-"))
        self.sandbox = Sandbox(self.work, network)
        self.version = f"{submission.grader_digest()} {rubric.digest} {'real' if data_dir else 'stand-in'}"
        self._context: Context | None = None

    def __enter__(self) -> Classroom:
        return self

    def __exit__(self, *_: object) -> None:
        self.sandbox.close()
        shutil.rmtree(self.work, ignore_errors=True)

    @property
    def context(self) -> Context:
        """The data sets, made when first needed."""
        if self._context is None:
            self._context = datasets.prepare(self.work / "data", self.rubric, self.data_dir, self.read_batch)
        return self._context

    def folder(self, student: str) -> Path:
        return self.out / "students" / folder_name(student)

    def finished(self, one: Submission) -> Record | None:
        """The record of an earlier run, if this very submission was graded by this very grader."""
        record = read_record(self.folder(one.student) / RECORD)
        return scored(record, self.rubric) if record and record.get("key") == one.key and one.key else None

    def grade(self, class_: Sequence[Submission], finish: Callable[[Record, bool], None]) -> None:
        """Grade the submissions and hand each record to `finish(record, new)` as soon as it is complete.

        A KeyboardInterrupt ends the workers and is passed on; finished submissions stay finished.
        """
        left: deque[Submission] = deque()
        for one in class_:
            try:
                one.key = hashlib.sha256(f"{self.version} {archive.digest(one.path)}".encode()).hexdigest()
            except Unreadable as error:
                one.error = str(error)
            except Exception as error:  # whatever somebody handed in, the others are graded
                one.error = f"cannot be read ({type(error).__name__}: {error})"
            if record := self.finished(one):
                finish(record, False)
            else:
                left.append(one)
        if left:
            self._grade(left, finish)

    def _grade(self, left: deque[Submission], finish: Callable[[Record, bool], None]) -> None:
        context = self.context
        waiting: dict[Future, Submission] = {}
        pool = ThreadPoolExecutor(self.jobs)

        def complete(one: Submission) -> None:
            one.clear()
            record = {**one.record(self.rubric), "data": REAL if context.real else STANDIN}
            write_json(self.folder(one.student) / RECORD, record)
            finish(scored(record, self.rubric), True)

        try:
            while left or waiting:
                while left and len(waiting) < 2 * self.jobs:  # not the whole class: its files take room
                    one = left.popleft()
                    if not one.error:
                        one.take_in(self.work / f"submission-{len(left)}")
                    if one.error:
                        complete(one)
                        continue
                    for row in self.rubric.code:
                        waiting[pool.submit(self._question, one, row, context)] = one
                done, _ = wait(waiting, return_when=FIRST_COMPLETED) if waiting else ((), ())
                for future in done:
                    one = waiting.pop(future)
                    future.result()
                    if one not in waiting.values():
                        complete(one)
        except BaseException:
            self.sandbox.close()  # ends the workers, so that the pool's threads come to an end
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _question(self, one: Submission, row, context: Context) -> None:
        """One question; whatever goes wrong in the grader costs this question of this submission only."""
        try:
            submission.grade(one, row, self.sandbox, self.rubric, context)
        except ConfinementError:
            raise
        except Exception as error:
            with one.lock:
                one.flags.append(f"{row.number}: the grader failed ({type(error).__name__}: {str(error)[:100]})")


def read_record(path: Path) -> Record | None:
    """A record, or None where there is none, or a damaged one."""
    with contextlib.suppress(OSError, ValueError):
        record = json.loads(path.read_text())
        if isinstance(record, dict) and {"key", "student", "questions", "flags", "seconds", "error"} <= set(record):
            return record
    return None


def records(out: Path, rubric: Rubric) -> list[Record]:
    """Every finished submission in `out`, by name, with the rubric's points."""
    found = [read_record(path) for path in sorted((out / "students").glob(f"*/{RECORD}"))]
    return sorted((scored(record, rubric) for record in found if record),
                  key=lambda record: alphabetical(record["student"]))
