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
        "in_out_weight", "own_step", "next_batch_100", "log_softmax", "nll_loss",
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
        "column_bias", "own_step", "next_batch_100", "sequential", "double_precision",
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
        "jacobian_einsum", "own_step", "next_batch_100", "dropout_argument", "more_arguments",
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
    "rowan": combine(
        "row_formula", "logits", "softmax_in_script", "sequential", "device_single_pass",
        "xhat_saved", "block_class", "sliced_batches"),
    "sorrel": combine(
        "cache_tuple", "recursive", "trainer_class", "subclass_of_sequential", "data_loader",
        "loop_over_needs", "stages", "standardised"),
    "teak": combine(
        "row_formula", "recursive", "trainer_class", "batchnorm", "data_loader",
        "xhat_saved", "stages", "sliced_batches"),
    "ulmo": combine(
        "cache_tuple", "one_list", "single_pass", "subclass_of_sequential", "device_single_pass",
        "mean_and_var_saved", "functional", "standardised"),
    "vine": combine(
        "cache_tuple", "dict_of_layers", "train_set_too", "sequential", "double_precision",
        "loop_over_needs", "block_class", "next_batch_50"),
    "willow": combine(
        "in_out_weight", "nested", "trainer_class", "ordered_dict", "data_loader",
        "jacobian_matrices", "config_list", "standardised"),
    "yew": combine(
        "base_class", "two_lists", "results_folder", "add_module", "data_loader",
        "loop_over_needs", "stages", "weighted_batches"),
    "zelkova": combine(
        "called", "called", "called", "sequential", "data_loader",
        "xhat_saved", "functional", "sliced_batches"),
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
    "rowan": Packing(extra={"report.pdf": PDF}),
    "sorrel": Packing(inside="Assignment 1", extra={"report.pdf": PDF}),
    "teak": Packing(zipped=False, extra={"train_mlp_numpy.log": "[ 100] loss: 2.301   acc: 10.0 %\n"}),
    "ulmo": Packing(inside="ulmo_assignment1"),
    "vine": Packing(empty=("images", "results")),
    "willow": Packing(inside="submission/assignment_1"),
    "yew": Packing(zipped=False, empty=("results",)),
    "zelkova": Packing(),
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
    scripts: bool = False  # whether scripts are run for it, as they are for faults of theirs


def faulty_source(fault: Fault) -> str:
    return source(fault.base, fault.file).replace(fault.old, fault.new)


def write_fault(fault: Fault, folder: Path) -> Path:
    """Lay the hand-in with that fault out below folder."""
    texts = {file: source(fault.base, file) for file in RIGHT[fault.base]}
    texts[fault.file] = faulty_source(fault)
    return lay_out(fault.name, folder, texts, PACKING[fault.base])


# What a fault can spoil, question by question. A fault of 3.2b shows in 3.2c as well, which calls the function.
PARTS: dict[str, tuple[str, ...]] = {
    "1.2": (
        "LinearModule: initial values", "LinearModule: forward", "LinearModule: gradient of the weight",
        "LinearModule: gradient of the bias", "LinearModule: gradient of the input", "ELUModule: forward",
        "ELUModule: backward", "SoftMaxModule: forward", "SoftMaxModule: large numbers", "SoftMaxModule: backward",
        "CrossEntropyModule: forward", "CrossEntropyModule: backward", "no loop over samples", "no state shared", "MLP: layers",
        "MLP: no hidden layers", "MLP: forward", "MLP: gradients"),
    "2.1": ("MLP: layers", "MLP: parameters are registered", "MLP: no hidden layers", "MLP: forward"),
    "3.1": ("gamma and beta are parameters", "initial values", "forward", "eps", "gradients", "shape check"),
    "3.2b": ("forward", "eps", "gradient of the input", "gradient of gamma", "gradient of beta",
             "None where no gradient is needed", "saves no more than needed"),
    "3.2c": ("gamma and beta are parameters", "forward", "eps", "gradients", "shape check", "calls the function"),
    "4a": ("layers and their order", "parameter count", "PreAct block", "blocks one after the other", "skip connections",
           "pooling", "head", "forward", "n_channels and n_classes"),
}
SCRIPT_PARTS = (
    "accuracy function", "default values", "flag learning_rate", "flag max_steps", "flag batch_size", "flag eval_freq",
    "flag data_dir", "runs to its end", "optimizer and its step", "gradients cleared", "loss is the cross-entropy",
    "trains on the training images", "evaluates on the whole test set", "reports evaluations", "training mode",
    "evaluation mode", "reaches the accuracy",
)
for _question in ("1.2", "2.1", "4a"):
    PARTS[_question] += tuple(f"script: {_part}" for _part in SCRIPT_PARTS)
for _question in ("1.2", "2.1"):
    PARTS[_question] += ("script: flag dnn_hidden_units",)

ANY_SCRIPT_PART = (*(f"script: {_part}" for _part in SCRIPT_PARTS), "script: flag dnn_hidden_units")
# A wrong module or network can show in everything that is built on it.
NUMPY_NET = ("MLP: forward", "MLP: gradients")
TRAINING = ("script: reaches the accuracy", "script: runs to its end")
NUMPY = (*NUMPY_NET, *TRAINING, "script: optimizer and its step")
STUMBLES = (*NUMPY, *ANY_SCRIPT_PART)  # the shapes do not fit any more: no step of training comes about
CONV = ("forward", "layers and their order", "parameter count", *TRAINING)

MODULES, MLP_NUMPY, TRAIN_NUMPY = "modules.py", "mlp_numpy.py", "train_mlp_numpy.py"
MLP_TORCH, TRAIN_TORCH = "mlp_pytorch.py", "train_mlp_pytorch.py"
NORM, CONVNET, TRAIN_CONV = "custom_layernorm.py", "convnet_pytorch.py", "train_convnet_pytorch.py"

