"""Reverse-mode automatic differentiation over NumPy arrays: write the expression, call backward().

    >>> import numpy as np
    >>> from autodiff_numpy import TensorNode
    >>> x, w = np.ones((1, 3)), TensorNode(np.zeros((3, 2)))  # a bare array is a constant: no gradient
    >>> loss = (x @ w).log_softmax().nll_loss(np.array([0]))
    >>> loss.backward()
    >>> w.grad
    array([[-0.5,  0.5],
           [-0.5,  0.5],
           [-0.5,  0.5]])

The graph is built while the expression runs. A TensorNode holds a value and, after backward(), the gradient
of the loss with respect to it; its source, an OpNode, says which Op made it from which inputs. An Op is a pair
of static methods: backward turns G, the gradient of the loss with respect to the op's output, into the
gradient with respect to each input, by the chain rule.

A node refers to the op that made it and an op to its inputs; the way back, from an op to its outputs, is a
weak reference. So nothing refers to itself in a circle, and the graph is freed as soon as the loss goes out of scope.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np

Array = np.ndarray


class TensorNode:
    """An array in the graph.

    Attributes:
        value: array of any shape; float32 and float64 are kept, integers become float64.
        grad: d loss / d value, of the same shape and dtype; zeros until backward() reaches it.
        source: the OpNode that made it, None for a leaf (a parameter).

    Raises:
        TypeError: the value is not made of real numbers.
    """

    __array_ufunc__ = None  # so that `array * node` comes to __rmul__ below instead of NumPy's broadcasting

    def __init__(self, value: Any, source: OpNode | None = None) -> None:
        value = np.asarray(value)
        if value.dtype.kind != "f":
            if value.dtype.kind not in "iub":
                raise TypeError(f"a TensorNode holds real numbers, not {value.dtype}")
            value = value.astype(np.float64)
        self.value: Array = value
        self.source = source

    @cached_property
    def grad(self) -> Array:
        return np.zeros_like(self.value)

    def backward(self) -> None:
        """Add d self / d node to `.grad` of this node and of every node that it was computed from.

        Raises:
            ValueError: this node is not a scalar, or an op gave a gradient of the wrong shape.
        """
        if self.value.size != 1:
            raise ValueError(f"backward() starts from a scalar loss, this node has shape {self.shape}: "
                             "reduce it first, for example with .sum()")
        # Gradients of this pass alone: a second pass must not propagate what the first one left in .grad.
        gradients: dict[TensorNode, Array] = {self: np.ones_like(self.value)}
        for node in reversed(topological_order(self)):
            for tensor, gradient in node.backward(gradients):
                # Out of place, because ops may hand one array to several inputs.
                gradients[tensor] = gradients[tensor] + gradient if tensor in gradients else gradient
        for tensor, gradient in gradients.items():
            tensor.grad = tensor.grad + gradient if "grad" in vars(tensor) else gradient

    def zero_grad(self) -> None:
        """Clear `.grad` of this node and of every node that it was computed from."""
        inputs = (tensor for node in topological_order(self) for tensor in node.inputs)
        for tensor in (self, *inputs):
            if isinstance(tensor, TensorNode):
                vars(tensor).pop("grad", None)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    def __repr__(self) -> str:
        return f"TensorNode({self.value!r}, source={self.source and self.source.op.__name__})"

    def __add__(self, other: Any) -> TensorNode: return Add.do_forward(self, other)
    def __radd__(self, other: Any) -> TensorNode: return Add.do_forward(other, self)
    def __sub__(self, other: Any) -> TensorNode: return Subtract.do_forward(self, other)
    def __rsub__(self, other: Any) -> TensorNode: return Subtract.do_forward(other, self)
    def __mul__(self, other: Any) -> TensorNode: return Multiply.do_forward(self, other)
    def __rmul__(self, other: Any) -> TensorNode: return Multiply.do_forward(other, self)
    def __truediv__(self, other: Any) -> TensorNode: return Divide.do_forward(self, other)
    def __rtruediv__(self, other: Any) -> TensorNode: return Divide.do_forward(other, self)
    def __matmul__(self, other: Any) -> TensorNode: return MatMul.do_forward(self, other)
    def __rmatmul__(self, other: Any) -> TensorNode: return MatMul.do_forward(other, self)
    def __neg__(self) -> TensorNode: return Multiply.do_forward(self, -1.0)
    def expand(self, columns: int) -> TensorNode: return Expand.do_forward(self, columns)
    def sum(self, axis: int | tuple[int, ...] | None = None) -> TensorNode: return Sum.do_forward(self, axis)
    def log(self) -> TensorNode: return Log.do_forward(self)
    def exp(self) -> TensorNode: return Exp.do_forward(self)
    def sigmoid(self) -> TensorNode: return Sigmoid.do_forward(self)
    def relu(self) -> TensorNode: return ReLU.do_forward(self)
    def tanh(self) -> TensorNode: return Tanh.do_forward(self)
    def normalize(self) -> TensorNode: return Normalize.do_forward(self)
    def log_softmax(self) -> TensorNode: return LogSoftmax.do_forward(self)
    def nll_loss(self, targets: Array) -> TensorNode: return NLLLoss.do_forward(self, targets)


class Context(SimpleNamespace):
    """What one forward leaves for its backward, as attributes: only what backward needs."""

    needs_grad: tuple[bool, ...]  # for each input, whether it is a TensorNode; False for a constant


class OpNode:
    """One application of `op`: the context its forward left, and its inputs, TensorNodes and constants."""

    def __init__(self, op: type[Op], context: Context, inputs: tuple, outputs: tuple[TensorNode, ...]):
        self.op, self.context, self.inputs = op, context, inputs
        self._outputs = [(weakref.ref(node), node.value.shape, node.value.dtype) for node in outputs]

    @property
    def outputs(self) -> tuple[TensorNode | None, ...]:
        """The TensorNodes it made; None for one that is no longer referenced."""
        return tuple(output() for output, _, _ in self._outputs)

    def backward(self, gradients: dict[Any, Array]) -> Iterator[tuple[TensorNode, Array]]:
        """From the gradients of the outputs to (input, gradient) for every input that is a TensorNode."""
        upstream = []
        for output, shape, dtype in self._outputs:
            gradient = gradients.get(output())
            upstream.append(np.zeros(shape, dtype) if gradient is None else gradient)
        results = self.op.backward(self.context, *upstream)
        results = results if isinstance(results, tuple) else (results,)
        for tensor, gradient in zip(self.inputs, results, strict=True):
            if not isinstance(tensor, TensorNode):
                continue
            if gradient is None or np.shape(gradient) != tensor.shape:
                raise ValueError(f"{self.op.__name__}.backward gave a gradient of shape {np.shape(gradient)} "
                                 f"for an input of shape {tensor.shape}")
            # A parameter's .grad is its own, free to be changed in place.
            shared = tensor.source is None and any(np.may_share_memory(gradient, array) for array in upstream)
            yield tensor, np.array(gradient, tensor.value.dtype, copy=True if shared else None)


def topological_order(root: TensorNode) -> list[OpNode]:
    """Every OpNode that `root` depends on, each after all those it depends on itself.

    A depth-first search with a stack of its own: a graph may be deeper than Python's recursion limit.
    """
    order: list[OpNode] = []
    visited: set[OpNode] = set()
    stack = [(root.source, False)]
    while stack:
        node, inputs_done = stack.pop()
        if node is None:
            continue
        if inputs_done:
            order.append(node)
        elif node not in visited:
            visited.add(node)
            stack.append((node, True))
            stack.extend((tensor.source, False) for tensor in node.inputs if isinstance(tensor, TensorNode))
    return order


def unbroadcast(gradient: Array, shape: tuple[int, ...]) -> Array:
    """Sum a gradient over the axes along which NumPy broadcast an input of this shape.

    One entry of the input went into many of the output, so its gradient is the sum of theirs.
    """
    if np.shape(gradient) == shape:
        return gradient
    new = gradient.ndim - len(shape)
    stretched = tuple(new + axis for axis, size in enumerate(shape) if size == 1)
    return gradient.sum(axis=(*range(new), *stretched)).reshape(shape)


class Op:
    """A differentiable function. A subclass defines forward and backward; do_forward calls and records it."""

    @staticmethod
    def forward(context: Context, *inputs: Any, **_: Any) -> Any:
        """From the inputs' arrays to the output, or a tuple of outputs."""
        raise NotImplementedError
    @staticmethod
    def backward(context: Context, *grads: Any, **_: Any) -> Any:
        """From the gradient of each output to that of each input, a tuple if several; None for a constant."""
        raise NotImplementedError

    @classmethod
    def do_forward(cls, *inputs: Any) -> Any:
        """Run forward on the inputs and record it; whatever is not a TensorNode is a constant.

        Returns a TensorNode, or a tuple of them where forward returns a tuple.
        """
        context = Context(needs_grad=tuple(isinstance(x, TensorNode) for x in inputs))
        values = cls.forward(context, *(x.value if isinstance(x, TensorNode) else x for x in inputs))
        outputs = tuple(TensorNode(value) for value in (values if isinstance(values, tuple) else (values,)))
        node = OpNode(cls, context, inputs, outputs)
        for output in outputs:
            output.source = node
        return outputs if isinstance(values, tuple) else outputs[0]


