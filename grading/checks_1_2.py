"""Question 1.2: the modules and the MLP in NumPy, on inputs that are drawn (`grading.inputs`).

What is right for them, and what well-known mistakes give, is recorded in `Context.expected`: no formula stands here.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from grading import checks_scripts, networks
from grading.checks import Context, Question, Replies
from grading.compare import PASSED, Outcome, all_of, close, failed, judge_by, missing, share
from grading.inputs import Inputs
from grading.replies import Probe, Reply
from grading.worker.weights import mixed

FEWEST_STEPS = 2.5  # for each turn of a loop: Python instructions, arrays; NumPy's own functions have no more in all
BATCH = "It is divided by the batch size a second time; the loss is a mean already."
SIGN = "The sign is wrong."


def probes(context: Context) -> dict[str, Probe]:
    inputs = context.inputs

    def given(**names: str) -> dict[str, np.ndarray]:
        """{a probe's name of an input: the input}."""
        return {key: inputs.modules[name] for key, name in names.items()}

    def elementwise(module: str, x: str, dout: str, samples: int | None = None) -> Probe:
        arrays = {key: array[:samples] for key, array in given(x=x, dout=dout).items()}
        return Probe("elementwise", arrays, {"module": module})

    linear = given(x="x", weight="weight", bias="bias", dout="dout")
    return {
        "linear": Probe("linear", linear),
        "linear_init": Probe("linear_init", options=inputs.initial),
        "elu": elementwise("ELUModule", "kinks", "kinks_dout"),
        "elu_zero": elementwise("ELUModule", "zero", "zero_dout"),
        "elu_large": elementwise("ELUModule", "large", "large_dout"),
        "softmax": elementwise("SoftMaxModule", "logits", "logits_dout"),
        "softmax_large": elementwise("SoftMaxModule", "large", "large_dout"),
        "softmax_one": elementwise("SoftMaxModule", "logits", "logits_dout", 1),
        "loss": Probe("loss", given(x="p", y="targets")),
        "loss_zero": Probe("loss", given(x="zero_p", y="zero_t")),
        "loss_wrong": Probe("loss", given(x="wrong_p", y="wrong_t")),
        "loss_one": Probe("loss", {"x": inputs.modules["p"][:1], "y": inputs.modules["targets"][:1]}),
        "state": Probe("two_of_each", linear | given(other="other", wide_dout="wide_dout")),
        "again": Probe("again", linear | given(other="other", wide_dout="wide_dout")),
        "steps": Probe("steps", options={"sizes": inputs.lengths}),
        **{name: Probe("mlp", inputs.network(name), {"sizes": sizes}, needs="mlp_numpy.py")
           for name, sizes in inputs.networks.items()},
        **{f"{name} calls": Probe("mlp_calls", inputs.network(name), {"sizes": sizes, "shifts": inputs.shifts},
                                  needs="mlp_numpy.py") for name, sizes in inputs.networks.items()},
        "mlp_equal": Probe("mlp_equal", options={"sizes": inputs.equal_widths}, needs="mlp_numpy.py"),
    }


def compared(replies: Replies, context: Context, answer: str, sentence: str, right: str = "",
             **suspects: str) -> Outcome:
    """Compare an answer, '<probe> <array>', with what is right; suspects as in `judge_by`, _ for each space.

    A weight's gradient is compared in the submission's own layout. right: the name of the recorded alternative that is
    right in this hand-in.
    """
    probe, name = answer.split(" ", 1)
    key, reply = f"1.2 {answer}", replies[probe]
    transposed = name.endswith("weight") and reply.notes.get(f"{name.removesuffix('weight')}transposed")
    expected = {known: array.T if transposed else array for known, array in context.expected.items()
                if known.partition(":")[0] == key}
    if right:
        expected[key] = expected[f"{key}: {right}"]
    return judge_by(expected, key, reply, name, sentence,
                    {mistake.replace("_", " "): text for mistake, text in suspects.items()})


def unless_misnamed(replies: Replies, role: str, outcome: Outcome) -> Outcome:
    """A gradient that is right under a wrong name."""
    wrong = replies["linear"].notes.get(f"{role} key")
    return Outcome(0.0, f"{str(wrong)[:200]}.") if wrong and outcome.passed else outcome


def linear_forward(replies: Replies, context: Context) -> Outcome:
    return compared(replies, context, "linear forward",
                    "Y = X Wᵀ + b: check which matrix is transposed and that the bias is added to every row.",
                    bias_not_added="The bias is not added.", bias_subtracted="The bias is subtracted.")


def linear_backward_input(replies: Replies, context: Context) -> Outcome:
    return compared(replies, context, "linear input",
                    "The gradient of the input is wrong: check the order of the factors and the transposes.",
                    over_the_batch=BATCH)


def linear_backward_weight(replies: Replies, context: Context) -> Outcome:
    found = unless_misnamed(replies, "weight", compared(
        replies, context, "linear weight",
        "The gradient of the weight is wrong: check the order of the factors and the transposes.",
        over_the_batch=BATCH, sign=SIGN))
    single, (first, second) = replies["linear"].arrays.get("weight"), both_times(replies, "LinearModule weight")
    adds_up = single is not None and first is not None and second is not None and single.shape == first.shape and close(
        first + single, second)
    if found.passed and adds_up and not replies["again"].notes.get("clears"):
        return Outcome(0.0, "Gradients add up over calls of backward and are never set to zero: use =, not +=.")
    return unless_of_the_first_call(replies, "LinearModule weight", found)


def both_times(replies: Replies, answer: str) -> tuple[np.ndarray | None, np.ndarray | None]:
    """A module's answer, '<module> <array>', when it is used for the first and for the second time."""
    arrays, (module, name) = replies["again"].arrays, answer.split()
    return arrays.get(f"{module} first {name}"), arrays.get(answer)


def unless_of_the_first_call(replies: Replies, answer: str, outcome: Outcome) -> Outcome:
    """A gradient that is right when a module is used for the first time, and stays that of this call."""
    first, second = both_times(replies, answer)
    if outcome.passed and first is not None and second is not None and close(first, second):
        return Outcome(0.0, f"When a {answer.split()[0]} is used again, backward still uses what the first call of "
                            "forward was given: keep that of the last call.")
    return outcome


def linear_backward_bias(replies: Replies, context: Context) -> Outcome:
    found = compared(replies, context, "linear bias",
                     "The gradient of the bias is wrong: check what is summed and over what.",
                     features="It is summed over the features (axis 1), not over the samples.",
                     both_axes="It is summed over both axes.", over_the_batch=BATCH)
    said = replies["linear"].notes.get("weight key")  # two wrong names are one mistake
    return found if said else unless_misnamed(replies, "bias", found)


def linear_init(replies: Replies, context: Context) -> Outcome:
    reply, sizes = replies["linear_init"], context.inputs.initial
    if "weight" not in reply.arrays or "bias" not in reply.arrays:
        return failed(reply)
    weight, bias = (reply.arrays[key].astype(float) for key in ("weight", "bias"))
    if weight.size != sizes["in"] * sizes["out"] or bias.size != sizes["out"]:
        return Outcome(0.0, "weight and bias do not have one number per connection and per output.",
                       f"received shapes {weight.shape} and {bias.shape}")
    if misnamed := reply.notes.get("misnamed"):
        return Outcome(0.0, f"{str(misnamed)[:200]}.")
    mean, std = weight.mean(), weight.std()
    numbers = f"mean {mean:.1e}, standard deviation {std:.4g}, largest bias {np.abs(bias).max():.1e}"
    outcome = share({"the weights' mean is not 0": bool(abs(mean) < max(3e-6, 0.03 * std)),
                     "the weights' standard deviation is not 0.0001 (a variance of 0.0001 is 0.01)":
                         bool(abs(std - 1e-4) < 3e-6),
                     "the bias does not start at zero": not bias.any()})
    return replace(outcome, diagnosis=sentence(outcome.diagnosis), numbers=numbers)


def sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}." if text and not text.endswith(".") else text


