"""What the PyTorch scripts put around a network: images on the device, dropout of the input, averages over flips."""

import json
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from script_runs import ROOT, run, untimed
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import train_convnet_pytorch
import train_mlp_pytorch
import train_transfer_pytorch
import training.run
from cifar10_utils import get_cifar10
from imagefiles.dataset import DataSet
from mlp_pytorch import MLP
from training import numerics
from training import trainer as training_pytorch
from training.flags import UserError
from training.images import Images, layout_of
from training.muon import Muon
from training.optimizers import OPTIMIZERS, SCHEDULES
from training.trainer import FlipAverage, TorchFlags, Trainer, augmented, record_graphs

pytestmark = pytest.mark.training


@pytest.mark.parametrize("blocks", [0, 2])
def test_input_dropout_zeroes_inputs_while_training_and_nothing_in_evaluation(blocks):
    seen = []
    model = train_mlp_pytorch.build_model(train_mlp_pytorch.Config(input_dropout=0.25, blocks=blocks))
    next(m for m in model.modules() if isinstance(m, nn.Linear)).register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0]))
    x = torch.ones(40, 3, 32, 32)
    model(x), model.eval()(x)
    assert float((seen[0] == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert torch.equal(seen[1], x.flatten(1))


@pytest.mark.parametrize(("model", "contiguous"), [(MLP(12, [4], 2), True), (nn.Conv2d(3, 2, 2), False)])
def test_images_are_laid_out_for_convolutions_where_there_are_any(model, contiguous):
    images = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
    x, _ = Images(DataSet(images, np.arange(2)), torch.device("cpu"), layout_of(model)).at(np.array([1, 0]))
    assert x.is_contiguous() == contiguous and (x.numpy() == images[::-1]).all()


@pytest.mark.parametrize("layout", [torch.preserve_format, torch.channels_last])
@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.float64])
def test_images_on_the_device_are_those_of_the_data_set_bit_for_bit(kind, layout):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (50, 3, 4, 4)).astype(kind)
    pixels.flags.writeable = False  # as the test split, which lies in the bytes of its file
    split, same = (DataSet(pixels, np.arange(50) % 10, rng.random((3, 4, 4)) * 0 + 99.7, 5, 0.016) for _ in range(2))
    images = Images(split, torch.device("cpu"), layout)
    for _ in range(4):
        expected, received = same.next_batch(20), images.at(split.next_indices(20))
        assert all((a == b.numpy()).all() for a, b in zip(expected, received, strict=True))
    for expected, received in zip(same.batches(20), images.batches(20), strict=True):
        assert all((a == b.numpy()).all() for a, b in zip(expected, received, strict=True))
    assert (images.pixels.numpy() == pixels).all()


class Reads(TorchDispatchMode):
    """Counts what makes the CPU wait for a device: a number that is read there.

    Adam's count of its steps and mixup's weight are also read, but are on the CPU whatever the device.
    """

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("flags", [
    {}, dict(optimizer="nesterov", momentum=0.9, flip="on", shift=2, label_smoothing=0.1, lr_schedule="one_cycle"),
    dict(optimizer="muon", momentum=0.9, precision="bf16")], ids=["defaults", "augmented", "muon"])
def test_a_step_reads_nothing_from_the_device(flags, standin):
    data, config = get_cifar10(standin, one_hot=False), TorchFlags(batch_size=20, **flags)
    net = nn.Sequential(nn.Conv2d(3, 16, 5, 4), nn.BatchNorm2d(16), nn.Flatten(), nn.Linear(16 * 49, 10))
    trainer = Trainer(net, list(net.parameters()), data, config, torch.device("cpu"), 60)
    trainer.start()
    trainer.step()  # an optimizer may look at its state as it makes it
    with Reads() as reads:
        scores = [trainer.step() for _ in range(50)]
        assert reads.count == 0
        assert all(np.isfinite(float(loss)) for loss, _ in scores)
        assert reads.count == 50
        reads.count = 0
        trainer.evaluate(data.test)
        assert reads.count == 0  # but for one tensor, as a list


@pytest.fixture
def later(monkeypatch):
    """Runs whose losses wait on the device, as on a GPU; counts how many numbers are read, by step."""
    read, record, float_of = Counter(), training.run.Run.record, training.run.Run._check_finite

    def check(self, split, loss, step):
        if split == "training":
            read[self.step] += 1
        return float_of(self, split, loss, step)

    monkeypatch.setattr(training.run.Run, "record", lambda self, *batch, **how: record(self, *batch, **{**how, "later": True}))
    monkeypatch.setattr(training.run.Run, "_check_finite", check)
    return read


