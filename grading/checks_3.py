"""Questions 3.1, 3.2b and 3.2c: layer normalization. Gradients are central differences of the formula in `oracle`."""

from __future__ import annotations

import numpy as np

from grading import oracle
from grading.checks import Context, Question, Replies
from grading.compare import Outcome, all_of, close, failed, judge
from grading.sandbox import Probe, Reply

rng = np.random.default_rng(3)
X, DOUT = rng.standard_normal((2, 5, 7))
GAMMA, BETA = rng.uniform(0.5, 2, 7), rng.standard_normal(7)
MIX = np.array([1.7, -0.6, 2.3, 40.0])
SMALL_EPS, LARGE_EPS = 1e-5, 0.5
NEURONS = 6
RIGHT, WRONG = (4, NEURONS), ((4, 1), (4, NEURONS + 1), (2, 4, NEURONS), (NEURONS,))
NARROW = np.array([[1.0, 4.0], [-2.0, 0.5], [0.3, 0.1]])
NARROW_GAMMA, NARROW_BETA, NARROW_DOUT = np.array([1.5, -0.7]), np.array([0.2, 0.9]), np.ones((3, 2))


def norm_arrays() -> dict[str, np.ndarray]:
    return {"x": X, "gamma": GAMMA, "beta": BETA, "dout": DOUT}


def narrow() -> dict[str, np.ndarray]:
    return {"x": NARROW, "gamma": NARROW_GAMMA, "beta": NARROW_BETA, "dout": NARROW_DOUT}


def value_probes(function: str, **options: str) -> dict[str, Probe]:
    return {
        "value": Probe(function, norm_arrays(), {"eps": SMALL_EPS, **options}),
        "large_eps": Probe(function, norm_arrays(), {"eps": LARGE_EPS, **options}),
        "float32": Probe(function, norm_arrays(), {"eps": SMALL_EPS, "dtype": "float32", **options}),
        "narrow": Probe(function, narrow(), {"eps": SMALL_EPS, **options}),
    }


def module_probes(name: str) -> dict[str, Probe]:
    return {
        "parameters": Probe("norm_parameters", options={"class": name, "n_neurons": NEURONS}),
        "shapes": Probe("norm_shapes", options={"class": name, "n_neurons": NEURONS, "right": RIGHT, "wrong": WRONG}),
    }


def probes_autograd(context: Context) -> dict[str, Probe]:
    name = "CustomLayerNormAutograd"
    return module_probes(name) | value_probes("norm_module", **{"class": name})


def probes_function(context: Context) -> dict[str, Probe]:
    return value_probes("norm_function") | {
        "needs": Probe("norm_needs", norm_arrays(), {"eps": SMALL_EPS}),
        "saved": Probe("norm_saved", norm_arrays(), {"eps": SMALL_EPS})}


def probes_module(context: Context) -> dict[str, Probe]:
    name = "CustomLayerNormManualModule"
    return module_probes(name) | {"calls": Probe("norm_calls", norm_arrays() | {"mix": MIX},
                                                 {"class": name, "eps": LARGE_EPS})}


def without_bessel(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, eps: float) -> np.ndarray:
    """What a variance with Bessel's correction gives instead."""
    centred = x - x.mean(axis=1, keepdims=True)
    return gamma * centred / np.sqrt(x.var(axis=1, ddof=1, keepdims=True) + eps) + beta


def norm_parameters(replies: Replies, context: Context) -> Outcome:
    reply = replies["parameters"]
    if reply.error:
        return failed(reply)
    outcomes = []
    for name, value, start in (("gamma", np.ones(NEURONS), "ones"), ("beta", np.zeros(NEURONS), "zeros")):
        if name not in reply.arrays:
            outcomes.append(Outcome(0.0, f"The module has no nn.Parameter called {name}."))
            continue
        outcomes.append(judge(reply, name, value,
                              f"{name} must be a parameter of shape (n_neurons,) that starts as {start}."))
    return all_of(*outcomes)


