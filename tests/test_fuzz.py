"""10,000 damaged or hostile inputs: data files, checkpoints, run folders, submissions, flags.

Each is read, or refused in one line by one of the program's own errors. Nothing hangs, no code of the file runs, and
no file appears where none belongs: the tests run in a folder of their own, which is checked after each input.
"""

import contextlib
import dataclasses
import gzip
import io
import json
import math
import os
import pickle
import shutil
import stat
import struct
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from script_runs import SCRIPTS, interrupt_at, run
from strategies import damage, damaged, fuzz, members_damaged, odd_value_in, seeds

import training.run
from cifar10_utils import DataSet, get_cifar10
from grading import archive
from imagefiles import cifar10_standin
from imagefiles import mnist as mnist_utils
from imagefiles.cifar10_download import DownloadError
from imagefiles.cifar10_files import DataError, read_batch, read_class_names
from imagefiles.cifar10_standin import write_pickle
from tests.cifar10_folders import batch
from training.checkpoints import NPZ, CheckpointError
from training.trainer import PT

SECONDS = 5  # of the processor, for one input
CANARY = "canary"  # the folder that the hostile pickles make, in the working directory


@pytest.fixture(autouse=True, scope="module")
def here(tmp_path_factory) -> Iterator[None]:
    """The working directory of all that follows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("fuzz"))
        yield


@contextlib.contextmanager
def harmless(*refusals: type[Exception]) -> Iterator[None]:
    """The body succeeds or is refused in one line, within SECONDS and without a new file."""
    before, started = sorted(os.listdir()), time.process_time()
    try:
        yield
    except refusals as error:
        assert str(error) and "\n" not in str(error)
    assert time.process_time() - started < SECONDS
    assert sorted(os.listdir()) == before


def text(value: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value


MKDIR, NAME = b"cposix\nmkdir\n", text(CANARY.encode())
CALLS = [  # opcodes that make the canary and leave the stack as it was
    MKDIR + b"(" + NAME + b"tR0",                                            # GLOBAL, REDUCE
    b"(" + NAME + b"iposix\nmkdir\n0",                                       # INST
    b"(" + MKDIR + NAME + b"o0",                                             # OBJ
    text(b"posix") + text(b"mkdir") + b"\x93" + NAME + b"\x85R0",            # STACK_GLOBAL
    b"cbuiltins\nmap\n" + MKDIR + NAME + b"\x85\x86\x810",                   # NEWOBJ, of what is never iterated
    b"cbuiltins\nlist\ncbuiltins\nmap\n" + MKDIR + NAME + b"\x85\x86\x81\x85R0",  # and of what is iterated
    b"ccanary\nmake\n0", b"Pcanary\n0", NAME + b"Q0", b"\x82\x010"]


def with_calls(content: bytes) -> list[bytes]:
    """A pickle, and the same with each of the calls at its beginning and at its end."""
    assert content[:1] == b"\x80" and content[-1:] == b"."
    return [content, *(content[:2] + call + content[2:] for call in CALLS), *(content[:-1] + call + b"." for call in CALLS)]


# ---------------------------------------------------------------- data


BATCH = batch(0, n=1)
BATCHES = [*with_calls(write_pickle(BATCH)),
           *(pickle.dumps({**BATCH, "labels": np.array(BATCH["labels"])}, protocol) for protocol in range(1, 6))]
NAMES = with_calls(write_pickle({"label_names": list("abcdefghij"), "num_vis": 3072}))


@fuzz(2500)
@given(damaged(BATCHES, CALLS))
def test_batch_file(content):
    Path("data_batch_1").write_bytes(content)
    with harmless(DataError):
        read = read_batch(Path("data_batch_1"))
        assert read.pixels.dtype == np.uint8 and read.pixels.shape == (len(read.labels), 3072)
        assert set(read.labels) <= set(range(10)) and isinstance(read.title, str)


@fuzz(500)
@given(damaged(NAMES, CALLS))
def test_class_names_file(content):
    Path("batches.meta").write_bytes(content)
    with harmless(DataError):
        names = read_class_names(Path())
        assert len(names) == 10 and all(isinstance(name, str) for name in names)


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()


MNIST = dict(zip(mnist_utils.FILES, map(idx, (np.zeros((3, 28, 28), np.uint8), np.arange(3, dtype=np.uint8),
                                              np.ones((2, 28, 28), np.uint8), np.arange(2, dtype=np.uint8))), strict=True))


@fuzz(2000)
@given(st.sampled_from(list(MNIST)).flatmap(lambda name: st.tuples(st.just(name), st.one_of(
    damaged([MNIST[name]]), damaged([MNIST[name]]).map(gzip.compress), damaged([gzip.compress(MNIST[name])])))))
def test_idx_file(damage):
    name, content = damage
    Path("mnist").mkdir(exist_ok=True)
    for other, sound in MNIST.items():
        Path("mnist", other).write_bytes(sound)
    Path("mnist", name).unlink()
    Path("mnist", f"{name}.gz" if content[:2] == b"\x1f\x8b" else name).write_bytes(content)
    with harmless(DataError):
        data = mnist_utils.get_mnist("mnist", download=False)
        assert data.train.next_batch(1)[0].shape == (1, 1, 28, 28) and np.isfinite(data.test.images).all()
    shutil.rmtree("mnist")


# ---------------------------------------------------------------- checkpoints


@pytest.fixture(scope="module")
def tiny(here) -> Iterator[None]:
    """A data set of 40 and 10 images in `data`, and figures that are read but not drawn."""
    cifar10_standin.make_standin(Path("data"), train_size=40, test_size=10, seed=0)
    with pytest.MonkeyPatch.context() as patch:
        figure = MagicMock()
        figure.return_value.subplots.return_value = [MagicMock(), MagicMock()]
        patch.setattr("matplotlib.figure.Figure", figure)
        patch.setattr(os, "fsync", lambda file: None)  # a disk that keeps everything, and fast
        patch.setattr("imagefiles.cifar10_download.fetch", MagicMock(side_effect=DownloadError("the network is down")))
        yield


TRAINED = {"train_mlp_numpy": [],
           "train_mlp_pytorch": ["--optimizer", "adam", "--lr_schedule", "one_cycle", "--ema_decay", "0.5"]}
FORMATS = {"train_mlp_numpy": NPZ, "train_mlp_pytorch": PT}


def shell(script: str, *argv: object) -> tuple[int, str]:
    """(exit status, what it says on stderr)."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            return run(script, *argv), said.getvalue()
        except SystemExit as stop:
            return int(stop.code or 0), said.getvalue()


