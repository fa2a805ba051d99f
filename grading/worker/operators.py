"""What runs in a block of a submission's code: operators of PyTorch, and functions that its autograd goes back through.

Four witnesses, since a submission can keep each of them from seeing. PyTorch's own profiler knows a function by what
it is and not by what it is called, in whatever thread. Over the kernels of READY lie some that tell that they ran,
whoever calls them. Python tells of calls into PyTorch's own FORMULAS, of which only plain operators would be seen. And
to switch the records off is an event that `watch` is told, and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
from torch._C._profiler import _ExperimentalConfig

from grading.worker.student import Task
from grading.worker.watch import RECORDS

FUNCTION = "CustomLayerNormManualFunction"  # which may be a second name of the class
LAST, BACK = "grader: the end", "autograd::engine::evaluate_function:"
FORWARD_MODE = {"aten::_make_dual", "aten::_unpack_dual", "aten::_fw_primal"}  # automatic differentiation as well
ENDED = "the profiler was ended"  # by the submission
READY = ("layer_norm", "group_norm", "batch_norm", "instance_norm", "rms_norm")  # in the names of normalizations
FORMULAS = {os.path.join(os.path.dirname(torch.__file__), part) + os.sep: f"torch.{part}"  # written in Python
            for part in ("_refs", "_decomp", "_prims")}
SWITCHES = ("_enable_record_function", "_toggle_collection_dynamic")  # of the records, which nothing here needs


class Operators:
    """Names of what runs in its `with` block. To be made before the submission is imported."""

    def __init__(self) -> None:
        options: dict[str, Any] = {}
        with contextlib.suppress(TypeError):  # an older PyTorch sees this thread and those of autograd
            options = {"experimental_config": _ExperimentalConfig(profile_all_threads=True)}
        self.profile = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], **options)
        self.names: set[str] = set()
        self._inside, self._begun = False, 0
        self._kernels = self._telling()
        self._tracer = self._called  # one object, to be known again

    def _called(self, frame: FrameType, event: str, argument: Any) -> None:
        """Python calls this at each call of a function, and the like."""
        if event == "call":
            for folder, part in FORMULAS.items():
                if frame.f_code.co_filename.startswith(folder):
                    self.names.add(f"{part}.{frame.f_code.co_name}")

    def _telling(self) -> torch.library.Library:
        """Kernels that note the operator's name and do what the one below does."""
        library = torch.library.Library("aten", "IMPL")
        if not hasattr(torch.library, "get_kernel"):  # in an older PyTorch
            return library

        def telling(name: str) -> Callable[..., Any]:
            below = torch.library.get_kernel(name, "CPU")

            def kernel(keys: Any, *arguments: Any, **keywords: Any) -> Any:
                if self._inside:
                    self.names.add(name)
                return below.call_boxed(keys, *arguments, **keywords)

            return kernel

        for name in torch._C._dispatch_get_all_op_names():
            space, _, operator = name.partition("::")
            if space == "aten" and any(part in operator for part in READY) and (
                    torch._C._dispatch_has_kernel_for_dispatch_key(name, "CPU")):
                library.impl(operator, telling(name), "CPU", with_keyset=True, allow_override=True)
        return library

    def __enter__(self) -> Operators:
        self.profile.__enter__()
        self._inside, self._begun = True, time.time_ns()
        threading.setprofile(self._tracer)
        sys.setprofile(self._tracer)
        return self

    def __exit__(self, *error: Any) -> None:
        untraced = sys.getprofile() is not self._tracer
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]  # as its documentation has it
        self._inside = False
        self._kernels._destroy()
        with contextlib.suppress(RuntimeError):
            with torch.profiler.record_function(LAST):
                pass
            self.profile.__exit__(*error)
            self.names |= {event.name for event in self.profile.events()}
        if LAST not in self.names or self._again() or untraced:
            self.names.add(ENDED)

    def _again(self) -> bool:
        """Whether the profile is another one, begun later than this."""
        results = getattr(self.profile.profiler, "kineto_results", None)
        return results is None or results.trace_start_ns() > self._begun

    def note(self, task: Task, function: str = FUNCTION) -> None:
        """function: the name of the class whose backward is the submission's own."""
        task.note("operators", sorted(self.names))
        back = {name.removeprefix(BACK) for name in self.names if name.startswith(BACK)
                and not name.endswith((f" {function}Backward", "AccumulateGrad"))}
        task.note("differentiated", sorted(back | (self.names & FORWARD_MODE)))


def tell_of_switches() -> None:
    """Have the functions that switch PyTorch's records off do nothing but tell `watch`."""
    def refused(*arguments: Any, **keywords: Any) -> None:
        sys.audit(RECORDS)

    taken = {id(getattr(torch._C._autograd, name, None)) for name in SWITCHES}
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").partition(".")[0] == "torch":
            for name, value in list(vars(module).items()):
                if name in SWITCHES and id(value) in taken:
                    setattr(module, name, refused)


tell_of_switches()
with Operators():  # the first one loads the profiler: a second, once, and not in every probe
    pass
