"""CIFAR-10's files: pickles in general, and files that are damaged, hostile or mixed up."""

import contextlib
import gzip
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cifar10_utils
from cifar10_utils import DataError, get_cifar10
from imagefiles.cifar10_files import BATCH_FILES
from imagefiles.cifar10_pickle import PickleRefused, read_pickle
from imagefiles.cifar10_standin import write_pickle
from imagefiles.mnist import read_idx
from tests.cifar10_folders import batch, write_batches

pytestmark = pytest.mark.data
ROOT = Path(cifar10_utils.__file__).parent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_batches(tmp_path)


# --- pickles


LABELS = {
    "list": list, "array": np.array, "floats": lambda labels: np.array(labels, float), "big": lambda labels: np.array(labels, ">i4"),
    "list of int64": lambda labels: list(np.array(labels)), "list of uint8": lambda labels: list(np.array(labels, np.uint8)),
    "list of float": lambda labels: [float(label) for label in labels],
}  # fmt: skip
PIXELS = {
    "as published": np.array, "int16": lambda pixels: pixels.astype(np.int16), "float32": lambda pixels: pixels.astype(">f4"),
    "int64": lambda pixels: pixels.astype(np.int64), "columns first": np.asfortranarray,
    "channels first": lambda pixels: pixels.reshape(-1, 3, 32, 32),
    "channels last": lambda pixels: pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1).copy(),
}  # fmt: skip


