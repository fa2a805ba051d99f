"""Facts about this machine and this process: what a run records of them, and whether memory ran out."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]


def describe_machine() -> dict[str, Any]:
    """Versions, git commit and hardware."""
    packages = [name for name in ("numpy", "torch", "torchvision") if name in sys.modules]
    return {"versions": {"python": platform.python_version(), **{p: sys.modules[p].__version__ for p in packages}},
            "git_commit": git_commit(),
            "machine": {"system": platform.platform(), "processor": processor_name(), "cores": os.cpu_count(),
                        "threads": threads()}}


def threads() -> int:
    """How many threads compute: as OMP_NUM_THREADS says, else as many as this process may use cores."""
    with contextlib.suppress(ValueError):  # 'auto', or nothing
        if (asked := float(os.environ.get("OMP_NUM_THREADS", "").partition(",")[0])) >= 1:
            return int(min(asked, 2**31))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def git_commit() -> str:
    """Commit of this package's checkout, with '-dirty' behind it if its code differs from it; '' outside git."""
    here = Path(__file__).parent.parent
    if not (here / ".git").exists():
        return ""

    # git sets these in its hooks, and for other repositories they are another one's
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")}

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=here, env=environment, capture_output=True, text=True,
                              check=False).stdout.strip()

    with contextlib.suppress(OSError):
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "*.py")
        return git("rev-parse", "HEAD") + ("-dirty" if changed else "")
    return ""


def processor_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says, in the words of Python, NumPy or PyTorch, that there is not as much memory."""
    words = ("allocate memory", "out of memory", "array is too big", "Storage size calculation overflowed")
    return isinstance(error, MemoryError) or any(some in str(error) for some in words)


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, in MB (2^20 bytes); 0 where the system does not tell."""
    if resource is None:
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
