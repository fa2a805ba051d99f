"""The rows of metrics.csv, and the loss and accuracy curves of one run or several drawn from them."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from training.checkpoints import atomic_write
from training.console import notice

METRICS = ["step", "split", "loss", "accuracy", "seconds", "images_per_second"]
STYLES = {"train": ":", "validation": "--", "test": "-"}


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.csv, numbers as numbers; a last line cut short by a kill is left out.

    Raises:
        ValueError: not a metrics.csv at all.
    """
    rows = []
    try:
        with open(path, newline="") as file:
            for row in csv.DictReader(file):
                with contextlib.suppress(TypeError, ValueError):
                    rows.append({"step": int(row["step"]), "split": row["split"],
                                 **{key: float(row[key]) for key in METRICS[2:]}})
    except (csv.Error, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not what a run writes ({error})") from None
    return rows


def write_metrics(folder: Path, rows: list[dict[str, Any]], columns: Sequence[str] = METRICS) -> None:
    """Replace metrics.csv of the run folder."""
    with atomic_write(folder / "metrics.csv", "w") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def load_curves(folder: Path) -> dict[str, dict[str, list[float]]]:
    """{split: {'step': [...], 'loss': [...], 'accuracy': [...]}} of a run folder."""
    curves: dict[str, dict[str, list[float]]] = {}
    for row in read_metrics(folder / "metrics.csv"):
        curve = curves.setdefault(row["split"], {"step": [], "loss": [], "accuracy": []})
        for key, values in curve.items():
            values.append(row[key])
    return curves


def data_title(folder: Path) -> str:
    """What the run was trained on, for a title, so that the stand-in is not taken for CIFAR-10."""
    config = json.loads((folder / "config.json").read_text())
    name = config["data_name"]
    return f"SYNTHETIC DATA ({name})" if config["data"] == "synthetic" else name


def import_matplotlib() -> Any:
    """matplotlib, also where the environment names a backend or settings that it stumbles over."""
    try:
        import matplotlib  # here, and not at the top: it takes as long as all other imports
    except Exception:
        for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
            del sys.modules[name]  # what was imported by half
        before = dict(os.environ)
        os.environ |= {"MPLBACKEND": "agg", "MATPLOTLIBRC": os.devnull}
        try:
            import matplotlib
        finally:
            os.environ.clear()
            os.environ |= before
    return matplotlib


def save_figure(target: Path, paint: Callable[[Any], None]) -> None:
    """Write target.png and target.svg of the figure that `paint` fills, in matplotlib's default style and no other."""
    matplotlib = import_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        figure = Figure(figsize=(11, 4.2), layout="constrained")
        FigureCanvasAgg(figure)
        paint(figure)
        for suffix in (".png", ".svg"):
            figure.savefig(target.with_name(target.name + suffix), dpi=110)


def draw_or_notice(draw: Callable[[], None]) -> None:
    """Draw what is worth having and not worth losing a run for."""
    try:
        draw()
    except Exception as error:  # matplotlib has many ways to fail
        reason = (str(error) or type(error).__name__).splitlines()[0]
        notice(f"the curves could not be drawn ({reason}); metrics.csv has their figures.")


def plot_curves(folders: list[Path], target: Path, labels: list[str] | None = None) -> None:
    """Overlay the runs in `folders`: loss on the left, accuracy on the right; writes target.png and target.svg."""
    labels = labels or ([""] if len(folders) == 1 else [folder.name for folder in folders])
    titles = sorted({data_title(folder) for folder in folders})
    scripts = sorted({json.loads((folder / "config.json").read_text())["script"] for folder in folders})

    def paint(figure: Any) -> None:
        axes = dict(zip(("loss", "accuracy"), figure.subplots(1, 2), strict=True))
        for number, (folder, label) in enumerate(zip(folders, labels, strict=True)):
            for order, (split, curve) in enumerate(load_curves(folder).items()):
                colour = f"C{number}" if len(folders) > 1 else f"C{order}"
                alone = len(curve["step"]) == 1  # one evaluation is a point: a line would not show
                name = f"{label} {split}".strip()
                for key, axis in axes.items():
                    axis.plot(curve["step"], curve[key], STYLES.get(split, "-"), color=colour, linewidth=1.6,
                              marker="o" if alone else None,
                              label=f" {name}" if name.startswith("_") else name)  # matplotlib hides _names
        for key, axis in axes.items():
            axis.set(xlabel="training step", ylabel={"loss": "cross-entropy (nats)", "accuracy": "accuracy"}[key])
            axis.grid(alpha=0.3)
            for text in axis.legend(fontsize="small").get_texts():
                text.set_parse_math(False)  # a $ is a $
        figure.suptitle(f"{', '.join(scripts)} on {', '.join(titles)}", parse_math=False)

    save_figure(target, paint)
