"""Draw the report's figures and typeset it: report/report.pdf, from what lies under report/results and nothing else.

    python -m report.build_report                        # or make report
    python -m report.build_report --author "Jane Doe"    # or make report AUTHOR="Jane Doe"
    python -m report.build_report --out my.pdf --date 2026-12-01

A result that is missing, in a figure or in a table, ends it with a line that names the command to run.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import hashlib
import json
import re
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

if not __package__:
    sys.exit("start it from the folder above: python -m report.build_report")

import numpy as np

from imagefiles.dataset import expanded
from imagefiles.output import Parser, lossy_output
from report.experiments import EXPERIMENTS, Variant, runs
from training.checkpoints import atomic_write
from training.curves import import_matplotlib

import_matplotlib()  # which gets over a backend that the environment names and that is none
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

REPORT = Path(__file__).resolve().parent
PICTURED = {"mlp-numpy": "NumPy MLP", "mlp-pytorch": "PyTorch MLP", "convnet": "ConvNet"}  # by report.inspect_runs
PICTURED_RUN = "defaults-seed42"


class Missing(Exception):
    """A result that is not there: a line with the way out."""


class Results:
    """The kept runs under a folder. Each method raises Missing for one that is not there."""

    def __init__(self, folder: Path):
        self.folder = folder

    def path(self, experiment: str, run: str, name: str) -> Path:
        path = self.folder / experiment / run / name
        if not path.exists():
            pictured = name in ("predictions.json", "worst.png", "weights.png")
            command = f"-m report.inspect_runs {path.parent}" if pictured else f"-m report.experiments {experiment}"
            raise Missing(f"{path} is missing: python {command}")
        return path

    def rows(self, experiment: str, run: str) -> list[dict[str, str]]:
        with open(self.path(experiment, run, "metrics.csv"), newline="") as file:
            return list(csv.DictReader(file))

    def summary(self, experiment: str, run: str) -> dict:
        return json.loads(self.path(experiment, run, "summary.json").read_text())

    def predictions(self, experiment: str) -> dict:
        return json.loads(self.path(experiment, PICTURED_RUN, "predictions.json").read_text())

    def picture(self, experiment: str, name: str) -> np.ndarray:
        return plt.imread(self.path(experiment, PICTURED_RUN, name))

    def curve(self, experiment: str, variant: str, split: str, key: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Steps, and mean and standard deviation over the seeds, of a column of metrics.csv."""
        found = [[row for row in self.rows(experiment, f"{variant}-seed{seed}") if row["split"] == split]
                 for seed in variant_of(experiment, variant).seeds]
        values = np.array([[float(row[key]) for row in rows] for rows in found])
        steps = np.array([int(row["step"]) for row in found[0]])
        return steps, values.mean(axis=0), values.std(axis=0, ddof=1) if len(found) > 1 else np.zeros(len(steps))

    def accuracies(self, experiment: str, variant: str) -> list[float]:
        return [self.summary(experiment, f"{variant}-seed{seed}")["test_accuracy"]
                for seed in variant_of(experiment, variant).seeds]

    def kept(self) -> dict:
        """What the text says about all kept runs: seeds and titles of the variants, commits, machines and data."""
        variants = {f"{name}/{variant.name}": dict(title=variant.title or variant.name, seeds=variant.seeds,
                                                   published=variant.published, chosen_on_test=variant.chosen_on_test)
                    for name, experiment in EXPERIMENTS.items() for variant in experiment.variants}
        configs = [json.loads(self.path(name, f"{variant.name}-seed{seed}", "config.json").read_text())
                   for name in EXPERIMENTS for variant, seed, _ in runs(name)]
        return dict(
            variants=variants, commits=Counter(config["git_commit"] for config in configs).most_common(),
            machines=sorted({f"{c['machine']['processor']} ({c['machine']['cores']} cores)" for c in configs}),
            versions=sorted({f"{name} {version}" for c in configs for name, version in c["versions"].items()}),
            data=sorted({f"{c['data_name']}, {c['data']}" for c in configs}))


def variant_of(experiment: str, name: str) -> Variant:
    (found,) = (variant for variant in EXPERIMENTS[experiment].variants if variant.name == name)
    return found


def in_words(number: int) -> str:
    return ("one seed", "two seeds", "three seeds", "four seeds", "five seeds")[number - 1]


def band(axis: Axes, curve: tuple[np.ndarray, np.ndarray, np.ndarray], label: str, **style: object) -> None:
    steps, mean, spread = curve
    (line,) = axis.plot(steps, mean, label=label, **style)  # type: ignore[arg-type]
    axis.fill_between(steps, mean - spread, mean + spread, color=line.get_color(), alpha=0.25, linewidth=0)