class Add(Op):
    """X + Y, broadcasting as NumPy does: a bias of shape (M,) adds to every row of (N, M)."""
    @staticmethod
    def forward(context: Context, x: Array, y: Array) -> Array:
        context.shapes = np.shape(x), np.shape(y)
        return x + y
    @staticmethod
    def backward(context: Context, g: Array) -> tuple[Array, Array]:
        return unbroadcast(g, context.shapes[0]), unbroadcast(g, context.shapes[1])


class Subtract(Op):
    """X - Y, broadcasting."""
    @staticmethod
    def forward(context: Context, x: Array, y: Array) -> Array:
        context.shapes = np.shape(x), np.shape(y)
        return x - y
    @staticmethod
    def backward(context: Context, g: Array) -> tuple[Array, Array]:
        return unbroadcast(g, context.shapes[0]), unbroadcast(-g, context.shapes[1])


class Multiply(Op):
    """X * Y element by element, broadcasting. dX = G Y, dY = G X."""
    @staticmethod
    def forward(context: Context, x: Array, y: Array) -> Array:
        context.x, context.y = x, y
        return x * y
    @staticmethod
    def backward(context: Context, g: Array) -> tuple[Array, Array]:
        x, y = context.x, context.y
        return unbroadcast(g * y, np.shape(x)), unbroadcast(g * x, np.shape(y))


