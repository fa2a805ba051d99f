"""The pictures of finished networks: what is counted, what is shown, and that another network is refused."""

import json
import os
import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure
from script_runs import QUICK, ROOT, interrupt_at, run

import train_mlp_autodiff
from cifar10_utils import DataSet, get_cifar10
from imagefiles.cifar10_standin import make_standin
from report import inspect_runs
from training.script import run_script

NAMES = ["train_mlp_numpy", "train_mlp_pytorch", "train_convnet_pytorch"]
FLAGS = {"train_mlp_pytorch": ["--device", "cpu"],  # where inspect_runs evaluates: the same digits
         "train_convnet_pytorch": ["--device", "cpu", "--model", "study", "--ema_decay", "0.5"]}


@pytest.fixture(scope="module", params=NAMES)
def finished(request, standin, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param) / "run"
    assert run(request.param, *QUICK, *FLAGS.get(request.param, []), "--data_dir", standin, "--output_dir", folder) == 0
    return folder


def test_what_is_left(finished, standin, capsys):
    assert inspect_runs.main([str(finished), "--data_dir", str(standin)]) == 0
    found = json.loads((finished / "predictions.json").read_text())
    counts = np.array(found["confusion"])
    test = get_cifar10(str(standin), one_hot=False).test
    assert counts.sum(1).tolist() == np.bincount(test.labels, minlength=10).tolist()
    assert np.trace(counts) / counts.sum() == json.loads((finished / "summary.json").read_text())["test_accuracy"]
    said = capsys.readouterr().out
    assert f"{np.trace(counts)} of 400 right" in said
    by_class = [line.split() for line in said.splitlines() if line.split()[0] in found["classes"]]
    assert [(float(line[1]), int(line[2]), int(line[3])) for line in by_class] == [
        (round(row[k] / row.sum(), 4), row[k], row.sum()) for k, row in enumerate(counts)]
    assert matplotlib.image.imread(finished / "inspection.png").shape[1] >= 1500

    losses = [image["loss"] for image in found["worst"]]
    assert len(losses) == inspect_runs.WORST and losses == sorted(losses, reverse=True)
    assert all(image["label"] == test.labels[image["index"]] for image in found["worst"])
    picture = np.rint(255 * matplotlib.image.imread(finished / "worst.png")[:, :, :3]).astype(np.uint8)
    assert picture.shape == (32, 12 * 33 - 1, 3)
    for k, image in enumerate(found["worst"]):
        np.testing.assert_array_equal(picture[:, 33 * k:33 * k + 32], test.pixels[image["index"]].transpose(1, 2, 0))
    assert matplotlib.image.imread(finished / "weights.png").ndim == 3
    for name in ("predictions.json", "worst.png", "weights.png"):
        assert (finished / name).stat().st_size < 200_000


def with_accuracy_changed(run, change, folder):
    """A copy of the run's folder whose summary claims another test accuracy."""
    for path in run.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps({**summary, "test_accuracy": summary["test_accuracy"] + change}))
    (folder / "predictions.json").unlink(missing_ok=True)
    return str(folder)


def test_a_run_of_another_device_is_the_same_within_rounding(finished, standin, tmp_path):
    """As where one of the 400 images comes out otherwise."""
    assert inspect_runs.main([with_accuracy_changed(finished, 1 / 400, tmp_path), "--data_dir", str(standin)]) == 0


def test_501_test_images_and_statistics_of_the_batch():
    """Evaluated as in training: no batch of a single image, which batch statistics cannot be taken of."""
    sizes = []
    split = DataSet(np.zeros((501, 3, 32, 32), np.uint8), np.zeros(501, np.int64))
    found = inspect_runs.predictions(lambda images: sizes.append(len(images)) or np.zeros((len(images), 10)), split)
    assert sizes == [499, 2] and found.shape == (501, 10)


def test_another_network_is_refused(finished, standin, tmp_path, capsys):
    assert inspect_runs.main([with_accuracy_changed(finished, 0.01, tmp_path), "--data_dir", str(standin)]) == 2
    assert "another network" in capsys.readouterr().err
    assert not (tmp_path / "predictions.json").exists()


def test_the_picture_is_of_all_test_images_whatever_the_run_evaluated(standin, tmp_path, monkeypatch):
    assert run("train_mlp_numpy", *QUICK, "--eval_images", 100, "--data_dir", standin, "--output_dir", tmp_path / "r") == 0
    painted = Figure()
    monkeypatch.setattr(inspect_runs, "save_figure", lambda path, paint, *_: paint(painted))
    found = inspect_runs.inspect(tmp_path / "r", None, str(standin))
    assert np.sum(found["confusion"]) == 400 and "100" not in painted.get_suptitle()


