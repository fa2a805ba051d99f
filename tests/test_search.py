"""The search: shared by processes, one of them killed in mid-trial, and no trial lost or doubled."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import optuna
import pytest
from optuna.trial import TrialState
from script_runs import ROOT, run

import search_mlp_pytorch as search
import train_mlp_pytorch
import training.run
from training.flags import UserError

pytestmark = pytest.mark.training
QUICK = {"epochs": 1, "validation_size": 100, "population": 2}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Small networks and few batches."""
    whole = search.suggest

    def suggest(trial, config):
        return whole(trial, config) | {"dnn_hidden_units": [8], "batch_size": 100}

    monkeypatch.setattr(search, "suggest", suggest)


def config(standin, folder, **flags):
    return search.Config(**{**QUICK, "data_dir": str(standin), "output_dir": str(folder), **flags})


def trials(folder):
    with open(folder / "trials.csv", newline="") as file:
        return list(csv.DictReader(file))


def study(folder):
    return search.Shared(search.Config(**QUICK, output_dir=str(folder))).study


def test_a_study_leaves_its_table_its_best_and_its_pictures(standin, tmp_path):
    summary = search.search(config(standin, tmp_path / "s", trials=4))
    rows = trials(tmp_path / "s")
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
    evaluate = training.run.Run._evaluate_split
    monkeypatch.setattr(training.run.Run, "_evaluate_split", lambda run, split: seen.append(split) or evaluate(run, split))
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
    flags = {**QUICK, "trials": 12, "sampler": "random", "output_dir": str(tmp_path)}
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
        search.Shared(search.Config(**QUICK, sampler=sampler, seed=2**32 - 1, output_dir=str(tmp_path)))
