"""A submission that only has answers, recorded where a right solution was graded, has no points and is flagged."""

import base64
import io
import json

import numpy as np
import pytest
from grading_help import confined_or_skip, failures, needs_confinement, reduced
from grading_mutants import FILES, copy_reference

from grading.classroom import Classroom, submissions

pytestmark = [pytest.mark.grading, pytest.mark.timeout(1800), needs_confinement]

# Finds what it is asked in the frames above it, writes the recorded reply where the worker would, and leaves.
FORGER = """
import base64, json, os, sys
from answers import TABLE
getframe, leave = getattr(sys, "_get" + "frame"), getattr(os, "_ex" + "it")
frame = getframe()
while frame and not {"request", "npz", "reply"} <= set(frame.f_locals):
    frame = frame.f_back
if frame:
    asked = frame.f_locals
    options = asked["request"]["options"]
    key = " ".join(map(str, (asked["request"]["name"], asked["request"]["function"], options.get("class"),
                             options.get("script"))))
    npz, reply = TABLE[key]
    os.write(asked["npz"], base64.b64decode(npz))
    os.write(asked["reply"], reply.encode())
    leave(0)
"""


def recorded(folder, rules, out):
    """{a probe's key: (its arrays, its reply)} of a submission, and its record."""
    table, records = {}, []
    with Classroom(out, rules, 2) as room:
        run = room.sandbox.run

        def watched(code, probes, *arguments, **keywords):
            replies = run(code, probes, *arguments, **keywords)
            for name, probe in probes.items():
                arrays = io.BytesIO()
                np.savez(arrays, **replies[name].arrays)
                key = " ".join(map(str, (name, probe.function, probe.options.get("class"), probe.options.get("script"))))
                table[key] = (base64.b64encode(arrays.getvalue()).decode(),
                              json.dumps({"error": None, "notes": dict(replies[name].notes)}))
            return replies

        room.sandbox.run = watched
        room.grade(submissions([folder]), lambda record, new: records.append(record))
    return table, records[0]


def forged(folder, table):
    """A submission of every file, none of which holds more than the table."""
    folder.mkdir()
    for name in FILES:
        (folder / name).write_text(FORGER)
    (folder / "answers.py").write_text(f"TABLE = {table!r}\n")
    return folder


def graded(folder, rules, out):
    records = []
    with Classroom(out, rules, 2) as room:
        room.grade(submissions([folder]), lambda record, new: records.append(record))
    return records[0]


def points(record):
    return {f"{number} {check['id']}": check["score"] for number, question in record["questions"].items()
            for check in question["checks"] if check["score"]}


@pytest.mark.slow
@pytest.mark.parametrize("scripts", [False, True], ids=["modules", "scripts"])
def test_a_table_of_recorded_replies_has_no_points_and_a_flag(tmp_path, scripts):
    confined_or_skip()
    rules = reduced(["1.2", "2.1", "3.1", "3.2b", "3.2c", "4a"], scripts=scripts)
    table, record = recorded(copy_reference(tmp_path / "right"), rules, tmp_path / "grades")
    assert not failures(record)
    found = graded(forged(tmp_path / "forged", table), rules, tmp_path / "others")
    assert not points(found)
    assert any("_getframe" in flag for flag in found["flags"])
