"""How long the grader takes: the reference alone, and a class of copies of it.

    python benchmarks/bench_grading.py                      # the reference, three times, with one worker and with two
    python benchmarks/bench_grading.py --students 30        # and a class of 30 copies, with one worker a processor

Goal: the reference has 57 of 57 code points in at most 60 s, without the accuracy runs on real data. Seconds are wall
time; "processor" is what all workers used together, so that a busy machine shows.
"""

import argparse
import os
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from grading_mutants import copy_reference  # noqa: E402

from grading import rubric  # noqa: E402
from grading.classroom import Classroom, submissions  # noqa: E402
from grading.summary import code_total  # noqa: E402


def timed(students: int, jobs: int) -> tuple[float, float, list[float]]:
    """Wall seconds, processor seconds, and the code points of each student."""
    with tempfile.TemporaryDirectory() as folder:
        work, points = Path(folder), []
        for i in range(students):
            copy_reference(work / "class" / f"student{i:02d}")
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        with Classroom(work / "grades", rubric.load(), jobs) as room:
            room.grade(submissions(list((work / "class").iterdir())),
                       lambda record, new: points.append(code_total(record)))
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, points


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each kind, interleaved (default: 3)")
    parser.add_argument("--students", type=int, default=0, help="also a class of so many (default: none)")
    options = parser.parse_args()
    runs: dict[int, list[tuple[float, float, list[float]]]] = {1: [], 2: []}
    for _ in range(options.repeats):
        for jobs, found in runs.items():
            found.append(timed(1, jobs))
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    for jobs, found in runs.items():
        walls, cpu = [wall for wall, _, _ in found], [used for _, used, _ in found]
        points = {value for _, _, values in found for value in values}
        print(f"reference, --jobs {jobs}: {sorted(points)} points, wall {statistics.median(walls):.1f} s "
              f"({min(walls):.1f} to {max(walls):.1f}), processor {statistics.median(cpu):.1f} s")
    if options.students:
        jobs = os.cpu_count() or 1
        wall, used, values = timed(options.students, jobs)
        print(f"class of {options.students}, --jobs {jobs}: {sorted(set(values))} points, wall {wall:.0f} s, "
              f"{wall / options.students:.1f} s a student, processor {used:.0f} s")


if __name__ == "__main__":
    main()