FAULTS: tuple[Fault, ...] = (
    # 1.2 modules
    Fault("linear-weight-gradient-transposed", "1.2", "alder", MODULES,
          "dout.T @ self.x", "self.x.T @ dout",
          ("LinearModule: gradient of the weight",), STUMBLES),
    Fault("linear-input-gradient-transposed", "1.2", "alder", MODULES,
          "dx = dout @ self.params['weight']\n", "dx = dout @ self.params['weight'].T\n",
          ("LinearModule: gradient of the input",), STUMBLES),
    Fault("linear-bias-gradient-axis", "1.2", "birch", MODULES,
          "dout.sum(axis=0)", "dout.sum(axis=1)",
          ("LinearModule: gradient of the bias",), ("script: runs to its end",), scripts=True),
    Fault("linear-bias-gradient-not-summed", "1.2", "birch", MODULES,
          "dout.sum(axis=0)", "dout",
          ("LinearModule: gradient of the bias", "script: runs to its end")),
    Fault("linear-bias-gradient-not-summed-new-arrays", "1.2", "alder", MODULES,
          "np.ones((1, dout.shape[0])) @ dout", "dout",
          ("LinearModule: gradient of the bias", "script: runs to its end")),
    Fault("linear-bias-gradient-mean", "1.2", "cedar", MODULES,
          "db = np.sum(dout, axis=0, keepdims=True)", "db = np.mean(dout, axis=0, keepdims=True)",
          ("LinearModule: gradient of the bias",), NUMPY),
    Fault("linear-divides-by-batch-again", "1.2", "doum", MODULES,
          "dout.T.dot(self.input)", "dout.T.dot(self.input) / dout.shape[0]",
          ("LinearModule: gradient of the weight",), NUMPY),
    Fault("linear-gradients-add-up", "1.2", "alder", MODULES,
          "self.grads['weight'] = dout.T @ self.x", "self.grads['weight'] += dout.T @ self.x",
          ("LinearModule: gradient of the weight",), NUMPY),
    Fault("linear-without-bias", "1.2", "birch", MODULES,
          "return np.dot(x, self.params['weight'].T) + self.params['bias']", "return np.dot(x, self.params['weight'].T)",
          ("LinearModule: forward",), ("LinearModule: gradient of the bias", *NUMPY)),
    Fault("linear-input-gradient-without-weight", "1.2", "ginkgo", MODULES,
          "return np.dot(dout, self.params['weight'])", "return np.dot(dout, self.grads['weight'])",
          ("LinearModule: gradient of the input",), NUMPY),
    Fault("linear-std-too-large", "1.2", "alder", MODULES,
          "scale=0.0001", "scale=0.01",
          ("LinearModule: initial values",), TRAINING),
    Fault("linear-std-is-the-variance", "1.2", "elm", MODULES,
          "* 0.0001", "* np.sqrt(0.0001)",
          ("LinearModule: initial values",), TRAINING),
    Fault("linear-random-bias", "1.2", "cedar", MODULES,
          "b = np.zeros((1, out_features))", "b = 0.0001 * np.random.randn(1, out_features)",
          ("LinearModule: initial values",), TRAINING),
    Fault("linear-uniform-weights", "1.2", "doum", MODULES,
          "np.random.normal(0, 1e-4, (out_features, in_features))", "np.random.rand(out_features, in_features) * 1e-4",
          ("LinearModule: initial values",), TRAINING),
    Fault("linear-key-weights", "1.2", "cedar", MODULES,
          """    self.params = {'weight': W, 'bias': b}
    self.grads = {'weight': np.zeros(W.shape), 'bias': np.zeros(b.shape)}

  def forward(self, x):
    self.x = x
    out = np.matmul(x, self.params['weight']) + self.params['bias']
    return out

  def backward(self, dout):
    dW = np.matmul(self.x.T, dout)
    db = np.sum(dout, axis=0, keepdims=True)
    dx = np.matmul(dout, self.params['weight'].T)

    self.grads['weight'] = dW
""",
          """    self.params = {'weights': W, 'bias': b}
    self.grads = {'weights': np.zeros(W.shape), 'bias': np.zeros(b.shape)}

  def forward(self, x):
    self.x = x
    out = np.matmul(x, self.params['weights']) + self.params['bias']
    return out

  def backward(self, dout):
    dW = np.matmul(self.x.T, dout)
    db = np.sum(dout, axis=0, keepdims=True)
    dx = np.matmul(dout, self.params['weights'].T)

    self.grads['weights'] = dW
""",
          ("LinearModule: initial values",),
          ("LinearModule: forward", "LinearModule: gradient of the weight", "LinearModule: gradient of the bias",
           "LinearModule: gradient of the input", "MLP: layers", "MLP: no hidden layers", *STUMBLES)),
    Fault("linear-loops-over-samples", "1.2", "doum", MODULES,
          "return (self.params['weight'].dot(x.T) + self.params['bias']).T",
          "return np.array([self.params['weight'].dot(row) + self.params['bias'][:, 0] for row in x])",
          ("no loop over samples",), ()),
    Fault("linear-maps-over-samples", "1.2", "doum", MODULES,
          "return (self.params['weight'].dot(x.T) + self.params['bias']).T",
          "return np.array(list(map(self.params['weight'].dot, x))) + self.params['bias'][:, 0]",
          ("no loop over samples",), ()),
    Fault("elu-derivative-of-relu", "1.2", "alder", MODULES,
          "np.where(self.x > 0, 1, np.exp(self.x))", "np.where(self.x > 0, 1, 0)",
          ("ELUModule: backward",), NUMPY),
    Fault("elu-derivative-minus-one", "1.2", "fir", MODULES,
          "dout * (self.mask + ~self.mask * np.exp(self.x * ~self.mask))",
          "dout * (self.mask + ~self.mask * (np.exp(self.x * ~self.mask) - 1))",
          ("ELUModule: backward",), NUMPY),
    Fault("elu-derivative-without-dout", "1.2", "cedar", MODULES,
          "dx = dout * self.deriv", "dx = self.deriv",
          ("ELUModule: backward",), NUMPY),
    Fault("elu-changes-its-input", "1.2", "cedar", MODULES,
          "out = x.copy()", "out = x",
          ("ELUModule: backward",), ("ELUModule: forward", *NUMPY)),
    Fault("elu-is-relu", "1.2", "birch", MODULES,
          "return positive * x + (1 - positive) * (np.exp(np.minimum(x, 0)) - 1)", "return positive * x",
          ("ELUModule: forward",), ("ELUModule: backward", *NUMPY)),
    Fault("elu-alpha-half", "1.2", "doum", MODULES,
          "self.alpha = 1.0", "self.alpha = 0.5",
          ("ELUModule: forward", "ELUModule: backward"), NUMPY),
    Fault("softmax-without-cross-terms", "1.2", "alder", MODULES,
          "dx = self.y * (dout - s)", "dx = dout * self.y * (1 - self.y)",
          ("SoftMaxModule: backward",), NUMPY),
    Fault("softmax-without-max-trick", "1.2", "alder", MODULES,
          "e = np.exp(x - b)", "e = np.exp(x)",
          ("SoftMaxModule: large numbers",), TRAINING),
    Fault("softmax-over-the-batch", "1.2", "elm", MODULES,
          "np.sum(exp_x, 1, keepdims=True)", "np.sum(exp_x, 0, keepdims=True)",
          ("SoftMaxModule: forward",), ("SoftMaxModule: large numbers", "SoftMaxModule: backward", *NUMPY)),
    Fault("softmax-jacobian-sign", "1.2", "cedar", MODULES,
          "(np.eye(n)[None, :, :] - y[:, None, :])", "(np.eye(n)[None, :, :] + y[:, None, :])",
          ("SoftMaxModule: backward",), NUMPY),
    Fault("softmax-loops-over-samples", "1.2", "kapok", MODULES,
          "    s = np.sum(dout * self.y, axis=1, keepdims=True)\n    dx = self.y * (dout - s)\n",
          "    dx = np.zeros_like(dout)\n"
          "    for i in range(dout.shape[0]):\n"
          "      y = self.y[i].reshape(-1, 1)\n"
          "      dx[i] = dout[i] @ (np.diagflat(y) - y @ y.T)\n",
          ("no loop over samples",), ()),
    Fault("cross-entropy-sum-for-mean", "1.2", "fir", MODULES,
          "return L_i.mean()", "return L_i.sum()",
          ("CrossEntropyModule: forward",), ("CrossEntropyModule: backward", *NUMPY)),
    Fault("cross-entropy-mean-over-classes-too", "1.2", "doum", MODULES,
          "return np.mean(np.sum(-y * np.log(x + 1e-10), axis=1))", "return np.mean(-y * np.log(x + 1e-10))",
          ("CrossEntropyModule: forward",), ("CrossEntropyModule: backward", *NUMPY)),
    Fault("cross-entropy-gradient-not-divided", "1.2", "elm", MODULES,
          "return -one_over_batch(x) * y / np.maximum(x, 1e-300)", "return -y / np.maximum(x, 1e-300)",
          ("CrossEntropyModule: backward",), NUMPY),
    Fault("cross-entropy-gradient-divided-twice", "1.2", "cedar", MODULES,
          "dx = -1.0 / S * np.divide(y, x)", "dx = -1.0 / S * np.divide(y, x) / S",
          ("CrossEntropyModule: backward",), NUMPY),
    Fault("cross-entropy-gradient-sign", "1.2", "fir", MODULES,
          "return -(1 / S) * y * (1 / x)", "return (1 / S) * y * (1 / x)",
          ("CrossEntropyModule: backward",), NUMPY),
    Fault("cross-entropy-gradient-of-softmax-too", "1.2", "alder", MODULES,
          "dx = -(y / x) / x.shape[0]", "dx = (x - y) / x.shape[0]",
          ("CrossEntropyModule: backward",), NUMPY),
    # 1.2 network
    Fault("mlp-shares-one-activation", "1.2", "birch", MLP_NUMPY,
          "[ELUModule() for _ in n_hidden]", "[ELUModule()] * len(n_hidden)",
          ("MLP: gradients",), ("MLP: layers", *STUMBLES)),
    Fault("mlp-without-activation", "1.2", "alder", MLP_NUMPY,
          "      self.layers.append(ELUModule())\n", "",
          ("MLP: forward",), ("MLP: layers", *NUMPY)),
    Fault("mlp-activation-after-the-last-layer", "1.2", "ginkgo", MLP_NUMPY,
          "self.layers.append(LinearModule(previous, n_classes))",
          "self.layers.append(LinearModule(previous, n_classes))\n    self.layers.append(ELUModule())",
          ("MLP: forward",), ("MLP: layers", "MLP: no hidden layers", *NUMPY)),
    Fault("mlp-without-softmax", "1.2", "oak", MLP_NUMPY,
          "    self.layers.append(SoftMaxModule())\n", "",
          ("MLP: forward",), ("MLP: layers", "MLP: no hidden layers", "script: loss is the cross-entropy", *NUMPY)),
    Fault("mlp-backward-in-forward-order", "1.2", "doum", MLP_NUMPY,
          "for name in reversed(list(self.net.keys())):", "for name in list(self.net.keys()):",
          ("MLP: gradients",), ("MLP: no hidden layers", *STUMBLES)),
    Fault("mlp-only-the-first-hidden-layer", "1.2", "fir", MLP_NUMPY,
          "        self.depth = len(n_hidden)\n", "        n_hidden = n_hidden[:1]\n        self.depth = len(n_hidden)\n",
          ("MLP: layers",), ("script: flag dnn_hidden_units", *NUMPY)),
    Fault("mlp-needs-a-hidden-layer", "1.2", "doum", MLP_NUMPY,
          "last = n_hidden[-1] if len(n_hidden) > 0 else n_inputs", "last = n_hidden[-1]",
          ("MLP: no hidden layers",), ("script: flag dnn_hidden_units",)),
    Fault("mlp-backward-skips-the-activation", "1.2", "cedar", MLP_NUMPY,
          "            dout = self.elus[i].backward(dout)\n", "",
          ("MLP: gradients",), TRAINING),
    Fault("mlp-backward-skips-the-softmax", "1.2", "iroko", MLP_NUMPY,
          "        dout = self.softmax.backward(dout)\n", "",
          ("MLP: gradients",), ("MLP: no hidden layers", *TRAINING, "script: loss is the cross-entropy")),
    Fault("mlp-softmax-twice", "1.2", "rowan", MLP_NUMPY,
          """    for layer in self.layers:
      x = layer.forward(x)
    return x

  def backward(self, dout):
""",
          """    for layer in self.layers:
      x = layer.forward(x)
    self.softmax = SoftMaxModule()
    return self.softmax.forward(x)

  def backward(self, dout):
    dout = self.softmax.backward(dout)
""",
          ("script: loss is the cross-entropy",), TRAINING),
    Fault("mlp-logits-backward-skips-the-activation", "1.2", "rowan", MLP_NUMPY,
          "for layer in self.layers[::-1]:", "for layer in self.layers[::-2]:",
          ("MLP: gradients",), TRAINING),
    Fault("numpy-softmax-backward-left-out", "1.2", "rowan", TRAIN_NUMPY,
          "net.backward(softmax.backward(criterion.backward(probs, y)))", "net.backward(criterion.backward(probs, y))",
          ("MLP: forward",), ("MLP: gradients", "MLP: no hidden layers", "script: loss is the cross-entropy", *TRAINING)),
    # 1.2 script
    Fault("numpy-sgd-uphill", "1.2", "cedar", MLP_NUMPY,
          "- learning_rate *", "+ learning_rate *",
          ("script: optimizer and its step",), TRAINING),
    Fault("numpy-sgd-sign", "1.2", "alder", TRAIN_NUMPY,
          "layer.params['weight'] -= FLAGS.learning_rate", "layer.params['weight'] += FLAGS.learning_rate",
          ("script: optimizer and its step",), TRAINING),
    Fault("numpy-sgd-without-bias", "1.2", "alder", TRAIN_NUMPY,
          "        layer.params['bias'] -= FLAGS.learning_rate * layer.grads['bias']\n", "",
          ("script: optimizer and its step",), TRAINING),
    Fault("numpy-ignores-learning-rate", "1.2", "birch", TRAIN_NUMPY,
          "lr = FLAGS.learning_rate", "lr = LEARNING_RATE_DEFAULT",
          ("script: flag learning_rate",), ()),
    Fault("numpy-ignores-max-steps", "1.2", "alder", TRAIN_NUMPY,
          "for step in range(FLAGS.max_steps):", "for step in range(MAX_STEPS_DEFAULT):",
          ("script: flag max_steps",), ()),
    Fault("numpy-ignores-batch-size", "1.2", "cedar", TRAIN_NUMPY,
          "trainset.next_batch(FLAGS.batch_size)", "trainset.next_batch(200)",
          ("script: flag batch_size",), ()),
    Fault("numpy-ignores-eval-freq", "1.2", "elm", TRAIN_NUMPY,
          "if step % FLAGS.eval_freq == 0:", "if step % EVAL_FREQ_DEFAULT == 0:",
          ("script: flag eval_freq",), ("script: reports evaluations",)),
    Fault("numpy-ignores-hidden-units", "1.2", "doum", TRAIN_NUMPY,
          "mlp = MLP(32 * 32 * 3, dnn_hidden_units, 10)", "mlp = MLP(32 * 32 * 3, [100], 10)",
          ("script: flag dnn_hidden_units",), ()),
    Fault("numpy-ignores-data-dir", "1.2", "fir", TRAIN_NUMPY,
          "cifar10_utils.get_cifar10(FLAGS.data_dir)", "cifar10_utils.get_cifar10()",
          ("script: flag data_dir",), ANY_SCRIPT_PART),
    Fault("numpy-default-learning-rate", "1.2", "alder", TRAIN_NUMPY,
          "LEARNING_RATE_DEFAULT = 1e-3", "LEARNING_RATE_DEFAULT = 1e-2",
          ("script: default values",), ("script: reaches the accuracy",)),
    Fault("numpy-default-hidden-units", "1.2", "cedar", TRAIN_NUMPY,
          "DNN_HIDDEN_UNITS_DEFAULT = '100'", "DNN_HIDDEN_UNITS_DEFAULT = '50'",
          ("script: default values",), ("script: reaches the accuracy",)),
    Fault("numpy-evaluates-on-training-images", "1.2", "birch", TRAIN_NUMPY,
          "evaluate(net, criterion, data.test)", "evaluate(net, criterion, data.train)",
          ("script: evaluates on the whole test set",), ("script: runs to its end",)),
    Fault("numpy-evaluates-on-one-batch", "1.2", "alder", TRAIN_NUMPY,
          "x_test, y_test = cifar10['test'].images, cifar10['test'].labels",
          "x_test, y_test = cifar10['test'].next_batch(FLAGS.batch_size)",
          ("script: evaluates on the whole test set",), ()),
    Fault("numpy-evaluates-on-half", "1.2", "juniper", TRAIN_NUMPY,
          "for i in range(0, n, batch_size):", "for i in range(0, n // 2, batch_size):",
          ("script: evaluates on the whole test set",), ("script: reaches the accuracy",)),
    Fault("numpy-trains-on-test-images", "1.2", "fir", TRAIN_NUMPY,
          "dataset['train'].next_batch", "dataset['test'].next_batch",
          ("script: trains on the training images",), ("script: evaluates on the whole test set", "script: reaches the accuracy")),
    Fault("numpy-always-the-same-batch", "1.2", "ginkgo", TRAIN_NUMPY,
          "x, y = cifar10['train'].next_batch(FLAGS.batch_size)",
          "x, y = cifar10['train'].images[:FLAGS.batch_size], cifar10['train'].labels[:FLAGS.batch_size]",
          ("script: trains on the training images",), ("script: reaches the accuracy",)),
    Fault("numpy-saves-into-missing-folder", "1.2", "doum", TRAIN_NUMPY,
          "  os.makedirs(OUTPUT_DIR, exist_ok=True)\n", "",
          ("script: runs to its end",), ()),
    Fault("numpy-evaluation-crashes", "1.2", "pine", TRAIN_NUMPY,
          "np.split(test_set.images, 5)", "np.split(test_set.images, 3)",
          ("script: runs to its end",), ANY_SCRIPT_PART),
    Fault("numpy-backward-after-evaluation", "1.2", "kapok", TRAIN_NUMPY,
          "      out = net.forward(flat(x))\n", "",
          ("script: runs to its end",), ANY_SCRIPT_PART),
    Fault("numpy-plot-crashes", "1.2", "maple", TRAIN_NUMPY,
          "plt.plot(test_steps, loss_test, label=\"test loss\")", "plt.plot(test_steps, loss_test[1:], label=\"test loss\")",
          ("script: runs to its end",), ()),
    Fault("numpy-accuracy-divided-by-all-entries", "1.2", "cedar", TRAIN_NUMPY,
          "np.sum(pred == true) / len(true)", "np.sum(pred == true) / predictions.size",
          ("script: accuracy function",), ("script: reaches the accuracy", "script: reports evaluations", "script: evaluates on the whole test set")),
    Fault("numpy-accuracy-is-a-count", "1.2", "doum", TRAIN_NUMPY,
          "return np.mean(targets[rows, predictions.argmax(axis=1)])", "return np.sum(targets[rows, predictions.argmax(axis=1)])",
          ("script: accuracy function",), ("script: reaches the accuracy", "script: reports evaluations", "script: evaluates on the whole test set")),
    Fault("numpy-reports-the-last-part", "1.2", "kapok", TRAIN_NUMPY,
          """      test_out = [net.forward(flat(part)) for part in np.split(test_set.images, 5)]  # 5 x 2000
      test_out = np.concatenate(test_out)
      losses['test'].append(ce.forward(test_out, test_set.labels))
      accs['test'].append(accuracy(test_out, test_set.labels))
""",
          """      for part, labels in zip(np.split(test_set.images, 5), np.split(test_set.labels, 5)):
        test_out = net.forward(flat(part))
      losses['test'].append(ce.forward(test_out, labels))
      accs['test'].append(accuracy(test_out, labels))
""",
          ("script: evaluates on the whole test set",), ()),
    Fault("numpy-labels-of-another-batch", "1.2", "fir", TRAIN_NUMPY,
          "        x, y = dataset['train'].next_batch(FLAGS.batch_size)\n",
          "        x, _ = dataset['train'].next_batch(FLAGS.batch_size)\n        _, y = dataset['train'].next_batch(FLAGS.batch_size)\n",
          ("script: loss is the cross-entropy",), TRAINING),
    Fault("numpy-scales-only-training-images", "1.2", "doum", TRAIN_NUMPY,
          "probs = mlp.forward(x.reshape(-1, 3072))", "probs = mlp.forward(x.reshape(-1, 3072) / 255.)",
          ("script: evaluates on the whole test set",), TRAINING),
    Fault("numpy-trains-channels-last", "1.2", "doum", TRAIN_NUMPY,
          "probs = mlp.forward(x.reshape(-1, 3072))", "probs = mlp.forward(x.transpose(0, 2, 3, 1).reshape(-1, 3072))",
          ("script: evaluates on the whole test set",), TRAINING),
    Fault("mlp-backward-leaves-out-the-first-layer", "1.2", "alder", MLP_NUMPY,
          "for layer in reversed(self.layers):", "for layer in reversed(self.layers[1:]):",
          ("MLP: gradients",), ("MLP: no hidden layers", "script: optimizer and its step", "script: flag learning_rate", *TRAINING)),
    # 2.1 network
    Fault("torch-layers-in-a-list", "2.1", "birch", MLP_TORCH,
          "nn.ModuleList([nn.Linear(i, o) for i, o in zip(sizes, sizes[1:])])", "[nn.Linear(i, o) for i, o in zip(sizes, sizes[1:])]",
          ("MLP: parameters are registered",),
          ("MLP: layers", "MLP: forward", "MLP: no hidden layers", *ANY_SCRIPT_PART)),
    Fault("torch-mlp-without-activation", "2.1", "alder", MLP_TORCH,
          "      layers.append(nn.ELU())\n", "",
          ("MLP: forward",), ("MLP: layers", *TRAINING)),
    Fault("torch-mlp-with-relu", "2.1", "iroko", MLP_TORCH,
          "nn.ELU()", "nn.ReLU()",
          ("MLP: forward",), ("MLP: layers", *TRAINING)),
    Fault("torch-mlp-with-functional-relu", "2.1", "nutmeg", MLP_TORCH,
          "x = F.elu(linear(x))", "x = F.relu(linear(x))",
          ("MLP: forward",), ("MLP: layers", *TRAINING)),
    Fault("torch-softmax-into-cross-entropy", "2.1", "alder", MLP_TORCH,
          "out = self.layers(x)", "out = torch.softmax(self.layers(x), dim=1)",
          ("MLP: forward",), ("MLP: no hidden layers", *TRAINING)),
    Fault("torch-elu-after-the-last-layer", "2.1", "birch", MLP_TORCH,
          "return self.linears[-1](x)", "return F.elu(self.linears[-1](x))",
          ("MLP: forward",), ("MLP: layers", "MLP: no hidden layers", "script: loss is the cross-entropy", *TRAINING)),
    Fault("torch-log-softmax-over-the-batch", "2.1", "cedar", MLP_TORCH,
          "F.log_softmax(self.out(x), dim=1)", "F.log_softmax(self.out(x), dim=0)",
          ("MLP: forward",), ("MLP: no hidden layers", "script: loss is the cross-entropy", "script: evaluates on the whole test set", *TRAINING)),
    Fault("torch-mlp-drops-a-hidden-layer", "2.1", "ginkgo", MLP_TORCH,
          "self.n_hidden_layers = len(n_hidden)", "self.n_hidden_layers = len(n_hidden) - 1",
          ("MLP: layers",), ("MLP: forward", "script: flag dnn_hidden_units", *TRAINING)),
    Fault("torch-mlp-needs-a-hidden-layer", "2.1", "fir", MLP_TORCH,
          "self.classifier = nn.Linear(dims[-1], n_classes)", "self.classifier = nn.Linear(n_hidden[-1], n_classes)",
          ("MLP: no hidden layers",), ("script: flag dnn_hidden_units",)),
    Fault("torch-mlp-adds-what-does-not-fit", "2.1", "nutmeg", MLP_TORCH,
          "x = F.elu(linear(x))", "x = F.elu(linear(x)) + x",
          ("MLP: forward",), ("MLP: layers", "MLP: parameters are registered", "script: reaches the accuracy")),
    # 2.1 script
    Fault("torch-nll-without-log", "2.1", "doum", TRAIN_TORCH,
          "F.nll_loss(torch.log(probs + 1e-10), targets.argmax(1))", "F.nll_loss(probs, targets.argmax(1))",
          ("script: loss is the cross-entropy",), ("MLP: forward", *TRAINING)),  # judged with its own loss
    Fault("torch-no-zero-grad", "2.1", "alder", TRAIN_TORCH,
          "    optimizer.zero_grad()\n", "",
          ("script: gradients cleared",), ("script: optimizer and its step", *TRAINING)),
    Fault("torch-zero-grad-before-step", "2.1", "cedar", TRAIN_TORCH,
          "        optimizer.zero_grad()\n        loss.backward()\n", "        loss.backward()\n        optimizer.zero_grad()\n",
          ("script: optimizer and its step",), ("script: gradients cleared", "script: flag learning_rate", *TRAINING)),
    Fault("torch-no-step", "2.1", "juniper", TRAIN_TORCH,
          "        optimizer.step()\n", "",
          ("script: optimizer and its step",), ("script: flag learning_rate", *TRAINING)),
    Fault("torch-ignores-learning-rate", "2.1", "cedar", TRAIN_TORCH,
          "lr=FLAGS.learning_rate", "lr=1e-3",
          ("script: flag learning_rate",), ()),
    Fault("torch-ignores-max-steps", "2.1", "doum", TRAIN_TORCH,
          "for step in range(1, FLAGS.max_steps + 1):", "for step in range(1, 1401):",
          ("script: flag max_steps",), ()),
    Fault("torch-ignores-batch-size", "2.1", "elm", TRAIN_TORCH,
          "cifar10['train'].next_batch(FLAGS.batch_size)", "cifar10['train'].next_batch(BATCH_SIZE_DEFAULT)",
          ("script: flag batch_size",), ()),
    Fault("torch-ignores-eval-freq", "2.1", "fir", TRAIN_TORCH,
          "if step % FLAGS.eval_freq == 0:", "if step % 100 == 0:",
          ("script: flag eval_freq",), ("script: reports evaluations",)),
    Fault("torch-ignores-hidden-units", "2.1", "kapok", TRAIN_TORCH,
          "mlp = MLP(3072, dnn_hidden_units, 10)", "mlp = MLP(3072, [100], 10)",
          ("script: flag dnn_hidden_units",), ()),
    Fault("torch-ignores-data-dir", "2.1", "alder", TRAIN_TORCH,
          "cifar10_utils.get_cifar10(FLAGS.data_dir)", "cifar10_utils.get_cifar10(DATA_DIR_DEFAULT)",
          ("script: flag data_dir",), ANY_SCRIPT_PART),
    Fault("torch-default-max-steps", "2.1", "fir", TRAIN_TORCH,
          "MAX_STEPS_DEFAULT = 1400", "MAX_STEPS_DEFAULT = 1500",
          ("script: default values",), ()),
    Fault("torch-evaluates-on-training-images", "2.1", "elm", TRAIN_TORCH,
          "run_on_split(net, cifar10['test'])", "run_on_split(net, cifar10['train'])",
          ("script: evaluates on the whole test set",), ()),
    Fault("torch-evaluates-on-one-batch", "2.1", "cedar", TRAIN_TORCH,
          "for b in range(50):", "for b in range(1):",
          ("script: evaluates on the whole test set",), ()),
    Fault("torch-trains-on-test-images", "2.1", "doum", TRAIN_TORCH,
          "cifar10.train.next_batch", "cifar10.test.next_batch",
          ("script: trains on the training images",), ("script: evaluates on the whole test set", "script: reaches the accuracy")),
    Fault("torch-plots-a-tensor-with-grad", "2.1", "fir", TRAIN_TORCH,
          "losses.append(loss.detach().cpu().numpy())", "losses.append(loss)",
          ("script: runs to its end",), ("script: reports evaluations",)),
    Fault("torch-saves-into-missing-folder", "2.1", "birch", TRAIN_TORCH,
          "'results/pytorch_mlp.png'", "'plots/pytorch_mlp.png'",
          ("script: runs to its end",), ()),
    Fault("torch-evaluation-crashes", "2.1", "iroko", TRAIN_TORCH,
          "device=device).double().flatten(1)", "device=device).float().flatten(1)",
          ("script: runs to its end",), ANY_SCRIPT_PART),
    Fault("torch-no-eval-mode", "2.1", "elm", TRAIN_TORCH,
          "  net.eval()\n", "",
          ("script: evaluation mode",), ("script: evaluates on the whole test set", "script: reaches the accuracy")),
    Fault("torch-stays-in-eval-mode", "2.1", "elm", TRAIN_TORCH,
          "  net.train()\n", "",
          ("script: training mode",), ("script: reaches the accuracy",)),
    Fault("torch-accuracy-compares-values", "2.1", "birch", TRAIN_TORCH,
          "torch.eq(predictions.max(1)[1], targets.max(1)[1])", "torch.eq(predictions.max(1)[0], targets.max(1)[0])",
          ("script: accuracy function",), ("script: reaches the accuracy", "script: reports evaluations", "script: evaluates on the whole test set")),
    Fault("torch-accuracy-over-the-batch", "2.1", "hazel", TRAIN_TORCH,
          "np.equal(predictions.argmax(axis=1), targets.argmax(axis=1))", "np.equal(predictions.argmax(axis=0), targets.argmax(axis=0))",
          ("script: accuracy function",), ("script: reaches the accuracy", "script: reports evaluations", "script: evaluates on the whole test set")),
    Fault("torch-reports-the-last-part", "2.1", "birch", TRAIN_TORCH,
          "acc += accuracy(out, y) / n_batches", "acc = accuracy(out, y)",
          ("script: evaluates on the whole test set",), ()),
    Fault("torch-scales-only-test-images", "2.1", "birch", TRAIN_TORCH,
          "x = torch.tensor(split.images[i * n:(i + 1) * n], device=device).double().flatten(1)",
          "x = torch.tensor(split.images[i * n:(i + 1) * n], device=device).double().flatten(1) / 255",
          ("script: evaluates on the whole test set",), TRAINING),
    # 3.1
    Fault("norm-bessel", "3.1", "alder", NORM,
          "    var = input.var(dim=1, unbiased=False, keepdim=True)\n    x_hat = (input - mean) / torch.sqrt(var + self.eps)",
          "    var = input.var(dim=1, keepdim=True)\n    x_hat = (input - mean) / torch.sqrt(var + self.eps)",
          ("forward",), ("gradients", "eps")),
    Fault("norm-eps-outside-the-root", "3.1", "alder", NORM,
          "torch.sqrt(var + self.eps)", "(torch.sqrt(var) + self.eps)",
          ("eps",), ("forward", "gradients")),
    Fault("norm-eps-fixed", "3.1", "hazel", NORM,
          "torch.sqrt(var + self.eps)", "torch.sqrt(var + 1e-5)",
          ("eps",), ("forward",)),
    Fault("norm-over-the-batch", "3.1", "larch", NORM,
          """    mean = input.mean(dim=1, keepdim=True)
    var = input.var(dim=1, unbiased=False, keepdim=True)
    x_hat = (input - mean) / torch.sqrt(var + self.eps)""",
          """    mean = input.mean(dim=0, keepdim=True)
    var = input.var(dim=0, unbiased=False, keepdim=True)
    x_hat = (input - mean) / torch.sqrt(var + self.eps)""",
          ("forward",), ("gradients", "eps")),
    Fault("norm-variance-for-the-deviation", "3.1", "birch", NORM,
          "x_hat = (input - mu) * torch.rsqrt(sigma2 + self.eps)", "x_hat = (input - mu) / (sigma2 + self.eps)",
          ("forward",), ("gradients", "eps")),
    Fault("norm-without-beta", "3.1", "birch", NORM,
          "return x_hat * self.gamma + self.beta", "return x_hat * self.gamma",
          ("forward",), ("gradients", "eps")),
    Fault("norm-no-shape-check", "3.1", "elm", NORM,
          """    n_neurons = len(self.gamma)
    if input.ndim != 2:
      raise ValueError("Need a 2D tensor, got %dD" % input.ndim)
    elif input.size()[-1] != n_neurons:
      raise ValueError("Need %d features, got %d" % (n_neurons, input.size()[-1]))
""",
          "",
          ("shape check",), ()),
    Fault("norm-gamma-no-parameter", "3.1", "alder", NORM,
          """    super(CustomLayerNormAutograd, self).__init__()
    self.n_neurons = n_neurons
    self.eps = eps
    self.gamma = nn.Parameter(torch.ones(n_neurons))""",
          """    super(CustomLayerNormAutograd, self).__init__()
    self.n_neurons = n_neurons
    self.eps = eps
    self.gamma = torch.ones(n_neurons)""",
          ("gamma and beta are parameters",), ("initial values", "forward", "eps", "gradients")),
    Fault("norm-beta-starts-at-one", "3.1", "ginkgo", NORM,
          """    super(CustomLayerNormAutograd, self).__init__()
    self.eps = eps
    self.size = n_neurons
    self.beta = nn.Parameter(torch.zeros(1, n_neurons))""",
          """    super(CustomLayerNormAutograd, self).__init__()
    self.eps = eps
    self.size = n_neurons
    self.beta = nn.Parameter(torch.ones(1, n_neurons))""",
          ("initial values",), ("forward",)),
    Fault("norm-mean-detached", "3.1", "doum", NORM,
          "mu = x.mean(0)\n", "mu = x.mean(0).detach()\n",
          ("gradients",), ()),
    # 3.2 b
    Fault("manual-bessel", "3.2b", "alder", NORM,
          "    var = input.var(dim=1, unbiased=False, keepdim=True)\n    x_hat = (input - mean) / torch.sqrt(var + eps)",
          "    var = input.var(dim=1, keepdim=True)\n    x_hat = (input - mean) / torch.sqrt(var + eps)",
          ("forward",), ("gradient of the input", "gradient of gamma", "eps", "None where no gradient is needed")),
    Fault("manual-variance-is-constant", "3.2b", "alder", NORM,
          " - x_hat * (g * x_hat).mean(dim=1, keepdim=True))", ")",
          ("gradient of the input",), ("eps",)),
    Fault("manual-mean-is-constant", "3.2b", "birch", NORM,
          "(M * dx_hat - sum1 - x_hat * sum2)", "(M * dx_hat - x_hat * sum2)",
          ("gradient of the input",), ("eps",)),
    Fault("manual-without-gamma", "3.2b", "kapok", NORM,
          "dx_hat = grad_output * gamma", "dx_hat = grad_output",
          ("gradient of the input",), ("eps",)),
    Fault("manual-sum-for-mean", "3.2b", "cedar", NORM,
          "x_hat * (d * x_hat).mean(1, keepdim=True)", "x_hat * (d * x_hat).sum(1, keepdim=True)",
          ("gradient of the input",), ("eps",)),
    Fault("manual-sign", "3.2b", "doum", NORM,
          "dvar * 2 / M * (input - mu) + dmu / M", "dvar * 2 / M * (input - mu) - dmu / M",
          ("gradient of the input",), ("eps",)),
    Fault("manual-jacobian-without-std", "3.2b", "elm", NORM,
          "(eye - 1. / M - outer / M) * istd.unsqueeze(2)", "(eye - 1. / M - outer / M)",
          ("gradient of the input",), ("eps",)),
    Fault("manual-beta-mean", "3.2b", "alder", NORM,
          "grad_beta = grad_output.sum(dim=0)", "grad_beta = grad_output.mean(dim=0)",
          ("gradient of beta",), ()),
    Fault("manual-gamma-from-the-input", "3.2b", "doum", NORM,
          "d_gamma = torch.sum(grad_output * (input - mu) / std, 0)", "d_gamma = torch.sum(grad_output * (input - mu), 0)",
          ("gradient of gamma",), ("eps",)),
    Fault("manual-gamma-always", "3.2b", "birch", NORM,
          "dgamma = (grad_output * x_hat).sum(0) if ctx.needs_input_grad[1] else None", "dgamma = (grad_output * x_hat).sum(0)",
          ("None where no gradient is needed",), ()),
    Fault("manual-input-always", "3.2b", "cedar", NORM,
          "    if need_input:\n", "    if grad_output is not None:\n",
          ("None where no gradient is needed",), ()),
    Fault("manual-saves-input-and-xhat", "3.2b", "birch", NORM,
          """        # the input itself is not needed any more
        ctx.save_for_backward(x_hat, inv_std, gamma)
        return x_hat * gamma + beta

    @staticmethod
    def backward(ctx, grad_output):
        x_hat, inv_std, gamma = ctx.saved_tensors
""",
          """        ctx.save_for_backward(input, x_hat, inv_std, gamma)
        return x_hat * gamma + beta

    @staticmethod
    def backward(ctx, grad_output):
        input, x_hat, inv_std, gamma = ctx.saved_tensors
""",
          ("saves no more than needed",), ()),
    Fault("manual-saves-beta", "3.2b", "alder", NORM,
          """    ctx.save_for_backward(input, mean, var, gamma)
    ctx.eps = eps
    return out

  @staticmethod
  def backward(ctx, grad_output):
    input, mean, var, gamma = ctx.saved_tensors
""",
          """    ctx.save_for_backward(input, mean, var, gamma, beta)
    ctx.eps = eps
    return out

  @staticmethod
  def backward(ctx, grad_output):
    input, mean, var, gamma, beta = ctx.saved_tensors
""",
          ("saves no more than needed",), ()),
    Fault("manual-eps-fixed-in-backward", "3.2b", "doum", NORM,
          "ctx.eps = eps", "ctx.eps = 1e-5",
          ("eps",), ("gradient of the input", "gradient of gamma")),
    Fault("manual-three-gradients", "3.2b", "elm", NORM,
          "grads = [None] * 4", "grads = [None] * 3",
          ("gradient of the input",), ("gradient of gamma", "gradient of beta", "eps", "None where no gradient is needed", "saves no more than needed")),
    # 3.2 c
    Fault("module-without-the-function", "3.2c", "alder", NORM,
          "return CustomLayerNormManualFunction.apply(input, self.gamma, self.beta, self.eps)",
          "return nn.functional.layer_norm(input, (self.n_neurons,), self.gamma, self.beta, self.eps)",
          ("calls the function",), ()),
    Fault("module-eps-not-passed", "3.2c", "hazel", NORM,
          ".apply(input, self.gamma, self.beta, self.eps)", ".apply(input, self.gamma, self.beta)",
          ("eps",), ("forward", "gradients")),
    Fault("module-gamma-no-parameter", "3.2c", "alder", NORM,
          """    super(CustomLayerNormManualModule, self).__init__()
    self.n_neurons = n_neurons
    self.eps = eps
    self.gamma = nn.Parameter(torch.ones(n_neurons))""",
          """    super(CustomLayerNormManualModule, self).__init__()
    self.n_neurons = n_neurons
    self.eps = eps
    self.gamma = torch.ones(n_neurons)""",
          ("gamma and beta are parameters",), ("forward", "eps", "gradients", "calls the function")),
    Fault("module-no-shape-check", "3.2c", "elm", NORM,
          """    if input.ndim != 2 or input.size()[-1] != len(self.gamma):
      raise ValueError("Need (n_batch, %d), got %s" % (len(self.gamma), str(input.size())))
""",
          "",
          ("shape check",), ()),
    Fault("module-swaps-gamma-and-beta", "3.2c", "birch", NORM,
          "return layer_norm(input, self.gamma, self.beta, self.eps)", "return layer_norm(input, self.beta, self.gamma, self.eps)",
          ("forward",), ("gradients", "eps", "calls the function")),
    # 4 a network
    Fault("convnet-one-block-missing", "4a", "alder", CONVNET,
          "      PreAct(256),\n      PreAct(256),\n", "      PreAct(256),\n",
          ("layers and their order",), CONV),
    Fault("convnet-blocks-in-parallel", "4a", "birch", CONVNET,
          "x = self.PreAct3_b(self.PreAct3_a(x))", "x = self.PreAct3_a(x) + self.PreAct3_b(x)",
          ("blocks one after the other",), ("skip connections", *CONV)),
    Fault("convnet-stages-in-parallel", "4a", "doum", CONVNET,
          "return self.pool(self.up(self.blocks(x)))", "return self.pool(self.up(sum(block(x) for block in self.blocks)))",
          ("blocks one after the other",), ("skip connections", *CONV)),
    Fault("convnet-block-used-twice", "4a", "ginkgo", CONVNET,
          "x = self.PreAct3_b(self.PreAct3_a(x))", "x = self.PreAct3_a(self.PreAct3_a(x))",
          ("layers and their order",), ("blocks one after the other", *CONV)),
    Fault("convnet-shares-its-blocks", "4a", "larch", CONVNET,
          "[ResBlock(ch) for _ in range(n_blocks)]", "[ResBlock(ch)] * n_blocks",
          ("layers and their order",), ("blocks one after the other", *CONV)),
    Fault("convnet-skip-around-two-blocks", "4a", "fir", CONVNET,
          """                h = F.relu(getattr(self, name + '_norm')(x))
                x = x + getattr(self, name + '_conv')(h)
""",
          """                if name.endswith('a'):
                    skip = x
                x = getattr(self, name + '_conv')(F.relu(getattr(self, name + '_norm')(x)))
                if name == 'preact_0a' or name.endswith('b'):
                    x = x + skip
""",
          ("skip connections",), ("PreAct block", "blocks one after the other", *CONV)),
    Fault("convnet-without-skip", "4a", "alder", CONVNET,
          "return x + self.net(x)", "return self.net(x)",
          ("skip connections",), ("PreAct block", "blocks one after the other", *CONV)),
    Fault("convnet-skip-from-the-activation", "4a", "birch", CONVNET,
          "        out = self.conv(F.relu(self.bn(x)))\n        return out + x\n",
          "        x = F.relu(self.bn(x))\n        return self.conv(x) + x\n",
          ("skip connections",), ("PreAct block", "blocks one after the other", *CONV)),
    Fault("convnet-bn-conv-relu", "4a", "doum", CONVNET,
          "    x = self.act(x)\n    x = self.conv(x)\n", "    x = self.conv(x)\n    x = self.act(x)\n",
          ("PreAct block",), ("skip connections", "blocks one after the other", *CONV)),
    Fault("convnet-conv-bn-relu", "4a", "cedar", CONVNET,
          "Residual(nn.BatchNorm2d(c), nn.ReLU(inplace=True), nn.Conv2d(c, c, 3, padding=1))",
          "Residual(nn.Conv2d(c, c, 3, padding=1), nn.BatchNorm2d(c), nn.ReLU(inplace=True))",
          ("PreAct block",), ("skip connections", "blocks one after the other", *CONV)),
    Fault("convnet-relu-bn-conv", "4a", "hazel", CONVNET,
          "      nn.BatchNorm2d(channels),\n      nn.ReLU(),\n", "      nn.ReLU(),\n      nn.BatchNorm2d(channels),\n",
          ("PreAct block",), ("skip connections", "blocks one after the other", *CONV)),
    Fault("convnet-pool-kernel-two", "4a", "birch", CONVNET,
          "F.max_pool2d(x, 3, stride=2, padding=1)", "F.max_pool2d(x, 2, stride=2)",
          ("pooling",), CONV),
    Fault("convnet-average-pooling", "4a", "elm", CONVNET,
          "nn.MaxPool2d(3, stride=2, padding=1)", "nn.AvgPool2d(3, stride=2, padding=1)",
          ("pooling",), CONV),
    Fault("convnet-pool-before-conv", "4a", "maple", CONVNET,
          "CONFIG = ['R', 128, 'M', 'R'", "CONFIG = ['R', 'M', 128, 'R'",
          ("layers and their order",), ("pooling", *CONV)),
    Fault("convnet-no-bn-before-linear", "4a", "quince", CONVNET,
          "F.relu(self.bn_last(x))", "F.relu(x)",
          ("head",), CONV),
    Fault("convnet-nothing-before-linear", "4a", "juniper", CONVNET,
          "padding=1),\n      nn.BatchNorm2d(512),\n      nn.ReLU()\n    )", "padding=1)\n    )",
          ("head",), CONV),
    Fault("convnet-no-relu-before-linear", "4a", "elm", CONVNET,
          "torch.relu(self.bn(h.reshape(h.size(0), -1)))", "self.bn(h.reshape(h.size(0), -1))",
          ("head",), CONV),
    Fault("convnet-softmax-at-the-end", "4a", "alder", CONVNET,
          "out = self.linear(out)", "out = torch.softmax(self.linear(out), dim=1)",
          ("head",), ("forward", "script: loss is the cross-entropy", *TRAINING)),
    Fault("convnet-stride-two", "4a", "nutmeg", CONVNET,
          "self.conv1 = nn.Conv2d(64, 128, 1)", "self.conv1 = nn.Conv2d(64, 128, 1, stride=2)",
          ("layers and their order",), ("pooling", *CONV)),
    Fault("convnet-upscaling-with-3x3", "4a", "hazel", CONVNET,
          "nn.Conv2d(128, 256, kernel_size=1, stride=1, padding=0)", "nn.Conv2d(128, 256, kernel_size=3, stride=1, padding=1)",
          ("layers and their order",), CONV),
    Fault("convnet-width-too-small", "4a", "oak", CONVNET,
          "widths = [64, 128, 256, 512, 512]", "widths = [64, 128, 256, 256, 512]",
          ("layers and their order",), CONV),
    Fault("convnet-forgets-to-flatten", "4a", "alder", CONVNET,
          "    out = out.view(out.shape[0], -1)\n", "",
          ("layers and their order",), ()),
    Fault("convnet-block-of-another-width", "4a", "elm", CONVNET,
          "self.block2 = nn.Sequential(PreActivation(2 * f), PreActivation(2 * f)",
          "self.block2 = nn.Sequential(PreActivation(f), PreActivation(2 * f)",
          ("layers and their order",), ("parameter count",)),
    Fault("convnet-classes-fixed", "4a", "kapok", CONVNET,
          "nn.Linear(c, n_classes)", "nn.Linear(c, 10)",
          ("n_channels and n_classes",), ()),
    Fault("convnet-channels-fixed", "4a", "pine", CONVNET,
          "self.stem = nn.Conv2d(n_channels, 64, 3", "self.stem = nn.Conv2d(3, 64, 3",
          ("n_channels and n_classes",), ()),
    # 4 a script
    Fault("conv-sgd-for-adam", "4a", "alder", TRAIN_CONV,
          "torch.optim.Adam(", "torch.optim.SGD(",
          ("script: optimizer and its step",), TRAINING),
    Fault("conv-no-eval-mode", "4a", "alder", TRAIN_CONV,
          "  model.eval()\n", "",
          ("script: evaluation mode",), ("script: evaluates on the whole test set", "script: reaches the accuracy")),
    Fault("conv-stays-in-eval-mode", "4a", "kapok", TRAIN_CONV,
          "  model.train()\n", "",
          ("script: training mode",), ("script: reaches the accuracy",)),
    Fault("conv-no-zero-grad", "4a", "elm", TRAIN_CONV,
          "        optimizer.zero_grad()\n", "",
          ("script: gradients cleared",), ("script: optimizer and its step", *TRAINING)),
    Fault("conv-no-step", "4a", "doum", TRAIN_CONV,
          "  optimizer.step()\n", "",
          ("script: optimizer and its step",), ("script: flag learning_rate", *TRAINING)),
    Fault("conv-ignores-learning-rate", "4a", "cedar", TRAIN_CONV,
          "torch.optim.Adam(net.parameters(), lr=FLAGS.learning_rate)", "torch.optim.Adam(net.parameters())",
          ("script: flag learning_rate",), ("script: default values", "script: reaches the accuracy")),
    Fault("conv-ignores-max-steps", "4a", "birch", TRAIN_CONV,
          "for step in range(1, FLAGS.max_steps + 1):", "for step in range(1, 5001):",
          ("script: flag max_steps",), ()),
    Fault("conv-ignores-batch-size", "4a", "alder", TRAIN_CONV,
          "next_batch(FLAGS.batch_size)", "next_batch(BATCH_SIZE_DEFAULT)",
          ("script: flag batch_size",), ()),
    Fault("conv-ignores-eval-freq", "4a", "doum", TRAIN_CONV,
          "if (step + 1) % FLAGS.eval_freq == 0:", "if (step + 1) % 500 == 0:",
          ("script: flag eval_freq",), ("script: reports evaluations", "script: evaluates on the whole test set", "script: evaluation mode")),
    Fault("conv-ignores-data-dir", "4a", "elm", TRAIN_CONV,
          "cifar10_utils.get_cifar10(FLAGS.data_dir)", "cifar10_utils.get_cifar10('./cifar10/cifar-10-batches-py')",
          ("script: flag data_dir",), tuple(f"script: {part}" for part in SCRIPT_PARTS)),
    Fault("conv-default-learning-rate", "4a", "birch", TRAIN_CONV,
          "LEARNING_RATE_DEFAULT = 1e-4", "LEARNING_RATE_DEFAULT = 1e-3",
          ("script: default values",), ("script: reaches the accuracy",)),
    Fault("conv-default-batch-size", "4a", "hazel", TRAIN_CONV,
          "BATCH_SIZE_DEFAULT = 32", "BATCH_SIZE_DEFAULT = 64",
          ("script: default values",), ()),
    Fault("conv-evaluates-on-one-batch", "4a", "doum", TRAIN_CONV,
          "for start in range(0, dataset.num_examples, size):", "for start in range(0, size, size):",
          ("script: evaluates on the whole test set",), ()),
    Fault("conv-evaluates-on-training-images", "4a", "elm", TRAIN_CONV,
          "x, y = get_batch(cifar10['test'], TEST_BATCH)", "x, y = get_batch(cifar10['train'], TEST_BATCH)",
          ("script: evaluates on the whole test set",), ()),
    Fault("conv-trains-on-test-images", "4a", "fir", TRAIN_CONV,
          "cifar10['train'].next_batch", "cifar10['test'].next_batch",
          ("script: trains on the training images",), ("script: evaluates on the whole test set", "script: reaches the accuracy")),
    Fault("conv-trains-on-scaled-images", "4a", "cedar", TRAIN_CONV,
          "    x = torch.tensor(x, dtype=torch.float, device=device)\n",
          "    x = torch.tensor(x, dtype=torch.float, device=device) / 255\n",
          ("script: evaluates on the whole test set",), ()),
    Fault("conv-standardises-training-batches", "4a", "doum", TRAIN_CONV,
          "batch, device):\n  net.train()\n  x, y = prepare(batch, device)\n",
          "batch, device):\n  net.train()\n  x, y = prepare(batch, device)\n  x = (x - x.mean()) / x.std()\n",
          ("script: evaluates on the whole test set",), ()),
    Fault("conv-evaluates-images-of-another-layout", "4a", "cedar", TRAIN_CONV,
          "    out = net(x)\n    loss += F", "    out = net(x.permute(0, 2, 3, 1).reshape(x.shape))\n    loss += F",
          ("script: evaluates on the whole test set",), ()),
    Fault("conv-accuracy-of-the-last-batch", "4a", "cedar", TRAIN_CONV,
          "acc += accuracy(out, y) * x.shape[0]\n    seen += x.shape[0]\n  return loss / seen, acc / seen",
          "acc = accuracy(out, y)\n    seen += x.shape[0]\n  return loss / seen, acc",
          ("script: evaluates on the whole test set",), ()),
    Fault("conv-labels-of-the-next-batch", "4a", "cedar", TRAIN_CONV,
          "    x, y = data.train.next_batch(FLAGS.batch_size)\n",
          "    x = data.train.next_batch(FLAGS.batch_size)[0]\n    y = data.train.next_batch(FLAGS.batch_size)[1]\n",
          ("script: loss is the cross-entropy",), TRAINING),
    Fault("conv-plots-a-tensor-with-grad", "4a", "birch", TRAIN_CONV,
          "loss_curve.append(loss.item())", "loss_curve.append(loss)",
          ("script: runs to its end",), ("script: reports evaluations",)),
    Fault("conv-saves-into-missing-folder", "4a", "doum", TRAIN_CONV,
          "  os.makedirs('results', exist_ok=True)\n", "",
          ("script: runs to its end",), ()),
    Fault("conv-evaluation-crashes", "4a", "cedar", TRAIN_CONV,
          "x = torch.tensor(images[seen:seen + FLAGS.batch_size], dtype=torch.float, device=device)",
          "x = torch.tensor(images[seen:seen + FLAGS.batch_size], device=device)",
          ("script: runs to its end",), tuple(f"script: {part}" for part in SCRIPT_PARTS)),
    Fault("conv-accuracy-in-percent", "4a", "iroko", TRAIN_CONV,
          "100.0 * (predicted == labels).sum().item() / len(labels) / 100.0", "100.0 * (predicted == labels).sum().item() / len(labels)",
          ("script: accuracy function",), ("script: reaches the accuracy", "script: reports evaluations", "script: evaluates on the whole test set")),
    # on the newer hand-ins, 1.2
    Fault("linear-bias-gradient-over-the-outputs", "1.2", "sorrel", MODULES,
          "np.add.reduce(dout, axis=0))", "np.add.reduce(dout, axis=0) / dout.shape[1])",
          ("LinearModule: gradient of the bias",), NUMPY),
    Fault("linear-adds-the-bias-twice", "1.2", "sorrel", MODULES,
          "+ self.params['bias'][np.newaxis]", "+ 2 * self.params['bias'][np.newaxis]",
          ("LinearModule: forward",), ("LinearModule: gradient of the bias", *NUMPY)),
    Fault("linear-mean-for-deviation", "1.2", "sorrel", MODULES,
          "1e-4 * np.random.standard_normal(shape)", "np.random.normal(1e-4, size=shape)",
          ("LinearModule: initial values",), ("script: reaches the accuracy",), scripts=True),
    Fault("linear-keeps-its-input-in-the-class", "1.2", "sorrel", MODULES,
          "        self.cache = (x,)\n        return np.einsum", "        LinearModule.cache = (x,)\n        return np.einsum",
          ("no state shared",), ("script: runs to its end",), scripts=True),
    Fault("elu-derivative-of-the-value", "1.2", "sorrel", MODULES,
          "np.minimum(y + 1, 1)", "np.minimum(y, 1)",
          ("ELUModule: backward",), NUMPY),
    Fault("elu-linear-below-zero", "1.2", "sorrel", MODULES,
          "np.expm1(np.minimum(x, 0))", "0.1 * np.minimum(x, 0)",
          ("ELUModule: forward",), ("ELUModule: backward", *NUMPY)),
    Fault("softmax-normalises-the-whole-batch", "1.2", "sorrel", MODULES,
          "np.log(np.exp(shifted).sum(1))[:, None]", "np.log(np.exp(shifted).sum())",
          ("SoftMaxModule: forward",), ("SoftMaxModule: backward", "SoftMaxModule: large numbers", *NUMPY)),
    Fault("cross-entropy-in-bits", "1.2", "sorrel", MODULES,
          "-np.log(x[rows", "-np.log2(x[rows",
          ("CrossEntropyModule: forward",), ()),
    Fault("cross-entropy-gradient-over-all-entries", "1.2", "sorrel", MODULES,
          "return dx / len(x)", "return dx / x.size",
          ("CrossEntropyModule: backward",), NUMPY),
    Fault("mlp-goes-back-through-a-layer-in-order", "1.2", "sorrel", MLP_NUMPY,
          "self.linear.backward(self.activation.backward(dout))", "self.activation.backward(self.linear.backward(dout))",
          ("MLP: gradients",), ("MLP: no hidden layers", *STUMBLES)),
    Fault("mlp-softmax-for-the-second-activation", "1.2", "sorrel", MLP_NUMPY,
          "[Layer(a, b, ELUModule()) for a, b in zip(widths, widths[1:])]",
          "[Layer(a, b, SoftMaxModule() if i == 1 else ELUModule()) for i, (a, b) in enumerate(zip(widths, widths[1:]))]",
          ("MLP: forward",), NUMPY),
    Fault("numpy-updates-twice", "1.2", "sorrel", TRAIN_NUMPY,
          "self.net.step(self.flags.learning_rate)\n", "self.net.step(self.flags.learning_rate)\n"
          "            self.net.step(self.flags.learning_rate)\n",
          ("script: flag learning_rate",), ("script: default values", "script: optimizer and its step", *TRAINING)),
    Fault("numpy-one-step-too-few", "1.2", "teak", TRAIN_NUMPY,
          "range(1, self.flags.max_steps + 1)", "range(1, self.flags.max_steps)",
          ("script: flag max_steps",), ()),
    Fault("numpy-average-forgets-what-came", "1.2", "willow", TRAIN_NUMPY,
          "        self.total += value * n\n        self.count += n\n",
          "        self.total = value * n\n        self.count = n\n",
          ("script: evaluates on the whole test set",), ()),
    Fault("linear-keeps-its-first-input", "1.2", "alder", MODULES,
          "    self.x = x  # needed in the backward pass\n", "    if not hasattr(self, 'x'):\n      self.x = x\n",
          ("LinearModule: gradient of the weight",), ()),
    Fault("elu-keeps-its-first-derivative", "1.2", "cedar", MODULES,
          "    dx = dout * self.deriv\n", "    self.first = getattr(self, 'first', self.deriv)\n    dx = dout * self.first\n",
          ("ELUModule: backward",), ()),
    Fault("softmax-keeps-its-first-output", "1.2", "cedar", MODULES,
          "    self.saved = out\n", "    self.__dict__.setdefault('saved', out)\n",
          ("SoftMaxModule: backward",), ()),
    Fault("softmax-squeezes-a-batch-of-one", "1.2", "birch", MODULES,
          "return np.einsum('si,sij->sj', dout, diag - outer)", "return np.einsum('si,sij->sj', dout, diag - outer).squeeze()",
          ("SoftMaxModule: backward",), ()),
    Fault("linear-parameters-of-the-class", "1.2", "alder", MODULES,
          """    self.params = {'weight': np.random.normal(loc=0.0, scale=0.0001, size=(out_features, in_features)),
                   'bias': np.zeros((1, out_features))}
""", """    LinearModule.params = {'weight': np.random.normal(loc=0.0, scale=0.0001, size=(out_features, in_features)),
                           'bias': np.zeros((1, out_features))}
""",
          ("no state shared",), STUMBLES),
    Fault("mlp-uses-one-layer-for-each-width", "1.2", "alder", MLP_NUMPY,
          "      self.layers.append(LinearModule(previous, n))\n",
          "      known = [layer for layer in self.layers[::2] if layer.params['weight'].shape == (n, previous)]\n"
          "      self.layers.append(known[0] if known else LinearModule(previous, n))\n",
          ("MLP: layers",), ()),
    # 2.1
    Fault("torch-uses-one-layer-for-each-width", "2.1", "birch", MLP_TORCH,
          "nn.ModuleList([nn.Linear(i, o) for i, o in zip(sizes, sizes[1:])])",
          "nn.ModuleList([layers.setdefault((i, o), nn.Linear(i, o)) for layers in [{}] for i, o in zip(sizes, sizes[1:])])",
          ("MLP: layers",), ()),
    Fault("torch-elu-alpha", "2.1", "sorrel", MLP_TORCH,
          "nn.ELU(alpha=1.0)", "nn.ELU(alpha=0.1)",
          ("MLP: forward",), ("MLP: layers", *TRAINING)),
    Fault("torch-hidden-layers-without-bias", "2.1", "sorrel", MLP_TORCH,
          "nn.Linear(i, o)", "nn.Linear(i, o, bias=False)",
          ("MLP: parameters are registered",), ("MLP: layers", "MLP: forward", *TRAINING)),
    Fault("torch-sum-of-the-losses", "2.1", "sorrel", TRAIN_TORCH,
          "criterion = nn.CrossEntropyLoss()", "criterion = nn.CrossEntropyLoss(reduction='sum')",
          ("script: loss is the cross-entropy",), TRAINING),
    Fault("torch-label-smoothing", "2.1", "sorrel", TRAIN_TORCH,
          "criterion = nn.CrossEntropyLoss()", "criterion = nn.CrossEntropyLoss(label_smoothing=0.2)",
          ("script: loss is the cross-entropy",), TRAINING),
    Fault("torch-squared-error", "2.1", "yew", TRAIN_TORCH,
          "        criterion(net(x), y).backward()", "        nn.MSELoss()(net(x).softmax(1), nn.functional.one_hot(y, 10).float()).backward()",
          ("script: loss is the cross-entropy",), TRAINING),
    Fault("torch-shuffles-the-labels", "2.1", "willow", TRAIN_TORCH,
          "y = torch.tensor(y, device=device).argmax(dim=1)", "y = torch.tensor(np.random.permutation(y), device=device).argmax(dim=1)",
          ("script: loss is the cross-entropy",), TRAINING),
    Fault("torch-optimizes-the-last-layer", "2.1", "sorrel", TRAIN_TORCH,
          "SGD(net.parameters()", "SGD(net[-1].parameters()",
          ("script: optimizer and its step",), TRAINING),
    Fault("torch-clears-the-gradients-once", "2.1", "yew", TRAIN_TORCH,
          "        net.zero_grad()\n", "        if step == 0:\n            net.zero_grad()\n",
          ("script: gradients cleared",), ("script: optimizer and its step", *TRAINING)),
    Fault("torch-drops-the-last-test-batch", "2.1", "teak", TRAIN_TORCH,
          "batch_size=512)", "batch_size=6000, drop_last=True)",
          ("script: evaluates on the whole test set",), ()),
    Fault("torch-drops-the-last-sixteen-test-images", "2.1", "teak", TRAIN_TORCH,
          "batch_size=512)", "batch_size=48, drop_last=True)",
          ("script: evaluates on the whole test set",), ()),
    # 3.1, 3.2
    Fault("norm-square-of-the-mean-forgotten", "3.1", "sorrel", NORM,
          "return mean, torch.mean(torch.pow(x - mean, 2), 1, keepdim=True)", "return mean, torch.mean(x ** 2, 1, keepdim=True)",
          ("forward",), ("gradients", "eps")),
    Fault("norm-gamma-and-beta-exchanged", "3.1", "sorrel", NORM,
          "torch.addcmul(self.beta, (input - mean) / torch.pow(var + self.eps, 0.5), self.gamma)",
          "torch.addcmul(self.gamma, (input - mean) / torch.pow(var + self.eps, 0.5), self.beta)",
          ("forward",), ("gradients", "eps")),
    Fault("manual-mean-over-the-batch", "3.2b", "sorrel", NORM,
          "d.mean(-1, True)", "d.mean(0, True)",
          ("gradient of the input",), ("eps",)),
    Fault("manual-small-eps-in-backward", "3.2b", "sorrel", NORM,
          "ctx.eps = eps", "ctx.eps = 1e-8",
          ("eps",), ("gradient of the input", "gradient of gamma")),
    Fault("manual-exchanges-the-rules", "3.2b", "sorrel", NORM,
          "rules = (of_input, of_gamma, of_beta)", "rules = (of_input, of_beta, of_gamma)",
          ("gradient of gamma", "gradient of beta"), ("eps",)),
    Fault("manual-zeros-for-none", "3.2b", "sorrel", NORM,
          "rule() if need else None for", "rule() if need else torch.zeros(1) for",
          ("None where no gradient is needed",), ()),
    Fault("manual-no-gradient-of-beta", "3.2b", "sorrel", NORM,
          "            return torch.einsum('bj->j', grad_output)\n", "            torch.einsum('bj->j', grad_output)\n",
          ("gradient of beta",), ("None where no gradient is needed", "eps")),
    Fault("manual-none-together", "3.2b", "sorrel", NORM,
          "rule() if need else None for", "rule() if all(ctx.needs_input_grad[:3]) else None for",
          ("None where no gradient is needed",), ()),
    Fault("manual-rounds-to-float32", "3.2b", "birch", NORM,
          "        mu = torch.mean(input, dim=1).unsqueeze(1)\n        sigma2 = torch.var(input, dim=1, unbiased=False).unsqueeze(1)\n"
          "        inv_std", "        input = input.float()\n        mu = torch.mean(input, dim=1).unsqueeze(1)\n"
          "        sigma2 = torch.var(input, dim=1, unbiased=False).unsqueeze(1)\n        inv_std",
          ("forward",), ()),
    Fault("norm-counts-numbers-for-the-shape", "3.1", "elm", NORM,
          "    if input.ndim != 2:\n      raise ValueError(\"Need a 2D tensor, got %dD\" % input.ndim)\n"
          "    elif input.size()[-1] != n_neurons:", "    if input.numel() % n_neurons:",
          ("shape check",), ()),
    # 4
    Fault("convnet-skip-from-the-norm", "4a", "sorrel", CONVNET,
          "        z = self.F(x)\n        z += x\n", "        x = self.F.norm(x)\n        z = self.F.conv(self.F.act(x)) + x\n",
          ("skip connections",), ("PreAct block", "blocks one after the other", *CONV)),
    Fault("convnet-adds-the-block-to-itself", "4a", "sorrel", CONVNET,
          "        z += x\n", "        z = z + z\n",
          ("skip connections",), ("PreAct block", "blocks one after the other", *CONV)),
    Fault("convnet-pools-before-widening", "4a", "teak", CONVNET,
          "self.pool(self.widen(self.blocks(x)))", "self.widen(self.pool(self.blocks(x)))",
          ("layers and their order",), ("pooling", *CONV)),
    Fault("convnet-last-norm-after-relu", "4a", "yew", CONVNET,
          "torch.relu(self.last_norm(x))", "self.last_norm(torch.relu(x))",
          ("head",), CONV),
    Fault("conv-standardises-training-images-alone", "4a", "sorrel", TRAIN_CONV,
          "        x = (x - self.mean) / self.std\n        if flip:\n", "        if flip:\n            x = (x - self.mean) / self.std\n",
          ("script: evaluates on the whole test set",), ()),
    Fault("conv-returns-the-last-accuracy", "4a", "willow", TRAIN_CONV,
          "return accs.mean()", "return accs[-1]",
          ("script: evaluates on the whole test set",), ()),
    Fault("conv-labels-upside-down", "4a", "sorrel", TRAIN_CONV,
          "loss = self.criterion(self.net(x), y.argmax(1))", "loss = self.criterion(self.net(x), y.argmax(1).flip(0))",
          ("script: loss is the cross-entropy",), TRAINING),
    # later updates, and numbers that no function gives
    Fault("numpy-sgd-with-momentum", "1.2", "birch", TRAIN_NUMPY,
          "            lin.params['weight'] -= lr * lin.grads['weight']\n",
          "            lin.velocity = 0.9 * getattr(lin, 'velocity', 0) + lin.grads['weight']\n"
          "            lin.params['weight'] -= lr * lin.velocity\n",
          ("script: optimizer and its step",), TRAINING),
    Fault("numpy-learning-rate-decays", "1.2", "doum", TRAIN_NUMPY,
          "layer.params[key] -= FLAGS.learning_rate * layer.grads[key]",
          "layer.params[key] -= FLAGS.learning_rate / (1 + 0.1 * step) * layer.grads[key]",
          ("script: optimizer and its step",), TRAINING),
    Fault("numpy-strong-weight-decay", "1.2", "alder", TRAIN_NUMPY,
          "layer.params['weight'] -= FLAGS.learning_rate * layer.grads['weight']",
          "layer.params['weight'] -= FLAGS.learning_rate * (layer.grads['weight'] + layer.params['weight'])",
          ("script: optimizer and its step",), TRAINING),
    Fault("numpy-updates-before-backward", "1.2", "quince", TRAIN_NUMPY,
          """        net.backward(criterion.backward(probs, labels))
        for lin in net.linear_layers:
            lin.params['weight'] -= lr * lin.grads['weight']
            lin.params['bias'] -= lr * lin.grads['bias']
""",
          """        for lin in net.linear_layers:
            if i > 0:
                lin.params['weight'] -= lr * lin.grads['weight']
                lin.params['bias'] -= lr * lin.grads['bias']
        net.backward(criterion.backward(probs, labels))
""",
          ("script: optimizer and its step",), ("script: flag max_steps", "script: reports evaluations", *TRAINING)),
    Fault("numpy-learning-rate-is-text", "1.2", "maple", TRAIN_NUMPY,
          "'--learning_rate', type=float, default=LEARNING_RATE_DEFAULT", "'--learning_rate', type=str, default=LEARNING_RATE_DEFAULT",
          ("script: runs to its end",), ("script: flag learning_rate",)),
    Fault("torch-learning-rate-is-text", "2.1", "maple", TRAIN_TORCH,
          "'--learning_rate', type=float, default=LEARNING_RATE_DEFAULT", "'--learning_rate', type=str, default=LEARNING_RATE_DEFAULT",
          ("script: runs to its end",), ("script: flag learning_rate",)),
    Fault("conv-adam-with-weight-decay", "4a", "alder", TRAIN_CONV,
          "lr=FLAGS.learning_rate)", "lr=FLAGS.learning_rate, weight_decay=1e-2)",
          ("script: optimizer and its step",), TRAINING),
    Fault("conv-learning-rate-decays", "4a", "birch", TRAIN_CONV,
          "        optimizer.step()\n", "        optimizer.step()\n        optimizer.param_groups[0]['lr'] *= 0.99\n",
          ("script: optimizer and its step",), TRAINING),
    # mistakes of a reader who had seen nothing
    Fault("numpy-mixes-images-by-a-reshape", "1.2", "rowan", TRAIN_NUMPY,
          "logits = net.forward(x.reshape(len(x), -1))", "logits = net.forward(x.reshape(3072, -1).T)",
          ("script: trains on the training images",), TRAINING),
    Fault("numpy-divides-the-step-by-the-batch", "1.2", "quince", TRAIN_NUMPY,
          "lr = FLAGS.learning_rate", "lr = FLAGS.learning_rate / FLAGS.batch_size",
          ("script: optimizer and its step",), TRAINING),
    Fault("torch-elu-before-each-layer", "2.1", "nutmeg", MLP_TORCH,
          "x = F.elu(linear(x))", "x = linear(F.elu(x))",
          ("MLP: forward",), TRAINING),
    Fault("norm-divides-by-the-number-of-samples", "3.1", "larch", NORM,
          "    var = input.var(dim=1, unbiased=False, keepdim=True)\n    x_hat = (input - mean) / torch.sqrt(var + self.eps)",
          "    var = (input - mean).pow(2).sum(dim=1, keepdim=True) / len(input)\n"
          "    x_hat = (input - mean) / torch.sqrt(var + self.eps)",
          ("forward",), ("eps", "gradients")),
    Fault("function-overwrites-its-input", "3.2b", "larch", NORM,
          "x_hat = (input - mean) * inv_std", "x_hat = input.sub_(mean).mul_(inv_std)",
          ("saves no more than needed",)),
    Fault("function-divides-by-the-variance-in-backward", "3.2b", "larch", NORM,
          "inv_std = 1 / torch.sqrt(var + ctx.eps)", "inv_std = 1 / (var + ctx.eps)",
          ("gradient of the input", "gradient of gamma")),
    Fault("convnet-script-never-switches-gradients-on-again", "4a", "quince", TRAIN_CONV,
          "  with torch.no_grad():\n    for i in range(0, len(images), batch_size):", "  torch.set_grad_enabled(False)\n  if True:\n"
          "    for i in range(0, len(images), batch_size):",
          ("script: runs to its end",), ("script: optimizer and its step", "script: reports evaluations")),
    Fault("convnet-script-moves-pixels", "4a", "quince", TRAIN_CONV,
          "    x = torch.from_numpy(x).float().to(device)",
          "    x = torch.from_numpy(x.reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2).copy()).float().to(device)",
          ("script: trains on the training images",), TRAINING),
    Fault("torch-mlp-layers-do-not-chain", "2.1", "alder", MLP_TORCH,
          "      n_inputs = units\n", "",
          ("MLP: layers",), ("MLP: forward", *TRAINING)),
    # of hand-ins that were done in part, or on a machine of one's own
    Fault("convnet-script-trains-another-network", "4a", "quince", TRAIN_CONV,
          "  model = ConvNet(3, 10).to(device)",
          "  model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10)).to(device)",
          ("script: optimizer and its step", "script: trains on the training images"), ANY_SCRIPT_PART[:-1]),
    Fault("numpy-script-knows-one-folder-of-data", "1.2", "quince", TRAIN_NUMPY,
          "get_cifar10(FLAGS.data_dir)", "get_cifar10('/home/jan/cifar10')",
          ("script: flag data_dir",)),
)


def check_table() -> None:
    """Every file is there, every fault changes exactly one place and speaks of parts that exist."""
    assert set(PACKING) == set(RIGHT)
    for name, files in RIGHT.items():
        for file in files:
            assert (POOL / Path(file).stem / f"{files[file]}.py").is_file(), (name, file)
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    for fault in FAULTS:
        assert source(fault.base, fault.file).count(fault.old) == 1, fault.name
        assert fault.old != fault.new and fault.must_fail, fault.name
        unknown = set(fault.must_fail + fault.may_fail) - set(PARTS[fault.question])
        assert not unknown, (fault.name, unknown)


check_table()
