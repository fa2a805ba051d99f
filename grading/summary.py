"""The class on one page: histogram, questions, hardest checks, flags; and the histogram as a picture of its own."""

from __future__ import annotations

import base64
import io
import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grading.files import write
from grading.gradescope import points
from grading.page import page, text
from grading.rubric import Rubric
from grading.submission import Record

HARDEST = 12


def code_total(record: Record) -> float:
    return round(sum(question["score"] or 0.0 for question in record["questions"].values()), 2)


def histogram(records: Sequence[Record], rubric: Rubric) -> bytes:
    """A PNG: how many submissions have how many code points."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import, and not needed to grade
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    most = sum(row.points for row in rubric.code)
    width = 3 if most <= 60 else 5
    edges = [i * width for i in range(int(most // width) + 2)]
    figure = Figure(figsize=(8, 3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    totals = [code_total(record) for record in records if not record["error"]]
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


def hardest(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Checks by the share of their points that the class earned, least first; those with full marks left out.

    {question, title, share, failed: submissions below full points, diagnosis: the commonest}.
    """
    checks: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for record in records:
        if record["error"]:
            continue
        for number, question in record["questions"].items():
            for check in question["checks"] if not question.get("ungraded") else ():
                checks.setdefault((number, check["title"]), []).append(check)
    rows = []
    for (number, title), found in checks.items():
        failed = [check for check in found if check["score"] < check["points"]]
        if failed:
            common = Counter(check["diagnosis"] for check in failed).most_common(1)[0]
            rows.append({"question": number, "title": title, "failed": len(failed), "diagnosis": common[0],
                         "share": sum(check["score"] for check in found) / sum(check["points"] for check in found)})
    return sorted(rows, key=lambda row: (row["share"], -row["failed"], row["question"]))


def table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int]) -> str:
    def cells(values: Sequence[str], tag: str) -> str:
        return "".join(f'<{tag}{" class=number" if i in numbers else "" if i else " class=id"}>{value}</{tag}>'
                       for i, value in enumerate(values))

    return (f"<table><thead><tr>{cells(header, 'th')}</tr></thead><tbody>"
            + "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows) + "</tbody></table>")


def summary(records: Sequence[Record], rubric: Rubric, picture: bytes, warnings: Sequence[str]) -> str:
    whole = [record for record in records if not record["error"]]
    totals = [code_total(record) for record in whole]
    most = sum(row.points for row in rubric.code)
    many = "submission" if len(records) == 1 else "submissions"
    lines = [f"<h1>{text(rubric.title)}</h1>", f'<p class="soft">{len(records)} {many}']
    if totals:
        lines[-1] += (f", code points: mean {statistics.mean(totals):.1f}, median {statistics.median(totals):.1f}, "
                      f"lowest {min(totals):g}, highest {max(totals):g} of {points(most)}")
    unread = len(records) - len(whole)
    lines[-1] += (f"; {unread} not graded" if unread else "") + "</p>"
    if data := sorted({record["data"] for record in whole if record.get("data")}):
        lines.append(f'<p class="soft">Accuracy was measured on {text(" or ".join(data))}.</p>')
    lines.append(f'<section class="card"><img alt="Histogram of code points" '
                 f'src="data:image/png;base64,{base64.b64encode(picture).decode()}"></section>')
    rows = []
    for row in rubric.code:
        scores = [score for record in whole if (score := record["questions"][row.number]["score"]) is not None]
        if scores:
            rows.append([text(row.number), text(row.title), f"{statistics.mean(scores):.1f} / {points(row.points)}",
                         f"{sum(value >= row.points for value in scores)}"])
    lines += ["<h2>Questions</h2>", table(["", "question", "mean", "full points"], rows, (2, 3))]
    checks = hardest(records)[:HARDEST]
    lines.append("<h2>Hardest checks</h2>")
    lines.append(table(["", "check", "earned", "not full", "commonest diagnosis"], [
        [text(row["question"]), text(row["title"]), f"{100 * row['share']:.0f} %", str(row["failed"]),
         text(row["diagnosis"])] for row in checks], (2, 3))
        if checks else "<p>Every check was passed by everyone.</p>")
    flagged = [[text(record["student"]), "<br>".join(text(flag) for flag in (
        ([f"not graded: {record['error']}"] if record["error"] else []) + record["flags"]))]
        for record in records if record["flags"] or record["error"]]
    if flagged:
        lines += ["<h2>For the TA to look at</h2>", table(["student", "flags"], flagged, ())]
    if warnings:
        lines += ["<h2>Protection of this machine</h2>", *(f"<p>{text(warning)}</p>" for warning in warnings)]
    return page(f"{rubric.title}: summary", "\n".join(lines))


def write_summary(out: Path, records: Sequence[Record], rubric: Rubric, warnings: Sequence[str]) -> None:
    picture = histogram(records, rubric)
    write(out / "histogram.png", picture)
    write(out / "summary.html", summary(records, rubric, picture, warnings))
