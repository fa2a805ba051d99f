"""Questions 3.1, 3.2b and 3.2c: layer normalization, on inputs that are drawn (`grading.inputs`).

What is right for them, and what well-known mistakes give, is recorded in `Context.expected`: no formula stands here.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from grading.checks import Context, Question, Replies
from grading.compare import PASSED, Outcome, all_of, close, error_sentence, failed, judge, judge_by
from grading.inputs import EPS, Arrays, Inputs
from grading.replies import Probe, Reply

BESSEL = "The variance has Bessel's correction: use unbiased=False (or correction=0)."


def norm_arrays(inputs: Inputs, prefix: str = "") -> Arrays:
    return {name: inputs.layer_norm[prefix + name] for name in ("x", "gamma", "beta", "dout")}


def value_probes(inputs: Inputs, function: str, **options: str) -> dict[str, Probe]:
    small = {"eps": EPS["value"], **options}
    return {
        **{name: Probe(function, norm_arrays(inputs), {"eps": eps, **options}) for name, eps in EPS.items()},
        "float32": Probe(function, norm_arrays(inputs), {"dtype": "float32", **small}),
        "narrow": Probe(function, norm_arrays(inputs, "narrow_"), small),
    }


def module_probes(inputs: Inputs, name: str) -> dict[str, Probe]:
    options = {"class": name, "n_neurons": inputs.neurons}
    return {"parameters": Probe("norm_parameters", options=options),
            "shapes": Probe("norm_shapes", inputs.shown, options)}


def probes_autograd(context: Context) -> dict[str, Probe]:
    name = "CustomLayerNormAutograd"
    return module_probes(context.inputs, name) | value_probes(context.inputs, "norm_module", **{"class": name})


def probes_function(context: Context) -> dict[str, Probe]:
    arrays, eps = norm_arrays(context.inputs), {"eps": EPS["value"]}
    return value_probes(context.inputs, "norm_function") | {
        "needs": Probe("norm_needs", arrays, eps), "saved": Probe("norm_saved", arrays, eps)}


def probes_module(context: Context) -> dict[str, Probe]:
    name = "CustomLayerNormManualModule"
    arrays = norm_arrays(context.inputs) | {"mix": context.inputs.layer_norm["mix"]}
    return module_probes(context.inputs, name) | {
        "calls": Probe("norm_calls", arrays, {"class": name, "eps": EPS["large_eps"]})}


def norm_parameters(replies: Replies, context: Context) -> Outcome:
    reply, neurons = replies["parameters"], context.inputs.neurons
    if reply.error:
        return failed(reply)
    found = all_of(*(
        Outcome(0.0, f"{name} is not an nn.Parameter: the module does not register it.")
        if f"{name} is not a parameter" in reply.notes else
        judge(reply, name, value, f"{name} must be a parameter with a number for each neuron that starts as {start}.")
        for name, value, start in (("gamma", np.ones(neurons), "1"), ("beta", np.zeros(neurons), "0"))))
    return replace(found, compared=False)  # with what is the same for every class


OWN_EPS = "The eps that is passed in is not used."
BACKWARD_EPS = "backward does not use the eps that forward was given."
WRONG_EPS = dict.fromkeys(("own eps", "no eps", "own eps in the deviation", "own eps in x-hat"), BACKWARD_EPS)
VALUE = {"bessel": BESSEL, "eps outside": "eps belongs under the root, with the variance.",
         "no root": "The root is missing: divide by the standard deviation.",
         "over the batch": "It normalizes over the batch (dimension 0), not over the features.",
         "batch mean": "The mean is taken over the batch (dimension 0), not over the features.",
         "batch variance": "The variance is taken over the batch (dimension 0), not over the features.",
         "by samples": "The sum of the squared deviations is divided by the number of samples: divide by that of the "
                       "features.",
         "whole": "Mean and variance are taken over the whole batch, not over the features of each row.",
         "no beta": "beta is not added.", "not scaled": "gamma and beta are not applied.",
         "own eps": OWN_EPS, "no eps": OWN_EPS}
GRADIENTS = {
    "input": ("The gradient of the input is wrong: mean and variance depend on every feature of the row too.", {
        "constants": "Mean and variance are treated as constants in the gradient of the input.",
        "no variance": "The part of the input's gradient that goes through the variance is missing.",
        "no gamma": "gamma is missing in the gradient of the input.",
        "batch means": "The means in the gradient of the input are taken over the batch (dimension 0), not over the "
                       "features (dimension 1).",
        "batch mean": "The mean of the incoming gradient is taken over the batch (dimension 0), not over the features.",
        "batch product": "The mean of the incoming gradient times x-hat is taken over the batch (dimension 0), not "
                         "over the features.",
        "whole means": "The means in the gradient of the input are taken over the whole batch, not over each row.",
        "sums": "The sums in the gradient of the input are not divided by the number of features.",
        "sum": "The sum of the incoming gradient is not divided by the number of features.",
        "sum of products": "The sum of the incoming gradient times x-hat is not divided by the number of features.",
        **dict.fromkeys(("variance", "variance and eps"),
                        "backward uses the variance where 1 / sqrt(variance + eps) belongs."),
        "centred": "The centred input stands for x-hat in backward: it is not divided by the standard deviation.",
        "bessel": "The variance in backward has Bessel's correction, unlike that in forward.",
        "by variance": "backward divides by the variance where its root belongs.",
        "deviation": "backward uses the standard deviation where 1 over it belongs.",
        "no mean": "The part of the input's gradient that goes through the mean is missing.",
        "no deviation": "The gradient of the input is not divided by the standard deviation.", **WRONG_EPS}),
    "gamma": ("The gradient of gamma is wrong: check its factors, and what is summed and over what.", {
        "no factor": "A factor of gamma in the forward pass is missing in its gradient.",
        "x": "The gradient of gamma uses x as it was before it was normalized.",
        "features": "The gradient of gamma is summed over the features, not over the batch.",
        "no deviation": "The gradient of gamma uses x less its mean, which is not divided by the standard deviation.",
        "own eps": BACKWARD_EPS, "no eps": BACKWARD_EPS,
        "mean": "The gradient of gamma is averaged over the batch: the loss has already done so."}),
    "beta": ("The gradient of beta is wrong: check what is summed and over what.", {
        "mean": "The gradient of beta is averaged over the batch: the loss has already done so.",
        "features": "The gradient of beta is summed over the features, not over the batch."})}


ROUGH = 1e-2  # relative: two slopes of float64 differ by less than 1e-6 of it, those of float32 by about 1
HELD = 1.2  # times the size of the input: one tensor like it, and numbers for each row
KEPT = {"normalized": "the normalized input", "normalized and scaled": "the normalized input times gamma",
        "output": "the output", "centred": "the centred input"}


def value_at(replies: Replies, context: Context, name: str) -> Outcome:
    return judge_by(context.expected, f"3 {name} forward", replies[name], "forward",
                    "The value differs from gamma (x - mean) / sqrt(variance + eps) + beta, over each row.", VALUE,
                    1e-5)


def norm_value(replies: Replies, context: Context) -> Outcome:
    """Value for both eps. Bessel's correction is for `norm_variance` to tell."""
    found, answers = all_of(*(value_at(replies, context, name) for name in reversed(EPS))), replies["value"].arrays
    slopes = [answers[name] for name in ("slope", "slope of a small step") if name in answers]
    if found.passed and len(slopes) == 2 and not close(slopes[0], slopes[1], ROUGH):
        return Outcome(0.0, "forward rounds a float64 input to float32, so that torch.autograd.gradcheck cannot pass: "
                            "keep the input's dtype, without .float().",
                       "its slope, by steps of 1e-6, is that of rounded numbers")
    return replace(found, follows=("norm_variance",)) if found.diagnosis == BESSEL else found


