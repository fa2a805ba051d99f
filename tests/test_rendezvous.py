"""How several processes find each other: two hosts, and each way in which that fails as one line."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from script_runs import QUICK, ROOT, rows, run
from test_distributed import finish, resumed

from training import rendezvous

pytestmark = pytest.mark.training
LAUNCHED = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}


# ---------------------------------------------------------------- two hosts, joined by a cable


class Hosts:
    """Two network namespaces with a virtual cable, in which each host's own name is a loopback address.

    They are there as long as the two processes that hold them.
    """

    addresses = ("10.77.0.1", "10.77.0.2")

    def __init__(self, folder: Path):
        self.folder = folder
        self.holders = [subprocess.Popen(["unshare", "--net", "--mount", "--uts", "sleep", "600"],
                                         stderr=subprocess.PIPE, text=True) for _ in self.addresses]

    def connect(self) -> str:
        """Lay the cable. Returns why it cannot be done, '' if it was."""
        give_up = time.monotonic() + 10
        own = os.readlink("/proc/self/ns/net")
        for holder in self.holders:  # until it is in its own namespace
            while holder.poll() is None and os.readlink(f"/proc/{holder.pid}/ns/net") == own:
                if time.monotonic() > give_up:
                    return "no namespace was made"
                time.sleep(0.01)
            if holder.poll() is not None:
                return holder.stderr.read().strip()
        first, second = (str(holder.pid) for holder in self.holders)
        commands = [["ip", "link", "add", "cable", "netns", first, "type", "veth", "peer", "name", "cable", "netns", second]]
        for host, address in enumerate(self.addresses):
            (self.folder / f"hosts{host}").write_text(
                f"127.0.0.1 localhost\n127.0.1.1 host{host}\n{self.addresses[1 - host]} host{1 - host}\n")
            commands += [self.on(host, *command.split()) for command in (
                f"hostname host{host}", f"mount --bind {self.folder}/hosts{host} /etc/hosts", "ip link set lo up",
                f"ip address add {address}/24 dev cable", "ip link set cable up")]
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                return f"{' '.join(command)}: {done.stderr.strip()}"
        return ""

    def on(self, host: int, *command: object) -> list[str]:
        """The command line that runs `command` on that host."""
        return ["nsenter", "--target", str(self.holders[host].pid), "--net", "--mount", "--uts", *map(str, command)]

    def start(self, host: int, *command: object, **environment: str) -> subprocess.Popen:
        clean = {name: value for name, value in os.environ.items() if not name.endswith("_SOCKET_IFNAME")}
        return subprocess.Popen(self.on(host, *command), env={**clean, "OMP_NUM_THREADS": "1", **environment},
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)

    def close(self) -> None:
        for holder in self.holders:
            holder.kill()
            holder.communicate()


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    if missing := [tool for tool in ("unshare", "nsenter", "ip", "hostname", "mount") if not shutil.which(tool)]:
        pytest.skip(f"two hosts need {', '.join(missing)} (apt: iproute2, util-linux, hostname)")
    hosts = Hosts(tmp_path)
    try:
        if reason := hosts.connect():
            pytest.skip(f"two hosts cannot be made here: {reason}")
        yield hosts
    finally:
        hosts.close()


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return str(server.getsockname()[1])


def test_two_hosts_take_the_steps_of_one_process(hosts, standin, tmp_path):
    """As torchrun starts them. The first host calls itself 127.0.1.1, which the second calls 10.77.0.1."""
    base = ["--data_dir", standin, "--max_steps", 10, "--batch_size", 50, "--eval_freq", 5, "--device", "cpu"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1",
                "--master_addr", "host0", "--master_port", free_port()]
    started = [hosts.start(host, *torchrun, "--node_rank", host, ROOT / "train_mlp_pytorch.py", *base, "--output_dir",
                           tmp_path / "two") for host in (0, 1)]
    assert run("train_mlp_pytorch", *base, "--output_dir", tmp_path / "one") == 0
    for process in started:
        status, output = finish(process)
        assert status == 0, output
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert [(r["step"], r["split"]) for r in one] == [(r["step"], r["split"]) for r in two]
    for key in ("loss", "accuracy"):
        np.testing.assert_allclose([float(r[key]) for r in two], [float(r[key]) for r in one], rtol=2e-6)


def test_a_cut_cable_ends_the_run_within_a_minute_and_the_checkpoint_is_whole(hosts, standin, tmp_path):
    port = free_port()
    started = [hosts.start(host, sys.executable, ROOT / "train_mlp_pytorch.py", "--data_dir", standin, "--max_steps", 10**6,
                           "--eval_freq", 20, "--batch_size", 20, "--device", "cpu", "--output_dir", tmp_path / "run",
                           RANK=str(host), WORLD_SIZE="2", LOCAL_RANK="0", MASTER_ADDR="10.77.0.1", MASTER_PORT=port)
               for host in (0, 1)]
    while not (tmp_path / "run/last.pt").exists():
        assert started[0].poll() is None, started[0].communicate()[0]
        time.sleep(0.1)
    subprocess.run(hosts.on(1, "ip", "link", "set", "cable", "down"), check=True)
    cut = time.monotonic()
    outputs = [finish(process) for process in started]
    assert time.monotonic() - cut < 70
    for status, output in outputs:
        said = [line for line in output.splitlines() if line.startswith("train_mlp_pytorch.py: ")]
        assert status == 1 and len(said) == 1 and "Traceback" not in output, output
        assert f"10.77.0.1:{port} (MASTER_ADDR, MASTER_PORT)" in said[0]
    assert f"continue with --resume {tmp_path / 'run'}" in outputs[0][1]
    resumed(tmp_path / "run")


def test_two_hosts_share_one_study(hosts, standin, tmp_path):
    study = [sys.executable, ROOT / "search_mlp_pytorch.py", "--data_dir", standin, "--trials", 4, "--epochs", 1,
             "--validation_size", 400, "--output_dir", tmp_path / "study"]
    for process in [hosts.start(host, *study) for host in (0, 1)]:
        status, output = finish(process)
        assert status == 0, output
    table = (tmp_path / "study/trials.csv").read_text().splitlines()[1:]
    assert [line.split(",")[0] for line in table] == ["0", "1", "2", "3"]
    assert json.loads((tmp_path / "study/best.json").read_text())["script"] == "train_mlp_pytorch"


# ---------------------------------------------------------------- what cannot be joined


@pytest.fixture
def quick(monkeypatch):
    """As little patience as a test has."""
    monkeypatch.setattr(rendezvous, "PATIENCE", timedelta(seconds=2))
    monkeypatch.setattr(rendezvous, "START", timedelta(seconds=2))
    monkeypatch.setattr(rendezvous, "TELL_AFTER", 0.5)


def heartbeats() -> int:
    """How many are running. One that is inside PyTorch's store when Python exits aborts the process, status 134."""
    return sum(thread.name == "heartbeat" for thread in threading.enumerate())


