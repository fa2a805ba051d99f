"""Run the experiments behind the figures of the README, and set them beside what others published.

    python -m report.experiments --list                  # names, runs, what is already there
    python -m report.experiments mlp-numpy mlp-pytorch   # run these
    python -m report.experiments study-cnn/baseline      # one line of an experiment's table
    python -m report.experiments all --data_dir DIR --mnist_dir DIR
    python -m report.experiments mlp-numpy --check       # run these again elsewhere and compare with what is kept
    python -m report.experiments --readme                # write the tables from the kept results

Each run leaves its folder under report/results/<experiment>/<variant>-seed<seed>; a finished one is not repeated, an
interrupted one is continued. Only small files are kept in git: config.json, metrics.csv, summary.json and curves.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

if not __package__:
    sys.exit("start it from the folder above: python -m report.experiments")

from tqdm import tqdm

from imagefiles.cifar10_files import SYNTHETIC, find_folder, load_folder
from imagefiles.dataset import DataError
from imagefiles.output import Parser, lossy_output
from training.curves import plot_curves

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "report" / "results"
README = ROOT / "README.md"
FIRST_FIGURE = ("mlp-numpy", "mlp-pytorch", "convnet")  # the runs in the picture on the README's first screen
THREE_SEEDS = (42, 43, 44)
LEAST_TOLERANCE = 0.01  # of --check
MARKS = {"†": "One seed.", "‡": "Settings chosen when test accuracies of such runs were known."}


@dataclass(frozen=True)
class Variant:
    """One line of an experiment's table: a script with flags, run once for each seed.

    name: of its folders. title: what a reader calls it, the name unless given. published: others' figure for it.
    chosen_on_test: its settings were chosen, here or by others, when test accuracies of such runs were known.
    """

    name: str
    script: str
    flags: str = ""
    seeds: tuple[int, ...] = THREE_SEEDS
    published: str = ""
    title: str = ""
    chosen_on_test: bool = False

    @property
    def command(self) -> str:
        return f"python {self.script}.py {self.flags}".strip()


@dataclass(frozen=True)
class Experiment:
    title: str
    variants: list[Variant] = field(default_factory=list)
    mnist: bool = False
    first_screen: bool = False  # whether the table on the README's first screen has its lines, too


def merged(*flags: str) -> str:
    """All these flags on one command line; of a flag that is given again, the last value."""
    values: dict[str, str] = {}
    words = " ".join(flags).split()
    for name, value in zip(words[::2], words[1::2], strict=True):
        values[name] = value
    return " ".join(f"{name} {value}" for name, value in values.items())


RELU_ADAM = "--activation relu --optimizer adam --weight_std 0"
EVOLVED = "--dnn_hidden_units 1000,500,250,100 --learning_rate 1.68e-4 --batch_size 1609 --max_steps 4681"
MODIFICATIONS = (  # of an MLP, each on top of those before it: name, title, flags
    ("plain", "three hidden layers of 256 ELU units, SGD, raw pixels",
     "--validation_size 5000 --epochs 10 --batch_size 256 --dnn_hidden_units 256,256,256 --weight_std 0"),
    ("scaled-pixels", "pixels scaled, a larger learning rate", "--pixel_scale 0.016 --learning_rate 0.05"),
    ("adamw", "AdamW", "--optimizer adamw --learning_rate 1e-3 --weight_decay 0.05"),
    ("one-cycle", "a learning rate that rises and then falls", "--lr_schedule one_cycle"),
    ("gelu", "GELU instead of ELU", "--activation gelu"),
    ("layernorm", "LayerNorm before each activation", "--normalization layer_torch"),
    ("residual", "two residual blocks instead, four times as wide inside",
     "--blocks 2 --dnn_hidden_units 256 --expansion 4 --normalization none"),
    ("muon", "Muon, batches of 2048",
     "--optimizer muon --batch_size 2048 --learning_rate 0.1 --momentum 0.9 --weight_decay 0"),
    ("label-smoothing", "label smoothing", "--label_smoothing 0.1"),
    ("dropout", "dropout in the blocks", "--dropout 0.2"),
    ("flip", "images flipped randomly instead of dropout", "--flip on --dropout 0"),
    ("shift", "images shifted randomly", "--shift 3"),
    ("mixup", "mixup", "--mixup 0.5"),
    ("weight-averaging", "a moving average of the weights", "--ema_decay 0.98"),
    ("without-muon", "AdamW and batches of 256 again, no average",
     "--optimizer adamw --momentum 0 --batch_size 256 --learning_rate 1e-3 --weight_decay 0.05 --ema_decay 0"),
)
STUDY = (  # one change each of a small CNN: name, title, flags, what source B publishes
    ("baseline", "baseline", "", "0.62"),
    ("best", "our best", "--recipe study-best", "0.68"),
    ("lr-0.005", "learning rate 0.005", "--learning_rate 0.005", "0.41"),
    ("lr-0.0005", "learning rate 0.0005", "--learning_rate 0.0005", "0.61"),
    ("tanh", "Tanh", "--activation tanh", "0.59"),
    ("sigmoid", "sigmoid", "--activation sigmoid", "0.57"),
    ("batch-32", "batches of 32", "--batch_size 32", "0.54"),
    ("batch-8", "batches of 8", "--batch_size 8", "0.60"),
    ("batch-2", "batches of 2", "--batch_size 2", "0.63"),
    ("fc-275", "a wider first hidden layer", "--fc 275,84", "0.59"),
    ("channels-20-25", "more channels", "--channels 20,25", "0.68"),
    ("three-convolutions", "three convolutions", "--channels 15,20,25", "0.67"),
    ("dropout-0.2", "dropout of 0.2", "--dropout 0.2", "0.65"),
)
EXPERIMENTS = {
    "mlp-numpy": Experiment("NumPy MLP, defaults (question 1.2)", first_screen=True, variants=[
        Variant("defaults", "train_mlp_numpy", published="about 0.48")]),
    "mlp-pytorch": Experiment("PyTorch MLP, defaults (question 2.1)", first_screen=True, variants=[
        Variant("defaults", "train_mlp_pytorch", published="about 0.48")]),
    "convnet": Experiment("ConvNet, defaults (question 4a)", first_screen=True, variants=[
        Variant("defaults", "train_convnet_pytorch", "--precision bf16", published="about 0.79")]),
    "best-mlp": Experiment("The best MLP", variants=[
        Variant("plain", "train_mlp_pytorch", "--recipe best-mlp", published="0.535 to 0.56",
                title="without augmentation"),
        Variant("augmented", "train_mlp_pytorch", "--recipe best-mlp-augmented", seeds=(42,),
                title="with augmentation"),
        Variant("augmented-fifth", "train_mlp_pytorch", "--recipe best-mlp-augmented --epochs 31",
                title="with augmentation, a fifth of the epochs")]),
    "mlp-modifications": Experiment("Modifications of an MLP, each on top of those before it", variants=[
        Variant(name, "train_mlp_pytorch", flags, title=title) for (name, title, _), flags in
        zip(MODIFICATIONS, accumulate((flags for *_, flags in MODIFICATIONS), merged), strict=True)]),
    "fast-convnet": Experiment("ConvNet, as many images as by default, Muon", first_screen=True, variants=[
        Variant("160000-images", "train_convnet_pytorch", "--recipe fast-convnet --precision bf16")]),
    "mnist-manual": Experiment("NumPy MLP on MNIST, three layers", mnist=True, variants=[
        Variant("20-epochs", "train_mlp_numpy", "--recipe mnist-three-layers", published="curves only")]),
    "activations": Experiment("Tape autodiff on MNIST, 300 hidden units, 10 epochs", mnist=True, variants=[
        Variant("both", "train_mlp_autodiff", seeds=(42,), published="ReLU reaches its best sooner")]),
    "study-cnn": Experiment("Study CNN, 5 epochs", [
        Variant(name, "train_convnet_pytorch", flags if "--recipe" in flags else f"--model study {flags}".strip(),
                published=published, title=title)
        for name, title, flags, published in STUDY]),
    "transfer": Experiment("EfficientNet-Lite0 from ImageNet (question 4b)", variants=[
        Variant("linear-probe", "train_transfer_pytorch", "--freeze backbone --batch_size 256 --max_steps 2000 "
                "--precision fp32", title="linear probe, 96 pixels"),
        Variant("fine-tuned-96-pixels", "train_transfer_pytorch", "--epochs 2 --precision fp32", seeds=(42,),
                title="fine-tuned, 96 pixels"),
        Variant("fine-tuned", "train_transfer_pytorch", "--recipe efficientnet-128 --precision fp32", seeds=(42,),
                title="fine-tuned, 128 pixels", chosen_on_test=True)]),
    "tanh-elu": Experiment("Tanh against ELU (question 2.2)", [
        Variant(name, "train_mlp_pytorch", f"--activation {name}", seeds=(42, 43, 44, 45, 46), title=title)
        for name, title in (("elu", "ELU"), ("tanh", "Tanh"))]),
    "norms": Experiment("LayerNorm against BatchNorm across batch sizes (question 3.2d)", variants=[
        Variant(f"{norm}-{size}", "train_mlp_pytorch",
                f"--normalization {norm} --batch_size {size} --dnn_hidden_units 100,100 --optimizer adam "
                "--weight_std 0 --pixel_scale 0.016 --epochs 1", title=f"{title}, batches of {size}")
        for norm, title in (("none", "neither"), ("layer", "LayerNorm"), ("batch_torch", "BatchNorm"))
        for size in (2, 8, 32, 128, 512)]),
    "mlp-2019": Experiment("ReLU, SGD 2e-3, 1500 steps, in NumPy and in PyTorch", [
        Variant(name, f"train_mlp_{name}", "--activation relu --learning_rate 2e-3 --max_steps 1500",
                published="0.444 (train 0.425)", title=title)
        for name, title in (("numpy", "NumPy"), ("pytorch", "PyTorch"))]),
    "mlp-grid": Experiment("ReLU 500,200,200,200, Adam, L2 as published and as its author's code had it", [
        Variant(f"l2-{decay}", "train_mlp_pytorch", f"{RELU_ADAM} --dnn_hidden_units 500,200,200,200 "
                f"--learning_rate 8e-4 --batch_size 300 --max_steps 3000 --weight_decay {decay}", published="0.535",
                title=f"L2 {decay}")
        for decay in ("0.01", "0.001")]),
    "mlp-evolved": Experiment("ReLU MLPs that an evolutionary search found, Adam", [
        Variant(name, "train_mlp_pytorch", f"{RELU_ADAM} {flags}", published=published, title=title,
                chosen_on_test=True, seeds=(42, 43, 44) if name == "1-plain" else (42,))
        for name, title, flags, published in (
            ("1-plain", "1000, 500, 250, 100 units", EVOLVED, "0.537 (train 1.00)"),
            ("1-dropout", "the same, dropout", f"{EVOLVED} --dropout 0.5", "0.497 (train 0.635)"),
            ("1-dropout-batchnorm", "the same, dropout and BatchNorm",
             f"{EVOLVED} --dropout 0.5 --normalization batch_torch --norm_before linear", "0.516 (train 0.826)"),
            ("2", "1000, 100 units",
             "--dnn_hidden_units 1000,100 --learning_rate 1.5e-4 --batch_size 1824 --max_steps 3030",
             "0.506 (train 1.00)"),
            ("3", "1000, 1000 units",
             "--dnn_hidden_units 1000,1000 --learning_rate 5.72e-5 --batch_size 809 --max_steps 4365",
             "0.535 (train 1.00)"))]),
}


def runs(name: str) -> Iterator[tuple[Variant, int, Path]]:
    """(variant, seed, folder) of each run of an experiment."""
    for variant in EXPERIMENTS[name].variants:
        for seed in variant.seeds:
            yield variant, seed, RESULTS / name / f"{variant.name}-seed{seed}"


def run(variant: Variant, seed: int, folder: Path, data_dir: str) -> int:
    """Start or continue one run. Returns the script's exit status."""
    if (folder / "config.json").exists() and list(folder.glob("**/last.*")):
        flags = ["--resume", os.path.relpath(folder, ROOT)]
    else:
        shutil.rmtree(folder, ignore_errors=True)  # stopped before its first checkpoint: nothing to continue from
        flags = [*variant.flags.split(), "--seed", str(seed), "--output_dir", os.path.relpath(folder, ROOT),
                 "--data_dir", os.path.relpath(data_dir, ROOT)]  # relative: what is kept names no machine's folders
    return subprocess.run([sys.executable, str(ROOT / f"{variant.script}.py"), *flags], cwd=ROOT, check=False,
                          stdout=subprocess.DEVNULL).returncode


