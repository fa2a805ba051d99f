"""The layers of a multi-layer perceptron, and a convolution, in NumPy (questions 1.1 and 1.2).

    import numpy as np
    from modules import LinearModule
    layer = LinearModule(3072, 100)
    y = layer.forward(np.ones((200, 3072), np.float32))  # (200, 100)
    dx = layer.backward(np.ones_like(y))                 # (200, 3072); layer.grads is filled

Every module has `forward(x)`, which keeps in the instance what backward needs, and `backward(dout)`, which
takes dL/dY and returns dL/dX. Neither changes the arrays it is given; between the two calls the caller does not
either. Modules compute in the dtype they are given: float32 input with float32 parameters gives float32;
integers are a TypeError.

Names follow the assignment: X and Y are input and output, W and b weight and bias, T targets, S samples in a
batch, M features in, N features out, C classes, ∘ is the element-wise product, 1 a vector of ones.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import DTypeLike

Array = np.ndarray


def _normal(rng: np.random.Generator | None, std: float, shape: tuple, dtype: DTypeLike) -> Array:
    """Draws of N(0, std²), from NumPy's global generator (`np.random.seed` seeds it) where rng is None."""
    return (np.random if rng is None else rng).normal(0.0, std, shape).astype(dtype)


def _check_dtype(module: object, x: Array) -> None:
    """Integers wrap around in softmax's x - max(x), and NumPy gives the exponential of a uint8 as a float16."""
    if (dtype := np.asarray(x).dtype).kind != "f":
        raise TypeError(f"{type(module).__name__} expects floating-point numbers, got {dtype}: cast them first, "
                        "as in x.astype(np.float32)")


class LinearModule:
    """Y = X Wᵀ + 1 b (question 1.1a).

    Args:
        in_features: M.
        out_features: N.
        weight_std: standard deviation of the initial weights, whose mean is 0. The bias starts at zero.
        rng: generator of the initial weights; None takes NumPy's global one.
        dtype: of the parameters.

    Attributes:
        params: {'weight': W of shape (N, M), 'bias': b of shape (1, N)}.
        grads: dL/dW and dL/db under the same keys, in the same shapes; zero until backward has run. Each backward
            fills these arrays again: copy what must outlive the next one.
    """

    def __init__(self, in_features: int, out_features: int, *, weight_std: float = 0.0001,
                 rng: np.random.Generator | None = None, dtype: DTypeLike = np.float32) -> None:
        self.params = {
            "weight": _normal(rng, weight_std, (out_features, in_features), dtype),
            "bias": np.zeros((1, out_features), dtype),
        }
        self.grads = {key: np.zeros_like(value) for key, value in self.params.items()}

    def forward(self, x: Array) -> Array:
        """Y of shape (S, N) from x of shape (S, M). Raises ValueError on any other shape."""
        _check_dtype(self, x)
        weight = self.params["weight"]
        if x.ndim != 2 or x.shape[1] != weight.shape[1]:
            raise ValueError(f"LinearModule expects an input of shape (S, {weight.shape[1]}), got {x.shape}")
        self.x = x
        y = x @ weight.T
        y += self.params["bias"]
        return y

    def backward(self, dout: Array, input_grad: bool = True) -> Array | None:
        """Fills grads and returns dL/dX (question 1.1a).

            dL/dW = (dL/dY)ᵀ X        dL/db = 1ᵀ dL/dY        dL/dX = dL/dY W

        Args:
            dout: dL/dY of shape (S, N).
            input_grad: False leaves dL/dX out, as a network's first layer can, and returns None.

        Returns:
            dL/dX of shape (S, M).
        """
        np.matmul(dout.T, self.x, out=self.grads["weight"])  # in place: new memory costs as much as the product
        np.sum(dout, axis=0, keepdims=True, out=self.grads["bias"])
        return dout @ self.params["weight"] if input_grad else None


class ELUModule:
    """ELU with alpha = 1 (Clevert et al. 2016): h(x) = x for x >= 0, exp(x) - 1 below, element by element."""

    def forward(self, x: Array) -> Array:
        """h(x), of the shape of x, which is any."""
        _check_dtype(self, x)
        negative = np.minimum(x, 0)  # exp of it cannot overflow
        self.slope = np.exp(negative)
        # tanh(x/2) (exp(x) + 1) is exp(x) - 1 without its cancellation near 0, and faster than np.expm1. It is
        # never below x, and 0 for positive x.
        return np.maximum(x, np.tanh(negative / 2) * (self.slope + 1))

    def backward(self, dout: Array) -> Array:
        """dL/dX = dL/dY ∘ h'(X), where h'(x) = exp(min(x, 0)), so that h'(0) = 1 (question 1.1b)."""
        return dout * self.slope