@pytest.fixture(scope="module")
def stopped(tiny) -> Path:
    """A folder with, for each script, a run of four steps that was stopped after the second."""
    for script, flags in TRAINED.items():
        with pytest.MonkeyPatch.context() as patch:
            interrupt_at(patch, DataSet, "next_indices", 2)
            assert shell(script, "--data_dir", "data", "--dnn_hidden_units", 2, "--batch_size", 5, "--max_steps", 4,
                         "--eval_freq", 1, *flags, "--output_dir", f"stopped/{script}")[0] == 130
    return Path("stopped")


def resume(stopped: Path, script: str, name: str, content: bytes) -> None:
    """Continue the run, one file changed: it ends (0), or is stopped (130), refused (2) or lost by odd weights (3)."""
    shutil.rmtree("run", ignore_errors=True)
    shutil.copytree(stopped / script, "run")
    Path("run", name).write_bytes(content)
    with harmless(), pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, DataSet, "next_indices", 4)  # a run may have become a very long one
        status, said = shell(script, "--resume", "run")
        assert status in (0, 2, 3, 130), said
        assert said.count("\n") == bool(status), said


def saved(script: str, checkpoint: Any) -> bytes:
    path = Path(f"made{FORMATS[script].suffix}")
    FORMATS[script].save(path, checkpoint)
    content = path.read_bytes()
    path.unlink()
    return content


def loaded(script: str, content: bytes) -> Any:
    path = Path(f"made{FORMATS[script].suffix}")
    path.write_bytes(content)
    try:
        return FORMATS[script].load(path)
    finally:
        path.unlink()


def hostile(content: bytes, name: str, instead: list[bytes]) -> list[bytes]:
    """This ZIP archive with its member `name` replaced, once by each of `instead`."""
    archives = []
    for other in instead:
        out = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
            for member in old.infolist():
                new.writestr(member, other if member.filename == name else old.read(member))
        archives.append(out.getvalue())
    return archives


def npz_files() -> list[bytes]:
    """A checkpoint, and the same with arrays of objects, which NumPy would unpickle."""
    plain = saved("train_mlp_numpy", {"script": "x", "step": 3, "state": {"params": [{"w": np.ones((2, 3))}]}})
    header = b"\x93NUMPY\x01\x00\x46\x00{'descr': '|O', 'fortran_order': False, 'shape': (), }".ljust(79) + b"\n"
    objects = [header + pickled for pickled in with_calls(pickle.dumps([1], 2))]
    return [plain, *hostile(plain, "checkpoint.npy", objects), *hostile(plain, "state.params.0.w.npy", objects)]