def loss_and_accuracy(results: Results, lines: dict[str, tuple[str, str]], splits: Sequence[str], name: str,
                      folder: Path) -> None:
    """Two panels over training steps; lines: {label: (experiment, variant)}, a colour each, training dashed."""
    figure, axes = plt.subplots(1, 2, figsize=(7, 2.4), layout="constrained")
    for axis, key in zip(axes, ("loss", "accuracy"), strict=True):
        for number, (label, (experiment, variant)) in enumerate(lines.items()):
            for split in splits:
                band(axis, results.curve(experiment, variant, split, key), f"{label}, {split}", color=f"C{number}",
                     linestyle="--" if split == "train" else "-")
        axis.set(xlabel="training step", ylabel="cross-entropy (nats)" if key == "loss" else "accuracy")
        axis.locator_params(axis="x", nbins=6)
        axis.grid(alpha=0.3)
    axes[1].legend(fontsize=7)
    figure.savefig(folder / f"{name}.svg")
    plt.close(figure)


def activations(results: Results, folder: Path) -> None:
    rows = results.rows("activations", "both-seed42")
    figure, axis = plt.subplots(figsize=(4.6, 2.7), layout="constrained")
    for name in ("relu", "sigmoid"):
        chosen = [row for row in rows if row["activation"] == name and row["split"] == "validation"]
        epochs = sorted({int(row["epoch"]) for row in chosen})
        values = [[float(row["accuracy"]) for row in chosen if int(row["epoch"]) == epoch] for epoch in epochs]
        band(axis, (np.array(epochs), np.mean(values, axis=1), np.std(values, axis=1, ddof=1)), name, marker=".")
    axis.set(xlabel="epoch", ylabel="validation accuracy")
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(folder / "activations.svg")
    plt.close(figure)


def norms(results: Results, folder: Path) -> None:
    figure, axis = plt.subplots(figsize=(4.6, 2.7), layout="constrained")
    sizes = (2, 8, 32, 128, 512)
    for norm, label in (("none", "none"), ("layer", "LayerNorm"), ("batch_torch", "BatchNorm")):
        values = [results.accuracies("norms", f"{norm}-{size}") for size in sizes]
        spread = [statistics.stdev(value) for value in values]
        axis.errorbar(sizes, [statistics.mean(value) for value in values], spread, marker=".", capsize=2, label=label)
    axis.set_xscale("log", base=2)
    axis.set(xlabel="batch size", ylabel="test accuracy", xticks=sizes, xticklabels=[str(size) for size in sizes])
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(folder / "norms.svg")
    plt.close(figure)


def study(results: Results, folder: Path) -> None:
    """Test accuracy of each variant of the study's CNN, and what was published."""
    figure, axis = plt.subplots(figsize=(5.2, 3.1), layout="constrained")
    variants = EXPERIMENTS["study-cnn"].variants
    values = [results.accuracies("study-cnn", variant.name) for variant in variants]
    axis.errorbar([statistics.mean(value) for value in values], range(len(variants)),
                  xerr=[statistics.stdev(value) for value in values], fmt="o", markersize=4, capsize=2,
                  label=f"{in_words(len(values[0]))}, here")
    axis.plot([float(variant.published) for variant in variants], range(len(variants)), "x", label="published, one run")
    axis.set(xlabel="test accuracy", yticks=range(len(variants)), yticklabels=[variant.title for variant in variants])
    axis.invert_yaxis()
    axis.grid(alpha=0.3)
    axis.legend(loc="upper left")
    figure.savefig(folder / "study-cnn.svg")
    plt.close(figure)


def confusions(results: Results, folder: Path) -> None:
    """Per cent of each class's test images by what a network takes them for."""
    figure, axes = plt.subplots(1, len(PICTURED), figsize=(7, 3.0), layout="constrained")
    for axis, (experiment, title) in zip(axes, PICTURED.items(), strict=True):
        found = results.predictions(experiment)
        counts = np.array(found["confusion"])
        share = 100 * counts / counts.sum(axis=1, keepdims=True)
        axis.imshow(share, cmap="Blues", vmin=0, vmax=100)
        for (row, column), value in np.ndenumerate(share):
            axis.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=6,
                      color="white" if value > 50 else "black")
        classes = found["classes"]
        axis.set_xticks(range(len(classes)), classes, rotation=90, fontsize=6)
        axis.set_yticks(range(len(classes)), classes if axis is axes[0] else [], fontsize=6)
        axis.set_title(title, fontsize=8)
        axis.set_xlabel("predicted")
    axes[0].set_ylabel("label")
    figure.savefig(folder / "confusion.svg")
    plt.close(figure)


def worst_images(results: Results, folder: Path) -> None:
    """The test images of highest loss, a row for each network; under each its label and what it is taken for."""
    columns = len(results.predictions("convnet")["worst"])
    figure, axes = plt.subplots(len(PICTURED), columns, figsize=(7, 2.75), layout="constrained")
    for row, (experiment, title) in zip(axes, PICTURED.items(), strict=True):
        found, sheet = results.predictions(experiment), results.picture(experiment, "worst.png")
        side = sheet.shape[0]
        for k, (axis, image) in enumerate(zip(row, found["worst"], strict=True)):
            left = k * (side + 1)  # one white pixel between two
            axis.imshow(sheet[:, left:left + side])
            label, predicted = found["classes"][image["label"]], found["classes"][image["predicted"]]
            axis.set_title(f"{label}\n{predicted}", fontsize=6.5, pad=2)
            axis.set(xticks=[], yticks=[])
        row[0].set_ylabel(title, fontsize=7)
    figure.savefig(folder / "worst.svg")
    plt.close(figure)


