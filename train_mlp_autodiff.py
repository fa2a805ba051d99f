"""Sigmoid against ReLU: one hidden layer, plain gradient descent on `autodiff_numpy`, several repeats of each.

    python train_mlp_autodiff.py                                    # both activations on MNIST, 5 repeats each
    python train_mlp_autodiff.py --dataset synth --epochs 5         # generated points of the plane: needs no files
    python train_mlp_autodiff.py --activation relu --repeats 1 --dnn_hidden_units 100
    python train_mlp_autodiff.py --resume results/train_mlp_autodiff/<time>

Both activations start from the same weights and see the same batches; repeat r draws them from seed + r - 1. The
figure shows accuracy on validation data after each epoch, mean and standard deviation over the repeats. The test
split is read once a repeat, after its last epoch. Each repeat leaves a run folder, relu-1 and so on, inside
results/train_mlp_autodiff/<time>/, where the figure, the metrics and the summary of all of them lie.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import signal
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autodiff_numpy import TensorNode
from cifar10_utils import DataSet, Splits
from imagefiles.dataset import quoted
from training.checkpoints import NPZ, write_json
from training.console import say
from training.curves import data_title, draw_or_notice, save_figure
from training.datasets import DATASETS
from training.flags import RunFlags, UserError, flag, path, positive_float, positive_int, seed_int
from training.folder import open_folder
from training.machine import peak_memory_mb
from training.metrics import METRICS, read_metrics, write_metrics
from training.run import Plan, accuracy, start_run
from training.script import run_script
from training.stop import Interrupted

SCRIPT = "train_mlp_autodiff"
ACTIVATIONS = ("sigmoid", "relu")
EVALUATION_BATCH = 1000
SYNTH_TRAIN, SYNTH_TEST = 15_000, 5_000


@dataclass
class Config(RunFlags):
    dataset: str = flag("mnist", "which images, or synth: generated points of the plane, to be told inside or outside "
                                 "an ellipse", choices=["synth", *DATASETS], group="images")
    activation: str = flag("both", "activation function of the hidden layer", choices=[*ACTIVATIONS, "both"],
                           group="network")
    dnn_hidden_units: int = flag(300, "width of the hidden layer", type=positive_int, group="assignment")
    epochs: int = flag(10, "train this many epochs and evaluate after each", type=positive_int)
    repeats: int = flag(5, "train this many times, with other weights and batches", type=positive_int)
    learning_rate: float = flag(0.1, "step size of gradient descent", type=positive_float, group="assignment")
    batch_size: int = flag(32, "samples per training step", type=positive_int, group="assignment")
    validation_size: int = flag(5000, "training samples held out, on which the curves are measured",
                                type=positive_int)
    data_dir: str = flag(DATASETS["mnist"].folder, "folder of the data set's files; for cifar10 "
                         f"{DATASETS['cifar10'].folder} unless given", type=path, resumable=True, group="assignment",
                         needs=f"--dataset {'|'.join(DATASETS)}")
    seed: int = flag(42, "seed of the first repeat's weights and batches", type=seed_int)
    output_dir: str = flag("", "folder of this run; '' for results/<script>/<time>", type=path, resumable=True)
    resume: str = flag("", "run folder to continue; it brings its own flags", type=path, resumable=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seed + self.repeats > 2**32:
            raise UserError(f"--seed: the last of {self.repeats} repeats would have a seed above 2^32 - 1")
        if self.dataset in DATASETS and self.data_dir == Config.data_dir:
            self.data_dir = DATASETS[self.dataset].folder


# ---------------------------------------------------------------- data


def load_data(config: Config, seed: int) -> Splits:
    """The splits with integer labels; `seed` is that of the training batches, the splits do not depend on it."""
    if config.dataset == "synth":
        return make_synth(config.validation_size, seed)
    source = DATASETS[config.dataset]
    return source.load(config.data_dir, one_hot=False, validation_size=config.validation_size, seed=seed,
                       scale=1 / source.pixel_std)


def make_synth(validation_size: int, seed: int) -> Splits:
    """Points of the plane, N(0, 1) in both coordinates; class 1 inside an ellipse that holds about half of them.

    Its half axes are 0.985 and 1.5 times that.
    """
    if validation_size >= SYNTH_TRAIN:
        raise UserError(f"--validation_size: {validation_size} leaves none of the {SYNTH_TRAIN} points to train on")
    points = np.random.default_rng(0).standard_normal((SYNTH_TRAIN + SYNTH_TEST, 2), np.float32)
    labels = (np.hypot(points[:, 0], points[:, 1] / 1.5) < 0.985).astype(np.int64)

    def split(start: int, stop: int) -> DataSet:
        return DataSet(points[start:stop].reshape(-1, 1, 1, 2), labels[start:stop], seed=seed)

    return Splits(train=split(validation_size, SYNTH_TRAIN), validation=split(0, validation_size),
                  test=split(SYNTH_TRAIN, SYNTH_TRAIN + SYNTH_TEST), mean_image=np.zeros((1, 1, 2), np.float32),
                  state="generated", name="generated points of the plane", class_names=("outside", "inside"))


# ---------------------------------------------------------------- model


class OneHiddenLayer:
    """D inputs, H hidden units, C classes; weights N(0, 1 / fan-in), biases zero, float32."""

    def __init__(self, n_inputs: int, n_hidden: int, n_classes: int, activation: str, rng: np.random.Generator):
        def weight(fan_in: int, fan_out: int) -> TensorNode:
            return TensorNode(rng.standard_normal((fan_in, fan_out), np.float32) / np.float32(fan_in**0.5))

        self.activation = activation
        self.w1, self.b1 = weight(n_inputs, n_hidden), TensorNode(np.zeros(n_hidden, np.float32))
        self.w2, self.b2 = weight(n_hidden, n_classes), TensorNode(np.zeros(n_classes, np.float32))
        self.parameters = [self.w1, self.b1, self.w2, self.b2]

    def params(self) -> dict[str, np.ndarray]:
        """The parameters' values by name."""
        return {name: parameter.value for name, parameter in vars(self).items() if isinstance(parameter, TensorNode)}

    def load_params(self, saved: Any) -> None:
        """Take the values of a checkpoint; those of version 2.0 are in a list."""
        values = saved if isinstance(saved, list) else [saved[name] for name in self.params()]
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.value[...] = value

    def __call__(self, x: np.ndarray) -> TensorNode:
        """Log-probabilities (B, C) of images or points (B, ...)."""
        hidden = x.reshape(len(x), -1) @ self.w1 + self.b1                             # (B, H)
        hidden = hidden.relu() if self.activation == "relu" else hidden.sigmoid()
        return (hidden @ self.w2 + self.b2).log_softmax()                              # (B, C)


