"""Writes the handout from the reference: the same files with the bodies that students write left out.

`starter.toml` lists files and functions. The source text outside those bodies stays as it is, comments included.
"""

from __future__ import annotations

import ast
import fnmatch
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from grading.files import ONE_PARSER, OutputError, write

LISTING = Path(__file__).parent / "starter.toml"


class StarterError(Exception):
    """The handout cannot be made from this reference: one line that says why."""


def local_imports(folder: Path, names: Sequence[str]) -> list[str]:
    """`names`, and the files of `folder` that they import, and those these import, sorted."""
    found, queue = set(), list(names)
    while queue:
        name = queue.pop()
        if name in found or not (folder / name).is_file():
            continue
        found.add(name)
        with ONE_PARSER:
            tree = ast.parse((folder / name).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            else:
                continue
            for module in modules:
                *packages, last = module.split(".")
                queue += ["/".join([*packages, f"{last}.py"]), *("/".join([*packages[:i + 1], "__init__.py"])
                                                                 for i in range(len(packages)))]
    return sorted(found)


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
            raise StarterError(f"{name} has no function {pattern!r}; put {LISTING.name} right")
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
            raise StarterError(f"{name} has not just once the text {text!r}; put {LISTING.name} right")
        source = source.replace(rule["text"], rule["instead"])
    return source


def _has_places(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return node.returns is not None or any(hasattr(n, "end_lineno") for n in ast.walk(node.args))


def write_starter(target: Path, reference: Path) -> list[Path]:
    """Write the handout into `target`, which must not hold one of its files yet. Returns the files written."""
    listing = tomllib.loads(LISTING.read_text())
    absent = [name for name in listing["files"] if not (reference / name).is_file()]
    if absent:
        raise StarterError(f"{reference} has no {absent[0]}: the handout is made from the reference")
    names = [*local_imports(reference, listing["files"]), *(n for n in listing["extra"] if (reference / n).is_file())]
    if taken := [name for name in names if (target / name).exists()]:
        raise OutputError(f"{target / taken[0]} exists already; choose an empty folder for the handout")
    contents = {}
    for name in names:
        source = (reference / name).read_text(encoding="utf-8")
        contents[name] = hidden(blanked(source, listing["blank"].get(name, ()), name), name, listing["hide"])
    for name, content in contents.items():
        write(target / name, content)
    return [target / name for name in names]
