"""Where CIFAR-10 comes from when it is not there: `get_cifar10` and the command line over the download."""

import functools
import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import cifar10_utils
from cifar10_utils import DataError, get_cifar10
from imagefiles import cifar10_download
from imagefiles.cifar10_download import ARCHIVE_NAME, MEMBERS
from tests.loopback import Source, closed_port, loopback, pack

pytestmark = pytest.mark.data


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cifar10" / "cifar-10-batches-py"


@pytest.fixture
def serve(monkeypatch) -> Iterator[Callable[..., Source]]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with loopback() as start:
        yield start


@pytest.fixture(scope="session")
def whole_archive(standin) -> bytes:
    return pack({name: (standin / name).read_bytes() if name != "readme.html" else b"" for name in MEMBERS})


@pytest.fixture
def published(whole_archive, monkeypatch) -> bytes:
    """A small archive that is taken for the published one; the only sources are those that a test names."""
    expected = {"size": len(whole_archive), "md5": hashlib.md5(whole_archive).hexdigest()}
    monkeypatch.setattr(cifar10_download, "fetch", functools.partial(cifar10_download.fetch, **expected))
    monkeypatch.setattr(cifar10_download, "MIRROR", closed_port())
    monkeypatch.setattr(cifar10_download, "HOME", closed_port())
    monkeypatch.delenv("CIFAR10_URL", raising=False)
    return whole_archive


def test_get_cifar10_fetches(target, published, serve, monkeypatch):
    source = serve(published)
    monkeypatch.setenv("CIFAR10_URL", source.url)
    assert get_cifar10(target).test.num_examples == 400
    assert get_cifar10(target).test.num_examples == 400
    assert len(source.asked) == 1


def test_get_cifar10_without_a_network(target, published, monkeypatch):
    monkeypatch.setenv("CIFAR10_URL", closed_port())
    with pytest.raises(DataError) as error:
        get_cifar10(target)
    what, by_fetch, by_standin = str(error.value).splitlines()
    assert what.count("Connection refused") == 3
    assert f"cifar10_utils.py fetch {target}" in by_fetch and f"put {ARCHIVE_NAME} into {target.parent}" in by_fetch
    assert f"cifar10_utils.py standin {target}" in by_standin


def test_get_cifar10_asks_no_source_when_told_so(target, published, serve, monkeypatch):
    source = serve(published)
    monkeypatch.setenv("CIFAR10_URL", source.url)
    with pytest.raises(DataError):
        get_cifar10(target, download=False)
    assert source.asked == []


@pytest.mark.usefixtures("published")
class TestCommandLine:
    def test_fetch_fails(self, target, capsys):
        assert cifar10_utils.main(["fetch", str(target)]) == 2
        out, err = capsys.readouterr()
        assert out == "" and len(err.splitlines()) == 3 and "Connection refused" in err

    def test_fetch_then_found(self, target, published, serve, monkeypatch, capsys):
        monkeypatch.setenv("CIFAR10_URL", serve(published).url)
        assert cifar10_utils.main(["fetch", str(target), "--or-standin"]) == 0
        monkeypatch.setenv("CIFAR10_URL", closed_port())
        assert cifar10_utils.main(["fetch", str(target), "--or-standin"]) == 0
        assert capsys.readouterr().out.splitlines() == [f"{target}: synthetic"] * 2

    def test_or_standin(self, target, capsys, monkeypatch):
        from imagefiles import cifar10_standin

        real = cifar10_standin.make_standin
        monkeypatch.setattr(cifar10_standin, "make_standin", lambda folder: real(folder, 50, 20))
        assert cifar10_utils.main(["fetch", str(target), "--or-standin"]) == 0
        out, err = capsys.readouterr()
        assert out == f"{target}: synthetic\n"
        assert "Connection refused" in err and "NOT CIFAR-10 but the SYNTHETIC STAND-IN" in err
        assert get_cifar10(target, download=False).state == "synthetic"
        assert cifar10_utils.main(["fetch", str(target), "--or-standin"]) == 0
        assert "NOT CIFAR-10 but the SYNTHETIC STAND-IN" in capsys.readouterr().err
        assert cifar10_utils.main(["fetch", str(target)]) == 2

    def test_or_standin_does_not_hide_a_damaged_folder(self, target, standin, capsys):
        shutil.copytree(standin, target)
        (target / "data_batch_5").unlink()
        assert cifar10_utils.main(["fetch", str(target), "--or-standin"]) == 2
        assert "lacks data_batch_5" in capsys.readouterr().err

    def test_ctrl_c(self, target, capsys, monkeypatch):
        def interrupted(*arguments, **options):
            raise KeyboardInterrupt

        monkeypatch.setattr(cifar10_download, "fetch", interrupted)
        assert cifar10_utils.main(["fetch", str(target), "--or-standin"]) == 130
        assert "run it again to continue" in capsys.readouterr().err
