"""The experiments and the README's figures: nothing typed by hand, nothing repeated, nothing lost."""

import csv
import dataclasses
import fcntl
import importlib
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading

import pytest
from script_runs import ROOT
from test_compare import legend_of, listed

from report import experiments
from report.experiments import EXPERIMENTS, RESULTS, Experiment, Variant
from training.flags import IdleFlag
from training.script import parse_flags


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_flags_of_every_experiment(name):
    for variant in EXPERIMENTS[name].variants:
        script = importlib.import_module(variant.script)
        parse_flags(script.Config, "", variant.flags.split())


def test_readme_shows_the_kept_results():
    """Changing a figure in a table or in a summary.json makes this fail; `python -m report.experiments --readme` writes it again."""
    text = experiments.README.read_text()
    assert experiments.with_table(text) == text
    assert experiments.page() == (RESULTS / "README.md").read_text()


def test_every_kept_run_belongs_to_an_experiment_and_used_its_flags():
    known = {folder: variant for name in EXPERIMENTS for variant, _, folder in experiments.runs(name)}
    kept = [path.parent for path in RESULTS.glob("*/*/summary.json")]
    assert set(kept) <= set(known)
    for folder in kept:
        variant = known[folder]
        saved = json.loads((folder / "config.json").read_text())
        assert saved["script"] == variant.script
        script = importlib.import_module(variant.script)
        config = parse_flags(script.Config, "", variant.flags.split())
        for flag, value in vars(config).items():
            used = saved["flags"].get(flag, value)  # flags that came later: default
            if flag not in ("data_dir", "output_dir", "resume", "seed") and used != value:
                with pytest.raises(IdleFlag, match=f"--{flag} has no effect"):  # as runs of earlier versions have them
                    dataclasses.replace(config, **{flag: used})
        summary = json.loads((folder / "summary.json").read_text())
        with open(folder / "metrics.csv", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
        if "repeats" not in summary:
            assert summary["test_accuracy"] == float(rows[-1]["accuracy"])
        for activation in {row["activation"] for row in rows} if "repeats" in summary else ():
            values = [float(row["accuracy"]) for row in rows if row["activation"] == activation]
            assert len(values) == summary["repeats"]
            assert summary[f"{activation}_test_accuracy"] == pytest.approx(sum(values) / len(values))


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """One experiment of two seeds and five steps, its results in a temporary folder."""
    variant = Variant("v", "train_mlp_numpy", "--max_steps 5 --batch_size 20 --eval_freq 1", seeds=(1, 2))
    monkeypatch.setattr(experiments, "EXPERIMENTS", {"tiny": Experiment("a tiny one", [variant])})
    monkeypatch.setattr(experiments, "RESULTS", tmp_path / "results")
    return tmp_path / "results" / "tiny"


def test_finished_runs_are_not_repeated_and_started_ones_continue(tiny, standin, capsys):
    assert experiments.main(["tiny", "--data_dir", str(standin)]) == 0
    first, second = tiny / "v-seed1", tiny / "v-seed2"
    before = (first / "summary.json").stat().st_mtime_ns
    (second / "summary.json").unlink()
    started = json.loads((second / "config.json").read_text())["started"]
    assert experiments.main(["all", "--data_dir", str(standin)]) == 0
    assert (first / "summary.json").stat().st_mtime_ns == before
    assert (second / "summary.json").exists()
    assert json.loads((second / "config.json").read_text())["started"] == started  # continued, not begun again
    experiments.main(["--list"])
    assert "2/2 runs" in capsys.readouterr().out


def test_a_failing_run_stops_with_its_status(tiny, tmp_path):
    assert experiments.main(["tiny", "--data_dir", str(tmp_path / "nothing here")]) == 2


def test_what_is_kept_is_run_again_and_compared(tiny, standin, capsys):
    """Without the kept runs being touched, and with exit status 1 where a kept figure is another one's."""
    assert experiments.main(["tiny", "--data_dir", str(standin)]) == 0
    kept = tiny / "v-seed1" / "summary.json"
    files = {path: path.stat().st_mtime_ns for path in tiny.glob("*/*")}
    assert experiments.main(["tiny/v", "--check", "--data_dir", str(standin)]) == 0
    assert {path: path.stat().st_mtime_ns for path in tiny.glob("*/*")} == files
    assert capsys.readouterr().out.count("they differ by 0.0000, within the 0.0") == 2  # the same bits on one machine
    kept.write_text(json.dumps({**json.loads(kept.read_text()), "test_accuracy": 0.99}))
    other = tiny / "v-seed2" / "summary.json"
    other.write_text(json.dumps({**json.loads(other.read_text()), "test_accuracy": 0.99}))
    assert experiments.main(["tiny/v", "--check", "--data_dir", str(standin)]) == 1
    assert "v-seed1: test_accuracy" in (out := capsys.readouterr().out) and "MORE THAN the 0.0100 allowed" in out


def test_what_was_kept_of_cifar10_is_not_compared_with_the_stand_in(tiny, standin, capsys):
    assert experiments.main(["tiny", "--data_dir", str(standin)]) == 0
    kept = tiny / "v-seed1" / "summary.json"
    kept.write_text(json.dumps({**json.loads(kept.read_text()), "data": "published"}))
    (tiny / "v-seed2" / "summary.json").unlink()
    assert experiments.main(["tiny/v", "--check", "--data_dir", str(standin)]) == 2
    printed = capsys.readouterr()
    assert f"v-seed1: was trained on CIFAR-10, and {standin} holds the stand-in; " in printed.err and "differ" not in printed.out


def test_no_command_of_the_tables_gives_a_flag_twice():
    commands = [variant.command for experiment in EXPERIMENTS.values() for variant in experiment.variants]
    for command in commands:
        flags = [word for word in command.split() if word.startswith("--")]
        assert len(flags) == len(set(flags)), command


def test_figures_of_one_seed_and_settings_chosen_on_the_test_split_are_marked_in_the_tables():
    rows = [line.split("|")[1:] for line in experiments.page().splitlines() if line.startswith("| ") and "**" in line]
    assert len(rows) > 50
    assert all(("†" in accuracy) == (seeds.strip() == "1") for _, accuracy, seeds, *_ in rows)
    marked = [title for title, accuracy, *_ in rows if "‡" in accuracy]
    assert any("128 pixels" in title for title in marked) and all(
        "128 pixels" in title or "evolutionary" in title for title in marked)


def test_table_gives_mean_and_deviation_and_the_fastest_run(tiny, standin):
    assert experiments.main(["tiny", "--data_dir", str(standin)]) == 0
    for seed, value, seconds, threads in ((1, 0.5, 60, 2), (2, 0.6, 90, 1)):
        for name, key, new in (("summary", "test_accuracy", value), ("summary", "wall_seconds", seconds),
                               ("config", "machine", {"processor": "p", "cores": 2, "threads": threads})):
            path = tiny / f"v-seed{seed}" / f"{name}.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), key: new}))
    assert "0.5500 ± 0.0707** | 2 | 60.0 s |" in experiments.page()


def test_unknown_names(capsys):
    for argv in (["mlp-nmpy"], []):
        with pytest.raises(SystemExit) as stop:
            experiments.main(argv)
        assert stop.value.code == 2


# ---------------------------------------------------------------- kept runs side by side

REPORTED = [RESULTS / name for name in (
    "mlp-pytorch/defaults-seed42", *(f"mlp-modifications/{name}-seed42" for name in (
        "flip", "mixup", "weight-averaging", "muon", "layernorm")), "convnet/defaults-seed42", "mlp-numpy/defaults-seed42")]


@pytest.mark.parametrize("count", [2, 4, 8])
def test_a_long_legend_lies_in_the_picture(count, tmp_path, monkeypatch):
    """Of runs which differ in a dozen flags; `legend_of` looks where it lies."""
    legend, _ = legend_of(monkeypatch, *REPORTED[:count], "--out", tmp_path / "x")
    assert len(set(legend)) == len(legend) and {"train", "validation", "test"} <= set(legend)
    assert "--flip on" in legend[1] and "--flip off" in legend[0] and "seed42" not in "".join(legend)
    assert "--max_steps" not in legend[1] and "--epochs 10" in legend[1]


def test_the_list_says_which_modification_a_run_is(capsys):
    found = listed(capsys, RESULTS)
    flags = [found[f"{name}-seed42"][6] for name in ("muon", "label-smoothing", "flip", "shift", "mixup", "weight-averaging")]
    assert len(set(flags)) == len(flags)
    assert all("--epochs 10" in shown and "--max_steps" not in shown for shown in flags)


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_list_fits_the_terminal(columns, tmp_path, capsys):
    terminal, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    folder = RESULTS / "mlp-pytorch", RESULTS / "mlp-2019"
    with open(tmp_path / "shown", "wb") as shown:
        reader = threading.Thread(target=lambda: [shown.write(piece) for piece in pieces(terminal)])
        reader.start()
        subprocess.run([sys.executable, "plot_curves.py", "--list", *folder], cwd=ROOT, stdout=child, check=True, env=environment)
        os.close(child)
        reader.join()
    lines = (tmp_path / "shown").read_text().splitlines()
    assert len(lines) > 9 and max(map(len, lines)) <= columns
    for cells in listed(capsys, *folder).values():  # whole where it is piped, and nothing is lost where it is not
        assert "".join("".join(cells).split()) in "".join("".join(lines).split())
    assert not any(re.search(r"--\w+$", line) for line in lines)  # a flag stays with its value


def pieces(terminal: int):
    """What is written to a terminal, until its other end is closed."""
    try:
        while piece := os.read(terminal, 4096):
            yield piece
    except OSError:
        pass