def value_suspects(eps: float) -> list[tuple[np.ndarray, str]]:
    centred = X - X.mean(axis=1, keepdims=True)
    std = X.std(axis=1, keepdims=True)
    columns = (X - X.mean(axis=0)) / np.sqrt(X.var(axis=0) + eps)
    return [(without_bessel(X, GAMMA, BETA, eps), BESSEL),
            (GAMMA * centred / (std + eps) + BETA, "eps belongs under the root, with the variance."),
            (GAMMA * centred / (std**2 + eps) + BETA, "The root is missing: divide by the standard deviation."),
            (GAMMA * columns + BETA, "It normalizes over the batch (dimension 0), not over the features."),
            (oracle.normalized(X, eps), "gamma and beta are not applied."),
            (oracle.layer_norm(X, GAMMA, BETA, SMALL_EPS), "The eps that is passed in is not used.")]


BESSEL = "The variance has Bessel's correction: use unbiased=False (or correction=0)."


def norm_value(replies: Replies, context: Context) -> Outcome:
    return all_of(*(judge(replies[name], "forward", oracle.layer_norm(X, GAMMA, BETA, eps),
                          "The value differs from gamma (x - mean) / sqrt(variance + eps) + beta, over each row.",
                          1e-6, value_suspects(eps)) for name, eps in (("value", SMALL_EPS), ("large_eps", LARGE_EPS))))


def gradients(reply: Reply, eps: float, tolerance: float) -> list[Outcome]:
    hints = {"input": "The gradient of the input is wrong: mean and variance depend on every feature of the row too.",
             "gamma": "dL/dgamma is dL/dY times the normalized input, summed over the batch.",
             "beta": "dL/dbeta is dL/dY summed over the batch."}
    functions = {"input": (lambda x: oracle.layer_norm(x, GAMMA, BETA, eps), X),
                 "gamma": (lambda gamma: oracle.layer_norm(X, gamma, BETA, eps), GAMMA),
                 "beta": (lambda beta: oracle.layer_norm(X, GAMMA, beta, eps), BETA)}
    scale = GAMMA / np.sqrt(X.var(axis=1, keepdims=True) + eps)
    x_hat = oracle.normalized(X, eps)
    suspects = {
        "input": [(DOUT * scale, "Mean and variance are treated as constants in the gradient of the input."),
                  (DOUT * scale - (DOUT * scale).mean(axis=1, keepdims=True),
                   "The part of the input's gradient that goes through the variance is missing."),
                  (scale / GAMMA * (DOUT - DOUT.mean(axis=1, keepdims=True)
                                    - x_hat * (DOUT * x_hat).mean(axis=1, keepdims=True)),
                   "gamma is missing in the gradient of the input.")],
        "gamma": [(DOUT.sum(axis=0), "dL/dgamma lacks the normalized input as a factor."),
                  ((DOUT * X).sum(axis=0), "dL/dgamma uses x where the normalized input belongs."),
                  ((DOUT * x_hat).mean(axis=0), "dL/dgamma is a sum over the batch, not a mean.")],
        "beta": [(DOUT.mean(axis=0), "dL/dbeta is a sum over the batch, not a mean."),
                 (DOUT.sum(axis=1), "dL/dbeta is summed over the features, not over the batch.")]}
    return [judge(reply, name, oracle.central_difference(function, at, DOUT), hints[name], tolerance, suspects[name])
            for name, (function, at) in functions.items()]


def norm_gradients(replies: Replies, context: Context) -> Outcome:
    return all_of(*gradients(replies["value"], SMALL_EPS, 1e-5), *gradients(replies["large_eps"], LARGE_EPS, 1e-5))


def norm_float32(replies: Replies, context: Context) -> Outcome:
    reply = replies["float32"]
    expected = oracle.layer_norm(X, GAMMA, BETA, SMALL_EPS)
    value = judge(reply, "forward", expected, "The value is wrong in float32.", 2e-3)
    kind = reply.notes.get("dtype")
    if value.passed and kind != "float32":
        value = Outcome(0.0, "A float32 input must give a float32 output.", f"received {str(kind)[:20]}")
    return all_of(value, *gradients(reply, SMALL_EPS, 5e-3))


def norm_variance(replies: Replies, context: Context) -> Outcome:
    """With two features, Bessel's correction doubles the variance."""
    arguments = (NARROW, NARROW_GAMMA, NARROW_BETA, SMALL_EPS)
    return judge(replies["narrow"], "forward", oracle.layer_norm(*arguments),
                 "The variance of a row must be the mean of the squared deviations.", 1e-6,
                 [(without_bessel(*arguments), BESSEL)])


