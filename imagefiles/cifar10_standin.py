"""Draws a synthetic stand-in for CIFAR-10: for machines without a network, for tests and for demonstrations.

    python cifar10_utils.py standin cifar10/cifar-10-batches-py                 # 50,000 + 10,000 images
    python cifar10_utils.py standin /tmp/small --train_size 500 --test_size 100

The folder has the published one's layout, down to Python 2's pickles, so whatever reads CIFAR-10 reads it. Its pictures
are 32x32 renderings of ten shapes, textured, on cluttered ground, jittered in position, size, angle, colour and light.
Colour tells a little about the class, shape tells the rest: curves look much as they do on the published images, but no
figure measured here says anything about CIFAR-10. Every batch file calls itself synthetic.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from imagefiles.checksums import md5_of
from imagefiles.cifar10_files import META_FILE, SYNTHETIC, TITLES
from imagefiles.filling import is_filled, whole_folder

CLASS_NAMES = ("disc", "ring", "square", "triangle", "cross", "star", "crescent", "bar", "checker", "heart")
SIZE = 32
CHUNK = 100  # images drawn at once: their float32 planes stay in the cache
COLOUR_HINT = 0.42  # how far a class pulls its colours from random ones (0) to its own (1), on average
MAX_IMAGES_PER_FILE = 20_000
CHECKSUM_FILE = "MD5SUMS"  # of the files as they were drawn

_PIXEL = (np.arange(SIZE, dtype=np.float32) - (SIZE - 1) / 2) / (SIZE / 2)  # pixel centres on -1..1


def make_standin(
    folder: str | os.PathLike[str], train_size: int = 50_000, test_size: int = 10_000, seed: int = 0
) -> None:
    """Draws the pictures and writes the five training batches, the test batch, batches.meta and MD5SUMS.

    Args:
        folder: where to; must not exist or be empty, and is whole or not there.
        train_size, test_size: numbers of images, at least 5 and 1; classes are balanced.
        seed: the same seed gives the same pictures (with the same NumPy on the same kind of processor).

    Raises:
        ValueError: a size out of range, or a folder that holds something.
        OSError: the folder cannot be written.
    """
    folder = Path(folder)
    if not 5 <= train_size <= 5 * MAX_IMAGES_PER_FILE or not 1 <= test_size <= MAX_IMAGES_PER_FILE:
        raise ValueError(
            f"train_size must be 5..{5 * MAX_IMAGES_PER_FILE} and test_size 1..{MAX_IMAGES_PER_FILE}, "
            f"got {train_size} and {test_size}"
        )
    if is_filled(folder):
        raise ValueError(f"{folder} exists and is not an empty folder")
    streams = np.random.SeedSequence(seed).spawn(6)
    sizes = [train_size // 5 + (i < train_size % 5) for i in range(5)] + [test_size]
    with whole_folder(folder) as made:
        sums = []
        for (name, title), stream, size in zip(TITLES.items(), streams, sizes, strict=True):
            labels, pixels = draw(size, np.random.default_rng(stream))
            files = [f"{CLASS_NAMES[label]}_s_{n:06d}.png" for n, label in enumerate(labels)]
            batch = {"batch_label": f"{SYNTHETIC} {title}", "labels": labels.tolist(), "data": pixels}
            sums.append(_write(made / name, {**batch, "filenames": files}))
        meta = {"num_cases_per_batch": sizes[0], "label_names": list(CLASS_NAMES), "num_vis": 3 * SIZE * SIZE}
        sums.append(_write(made / META_FILE, meta))
        (made / CHECKSUM_FILE).write_text("".join(sums))


def _write(path: Path, content: dict) -> str:
    data = write_pickle(content)
    path.write_bytes(data)
    return f"{md5_of(data)}  {path.name}\n"


def write_pickle(value: dict[str, Any]) -> bytes:
    """Writes `value` as Python 2 would with protocol 2: readable by every reader of CIFAR-10, old or new.

    Args:
        value: a dictionary of str (written as byte strings), integers, lists of these, and uint8 matrices.
    """
    return b"\x80\x02" + _opcodes(value) + b"."


def _opcodes(value: Any) -> bytes:
    if isinstance(value, dict):
        return b"}(" + b"".join(_opcodes(part) for item in value.items() for part in item) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(_opcodes, value)) + b"e"
    if isinstance(value, int):
        small = 0 <= value < 256
        return b"K" + value.to_bytes(1, "little") if small else b"J" + value.to_bytes(4, "little", signed=True)
    if isinstance(value, str):
        value = value.encode("latin1")
    if isinstance(value, bytes):
        short = len(value) < 256
        return (b"U" + len(value).to_bytes(1, "little") if short else b"T" + len(value).to_bytes(4, "little")) + value
    shape = b"(" + b"".join(map(_opcodes, value.shape)) + b"t"
    dtype = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    return empty + b"(K\x01" + shape + dtype + b"\x89" + _opcodes(value.tobytes()) + b"tb"


def draw(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draws `size` pictures.

    Returns:
        Labels, int64 (size,), balanced and shuffled, and pixels, uint8 (size, 3072) as CIFAR-10 lays them out.
    """
    labels = rng.permutation(np.arange(size) % len(CLASS_NAMES))
    pixels = np.empty((size, 3, SIZE, SIZE), np.uint8)
    for start in range(0, size, CHUNK):
        chunk = labels[start : start + CHUNK]
        pixels[start : start + CHUNK] = _draw_chunk(chunk, rng)
    return labels, pixels.reshape(size, -1)


