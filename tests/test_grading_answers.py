"""A submission that only has answers, recorded where a right solution was graded, has no points and is flagged."""

import base64
import io
import json
import secrets

import numpy as np
import pytest
import test_grading_layernorm as layernorm
import test_grading_modules as modules
import test_grading_nets as nets
from grading_help import MLP, MODULES, confined_or_skip, failures, grade, needs_confinement, reduced, submission
from grading_mutants import FILES, copy_reference
from grading_networks import CONV_LIST, MODULE_LIST
from grading_quickly import found_in_classes
from test_grading_nets import CONV_SOFTMAX

from grading import expected_1_2, rubric
from grading.classroom import Classroom, class_seed, submissions
from grading.compare import close
from grading.inputs import Inputs

pytestmark = [pytest.mark.grading, pytest.mark.timeout(1800), needs_confinement]
SAME = {"zero", "zero_t", "wrong_p", "wrong_t", "narrow_dout"}  # there is little to draw

# Finds what it is asked in the frames above it, writes the recorded reply where the worker would, and leaves.
FORGER = """
import base64, json, os, sys
from answers import TABLE
getframe, leave = getattr(sys, "_get" + "frame"), getattr(os, "_ex" + "it")
frame = getframe()
while frame and not {"request", "npz", "reply"} <= set(frame.f_locals):
    frame = frame.f_back
if frame:
    asked = frame.f_locals
    options = asked["request"]["options"]
    key = " ".join(map(str, (asked["request"]["name"], asked["request"]["function"], options.get("class"),
                             options.get("script"))))
    npz, reply = TABLE[key]
    os.write(asked["npz"], base64.b64decode(npz))
    os.write(asked["reply"], reply.encode())
    leave(0)
"""


def recorded(folder, rules, out):
    """{a probe's key: (its arrays, its reply)} of a submission, and its record."""
    table, records = {}, []
    with Classroom(out, rules, 2) as room:
        run = room.sandbox.run

        def watched(code, probes, *arguments, **keywords):
            replies = run(code, probes, *arguments, **keywords)
            for name, probe in probes.items():
                arrays = io.BytesIO()
                np.savez(arrays, **replies[name].arrays)
                key = " ".join(map(str, (name, probe.function, probe.options.get("class"), probe.options.get("script"))))
                table[key] = (base64.b64encode(arrays.getvalue()).decode(),
                              json.dumps({"error": None, "notes": dict(replies[name].notes)}))
            return replies

        room.sandbox.run = watched
        room.grade(submissions([folder]), lambda record, new: records.append(record))
    return table, records[0]


def forged(folder, table):
    """A submission of every file, none of which holds more than the table."""
    folder.mkdir()
    for name in FILES:
        (folder / name).write_text(FORGER)
    (folder / "answers.py").write_text(f"TABLE = {table!r}\n")
    return folder


def graded(folder, rules, out):
    records = []
    with Classroom(out, rules, 2) as room:
        room.grade(submissions([folder]), lambda record, new: records.append(record))
    return records[0]


def points(record):
    return {f"{number} {check['id']}": check["score"] for number, question in record["questions"].items()
            for check in question["checks"] if check["score"]}


@pytest.mark.slow
def test_a_table_of_recorded_replies_has_no_points_and_a_flag(tmp_path):
    confined_or_skip()
    rules = rubric.load()
    table, record = recorded(copy_reference(tmp_path / "right"), rules, tmp_path / "grades")
    assert not failures(record)
    found = graded(forged(tmp_path / "forged", table), rules, tmp_path / "others")
    assert not points(found)
    assert any("_getframe" in flag for flag in found["flags"])


# Finds what it is asked, and says of networks that it does not have what follows from their sizes. One number is right.
INVENTED = FORGER.partition("if frame:")[0].replace("from answers import TABLE", "import io\nimport numpy as np") + """
asked, out, notes = frame.f_locals, {}, {"extra": []}
given = asked["arrays"]
for name, sizes in asked["request"]["options"]["networks"].items():
    pairs = list(zip(sizes, sizes[1:]))
    notes |= {f"{name} layers": pairs, f"{name} parameters": sum((n + 1) * m for n, m in pairs), f"{name} without bias": [],
              f"{name} unregistered": [], f"{name} functions": [["ELU"]] * len(sizes[2:]) + [[]]}
    out |= {f"{name} shape": np.array([len(given[f"{name} x"]), sizes[-1]]), f"{name} logits": np.ones((2, 2))}
    out |= {f"{name} logits {i} {kind}": np.ones(3) for i in range(len(pairs)) for kind in ("weight", "bias")}
z = np.exp(given["mlp_0 x"] @ given["mlp_0 weight0"].T + given["mlp_0 bias0"])
out["mlp_0 logits"] = z / z.sum(1, keepdims=True)
npz = io.BytesIO()
np.savez(npz, **out)
os.write(asked["npz"], npz.getvalue())
os.write(asked["reply"], json.dumps({"error": None, "notes": notes}).encode())
while "at_end" not in frame.f_locals:
    frame = frame.f_back
leave(frame.f_locals["at_end"])
"""


