"""The grader on hand-ins as students write them: right ones keep every point, a fault costs its own part.

A selection: two right hand-ins, and each sixth fault.
`python tests/grading_handins.py` grades all of them.
"""

import handin_table
import pytest
from grading_handins import graded, report
from grading_help import failures, grade, reduced
from handin_table import FAULTS, POOL, RIGHT, TRAIN_TORCH, Fault

pytestmark = [pytest.mark.grading, pytest.mark.slow, pytest.mark.timeout(3600)]
SELECTED = FAULTS[1::6]


def covering() -> list[str]:
    """Few right hand-ins, of which every variant of every file is one."""
    left, chosen = {(file, variant) for files in RIGHT.values() for file, variant in files.items()}, []
    while left:
        chosen.append(max(RIGHT, key=lambda name: len(left & set(RIGHT[name].items()))))
        left -= set(RIGHT[chosen[-1]].items())
    return chosen


def test_the_table_is_as_large_as_a_class():
    assert len(RIGHT) >= 15 and len(FAULTS) >= 40 and len(SELECTED) >= 40
    assert {fault.question for fault in SELECTED} == {"1.2", "2.1", "3.1", "3.2b", "3.2c", "4a"}
    files = {(path.parent.name, path.stem) for path in POOL.glob("*/*.py")}
    assert files == {(file.removesuffix(".py"), RIGHT[name][file]) for name in covering() for file in RIGHT[name]}


def test_no_false_verdict_and_nothing_kept_by_a_faulty_part(tmp_path, capsys):
    found = graded(["alder", "elm"], SELECTED, tmp_path)
    with capsys.disabled():
        print("\n" + report(found).splitlines()[-1])
    assert not {name: wrong for name, wrong in found.items() if wrong}, report(found)


ONE_SHARE = {  # faults that show in more than one check, and the only one that costs points
    "norm-bessel": "norm_variance", "norm-eps-outside-the-root": "norm_value", "norm-over-the-batch": "norm_value",
    "manual-bessel": "norm_variance", "manual-rounds-to-float32": "norm_value",
    "torch-softmax-into-cross-entropy": "mlp_values",
    "torch-log-softmax-over-the-batch": "mlp_values", "convnet-pool-kernel-two": "convnet_layers",
    "convnet-no-bn-before-linear": "convnet_layers", "linear-keeps-its-first-input": "linear_backward_weight",
    "linear-parameters-of-the-class": "state", "softmax-squeezes-a-batch-of-one": "batch_of_one"}


@pytest.mark.parametrize("question", ["1.2", "2.1", "3.1", "3.2b", "4a"])
def test_one_fault_costs_one_check(tmp_path, question):
    faults = [fault for fault in FAULTS if fault.question == question and fault.name in ONE_SHARE]
    rules = reduced([question])
    records = grade([handin_table.write_fault(fault, tmp_path) for fault in faults], rules, tmp_path / "grades")
    lost = {fault.name: {check["id"] for check in records[f"{fault.name}_assignment1"]["questions"][question]["checks"]
                         if check["score"] < check["points"]} for fault in faults}
    assert faults and lost == {fault.name: {ONE_SHARE[fault.name]} for fault in faults}


STEPS_TOO_MANY = Fault("one-step-more", "2.1", "oak", TRAIN_TORCH, "range(FLAGS.max_steps)", "range(FLAGS.max_steps + 1)", ())


def test_one_step_more_is_a_remark(tmp_path):
    [record] = grade([handin_table.write_fault(STEPS_TOO_MANY, tmp_path)], reduced(["2.1"]), tmp_path / "grades").values()
    [remark] = [check for check in record["questions"]["2.1"]["checks"] if check["id"] == "script_steps"]
    assert "makes 8 updates, one too many" in remark["diagnosis"] and not failures(record)


def test_another_order_of_the_pixels_is_right(tmp_path):
    """Channels last, in training and in evaluation: the accuracy is that of the order which the script has chosen."""
    folder = next(handin_table.write("nutmeg", tmp_path).rglob("train_mlp_numpy.py"))
    text = folder.read_text()
    for old, new in (("net.forward(x.reshape(x.shape[0], -1))", "net.forward(x.transpose(0, 2, 3, 1).reshape(x.shape[0], -1))"),
                     ("np.reshape(x, (FLAGS.batch_size, 3072))", "np.reshape(x.transpose(0, 2, 3, 1), (FLAGS.batch_size, 3072))")):
        assert text.count(old) == 1
        text = text.replace(old, new)
    folder.write_text(text)
    record = grade([tmp_path / "nutmeg_assignment1"], reduced(["1.2"]), tmp_path / "grades")["nutmeg_assignment1"]
    assert not failures(record)


def test_modules_that_are_called_by_another_name(tmp_path):
    """`__call__ = forward`, which is another name of the same function, in every class of 1.2."""
    record = grade([handin_table.write("zelkova", tmp_path)], reduced(["1.2"]), tmp_path / "grades")["zelkova_assignment1"]
    assert not failures(record)


def test_a_function_that_has_a_second_name(tmp_path):
    record = grade([handin_table.write("sorrel", tmp_path)], reduced(["3.2b", "3.2c"]), tmp_path / "grades")
    record = record["sorrel_assignment1"]
    assert not failures(record) and not [flag for flag in record["flags"] if flag.startswith("3.2")]


IDIOMS = (
    Fault("closure", "2.1", "juniper", TRAIN_TORCH, """        log_p = net(x)
        loss = loss_fn(log_p, torch.max(y, 1)[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
""", """        def closure():
            optimizer.zero_grad()
            found = loss_fn(net(x), torch.max(y, 1)[1])
            found.backward()
            return found
        loss = optimizer.step(closure)
""", ()),
    Fault("halves", "2.1", "birch", TRAIN_TORCH, """        loss = loss_fn(model(x), y.max(1)[1])
        sgd.zero_grad()
        loss.backward()
""", """        sgd.zero_grad()
        for part, labels in zip(x.chunk(2), y.chunk(2)):
            loss = loss_fn(model(part), labels.max(1)[1]) * len(part) / len(x)
            loss.backward()
""", ()),
    Fault("momentum", "2.1", "oak", TRAIN_TORCH, "lr=FLAGS.learning_rate)", "lr=FLAGS.learning_rate, momentum=0.9)", ()))


def test_other_ways_that_are_right(tmp_path):
    """A closure, gradients added up over parts of a batch, and momentum where the optimizer is left open."""
    for fault in IDIOMS:
        assert handin_table.source(fault.base, fault.file).count(fault.old) == 1
    records = grade([handin_table.write_fault(fault, tmp_path) for fault in IDIOMS], reduced(["2.1"]), tmp_path / "grades")
    assert {name: failures(record) for name, record in records.items() if failures(record)} == {}
    assert len(records) == len(IDIOMS)
