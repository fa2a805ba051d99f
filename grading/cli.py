"""The command line of `grade.py`."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from grading import (
    archive,
    autograder,
    changes,
    classroom,
    gradebooks,
    home,
    locks,
    people,
    rubric,
    scan,
    similarity,
    starter,
    submission,
    summary,
    tables,
)
from grading.classroom import ClassError, Classroom, Record
from grading.confinement import ConfinementError
from grading.datasets import FILES
from grading.feedback import feedback
from grading.files import OutputError, folder_name, write, write_json
from grading.gradescope import results
from grading.home import HomeError
from grading.marks import NOTHING, Given, Marks
from grading.people import People
from grading.rubric import Rubric, RubricError
from grading.spreadsheets import TableError
from grading.starter import StarterError
from grading.submission import NOT_YET

MOST_LINES = 20  # of changed points, on the terminal
QUESTION = re.compile(r"\d+(\.\d+)?[a-z]?")  # a number such as 4a or 3.2b


class _Parser(argparse.ArgumentParser):
    """argparse, but a mistake is one line on stderr instead of a page of usage."""

    def error(self, message: str) -> Any:
        say(f"{self.prog}: {message} (see --help)")
        self.exit(2)

    def given(self, options: argparse.Namespace, besides: Collection[str]) -> str:
        """The first flag with a value that is not its default, '' where there is none."""
        return next((action.option_strings[0] for action in self._actions if action.option_strings
                     and action.dest not in ("help", *besides)
                     and getattr(options, action.dest) != action.default), "")


def positive_int(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def place(text: str) -> Path:
    """A file or folder; ~ is the home folder, also where the shell has left it, as in --out=~/grades."""
    if (name := os.path.expanduser(text)).startswith("~"):
        raise argparse.ArgumentTypeError(f"{text!r}: no such home folder; for a folder of this name, write ./{text}")
    return Path(name)


def questions(text: str) -> list[str]:
    """Numbers of questions, as '3.2b' or '3.2b,1.2'."""
    if not (found := [word.strip() for word in text.split(",") if word.strip()]):
        raise ValueError
    return found


def parser(description: str) -> _Parser:
    """The flags, in groups."""
    made = _Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    group = made.add_argument_group("grade submissions")
    group.add_argument("submissions", nargs="*", type=place, metavar="SUBMISSION",
                       help="ZIP files or folders, named by the student, or as Canvas or Brightspace name them")
    group.add_argument("--data_dir", type=place, help="folder of CIFAR-10's batch files for the accuracy of the "
                       "default runs (default: none, shorter runs on a small stand-in)")
    group.add_argument("--jobs", type=positive_int, metavar="N",
                       help=f"workers at the same time (default: the processors, here {os.cpu_count()})")
    group.add_argument("--only", type=questions, action="extend", default=[], metavar="QUESTION[,QUESTION]",
                       help="grade these questions, again where they were graded; the others keep what they have")
    group.add_argument("--anonymous", action="store_true",
                       help=f"pseudonyms instead of names everywhere; OUT/{people.KEY} says who is who")
    group.add_argument("--allow-network", action="store_true",
                       help="leave the network open to submissions, where the kernel cannot close it")
    group.add_argument("--container", action="store_true", help="where bubblewrap cannot confine the submission, rely "
                       "on the container around this process, which must be for this submission alone (Gradescope)")
    group.add_argument("--results", type=place, metavar="FILE",
                       help="also write the (only) submission's results.json here")
    group.add_argument("--handout", type=place, action="append", default=[], metavar="DIR",
                       help="what your course hands out, so that nobody is similar or flagged for having it (besides "
                            "what --starter writes)")
    group.add_argument("--compare-with", type=place, action="append", default=[], metavar="DIR",
                       help="submissions of another year, ZIP files and folders, to compare this class with")
    group = made.add_argument_group("add what a person gave")
    group.add_argument("--merge", type=place, nargs="?", const=Path(), metavar="CSV",
                       help="make final.csv and the gradebooks from the grades and the points, comments and late days "
                            f"in CSV (default: OUT/{tables.WRITTEN})")
    group.add_argument("--assignment", metavar="NAME", help="the assignment's column in the gradebook, for Canvas with "
                       "its number, 'Practical 1 (12345)' (default: the rubric's title)")
    group = made.add_argument_group("for both")
    group.add_argument("--out", type=place, default=Path("grades"), help="folder of the results (default: grades)")
    group.add_argument("--rubric", type=place, default=rubric.DEFAULT,
                       help="rubric file, also for the other tasks (default: grading/rubric.toml)")
    group.add_argument("--roster", type=place, metavar="CSV",
                       help="class list: names, and an id, login or number; a gradebook exported from Canvas or "
                            f"Brightspace is one (default: the one given before, OUT/{people.ROSTER})")
    group = made.add_argument_group("other tasks")
    group.add_argument("--check", nargs="*", metavar="QUESTION", help="check your own folder (SUBMISSION, or the "
                       "current one) as the grader would: questions such as 1.2, or scripts (default: everything)")
    group.add_argument("--starter", type=place, metavar="DIR", help="write the handout from the reference")
    group.add_argument("--autograder", type=place, metavar="ZIP", help="write the file to upload to Gradescope")
    return made


def parse(description: str, argv: Sequence[str] | None) -> argparse.Namespace:
    flags = parser(description)
    options = flags.parse_intermixed_args(argv)
    if options.only:  # --only 3.2b 4a: the second is a question, too
        more = [path for path in options.submissions if QUESTION.fullmatch(str(path)) and not path.exists()]
        options.only += map(str, more)
        options.submissions = [path for path in options.submissions if path not in more]
    if options.check is not None:
        if flag := flags.given(options, besides=("submissions", "check", "rubric")):
            flags.error(f"{flag} does not belong to --check")
        if len(options.submissions) > 1:
            flags.error("--check takes one folder")
    options.jobs = options.jobs or os.cpu_count() or 1
    if options.check is not None:
        return options
    others = [name for name in ("merge", "starter", "autograder") if getattr(options, name) is not None]
    if len(others) > 1 or (others and options.submissions):
        flags.error(f"--{others[0]} stands alone, without submissions and other tasks")
    if not others and not options.submissions:
        flags.error("give at least one submission, a ZIP file or a folder")
    for name in ("results", "container"):
        if getattr(options, name) and len(options.submissions) != 1:
            flags.error(f"--{name} takes exactly one submission")
    if options.assignment is not None and options.merge is None:
        flags.error("--assignment belongs to --merge")
    if others and (idle := [name for name in ("only", "anonymous") if getattr(options, name)]):
        flags.error(f"--{idle[0]} belongs to submissions to grade, not to --{others[0]}")
    return options


def say(message: str) -> None:
    """On stderr, without what would move a terminal's cursor or change its colours, as names of files may hold."""
    with contextlib.suppress(OSError, ValueError):  # its terminal may be gone, or its disk full
        print("".join(c if c.isprintable() or c == "\n" else "_" for c in message), file=sys.stderr)


