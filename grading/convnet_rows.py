"""Reads a submitted ConvNet as rows of the assignment's table, and says how each differs from it.

From the operators that its worker recorded: which layer takes which one's output, what stands before it, where its
skip connection starts and ends, and whether its parameters are used elsewhere too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from grading.networks import CONVNET

LAYERS = ("convolution", "max pool", "average pool", "linear")
IMAGE = -1
SHOWN = 3  # different faults that a sentence names
PREACT = ["BatchNorm", "ReLU"]
MISSING = "{}: it is missing"


@dataclass(frozen=True)
class Row:
    """A row of the table. before: what must stand right before it, inside its skip connection where it has one."""

    name: str
    kind: str
    weight: tuple[int, ...] = ()
    geometry: tuple[tuple[int, ...], ...] = ((), (), ())  # kernel, stride, padding
    before: tuple[str, ...] = ()
    skip: bool = False


@dataclass
class Layer:
    """A convolution, pool or linear layer of a submission, in the order in which it runs.

    numbers: of its parameters and its BatchNorm's, as the worker tells them apart. source: the layer, by its place,
    whose output it takes, IMAGE for the image. before, skip: as in `Row`; `around` is the first layer inside a skip
    connection that starts before an earlier layer. extra: what stands between the layer above and the start of the skip
    connection. after: what stands between it and the end of its skip connection. end: the node whose value the next
    layer should take. lost: whether it takes something else. inside: whether a sum is of what follows the layer alone.
    """

    kind: str
    weight: tuple[int, ...]
    geometry: tuple[tuple[int, ...], ...]
    numbers: list[int]
    source: int = IMAGE
    before: list[str] = field(default_factory=list)
    skip: bool = False
    around: int | None = None
    extra: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    end: int = IMAGE
    lost: bool = False
    inside: bool = False


def table() -> list[Row]:
    rows = []
    for name, *sizes in CONVNET:
        if not sizes:
            rows.append(Row(name, "max pool", (), ((3, 3), (2, 2), (1, 1))))
            continue
        n_in, n_out, k = sizes
        block = name.startswith("PreAct")
        rows.append(Row(name, "convolution", (n_out, n_in, k, k), ((k, k), (1, 1), (k // 2, k // 2)),
                        tuple(PREACT) if block else (), block))
    return [*rows, Row("linear", "linear", (10, 512), before=tuple(PREACT))]


class Reading:
    """The layers of a submission, from its nodes (`probes_convnet.described`)."""

    def __init__(self, nodes: Sequence[Any]):
        self.nodes = nodes
        self.places: dict[int, int] = {}  # of the layer that a node belongs to, or whose output it passes on
        self.layers: list[Layer] = []
        self.chains: list[list[int]] = []
        for i, (kind, inputs, number, weight, kernel, stride, padding, *_) in enumerate(nodes):
            if not inputs or not all(IMAGE <= position < i for position in inputs):
                raise ValueError("operators that take what comes after them")
            if kind in LAYERS:
                self.chains.append(self.chain(inputs[0]))
                shape = tuple(weight) if kind != "linear" else tuple(sorted(weight))
                self.layers.append(Layer(kind, shape, (tuple(kernel), tuple(stride), tuple(padding)), [number],
                                         end=i))
                self.places[i] = len(self.layers) - 1
            else:
                self.places[i] = max(self.places.get(position, IMAGE) for position in inputs)
        for i, node in enumerate(nodes):
            if node[0] == "add" and len(node[1]) == 2:
                self.add(i, node[1])
        for layer, chain in zip(self.layers, self.chains, strict=True):
            layer.source = self.places.get(chain[0], IMAGE)
            if not layer.skip:
                layer.before = self.kinds(chain[1:])
            layer.numbers += [nodes[i][2] for i in chain[1:] if nodes[i][2] >= 0]
        for place, chain in enumerate(self.chains[1:]):
            self.layers[place].lost = self.layers[place + 1].source == place and chain[0] != self.layers[place].end

    def chain(self, position: int) -> list[int]:
        """From the layer, sum or image whose output it is, over what is applied to that, to the node at `position`."""
        found = [position]
        while position != IMAGE and self.nodes[position][0] not in LAYERS and len(self.nodes[position][1]) == 1:
            position = self.nodes[position][1][0]
            found.insert(0, position)
        return found

    def kinds(self, positions: Sequence[int]) -> list[str]:
        return [self.nodes[i][0] for i in positions]

    def add(self, position: int, inputs: list[int]) -> None:
        """Take note of the skip connection that a sum may be the end of."""
        for end, start in (inputs, inputs[::-1]):
            last, *after = self.chain(end)
            if last == IMAGE or self.nodes[last][0] not in LAYERS:
                continue
            place = self.places[last]
            layer, chain = self.layers[place], self.chains[place]
            if start in (last, *after):
                layer.inside, layer.end = True, position
                return
            if start in chain:
                i = chain.index(start)
                layer.skip, layer.after, layer.end = True, self.kinds(after), position
                layer.extra, layer.before = self.kinds(chain[1:i + 1]), self.kinds(chain[i + 1:])
                return
            first = next((earlier for earlier in range(place) if start in self.chains[earlier]), None)
            if first is not None and self.places.get(self.chains[place][0], IMAGE) >= first:
                layer.around = first
                return


Pairs = Sequence[tuple[Row | None, int | None]]


def align(rows: Sequence[Row], layers: Sequence[Layer]) -> Pairs:
    """Pairs of row and layer in order, None where one has no partner, so that as much as possible agrees."""
    costs = [[float(i + j) for j in range(len(layers) + 1)] for i in range(len(rows) + 1)]
    for i, row in enumerate(rows):
        for j, layer in enumerate(layers):
            costs[i + 1][j + 1] = min(costs[i][j] + unlike(row, layer), costs[i][j + 1] + 1, costs[i + 1][j] + 1)
    pairs: list[tuple[Row | None, int | None]] = []
    i, j = len(rows), len(layers)
    while i or j:
        if i and j and costs[i][j] == costs[i - 1][j - 1] + unlike(rows[i - 1], layers[j - 1]):
            i, j = i - 1, j - 1
            pairs.append((rows[i], j))
        elif i and costs[i][j] == costs[i - 1][j] + 1:
            i -= 1
            pairs.append((rows[i], None))
        else:
            j -= 1
            pairs.append((None, j))
    return pairs[::-1]


def unlike(row: Row, layer: Layer) -> float:
    """0 for a row and a layer of the same sizes, more than 2 where they have nothing to do with each other."""
    if row.kind.split()[-1] != layer.kind.split()[-1]:
        return 2.5
    if row.weight != layer.weight and row.geometry != layer.geometry and row.skip != layer.skip:
        return 2.5  # a block and a convolution that widens
    return 0.25 * (row.kind != layer.kind) + 0.5 * (row.weight != layer.weight) + 0.25 * (
        row.geometry != layer.geometry) + 0.125 * (row.skip != layer.skip)


def faults(pairs: Pairs, layers: Sequence[Layer]) -> dict[str, str]:
    """{name: what is wrong} for every row, and for layers that are none of the table's; '' for rows that are right."""
    names = {place: row.name for row, place in pairs if row and place is not None}
    found = {}
    for (above, _), (row, place) in pairwise([(None, None), *pairs]):
        if row is not None:
            text = fault(row, place, layers, names) if place is not None else ""
            found[row.name] = MISSING if place is None else text and f"{{}}: {text}"
        elif place is not None:
            after = above.name if above else names.get(place - 1, "the image")
            found[f"after {after}"] = f"{{}}: {shown(layers[place])}, which the table does not have"
    return found


