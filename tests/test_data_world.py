"""Data as people have them: other folders, names, file systems, URLs and proxies."""

import base64
import errno
import gzip
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import cifar10_utils
from cifar10_utils import DataError, get_cifar10
from imagefiles import cifar10_download
from imagefiles.cifar10_download import DownloadError, fetch
from imagefiles.cifar10_files import BATCH_FILES
from imagefiles.cifar10_standin import make_standin
from imagefiles.filling import whole_folder
from imagefiles.mnist import FILES, get_mnist
from tests.cifar10_folders import write_batches
from tests.loopback import closed_port, loopback, pack

pytestmark = pytest.mark.data
ROOT = Path(cifar10_utils.__file__).parent
SMALL = ["--train_size", "20", "--test_size", "10"]

# --- folders that hold something else


@pytest.mark.parametrize(("names", "found"), [
    (["train", "test", "meta", "file.txt~"], "which holds CIFAR-100, which is another data set"),
    (["cifar-100-python"], "which holds CIFAR-100"),
    (["data_batch_1.bin", "test_batch.bin", "batches.meta.txt"], "which holds the binary edition of CIFAR-10"),
    (["cifar-10-batches-mat"], "which holds the Matlab edition of CIFAR-10"),
    (["data_batch_1.mat", "test_batch.mat"], "which holds the Matlab edition of CIFAR-10"),
    (["cifar-10-python.tar.gz", "x"], "which holds cifar-10-python.tar.gz, not unpacked"),
    (["b.png", "a.png", "c", "d"], "which holds 'a.png', 'b.png', 'c' and 1 more"),
])  # fmt: skip
def test_another_data_set_is_named_and_the_advice_works(tmp_path, names, found, monkeypatch):
    folder = tmp_path / "my data"
    folder.mkdir()
    for name in names:
        (folder / name).touch()
    with pytest.raises(DataError, match=found) as error:
        get_cifar10(folder, download=False)
    _, by_fetch, by_standin = str(error.value).splitlines()
    inner = f"'{folder / 'cifar-10-batches-py'}'"
    assert f"fetch {inner}  (or put cifar-10-python.tar.gz into '{folder}')" in by_fetch and f"standin {inner}  " in by_standin
    assert cifar10_utils.main(["standin", inner.strip("'"), *SMALL]) == 0
    assert get_cifar10(folder, download=False).train.num_examples == 20  # with the same data_dir
    assert all((folder / name).exists() for name in names)


@pytest.mark.parametrize("name", [".DS_Store", "._data_batch_1", ".gitkeep"])
def test_hidden_files_do_not_fill_a_folder(tmp_path, name, capsys):
    (tmp_path / name).touch()
    with pytest.raises(DataError) as error:
        get_cifar10(tmp_path, download=False)
    assert str(error.value).startswith(f"no CIFAR-10 in {tmp_path}\n") and f"standin {tmp_path}  " in str(error.value)
    assert cifar10_utils.main(["standin", str(tmp_path), *SMALL]) == 0
    assert get_cifar10(tmp_path, download=False).test.num_examples == 10 and (tmp_path / name).exists()


def test_a_folder_within_the_batches_is_led_out(tmp_path):
    inside = write_batches(tmp_path) / "inside"
    inside.mkdir()
    (inside / "x").touch()
    with pytest.raises(DataError, match=f"which lies in {inside.parent}, where CIFAR-10 is"):
        get_cifar10(inside, download=False)


def test_a_file_for_a_folder(tmp_path):
    (tmp_path / "x").touch()
    with pytest.raises(DataError, match="x, which is a file") as error:
        get_cifar10(tmp_path / "x", download=False)
    assert f"fetch {tmp_path / 'cifar-10-batches-py'}  " in str(error.value)


def test_verify_names_another_data_set(tmp_path, capsys):
    (tmp_path / "data_batch_1.bin").touch()
    assert cifar10_utils.main(["verify", str(tmp_path)]) == 2
    last = capsys.readouterr().out.splitlines()[-1]
    assert f"{tmp_path}: it holds the binary edition" in last and f"fetch {tmp_path / 'cifar-10-batches-py'}" in last


