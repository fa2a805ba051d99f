"""CSV as spreadsheets write and read it: separators, encodings, cells that look like formulas, numbers with a comma."""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import re
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path

NUMBER = re.compile(r"[+-]?([0-9]+([.,][0-9]*)?|[.,][0-9]+)")  # float() takes 1_0 for 10 as well, and inf
INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff"))


class TableError(Exception):
    """A table that cannot be used: one line that names row and column, and the way out."""


class Row(dict[str, str]):
    """A row's cells by column. line: where it stands in the file, from 1; a cell with line breaks is on one."""

    line: int = 0


def number(text: str) -> float | None:
    """A number as people write it, with a point or a comma; None for anything else."""
    return float(text.strip().replace(",", ".")) if NUMBER.fullmatch(text.strip()) else None


def cell(value: object) -> str:
    """A cell that no spreadsheet takes for a formula, nor a part of it where it divides cells at other characters."""
    text = " ".join(str(value).encode("utf-8", "replace").decode().split())
    if number(text) is not None:
        return text
    return re.sub(r"(^|[;,|]\s*)(?='*[=+@-])|^(?=')", r"\1'", text)


def plain(text: str) -> str:
    """A cell as it was before `cell`."""
    return re.sub(r"(^|[;,|]\s*)'(?='*[=+@-])|^'(?=')", r"\1", text.strip())


def same(name: str) -> str:
    """A name as it is compared: spaces of any kind and number, and the two ways to write an accent, are one."""
    return " ".join(unicodedata.normalize("NFC", name.translate(INVISIBLE)).split())


def to_csv(rows: Sequence[Sequence[object]], separator: str = ",") -> str:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n", delimiter=separator).writerows(rows)
    return out.getvalue()


def decoded(path: Path) -> str:
    """The file's text: UTF-8, the UTF-16 of Excel's "Unicode text", or the Windows-1252 of its "CSV", with a notice.

    Raises TableError.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror}") from None
    utf_16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    with contextlib.suppress(UnicodeDecodeError):
        return content.decode("utf-16" if utf_16 else "utf-8-sig")
    with contextlib.suppress(UnicodeDecodeError):
        if not utf_16 and (text := content.decode("cp1252")).replace("\r", "\n").replace("\n", "").replace(
                "\t", "").isprintable():
            notice(f'note: {path} is not UTF-8; it was read as Windows-1252, as Excel saves "CSV": check its accents')
            return text
    raise TableError(f'{path} is not UTF-8 text; save it as "CSV UTF-8"')


@functools.cache
def notice(text: str) -> None:
    """Print a line for the TA, once."""
    print(text, file=sys.stderr)


def layout(text: str) -> tuple[str, str]:
    """The separator of a table, and the line by which Excel names it, '' where there is none."""
    said = re.match(r'"?sep=(.)"?\r?\n', text)
    first = text.partition("\n")[0]
    return (said[1], said[0]) if said else (max(",;\t", key=first.count), "")


def read(path: Path) -> tuple[list[str], list[Row]]:
    """Header and rows of a CSV file that commas, semicolons or tabs separate. Empty rows are left out.

    Raises TableError.
    """
    text = decoded(path)
    separator, skipped = layout(text)
    reader = csv.reader(io.StringIO(text[len(skipped):], newline=""), delimiter=separator, strict=True)
    try:
        header = [same(name) for name in next(reader, [])]
        while header and not header[-1]:  # columns that a spreadsheet added at the right
            header.pop()
        if twice := [name for name in header if name and header.count(name) > 1]:
            raise TableError(f"{path} has a column twice: {twice[0]!r}")
        rows = []
        for where, line in enumerate(reader, 2 + bool(skipped)):
            if not any(value.strip() for value in line):
                continue
            if any(value.strip() for value in line[len(header):]):
                raise TableError(f"{path}, line {where}: {len(line)} cells, but the first line has {len(header)}")
            rows.append(Row(zip(header, [*line, *[""] * len(header)], strict=False)))
            rows[-1].line = where
    except csv.Error as error:
        raise TableError(f"{path} is not CSV: {error}") from None
    return header, rows