def write_student(out: Path, record: Record, rules: Rubric, given: Given = NOTHING, name: str = "") -> None:
    folder = out / "students" / folder_name(record["student"])
    marks = Marks(record, rules, given)
    write_json(folder / "results.json", results(marks))
    write(folder / "feedback.html", feedback(marks, name))


def write_class(out: Path, rules: Rubric, known: People | None = None,
                given: Mapping[str, Given] | None = None, interrupted: Sequence[str] = ()) -> list[Record]:
    """The class's tables and its summary. given: what a TA gave, once it is merged. interrupted: not graded yet."""
    known = known or People()
    records = classroom.records(out, rules)
    names = known.names(records)
    tables.write_grades(out, records, rules, names)
    unfinished = [(name, "interrupted: not graded yet") for name in interrupted]
    absent = [person.name for person in known.absent(records)]
    if absent and known.pseudonyms is not None:
        absent = [f"{len(absent)} of the roster"]
    unfinished += [(name, "no submission") for name in absent]
    marks = [Marks(record, rules, (given or {}).get(record["student"], NOTHING)) for record in records]
    changed = changes.update(out, records)
    for line in [change.line() for change in changed[:MOST_LINES]] + ["..."] * (len(changed) > MOST_LINES):
        say(f"changed: {line}")
    if changed:
        students = len({change.student for change in changed})
        say(f"points of {students} {'student' if students == 1 else 'students'} changed since the last run: see "
            f"{out / changes.CHANGES}")
    summary.write_summary(out, marks, rules, names=names, merged=given is not None,
                          unfinished=unfinished, changed=changed)
    return records


def real_data(data_dir: Path | None, measured: bool) -> Path | None:
    """`data_dir`, which holds CIFAR-10; a note, where accuracy is measured, and None without it. Raises ClassError."""
    if data_dir is None:
        if measured:
            say("note: without --data_dir, accuracy is measured in shorter runs on a small stand-in")
        return None
    if missing := [name for name in FILES if not (data_dir / name).is_file()]:
        raise ClassError(f"--data_dir: {data_dir} has no {missing[0]}; `python cifar10_utils.py fetch {data_dir}` "
                         "fetches CIFAR-10, and without the flag accuracy is measured on a small stand-in")
    import cifar10_utils  # the reference's: only a run on real data needs it

    if cifar10_utils.read_batch(data_dir / FILES[0]).title.startswith("synthetic"):
        say(f"note: {data_dir} holds no CIFAR-10 but the package's stand-in: accuracy is measured on a smaller one")
        return None
    return data_dir


