"""The search: shared by processes, one of them killed in mid-trial, and no trial lost or doubled."""

import csv
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time

import optuna
import pytest
import torch
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from script_runs import ROOT, run

import cifar10_utils
import search_mlp_pytorch as search
import train_mlp_pytorch
import training.run
from training.flags import UserError
from training.script import run_script

pytestmark = pytest.mark.training
QUICK = {"epochs": 1, "validation_size": 100, "population": 2}


def quick_with(sampler: str) -> dict:
    """QUICK for this sampler: only evolution has a population."""
    return {key: value for key, value in QUICK.items() if key != "population" or sampler == "evolution"} | {"sampler": sampler}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Small networks and few batches, and on the CPU, where a run gives the same digits again."""
    whole = search.flags_of

    def flags_of(drawn, config):
        return whole(drawn, config) | {"dnn_hidden_units": [8], "batch_size": 100, "device": "cpu"}

    monkeypatch.setattr(search, "flags_of", flags_of)


def config(standin, folder, **flags):
    quick = quick_with(flags.get("sampler", "evolution"))
    return search.Config(**{**quick, "data_dir": str(standin), "output_dir": str(folder), **flags})


def trials(folder):
    with open(folder / "trials.csv", newline="") as file:
        return list(csv.DictReader(file))


def study(folder):
    return search.Shared(search.Config(**QUICK, output_dir=str(folder))).study


def test_a_study_leaves_its_table_its_best_and_its_pictures(standin, tmp_path):
    summary = search.search(config(standin, tmp_path / "s", trials=4))
    rows = trials(tmp_path / "s")
    for row in rows:  # of the layers that are there
        assert [bool(row[f"width_{i}"]) for i in range(1, 5)] == [i <= int(row["depth"]) for i in range(1, 5)]
    assert [int(row["trial"]) for row in rows] == [0, 1, 2, 3]
    best = max(rows, key=lambda row: float(row["validation_accuracy"]))
    assert summary["validation_accuracy"] == float(best["validation_accuracy"])
    assert summary["trials"] == 4
    for name in ("history", "importance", "parallel"):
        assert (tmp_path / "s" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    # the recipe gives the very run that was found: its validation accuracy to the digit, and now the test split
    assert run("train_mlp_pytorch", "--recipe", tmp_path / "s" / "best.json", "--data_dir", standin,
               "--output_dir", tmp_path / "again") == 0
    again = json.loads((tmp_path / "again/summary.json").read_text())
    assert again["validation_accuracy"] == summary["validation_accuracy"]
    assert "test_accuracy" in again


def test_the_test_split_is_never_evaluated(standin, tmp_path, monkeypatch):
    seen = []
    evaluate = training.run.Run._evaluated
    monkeypatch.setattr(training.run.Run, "_evaluated", lambda run, split: seen.append(split) or evaluate(run, split))
    search.search(config(standin, tmp_path / "s", trials=2, epochs=2, pruning="off"))
    assert seen == ["validation"] * 4
    for path in (tmp_path / "s/trials").glob("*/*"):
        assert path.suffix != ".pt"
        assert path.name != "metrics.csv" or "test" not in path.read_text()


@pytest.mark.parametrize("sampler", search.SAMPLERS)
def test_each_sampler_draws_other_values_in_each_trial(sampler, standin, tmp_path):
    search.search(config(standin, tmp_path, sampler=sampler, trials=5))
    rates = [row["learning_rate"] for row in trials(tmp_path)]
    assert len(rates) == 5 and len(set(rates)) > 1


def test_hopeless_trials_end_early(standin, tmp_path, monkeypatch):
    """After five trials that reach 0.5, one of 0.1 is not trained to its end."""
    accuracies = iter([0.5] * 15 + [0.1] * 3)

    def train(config, watch):
        for step in range(config.epochs):
            value = next(accuracies)
            watch(step, value)
        return {"validation_accuracy": value}

    monkeypatch.setattr(train_mlp_pytorch, "train", train)
    summary = search.search(config(standin, tmp_path, trials=6, epochs=3))
    assert summary["pruned"] == 1
    assert trials(tmp_path)[-1]["state"] == "pruned" and trials(tmp_path)[-1]["epochs"] == "2"


def test_a_diverging_trial_is_the_worst_and_not_the_end(standin, tmp_path, monkeypatch):
    def train(config, watch):
        raise training.run.Diverged("nan")

    monkeypatch.setattr(train_mlp_pytorch, "train", train)
    assert search.search(config(standin, tmp_path, trials=2))["validation_accuracy"] == 0.0


def test_an_interrupted_trial_is_given_back(standin, tmp_path, monkeypatch):
    calls = []
    original = train_mlp_pytorch.train

    def train(config, watch):
        calls.append(config.learning_rate)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(config, watch)

    monkeypatch.setattr(train_mlp_pytorch, "train", train)
    with pytest.raises(KeyboardInterrupt):
        search.search(config(standin, tmp_path, trials=3))
    assert search.search(config(standin, tmp_path, trials=3))["trials"] == 3
    assert calls[2] == calls[1]  # the same values once more
    assert search.search(config(standin, tmp_path, trials=3))["trials"] == 3
    assert len(calls) == 4  # all taken: nothing is run


WORKER = """
import sys, time
sys.path.insert(0, {root!r})
import search_mlp_pytorch as search, train_mlp_pytorch
def train(config, watch):
    time.sleep({seconds})
    watch(1, 0.5)
    return {{"validation_accuracy": config.learning_rate}}