class ReLUModule:
    """h(x) = max(0, x), element by element."""

    def forward(self, x: Array) -> Array:
        """h(x), of the shape of x, which is any."""
        _check_dtype(self, x)
        self.x = x
        return np.maximum(x, 0)

    def backward(self, dout: Array) -> Array:
        """dL/dX = dL/dY ∘ [X > 0], so that h'(0) = 0 (question 1.1b). All of the shape of x."""
        return dout * (self.x > 0)


class LeakyReLUModule:
    """h(x) = x for x > 0, neg_slope x below, element by element: what the edition of 2019 asked for in ELU's place."""

    def __init__(self, neg_slope: float = 0.02) -> None:
        self.neg_slope = neg_slope

    def forward(self, x: Array) -> Array:
        """h(x), of the shape of x, which is any."""
        _check_dtype(self, x)
        self.x = x
        return np.where(x > 0, x, self.neg_slope * x)

    def backward(self, dout: Array) -> Array:
        """dL/dX = dL/dY ∘ h'(X), so that h'(0) = neg_slope (question 1.1b). All of the shape of x."""
        return np.where(self.x > 0, dout, self.neg_slope * dout)


class TanhModule:
    """h(x) = tanh(x), element by element."""

    def forward(self, x: Array) -> Array:
        """h(x), of the shape of x, which is any."""
        _check_dtype(self, x)
        self.y = np.tanh(x)
        return self.y

    def backward(self, dout: Array) -> Array:
        """dL/dX = dL/dY ∘ (1 - Y²) (question 1.1b). All of the shape of x."""
        return dout * (1 - self.y * self.y)


class SigmoidModule:
    """h(x) = 1 / (1 + exp(-x)), element by element."""

    def forward(self, x: Array) -> Array:
        """h(x), of the shape of x, which is any."""
        _check_dtype(self, x)
        e = np.exp(-np.abs(x))  # never above 1: no overflow on either side
        self.y = np.where(x >= 0, 1, e) / (1 + e)
        return self.y

    def backward(self, dout: Array) -> Array:
        """dL/dX = dL/dY ∘ Y ∘ (1 - Y) (question 1.1b). All of the shape of x."""
        return dout * self.y * (1 - self.y)


class SoftMaxModule:
    """Y_ij = exp(X_ij) / Σ_k exp(X_ik): each row of logits becomes a row of probabilities (question 1.1c)."""

    def forward(self, x: Array) -> Array:
        """Probabilities of shape (S, C) from logits x of shape (S, C)."""
        _check_dtype(self, x)
        y = np.exp(x - x.max(axis=1, keepdims=True))  # the same quotient, and no exponent above 0
        y /= y.sum(axis=1, keepdims=True)
        self.y = y
        return y

    def backward(self, dout: Array) -> Array:
        """dL/dX = Y ∘ (dL/dY - ((dL/dY ∘ Y) 1) 1ᵀ) from dout, both of shape (S, C) (question 1.1c).

        Row by row that is the Jacobian, diag(y) - y yᵀ, times the row of dL/dY.
        """
        return self.y * (dout - (dout * self.y).sum(axis=1, keepdims=True))


