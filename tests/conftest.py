"""Fixtures that several test files share, and how the tests are shared out among processes."""

import os
import signal
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported: threads of two processes on two cores wait in turn
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from imagefiles import cifar10_standin
from tests.questions import (  # noqa: F401 (hooks)
    pytest_ignore_collect,
    pytest_runtest_makereport,
    pytest_terminal_summary,
)

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in a shell's background: tests of Ctrl-C need it
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Several processes take whole files, the next one in this order when they are free: the longest first.
LONGEST_FILES = ["test_grading_reference", "test_grading_handins", "test_grading_answers", "test_grading_probes", "test_readme", "test_grading_class",
                 "test_grading_nets", "test_bench", "test_train_autodiff", "test_rendezvous", "test_distributed", "test_faults", "test_grading_home",
                 "test_mutations", "test_grading_hostile", "test_handout", "test_grading_scripts"]

# make quick: every gradient check, and a short run of each script
QUICK_FILES = {"test_modules", "test_conv2d", "test_layernorm", "test_batchnorm", "test_autodiff", "test_mlp_numpy",
               "test_mlp_pytorch", "test_convnet"}
QUICK_RUNS = {"test_run_folder", "test_convnet_script_runs_and_resumes", "test_what_a_run_leaves",
              "test_linear_probe_learns_and_leaves_the_body", "test_a_study_leaves_its_table_its_best_and_its_pictures"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        function = item.name.partition("[")[0]
        if function in QUICK_RUNS or (item.path.stem in QUICK_FILES and not item.get_closest_marker("slow")):
            item.add_marker("quick")
    if "PYTEST_XDIST_WORKER" in os.environ:
        rank = {name: place for place, name in enumerate(LONGEST_FILES)}
        items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


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