train_mlp_pytorch.train = train
search.search(search.Config(**{flags!r}))
"""


def start(flags, seconds):
    code = WORKER.format(root=str(ROOT), flags=flags, seconds=seconds)
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def test_two_processes_share_a_study_and_one_is_killed(tmp_path):
    flags = {**quick_with("random"), "trials": 12, "output_dir": str(tmp_path)}
    slow, quick = start(flags, 60), start(flags, 0.1)
    give_up = time.time() + 120
    while time.time() < give_up:  # until the slow one is in the middle of a trial
        time.sleep(0.2)
        if quick.poll() is not None and study(tmp_path).get_trials(states=(TrialState.RUNNING,)):
            break
    os.kill(slow.pid, signal.SIGKILL)
    slow.wait()
    assert quick.wait(60) == 0, quick.stderr.read()
    [lost] = study(tmp_path).get_trials(states=(TrialState.RUNNING,))
    third = start(flags, 0.1)
    assert third.wait(60) == 0, third.stderr.read()
    found = study(tmp_path).get_trials()
    complete = [trial for trial in found if trial.state == TrialState.COMPLETE]
    assert len(complete) == 12
    assert [trial.number for trial in found if trial.state == TrialState.FAIL] == [lost.number]
    assert [trial for trial in found if trial.state in (TrialState.RUNNING, TrialState.WAITING)] == []
    values = [trial.params["learning_rate"] for trial in complete]
    assert len(set(values)) == 12  # none doubled
    assert lost.params["learning_rate"] in values or not lost.params  # the lost one was done again
    assert len(trials(tmp_path)) == 12


def test_other_tasks_and_other_files_are_refused(standin, tmp_path):
    search.search(config(standin, tmp_path / "s", trials=1))
    with pytest.raises(UserError, match=r"--epochs: .* holds a study with epochs 1, not 2"):
        search.search(config(standin, tmp_path / "s", trials=2, epochs=2))
    (tmp_path / "file.log").write_text("no study\n")
    with pytest.raises(UserError, match="is not the file of a study"):
        search.search(config(standin, tmp_path / "t", storage=str(tmp_path / "file.log")))
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        search.search(config(standin, tmp_path / "file" / "s"))


@pytest.fixture
def of_two(standin, tmp_path):
    """The file of a study of two trials."""
    search.search(config(standin, tmp_path / "s", trials=2))
    return tmp_path / "s" / "study.log"


@pytest.mark.parametrize("left", [-1, 0.5, 11, 3])
def test_a_line_that_a_killed_process_left_unfinished_costs_its_trial_alone(left, of_two, standin):
    """Its end is missing, its second half, all but how it begins, or more; the line is of either trial."""
    whole = of_two.read_bytes().splitlines(keepends=True)
    for keep in (len(whole) - 1, len(whole) // 2):
        line = whole[keep]
        of_two.write_bytes(b"".join(whole[:keep]) + line[:left if isinstance(left, int) else int(left * len(line))])
        assert search.search(config(standin, of_two.parent, trials=3))["trials"] == 3
        for line in of_two.read_bytes().splitlines():
            json.loads(line)


def test_zeros_that_a_power_cut_left_cost_nothing(of_two, standin):
    of_two.write_bytes(of_two.read_bytes() + bytes(4096))
    assert search.search(config(standin, of_two.parent, trials=3))["trials"] == 3
    assert b"\0" not in of_two.read_bytes()


def test_what_cannot_be_a_study_is_refused_before_one_is_made(standin, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"^--storage: sqlite:///x\.db is an address; name a file"):
        search.search(config(standin, tmp_path / "s", storage="sqlite:///x.db"))
    with pytest.raises(UserError, match=rf"^--storage: cannot write to {tmp_path}: Is a directory; choose another$"):
        search.search(config(standin, tmp_path / "s", storage=str(tmp_path)))
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(UserError, match="RANK of a launcher is set, but not WORLD_SIZE"):
        search.search(config(standin, tmp_path / "s"))
    for name, value in {"WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "x", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="a search is not started by torchrun"):
        search.search(config(standin, tmp_path / "s"))
    assert not (tmp_path / "s" / "study.log").exists()


def test_a_damaged_line_further_up_is_named_with_the_way_to_what_precedes_it(of_two, standin):
    lines = of_two.read_bytes().splitlines(keepends=True)
    damaged = b"".join([*lines[:-3], lines[-3][:20], *lines[-2:]])
    of_two.write_bytes(damaged)
    with pytest.raises(UserError, match=rf"line {len(lines) - 2} of .* is damaged") as error:
        search.search(config(standin, of_two.parent, trials=3))
    assert of_two.read_bytes() == damaged  # nothing is appended before it is refused
    command = re.search(r"head .*(?=, and)", str(error.value))[0].replace("NEW", "new.log")
    subprocess.run(command, shell=True, check=True, cwd=of_two.parent)
    summary = search.search(config(standin, of_two.parent, trials=3, storage=str(of_two.parent / "new.log")))
    assert summary["trials"] == 3


@pytest.mark.parametrize("line", [
    "[1,2]", "1e999999", '{"op_code":99,"worker_id":"x"}', '{"worker_id":"x"}',
    '{"op_code":4,"worker_id":"x","study_id":0,"datetime_start":"yesterday"}'])
def test_a_whole_line_of_something_else_is_damage_and_not_another_file(line, of_two, standin):
    good = of_two.read_bytes().splitlines(keepends=True)
    for at in (len(good), len(good) // 2):
        odd = b"".join([*good[:at], f"{line}\n".encode(), *good[at:]])
        of_two.write_bytes(odd)
        with pytest.raises(UserError, match=rf"line {at + 1} of .* is damaged; .*: head -n {at} "):
            search.search(config(standin, of_two.parent, trials=3))
        assert of_two.read_bytes() == odd
    of_two.write_bytes(b"".join(good))
    assert search.search(config(standin, of_two.parent, trials=2))["trials"] == 2


def test_a_disk_that_fills_is_named(standin, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(JournalFileBackend, "append_logs", fail)
    with pytest.raises(UserError, match=r"--output_dir: cannot write to .*study.log: No space left on device"):
        search.search(config(standin, tmp_path / "s"))
    monkeypatch.undo()
    monkeypatch.setattr(search, "run_trial", fail)
    with pytest.raises(OSError) as error:
        search.search(config(standin, tmp_path / "s"))
    assert error.value.filename == str(tmp_path / "s")


def record(**fields):
    return json.dumps({"op_code": 4, "worker_id": "w", "study_id": 0, "datetime_start": "2026-01-01T00:00:00", **fields})


CREATE = record(op_code=0, study_name="mlp", directions=[2])
ODD = {
    "deep": '{"op_code":' + "[" * 100_000, "deep but whole": record(user_attrs=json.loads("[" * 700 + "]" * 700)),
    "a list": "[]", "a number": "7", "no operation": '{"worker_id":"w"}', "unknown operation": record(op_code=99),
    "two attributes": record(op_code=2, user_attr={"a": 1, "b": 2}), "task": record(op_code=2, user_attr={"task": 1}),
    "state": record(state=99), "date": record(datetime_start="yesterday"),
    "attributes": record(user_attrs=[]), "no flags": record(state=1, value=0.5, datetime_complete="2026-01-01"),
    "text for a value": record(state=1, value="high", user_attrs={"flags": {}}, datetime_complete="2026-01-01"),
    "text for an accuracy": record(intermediate_values={"1": "high"}), "parameter": record(params={"depth": 1}),
    "attempts": record(user_attrs={"attempts": "many"}), "minimized": CREATE.replace("[2]", "[1]"),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_journal_is_one_line_and_left_alone(name, standin, tmp_path):
    path = tmp_path / "odd.log"
    path.write_text(f"{CREATE}\n{ODD[name]}\n" if name != "minimized" else f"{ODD[name]}\n")
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"--storage: .*odd.log is (not the file of a study|damaged)"):
        search.search(config(standin, tmp_path / "s", storage=str(path)))
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"\x89PNG", b"no line's end", b'{"name": 1', b"\xff\n"])
def test_a_file_of_something_else_is_left_alone(content, standin, tmp_path):
    path = tmp_path / "precious"
    path.write_bytes(content)
    with pytest.raises(UserError, match="is not the file of a study"):
        search.search(config(standin, tmp_path / "s", storage=str(path)))
    assert path.read_bytes() == content


@pytest.mark.parametrize(("name", "space"), [
    ("dropout", optuna.distributions.FloatDistribution(0.0, 0.9)), ("depth", None),
    ("activation", optuna.distributions.CategoricalDistribution(["relu"])),
    ("width_9", optuna.distributions.IntDistribution(1, 2))])
def test_a_study_of_another_search_space_is_refused_and_left_alone(name, space, standin, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(search, "SPACE", {key: value for key, value in {**search.SPACE, name: space}.items() if value})
        patch.setattr(search, "run_trial", lambda trial, config: trial.set_user_attr("flags", {}) or 0.5)
        search.search(config(standin, tmp_path / "s", trials=2))
    before = (tmp_path / "s/study.log").read_bytes()
    with pytest.raises(UserError, match=f"study.log holds a study of another search space: {name} is from "):
        search.search(config(standin, tmp_path / "s", trials=4))
    assert (tmp_path / "s/study.log").read_bytes() == before


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory."),
                                   RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_a_trial_that_runs_out_of_memory_is_left_out(error, standin, tmp_path, monkeypatch, capsys):
    rates = []

    def train(config, watch):
        rates.append(config.learning_rate)
        if len(rates) == 1:
            raise error
        watch(1, 0.5)
        return {"validation_accuracy": 0.5}

    monkeypatch.setattr(train_mlp_pytorch, "train", train)
    assert search.search(config(standin, tmp_path, trials=3))["trials"] == 3
    assert len(set(rates)) == 3
    assert [row["state"] for row in trials(tmp_path)] == ["pruned", "complete", "complete"]
    assert "trial 0 is left out: out of memory" in capsys.readouterr().err


def test_a_trial_that_draws_more_images_a_batch_than_there_are_is_left_out(standin, tmp_path, monkeypatch, capsys):
    rightly, sizes = search.flags_of, iter([10**6, 100, 100])
    monkeypatch.setattr(search, "flags_of", lambda *given: {**rightly(*given), "batch_size": next(sizes)})
    assert search.search(config(standin, tmp_path, trials=3))["trials"] == 3
    assert [row["state"] for row in trials(tmp_path)] == ["pruned", "complete", "complete"]
    assert "trial 0 is left out: --batch_size: 1000000 is more than the training split's" in capsys.readouterr().err


def test_a_trial_that_kills_its_process_is_tried_three_times(tmp_path, capsys):
    shared = search.Shared(config(tmp_path, tmp_path, trials=2))
    drawn = []
    for _ in range(4):  # each leaves its trial as a killed process does: running, and not locked
        with shared.next_trial() as trial:
            drawn.append(trial.params["learning_rate"])
    assert drawn[0] == drawn[1] == drawn[2] != drawn[3]
    assert "trial 2 is left out: its process was killed 3 times" in capsys.readouterr().err


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_says_how_to_continue(signum, status, standin, tmp_path, monkeypatch, capsys):
    def search_script():
        return run_script(search.Config, search.search, "", [
            "--trials", "1", "--epochs", "1", "--validation_size", "100", "--data_dir", str(standin),
            "--output_dir", str(tmp_path / "s")])

    real = cifar10_utils.DataSet.next_indices

    def interrupted(self, size):
        os.kill(os.getpid(), signum)
        return real(self, size)

    with monkeypatch.context() as patch:
        patch.setattr(cifar10_utils.DataSet, "next_indices", interrupted)
        assert search_script() == status
    message = capsys.readouterr().err
    assert f"stopped during trial 0; the same command continues the study in {tmp_path / 's'}" in message
    assert "--" not in message
    assert search_script() == 0


DRAW = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
import search_mlp_pytorch as search
search.optuna.logging.set_verbosity(search.optuna.logging.ERROR)
shared = search.Shared(search.Config(**{flags!r}))
search.plot(shared.study, Path({folder!r}))
"""


