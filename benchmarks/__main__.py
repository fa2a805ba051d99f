"""Measure how fast things are, beside plain PyTorch or NumPy and beside what this machine can do at best.

    python -m benchmarks                  # everything but gpu, on an idle machine
    python -m benchmarks mlp norms        # benchmarks/bench_mlp.py and bench_norms.py
    python -m benchmarks gpu              # what needs a GPU, in under eight minutes
    python -m benchmarks --quick          # a smoke test: tiny sizes, kept apart as quick.json and quick.md
    python -m benchmarks --page           # what is left to measure, then the tables of docs/speed.md and bench.md

Each result is written to benchmarks/results/bench.json as soon as it is measured, and bench.md is made from that file.
An interrupted run continues with what is left. What another machine measured is measured again, and so is everything
with --again. $CIFAR10_DIR and $MNIST_DIR name the data's folders.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks import tables
from benchmarks.rows import Skipped
from cifar10_utils import DataError
from imagefiles.output import lossy_output
from training.checkpoints import atomic_write
from training.machine import describe_machine

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "speed.md"
NAMES = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
GPU = "gpu"
RESULT = HERE / "results" / "bench.json"


def circumstances() -> dict[str, Any]:
    """Machine, versions and thread count: a result is kept as long as these are the same."""
    here = describe_machine()
    gpu = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    return {"versions": here["versions"], "machine": {**here["machine"], "threads": torch.get_num_threads(), **gpu}}


def read(path: Path) -> tables.Results:
    return json.loads(path.read_text()) if path.exists() else {}


def keep(path: Path, results: tables.Results) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(json.dumps(results, indent=1).encode() + b"\n")
    path.with_suffix(".md").write_text(tables.document(results))


def measure(name: str, quick: bool) -> Iterator[dict[str, Any]]:
    """One benchmark's entry in the JSON, again with each row that is measured; the last is without "unfinished"."""
    entry = {**circumstances(), "git_commit": describe_machine()["git_commit"], "quick": quick,
             "date": datetime.now(UTC).isoformat(timespec="seconds"), "load": os.getloadavg()[0]}
    try:
        rows = []
        for row in importlib.import_module(f"benchmarks.bench_{name}").rows(quick):
            rows.append(dataclasses.asdict(row))
            yield {**entry, "rows": rows, "unfinished": True}
            tqdm.write(f"{row.name}, {row.setting}: {row.seconds.median:.3g} s", file=sys.stderr)
    except Skipped as reason:
        yield {**entry, "skipped": str(reason)}
    else:
        yield {**entry, "rows": rows}


def with_table(text: str, results: tables.Results) -> str:
    """`text` with the table between its markers replaced."""
    head, rest = text.split("<!-- bench -->", 1)
    _, tail = rest.split("<!-- /bench -->", 1)
    return f"{head}<!-- bench -->\n{tables.page_table(results)}\n<!-- /bench -->{tail}"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)} (default: all but {GPU})")
    parser.add_argument("--again", action="store_true", help="measure again what is there already")
    parser.add_argument("--quick", action="store_true", help="a smoke test with tiny sizes")
    parser.add_argument("--page", action="store_true", help="write the table of docs/speed.md")
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.names) - set(NAMES):
        parser.exit(2, f"{parser.prog}: no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}\n")
    if arguments.quick and arguments.page:
        parser.exit(2, f"{parser.prog}: a smoke test is not a measurement: leave out --quick or --page\n")

    path = RESULT.with_stem("quick") if arguments.quick else RESULT
    results, here = read(path), circumstances()
    left = [name for name in arguments.names or sorted(set(NAMES) - {GPU})
            if arguments.again or name not in results or "unfinished" in results[name]
            or any(results[name][key] != value for key, value in here.items())]
    for name in (bar := tqdm(left, unit="benchmark", disable=None)):
        bar.set_description(name)
        try:
            for entry in measure(name, arguments.quick):
                results[name] = entry
                keep(path, results)
        except DataError as error:
            parser.exit(2, f"{parser.prog}: {name}: {error}\n")
    print(path.with_suffix(".md").read_text() if left else "nothing left to measure; --again measures everything again")
    if arguments.page:
        keep(path, results)  # NOTES.md may have changed
        PAGE.write_text(with_table(PAGE.read_text(), results))
    return 0


if __name__ == "__main__":
    with lossy_output():
        sys.exit(main())
