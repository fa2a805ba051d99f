"""Hand-ins as students write them: which files make up a right one, and right ones with a single fault.

tests/handins/ holds variants of every file of the assignment. A hand-in combines one variant of each; some variants only
go together (a script calls what its network offers). A fault is a right hand-in in which one piece of text is replaced.
"""

import shutil
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

POOL = Path(__file__).parent / "handins"
FILES = (
    "modules.py", "mlp_numpy.py", "train_mlp_numpy.py", "mlp_pytorch.py", "train_mlp_pytorch.py",
    "custom_layernorm.py", "convnet_pytorch.py", "train_convnet_pytorch.py",
)
QUESTIONS = ("1.2", "2.1", "3.1", "3.2b", "3.2c", "4a")

PDF = "%PDF-1.4\n1 0 obj <</Type /Catalog /Pages 2 0 R>> endobj\n2 0 obj <</Type /Pages /Kids [] /Count 0>> endobj\ntrailer <</Root 1 0 R>>\n%%EOF\n"


def combine(*variants: str, utils: str | None = None) -> dict[str, str]:
    """File name -> variant; the course's own cifar10_utils.py belongs to every hand-in."""
    files = dict(zip(FILES, variants, strict=True)) | {"cifar10_utils.py": "course"}
    return files | ({"utils.py": utils} if utils else {})


RIGHT: dict[str, dict[str, str]] = {
    "alder": combine(
        "row_formula", "one_list", "single_pass", "sequential", "device_single_pass",
        "mean_and_var_saved", "block_class", "sliced_batches"),
    "birch": combine(
        "jacobian_einsum", "two_lists", "results_folder", "modulelist_small_init", "double_precision",
        "xhat_saved", "functional", "next_batch_50"),
    "cedar": combine(
        "in_out_weight", "own_step", "next_batch_test", "log_softmax", "nll_loss",
        "row_parameters", "config_list", "weighted_batches"),
    "doum": combine(
        "column_bias", "dict_of_layers", "train_set_too", "softmax_output", "log_of_probabilities",
        "column_parameters", "no_bias_avgpool", "trainer_functions"),
    "elm": combine(
        "base_class", "pairs", "helpers_file", "batchnorm", "eval_modes",
        "jacobian_matrices", "width_argument", "filters_argument", utils="numpy_helpers"),
    "fir": combine(
        "no_cache_of_output", "setattr_names", "flag_sized_batches", "dropout_argument", "more_arguments",
        "xhat_saved", "add_module", "sliced_batches"),
    "ginkgo": combine(
        "jacobian_einsum", "one_list", "single_pass", "add_module", "device_single_pass",
        "row_parameters", "functional", "weighted_batches"),
    "hazel": combine(
        "in_out_weight", "two_lists", "results_folder", "ordered_dict", "eval_modes",
        "mean_and_var_saved", "block_class", "trainer_functions"),
    "iroko": combine(
        "column_bias", "own_step", "next_batch_test", "sequential", "double_precision",
        "jacobian_matrices", "add_module", "next_batch_50"),
    "juniper": combine(
        "base_class", "dict_of_layers", "train_set_too", "log_softmax", "nll_loss",
        "column_parameters", "block_class", "weighted_batches"),
    "kapok": combine(
        "row_formula", "pairs", "helpers_file", "softmax_output", "log_of_probabilities",
        "xhat_saved", "config_list", "sliced_batches", utils="numpy_helpers"),
    "larch": combine(
        "no_cache_of_output", "setattr_names", "flag_sized_batches", "batchnorm", "double_precision",
        "mean_and_var_saved", "no_bias_avgpool", "sliced_batches"),
    "maple": combine(
        "jacobian_einsum", "own_step", "next_batch_test", "dropout_argument", "more_arguments",
        "jacobian_matrices", "config_list", "next_batch_50"),
    "nutmeg": combine(
        "base_class", "setattr_names", "flag_sized_batches", "modulelist_small_init", "device_single_pass",
        "row_parameters", "functional", "trainer_functions"),
    "oak": combine(
        "column_bias", "one_list", "single_pass", "ordered_dict", "double_precision",
        "column_parameters", "add_module", "trainer_functions"),
    "pine": combine(
        "in_out_weight", "pairs", "helpers_file", "add_module", "eval_modes",
        "xhat_saved", "no_bias_avgpool", "weighted_batches", utils="numpy_helpers"),
    "quince": combine(
        "no_cache_of_output", "two_lists", "results_folder", "sequential", "eval_modes",
        "mean_and_var_saved", "functional", "sliced_batches"),
}