@pytest.mark.parametrize(("variable", "value", "drawn"), [
    ("MPLBACKEND", "module://no_such_package.backend_inline", True), ("MATPLOTLIBRC", "text.usetex: True", True),
    ("MATPLOTLIBRC", "backend: tkagg", True), ("MPLBACKEND", "nonsense", False)])
def test_pictures_whatever_matplotlib_is_set_to(variable, value, drawn, of_two):
    """As a notebook sets MPLBACKEND for what it starts; where nothing can be drawn at all, that is a line."""
    if variable == "MATPLOTLIBRC":
        (of_two.parent / "rc").write_text(value)
        value = str(of_two.parent / "rc")
    for picture in of_two.parent.glob("*.png"):
        picture.unlink()
    code = DRAW.format(root=str(ROOT), folder=str(of_two.parent), flags={**QUICK, "output_dir": str(of_two.parent)})
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, variable: value}, check=False,
                          stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr
    assert len(list(of_two.parent.glob("*.png"))) == (3 if drawn else 0)
    assert re.fullmatch("" if drawn else "no pictures of the study: .*\n", done.stderr)


def test_optuna_is_quiet():
    assert optuna.logging.get_verbosity() >= optuna.logging.WARNING


def test_a_trial_that_no_data_fit_is_not_tried_again(standin, tmp_path, monkeypatch):
    """An error of the user's: with the same values it would be the same in every process that comes by."""
    def refuse(*_):
        raise UserError("--batch_size: too large")

    with monkeypatch.context() as patch:
        patch.setattr(search, "run_trial", refuse)
        with pytest.raises(UserError, match="trial 0: --batch_size: too large"):
            search.search(config(standin, tmp_path / "s", trials=1))
    assert [trial.state for trial in study(tmp_path / "s").trials] == [TrialState.FAIL]
    assert search.search(config(standin, tmp_path / "s", trials=1))["trials"] == 1


@pytest.mark.parametrize("sampler", search.SAMPLERS)
def test_a_process_that_joins_late_has_a_seed_too(sampler, tmp_path):
    for _ in range(2):
        search.Shared(search.Config(**quick_with(sampler), seed=2**32 - 1, output_dir=str(tmp_path)))


def test_a_lock_that_a_killed_process_left_is_told_and_removed(tmp_path, capsys):
    (tmp_path / "study.log").touch()
    left = tmp_path / "study.log.lock"
    left.touch()
    os.utime(left, (time.time() - 60,) * 2)
    append = search.AppendLock(tmp_path / "study.log")
    append.grace_period = 1
    assert append.acquire()
    append.release()
    assert f"NOTICE: {left} seems to be left by a process that was killed: if so, it is removed after 1 s." in capsys.readouterr().out
    assert append.acquire()
    append.release()
    assert not left.exists() and not capsys.readouterr().out
