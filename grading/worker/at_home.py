"""A worker for one's own code: runs probes in turn, in a plain process, on any system.

`grading.home` starts it as `python at_home.py JOB CODE`. JOB is a folder with job.json and inputs.npz. The worker
leaves `ready` there once it has imported the libraries, then N.npz and N.json for the N-th probe; a file appears when
it is complete. What the code prints is dropped.
"""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path


def forget(folder: str) -> None:
    """Drop the modules imported from `folder`, so that the next probe finds nothing of the last one."""
    from grading.worker import packages

    packages.needed.clear()
    if torch := sys.modules.get("torch"):
        torch.set_default_dtype(torch.float32)
    for name, module in list(sys.modules.items()):
        if isinstance(module, packages.StandIn) or str(getattr(module, "__file__", None) or "").startswith(
                folder + os.sep):
            del sys.modules[name]


def main() -> None:
    job, code = (os.path.realpath(path) for path in sys.argv[1:])
    package = str(Path(__file__).resolve().parent.parent.parent)
    sys.path[0:1] = []  # the worker's own folder: none of its files may stand in for a library
    sys.path.append(package)
    import numpy as np

    from grading.worker import student

    request = json.loads(Path(job, "job.json").read_text(encoding="utf-8"))
    student.load(request["torch"])
    sys.path.remove(package)
    sys.path.append(code)  # last, as in the grader's workers
    with np.load(Path(job, "inputs.npz"), allow_pickle=False) as file:
        inputs = {key: file[key] for key in file.files}
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    Path(job, "ready").touch()
    for number, probe in enumerate(request["probes"]):
        os.chdir(code)
        sys.argv = [probe["name"]]
        random.seed(0)
        np.random.seed(0)
        arrays = {key.partition("/")[2]: value.copy() for key, value in inputs.items()
                  if key.partition("/")[0] == probe["name"]}
        parts = [Path(job, f"{number}.{ending}.part") for ending in ("npz", "json")]
        with open(parts[0], "wb", 0) as npz, open(parts[1], "wb", 0) as reply:
            student.answer(probe, arrays, request["data"], reply.fileno(), npz.fileno())
        for part in parts:
            part.rename(part.with_suffix(""))
        forget(code)


if __name__ == "__main__":
    main()