def test_an_invented_network_has_points_for_its_right_number_alone(tmp_path):
    folder = submission(tmp_path / "invented", mlp_pytorch=INVENTED)
    [record] = grade([folder], reduced(["2.1"], scripts=False), tmp_path / "grades").values()
    assert points(record) == {"2.1 mlp_no_hidden": 1.0}
    assert any("sys._getframe" in flag for flag in record["flags"])


@pytest.mark.slow
@pytest.mark.parametrize("numbers, hand_ins", [
    (["1.2"], {"right": {"modules": MODULES, "mlp_numpy": MLP},
               **{name: modules.FAULTY[name][0] for name in list(modules.FAULTY)[::4]}}),
    (["2.1"], {"right": {"mlp_pytorch": MODULE_LIST},
               **{name: {"mlp_pytorch": nets.MLP_FAULTS[name][0]} for name in list(nets.MLP_FAULTS)[::4]}}),
    (["3.1", "3.2b", "3.2c"], {"right": layernorm.layer_norm(),
                               **{name: layernorm.FAULTY[name][0] for name in list(layernorm.FAULTY)[::4]}}),
    (["4a"], {"right": {"convnet_pytorch": CONV_LIST}, "softmax": {"convnet_pytorch": CONV_SOFTMAX}})],
    ids=["1.2", "2.1", "3", "4a"])
def test_no_verdict_depends_on_the_seed(numbers, hand_ins):
    seeds = ["public", *(secrets.token_hex(8) for _ in range(4))]
    verdicts = [{name: sorted(failed) for name, failed in of_class.items()}
                for of_class in found_in_classes(numbers, hand_ins, seeds)]
    assert len(verdicts) == 5
    assert not verdicts[0]["right"]
    assert all(verdict == verdicts[0] for verdict in verdicts[1:])


def test_every_mistake_of_an_mlp_shows_in_every_class():
    for seed in range(200):
        values = expected_1_2.mlps(Inputs(str(seed)))
        hidden = [key for key in values if ": " in key and close(values[key.partition(": ")[0]], values[key])]
        assert not hidden, (seed, hidden)


def test_a_class_keeps_its_seed_to_itself(tmp_path):
    """Drawn once, for the owner alone; another class has another, and other inputs in every respect."""
    seed = class_seed(tmp_path / "grades")
    assert class_seed(tmp_path / "grades") == seed != class_seed(tmp_path / "others")
    assert (tmp_path / "grades/seed").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "grades").iterdir()] == ["seed"]
    one, other = Inputs(seed), Inputs(class_seed(tmp_path / "others"))
    for name, array in {**one.modules, **one.layer_norm, **one.network("mlp_3"), "images": one.images}.items():
        twin = {**other.modules, **other.layer_norm, **other.network("mlp_3"), "images": other.images}[name]
        assert name in SAME or not np.array_equal(array, twin), name
    assert one.weights != other.weights
    np.testing.assert_array_equal(Inputs(seed).images, one.images)


FRAME = "FRAME = getattr(sys, '_get' + 'frame')()"
SOCKETS = """
def each(what):
    for fd in range(3, 256):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode) or stat.S_ISFIFO(os.fstat(fd).st_mode):
                what(fd)
        except OSError:
            pass
"""
WAYS = {  # to the frames of the check, past what would tell of it
    "plainly": FRAME,
    "with closed sockets": f"{SOCKETS}\neach(os.close)\n{FRAME}",
    "with full sockets": f"{SOCKETS}\ndef fill(fd):\n    while True:\n        os.write(fd, b'\\n' * 4096)\neach(fill)\n{FRAME}",
    "with many lines": f"{SOCKETS}\neach(lambda fd: os.write(fd, b'\\n' * 5000))\n{FRAME}",
    "by logging": "import logging\nFRAME = logging.currentframe()",
    "from a file made on the way": f"""
open(os.path.join(os.environ["TMPDIR"], "made.py"), "w").write({'import sys; ' + FRAME!r})
sys.path.append(os.environ["TMPDIR"])
from made import FRAME
""",
    "under a library's name": f"exec(compile({FRAME!r}, np.__file__, 'exec'))"}