def draw(results: Results, folder: Path) -> None:
    """Every figure, and kept.json for the text, into `folder`."""
    folder.mkdir(exist_ok=True)
    (folder / "kept.json").write_text(json.dumps(results.kept()))
    plt.switch_backend("agg")  # the same figures whatever MPLBACKEND or a matplotlibrc say
    plt.rcdefaults()
    plt.rcParams.update({"font.size": 8, "svg.hashsalt": "report", "svg.fonttype": "path"})
    for name, lines, splits in (
            ("mlp-defaults", {"NumPy": ("mlp-numpy", "defaults"), "PyTorch": ("mlp-pytorch", "defaults")},
             ("train", "test")),
            ("tanh-elu", {variant.title: ("tanh-elu", variant.name) for variant in EXPERIMENTS["tanh-elu"].variants},
             ("test",)),
            ("convnet", {"ConvNet": ("convnet", "defaults")}, ("train", "test")),
            ("best-mlp", {"all epochs": ("best-mlp", "augmented"), "a fifth": ("best-mlp", "augmented-fifth")},
             ("train", "validation")),
            ("mlp-2019", {"NumPy": ("mlp-2019", "numpy"), "PyTorch": ("mlp-2019", "pytorch")}, ("test",)),
            ("mnist-manual", {"MNIST": ("mnist-manual", "20-epochs")}, ("train", "test")),
            ("mlp-grid", {f"$L_2$ {decay}": ("mlp-grid", f"l2-{decay}") for decay in ("0.01", "0.001")},
             ("train", "test")),
            ("mlp-evolved", {variant.title: ("mlp-evolved", variant.name)
                             for variant in EXPERIMENTS["mlp-evolved"].variants}, ("test",)),
            ("fast-convnet", {"ConvNet": ("fast-convnet", "160000-images")}, ("train", "validation")),
            ("transfer", {"fine-tuned": ("transfer", "fine-tuned"), "linear probe": ("transfer", "linear-probe")},
             ("train", "test"))):
        loss_and_accuracy(results, lines, splits, name, folder)
    study(results, folder)
    activations(results, folder)
    confusions(results, folder)
    worst_images(results, folder)
    for experiment in PICTURED:
        results.picture(experiment, "weights.png")  # which the text shows as it is
    norms(results, folder)


def digest(report: Path) -> str:
    """A hash of all that the PDF is made from."""
    result = hashlib.sha256(Path(__file__).read_bytes() + repr(EXPERIMENTS).encode())
    patterns = ("*.typ", "*.bib", "results/**/*.json", "results/**/metrics.csv", "results/**/worst.png",
                "results/**/weights.png")
    sources = [path for pattern in patterns for path in report.glob(pattern)]
    for path in sorted(sources):
        result.update(path.relative_to(report).as_posix().encode() + b"\0" + path.read_bytes())
    return result.hexdigest()


def build(report: Path, out: Path, author: str = "", date: str = "") -> None:
    """Figures and PDF of the report in the folder `report`, and beside the PDF the digest of what it was made from.

    author, date: for the title; today's date unless given.

    Raises:
        Missing: a result is not there, or the text is not right.
    """
    import typst  # for this alone: what is handed in can be packed without it

    results = Results(report / "results")
    draw(results, report / "figures")
    try:
        pdf = typst.compile(str(report / "report.typ"), root=str(report), ignore_system_fonts=True,
                             sys_inputs={"author": author, "date": date or datetime.date.today().isoformat()})
    except RuntimeError as error:
        if names := re.search(r"results/([^/]+)/([^/]+)/([\w-]+\.\w+)", str(error)):
            results.path(*names.groups())  # where the text reads what is missing
        raise Missing(f"the report is not typeset: {error}") from None
    with atomic_write(out) as file:
        file.write(pdf)
    with atomic_write(out.with_suffix(".sha256"), "w") as file:
        file.write(digest(report) + "\n")


@lossy_output()
def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=expanded, default=REPORT / "report.pdf", help="default: report/report.pdf")
    parser.add_argument("--author", default="", help="who hands it in, under the title (default: nobody is named)")
    parser.add_argument("--date", default="", help="under the title (default: today's)")
    arguments = parser.parse_args(argv)
    out = arguments.out
    try:
        build(REPORT, out, arguments.author, arguments.date)
    except Missing as error:
        print(f"build_report.py: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"build_report.py: cannot write or read {error.filename or REPORT / 'figures'}: "
              f"{error.strerror or error}", file=sys.stderr)
        return 1
    print(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
