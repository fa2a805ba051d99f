"""Overlay the curves of several runs in one picture.

    python plot_curves.py results/train_mlp_numpy/<time> results/train_mlp_pytorch/<time>
    python plot_curves.py RUN RUN --labels ELU Tanh --out tanh-elu      # writes tanh-elu.png and tanh-elu.svg

A run is a folder that a training script left: loss on the left, accuracy on the right.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from training.curves import plot_curves
from training.flags import for_shell, path


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    expanded = lambda name: Path(path(name))  # noqa: E731
    parser.add_argument("runs", nargs="+", type=expanded, metavar="RUN", help="run folder")
    parser.add_argument("--labels", nargs="+", help="a name for each run (default: its folder's name)")
    parser.add_argument("--out", type=expanded, default=Path("curves"), help="name of the picture, without its ending; "
                        "writes OUT.png and OUT.svg (default: curves)")
    arguments = parser.parse_args(argv)
    if arguments.labels and len(arguments.labels) != len(arguments.runs):
        parser.exit(2, f"{parser.prog}: {len(arguments.runs)} runs, but {len(arguments.labels)} --labels\n")
    for run in arguments.runs:
        if not (run / "metrics.csv").is_file() or not (run / "config.json").is_file():
            parser.exit(2, f"{parser.prog}: {run} is not a run folder: it holds no metrics.csv with a config.json\n")
        if (run / "metrics.csv").open("rb").readline().startswith(b"repeat"):
            parser.exit(2, f"{parser.prog}: {run} holds several repeats, which its own curves.png shows; "
                           "name one of the folders inside it\n")
    if arguments.out.suffix in (".png", ".svg"):
        arguments.out = arguments.out.with_suffix("")
    try:
        plot_curves(arguments.runs, arguments.out, arguments.labels)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        parser.exit(2, f"{parser.prog}: a run's files are damaged: {error}\n")
    except OSError as error:
        parser.exit(1, f"{parser.prog}: cannot write {error.filename or arguments.out}: {error.strerror}\n")
    out = os.path.abspath(arguments.out)
    print(f"wrote {for_shell(f'{out}.png')} and {for_shell(f'{out}.svg')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