def other_alpha(replies: Replies, context: Context, name: str) -> Outcome | None:
    """ELU with a constant in front of the exponential, read off the answer; None where it is not that."""
    right, negative = context.expected[f"1.2 elu {name}"], context.inputs.modules["kinks"] < 0
    received = replies["elu"].arrays.get(name, np.zeros(0))
    if received.shape != right.shape or received.dtype.kind != "f":
        return None
    alpha = float(np.median(received[negative] / right[negative]))
    if abs(alpha) < 1e-6:
        return None
    suspect = {"right": right, "right: alpha": np.where(negative, alpha * right, right)}
    found = judge_by(suspect, "right", replies["elu"], name, "", {
        "alpha": f"Below 0, ELU is exp(x) - 1 with nothing in front: alpha is 1, not {alpha:.3g}."})
    return found if found.diagnosis else None


def wrong_gradient(reply: Reply, sentence: str) -> str:
    """What is said of a wrong gradient."""
    return ("The gradient is wrong, and forward overwrites the x that it is given: where backward needs x, work on a "
            "copy." if reply.notes.get("overwrites") else sentence)


def elu_forward(replies: Replies, context: Context) -> Outcome:
    return other_alpha(replies, context, "forward") or compared(
        replies, context, "elu forward", "ELU(x) is x for x >= 0 and exp(x) - 1 below.",
        relu="This is ReLU: below 0, ELU is exp(x) - 1.", no_minus_one="The - 1 of exp(x) - 1 is missing.")


