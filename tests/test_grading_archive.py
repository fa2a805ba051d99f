"""Submissions as they come in, ZIP files and folders: nothing leaves its folder, sizes are counted, not believed."""

import io
import os
import stat
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from grading_help import MODULES, submission

from grading import archive
from grading.archive import Unreadable
from grading.checks_scripts import Run
from grading.inputs import Inputs
from grading.replies import Reply, read_arrays
from grading.submission import Submission

pytestmark = [pytest.mark.grading]

# ---------------------------------------------------------------- archives


def zipped(path: Path, members: dict[str, bytes | str], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def symlink(name: str, target: str) -> tuple[zipfile.ZipInfo, str]:
    member = zipfile.ZipInfo(name)
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member, target


def test_nested_folder_is_found(tmp_path):
    path = zipped(tmp_path / "doe_assignment1.zip", {
        "doe/__MACOSX/modules.py": "", "doe/old/modules.py": "", "doe/final/code/modules.py": "x",
        "doe/final/code/mlp_numpy.py": "", "doe/report.pdf": "", "doe/final/code/.git/config": ""})
    taken = archive.take_in(path, tmp_path / "in")
    assert taken.code == tmp_path / "in" / "doe" / "final" / "code"
    assert taken.no_report() == "" and taken.pdfs == ["report.pdf"]
    assert sorted(os.listdir(taken.code)) == ["mlp_numpy.py", "modules.py"]


def test_no_path_leaves_the_folder(tmp_path):
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name in ("../out.py", "a/../../out.py", "/out.py", "..\\out.py", "C:\\out.py", "\\\\host\\out.py"):
            file.writestr(name, "escaped")
        file.writestr(*symlink("link.py", "/etc/passwd"))
        file.writestr(*symlink("folder", "/etc"))
        file.writestr("modules.py", "")
    taken = archive.take_in(path, tmp_path / "deep" / "in")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["deep", "evil.zip", "in", "modules.py"]
    assert taken.notes == ["2 links left out", "6 paths outside its folder left out"]


def test_links_in_a_folder_are_left_out(tmp_path):
    folder = submission(tmp_path / "sub")
    (folder / "secret.py").symlink_to("/etc/passwd")
    (folder / "up").symlink_to("/")
    os.mkfifo(folder / "pipe.py")
    taken = archive.take_in(folder, tmp_path / "in")
    assert sorted(os.listdir(taken.code)) == ["mlp_numpy.py", "modules.py"]
    assert taken.notes == ["2 links left out", "1 special file left out"]


@pytest.mark.parametrize("members, reason", [
    ({"modules.py": bytes(20 * 2**20)}, "more than 200 times the bytes it is packed in"),
    ({"modules.py": bytes(50 * 2**20)}, "modules.py, which has more than 30 MB"),
    ({f"{i}.py": "" for i in range(5001)}, "more than 5000 files"),
    ({f"{i}/" + "a/" * 15 + "b.py": "" for i in range(400)}, "more than 5000 files and folders"),
    ({"readme.txt": "hello"}, "holds no modules.py"), ({}, "is empty: pack it again and upload it again"),
    ({"modules.py": "", "modules.py/x.py": ""}, "as file and folder")])
def test_caps(tmp_path, members, reason):
    with pytest.raises(Unreadable, match=reason):
        archive.take_in(zipped(tmp_path / "a.zip", members), tmp_path / "in")
    assert sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file()) < 40 * 2**20


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_only_methods_that_unpack_in_small_pieces(tmp_path, method):
    path = zipped(tmp_path / "a.zip", {"modules.py": bytes(1000)}, method)
    with pytest.raises(Unreadable, match="unusual method"):
        archive.take_in(path, tmp_path / "in")


