"""Hypothesis strategies: it draws shapes and a seed, NumPy draws the values, `random` the damage."""

import io
import random
import zipfile
from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 6)
matrix_shapes = st.tuples(sizes, sizes)                                            # (S, M)
any_shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)        # of an element-wise function
norm_shapes = st.tuples(st.integers(2, 6), st.integers(2, 6))                      # (S, M), both with a variance


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[tuple[int, int, int, int], int, tuple[int, int]]:
    """((S, C_in, H, W), C_out, (kh, kw)), the kernel no larger than the image."""
    kh, kw = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(kh, 5)), draw(st.integers(kw, 5)))
    return shape, draw(st.integers(1, 3)), (kh, kw)


# ---------------------------------------------------------------- damage


def fuzz(examples: int) -> settings:
    """So many inputs, the same ones each time: what fails here fails for everyone."""
    return settings(max_examples=examples, derandomize=True, database=None, deadline=None,
                    phases=(Phase.explicit, Phase.generate), suppress_health_check=list(HealthCheck))


def damaged(files: Sequence[bytes], fragments: Sequence[bytes] = (b"",)) -> st.SearchStrategy[bytes]:
    """One of the files, changed in one to five places."""
    return st.builds(damage, st.sampled_from(files), seeds, st.integers(1, 5), st.just(fragments))


def damage(content: bytes, seed: int, edits: int, fragments: Sequence[bytes] = (b"",)) -> bytes:
    """`content` with bytes and numbers overwritten, pieces left out, doubled, or replaced by one of `fragments`."""
    rng, data = random.Random(seed), bytearray(content)
    for _ in range(edits):
        size = len(data)
        edge = min(size, 200)  # headers and directories lie at the ends, and pixels between them
        at = rng.choice([rng.randint(0, size), rng.randint(0, edge), size - rng.randint(0, edge)])
        until = min(size, at + rng.choice([0, 1, 4, 50, size]))
        number = rng.choice([0, 1, 127, 2**15, 2**31 - 1, 2**31, 2**32 - 1, rng.randrange(2**32)])
        data[at:until] = rng.choice([bytes([rng.randrange(256)]), number.to_bytes(4, rng.choice(["little", "big"])),
                                     b"", data[at:until] * 2, rng.choice(fragments)])
    return bytes(data)


def members_damaged(archives: Sequence[bytes], fragments: Sequence[bytes] = (b"",)) -> st.SearchStrategy[bytes]:
    """One of the ZIP archives, a member of it changed and packed again, so that its checksum is right."""
    def change(archive: bytes, seed: int, edits: int) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(out, "w") as new:
            chosen = random.Random(seed).choice(old.infolist())
            for member in old.infolist():
                content = old.read(member)
                new.writestr(member, damage(content, seed, edits, fragments) if member is chosen else content)
        return out.getvalue()

    return st.builds(change, st.sampled_from(archives), seeds, st.integers(1, 5))


def odd_value_in(tree: Any, odd: Sequence[Any], seed: int) -> Any:
    """`tree` of dicts and lists with one value left out, or another in its place: an odd one, or one from elsewhere."""
    rng = random.Random(seed)
    places: list[tuple[Any, Any]] = []

    def copied(value: Any) -> Any:
        if not isinstance(value, dict | list | tuple):
            return value
        same = dict(value) if isinstance(value, dict) else list(value)
        for key, inner in list(same.items() if isinstance(same, dict) else enumerate(same)):
            same[key] = copied(inner)
            places.append((same, key))
        return same

    tree = copied(tree)
    place, key = rng.choice(places)
    if rng.random() < 0.2:
        del place[key]
    else:
        other, there = rng.choice(places)
        place[key] = copied(rng.choice([*odd, *odd, other[there]]))  # what is done to it is not done to `odd`
    return tree
