"""Question 2.1: the MLP in PyTorch."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from grading import checks_scripts, networks
from grading.checks import Context, Question, Replies
from grading.compare import Outcome, all_of, judge, missing
from grading.inputs import Inputs
from grading.replies import Probe, Reply

HIDDEN = ("mlp_1", "mlp_3")  # those with hidden layers
ACTIVATIONS = {"ELU", "ReLU", "LeakyReLU", "tanh", "sigmoid", "GELU", "CELU", "SELU", "SiLU", "softplus", "hardtanh",
               "PReLU", "RReLU"}
RIGHT = {
    "logits": "linear layers with ELU between them, nothing after the last",
    "log-probabilities": "linear layers with ELU between them, log_softmax after the last, as your script's loss takes "
                         "log-probabilities",
    "probabilities": "linear layers with ELU between them, softmax after the last, as your script's loss takes the "
                     "logarithm of it"}


def probes(context: Context) -> dict[str, Probe]:
    inputs = context.inputs
    arrays = {f"{name} {key}": value for name in inputs.networks for key, value in inputs.network(name).items()}
    return {"networks": Probe("mlp_torch", arrays, {"networks": inputs.networks, "equal": inputs.equal_widths})}


def called(inputs: Inputs, name: str) -> str:
    sizes = inputs.networks[name]
    return f"MLP({sizes[0]}, {sizes[1:-1]}, {sizes[-1]})"


def fact(reply: Reply, name: str, key: str) -> Any:
    return reply.notes.get(f"{name} {key}")


def unanswered(reply: Reply, name: str) -> Outcome:
    failure = str(fact(reply, name, "failed"))
    if failure.startswith("Absent: "):
        return Outcome(0.0, f"{failure.removeprefix('Absent: ')}.")
    if fact(reply, name, "layers") is not None and not fact(reply, name, "failed"):
        return Outcome(0.0, "Not compared: the linear layers or the output's shape are not as asked for (see there).")
    return Outcome(0.0, missing(reply, f"{name} "))


def mlp_no_hidden(replies: Replies, context: Context) -> Outcome:
    """MLP(n_inputs, [], n_classes) is one linear layer; what is wrong with every network is for other checks to say."""
    layers, values = layers_of(replies["networks"], context.inputs, "mlp_0"), values_of(replies, context, "mlp_0")
    judged = values.passed or values_of(replies, context, "mlp_1").passed
    return values if layers.passed and judged else shown(layers, replies, context, "mlp_0")


def after_layers(found: Outcome, replies: Replies, context: Context) -> Outcome:
    """`found`, which may follow from wrong layers, where the network without a hidden one is right."""
    wrong = mlp_no_hidden(replies, context).passed and not mlp_layers(replies, context).passed
    return replace(found, follows=("mlp_layers",)) if wrong else found


def mlp_shape(replies: Replies, context: Context) -> Outcome:
    reply, outcomes, samples = replies["networks"], [], context.inputs.samples
    for name in HIDDEN:
        inputs, *_, classes = context.inputs.networks[name]
        hint = f"For input of shape ({samples}, {inputs}) the output's shape must be ({samples}, {classes})."
        received = reply.arrays.get(f"{name} shape")
        right = received is not None and received.tolist() == [samples, classes]
        outcomes.append(unanswered(reply, name) if received is None else shown(Outcome(
            float(right), "" if right else hint, f"received {tuple(received.tolist())}"), replies, context, name))
    return after_layers(all_of(*outcomes), replies, context)


def layers_of(reply: Reply, inputs: Inputs, name: str) -> Outcome:
    found, wanted = fact(reply, name, "layers"), [list(pair) for pair in pairwise(inputs.networks[name])]
    if found is None:
        return unanswered(reply, name)
    wrong = f"{called(inputs, name)} has the wrong linear layers."
    return Outcome(float(found == wanted), "" if found == wanted else wrong,
                   f"expected (in, out) {wanted}, received {str(found)[:200]}")


def shown(outcome: Outcome, replies: Replies, context: Context, name: str) -> Outcome:
    """What a network says of itself, which counts where a number of it is right: its first layer's, or its values.

    One of other layers or of another shape than asked for gives no number to compare, and loses the points of these.
    """
    reply, sizes = replies["networks"], context.inputs.networks[name]
    shape = reply.arrays.get(f"{name} shape", np.zeros(0)).tolist()
    if not (outcome.passed and layers_of(reply, context.inputs, name).passed
            and shape == [context.inputs.samples, sizes[-1]]):
        return outcome
    found = first_layer(reply, context, name)
    judged = found.passed or first_layer(reply, context, name, " of ELU").passed or values_of(
        replies, context, name).passed
    return replace(outcome, compared=True) if judged else found


def first_layer(reply: Reply, context: Context, name: str, of: str = "") -> Outcome:
    """The output of the first linear layer. of: ' of ELU' for that of ELU(x), which is not right."""
    bare = ": no bias" * (0 in (fact(reply, name, "without bias") or []))
    return judge(reply, f"{name} first", context.expected[f"2.1 {name} first{of}{bare}"],
                 "The first linear layer's output is not what the network's input and its own parameters give: pass on "
                 "the input as it is.")


def mlp_layers(replies: Replies, context: Context) -> Outcome:
    return all_of(*(shown(layers_of(replies["networks"], context.inputs, name), replies, context, name)
                    for name in HIDDEN))


def mlp_parameters(replies: Replies, context: Context) -> Outcome:
    """One weight a connection and one bias an output; those of normalization layers and the like come on top."""
    reply, outcomes = replies["networks"], []
    for name in HIDDEN:
        sizes, found = context.inputs.networks[name], fact(reply, name, "parameters")
        if found is None:
            outcomes.append(unanswered(reply, name))
            continue
        wanted = sum((n_in + 1) * n_out for n_in, n_out in pairwise(sizes))
        lost, bare = fact(reply, name, "unregistered") or [], fact(reply, name, "without bias") or []
        reason = (f"{layer(lost)} not registered, so that no optimizer sees its parameters: use nn.ModuleList or "
                  "nn.Sequential, not a Python list or dictionary." if lost else
                  f"{layer(bare)} without a bias." if bare else
                  "The number of parameters is wrong: one weight a connection and one bias an output.")
        outcomes.append(shown(Outcome(float(found == wanted), "" if found == wanted else reason,
                                      f"{called(context.inputs, name)}: expected {wanted}, received {found}"),
                              replies, context, name))
    judged, sizes = all_of(*outcomes), context.inputs.equal_widths
    wanted, found = sum((n_in + 1) * n_out for n_in, n_out in pairwise(sizes)), reply.notes.get("equal parameters")
    if judged.passed and isinstance(found, int) and found < wanted:
        return Outcome(0.0, "Hidden layers of one width are the same nn.Linear: make one for each layer.",
                       f"MLP({sizes[0]}, {sizes[1:-1]}, {sizes[-1]}): expected {wanted}, received {found}")
    return after_layers(judged, replies, context)


def layer(positions: list[int]) -> str:
    """'Linear layer 1 is', 'Linear layers 1 and 2 are'."""
    numbers = [str(position + 1) for position in positions]
    return f"Linear layer {numbers[0]} is" if len(numbers) == 1 else (
        f"Linear layers {', '.join(numbers[:-1])} and {numbers[-1]} are")


def is_activation(name: str) -> bool:
    return name in ACTIVATIONS or name.startswith("ELU with")


def over_the_batch(reply: Reply, name: str, reading: str) -> str:
    """What is said of probabilities that add up to 1 over the batch; '' of others."""
    found = reply.arrays[f"{name} {reading}"]
    function = "log_softmax" if reading == "log-probabilities" else "softmax"
    return (f"{function} is taken over the batch (dim=0), not over the classes (dim=1)."
            if reading != "logits" and found.ndim == 2 and np.allclose(found.sum(axis=0), 1) else "")


def activated_first(reply: Reply, context: Context, name: str) -> str:
    return ("ELU is applied to the network's input: it belongs after each hidden layer."
            if first_layer(reply, context, name, " of ELU").passed else "")


def difference(reply: Reply, name: str) -> str:
    """What the network does other than the assignment's, from the functions that it applies; '' if they are right."""
    functions = fact(reply, name, "functions") or [[]]
    between, tail = functions[:-1], functions[-1]
    bare = [i for i, names in enumerate(between, 1) if not names]
    if bare and len(bare) == len(between):
        return "No activation between the linear layers."
    if bare:
        return f"No activation after hidden layer {' and '.join(map(str, bare))}."
    for names in between:
        if names != ["ELU"] and all(map(is_activation, names)):
            where = [str(i) for i, others in enumerate(between, 1) if others == names]
            after = f" after hidden layer {' and '.join(where)}" if len(where) < len(between) else ""
            return f"The activation{after} is {' and '.join(names)}, not ELU."
    if other := [found for found in tail if is_activation(found)]:
        return f"An activation ({other[0]}) follows the last linear layer: return its output."
    return ""


