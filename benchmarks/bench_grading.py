"""How long the grader takes for the reference, with one worker and with one a processor.

Goal: 57 of 57 code points in at most 60 s, without the accuracy runs on real data. The limit is the
workers' processor time, shared evenly among as many processors: what is above it is waiting. The profile is of wall
time by question.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.profiles import ROOT, largest
from benchmarks.rows import Row, Skipped, row
from grading import rubric
from grading.classroom import Classroom, submissions
from grading.confinement import ConfinementError
from grading.summary import code_total

GOAL_SECONDS = 60


def graded(jobs: int) -> tuple[float, float, float, dict[str, float]]:
    """Wall seconds, processor seconds, the code points and the seconds of each question."""
    sys.path.insert(0, str(ROOT / "tests"))
    from grading_mutants import copy_reference

    records = []
    with tempfile.TemporaryDirectory() as folder:
        copy_reference(Path(folder, "class", "reference"))
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        with Classroom(Path(folder, "grades"), rubric.load(), jobs) as room:
            room.grade(submissions([Path(folder, "class", "reference")]), lambda record, new: records.append(record))
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    questions = {f"question {number}": found["seconds"] for number, found in records[0]["questions"].items()}
    return wall, used, code_total(records[0]), questions


def rows(quick: bool) -> list[Row]:
    found = []
    processors = os.cpu_count() or 1
    for jobs in [processors] if quick else sorted({1, processors}):
        try:
            wall, used, points, questions = graded(jobs)
        except ConfinementError as error:
            raise Skipped(f"submissions cannot be confined here: {error}") from None
        limit = f"processor time / {jobs}"
        seconds = {"ours": [wall], f"{GOAL_SECONDS} s": [float(GOAL_SECONDS)], limit: [used / jobs]}
        found.append(row("Grading", f"the reference ({points:g} points), {jobs} at once", seconds, "ours",
                         f"{GOAL_SECONDS} s", limit, reference_goal=1.0, profile=largest(questions)))
    return found
