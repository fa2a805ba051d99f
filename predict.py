"""What a trained network takes pictures for: the probability of each class, or the network as an ONNX file.

    python predict.py RUN cat.png dog.jpg                   # a table
    python predict.py RUN cat.png --plot predictions.png    # and a figure
    python predict.py RUN --export network.onnx             # pixels in, probabilities out; of a PyTorch script

RUN is the folder of a run of any training script, or a checkpoint in it; of a folder, last.npz or last.pt is taken.
Pictures are PNG, JPEG or whatever else Pillow reads, of any size: cut to the shape of the training images from their
middle, then resized. No data set is needed. MNIST's digits are white on black, and so must yours be.
"""

from __future__ import annotations

import argparse
import importlib
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from cifar10_utils import DataError, Splits
from imagefiles.dataset import quoted
from imagefiles.output import Parser, lossy_output
from training.checkpoints import NPZ, CheckpointError, atomic_write, missing
from training.curves import drawable, save_figure
from training.flags import UserError, path
from training.resume import saved_flags


@dataclass(frozen=True)
class Trained:
    """A trained network.

    probabilities: images as `DataSet` serves them, (B, C, H, W) -> (B, classes). weight: of the first layer.
    module: the PyTorch network, None in NumPy. mean_image, scale, class_names: of its data.
    """

    probabilities: Callable[[np.ndarray], np.ndarray]
    weight: np.ndarray
    module: Any
    mean_image: np.ndarray
    scale: float
    class_names: tuple[str, ...]

    def check_pictures(self, run: Path) -> None:
        """Raises UserError where the network of `run` was trained on something else than pictures."""
        if self.mean_image.shape[0] not in (1, 3) or min(self.mean_image.shape[1:]) < 2:
            raise UserError(f"{run} was not trained on pictures, but on {self.mean_image.shape}")

    def of_pictures(self, pictures: np.ndarray) -> np.ndarray:
        """Probabilities (B, classes) of pictures (B, C, H, W) on the scale 0..255."""
        return self.probabilities((pictures.astype(np.float32) - self.mean_image) * np.float32(self.scale))


# ---------------------------------------------------------------- a network from its checkpoint


def numpy_network(script: Any, config: Any, state: dict[str, Any], mean_image: np.ndarray, classes: int,
                  training: bool) -> tuple[Any, ...]:
    model = script.MLP(mean_image.size, config.dnn_hidden_units, classes, activation=config.activation)
    script.load_params(model, state["params"])
    return (lambda x: model.forward(x.reshape(len(x), -1))), model.layers[0].params["weight"], None


def tape_network(script: Any, config: Any, state: dict[str, Any], mean_image: np.ndarray, classes: int,
                 training: bool) -> tuple[Any, ...]:
    model = script.OneHiddenLayer(mean_image.size, config.dnn_hidden_units, classes, config.activation,
                                  np.random.default_rng(0))
    model.load_params(state["params"])
    return (lambda x: np.exp(model(x).value)), model.w1.value.T, None