def fault(row: Row, place: int, layers: Sequence[Layer], names: dict[int, str]) -> str:
    layer = layers[place]
    if (row.kind, row.geometry, row.weight) != (layer.kind, layer.geometry, layer.weight):
        return f"expected {shown(row)}; received {shown(layer)}"
    shared = next((i for i in range(place) if set(layers[i].numbers) & set(layer.numbers) - {-1}), None)
    if shared is not None:
        return f"it uses parameters of {names.get(shared, 'an earlier layer')} again and needs its own"
    if layer.source != place - 1:
        beside = [names.get(i, "another layer") for i in range(layer.source + 1, place)]
        source = "the image" if layer.source == IMAGE else names.get(layer.source, "another layer")
        return f"it takes the output of {source}, so that it runs beside {' and '.join(beside[-2:])} and not after it"
    if layer.skip and not row.skip:
        return "it has a skip connection, which the table does not have"
    if layer.extra and not starts_late(layer):
        return f"expected nothing before it; received {', '.join(layer.extra)}"
    received = [*layer.before, row.kind, *layer.after]
    if received != [*row.before, row.kind] and not starts_late(layer):
        return f"expected {', '.join([*row.before, row.kind])}; received {', '.join(received)}"
    return ""


def starts_late(layer: Layer) -> bool:
    """Whether its skip connection starts inside a block that is right: that is for `skip_faults` to say."""
    return layer.skip and bool(layer.extra) and [*layer.extra, *layer.before] == PREACT and not layer.after