def elu_backward(replies: Replies, context: Context) -> Outcome:
    found = other_alpha(replies, context, "input") or compared(
        replies, context, "elu input",
        wrong_gradient(replies["elu"], "The gradient of ELU is wrong: check both cases of its definition."),
        relu="Below 0 the gradient is 0, which is that of ReLU.",
        value="Below 0, ELU itself stands where its derivative belongs.",
        alone="The derivative is not multiplied with the incoming gradient.")
    return unless_of_the_first_call(replies, "ELUModule input", found)


def elu_at_zero(replies: Replies, context: Context) -> Outcome:
    return unless_wrong(elu_backward(replies, context), replies["elu_zero"], compared(
        replies, context, "elu_zero input", "The gradient at exactly 0 is wrong: check which case of ELU 0 belongs to.",
        zero="The derivative at exactly 0 is taken as 0: check the limit from both sides."))


def unless_wrong(base: Outcome, reply: Reply, *outcomes: Outcome) -> Outcome:
    """All of `outcomes`, which cost nothing where they follow from what `base`, a check of its own, found.

    The answers must be finite even then.
    """
    answers = [reply.arrays[name] for name in ("forward", "input") if name in reply.arrays]
    if not base.passed and answers and all(np.isfinite(answer).all() for answer in answers):
        return PASSED
    return all_of(*outcomes)


OTHER_SUMS = {"columns": "It normalizes columns (axis 0), not rows.",
              "whole_batch": "It divides by the sum of the whole batch."}
SHIFTS = ("", "_shifted")  # by each row's maximum
OF_WRONG_OUTPUTS = "This fits the outputs of forward, which are wrong above."


def softmax_forward(replies: Replies, context: Context) -> Outcome:
    return compared(replies, context, "softmax forward", "Each row is exp(x) over the sum of exp(x) of that row.",
                    **{f"{kind}{shift}": sentence for shift in SHIFTS for kind, sentence in OTHER_SUMS.items()})


def softmax_backward(replies: Replies, context: Context) -> Outcome:
    found = unless_of_the_first_call(replies, "SoftMaxModule input", compared(
        replies, context, "softmax input", wrong_gradient(
            replies["softmax"],
            "The gradient of softmax is wrong: check the derivative of each output by each input of its row."),
        elementwise="The cross term is missing: an output depends on all inputs of its row.",
        diagonal="The cross term is missing: only the diagonal is used.",
        over_the_batch="The sum in it is taken over the batch (axis 0), not over each row (axis 1).",
        whole_batch="The sum in it is taken over the whole batch, not over each row (axis 1).",
        **{f"{kind}{shift}_{way}": OF_WRONG_OUTPUTS
           for kind in OTHER_SUMS for shift in SHIFTS for way in ("rows", "alike")}))
    return replace(found, follows=("softmax_forward",)) if found.diagnosis == OF_WRONG_OUTPUTS else found


def loss_forward(replies: Replies, context: Context) -> Outcome:
    return compared(replies, context, "loss forward", "The loss is the mean over the batch of -Σ t log(x).",
                    summed="The loss is summed over the batch, not averaged.", sign=SIGN,
                    classes="It is averaged over the classes too.", base_2="The logarithm is to base 2: use np.log.",
                    base_10="The logarithm is to base 10: use np.log.")