def train_step(model: OneHiddenLayer, x: np.ndarray, y: np.ndarray, learning_rate: float) -> tuple[float, float]:
    """One step of gradient descent. Returns the batch's loss and accuracy; the graph is freed on return."""
    log_probabilities = model(x)
    loss = log_probabilities.nll_loss(y)
    loss.backward()
    for parameter in model.parameters:
        parameter.value -= learning_rate * parameter.grad
        parameter.zero_grad()
    return float(loss.value), accuracy(log_probabilities.value, y)


def evaluate(model: OneHiddenLayer, split: DataSet) -> tuple[float, float]:
    """Mean loss and accuracy over every sample of `split` once."""
    loss_sum = correct_sum = 0.0
    for x, y in split.batches(EVALUATION_BATCH):
        log_probabilities = model(x)
        loss_sum += float(log_probabilities.nll_loss(y).value) * len(x)
        correct_sum += accuracy(log_probabilities.value, y) * len(x)
    return loss_sum / split.num_examples, correct_sum / split.num_examples


# ---------------------------------------------------------------- one repeat, all repeats


@dataclass(frozen=True)
class Repeat:
    activation: str
    number: int  # from 1
    folder: Path


def train_repeat(config: Any) -> None:
    """Train one net, into a run folder of its own; `config` names one activation and this repeat's seed."""
    data = load_data(config, config.seed)
    model = OneHiddenLayer(data.mean_image.size, config.dnn_hidden_units, len(data.class_names), config.activation,
                           np.random.default_rng(config.seed))

    def state_dict() -> dict[str, Any]:
        return {"params": model.params(), "batches": data.train.state()}

    def load_state_dict(state: dict[str, Any], step: int) -> None:
        model.load_params(state["params"])
        data.train.load_state(state["batches"])

    with start_run(config, f"{SCRIPT}, one repeat", data) as run:
        run.parameters = sum(p.value.size for p in model.parameters)
        run.restore(load_state_dict)
        # A diverging run overflows on its way to the check in run.record: one clear line, no warnings before it.
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in run.steps(state_dict, lambda split: evaluate(model, split)):
                x, y = data.train.next_batch(config.batch_size)
                run.record(*train_step(model, x, y, config.learning_rate), len(y))