@pytest.mark.slow
def test_whoever_looks_into_the_check_is_flagged(tmp_path):
    """However it is gone about. A worker that cannot tell of it any more is ended, which is flagged, too."""
    paths = [submission(tmp_path / name, modules=f"import os, stat, sys\n{MODULES}\n{way}", mlp_numpy=MLP)
             for name, way in {**WAYS, "honest": ""}.items()]
    records = grade(paths, reduced(["1.2"], scripts=False), tmp_path / "grades")
    flagged = {name: [flag for flag in record["flags"] if flag.startswith(("1.2 does what no answer needs", "1.2 ended its"))]
               for name, record in records.items()}
    assert [name for name, flags in flagged.items() if not flags] == ["honest"]
    assert not failures(records["honest"])


IN_A_THREAD = """
import threading
def in_a_thread(function):
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]
"""
READY = "lambda: {}(input, (self.n_neurons,), self.gamma, self.beta, self.eps)"
COMPUTED = "getattr(nn.functional, 'layer' + '_norm')"
BY_AUTOGRAD = """
class CustomLayerNormManualFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, input, gamma, beta, eps=1e-5):
        with torch.enable_grad():
            ctx.leaves = [tensor.detach().requires_grad_() for tensor in (input, gamma, beta)]
            x, g, b = ctx.leaves
            ctx.output = g * (x - x.mean(1, keepdim=True)) / (x.var(1, unbiased=False, keepdim=True) + eps).sqrt() + b
        return ctx.output.detach()

    @staticmethod
    def backward(ctx, dout):
        back = lambda: torch.autograd.grad(ctx.output, ctx.leaves, dout, retain_graph=True)
        return (*CALL, None)
"""
IN_A_POOL = "__import__('multiprocessing').get_context('fork').Pool(1).apply(nn.functional.layer_norm, {})"
BY_FORWARD_MODE = BY_AUTOGRAD.replace("CALL", "by_jvp(ctx.leaves, dout, ctx)") + """

def by_jvp(leaves, dout, ctx):
    import torch.autograd.forward_ad as forward_ad
    def f(x, g, b):
        return g * (x - x.mean(1, keepdim=True)) / (x.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt() + b
    found, leaves = [], [leaf.detach() for leaf in leaves]
    for i, leaf in enumerate(leaves):
        gradient = torch.zeros_like(leaf)
        for j in range(leaf.numel()):
            tangent = torch.zeros_like(leaf)
            tangent.view(-1)[j] = 1
            with forward_ad.dual_level():
                dual = [forward_ad.make_dual(one, tangent) if i == k else one for k, one in enumerate(leaves)]
                gradient.view(-1)[j] = (forward_ad.unpack_dual(f(*dual)).tangent * dout).sum()
        found.append(gradient)
    return tuple(found)
"""
RECORDS_OFF = """
def off(call, *arguments):
    torch.autograd._enable_record_function(False)
    try:
        return call(*arguments)
    finally:
        torch.autograd._enable_record_function(True)
"""
PAUSED = """
def paused(call, *arguments):
    cpu = {torch.profiler.ProfilerActivity.CPU}
    torch._C._autograd._toggle_collection_dynamic(False, cpu)
    try:
        return call(*arguments)
    finally:
        torch._C._autograd._toggle_collection_dynamic(True, cpu)
"""
RESTARTED = """
def unwatched(call, *arguments):
    try:
        torch.autograd._disable_profiler()
    except RuntimeError:  # there are none in this check
        return call(*arguments)
    found = call(*arguments)
    more = torch._C._profiler._ExperimentalConfig(profile_all_threads=True)
    torch.autograd.profiler.profile(use_kineto=True, experimental_config=more).__enter__()
    return found
"""
PAST = """
def past(operator, key, x, shape, weight, bias, eps):
    return operator._op_dk(getattr(torch._C.DispatchKey, key), x.detach(), list(shape), weight, bias, eps)[0]
"""
IN_FORMULAS = "lambda: helpers.{}(input, self.gamma, self.beta, self.eps)"
IN_PYTHON = """
import sys
import torch
formulas = getattr(torch, "_re" + "fs")
def normal(x, *arguments):
    return formulas.native_layer_norm(x, x.shape[1:], *arguments)[0]
def unseen(*arguments):
    sys.setprofile(None)
    return normal(*arguments)
"""
CHEATS = {  # {name: (end of custom_layernorm.py, another file, what the flag says)}
    "plainly": (f"FORWARD = {READY.format('nn.functional.layer_norm')}", "", "3.1 runs ready-made operators"),
    "by a computed name": (f"FORWARD = {READY.format(COMPUTED)}", "", "3.1 runs ready-made operators"),
    "in a thread": (f"FORWARD = {READY.format('nn.functional.layer_norm')}\nWRAP", "", "3.1 runs ready-made operators"),
    "in another file": (f"FORWARD = {READY.format('helpers.normal')}", "from torch.nn.functional import layer_norm as normal",
                        "3.1 runs ready-made operators"),
    "by the root mean square": ("FORWARD = lambda: nn.functional.rms_norm(input - input.mean(1, keepdim=True), (self.n_neurons,), "
                                "self.gamma, self.eps) + self.beta", "", "3.1 runs ready-made operators"),
    "in another process": (f"FORWARD = lambda: {IN_A_POOL.format('(input.detach(), (self.n_neurons,), None, None, self.eps)')} * "
                           "self.gamma + self.beta", "", "3.1 does what no answer needs"),
    "forward mode": (BY_FORWARD_MODE, "", "3.2b goes back by autograd"),
    "autograd": (BY_AUTOGRAD.replace("CALL", "back()"), "", "3.2b goes back by autograd"),
    "autograd in a thread": (BY_AUTOGRAD.replace("CALL", "in_a_thread(back)"), "", "3.2b goes back by autograd"),
    "past the records": ("FORWARD = lambda: helpers.past(torch.ops.aten.native_layer_norm.default, 'CPU', input, (self.n_neurons,), "
                         "None, None, self.eps) * self.gamma + self.beta", f"import torch\n{PAST}", "3.1 runs ready-made operators"),
    "autograd with the records off": (BY_AUTOGRAD.replace("CALL", "helpers.off(back)"), f"import torch\n{RECORDS_OFF}",
                                      "3.2b goes back by autograd"),
    "autograd while the records pause": (BY_AUTOGRAD.replace("CALL", "helpers.paused(back)"), f"import torch\n{PAUSED}",
                                         "3.2b goes back by autograd"),
    "autograd with records of its own": (BY_AUTOGRAD.replace("CALL", "helpers.unwatched(back)"), f"import torch\n{RESTARTED}",
                                         "3.2b runs ready-made operators: the profiler was ended"),
    "formulas of PyTorch's": (f"FORWARD = {IN_FORMULAS.format('normal')}", IN_PYTHON, "3.1 runs ready-made operators: torch._refs"),
    "formulas of PyTorch's in a thread": (f"FORWARD = {IN_FORMULAS.format('normal')}\nWRAP", IN_PYTHON,
                                          "3.1 runs ready-made operators: torch._refs"),
    "formulas of PyTorch's unseen": (f"FORWARD = {IN_FORMULAS.format('unseen')}", IN_PYTHON,
                                     "3.1 runs ready-made operators: the profiler was ended")}


