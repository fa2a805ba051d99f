"""Submissions as students pack them: odd archives, folders to save into, the course's own files, earlier editions."""

import gzip
import hashlib
import importlib.util
import io
import json
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
from grading_help import MLP, MODULES, ROOT, needs_confinement, reduced, submission

from grading import archive, expected, home, scan, unpack
from grading.archive import Unreadable
from grading.checks import Context, Replies
from grading.inputs import Inputs
from grading.people import parse
from grading.replies import Reply
from grading.submission import Submission, judge

pytestmark = [pytest.mark.grading]

CODE = {"modules.py": MODULES, "mlp_numpy.py": MLP}


def zipped(path: Path, members: dict[str, bytes | str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def packed(members: dict[str, bytes | str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return out.getvalue()


def tarred(path: Path, members: dict[str, bytes | str], mode: str = "w:gz", *others: tarfile.TarInfo) -> Path:
    with tarfile.open(path, mode) as file:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            content = content.encode() if isinstance(content, str) else content
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
        for member in others:
            file.addfile(member)
    return path


def laid_out(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() + "/" * path.is_dir() for path in folder.rglob("*"))


# ---------------------------------------------------------------- folders


def test_a_file_that_lies_elsewhere_is_said_to(tmp_path):
    one = Submission(zipped(tmp_path / "doe.zip", {"q1/modules.py": MODULES, "q1/MLP_numpy.py": MLP, "q3/custom_layernorm.py": "x"}),
                     "doe", expected=("modules.py", "mlp_numpy.py", "custom_layernorm.py", "mlp_pytorch.py"))
    one.take_in(tmp_path / "in")
    apart, renamed = "custom_layernorm.py is not beside the others: it lies in q3/", "mlp_numpy.py is called q1/MLP_numpy.py"
    assert one.flags[-4:-1] == ["missing: mlp_pytorch.py", renamed, apart]
    rules, context = reduced(["1.2", "2.1", "3.2b"], scripts=False), Context({}, None, None, False, expected=expected.values(Inputs()))
    for row, probe, file in zip(rules.code, ("mlp_1", "networks", "value"), ("mlp_numpy.py", "mlp_pytorch.py",
                                                                             "custom_layernorm.py"), strict=True):
        judge(one, row, Replies({probe: Reply(error=f"Absent: {file} is not in the submission")}), 0.0, context)
    said = {number: {check["diagnosis"] for check in found["checks"]} for number, found in one.questions.items()}
    assert f"{renamed}." in said["1.2"] and f"{apart}." in said["3.2b"]
    assert "mlp_pytorch.py is not in the submission." in said["2.1"]


def test_a_file_of_another_name_is_told_at_home(tmp_path, capsys):
    folder = submission(tmp_path / "doe")
    (folder / "Custom_LayerNorm.py").write_text("x = 1")
    assert home.check(folder, ["3.2c"]) == 1
    assert "  custom_layernorm.py is called Custom_LayerNorm.py.\n" in capsys.readouterr().out


MEMBERS = {"doe/modules.py": "", "doe/results/": "", "doe/images/net.png": "x", "doe/runs/a/loss.csv": "1,2",
           "doe/figures/.gitkeep": "", "doe/cifar10/cifar-10-batches-py/data_batch_1": "x" * 99,
           "doe/data/x.csv": "1", "doe/venv/lib/a.py": "", "doe/my_env/pyvenv.cfg": "", "doe/my_env/lib/a.py": "",
           "doe/__pycache__/modules.cpython-38.pyc": "x", "doe/.git/config": "", "doe/notebooks/try.ipynb": "{}",
           "doe/checkpoints/last.pt": "x", "__MACOSX/doe/._modules.py": "x"}
LAID_OUT = ["doe/", "doe/__pycache__/", "doe/checkpoints/", "doe/cifar10/", "doe/cifar10/cifar-10-batches-py/",
            "doe/data/", "doe/data/x.csv", "doe/figures/", "doe/images/", "doe/modules.py", "doe/my_env/",
            "doe/notebooks/", "doe/results/", "doe/runs/", "doe/runs/a/", "doe/runs/a/loss.csv", "doe/venv/"]


def test_folders_stay_and_what_is_bulky_does_not(tmp_path):
    taken = archive.take_in(zipped(tmp_path / "doe.zip", MEMBERS), tmp_path / "in")
    assert laid_out(tmp_path / "in") == LAID_OUT
    assert taken.code == tmp_path / "in" / "doe" and taken.notes == []
    with zipfile.ZipFile(tmp_path / "doe.zip") as file:
        file.extractall(tmp_path / "unpacked")
    archive.take_in(tmp_path / "unpacked", tmp_path / "again")
    assert laid_out(tmp_path / "again") == LAID_OUT


def test_an_environment_is_no_reason_to_lose_the_code_beside_its_configuration(tmp_path):
    path = zipped(tmp_path / "a.zip", {"doe/pyvenv.cfg": "", "doe/modules.py": "", "doe/lib/site-packages/x.py": ""})
    assert laid_out(archive.take_in(path, tmp_path / "in").code) == ["lib/", "lib/site-packages/", "modules.py", "pyvenv.cfg"]
    many = {f"doe/venv/{i}.py": "" for i in range(6000)}
    assert archive.take_in(zipped(tmp_path / "b.zip", CODE | many), tmp_path / "b").notes == []
    with pytest.raises(Unreadable, match="more than 5000 files"):  # a folder each, for what is left out
        archive.take_in(zipped(tmp_path / "c.zip", CODE | {f"{i}/x.pdf": "" for i in range(6000)}), tmp_path / "c")


def test_a_large_folder_s_digest_takes_no_time_and_knows_the_code(tmp_path):
    """Files of 30 MB that take no room on the disk: six gigabytes to read, for each student, before anybody is graded."""
    folder = submission(tmp_path / "a")
    for i in range(200):
        with open(folder / f"big{i}.dat", "wb") as file:
            file.truncate(archive.MAX_FILE)
    begun = time.process_time()
    before = archive.digest(folder)
    assert time.process_time() - begun < 3
    (folder / "modules.py").write_text("x = 1\n")
    assert archive.digest(folder) != before


def test_a_folder_s_digest_knows_its_empty_folders_and_not_what_this_program_writes(tmp_path):
    folder = submission(tmp_path / "doe")
    before = archive.digest(folder)
    (folder / "grades").mkdir()
    (folder / "grades" / "grades.csv").write_text("x")
    (folder / ".git").mkdir()
    assert archive.digest(folder) == before
    found = {before}
    (folder / "report.pdf").write_text("x")
    found.add(archive.digest(folder))
    (folder / "results").mkdir()
    assert len({*found, archive.digest(folder)}) == 3


def test_large_files_beside_the_code_are_left_out_with_a_note(tmp_path):
    large = {"weights.bin": os.urandom(41 * 2**20)} | {f"zeros{i}.txt": bytes(2 * 2**20) for i in range(4)}
    path = zipped(tmp_path / "a.zip", CODE | large)
    note = ("left out: weights.bin (more than 30 MB), zeros0.txt (more than 200 times the bytes it is packed in), "
            "zeros1.txt (more than 200 times the bytes it is packed in) and 2 more")
    taken = archive.take_in(path, tmp_path / "in")
    assert taken.notes == [note] and laid_out(tmp_path / "in") == ["mlp_numpy.py", "modules.py"]
    folder = submission(tmp_path / "folder")
    (folder / "weights.bin").write_bytes(large["weights.bin"])
    assert archive.take_in(folder, tmp_path / "b").notes == ["left out: weights.bin (more than 30 MB)"]


@pytest.mark.parametrize("ending", ["pt", "pth", "ckpt", "h5", "PKL"])
def test_a_large_trained_model_is_left_out_with_a_note(tmp_path, ending):
    folder = submission(tmp_path / "doe")
    (folder / "runs").mkdir()
    for name in (f"model.{ending}", f"runs/small.{ending}"):
        with open(folder / name, "wb") as file:
            file.truncate(1000 if "small" in name else 40 * 2**20)
    taken = archive.take_in(folder, tmp_path / "in")
    assert taken.notes == [f"left out: model.{ending} (more than 30 MB)"]
    assert laid_out(tmp_path / "in") == ["mlp_numpy.py", "modules.py", "runs/"]


def test_a_size_that_is_stated_is_not_believed(tmp_path):
    layout = archive.Layout(tmp_path)
    layout.add(iter([unpack.Entry("a.bin", "file", 1, 0, lambda: io.BytesIO(bytes(31 * 2**20)))]))
    assert layout.told() == ["left out: a.bin (more than 30 MB)"] and laid_out(tmp_path) == []


# ---------------------------------------------------------------- odd archives


def test_folders_as_windows_programs_write_them(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("doe\\results\\", "")
        file.writestr("doe\\code\\modules.py", "x")
        marked = zipfile.ZipInfo("doe/images")
        marked.external_attr = 0x10
        file.writestr(marked, "")
        plain = zipfile.ZipInfo("doe/empty.py")
        plain.external_attr = 0x20
        file.writestr(plain, "")
    archive.take_in(tmp_path / "a.zip", tmp_path / "in")
    assert laid_out(tmp_path / "in") == ["doe/", "doe/code/", "doe/code/modules.py", "doe/empty.py", "doe/images/",
                                         "doe/results/"]


def test_an_archive_in_an_archive_is_taken_once(tmp_path):
    inner = packed({"code/" + name: text for name, text in CODE.items()} | {"code/old.zip": packed(CODE), "r.pdf": ""})
    outer = zipped(tmp_path / "a.zip", {"doe/code.zip": inner, "doe/readme.txt": "x", "doe/figures.zip": packed({"a.png": ""})})
    taken = archive.take_in(outer, tmp_path / "in")
    assert sorted(os.listdir(taken.code)) == ["mlp_numpy.py", "modules.py"] and taken.pdfs == ["r.pdf"]
    assert taken.notes == ["the code is in doe/code.zip, an archive inside the archive"]
    beside = archive.take_in(zipped(tmp_path / "b.zip", CODE | {"old.zip": inner}), tmp_path / "b")
    assert beside.notes == [] and beside.code == tmp_path / "b"  # with code of its own, the other is none of ours
    tar = tarred(tmp_path / "code.tgz", CODE).read_bytes()
    assert archive.take_in(zipped(tmp_path / "c.zip", {"code.tgz": tar}), tmp_path / "c").notes


@pytest.mark.parametrize("members, reason", [
    ({"a.zip": packed({"b.zip": packed(CODE)})}, "holds no modules.py but a.zip"),
    ({"a.zip": packed(CODE), "b.zip": packed(CODE)}, r"holds 2 archives with code \(a.zip, b.zip\): hand in one"),
    ({"a.rar": b"Rar!\x1a\x07\0" + bytes(600)}, "no modules.py but a.rar, which is a RAR archive, which is not read here: unpack"),
    ({"a.zip": b"no archive"}, "holds no modules.py but a.zip, which is not a ZIP file, or a damaged one"),
    ({"a.zip": packed({"modules.py": bytes(4 * 2**20)})}, "more than 200 times"),
    ({"a.zip": packed({"modules.py": "", **{f"{i}.bin": os.urandom(2**20) for i in range(3)}})}, "more than 5 MB")])
def test_archives_in_archives_that_are_not_taken(tmp_path, monkeypatch, members, reason):
    monkeypatch.setattr(archive, "MAX_TOTAL", 5 * 2**20)  # of both together
    with pytest.raises(Unreadable, match=reason) as caught:
        archive.take_in(zipped(tmp_path / "a.zip", members), tmp_path / "in")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_tar_archives_are_taken_like_zips(tmp_path, mode):
    path = tarred(tmp_path / "doe.tar", {name: text for name, text in MEMBERS.items() if not name.endswith("/")}, mode)
    archive.take_in(path, tmp_path / "in")
    assert laid_out(tmp_path / "in") == [name for name in LAID_OUT if name != "doe/results/"]


@pytest.mark.parametrize("name, student", [
    ("doe.zip", "doe"), ("doe.tar.gz", "doe"), ("Doe.TGZ", "Doe"), ("doe.v1.tar", "doe.v1"), ("doe.rar", "doe"),
    ("doe.ipynb", "doe"), ("doe.Py", "doe"), ("doe.txt", "doe.txt")])
def test_the_student_is_the_archive_s_name(tmp_path, name, student):
    (tmp_path / name).touch()
    assert parse(tmp_path / name).student == student


def test_no_member_of_a_tar_archive_leaves_the_folder(tmp_path):
    link, device, folder = tarfile.TarInfo("link.py"), tarfile.TarInfo("device"), tarfile.TarInfo("results")
    link.type, link.linkname, device.type, folder.type = tarfile.SYMTYPE, "/etc/passwd", tarfile.CHRTYPE, tarfile.DIRTYPE
    path = tarred(tmp_path / "a.tgz", CODE | {"../out.py": "x", "/out.py": "x", "a/../../out.py": "x"}, "w:gz",
                  link, device, folder)
    taken = archive.take_in(path, tmp_path / "deep" / "in")
    assert laid_out(tmp_path / "deep") == ["in/", "in/mlp_numpy.py", "in/modules.py", "in/results/"]
    assert taken.notes == ["1 link left out", "3 paths outside its folder left out", "1 special file left out"]


def test_the_size_of_a_tar_archive_is_counted(tmp_path, monkeypatch):
    path = tarred(tmp_path / "a.tgz", CODE | {"weights.bin": bytes(31 * 2**20)})
    assert archive.take_in(path, tmp_path / "in").notes == ["left out: weights.bin (more than 30 MB)"]
    monkeypatch.setattr(unpack, "MOST_UNPACKED", 2**20)
    with pytest.raises(Unreadable, match="unpacks to more than 1 MB: unpack it and pack it as a ZIP file"):
        archive.take_in(path, tmp_path / "b")
    monkeypatch.setattr(unpack, "MOST_ENTRIES", 1)
    with pytest.raises(Unreadable, match="holds more than 1 files"):
        archive.take_in(path, tmp_path / "c")


@pytest.mark.parametrize("content, reason", [
    (b"Rar!\x1a\x07\1\0", "is a RAR archive, which is not read here: unpack it and pack it as a ZIP file"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive, which is not read here: unpack it and pack it as a ZIP file"),
    (b"BZh9", "is packed by bzip2, which is not read here"), (b"%PDF-1.5", "is a PDF file: hand in a ZIP file"),
    (gzip.compress(b"x = 1"), "cannot be unpacked"), (gzip.compress(b"x" * 600), "cannot be unpacked"),
    (packed({"a/mlp.ipynb": "{}", "b.ipynb": "{}"}),
     r"holds notebooks \(mlp.ipynb, b.ipynb\) and no Python file: export the code as .py files with the assignment's names"),
    (packed({"mlp.ipynb": "{}", "x.py": ""}), "holds no modules.py, nor any other file of the assignment")],
    ids=["rar", "7z", "bz2", "pdf", "gz", "longer gz", "notebooks", "a notebook"])
def test_what_cannot_be_read_says_the_way_out(tmp_path, content, reason):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(Unreadable, match=reason) as caught:
        archive.take_in(tmp_path / "a.zip", tmp_path / "in")
    assert "\n" not in str(caught.value) and str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("name, content, reason", [
    ("doe.ipynb", b"{}", "is a notebook: export it as .py files and pack them as a ZIP"),
    ("doe.PY", b"x = 1", "is a single Python file: pack all files of the hand-in as a ZIP"),
    ("doe.zip", b"", "is empty: pack it again and upload it again"),
    ("doe.zip", packed(CODE)[:-30],
     "is not a ZIP file, or a damaged one (File is not a zip file): pack it again and upload it again")])
def test_a_single_file_or_a_damaged_archive_says_the_way_out(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Unreadable) as caught:
        archive.take_in(tmp_path / name, tmp_path / "in")
    assert str(caught.value) == reason
    (tmp_path / "zip.py").write_bytes(packed(CODE))  # an archive is known by its content
    assert archive.take_in(tmp_path / "zip.py", tmp_path / "taken").notes == []


def test_a_cut_tar_archive_is_damaged(tmp_path):
    content = tarred(tmp_path / "whole.tgz", {"modules.py": os.urandom(10**5)}).read_bytes()
    (tmp_path / "a.tgz").write_bytes(content[:len(content) // 2])
    with pytest.raises(Unreadable, match="cannot be unpacked"):
        archive.take_in(tmp_path / "a.tgz", tmp_path / "in")


@pytest.mark.parametrize("flag", ["utf-8", "cp437"])
def test_names_beyond_ascii_are_read_as_they_were_written(tmp_path, flag):
    content = packed({"verhöven/modules.py": ""})
    if flag == "cp437":  # UTF-8 without the flag that says so, as macOS packs
        for magic, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            start = content.index(magic) + place
            content = content[:start] + b"\0\0" + content[start + 2:]
    (tmp_path / "a.zip").write_bytes(content)
    assert archive.take_in(tmp_path / "a.zip", tmp_path / "in").code.name == "verhöven"


@needs_confinement
def test_names_beyond_ascii_in_an_ascii_locale(tmp_path):
    """A submission of an earlier edition: taken in and written about, and no worker has to run."""
    path = zipped(tmp_path / "łoś.zip", {"łoś/modules.py": LEAKY + "# é", "łoś/é.py": "", "łoś/custom_batchnorm.py": ""})
    done = subprocess.run([sys.executable, ROOT / "grade.py", path, "--out", tmp_path / "é"], capture_output=True,
                          env={"PATH": os.environ["PATH"], "LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0"})
    said = done.stderr.decode()
    assert "łoś: is of the 2019 edition of the assignment" in said and "Traceback" not in said
    assert (tmp_path / "é" / "students" / "łoś" / "feedback.html").is_file()
    record = json.loads((tmp_path / "é" / "students" / "łoś" / "record.json").read_text())
    assert all(question["ungraded"].startswith("the submission is of the 2019") for question in record["questions"].values())


# ---------------------------------------------------------------- what a TA is told


@pytest.mark.parametrize("pdfs, wrong", [
    ([], "no report (PDF)"), (["report.pdf"], ""), (["assignment_1.pdf", "doe.pdf"], ""), (["doe_assignment1.pdf"], ""),
    (["assignment1_report.pdf"], ""), (["dl_report.pdf"], ""),
    *(([name], f"no report but {name}, which is named like the assignment's own text")
      for name in ("assignment_1.pdf", "Assignment1.pdf", "practical1.pdf", "DL_Practical_1_MLPs_CNNs_and_Backprop.pdf"))])
def test_the_handout_is_no_report(tmp_path, pdfs, wrong):
    taken = archive.take_in(zipped(tmp_path / "a.zip", CODE | dict.fromkeys(pdfs, "%PDF")), tmp_path / "in")
    assert taken.no_report() == wrong


def utilities(folder: Path, content: bytes) -> list[str]:
    submission(folder)
    (folder / "cifar10_utils.py").write_bytes(content)
    return scan.scan(folder)


COURSE = "import numpy\n\nclass DataSet:\n    pass  # é\n".encode()


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("distributed", [COURSE, COURSE.replace(b"\n", b"\r\n"), COURSE.rstrip()])
def test_the_course_s_own_file_is_known_whatever_editors_do_to_it(tmp_path, monkeypatch, own, distributed):
    """By its hash, so as any of the forms in which it may have been given out; and the reference's own file."""
    if own:
        distributed = (ROOT / "cifar10_utils.py").read_bytes()
    else:
        assert utilities(tmp_path / "unknown", distributed)
        monkeypatch.setattr(scan, "COURSE_UTILITIES", {hashlib.sha256(distributed).hexdigest()})
    text = distributed.replace(b"\r\n", b"\n").rstrip(b"\n")
    for number, variant in enumerate((distributed, text, text + b"\n", (text + b"\n").replace(b"\n", b"\r\n"),
                                      b"\xef\xbb\xbf" + text + b"\n")):
        assert utilities(tmp_path / str(number), variant) == []
    assert utilities(tmp_path / "changed", text + b"\nx = 1\n") == [
        "cifar10_utils.py differs from the course's; students must not change it (a version of your own: --handout DIR)"]


def test_the_course_s_hash():
    assert {"06af72f7f4ac4f8814902a362cedf4767948e91da50c543be9a2ea28058fe6f7"} == scan.COURSE_UTILITIES


HONEST = """
import argparse, copy, gc, json, logging, math, multiprocessing, os, pickle, random, signal, socket, sys, time
import urllib.request
os.environ['CUDA_VISIBLE_DEVICES'] = '0'
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
sys.path.append('..')
def eval(model):
    model.eval()
    gc.collect()
    return os.path.exists('x')
print(eval(None), socket.gethostname(), sys.argv, os.getcwd())
"""


NAMED = """
class Norm:
    def layer_norm(self, x):
        return x
    def forward(self, x):
        return self.layer_norm(x)
if __name__ == "__main__":
    import torch
    assert torch.allclose(Norm().forward(torch.ones(2, 3)), torch.nn.LayerNorm(3)(torch.ones(2, 3)))
"""


def test_honest_code_is_not_flagged(tmp_path):
    folder = submission(tmp_path / "a", modules=MODULES + HONEST, train_mlp_pytorch="import torch\n" + HONEST,
                        custom_layernorm=NAMED)
    for name in ("code", "results", "test", "profile"):
        (folder / name).mkdir()
    assert scan.scan(folder) == []


@pytest.mark.parametrize("start", [
    b"\x7fELF\2\1\1", importlib.util.MAGIC_NUMBER + bytes(12), b"MZ\x90\0\3", b"\xcf\xfa\xed\xfe\7"])
def test_compiled_files_are_known_by_their_content(tmp_path, start):
    folder = submission(tmp_path / "a")
    (folder / "notes.dat").write_bytes(start + bytes(50))
    assert scan.scan(folder) == ["compiled files, which cannot be read: notes.dat"]


@pytest.mark.parametrize("content", [b"", b"MZ", b"\x89PNG\r\n\x1a\n" + bytes(50), b"%PDF-1.4\r\n" + bytes(50),
                                     b"ab\r\ntext of two lines", bytes(50), b"\x80\x04\x95" + bytes(50)])
def test_other_files_are_not_taken_for_compiled_ones(tmp_path, content):
    folder = submission(tmp_path / "a")
    (folder / "results.dat").write_bytes(content)
    assert scan.scan(folder) == []


@pytest.mark.parametrize("code, flag", [
    ("x = eval('1')", "modules.py uses eval"), ("f = exec", "modules.py uses exec"),
    ("class A:\n    def eval(self): pass\neval('1')", "modules.py uses eval"),
    ("import torch\nx = torch.ones(1)", "modules.py imports torch"),
    ("import torch.nn as nn", "modules.py imports torch and does not use it"),
    ("from torch import nn\nnn.ReLU()", "modules.py imports torch"),
    ("from sklearn.neural_network import MLPClassifier", "modules.py imports sklearn.neural_network and does not use it"),
    ("import gc; gc.get_objects()", "modules.py uses gc.get_objects"), ("import subprocess", "modules.py uses subprocess"),
    ("from os import system", "modules.py uses os.system"),
    ("import grading.worker.student as s", "modules.py uses grading.worker.student")])
def test_what_is_flagged(tmp_path, code, flag):
    assert scan.scan(submission(tmp_path / "a", modules=code)) == [flag]


@pytest.mark.parametrize("code, found", [
    ("import torch\nf = torch._decomp.decompositions.native_layer_norm_backward", "torch._decomp"),
    ("from torch import _refs\nf = _refs.nn.functional.softmax", "torch._refs"),
    ("from torch._decomp import decomposition_table as known", "torch._decomp"),
    ("import importlib\nm = importlib.import_module('torch._prims.rng_prims')", "torch._prims"),
    ("from torch.fx.experimental.proxy_tensor import make_fx", "torch.fx"),
    ("import functorch.compile as c", "functorch"),
    ("import torch\nt = torch.export.default_decompositions()", "torch.export"),
    ("import importlib\nr = importlib.import_module('torch._' + 'refs')", "import_module with a name that it computes"),
    ("from importlib import import_module as i\nr = i(f'torch._{1}')", "import_module with a name that it computes"),
    ("from torch import nn, _assert\nimport torch.nn.functional as fx\ns = 'torch.fx_of_a_kind'", "")])
def test_pytorch_s_own_formulas_as_plain_operators_are_flagged(tmp_path, code, found):
    """Tracing makes plain operators of a ready-made normalization, so that none is seen while it runs."""
    path = tmp_path / "custom_layernorm.py"
    path.write_text(code)
    assert scan.odd(scan.parse(path)) == ({found} if found else set())
    assert bool(scan.ready_norms(scan.parse(path))) == ("native_layer_norm_backward" in code)


# ---------------------------------------------------------------- editions

LEAKY = "class LinearModule: pass\nclass LeakyReLUModule:\n    def __init__(self, neg_slope): pass\n"
RELU = "class LinearModule: pass\nclass ReLUModule: pass\n"


@pytest.mark.parametrize("files, found", [
    ({"modules": LEAKY, "custom_batchnorm": ""}, "2019 edition of the assignment (custom_batchnorm.py, neg_slope)"),
    ({"modules": LEAKY}, "2019 edition of the assignment (neg_slope)"),
    ({"modules": RELU, "custom_batchnorm": ""}, "2018 edition of the assignment (custom_batchnorm.py)"),
    ({"modules": RELU}, ""), ({"custom_batchnorm": ""}, ""), ({"custom_batchnorm": "", "custom_layernorm": ""}, ""),
    ({"modules": LEAKY + MODULES, "custom_batchnorm": ""}, ""),
    ({"modules": LEAKY, "custom_batchnorm": "", "custom_layernorm": ""}, "")])
def test_earlier_editions_are_recognised_and_only_these(tmp_path, files, found):
    one = Submission(submission(tmp_path / "a", **files), "doe", "key")
    one.take_in(tmp_path / "in")
    assert scan.edition(one.code) == found
    assert one.error == one.ungraded == (f"is of the {found}: this rubric grades the 2020 edition" if found else "")


def test_long_chains_of_attributes_take_no_longer_than_short_ones(tmp_path):
    """1,600 attributes in a line are 16 KB as a ZIP: what looks for dotted names must not follow each to its end."""
    seconds = {}
    for name, text in (("long", "x" + ".a" * 1600 + "\n"), ("short", ("x" + ".a" * 4 + "\n") * 400)):
        (tmp_path / f"{name}.py").write_text(text * 40)
        nodes = scan.parse(tmp_path / f"{name}.py")
        started = time.process_time()
        assert scan.odd(nodes) == set()
        seconds[name] = time.process_time() - started
    assert seconds["long"] < 4 * seconds["short"]


def test_no_more_than_a_megabyte_is_looked_at_and_nothing_hides_behind_it(tmp_path):
    """A file of a megabyte takes two seconds, and eleven of them are 16 KB as a ZIP."""
    for i in range(8):
        (tmp_path / f"a{i}.py").write_text("x = 1\n" * 40_000)
    (tmp_path / "modules.py").write_text("import torch\ntorch.zeros(3)\n")
    assert scan.scan(tmp_path) == ["9 files of Python, of which 5 were looked at", "modules.py imports torch"]
