"""What a network computes, read from the operators that run: their order, their parameters, what feeds what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

INPUT = -1
PRODUCTS = ("addmm", "mm", "bmm", "baddbmm", "mv", "linear")
NAMES = {
    "convolution": "convolution", "max_pool2d_with_indices": "max pool", "max_pool2d": "max pool",
    "avg_pool2d": "average pool", "_adaptive_avg_pool2d": "average pool", "adaptive_max_pool2d": "max pool",
    "native_batch_norm": "BatchNorm", "cudnn_batch_norm": "BatchNorm", "_batch_norm_no_update": "BatchNorm",
    "_batch_norm_with_update": "BatchNorm", "_native_batch_norm_legit": "BatchNorm",
    "_native_batch_norm_legit_no_training": "BatchNorm", "native_layer_norm": "LayerNorm",
    "relu": "ReLU", "tanh": "tanh", "sigmoid": "sigmoid", "leaky_relu": "LeakyReLU", "gelu": "GELU", "elu": "ELU",
    "celu": "CELU", "hardtanh": "hardtanh", "softplus": "softplus", "silu": "SiLU", "_prelu_kernel": "PReLU",
    "rrelu_with_noise": "RReLU", "threshold": "ReLU", "clamp_min": "ReLU", "maximum": "ReLU", "clamp": "clamp",
    "_softmax": "softmax", "_log_softmax": "log_softmax", "add": "add", "cat": "concatenation",
}
SAME = {"view", "_unsafe_view", "reshape", "_reshape_alias", "t", "transpose", "permute", "unsqueeze", "squeeze",
        "expand", "clone", "contiguous", "detach", "alias", "_to_copy", "select", "slice", "flatten", "lift_fresh"}
MEANS = {"mean", "sum", "amax", "avg_pool2d", "_adaptive_avg_pool2d", "adaptive_max_pool2d"}  # of one number: itself


@dataclass
class Node:
    """An operator that matters.

    kind: a name of NAMES, 'linear', or PyTorch's own name. inputs: the nodes whose values it takes, INPUT for the
    network's input. tensors: 'weight', 'bias', 'running_mean', 'running_var', those that it has. value: a copy of what
    a linear one gives. geometry: kernel, stride and padding of a convolution or pool. shape_in, shape_out: of the first
    input and the output, with the batch.
    """

    kind: str
    inputs: list[int]
    shape_in: tuple[int, ...]
    shape_out: tuple[int, ...]
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    value: torch.Tensor | None = None
    geometry: list[list[int]] = field(default_factory=list)


class Graph(TorchDispatchMode):
    """Records the operators that run in its `with` block and depend on `x`.

        with Graph(x) as graph:
            y = model(x)
        graph.path(y)
    """

    def __init__(self, x: torch.Tensor):
        super().__init__()
        self.nodes: list[Node] = []
        self.kept: list[Any] = [x]  # tensors are told apart by id, so none may be freed
        self.values: dict[int, int] = {id(x): INPUT}
        self.parameters: dict[int, torch.Tensor | None] = {}  # views of them; None for other tensors that were made

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        self.record(function.overloadpacket.__name__.rstrip("_"), args, kwargs or {}, out)
        return out

    def parameter(self, value: Any) -> torch.Tensor | None:
        """The parameter that a tensor is, or is another view of."""
        if not isinstance(value, torch.Tensor) or id(value) in self.values:
            return None
        if id(value) in self.parameters:
            return self.parameters[id(value)]
        return value if value.is_leaf and value.requires_grad else None

    def record(self, name: str, args: Any, kwargs: Any, out: Any) -> None:
        given = list(tensors((args, kwargs)))
        inputs = [self.values[id(value)] for value in given if id(value) in self.values]
        parameters = [found for value in given if (found := self.parameter(value)) is not None]
        outputs = list(tensors(out))
        self.kept += outputs
        if not inputs:
            view = parameters[0] if len(parameters) == 1 and name in SAME else None
            self.parameters.update({id(value): view for value in outputs})
            return
        if not outputs:
            return
        source = next(value for value in given if id(value) in self.values)
        position = self.same(name, args, kwargs, source, outputs[0], inputs, parameters)
        if position is None:
            self.nodes.append(self.node(name, args, kwargs, inputs, parameters, source, outputs[0]))
            position = len(self.nodes) - 1
        self.values.update({id(value): position for value in outputs})

    def same(self, name: str, args: Any, kwargs: Any, source: torch.Tensor, out: torch.Tensor, inputs: list[int],
             parameters: list[torch.Tensor]) -> int | None:
        """The node whose value an operator only passes on, in another shape perhaps; None if it does more than that."""
        if len(inputs) != 1:
            return None
        if name == "add":
            above = self.nodes[inputs[0]] if inputs[0] != INPUT else None
            if parameters and above and above.kind in ("linear", "convolution") and "bias" not in above.tensors:
                above.tensors["bias"] = parameters[0]
                above.value = None if above.value is None else out.detach().clone()
                return inputs[0]
            return inputs[0] if not parameters and any(isinstance(a, int | float) and a == 0 for a in args) else None
        if source.numel() == out.numel():
            one = source.dim() < 4 or source.shape[-1] * source.shape[-2] == 1
            if name in SAME or (name in MEANS and one and not parameters) or (name == "native_dropout"):
                return inputs[0]
        return None

    def node(self, name: str, args: Any, kwargs: Any, inputs: list[int], parameters: list[torch.Tensor],
             source: torch.Tensor, out: torch.Tensor) -> Node:
        kind = NAMES.get(name, name)
        found = Node(kind, inputs, tuple(source.shape), tuple(out.shape))
        if name in PRODUCTS and parameters and len(inputs) == 1:
            found.kind, found.value = "linear", out.detach().clone()  # the next one may write over it
            bias = self.parameter(args[0]) if name == "addmm" else self.parameter(args[2]) if len(args) > 2 else None
            weight = next((p for p in parameters if p is not bias), None)
            found.tensors = present(weight=weight, bias=bias)
        elif kind == "convolution":
            found.tensors = present(weight=self.parameter(args[1]), bias=self.parameter(args[2]))
            found.geometry = [[*args[1].shape[2:]], pair(args[3]), pair(args[4])]
        elif kind == "BatchNorm":
            found.tensors = present(weight=self.parameter(args[1]), bias=self.parameter(args[2]), running_mean=args[3],
                                    running_var=args[4])
        elif name in ("max_pool2d", "max_pool2d_with_indices", "avg_pool2d"):
            kernel = pair(args[1])
            found.geometry = [kernel, pair(args[2]) if len(args) > 2 and args[2] else kernel,
                              pair(args[3]) if len(args) > 3 else [0, 0]]
        elif name in ("mean", "sum") and source.dim() == 4:
            found.kind = "average pool"
        elif name == "elu" and [float(a) for a in args[1:3]] not in ([], [1.0], [1.0, 1.0]):
            found.kind = f"ELU with alpha {float(args[1]):.3g}" if float(args[-1]) == 1 or len(args) == 2 else "SELU"
        elif name == "clamp" and (len(args) < 3 or args[2] is None) and len(args) > 1 and args[1] == 0:
            found.kind = "ReLU"
        return found

    @property
    def last(self) -> torch.Tensor:
        """The last tensor that depends on the network's input."""
        return next(value for value in reversed(self.kept) if id(value) in self.values)

    def path(self, y: torch.Tensor) -> list[Node]:
        """The nodes that `y` depends on, in the order in which they ran, with inputs renumbered to it."""
        wanted, open_ends = set[int](), [self.values.get(id(y), INPUT)]
        while open_ends:
            if (position := open_ends.pop()) not in wanted and position != INPUT:
                wanted.add(position)
                open_ends += self.nodes[position].inputs
        order = {INPUT: INPUT} | {position: i for i, position in enumerate(sorted(wanted))}
        return [replace(node, inputs=[order[i] for i in node.inputs])
                for position, node in enumerate(self.nodes) if position in wanted]


def tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors(item)
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))


def present(**found: torch.Tensor | None) -> dict[str, torch.Tensor]:
    return {name: value for name, value in found.items() if value is not None}


def pair(value: Any) -> list[int]:
    values = [int(v) for v in value] if isinstance(value, list | tuple) else [int(value)]
    return values * 2 if len(values) == 1 else values