def torch_network(script: Any, config: Any, state: dict[str, Any], mean_image: np.ndarray, classes: int,
                  training: bool) -> tuple[Any, ...]:
    import torch

    from training.images import layout_of

    weights = {key.removeprefix("module."): value for key, value in state.get("average", {}).items()
               if key != "n_averaged"} or state["model"]  # the average is what the run evaluated, where it kept one
    if script.__name__ == "train_transfer_pytorch":
        frozen = config.freeze == "backbone"  # such a run trains and keeps the head alone
        model = script.build(config.model, mean_image, config.image_size, config.weights, classes, pretrained=frozen)
        part = torch.nn.Sequential(torch.nn.Flatten(), model.head) if frozen else model
    else:
        model = part = script.build_model(config, mean_image.shape, classes)
    part.load_state_dict(weights)
    model = model.train(training).to(memory_format=torch.channels_last)

    def probabilities(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
            return torch.softmax(model(torch.from_numpy(x).to(memory_format=layout_of(model))).float(), 1).numpy()

    return probabilities, next(p for p in model.parameters() if p.ndim > 1).detach().numpy(), model


NETWORKS = {"train_mlp_numpy": numpy_network, "train_mlp_autodiff": tape_network, "train_mlp_pytorch": torch_network,
            "train_convnet_pytorch": torch_network, "train_transfer_pytorch": torch_network}


def checkpoint_of(run: Path) -> Path:
    """The last checkpoint of a run folder; a file is one itself. Raises UserError, CheckpointError."""
    if not run.is_dir():
        return run
    found = [run / name for name in ("last.npz", "last.pt") if (run / name).exists()]
    if not found and (inside := sorted(run.glob("*/last.*"))):
        raise UserError(f"{run} holds several runs; name one of them, such as {quoted(inside[0].parent)}")
    if not found:
        raise missing(run / "last.npz or last.pt")
    return found[0]


def load(run: Path, training: bool = False, data: Splits | None = None) -> Trained:
    """The network of a run folder or a checkpoint.

    training: as in training, with units dropped and the statistics of each batch. data: what it was trained on, which
    only a checkpoint of version 2.0 needs; it kept no mean image.

    Raises:
        UserError, CheckpointError: not a checkpoint of a training script.
        DataError: such data are not given, and are not where the run had them, either.
    """
    path = checkpoint_of(run)
    if path.suffix == ".npz":
        saved = NPZ.load(path)
    else:
        from training.trainer import load_torch  # PyTorch is needed for its own checkpoints alone

        saved = load_torch(path)
    name = str(saved.get("script")).partition(",")[0]  # of one repeat: 'train_mlp_autodiff, one repeat'
    if name not in NETWORKS:
        raise CheckpointError(f"{path} is not a checkpoint of a training script: {', '.join(NETWORKS)}")
    script = importlib.import_module(name)
    try:
        config = script.Config(**{**saved["flags"], "resume": str(path)})
        mean_image, scale, class_names = images_of(saved, script, path, data)
        probabilities, weight, module = NETWORKS[name](script, config, saved["state"], mean_image, len(class_names),
                                                       training)
        return Trained(probabilities, weight, module, mean_image, scale, class_names)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        raise CheckpointError(f"{path} does not hold the network that its flags describe: it is damaged") from None


def images_of(saved: dict[str, Any], script: Any, path: Path, data: Splits | None) -> tuple[Any, ...]:
    """Mean image, scale of the pixels and names of the classes; a checkpoint of version 2.0 needs its data for them."""
    if "mean_image" in saved:
        names = tuple(map(str, saved["class_names"]))
        return np.asarray(saved["mean_image"], np.float32), float(saved["pixel_scale"]), names
    if data is None:
        config = script.Config(**saved_flags(path, script.Config))
        try:
            data = script.load_data(config, config.seed) if hasattr(script, "load_data") else config.load_data()
        except DataError as error:
            raise DataError(f"{path} is of version 2.0, whose checkpoints need their data: {error}") from None
    return data.mean_image, data.test.scale, data.class_names


# ---------------------------------------------------------------- pictures


def read_picture(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The middle of a picture, resized: uint8 of `shape`, (3 or 1, H, W). Raises UserError."""
    channels, height, width = shape
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            if image.mode[0] in "IF":  # 16 or 32 bits a pixel
                values: np.ndarray = np.nan_to_num(np.asarray(image, np.float32))
                top = values.max()
                if image.mode.startswith("I;16") or top > 2 * 255:  # from 0 to 65535; resizing may overshoot 255
                    values = values / 257
                elif image.mode == "F" and top <= 2:  # from 0 to 1
                    values = values * 255
                image = Image.fromarray(values.clip(0, 255).round().astype(np.uint8))
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            image = ImageOps.fit(image.convert("RGB" if channels == 3 else "L"), (width, height),
                                 Image.Resampling.LANCZOS)
        return np.asarray(image).reshape(height, width, channels).transpose(2, 0, 1)
    except Exception as error:  # Pillow has many ways to stumble over foreign bytes
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UserError(f"{path} cannot be read as a picture: {reason}") from None


def table(names: list[str], class_names: tuple[str, ...], probabilities: np.ndarray, columns: int | None = None) -> str:
    """A line for each picture: what it is taken for, and the probability of each class.

    Where that is wider than `columns`, a line for each class.
    """
    cells = [["picture", "taken for", *class_names], *(
        [name if name.isprintable() else repr(name)[1:-1], class_names[row.argmax()],
         *(f"{value:.4f}" for value in row)]
        for name, row in zip(names, probabilities, strict=True))]
    lines = aligned(cells, left=2)
    if columns and len(lines[0]) > columns:
        lines = aligned([list(column) for column in zip(*cells, strict=True)], left=1)
    return "\n".join(lines)


def aligned(cells: list[list[str]], left: int) -> list[str]:
    """The lines of a table, whose first `left` columns are aligned to the left."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(width) if column < left else cell.rjust(width)
                      for column, (cell, width) in enumerate(zip(line, widths, strict=True))).rstrip()
            for line in cells]