def skip_faults(pairs: Pairs, layers: Sequence[Layer]) -> dict[str, str]:
    """{name: '' or what is wrong with its skip connection} of the blocks that are there and in their place."""
    names = {place: row.name for row, place in pairs if row and place is not None}
    around = {i: f"one skip connection around {names.get(layer.around, 'another layer')} to {names.get(place)}, where "
                 "each has its own" for place, layer in enumerate(layers) if layer.around is not None
              for i in range(layer.around, place + 1)}
    found = {}
    for row, place in pairs:
        if row is None or place is None or not row.skip or layers[place].source != place - 1:
            continue
        layer = layers[place]
        if layer.inside:
            found[row.name] = ("the skip connection around {} starts after its convolution: add what the block takes "
                               "in to what the convolution gives")
        elif not layer.skip:
            found[row.name] = around.get(place, "no skip connection around {}")
        elif layer.lost:
            found[row.name] = "no skip connection around {} that reaches the next layer"
        else:
            found[row.name] = "" if not starts_late(layer) else (
                f"the skip connection around {{}} starts after {' and '.join(layer.extra)}, not before BatchNorm and "
                "ReLU: add what the block takes in")
    return found


def sentence(faults: Mapping[str, str]) -> str:
    """'maxpool1, maxpool2: expected ...; received ...', rows with the same fault together; '{}' is their names."""
    rows: dict[str, list[str]] = {}
    for name, text in faults.items():
        if text:
            rows.setdefault(text, []).append(name)
    parts = [text.replace("{}", together(names)) if text.startswith("{}") else  # names stay as the table has them
             f"{text[0].upper()}{text[1:]}".replace("{}", together(names)) for text, names in rows.items()]
    if len(parts) > SHOWN:
        parts[SHOWN:] = [f"{len(parts) - SHOWN} more"]
    return "".join(f"{part}. " for part in parts).rstrip()


def together(names: Sequence[str]) -> str:
    """The names of rows, in which those of all blocks are one."""
    blocks = [row.name for row in table() if row.skip]
    if not set(blocks) <= set(names):
        return ", ".join(names)
    return ", ".join([f"the {len(blocks)} PreAct blocks", *(name for name in names if name not in blocks)])


def shown(layer: Row | Layer) -> str:
    """'convolution 64 -> 128, kernel 1x1, stride 1x1, padding 0x0'."""
    sizes = f" {layer.weight[1]} -> {layer.weight[0]}" if len(layer.weight) > 1 else ""
    parts = [f", {name} {'x'.join(map(str, size))}" for name, size in zip(
        ("kernel", "stride", "padding"), layer.geometry, strict=True) if size]
    return f"{layer.kind}{sizes}{''.join(parts)}"
