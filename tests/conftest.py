"""Fixtures that several test files share."""

import os
import signal
from pathlib import Path

import pytest

from imagefiles import cifar10_standin
from tests.questions import (  # noqa: F401 (hooks)
    pytest_ignore_collect,
    pytest_runtest_makereport,
    pytest_terminal_summary,
)

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in a shell's background: tests of Ctrl-C need it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CIFAR-10-format folder: 2,000 training and 400 test images of rendered shapes."""
    folder = tmp_path_factory.mktemp("standin") / "cifar-10-batches-py"
    cifar10_standin.make_standin(folder, train_size=2_000, test_size=400, seed=0)
    return folder


@pytest.fixture(scope="session")
def cifar10_dir() -> Path:
    """The real CIFAR-10, where CIFAR10_DIR names it."""
    if not os.environ.get("CIFAR10_DIR"):
        pytest.skip("CIFAR10_DIR is not set")
    return Path(os.environ["CIFAR10_DIR"])
