"""What a submission has of the machine that it was written on, where this one is another.

Such are a GPU that is taken for granted, the data at a path of one's own, a breakpoint and a notebook server. An answer
needs none of them: each is passed over and told in `left`. The page says so, and nothing is lost by it.
"""

from __future__ import annotations

import ast
import builtins
import os
import pdb
import re
import sys
from importlib.machinery import SourceFileLoader
from typing import Any

from grading.worker import packages
from grading.worker.packages import left

OWN_FOLDER = "cifar10/cifar-10-batches-py"  # where the assignment's default has the data, from the submission
BATCHES = OWN_FOLDER.rpartition("/")[2]
# a path from the root, a home or a drive; of others the name must tell that they are the data
DATA = re.compile(rf"(?:(?:~|/|[a-z]:[\\/])(?:.*[\\/])?(?:cifar[-_ ]?(?:10)?(?:[-_ ]?data\w*)?|{BATCHES})"
                  rf"|.*[\\/]{BATCHES})(?P<file>[\\/](?:data_batch_\d|test_batch|batches\.meta))?[\\/]?", re.IGNORECASE)
WRITTEN = re.compile(r"result|output|figure|plot|log|model|checkpoint|save", re.IGNORECASE)  # no place of the data
OF_A_GPU = {"set_device", "synchronize", "get_device_name", "current_device", "init"}  # functions of torch.cuda
PASSED_OVER = "passed_over_by_the_checks"  # a function that the code is given


def passed_over(what: str, value: Any) -> Any:
    """`value`, where the code comes to something of another machine."""
    left.add(what)
    return value


def told(what: str, node: ast.expr) -> ast.expr:
    """The code of `passed_over` of an expression."""
    return ast.Call(ast.Name(PASSED_OVER, ast.Load()), [ast.Constant(what), node], [])


class Here(ast.NodeTransformer):
    """The code, as it would be written for this machine. on_cpu: whether what asks for a GPU gets the processor."""

    def __init__(self, on_cpu: bool):
        self.on_cpu = on_cpu

    def unless_constant(self, node: ast.expr) -> ast.expr:
        return node if isinstance(node, ast.Constant) else self.visit(node)

    def visit_Compare(self, node: ast.Compare) -> ast.AST:  # device == "cuda" stays false
        node.left, node.comparators = self.unless_constant(node.left), [*map(self.unless_constant, node.comparators)]
        return node

    def visit_MatchValue(self, node: ast.MatchValue) -> ast.AST:
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        return node if isinstance(node.value, ast.Constant) else self.generic_visit(node)  # a docstring

    def visit_List(self, node: ast.List | ast.Tuple | ast.Set) -> ast.AST:  # names to choose from stay
        node.elts = [*map(self.unless_constant, node.elts)]
        return node

    visit_Tuple = visit_Set = visit_List

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:  # f"cuda:{number}"
        first = node.values[0] if node.values else None
        if self.on_cpu and isinstance(first, ast.Constant) and first.value == "cuda:":
            first.value = "cpu:"
            return told("GPU", node)
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        text = node.value
        if not isinstance(text, str):
            return node
        if self.on_cpu and re.fullmatch(r"cuda(:\d+)?", text):
            return told("GPU", ast.Constant("cpu"))
        if self.on_cpu and text.startswith("torch.cuda."):
            return told("GPU", ast.Constant(text.replace("torch.cuda.", "torch.")))
        found = DATA.fullmatch(text)
        if (not found or WRITTEN.search(text) or os.path.normpath(text).removeprefix(f"..{os.sep}") == OWN_FOLDER
                or os.path.exists(os.path.expanduser(text))):
            return node
        return told("data", ast.Constant(f"./{OWN_FOLDER}{(found['file'] or '').replace(chr(92), '/')}"))

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if (self.on_cpu and node.attr.endswith("Tensor") and isinstance(node.value, ast.Attribute)
                and node.value.attr == "cuda"):  # torch.cuda.FloatTensor
            node.value = told("GPU", node.value.value)
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        function = node.func
        if self.on_cpu and isinstance(function, ast.Attribute):
            if function.attr == "cuda":  # model.cuda()
                function.attr, node.args, node.keywords = "cpu", [], []
                function.value = told("GPU", function.value)
            elif (function.attr in OF_A_GPU and isinstance(function.value, ast.Attribute)
                  and function.value.attr == "cuda"):
                return told("GPU", ast.Constant("cpu"))
        return self.generic_visit(node)


def for_here(source: bytes, path: str) -> ast.Module | bytes:
    """A file of the submission, as it would be written for this machine."""
    torch = sys.modules.get("torch")
    on_cpu = bool(torch and not isinstance(torch, packages.StandIn) and b"cuda" in source
                  and b"is_available" not in source and not torch.cuda.is_available())
    try:
        tree: ast.Module = ast.parse(source, path)
        return ast.fix_missing_locations(Here(on_cpu).visit(tree))
    except (SyntaxError, ValueError, RecursionError):  # compiling it says so
        return source


def compiled(source: bytes, path: str) -> Any:
    """The code of a file of the submission."""
    return compile(for_here(source, path), path, "exec", dont_inherit=True)


def pass_over() -> None:
    """Compile files of the submission for this machine, and let what waits for somebody, or a notebook, do nothing."""
    usual = SourceFileLoader.source_to_code

    def to_code(self: Any, data: Any, path: Any, **keywords: Any) -> Any:
        if packages.folder and os.path.abspath(path).startswith(packages.folder + os.sep):
            return compiled(bytes(data), path)
        return usual(self, data, path, **keywords)

    setattr(builtins, PASSED_OVER, passed_over)
    SourceFileLoader.source_to_code = to_code  # type: ignore[method-assign, assignment]

    def go_on(*_: Any, **__: Any) -> None:
        left.add("breakpoint")

    sys.breakpointhook = pdb.set_trace = pdb.Pdb.set_trace = go_on  # type: ignore[method-assign, assignment]

    def get_ipython() -> Any:
        frame = sys._getframe(1)
        if not packages.folder or packages.tried(frame.f_code.co_filename, frame.f_lineno):  # it asks for one
            raise NameError("name 'get_ipython' is not defined", name="get_ipython")
        return packages.StandIn("get_ipython", packages.not_installed("IPython"))

    builtins.get_ipython = get_ipython  # type: ignore[attr-defined]