def gradients(reply: Reply, expected: Mapping[str, np.ndarray], name: str, tolerance: float) -> list[Outcome]:
    """The three gradients of a reply, against those recorded for the probe `name`."""
    return [judge_by(expected, f"3 {name} {kind}", reply, kind, hint, suspects, tolerance)
            for kind, (hint, suspects) in GRADIENTS.items()]


def norm_gradients(replies: Replies, context: Context) -> Outcome:
    """Each of the three gradients, right for both eps. What is wrong with the value is told there.

    Gradients of a wrong value are numbers all the same: where one is missing or 0 it does not follow from that.
    """
    by_eps, values = [], {name: value_at(replies, context, name) for name in EPS}
    unused = any(value.diagnosis == OWN_EPS for value in values.values())
    for name, value in values.items():
        found = (gradients_without_eps if unused else gradients)(replies[name], context.expected, name, 1e-4)
        if not value.passed and "forward" in replies[name].arrays:
            found = [outcome if outcome.passed else replace(
                outcome, diagnosis=f"These are not the gradients of the right value, which is wrong above: "
                                   f"{value.diagnosis}") for outcome in found]
        by_eps.append(found)
    follows = not norm_value(replies, context).passed and all(
        kind in replies[name].arrays and replies[name].arrays[kind].any() for kind in GRADIENTS for name in EPS)
    whole = all_of(*(next((outcome for outcome in kind if not outcome.passed), kind[0])
                     for kind in zip(*by_eps, strict=True)))
    return replace(whole, follows=("norm_value", "norm_variance") if follows else ())


