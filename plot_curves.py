"""Overlay the curves of several runs in one picture, or list the runs that there are.

    python plot_curves.py results/train_mlp_numpy/<time> results/train_mlp_pytorch/<time>
    python plot_curves.py RUN RUN --labels ELU Tanh --out tanh-elu      # writes tanh-elu.png and tanh-elu.svg
    python plot_curves.py RUN RUN --log                                 # the loss on a logarithmic axis
    python plot_curves.py --list                                        # every run under results/
    python plot_curves.py --list report/results/norms

A run is a folder that a training script left, finished or not: loss on the left, accuracy on the right. Its label is
made of the flags in which it differs from the others.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from imagefiles.dataset import quoted
from imagefiles.output import Parser, lossy_output
from training.curves import data_title, load_curves, plot_curves, read_configs
from training.flags import path
from training.runs import find, labels, listed, table


def list_runs(parser: argparse.ArgumentParser, folders: list[Path]) -> int:
    """Print the table of the runs under `folders`; a damaged one is named on stderr."""
    runs, damaged = [], []
    for folder in folders:
        if not folder.is_dir():
            parser.exit(2, f"{parser.prog}: the folder {folder} does not exist\n")
        for run in find(folder):
            try:
                runs.append(listed(run))
            except (OSError, ValueError, LookupError, TypeError, AttributeError):
                damaged.append(run)
    if not runs and not damaged:
        parser.exit(2, f"{parser.prog}: there are no runs under {', '.join(map(str, folders))}\n")
    print(table(runs, shutil.get_terminal_size().columns if sys.stdout.isatty() else None))
    for run in damaged:
        print(f"{parser.prog}: the files of {run} are damaged", file=sys.stderr)
    return 0


@lossy_output()
def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    expanded = lambda name: Path(path(name))  # noqa: E731
    parser.add_argument("runs", nargs="*", type=expanded, metavar="RUN",
                        help="run folder; with --list, a folder of runs")
    parser.add_argument("--labels", nargs="+", help="a name for each run (default: the flags in which it differs)")
    parser.add_argument("--out", type=expanded, default=Path("curves"), help="name of the picture, without its ending; "
                        "writes OUT.png and OUT.svg (default: curves)")
    parser.add_argument("--log", action="store_true", help="the loss on a logarithmic axis")
    parser.add_argument("--list", action="store_true", help="list the runs and searches under these folders (default: "
                        "results), with date, script, accuracy, time, state and the flags in which they differ")
    arguments = parser.parse_args(argv)
    if arguments.list:
        return list_runs(parser, arguments.runs or [Path("results")])
    if not arguments.runs:
        parser.exit(2, f"{parser.prog}: name a run, or --list them\n")
    if arguments.labels and len(arguments.labels) != len(arguments.runs):
        parser.exit(2, f"{parser.prog}: {len(arguments.runs)} runs, but {len(arguments.labels)} --labels\n")
    for run in arguments.runs:
        if not (run / "metrics.csv").is_file() or not (run / "config.json").is_file():
            parser.exit(2, f"{parser.prog}: {run} is not a run folder: it holds no metrics.csv with a config.json\n")
        if (run / "metrics.csv").read_bytes().startswith(b"repeat"):
            parser.exit(2, f"{parser.prog}: {run} holds several repeats; name one of the folders inside it\n")
    if arguments.out.suffix in (".png", ".svg"):
        arguments.out = arguments.out.with_suffix("")
    for run in arguments.runs:
        try:
            load_curves(run)
            data_title(run)
            labels([run])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            parser.exit(2, f"{parser.prog}: the files of {run} are damaged: {error}\n")
    if not any(map(load_curves, arguments.runs)):
        ended = "; ".join(f"{run}: {config['ended']}" for run, config in
                          zip(arguments.runs, read_configs(arguments.runs), strict=True) if "ended" in config)
        parser.exit(2, f"{parser.prog}: nothing to draw: no evaluation was done{ended and f' ({ended})'}\n")
    try:
        plot_curves(arguments.runs, arguments.out, arguments.labels or labels(arguments.runs), arguments.log)
    except OSError as error:
        parser.exit(1, f"{parser.prog}: cannot write {error.filename or arguments.out}: {error.strerror}\n")
    out = os.path.abspath(arguments.out)
    print(f"wrote {quoted(f'{out}.png')} and {quoted(f'{out}.svg')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
