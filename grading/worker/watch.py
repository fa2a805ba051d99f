"""What a submission does that solving the assignment needs none of, told to the worker at the moment it is done.

Python tells an audit hook of what is done under whatever name; the hook cannot be taken out again, and what it has
written into the worker's socket cannot be taken back. Only what the submission's own code does is told.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import sys
import traceback
from collections.abc import Mapping
from types import FrameType
from typing import Any

import numpy as np

FRAMEWORK = "grading.framework"  # one is used where the question asks for NumPy
RECORDS = "torch.records"  # PyTorch's records of what runs are switched off
ALTERED = "grading.altered"  # a function that the checks record or report by is replaced
# Whose functions these are, besides those of the grader.
RECORDERS = ("json", "json.encoder", "zipfile", "torch.profiler.profiler", "torch.autograd.profiler",
             "torch.autograd.graph", "torch.utils._python_dispatch")
FRAMES = {"tb_frame", "gi_frame", "cr_frame", "ag_frame"}  # attributes that lead to the grader's own variables
# The code of functions that give frames to whoever calls them.
THROUGH = {function.__code__ for function in (
    inspect.currentframe, inspect.stack, inspect.trace, inspect.getouterframes, inspect.getinnerframes,
    traceback.walk_stack, traceback.walk_tb, logging.currentframe) if hasattr(function, "__code__")}
OTHER_NAME = "grading.other_name"  # code is made under the name of a library's file
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep  # of the grader
LOADING = f"torch{os.sep}utils{os.sep}data"  # a DataLoader starts processes of its own: that is LOADED, and no fork
LOADED = "torch.utils.data"
TRACKING = f"multiprocessing{os.sep}resource_tracker"  # so does this, for locks such as those of tqdm
SPAWNED = "multiprocessing.spawn"  # which Python tells nobody of
# How many calls above an event's own the submission may be: it is the library that starts the process.
NEAR = {"sys._getframe": 0, "sys._current_frames": 0, "sys._current_exceptions": 0, "sys.settrace": 4,
        "sys.setprofile": 4, "sys.addaudithook": 0, "gc.get_objects": 0, "gc.get_referrers": 0, "gc.get_referents": 0,
        "os.fork": 12, SPAWNED: 16, LOADED: 0, "os.forkpty": 1, "os.exec": 1, "os.posix_spawn": 1, "os.system": 0,
        "os.kill": 0, "subprocess.Popen": 3, "socket.connect": 2, "ctypes.dlopen": 2, "ctypes.cdata": 1,
        "ctypes.string_at": 1, "ctypes.call_function": 1, "code.__new__": 0, OTHER_NAME: 0, FRAMEWORK: 4, RECORDS: 4,
        ALTERED: 0}


def events(text: bytes) -> list[str]:
    """The names of events in what was told, and '?' where something else was written as well."""
    lines = {line.decode(errors="replace") for line in text.split(b"\n") if line}
    known = lines & (NEAR.keys() | FRAMES)
    return sorted(known) + ["?"] * bool(lines - known)


def watch(home: str, pipe: int) -> None:
    """From now on, write into `pipe` the names of events, a line each and each once, that the submission's code causes.

    That is what lies in `home` or in another place that it can write to, and text that it makes to code. Where nothing
    can be written into `pipe`, the process is ended.
    """
    told: set[str] = set()
    places = (home, "/tmp", "/var/tmp", "/dev/shm")
    libraries = (ROOT, *{f"{folder}{os.sep}" for folder in (sys.prefix, sys.base_prefix, os.path.dirname(os.__file__))})
    busy = False

    def theirs(frame: FrameType | None) -> bool:
        """Whether this is code of the submission, or text that it has made to code."""
        name = frame.f_code.co_filename if frame else "<frozen>"
        if name.startswith(places):
            return not name.startswith(libraries)  # which may lie there
        return not (os.path.isabs(name) or name.startswith("<frozen"))

    def started_by(frame: FrameType | None, *files: str) -> bool:
        return frame is not None and any(file in frame.f_code.co_filename for file in files)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal busy
        if busy:
            return
        name = str(arguments[1]) if event == "object.__getattr__" and arguments[1] in FRAMES else event
        if event == "compile" and isinstance(arguments[1], str) and os.path.isabs(arguments[1]):
            name = event = OTHER_NAME if not arguments[1].startswith(places) else event
        if name in told or (event not in NEAR and name == event):
            return
        busy = True  # what is looked at here is an event, too
        try:
            frame: FrameType | None = sys._getframe(1)
            while frame is not None and frame.f_code in THROUGH:
                frame = frame.f_back
            for _ in range(NEAR.get(event, 0)):
                if frame is not None and not theirs(frame) and not started_by(frame, LOADING, TRACKING):
                    frame = frame.f_back
            loaded = event in ("os.fork", SPAWNED) and started_by(frame, LOADING)
            name = LOADED if loaded else name
            if name not in told and (loaded or theirs(frame)):
                told.add(name)
                try:
                    os.write(pipe, f"\n{name}\n".encode())
                except OSError:  # it was closed, or filled
                    os._exit(0)
        finally:
            busy = False

    sys.addaudithook(hook)
    with contextlib.suppress(ImportError):  # on Windows, where students import this package
        tell_of_spawning()


def functions() -> dict[tuple[Any, str], tuple[Any, Any]]:
    """By owner and name, what the checks record and report by, and the code of it: compare with `altered`."""
    modules = [module for name, module in list(sys.modules.items())
               if name.startswith("grading.") or name in RECORDERS]
    owners = [*modules, *(value for module in modules for value in vars(module).values()
                          if isinstance(value, type) and value.__module__ == module.__name__)]
    kinds = (staticmethod, classmethod, property)
    found: dict[tuple[Any, str], Any] = {(np, "savez"): np.savez}
    found |= {(owner, name): value for owner in owners for name, value in vars(owner).items()
             if inspect.isroutine(value) or isinstance(value, kinds)}
    return {key: (value, getattr(value, "__code__", None)) for key, value in found.items()}


def altered(before: Mapping[tuple[Any, str], tuple[Any, Any]]) -> list[str]:
    """The names of those that are others now than `before`, or stand before one that a class inherits."""
    return [name for (owner, name), (value, code) in before.items()
            if vars(owner).get(name) is not value or getattr(value, "__code__", None) is not code] + [
            name for owner in {owner for owner, _ in before if isinstance(owner, type)}
            for name, value in vars(owner).items() if (owner, name) not in before and inspect.isroutine(value)]


def tell_of_spawning() -> None:
    """Have the way by which multiprocessing starts a program be an event, as that of subprocess is."""
    import _posixsubprocess

    start = _posixsubprocess.fork_exec

    def fork_exec(*arguments: Any) -> Any:
        sys.audit(SPAWNED)
        return start(*arguments)

    _posixsubprocess.fork_exec = fork_exec