def gradients_without_eps(reply: Reply, expected: Mapping[str, np.ndarray], name: str,
                          tolerance: float) -> list[Outcome]:
    """Those of a value that does not use the eps: the gradients for 1e-5 or for none, whichever fits better."""
    found = [gradients(reply, {**expected, **{f"3 {name} {kind}": expected[f"3 {name} {kind}: {mistake}"]
                                              for kind in ("input", "gamma")}}, name, tolerance)
             for mistake in ("own eps", "no eps")]
    return max(found, key=lambda outcomes: all_of(*outcomes).fraction)


def norm_float32(replies: Replies, context: Context) -> Outcome:
    """Against what is right, and what is wrong in float64 already against that."""
    reply, other = replies["float32"], replies["value"]
    kind = reply.notes.get("dtype")
    if "forward" in reply.arrays and kind != "float32":
        return Outcome(0.0, "A float32 input must give a float32 output.", f"received {str(kind)[:20]}")
    expected = {f"3 value {name}": other.arrays[name] for name in ("forward", *GRADIENTS) if name in other.arrays}
    known = [name for name in ("forward", *GRADIENTS) if f"3 value {name}" in expected]
    if not known:
        return failed(reply) if reply.error else Outcome(0.0, "It cannot be judged before float64 works.")
    found = all_of(*(judge_by(expected, f"3 value {name}", reply, name, "In float32 it differs from float64.",
                              tolerance=5e-3) for name in known))
    return replace(found, compared=False)  # with another answer


def norm_variance(replies: Replies, context: Context) -> Outcome:
    """With two features, Bessel's correction doubles the variance; any other wrong value is told as that."""
    found = judge_by(context.expected, "3 narrow forward", replies["narrow"], "forward",
                     "The variance of a row must be the mean of the squared deviations.", {"bessel": BESSEL}, 1e-2)
    follows = found.diagnosis != BESSEL and not value_at(replies, context, "value").passed
    return PASSED if follows and "forward" in replies["narrow"].arrays else found


def accepted(replies: Replies, context: Context, wrong: str, sentence: str) -> Outcome:
    """The outcome of a check that shapes which are `wrong` are refused, in whatever way, and right ones are not.

    Their order is drawn, so that an answer that fits has looked at the shapes.
    """
    reply, inputs = replies["shapes"], context.inputs
    refused = reply.notes.get("refused")
    if not isinstance(refused, list) or reply.error:
        return failed(reply)
    if any(str(error).startswith("NotImplementedError") for error in refused):
        return Outcome(0.0, "It is not implemented.")
    accepted, compared = [], False
    for i, ((kind, shape), error) in enumerate(zip(inputs.offered, refused, strict=True)):
        if not kind and error is not None:
            return Outcome(0.0, error_sentence(str(error)), f"for an input of shape {shape}")
        if not kind and (f"{i}" not in reply.arrays or reply.arrays[f"{i}"].shape != shape):
            return Outcome(0.0, f"An input of shape {shape} must give an output of the same shape.")
        accepted += [str(shape)] if kind == wrong and error is None else []
        compared |= not kind and close(context.expected[f"3 shown {i}"], reply.arrays[f"{i}"], 1e-3)
    numbers = f"with n_neurons {inputs.neurons}, accepted {', '.join(accepted)}"
    return Outcome(0.0, sentence, numbers, compared=compared) if accepted else replace(PASSED, compared=True)