def values_of(replies: Replies, context: Context, name: str) -> Outcome:
    """The class probabilities behind the loss of the hand-in's own script."""
    reply, reading = replies["networks"], networks.reading(replies)
    if f"{name} {reading}" not in reply.arrays:
        return unanswered(reply, name)
    bare = fact(reply, name, "without bias") or []  # what is not there is for the number of parameters to say
    key = f"2.1 {name} probabilities" + (f": no bias in {bare}" if bare else "")
    tail = (fact(reply, name, "functions") or [[]])[-1]
    why = (over_the_batch(reply, name, reading) or activated_first(reply, context, name) or difference(reply, name)
           or networks.against_its_loss(reading, tail) or f"The class probabilities are wrong: {RIGHT[reading]}.")
    found = judge(reply, f"{name} {reading}", context.expected[key], why)
    extra = reply.notes.get("extra")
    if found.passed and isinstance(extra, list) and extra:
        return Outcome(1.0, "", f"compared without {', '.join(map(str, extra))[:100]}, added of your own choice")
    return found


def mlp_values(replies: Replies, context: Context) -> Outcome:
    """Where output and loss do not fit together, the loss may be what is wrong."""
    found = all_of(*(values_of(replies, context, name) for name in HIDDEN))
    return replace(found, follows=("script_loop",)) if found.diagnosis in networks.AGAINST.values() else found


