"""Writes the handout: the reference's files with the bodies that students write left out, and the checks for home.

`starter.toml` lists files and functions. The source text outside those bodies stays as it is, comments included. What
the handout has instead of a file of the reference, or besides it, lies in the folder `handout`. Right answers come as
recorded numbers, so that no formula is in it.
"""

from __future__ import annotations

import ast
import fnmatch
import io
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from grading import rubric
from grading.files import OutputError, local_imports, write
from grading.rubric import Rubric

PACKAGE = Path(__file__).parent
LISTING, OWN = PACKAGE / "starter.toml", PACKAGE / "handout"
FORMULAS = re.compile(r"grading/(expected_\w+|oracle)\.py")


class StarterError(Exception):
    """The handout cannot be made from this reference: one line that says why."""


def functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """('name' or 'Class.name', node) of the functions and methods, not of functions inside them."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield f"{node.name}.{inner.name}", inner


def blanked(source: str, patterns: Sequence[str], name: str = "the file") -> str:
    """`source` with the bodies of the functions that match a pattern replaced; docstrings stay.

    Raises:
        StarterError: a pattern matches nothing, so that the listing no longer fits the reference.
    """
    lines = source.splitlines(keepends=True)
    found = list(functions(ast.parse(source)))
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(full, pattern) for full, _ in found):
            raise StarterError(f"{name} has no function {pattern!r}; correct {LISTING.name}")
    for full, node in sorted(found, key=lambda item: -item[1].lineno):
        if not any(fnmatch.fnmatchcase(full, pattern) for pattern in patterns):
            continue
        body = node.body
        has_docstring = isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant) and isinstance(
            body[0].value.value, str)
        indent = " " * (node.col_offset + 4)
        if has_docstring:
            first = body[0].end_lineno
        elif body[0].lineno == node.lineno:  # def f(x): return x
            head = lines[node.lineno - 1].encode()[:body[0].col_offset].decode().rstrip() + "\n"
            lines[node.lineno - 1:node.end_lineno] = [head, f"{indent}raise NotImplementedError\n"]
            continue
        else:
            # comments above the first statement belong to the body
            first = max(n.end_lineno or 0 for n in (*ast.walk(node.args), node.returns or node.args)
                        if hasattr(n, "end_lineno")) if _has_places(node) else node.lineno
            while not lines[first - 1].split("#")[0].rstrip().endswith(":"):
                first += 1
        lines[first:node.end_lineno] = [f"{indent}raise NotImplementedError\n"]
    return "".join(lines)


def hidden(source: str, name: str, rules: Sequence[Mapping[str, str]]) -> str:
    """`source` without what its docstrings give away. Raises StarterError on a rule that does not fit exactly once."""
    for rule in rules:
        if rule["file"] != name:
            continue
        if source.count(rule["text"]) != 1:
            text = rule["text"].strip()[:60]
            raise StarterError(f"{name} has not just once the text {text!r}; correct {LISTING.name}")
        source = source.replace(rule["text"], rule["instead"])
    return source


def _has_places(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return node.returns is not None or any(hasattr(n, "end_lineno") for n in ast.walk(node.args))


def without(source: str, names: Sequence[str], name: str) -> str:
    """`source` without the functions and methods `names`. Raises StarterError on one that is not there."""
    lines = source.splitlines(keepends=True)
    found = dict(functions(ast.parse(source)))
    if absent := [full for full in names if full not in found]:
        raise StarterError(f"{name} has no function {absent[0]!r}; correct {LISTING.name}")
    for full in sorted(names, key=lambda full: -found[full].lineno):
        first = min([found[full].lineno, *(decorator.lineno for decorator in found[full].decorator_list)]) - 1
        while first and not lines[first - 1].strip():
            first -= 1
        lines[first:found[full].end_lineno] = []
    return "".join(lines)


def checks_table(rules: Rubric) -> str:
    """The rubric's checks as rows of a table in Markdown; remarks have no points, and are left out."""
    return "\n".join(f"| {row.number} | {check.title} | {check.points:g} |" for row in rules.code
                     for check in row.checks if check.points)


def recorded() -> bytes:
    """The numbers that answers are compared with, as .npz."""
    from grading import expected  # the formulas: only the handout's maker needs them here
    from grading.inputs import Inputs

    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **expected.values(Inputs()))
    return buffer.getvalue()


def required(reference: Path, contents: Mapping[str, str | bytes]) -> str:
    """The reference's requirements, of what the files import alone."""
    imported = {word for name, text in contents.items() if name.endswith(".py") and isinstance(text, str)
                for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)
                for word in ([alias.name for alias in node.names] if isinstance(node, ast.Import)
                             else [node.module or ""])}
    tops = {word.partition(".")[0] for word in imported}
    lines = [line for name in ("requirements.txt", "requirements-dev.txt")
             for line in (reference / name).read_text(encoding="utf-8").splitlines(keepends=True)]
    return "".join(line for line in lines if re.split(r"[^\w-]", line)[0] in tops)


def contents(reference: Path, rules: Path) -> dict[str, str | bytes]:
    """Every file of the handout, by its name. Raises StarterError."""
    listing = tomllib.loads(LISTING.read_text(encoding="utf-8"))
    if absent := [name for name in listing["files"] if not (reference / name).is_file()]:
        raise StarterError(f"{reference} has no {absent[0]}: the handout is made from the reference")
    made: dict[str, str | bytes] = {}
    for name in local_imports(reference, listing["files"]):
        source = without((reference / name).read_text(encoding="utf-8"), listing["without"].get(name, ()), name)
        made[name] = hidden(blanked(source, listing["blank"].get(name, ()), name), name, listing["hide"])
    own = {path.relative_to(OWN).as_posix(): path.read_text(encoding="utf-8") for path in sorted(OWN.rglob("*.*"))
           if "__pycache__" not in path.parts}
    checks = [path.relative_to(reference).as_posix()
              for pattern in listing["checks"] for path in reference.glob(pattern)]
    for name in local_imports(reference, checks, own):
        if FORMULAS.fullmatch(name):
            raise StarterError(f"the handout would hold {name}, with its formulas: no check may import it; what checks "
                               "need of it belongs in a file grading/inputs_*.py")
        made[name] = (reference / name).read_text(encoding="utf-8")
    made |= own
    made["grading/rubric.toml"] = rules.read_text(encoding="utf-8")
    made["grading/expected.npz"] = recorded()
    made["README.md"] = str(made["README.md"]).replace("<!-- checks -->", checks_table(rubric.load(rules)))
    made["requirements.txt"] = required(reference, made)
    return made


def write_starter(target: Path, reference: Path, rules: Path = rubric.DEFAULT) -> list[Path]:
    """Write the handout into `target`, which must not hold one of its files yet. Returns the files written.

    rules: the rubric of its checks.
    """
    made = contents(reference, rules)
    if taken := [name for name in made if (target / name).exists()]:
        raise OutputError(f"{target / taken[0]} exists already; choose an empty folder for the handout")
    for name, content in made.items():
        write(target / name, content)
    return [target / name for name in made]
