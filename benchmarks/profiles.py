"""Where the time goes: the functions or operators with the largest shares of their own, without what they call.

    python -m benchmarks.profiles train_mlp_numpy.py --max_steps 100     # of a whole script, imports and all
"""

from __future__ import annotations

import cProfile
import json
import runpy
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import CodeType

from benchmarks.rows import Profile
from benchmarks.timing import Function

ROOT = Path(__file__).parent.parent
TOP = 3


def by_function(call: Function, times: int = 1, warm_up: bool = True) -> Profile:
    """Of NumPy code; a function's own time holds its matrix products and arithmetic, which are not calls."""
    if warm_up:
        call()
    profiler = cProfile.Profile()
    profiler.enable()
    for _ in range(times):
        call()
    profiler.disable()
    own: dict[str, float] = {}
    for entry in profiler.getstats():
        code = entry.code
        name = code.co_qualname if isinstance(code, CodeType) else code.strip("<>").removeprefix("built-in method ")
        own[name.replace("<locals>.", "")] = own.get(name.replace("<locals>.", ""), 0.0) + entry.inlinetime
    return largest(own)


def by_operator(call: Function, times: int = 1) -> Profile:
    """Of PyTorch code; 'Python' is what no operator takes."""
    from torch.profiler import ProfilerActivity, profile, record_function

    call()
    with profile(activities=[ProfilerActivity.CPU]) as profiler, record_function("Python"):
        for _ in range(times):
            call()
    return largest({event.key: event.self_cpu_time_total for event in profiler.key_averages()})


def of_script(script: str, *flags: str) -> Profile:
    """Of a script in a process of its own."""
    printed = subprocess.run([sys.executable, "-m", "benchmarks.profiles", script, *flags], cwd=ROOT, check=True,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    return [(name, share) for name, share in json.loads(printed.splitlines()[-1])]


def largest(own: dict[str, float]) -> Profile:
    whole = sum(own.values())
    return [(name, own[name] / whole) for name in sorted(own, key=own.__getitem__, reverse=True)[:TOP]]


def main(argv: Sequence[str]) -> None:
    def script() -> None:
        try:
            runpy.run_path(argv[0], run_name="__main__")
        except SystemExit as end:
            if end.code:
                raise

    sys.argv = list(argv)
    print(json.dumps(by_function(script, warm_up=False)))


if __name__ == "__main__":
    main(sys.argv[1:])
