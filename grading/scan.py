"""Reads a submission's code without running it, for what a TA should look at: flags, which cost no points."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import itertools
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from grading.files import ONE_PARSER
from grading.questions import FILES
from grading.worker.packages import FRAMEWORKS, LOGGER

DATA_UTILITIES = "cifar10_utils.py"
COURSE_UTILITIES = {"06af72f7f4ac4f8814902a362cedf4767948e91da50c543be9a2ea28058fe6f7"}  # SHA-256 of the course's file
HANDED_OUT: set[str] = set()  # hashes of what the course hands out besides, such as the checks of an earlier edition
LIBRARIES = {"numpy", "torch", "torchvision", "matplotlib", "tqdm", "scipy", "sklearn", "pandas"}
STARTED_BY_ITSELF = {"sitecustomize", "usercustomize", "conftest"}  # Python or pytest would run these unasked
NUMPY_FILES = ("modules.py", "mlp_numpy.py", "train_mlp_numpy.py")
NO_NUMPY = FRAMEWORKS | {"sklearn.neural_network", "sklearn.linear_model"}
MOST_BYTES = 2**20  # of a file, and of all that are looked at
MOST_FILES = 300
MACHINE_CODE = {".pyc", ".pyo", ".pyd", ".so", ".dll", ".dylib"}  # Python imports them, and nobody can read them
# how such files begin, whatever they are called: programs of Linux, Windows and macOS
PROGRAMS = (b"\x7fELF", b"MZ\x90\0", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
BOM = b"\xef\xbb\xbf"
REFERENCE = Path(__file__).parent.parent
READY_NORMS = {"LayerNorm", "layer_norm", "native_layer_norm", "GroupNorm", "group_norm", "native_group_norm",
               "InstanceNorm1d", "instance_norm", "BatchNorm1d", "batch_norm", "native_batch_norm",
               "RMSNorm", "rms_norm"}
READY_NORMS |= {f"{name}_backward" for name in READY_NORMS if name.islower()}
AS_A_SCRIPT = {"__name__ == '__main__'", "'__main__' == __name__"}  # where one may try one's own against a ready one
READY_OPERATORS = ("layer_norm", "group_norm", "batch_norm", "instance_norm", "rms_norm", "the profiler was ended",
                   "torch._refs", "torch._decomp", "torch._prims")
# what solving the assignment needs none of, and getting round a grader might
ODD_MODULES = {"grading", "subprocess", "ctypes", "pty", "mmap", "threading", "_thread", "concurrent"}
ODD_NAMES = {"os.system", "os._exit", "os.fork", "os.kill", "os.popen", "os.setsid", "socket.socket",
             "socket.create_connection", "sys._getframe", "sys.settrace", "sys.setprofile", "sys.meta_path",
             "inspect.currentframe", "inspect.stack", "gc.get_objects", "gc.get_referrers"}
# PyTorch's own formulas as plain operators, in which nothing ready-made is seen to run
ODD_PARTS_OF_PYTORCH = ("torch._decomp", "torch._refs", "torch._prims", "torch._functorch", "torch._dynamo",
                        "torch._inductor", "torch.fx", "torch.export", "functorch")
ODD_BUILTINS = {"eval", "exec", "__import__"}
ODD_ATTRIBUTES = {"__globals__", "__subclasses__", "tb_frame", "f_back", "f_globals", "f_locals"}


Nodes = list[ast.AST]


def parse(path: Path) -> Nodes | None:
    """The nodes of the file's syntax tree; None where it is not Python (or too odd to be looked at)."""
    try:
        if path.stat().st_size > MOST_BYTES:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with ONE_PARSER:
                tree = ast.parse(path.read_bytes())
        return list(ast.walk(tree))
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


def ours(path: Path, code: Path) -> bool:
    """Whether it is a file of the reference, unchanged: the handout brings some."""
    own = REFERENCE / path.relative_to(code)
    return own.is_file() and plain(own.read_bytes()) == plain(path.read_bytes())


def given(path: Path, code: Path) -> bool:
    """Whether it is as the reference or the course's own handout has it."""
    return ours(path, code) or (bool(HANDED_OUT) and hash_of(path) in HANDED_OUT)


def handed_out(folder: Path) -> set[str]:
    """The hashes of the files of Python in what a course hands out."""
    return {hash_of(path) for path in folder.rglob("*.py") if path.is_file()}


def hash_of(path: Path) -> str:
    return hashlib.sha256(plain(path.read_bytes())).hexdigest()


def plain(content: bytes) -> bytes:
    """A text without what editors and git change by themselves: line ends, a byte order mark, the last newline."""
    return content.removeprefix(BOM).replace(b"\r\n", b"\n").replace(b"\r", b"\n").rstrip(b"\n")


