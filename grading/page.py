"""Renders the HTML pages from `templates/`. Whatever a template is given is escaped; a page loads and runs nothing."""

from __future__ import annotations

import re
import statistics
import unicodedata
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from grading.marks import is_remark, is_unjudged, points

TEMPLATES = Path(__file__).parent / "templates"
MARKS = {"good": "✓", "part": "◐", "bad": "✗", "open": "–"}


def writable(value: object) -> object:
    """Text, a student's too, with the characters that cannot be shown replaced; the template escapes it.

    Line breaks of any kind are one, and so are blanks.
    """
    if hasattr(value, "__html__"):  # of a template's own macro
        return value
    clean = re.sub("\r\n?|[\u2028\u2029]", "\n", str(value).encode("utf-8", "replace").decode("utf-8"))
    return "".join(c if c.isprintable() or c == "\n" else " " if c == "\t" or unicodedata.category(c) == "Zs" else "�"
                   for c in clean)


def level(score: float, most: float) -> str:
    """The colour of a score."""
    return "good" if score >= most else "part" if score > 0 else "bad"


@cache
def environment() -> Environment:
    made = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined,
                       finalize=writable, trim_blocks=True, lstrip_blocks=True)
    made.filters |= {"points": points, "mean": statistics.mean, "median": statistics.median}
    made.tests |= {"remark": is_remark, "unjudged": is_unjudged}
    made.globals.update(level=level, marks_of=MARKS)
    return made


def render(template: str, **values: object) -> str:
    """The page that `templates/<template>` makes of `values`."""
    return environment().get_template(template).render(**values)
