"""predict.py: a checkpoint alone tells what pictures show, as the run's own evaluation does; and the same through ONNX."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from script_runs import rows
from test_mnist import arrays, idx
from torchvision.models import get_model

import cifar10_utils
import predict
import train_convnet_pytorch
import train_mlp_autodiff
import train_mlp_numpy
import train_mlp_pytorch
import train_transfer_pytorch
import training.script
from imagefiles import cifar10_standin
from training.checkpoints import NPZ

pytestmark = pytest.mark.training
STEPS = ["--max_steps", "3", "--eval_freq", "3", "--batch_size", "20"]
TRANSFER = [*STEPS, "--device", "cpu", "--model", "resnet18", "--image_size", "32"]
RUNS = {
    "numpy": (train_mlp_numpy, [*STEPS, "--dnn_hidden_units", "30,20", "--weight_std", "0.05", "--pixel_scale", "0.1"]),
    "mlp": (train_mlp_pytorch, [*STEPS, "--device", "cpu", "--normalization", "layer", "--weight_std", "0"]),
    "residual": (train_mlp_pytorch, [*STEPS, "--device", "cpu", "--blocks", "1", "--ema_decay", "0.5", "--input_dropout", "0.1"]),
    "convnet": (train_convnet_pytorch, [*STEPS, "--device", "cpu", "--precision", "fp32"]),
    "study": (train_convnet_pytorch, [*STEPS, "--device", "cpu", "--model", "study", "--learning_rate", "0.05"]),
    "probe": (train_transfer_pytorch, [*TRANSFER, "--freeze", "backbone", "--learning_rate", "0.1"]),
    "transfer": (train_transfer_pytorch, [*TRANSFER, "--linear_probe", "1", "--precision", "fp32"]),
    "tape": (train_mlp_autodiff, ["--dataset", "cifar10", "--epochs", "1", "--repeats", "1", "--activation", "relu",
                                  "--batch_size", "20", "--validation_size", "10", "--dnn_hidden_units", "30"]),
}


def start(script, *argv):
    return training.script.run_script(script.Config, script.train, "", [*map(str, argv)])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Runs that are made when they are asked for, and the pictures of the test split."""
    folder = tmp_path_factory.mktemp("predict")
    cifar10_standin.make_standin(folder / "data", train_size=60, test_size=20, seed=0)
    torch.save(get_model("resnet18", weights=None).state_dict(), folder / "weights.pth")
    (folder / "pictures").mkdir()
    for number, pixels in enumerate(cifar10_utils.get_cifar10(folder / "data").test.pixels):
        Image.fromarray(pixels.transpose(1, 2, 0)).save(folder / f"pictures/{number:02}.png")
    return folder


def finished(place, name):
    """The folder of the run `name`, whose data are out of reach."""
    script, flags = RUNS[name]
    out = place / name
    if not out.exists():
        more = ["--weights", place / "weights.pth"] if script is train_transfer_pytorch else []
        assert start(script, "--data_dir", place / "data", *flags, *more, "--output_dir", out) == 0
        for path in out.glob("**/config.json"):
            path.unlink()  # a checkpoint is enough
    return out / "relu-1" if name == "tape" else out


def predicted(capsys, *argv) -> dict[str, list[float]]:
    """The table of probabilities, by picture."""
    capsys.readouterr()
    assert predict.main([*map(str, argv)]) == 0
    head, *lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("wrote ")]
    classes = head.split()[3:]
    found = {}
    for line in lines:
        name, taken_for, *values = line.split()
        found[name] = [float(value) for value in values]
        assert taken_for == classes[int(np.argmax(found[name]))] or sorted(found[name])[-1] - sorted(found[name])[-2] < 1e-3
    return found