def norm_shapes(replies: Replies, context: Context) -> Outcome:
    found = accepted(replies, context, "features", "An input with another number of features than n_neurons must be "
                                                   "refused: compare input.shape.")
    if found.passed and replies["shapes"].notes.get("broadcasts"):
        return replace(found, fraction=0.0, numbers="with n_neurons 1, 3 features are accepted",
                       diagnosis="An input with another number of features than n_neurons must be refused by a check, "
                                 "which raises an error.")
    return found


def norm_dimensions(replies: Replies, context: Context) -> Outcome:
    return accepted(replies, context, "dimensions", "An input that is not of shape (batch, n_neurons) should be "
                                                    "refused as well.")


def summed(received: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """A gradient of each sample's own, over the samples: autograd adds them up by itself."""
    return received.sum(axis=0) if received.ndim == 2 and received.size > expected.size else received


def norm_none(replies: Replies, context: Context) -> Outcome:
    reply, names = replies["needs"], ("input", "gamma", "beta")
    right_at_all = all_of(*gradients(replies["value"], context.expected, "value", 1e-4)).passed
    if reply.error:
        needed = reply.notes.get("needed")
        where = f" for {' and '.join(map(str, needed))[:40]} alone" if isinstance(needed, list) else ""
        return replace(failed(reply), numbers=f"where a gradient is needed{where}" if where else "")
    returned: dict[str, list[bool]] = {}
    for needs in ("".join(choice) for choice in itertools.product("01", repeat=3) if "1" in choice):
        returned[needs] = [f"{needs} {name}" in reply.arrays for name in names]
        if right_at_all and not all(close(context.expected[f"3 value {name}"], summed(
                                        reply.arrays[f"{needs} {name}"], context.expected[f"3 value {name}"]))
                                    for name, has, need in zip(names, returned[needs], needs, strict=True)
                                    if has and need == "1"):
            return Outcome(0.0, "backward returns other gradients where not every input needs one.")
    answers = [(name, need == "1", has) for needs, given in returned.items()
               for name, need, has in zip(("input", "gamma", "beta"), needs, given, strict=True)]
    known = [name for name in ("input", "gamma", "beta") if (name, True, True) in answers]
    if not known:
        return Outcome(0.0, "backward returns None for every input, also where its gradient is needed.")
    # where a gradient is always missing, the check of gradients says so
    vain, lost = ([name for name in known if (name, *case) in answers] for case in ((False, True), (True, False)))
    wrong = [needs for needs, given in returned.items()
             if any(has != (need == "1") and name in known for name, need, has in zip(
                 ("input", "gamma", "beta"), needs, given, strict=True))]
    places = "input, gamma and beta each have a place of their own in ctx.needs_input_grad."
    if lost == ["input", "gamma", "beta"] and not vain:
        return Outcome(0.0, f"backward returns None for every input, unless all three need a gradient: {places}")
    gets = f"{' and '.join(lost)} {'get' if len(lost) > 1 else 'gets'} None where a gradient is wanted: {places}"
    sentences = [gets] * bool(lost) + [
        "backward must return None for each input without ctx.needs_input_grad."] * bool(vain)
    return Outcome(1 - len(wrong) / len(returned), " ".join(sentences),
                   f"a gradient is computed in vain for {', '.join(vain)}" if vain else "")


def norm_saved(replies: Replies, context: Context) -> Outcome:
    """Of tensors as large as the input one is needed, the input or the normalized one; another is waste, as is beta.

    And what is kept, or given, is not overwritten.
    """
    reply, inputs = replies["saved"], context.inputs.layer_norm
    size = inputs["x"].size
    kept, blocks = list(reply.arrays.values()), reply.notes.get("saved")
    if reply.error or not isinstance(blocks, list):
        return failed(reply)
    if not kept:
        return Outcome(0.0, "Nothing is kept with ctx.save_for_backward, so that backward cannot be right.")
    numbers = f"{len(kept)} tensors kept, {sum(blocks)} numbers for an input of {size}"
    if sum(block for block in blocks if block >= size) <= size:
        if any(close(inputs["beta"], array, 1e-5) for array in kept):
            return Outcome(0.0, "beta is kept for backward, which does not need it.", numbers)
        if (times := reply.notes.get("held", 0)) > HELD:
            return Outcome(0.0, "More than one tensor of the input's size is kept for backward, outside of "
                                "ctx.save_for_backward. Keep one of them, and compute the others from it.",
                           f"memory of {times} times the input's size is kept")
        if isinstance(changed := replies["value"].notes.get("overwritten"), list) and changed:
            return Outcome(0.0, f"The {' and '.join(map(str, changed))[:60]} that the function is given is "
                                "overwritten, which others may still need: no functions in place (mul_, sub_) on it.",
                           numbers)
        return Outcome(1.0, "", numbers)
    known = {"the input": inputs["x"], **{text: context.expected[f"3 kept {name}"] for name, text in KEPT.items()}}
    found = [text for text, value in known.items()
             if any(close(value, array, 1e-5) or close(value.T, array, 1e-5) for array in kept)]
    return Outcome(0.0, f"More than one tensor of the input's size is kept for backward{': ' * bool(found)}"
                        f"{', '.join(found)}. Keep one of them, and compute the others from it.", numbers)


def norm_attributes(replies: Replies, context: Context) -> Outcome:
    """Tensors are kept by ctx.save_for_backward, as the assignment asks: PyTorch notices if one is overwritten."""
    reply = replies["saved"]
    if reply.error or not isinstance(names := reply.notes.get("attributes"), list):
        return failed(reply)
    if names:
        return Outcome(0.0, f"ctx.{str(names[0])[:40]} holds a tensor: tensors are kept by ctx.save_for_backward, and "
                            "constants such as eps as attributes.")
    return Outcome(1.0, "")


def norm_calls(replies: Replies, context: Context) -> Outcome:
    """The probe puts a mixture of its inputs in the function's place, of which a student need not know."""
    reply, (a, b, c, d) = replies["calls"], context.inputs.layer_norm["mix"]
    inputs, eps = context.inputs.layer_norm, EPS["large_eps"]
    summed = inputs["dout"].sum(axis=0)
    mixed = a * inputs["x"] + b * inputs["gamma"] + c * inputs["beta"] + d * eps
    value = judge(reply, "forward", mixed,
                  "forward must return CustomLayerNormManualFunction.apply(input, gamma, beta, eps) as it is.",
                  suspects=[(context.expected["3 large_eps forward"],
                             "The module normalizes by itself: it must call CustomLayerNormManualFunction.apply.")])
    hint = "The gradients of input, gamma and beta must come from the function alone."
    found = all_of(value, *(judge(reply, name, expected, hint) for name, expected in (
        ("input", a * inputs["dout"]), ("gamma", b * summed), ("beta", c * summed))))
    sentence, numbers = wrongly_given(reply, inputs, eps)
    return replace(found, diagnosis=sentence or found.diagnosis, numbers=numbers)


def wrongly_given(reply: Reply, inputs: Arrays, eps: float) -> tuple[str, str]:
    """Which argument of the function is not what it should be, and numbers; '' for none."""
    wanted = {"input": inputs["x"], "gamma": inputs["gamma"], "beta": inputs["beta"]}
    given = {role: reply.arrays[f"given {role}"] for role in wanted if f"given {role}" in reply.arrays}
    for role, array in given.items():
        if not close(wanted[role], array):
            other = next((f"{name} in its place" for name, value in wanted.items() if close(value, array)),
                         f"another array, of shape {array.shape}")
            return f"The function is not given {role} as the module has it, but {other}.", ""
    if given and reply.notes.get("given eps") != eps:
        return ("The module's eps is not passed on to the function.",
                f"made with eps={eps:g}; the function was given {reply.notes.get('given eps') or 'none'}")
    return "", ""


def question(number: str, probes, *checks) -> Question:
    return Question(number, True, "custom_layernorm.py", probes, {check.__name__: check for check in checks})


AUTOGRAD = question("3.1", probes_autograd, norm_parameters, norm_value, norm_gradients, norm_float32, norm_variance,
                    norm_shapes, norm_dimensions)
FUNCTION = question("3.2b", probes_function, norm_value, norm_gradients, norm_float32, norm_variance, norm_none,
                    norm_saved, norm_attributes)
MODULE = question("3.2c", probes_module, norm_parameters, norm_calls, norm_shapes, norm_dimensions)