FEW = ["--batch_size", 20, "--max_steps", 14, "--eval_freq", 5]


def test_losses_wait_on_the_device_until_the_run_is_evaluated_and_are_the_same(standin, tmp_path, request):
    assert run("train_mlp_pytorch", "--data_dir", standin, *FEW, "--output_dir", tmp_path / "at_once") == 0
    read = request.getfixturevalue("later")
    assert run("train_mlp_pytorch", "--data_dir", standin, *FEW, "--output_dir", tmp_path / "later") == 0
    assert read == {4: 5, 9: 5, 13: 4}  # before the step after which it is evaluated is counted
    assert untimed(tmp_path / "at_once") == untimed(tmp_path / "later")


def test_not_more_than_so_many_losses_wait(later, standin, tmp_path, monkeypatch):
    monkeypatch.setattr(training.run, "UNREAD", 3)
    assert run("train_mlp_pytorch", "--data_dir", standin, *FEW, "--output_dir", tmp_path / "run") == 0
    assert later == {2: 3, 4: 2, 7: 3, 9: 2, 12: 3, 13: 1}


def test_a_loss_that_is_not_finite_is_noticed_later_but_before_anything_is_saved(later, standin, tmp_path, capsys,
                                                                                 monkeypatch):
    step, steps = Trainer.step, []

    def breaking(self):
        steps.append(None)
        loss, correct = step(self)
        return (loss * np.nan if len(steps) == 7 else loss), correct

    monkeypatch.setattr(training_pytorch.Trainer, "step", breaking)
    assert run("train_mlp_pytorch", "--data_dir", standin, *FEW, "--output_dir", tmp_path / "run") == 3
    assert "the training loss became nan at step 7;" in capsys.readouterr().err and len(steps) == 10
    assert {row[0] for row in untimed(tmp_path / "run")} == {"5"}
    assert training_pytorch.load_torch(tmp_path / "run/last.pt")["step"] == 5


def test_flip_averaging_sees_an_image_and_its_mirror_image_alike():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 10))
    x = torch.randn(4, 3, 8, 8)
    averaged = FlipAverage(net)
    torch.testing.assert_close(averaged(x), averaged(x.flip(3)))
    torch.testing.assert_close(averaged(x), (net(x) + net(x.flip(3))) / 2)
    assert not torch.allclose(averaged(x), net(x))


def test_training_accuracy_under_mixup_counts_both_labels(standin):
    """Of images that are half one and half another, a network that names the first is half right."""
    data = get_cifar10(standin, one_hot=False)
    config = TorchFlags(mixup=0.5, batch_size=20, learning_rate=1e-9)
    trainer = Trainer(nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)), [torch.nn.Parameter(torch.zeros(1))], data, config,
                      torch.device("cpu"), 1)
    before = data.train.state()
    images, labels = data.train.next_batch(20)
    data.train.load_state(before)
    torch.manual_seed(3)
    correct = float(trainer.step()[1])
    torch.manual_seed(3)
    x, targets = augmented(torch.from_numpy(images), torch.from_numpy(labels), config)
    predicted = trainer.model(x).argmax(1)
    assert correct == pytest.approx(sum(share * float((predicted == label).float().mean()) for label, share in targets))
    assert len(targets) == 2 and 0 < targets[0][1] < 1


CONVOLUTIONS = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1))
DEPTHWISE = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8))


@pytest.mark.parametrize(("asked", "device", "batch_size", "model", "recorded", "multiplies", "chosen"), [
    ("auto", "cpu", 32, CONVOLUTIONS, False, True, "bf16"), ("auto", "cpu", 32, CONVOLUTIONS, False, False, "fp32"),
    ("auto", "cpu", 32, DEPTHWISE, True, True, "fp32"), ("auto", "cpu", 512, nn.Linear(3, 2), False, True, "fp32"),
    ("auto", "cuda", 32, CONVOLUTIONS, False, True, "fp32"), ("auto", "cuda", 512, CONVOLUTIONS, False, True, "bf16"),
    ("auto", "cuda", 32, CONVOLUTIONS, True, True, "bf16"), ("auto", "cuda", 32, nn.Linear(3, 2), True, True, "fp32"),
    ("auto", "cuda", 512, CONVOLUTIONS, True, False, "fp32"), ("bf16", "cpu", 32, DEPTHWISE, False, False, "bf16"),
    ("fp32", "cuda", 32, CONVOLUTIONS, True, True, "fp32")])
