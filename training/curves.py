"""The loss and accuracy curves of one run or several, drawn from the rows of metrics.csv."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from training.checkpoints import atomic_write
from training.console import notice, wrapped
from training.metrics import read_metrics

LEGEND_WIDTH = 130  # characters of its font, side by side in a figure
STYLES = {"train": ":", "validation": "--", "test": "-"}


def load_curves(folder: Path) -> dict[str, dict[str, list[float]]]:
    """{split: {'step': [...], 'loss': [...], 'accuracy': [...]}} of a run folder."""
    curves: dict[str, dict[str, list[float]]] = {}
    for row in read_metrics(folder / "metrics.csv"):
        curve = curves.setdefault(row["split"], {"step": [], "loss": [], "accuracy": []})
        for key, values in curve.items():
            values.append(row[key])
    return curves


def read_configs(folders: Sequence[Path]) -> list[dict[str, Any]]:
    return [json.loads((folder / "config.json").read_text()) for folder in folders]


def data_names(*folders: Path) -> str:
    """What the runs were trained on, for a title, so that the stand-in is not taken for CIFAR-10."""
    return ", ".join(sorted({
        f"SYNTHETIC DATA ({config['data_name']})" if config["data"] == "synthetic" else config["data_name"]
        for config in read_configs(folders)}))


def data_title(*folders: Path) -> str:
    """`data_names`, and on how many images the runs were evaluated where those are not all and the runs agree."""
    part, *others = {config.get("flags", {}).get("eval_images", 0) for config in read_configs(folders)}
    names = data_names(*folders)
    return f"{names}, evaluated on the first {part} images" if part and not others else names


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


def drawable(name: str) -> str:
    """The name of a file as matplotlib can draw it: with a ? for each byte that belongs to no character."""
    return name.encode("utf-8", "replace").decode()


def save_figure(target: Path, paint: Callable[[Any], None], inches: tuple[float, float] = (11, 4.2),
                suffixes: Sequence[str] = (".png", ".svg")) -> None:
    """Write target.png and target.svg of the figure that `paint` fills, in matplotlib's default style and no other."""
    matplotlib = import_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        figure = Figure(figsize=inches, layout="constrained")
        FigureCanvasAgg(figure)
        warnings.filterwarnings("ignore", "Glyph")  # a letter of a file's name that the font lacks: a box is drawn
        paint(figure)
        for suffix in suffixes:
            with atomic_write(target.with_name(target.name + suffix)) as file:
                figure.savefig(file, format=suffix.removeprefix("."), dpi=110)


def draw_or_notice(draw: Callable[[], None]) -> None:
    """Draw what is worth having and not worth losing a run for."""
    try:
        draw()
    except Exception as error:  # matplotlib has many ways to fail
        reason = (str(error) or type(error).__name__).splitlines()[0]
        notice(f"the curves could not be drawn ({reason}); metrics.csv has their figures.")


def plot_curves(folders: list[Path], target: Path, labels: list[str] | None = None, log: bool = False) -> None:
    """Overlay the runs in `folders`: loss on the left, accuracy on the right; writes target.png and target.svg.

    log: the loss on a logarithmic axis.
    """
    labels = [drawable(label) for label in labels or [folder.name for folder in folders]]
    configs = read_configs(folders)
    scripts, several = sorted({config["script"] for config in configs}), len(folders) > 1

    def paint(figure: Any) -> None:
        from matplotlib import colormaps
        from matplotlib.ticker import LogFormatter

        axes = dict(zip(("loss", "accuracy"), figure.subplots(1, 2), strict=True))
        runs: dict[str, Any] = {}  # what the legend says, and a line of that look
        splits: dict[str, Any] = {}
        parts: dict[str, dict[str, None]] = {}  # 'test': those of its parts that are drawn, in their order
        palette: list[Any] = [f"C{k}" for k in range(10)]
        if len(folders) > len(palette):
            palette = [colormaps["turbo"](k / len(folders)) for k in range(len(folders))]
        for number, (folder, label) in enumerate(zip(folders, labels, strict=True)):
            for order, (split, curve) in enumerate((curves := load_curves(folder)).items()):
                look = dict(linestyle=STYLES[split.partition("[")[0]], linewidth=1.6,
                            marker="o" if len(curve["step"]) == 1 else None)  # of one point, a line would not show
                colour = palette[number if several else order]
                for key, axis in axes.items():
                    (line,) = axis.plot(curve["step"], curve[key], color=colour, **look)
                name = split.partition("[")[0]
                splits.setdefault(name, axis.plot([], [], color="black", **look)[0] if several else line)
                parts.setdefault(name, {})[split] = None
            said = label if curves else f"{label} ({configs[number].get('ended', 'no evaluation')})"
            runs[f" {said}"] = axes["loss"].plot([], [], color=palette[number])[0]  # matplotlib hides _names
        for key, axis in axes.items():
            axis.set(xlabel="training step", ylabel={"loss": "cross-entropy (nats)", "accuracy": "accuracy"}[key],
                     yscale="log" if log and key == "loss" else "linear")
            if log and key == "loss":  # 2.025, and not 2.025 x 10^0
                axis.yaxis.set(major_formatter=LogFormatter(), minor_formatter=LogFormatter())
            axis.grid(alpha=0.3)
            axis.xaxis.get_major_locator().set_params(integer=True)
        splits = {", ".join(parts[name]): line for name, line in splits.items()}
        add_legend(figure, {**runs, **splits} if several else splits)
        figure.suptitle(f"{', '.join(scripts)} on {data_title(*folders)}", parse_math=False)

    save_figure(target, paint)


def add_legend(figure: Any, named: dict[str, Any]) -> None:
    """A legend below the axes, in as many columns as fit; long names are wrapped, and the figure grows with them."""
    longest = max(map(len, named), default=0)
    legend = figure.legend(named.values(), [wrapped(name, LEGEND_WIDTH, " ") for name in named],
                           loc="outside lower center", fontsize="small",
                           ncols=max(1, min(len(named), LEGEND_WIDTH // (longest + 7))))
    for text in legend.get_texts():
        text.set_parse_math(False)  # a $ is a $
    too_wide = legend.get_window_extent().width / (0.98 * figure.bbox.width)
    if too_wide > 1:  # of wide letters
        for text in legend.get_texts():
            text.set_fontsize(text.get_fontsize() / too_wide)
    inches = legend.get_window_extent().height / figure.dpi
    figure.set_figheight(figure.get_figheight() + max(0.0, inches - 0.4))  # 0.4 for a single line