def check(name: str, variant: Variant, seed: int, folder: Path, data_dir: str) -> int:
    """Run the kept run in `folder` again, elsewhere, and print how its accuracy differs.

    Returns 0 where it lies within three standard deviations over the kept seeds, or 0.01 where that is more: another
    machine or version of a library rounds differently, which changes a run as another seed does. Else 1.
    """
    kept = json.loads((folder / "summary.json").read_text())
    if kept["data"] != SYNTHETIC and is_standin(Path(data_dir)):
        print(f"{name}/{folder.name}: was trained on CIFAR-10, and {data_dir} holds the stand-in; name CIFAR-10's "
              "folder with --data_dir", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as temporary:
        repeated = Path(temporary) / folder.name
        if status := run(variant, seed, repeated, data_dir):
            return status
        found = json.loads((repeated / "summary.json").read_text())
    status = 0
    for key in (key for key in kept if key.endswith("test_accuracy")):
        values = [one[key] for one in summaries(name, variant)]
        allowed = max(LEAST_TOLERANCE, 3 * statistics.stdev(values) if len(values) > 1 else 0)
        within = abs(found[key] - kept[key]) <= allowed
        status |= not within
        print(f"{name}/{folder.name}: {key} {found[key]:.4f}, kept {kept[key]:.4f}; they differ by "
              f"{abs(found[key] - kept[key]):.4f}, {'within' if within else 'MORE THAN'} the {allowed:.4f} allowed")
    return status


def is_standin(folder: Path) -> bool:
    """Whether the drawn stand-in for CIFAR-10 lies there."""
    with contextlib.suppress(DataError):  # which the script will tell
        return (found := find_folder(folder)) is not None and load_folder(found).state == SYNTHETIC
    return False


def summaries(name: str, variant: Variant) -> list[dict]:
    """The summary.json of each finished run of a variant."""
    paths = [folder / "summary.json" for v, _, folder in runs(name) if v == variant]
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def accuracies(found: list[dict]) -> tuple[str, int]:
    """The table's cell of test accuracies, and how many runs stand behind each figure."""
    if "repeats" in (one := found[0]):  # a run of several repeats, which has its own means and deviations
        cells = [f"{name} **{one[f'{name}_test_accuracy']:.4f} ± {one[f'{name}_test_std']:.4f}**"
                 for name in ("relu", "sigmoid") if f"{name}_test_std" in one]
        return ", ".join(cells), one["repeats"]
    return f"**{figure([s['test_accuracy'] for s in found])}**", len(found)


def marks(variant: Variant, number: int) -> str:
    """What a reader must know about a figure of `number` runs; MARKS says what they mean."""
    return ("†" if number == 1 else "") + ("‡" if variant.chosen_on_test else "")


def fastest(name: str, variant: Variant) -> tuple[float, int]:
    """Seconds and threads of a variant's fastest finished run; the others may have shared the machine."""
    times = []
    for v, _, folder in runs(name):
        if v == variant and (folder / "summary.json").exists():
            machine = json.loads((folder / "config.json").read_text())["machine"]
            seconds = json.loads((folder / "summary.json").read_text())["wall_seconds"]
            times.append((seconds, machine.get("threads", machine["cores"])))
    return min(times)


def figure(values: list[float]) -> str:
    """Mean, and the standard deviation over seeds where there are several."""
    mean = f"{statistics.mean(values):.4f}"
    return f"{mean} ± {statistics.stdev(values):.4f}" if len(values) > 1 else mean


def results_table(chosen: Collection[str]) -> str:
    """A table of these experiments, from the kept summary.json files and nothing else."""
    lines = ["| | test accuracy | seeds | one run | peak memory | published | command |",
             "|---|---|---|---|---|---|---|"]
    for name in chosen:
        experiment = EXPERIMENTS[name]
        for variant in experiment.variants:
            if not (found := summaries(name, variant)):
                continue
            title = experiment.title + (f": {variant.title or variant.name}" if len(experiment.variants) > 1 else "")
            wall, threads = fastest(name, variant)
            memory = max(s["peak_memory_mb"] for s in found)
            alone = ", one thread" if threads == 1 else ""
            cell, number = accuracies(found)
            lines.append(f"| {title} | {cell}{marks(variant, number)} | {number} | "
                         f"{f'{wall / 60:.0f} min' if wall > 120 else f'{wall:.1f} s'}{alone} | {memory} MB | "
                         f"{variant.published} | `{variant.command}` |")
    finished = [folder for name in chosen for *_, folder in runs(name) if (folder / "summary.json").exists()]
    configs = [json.loads((folder / "config.json").read_text()) for folder in finished]
    machines = sorted({f"{c['machine']['processor']}, {c['machine']['cores']} cores" for c in configs})
    versions = sorted({f"{k} {v}" for c in configs for k, v in c["versions"].items()})
    data = sorted({f"{c['data_name']} ({c['data']})" for c in configs})
    explained = "".join(f" {mark} {meaning}" for mark, meaning in MARKS.items() if mark in "".join(lines))
    return "\n".join([*lines, "", f"Measured on {'; '.join(machines)}; {', '.join(versions)}. Data: {', '.join(data)}.",
                      f"Mean ± standard deviation over seeds; the time of the fastest run.{explained}"])


def with_table(text: str) -> str:
    """README text with everything between the markers replaced."""
    head, rest = text.split("<!-- results -->", 1)
    _, tail = rest.split("<!-- /results -->", 1)
    chosen = [name for name, experiment in EXPERIMENTS.items() if experiment.first_screen]
    return (f"{head}<!-- results -->\n{results_table(chosen)} Every experiment is in "
            f"[report/results](report/results/README.md).\n<!-- /results -->{tail}")


def page() -> str:
    """report/results/README.md: every experiment."""
    return ("# Every experiment\n\nEach run of `python -m report.experiments NAME` leaves its folder here, and "
            f"`python -m report.experiments --readme` makes this table of them.\n\n{results_table(EXPERIMENTS)}\n")


@lossy_output()
def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="experiments to run, or all")
    parser.add_argument("--list", action="store_true", help="list the experiments and how many runs are finished")
    parser.add_argument("--check", action="store_true", help="run what is kept again, elsewhere, and compare the "
                        "accuracies; exit status 1 where one differs by more than three standard deviations over the "
                        f"seeds and more than {LEAST_TOLERANCE}")
    parser.add_argument("--readme", action="store_true", help="write the tables of README.md and "
                        "report/results/README.md from the kept results")
    parser.add_argument("--data_dir", default=os.environ.get("CIFAR10_DIR", "./cifar10/cifar-10-batches-py"),
                        help="CIFAR-10 (default: $CIFAR10_DIR, else ./cifar10/cifar-10-batches-py)")
    parser.add_argument("--mnist_dir", default=os.environ.get("MNIST_DIR", "./mnist"),
                        help="MNIST (default: $MNIST_DIR, else ./mnist)")
    arguments = parser.parse_args(argv)
    lines = {f"{name}/{variant.name}" for name, experiment in EXPERIMENTS.items() for variant in experiment.variants}
    unknown = set(arguments.names) - set(EXPERIMENTS) - lines - {"all"}
    if unknown or not (arguments.names or arguments.list or arguments.readme):
        what = f"unknown experiment {', '.join(sorted(unknown))}" if unknown else "name an experiment"
        parser.exit(2, f"{parser.prog}: {what}; --list shows them\n")

    names = list(EXPERIMENTS) if "all" in arguments.names else arguments.names
    todo = [(name, *each) for name, _, variant in (name.partition("/") for name in names) for each in runs(name)
            if variant in ("", each[0].name) and (each[2] / "summary.json").exists() == arguments.check]
    statuses = [0]
    for name, variant, seed, folder in (bar := tqdm(todo, unit="run", disable=None)):
        bar.set_description(folder.name)
        data_dir = arguments.mnist_dir if EXPERIMENTS[name].mnist else arguments.data_dir
        if arguments.check:
            statuses.append(check(name, variant, seed, folder, data_dir))
        elif status := run(variant, seed, folder, data_dir):
            return status
    if arguments.list:
        for name, experiment in EXPERIMENTS.items():
            finished = [(folder / "summary.json").exists() for *_, folder in runs(name)]
            print(f"{name:14s} {sum(finished)}/{len(finished)} runs   {experiment.title}")
    if arguments.readme:
        README.write_text(with_table(README.read_text()))
        (RESULTS / "README.md").write_text(page())
        first = {name: next(runs(name))[2] for name in FIRST_FIGURE}
        there = {name: folder for name, folder in first.items() if (folder / "summary.json").exists()}
        plot_curves(list(there.values()), RESULTS / "curves", list(there))
    return max(statuses)


if __name__ == "__main__":
    sys.exit(main())
