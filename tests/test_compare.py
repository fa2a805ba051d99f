"""Runs side by side: labels, curves of runs that ended early, the list of runs and searches, TensorBoard."""

import json
import os
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from script_runs import QUICK, ROOT, interrupt_at, rows, run

import cifar10_utils
import plot_curves
import train_mlp_autodiff
import train_mlp_numpy
import training.run
from training import curves
from training.run import Run
from training.script import run_script

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def ended(standin, tmp_path_factory):
    """Runs in every state: finished, of another learning rate, of another script, interrupted, diverged, without a row."""
    folder = tmp_path_factory.mktemp("runs")
    base = ["--data_dir", standin, *QUICK, "--output_dir"]
    assert run("train_mlp_numpy", *base, folder / "a") == 0
    assert run("train_mlp_numpy", *base, folder / "b", "--learning_rate", 0.01, "--dnn_hidden_units", "9,5") == 0
    assert run("train_mlp_pytorch", *base, folder / "torch", "--eval_images", 50) == 0
    assert run("train_mlp_numpy", *base, folder / "nan", "--learning_rate", 1e20, "--weight_std", 0.01) == 3
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, cifar10_utils.DataSet, "next_batch", 3)
        assert run("train_mlp_numpy", *base, folder / "cut", "--validation_size", 100) == 130
    with pytest.MonkeyPatch.context() as patch:
        real, results = train_mlp_numpy.evaluate, iter([None, (float("inf"), 0.1)])
        patch.setattr(train_mlp_numpy, "evaluate", lambda *arguments: next(results) or real(*arguments))
        assert run("train_mlp_numpy", *base, folder / "later", "--seed", 7) == 3
    return folder


def legend_of(monkeypatch, *argv: object) -> tuple[list[str], list]:
    """What the legend of the picture says, and the axes; the picture is drawn."""
    seen = []
    real = curves.save_figure

    def save_figure(target, paint, *more):
        def looked_at(figure):
            paint(figure)
            figure.canvas.draw()
            box, renderer = figure.legends[0].get_window_extent(), figure.canvas.get_renderer()
            assert not any(box.overlaps(axis.get_tightbbox(renderer)) for axis in figure.axes)  # off the curves
            assert min(box.x0, box.y0) >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height
            assert axes_height(figure.axes[0]) > 150  # room is left for the curves
            seen.append(([" ".join(text.get_text().split()) for text in figure.legends[0].get_texts()], figure.axes))
        real(target, looked_at, *more)

    monkeypatch.setattr(curves, "save_figure", save_figure)
    assert plot_curves.main([*map(str, argv)]) == 0
    return seen[-1]


def axes_height(axis) -> float:
    return axis.get_window_extent().height


def edit_flags(folder, drop=(), **flags: object) -> None:
    """As if the run in `folder` had been made with these flags, and before those in `drop` existed."""
    config = json.loads((folder / "config.json").read_text())
    config["flags"] = {name: value for name, value in (config["flags"] | flags).items() if name not in drop}
    (folder / "config.json").write_text(json.dumps(config))


# ---------------------------------------------------------------- curves


def test_runs_are_called_by_the_flags_in_which_they_differ(ended, tmp_path, monkeypatch):
    legend, _ = legend_of(monkeypatch, ended / "a", ended / "b", "--out", tmp_path / "x")
    assert legend == ["--learning_rate 0.001 --dnn_hidden_units 100", "--learning_rate 0.01 --dnn_hidden_units 9,5", "train", "test"]
    legend, _ = legend_of(monkeypatch, ended / "a", ended / "torch", "--out", tmp_path / "x")
    assert legend == ["train_mlp_numpy --eval_images 0", "train_mlp_pytorch --eval_images 50", "train", "test, test[:50]"]
    shutil.copytree(ended / "a", tmp_path / "again")
    legend, _ = legend_of(monkeypatch, ended / "a", tmp_path / "again", "--out", tmp_path / "x")
    assert legend == ["a", "again", "train", "test"]  # the same flags: their folders
    legend, _ = legend_of(monkeypatch, ended / "a", "--out", tmp_path / "x")
    assert legend == ["train", "test"]


