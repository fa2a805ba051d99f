"""Two processes, as torchrun starts them: the steps of one, a whole checkpoint when one of them dies, one that writes."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from script_runs import ROOT, assert_same_run, rows, run

import train_mlp_pytorch
from cifar10_utils import get_cifar10
from imagefiles import cifar10_standin
from training import distributed as distributed_pytorch
from training import rendezvous
from training import trainer as training_pytorch
from training.flags import UserError
from training.trainer import load_torch

pytestmark = pytest.mark.training
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local_addr", "127.0.0.1",
            "--nproc_per_node", "2"]


def start(script: str | Path, *flags: object, cwd: Path = ROOT) -> subprocess.Popen:
    """A script of the package, or one whose path from the root is given, without its .py."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([*TORCHRUN, str(ROOT / f"{script}.py"), *map(str, flags), "--device", "cpu"], cwd=cwd, env=environment,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)


def finish(process: subprocess.Popen, seconds: float = 120) -> tuple[int, str]:
    """Its exit status and output; killed when it takes longer, as a hang would."""
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        for pid in (*members(process).values(), process.pid):  # torchrun's processes have groups of their own
            os.kill(pid, signal.SIGKILL)
        pytest.fail(f"still running after {seconds} s: {process.communicate()[0][-2000:]}")
    return process.returncode, output


def members(process: subprocess.Popen) -> dict[int, int]:
    """{rank: process id} of what torchrun has started."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            environment = dict(part.partition("=")[::2] for part in (path / "environ").read_text().split("\0"))
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, UnicodeDecodeError):
            continue
        if parent == process.pid and "RANK" in environment:
            found[int(environment["RANK"])] = int(path.name)
    return found


@pytest.mark.parametrize("flags", [(), ("--normalization", "layer", "--optimizer", "adam", "--batch_size", 15)],
                         ids=["defaults", "uneven shares"])
def test_two_processes_take_the_steps_of_one(flags, standin, tmp_path):
    base = ["--data_dir", standin, "--max_steps", 20, "--batch_size", 50, "--eval_freq", 1, *flags]
    assert run("train_mlp_pytorch", *base, "--output_dir", tmp_path / "one") == 0
    status, output = finish(start("train_mlp_pytorch", *base, "--output_dir", tmp_path / "two"))
    assert status == 0, output
    assert output.count("test_accuracy") == 1  # one of them speaks
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert [(r["step"], r["split"]) for r in one] == [(r["step"], r["split"]) for r in two]
    for key in ("loss", "accuracy"):
        np.testing.assert_allclose([float(r[key]) for r in two], [float(r[key]) for r in one], rtol=2e-6)
    files = [{path.name for path in (tmp_path / name).iterdir()} for name in ("one", "two")]
    assert files[0] == files[1]


def test_what_is_evaluated_is_what_is_saved(tmp_path):
    """BatchNorm's running averages differ from process to process; the first one's are saved."""
    data = tmp_path / "cifar-10-batches-py"
    cifar10_standin.make_standin(data, train_size=200, test_size=700, seed=0)  # more than a batch: all evaluate
    status, output = finish(start("train_mlp_pytorch", "--data_dir", data, "--normalization", "batch_torch", "--max_steps",
                                  5, "--batch_size", 50, "--eval_freq", 5, "--output_dir", tmp_path / "run"))
    assert status == 0, output
    model = train_mlp_pytorch.build_model(train_mlp_pytorch.Config(normalization="batch_torch"))
    model.load_state_dict(load_torch(tmp_path / "run/last.pt")["state"]["model"])
    test = get_cifar10(data, one_hot=False).test
    loss, accuracy = training_pytorch.evaluate(model, test, torch.device("cpu"))
    np.testing.assert_allclose(float(rows(tmp_path / "run")[-1]["loss"]), loss, rtol=2e-6)
    assert float(rows(tmp_path / "run")[-1]["accuracy"]) == accuracy


def launch(monkeypatch, rank: int, size: int) -> None:
    """The environment of one of torchrun's processes."""
    for name, value in {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1",
                        "MASTER_PORT": 29500}.items():
        monkeypatch.setenv(name, str(value))