@pytest.fixture(scope="module")
def cheats(tmp_path_factory):
    folder, found = tmp_path_factory.mktemp("cheats"), {}
    for number in ("3.1", "3.2b"):
        paths = [submission(folder / number / "honest", custom_layernorm=layernorm.LAYER_NORM)]
        for name, (end, helpers, flag) in CHEATS.items():
            if not flag.startswith(number):
                continue
            text = f"{layernorm.LAYER_NORM}\nimport helpers\n{IN_A_THREAD}\n"
            if end.startswith("FORWARD"):
                call = end.removeprefix("FORWARD = ").removesuffix("\nWRAP")
                run = f"in_a_thread({call})" if end.endswith("WRAP") else f"({call})()"
                text = text.replace(layernorm.VALUE, f"return {run}")
                assert run in text
            else:
                text += end
            paths.append(submission(folder / number / name, custom_layernorm=text, helpers=helpers))
        records = grade(paths, reduced([number]), folder / f"grades {number}")
        found |= {name: record["flags"] for name, record in records.items() if name != "honest"}
        assert not any("ready-made" in flag or "autograd" in flag for flag in records["honest"]["flags"])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", CHEATS)
def test_what_is_ready_made_is_found_by_what_ran(cheats, name):
    assert any(flag.startswith(CHEATS[name][2]) for flag in cheats[name]), cheats[name]