def loss_backward(replies: Replies, context: Context) -> Outcome:
    return compared(replies, context, "loss input",
                    "The gradient of the loss is wrong: check the derivative of the loss by each x.",
                    summed="The division by the batch size is missing.", twice="It is divided by the batch size twice.",
                    classes="It is divided by the number of classes too.",
                    summed_classes="It is divided by the number of classes, not by the batch size.",
                    with_softmax="This is the gradient of softmax and loss together; the loss module's own is asked "
                                 "for.", sign=SIGN)


def softmax_right(replies: Replies, context: Context) -> Outcome:
    return all_of(softmax_forward(replies, context), softmax_backward(replies, context))


def softmax_large(replies: Replies, context: Context) -> Outcome:
    return unless_wrong(
        softmax_right(replies, context), replies["softmax_large"],
        compared(replies, context, "softmax_large forward",
                 "Softmax of ±1000 is not right: subtract each row's maximum before exp."),
        compared(replies, context, "softmax_large input",
                 "The gradient of softmax at ±1000 is not right: it is finite there, and so is the output."))


def elu_large(replies: Replies, context: Context) -> Outcome:
    return unless_wrong(
        elu_right(replies, context), replies["elu_large"],
        compared(replies, context, "elu_large forward", "ELU of ±1000 is not right: keep exp from large x."),
        compared(replies, context, "elu_large input", "The gradient of ELU at ±1000 is not right: keep exp from "
                                                      "large x."))


def loss_zero(replies: Replies, context: Context) -> Outcome:
    known = [replies[name] for name in ("loss_zero", "loss_wrong")]
    for reply in known:
        if not {"forward", "input"} <= set(reply.arrays):
            return failed(reply)
    if not all(np.isfinite(reply.arrays[name]).all() for reply in known for name in ("forward", "input")):
        return Outcome(0.0, "Loss or gradient is not finite where a probability is 0: np.clip(x, 1e-12, 1) avoids it.",
                       "p = 0")
    return unless_wrong(loss_forward(replies, context), known[0], judge_by(
        context.expected, "1.2 loss_zero forward", known[0], "forward", "The loss is wrong where p = t = 0.",
        tolerance=1e-3))


def batch_of_one(replies: Replies, context: Context) -> Outcome:
    hint = "A batch of one sample is still of shape (1, C): {} is wrong there."

    def row(name: str, array: str, what: str) -> Outcome:
        found = compared(replies, context, f"{name} {array}", hint.format(what))
        received = replies[name].arrays.get(array)
        if found.passed and received is not None and received.ndim != 2:
            return Outcome(0.0, f"A batch of one sample is still of shape (1, C): {what} loses its first axis there.",
                           f"received shape {received.shape}")
        return found

    return all_of(
        unless_wrong(softmax_right(replies, context), replies["softmax_one"],
                     row("softmax_one", "forward", "softmax"), row("softmax_one", "input", "the gradient of softmax")),
        unless_wrong(all_of(loss_forward(replies, context), loss_backward(replies, context)), replies["loss_one"],
                     compared(replies, context, "loss_one forward", hint.format("the loss")),
                     row("loss_one", "input", "the gradient of the loss")))


def state(replies: Replies, context: Context) -> Outcome:
    outcomes = []
    for name, check in ALONE.items():
        if not check(replies, context).passed:  # that is what its own checks are for
            continue
        answers = ("input", "weight") if name == "LinearModule" else ("input",)
        outcomes += [compared(replies, context, f"state {name} {answer}",
                              f"Two {name}s share what they remember: keep parameters, gradients and inputs in self, "
                              "not in the class.") for answer in answers]
    found = all_of(*outcomes) if outcomes else unjudged(replies["state"])
    return replace(found, fraction=float(found.passed))


def unjudged(reply: Reply) -> Outcome:
    """Of a check that what is wrong elsewhere leaves nothing to judge."""
    if reply.error or "LinearModule failed" in reply.notes:
        return Outcome(0.0, missing(reply, "LinearModule"))
    return Outcome(0.0, "It cannot be judged before the modules are right.")


def vectorised(replies: Replies, context: Context) -> Outcome:
    """No Python loops in the modules; those of an MLP count where its modules have none."""
    judged = [outcome for module in (*ALONE, "CrossEntropyModule", "MLP")
              if (outcome := loops(replies["steps"], module, context.inputs.lengths)) is not None]
    if not judged:
        return Outcome(0.0, missing(replies["steps"], "LinearModule"))
    return next((outcome for outcome in judged if not outcome.passed), PASSED)


