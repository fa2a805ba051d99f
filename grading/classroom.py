"""Grades a class: several submissions at once, each finished one kept, so that a second run does only what is left."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import secrets
import shutil
import sys
import sysconfig
import tempfile
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import IO

from grading import archive, datasets, intake, locks, scan, similarity, submission
from grading.archive import EXPECTED, Unreadable
from grading.checks import Context
from grading.confinement import ConfinementError, NotStarted
from grading.files import Trouble, alphabetical, folder_name, write_json
from grading.inputs import Inputs
from grading.people import HandIn, People, parse, student_key
from grading.questions import files_of
from grading.replies import one_line
from grading.rubric import Question as Row
from grading.rubric import Rubric
from grading.sandbox import Sandbox
from grading.submission import NOT_YET, Record, Submission, blank, scored
from grading.unpack import is_archive
from grading.worker.student import without_places

RECORD = "record.json"
SEED = "seed"  # in the folder of the class, of what its hand-ins are tried on
LOCKS = ".locks"  # of students, and of the graders that are at work
AGAIN_SECONDS = 1.0  # until a student whom another grader has is looked at again
OF_PLATFORMS = {"index.html", "submission_metadata.yml", "Thumbs.db", "desktop.ini"}  # beside downloaded submissions
MOST_CHANGES = 3  # of a submission while it is taken in
REAL, STANDIN = "CIFAR-10", "a small stand-in, in shorter runs"  # what accuracy was measured on


class ClassError(Exception):
    """Submissions that cannot be graded together: one line with the way out."""


def submissions(paths: Sequence[Path], people: People | None = None) -> list[Submission]:
    """One for each student, by name: of several of Canvas or Brightspace the last.

    A report beside an archive of the same student belongs to it, and in a folder without code its one archive is taken.
    Two files such as doe.zip and doe.tar.gz are two students, with a note, as they may be.

    Raises ClassError on a path that is not there and on two files of one name.
    """
    people = people or People()
    found, beside = handed_in(paths)
    twins = told_apart(found)
    class_ = [the_last(name, theirs, beside.get(name, []), twins, people) for name, theirs in found.items()]
    return sorted(class_, key=lambda one: alphabetical(one.student))


def handed_in(paths: Sequence[Path]) -> tuple[dict[str, list[tuple[HandIn, Path]]], dict[str, list[str]]]:
    """{student: what they handed in, by its name and where it is}, and {student: files beside it}.

    Raises ClassError on a path that is not there.
    """
    found: dict[str, list[tuple[HandIn, Path]]] = {}
    beside: dict[str, list[str]] = {}
    for path in dict.fromkeys(Path(os.path.abspath(path)) for path in paths):  # two links are two students
        if not path.exists():
            raise ClassError(f"{path} does not exist")
        if path.name in OF_PLATFORMS and len(paths) > 1:
            continue
        hand_in = parse(path)
        if len(paths) > 1 and path.is_dir() and (pieces := archive.in_pieces(path)):
            path, *others = pieces
            beside.setdefault(hand_in.student, []).extend(other.name for other in others)
        found.setdefault(hand_in.student, []).append((hand_in, path))
    for name, theirs in found.items():
        packed = [one for one in theirs if one[1].is_dir() or is_archive(one[1].name)]
        if packed and len(packed) < len(theirs):
            beside.setdefault(name, []).extend(one.file for one, path in theirs if (one, path) not in packed)
            found[name] = packed
    return found, beside


def told_apart(found: dict[str, list[tuple[HandIn, Path]]]) -> dict[Path, str]:
    """Make files of the same name, but for their endings, those of different students; {each: the name it shared}."""
    twins: dict[Path, str] = {}
    for name in list(found):
        if not last_is_known(found[name]) and len(found[name]) == len({path.name for _, path in found[name]}):
            for hand_in, path in found.pop(name):
                own = f"{name} {student_key(path.name.removeprefix(hand_in.file).strip('.'))}".strip()
                found.setdefault(own, []).append((replace(hand_in, student=own), path))
                twins[path] = name
    return twins


def the_last(name: str, theirs: Sequence[tuple[HandIn, Path]], beside: Sequence[str], twins: Mapping[Path, str],
             people: People) -> Submission:
    """What is graded of a student's hand-ins, with what is to be said of them. Raises ClassError where none is last."""
    theirs = sorted(theirs, key=lambda one: one[0].order)
    hand_in, path = theirs[-1]
    if not last_is_known(theirs):
        (_, one), (_, other) = theirs[:2]
        raise ClassError(f"two submissions are called {name}: {one} and {other}; rename one of them")
    taken = Submission(path, people.called(hand_in))
    if people.pseudonyms is None:
        taken.about = {"name": hand_in.name, "id": hand_in.id}
    else:
        taken.hide = (str(path), path.name, path.stem, hand_in.file, *beside)
    taken.notes += ["late, says the file's name"] * hand_in.late
    taken.notes += [f"another submission is called {twins.get(path)} as well"] * (path in twins)
    taken.pdfs = [other for other in beside if other.lower().endswith(".pdf")]
    left = sorted(set(beside) - set(taken.pdfs))
    taken.notes += [f"left out beside it: {', '.join(left[:3])}{' and more' * (len(left) > 3)}"] * bool(left)
    taken.notes += [f"{len(theirs) - 1} earlier of the same student left out"] * (len(theirs) > 1)
    return taken