@pytest.mark.parametrize("name", RUNS)
def test_as_the_runs_own_evaluation(name, place, capsys):
    folder = finished(place, name)
    pictures = sorted((place / "pictures").glob("*.png"))
    found = predicted(capsys, folder, *pictures)
    assert list(found) == [path.name for path in pictures]
    probabilities, labels = np.array(list(found.values())), cifar10_utils.get_cifar10(place / "data", one_hot=False).test.labels
    summary = json.loads((folder / "summary.json").read_text())
    of_label = predict.load(folder).of_pictures(np.stack([predict.read_picture(path, (3, 32, 32)) for path in pictures]))[
        range(20), labels]
    np.testing.assert_allclose(-np.log(of_label).mean(), summary["test_loss"], rtol=1e-4)
    np.testing.assert_allclose(probabilities[range(20), labels], of_label, atol=6e-5)
    assert (probabilities.argmax(1) == labels).mean() == pytest.approx(summary["test_accuracy"], abs=0.051)  # ties, of four digits
    checkpoint = next(folder.glob("last.*"))
    assert predicted(capsys, checkpoint, pictures[0]) == {pictures[0].name: found[pictures[0].name]}


def test_mnist(tmp_path, capsys):
    for file, array in arrays().items():
        (tmp_path / file).write_bytes(idx(array))
    assert start(train_mlp_numpy, "--dataset", "mnist", "--data_dir", tmp_path, *STEPS, "--weight_std", 0.01, "--output_dir",
                 tmp_path / "run") == 0
    digit = arrays()["t10k-images-idx3-ubyte"][0]
    Image.fromarray(digit).save(tmp_path / "digit.png")
    Image.fromarray(digit).convert("RGB").save(tmp_path / "colours.png")
    found = predicted(capsys, tmp_path / "run", tmp_path / "digit.png", tmp_path / "colours.png")
    assert found["digit.png"] == found["colours.png"] and len(found["digit.png"]) == 10


# ---------------------------------------------------------------- pictures


