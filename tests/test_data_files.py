"""CIFAR-10's files: every one that is not as it should be, and the pickles in general."""

import contextlib
import os
import pickle
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cifar10_utils
from cifar10_utils import DataError, get_cifar10
from imagefiles.cifar10_files import BATCH_FILES
from imagefiles.cifar10_pickle import PickleRefused, read_pickle, write_pickle
from tests.cifar10_folders import batch, write_batches

pytestmark = pytest.mark.data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_batches(tmp_path)


# --- pickles


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("as_array", [False, True])
def test_pickles_of_python_3_are_read(folder, protocol, as_array):
    content = batch(0)
    expected = content["data"]
    labels = np.array(content["labels"]) if as_array else content["labels"]
    content = {b"data": expected, b"labels": labels, b"batch_label": b"mine", b"names": [b"x", "y", (True, None, -7)]}
    (folder / "data_batch_1").write_bytes(pickle.dumps(content, protocol))
    np.testing.assert_array_equal(get_cifar10(folder).train.pixels[:4].reshape(4, -1), expected)


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(
        st.text(st.characters(max_codepoint=255), max_size=300),
        st.recursive(
            st.integers(-(2**31), 2**31 - 1) | st.text(st.characters(max_codepoint=255), max_size=300),
            lambda inner: st.lists(inner, max_size=5),
        ),
        max_size=4,
    )
)
def test_what_is_written_is_read_by_python_and_by_us(content):
    def as_bytes(value):
        if isinstance(value, list):
            return [as_bytes(item) for item in value]
        return value.encode("latin1") if isinstance(value, str) else value

    data = write_pickle(content)
    assert pickle.loads(data, encoding="latin1") == content
    assert read_pickle(data) == {key: as_bytes(value) for key, value in content.items()}


# --- files that are not as they should be


def test_nothing_there_says_what_to_do(tmp_path):
    with pytest.raises(DataError) as error:
        get_cifar10(tmp_path / "none", download=False)
    what, fetch, standin = str(error.value).splitlines()
    assert "no CIFAR-10 in" in what
    assert f"cifar10_utils.py fetch {tmp_path / 'none'}" in fetch
    assert f"cifar10_utils.py standin {tmp_path / 'none'}" in standin


def test_one_file_missing_is_not_fetched_over(folder):
    (folder / "data_batch_3").unlink()
    with pytest.raises(DataError, match="lacks data_batch_3; remove"):
        get_cifar10(folder)


GOOD = write_pickle(batch(1))


def altered(**changes) -> bytes:
    return write_pickle({**batch(1), **changes})


def state_of(shape: bytes, data: bytes = b"U\x04abcd", code: bytes = b"u1", order: bytes = b"|") -> bytes:
    """A dictionary whose 'data' is an array that says it has this shape."""
    dtype = b"cnumpy\ndtype\n(U\x02" + code + b"K\x00K\x01tR(K\x03U\x01" + order + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01"
    return b"\x80\x02}(U\x04data" + array + shape + dtype + b"\x89" + data + b"tbu."