def test_auto_takes_bf16_where_it_was_measured_to_be_faster(asked, device, batch_size, model, recorded, multiplies,
                                                            chosen, monkeypatch):
    monkeypatch.setattr(numerics, "multiplies_bf16", lambda device: multiplies)
    assert numerics.chosen_precision(asked, torch.device(device), batch_size, model, recorded) == chosen


def test_the_precision_is_chosen_once_printed_and_kept_on_resume(standin, tmp_path, monkeypatch, capsys):
    """Here the machine multiplies bfloat16; where the run is resumed, it does not."""
    monkeypatch.setattr(numerics, "multiplies_bf16", lambda device: True)
    base = ["--data_dir", standin, *FEW, "--model", "study", "--precision", "auto"]
    assert run("train_convnet_pytorch", *base, "--max_steps", 5, "--output_dir", tmp_path / "run") == 0
    assert "training on cpu in bf16" in capsys.readouterr().out.splitlines()[1]
    assert json.loads((tmp_path / "run/config.json").read_text())["flags"]["precision"] == "bf16"
    monkeypatch.setattr(numerics, "multiplies_bf16", lambda device: False)
    assert run("train_convnet_pytorch", "--resume", tmp_path / "run", "--max_steps", 7) == 0
    said = capsys.readouterr()
    assert "training on cpu in bf16" in said.out and "--precision fp32 is far faster here" in said.err + said.out


def test_the_convnet_takes_auto_and_what_is_not_faster_does_not():
    assert train_convnet_pytorch.Config().precision == train_transfer_pytorch.Config().precision == "auto"
    assert train_convnet_pytorch.Config(model="study").precision == train_mlp_pytorch.Config().precision == "fp32"


def test_a_gpu_computes_as_the_flags_say_and_as_before_when_the_run_ends(standin, tmp_path, monkeypatch):
    def now():
        return (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32,
                torch.are_deterministic_algorithms_enabled())

    seen, step = [], Trainer.step
    monkeypatch.setattr(Trainer, "step", lambda self: (seen.append(now()), step(self))[1])
    before = now()
    for number, flags in enumerate((["--tf32", "on"], ["--deterministic", "on"])):
        assert run("train_mlp_pytorch", "--data_dir", standin, *FEW, "--max_steps", 1, "--device", "auto", *flags,
                   "--output_dir", tmp_path / str(number)) == 0
        assert now() == before
    assert seen == [("high", True, False), ("highest", False, True)]


def test_a_compiled_network_takes_the_same_steps(standin, tmp_path, monkeypatch):
    compiled, compile = [], torch.compile
    monkeypatch.setattr(torch, "compile", lambda model: compiled.append(model) or compile(model, backend="aot_eager"))
    for name, flags in (("plain", []), ("compiled", ["--compile", "on"])):
        assert run("train_mlp_pytorch", "--data_dir", standin, *FEW, *flags, "--output_dir", tmp_path / name) == 0
    assert len(compiled) == 1 and isinstance(compiled[0], MLP)
    assert untimed(tmp_path / "plain") == untimed(tmp_path / "compiled")


def test_a_recorded_network_takes_the_same_steps(standin, monkeypatch):
    """As far as a CPU can try: what stands in for PyTorch's recorder runs the network as that does, three times."""
    recorded = []

    def make_graphed_callables(model, samples):
        recorded.append(model)
        assert model.training and not torch.is_autocast_cache_enabled()
        for _ in range(3):
            torch.autograd.grad(model(*samples).sum() + torch.rand(()), list(model.parameters()))

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", make_graphed_callables)
    losses = []
    for graph in ("off", "on"):
        config = train_convnet_pytorch.Config(batch_size=6, flip="on", cuda_graph=graph)
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(3600, 10))
        data = get_cifar10(standin, one_hot=False, download=False)
        trainer = Trainer(net, list(net.parameters()), data, config, torch.device("cpu"), 9)
        trainer.images("train")
        trainer.device = SimpleNamespace(type="cuda")
        trainer.start()
        trainer.device = torch.device("cpu")
        losses.append([float(trainer.step()[0]) for _ in range(3)] + [float(value.sum()) for value in net.buffers()])
    assert recorded == [net] and losses[0] == losses[1]