def pt_files() -> tuple[list[bytes], list[bytes]]:
    """A checkpoint, the same with the calls in its pickle, and bare pickles, one of them what torch once wrote."""
    value, once = {"script": "x", "step": 3, "state": {"model": {"w": torch.ones(2, 3)}}}, io.BytesIO()
    torch.save(value, once, _use_new_zipfile_serialization=False)
    now = saved("train_mlp_pytorch", value)
    with zipfile.ZipFile(io.BytesIO(now)) as file:
        name = next(name for name in file.namelist() if name.endswith("data.pkl"))
        called = with_calls(file.read(name))
    return [now, *hostile(now, name, called)], [once.getvalue(), *with_calls(pickle.dumps([1], 2))]


with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):  # the formats write to files alone
    NPZ_FILES, (PT_FILES, PICKLES) = npz_files(), pt_files()


@fuzz(1400)
@given(damaged(NPZ_FILES, CALLS) | members_damaged(NPZ_FILES, CALLS))
def test_npz_file(content):
    with harmless(CheckpointError):
        assert isinstance(loaded("train_mlp_numpy", content), dict)


@fuzz(600)
@given(damaged([*PT_FILES, *PICKLES], CALLS) | members_damaged(PT_FILES, CALLS))
@pytest.mark.filterwarnings("ignore")  # of torch, about the old format
def test_pt_file(content):
    with harmless(CheckpointError):
        assert isinstance(loaded("train_mlp_pytorch", content), dict)


ODD = [None, True, -1, 0, 7, 10**400, 2.5, math.nan, -math.inf, "", "x\0\n", [], [[]], {}, {"array": "checkpoint"}]
ARRAYS = [np.zeros(0), np.zeros(3), np.full((2, 3072), math.nan), np.array("text"), np.ones((10, 2), complex)]
TENSORS = [torch.zeros(0), torch.zeros(3), torch.full((2, 3072), math.nan), torch.ones(10, 2, dtype=torch.int64)]


def odd_checkpoint(stopped: Path, script: str, odd: list[Any], seed: int) -> None:
    """Resume from a checkpoint that is whole, and holds a value that does not belong there."""
    name = f"last{FORMATS[script].suffix}"
    checkpoint = FORMATS[script].load(stopped / script / name)
    # what stands inside these is PyTorch's own, and looked at when it steps
    theirs = {part: checkpoint["state"].pop(part) for part in ("optimizer", "schedule") if part in checkpoint["state"]}
    changed = odd_value_in(checkpoint, [*ODD, *odd], seed)
    if isinstance(state := changed.get("state"), dict):
        state.update(theirs)
    resume(stopped, script, name, saved(script, changed))


@fuzz(500)
@given(seed=seeds)
def test_odd_checkpoint_of_numpy(stopped, seed):
    odd_checkpoint(stopped, "train_mlp_numpy", ARRAYS, seed)


@fuzz(300)
@given(seed=seeds)
def test_odd_checkpoint_of_pytorch(stopped, seed):
    odd_checkpoint(stopped, "train_mlp_pytorch", TENSORS, seed)


@fuzz(100)
@given(seed=seeds)
def test_odd_configuration(stopped, seed):
    config = json.loads((stopped / "train_mlp_numpy" / "config.json").read_text())
    changed = odd_value_in(config, ODD, seed)
    if isinstance(flags := changed.get("flags"), dict):
        flags["data_dir"] = config["flags"]["data_dir"]  # data that are not there would be fetched
    resume(stopped, "train_mlp_numpy", "config.json", json.dumps(changed).encode())


@fuzz(100)
@given(seed=seeds, edits=st.integers(1, 5), name=st.sampled_from(["metrics.csv", "config.json"]))
def test_damaged_text_of_a_run(stopped, seed, edits, name):
    content = (stopped / "train_mlp_numpy" / name).read_bytes()
    resume(stopped, "train_mlp_numpy", name, damage(content, seed, edits, [b"[" * 10_000]))


# ---------------------------------------------------------------- submissions


CODE = {"doe/modules.py": b"class LinearModule: pass\n", "doe/mlp_numpy.py": b"x = 1\n" * 50, "doe/report.pdf": b"%PDF",
        "doe/part/deep/convnet_pytorch.py": b""}