def plot(target: Path, pictures: np.ndarray, names: list[str], class_names: tuple[str, ...],
         probabilities: np.ndarray) -> None:
    """A row for each picture: what the network sees of it, and a bar for each class."""
    def paint(figure: Any) -> None:
        rows = figure.subplots(len(pictures), 2, squeeze=False, width_ratios=(1, 2))
        for (left, right), picture, name, values in zip(rows, pictures, names, probabilities, strict=True):
            left.imshow(picture.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=255)
            left.set_title(drawable(name), fontsize="small", parse_math=False)
            left.axis("off")
            right.barh(range(len(values)), values, color=["C1" if v == values.max() else "C0" for v in values])
            right.set_yticks(range(len(values)), class_names, parse_math=False)
            right.invert_yaxis()
            right.set(xlim=(0, 1))
        rows[-1][1].set(xlabel="probability")

    save_figure(target.with_suffix(""), paint, (8, 2.6 * len(pictures) + 0.3), (target.suffix,))


# ---------------------------------------------------------------- ONNX


def export(trained: Trained, target: Path) -> None:
    """Write the network, from pixels (B, C, H, W) on the scale 0..255 to probabilities (B, classes), as ONNX.

    Raises:
        UserError: not a PyTorch network, or PyTorch's exporter lacks a package.
    """
    if trained.module is None:
        raise UserError("--export: a network in NumPy has no exporter; train one like it with train_mlp_pytorch.py")
    import torch

    class OfPixels(torch.nn.Module):
        mean_image: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.network = trained.module.eval()
            self.register_buffer("mean_image", torch.from_numpy(trained.mean_image))

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return torch.softmax(self.network((pixels - self.mean_image) * trained.scale), 1)

    example = torch.zeros(2, *trained.mean_image.shape)
    try:
        program: Any = torch.onnx.export(OfPixels().eval(), (example,), input_names=["pixels"],
                                         output_names=["probabilities"], dynamo=True, verbose=False,
                                         dynamic_shapes=({0: torch.export.Dim("pictures")},))
    except ModuleNotFoundError as error:
        raise UserError(f"--export: PyTorch's exporter needs the package {error.name}: "
                        "pip install onnx onnxscript") from None
    with atomic_write(target) as file:
        file.write(program.model_proto.SerializeToString())


def refuse_to_overwrite(read: list[Path], written: dict[str, Path | None]) -> None:
    """Refuse what cannot be written, or would take the place of what is read; `written` by flag. Raises UserError."""
    for flag, target in written.items():
        if target and not target.resolve().parent.is_dir():
            raise UserError(f"{flag}: the folder {quoted(target.parent)} does not exist")
        if target and target.is_dir():
            raise UserError(f"{flag}: {quoted(target)} is a folder; name a file")
        if target and target.resolve() in {path.resolve() for path in read}:
            raise UserError(f"{flag}: {quoted(target)} is read here, too; choose another name")


@lossy_output()
def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    expanded = lambda name: Path(path(name))  # noqa: E731
    parser.add_argument("run", type=expanded, metavar="RUN", help="run folder, or a checkpoint in it")
    parser.add_argument("images", nargs="*", type=expanded, metavar="IMAGE", help="a picture")
    parser.add_argument("--plot", type=expanded, metavar="FILE",
                        help="draw pictures and probabilities: .png, .svg, .pdf")
    parser.add_argument("--export", type=expanded, metavar="FILE",
                        help="write the network as ONNX, in float32 whatever the run's --precision")
    arguments = parser.parse_intermixed_args(argv)
    if not arguments.images and (arguments.plot or not arguments.export):
        parser.exit(2, f"{parser.prog}: name a picture\n")
    if arguments.plot and not arguments.plot.suffix:
        arguments.plot = arguments.plot.with_name(f"{arguments.plot.name}.png")
    unread = False
    try:
        refuse_to_overwrite([checkpoint_of(arguments.run), *arguments.images],
                            {"--plot": arguments.plot, "--export": arguments.export})
        trained = load(arguments.run)
        if arguments.images:
            trained.check_pictures(arguments.run)
            paths, pictures = [], []
            for image in arguments.images:
                try:
                    pictures.append(read_picture(image, trained.mean_image.shape))
                    paths.append(image)
                except UserError as error:
                    print(f"{parser.prog}: {error}", file=sys.stderr)
                    unread = True
            several = Counter(image.name for image in paths)
            names = [image.name if several[image.name] == 1 else str(image) for image in paths]
            if pictures:
                probabilities = trained.of_pictures(np.stack(pictures))
                columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
                print(table(names, trained.class_names, probabilities, columns))
            if pictures and arguments.plot:
                plot(arguments.plot, np.stack(pictures), names, trained.class_names, probabilities)
                print(f"wrote {quoted(arguments.plot)}")
        if arguments.export:
            export(trained, arguments.export)
            print(f"wrote {quoted(arguments.export)}")
    except (UserError, DataError, CheckpointError, ValueError) as error:
        parser.exit(2, f"{parser.prog}: {str(error).removeprefix('--resume: ')}\n")
    except OSError as error:
        parser.exit(1, f"{parser.prog}: cannot write {error.filename}: {error.strerror}\n")
    if unread:
        parser.exit(2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
