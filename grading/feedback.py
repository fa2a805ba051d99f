"""A record as a page for the student: what is right, what is wrong, the numbers, and what is still open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grading.gradescope import OPEN, Written, common_cause, points, score, total
from grading.page import level, page, text
from grading.rubric import Question, Rubric
from grading.submission import Record

MARKS = {"good": "✓", "part": "◐", "bad": "✗"}


def check_item(check: Mapping[str, Any], cause: str) -> str:
    kind = level(check["score"], check["points"])
    lines = [f'<li><span class="mark {kind}">{MARKS[kind]}</span><div class="row"><span>{text(check["title"])}</span>'
             f'<span class="points {kind}">{points(check["score"])} / {points(check["points"])}</span></div>']
    if kind != "good":
        if check["diagnosis"] and check["diagnosis"] != cause:
            lines.append(f'<div class="diagnosis">{text(check["diagnosis"])}</div>')
        if check["numbers"]:
            lines.append(f'<div class="numbers">{text(check["numbers"])}</div>')
    return "".join(lines) + "</li>"


def bar(share: float) -> str:
    return f'<div class="bar"><i style="width:{100 * min(max(share, 0), 1):.0f}%"></i></div>'


def card(row: Question, record: Record, written: Written) -> str:
    got = score(row, record, written)
    if got is None:
        reason = OPEN if row.written else f"Not graded: {record['questions'][row.number]['ungraded']}."
        return (f'<section class="card"><div class="head"><b>{text(row.number)} &nbsp;{text(row.title)}</b>'
                f'<span class="points open">open / {points(row.points)}</span></div>'
                f'<p class="soft">{text(reason)}</p></section>')
    kind = level(got, row.points)
    head = (f'<section class="card"><div class="head"><b>{text(row.number)} &nbsp;{text(row.title)}</b>'
            f'<span class="points {kind}">{points(got)} / {points(row.points)}</span></div>'
            f'<div class="{kind}">{bar(got / row.points)}</div>')
    if row.written:
        return head + '<p class="soft">Graded by hand from the report.</p></section>'
    checks = record["questions"].get(row.number, {}).get("checks", [])
    cause = common_cause(checks)
    return (head + (f'<div class="diagnosis">{text(cause)}</div>' if cause else "")
            + f'<ul class="checks">{"".join(check_item(check, cause) for check in checks)}</ul></section>')


def feedback(record: Record, rubric: Rubric, written: Written | None = None, comment: str = "") -> str:
    """The page. written, comment: points of the written questions, and what a TA says, once they are graded."""
    written = written or {}
    code = sum(row.points for row in rubric.code)
    got = sum(score(row, record, {}) or 0 for row in rubric.code)
    by_hand = [row for row in rubric.written if row.number in written]
    missing = [row.number for row in rubric.written if row.number not in written and not row.bonus]
    lines = [f"<h1>{text(record['student'])}</h1>", f'<p class="soft">{text(rubric.title)}</p>',
             f'<section class="card"><div class="head"><b>Code</b><span class="points {level(got, code)}">'
             f'{points(round(got, 2))} / {points(code)}</span></div>'
             f'<div class="{level(got, code)}">{bar(got / code)}</div>']
    if by_hand:
        most, all_most = (sum(row.points for row in rows if not row.bonus) for rows in (by_hand, rubric.questions))
        bonus = ", bonus included" if any(written[row.number] for row in by_hand if row.bonus) else ""
        lines.append(f'<p>Written questions: {points(round(sum(written[row.number] for row in by_hand), 2))} / '
                     f"{points(most)}{bonus}</p>")
        if not missing:
            lines.append(f"<p><b>Total: {points(total(rubric, record, written))} / {points(all_most)}</b>{bonus}</p>")
    if comment:
        lines.append(f"<p>{text(comment)}</p>")
    if missing:
        lines.append(f'<p class="soft">Graded by hand later: {text(", ".join(missing))}.</p>')
    if record.get("data") and not record["error"]:
        lines.append(f'<p class="soft">Accuracy was measured on {text(record["data"])}.</p>')
    lines.append("</section>")
    if record["error"]:
        lines.append(f'<section class="card bad">The submission {text(record["error"])}.</section>')
    lines += [card(row, record, written) for row in (rubric.written if record["error"] else rubric.questions)]
    return page(f"{record['student']}: feedback", "\n".join(lines))
