"""What the hand-ins of a class are tried on: inputs, weights, sizes, flags and hidden images, all drawn from one seed.

A class has a secret seed of its own (`classroom`), so that answers cannot be written down beforehand. `--check` and the
handout have the public one. No verdict depends on the seed: numbers are drawn so that every mistake shows.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
PUBLIC = "public"
EPS = {"value": 1e-5, "large_eps": 0.5}  # of layer normalization, by the probe's name


@dataclass(frozen=True)
class Inputs:
    """Everything that is drawn from `seed`. Each name has a generator of its own, which tells nothing of the others."""

    seed: str = PUBLIC

    def draw(self, name: str) -> np.random.Generator:
        return np.random.default_rng(list(hashlib.sha256(f"{self.seed}: {name}".encode()).digest()))

    @functools.cached_property
    def modules(self) -> Arrays:
        """Question 1.2, for S samples, M features, N outputs and classes, all different.

        x, other (S, M), weight (N, M), bias (N,), dout (S, N), wide_dout (S, M): linear modules. kinks: ELU near 0 and
        on both sides; zero: at 0. logits, p, targets (S, N): softmax, and the loss of probabilities. large: inputs of
        about ±1000. zero_p and zero_t: probabilities of 0 that are right, wrong_p and wrong_t: one that is wrong.
        """
        rng = self.draw("1.2 modules")
        normal, uniform = rng.standard_normal, rng.uniform
        s, m, n = (int(size) for size in rng.permutation(np.arange(4, 9))[:3])
        near, far = [-1e-3, 1e-3] * uniform(0.5, 1.5, 2), uniform(0.3, 3, 6) * [1, 1, -1, -1, -1, 1]
        high, low, even = uniform(900, 1100, 3)
        large = np.stack([rng.permutation(row) for row in (
            [high, -low, 1.0], [-high, uniform(0, 2) - high, -2 * low], [even, even - uniform(0.2, 1), even - 1.5])])
        share, order = uniform(0.2, 0.4), rng.permutation(3)
        return {"x": normal((s, m)), "other": normal((s, m)), "weight": normal((n, m)), "bias": normal(n),
                "dout": normal((s, n)), "wide_dout": normal((s, m)),
                "kinks": rng.permutation(np.concatenate([near, far])).reshape(2, 4), "kinks_dout": apart(rng, (2, 4)),
                "zero": np.zeros((1, 3)), "zero_dout": apart(rng, (1, 3)),
                "logits": 2 * normal((s, n)), "logits_dout": normal((s, n)),
                "p": rng.dirichlet(np.full(n, 3.0), s), "targets": np.eye(n)[rng.integers(n, size=s)],
                "large": large, "large_dout": apart(rng, large.shape),
                "zero_p": np.array([[0.0, 1.0, 0.0], [share, 0.0, 1 - share]])[:, order],
                "zero_t": np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])[:, order],
                "wrong_p": np.array([[0.0, 1.0]]), "wrong_t": np.array([[1.0, 0.0]])}

    @functools.cached_property
    def initial(self) -> dict[str, int]:
        """Features in and out of a linear module whose first weights are measured."""
        n_in, n_out = (int(size) for size in self.draw("1.2 initial").integers((360, 260), (440, 340)))
        return {"in": n_in, "out": n_out}

    @functools.cached_property
    def lengths(self) -> list[list[int]]:
        """(samples, features) to count instructions at: a warm-up, few of both, more samples, more features."""
        samples, features = (int(size) for size in self.draw("1.2 lengths").permutation([3, 4, 5])[:2])
        return [[samples, features], [samples, features], [16 * samples, features], [samples, 16 * features]]

    @functools.cached_property
    def shifts(self) -> dict[str, float]:
        """Of the functions that stand in for the activations while the calls of the MLP are watched."""
        elu, softmax = self.draw("1.2 shifts").uniform((0.6, 1.8), (1.4, 2.6))
        return {"ELUModule": float(elu), "SoftMaxModule": float(softmax)}

    @functools.cached_property
    def layer_norm(self) -> Arrays:
        """Questions 3.1 and 3.2: x and dout (S, M), gamma and beta (M,); narrow_...: of two features; mix (4,)."""
        rng = self.draw("3 layer_norm")
        s, m = (int(size) for size in rng.permutation([4, 6, 8, 10])[:2])  # S is not M - 1, as Bessel has it
        x, dout = rng.standard_normal((2, s, m))
        middle, half = rng.standard_normal(3), rng.uniform(0.3, 1.5, 3) * rng.permutation([1, 1, -1])
        return {"x": x, "dout": dout, "gamma": rng.uniform(0.5, 2, m), "beta": rng.standard_normal(m),
                "narrow_x": np.stack([middle - half, middle + half], axis=1),
                "narrow_gamma": apart(rng, (2,)), "narrow_beta": rng.standard_normal(2), "narrow_dout": np.ones((3, 2)),
                "mix": apart(rng, (4,)) * [1, 1, 1, 20]}

    @functools.cached_property
    def neurons(self) -> int:
        """Of a module of layer normalization that is shown right and wrong inputs."""
        return int(self.draw("3 neurons").integers(5, 9))

    @functools.cached_property
    def offered(self) -> list[tuple[str, tuple[int, ...]]]:
        """Shapes that such a module is shown, in this order: (what is wrong with them, shape).

        '' for nothing, 'features' for another number of them, 'dimensions' for one or three dimensions. Those of (n, 1)
        and (n, rows) hold the right number of numbers, or the right number in the wrong dimension.
        """
        rng, n = self.draw("3 offered"), self.neurons
        a, b, c, d, e, f = (int(size) for size in rng.permutation([2, 3, 4, n + 1, n + 2, n + 3]))
        found = [*(("", (rows, n)) for rows in (a, b, c, d)),
                 *(("features", shape) for shape in ((d, 1), (n, 1), (n, b), (e, n + 1), (f, n - 1), (a, 2 * n))),
                 *(("dimensions", shape) for shape in ((2, a, n), (1, c, n), (n,), (b, 1, n)))]
        return [found[i] for i in rng.permutation(len(found))]

    @functools.cached_property
    def shown(self) -> Arrays:
        """Numbers of the shapes `offered`, by their place."""
        rng = self.draw("3 shown")
        return {str(i): rng.standard_normal(shape) for i, (_, shape) in enumerate(self.offered)}

    @functools.cached_property
    def networks(self) -> dict[str, list[int]]:
        """Widths of the MLPs with 0, 1 and 3 hidden layers: inputs, hidden units, classes, all different."""
        _, inputs, classes, *hidden = self._sizes
        return {"mlp_0": [inputs, classes], "mlp_1": [inputs, hidden[0], classes],
                "mlp_3": [inputs, *hidden, classes]}

    @property
    def equal_widths(self) -> list[int]:
        """Of an MLP with three hidden layers of one width."""
        inputs, hidden, classes = self.networks["mlp_1"]
        return [inputs, hidden, hidden, hidden, classes]

    @property
    def samples(self) -> int:
        """Of the MLPs' inputs; no width is the same."""
        return self._sizes[0]

    @functools.cached_property
    def _sizes(self) -> list[int]:
        return [int(size) for size in self.draw("networks").permutation(np.arange(3, 10))[:6]]

    def layers(self, name: str) -> range:
        return range(len(self.networks[name]) - 1)

    @functools.cache  # noqa: B019 (there is one for a class)
    def network(self, name: str) -> Arrays:
        """Input `x`, upstream gradient `dout`, and `weight<i>` (out, in) and `bias<i>` (out,) of each layer.

        Weights keep the size of what passes: with larger ones the softmax may saturate, and its gradients then lose in
        float32 the digits that they are compared to. The first two units of a layer are opposite, so that one of
        them is below 0, where ELU is not the identity.
        """
        sizes, normal = self.networks[name], self.draw(name).standard_normal
        found = {"x": normal((self.samples, sizes[0])), "dout": normal((self.samples, sizes[-1]))}
        for i, (n_in, n_out) in enumerate(pairwise(sizes)):
            weight, bias = normal((n_out, n_in)) / np.sqrt(n_in), 0.5 * normal(n_out)
            weight[1], bias[1] = -weight[0], -bias[0]
            found |= {f"weight{i}": weight, f"bias{i}": bias}
        return found

    @functools.cached_property
    def images(self) -> np.ndarray:
        """Of the ConvNet: float32 (B, 3, 32, 32)."""
        rng = self.draw("4a images")
        return rng.standard_normal((rng.integers(2, 5), 3, 32, 32)).astype(np.float32)

    @functools.cached_property
    def weights(self) -> int:
        """The number from which `worker.weights` makes the ConvNet's parameters."""
        return int(self.draw("4a weights").integers(2**62))

    @functools.cached_property
    def other_sizes(self) -> list[int]:
        """Images, their channels and the number of classes of another ConvNet."""
        return [int(size) for size in self.draw("4a sizes").integers((2, 1, 11), (10, 3, 41))]

    @functools.cached_property
    def training(self) -> Arrays:
        """x (4, 3, 32, 32) and labels (4,), of which the ConvNet learns."""
        rng = self.draw("4a training")
        return {"x": (40 * rng.standard_normal((4, 3, 32, 32))).astype(np.float32), "labels": rng.integers(10, size=4)}

    @functools.cached_property
    def flags(self) -> dict[str, Any]:
        """With which every script is run."""
        rng = self.draw("flags")
        hidden = ",".join(str(width) for width in rng.permutation([5, 6, 7, 8, 9])[:2])
        batch_size = rng.choice([size for size in range(33, 48) if size != 40])  # no divisor of 10,000
        return {"dnn_hidden_units": hidden, "learning_rate": round(float(rng.uniform(3e-4, 6e-4)), 6),
                "max_steps": 7, "batch_size": int(batch_size), "eval_freq": 3}

    @functools.cached_property
    def bright(self) -> int:
        """How many of the 10,000 test images have a bright mark: whoever evaluates on all of them meets so many."""
        return int(self.draw("bright").integers(4000, 6000))

    @functools.cached_property
    def scores(self) -> Arrays:
        """For a script's accuracy function: predicted (S, 10), labels (S,), of which `right` are predicted."""
        rng = self.draw("scores")
        number = int(rng.choice([7, 9, 11]))  # so that no count of ten classes is the same fraction
        right = int(rng.integers(number // 2, number - 1))
        labels = rng.integers(10, size=number)
        predicted = rng.normal(size=(number, 10)).astype(np.float32)
        predicted[np.arange(number), (labels + (np.arange(number) >= right)) % 10] = 6
        return {"predicted": predicted, "labels": labels}


def apart(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers of both signs, none of them near 0."""
    return rng.uniform(0.4, 2, shape) * rng.choice([-1, 1], shape)