@pytest.mark.parametrize("pixels", PIXELS)
@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_batches_saved_again_by_python_3_are_read(folder, protocol, labels, pixels):
    content = batch(0)
    expected, numbers = content["data"], content["labels"]
    content = {b"data": PIXELS[pixels](expected), b"labels": LABELS[labels](numbers), b"batch_label": b"mine",
               b"names": [b"x", "y", (True, None, -7)]}  # fmt: skip
    (folder / "data_batch_1").write_bytes(pickle.dumps(content, protocol))
    data = get_cifar10(folder, one_hot=False)
    np.testing.assert_array_equal(data.train.pixels[:4].reshape(4, -1), expected)
    np.testing.assert_array_equal(data.train.labels[:4], numbers)
    assert data.train.pixels.dtype == np.uint8 and data.train.labels.dtype == np.int64


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
    assert read_pickle(data, list(content)) == {key: as_bytes(value) for key, value in content.items()}


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
    with pytest.raises(DataError, match="lacks data_batch_3; move"):
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
    "empty": (b"", "ends in the middle, or is not a pickle"),
    "text": (b"<!DOCTYPE html><html>Not found", "opcode"),
    "half": (GOOD[: len(GOOD) // 2], "ends in the middle"),
    "one byte short": (GOOD[:-1], "ends in the middle"),
    "protocol 0": (pickle.dumps(batch(1), 0), "pickle of protocol 0, which is text; save it again with protocol 2"),
    "protocol 6": (b"\x80\6}." + bytes(500), "opcode 0x80 at byte 0"),
    "a list": (pickle.dumps([1], 2), "does not hold a dictionary"),
    "no data": (write_pickle({"labels": [1]}), "holds no array 'data'"),
    "no labels": (write_pickle({"data": batch(1)["data"]}), "'labels'"),
    "data a list": (altered(data=[1, 2]), "holds no array 'data'"),
    "no images": (altered(data=np.zeros((0, 3072), np.uint8), labels=[]), r"shape \(0, 3072\)"),
    "other images": (altered(data=np.zeros((4, 784), np.uint8)), r"shape \(4, 784\)"),
    "flat": (altered(data=np.zeros(3072, np.uint8), labels=[1]), r"shape \(3072,\)"),
    "label 10": (altered(labels=[0, 1, 2, 10]), r"labels 0\.\.10, not all of them whole numbers in 0\.\.9"),
    "label -1": (altered(labels=[0, 1, 2, -1]), r"labels -1\.\.2"),
    "text labels": (altered(labels=["a", "b", "c", "d"]), "not integers"),
    "nested labels": (altered(labels=[[1], [2], [3], [4]]), "not integers"),
    "labels no list": (altered(labels="abcd"), "not integers"),
    "few labels": (altered(labels=[0, 1, 2]), r"4 images, but labels of shape \(3,\)"),
    "fractions": (pickle.dumps({**batch(1), "data": np.full((4, 3072), 0.5)}, 2), "float64 pixels 0.5..0.5, not all of"),
    "not numbers": (pickle.dumps({**batch(1), "data": np.full((4, 3072), np.nan)}, 2), "float64 pixels nan"),
    "pixels of 256": (pickle.dumps({**batch(1), "data": np.full((4, 3072), 256)}, 2), r"int64 pixels 256\.\.256"),
    "CIFAR-100": (pickle.dumps({"data": batch(1)["data"], "fine_labels": [1, 2, 3, 4], "coarse_labels": [1, 1, 1, 1]}, 2),
                  "is of CIFAR-100, not of CIFAR-10"),
    "objects": (pickle.dumps({**batch(1), "data": np.array([{}, []], object)}, 2), "something other than numbers"),
    "text array": (pickle.dumps({**batch(1), "data": np.array(["a"])}, 2), "something other than numbers"),
    "other byte order": (state_of(b"(K\x01t", code=b"i4", order=b"="), "something other than numbers"),
    # hostile
    "shape beyond the bytes": (state_of(HUGE), "brings 4 bytes"),
    "negative shape": (state_of(b"(J\xff\xff\xff\xffJ\xfc\xff\xff\xfft"), "impossible shape"),
    "nested shape": (state_of(b"(N" + b"\x85" * 100_000 + b"t"), "impossible shape"),
    "memo at 2**31": (b"\x80\x02}r\xff\xff\xff\x7f}r\xff\xff\xff\xff." + bytes(500), "opcode 0x72 at byte 3"),
    "memo at 2**18": (b"\x80\x02}r\0\0\4\0." + bytes(500), "opcode 0x72 at byte 3"),
    "text memo": (b"\x80\x02}p99999999999\n.", "opcode 0x70 at byte 3"),
    "string of 2 GB": (b"\x80\x02}(T\xff\xff\xff\x7fabc", "ends in the middle"),
    "string of -1": (b"\x80\x02}(T\xff\xff\xff\xffabcu.", "ends in the middle"),
    "bytes of 2**62": (b"\x80\4}(\x8e" + (2**62).to_bytes(8, "little") + b"abcu.", "ends in the middle"),
    "bytearray of 2**62": (b"\x80\5}(\x96" + (2**62).to_bytes(8, "little") + b"abcu.", "ends in the middle"),
    "frame of 2**62": (b"\x80\4\x95" + (2**62).to_bytes(8, "little") + b"}.", "holds no array"),
    "many frames": (b"\x80\4" + (b"\x95" + b"\xff" * 8) * 100_000 + b"].", "does not hold a dictionary"),
    "nested tuple as key": (b"\x80\x02})" + b"\x85" * 200_000 + b"K\x01s.", "is not a pickle of a batch"),
    "nested tuple in a set": (b"\x80\4\x8f(" + b")" + b"\x85" * 200_000 + b"\x90.", "opcode 0x8f at byte 2"),
    "keys of one hash": (b"\x80\2}(" + b"".join(b"\x8a\x08" + (n * (2**61 - 1)).to_bytes(8, "little") + b"N" for n in range(4))
                         + b"u.", "is not a pickle of a batch"),
    "images in lists": (pickle.dumps({**batch(1), "data": np.full((400, 3072), 7).tolist()}, 4),
                        r"bytes beside arrays; images must be one, as np.asarray\(images, np.uint8\) makes it"),
    "nested lists": (b"\x80\x02" + b"]" * 500_001 + b"a" * 500_000 + b".", "more than 1,048,576 bytes"),
    "dictionaries": (b"\x80\x02" + b"}" * 500_001 + b".", "more than 1,048,576 bytes"),
    "marks": (b"\x80\x02" + b"(" * 1_100_000, "more than 1,048,576 bytes"),
    "tuples": (b"\x80\x02N" + b"\x85" * 2_000_000 + b".", "more than 1,048,576 bytes"),
    "long number": (b"\x80\2\x8b" + (2**30).to_bytes(4, "little") + b"\1" * 1000 + b".", "opcode 0x8b at byte 2"),
    "text number": (b"\x80\2L" + b"9" * 100_000 + b"L\n.", "opcode 0x4c at byte 2"),
    "extension": (b"\x80\2\x82\x01.", "opcode 0x82 at byte 2"),
    "persistent": (b"\x80\2Pa\n.", "opcode 0x50 at byte 2"),
    "reference of ours": (b"\x80\2}K\0Q.", "opcode 0x51 at byte 5"),
    "new object": (b"\x80\2cnumpy\nndarray\n)\x81.", "opcode 0x81"),
    "buffer": (b"\x80\5\x97.", "opcode 0x97"),
    "state of a list": (b"\x80\2]}(U\x01aK\x01ub.", "is not a pickle of a batch"),
    "state in slots": (b"\x80\2cnumpy\ndtype\nN}(U\x08__call__K\x01u\x86b.", "is not a pickle of a batch"),
    "state of a dictionary": (b"\x80\2}N}(U\x07contentK\x01u\x86b.", "is not a pickle of a batch"),
    "call of a call": (b"\x80\2cnumpy\ndtype\n)R)R.", "is not a pickle of a batch"),
    "calls within calls": (b"\x80\2}U\x04datac_codecs\nencode\nq\0N" + b"q\1" + b"h\0h\1\x85Rq\1" * 100_000 + b"s.",
                           "is not a pickle of a batch"),
    "encode again and again": (
        b"\x80\x02}(U\x06labelsK\x01U\x04datac_codecs\nencode\nq\x00X\x10\x27\x00\x00" + b"a" * 10_000
        + b"q\x01X\x06\x00\x00\x00latin1q\x02\x86R" + b"h\x00h\x01h\x02\x86R" * 5_000 + b"u.",
        "is not a pickle of a batch|holds no array",
    ),
    "labels encoded again and again": (
        b"\x80\2}U\6labels](c_codecs\nencode\nX\x80\x96\x98\0" + b"a" * 10_000_000 + b"X\6\0\0\0latin1\x86Rq\0"
        + b"h\0" * 100_000 + b"es.", "is not a pickle of a batch"),
    "keys encoded again and again": (
        b"\x80\2}(c_codecs\nencode\nX\x80\x96\x98\0" + b"a" * 10_000_000 + b"X\6\0\0\0latin1\x86Rq\0N"
        + b"h\0N" * 100_000 + b"u.", "is not a pickle of a batch"),
    "numbers of the same bytes": (
        b"\x80\2}U\6labels](cnumpy.core.multiarray\nscalar\nq\3cnumpy\ndtype\nU\2u1K\0K\1\x87R(K\3U\1|NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\0tbq\1c_codecs\nencode\nX\x80\x96\x98\0" + b"a" * 10_000_000 + b"X\6\0\0\0latin1\x86Rq\2\x86Rq\4"
        + b"h\3h\1h\2\x86R" * 50_000 + b"es.", "is not a pickle of a batch"),
    "long arguments again and again": (
        b"\x80\2}U\4datacnumpy\ndtype\nq\0(" + b"N" * 200_000 + b"tq\1R" + b"h\0h\1R0"[:-1] * 100_000 + b"s.",
        "is not a pickle of a batch"),
    "many calls": (b"\x80\2}U\4datacnumpy\ndtype\nq\0)R(" + b"h\0)R" * 250_000 + b"ts.", "is not a pickle of a batch"),
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


NO_PICKLE = {  # what comes in the place of a file, and the words for it
    b"<!DOCTYPE html><title>Sign in": "a web page", b"\n  <html>": "a web page", b"<?xml version='1.0'?>": "a web page",
    b"version https://git-lfs.github.com/spec/v1\noid": "a pointer of Git LFS, without the file",
    gzip.compress(GOOD): "gzip data", b"BZh91AY&SY": "bzip2 data", b"\xfd7zXZ\0": "xz data",
    b"PK\3\4": "a ZIP archive, as np.savez and torch.save write", b"\x93NUMPY\1\0": "an array of np.save",
    b"\x89HDF\r\n": "HDF5", b"\x89PNG\r\n": "a picture", b"\xff\xd8\xff\xe0": "a picture",
    bytes(3000): "zeros, as an interrupted copy leaves them"}


@pytest.mark.parametrize("content", NO_PICKLE, ids=NO_PICKLE.values())
def test_a_file_of_another_kind_is_named(folder, content):
    (folder / "data_batch_2").write_bytes(content)
    with pytest.raises(DataError, match=f"data_batch_2 .*; it looks like {NO_PICKLE[content]}; move"):
        get_cifar10(folder)
    (folder / "idx").write_bytes(content)
    with pytest.raises(DataError, match=f"idx does not begin .*; it looks like {NO_PICKLE[content]}; fetch it again"):
        read_idx(folder / "idx", 2051)


MEMORY = """
import sys
from imagefiles.cifar10_pickle import PickleRefused, read_pickle
from tests.test_data_files import UNSOUND
def peak(): return int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) // 1024
before = peak()
for case, (content, _) in UNSOUND.items():
    try:
        read_pickle(content, ['data', 'labels', 'batch_label'])
    except PickleRefused:
        pass
    assert peak() - before < 150, case  # MiB
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads VmHWM")
def test_unsound_files_take_no_memory():
    done = subprocess.run([sys.executable, "-c", MEMORY], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


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
        read_pickle(b"\x80\x02}U\x04data" + opcodes[:-1] + b"s.", ["data"])


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
        assert isinstance(read_pickle(content, ["data", "labels", "batch_label"]), dict)


def test_directory_pipe_and_giant_are_refused(folder):
    path = folder / "data_batch_4"
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match="data_batch_4 is not a file"):
        get_cifar10(folder)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(DataError, match="data_batch_4 is not a file"):
        get_cifar10(folder)
    path.unlink()
    with path.open("wb") as file:
        file.truncate(300 * 2**20)
    with pytest.raises(DataError, match="314,572,800 bytes"):
        get_cifar10(folder)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root reads every file")
def test_unreadable_file(folder):
    (folder / "data_batch_4").chmod(0)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        get_cifar10(folder)


def test_read_error_is_named(folder, monkeypatch):
    def fail(self, *arguments, **options):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "open", fail)
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
    assert status == 2 and verdict["whole"].startswith("not as it should be; move")
    assert verdict["data_batch_3"] == "missing" and "data_batch_4 has opcode" in verdict["data_batch_4"]

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
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.endswith("(see --help)\n") and error.count("\n") == 1