def train(config: Any) -> dict[str, Any]:
    """Train every repeat that is not finished yet; returns the summary of them all."""
    data = load_data(config, config.seed)
    Plan(config, data)  # what does not fit the data is refused before a folder is made
    with contextlib.closing(open_folder(config, SCRIPT, data, NPZ)) as run_folder:
        if json.loads((run_folder.path / "config.json").read_text())["script"] != SCRIPT:
            raise UserError(f"--resume: {run_folder.path} is one repeat; continue all of them with --resume "
                            f"{quoted(run_folder.path.parent)}")
        return train_repeats(config, data, run_folder.path)


def train_repeats(config: Any, data: Splits, folder: Path) -> dict[str, Any]:
    """Train the repeats that are missing in `folder`, each into a folder inside it; returns the summary of them all."""
    chosen = ACTIVATIONS if config.activation == "both" else (config.activation,)
    repeats = [Repeat(activation, number, folder / f"{activation}-{number}")
               for number in range(1, config.repeats + 1) for activation in chosen]
    try:
        for repeat in repeats:
            if (repeat.folder / "summary.json").exists():
                continue
            resume = (repeat.folder / "last.npz").exists()
            if not resume:
                shutil.rmtree(repeat.folder, ignore_errors=True)  # was killed before its first checkpoint
            say(f"{repeat.activation}, repeat {repeat.number} of {config.repeats}")
            train_repeat(dataclasses.replace(
                config, activation=repeat.activation, repeats=1, seed=config.seed + repeat.number - 1,
                output_dir="" if resume else str(repeat.folder), resume=str(repeat.folder) if resume else ""))
            merge_metrics(folder, repeats, config, data)
        rows = merge_metrics(folder, repeats, config, data)
        summary = write_summary(folder, repeats, config, data)
        draw_or_notice(lambda: plot(folder, rows))
        return summary
    except OSError as error:
        error.__notes__ = [f"continue with --resume {quoted(folder)}"]  # and not the repeat alone
        raise
    except (Interrupted, KeyboardInterrupt) as stop:
        signum = getattr(stop, "signum", signal.SIGINT)
    if rows := merge_metrics(folder, repeats, config, data):
        draw_or_notice(lambda: plot(folder, rows))
    raise Interrupted(signum, f"stopped; continue with --resume {quoted(folder)}")


# ---------------------------------------------------------------- what all repeats leave


