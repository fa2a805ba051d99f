"""The command line of `grade.py`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from grading import autograder, classroom, rubric, starter, submission, summary, tables
from grading.classroom import ClassError, Classroom, Record
from grading.confinement import ConfinementError
from grading.datasets import FILES
from grading.feedback import feedback
from grading.files import OutputError, folder_name, write, write_json
from grading.gradescope import Written, results
from grading.rubric import Rubric, RubricError
from grading.starter import StarterError
from grading.tables import TableError


class _Parser(argparse.ArgumentParser):
    """argparse, but a mistake is one line on stderr instead of a page of usage."""

    def error(self, message: str) -> Any:
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def parse(description: str, argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("submissions", nargs="*", type=Path, metavar="SUBMISSION", help="ZIP files or folders")
    parser.add_argument("--data_dir", type=Path, help="folder of CIFAR-10's batch files for the accuracy of the "
                        "default runs (default: none, shorter runs on a small stand-in)")
    parser.add_argument("--out", type=Path, default=Path("grades"), help="folder of the results (default: grades)")
    parser.add_argument("--jobs", type=positive_int, default=os.cpu_count() or 1, metavar="N",
                        help=f"workers at the same time (default: the processors, here {os.cpu_count()})")
    parser.add_argument("--allow-network", action="store_true",
                        help="leave the network open to submissions, where the kernel cannot close it")
    parser.add_argument("--rubric", type=Path, default=rubric.DEFAULT,
                        help="rubric file (default: grading/rubric.toml)")
    parser.add_argument("--merge", type=Path, nargs="?", const=Path(), metavar="CSV",
                        help="make final.csv from the grades and the written questions' points "
                             "(default: OUT/written.csv)")
    parser.add_argument("--starter", type=Path, metavar="DIR", help="write the handout from the reference")
    parser.add_argument("--autograder", type=Path, metavar="ZIP", help="write the file to upload to Gradescope")
    parser.add_argument("--results", type=Path, metavar="FILE",
                        help="also write the (only) submission's results.json here")
    options = parser.parse_args(argv)
    others = [name for name in ("merge", "starter", "autograder") if getattr(options, name) is not None]
    if len(others) > 1 or (others and options.submissions):
        parser.error(f"--{others[0]} stands alone, without submissions and other tasks")
    if not others and not options.submissions:
        parser.error("give at least one submission, a ZIP file or a folder")
    if options.results and len(options.submissions) != 1:
        parser.error("--results takes exactly one submission")
    return options


def say(message: str) -> None:
    print(message, file=sys.stderr)


def write_student(out: Path, record: Record, rules: Rubric, written: Written | None = None, comment: str = "") -> None:
    folder = out / "students" / folder_name(record["student"])
    write_json(folder / "results.json", results(record, rules, written, comment))
    write(folder / "feedback.html", feedback(record, rules, written, comment))


def write_class(out: Path, rules: Rubric, warnings: Sequence[str]) -> list[Record]:
    records = classroom.records(out, rules)
    tables.write_grades(out, records, rules)
    tables.write_form(out, records, rules)
    summary.write_summary(out, records, rules, warnings)
    return records


def real_data(data_dir: Path | None) -> Path | None:
    """`data_dir`, which holds CIFAR-10; a note and None without it. Raises ClassError."""
    if data_dir is None:
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


def grade(options: argparse.Namespace, rules: Rubric) -> int:
    class_ = classroom.submissions(options.submissions)
    if wrong := submission.unknown_checks(rules):
        raise RubricError(f"{options.rubric}: {wrong}")
    write(options.out / ".writable", "")  # find out before an hour of grading
    (options.out / ".writable").unlink()
    if (options.out / tables.WRITTEN).exists():
        tables.read(options.out / tables.WRITTEN)  # one that a TA has broken, too
    bad, stale = 0, []
    with (Classroom(options.out, rules, options.jobs, real_data(options.data_dir), read_batch,
                    options.allow_network) as room,
          tqdm(total=len(class_), unit="submission", disable=None, dynamic_ncols=True) as bar):
        warnings = room.sandbox.warnings()
        for warning in warnings:
            say(f"warning: {warning}")
        say(f"submissions: {len(class_)}, workers at the same time: {options.jobs}")

        def finish(record: Record, new: bool) -> None:
            nonlocal bad
            merged = (options.out / tables.FINAL).exists()
            if new or not merged:  # pages that --merge has written keep what a TA gave
                write_student(options.out, record, rules)
            stale.extend([record["student"]] if new and merged else [])
            if options.results:
                write_json(options.results, results(record, rules))
            bad += bool(record["error"])
            bar.update()
            code = summary.code_total(record)
            line = f"{record['student']}: {code:g} code points in {record['seconds']:.1f} s"
            tqdm.write(f"{record['student']}: {record['error']}" if record["error"] else
                       line if new else f"{line}, graded before", file=sys.stderr)

        try:
            room.grade(class_, finish)
        except KeyboardInterrupt:
            records = write_class(options.out, rules, warnings)
            say(f"\ninterrupted: {len(records)} submissions are finished and kept in {options.out}; run it again for "
                "the rest")
            return 130
        write_class(options.out, rules, warnings)
    if stale:
        say(f"{tables.FINAL} does not know the new grades of {', '.join(stale[:5])}{' and others' * (len(stale) > 5)}: "
            "run --merge again")
    print(f"grades: {options.out / tables.GRADES}   summary: {options.out / 'summary.html'}   "
          f"written questions, to fill in: {options.out / tables.WRITTEN}")
    return 1 if bad else 0


def merge(options: argparse.Namespace, rules: Rubric) -> int:
    path = options.out / tables.WRITTEN if options.merge == Path() else options.merge
    records = classroom.records(options.out, rules)
    if not records:
        raise TableError(f"{options.out} holds no graded submissions; grade first, or give their folder with --out")
    written = tables.read_written(path, records, rules)
    comments = tables.comments(path)
    tables.write_grades(options.out, records, rules)  # with the points of today's rubric
    tables.write_final(options.out, records, rules, written)
    for record in records:
        student = record["student"]
        write_student(options.out, record, rules, written[student], comments.get(student, ""))
    print(f"final table: {options.out / tables.FINAL}")
    still_open = tables.open_questions(written, rules)
    if still_open:
        some = "; ".join(f"{student}: {', '.join(numbers)}" for student, numbers in list(still_open.items())[:5])
        say(f"{len(still_open)} of {len(records)} students have written questions without points, and so no total "
            f"({some}{'; ...' * (len(still_open) > 5)}); fill them in in {path}")
    return 1 if still_open else 0


def main(description: str, argv: Sequence[str] | None = None) -> int:
    """Run it; every foreseeable mistake is one line and an exit status."""
    options = parse(description, argv)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    handler = signal.signal(signal.SIGTERM, stop)
    try:
        if options.starter:
            files = starter.write_starter(options.starter, submission.REFERENCE)
            print(f"{len(files)} files in {options.starter}")
            return 0
        if options.autograder:
            print(f"{autograder.write_autograder(options.autograder)} files in {options.autograder}")
            return 0
        rules = rubric.load(options.rubric)
        return merge(options, rules) if options.merge is not None else grade(options, rules)
    except (RubricError, ClassError, OutputError, TableError, StarterError, ConfinementError) as error:
        say(f"grade.py: {error}")
        return 2
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except Exception as error:
        if type(error).__name__ != "DataError":  # cifar10_utils may not have been imported
            raise
        say(f"grade.py: --data_dir: {error}")
        return 2
    finally:
        signal.signal(signal.SIGTERM, handler)