def test_several_processes_record_no_network(standin, monkeypatch):
    data = get_cifar10(standin, one_hot=False, download=False)
    net = nn.Linear(3, 2)
    trainer = Trainer(net, list(net.parameters()), data, TorchFlags(cuda_graph="on"), torch.device("cpu"), 9)
    monkeypatch.setattr(training_pytorch, "processes", lambda: 2)
    with pytest.raises(UserError, match="--cuda_graph"):
        trainer.start()


def test_recording_leaves_the_networks_buffers_as_and_where_they_were(monkeypatch):
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", lambda model, samples: model(*samples))
    net, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), torch.randn(5, 3, 8, 8)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    places = {name: value.data_ptr() for name, value in net.named_buffers()}
    record_graphs(net, x, bf16=False)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert places == {name: value.data_ptr() for name, value in net.named_buffers()}


@pytest.mark.parametrize("flags", [["--compile", "on", "--device", "auto"], ["--device", "cpu"]])
def test_a_recorded_network_is_refused_where_it_has_no_effect(flags, standin, tmp_path, capsys):
    assert run("train_convnet_pytorch", "--data_dir", standin, *FEW, "--cuda_graph", "on", *flags,
               "--output_dir", tmp_path / "run") == 2
    assert len(lines := capsys.readouterr().err.splitlines()) == 1 and "--cuda_graph" in lines[0]


def test_the_triangle_rises_straight_for_a_fifth_of_the_run_and_falls_straight_to_about_0():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.5)
    schedule, rates = SCHEDULES["triangle"](optimizer, 100), []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    peak = int(np.argmax(rates))
    assert peak == 19 and max(rates) == pytest.approx(0.5) and 0 <= rates[-1] < 1e-4
    for leg in (rates[:peak + 1], rates[peak:]):
        np.testing.assert_allclose(np.diff(leg), np.diff(leg)[0])


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_of_any_length_has_finite_rates(name):
    for steps in range(1, 41):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.5)
        schedule = SCHEDULES[name](optimizer, steps)
        for _ in range(steps):
            assert 0 <= optimizer.param_groups[0]["lr"] <= 0.5
            optimizer.step()
            schedule.step()


PYTORCHS = {
    "sgd": lambda params: torch.optim.SGD(params, 0.01, momentum=0.9, weight_decay=0.1),
    "nesterov": lambda params: torch.optim.SGD(params, 0.01, momentum=0.9, weight_decay=0.1, nesterov=True),
    "adam": lambda params: torch.optim.Adam(params, 0.01, weight_decay=0.1),
    "adamw": lambda params: torch.optim.AdamW(params, 0.01, weight_decay=0.1),
    "rmsprop": lambda params: torch.optim.RMSprop(params, 0.01, momentum=0.9, weight_decay=0.1),
    "muon": lambda params: Muon(params, 0.01, 0.9, 0.1),
}


def steps_of(make_optimizer, resumed_from=None):
    """The parameters after each of ten updates, and the optimizer's state."""
    torch.manual_seed(0)
    model = MLP(6, [5, 4], 3)
    optimizer = make_optimizer(list(model.parameters()))
    if resumed_from:
        optimizer.load_state_dict(resumed_from)
    taken = []
    for _ in range(10):
        optimizer.zero_grad()
        model(torch.randn(8, 6)).square().sum().backward()
        optimizer.step()
        taken.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    return torch.stack(taken), optimizer.state_dict()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_takes_the_steps_of_pytorchs(name):
    def ours(params):
        return OPTIMIZERS[name](params, 0.01, 0.1, 0.9, None)

    (taken, state), (wanted, theirs) = steps_of(ours), steps_of(PYTORCHS[name])
    assert torch.equal(taken, wanted) and (taken[0] != taken[-1]).all()
    assert torch.equal(steps_of(ours, theirs)[0], steps_of(PYTORCHS[name], state)[0])


def test_no_optimizer_imports_pytorchs_compiler():
    """It takes a second, at the first step."""
    code = """
import sys
import torch
from training.optimizers import OPTIMIZERS, SCHEDULES

before = "torch._dynamo" in sys.modules
for name, make in OPTIMIZERS.items():
    for schedule in SCHEDULES.values():
        parameter = torch.nn.Parameter(torch.ones(3, 3))
        optimizer = make([parameter], 0.1, 0.1, 0.9, None)
        scheduler = schedule(optimizer, 20)
        optimizer.zero_grad()
        parameter.square().sum().backward()
        optimizer.step()
        scheduler.step()
        optimizer.load_state_dict(optimizer.state_dict())
        print(name, before or "torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == len(OPTIMIZERS) * len(SCHEDULES) and all(line.endswith(" False") for line in lines), lines