HUGE = b"(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ft"
UNSOUND = {
    "empty": (b"", "ends in the middle, or is no pickle"),
    "text": (b"<!DOCTYPE html><html>Not found", "opcode"),
    "half": (GOOD[: len(GOOD) // 2], "ends in the middle"),
    "one byte short": (GOOD[:-1], "ends in the middle"),
    "protocol 5": (pickle.dumps({}, 5), "pickle protocol 5"),
    "a list": (pickle.dumps([1], 2), "holds no dictionary"),
    "no data": (write_pickle({"labels": [1]}), "holds no array 'data'"),
    "no labels": (write_pickle({"data": batch(1)["data"]}), "'labels'"),
    "data a list": (altered(data=[1, 2]), "holds no array 'data'"),
    "no images": (altered(data=np.zeros((0, 3072), np.uint8), labels=[]), r"shape \(0, 3072\)"),
    "other images": (altered(data=np.zeros((4, 784), np.uint8)), r"shape \(4, 784\)"),
    "flat": (altered(data=np.zeros(3072, np.uint8), labels=[1]), r"shape \(3072,\)"),
    "label 10": (altered(labels=[0, 1, 2, 10]), r"labels 0\.\.10"),
    "label -1": (altered(labels=[0, 1, 2, -1]), r"labels -1\.\.2"),
    "text labels": (altered(labels=["a", "b", "c", "d"]), "no integers"),
    "nested labels": (altered(labels=[[1], [2], [3], [4]]), "no integers"),
    "labels no list": (altered(labels="abcd"), "no integers"),
    "few labels": (altered(labels=[0, 1, 2]), r"4 images, but labels of shape \(3,\)"),
    "floats": (pickle.dumps({"data": np.zeros((4, 3072))}, 2), "is no pickle of a batch"),
    "columns first": (pickle.dumps({"data": np.zeros((4, 3072), np.uint8, "F")}, 2), "laid out in rows"),
    "objects": (pickle.dumps({"data": np.array([{}, []], object)}, 2), "is no pickle of a batch"),
    "other byte order": (state_of(b"(K\x01t", code=b"i4", order=b">"), "byte order"),
    # hostile
    "shape beyond the bytes": (state_of(HUGE), "brings 4 bytes"),
    "negative shape": (state_of(b"(J\xff\xff\xff\xffJ\xfc\xff\xff\xfft"), "laid out in rows"),
    "memo at 2**31": (b"\x80\x02}r\xff\xff\xff\x7f}r\xff\xff\xff\xff.", "holds no array"),
    "string of 2 GB": (b"\x80\x02}(T\xff\xff\xff\x7fabc", "ends in the middle"),
    "string of -1": (b"\x80\x02}(T\xff\xff\xff\xffabcu.", "ends in the middle"),
    "nested tuple as key": (b"\x80\x02})" + b"\x85" * 200_000 + b"K\x01s.", "is no pickle of a batch"),
    "nested lists": (b"\x80\x02" + b"]" * 500_001 + b"a" * 500_000 + b".", "opcodes"),
    "marks": (b"\x80\x02" + b"(" * 1_000_001, "opcodes"),
    "encode again and again": (
        b"\x80\x02c_codecs\nencode\nq\x00X\x10\x27\x00\x00" + b"a" * 10_000 + b"q\x01X\x06\x00\x00\x00latin1q\x02"
        + b"h\x00h\x01h\x02\x86R" * 5_000 + b".",
        "unpacks to more than the file holds",
    ),
    "list within itself": (b"\x80\x02}(U\x06labels]q\x00h\x00aU\x04data" + GOOD[GOOD.index(b"cnumpy.core") :], "integers"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNSOUND)
def test_unsound_file(folder, case):
    content, message = UNSOUND[case]
    (folder / "data_batch_2").write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        get_cifar10(folder)
    assert str(folder / "data_batch_2") in str(error.value)
    assert f"cifar10_utils.py fetch {folder}" in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000


class Call:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


HOSTILE = {
    "os.system": lambda marker: Call(os.system, f"touch {marker}"),
    "open": lambda marker: Call(open, str(marker), "w"),
    "eval": lambda marker: Call(eval, f"open({str(marker)!r}, 'w')"),
    "subprocess.Popen": lambda marker: Call(subprocess.Popen, ("touch", str(marker))),
    "numpy.save": lambda marker: Call(np.save, str(marker), 1),
    "numpy.memmap": lambda marker: Call(np.memmap, str(marker), "u1", "w+", 0, 10),
    "getattr": lambda marker: Call(getattr, str(marker), "ndarray"),
}


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file_executes_nothing(folder, tmp_path, name, protocol):
    marker = tmp_path / "executed"
    content = pickle.dumps({"data": HOSTILE[name](marker), "labels": [1]}, protocol)
    (folder / "test_batch").write_bytes(content)
    with pytest.raises(DataError, match="test_batch"):
        get_cifar10(folder)
    assert not marker.exists()


@pytest.mark.parametrize("opcodes", [b"c_codecs\nencode\n(U\x03abcU\x05utf-8tR.", b"cnumpy\nndarray\n(K\x05tR.",
                                     b"cnumpy\ndtype\n(U\x02u1tR(K\x03U\x01|N}tb}b.", b"(i__main__\nX\n.", b"K\x01R."])  # fmt: skip
def test_allowed_names_do_nothing_else(opcodes):
    with pytest.raises(PickleRefused):
        read_pickle(b"\x80\x02" + opcodes)


def test_hostile_name_is_named(folder):
    (folder / "data_batch_1").write_bytes(pickle.dumps({"data": Call(os.system, "true")}, 2))
    with pytest.raises(DataError, match=r"asks for '(posix|nt)\.system', which no batch file needs"):
        get_cifar10(folder)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_damaged_bytes_are_read_or_refused(data):
    content = bytearray(write_pickle({**batch(0, n=1), "data": np.zeros((1, 12), np.uint8)}))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = bytes(content[: data.draw(st.integers(0, len(content)))])
    with contextlib.suppress(PickleRefused):
        assert isinstance(read_pickle(content), dict)


def test_directory_pipe_and_giant_are_refused(folder):
    path = folder / "data_batch_4"
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match="data_batch_4 is no file"):
        get_cifar10(folder)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(DataError, match="data_batch_4 is no file"):
        get_cifar10(folder)
    path.unlink()
    with path.open("wb") as file:
        file.truncate(100 * 2**20)
    with pytest.raises(DataError, match="104,857,600 bytes"):
        get_cifar10(folder)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root reads every file")
def test_unreadable_file(folder):
    (folder / "data_batch_4").chmod(0)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        get_cifar10(folder)


def test_read_error_is_named(folder, monkeypatch):
    def fail(self):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(DataError, match="data_batch_1 cannot be read: Input/output error"):
        get_cifar10(folder)


def test_swapped_files(folder):
    first, test = folder / "data_batch_1", folder / "test_batch"
    content = first.read_bytes()
    first.write_bytes(test.read_bytes())
    with pytest.raises(DataError, match="data_batch_1 holds the 'testing batch 1 of 1'"):
        get_cifar10(folder)
    test.write_bytes(content)
    with pytest.raises(DataError, match="data_batch_1 holds the 'testing batch 1 of 1'"):
        get_cifar10(folder)


def test_copied_file_without_a_title(folder):
    content = batch(0)
    del content["batch_label"]
    for name in ("data_batch_2", "data_batch_5"):
        (folder / name).write_bytes(write_pickle(content))
    with pytest.raises(DataError, match="data_batch_5 is a copy of data_batch_2"):
        get_cifar10(folder)


def test_mixture_with_the_standin(folder, standin):
    (folder / "data_batch_3").write_bytes((standin / "data_batch_3").read_bytes())
    with pytest.raises(DataError, match="mixes files of CIFAR-10 with the stand-in's"):
        get_cifar10(folder)


def test_foreign_meta_file(folder):
    (folder / "batches.meta").write_bytes(write_pickle({"label_names": ["a", "b"]}))
    with pytest.raises(DataError, match=r"batches\.meta does not name ten classes"):
        get_cifar10(folder)


# --- verify


def verify(folder: Path, capsys) -> tuple[int, dict[str, str]]:
    status = cifar10_utils.main(["verify", str(folder)])
    *files, whole = capsys.readouterr().out.splitlines()
    return status, {**dict(line.split(maxsplit=1) for line in files), "whole": whole.removeprefix(f"{folder}: ")}


def test_verify(folder, capsys):
    (folder / "batches.meta").write_bytes(write_pickle({"label_names": list("abcdefghij")}))
    status, verdict = verify(folder, capsys)
    assert status == 0 and set(verdict.values()) == {"unpublished"} and len(verdict) == 8

    (folder / "data_batch_3").unlink()
    (folder / "data_batch_4").write_bytes(b"x")
    status, verdict = verify(folder, capsys)
    assert status == 2 and verdict["whole"].startswith("not as it should be; remove")
    assert verdict["data_batch_3"] == "missing" and "data_batch_4 has an opcode" in verdict["data_batch_4"]

    assert cifar10_utils.main(["verify", str(folder.parent)]) == 2  # as fetch, it finds them in the folder inside
    assert f"{folder}: not as it should be" in capsys.readouterr().out
    (folder / folder.name).mkdir()  # and only where the folder itself has none of them
    assert cifar10_utils.main(["verify", str(folder)]) == 2
    assert f"{folder}: not as it should be" in capsys.readouterr().out

    status, verdict = verify(folder / "none", capsys)
    assert status == 2 and set(verdict) > set(BATCH_FILES) and "nothing there; to fetch it" in verdict["whole"]


def test_verify_sees_swapped_files(folder, capsys):
    (folder / "batches.meta").write_bytes(write_pickle({"label_names": list("abcdefghij")}))
    (folder / "data_batch_1").write_bytes((folder / "data_batch_2").read_bytes())
    status, verdict = verify(folder, capsys)
    assert status == 2 and "holds the 'training batch 2 of 5'" in verdict["whole"]


@pytest.mark.parametrize("flags", [["--help"], ["fetch", "--help"], ["verify", "--help"], ["standin", "--help"]])
def test_help_teaches(flags, capsys):
    with pytest.raises(SystemExit) as stop:
        cifar10_utils.main(flags)
    assert stop.value.code == 0
    text = capsys.readouterr().out
    if flags == ["--help"]:
        for line in ("cifar10_utils.py fetch ", "cifar10_utils.py verify DIR", "cifar10_utils.py standin DIR", "CIFAR10_URL"):
            assert line in text
    else:
        assert "DIR" in text


@pytest.mark.parametrize("flags", [[], ["nonsense"], ["verify", "--nonsense"], ["standin", "--seed", "x"]])
def test_wrong_flags(flags, capsys):
    with pytest.raises(SystemExit) as stop:
        cifar10_utils.main(flags)
    assert stop.value.code == 2 and "usage" in capsys.readouterr().err