@dataclass(frozen=True)
class Packing:
    """How a hand-in lies on disk, beside its files of code."""

    zipped: bool = True
    inside: str = ""  # the folder within the archive (or folder) that holds everything
    empty: tuple[str, ...] = ()  # folders that the scripts save into
    extra: dict[str, str] = field(default_factory=dict)


PACKING: dict[str, Packing] = {
    "alder": Packing(extra={"report.pdf": PDF}),
    "birch": Packing(inside="birch_assignment1", empty=("results", "images"), extra={"birch_report.pdf": PDF}),
    "cedar": Packing(zipped=False, extra={"README.md": "# Assignment 1\n\nRun `python train_mlp_numpy.py`.\n"}),
    "doum": Packing(extra={"report.pdf": PDF, ".DS_Store": "\0\0\0\1Bud1\n", "__init__.py": ""}),
    "elm": Packing(inside="code", extra={"figures/mlp_numpy_loss.png": "\x89PNG\n", "report/report.pdf": PDF}),
    "fir": Packing(zipped=False, inside="assignment_1"),
    "ginkgo": Packing(extra={"requirements.txt": "numpy\ntorch\nmatplotlib\n"}),
    "hazel": Packing(inside="hazel_assignment1", empty=("results",), extra={"../__MACOSX/hazel_assignment1/._modules.py": "Mac OS X\n"}),
    "iroko": Packing(zipped=False, empty=("results", "images"), extra={"report.pdf": PDF}),
    "juniper": Packing(inside="assignment_1/code"),
    "kapok": Packing(extra={"__pycache__/modules.cpython-36.pyc": "\3\xf3\n"}),
    "larch": Packing(inside="larch", empty=("results", "cifar10/cifar-10-batches-py")),
    "maple": Packing(empty=("images",), extra={".ipynb_checkpoints/modules-checkpoint.py": "import numpy as np\n"}),
    "nutmeg": Packing(zipped=False, inside="nutmeg_assignment1", extra={"log_numpy.json": "{}\n"}),
    "oak": Packing(extra={"results/old.txt": "test accuracy 0.47\n", "report.pdf": PDF}),
    "pine": Packing(inside="pine_assignment1", extra={"plots.ipynb": '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 2}\n'}),
    "quince": Packing(empty=("results",)),
}


def source(name: str, file: str) -> str:
    """The text of one file of a right hand-in."""
    return (POOL / Path(file).stem / f"{RIGHT[name][file]}.py").read_text()


def lay_out(name: str, folder: Path, texts: dict[str, str], packing: Packing) -> Path:
    """Write the hand-in below folder; returns the archive or the folder a student would give."""
    root = Path(folder) / f"{name}_assignment1"
    code = root / packing.inside
    code.mkdir(parents=True)
    for file, text in (texts | packing.extra).items():
        path = code / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("latin1" if file in packing.extra else "utf8"))
    for empty in packing.empty:
        (code / empty).mkdir(parents=True, exist_ok=True)
    if not packing.zipped:
        return root
    archive = root.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as z:
        for path in sorted(root.rglob("*")):
            z.write(path, path.relative_to(root).as_posix())  # a folder becomes an entry too: empty ones are kept
    shutil.rmtree(root)
    return archive


def write(name: str, folder: Path) -> Path:
    """Lay the right hand-in of that name out below folder."""
    return lay_out(name, folder, {file: source(name, file) for file in RIGHT[name]}, PACKING[name])


@dataclass(frozen=True)
class Fault:
    name: str
    question: str
    base: str  # the right hand-in that is edited
    file: str
    old: str  # stands in that file exactly once
    new: str
    must_fail: tuple[str, ...]  # parts in plain words, from PARTS
    may_fail: tuple[str, ...] = ()  # parts that the fault may take along


def faulty_source(fault: Fault) -> str:
    return source(fault.base, fault.file).replace(fault.old, fault.new)


def write_fault(fault: Fault, folder: Path) -> Path:
    """Lay the hand-in with that fault out below folder."""
    texts = {file: source(fault.base, file) for file in RIGHT[fault.base]}
    texts[fault.file] = faulty_source(fault)
    return lay_out(fault.name, folder, texts, PACKING[fault.base])
