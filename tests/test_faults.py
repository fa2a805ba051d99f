"""Fifty interruptions of one run, of every kind and at any moment: it ends as if there had been none."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from script_runs import ROOT, UNMEASURED, assert_same_run, rows, weights

from training.checkpoints import NPZ

INTERRUPTIONS = 50
KINDS = ["kill", "kill", "terminate", "interrupt", "full disk",
         *(["read-only"] if os.getuid() else [])]  # root writes into a read-only folder all the same
FLAGS = ["--batch_size", "40", "--eval_freq", "200", "--dnn_hidden_units", "20", "--learning_rate", "1e-4"]
NEVER = 10**7


def start(*flags: object, file_bytes: int = 0) -> subprocess.Popen:
    def no_room() -> None:
        if file_bytes:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))

    return subprocess.Popen([sys.executable, str(ROOT / "train_mlp_numpy.py"), *map(str, flags)], preexec_fn=no_room,
                            cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                            # a matrix product's last bit depends on the number of threads: the same for each process
                            env={**UNMEASURED, "OMP_NUM_THREADS": "1"})


def disturb(process: subprocess.Popen, kind: str, folder: Path, after: float) -> int:
    """Let it run for `after` seconds and interrupt it. Returns its exit status."""
    time.sleep(after)
    if kind in ("kill", "terminate", "interrupt"):
        process.send_signal({"kill": signal.SIGKILL, "terminate": signal.SIGTERM, "interrupt": signal.SIGINT}[kind])
    elif kind == "read-only" and folder.exists():
        folder.chmod(0o555)
    try:
        _, error = process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"{kind}: still running\n{process.communicate()[1]}")
    if folder.exists():
        folder.chmod(0o755)
    # before the script's own code: Ctrl-C, or what NumPy's start-up makes of it
    in_an_import = kind == "interrupt" and "in run_script" not in error and error.strip().rpartition("\n")[2].startswith(
        ("KeyboardInterrupt", "ImportError"))
    assert "Traceback" not in error or in_an_import, error
    return process.returncode


def assert_whole(folder: Path) -> None:
    """Nothing in the folder is half written."""
    if (folder / "config.json").exists():
        json.loads((folder / "config.json").read_text())
    if (folder / "last.npz").exists():
        NPZ.load(folder / "last.npz")
    if (folder / "metrics.csv").exists():
        text = (folder / "metrics.csv").read_text()
        assert all(len(line.split(",")) == 7 for line in text.splitlines()[:-1])  # the last may have been cut short


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fifty_interruptions_change_nothing(standin, tmp_path):
    chance, folder, seen = random.Random(7), tmp_path / "run", set()
    base = ["--data_dir", standin, *FLAGS]
    for _ in range(INTERRUPTIONS):
        if not (folder / "last.npz").exists():
            shutil.rmtree(folder, ignore_errors=True)  # stopped before its first checkpoint: it says so, and is started again
        flags = ["--resume", folder] if folder.exists() else [*base, "--output_dir", folder]
        kind = chance.choice(KINDS)
        process = start(*flags, "--max_steps", NEVER, file_bytes=20_000 if kind == "full disk" else 0)
        status = disturb(process, kind, folder, chance.uniform(0.2, 1.6))
        assert status != 0
        seen.add((kind, status))
        assert_whole(folder)
    assert {kind for kind, _ in seen} == set(KINDS)
    assert ("interrupt", 130) in seen
    assert ("full disk", 1) in seen

    step = NPZ.load(folder / "last.npz")["step"]
    last = step + 300
    for flags in (["--resume", folder], [*base, "--output_dir", tmp_path / "undisturbed"]):
        process = start(*flags, "--max_steps", last)
        _, error = process.communicate(timeout=300)
        assert process.returncode == 0, error
    assert_same_run(folder, tmp_path / "undisturbed")
    found = [(row["step"], row["split"]) for row in rows(folder)]
    assert len(found) == len(set(found)) == 2 * len({step for step, _ in found})
    assert weights(folder)
    assert not list(folder.glob(".*.part"))