def test_each_image_is_in_one_share(monkeypatch):
    shares = []
    for rank in range(3):
        launch(monkeypatch, rank, 3)
        shares.append(distributed_pytorch.share(np.arange(10)))
    assert sorted(np.concatenate(shares)) == list(range(10))
    assert sorted(map(len, shares)) == [3, 3, 4]


def test_a_batch_smaller_than_the_processes_is_refused(standin, tmp_path):
    status, output = finish(start("train_mlp_pytorch", "--data_dir", standin, "--batch_size", 1, "--output_dir",
                                  tmp_path / "run"))
    assert status != 0
    assert "cannot be shared by 2 processes" in output


def test_each_process_wants_a_gpu_of_its_own(monkeypatch):
    launch(monkeypatch, 1, 2)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with (pytest.raises(UserError, match="process 2 of this machine has no GPU of its own, there being 1"),
          distributed_pytorch.joined(torch.device("cuda"), 200)):
        pass


def test_each_process_has_a_stream_of_its_own():
    """With seed s, the process r does not draw what the process r - 1 draws with seed s + 1."""
    seeds = {distributed_pytorch.seed_of(seed, rank, step) for seed in range(4) for rank in range(4) for step in range(4)}
    assert len(seeds) == 64


def test_what_is_random_in_each_process_continues_after_resume(standin, tmp_path):
    base = ["--data_dir", standin, "--batch_size", 20, "--eval_freq", 3, "--input_dropout", 0.5, "--shift", 2]
    for name, steps in (("whole", 9), ("cut", 4)):
        status, output = finish(start("train_mlp_pytorch", *base, "--max_steps", steps, "--output_dir", tmp_path / name))
        assert status == 0, output
    status, output = finish(start("train_mlp_pytorch", "--resume", tmp_path / "cut", "--max_steps", 9))
    assert status == 0, output
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


SLOW = """
import os, signal, sys, time
from datetime import timedelta
import torch
from training import distributed, rendezvous
from training.script import run_script
from training.flags import TrainingFlags

distributed.PATIENCE = rendezvous.PATIENCE = timedelta(seconds=3)
rendezvous.HEARTBEAT = 0.2

def train(config):
    with distributed.joined(torch.device("cpu"), 200) as device:
        if rendezvous.rank() == 1:
            if config.seed == 1:
                print("stopped", flush=True)
                os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(8)
        rendezvous.wait_for_all()
        total = distributed.total(torch.ones(1)).tolist()
        os.write(1, f"sum {total}\\n".encode())  # in one piece: both processes write at once
    return {}

sys.exit(run_script(TrainingFlags, train, ""))
"""