def refused(monkeypatch, capfd, standin: Path, out: Path, **environment: str) -> tuple[int, str, str]:
    """(exit status, what is printed, the one line on stderr) of a run with these variables of a launcher."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    before = heartbeats()
    status = run("train_mlp_pytorch", "--data_dir", standin, *QUICK, "--device", "cpu", "--output_dir", out)
    printed = capfd.readouterr()
    assert "Traceback" not in printed.err
    said = [line for line in printed.err.splitlines() if line.startswith(f"{Path(sys.argv[0]).name}: ")]
    assert len(said) == 1, printed.err  # beside what PyTorch itself writes to it
    assert not out.exists()
    assert rendezvous.Meeting.current is None and heartbeats() == before
    return status, printed.out, said[0]


def test_nobody_listens(quick, monkeypatch, capfd, standin, tmp_path):
    port = free_port()
    status, told, said = refused(monkeypatch, capfd, standin, tmp_path / "run", **LAUNCHED, MASTER_PORT=port)
    assert status == 1
    assert f"the first process cannot be reached at 127.0.0.1:{port} (MASTER_ADDR, MASTER_PORT): Connection refused" in said
    assert told.count("NOTICE: the first process cannot be reached yet") == 1
    assert "if torchrun did not start this, end it and unset RANK WORLD_SIZE LOCAL_RANK MASTER_ADDR MASTER_PORT" in told


def test_an_address_that_does_not_exist(quick, monkeypatch, capfd, standin, tmp_path):
    environment = {**LAUNCHED, "MASTER_ADDR": "no-such-host.invalid", "MASTER_PORT": "29500"}
    status, _, said = refused(monkeypatch, capfd, standin, tmp_path / "run", **environment)
    assert status == 1 and "at no-such-host.invalid:29500 (MASTER_ADDR, MASTER_PORT): " in said


def test_another_program_listens(quick, monkeypatch, capfd, standin, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        for environment in ({**LAUNCHED, "MASTER_PORT": port}, {**LAUNCHED, "RANK": "0", "MASTER_PORT": port}):
            status, _, said = refused(monkeypatch, capfd, standin, tmp_path / "run", **environment)
            if environment["RANK"] == "1":
                assert status == 1 and f"no answer for 2 s from 127.0.0.1:{port} (MASTER_ADDR, MASTER_PORT)" in said
            else:
                assert status == 2 and f"cannot listen at 127.0.0.1:{port} (MASTER_ADDR, MASTER_PORT): " in said
                assert "address already in use; choose another port" in said


def test_the_others_do_not_come(quick, monkeypatch, capfd, standin, tmp_path):
    environment = {**LAUNCHED, "RANK": "0", "MASTER_PORT": free_port()}
    status, told, said = refused(monkeypatch, capfd, standin, tmp_path / "run", **environment)
    assert status == 1 and f"process 1 has not come to 127.0.0.1:{environment['MASTER_PORT']} (MASTER_ADDR" in said
    assert told.count("NOTICE: process 1 of 2 has not come yet to 127.0.0.1") == 1


@pytest.mark.parametrize(("name", "value", "says"), [("WORLD_SIZE", "3", "WORLD_SIZE is 3 here and 2 in another process"),
                                                     ("RANK", "0", "RANK is 0 in two processes")])
def test_launchers_that_do_not_agree(name, value, says, quick, monkeypatch, capfd, standin, tmp_path):
    port = free_port()
    with monkeypatch.context() as patch:
        for variable, given in {**LAUNCHED, "RANK": "0", "MASTER_PORT": port}.items():
            patch.setenv(variable, given)
        first = rendezvous.Meeting(rendezvous.shared_store())
    environment = {**LAUNCHED, "MASTER_PORT": port, "TORCHELASTIC_USE_AGENT_STORE": "True", name: value}
    status, _, said = refused(monkeypatch, capfd, standin, tmp_path / "run", **environment)
    assert status == 2 and says in said and f"127.0.0.1:{port} (MASTER_ADDR, MASTER_PORT)" in said
    assert first.size == 2 and heartbeats() == 1
    first.leave()
    assert heartbeats() == 0


def test_ctrl_c_while_waiting_for_the_first_process(standin, tmp_path):
    process = subprocess.Popen(
        [sys.executable, ROOT / "train_mlp_pytorch.py", "--data_dir", standin, "--output_dir", tmp_path / "run"],
        env={**os.environ, **LAUNCHED, "MASTER_PORT": free_port()}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "cannot be reached yet" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130 and error.count("\n") == 1


def test_an_error_that_is_no_lost_connection_stays_itself():
    with pytest.raises(RuntimeError, match=r"^a mistake of ours$"), rendezvous.lost_connections("cannot be reached"):
        raise RuntimeError("a mistake of ours")


# ---------------------------------------------------------------- the network interface


def test_the_interface_with_an_address():
    assert rendezvous.interface_with(rendezvous.address_towards("localhost")) == "lo"
    assert rendezvous.interface_with("192.0.2.1") == rendezvous.interface_with("2001:db8::1") == ""
    if "00000000000000000000000000000001" in Path("/proc/net/if_inet6").read_text():
        assert rendezvous.interface_with("::1") == "lo"


@pytest.mark.parametrize("chosen", ["", "mine"])
def test_an_interface_that_the_user_names_stays(chosen, monkeypatch):
    monkeypatch.setattr(rendezvous, "interface_towards_others", lambda meeting: "found")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", chosen)
    with rendezvous.gloo_interface(None):
        assert os.environ["GLOO_SOCKET_IFNAME"] == (chosen or "found")
    assert os.environ.get("GLOO_SOCKET_IFNAME", "") == chosen


# ---------------------------------------------------------------- other launchers


@pytest.mark.parametrize(("environment", "notices"), [
    ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "4"}, 1),  # srun --ntasks 4
    ({"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "4"}, 0),  # another of its tasks
    ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "1"}, 0),  # srun --pty bash
    ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_NODELIST": "n[1-4]"}, 0),   # in the batch script itself
    ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_NNODES": "2"}, 0),          # salloc
    ({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"}, 1),
    ({"PMI_RANK": "0", "PMI_SIZE": "two"}, 0)])
def test_other_launchers_are_told_of_torchrun_and_disturb_nothing(environment, notices, monkeypatch, capsys, standin, tmp_path):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert run("train_mlp_pytorch", "--data_dir", standin, *QUICK, "--output_dir", tmp_path / "run") == 0
    assert capsys.readouterr().out.count("each of which trains by itself. To share one run, start torchrun") == notices
    assert [row["step"] for row in rows(tmp_path / "run")] == ["2", "2", "4", "4"]