def mlp_gradients(replies: Replies, context: Context) -> Outcome:
    """Of the class probabilities; where these are wrong, only whether every parameter receives one."""
    reply, reading, outcomes = replies["networks"], networks.reading(replies), []
    for name in HIDDEN:
        if f"{name} {reading}" not in reply.arrays:
            outcomes.append(unanswered(reply, name))
            continue
        right = values_of(replies, context, name).passed and not fact(reply, name, "without bias")
        for i in context.inputs.layers(name):
            for kind in ("weight", "bias"):
                found = gradient(reply, context, name, reading, f"{i} {kind}", right)
                outcomes.append(found if right else shown(found, replies, context, name))
    return after_layers(all_of(*outcomes), replies, context)


def gradient(reply: Reply, context: Context, name: str, reading: str, key: str, right: bool) -> Outcome:
    position, kind = key.split()
    received = reply.arrays.get(f"{name} {reading} {key}")
    if received is None:
        if kind == "bias" and int(position) in (fact(reply, name, "without bias") or []):
            return Outcome(1.0)
        return Outcome(0.0, f"The {kind} of linear layer {int(position) + 1} receives no gradient: keep everything "
                            "from input to output in torch operations, without detach, .data or NumPy.")
    if right:
        return judge(reply, f"{name} {reading} {key}", context.expected[f"2.1 {name} {key}"],
                     f"The gradient of linear layer {int(position) + 1}'s {kind} is wrong: keep everything in torch "
                     "operations.")
    if not np.isfinite(received).all() or not received.any():
        return Outcome(0.0, f"The {kind} of linear layer {int(position) + 1} receives no gradient.",
                       "all 0 or not finite")
    return Outcome(1.0, "", "only that there are gradients, since the values or parameters are others")


def loss_judged(replies: Replies, context: Context) -> bool:
    """Whether a wrong gradient of the loss is the script's own mistake: the network's, `mlp_values` tells."""
    reading = networks.reading(replies)
    tails = [(fact(replies["networks"], name, "functions") or [[]])[-1] for name in HIDDEN]
    if reading == "logits":
        return not any("softmax" in tail for tail in tails)
    return mlp_values(replies, context).passed or any(networks.against_its_loss(reading, tail) for tail in tails)


SCRIPT = checks_scripts.Script("train_mlp_pytorch.py", "2.1", ("mlp_pytorch", "MLP"), {
    "learning_rate": 1e-3, "batch_size": 200, "max_steps": 1400, "eval_freq": 100, "dnn_hidden_units": [100]},
    loss_judged)
QUESTION = Question(
    number="2.1", torch=True, file="mlp_pytorch.py", probes=probes, script=SCRIPT,
    own_checks={check.__name__: check for check in (
        mlp_no_hidden, mlp_shape, mlp_layers, mlp_parameters, mlp_values, mlp_gradients)})