class Divide(Op):
    """X / Y element by element, broadcasting. dX = G / Y, dY = -G X / Y^2."""
    @staticmethod
    def forward(context: Context, x: Array, y: Array) -> Array:
        context.x, context.y = x, y
        return x / y
    @staticmethod
    def backward(context: Context, g: Array) -> tuple[Array, Array]:
        x, y = context.x, context.y
        return unbroadcast(g / y, np.shape(x)), unbroadcast(-g * x / (y * y), np.shape(y))


class MatMul(Op):
    """X W for X of shape (N, D) and W of shape (D, M). dX = G W^T, dW = X^T G.

    The one op that asks which gradients are wanted: the images' would be a matrix product for nothing.
    """
    @staticmethod
    def forward(context: Context, x: Array, w: Array) -> Array:
        if np.ndim(x) != 2 or np.ndim(w) != 2 or x.shape[1] != w.shape[0]:
            raise ValueError(f"MatMul wants shapes (N, D) and (D, M), not {np.shape(x)} and {np.shape(w)}")
        context.w = w if context.needs_grad[0] else None
        context.x = x if context.needs_grad[1] else None
        return x @ w
    @staticmethod
    def backward(context: Context, g: Array) -> tuple[Array | None, Array | None]:
        dx = g @ context.w.T if context.needs_grad[0] else None
        dw = context.x.T @ g if context.needs_grad[1] else None
        return dx, dw


class Expand(Op):
    """The outer product of x with ones: (N,) becomes (N, columns), every column x. dx_i = sum_j G_ij."""
    @staticmethod
    def forward(context: Context, x: Array, columns: int) -> Array:
        return np.multiply.outer(x, np.ones(columns, x.dtype))
    @staticmethod
    def backward(context: Context, g: Array) -> tuple[Array, None]: return g.sum(axis=-1), None


class Sum(Op):
    """The sum over one axis, several, or all. Every summand gets the gradient of its sum."""
    @staticmethod
    def forward(context: Context, x: Array, axis: int | tuple[int, ...] | None = None) -> Array:
        context.shape = x.shape
        context.axis = tuple(range(x.ndim)) if axis is None else axis
        return x.sum(axis=axis)
    @staticmethod
    def backward(context: Context, g: Array) -> tuple[Array, None]:
        return np.broadcast_to(np.expand_dims(g, context.axis), context.shape), None