def loops(reply: Reply, module: str, lengths: list[list[int]]) -> Outcome | None:
    """The outcome of one class, None where it did not run, which its own checks tell."""
    counts = reply.arrays.get(module)
    if counts is None or counts.shape != (len(lengths), 2) or counts[1].min() < 1:
        return None
    for column, direction in enumerate(("forward", "backward")):
        small, tall, wide = (int(counts[row, column]) for row in (1, 2, 3))
        for i, grown, what in ((0, tall, "samples"), (1, wide, "features")):
            if grown - small > FEWEST_STEPS * (lengths[2 + i][i] - lengths[1][i]):
                return Outcome(0.0, f"{module}.{direction} loops over {what} in Python: use matrix products and "
                                    "whole-array functions (np.apply_along_axis and np.vectorize are loops, too).",
                               f"a call takes {small} steps in Python or NumPy for {lengths[1][i]} {what}, {grown} "
                               f"for {lengths[2 + i][i]}")
    return PASSED


def mlp(name: str, replies: Replies, context: Context) -> Outcome:
    """The MLP with its own modules; where one of these is wrong, the calls that it makes of them."""
    found = mlp_values(name, replies, context)
    if found.passed:
        return found
    wrong = " and ".join(module for module, check in ALONE.items() if not check(replies, context).passed)
    if not wrong and state(replies, context).passed:
        return found
    calls = replies[f"{name} calls"]
    if any(right_calls(context.inputs, name, calls, softmax) for softmax in (True, softmax_inside(replies))):
        return Outcome(1.0, "", "judged by its calls of the modules, which are not all right themselves",
                       compared=True)
    if not wrong or "forward" not in replies[name].arrays:
        return found
    return replace(found, diagnosis=f"Wrong numbers, perhaps from what is wrong above in {wrong}: {found.diagnosis}")


def softmax_inside(replies: Replies) -> bool:
    """Whether the MLP itself must apply softmax: not where its own script does, between the MLP and the loss."""
    return networks.reading(replies, otherwise="probabilities") != "logits"


def right_calls(inputs: Inputs, name: str, reply: Reply, softmax: bool) -> bool:
    """Whether every module was given what the one before it, or after it on the way back, returned.

    The functions are those that the probe puts into the modules' places. softmax: whether one comes last.
    """
    arrays, layers, sizes = inputs.network(name), inputs.layers(name), inputs.networks[name]
    x, dout, douts = arrays["x"], arrays["dout"], {}
    after = dict.fromkeys(layers, inputs.shifts["ELUModule"]) | {
        layers[-1]: inputs.shifts["SoftMaxModule"] if softmax else None}
    for i in layers:
        x = mixed(x, sizes[i + 1], i)
        x = x if after[i] is None else np.sin(x + after[i])
    for i in reversed(layers):
        douts[i] = dout = dout if after[i] is None else np.sin(dout - after[i])
        dout = mixed(dout, sizes[i], -i)
    expected = {"forward": x, **{f"{i} dout": value for i, value in douts.items()}}
    return reply.notes.get("shared") == 0 and all(
        key in reply.arrays and close(value, reply.arrays[key]) for key, value in expected.items())


