"""The cache of checksums: what it may answer, and when a file is hashed again."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from cifar10_utils import get_cifar10
from imagefiles import checksums, cifar10_files
from imagefiles.checksums import cache_file, md5_of
from imagefiles.cifar10_files import BATCH_FILES, load_folder
from tests.cifar10_folders import write_batches

pytestmark = pytest.mark.data


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    monkeypatch.setattr(checksums, "SMALL", 0)
    monkeypatch.setattr(checksums, "QUIET_SECONDS", 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = write_batches(tmp_path)
    time.sleep(0.05)  # longer than a file's times are rounded
    return made


@pytest.fixture
def hashed(monkeypatch) -> list[str]:
    """The MD5s that were computed."""
    done: list[str] = []

    def count(content: bytes) -> str:
        done.append(md5_of(content))
        return done[-1]

    monkeypatch.setattr(checksums, "md5_of", count)
    return done


def test_a_file_is_hashed_once(folder, hashed):
    first = load_folder(folder)
    assert sorted(hashed) == sorted(first.checksums) == sorted(md5_of((folder / name).read_bytes()) for name in BATCH_FILES)
    assert load_folder(folder).checksums == first.checksums and len(hashed) == 6
    assert [path.name for path in cache_file().parent.iterdir()] == ["checksums.json"]


def test_the_state_of_the_files_comes_from_it(folder, hashed, monkeypatch):
    monkeypatch.setattr(cifar10_files, "PUBLISHED_MD5", dict(zip(BATCH_FILES, load_folder(folder).checksums, strict=True)))
    del hashed[:]
    assert get_cifar10(folder).state == "published" and hashed == []


def rewrite(path: Path) -> None:
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-100] ^= 1  # a pixel
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # its size and time as before


def replace(path: Path) -> None:
    content = path.read_bytes()
    path.with_name("new").write_bytes(content)
    path.with_name("new").replace(path)


CHANGES = {"written again": rewrite, "replaced": replace, "touched": Path.touch}


@pytest.mark.skipif(os.name == "nt", reason="times of change")
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_file_is_hashed_again(folder, hashed, change):
    load_folder(folder)
    del hashed[:]
    CHANGES[change](folder / "data_batch_3")
    assert load_folder(folder).checksums[2] == md5_of((folder / "data_batch_3").read_bytes())
    assert len(hashed) == 1


def test_a_copy_of_the_folder_is_hashed(folder, hashed, tmp_path):
    load_folder(folder)
    load_folder(Path(shutil.copytree(folder, tmp_path / "copy")))
    assert len(hashed) == 12


def test_what_was_just_written_is_not_kept(folder, hashed, monkeypatch):
    monkeypatch.setattr(checksums, "QUIET_SECONDS", 10)
    for _ in range(2):
        load_folder(folder)
    assert len(hashed) == 12 and not cache_file().exists()


def test_small_files_are_hashed_each_time(folder, hashed, monkeypatch):
    monkeypatch.setattr(checksums, "SMALL", 8 * 2**20)
    for _ in range(2):
        load_folder(folder)
    assert len(hashed) == 12 and not cache_file().exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"a": 1}', b"[" * 100_000, b"\xff", b"null", "odd"])
def test_a_damaged_cache_is_hashed_over(folder, hashed, content):
    good = load_folder(folder).checksums
    if content == "odd":
        content = json.dumps({os.path.realpath(folder / name): ["x"] for name in BATCH_FILES}).encode()
    cache_file().write_bytes(content)
    del hashed[:]
    assert load_folder(folder).checksums == good and len(hashed) == 6
    assert load_folder(folder).checksums == good and len(hashed) == 6


@pytest.mark.skipif(os.name == "nt", reason="owners")
def test_a_cache_of_another_user_is_not_read(folder, hashed, monkeypatch):
    load_folder(folder)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    load_folder(folder)
    assert len(hashed) == 12


@pytest.mark.parametrize("place", ["file", "no home"])
def test_no_cache_is_no_obstacle(folder, tmp_path, place, monkeypatch):
    if place == "file":
        (tmp_path / "cache").touch()
    else:
        def homeless():
            raise RuntimeError

        monkeypatch.setattr(Path, "home", homeless)
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")
        monkeypatch.setenv("LOCALAPPDATA", "")
    assert get_cifar10(folder).state == "unpublished"


def test_the_cache_stays_small(folder, monkeypatch):
    monkeypatch.setattr(checksums, "MAX_ENTRIES", 3)
    load_folder(folder)
    assert len(json.loads(cache_file().read_text())) == 3
