"""A probe's side of the conversation: import the submission, call it, send back arrays and notes.

A probe is a function `probe(task)` registered under its name. What it learns goes out as numbers: `task.send` for
arrays, `task.note` for small facts. It never decides whether they are right: the grader does, in its own process.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import json
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from grading.worker import elsewhere, packages

PROBES: dict[str, Callable[[Task], None]] = {}
COLOURS = r"\x1b\[[0-9;]*[A-Za-z]"  # of a terminal
MESSAGE = 300  # characters kept of an exception's text
silent: list[str] = []  # functions of the submission that have returned None, the first one to blame for what follows
# what None leads to
BY_NONE = re.compile(r"NoneType|for array of dimension 0$|incorrect number of gradients|\(has 0, gufunc")
FACTORS, TRANSPOSE = "the factors of a matrix product do not fit:", "perhaps a transpose is missing, or one too many"
# what NumPy and PyTorch say of shapes in words that few students know: (all of it, what is told instead)
PLAIN_WORDS = (
    (r"matmul: .*\(size (\d+) is different from (\d+)\)", rf"{FACTORS} sizes \2 and \1 should be equal; {TRANSPOSE}"),
    (r"matmul: .*\(has 0, gufunc.*", "a factor of a matrix product is not an array, but a single number or None"),
    (r"Expected size for first two dimensions of batch2 tensor to be: (\[.*\]) but got: (\[.*\])\.",
     rf"{FACTORS} the first two sizes of the second should be \1, and are \2; {TRANSPOSE}"),
    (r"operands .* remapped shapes .*: (\([\d,]+\))->\S+ (\([\d,]+\))->\S+ ?",
     r"a letter of einsum stands for two sizes, in the shapes \1 and \2"),
    (r"The size of tensor a \((\d+)\) must match the size of tensor b \((\d+)\) at non-singleton dimension (\d+)",
     r"shapes do not fit: in dimension \3, sizes \1 and \2 should be equal"),
    (r"The expanded size .* Target sizes: (\[.*\])\. *Tensor sizes: (\[.*\])",
     r"a tensor of shape \2 does not fit shape \1"),
    (r"running_mean should contain (\d+) elements not (\d+)", r"BatchNorm was made for \2 features, and is given \1"),
    (r"0D or 1D target tensor expected, .*|Expected floating point type for target with class probabilities, .*",
     "cross_entropy takes one class number an image, in a tensor of shape (N,)"))


class Task:
    """What one probe was asked and what it answers.

    arrays, options: the grader's inputs. data: {key: folder} of the data sets this worker may see.
    """

    def __init__(self, arrays: dict[str, np.ndarray], options: dict[str, Any], data: dict[str, str]):
        self.arrays, self.options, self.data = arrays, options, data
        self.sent: dict[str, np.ndarray] = {}
        self.notes: dict[str, Any] = {}

    def send(self, name: str, value: Any) -> None:
        """Answer with an array of numbers (anything else of a submission's becomes a note of its type)."""
        if hasattr(value, "detach"):
            value = value.detach().cpu().numpy()
        array = np.array(value)  # a copy: what the submission changes later must not change the answer
        if array.dtype.kind not in "biuf":
            self.notes[f"{name} is"] = type(value).__name__
            if value is None and silent:
                self.notes[f"{name} failed"] = returns_none()
            return
        self.sent[name] = array

    def note(self, name: str, value: Any) -> None:
        self.notes[name] = value

    def attempt(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """`function(*arguments)`; what it raises becomes a note, `<name> failed`, and None is returned."""
        try:
            return function(*arguments)
        except Exception as error:
            self.notes[f"{name} failed"] = describe(error)
            return None


def probe(function: Callable[[Task], None]) -> Callable[[Task], None]:
    PROBES[function.__name__] = function
    return function


def load(with_torch: bool) -> None:
    """Import every probes_*.py of this folder, which fills PROBES.

    Without PyTorch, those that import it are left out, and a submission cannot use it or its like either.
    """
    for path in sorted(Path(__file__).parent.glob("probes_*.py")):
        if with_torch or not re.search(r"^(import|from) torch\b", path.read_text(encoding="utf-8"), re.MULTILINE):
            importlib.import_module(f"grading.worker.{path.stem}")
    packages.restore_2020()
    if with_torch:
        packages.compile_nothing()
    packages.stand_in(numpy_only=not with_torch)
    elsewhere.pass_over()


def submitted(name: str) -> Any:
    """The submission's module `name`, from its own folder."""
    if not os.path.exists(name + ".py"):
        raise Absent(f"{name}.py is not in the submission")
    return importlib.import_module(name)


def no_such_name(module: ModuleType, wanted: str) -> str:
    """That a module of the submission lacks what the assignment names, and the classes that it has instead."""
    file = os.path.basename(module.__file__ or "")
    others = [name for name, value in vars(module).items()
              if isinstance(value, type) and value.__module__ == module.__name__]
    instead = f"; it has {' and '.join(others[:3])}: call it as the assignment does" if others else ""
    return f"Absent: {file} has no {wanted}{instead}"


class Absent(Exception):
    """A file that the assignment asks for is not there."""


ABOVE = r"(?:/[^\s'\"()<>:,]*)?"  # the folders above a place: a container's workers have a root of their own
# (what, instead) of the paths of a machine that a student has nothing to do with
PLACES = ((ABOVE + r"/scratch/\d+/(?:code/?)?", ""), (r"/submission/?", ""), (ABOVE + r"/data/\w+", "DATA_DIR"),
          (ABOVE + r"/(?:site|dist)-packages/", ""), (ABOVE + r"/python3\.\d+/", ""),
          (ABOVE + r"/grader/[^\s'\"()<>:,]*", "the check"))


def without_places(text: str) -> str:
    """`text` without the paths of the grader's machine: files of the submission by their names in it."""
    if packages.folder:
        text = text.replace(packages.folder + os.sep, "").replace(packages.folder, ".")
    for pattern, instead in (*PLACES, (COLOURS, "")):
        text = re.sub(pattern, instead, text)
    return text.replace(sys.prefix, "python")


def shortened(text: str) -> str:
    """At most MESSAGE characters, cut between words."""
    return text if len(text) <= MESSAGE else f"{text[:MESSAGE].rpartition(' ')[0] or text[:MESSAGE]} ..."


def way_out(error: BaseException) -> str:
    """What to do about a module that is not there."""
    name = getattr(error, "name", None)
    if not isinstance(error, ModuleNotFoundError) or not isinstance(name, str) or name in packages.PACKAGES:
        return ""
    name = name.partition(".")[0]
    return f"; hand in {name}.py with the code, or do without it"


def returned(function: str, value: Any) -> Any:
    """`value`, as a function of the submission has returned it."""
    if value is None:
        silent.append(function)
    return value


def returns_none() -> str:
    return f"Absent: {silent[0]} returns None: the return is missing"


def describe(error: BaseException) -> str:
    """'ValueError: text (modules.py, line 12)': what happened and where in the submission."""
    here = packages.folder or os.getcwd()
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if os.path.abspath(frame.filename).startswith(here)]
    place = f" ({os.path.relpath(frames[-1].filename, here)}, line {frames[-1].lineno})" if frames else ""
    if isinstance(error, SyntaxError) and error.filename:
        place = f" ({os.path.basename(error.filename)}, line {error.lineno})"
    try:
        text = error.msg if isinstance(error, SyntaxError) else str(error)  # str() would name the place again
        if isinstance(error, SyntaxError) and (error.text or "").lstrip().startswith(("!", "%")):
            text = "this is a command of a notebook, and not Python: remove the line"
    except Exception:
        text = ""
    if isinstance(error, AttributeError) and not frames and isinstance(error.obj, ModuleType) and str(
            getattr(error.obj, "__file__", None)).startswith(here + os.sep):
        return no_such_name(error.obj, error.name or "")
    if silent and BY_NONE.search(text):
        return returns_none()
    if "cannot contain null bytes" in text:  # Python does not say in which file
        for path in sorted(Path(here).glob("*.py")):
            if b"\0" in path.read_bytes():
                return f"Absent: {path.name} has null bytes, as a file saved as UTF-16 does: save it as UTF-8"
    for pattern, plain in PLAIN_WORDS:
        text = re.sub(rf"^{pattern}$", plain, text)
    text = shortened(without_places(text)) + way_out(error)
    return f"{type(error).__name__}: {text}{place}" if text else f"{type(error).__name__}{place}"


def answer(request: dict[str, Any], arrays: dict[str, np.ndarray], data: dict[str, str], reply: int,
           npz: int) -> None:
    """Run the probe and write what it sent and noted, whatever happened on the way."""
    packages.folder = os.getcwd()
    packages.needed.clear()
    packages.missing.clear()
    packages.left.clear()
    silent.clear()
    task = Task(arrays, request["options"], data)
    error, mine = None, os.getpid()
    try:
        PROBES[request["function"]](task)
    except KeyboardInterrupt:
        error = "KeyboardInterrupt"
    except BaseException as exception:
        error = describe(exception)
        traceback.print_exc()
    if os.getpid() != mine:  # a process that the submission has forked, and that came back as if it were the check
        os._exit(1)
    if packages.needed:
        task.note("needs", sorted(packages.needed))
    if packages.missing:
        task.note("missing", sorted(packages.missing))
    if packages.left:
        task.note("left", sorted(packages.left))
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **task.sent)
    write_all(npz, buffer.getvalue())
    write_all(reply, json.dumps({"error": error, "notes": task.notes}, default=str).encode())


def write_all(fd: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view):]