def is_course_s(content: bytes) -> bool:
    """Whether it is the course's cifar10_utils.py, apart from what `plain` removes: only its hash is known."""
    text = plain(content)
    variants = (start + (text + end).replace(b"\n", newline) for start in (b"", BOM) for end in (b"", b"\n", b"\n\n")
                for newline in (b"\n", b"\r\n"))
    return any(hashlib.sha256(variant).hexdigest() in COURSE_UTILITIES for variant in variants)


def dotted(node: ast.AST) -> str:
    """'torch.nn.LayerNorm' for that expression; '' for one that is not dotted names, or longer than any of interest."""
    names: list[str] = []
    while isinstance(node, ast.Attribute) and len(names) < 4:  # each part of a long chain is asked for: not to its end
        names.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(names)]) if isinstance(node, ast.Name) else ""


def imports(nodes: Nodes) -> Iterable[tuple[str, int]]:
    """(module, line) of every import."""
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module, node.lineno


def ready_norms(nodes: Nodes) -> list[tuple[str, int]]:
    """(name, line) of every use of a ready-made normalization, renamed imports included; not of a method of its own."""
    found = []
    aside = {id(inner) for node in nodes if isinstance(node, ast.If) and ast.unparse(node.test) in AS_A_SCRIPT
             for part in node.body for inner in ast.walk(part)}
    for node in nodes:
        if id(node) in aside:
            continue
        if isinstance(node, ast.Attribute) and node.attr in READY_NORMS and dotted(node.value) not in ("self", "cls"):
            found.append((node.attr, node.lineno))
        elif isinstance(node, ast.ImportFrom):
            found += [(alias.name, node.lineno) for alias in node.names if alias.name in READY_NORMS]
        elif isinstance(node, ast.Constant) and node.value in READY_NORMS:  # getattr(nn, "LayerNorm")
            found.append((str(node.value), node.lineno))
    return sorted(set(found), key=lambda item: item[1])


