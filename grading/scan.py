"""Reads a submission's code without running it, for what a TA should look at: flags, which cost no points."""

from __future__ import annotations

import ast
import hashlib
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from grading.files import ONE_PARSER

LIBRARIES = {"numpy", "torch", "torchvision", "matplotlib", "tqdm", "scipy", "sklearn", "pandas"}
STARTED_BY_ITSELF = {"sitecustomize", "usercustomize", "conftest"}  # Python or pytest would run these unasked
NUMPY_FILES = ("modules.py", "mlp_numpy.py", "train_mlp_numpy.py")
FRAMEWORKS = {"torch", "tensorflow", "jax", "autograd", "sklearn", "cupy", "keras"}
MOST_BYTES = 2**20
READY_NORMS = {"LayerNorm", "layer_norm", "native_layer_norm", "GroupNorm", "group_norm", "native_group_norm",
               "InstanceNorm1d", "instance_norm", "BatchNorm1d", "batch_norm", "native_batch_norm"}
READY_OPERATORS = ("layer_norm", "group_norm", "batch_norm", "instance_norm")
# what solving the assignment needs none of, and getting round a grader might
ODD_MODULES = {"subprocess", "socket", "ctypes", "multiprocessing", "inspect", "gc", "urllib", "requests", "http",
               "pty", "signal", "resource", "mmap", "atexit"}
ODD_NAMES = {"os.system", "os._exit", "os.fork", "os.kill", "os.popen", "os.environ", "os.setsid", "sys._getframe",
             "sys.settrace", "sys.setprofile", "sys.modules", "sys.meta_path", "eval", "exec", "__import__"}
ODD_ATTRIBUTES = {"__globals__", "__subclasses__", "tb_frame", "f_back", "f_globals", "f_locals"}


def parse(path: Path) -> ast.AST | None:
    """The file's syntax tree; None where it is not Python (or too odd to be looked at)."""
    try:
        if path.stat().st_size > MOST_BYTES:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with ONE_PARSER:
                return ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError, OSError):
        return None


def where_not(path: Path) -> str:
    """The line at which a file stops being Python, in words; '' where it cannot be told."""
    try:
        if path.stat().st_size > MOST_BYTES:
            return ""
        with ONE_PARSER, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(path.read_bytes())
    except SyntaxError as error:
        return f" (line {error.lineno}: {error.msg})"
    except (ValueError, RecursionError, MemoryError, OSError):
        pass
    return ""


def ours(path: Path) -> bool:
    """Whether it is a file of the reference, unchanged: the handout brings some."""
    own = Path(__file__).parent.parent / path.name
    return own.is_file() and own.read_bytes() == path.read_bytes()


def dotted(node: ast.AST) -> str:
    """'torch.nn.LayerNorm' for that expression; '' for one that is no dotted name."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(names)]) if isinstance(node, ast.Name) else ""


def imports(tree: ast.AST) -> Iterable[tuple[str, int]]:
    """(module, line) of every import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module, node.lineno


def ready_norms(tree: ast.AST) -> list[tuple[str, int]]:
    """(name, line) of every use of a ready-made normalization, renamed imports included."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in READY_NORMS:
            found.append((node.attr, node.lineno))
        elif isinstance(node, ast.ImportFrom):
            found += [(alias.name, node.lineno) for alias in node.names if alias.name in READY_NORMS]
        elif isinstance(node, ast.Constant) and node.value in READY_NORMS:  # getattr(nn, "LayerNorm")
            found.append((str(node.value), node.lineno))
    return sorted(set(found), key=lambda item: item[1])


def scan(code: Path, own_utils: str | None) -> list[str]:
    """Flags from the files alone. own_utils: hash of the assignment's cifar10_utils.py, None where it may differ."""
    flags = []
    names = {path.stem for path in code.iterdir()}
    shadows = sorted(names & (LIBRARIES | STARTED_BY_ITSELF | (set(sys.stdlib_module_names) - {"test"})))
    if shadows:
        flags.append(f"files named like libraries, not used as such: {', '.join(shadows)}")
    tree = parse(code / "custom_layernorm.py")
    if tree and (found := ready_norms(tree)):
        flags.append("ready-made normalization in custom_layernorm.py: "
                     + ", ".join(f"{name} (line {line})" for name, line in found[:4]))
    for name in NUMPY_FILES:
        tree = parse(code / name)
        used = sorted({module.partition(".")[0] for module, _ in imports(tree)} & FRAMEWORKS) if tree else []
        if used:
            flags.append(f"{name} imports {', '.join(used)}")
    for path in sorted(code.glob("*.py")):
        name = path.name
        if not path.is_file() or ours(path):
            continue
        tree = parse(path)
        if tree is None:
            flags.append(f"{name} is not Python{where_not(path)}")
            continue
        odd = {module for module, _ in imports(tree) if module.partition(".")[0] in ODD_MODULES}
        odd |= {f"{node.module}.{alias.name}" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
                for alias in node.names} & ODD_NAMES
        for node in ast.walk(tree):
            text = dotted(node)
            if text in ODD_NAMES or (isinstance(node, ast.Attribute) and node.attr in ODD_ATTRIBUTES):
                odd.add(text or getattr(node, "attr", ""))
        if odd:
            flags.append(f"{name} uses {', '.join(sorted(odd)[:5])}")
    utils = code / "cifar10_utils.py"
    if own_utils and utils.is_file() and hashlib.sha256(utils.read_bytes()).hexdigest() != own_utils:
        flags.append("cifar10_utils.py was changed")
    return flags


def dispatched(notes: Any) -> list[str]:
    """Ready-made normalizations among the operators a probe recorded."""
    operators = notes.get("operators")
    if not isinstance(operators, list):
        return []
    return sorted({str(name)[:60] for name in operators if any(part in str(name) for part in READY_OPERATORS)})
