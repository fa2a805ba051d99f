"""Question 2.1: the MLP in PyTorch."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from grading import checks_scripts, oracle
from grading.checks import Context, Question, Replies
from grading.checks_1_2 import NETWORKS, network_arrays, parameters
from grading.compare import Outcome, all_of, failed, judge
from grading.sandbox import Probe, Reply

SCRIPT = checks_scripts.Script("train_mlp_pytorch.py", "2.1", ("mlp_pytorch", "MLP"), {
    "learning_rate": 1e-3, "batch_size": 200, "dnn_hidden_units": [100]})


def probes(context: Context) -> dict[str, Probe]:
    return {**{name: Probe("mlp_torch", network_arrays(sizes), {"sizes": sizes}) for name, sizes in NETWORKS.items()},
            **SCRIPT.probes(context)}


def extra(reply: Reply) -> list[str]:
    """Layers beyond linear ones and activations, which the assignment invites to try: their values are not checked."""
    return [str(name) for name in reply.notes.get("extra") or []]


def mlp_shape(replies: Replies, context: Context) -> Outcome:
    outcomes = []
    for name, sizes in NETWORKS.items():
        reply = replies[name]
        outcomes.append(judge(reply, "shape", np.array([5, sizes[-1]]), f"For input of shape (5, {sizes[0]}) the logits' "
                              f"shape must be (5, {sizes[-1]}).") if "shape" in reply.arrays else failed(reply))
    return all_of(*outcomes)


def mlp_layers(replies: Replies, context: Context) -> Outcome:
    outcomes = []
    for name, sizes in NETWORKS.items():
        found, wanted = replies[name].notes.get("layers"), [list(pair) for pair in pairwise(sizes)]
        if found is None:
            outcomes.append(failed(replies[name]))
        else:
            outcomes.append(Outcome(float(found == wanted), "" if found == wanted else
                                    f"MLP({sizes[0]}, {sizes[1:-1]}, {sizes[-1]}) has the wrong linear layers.",
                                    f"expected (in, out) {wanted}, received {str(found)[:200]}"))
    return all_of(*outcomes)


def mlp_parameters(replies: Replies, context: Context) -> Outcome:
    outcomes = []
    for name, sizes in NETWORKS.items():
        notes = replies[name].notes
        if "parameters" not in notes or "registered" not in notes:
            outcomes.append(failed(replies[name]))
            continue
        wanted = sum((n_in + 1) * n_out for n_in, n_out in pairwise(sizes))
        found = notes["parameters"] - notes["extra parameters"]
        outcomes.append(Outcome(
            float(found == wanted), "" if found == wanted else
            "The number of parameters is wrong: one weight a connection and one bias an output, all registered with the "
            "module (nn.ModuleList or nn.Sequential, not a Python list).", f"expected {wanted}, received {found}"))
    return all_of(*outcomes)


def mlp_values(replies: Replies, context: Context) -> Outcome:
    outcomes = []
    for name, sizes in NETWORKS.items():
        reply, arrays = replies[name], network_arrays(sizes)
        if extra(reply) and "forward" in reply.arrays:
            outcomes.append(Outcome(1.0, "", f"not compared: the network also has {', '.join(extra(reply))[:100]}"))
            continue
        weights, biases = parameters(arrays)
        logits = oracle.mlp_logits(arrays["x"], weights, biases)

        def linear(x: np.ndarray, activation=lambda x: x, weights=weights, biases=biases) -> np.ndarray:
            for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
                x = oracle.linear(activation(x) if i else x, weight, bias)
            return x

        suspects = [(oracle.softmax(logits), "The network ends with softmax: return logits, the loss applies softmax.")]
        if len(weights) > 1:
            suspects += [(linear(arrays["x"]), "There is no activation between the linear layers."),
                         (linear(arrays["x"], lambda x: np.maximum(x, 0)), "The activation is ReLU, not ELU."),
                         (linear(arrays["x"], np.tanh), "The activation is tanh, not ELU."),
                         (oracle.elu(logits), "An activation follows the last linear layer: return its output as it is.")]
        outcomes.append(judge(reply, "forward", logits, "Logits are linear layers with ELU between them, nothing after the "
                              "last.", suspects=suspects))
    return all_of(*outcomes)


def mlp_gradients(replies: Replies, context: Context) -> Outcome:
    outcomes = []
    for name, sizes in NETWORKS.items():
        reply, arrays = replies[name], network_arrays(sizes)
        weights, biases = parameters(arrays)
        if "forward" not in reply.arrays:
            outcomes.append(failed(reply))
            continue
        if extra(reply):
            missing = [key for i in range(len(weights)) for key in (f"{i} weight", f"{i} bias") if key not in reply.arrays]
            outcomes.append(Outcome(1 - len(missing) / (2 * len(weights)), "A parameter receives no gradient." if missing else ""))
            continue
        found = []
        for i in range(len(weights)):
            for kind, values in (("weight", weights), ("bias", biases)):
                def logits(value: np.ndarray, values: list = values, i: int = i) -> np.ndarray:
                    changed = [value if j == i else v for j, v in enumerate(values)]
                    return oracle.mlp_logits(arrays["x"], *((changed, biases) if values is weights else (weights, changed)))

                expected = oracle.central_difference(logits, values[i], arrays["dout"])
                found.append(judge(reply, f"{i} {kind}", expected, f"The gradient of linear layer {i + 1}'s {kind} is wrong: "
                                   "keep everything in torch operations, and check the forward pass."))
        outcomes.append(all_of(*found))
    return all_of(*outcomes)


QUESTION = Question(
    number="2.1", torch=True, probes=probes,
    checks={check.__name__: check for check in (mlp_shape, mlp_layers, mlp_parameters, mlp_values, mlp_gradients)}
    | {"script_flags": SCRIPT.flags, "accuracy": SCRIPT.accuracy})