def last_is_known(theirs: Sequence[tuple[HandIn, Path]]) -> bool:
    """Whether the names of a student's hand-ins say which one is the last."""
    return len(theirs) == 1 or len({one.order for one, _ in theirs} - {0}) == len(theirs)


class Classroom:
    """A class being graded into the folder `out`.

    Use as a context manager: it holds the workers and their files. read_batch: see `datasets.prepare`. only: grade
    these questions, again where they were graded before, and no others.
    """

    def __init__(self, out: Path, rubric: Rubric, jobs: int = 1, data_dir: Path | None = None,
                 read_batch: datasets.ReadBatch | None = None, network: bool = False,
                 only: Collection[str] = (), container: bool = False):
        self.out, self.rubric, self.jobs, self.data_dir, self.read_batch = out, rubric, jobs, data_dir, read_batch
        self.only = frozenset(only)
        self.work, self._in_use = locks.work_folder()
        hidden = [submission.REFERENCE, *copies(), out, *([data_dir] if data_dir else [])]
        self.sandbox = Sandbox(self.work, network, container, hidden)
        self.inputs = Inputs(class_seed(out))
        self.version = f"{submission.grader_digest()} {rubric.digest} {'real' if data_dir else 'stand-in'}"
        self._context: Context | None = None

    def __enter__(self) -> Classroom:
        self._at_work = locks.lock(self.out / LOCKS / "graders", wait=True, shared=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.sandbox.close()
        shutil.rmtree(self.work, ignore_errors=True)
        self._in_use.close()
        if self._at_work:
            self._at_work.close()

    def is_last(self) -> bool:
        """Whether no other grader is at work on the same folder; from then on none begins before this one ends."""
        return self._at_work is not None and locks.change(self._at_work)

    @property
    def context(self) -> Context:
        """The data sets, made when first needed."""
        if self._context is None:
            self._context = datasets.prepare(self.work / "data", self.rubric, self.data_dir, self.read_batch,
                                             self.inputs)
        return self._context

    def folder(self, student: str) -> Path:
        return self.out / "students" / folder_name(student)

    def earlier(self, one: Submission) -> Record | None:
        """The record of an earlier run on this very submission, by whatever grader."""
        record = read_record(self.folder(one.student) / RECORD)
        return record if record and one.digest and record.get("submission") == one.digest else None

    def finished(self, one: Submission) -> Record | None:
        """The earlier record, if nothing is left to do: it is of this very grader and rubric.

        Else None, and `one.todo` says what is left where it is not everything: questions that could not be graded then.
        """
        record = self.earlier(one)
        one.todo = self.only
        if not record or record["key"] != one.key or self.only:
            return None
        one.todo = frozenset(row.number for row in self.rubric.code
                             if record["questions"].get(row.number, {}).get("ungraded"))
        return None if one.todo else scored(record, self.rubric)

    def completed(self, one: Submission, context: Context) -> Record:
        """The record of a submission. Questions that were not to do are the earlier record's, or not graded yet."""
        before = self.earlier(one) if one.todo else None
        others = [row for row in self.rubric.code if one.todo and row.number not in one.todo]
        for question in one.questions.values():
            question |= {"version": self.version} | ({"alone": True} if before and self.only else {})
        for row in others:
            kept = before["questions"].get(row.number) if before else None
            one.questions[row.number] = kept or {**blank(row, ""), "ungraded": NOT_YET}
        if before:
            numbers = {row.number for row in others}
            one.notes += [flag for flag in before["flags"] if re.split("[ :]", flag)[0] in numbers]
            one.key = before["key"]  # a run without --only grades all of it, where the grader has changed since
        if alone := [number for number, question in sorted(one.questions.items()) if question.get("alone")]:
            versions = {question.get("version") for question in one.questions.values()}
            one.notes.append(f"graded again alone: {', '.join(alone)}"
                             + ", by another version of the grader or rubric than the rest" * (len(versions) > 1))
        return {**one.record(self.rubric), "data": REAL if context.real else STANDIN, "submission": one.digest,
                "warnings": self.sandbox.warnings(), **one.about}

    def grade(self, class_: Sequence[Submission], finish: Callable[[Record, bool], None]) -> None:
        """Grade the submissions and hand each record to `finish(record, new)` as soon as it is complete.

        A KeyboardInterrupt ends the workers and is passed on; finished submissions stay finished.
        """
        left: deque[Submission] = deque()
        self.sandbox.hide([one.path for one in class_])
        for one in class_:
            self._identify(one)
            if record := self.finished(one):
                finish(record, False)
            else:
                left.append(one)
        if left:
            self._grade(left, finish)

    def _identify(self, one: Submission) -> None:
        """Hash what lies there now."""
        try:
            one.digest = archive.digest(one.path)
            one.key = hashlib.sha256(f"{self.version} {one.digest}".encode()).hexdigest()
        except Unreadable as error:
            one.error = str(error)
        except Exception as error:  # whatever somebody handed in, the others are graded
            one.error = one.ungraded = one_line(f"cannot be read now ({type(error).__name__}: {what(error)})")

    def _take_in(self, one: Submission, folder: Path) -> None:
        """Take it in, so that its hash is that of the copy: people hand in again while a class is graded."""
        for _ in range(MOST_CHANGES):
            before = one.digest
            intake.take_in(one, folder)
            self._identify(one)
            if one.error or one.digest == before:
                return
            one.clear()
        one.error = one.ungraded = "changed each time that it was taken in"

    def _grade(self, left: deque[Submission], finish: Callable[[Record, bool], None]) -> None:
        context = self.context
        waiting: dict[Future, Submission] = {}
        taken: dict[Submission, IO[bytes]] = {}  # by this grader, with their locks
        pool = ThreadPoolExecutor(self.jobs)
        numbers = itertools.count()

        def complete(one: Submission) -> None:
            similarity.keep(one.code, self.folder(one.student))
            one.clear()
            record = self.completed(one, context)
            write_json(self.folder(one.student) / RECORD, record)
            taken.pop(one).close()
            finish(scored(record, self.rubric), True)

        def begin(one: Submission) -> None:
            if not one.error:
                one.expected = files_of(self.rubric)
                self._take_in(one, self.work / f"submission-{next(numbers)}")
            if one.error:
                complete(one)
                return
            todo = [row for row in self.rubric.code if not one.todo or row.number in one.todo]
            for rows in submission.of_one_worker(todo):
                waiting[pool.submit(self._questions, one, rows, context)] = one

        try:
            while left or waiting:
                for _ in range(len(left)):
                    if len(waiting) >= 2 * self.jobs:  # not the whole class: its files take room
                        break
                    one = left.popleft()
                    if (lock := locks.lock(self.out / LOCKS / "students" / folder_name(one.student))) is None:
                        left.append(one)  # another grader has it, and may yet be killed
                    elif record := self.finished(one):  # by another grader, since this one began
                        lock.close()
                        finish(record, False)
                    else:
                        taken[one] = lock
                        begin(one)
                if not waiting and left:
                    time.sleep(AGAIN_SECONDS)
                done, _ = wait(waiting, AGAIN_SECONDS if left else None, FIRST_COMPLETED) if waiting else ((), ())
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
            for lock in taken.values():
                lock.close()

    def _questions(self, one: Submission, rows: Sequence[Row], context: Context) -> None:
        """Questions of one worker; whatever goes wrong in the grader leaves what it went wrong in ungraded."""
        with self._troubles(one, rows):
            started = time.monotonic()
            replies = submission.ask(one, rows, self.sandbox, self.rubric, context)
            seconds = (time.monotonic() - started) / len(rows)
            for row in rows:
                with self._troubles(one, [row]):
                    submission.judge(one, row, replies[row.number], seconds, context)

    @contextlib.contextmanager
    def _troubles(self, one: Submission, rows: Sequence[Row]) -> Iterator[None]:
        reason = more = ""
        try:
            yield
        except NotStarted as error:
            reason, more = "this machine failed: a worker did not start", f": {error}"
        except ConfinementError:
            raise
        except (Trouble, OSError) as error:
            reason = f"this machine failed: {what(error)}"
        except Exception as error:
            reason = f"the grader failed ({type(error).__name__}: {str(error)[:100]})"
        for row in rows if reason else ():
            with one.lock:
                one.questions[row.number] = {**blank(row, ""), "ungraded": one_line(without_places(reason), 200)}
                one.flags.append(f"{row.number}: {reason}{more}")


def copies() -> list[Path]:
    """Files of the reference in Python's environment, in the one that it is made from, and in packages there."""
    places = [{"base": prefix, "platbase": prefix} for prefix in (sys.prefix, sys.base_prefix)]
    folders = {Path(sysconfig.get_path(name, vars=place)) for place in places for name in ("purelib", "platlib")}
    return [path for folder in folders for name in EXPECTED for path in (folder / name, *folder.glob(f"*/{name}"))
            if path.is_file() and scan.ours(path, path.parent)]


def what(error: Exception) -> str:
    """An error without the paths that Python adds to it."""
    return (error.strerror if isinstance(error, OSError) else "") or str(error)


def class_seed(out: Path) -> str:
    """The secret seed of the class in `out`, drawn when it is first graded; all graders of a class have the same."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / SEED
    if not path.exists():
        handle, name = tempfile.mkstemp(dir=out, prefix=f".{SEED}-")  # for its owner alone
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(16))
        try:
            os.link(name, path)  # complete from the start, and never over another grader's
            os.unlink(name)
        except FileExistsError:
            os.unlink(name)
        except OSError:  # a file system without links
            os.replace(name, path)
    return path.read_text()


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
