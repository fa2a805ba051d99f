"""What finished networks do with the test split: predictions.json, worst.png and weights.png in their run folders.

    python -m report.inspect_runs report/results/mlp-numpy/defaults-seed42
    python -m report.inspect_runs RUN --checkpoint ELSEWHERE/last.pt   # a checkpoint that was not kept with the run
    python -m report.inspect_runs RUN RUN --data_dir DIR

The three files are small and kept, so that the report needs neither data nor checkpoints. A network whose accuracy is
not the one in the run's summary.json is another network, and refused. On another device than the run's, rounding may
decide a few images: one in 500 may differ.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import torch

import train_convnet_pytorch
import train_mlp_numpy
import train_mlp_pytorch
from cifar10_utils import DataError, get_cifar10
from imagefiles.mnist import get_mnist
from mlp_numpy import MLP
from modules import LinearModule
from training.checkpoints import NPZ, CheckpointError, atomic_write
from training.flags import UserError
from training.images import layout_of
from training.resume import saved_flags
from training.trainer import load_torch

SCRIPTS: dict[str, Any] = {
    "train_mlp_numpy": train_mlp_numpy, "train_mlp_pytorch": train_mlp_pytorch,
    "train_convnet_pytorch": train_convnet_pytorch,
}
BATCH = 500  # as in training.trainer.evaluate
ROUNDING = 1 / 500  # share of the images that another device may decide otherwise
WORST = 12  # images shown
UNITS, COLUMNS = 40, 10  # first-layer units shown, and how many side by side
Network = Callable[[np.ndarray], np.ndarray]  # images (B, C, H, W) -> probabilities (B, 10)


def numpy_network(config: Any, state: dict[str, Any], shape: tuple[int, ...]) -> tuple[Network, np.ndarray]:
    """The network of a checkpoint, and its first layer's weights of shape (units, inputs)."""
    model = MLP(int(np.prod(shape)), config.dnn_hidden_units, 10, activation=config.activation)
    layers = [layer for layer in model.layers if isinstance(layer, LinearModule)]
    for layer, params in zip(layers, state["params"], strict=True):
        layer.params.update(params)
    return lambda x: model.forward(x.reshape(len(x), -1)), layers[0].params["weight"]


def torch_network(script: Any, config: Any, state: dict[str, Any],
                  training: bool = False) -> tuple[Network, np.ndarray]:
    """The same, of a PyTorch script; weights of shape (units, inputs) or (units, channels, height, width).

    training: as in training, with units dropped and the statistics of each batch.
    """
    model = script.build_model(config).train(training).to(memory_format=torch.channels_last)
    average = {key.removeprefix("module."): value for key, value in state.get("average", {}).items()
               if key != "n_averaged"}  # what the run evaluated, where it kept one
    model.load_state_dict(average or state["model"])

    def probabilities(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
            return torch.softmax(model(torch.from_numpy(x).to(memory_format=layout_of(model))).float(), 1).numpy()

    return probabilities, next(p for p in model.parameters() if p.ndim > 1).detach().numpy()


def predictions(network: Network, split: Any) -> np.ndarray:
    """Probabilities of shape (N, 10) of every sample of the split, in its order."""
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


def inspect(run: Path, checkpoint: Path | None, data_dir: str | None) -> dict[str, Any]:
    """Write the three files of the run folder `run`; returns what predictions.json holds.

    Raises:
        UserError, CheckpointError: not a finished run, or a checkpoint of another one.
        DataError: the data are not there.
    """
    try:
        name = json.loads((run / "config.json").read_text())["script"]
        summary = json.loads((run / "summary.json").read_text())
    except (OSError, ValueError, KeyError):
        raise UserError(f"{run} is not the folder of a finished run") from None
    if name not in SCRIPTS:
        raise UserError(f"{run} is a run of {name}, which cannot be inspected; these can: {', '.join(SCRIPTS)}")
    script = SCRIPTS[name]
    config = script.Config(**saved_flags(run, script.Config))
    in_numpy = script is train_mlp_numpy
    path = checkpoint or run / ("last.npz" if in_numpy else "last.pt")
    saved = (NPZ.load if in_numpy else load_torch)(path)
    mnist = getattr(config, "dataset", "") == "mnist"
    data_dir = data_dir or os.environ.get("MNIST_DIR" if mnist else "CIFAR10_DIR") or config.data_dir
    data = (get_mnist if mnist else get_cifar10)(data_dir, one_hot=False, validation_size=config.validation_size,
                    seed=config.seed, scale=getattr(config, "pixel_scale", 1.0))
    shape, test = data.mean_image.shape, data.test
    try:
        network, weight = (numpy_network(config, saved["state"], shape) if in_numpy
                           else torch_network(script, config, saved["state"]))
    except (KeyError, ValueError, RuntimeError, TypeError):
        raise UserError(f"{path} does not fit the flags of {run}: it is another run's") from None

    probabilities = predictions(network, test)
    labels, predicted = np.asarray(test.labels), probabilities.argmax(1)
    counts = confusion(labels, predicted)
    if abs(np.trace(counts) - summary["test_accuracy"] * len(labels)) > 0.5 + ROUNDING * len(labels):
        raise UserError(f"{path} has a test accuracy of {np.trace(counts) / len(labels):.4f} on {data.name}, {run} of "
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
        in_training = predictions(torch_network(script, config, saved["state"], training=True)[0], test).argmax(1)
        found["accuracy_in_training_mode"] = float((in_training == labels).mean())
    with atomic_write(run / "predictions.json", "w") as file:
        json.dump(found, file)
    for file_name, picture in (("worst.png", sheet(test.pixels[worst] / 255, WORST)),
                               ("weights.png", sheet(weight_tiles(weight, shape), COLUMNS))):
        with atomic_write(run / file_name) as file:
            matplotlib.image.imsave(file, picture, format="png", metadata={"Software": ""})  # type: ignore[arg-type]
    return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument("--checkpoint", type=Path, help="default: last.npz or last.pt in the run's folder")
    parser.add_argument("--data_dir", help="default: $CIFAR10_DIR or $MNIST_DIR, else the one of the run")
    arguments = parser.parse_args(argv)
    if arguments.checkpoint and len(arguments.runs) > 1:
        parser.exit(2, f"{parser.prog}: --checkpoint goes with one run\n")
    try:
        for run in arguments.runs:
            found = inspect(run, arguments.checkpoint, arguments.data_dir)
            confusions = np.array(found["confusion"])
            print(f"{run}: {np.trace(confusions)} of {confusions.sum()} right")
    except (UserError, DataError, CheckpointError) as error:
        print(f"{parser.prog}: {str(error).removeprefix('--resume: ')}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
