"""Question 4a: the ConvNet of the assignment's table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from grading import checks_scripts, convnet_rows, networks
from grading.checks import Context, Question, Replies
from grading.compare import Outcome, failed, judge, missing
from grading.replies import Probe, Reply

STEPS, LEARNING_RATE = 5, 1e-3
SCRIPT = checks_scripts.Script("train_convnet_pytorch.py", "4a", ("convnet_pytorch", "ConvNet"), {
    "learning_rate": 1e-4, "batch_size": 32, "max_steps": 5000, "eval_freq": 500, "optimizer": "Adam"})
MOST_NODES = 1000  # of a network, which reading takes a second or two


def probes(context: Context) -> dict[str, Probe]:
    inputs = context.inputs
    return {"network": Probe("convnet", {"x": inputs.images}, {"weights": inputs.weights, "other": inputs.other_sizes}),
            "training": Probe("convnet_training", inputs.training,
                              {"steps": STEPS, "learning_rate": LEARNING_RATE}, 60)}


def read(reply: Reply) -> tuple[dict[str, str], dict[str, str]] | None:
    """What is wrong with the rows of the table, and with the skip connections around its blocks; None if unknown."""
    nodes = reply.notes.get("nodes")
    if not isinstance(nodes, list) or not nodes or len(nodes) > MOST_NODES:
        return None
    layers = convnet_rows.Reading(nodes).layers
    pairs = convnet_rows.align(convnet_rows.table(), layers)
    return convnet_rows.faults(pairs, layers), convnet_rows.skip_faults(pairs, layers)


def convnet_sizes(replies: Replies, context: Context) -> Outcome:
    """A ConvNet for images of other channels, and for other classes."""
    reply, (images, channels, classes) = replies["network"], context.inputs.other_sizes
    shape = reply.notes.get("other sizes")
    if shape is None:
        found = failed(reply) if "other failed" not in reply.notes else Outcome(0.0, missing(reply, "other sizes"))
        return unseen(replies, Outcome(
            0.0, f"ConvNet({channels}, {classes}) does not work on images of shape ({channels}, 32, 32). "
                 f"{found.diagnosis}"))
    right = shape == [images, classes]
    return Outcome(float(right), "" if right else "The number of classes is an argument of ConvNet: use n_classes.",
                   f"ConvNet({channels}, {classes}), {images} images: expected shape {[images, classes]}, received "
                   f"{str(shape)[:40]}", compared=right)


def convnet_parameters(replies: Replies, context: Context) -> Outcome:
    """Convolutions may do without bias, as those before a BatchNorm often do.

    How many more a network for other sizes has, which are drawn, shows that both were counted.
    """
    reply, (_, *sizes) = replies["network"], context.inputs.other_sizes
    found, other = reply.notes.get("parameters"), reply.notes.get("other parameters")
    if found is None:
        return failed(reply)
    without = reply.notes.get("biases left out", 0)
    wanted, more = (networks.convnet_parameters(*size) - without for size in ((3, 10), sizes))
    right = found == wanted
    return Outcome(float(right), "" if right else "The number of parameters is not the table's: compare layer by "
                   "layer, with BatchNorm.",
                   f"expected {wanted:,}{' without biases of convolutions' if without else ''}, received {found:,}",
                   follows=told_by_rows(reply), compared=isinstance(other, int) and other - found == more - wanted)


def convnet_layers(replies: Replies, context: Context) -> Outcome:
    """Each row of the table: its sizes, its place in the order, what stands before it, parameters of its own."""
    reply = replies["network"]
    found = read(reply)
    if found is None:
        return failed(reply)
    if convnet_values(replies, context).passed:  # then it is the table's, in whatever way it is written
        return Outcome(1.0)
    if not raises(reply):
        return judged(found[0])
    ran = [name for name, fault in found[0].items() if fault != convnet_rows.MISSING]
    right = sum(not found[0][name] for name in ran)
    wrong = convnet_rows.sentence({name: found[0][name] for name in ran})
    return Outcome(right / len(found[0]), f"After {ran[-1] if ran else 'the image'}: {missing(reply, 'forward')} "
                   f"{wrong}".rstrip(), f"{right} of {len(found[0])} are right before that")


def convnet_skips(replies: Replies, context: Context) -> Outcome:
    """A block that is missing or in the wrong place is for `convnet_layers` to say."""
    reply = replies["network"]
    found = read(reply)
    if found is None:
        return failed(reply)
    if convnet_values(replies, context).passed:
        return Outcome(1.0)
    faults = found[1]
    if raises(reply):  # perhaps before the sum of the last block that ran
        faults = dict(list(faults.items())[:-1]) if list(faults.values())[-1:] != [""] else faults
    if not faults:
        return Outcome(0.0, "No PreAct block whose skip connection could be looked at.",
                       follows=("convnet_layers",) if raises(reply) else ())
    return judged(faults)


def raises(reply: Reply) -> bool:
    """Whether the network raises on images, after layers that can be read."""
    return "forward failed" in reply.notes and bool(reply.notes.get("nodes"))


def unseen(replies: Replies, outcome: Outcome) -> Outcome:
    """The outcome of what cannot be seen of a network that raises: that costs its rows of the table."""
    return replace(outcome, follows=("convnet_layers",)) if raises(replies["network"]) else outcome


def judged(faults: dict[str, str]) -> Outcome:
    right = sum(not fault for fault in faults.values())
    return Outcome(right / len(faults), convnet_rows.sentence(faults), f"{right} of {len(faults)} are right")


def convnet_values(replies: Replies, context: Context) -> Outcome:
    """The class probabilities behind the loss of the hand-in's own script."""
    reply, reading = replies["network"], networks.reading(replies)
    if reading not in reply.arrays:
        return unseen(replies, Outcome(0.0, missing(reply, "forward" if raises(reply) else "")))
    expected = context.expected["4a probabilities"]
    found = judge(reply, reading, expected, "", 2e-3)
    if found.passed:
        return found
    why = difference(reply, reading)
    loss = ("script_loop",) if why in networks.AGAINST.values() else ()  # which may be what is wrong
    rows, skips = read(reply) or ({}, {})
    told = ("convnet_skips",) if any(skips.values()) and not any(rows.values()) else told_by_rows(reply)
    return Outcome(0.0, why, found.numbers, follows=(*told, *loss))


