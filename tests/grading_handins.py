"""Grades the hand-ins of tests/handin_table.py and says where the grader is wrong about them.

    python tests/grading_handins.py                  # every right hand-in, every fault: about half an hour
    python tests/grading_handins.py fir conv-no-step # these

Right hand-ins must have full points. A fault must cost points in a check of its part, which keeps at most one point, and
none in a check of another part; one that spoils the training or the evaluation costs at least half a point. Scripts are run for faults that show in them.
"""

from __future__ import annotations

import hashlib
import secrets
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from unittest import mock

import grading_help
import handin_table
from grading_help import failures, grade, reduced
from handin_table import FAULTS, RIGHT, Fault

from grading import rubric, scan
from grading.submission import Record

NORM = {"gamma and beta are parameters": ("norm_parameters",), "initial values": ("norm_parameters",),
        "forward": ("norm_value", "norm_variance", "norm_float32"), "eps": ("norm_value", "norm_gradients"),
        "gradients": ("norm_gradients", "norm_float32"), "shape check": ("norm_shapes", "norm_dimensions"),
        **{f"gradient of {name}": ("norm_gradients", "norm_float32") for name in ("the input", "gamma", "beta")},
        "None where no gradient is needed": ("norm_none",), "saves no more than needed": ("norm_saved",)}
SCRIPT = {**dict.fromkeys(("default values", "runs to its end"), "script_flags"),
          **{f"flag {name}": "script_flags" for name in ("learning_rate", "max_steps", "batch_size", "eval_freq", "data_dir",
                                                         "dnn_hidden_units")},
          **dict.fromkeys(("accuracy function", "optimizer and its step", "gradients cleared", "loss is the cross-entropy"), "script_loop"),
          **dict.fromkeys(("trains on the training images", "evaluates on the whole test set", "reports evaluations"), "test_split"),
          "training mode": "eval_mode", "evaluation mode": "eval_mode", "reaches the accuracy": "accuracy"}
CHECKS: dict[str, dict[str, tuple[str, ...]]] = {
    "1.2": {"LinearModule: initial values": ("linear_init",), "LinearModule: forward": ("linear_forward",),
            **{f"LinearModule: gradient of the {name}": (f"linear_backward_{name}",) for name in ("weight", "bias", "input")},
            "ELUModule: forward": ("elu_forward", "elu_large"), "ELUModule: backward": ("elu_backward", "elu_at_zero", "elu_large"),
            "SoftMaxModule: forward": ("softmax_forward", "batch_of_one"), "SoftMaxModule: large numbers": ("softmax_large",),
            "SoftMaxModule: backward": ("softmax_backward", "batch_of_one"),
            "CrossEntropyModule: forward": ("loss_forward", "batch_of_one", "loss_zero"),
            "CrossEntropyModule: backward": ("loss_backward", "batch_of_one", "loss_zero"),
            "no loop over samples": ("vectorised",), "no state shared": ("state",), "MLP: no hidden layers": ("mlp_0",),
            **{f"MLP: {name}": ("mlp_0", "mlp_1", "mlp_3") for name in ("layers", "forward", "gradients")}},
    "2.1": {"MLP: layers": ("mlp_layers", "mlp_shape", "mlp_parameters"), "MLP: parameters are registered": ("mlp_parameters",),
            "MLP: no hidden layers": ("mlp_no_hidden",),
            "MLP: forward": ("mlp_values", "mlp_gradients")},
    "3.1": NORM, "3.2b": NORM,
    "3.2c": {**NORM, **dict.fromkeys(("forward", "eps", "gradients", "calls the function"), ("norm_calls",))},
    "4a": {"layers and their order": ("convnet_layers",), "parameter count": ("convnet_parameters",),
           "skip connections": ("convnet_skips",), "n_channels and n_classes": ("convnet_sizes",),
           "forward": ("convnet_values", "convnet_learns"),
           **dict.fromkeys(("PreAct block", "blocks one after the other", "pooling", "head"), ("convnet_layers", "convnet_values"))}}


SERIOUS = {f"script: {part}" for part in (
    "gradients cleared", "optimizer and its step", "loss is the cross-entropy", "trains on the training images",
    "evaluates on the whole test set")}
LEAST = 0.5  # points that one of these faults costs at least