def names_used(nodes: Nodes) -> set[str]:
    """Names that are read anywhere."""
    return {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def names_bound(nodes: Nodes) -> set[str]:
    """Functions, variables and imported names of its own, methods aside: `model.eval` is no `eval`."""
    methods = {id(child) for node in nodes if isinstance(node, ast.ClassDef) for child in node.body}
    bound: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and id(node) not in methods:
            bound.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        elif isinstance(node, ast.ImportFrom):
            bound |= {alias.asname or alias.name for alias in node.names}
    return bound


def frameworks(nodes: Nodes) -> list[list[str]]:
    """Frameworks that a file for plain NumPy imports: those whose names it uses, and those it does not."""
    names: dict[str, bool] = {}
    used = names_used(nodes)
    for node in nodes:
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        for alias in node.names:
            module = alias.name if isinstance(node, ast.Import) else f"{node.module}.{alias.name}"
            found = [name for name in NO_NUMPY if f"{module}.".startswith(f"{name}.") and not module.startswith(LOGGER)]
            bound = alias.asname or (alias.name.partition(".")[0] if isinstance(node, ast.Import) else alias.name)
            if found and not getattr(node, "level", 0):
                names[found[0]] = names.get(found[0], False) or bound in used or bound == "*"
    return [[name for name in sorted(names) if names[name] is wanted] for wanted in (True, False)]


def named(nodes: Nodes) -> Iterable[str]:
    """Dotted names: of imports, of expressions and in text, which may be a module to be imported."""
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            start = f"{node.module}." if isinstance(node, ast.ImportFrom) and not node.level else ""
            yield from (f"{start}{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value[:100]
        else:
            yield dotted(node)


def odd(nodes: Nodes) -> set[str]:
    """What a file uses that solving the assignment needs none of."""
    found = {module for module, _ in imports(nodes) if module.partition(".")[0] in ODD_MODULES}
    found |= {part for name in named(nodes) for part in ODD_PARTS_OF_PYTORCH if f"{name}.".startswith(f"{part}.")}
    found |= {f"{node.module}.{alias.name}" for node in nodes if isinstance(node, ast.ImportFrom)
              for alias in node.names} & ODD_NAMES
    found |= (names_used(nodes) & ODD_BUILTINS) - names_bound(nodes)
    importers = {"import_module"} | {alias.asname for node in nodes if isinstance(node, ast.ImportFrom)
                                     for alias in node.names if alias.name == "import_module" and alias.asname}
    for node in nodes:
        text = dotted(node)
        if text in ODD_NAMES or (isinstance(node, ast.Attribute) and node.attr in ODD_ATTRIBUTES):
            found.add(text or getattr(node, "attr", ""))
        if isinstance(node, ast.Call) and dotted(node.func).rpartition(".")[2] in importers and not (
                node.args and isinstance(node.args[0], ast.Constant)):
            found.add("import_module with a name that it computes")
    return found


def edition(code: Path) -> str:
    """'2019', with what shows it, for a submission of an earlier edition of the assignment; '' for any other.

    Those have BatchNorm where the edition of 2020 has LayerNorm, and ReLU (2018) or LeakyReLU with `neg_slope` (2019)
    where it has ELU.
    """
    found = [nodes for name in NUMPY_FILES if (nodes := parse(code / name))]
    classes = {node.name for nodes in found for node in nodes if isinstance(node, ast.ClassDef)}
    parameters = {node.arg for nodes in found for node in nodes if isinstance(node, ast.arg)}
    batchnorm = (code / "custom_batchnorm.py").is_file()
    signs = ["custom_batchnorm.py"] * batchnorm + ["neg_slope"] * ("neg_slope" in parameters)
    if not signs or (code / "custom_layernorm.py").is_file() or "ELUModule" in classes:
        return ""
    return f"{2019 if 'neg_slope' in signs else 2018} edition of the assignment ({', '.join(signs)})"


def scan(code: Path) -> list[str]:
    """Flags from the files alone."""
    flags = []
    files = [path for path in sorted(code.rglob("*")) if path.is_file()]
    if compiled := [str(path.relative_to(code)) for path in files if is_compiled(path)]:
        flags.append(f"compiled files, which cannot be read: {', '.join(compiled[:3])}")
    paths = [path for path in files if path.suffix == ".py"]
    paths.sort(key=lambda path: path.relative_to(code).as_posix() not in FILES)  # nothing hides those behind others
    sizes = itertools.accumulate(min(path.stat().st_size, MOST_BYTES) for path in paths)
    most = max(1, min(MOST_FILES, sum(size <= MOST_BYTES for size in sizes)))
    if len(paths) > most:
        flags.append(f"{len(paths)} files of Python, of which {most} were looked at")
    names = {path.stem for path in paths if path.parent == code} | {
        path.parent.name for path in code.glob("*/__init__.py")}
    if shadows := sorted(names & (LIBRARIES | STARTED_BY_ITSELF | (set(sys.stdlib_module_names) - {"test"}))):
        flags.append(f"files named like libraries, not used as such: {', '.join(shadows)}")
    return flags + [flag for path in paths[:most] if not given(path, code)
                    for flag in flags_of(path, code)]


def is_compiled(path: Path) -> bool:
    """Whether a file holds machine code or Python's bytecode, by its ending or by how it begins."""
    if path.suffix.lower() in MACHINE_CODE:
        return True
    with contextlib.suppress(OSError), open(path, "rb") as file:
        start = file.read(16)
        # bytecode: a version's number, a line end, and flags of which two are in use (PEP 552)
        return start.startswith(PROGRAMS) or (len(start) == 16 and start[2:4] == b"\r\n" and start[4] < 4
                                              and start[5:8] == bytes(3))
    return False


def flags_of(path: Path, code: Path) -> list[str]:
    """Flags of one file of a submission."""
    nodes, name = parse(path), path.relative_to(code).as_posix()
    if nodes is None:
        return [f"{name} is not Python{where_not(path)}"]
    flags = []
    if name == "custom_layernorm.py" and (found := ready_norms(nodes)):
        flags.append(f"ready-made normalization in {name}: "
                     + ", ".join(f"{norm} (line {line})" for norm, line in found[:4]))
    if name in NUMPY_FILES:
        used, unused = frameworks(nodes)
        flags += [f"{name} imports {', '.join(used)}"] if used else []
        flags += [f"{name} imports {', '.join(unused)} and does not use it"] if unused else []
    if used := sorted(odd(nodes)):
        flags.append(f"{name} uses {', '.join(used[:5])}")
    if name == DATA_UTILITIES and not is_course_s(path.read_bytes()):
        flags.append(f"{name} differs from the course's; students must not change it (a version of your own: "
                     "--handout DIR)")
    return flags


def dispatched(notes: Any) -> list[str]:
    """Ready-made normalizations among the operators a probe recorded."""
    operators = notes.get("operators")
    if not isinstance(operators, list):
        return []
    return sorted({str(name)[:60] for name in operators if any(part in str(name) for part in READY_OPERATORS)})


def differentiated(notes: Any) -> list[str]:
    """Functions that a probe's autograd went back through, where gradients are asked for by hand."""
    found = notes.get("differentiated")
    return sorted({str(name).strip()[:60] for name in found}) if isinstance(found, list) else []