def mlp_values(name: str, replies: Replies, context: Context) -> Outcome:
    """Probabilities 40 %, gradients 60 %; of logits where softmax is applied by the script."""
    reply, sizes = replies[name], context.inputs.networks[name]
    if "forward" not in reply.arrays:
        layers, wanted = reply.notes.get("layers"), [sorted(pair) for pair in pairwise(sizes)]
        if reply.error is None and layers != wanted:
            fault = ("has LinearModules of other widths" if isinstance(layers, list) and len(layers) == len(wanted) else
                     "must use one LinearModule a layer")
            return Outcome(0.0, f"MLP({sizes[0]}, {sizes[1:-1]}, {sizes[-1]}) {fault}.",
                           f"expected numbers of features {wanted}, received {str(layers)[:200]}")
        return failed(reply)
    right, forward = "", compared(
        replies, context, f"{name} forward",
        "The probabilities are wrong: linear layers with ELU between them, softmax after the last.",
        no_softmax="Softmax is missing at the end, or its backward where the script applies it.",
        **activations_missing(len(sizes) - 2))
    if not forward.passed and not softmax_inside(replies):
        logits = compared(replies, context, f"{name} forward", "", right="no softmax")
        right, forward = ("no softmax", logits) if logits.passed else (right, forward)
    found = {key: compared(replies, context, f"{name} {key}",
                           f"The gradient of linear layer {i + 1}'s {kind} is wrong.", right)
             for i in context.inputs.layers(name) for kind in ("weight", "bias") for key in [f"{i} {kind}"]}
    wrong = {key: outcome for key, outcome in found.items() if not outcome.passed}
    value = 0.4 * forward.fraction + 0.6 * (not wrong)
    if not forward.passed or not wrong:
        return replace(forward, fraction=value)
    if reply.error is not None and len(sizes) > 3 and replies["mlp_1"].error is None:
        return Outcome(value, f"Going back through several hidden layers, it raises {reply.error}. Give every layer "
                              "its own activation module.")
    key, first = list(wrong.items())[-1]  # the last layer that is wrong: its error spoils all before it
    layer = int(key[0]) + 1
    if layer == len(sizes) - 1 or reply.error is not None:
        return Outcome(value, first.diagnosis, first.numbers)
    return Outcome(value, f"Gradients are right after linear layer {layer} and wrong up to it: give every layer its "
                          "own activation module and go back through all of them.", first.numbers)


def activations_missing(hidden: int) -> dict[str, str]:
    """{mistake: sentence} of a network that leaves out ELU after one of its hidden layers, or after all."""
    if not hidden:
        return {"elu_last": "An ELU follows the linear layer."}
    one = {f"no_elu_{i}": f"No ELU after hidden layer {i}." for i in range(1, hidden + 1)}
    return (one if hidden > 1 else {}) | {"no_elu": "No ELU between the linear layers.",
                  "elu_last": "An ELU follows the last linear layer."}


def mlp_0(replies: Replies, context: Context) -> Outcome:
    return mlp("mlp_0", replies, context)


def mlp_1(replies: Replies, context: Context) -> Outcome:
    return mlp("mlp_1", replies, context)


def mlp_3(replies: Replies, context: Context) -> Outcome:
    found, sizes = mlp("mlp_3", replies, context), context.inputs.equal_widths
    modules, layers = replies["mlp_equal"].notes.get("modules"), len(sizes) - 1
    if found.passed and isinstance(modules, int) and 0 < modules < layers:
        return Outcome(0.0, "Hidden layers of one width are the same LinearModule: make one for each layer.",
                       f"MLP({sizes[0]}, {sizes[1:-1]}, {sizes[-1]}): {modules} LinearModules for {layers} layers")
    return found


def linear_right(replies: Replies, context: Context) -> Outcome:
    return all_of(*(check(replies, context) for check in (
        linear_forward, linear_backward_input, linear_backward_weight, linear_backward_bias)))


def elu_right(replies: Replies, context: Context) -> Outcome:
    return all_of(elu_forward(replies, context), elu_backward(replies, context))


def loss_judged(replies: Replies, context: Context) -> bool:
    """Whether a wrong gradient of the loss is the script's own mistake: not where a module or the MLP is wrong."""
    return all(check(replies, context).passed for check in (loss_forward, loss_backward, softmax_right, mlp_1))


SCRIPT = checks_scripts.Script("train_mlp_numpy.py", "1.2", None, {
    "learning_rate": 1e-3, "batch_size": 200, "max_steps": 1400, "eval_freq": 100, "dnn_hidden_units": [100]},
    loss_judged)
ALONE = {"LinearModule": linear_right, "ELUModule": elu_right, "SoftMaxModule": softmax_right}
QUESTION = Question(
    number="1.2", torch=False, file="modules.py", more_files=("mlp_numpy.py",), probes=probes, script=SCRIPT,
    own_checks={check.__name__: check for check in (
        linear_forward, linear_backward_input, linear_backward_weight, linear_backward_bias, linear_init, elu_forward,
        elu_backward, elu_at_zero, softmax_forward, softmax_backward, loss_forward, loss_backward, softmax_large,
        elu_large, loss_zero, batch_of_one, state, vectorised, mlp_0, mlp_1, mlp_3)})