def _draw_chunk(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    n = len(labels)

    def uniform(low: float, high: float, *shape: int) -> np.ndarray:
        return rng.uniform(low, high, (n, *shape)).astype(np.float32)

    # Two colours: of the ground and of the shape. A class only leans towards its own.
    hint = uniform(0, 2 * COLOUR_HINT, 1)
    ground = (1 - hint) * (uniform(45, 210, 1) + uniform(-45, 45, 3)) + hint * _GROUND[labels]
    paint = (1 - hint) * (uniform(40, 215, 1) + uniform(-70, 70, 3)) + hint * _PAINT[labels]
    # A shape that its ground would swallow is moved away from it.
    contrast = paint - ground
    strength = np.abs(contrast).max(axis=1, keepdims=True)
    paint = ground + contrast * np.maximum(1, 50 / np.maximum(strength, 1))

    image = ground[:, :, None, None] + _clouds(rng, n, 3, 32) + _clouds(rng, n, 7, 20)
    for _ in range(2):  # clutter: soft blobs and edges of any colour
        image += _blob(uniform) * uniform(-80, 80, 3)[:, :, None, None]
    texture = _texture(uniform) * uniform(0, 45)[:, None, None]
    mask = _shapes(labels, uniform)[:, None]
    image += mask * (paint[:, :, None, None] + texture[:, None] - image)
    light = uniform(-0.25, 0.25, 1, 1, 1) * _PIXEL[:, None] + uniform(-0.25, 0.25, 1, 1, 1) * _PIXEL
    image *= 1 + light
    image += rng.standard_normal(image.shape, np.float32) * uniform(2, 12, 1, 1, 1)
    return np.clip(image, 0, 255, out=image).astype(np.uint8)


def _clouds(rng: np.random.Generator, n: int, cells: int, strength: float) -> np.ndarray:
    """Smooth coloured noise (n, 3, 32, 32): random values on a coarse grid, interpolated linearly."""
    grid = rng.standard_normal((n, 3, cells + 1, cells + 1), np.float32) * np.float32(strength)
    distance = np.abs(np.linspace(0, cells, SIZE)[:, None] - np.arange(cells + 1))
    weights = np.maximum(0, 1 - distance).astype(np.float32)  # (32, cells + 1), rows sum to 1
    return weights @ grid @ weights.T


def _blob(uniform: Callable[..., np.ndarray]) -> np.ndarray:
    """A stretched soft blob somewhere, (n, 1, 32, 32) in 0..1: from spots to bands across the picture."""
    u, v = _frame(uniform, 1.0, 3.2, 0.9)
    return np.clip(1.5 - 4 * np.hypot(u * uniform(0.15, 1, 1, 1) * 3, v * 3), 0, 1)[:, None]


def _texture(uniform: Callable[..., np.ndarray]) -> np.ndarray:
    """Stripes of any direction and width, (n, 32, 32) in -1..1."""
    angle, period = uniform(0, np.pi, 1, 1), uniform(6, 22, 1, 1)
    return np.sin(period * (np.cos(angle) * _PIXEL + np.sin(angle) * _PIXEL[:, None]) + uniform(0, 6.3, 1, 1))


def _frame(
    uniform: Callable[..., np.ndarray], turn: float, zoom_out: float, shift: float, zoom_in: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (n, 32, 32) of every pixel in a frame that is turned, scaled and shifted randomly."""
    angle, scale = uniform(-turn * np.pi, turn * np.pi, 1, 1), uniform(zoom_in, zoom_out, 1, 1)
    x, y = _PIXEL - uniform(-shift, shift, 1, 1), _PIXEL[:, None] - uniform(-shift, shift, 1, 1)
    c, s = np.cos(angle) * scale, np.sin(angle) * scale
    return c * x + s * y, c * y - s * x


def _shapes(labels: np.ndarray, uniform: Callable[..., np.ndarray]) -> np.ndarray:
    """How far each pixel lies within its picture's shape, (n, 32, 32) in 0..1."""
    u, v = _frame(uniform, 0.12, 2.0, 0.34, zoom_in=1.05)
    u = u * uniform(0.85, 1.18, 1, 1)
    mask = np.empty_like(u)
    for label, outside in enumerate(_OUTSIDE):
        chosen = labels == label
        mask[chosen] = outside(u[chosen], v[chosen])
    return np.clip(0.5 - mask * 9, 0, 1)


def _box(u: np.ndarray, v: np.ndarray, width: float, height: float) -> np.ndarray:
    return np.maximum(np.abs(u) - width, np.abs(v) - height)


def _star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.hypot(u, v) - 0.58 - 0.3 * np.cos(5 * np.arctan2(u, -v))


def _heart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    lobes = np.hypot(np.abs(u) - 0.38, v + 0.3) - 0.45
    return np.minimum(lobes, np.maximum(np.abs(u) * 0.76 + v * 0.65 - 0.5, -0.35 - v))


# Below zero inside the shape, about the distance to its edge; in CLASS_NAMES' order, v pointing down.
_OUTSIDE: tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], ...] = (
    lambda u, v: np.hypot(u, v) - 0.8,
    lambda u, v: np.abs(np.hypot(u, v) - 0.64) - 0.2,
    lambda u, v: _box(u, v, 0.7, 0.7),
    lambda u, v: np.maximum(np.abs(u) * 0.87 - v * 0.5 - 0.42, v - 0.62),
    lambda u, v: np.minimum(_box(u, v, 0.88, 0.26), _box(u, v, 0.26, 0.88)),
    _star,
    lambda u, v: np.maximum(np.hypot(u, v) - 0.85, 0.7 - np.hypot(u - 0.45, v)),
    lambda u, v: _box(u, v, 0.95, 0.27),
    lambda u, v: np.maximum(_box(u, v, 0.8, 0.8), -2 * u * v),
    _heart,
)
_GROUND = np.array(
    [[150, 190, 230], [160, 160, 165], [110, 150, 90], [150, 120, 110], [90, 125, 70],
     [165, 140, 105], [95, 100, 55], [140, 150, 95], [70, 120, 190], [180, 180, 190]], np.float32
)  # fmt: skip
_PAINT = np.array(
    [[235, 235, 240], [200, 40, 40], [150, 110, 60], [120, 100, 100], [140, 95, 50],
     [190, 150, 100], [100, 150, 50], [110, 65, 40], [70, 70, 90], [220, 190, 60]], np.float32
)  # fmt: skip