def merge_metrics(folder: Path, repeats: list[Repeat], config: Any, data: Splits) -> list[dict[str, Any]]:
    """Write the rows of every repeat's metrics.csv, with its number, activation and epoch, into one; return them."""
    rows = [{"repeat": repeat.number, "activation": repeat.activation,
             "epoch": row["step"] * config.batch_size // data.train.num_examples, **row}
            for repeat in repeats if (repeat.folder / "metrics.csv").exists()
            for row in read_metrics(repeat.folder / "metrics.csv")]
    write_metrics(folder, rows, ["repeat", "activation", "epoch", *METRICS])
    return rows


def mean_std(values: list[float]) -> tuple[float, float]:
    """Mean and sample standard deviation; of a single value, 0."""
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def plot(folder: Path, rows: list[dict[str, Any]]) -> None:
    """curves.png and curves.svg: validation loss and accuracy by epoch, mean and shaded standard deviation."""
    repeats = max(row["repeat"] for row in rows)
    spread = f": mean and standard deviation of {repeats} repeats" if repeats > 1 else ""

    def paint(figure: Any) -> None:
        axes = dict(zip(("loss", "accuracy"), figure.subplots(1, 2), strict=True))
        for activation in ACTIVATIONS:
            curve = [row for row in rows if row["activation"] == activation and row["split"].startswith("validation")]
            epochs = sorted({row["epoch"] for row in curve})
            for key, axis in axes.items() if epochs else ():
                mean, std = np.array([mean_std([row[key] for row in curve if row["epoch"] == e]) for e in epochs]).T
                (line,) = axis.plot(epochs, mean, marker="." if len(epochs) < 30 else None, label=activation)
                axis.fill_between(epochs, mean - std, mean + std, color=line.get_color(), alpha=0.25, linewidth=0)
        for key, axis in axes.items():
            axis.set(xlabel="epoch", ylabel=f"validation {'cross-entropy (nats)' if key == 'loss' else key}")
            axis.grid(alpha=0.3)
            axis.legend()
        figure.suptitle(f"One hidden layer on {data_title(folder)}{spread}")

    save_figure(folder / "curves", paint)


def write_summary(folder: Path, repeats: list[Repeat], config: Any, data: Splits) -> dict[str, Any]:
    """summary.json: each activation's figures, and on top those of the one with the best validation accuracy."""
    summaries: dict[str, list[dict[str, Any]]] = {}
    for repeat in repeats:
        try:
            one = json.loads((repeat.folder / "summary.json").read_text())
        except (ValueError, FileNotFoundError):
            raise UserError(f"{repeat.folder} is damaged; delete it and run again with --resume "
                            f"{quoted(folder)}") from None
        summaries.setdefault(repeat.activation, []).append(one)

    def figures(activation: str, key: str) -> tuple[float, float]:
        return mean_std([summary[key] for summary in summaries[activation]])

    best = max(summaries, key=lambda activation: figures(activation, "validation_accuracy")[0])
    every = [summary for ones in summaries.values() for summary in ones]
    summary: dict[str, Any] = {
        **{key: figures(best, key)[0] for key in ("test_accuracy", "test_loss", "validation_accuracy")},
        "activation": best}
    for activation in summaries:
        for split in ("validation", "test"):
            mean, std = figures(activation, f"{split}_accuracy")
            summary |= {f"{activation}_{split}_accuracy": mean}
            if len(summaries[activation]) > 1:
                summary |= {f"{activation}_{split}_std": std}
    summary |= {key: every[0][key] for key in ("eval_images", "steps", "parameters") if key in every[0]}
    summary |= {"repeats": len(summaries[best]),
                "wall_seconds": round(sum(one["wall_seconds"] for one in every), 2),
                "images_per_second": round(statistics.median(one["images_per_second"] for one in every), 1),
                "peak_memory_mb": round(peak_memory_mb()), "data": data.state, "seed": config.seed,
                "folder": str(folder)}
    write_json(folder / "summary.json", summary)
    return summary


if __name__ == "__main__":
    sys.exit(run_script(Config, train, __doc__))