# --- names


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_home_folder_is_expanded(home, capsys):
    assert cifar10_utils.main(["standin", "~/my data", *SMALL]) == 0
    assert cifar10_utils.main(["verify", "~/my data"]) == 0
    assert cifar10_utils.main(["fetch", "~/my data", "--or-standin"]) == 0
    out, err = capsys.readouterr()
    assert out.count(f"{home / 'my data'}: synthetic\n") == 3 and f"move '{home / 'my data'}' away, then" in err
    assert get_cifar10("~/my data", download=False).state == "synthetic"
    with pytest.raises(DataError, match=f"MNIST is not in {home / 'mnist'} "):
        get_mnist("~/mnist", download=False)
    assert [path.name for path in home.iterdir()] == ["my data"]


@pytest.mark.parametrize("read", [get_cifar10, get_mnist])
def test_the_home_of_nobody_is_one_line(home, read):
    with pytest.raises(DataError, match=r"^~nosuchuser: no such home folder; .* write ./~nosuchuser/x$"):
        read("~nosuchuser/x")
    assert not list(home.iterdir())


def test_relative_paths_are_shown_from_the_root(home, capsys):
    assert cifar10_utils.main(["standin", "a b/c", *SMALL]) == 0
    assert capsys.readouterr().out == f"{home / 'a b' / 'c'}: synthetic\n"
    (home / "a b" / "c" / "data_batch_2").unlink()
    with pytest.raises(DataError, match=f"move '{home / 'a b' / 'c'}' away, then: python cifar10_utils.py fetch '{home / 'a b' / 'c'}'"):
        get_cifar10("a b/c")


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()


@pytest.mark.parametrize("layout", ["{dotted}", "{dotted}.gz", "{name}/{name}", "{dotted}/{dotted}", "{name}/{dotted}",
                                    "{dotted}/{name}.gz", "raw/{dotted}"])  # fmt: skip
def test_mnist_as_mirrors_name_it(tmp_path, layout):
    for name, array in zip(FILES, (np.zeros((3, 28, 28), np.uint8), np.arange(3, dtype=np.uint8),
                                   np.ones((2, 28, 28), np.uint8), np.arange(2, dtype=np.uint8)), strict=True):
        path = tmp_path / layout.format(name=name, dotted=name.replace("-idx", ".idx"))
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(gzip.compress(idx(array)) if path.suffix == ".gz" else idx(array))
    data = get_mnist(tmp_path, one_hot=False, download=False)
    assert data.train.labels.tolist() == [0, 1, 2] and data.test.num_examples == 2


@pytest.mark.parametrize("shape", [(0, 2**32 - 1, 2**32 - 1), (2**32 - 1, 0, 2**32 - 1), (0, 28, 28)])
def test_idx_header_of_an_empty_giant(tmp_path, shape):
    for name in FILES:
        (tmp_path / name).write_bytes(struct.pack(">4I", 2051, *shape))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte holds nothing") as error:
        get_mnist(tmp_path, download=False)
    assert "\n" not in str(error.value)


# --- two stand-ins