PATHS = [b"../../out.py", b"..\\..\\out.py", b"C:\\out.py", b"a/../../out.py", b"\xff.py", b"doe", b"doe/modules.py", b"\n.py"]


def submissions() -> list[bytes]:
    """An archive, stored and deflated, with and without members that would lie elsewhere."""
    found = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        for more in ([], ["../out.py", "../../out.py", "../../../out.py", "..\\..\\out.py"], ["link.py"], ["doe/modules.py/x.py"]):
            out = io.BytesIO()
            with zipfile.ZipFile(out, "w", method) as file:
                for name in [*CODE, *more]:
                    member = zipfile.ZipInfo(name)
                    member.compress_type = method
                    member.external_attr = ((stat.S_IFLNK if name == "link.py" else stat.S_IFREG) | 0o777) << 16
                    file.writestr(member, CODE.get(name, b"../canary"))
            found.append(out.getvalue())
    return found


@fuzz(1000)
@given(damaged(submissions(), PATHS))
def test_submission(content):
    shutil.rmtree("taken", ignore_errors=True)
    Path("taken").mkdir()
    Path("doe.zip").write_bytes(content)
    with harmless(archive.Unreadable):
        taken = archive.take_in(Path("doe.zip"), Path("taken", "in"))
        assert taken.code.is_relative_to(Path("taken", "in"))
    assert os.listdir("taken") == ["in"]
    assert not [path for path in Path("taken").rglob("*") if path.is_symlink()]


# ---------------------------------------------------------------- flags


def train(config: Any) -> dict[str, Any]:
    """What a script does before its first step; the steps themselves take too long here."""
    data = get_cifar10(config.data_dir, validation_size=config.validation_size, seed=config.seed, download=False)
    training.run.Plan(config, data)
    return {}


def parsed(script: str, *argv: str) -> None:
    """Flags are understood (0), ask for help (0), or are refused (2): in one line, missing data in three."""
    with harmless(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(SCRIPTS[script], "train", train)
        status, said = shell(script, *argv)
        assert status in (0, 2) and said.count("\n") in ((1, 3) if status else (0,)), said


NAMES_OF_FLAGS = {script: [f.name for f in dataclasses.fields(module.Config)] for script, module in SCRIPTS.items()}
VALUES = st.sampled_from(["", "0", "1", "-1", "3", "1e-3", "nan", "inf", "1e400", "9" * 30, "9" * 5000, "1,2", ",", "1,,2", "on",
                          "study", "elu", "data", "data/data_batch_1", "٣", "0x10", "1_0", "--", "-h", "a" * 5000 + ".toml",
                          "batches.toml", ".toml", "mnist-three-layers", "../x.json"]) | st.text(
                              st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=8)


@fuzz(600)
@given(st.data())
def test_flags(tiny, data):
    script = data.draw(st.sampled_from(list(SCRIPTS)))
    names = st.sampled_from([*NAMES_OF_FLAGS[script], "recipe", "help", "max_step", ""])
    flags = data.draw(st.lists(st.tuples(names, VALUES, st.booleans()), max_size=4))
    argv = [part for name, value, joined in flags for part in ([f"--{name}={value}"] if joined else [f"--{name}", value])]
    parsed(script, *(["--data_dir", "data"] if data.draw(st.booleans()) else []), *argv)


RECIPE = {"script": "train_mlp_pytorch", "about": "x", "flags": {
    "dnn_hidden_units": "20,10", "learning_rate": 0.01, "epochs": 3, "dropout": 0.5, "activation": "relu", "data_dir": "data"}}
TOML = b'script = "train_mlp_pytorch"\n[flags]\ndnn_hidden_units = [20, 10]\nlearning_rate = 1e-2\nactivation = "relu"\n'


@fuzz(400)
@given(seed=seeds, edits=st.integers(1, 5), suffix=st.sampled_from([".json", ".toml", "odd"]))
def test_recipe(tiny, seed, edits, suffix):
    if suffix == "odd":
        content, suffix = json.dumps(odd_value_in(RECIPE, ODD, seed)).encode(), ".json"
    else:
        content = damage(TOML if suffix == ".toml" else json.dumps(RECIPE).encode(), seed, edits, [b"[" * 10_000, b"0x" + b"f" * 5000])
    path = Path(f"recipe{suffix}")
    path.write_bytes(content)
    parsed("train_mlp_pytorch", "--recipe", str(path), "--batch_size", "5")
    path.unlink()