@pytest.mark.parametrize("flags, old, new", [
    ({"flip": "on"}, "--flip off", "--flip on"),
    ({"epochs": 1, "max_steps": 7}, "--epochs 0", "--epochs 1"),  # as many steps as that takes
    ({"optimizer": "adam", "momentum": 0.5}, "--optimizer sgd", "--optimizer adam"),  # which has no momentum
    ({"blocks": 2, "expansion": 3}, "--blocks 0", "--blocks 2 --expansion 3"),
    ({"tensorboard": "on", "eval_freq": 7, "eval_at_start": "on", "seed": 3}, "--seed 42", "--seed 3")])
def test_a_flag_that_an_older_run_lacks_is_its_default_and_an_idle_one_is_left_out(ended, tmp_path, monkeypatch, flags, old, new):
    for name in ("old", "new"):
        shutil.copytree(ended / "torch", tmp_path / name)
        edit_flags(tmp_path / name, max_steps=1400)
    edit_flags(tmp_path / "old", drop=["epochs", "flip", "mixup", "blocks", "expansion", "tensorboard", "eval_at_start"])
    edit_flags(tmp_path / "new", **flags)
    for order in (("old", "new"), ("new", "old")):
        legend, _ = legend_of(monkeypatch, *(tmp_path / name for name in order), "--out", tmp_path / "x")
        assert legend[:2] == [{"old": old, "new": new}[name] for name in order]


def test_a_flag_of_one_script_alone_is_named_where_it_is_not_the_default(ended, tmp_path, monkeypatch):
    shutil.copytree(ended / "torch", tmp_path / "torch")
    edit_flags(tmp_path / "torch", eval_images=0, optimizer="adam")
    legend, _ = legend_of(monkeypatch, ended / "a", tmp_path / "torch", "--out", tmp_path / "x")
    assert legend[:2] == ["train_mlp_numpy", "train_mlp_pytorch --optimizer adam"]


@pytest.mark.parametrize("label", ["W" * 130, "W" * 600, "W " * 300, "a" * 600])
def test_a_long_label_lies_in_the_picture(ended, label, tmp_path, monkeypatch):
    legend_of(monkeypatch, ended / "a", ended / "b", "--labels", label, "b", "--out", tmp_path / "x")


def test_the_title_names_the_data_once_and_a_part_where_the_runs_agree(ended, tmp_path, monkeypatch):
    for name, part in (("x", 50), ("y", 50), ("z", 0)):
        shutil.copytree(ended / "a", tmp_path / name)
        edit_flags(tmp_path / name, eval_images=part)
    data = json.loads((ended / "a/config.json").read_text())["data_name"]
    for names, title in ((["x", "y"], f"train_mlp_numpy on SYNTHETIC DATA ({data}), evaluated on the first 50 images"),
                         (["x", "z"], f"train_mlp_numpy on SYNTHETIC DATA ({data})")):
        _, axes = legend_of(monkeypatch, *(tmp_path / name for name in names), "--out", tmp_path / "p")
        assert axes[0].figure.get_suptitle() == title


def test_runs_that_ended_early_are_drawn(ended, tmp_path, monkeypatch, recwarn):
    legend, axes = legend_of(monkeypatch, *(ended / name for name in ("a", "cut", "later", "nan")), "--out", tmp_path / "x")
    assert sum("(diverged after step" in text for text in legend) == 1 and "validation" in legend
    assert not recwarn.list
    assert sum(len(line.get_xdata()) > 0 for line in axes[0].lines) == 6  # of three runs, two splits each


