"""The class on one page: students, questions, hardest checks, and where the grader itself may be wrong."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from grading.changes import Change
from grading.files import ABSENT, folder_name, write
from grading.marks import Marks
from grading.page import render
from grading.rubric import Rubric
from grading.submission import Record

HARDEST = 12
SUSPECT_SHARE, SUSPECT_FROM = 0.8, 5  # so many fail, of at least so many: the check may be wrong, not they
MESSAGES = 3


def code_total(record: Record) -> float:
    """Code points so far: what could not be graded adds nothing."""
    return round(sum(question["score"] or 0.0 for question in record["questions"].values()), 2)


@contextlib.contextmanager
def default_settings() -> Iterator[None]:
    """Inside, matplotlib has its defaults, whatever backend and settings the environment names."""
    before = dict(os.environ)
    os.environ |= {"MPLBACKEND": "agg", "MATPLOTLIBRC": os.devnull}  # it reads them when it is imported
    try:
        import matplotlib  # slow, and not needed to grade

        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            yield
    finally:
        os.environ.clear()
        os.environ |= before


@default_settings()
def histogram(totals: Sequence[float], most: float) -> bytes:
    """A PNG: how many submissions have how many code points."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    width = 3 if most <= 60 else 5
    edges = [i * width for i in range(int(most // width) + 2)]
    figure = Figure(figsize=(8, 3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.hist(totals, bins=edges, color="#4a5fc1", edgecolor="white")
    if totals:
        median = statistics.median(totals)
        axes.axvline(median, color="#b3261e", linestyle="--", linewidth=1.2, label=f"median {median:.1f}")
        axes.legend(frameon=False, loc="upper left")
    axes.set_xlim(0, edges[-1])
    axes.set_xlabel(f"code points (of {most:g})")
    axes.set_ylabel("submissions")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=150, metadata={"Software": None})
    return out.getvalue()


def by_check(records: Sequence[Record]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """{(question, check's title): what every submission that was graded has there}."""
    checks: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for record in records:
        for number, question in record["questions"].items() if not record["error"] else ():
            for check in question["checks"] if not question.get("ungraded") else ():
                checks.setdefault((number, check["title"]), []).append(check)
    return checks


def hardest(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Checks by the share of their points that the class earned, least first; those with full marks left out.

    {question, title, share, failed: submissions below full points, diagnosis: the commonest}.
    """
    rows = []
    for (number, title), found in by_check(records).items():
        failed = [check for check in found if check["score"] < check["points"]]
        if failed:
            common = Counter(check["diagnosis"] for check in failed).most_common(1)[0]
            rows.append({"question": number, "title": title, "failed": len(failed), "diagnosis": common[0],
                         "share": sum(check["score"] for check in found) / sum(check["points"] for check in found)})
    return sorted(rows, key=lambda row: (row["share"], -row["failed"], row["question"]))


def suspects(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Checks that almost nobody passes, so that the grader may be wrong: {question, titles, failed, graded, messages}.

    messages: the commonest, with how many submissions got each; checks of a question that share them share a row.
    A check of a file that was not handed in says nothing about the grader, and does not count.
    """
    rows: dict[str, dict[str, Any]] = {}
    for (number, title), all_found in by_check(records).items():
        found = [check for check in all_found if not check["diagnosis"].endswith(f"{ABSENT}.")]
        failed = [check for check in found if check["fraction"] < 1]
        if len(found) >= SUSPECT_FROM and len(failed) >= SUSPECT_SHARE * len(found):
            messages = Counter(check["diagnosis"] or check["numbers"] or "no message" for check in failed)
            row = {"question": number, "failed": len(failed), "graded": len(found),
                   "messages": messages.most_common(MESSAGES)}
            rows.setdefault(str(row), {**row, "titles": []})["titles"].append(title)
    return list(rows.values())


def ungraded(marks: Sequence[Marks]) -> list[tuple[str, int]]:
    """Why code questions have no points, and how many, the commonest first."""
    return Counter(one.record["questions"][row.question.number]["ungraded"] for one in marks for row in one.rows
                   if not row.question.written and row.score is None).most_common()


def summary(marks: Sequence[Marks], rubric: Rubric, picture: bytes,
            names: Mapping[str, str] | None = None, merged: bool = False,
            unfinished: Sequence[tuple[str, str]] = (), changed: Sequence[Change] = ()) -> str:
    """The page. names: by student, where known. merged: show what a TA gave.

    unfinished: (name, state) of those without a record. changed: points that changed since the last run.
    """
    records = [one.record for one in marks]
    whole = [one for one in marks if not one.record["error"]]
    questions = [(row, scores) for row in rubric.code
                 if (scores := [score for one in whole for mark in one.rows
                                if mark.question is row and (score := mark.score) is not None])]
    roster = [{"marks": one, "student": one.record["student"],
               "name": (names or {}).get(one.record["student"]) or one.record["student"],
               "link": f"students/{folder_name(one.record['student'])}/feedback.html"} for one in marks]
    return render(
        "summary.html", rubric=rubric, roster=roster, totals=totals(marks), unread=len(marks) - len(whole),
        most=sum(row.points for row in rubric.code), merged=merged, unfinished=unfinished, questions=questions,
        data=sorted({one.data for one in whole if one.data}), suspects=suspects(records),
        ungraded=ungraded(marks), picture=base64.b64encode(picture).decode(), hardest=hardest(records)[:HARDEST],
        warnings=sorted({line for record in records for line in record.get("warnings", [])}), changed=changed)


def totals(marks: Sequence[Marks]) -> list[float]:
    """Code points of the submissions that were graded whole."""
    return [one.code for one in marks if not one.record["error"] and one.code is not None]


def write_summary(out: Path, marks: Sequence[Marks], rubric: Rubric, **more: Any) -> None:
    """summary.html and histogram.png. more: see `summary`."""
    picture = histogram(totals(marks), sum(row.points for row in rubric.code))
    write(out / "histogram.png", picture)
    write(out / "summary.html", summary(marks, rubric, picture, **more))
