"""Question 1.2: the modules and the MLP in NumPy. Gradients are central differences of the formulas in `oracle`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np

from grading import checks_scripts, networks, oracle
from grading.checks import Context, Question, Replies
from grading.compare import PASSED, Outcome, all_of, failed, judge, missing, share
from grading.networks import NETWORKS
from grading.sandbox import Probe, Reply

rng = np.random.default_rng(12)
X, OTHER, WEIGHT, BIAS, DOUT = (rng.standard_normal(shape) for shape in ((5, 6), (5, 6), (4, 6), (4,), (5, 4)))
KINKS = np.array([[0.0, -1e-3, 1e-3, 2.0], [-3.0, 0.5, -0.5, 0.0]])  # ELU where it bends, and on both sides
KINKS_DOUT = rng.standard_normal(KINKS.shape)
LOGITS, LOGITS_DOUT = 2 * rng.standard_normal((2, 5, 4))
TARGETS = np.eye(4)[[2, 0, 3, 1, 1]]
LARGE = np.array([[1000.0, -1000.0, 0.0], [-1000.0, -1000.0, -1000.0], [1000.0, 1000.0, 999.0]])
LARGE_DOUT = rng.standard_normal(LARGE.shape)
ZERO_P, ZERO_T = np.array([[0.0, 1.0, 0.0], [0.25, 0.0, 0.75]]), np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
WRONG_P, WRONG_T = np.array([[0.0, 1.0]]), np.array([[1.0, 0.0]])
INIT = {"in": 400, "out": 300}
SIZES = [[4, 3], [4, 3], [64, 3], [4, 48]]  # the first is a warm-up
SCRIPT = checks_scripts.Script("train_mlp_numpy.py", "1.2", None, {
    "learning_rate": 1e-3, "batch_size": 200, "max_steps": 1400, "eval_freq": 100, "dnn_hidden_units": [100]})


def gradient(function, x: np.ndarray, dout: np.ndarray) -> np.ndarray:
    return oracle.central_difference(function, x, dout)


def probes(context: Context) -> dict[str, Probe]:
    def elementwise(module: str, x: np.ndarray, dout: np.ndarray) -> Probe:
        return Probe("elementwise", {"x": x, "dout": dout}, {"module": module})

    return {
        "linear": Probe("linear", {"x": X, "weight": WEIGHT, "bias": BIAS, "dout": DOUT}),
        "linear_init": Probe("linear_init", options=INIT),
        "elu": elementwise("ELUModule", KINKS, KINKS_DOUT),
        "softmax": elementwise("SoftMaxModule", LOGITS, LOGITS_DOUT),
        "loss": Probe("loss", {"x": oracle.softmax(LOGITS), "y": TARGETS}),
        "elu_large": elementwise("ELUModule", LARGE, LARGE_DOUT),
        "softmax_large": elementwise("SoftMaxModule", LARGE, LARGE_DOUT),
        "loss_zero": Probe("loss", {"x": ZERO_P, "y": ZERO_T}),
        "loss_wrong": Probe("loss", {"x": WRONG_P, "y": WRONG_T}),
        "softmax_one": elementwise("SoftMaxModule", LOGITS[:1], LOGITS_DOUT[:1]),
        "loss_one": Probe("loss", {"x": oracle.softmax(LOGITS[:1]), "y": TARGETS[:1]}),
        "state": Probe("two_of_each", {"x": X, "other": OTHER, "weight": WEIGHT, "bias": BIAS,
                                       "dout": np.hstack([DOUT, DOUT])}),
        "steps": Probe("steps", options={"sizes": SIZES}),
        **{name: Probe("mlp", networks.arrays(name), {"sizes": sizes}, needs="mlp_numpy.py")
           for name, sizes in NETWORKS.items()},
    }


def linear_forward(replies: Replies, context: Context) -> Outcome:
    return judge(replies["linear"], "forward", oracle.linear(X, WEIGHT, BIAS),
                 "Y = X Wᵀ + b: check which matrix is transposed and that the bias is added to every row.",
                 suspects=[(X @ WEIGHT.T, "The bias is not added."), (X @ WEIGHT.T - BIAS, "The bias is subtracted.")])


def linear_backward_input(replies: Replies, context: Context) -> Outcome:
    expected = gradient(lambda x: oracle.linear(x, WEIGHT, BIAS), X, DOUT)
    return judge(replies["linear"], "input", expected, "dL/dX = dL/dY W: check the order and the transposes.",
                 suspects=[(expected / len(X), BATCH)])


def linear_backward_weight(replies: Replies, context: Context) -> Outcome:
    expected = gradient(lambda w: oracle.linear(X, w, BIAS), WEIGHT, DOUT)
    return judge(replies["linear"], "weight", expected,
                 "dL/dW = (dL/dY)ᵀ X, in the shape of the weight: check the order and the transposes.",
                 suspects=[(expected / len(X), BATCH), (-expected, "The sign is wrong.")])


def linear_backward_bias(replies: Replies, context: Context) -> Outcome:
    expected = gradient(lambda b: oracle.linear(X, WEIGHT, b), BIAS, DOUT)
    return judge(replies["linear"], "bias", expected, "dL/db is dL/dY summed over the samples of the batch (axis 0).",
                 suspects=[(DOUT.sum(axis=1), "dL/dY is summed over the features (axis 1), not over the samples."),
                           (expected / len(X), BATCH),
                           (np.full(4, DOUT.sum()), "dL/dY is summed over both axes, not over the samples alone.")])


BATCH = "It is divided by the batch size here as well: the loss has already done so."


def linear_init(replies: Replies, context: Context) -> Outcome:
    reply = replies["linear_init"]
    if "weight" not in reply.arrays or "bias" not in reply.arrays:
        return failed(reply)
    weight, bias = (reply.arrays[key].astype(float) for key in ("weight", "bias"))
    if weight.size != INIT["in"] * INIT["out"] or bias.size != INIT["out"]:
        return Outcome(0.0, "weight and bias do not have one number per connection and per output.",
                       f"received shapes {weight.shape} and {bias.shape}")
    mean, std = weight.mean(), weight.std()
    numbers = f"mean {mean:.1e}, standard deviation {std:.4g}, largest bias {np.abs(bias).max():.1e}"
    outcome = share({"the weights' mean is not 0": abs(mean) < 3e-6,
                     "the weights' standard deviation is not 0.0001 (a variance of 0.0001 is 0.01)":
                         bool(abs(std - 1e-4) < 3e-6),
                     "the bias does not start at zero": not bias.any()})
    return replace(outcome, diagnosis=sentence(outcome.diagnosis), numbers=numbers)


def sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}." if text and not text.endswith(".") else text


def other_alpha(reply: Reply, name: str, below: np.ndarray, above: np.ndarray) -> list[tuple[np.ndarray, str]]:
    """The suspect of a constant in front of the exponential, read off the answer: below and above are those of 1."""
    received, negative = reply.arrays.get(name, np.zeros(0)), KINKS < 0
    if received.shape != KINKS.shape or received.dtype.kind != "f":
        return []
    alpha = float(np.median(received[negative] / below[negative]))
    return [(np.where(negative, alpha * below, above), f"Below 0, ELU is exp(x) - 1 with nothing in front: alpha is 1, "
                                                       f"not {alpha:.3g}.")]


def elu_forward(replies: Replies, context: Context) -> Outcome:
    return judge(replies["elu"], "forward", oracle.elu(KINKS), "ELU(x) is x for x >= 0 and exp(x) - 1 below.",
                 suspects=[*other_alpha(replies["elu"], "forward", np.expm1(KINKS), KINKS),
                           (np.maximum(KINKS, 0), "This is ReLU: below 0, ELU is exp(x) - 1."),
                           (np.where(KINKS >= 0, KINKS, np.exp(KINKS)), "The - 1 of exp(x) - 1 is missing.")])


def elu_backward(replies: Replies, context: Context) -> Outcome:
    expected = gradient(oracle.elu, KINKS, KINKS_DOUT)
    at_zero = np.where(KINKS == 0, 0, expected)
    return judge(replies["elu"], "input", expected, "The derivative of ELU is 1 for x >= 0 and exp(x) below.",
                 suspects=[*other_alpha(replies["elu"], "input", KINKS_DOUT * np.exp(KINKS), KINKS_DOUT),
                           (at_zero, "The derivative at exactly 0 is 1 from both sides, not 0."),
                           (np.where(KINKS >= 0, KINKS_DOUT, KINKS_DOUT * np.expm1(np.minimum(KINKS, 0))),
                            "Below 0 the derivative is exp(x), not exp(x) - 1."),
                           (expected / KINKS_DOUT, "The derivative is not multiplied with the incoming gradient.")])


def softmax_forward(replies: Replies, context: Context) -> Outcome:
    return judge(replies["softmax"], "forward", oracle.softmax(LOGITS),
                 "Each row is exp(x) over the sum of exp(x) of that row.",
                 suspects=[(np.exp(LOGITS) / np.exp(LOGITS).sum(axis=0), "It normalizes columns (axis 0), not rows."),
                           (np.exp(LOGITS) / np.exp(LOGITS).sum(), "It divides by the sum of the whole batch.")])


def softmax_backward(replies: Replies, context: Context) -> Outcome:
    y = oracle.softmax(LOGITS)
    return judge(replies["softmax"], "input", gradient(oracle.softmax, LOGITS, LOGITS_DOUT),
                 "A row's gradient is the row of dL/dY times the Jacobian diag(y) - y yᵀ.",
                 suspects=[(LOGITS_DOUT * y, "The cross term is missing: an output depends on all inputs of its row."),
                           (LOGITS_DOUT * y * (1 - y), "The cross term is missing: only the diagonal is used.")])


def loss_forward(replies: Replies, context: Context) -> Outcome:
    p = oracle.softmax(LOGITS)
    expected = oracle.cross_entropy(p, TARGETS)
    return judge(replies["loss"], "forward", expected, "The loss is the mean over the batch of -Σ t log(x).",
                 suspects=[(expected * len(p), "The loss is summed over the batch, not averaged."),
                           (-expected, "The sign is wrong."), (expected / 4, "It is averaged over the classes too.")])


def loss_backward(replies: Replies, context: Context) -> Outcome:
    p = oracle.softmax(LOGITS)
    expected = gradient(lambda x: oracle.cross_entropy(x, TARGETS), p, np.ones(()))
    return judge(replies["loss"], "input", expected, "dL/dX = -T / X / batch size, element by element.",
                 suspects=[(expected * len(p), "The division by the batch size is missing."),
                           (expected / len(p), "It is divided by the batch size twice."),
                           ((p - TARGETS) / len(p), "This is the gradient of softmax and loss together; the loss "
                                                    "module's own is asked for."), (-expected, "The sign is wrong.")])


def stable(reply: Reply, right: bool, *outcomes: Outcome) -> Outcome:
    """What is wrong for small inputs already has checks of its own: here it has to be finite."""
    answers = [reply.arrays[name] for name in ("forward", "input") if name in reply.arrays]
    if not right and len(answers) == 2 and all(np.isfinite(answer).all() for answer in answers):
        return PASSED
    return all_of(*outcomes)


def stability(replies: Replies, context: Context) -> Outcome:
    softmax = stable(
        replies["softmax_large"], all_of(softmax_forward(replies, context), softmax_backward(replies, context)).passed,
        judge(replies["softmax_large"], "forward", oracle.softmax(LARGE),
              "Softmax of ±1000 is not right: subtract each row's maximum before exp."),
        judge(replies["softmax_large"], "input", gradient(oracle.softmax, LARGE, LARGE_DOUT),
              "The softmax gradient at ±1000 is not right: it follows from the output, which is finite."))
    elu = stable(
        replies["elu_large"], all_of(elu_forward(replies, context), elu_backward(replies, context)).passed,
        judge(replies["elu_large"], "forward", oracle.elu(LARGE), "ELU of ±1000 is not right: keep exp from large x."),
        judge(replies["elu_large"], "input", gradient(oracle.elu, LARGE, LARGE_DOUT),
              "The ELU gradient at ±1000 is not right: keep exp from large x."))
    losses = [replies[name] for name in ("loss_zero", "loss_wrong")]
    for reply in losses:
        if not {"forward", "input"} <= set(reply.arrays):
            loss = failed(reply)
            break
    else:
        finite = all(np.isfinite(reply.arrays[name]).all() for reply in losses for name in ("forward", "input"))
        value = judge(losses[0], "forward", np.asarray(-np.log(0.75) / 2), "The loss is wrong where p = t = 0.", 1e-3)
        loss = value if finite else Outcome(0.0, "Loss or gradient is not finite at p = 0: clip p from below.", "p = 0")
    parts = (softmax, elu, loss)
    return Outcome(sum(part.passed for part in parts) / 3, *next(
        ((part.diagnosis, part.numbers) for part in parts if not part.passed), ("", "")))


def batch_of_one(replies: Replies, context: Context) -> Outcome:
    p = oracle.softmax(LOGITS[:1])
    hint = "A batch of one sample is still of shape (1, C): {} is wrong there."
    return all_of(
        judge(replies["softmax_one"], "forward", p, hint.format("softmax")),
        judge(replies["softmax_one"], "input", gradient(oracle.softmax, LOGITS[:1], LOGITS_DOUT[:1]),
              hint.format("the softmax gradient")),
        judge(replies["loss_one"], "forward", oracle.cross_entropy(p, TARGETS[:1]), hint.format("the loss")),
        judge(replies["loss_one"], "input", gradient(lambda x: oracle.cross_entropy(x, TARGETS[:1]), p, np.ones(())),
              hint.format("the loss gradient")))


def state(replies: Replies, context: Context) -> Outcome:
    reply, dout = replies["state"], np.hstack([DOUT, DOUT])
    hint = "Two {0}s share what they remember: keep parameters, gradients and inputs in self, not in the class."
    one = hint.format("LinearModule")
    expected = {
        "LinearModule input": gradient(lambda x: oracle.linear(x, WEIGHT, BIAS), X, DOUT),
        "LinearModule weight": gradient(lambda w: oracle.linear(X, w, BIAS), WEIGHT, DOUT),
        "ELUModule input": gradient(oracle.elu, X, dout[:, :6]),
        "SoftMaxModule input": gradient(oracle.softmax, X, dout[:, :6]),
    }
    if reply.error and not reply.arrays:
        return failed(reply)
    alone = {"LinearModule": ("linear", "weight"), "ELUModule": ("elu", "input"), "SoftMaxModule": ("softmax", "input")}
    right = {"linear": linear_backward_weight, "elu": elu_backward, "softmax": softmax_backward}
    outcomes = []
    for name, value in expected.items():
        module = name.partition(" ")[0]
        found = judge(reply, name, value, hint.format(module) if module != "LinearModule" else one)
        # A gradient that is wrong by itself says nothing about sharing: that is what its own check is for.
        if not found.passed and name in reply.arrays and not right[alone[module][0]](replies, context).passed:
            found = Outcome(0.0, f"{module}'s gradient is wrong by itself, so that sharing could not be checked.")
        outcomes.append(found)
    return all_of(*outcomes)


def vectorised(replies: Replies, context: Context) -> Outcome:
    reply = replies["steps"]
    outcomes = []
    for module in ("LinearModule", "ELUModule", "SoftMaxModule", "CrossEntropyModule"):
        counts = reply.arrays.get(module)
        if counts is None or counts.shape != (len(SIZES), 2) or counts[1].min() < 1:
            outcomes.append(Outcome(0.0, missing(reply, module)))
            continue
        found = PASSED
        for column, direction in enumerate(("forward", "backward")):
            small, tall, wide = (int(counts[row, column]) for row in (1, 2, 3))
            for grown, what, sizes in ((tall, "samples", "4 to 64 samples"), (wide, "features", "3 to 48 features")):
                if grown > 1.5 * small + 20:
                    found = Outcome(0.0, f"{module}.{direction} loops over {what} in Python: use matrix products and "
                                         "whole-array functions.",
                                    f"from {sizes} the interpreter's steps grow from {small} to {grown}")
        outcomes.append(found)
    return all_of(*outcomes)


def wrong_alone(replies: Replies, context: Context, checks: Mapping[str, Callable[..., Outcome]]) -> str:
    """'ELUModule and SoftMaxModule', those whose own check fails; '' where none does."""
    return " and ".join(module for module, check in checks.items() if not check(replies, context).passed)


def mlp(name: str, replies: Replies, context: Context) -> Outcome:
    """Probabilities 40 %, gradients 60 %."""
    reply, sizes = replies[name], NETWORKS[name]
    if "forward" not in reply.arrays:
        layers, wanted = reply.notes.get("layers"), [sorted(pair) for pair in pairwise(sizes)]
        if reply.error is None and layers != wanted:
            return Outcome(0.0, f"MLP({sizes[0]}, {sizes[1:-1]}, {sizes[-1]}) must make one LinearModule a layer, in "
                                "order.", f"expected sizes {wanted}, received {str(layers)[:200]}")
        return failed(reply)
    logits = networks.logits(name)
    forward = judge(reply, "forward", oracle.softmax(logits),
                    "The probabilities are wrong: linear layers with ELU between them, softmax after the last.",
                    suspects=[(logits, "Softmax is missing at the end.")])
    found = {key: judge(reply, key, expected, f"The gradient of linear layer {int(key[0]) + 1}'s {key[2:]} is wrong.")
             for key, expected in networks.gradients(name, probabilities=True).items()}
    wrong = {key: outcome for key, outcome in found.items() if not outcome.passed}
    value = 0.4 * forward.fraction + 0.6 * (1 - len(wrong) / len(found))
    if not forward.passed:
        if alone := wrong_alone(replies, context, FORWARD):
            return Outcome(value, f"Wrong probabilities, from what is wrong above in {alone}.", forward.numbers)
        return Outcome(value, forward.diagnosis, forward.numbers)
    if not wrong:
        return Outcome(1.0)
    if reply.error is None and (alone := wrong_alone(replies, context, BACKWARD)):
        return Outcome(value, f"Wrong gradients, from what is wrong above in {alone}.",
                       list(wrong.values())[-1].numbers)
    if reply.error is not None and len(sizes) > 3:
        return Outcome(value, f"Going back through several hidden layers, it raises {reply.error}. Give every layer "
                              "its own activation module.")
    key, first = list(wrong.items())[-1]  # the last layer that is wrong: its error spoils all before it
    layer = int(key[0]) + 1
    if layer == len(sizes) - 1:
        return Outcome(value, first.diagnosis, first.numbers)
    return Outcome(value, f"Gradients are right after linear layer {layer} and wrong up to it: give every layer its "
                          "own activation module and go back through all of them.", first.numbers)


def mlp_0(replies: Replies, context: Context) -> Outcome:
    return mlp("mlp_0", replies, context)


def mlp_1(replies: Replies, context: Context) -> Outcome:
    return mlp("mlp_1", replies, context)


def mlp_3(replies: Replies, context: Context) -> Outcome:
    return mlp("mlp_3", replies, context)


FORWARD = {"LinearModule": linear_forward, "ELUModule": elu_forward, "SoftMaxModule": softmax_forward}
BACKWARD = {"LinearModule": lambda *known: all_of(*(check(*known) for check in (
                linear_backward_input, linear_backward_weight, linear_backward_bias))),
            "ELUModule": elu_backward, "SoftMaxModule": softmax_backward}
QUESTION = Question(
    number="1.2", torch=False, file="modules.py", probes=probes, script=SCRIPT,
    own_checks={check.__name__: check for check in (
        linear_forward, linear_backward_input, linear_backward_weight, linear_backward_bias, linear_init, elu_forward,
        elu_backward, softmax_forward, softmax_backward, loss_forward, loss_backward, stability, batch_of_one, state,
        vectorised, mlp_0, mlp_1, mlp_3)})