def test_no_run_with_a_row(ended, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        plot_curves.main([str(ended / "nan"), "--out", str(tmp_path / "x")])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and f"no evaluation was done ({ended / 'nan'}: diverged after step" in error


def test_a_letter_that_the_font_lacks_is_no_warning(ended, tmp_path, monkeypatch, recwarn):
    legend_of(monkeypatch, ended / "a", ended / "b", "--labels", "\N{CJK UNIFIED IDEOGRAPH-732B}", "b", "--out", tmp_path / "x")
    assert not recwarn.list


def test_twelve_runs_have_twelve_colours(ended, tmp_path, monkeypatch):
    _, axes = legend_of(monkeypatch, *[ended / "a"] * 12, "--out", tmp_path / "x")
    assert len({line.get_color() for line in axes[0].lines if len(line.get_xdata())}) == 12


def test_a_logarithmic_axis(ended, tmp_path, monkeypatch):
    for flags, scale in (([], "linear"), (["--log"], "log")):
        _, axes = legend_of(monkeypatch, ended / "a", ended / "b", *flags, "--out", tmp_path / "x")
        assert [axis.get_yscale() for axis in axes] == [scale, "linear"]
    ticks = [text.get_text() for which in ("major", "minor") for text in axes[0].get_yticklabels(which=which)]
    assert any(ticks) and not any("$" in text for text in ticks), ticks  # 2.025, and not 2.025 x 10^0


def test_many_runs_in_one_picture(ended, tmp_path, monkeypatch):
    for number in range(24):
        shutil.copytree(ended / "a", tmp_path / f"run{number}")
    legend, axes = legend_of(monkeypatch, *sorted(tmp_path.glob("run*")), "--out", tmp_path / "x")
    assert len(legend) == 26
    assert axes_height(axes[0]) > 150  # room is left for the curves


# ---------------------------------------------------------------- the list


def listed(capsys, *argv: object) -> dict[str, list[str]]:
    capsys.readouterr()
    assert plot_curves.main(["--list", *map(str, argv)]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert re.split(r"  +", head) == ["started", "script", "accuracy", "time", "state", "folder", "flags that differ"]
    starts = [head.index(name) for name in re.split(r"  +", head)]
    cells = [[line[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)] for line in lines]
    return {cell[5].rpartition("/")[2]: cell for cell in cells}


def test_the_list(ended, capsys):
    found = listed(capsys, ended)
    assert {name: cells[4] for name, cells in found.items()} == {
        "a": "finished", "b": "finished", "torch": "finished", "nan": "diverged after step 1", "cut": "interrupted after step 3",
        "later": "diverged after step 4"}
    accuracy = json.loads((ended / "a/summary.json").read_text())["test_accuracy"]
    assert found["a"][2] == f"{accuracy:.4f} test" and found["nan"][2] == "" and found["torch"][2].endswith(" test[:50]")
    assert found["cut"][2] == f"{float(rows(ended / 'cut')[-1]['accuracy']):.4f} validation"
    assert found["a"][1] == "train_mlp_numpy" and re.fullmatch(r"0:00:\d\d", found["a"][3])
    assert found["a"][0][:10] == time.strftime("%Y-%m-%d")
    assert "--learning_rate 0.01" in found["b"][6] and "--dnn_hidden_units 9,5" in found["b"][6] and "--seed 42" in found["b"][6]
    assert "batch_size" not in found["b"][6] and found["torch"][6] == ""  # one of its script differs in nothing


def test_a_run_that_is_cut_before_its_first_row_has_the_time_of_its_checkpoint(standin, tmp_path, capsys, monkeypatch):
    for script in ("train_mlp_numpy", "train_mlp_pytorch"):
        with monkeypatch.context() as patch:
            interrupt_at(patch, cifar10_utils.DataSet, "next_batch" if script == "train_mlp_numpy" else "next_indices", 2)
            patch.setattr(Run, "seconds", 3725.0)
            assert run(script, "--data_dir", standin, *QUICK, "--eval_freq", 4, "--output_dir", tmp_path / script) == 130
        cells = listed(capsys, tmp_path)[script]
        assert cells[2:5] == ["", "1:02:05", "interrupted after step 2"]
        (checkpoint,) = (tmp_path / script).glob("last.*")
        checkpoint.write_bytes(b"damaged")
        assert listed(capsys, tmp_path)[script][3] == ""  # unknown, and not 0


def test_a_running_run_has_the_time_of_its_checkpoint(standin, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(training.run, "AUTOSAVE_SECONDS", 0)  # a checkpoint after each step
    monkeypatch.setattr(Run, "seconds", 3725.0)
    seen = []
    real = train_mlp_numpy.evaluate
    monkeypatch.setattr(train_mlp_numpy, "evaluate", lambda *arguments: seen.append(listed(capsys, tmp_path)) or real(*arguments))
    assert run("train_mlp_numpy", "--data_dir", standin, *QUICK, "--eval_freq", 4, "--output_dir", tmp_path / "r") == 0
    assert [state["r"][3:5] for state in seen] == [["1:02:05", "running"]]


def test_a_run_is_listed_while_it_is_at_work(standin, tmp_path, capsys, monkeypatch):
    seen = []
    real = train_mlp_numpy.evaluate
    monkeypatch.setattr(train_mlp_numpy, "evaluate", lambda *arguments: seen.append(listed(capsys, tmp_path)) or real(*arguments))
    assert run("train_mlp_numpy", "--data_dir", standin, *QUICK, "--output_dir", tmp_path / "r") == 0
    assert [state["r"][4] for state in seen] == ["running", "running at step 2"]
    assert listed(capsys, tmp_path)["r"][4] == "finished"


def test_a_killed_run_is_listed_and_one_that_is_resumed_is_no_longer_interrupted(standin, tmp_path, capsys, monkeypatch):
    out = tmp_path / "r"
    for call, by, state in ((3, SystemExit, "stopped at step 2"), (1, None, "interrupted after step 3")):
        with monkeypatch.context() as patch:
            interrupt_at(patch, cifar10_utils.DataSet, "next_batch", call, by=by)
            argv = ["--resume", out] if out.exists() else ["--data_dir", standin, *QUICK, "--output_dir", out]
            if by:
                with pytest.raises(SystemExit):
                    run("train_mlp_numpy", *argv)
            else:
                run("train_mlp_numpy", *argv)
        found = listed(capsys, tmp_path)["r"][4]
        assert found == state
    assert run("train_mlp_numpy", "--resume", out) == 0
    assert listed(capsys, tmp_path)["r"][4] == "finished"
    assert "ended" not in json.loads((out / "config.json").read_text())


def test_repeats_are_one_line(tmp_path, capsys):
    assert run_script(train_mlp_autodiff.Config, train_mlp_autodiff.train, "", [
        "--dataset", "synth", "--epochs", "1", "--repeats", "1", "--batch_size", "1000", "--output_dir", str(tmp_path / "r")]) == 0
    found = listed(capsys, tmp_path)
    assert list(found) == ["r"] and found["r"][4] == "finished"
    summary = json.loads((tmp_path / "r/summary.json").read_text())
    assert "relu_test_accuracy" in summary and not [key for key in summary if key.endswith("_std")]  # of one repeat
    (tmp_path / "r/summary.json").write_text(json.dumps({**summary, "eval_images": 50}))
    assert re.fullmatch(r"0\.\d{4} test\[:50\]", listed(capsys, tmp_path)["r"][2])


def test_a_search_is_one_line_with_its_progress(standin, tmp_path, capsys):
    command = [sys.executable, "search_mlp_pytorch.py", "--trials", "2", "--epochs", "1", "--validation_size", "100", "--data_dir",
               str(standin), "--output_dir", str(tmp_path / "s")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})
    seen = set()
    while process.poll() is None:
        time.sleep(0.05)
        if (tmp_path / "s/study.log").exists():
            seen.add(listed(capsys, tmp_path)["s"][4])
    assert process.returncode == 0, process.stderr.read()
    assert seen & {"trials: 1 running", "trials: 1 complete, 1 running"}
    found = listed(capsys, tmp_path)
    assert list(found) == ["s"] and found["s"][4] == "trials: 2 complete"
    best = json.loads((tmp_path / "s/best.json").read_text())["about"]
    assert found["s"][2] == f"{best.rpartition(' ')[2]} validation"


def test_damaged_runs_are_named_and_the_others_listed(ended, tmp_path, capsys):
    shutil.copytree(ended / "a", tmp_path / "a")
    for name, content in (("x", "{"), ("y", "[]"), ("z", '{"flags": {}}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(content)
    assert plot_curves.main(["--list", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert said.out.count("\n") == 2 and said.err.count("are damaged") == 3


@pytest.mark.parametrize("name, content", [
    ("config.json", "{"), ("config.json", "[]"), ("config.json", '{"flags": []}'), ("metrics.csv", "step,split\n1,train\n2,test\n")])
def test_a_damaged_run_is_not_drawn(ended, tmp_path, capsys, name, content):
    for run_of in ("a", "b"):
        shutil.copytree(ended / run_of, tmp_path / run_of)
    (tmp_path / "b" / name).write_text(content)
    with pytest.raises(SystemExit) as stop:
        plot_curves.main([str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "picture")])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and f"the files of {tmp_path / 'b'} are damaged" in said and said.count("\n") == 1


def test_a_mistake_in_drawing_is_not_taken_for_a_damaged_run(ended, tmp_path, monkeypatch):
    monkeypatch.setattr(curves, "save_figure", lambda *arguments: arguments.nothing)
    with pytest.raises(AttributeError):
        plot_curves.main([str(ended / "a"), "--out", str(tmp_path / "picture")])


def test_nothing_to_list(tmp_path, capsys):
    for folder, message in ((tmp_path, "there are no runs under"), (tmp_path / "none", f"the folder {tmp_path / 'none'} does not exist")):
        with pytest.raises(SystemExit) as stop:
            plot_curves.main(["--list", str(folder)])
        assert stop.value.code == 2 and message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        plot_curves.main([])
    assert "name a run, or --list" in capsys.readouterr().err


def test_listing_writes_nothing(ended, tmp_path, capsys):
    shutil.copytree(ended, tmp_path / "kept")
    for path in (tmp_path / "kept").glob("*/.lock"):
        path.unlink()
    before = sorted((tmp_path / "kept").rglob("*"))
    listed(capsys, tmp_path / "kept")
    assert sorted((tmp_path / "kept").rglob("*")) == before


# ---------------------------------------------------------------- TensorBoard


def test_tensorboard(standin, tmp_path):
    """What its own package reads from the run's folder is what metrics.csv holds, of a resumed run, too; without torch."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    code = ("import sys, train_mlp_numpy as t; t.train(t.Config(data_dir=sys.argv[1], output_dir=sys.argv[2], max_steps=4, batch_size=20, "
            "eval_freq=2, validation_size=100, tensorboard='on')); assert 'torch' not in sys.modules")
    subprocess.run([sys.executable, "-c", code, standin, tmp_path / "r"], cwd=ROOT, check=True, capture_output=True)
    assert run("train_mlp_numpy", "--resume", tmp_path / "r", "--max_steps", 6) == 0
    events = accumulator.EventAccumulator(str(tmp_path / "r")).Reload()
    points = {tag: sorted((event.step, float(event.tensor_proto.float_val[0])) for event in events.Tensors(tag))
              for tag in events.Tags()["tensors"]}  # two files of one second are read in any order
    table = rows(tmp_path / "r")
    assert set(points) == {f"{key}/{split}" for split in ("train", "validation", "test")
                           for key in ("loss", "accuracy", "learning_rate", "images_per_second")}
    for split in ("train", "validation"):
        expected = [(int(row["step"]), float(row["loss"])) for row in table if row["split"] == split]
        np.testing.assert_allclose(points[f"loss/{split}"], expected, rtol=1e-6)
    assert [step for step, _ in points["loss/test"]] == [4, 6]


def test_without_tensorboard_nothing_of_it_is_there(standin, tmp_path):
    code = ("import sys, train_mlp_numpy as t; t.train(t.Config(data_dir=sys.argv[1], output_dir=sys.argv[2], max_steps=2, batch_size=20)); "
            "assert not [m for m in sys.modules if m.startswith('tensorboard')]")
    subprocess.run([sys.executable, "-c", code, standin, tmp_path / "r"], cwd=ROOT, check=True, capture_output=True)
    assert not list((tmp_path / "r").glob("events*"))


def test_its_missing_package_is_one_line(standin, tmp_path, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "training.events", raising=False)
    monkeypatch.setitem(sys.modules, "tensorboard.summary", None)
    assert run("train_mlp_numpy", "--data_dir", standin, *QUICK, "--tensorboard", "on", "--output_dir", tmp_path / "r") == 2
    message = capsys.readouterr().err
    assert message.endswith("--tensorboard: its package is not installed: pip install tensorboard\n") and message.count("\n") == 1
    assert not (tmp_path / "r").exists()