def test_an_interrupted_run_is_taken_as_far_as_it_is(standin, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        interrupt_at(patch, DataSet, "next_batch", 3)
        assert run("train_mlp_numpy", *QUICK, "--data_dir", standin, "--output_dir", out) == 130
    capsys.readouterr()
    assert inspect_runs.main([str(out), "--data_dir", str(standin)]) == 0
    assert f"{out}, as of its last checkpoint: " in (said := capsys.readouterr().out) and "of 400 right" in said and (out / "inspection.png").exists()


def test_a_run_that_evaluated_a_part_is_compared_on_that_part(standin, tmp_path, capsys):
    out = tmp_path / "run"
    assert run("train_mlp_numpy", *QUICK, "--eval_images", 50, "--data_dir", standin, "--output_dir", out) == 0
    assert inspect_runs.main([str(out), "--data_dir", str(standin)]) == 0
    summary = json.loads((out / "summary.json").read_text())
    (out / "summary.json").write_text(json.dumps({**summary, "test_accuracy": summary["test_accuracy"] + 0.06}))
    assert inspect_runs.main([str(out), "--data_dir", str(standin)]) == 2
    assert "another network" in capsys.readouterr().err


def test_other_data_are_refused(finished, tmp_path, capsys):
    make_standin(tmp_path / "cifar-10-batches-py", train_size=100, test_size=400, seed=5)
    assert inspect_runs.main([str(finished), "--data_dir", str(tmp_path / "cifar-10-batches-py")]) == 2
    assert "was trained on other data" in capsys.readouterr().err


def test_every_script_is_inspected(standin, tmp_path):
    """Transfer learning is, by the loader that tests/test_predict.py tests for every script."""
    flags = ["--dataset", "cifar10", "--epochs", "1", "--repeats", "1", "--activation", "relu", "--batch_size", "200",
             "--validation_size", "100", "--dnn_hidden_units", "30", "--data_dir", str(standin), "--output_dir", str(tmp_path / "run")]
    assert run_script(train_mlp_autodiff.Config, train_mlp_autodiff.train, "", flags) == 0
    assert inspect_runs.main([str(tmp_path / "run/relu-1"), "--data_dir", str(standin)]) == 0


def test_points_of_the_plane_are_no_pictures(tmp_path, capsys):
    flags = ["--dataset", "synth", "--epochs", "1", "--repeats", "1", "--activation", "relu", "--output_dir", str(tmp_path / "run")]
    assert run_script(train_mlp_autodiff.Config, train_mlp_autodiff.train, "", flags) == 0
    capsys.readouterr()
    assert inspect_runs.main([str(tmp_path / "run/relu-1")]) == 2
    assert "was not trained on pictures, but on (1, 1, 2)" in capsys.readouterr().err
    assert not (tmp_path / "run/relu-1/predictions.json").exists()


def test_a_folder_that_is_not_a_finished_run(tmp_path, capsys):
    assert inspect_runs.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_missing_checkpoint_is_named(finished, standin, tmp_path, capsys):
    assert inspect_runs.main([str(finished), "--data_dir", str(standin), "--checkpoint", str(tmp_path / "no.pt")]) == 2
    assert "no.pt" in capsys.readouterr().err


def test_confusion_and_sheet():
    counts = inspect_runs.confusion(np.array([0, 1, 1]), np.array([0, 2, 1]), classes=3)
    assert counts.tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 0]]
    picture = inspect_runs.sheet(np.zeros((3, 1, 2, 2)), columns=2)
    assert picture.shape == (5, 5, 3)
    assert (picture[2] == 255).all() and (picture[3:, 3:] == 255).all() and (picture[:2, :2] == 0).all()


def test_a_network_with_dropout_is_also_judged_as_in_training(standin, tmp_path):
    """Trained long enough to be right, it is less often right with most of its units dropped."""
    folder = tmp_path / "run"
    assert run("train_mlp_pytorch", "--max_steps", 200, "--eval_freq", 200, "--batch_size", 50, "--dropout", 0.9,
               "--optimizer", "adam", "--weight_std", 0, "--data_dir", standin, "--output_dir", folder) == 0
    assert inspect_runs.main([str(folder), "--data_dir", str(standin)]) == 0
    found = json.loads((folder / "predictions.json").read_text())
    accuracy = np.trace(found["confusion"]) / 400
    assert 0.1 < found["accuracy_in_training_mode"] < accuracy - 0.1


def test_places_and_names_of_other_people(standin, tmp_path, monkeypatch):
    """A run below ~ whose name belongs to no text, and output that nobody reads."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "f\udcfcr"
    assert run("train_mlp_numpy", "--data_dir", standin, *QUICK, "--output_dir", folder) == 0
    assert inspect_runs.main(["~/f\udcfcr", "--data_dir", str(standin)]) == 0
    for where in (">&- 2>&-", ">/dev/full", "| true"):
        (folder / "inspection.png").unlink()
        done = subprocess.run(["bash", "-c", f"{sys.executable} -m report.inspect_runs $'{tmp_path}/f\\xfcr' --data_dir {standin} {where}; "
                               f"echo ${{PIPESTATUS[0]}} >{tmp_path}/status; {sys.executable} -m report.experiments --list {where}"],
                              cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, check=False)
        assert not done.stderr and (tmp_path / "status").read_text() == "0\n"
        assert (folder / "inspection.png").exists()
    with pytest.raises(SystemExit):
        inspect_runs.main(["--checkpoints", "3", "X"])
