"""The mark by which a worker tells an image of the training split from one of the test split.

Each image of the stand-in holds the code of its split: an 8 x 8 tile of +-1, repeated over the image and the channels,
times a random sign, so that the mean image holds no code. The mark can still be read after what scripts do to images:
mean subtraction, any scale and offset, standardisation, flips, shifts by up to 4, crops, another dtype or layout.
"""

from __future__ import annotations

import functools

import numpy as np

TILE, SIZE, MARGIN = 8, 32, 4
UNKNOWN, TRAIN, TEST = 0, 1, 2
SEEDS = (3, 19)  # of the codes: chosen so that they are unlike each other, however they are shifted and turned
LIKE, AHEAD = 0.6, 0.2  # correlation with the code that is found, and its distance to the other one
ROWS = 2000  # images at a time
SOME, UNKNOWN_LAYOUT = 10, -1  # images that tell the layout of all


@functools.cache
def codes() -> np.ndarray:
    """The tiles (2, 8, 8) of the training and the test split, each of mean 0."""
    tiles = np.repeat([1.0, -1.0], TILE * TILE // 2)
    return np.array([np.random.default_rng(seed).permutation(tiles).reshape(TILE, TILE) for seed in SEEDS])


def image(code: np.ndarray) -> np.ndarray:
    """A tile over a whole image: (3072,)."""
    return np.tile(code, (3, SIZE // TILE, SIZE // TILE)).ravel()


@functools.cache
def candidates() -> np.ndarray:
    """(64, 1024): every shift of every turn of the training code, then of the test code; columns of norm 1."""
    columns = [np.roll(tile[::down, ::right], (i, j), (0, 1)).ravel() for code in codes() for tile in (code, code.T)
               for down in (1, -1) for right in (1, -1) for i in range(TILE) for j in range(TILE)]
    return (np.array(columns, np.float32) / TILE).T.copy()


@functools.cache
def folds() -> np.ndarray:
    """(3072, 128): sums the inner part of an image into one tile, for channels first and for channels last."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    inner = (np.minimum(rows, columns) >= MARGIN) & (np.maximum(rows, columns) < SIZE - MARGIN)
    place = (TILE * (rows % TILE) + columns % TILE)[..., None] == np.arange(TILE * TILE)
    one = (place & inner[..., None]).astype(np.float32).reshape(SIZE * SIZE, -1)
    return np.hstack([np.tile(one, (3, 1)), one.repeat(3, axis=0)])


def layout(flat: np.ndarray) -> int:
    """0 if the channels of images (N, 3072) come first, 1 if they come last, UNKNOWN_LAYOUT if no mark tells."""
    with np.errstate(all="ignore"):
        tiles = (np.asarray(flat[:SOME], np.float32) @ folds()).reshape(-1, TILE * TILE)
        tiles -= tiles.mean(axis=1, keepdims=True)
        likeness = np.abs(tiles @ candidates()).max(axis=1) / np.linalg.norm(tiles, axis=1)
    first, last = likeness.reshape(-1, 2).mean(axis=0)
    return int(last > first) if abs(last - first) > AHEAD else UNKNOWN_LAYOUT


def read(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """UNKNOWN, TRAIN or TEST for each image of `images` (N, ...), and whether its mark is bright.

    Unknown where an image has not 3072 numbers.
    """
    flat = images.reshape(len(images), -1)
    found, bright = np.full(len(flat), UNKNOWN, np.int8), np.zeros(len(flat), bool)
    if flat.shape[1] != 3 * SIZE * SIZE:
        return found, bright
    for start in range(0, len(flat), ROWS):
        with np.errstate(all="ignore"):
            tiles = (np.asarray(flat[start:start + ROWS], np.float32) @ folds()).reshape(-1, TILE * TILE)
            tiles -= tiles.mean(axis=1, keepdims=True)
            likeness = tiles @ candidates() / np.linalg.norm(tiles, axis=1, keepdims=True)
        signed = likeness.reshape(-1, 2, candidates().shape[1])  # image, layout
        best = np.abs(signed).reshape(-1, 2, 2, candidates().shape[1] // 2).max(axis=(1, 3))  # image, code
        both = signed.reshape(len(signed), -1)
        bright[start:start + ROWS] = np.take_along_axis(both, np.abs(both).argmax(axis=1)[:, None], 1)[:, 0] > 0
        for split, other in ((TRAIN, TEST), (TEST, TRAIN)):
            mine, theirs = best[:, split - 1], best[:, other - 1]
            found[start:start + ROWS][(mine > LIKE) & (mine > theirs + AHEAD)] = split
    return found, bright