def read_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import cifar10_utils

    batch = cifar10_utils.read_batch(path)
    return batch.pixels, batch.labels


def check_before_grading(options: argparse.Namespace, rules: Rubric) -> None:
    """Find out before an hour of grading: a wrong question, a folder to write to, tables that a TA has broken."""
    numbers = [row.number for row in rules.code]
    if wrong := next((name for name in options.only if name not in numbers), ""):
        raise ClassError(f"--only: {wrong!r} is not a code question; they are {', '.join(numbers)}")
    for folder in (*options.handout, *options.compare_with):
        if not folder.is_dir():
            raise ClassError(f"{folder} is not a folder; --handout and --compare-with take folders")
    scan.HANDED_OUT = set().union(*map(scan.handed_out, options.handout))
    write(options.out / ".writable", "")
    (options.out / ".writable").unlink(missing_ok=True)  # of another grader, too
    if (options.out / tables.WRITTEN).exists():
        tables.read(options.out / tables.WRITTEN)


def merged_before(out: Path, rules: Rubric) -> dict[str, Given] | None:
    """What a TA gave, once it was merged; None before, and where the table is not in order."""
    with contextlib.suppress(TableError):
        if (out / tables.FINAL).exists():
            return tables.read_written(out / tables.WRITTEN, classroom.records(out, rules), rules)
    return None


def grade(options: argparse.Namespace, rules: Rubric) -> int:
    check_before_grading(options, rules)
    with locks.locked(options.out / classroom.LOCKS / "people"):
        known = people.load(options.out, options.roster, options.anonymous)
        class_ = classroom.submissions(options.submissions, known)
        known.keep(options.out)
    bad, stale = 0, []
    measured = any(check.id == "accuracy" for row in rules.code if row.number in (options.only or [row.number])
                   for check in row.checks)
    with (Classroom(options.out, rules, options.jobs, real_data(options.data_dir, measured), read_batch,
                    options.allow_network, options.only, options.container) as room,
          tqdm(total=len(class_), unit="submission", disable=None, dynamic_ncols=True) as bar):
        for warning in room.sandbox.warnings():
            say(f"warning: {warning}")
        say(f"submissions: {len(class_)}, workers at the same time: {options.jobs}")
        waiting = {one.student: one.path for one in class_}

        def finish(record: Record, new: bool) -> None:
            nonlocal bad
            path = waiting.pop(record["student"])
            merged = (options.out / tables.FINAL).exists()
            if new or not merged:  # pages that --merge has written keep what a TA gave
                write_student(options.out, record, rules, name=known.names([record]).get(record["student"], ""))
            stale.extend([record["student"]] if new and merged else [])
            if options.results:
                write_json(options.results, results(Marks(record, rules)))
            bad += bool(record["error"]) or any(question.get("ungraded") not in (None, NOT_YET)
                                                for question in record["questions"].values())
            bar.update()
            missing = record["error"].startswith(f"holds no {archive.MARKER}") and not options.results
            way_out = "; of a folder of submissions, give each one: FOLDER/*"
            tqdm.write(line_of(record, rules, new) + way_out * (missing and archive.may_be_a_class(path)),
                       file=sys.stderr)

        def write_all() -> list[Record]:
            given = merged_before(options.out, rules)
            records = write_class(options.out, rules, known, given, list(waiting))
            tables.write_form(options.out, records, rules)
            return records

        try:
            room.grade(class_, finish)
        except KeyboardInterrupt:
            records = write_all()
            say(f"\ninterrupted: {len(records)} submissions are finished and kept in {options.out}; run it again for "
                "the rest")
            return 130
        kept = {record["student"] for record in classroom.records(options.out, rules)}
        if lost := [one.student for one in class_ if one.student not in kept]:
            raise ClassError(f"{options.out / 'students'} has no record of {lost[0]}, which was just graded; no table "
                             "was written: run it again with another --out")
        if not room.is_last():
            say(f"other graders are at work on {options.out}; the last of them writes the tables")
            return 1 if bad else 0
        records = write_all()
        if not options.results:  # one submission on Gradescope has nobody to be compared with
            compare_with_each_other(options, room, records, known)
    say_what_to_do(options.out, [f"note: {problem}" for problem in known.problems(records)], records, stale)
    return 1 if bad else 0