@pytest.mark.parametrize("stopped", [False, True])
def test_a_slow_process_is_waited_for_and_a_silent_one_is_not(stopped, tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([*TORCHRUN, str(tmp_path / "slow.py"), "--seed", str(int(stopped))], env=environment,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    status, output = finish(process, 90)
    assert (status == 0) != stopped, output
    assert output.count("sum [2.0]") == (0 if stopped else 2)
    assert ("slow.py: process 1 has not been heard of" in output) == stopped


LATE = """
import sys, time
import train_mlp_pytorch
from training import rendezvous, trainer
from training.script import run_script

wait_for_all = trainer.wait_for_all

def late():
    if rendezvous.rank() == 1:
        time.sleep(100)
    print("waiting", flush=True)
    wait_for_all()

trainer.wait_for_all = late
sys.exit(run_script(train_mlp_pytorch.Config, train_mlp_pytorch.train, ""))
"""


def test_a_signal_ends_the_wait_for_another_process(standin, tmp_path):
    (tmp_path / "late.py").write_text(LATE)
    process = start(tmp_path / "late", "--data_dir", standin, "--max_steps", 2, "--output_dir", tmp_path / "run")
    lines = iter(process.stdout.readline, "")
    assert any(line == "waiting\n" for line in lines)
    os.kill(members(process)[0], signal.SIGTERM)
    status, output = finish(process, 30)
    assert status != 0 and "late.py: stopped before the first step; " in output, output


def wait_for(path: Path, process: subprocess.Popen) -> None:
    give_up = time.time() + 60
    while not path.exists() and time.time() < give_up and process.poll() is None:
        time.sleep(0.1)
    assert path.exists()


LONG = ["--max_steps", 100_000, "--eval_freq", 20, "--batch_size", 20]


def resumed(folder: Path) -> None:
    step = load_torch(folder / "last.pt")["step"]
    assert run("train_mlp_pytorch", "--resume", folder, "--max_steps", step + 5) == 0
    assert int(rows(folder)[-1]["step"]) == step + 5
    assert len({(r["step"], r["split"]) for r in rows(folder)}) == len(rows(folder))


def test_a_process_that_dies_ends_the_run_and_the_checkpoint_is_whole(standin, tmp_path):
    process = start("train_mlp_pytorch", "--data_dir", standin, *LONG, "--output_dir", tmp_path / "run")
    wait_for(tmp_path / "run/last.pt", process)
    os.kill(members(process)[1], signal.SIGKILL)
    status, output = finish(process, 60)
    assert status != 0, output
    resumed(tmp_path / "run")


@pytest.mark.parametrize("named", [True, False])
def test_where_the_first_process_dies_another_says_how_to_continue(standin, tmp_path, named):
    out = tmp_path / ("run" if named else "results/train_mlp_pytorch")
    process = start("train_mlp_pytorch", "--data_dir", standin, *LONG, *(["--output_dir", out] if named else []), cwd=tmp_path)
    while not (saved := [*tmp_path.rglob("last.pt")]):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    os.kill(members(process)[0], signal.SIGKILL)
    status, output = finish(process, 60)
    (line,) = (line for line in output.splitlines() if "cannot be reached any more" in line)
    assert status != 0 and line.endswith(f"continue with --resume {'' if named else 'and the newest folder in '}{out}")
    assert "GLHF" not in output
    resumed(saved[0].parent)


TINY = {"train_mlp_numpy": ["--max_steps", "2", "--batch_size", "20"],
        "train_mlp_autodiff": ["--dataset", "cifar10", "--epochs", "1", "--repeats", "1", "--batch_size", "100", "--validation_size", "100"]}


@pytest.mark.parametrize("script", TINY)
def test_a_script_of_one_process_says_that_it_is_one(script, standin, tmp_path):
    command = [*TORCHRUN, str(ROOT / f"{script}.py"), *TINY[script], "--data_dir", str(standin), "--output_dir", str(tmp_path / "run")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and not (tmp_path / "run").exists()
    assert f"{script}.py: runs in one process: start it with python, not with torchrun\n" in done.stderr
    alone = subprocess.run([*TORCHRUN[:-1], "1", *command[len(TORCHRUN):]], cwd=tmp_path, capture_output=True,
                           check=False)
    assert alone.returncode == 0, alone.stderr


def test_ctrl_c_stops_all_after_the_same_step(standin, tmp_path):
    process = start("train_mlp_pytorch", "--data_dir", standin, *LONG, "--output_dir", tmp_path / "run")
    wait_for(tmp_path / "run/last.pt", process)
    for pid in members(process).values():
        os.kill(pid, signal.SIGINT)
    status, output = finish(process, 60)
    assert status != 0
    assert output.count("continue with --resume") == 1, output  # that of the first process, which has the folder
    resumed(tmp_path / "run")


SLOW_TO_LEAVE = """
import sys, time
import train_mlp_pytorch
from training import rendezvous
from training.script import run_script

leave = rendezvous.Meeting.leave

def slow(self):
    if self.rank == 0:
        time.sleep(3)
    leave(self)

rendezvous.Meeting.leave = slow
sys.exit(run_script(train_mlp_pytorch.Config, train_mlp_pytorch.train, ""))
"""


def test_the_process_that_ends_last_tells_how_the_run_ended(standin, tmp_path):
    """torchrun sends it SIGTERM when the first has ended."""
    (tmp_path / "slow_to_leave.py").write_text(SLOW_TO_LEAVE)
    process = start(tmp_path / "slow_to_leave", "--data_dir", standin, *LONG, "--output_dir", tmp_path / "run")
    wait_for(tmp_path / "run/last.pt", process)
    for pid in members(process).values():
        os.kill(pid, signal.SIGINT)
    status, output = finish(process, 60)
    assert status != 0
    assert output.count("continue with --resume") == 1, output


SLOW_TO_SUM_UP = """
import sys, time
import train_mlp_pytorch
from training import rendezvous
from training.run import Run
from training.script import run_script

finish = Run._finish

def slow(self):
    if rendezvous.rank() == 0:
        print("summing up", flush=True)
        time.sleep(2)
    finish(self)

Run._finish = slow
sys.exit(run_script(train_mlp_pytorch.Config, train_mlp_pytorch.train, ""))
"""


def test_a_signal_during_the_summary_loses_nothing(standin, tmp_path):
    (tmp_path / "slow_to_sum_up.py").write_text(SLOW_TO_SUM_UP)
    process = start(tmp_path / "slow_to_sum_up", "--data_dir", standin, "--max_steps", 2, "--output_dir", tmp_path / "run")
    assert any(line == "summing up\n" for line in iter(process.stdout.readline, ""))
    for pid in members(process).values():
        os.kill(pid, signal.SIGTERM)
    status, output = finish(process, 60)
    assert status != 0
    assert output.count(f"slow_to_sum_up.py: stopped; the run in {tmp_path / 'run'} is finished\n") == 1, output
    assert (tmp_path / "run/summary.json").exists() and (tmp_path / "run/curves.png").exists()


def test_after_a_run_signals_mean_what_they_meant(standin, tmp_path):
    """A program of somebody's own, which does more than train."""
    (tmp_path / "own.py").write_text("import signal, sys, train_mlp_pytorch as s\n"
                                     "s.train(s.Config(data_dir=sys.argv[1], output_dir=sys.argv[2], max_steps=2, device='cpu'))\n"
                                     "print('restored' if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL else 'kept')")
    status, output = finish(start(tmp_path / "own", standin, tmp_path / "run"))
    assert output.count("restored") == 2 and status == 0, output


def test_without_torchrun_nothing_is_shared():
    assert (rendezvous.processes(), rendezvous.rank()) == (1, 0)
    assert distributed_pytorch.total(torch.tensor([1.5, 2.0])).tolist() == [1.5, 2.0]
    model = torch.nn.Linear(2, 2)
    assert distributed_pytorch.averaged(model, torch.device("cpu")) is model


def test_the_slurm_job_trains_and_when_queued_again_continues(standin, tmp_path):
    """SLURM itself played by two scripts: one node, whose tasks are started at once."""
    (tmp_path / "bin").mkdir()
    for name, text in (("srun", 'exec "$@"'), ("scontrol", "echo 127.0.0.1")):
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").write_text(f'PATH="{tmp_path / "bin"}:{Path(sys.executable).parent}:$PATH"\n')
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    environment = {**os.environ, "SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "a",
                   "SLURM_NNODES": "1", "SLURM_GPUS_ON_NODE": "2", "MASTER_PORT": str(port)}
    run_folder = tmp_path / "results/slurm/7"
    for steps in (2, 4):
        job = [str(ROOT / "cluster/train.sbatch"), str(ROOT / "train_mlp_pytorch.py"), "--data_dir", str(standin),
               "--batch_size", "20", "--max_steps", str(steps), "--device", "cpu"]
        done = subprocess.run(job, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert int(rows(run_folder)[-1]["step"]) == 2  # the second time it finds the run, which brings its own flags
