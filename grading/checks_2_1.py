"""Question 2.1: the MLP in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from grading import checks_scripts, networks, oracle
from grading.checks import Context, Question, Replies
from grading.compare import Outcome, all_of, failed, judge
from grading.networks import NETWORKS
from grading.sandbox import Probe, Reply

SCRIPT = checks_scripts.Script("train_mlp_pytorch.py", "2.1", ("mlp_pytorch", "MLP"), {
    "learning_rate": 1e-3, "batch_size": 200, "max_steps": 1400, "eval_freq": 100, "dnn_hidden_units": [100]})


def probes(context: Context) -> dict[str, Probe]:
    return {name: Probe("mlp_torch", networks.arrays(name), {"sizes": sizes}) for name, sizes in NETWORKS.items()}


def extra(reply: Reply) -> list[str]:
    """Layers beyond linear ones and activations, which the assignment invites to try: their values are not checked."""
    return [str(name) for name in reply.notes.get("extra") or []]


def mlp_shape(replies: Replies, context: Context) -> Outcome:
    outcomes = []
    for name, sizes in NETWORKS.items():
        reply = replies[name]
        hint = f"For input of shape (5, {sizes[0]}) the logits' shape must be (5, {sizes[-1]})."
        outcomes.append(judge(reply, "shape", np.array([5, sizes[-1]]), hint) if "shape" in reply.arrays
                        else failed(reply))
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
            "The number of parameters is wrong: one weight a connection and one bias an output, all registered with "
            "the module (nn.ModuleList or nn.Sequential, not a Python list).", f"expected {wanted}, received {found}"))
    return all_of(*outcomes)


def linear_chain(name: str, activation: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Logits with another activation between the linear layers."""
    arrays = networks.arrays(name)
    x = arrays["x"]
    for i in networks.layers(name):
        x = oracle.linear(activation(x) if i else x, arrays[f"weight{i}"], arrays[f"bias{i}"])
    return x


def mlp_values(replies: Replies, context: Context) -> Outcome:
    outcomes = []
    for name in NETWORKS:
        reply = replies[name]
        if extra(reply) and "forward" in reply.arrays:
            outcomes.append(Outcome(1.0, "", f"not compared: the network also has {', '.join(extra(reply))[:100]}"))
            continue
        logits = networks.logits(name)
        suspects = [(oracle.softmax(logits), "The network ends with softmax: return logits, the loss applies softmax.")]
        if len(networks.layers(name)) > 1:
            suspects += [(linear_chain(name, lambda x: x), "There is no activation between the linear layers."),
                         (linear_chain(name, lambda x: np.maximum(x, 0)), "The activation is ReLU, not ELU."),
                         (linear_chain(name, np.tanh), "The activation is tanh, not ELU."),
                         (oracle.elu(logits), "An activation follows the last linear layer: return its output.")]
        outcomes.append(judge(reply, "forward", logits, "Logits are linear layers with ELU between them, nothing after "
                              "the last.", suspects=suspects))
    return all_of(*outcomes)


def mlp_gradients(replies: Replies, context: Context) -> Outcome:
    outcomes = []
    for name in NETWORKS:
        reply, expected = replies[name], networks.gradients(name, probabilities=False)
        if "forward" not in reply.arrays:
            outcomes.append(failed(reply))
        elif extra(reply):
            missing = [key for key in expected if key not in reply.arrays]
            outcomes.append(Outcome(1 - len(missing) / len(expected),
                                    "A parameter receives no gradient." if missing else "", ", ".join(missing)))
        else:
            outcomes.append(all_of(*(
                judge(reply, key, value, f"The gradient of linear layer {int(key[0]) + 1}'s {key[2:]} is wrong: keep "
                      "everything in torch operations, and check the forward pass.")
                for key, value in expected.items())))
    return all_of(*outcomes)


QUESTION = Question(
    number="2.1", torch=True, file="mlp_pytorch.py", probes=probes, script=SCRIPT,
    own_checks={check.__name__: check for check in (mlp_shape, mlp_layers, mlp_parameters, mlp_values, mlp_gradients)})