def norm_shapes(replies: Replies, context: Context) -> Outcome:
    reply = replies["shapes"]
    refused = reply.notes.get("refused")
    if not isinstance(refused, list) or "right" not in reply.arrays:
        return failed(reply)
    if reply.arrays["right"].shape != RIGHT:
        return Outcome(0.0, f"An input of shape {RIGHT} must give an output of the same shape.")
    if any(str(error).startswith("NotImplementedError") for error in refused):
        return Outcome(0.0, "It is not implemented.")
    accepted = [str(shape) for shape, error in zip(WRONG, refused, strict=True) if error is None]
    return Outcome(1 - len(accepted) / len(WRONG),
                   "An input that is not of shape (batch, n_neurons) must be refused: compare input.shape."
                   if accepted else "", f"with n_neurons {NEURONS}, accepted {', '.join(accepted)}" if accepted else "")


def norm_none(replies: Replies, context: Context) -> Outcome:
    reply = replies["needs"]
    returned = reply.notes.get("returned")
    if not isinstance(returned, dict) or reply.error:
        return failed(reply)
    names, wrong, lost = ("input", "gamma", "beta"), set(), set()
    right = 0
    for needs, given in returned.items():
        wanted = [need == "1" for need in needs]
        right += given == wanted
        for name, want, has in zip(names, wanted, given, strict=True):
            if has and not want:
                wrong.add(name)
            if want and not has:
                lost.add(name)
    if lost:
        return Outcome(0.0, f"backward returns None for {', '.join(sorted(lost))} though its gradient is needed.")
    return Outcome(right / 7, "backward must return None for each input without ctx.needs_input_grad." if wrong else "",
                   f"a gradient is computed in vain for {', '.join(n for n in names if n in wrong)}" if wrong else "")


def norm_saved(replies: Replies, context: Context) -> Outcome:
    reply = replies["saved"]
    kept = [array for name, array in reply.arrays.items() if name.startswith("saved ")]
    if reply.error or not kept:
        return failed(reply) if reply.error else Outcome(
            0.0, "Nothing is kept with ctx.save_for_backward, so that backward cannot be right.")
    if not all_of(*gradients(replies["value"], SMALL_EPS, 1e-3)).passed:
        return Outcome(0.0, "What is kept cannot be judged before the gradients are right.")
    wanted = {"the normalized input": oracle.normalized(X, SMALL_EPS),
              "the normalized input times gamma": oracle.normalized(X, SMALL_EPS) * GAMMA,
              "the output": oracle.layer_norm(X, GAMMA, BETA, SMALL_EPS),
              "the centred input": X - X.mean(axis=1, keepdims=True)}
    for what, value in wanted.items():
        if any(close(value, array, 1e-5) or close(value.T, array, 1e-5) for array in kept):
            return Outcome(0.0, f"{what[0].upper()}{what[1:]} is kept for backward: keep the input, the mean and the "
                                "reciprocal standard deviation, and compute it again.")
    size = sum(array.size for array in kept)
    return Outcome(1.0, "", f"{len(kept)} tensors kept, {size} numbers for an input of {X.size}")


def norm_calls(replies: Replies, context: Context) -> Outcome:
    reply, (a, b, c, d) = replies["calls"], MIX
    mixed = a * X + b * GAMMA + c * BETA
    value = judge(reply, "forward", mixed + d * LARGE_EPS,
                  "forward must return CustomLayerNormManualFunction.apply(input, gamma, beta, eps) as it is.",
                  suspects=[(mixed + d * SMALL_EPS, "The module's eps is not passed on to the function."),
                            (oracle.layer_norm(X, GAMMA, BETA, LARGE_EPS),
                             "The module normalizes by itself: it must call CustomLayerNormManualFunction.apply.")])
    hint = "The gradients of input, gamma and beta must come from the function alone."
    return all_of(value, *(judge(reply, name, expected, hint) for name, expected in (
        ("input", a * DOUT), ("gamma", b * DOUT.sum(axis=0)), ("beta", c * DOUT.sum(axis=0)))))


def question(number: str, probes, *checks) -> Question:
    return Question(number, True, "custom_layernorm.py", probes, {check.__name__: check for check in checks})


AUTOGRAD = question("3.1", probes_autograd, norm_parameters, norm_value, norm_gradients, norm_float32, norm_variance,
                    norm_shapes)
FUNCTION = question("3.2b", probes_function, norm_value, norm_gradients, norm_float32, norm_variance, norm_none,
                    norm_saved)
MODULE = question("3.2c", probes_module, norm_parameters, norm_calls, norm_shapes)