def compare_with_each_other(options: argparse.Namespace, room: Classroom, records: list[Record],
                            known: People) -> None:
    """Write the page of similar submissions, and say so where there are any."""
    pairs = similarity.write_page(options.out, {one["student"]: room.folder(one["student"]) for one in records},
                                  known.names(records), options.handout, options.compare_with).pairs
    if pairs:
        many = f"{len(pairs)} pairs of submissions are" if len(pairs) > 1 else "1 pair of submissions is"
        say(f"note: {many} similar: look at {options.out / similarity.PAGE}")


def say_what_to_do(out: Path, notes: list[str], records: list[Record], stale: list[str]) -> None:
    """What a TA should look at next. stale: students whose grades are newer than the last --merge."""
    if doubtful := summary.suspects(records):
        notes.append(f"note: almost no submission passes {len(doubtful)} of the checks; the grader may be at fault "
                     "(see the summary)")
    if stale:
        notes.append(f"{tables.FINAL} does not know the new grades of {', '.join(stale[:5])}"
                     f"{' and others' * (len(stale) > 5)}: run --merge again")
    for note in notes:
        say(note)
    print(f"grades: {out / tables.GRADES}   summary: {out / 'summary.html'}   "
          f"written questions, to fill in: {out / tables.WRITTEN}")


def line_of(record: Record, rules: Rubric, new: bool) -> str:
    """What is said of a submission as soon as it is graded."""
    marks = Marks(record, rules)
    if record["error"]:
        return f"{record['student']}: {record['error']}"
    points = f"{summary.code_total(record):g} code points" + (f", {marks.state}" if marks.code is None else "")
    return f"{record['student']}: {points} in {record['seconds']:.1f} s{'' if new else ', graded before'}"


def merge(options: argparse.Namespace, rules: Rubric) -> int:
    path = options.out / tables.WRITTEN if options.merge == Path() else options.merge
    records = classroom.records(options.out, rules)
    if not records:
        raise TableError(f"{options.out} holds no graded submissions; grade first, or give their folder with --out")
    known = people.load(options.out, options.roster)
    given = tables.read_written(path, records, rules)
    write_class(options.out, rules, known, given)  # with the points of today's rubric
    names, marks = known.names(records), [Marks(record, rules, given[record["student"]]) for record in records]
    tables.write_final(options.out, marks, rules, known.names(records, revealed=True))
    for record in records:
        student = record["student"]
        write_student(options.out, record, rules, given[student], names.get(student, ""))
    most = sum(row.points for row in rules.questions if not row.bonus)
    books, left_out = gradebooks.write_gradebooks(options.out, marks, known, options.assignment or rules.title, most)
    print("   ".join([f"final table: {options.out / tables.FINAL}", *(f"gradebook: {book}" for book in books)]))
    own = [f"{path} has a column {name!r}, which is not read" for name in
           tables.own_columns(tables.read(path)[0], rules)]
    for problem in [*own, *known.problems(records), *left_out]:
        say(f"note: {problem}")
    still_open = {one.record["student"]: one.open for one in marks if one.open}
    if still_open:
        some = "; ".join(f"{student}: {', '.join(numbers)}" for student, numbers in list(still_open.items())[:5])
        say(f"{len(still_open)} of {len(records)} students have questions without points, and so no total "
            f"({some}{'; ...' * (len(still_open) > 5)}); fill them in in {path}")
    return 1 if still_open else 0


def main(description: str, argv: Sequence[str] | None = None) -> int:
    """Run it; every foreseeable mistake is one line and an exit status."""
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115
    with contextlib.suppress(AttributeError, ValueError):  # a name that standard output cannot encode ends nothing
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    options = parse(description, argv)
    try:
        rules = rubric.load(options.rubric)
        if wrong := submission.unknown_checks(rules):
            raise RubricError(f"{options.rubric}: {wrong}")
        if options.check is not None:
            return home.check(options.submissions[0] if options.submissions else Path(), options.check, rules)
        if options.starter:
            files = starter.write_starter(options.starter, submission.REFERENCE, options.rubric)
            print(f"{len(files)} files in {options.starter}")
            return 0
        if options.autograder:
            print(f"{autograder.write_autograder(options.autograder, options.rubric)} files in {options.autograder}")
            return 0
        return merge(options, rules) if options.merge is not None else grade(options, rules)
    except (RubricError, ClassError, OutputError, TableError, StarterError, ConfinementError,
            HomeError) as error:
        say(f"grade.py: {error}")
        return 2
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        say(f"grade.py: {place}{error.strerror or error}; what is finished is kept: run it again after fixing that")
        return 2
    except Exception as error:
        if type(error).__name__ != "DataError":  # cifar10_utils may not have been imported
            raise
        say(f"grade.py: --data_dir: {error}")
        return 2
