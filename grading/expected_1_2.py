"""What is right in question 1.2, and what well-known mistakes give: the inputs under `oracle`.

Gradients are central differences, so that no derivation of ours is taken as right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from grading import expected_mlp, oracle
from grading.inputs import Inputs

Array = np.ndarray
Named = dict[str, Array]
ONE = np.ones(())


def values(inputs: Inputs) -> Named:
    """Arrays by name."""
    given = inputs.modules
    parts = linear(given) | elu(given) | softmax(given) | loss(given) | state(given) | mlps(inputs)
    return {f"1.2 {name}": np.asarray(value, float) for name, value in parts.items()}


def named(name: str, right: Array, **mistakes: Array) -> Named:
    """{name: right, 'name: a mistake': ...}; underscores of a mistake's name are spaces."""
    return {name: right} | {f"{name}: {mistake.replace('_', ' ')}": value for mistake, value in mistakes.items()}


def linear(inputs: Mapping[str, Array]) -> Named:
    x, weight, bias, dout = (inputs[key] for key in ("x", "weight", "bias", "dout"))
    dx, dweight, dbias = linear_gradients(x, weight, bias, dout)
    dbias = dbias.reshape(1, -1)  # the shape that the handout asks for, and that a message shows
    product, samples = x @ weight.T, len(x)
    return (named("linear forward", oracle.linear(x, weight, bias), bias_not_added=product,
                  bias_subtracted=product - bias)
            | named("linear input", dx, over_the_batch=dx / samples)
            | named("linear weight", dweight, over_the_batch=dweight / samples, sign=-dweight)
            | named("linear bias", dbias, over_the_batch=dbias / samples, features=dout.sum(axis=1),
                    both_axes=np.full(dbias.shape, dout.sum())))


def linear_gradients(x: Array, weight: Array, bias: Array, dout: Array) -> tuple[Array, Array, Array]:
    """Of the sum of dout times the linear module's output: by its input, its weight and its bias."""
    return (oracle.central_difference(lambda value: oracle.linear(value, weight, bias), x, dout),
            oracle.central_difference(lambda value: oracle.linear(x, value, bias), weight, dout),
            oracle.central_difference(lambda value: oracle.linear(x, weight, value), bias, dout))


def elu(inputs: Mapping[str, Array]) -> Named:
    x, dout, large, zero = inputs["kinks"], inputs["kinks_dout"], inputs["large"], inputs["zero"]
    below = np.expm1(np.minimum(x, 0))
    gradient = oracle.central_difference(oracle.elu, x, dout)
    return (named("elu forward", oracle.elu(x), relu=np.maximum(x, 0), no_minus_one=np.where(x >= 0, x, below + 1))
            | named("elu input", gradient, relu=np.where(x >= 0, dout, 0),
                    value=np.where(x >= 0, dout, dout * below), alone=gradient / dout)
            | named("elu_zero input", oracle.central_difference(oracle.elu, zero, inputs["zero_dout"]),
                    zero=np.zeros(zero.shape))
            | named("elu_large forward", oracle.elu(large))
            | named("elu_large input", oracle.central_difference(oracle.elu, large, inputs["large_dout"])))


def softmax(inputs: Mapping[str, Array]) -> Named:
    x, dout, large = inputs["logits"], inputs["logits_dout"], inputs["large"]
    y, wrong, following = oracle.softmax(x), {}, {}
    for shift, e in (("", np.exp(x)), (" shifted", np.exp(x - x.max(axis=1, keepdims=True)))):
        for kind, axis in (("columns", 0), ("whole batch", None)):
            p = wrong[f"{kind}{shift}"] = e / e.sum(axis=axis)
            for way, summed in (("rows", 1), ("alike", axis)):
                following[f"{kind}{shift} {way}"] = p * (dout - (dout * p).sum(axis=summed, keepdims=True))
    return (named("softmax forward", y, **wrong)
            | named("softmax input", oracle.central_difference(oracle.softmax, x, dout), elementwise=dout * y,
                    diagonal=dout * y * (1 - y), over_the_batch=y * (dout - (dout * y).sum(axis=0)),
                    whole_batch=y * (dout - (dout * y).sum()), **following)
            | named("softmax_one forward", oracle.softmax(x[:1]))
            | named("softmax_one input", oracle.central_difference(oracle.softmax, x[:1], dout[:1]))
            | named("softmax_large forward", oracle.softmax(large))
            | named("softmax_large input", oracle.central_difference(oracle.softmax, large, inputs["large_dout"])))


def loss(inputs: Mapping[str, Array]) -> Named:
    p, targets = inputs["p"], inputs["targets"]

    def gradient(p: Array, targets: Array) -> Array:
        function: Callable[[Array], Array] = lambda x: oracle.cross_entropy(x, targets)  # noqa: E731
        return oracle.central_difference(function, p, ONE)

    value, dx, samples = oracle.cross_entropy(p, targets), gradient(p, targets), len(p)
    zero_p, zero_t = inputs["zero_p"], inputs["zero_t"]
    classes = p.shape[1]
    return (named("loss forward", value, summed=value * samples, sign=-value, classes=value / classes,
                  base_2=value / np.log(2), base_10=value / np.log(10))
            | named("loss input", dx, summed=dx * samples, twice=dx / samples, with_softmax=(p - targets) / samples,
                    sign=-dx, classes=dx / classes, summed_classes=dx * samples / classes)
            | named("loss_one forward", oracle.cross_entropy(p[:1], targets[:1]))
            | named("loss_one input", gradient(p[:1], targets[:1]))
            | named("loss_zero forward", -np.log(zero_p[zero_t == 1]).sum() / len(zero_p)))


def state(inputs: Mapping[str, Array]) -> Named:
    x, weight, bias, dout = (inputs[key] for key in ("x", "weight", "bias", "dout"))
    dx, dweight, _ = linear_gradients(x, weight, bias, dout)
    wide = inputs["wide_dout"]
    return {"state LinearModule input": dx, "state LinearModule weight": dweight,
            "state ELUModule input": oracle.central_difference(oracle.elu, x, wide),
            "state SoftMaxModule input": oracle.central_difference(oracle.softmax, x, wide)}


def mlps(inputs: Inputs) -> Named:
    found: Named = {}
    for name in inputs.networks:
        logits = expected_mlp.logits(inputs, name)
        found |= named(f"{name} forward", oracle.softmax(logits), no_softmax=logits,
                       **expected_mlp.activations_missing(inputs, name))
        without = expected_mlp.gradients(inputs, name, softmax=False)
        for key, value in expected_mlp.gradients(inputs, name).items():
            found |= named(f"{name} {key}", value, no_softmax=without[key])
    return found
