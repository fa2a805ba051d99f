"""What trained networks do with the test split: right and wrong by class, worst images, units of the first layer.

    python -m report.inspect_runs results/train_mlp_numpy/<time>
    python -m report.inspect_runs RUN --checkpoint ELSEWHERE/last.pt   # a checkpoint that was not kept with the run
    python -m report.inspect_runs RUN RUN --data_dir DIR

Prints a table of the classes, and draws inspection.png in the run's folder: confusion matrix, images of highest loss,
first-layer weights. predictions.json, worst.png and weights.png beside it are small and kept, so that the report
needs neither data nor checkpoints. A run that was interrupted is taken as far as its last checkpoint. A network whose
accuracy is not the one in the run's summary.json is another network, and refused. On another device than the run's,
rounding may decide a few images: one in 500 may differ.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

if not __package__:
    sys.exit("start it from the folder above: python -m report.inspect_runs")

import numpy as np
import torch

import predict
from cifar10_utils import DataError, Splits
from imagefiles.dataset import expanded, quoted
from imagefiles.output import Parser, lossy_output
from training.checkpoints import CheckpointError, atomic_write
from training.curves import data_names, drawable, import_matplotlib, save_figure
from training.flags import UserError
from training.resume import saved_flags

import_matplotlib()  # which gets over a backend that the environment names and that is none
import matplotlib.image  # noqa: E402

BATCH = 500  # as in training.trainer.evaluate
ROUNDING = 1 / 500  # share of the images that another device may decide otherwise
WORST = 12  # images shown
UNITS, COLUMNS = 40, 10  # first-layer units shown, and how many side by side


def predictions(network: Any, split: Any) -> np.ndarray:
    """Probabilities of shape (N, classes) of every sample of the split, in its order."""
    batch = BATCH - (split.num_examples % BATCH == 1)  # as there: our BatchNorm cannot take a single image
    return np.concatenate([network(images) for images, _ in split.batches(batch)])


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int = 10) -> np.ndarray:
    """Number of samples by label (row) and prediction (column)."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def sheet(tiles: np.ndarray, columns: int) -> np.ndarray:
    """Tiles of shape (n, C, H, W) on the scale 0..1, row by row, one white pixel apart: (height, width, 3), uint8."""
    n, _, height, width = tiles.shape
    rows = -(-n // columns)
    canvas = np.ones((rows * (height + 1) - 1, columns * (width + 1) - 1, 3))
    for k, tile in enumerate(tiles):
        top, left = k // columns * (height + 1), k % columns * (width + 1)
        canvas[top:top + height, left:left + width] = tile.transpose(1, 2, 0)  # one channel is broadcast to grey
    return np.rint(255 * canvas).astype(np.uint8)


def weight_tiles(weight: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The units of largest norm as images: 0 is grey, the unit's largest weight black or white in its channel."""
    tiles = weight.reshape(len(weight), -1, *weight.shape[2:]) if weight.ndim == 4 else weight.reshape(-1, *shape)
    norms = np.linalg.norm(tiles.reshape(len(tiles), -1), axis=1)
    tiles = tiles[np.argsort(-norms, kind="stable")[:UNITS]]
    tiles = tiles / np.abs(tiles).max(axis=(1, 2, 3), keepdims=True)
    enlarge = max(1, 24 // tiles.shape[-1])  # a 3x3 kernel is too small to see
    return tiles.repeat(enlarge, axis=2).repeat(enlarge, axis=3) / 2 + 0.5


def data_of(run: Path, script: Any, data_dir: str | None) -> tuple[Any, Splits]:
    """The flags of a run, and its data with integer labels. Raises UserError, DataError."""
    config = script.Config(**saved_flags(run, script.Config))
    variable = {"cifar10": "CIFAR10_DIR", "mnist": "MNIST_DIR"}.get(config.dataset, "")
    config.data_dir = data_dir or os.environ.get(variable) or config.data_dir
    return config, script.load_data(config, config.seed) if hasattr(script, "load_data") else config.load_data()


def inspect(run: Path, checkpoint: Path | None, data_dir: str | None) -> dict[str, Any]:
    """Write the four files of the run folder `run`; returns what predictions.json holds.

    Raises:
        UserError, CheckpointError: not a run, or a checkpoint of another one.
        DataError: the data are not there.
    """
    summary = read_json(run / "summary.json") if (run / "summary.json").exists() else {}  # it was interrupted
    name = str(read_json(run / "config.json").get("script")).partition(",")[0]
    if name not in predict.NETWORKS:
        raise UserError(f"{run} is a run of {name}, which cannot be inspected; these can: "
                        f"{', '.join(predict.NETWORKS)}")
    path = checkpoint or run
    config, data = data_of(run, importlib.import_module(name), data_dir)
    trained = predict.load(path, data=data)
    trained.check_pictures(run)
    shape, test = data.mean_image.shape, data.test
    if not np.array_equal(trained.mean_image, data.mean_image):
        raise UserError(f"{path} was trained on other data than {data.name} in {config.data_dir}; name the folder of "
                        "its data with --data_dir")
    probabilities = predictions(trained.probabilities, test)
    labels, predicted = np.asarray(test.labels), probabilities.argmax(1)
    counts = confusion(labels, predicted, len(data.class_names))
    evaluated = summary.get("eval_images") or len(labels)
    right = float((labels == predicted)[:evaluated].sum())
    if summary and abs(right - summary["test_accuracy"] * evaluated) > 0.5 + ROUNDING * evaluated:
        raise UserError(f"{path} has a test accuracy of {right / evaluated:.4f} on {data.name}, {run} of "
                        f"{summary['test_accuracy']:.4f}: it is another network, or these are other data")
    of_label = probabilities[np.arange(len(labels)), labels]
    worst = np.argsort(of_label, kind="stable")[:WORST]  # the highest loss, -log of it
    found = {
        "classes": list(data.class_names), "confusion": counts.tolist(),
        "worst": [{"index": int(i), "label": int(labels[i]), "predicted": int(predicted[i]),
                   "probability": round(float(probabilities[i, predicted[i]]), 4),
                   "loss": round(float(-np.log(max(of_label[i], 1e-30))), 3)} for i in worst],
    }
    if getattr(config, "dropout", 0):  # what an evaluation without model.eval() would say
        torch.manual_seed(config.seed)
        in_training = predict.load(path, training=True, data=data)
        found["accuracy_in_training_mode"] = float(
            (predictions(in_training.probabilities, test).argmax(1) == labels).mean())
    with atomic_write(run / "predictions.json", "w") as file:
        json.dump(found, file)
    tiles = weight_tiles(trained.weight, shape)
    for file_name, picture in (("worst.png", sheet(test.pixels[worst] / 255, WORST)),
                               ("weights.png", sheet(tiles, COLUMNS))):
        with atomic_write(run / file_name) as file:
            matplotlib.image.imsave(file, picture, format="png", metadata={"Software": ""})  # type: ignore[arg-type]
    draw(run, found, test.pixels[worst], tiles)
    return found


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
        if isinstance(content, dict):
            return content
    except (OSError, ValueError):
        pass
    raise UserError(f"{path.parent} is not the folder of a run: it holds no whole {path.name}")


def unfinished(run: Path) -> str:
    """What to say of a run that has not come to its end."""
    return "" if (run / "summary.json").exists() else ", as of its last checkpoint"


def draw(run: Path, found: dict[str, Any], worst: np.ndarray, tiles: np.ndarray) -> None:
    """inspection.png: what `found` says, large enough to read, with the images and the weights it is about."""
    classes, counts = found["classes"], np.array(found["confusion"])

    def matrix(part: Any) -> None:
        axis = part.subplots()
        axis.imshow(counts, cmap="Blues")
        for (row, column), count in np.ndenumerate(counts):
            axis.text(column, row, count, ha="center", va="center", fontsize="small",
                      color="white" if count > counts.max() / 2 else "black")
        axis.set_xticks(range(len(classes)), classes, rotation=45, ha="right", parse_math=False)
        axis.set_yticks(range(len(classes)), classes, parse_math=False)
        axis.set(xlabel="taken for", ylabel="is", title="Test images by class")

    def images(part: Any) -> None:
        part.suptitle("The images of highest loss: what they are, and what they are taken for")
        for axis, picture, image in zip(part.subplots(3, WORST // 3).flat, worst, found["worst"], strict=False):
            axis.imshow(picture.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=255)
            axis.set_title(f"{classes[image['label']]}\n{classes[image['predicted']]} {image['probability']:.2f}",
                           fontsize="small", parse_math=False)
        for axis in part.axes:
            axis.axis("off")

    def weights(part: Any) -> None:
        part.suptitle(f"First layer: the {len(tiles)} units of largest norm")
        axis = part.subplots()
        axis.imshow(sheet(tiles, COLUMNS))
        axis.axis("off")

    def paint(figure: Any) -> None:
        above, below = figure.subfigures(2, 1, height_ratios=(3, 2))
        left, right = above.subfigures(1, 2)
        for drawn, part in ((matrix, left), (images, right), (weights, below)):
            drawn(part)
        figure.suptitle(f"{drawable(run.name)}: {data_names(run)}{unfinished(run)}", parse_math=False)

    save_figure(run / "inspection", paint, (15, 13), (".png",))


def by_class(found: dict[str, Any]) -> str:
    """A line for each class: how many of its images are right, and what the others are most often taken for."""
    counts = np.array(found["confusion"])
    width = max(map(len, [*found["classes"], "class"]))
    lines = [f"{'class':{width}}  accuracy  right   of  most often taken for"]
    for number, (name, row) in enumerate(zip(found["classes"], counts, strict=True)):
        wrong = np.where(np.arange(len(row)) == number, 0, row)
        mistaken = f"{found['classes'][wrong.argmax()]} ({wrong.max()})" if wrong.any() else "-"
        share = row[number] / max(row.sum(), 1)
        lines.append(f"{name:{width}}  {share:8.4f}  {row[number]:5} {row.sum():4}  {mistaken}")
    return "\n".join(lines)


@lossy_output()
def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=expanded, metavar="RUN", help="run folder")
    parser.add_argument("--checkpoint", type=expanded, help="default: last.npz or last.pt in the run's folder")
    parser.add_argument("--data_dir", help="default: $CIFAR10_DIR or $MNIST_DIR, else the one of the run")
    arguments = parser.parse_args(argv)
    if arguments.checkpoint and len(arguments.runs) > 1:
        parser.exit(2, f"{parser.prog}: --checkpoint goes with one run\n")
    try:
        for run in arguments.runs:
            found = inspect(run, arguments.checkpoint, arguments.data_dir)
            confusions = np.array(found["confusion"])
            print(f"{run}{unfinished(run)}: {np.trace(confusions)} of {confusions.sum()} right")
            print(by_class(found))
            print(f"wrote {quoted(run / 'inspection.png')}")
    except (UserError, DataError, CheckpointError) as error:
        print(f"{parser.prog}: {str(error).removeprefix('--resume: ')}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{parser.prog}: cannot write {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