class Log(Op):
    """The natural logarithm, for x > 0. dX = G / X."""
    @staticmethod
    def forward(context: Context, x: Array) -> Array:
        context.x = x
        return np.log(x)
    @staticmethod
    def backward(context: Context, g: Array) -> Array: return g / context.x


class Exp(Op):
    """Y = e^X. dX = G Y."""
    @staticmethod
    def forward(context: Context, x: Array) -> Array:
        context.y = np.exp(x)
        return context.y
    @staticmethod
    def backward(context: Context, g: Array) -> Array: return g * context.y


class Sigmoid(Op):
    """Y = 1 / (1 + e^-X). dX = G Y (1 - Y)."""
    @staticmethod
    def forward(context: Context, x: Array) -> Array:
        with np.errstate(over="ignore"):  # e^-x overflows far below 0, where 1 / inf = 0 is right
            context.y = 1 / (1 + np.exp(-x))
        return context.y
    @staticmethod
    def backward(context: Context, g: Array) -> Array: return g * context.y * (1 - context.y)


class ReLU(Op):
    """max(0, X). dX = G where X > 0, else 0; also at X = 0, where any slope in [0, 1] is a subgradient."""
    @staticmethod
    def forward(context: Context, x: Array) -> Array:
        context.positive = x > 0
        return np.maximum(x, 0)
    @staticmethod
    def backward(context: Context, g: Array) -> Array: return g * context.positive


class Tanh(Op):
    """Y = tanh X. dX = G (1 - Y^2)."""
    @staticmethod
    def forward(context: Context, x: Array) -> Array:
        context.y = np.tanh(x)
        return context.y
    @staticmethod
    def backward(context: Context, g: Array) -> Array: return g * (1 - context.y * context.y)


class Normalize(Op):
    """Each row divided by its sum: Y_ij = X_ij / S_i. dX_ij = G_ij / S_i - sum_k G_ik X_ik / S_i^2.

    S_i holds every entry of row i, so X_ij moves all Y_ik: hence the sum over k.
    """
    @staticmethod
    def forward(context: Context, x: Array) -> Array:
        context.s = x.sum(axis=-1, keepdims=True)
        context.y = x / context.s
        return context.y
    @staticmethod
    def backward(context: Context, g: Array) -> Array:
        return (g - (g * context.y).sum(axis=-1, keepdims=True)) / context.s


class LogSoftmax(Op):
    """Y_ij = X_ij - log sum_k e^X_ik, each row apart. dX_ij = G_ij - e^Y_ij sum_k G_ik.

    The row's maximum is subtracted first, which changes nothing but keeps e^X finite.
    """
    @staticmethod
    def forward(context: Context, x: Array) -> Array:
        shifted = x - x.max(axis=-1, keepdims=True)
        context.y = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
        return context.y
    @staticmethod
    def backward(context: Context, g: Array) -> Array:
        return g - np.exp(context.y) * g.sum(axis=-1, keepdims=True)


class NLLLoss(Op):
    """Mean negative log-likelihood of the targets: -1/N sum_i X[i, t_i], X being log-probabilities (N, C).

    dX[i, t_i] = -G / N, all else 0. Targets are constants: integers in 0..C-1, of shape (N,).
    """
    @staticmethod
    def forward(context: Context, x: Array, targets: Array) -> Array:
        targets = np.asarray(targets)
        if x.ndim != 2 or targets.shape != x.shape[:1] or targets.dtype.kind not in "iu":
            raise ValueError("NLLLoss wants log-probabilities (N, C) and integer targets (N,), "
                             f"not {x.shape} and {targets.dtype} {targets.shape}")
        if targets.size == 0 or targets.min() < 0 or targets.max() >= x.shape[1]:
            raise ValueError(f"NLLLoss wants targets in 0..{x.shape[1] - 1}, not {np.unique(targets)}")
        context.shape, context.targets = x.shape, targets
        return -x[np.arange(len(x)), targets].mean()
    @staticmethod
    def backward(context: Context, g: Array) -> tuple[Array, None]:
        dx = np.zeros(context.shape, g.dtype)
        dx[np.arange(len(dx)), context.targets] = -g / len(dx)
        return dx, None