def checks_of(question: str, part: str) -> tuple[str, ...]:
    """The checks that a part of the table is about."""
    if not part.startswith("script: "):
        return CHECKS[question][part]
    check = SCRIPT[part.removeprefix("script: ")]
    if part == "script: optimizer and its step":  # another optimizer is another default
        return ("script_loop", "script_flags")
    return ("script_loop",) if check == "eval_mode" and question != "4a" else (check,)


def wrong_about(fault: Fault, record: Record) -> list[str]:
    """What the grader got wrong: points that a faulty part keeps, points that another part lost."""
    checks = {check["id"]: check for check in record["questions"][fault.question]["checks"]}
    wrong, touched = [], set()
    for part in (*fault.must_fail, *fault.may_fail):
        about = [checks[name] for name in checks_of(fault.question, part) if name in checks]
        touched |= {check["id"] for check in about}
        if part not in fault.must_fail:
            continue
        failed = [check for check in about if check["fraction"] < 1]
        cost = sum(check["points"] - check["score"] for check in failed)
        if part in SERIOUS and failed and cost < LEAST:
            wrong.append(f"costs only {cost:.2f}: {part}")
        if not failed:
            wrong.append(f"keeps everything: {part}")
        kept = sum(check["score"] for check in failed if not check.get("shares"))
        if kept > 1:
            wrong.append(f"keeps {kept:.2f}: {part} ({', '.join(check['id'] for check in failed)})")
    return wrong + [f"false verdict: {name}: {check['diagnosis']} {check['numbers']}" for name, check in checks.items()
                    if check["score"] < check["points"] and name not in touched]


def wrong_about_right(record: Record) -> list[str]:
    """Points that a right hand-in lost, and flags that it got."""
    expected = {"no report (PDF)"}
    return failures(record) + [f"flag: {flag}" for flag in record["flags"] if flag not in expected]


def graded(names: Sequence[str], faults: Iterable[Fault], folder: Path) -> dict[str, list[str]]:
    """{hand-in or fault: what the grader got wrong about it}."""
    own = (handin_table.POOL / "cifar10_utils" / "course.py").read_bytes()  # the course's file, in other words
    with mock.patch.object(scan, "COURSE_UTILITIES", {hashlib.sha256(own).hexdigest()}):
        return _graded(names, faults, folder)


def _graded(names: Sequence[str], faults: Iterable[Fault], folder: Path) -> dict[str, list[str]]:
    paths = [handin_table.write(name, folder / name) for name in names]
    found = {}
    if paths:
        records = grade(paths, rubric.load(), folder / "grades of the right")
        found = {name: wrong_about_right(records[f"{name}_assignment1"]) for name in names}
    groups: dict[tuple[str, bool], list[Fault]] = {}
    for fault in faults:
        scripts = fault.scripts or any(part.startswith("script: ") for part in fault.must_fail)
        groups.setdefault((fault.question, scripts), []).append(fault)
    for (question, scripts), members in groups.items():
        name = f"{question} {'scripts' if scripts else 'code'}"
        paths = [handin_table.write_fault(fault, folder / name / fault.name) for fault in members]
        records = grade(paths, reduced([question], scripts), folder / f"grades of {name}")
        found |= {fault.name: wrong_about(fault, records[f"{fault.name}_assignment1"]) for fault in members}
    return found


def report(found: dict[str, list[str]]) -> str:
    """A line for each hand-in and each thing that is wrong, and the totals."""
    lines = [f"{name}: {'; '.join(wrong) or 'right'}" for name, wrong in found.items()]
    false = sum(text.startswith(("false", "flag")) or name in RIGHT for name, wrong in found.items() for text in wrong)
    kept = sum(text.startswith(("keeps", "costs only")) for wrong in found.values() for text in wrong)
    right = sum(name in RIGHT for name in found)
    return "\n".join([*lines, f"{right} right hand-ins, {len(found) - right} faults: {false} false verdicts, {kept} faulty "
                      "parts that keep more than one point or their share"])


def main(names: Sequence[str]) -> int:
    grading_help.CLASS_SEED = secrets.token_hex(8)
    with tempfile.TemporaryDirectory() as folder:
        found = graded([name for name in RIGHT if not names or name in names],
                       [fault for fault in FAULTS if not names or fault.name in names], Path(folder))
    print(report(found))
    return 1 if any(found.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