def test_the_digest_tells_files_apart(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make_standin(tmp_path / name, 20, 10, seed)
    digests = [get_cifar10(tmp_path / name, validation_size=size).digest for name, size in (("a", 0), ("b", 5), ("c", 0))]
    assert digests[0] == digests[1] != digests[2] and len(digests[0]) == 32


# --- links, mount points, file systems without locks


def archive_of(standin: Path) -> bytes:
    return pack({name: (standin / name).read_bytes() if name != "readme.html" else b"" for name in cifar10_download.MEMBERS})


def fill(command: str, folder: Path, standin: Path) -> None:
    """Does what fetch or standin does to `folder`."""
    if command == "standin":
        make_standin(folder, 20, 10)
        return
    archive = archive_of(standin)
    with loopback() as serve:
        fetch(folder, [serve(archive).url], size=len(archive), md5=cifar10_download.hashlib.md5(archive).hexdigest())


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "cifar-10-batches-py"
    make_standin(folder, 20, 10)
    return folder


@pytest.fixture(autouse=True)
def loopback_needs_no_proxy(monkeypatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.mark.parametrize("command", ["fetch", "standin"])
@pytest.mark.parametrize("kind", ["to a folder", "to nothing", "of a folder above"])
def test_links_are_followed(tmp_path, tiny, command, kind):
    disk, home = tmp_path / "disk", tmp_path / "home"
    home.mkdir()
    disk.mkdir()
    link, real = home / "cifar", disk / "cifar"
    if kind == "of a folder above":
        (home / "linked").symlink_to(disk)
        link = home / "linked" / "cifar"
    else:
        link.symlink_to(real)
    if kind == "to a folder":
        real.mkdir()
    fill(command, link, tiny)
    assert get_cifar10(link, download=False).train.num_examples == 20
    assert {*BATCH_FILES, "batches.meta"} <= {path.name for path in real.iterdir()} and not real.is_symlink()
    assert sorted(path.name for path in disk.iterdir()) == ["cifar"] and len(list(home.iterdir())) == 1
    assert not [path for path in real.iterdir() if path.name.startswith(".") or path.suffix == ".part"]


@pytest.mark.parametrize("command", ["fetch", "standin"])
def test_an_existing_folder_is_kept(tmp_path, tiny, command, monkeypatch):
    """As a mount point must be, which can neither be renamed over nor have anything beside it on its file system."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    inode, real = folder.stat().st_ino, os.rename

    def rename(source, target):
        if Path(target) == folder:
            raise OSError(errno.EBUSY, "Device or resource busy")
        assert Path(source).is_relative_to(folder), "another file system"
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    fill(command, folder, tiny)
    assert folder.stat().st_ino == inode and get_cifar10(folder, download=False).train.num_examples == 20
    assert os.listdir(tmp_path) == ["mounted"]


def mounted(folder: Path) -> bool:
    return shutil.which("mount") is not None and not subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], capture_output=True, check=False).returncode


@pytest.mark.parametrize("command", ["fetch", "standin"])
def test_a_mount_point_is_filled(tmp_path, tiny, command):
    folder = tmp_path / "mounted"
    folder.mkdir()
    if not mounted(folder):
        pytest.skip("no file system may be mounted here")
    try:
        fill(command, folder, tiny)
        assert get_cifar10(folder, download=False).train.num_examples == 20
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_what_cannot_all_be_moved_leaves_nothing(tmp_path, monkeypatch):
    real = os.rename

    def rename(source, target):
        if Path(target).name == "b":
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(OSError, match="No space left"), whole_folder(tmp_path) as made:
        for name in "abc":
            (made / name).touch()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="file locks")
@pytest.mark.parametrize("code", ["ENOSYS", "ENOLCK", "EINVAL", "EOPNOTSUPP"])
def test_a_file_system_without_locks(tmp_path, tiny, code, monkeypatch, capsys):
    import fcntl

    def flock(file, operation):
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    monkeypatch.setattr(fcntl, "flock", flock)
    fill("fetch", tmp_path / "a", tiny)
    assert get_cifar10(tmp_path / "a", download=False).train.num_examples == 20
    assert f"notice: {tmp_path} has no file locks ({os.strerror(getattr(errno, code))})" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="file locks")
def test_another_error_of_the_lock_is_told(tmp_path, tiny, monkeypatch):
    import fcntl

    def flock(file, operation):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(DownloadError, match="Input/output error"):
        fill("fetch", tmp_path / "a", tiny)


# --- passwords and proxies

SECRETS = ["http://user:s3cret@127.0.0.1:1/x", "https://user:s3cret@name.invalid/x", "user:s3cret@host/x",
           "http://user:s3/cret@127.0.0.1/x", "http://user:s3cret@127.0.0.1:port/x", "ftp://user:s3cret@127.0.0.1:1/x",
           "http://user:s3cret@[::1/x", "http://user:s3#cret@127.0.0.1:1/x", "http://user:s3?cret@127.0.0.1:1/x",
           "odd://user:s3cret@host/x", "http://127.0.0.1:1/x?token=s3cret", "http://user:s3cret@127.0.0.1:1/a b",
           "http://:s3cret@127.0.0.1:99999/x"]  # fmt: skip


@pytest.mark.parametrize("url", SECRETS)
def test_a_password_is_never_printed(tmp_path, url):
    code = ("import sys, cifar10_utils\nfrom imagefiles import cifar10_download as d\n"
            f"d.MIRROR = d.HOME = {closed_port()!r}\nsys.exit(cifar10_utils.main(['fetch', {str(tmp_path / 'a')!r}]))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False,
                          env={**os.environ, "CIFAR10_URL": url})
    said = done.stdout + done.stderr
    assert done.returncode == 2 and len(said.splitlines()) == 3, said
    assert "s3" not in said and "cret" not in said and "user:" not in said


def test_a_password_is_sent_to_its_host_alone(tmp_path, tiny):
    archive = archive_of(tiny)
    with loopback() as serve:
        first, second = serve(archive, "redirect away"), serve(archive)
        first.elsewhere = second.url
        fetch(tmp_path / "a", [first.url.replace("://", "://us%40er:pass%2Fword@")], size=len(archive),
              md5=cifar10_download.hashlib.md5(archive).hexdigest())
    assert first.credentials == [f"Basic {base64.b64encode(b'us@er:pass/word').decode()}"]
    assert second.credentials == [None]


@pytest.mark.parametrize("proxy", ["http://user:s3cret@127.0.0.1:{port}", "http://127.0.0.1:{port}", "127.0.0.1:{port}"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_fails_is_named(tmp_path, proxy, scheme, monkeypatch):
    monkeypatch.delenv("no_proxy")
    monkeypatch.delenv("NO_PROXY", raising=False)
    port = closed_port().split(":")[2].split("/")[0]
    monkeypatch.setenv(f"{scheme}_proxy", proxy.format(port=port))
    with pytest.raises(DownloadError) as error:
        fetch(tmp_path / "a", [f"{scheme}://mirror.invalid/x"], progress=False)
    message = str(error.value)
    assert f"mirror.invalid: Connection refused (through the proxy 127.0.0.1:{port} of {scheme}_proxy)" in message
    assert "s3cret" not in message


def test_what_a_proxy_answers_is_told_with_its_name(tmp_path, monkeypatch):
    monkeypatch.delenv("no_proxy")
    monkeypatch.delenv("NO_PROXY", raising=False)
    with loopback() as serve:
        proxy = serve(b"", "404").url.rpartition("/")[0]
        monkeypatch.setenv("http_proxy", proxy)
        with pytest.raises(DownloadError, match=rf"mirror.invalid: HTTP 404 Not Found \(through the proxy {proxy[7:]} of"):
            fetch(tmp_path / "a", ["http://mirror.invalid/x"], progress=False)


@pytest.mark.parametrize("read", [get_cifar10, get_mnist])
def test_a_name_too_long_for_a_folder_is_one_line(read, tmp_path):
    with pytest.raises(DataError, match="cannot be read: File name too long; give another folder"):
        read(tmp_path / ("9" * 300))


@pytest.mark.skipif(os.name == "nt", reason="POSIX's signals")
@pytest.mark.parametrize("number", ["SIGTERM", "SIGHUP"])
def test_a_stand_in_that_is_ended_leaves_nothing_behind(tmp_path, number):
    with subprocess.Popen([sys.executable, str(ROOT / "cifar10_utils.py"), "standin", str(tmp_path / "there")],
                          stderr=subprocess.PIPE, text=True) as process:
        give_up = time.time() + 30
        while not os.listdir(tmp_path) and time.time() < give_up:
            time.sleep(0.02)
        assert os.listdir(tmp_path) and process.poll() is None
        process.send_signal(getattr(signal, number))
        assert process.wait(30) == 130 and process.stderr.read().count("\n") == 1
    assert not os.listdir(tmp_path)