def test_pictures_of_any_size_and_kind(tmp_path):
    grey = np.linspace(0, 255, 48 * 64).reshape(48, 64).astype(np.uint8)
    colours = np.stack([grey, grey[::-1], grey[:, ::-1]], 2)
    image = Image.fromarray(colours)
    expected = np.asarray(ImageOps.fit(image, (32, 32), Image.Resampling.LANCZOS)).transpose(2, 0, 1).astype(int)
    for name, kind in (("a.png", image), ("a.bmp", image), ("a.webp", image), ("a.tiff", image), ("a.jpg", image),
                       ("cmyk.jpg", image.convert("CMYK")), ("rgba.png", image.convert("RGBA")),
                       ("palette.gif", image.convert("P", palette=Image.Palette.ADAPTIVE))):
        kind.save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
        found = predict.read_picture(tmp_path / name, (3, 32, 32))
        assert found.dtype == np.uint8 and abs(found - expected).mean() < 12, name
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.fromarray(grey).save(tmp_path / "grey.png")
    deep, plain = (predict.read_picture(tmp_path / name, (1, 28, 28)).astype(int) for name in ("deep.png", "grey.png"))
    assert deep.shape == (1, 28, 28) and abs(deep - plain).max() <= 1
    for most in (1, 255):
        Image.fromarray(grey.astype(np.float32) * (most / 255)).save(tmp_path / "float.tiff")
        assert abs(predict.read_picture(tmp_path / "float.tiff", (1, 28, 28)).astype(int) - plain).max() <= 1
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    image.rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    assert abs(predict.read_picture(tmp_path / "turned.png", (3, 32, 32)) - expected).max() <= 1
    Image.new("RGBA", (9, 9), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (predict.read_picture(tmp_path / "clear.png", (3, 8, 8)) == 255).all()  # nothing, on white
    Image.new("RGB", (1, 500)).save(tmp_path / "thin.png")
    assert predict.read_picture(tmp_path / "thin.png", (3, 32, 32)).shape == (3, 32, 32)


@pytest.mark.parametrize("damage", ["missing", "text", "empty", "cut off", "a folder"])
def test_what_is_not_a_picture_is_one_line(damage, place, tmp_path, capsys):
    picture = tmp_path / "x.png"
    whole = (place / "pictures/00.png").read_bytes()
    if damage == "a folder":
        picture.mkdir()
    elif damage != "missing":
        picture.write_bytes({"text": b"hello", "empty": b"", "cut off": whole[:len(whole) // 2]}[damage])
    assert refused(capsys, finished(place, "numpy"), picture).startswith(f"{picture} cannot be read as a picture: ")


def test_one_that_is_not_a_picture_does_not_hide_the_others(place, tmp_path, capsys):
    good, bad = place / "pictures/00.png", tmp_path / "bad.png"
    bad.write_bytes(b"hello")
    with pytest.raises(SystemExit) as stop:
        predict.main([str(finished(place, "numpy")), str(good), str(bad), str(place / "pictures/01.png"),
                      "--plot", str(tmp_path / "figure")])
    output, error = capsys.readouterr()
    lines = output.splitlines()
    assert stop.value.code == 2 and f"{bad} cannot be read as a picture" in error
    assert [line.split()[0] for line in lines] == ["picture", "00.png", "01.png", "wrote"]
    assert lines[-1] == f"wrote {tmp_path / 'figure.png'}" and (tmp_path / "figure.png").exists()


def test_pictures_behind_the_flags_and_two_of_one_name(place, tmp_path, capsys):
    """Shown by their paths; one whose name cannot be printed as it is."""
    names = ["a/1.png", "b/1.png", "c/\x1b[31m.png", "c/two\nlines.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(place / "pictures/00.png", tmp_path / name)
    figure, trained = tmp_path / "figure.png", finished(place, "numpy")
    capsys.readouterr()
    assert predict.main([str(trained), "--plot", str(figure), *(str(tmp_path / name) for name in names)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(".png")[0] for line in lines[1:5]] == [
        str(tmp_path / "a/1"), str(tmp_path / "b/1"), "\\x1b[31m", "two\\nlines"] and len(lines) == 6


@pytest.mark.parametrize(("flag", "target", "reason"), [
    ("--plot", "{picture}", "is read here, too"), ("--export", "{run}/last.npz", "is read here, too"),
    ("--plot", "nowhere/x.png", "nowhere does not exist"), ("--export", "nowhere/x.onnx", "nowhere does not exist"),
    ("--plot", "{folder}/curves", "is a folder")])
def test_what_is_written_takes_no_place_of_what_is_read(flag, target, reason, place, tmp_path, capsys, monkeypatch):
    run, picture = finished(place, "numpy"), tmp_path / "1.png"
    shutil.copy(place / "pictures/00.png", picture)
    (tmp_path / "curves.png").mkdir()
    monkeypatch.chdir(tmp_path)
    before = picture.read_bytes(), (run / "last.npz").read_bytes()
    target = target.format(picture=picture, run=run, folder=tmp_path)
    error = refused(capsys, run, picture, flag, target)
    assert error.startswith(f"{flag}: ") and reason in error
    assert before == (picture.read_bytes(), (run / "last.npz").read_bytes())


@pytest.mark.parametrize(("mode", "dtype", "white"), [("F", np.float32, 1), ("F", np.float32, 255), ("F", np.float32, 65535),
                                                      ("I", np.int32, 255), ("I", np.int32, 65535), ("I;16", np.uint16, 65535)])
def test_pixels_of_more_than_8_bits(mode, dtype, white, tmp_path):
    """A ramp from black to white, as such files scale it."""
    ramp = np.linspace(0, white, 32 * 32).reshape(32, 32).astype(dtype)
    image = Image.fromarray(ramp)
    assert image.mode == mode
    image.save(tmp_path / "x.tiff")
    read = predict.read_picture(tmp_path / "x.tiff", (1, 32, 32))[0]
    assert np.abs(read - np.linspace(0, 255, 32 * 32).reshape(32, 32)).max() <= 1


def test_a_table_that_is_too_wide_has_a_line_for_each_class():
    classes, values = ("cat", "a long name of a class"), np.array([[0.25, 0.75], [0.5, 0.5]])
    wide = predict.table(["x.png", "y.png"], classes, values, 200)
    assert wide == predict.table(["x.png", "y.png"], classes, values)
    assert [line.split()[0] for line in wide.splitlines()] == ["picture", "x.png", "y.png"]
    narrow = predict.table(["x.png", "y.png"], ("cat", "dog"), values, 30).splitlines()
    assert [line.split() for line in narrow] == [["picture", "x.png", "y.png"], ["taken", "for", "dog", "cat"],
                                                 ["cat", "0.2500", "0.5000"], ["dog", "0.7500", "0.5000"]]


def refused(capsys, *argv) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        predict.main([*map(str, argv)])
    message = capsys.readouterr().err
    assert stop.value.code == 2 and message.count("\n") == 1
    return message.partition(": ")[2]


def test_a_figure(place, tmp_path, capsys):
    for name in ("figure.png", "figure.svg", "figure.pdf"):
        predicted(capsys, finished(place, "numpy"), *sorted((place / "pictures").glob("*.png"))[:3], "--plot", tmp_path / name)
        assert (tmp_path / name).stat().st_size > 5_000
    assert "xyz" in refused(capsys, finished(place, "numpy"), place / "pictures/00.png", "--plot", tmp_path / "figure.xyz")


# ---------------------------------------------------------------- checkpoints


def test_what_is_not_a_checkpoint_is_one_line(place, tmp_path, capsys):
    picture = place / "pictures/00.png"
    assert "last.npz or last.pt does not exist" in refused(capsys, tmp_path, picture)
    for nowhere in ("none.pt", "none"):  # a folder that holds other things is not to be removed
        message = refused(capsys, tmp_path / nowhere, picture)
        assert "does not exist; give a run folder" in message and "remove" not in message
    kept = tmp_path / "kept"
    kept.mkdir()
    for name in ("config.json", "summary.json"):
        (kept / name).write_text("{}")
    message = refused(capsys, kept, picture)
    assert "its figures and tables alone were kept; train it again" in message and "remove" not in message
    (kept / "summary.json").unlink()
    assert f"this run ended before its first checkpoint; remove {kept}" in refused(capsys, kept, picture)
    (tmp_path / "last.pt").write_bytes(b"x")
    assert "not a whole checkpoint" in refused(capsys, tmp_path, picture)
    torch.save({"script": "another"}, tmp_path / "last.pt")
    assert "is not a checkpoint of a training script" in refused(capsys, tmp_path, picture)
    saved = torch.load(finished(place, "study") / "last.pt", weights_only=True)
    torch.save({**saved, "flags": {**saved["flags"], "fc": [9]}}, tmp_path / "last.pt")
    assert "does not hold the network" in refused(capsys, tmp_path, picture)
    assert "name a picture" in refused(capsys, tmp_path)
    finished(place, "tape")
    assert f"such as {place / 'tape/relu-1'}" in refused(capsys, place / "tape", picture)


def test_points_are_not_pictures(place, tmp_path, capsys):
    assert start(train_mlp_autodiff, "--dataset", "synth", "--epochs", 1, "--repeats", 1, "--activation", "relu", "--batch_size",
                 1000, "--output_dir", tmp_path / "run") == 0
    assert "was not trained on pictures" in refused(capsys, tmp_path / "run/relu-1", place / "pictures/00.png")


def as_of_version_2_0(run: Path) -> None:
    """Without what predict.py needs, and the NumPy networks' parameters in lists."""
    if (run / "last.pt").exists():
        saved = torch.load(run / "last.pt", weights_only=True)
    else:
        saved = NPZ.load(run / "last.npz")
        params = saved["state"]["params"]
        saved["state"]["params"] = [*params.values()] if "w1" in params else [
            {key: params[f"layers.{n}.{key}"] for key in ("weight", "bias")} for n in sorted({int(name.split(".")[1]) for name in params})]
    for key in ("mean_image", "pixel_scale", "class_names", "learning_rate"):
        del saved[key]
    if (run / "last.pt").exists():
        torch.save(saved, run / "last.pt")
        return
    arrays = []  # as it was written then

    def take(array):
        arrays.append(array)
        return {"array": f"array_{len(arrays) - 1}"}

    text = json.dumps(saved, default=take)
    np.savez(run / "last.npz", checkpoint=np.array(text), **{f"array_{n}": array for n, array in enumerate(arrays)})


@pytest.mark.parametrize("name", ["numpy", "mlp"])
def test_a_checkpoint_of_version_2_0(name, place, tmp_path, capsys):
    """With its data it predicts the same and is resumed to the same; without them, it says what it needs."""
    script, flags = RUNS[name]
    picture = place / "pictures/00.png"
    shutil.copytree(place / "data", tmp_path / "data")
    for run in ("new", "old"):
        assert start(script, "--data_dir", tmp_path / "data", *flags, "--output_dir", tmp_path / run) == 0
    as_of_version_2_0(tmp_path / "old")
    assert predicted(capsys, tmp_path / "old", picture) == predicted(capsys, tmp_path / "new", picture)
    for run in ("new", "old"):
        assert start(script, "--resume", tmp_path / run, "--max_steps", 5) == 0
    assert [(row["step"], row["loss"]) for row in rows(tmp_path / "old")] == [
        (row["step"], row["loss"]) for row in rows(tmp_path / "new")]
    as_of_version_2_0(tmp_path / "old")
    (tmp_path / "data/data_batch_1").unlink()
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        predict.main([str(tmp_path / "old"), str(picture)])
    assert stop.value.code == 2
    assert "is of version 2.0, whose checkpoints need their data: " in capsys.readouterr().err


def test_arrays_have_names(place):
    with np.load(finished(place, "numpy") / "last.npz") as file:
        assert {"mean_image", "state.params.layers.0.weight", "state.params.layers.4.bias"} <= set(file.files)
        assert file["state.params.layers.2.weight"].shape == (20, 30) and file["mean_image"].shape == (3, 32, 32)
    with np.load(finished(place, "tape") / "last.npz") as file:
        assert file["state.params.w1"].shape == (3072, 30)


# ---------------------------------------------------------------- ONNX


@pytest.mark.parametrize("name", ["mlp", "residual", "study", "convnet", "transfer", "probe"])
def test_onnx(name, place, tmp_path, capsys):
    """What another program computes from the file: from pixels, and of any number of pictures."""
    onnxruntime = pytest.importorskip("onnxruntime")
    folder = finished(place, name)
    assert predict.main([str(folder), "--export", str(tmp_path / "network.onnx")]) == 0
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx")
    pixels = np.stack([predict.read_picture(path, (3, 32, 32)) for path in sorted((place / "pictures").glob("*.png"))])
    expected = predict.load(folder).of_pictures(pixels)
    assert np.ptp(expected, axis=0).max() > 1e-4  # what differs between pictures
    for many in (1, 7, 20):
        [found] = session.run(["probabilities"], {"pixels": pixels[:many].astype(np.float32)})
        np.testing.assert_allclose(found, expected[:many], rtol=1e-3, atol=1e-5)


def test_onnx_that_cannot_be(place, tmp_path, capsys, monkeypatch):
    assert "train one like it with train_mlp_pytorch.py" in refused(capsys, finished(place, "numpy"), "--export", tmp_path / "x.onnx")
    for module in [name for name in sys.modules if name.partition(".")[0] == "onnxscript"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    for module in [name for name in sys.modules if name.startswith("torch.onnx._internal.exporter")]:
        monkeypatch.delitem(sys.modules, module)
    assert "pip install onnx onnxscript" in refused(capsys, finished(place, "study"), "--export", tmp_path / "x.onnx")