def told_by_rows(reply: Reply) -> tuple[str, ...]:
    """The check that has told already why the network is another one: that of its rows, where half are right."""
    faults = list((read(reply) or ({}, {}))[0].values())
    return ("convnet_layers",) if any(faults) and 2 * faults.count("") >= len(faults) else ()


def difference(reply: Reply, reading: str) -> str:
    """Why the probabilities are not the table's network's."""
    rows, skips = read(reply) or ({}, {})
    if wrong := convnet_rows.sentence(rows) or convnet_rows.sentence(skips):
        return f"With the same parameters the output differs from the table's network's. {wrong}"
    tail = [node[0] for node in reply.notes.get("nodes") or []][-2:]
    return networks.against_its_loss(reading, tail) or (
        "With the same parameters the output differs from the table's network's. Check the order BatchNorm, ReLU, "
        "convolution in a block, the skip connections, BatchNorm and ReLU before linear.")


def convnet_learns(replies: Replies, context: Context) -> Outcome:
    """The loss on a few images over a few steps of Adam."""
    reply = replies["training"]
    losses = reply.arrays.get("losses")
    if losses is None or losses.shape != (STEPS,):
        return unseen(replies, failed(reply))
    fell = 1 - losses[-1] / losses[0] if np.isfinite(losses).all() else 0.0
    numbers = (f"loss {losses[0]:.2f} before, {losses[-1]:.2f} after {STEPS - 1} steps of Adam on "
               f"{len(context.inputs.training['labels'])} images")
    if fell >= 0.3:
        return Outcome(1.0, "", numbers)
    return Outcome(0.0, "The loss does not fall on a handful of images: check that every layer lies on the path from "
                        "image to output.", numbers)


QUESTION = Question(
    number="4a", torch=True, file="convnet_pytorch.py", probes=probes, script=SCRIPT,
    own_checks={check.__name__: check for check in (
        convnet_sizes, convnet_parameters, convnet_layers, convnet_skips, convnet_values, convnet_learns)})