class CrossEntropyModule:
    """L = -1/S Σ_ik T_ik log(X_ik), the mean over the batch (question 1.1c ii).

    Probabilities are clipped below at the smallest normal number of their dtype, so that loss and gradient
    stay finite at p = 0: a sample's loss never exceeds 87.4 in float32, 708.4 in float64. Behind a softmax that has
    come out as 0 at the target, the gradient of the logits is 0, too: such a sample teaches nothing.
    """

    def forward(self, x: Array, y: Array) -> float:
        """The loss, a number, from probabilities x of shape (S, C) and one-hot targets y of shape (S, C)."""
        x, y = self._checked(x, y)
        return -float(np.vdot(y, np.log(x))) / len(x)

    def backward(self, x: Array, y: Array) -> Array:
        """dL/dX = -1/S T / X, element by element, of shape (S, C), from the x and y of `forward`."""
        x, y = self._checked(x, y)
        return y / (-len(x) * x)

    def _checked(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Clipped probabilities, and targets in their dtype, lest float64 targets make float64 gradients."""
        _check_dtype(self, x)
        if x.ndim != 2 or x.shape != np.shape(y):
            raise ValueError("CrossEntropyModule expects probabilities and one-hot targets of one shape "
                             f"(S, C), got {x.shape} and {np.shape(y)}")
        return np.maximum(x, np.finfo(x.dtype).tiny), np.asarray(y, x.dtype)


class Conv2dModule:
    """Valid cross-correlation with stride 1 (question 1.1d): C_in input channels, C_out output channels.

        Y_nohw = b_o + Σ_cij X_n,c,h+i,w+j K_ocij

    For one 3x3 image X and one 2x2 kernel K: Y21 = X21 K11 + X22 K12 + X31 K21 + X32 K22.

    Args:
        in_channels: C_in.
        out_channels: C_out.
        kernel_size: kh = kw, or the pair (kh, kw).
        weight_std, rng, dtype: as in LinearModule.

    Attributes:
        params: {'weight': K of shape (C_out, C_in, kh, kw), 'bias': b of shape (C_out,)}.
        grads: dL/dK and dL/db under the same keys, in the same shapes; zero until backward has run.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int | tuple[int, int], *,
                 weight_std: float = 0.0001, rng: np.random.Generator | None = None,
                 dtype: DTypeLike = np.float32) -> None:
        kh, kw = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        self.params = {
            "weight": _normal(rng, weight_std, (out_channels, in_channels, kh, kw), dtype),
            "bias": np.zeros(out_channels, dtype),
        }
        self.grads = {key: np.zeros_like(value) for key, value in self.params.items()}

    def forward(self, x: Array) -> Array:
        """Y of shape (S, C_out, H', W'), H' = H - kh + 1, W' = W - kw + 1, from x of shape (S, C_in, H, W).

        Raises ValueError on any other shape, and on images smaller than the kernel.
        """
        _check_dtype(self, x)
        weight = self.params["weight"]
        _, in_channels, kh, kw = weight.shape
        if x.ndim != 4 or x.shape[1] != in_channels or x.shape[2] < kh or x.shape[3] < kw:
            raise ValueError(f"Conv2dModule expects an input of shape (S, {in_channels}, >= {kh}, >= {kw}), "
                             f"got {x.shape}")
        self.windows = sliding_window_view(x, (kh, kw), axis=(2, 3))  # (S, C_in, H', W', kh, kw), a view
        # tensordot lays the windows out as a matrix, a row a position, and multiplies once.
        y = np.tensordot(self.windows, weight, axes=((1, 4, 5), (1, 2, 3)))  # (S, H', W', C_out)
        y += self.params["bias"]
        return y.transpose(0, 3, 1, 2)

    def backward(self, dout: Array, input_grad: bool = True) -> Array | None:
        """Fills grads and returns dL/dX (question 1.1d).

            dL/dK_ocij = Σ_nhw dL/dY_nohw X_n,c,h+i,w+j        dL/db_o = Σ_nhw dL/dY_nohw
            dL/dX_ncuv = Σ_oij dL/dY_n,o,u-i,v-j K_ocij        (dL/dY is 0 outside its borders)

        For one 3x3 image and one 2x2 kernel: dL/dX12 = dL/dY11 K12 + dL/dY12 K11 and
        dL/dK11 = dL/dY11 X11 + dL/dY12 X12 + dL/dY21 X21 + dL/dY22 X22.

        Args:
            dout: dL/dY of shape (S, C_out, H', W').
            input_grad: False leaves dL/dX out and returns None.

        Returns:
            dL/dX of shape (S, C_in, H, W).
        """
        weight = self.params["weight"]
        self.grads["weight"] = np.tensordot(dout, self.windows, axes=((0, 2, 3), (0, 2, 3)))
        self.grads["bias"] = dout.sum(axis=(0, 2, 3))
        if not input_grad:
            return None
        kh, kw = weight.shape[2:]
        padded = np.pad(dout, ((0, 0), (0, 0), (kh - 1, kh - 1), (kw - 1, kw - 1)))
        windows = sliding_window_view(padded, (kh, kw), axis=(2, 3))  # (S, C_out, H, W, kh, kw)
        flipped = weight[:, :, ::-1, ::-1]  # u - i counts down where the window counts up
        dx = np.tensordot(windows, flipped, axes=((1, 4, 5), (0, 2, 3)))  # (S, H, W, C_in)
        return dx.transpose(0, 3, 1, 2)


ACTIVATIONS = {"elu": ELUModule, "relu": ReLUModule, "tanh": TanhModule, "sigmoid": SigmoidModule}