@pytest.mark.parametrize("odd", ["a folder", "deep", "bytes"])
def test_an_odd_submission_is_the_only_one_that_suffers(tmp_path, odd):
    """Whatever goes wrong while it is taken in becomes its own error, or nothing at all."""
    folder = submission(tmp_path / "odd")
    if odd == "a folder":
        (folder / "cifar10_utils.py").mkdir()
        (folder / "cifar10_utils.py" / "x.py").touch()
    elif odd == "deep":
        (folder / "modules.py").write_text("x = a" + ".b" * 3000)
    else:
        (folder / os.fsdecode(b"\xff.py")).touch()
    archive.digest(folder)
    one = Submission(folder, "odd")
    one.take_in(tmp_path / "in")
    one.clear()


def test_sizes_are_counted_not_believed(tmp_path):
    path = zipped(tmp_path / "a.zip", {"modules.py": os.urandom(31 * 2**20)}, zipfile.ZIP_STORED)
    with pytest.raises(Unreadable, match="more than 30 MB"):
        archive.take_in(path, tmp_path / "in")
    lying = zipped(tmp_path / "b.zip", {"modules.py": bytes(40 * 2**20)}).read_bytes()
    small = struct.pack("<I", 100)
    for place in (lying.index(b"PK\x03\x04") + 22, lying.index(b"PK\x01\x02") + 24):
        lying = lying[:place] + small + lying[place + 4:]
    (tmp_path / "b.zip").write_bytes(lying)
    with pytest.raises(Unreadable):
        archive.take_in(tmp_path / "b.zip", tmp_path / "in2")


def damaged(kind: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("modules.py", MODULES)
    good = out.getvalue()
    start = good.index(b"PK\x03\x04") + 30 + len("modules.py")
    return {"text": b"this is not a ZIP file", "empty": b"", "cut": good[:len(good) // 2],
            "flipped": good[:start] + bytes(20) + good[start + 20:],
            "locked": good.replace(b"PK\x03\x04\x14\x00\x00\x00", b"PK\x03\x04\x14\x00\x01\x00").replace(
                b"PK\x01\x02\x14\x03\x14\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01\x00"),
            "method": good.replace(b"\x08\x00", b"\x63\x00")}[kind]


@pytest.mark.parametrize("kind", ["text", "empty", "cut", "flipped", "locked", "method"])
def test_damaged_archives(tmp_path, kind):
    (tmp_path / "a.zip").write_bytes(damaged(kind))
    with pytest.raises(Unreadable) as caught:
        archive.take_in(tmp_path / "a.zip", tmp_path / "in")
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- replies


def npz(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return out.getvalue()


def npy(header: str, content: bytes = b"") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


@pytest.mark.parametrize("content", [
    b"", b"no zip", npz({"a.npy": b"junk"}),
    npz({"a.npy": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}")}),
    npz({"a.npy": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}")}),
    npz({"a.npy": npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"cos\nsystem\n(S'true'\ntR.")}),
    npz({"a.npy": npy("{'descr': '<U9', 'fortran_order': False, 'shape': (1,)}", bytes(36))}),
    npz({"a.npy": bytes(10**6)}, zipfile.ZIP_DEFLATED), npz({"../a.txt": b"x"}),
    npz({f"{i}.npy": b"" for i in range(1001)})])
def test_no_odd_reply_is_taken(content):
    with pytest.raises((ValueError, zipfile.BadZipFile, EOFError, SyntaxError, OSError)):
        read_arrays(content)


def test_a_plain_reply_is_taken():
    out, array = io.BytesIO(), np.arange(6.0).reshape(2, 3)
    np.savez(out, a=array, b=np.float32(2))
    found = read_arrays(out.getvalue())
    assert (found["a"] == array).all() and found["b"] == 2


@pytest.mark.parametrize("events", [[[0, -3, 1, 1, 1, 1, 1, 1, 1]], [[0, 3, 1, 1]],
                                    [[0, 1, 1, 1, 1, 1, 1, 1, 1]] * 200_001])
def test_forged_events_are_refused_and_not_worked_through(events):
    with pytest.raises(ValueError, match="no training script"):
        Run(Reply(arrays={"events": np.array(events)}), Inputs())
