"""Mutants of the reference, one bug each, and the question that each must cost points.

    python tests/grading_mutants.py             # grade every mutant on every question, print what it lost

A bug is a few lines put at the end of a file. They lean on the interfaces that the assignment fixes and not on the
reference's wording, so that it can be rewritten without them.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from grading.files import local_imports  # noqa: E402
from grading.submission import QUESTIONS  # noqa: E402

FILES = ("modules.py", "mlp_numpy.py", "train_mlp_numpy.py", "mlp_pytorch.py", "train_mlp_pytorch.py",
         "custom_layernorm.py", "convnet_pytorch.py", "train_convnet_pytorch.py")


WRAP = """

def _wrap(owner, name, function):  # function(original, self, ...) takes the method's place
    original = getattr(owner, name)
    setattr(owner, name, lambda self, *args, **kwargs: function(original, self, *args, **kwargs))

"""


@dataclass(frozen=True)
class Mutant:
    """The reference with `bug` at the end of `file`; it must cost points in `question` and in no other."""

    name: str
    question: str
    file: str
    bug: str

    def write(self, folder: Path) -> Path:
        """The reference's code with this bug, in the new folder `folder`."""
        path = copy_reference(folder) / self.file
        body, guard, rest = path.read_text().partition("\nif __name__ ==")
        source = f"{body}{WRAP}{self.bug}\n{guard}{rest}"
        compile(source, self.file, "exec")
        path.write_text(source)
        return folder

    def may_touch(self) -> list[str]:
        """The questions whose code imports the file; the others run exactly what the reference runs."""
        return [number for number, question in QUESTIONS.items()
                if self.file in local_imports(ROOT, [question.file, *([question.script.file] if question.script else []),
                                                     *(["mlp_numpy.py"] if number == "1.2" else [])])]

    @property
    def in_a_script(self) -> bool:
        return self.file.startswith("train")


def copy_reference(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in local_imports(ROOT, FILES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def numpy_bug(name: str, method: str, lines: str, class_: str) -> Mutant:
    """A method of modules.py replaced by `lines`; x, dout and y are its input, upstream gradient and targets."""
    arguments = {"forward": "x, *y", "backward": "dout, *y", "__init__": "m, n, **k"}[method]
    return Mutant(name, "1.2", "modules.py", f"def _bug(original, self, {arguments}):\n{indented(lines)}\n"
                  f"_wrap({class_}, {method!r}, _bug)")


def indented(lines: str) -> str:
    return "\n".join("    " + line for line in lines.split("\n"))


LINEAR, ELU, SOFTMAX, LOSS = "LinearModule", "ELUModule", "SoftMaxModule", "CrossEntropyModule"
REMEMBER = "_wrap({}, 'forward', lambda original, self, x: (setattr(self, '_x', x), original(self, x))[1])\n"


def elu_bug(name: str, derivative: str) -> Mutant:
    return Mutant(name, "1.2", "modules.py", REMEMBER.format(ELU) +
                  f"ELUModule.backward = lambda self, dout: dout * ({derivative})")


def layer_norm(name: str, value: str = "c * (v + e.eps) ** -0.5", variance: str = "(c * c).mean(1, keepdim=True)",
               check: str = "_checked(e, x)") -> Mutant:
    """Question 3.1 with another formula: c the centred input, v the variance, e the module."""
    return Mutant(name, "3.1", "custom_layernorm.py", f"""
def _checked(e, x):
    if x.ndim != 2 or x.shape[1] != len(e.gamma):
        raise ValueError

def _forward(e, x):
    {check}
    c = x - x.mean(1, keepdim=True)
    v = {variance}
    return e.gamma * ({value}) + e.beta

CustomLayerNormAutograd.forward = _forward""")


def by_hand(name: str, root: str = "(v + eps) ** -0.5", kept: str = "x, m, r, gamma", ddof: int = 0,
            dx: str = "r * (g - g.mean(1, keepdim=True) - h * (g * h).mean(1, keepdim=True))",
            dgamma: str = "(dy * h).sum(0)", dbeta: str = "dy.sum(0)", needs: str = "ctx.needs_input_grad") -> Mutant:
    """Question 3.2b with another formula: r the reciprocal deviation, h the normalized input, g gamma times dy."""
    return Mutant(name, "3.2b", "custom_layernorm.py", f"""
def _forward(ctx, x, gamma, beta, eps=1e-5):
    m = x.mean(1, keepdim=True)
    v = ((x - m) ** 2).sum(1, keepdim=True) / (x.shape[1] - {ddof})
    r = {root}
    h = (x - m) * r
    ctx.save_for_backward({kept})
    return gamma * h + beta

def _backward(ctx, dy):
    x, m, r, gamma, *extra = ctx.saved_tensors
    h = (x - m) * r
    g = gamma * dy
    a, b, c = {needs}[:3]
    return ({dx}) if a else None, ({dgamma}) if b else None, ({dbeta}) if c else None, None

CustomLayerNormManualFunction.forward = staticmethod(_forward)
CustomLayerNormManualFunction.backward = staticmethod(_backward)""")


MUTANTS = [
    numpy_bug("missing transpose", "forward", "w = self.params['weight']\noriginal(self, x)\n"
              "return x @ w.reshape(w.shape[::-1]) + self.params['bias']", LINEAR),
    numpy_bug("bias not added", "forward", "return original(self, x) - self.params['bias']", LINEAR),
    numpy_bug("bias gradient over the wrong axis", "backward", "dx = original(self, dout, *y)\n"
              "self.grads['bias'] = dout.sum(axis=1, keepdims=True)\nreturn dx", LINEAR),
    numpy_bug("weight gradient divided by the batch", "backward", "dx = original(self, dout, *y)\n"
              "self.grads['weight'] = self.grads['weight'] / len(dout)\nreturn dx", LINEAR),
    Mutant("input gradient with the sign wrong", "1.2", "modules.py", "_wrap(LinearModule, 'backward', lambda original, "
           "self, *a, **k: None if (dx := original(self, *a, **k)) is None else -dx)"),
    numpy_bug("initial standard deviation 0.01", "__init__", "original(self, m, n, **k)\n"
              "self.params['weight'] *= 100", LINEAR),
    numpy_bug("initial bias of one", "__init__", "original(self, m, n, **k)\nself.params['bias'] += 1", LINEAR),
    numpy_bug("a Python loop", "forward", "y = [original(self, row[None]) for row in x]\noriginal(self, x)\n"
              "return np.concatenate(y)", LINEAR),
    elu_bug("ELU derivative 0 at 0", "np.exp(np.minimum(self._x, 0)) * (self._x != 0)"),
    elu_bug("ELU derivative lacks the 1", "np.where(self._x >= 0, 1, np.expm1(np.minimum(self._x, 0)))"),
    Mutant("input kept in the class", "1.2", "modules.py", REMEMBER.format(ELU) + "ELUModule._x = property("
           "lambda self: ELUModule.last, lambda self, x: setattr(ELUModule, 'last', x))\n"
           "ELUModule.backward = lambda self, dout: dout * np.exp(np.minimum(self._x, 0))"),
    Mutant("softmax gradient without its cross term", "1.2", "modules.py", REMEMBER.format(SOFTMAX) +
           "SoftMaxModule.backward = lambda self, dout: dout * SoftMaxModule().forward(self._x)"),
    numpy_bug("softmax overflows", "forward", "original(self, x)\nwith np.errstate(all='ignore'):\n"
              "    return np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)", SOFTMAX),
    numpy_bug("softmax over the batch", "forward", "return original(self, x.T).T", SOFTMAX),
    numpy_bug("loss summed over the batch", "forward", "return original(self, x, *y) * len(x)", LOSS),
    numpy_bug("gradient divided by the batch twice", "backward", "return original(self, dout, *y) / len(dout)", LOSS),
    Mutant("a shared activation object", "1.2", "mlp_numpy.py", """
def _bug(original, self, *a, **k):
    original(self, *a, **k)
    first = next((layer for layer in self.layers if 'ELU' in type(layer).__name__), None)
    self.layers = [first if 'ELU' in type(layer).__name__ else layer for layer in self.layers]
_wrap(MLP, '__init__', _bug)"""),
    Mutant("no backward through the activations", "1.2", "mlp_numpy.py", """
def _bug(original, self, dout):
    import modules
    kept, modules.ELUModule.backward = modules.ELUModule.backward, lambda self, dout: dout
    original(self, dout)
    modules.ELUModule.backward = kept
_wrap(MLP, 'backward', _bug)"""),
    Mutant("learning rate ignored", "1.2", "train_mlp_numpy.py", "_train = train\ndef train(config):\n"
           "    config.learning_rate = 1e-3\n    return _train(config)"),
    Mutant("gradient ascent", "1.2", "train_mlp_numpy.py", "_wrap(CrossEntropyModule, 'backward', lambda original, self, "
           "x, y: -original(self, x, y))"),
    Mutant("ReLU instead of ELU", "2.1", "mlp_pytorch.py", """
def _bug(original, self, *a, **k):
    original(self, *a, **k)
    for module in list(self.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.ELU):
                setattr(module, name, nn.ReLU())
_wrap(MLP, '__init__', _bug)"""),
    Mutant("no bias in the first layer", "2.1", "mlp_pytorch.py", """
def _bug(original, self, *a, **k):
    original(self, *a, **k)
    next(m for m in self.modules() if isinstance(m, nn.Linear)).register_parameter('bias', None)
_wrap(MLP, '__init__', _bug)"""),
    Mutant("softmax at the end", "2.1", "mlp_pytorch.py", "_wrap(MLP, 'forward', lambda original, self, x: "
           "original(self, x).softmax(1))"),
    Mutant("gradient cut off", "2.1", "mlp_pytorch.py", "_wrap(MLP, 'forward', lambda original, self, x: "
           "original(self, x).detach() + 0 * sum(p.sum() for p in self.parameters()))"),
    Mutant("hidden units ignored", "2.1", "train_mlp_pytorch.py", "_train = train\ndef train(config):\n"
           "    config.dnn_hidden_units = [100]\n    return _train(config)"),
    layer_norm("unbiased variance", variance="x.var(1, keepdim=True)"),
    layer_norm("eps outside the root", value="c / (v.sqrt() + e.eps)"),
    layer_norm("normalized over the batch", value="(x - x.mean(0)) * (x.var(0, unbiased=False) + e.eps) ** -0.5"),
    layer_norm("no shape check", check="pass"),
    Mutant("gamma is not a parameter", "3.1", "custom_layernorm.py", """
def _bug(original, self, n_neurons, *a, **k):
    original(self, n_neurons, *a, **k)
    del self.gamma
    self.gamma = torch.ones(n_neurons)
_wrap(CustomLayerNormAutograd, '__init__', _bug)"""),
    by_hand("input gradient lacks its mean", dx="r * (g - h * (g * h).mean(1, keepdim=True))"),
    by_hand("input gradient lacks the variance", dx="r * (g - g.mean(1, keepdim=True))"),
    by_hand("unbiased variance by hand", ddof=1),
    by_hand("eps outside the root by hand", root="1 / (v.sqrt() + eps)"),
    by_hand("beta gradient averaged", dbeta="dy.mean(0)"),
    by_hand("gradients that are not needed", needs="list((True, True, True))"),
    by_hand("normalized input kept", kept="x, m, r, gamma, h"),
    Mutant("eps not passed on", "3.2c", "custom_layernorm.py", "_wrap(CustomLayerNormManualModule, '__init__', "
           "lambda original, self, n_neurons, eps=1e-5: original(self, n_neurons))"),
    Mutant("function not called", "3.2c", "custom_layernorm.py",
           "CustomLayerNormManualModule.forward = CustomLayerNormAutograd.forward"),
    Mutant("a missing skip connection", "4a", "convnet_pytorch.py", "_wrap(PreActBlock, 'forward', lambda original, self, "
           "x: original(self, x) - x)"),
    Mutant("no BatchNorm before the linear layer", "4a", "convnet_pytorch.py", """
def _bug(original, self, *a, **k):
    original(self, *a, **k)
    for module in list(self.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d) and not isinstance(module, PreActBlock):
                setattr(module, name, nn.Identity())
_wrap(ConvNet, '__init__', _bug)"""),
    Mutant("pooling without overlap", "4a", "convnet_pytorch.py", """
def _bug(original, self, *a, **k):
    original(self, *a, **k)
    for module in self.modules():
        if isinstance(module, nn.MaxPool2d):
            module.kernel_size, module.padding = 2, 0
_wrap(ConvNet, '__init__', _bug)"""),
    Mutant("evaluation in training mode", "4a", "training/trainer.py", "_evaluate = evaluate\n"
           "def evaluate(model, *a, **k):\n    model.eval = lambda: model\n    return _evaluate(model, *a, **k)"),
    Mutant("SGD instead of Adam", "4a", "train_convnet_pytorch.py", "_train = train\ndef train(config):\n"
           "    config.optimizer = 'sgd'\n    return _train(config)"),
    Mutant("evaluates the training split", "4a", "train_convnet_pytorch.py", """
_load_data = Config.load_data
def load_data(config, *a, **k):
    import dataclasses
    data = _load_data(config, *a, **k)
    return dataclasses.replace(data, test=data.train)
Config.load_data = load_data"""),
]


def main() -> int:
    """Grade every mutant on every question and print a table; 1 if one loses points elsewhere, or none at all."""
    import tempfile

    from grading import rubric
    from grading.classroom import Classroom, submissions

    work = Path(tempfile.mkdtemp(prefix="mutants-"))
    mutants = {f"mutant {i:02d}": mutant for i, mutant in enumerate(MUTANTS)}
    for name, mutant in mutants.items():
        mutant.write(work / "code" / name)
    rules, wrong = rubric.load(), 0

    def finish(record: dict, new: bool) -> None:
        nonlocal wrong
        mutant = mutants[record["student"]]
        lost = {row.number: round(row.points - record["questions"][row.number]["score"], 2) for row in rules.code}
        lost = {number: points for number, points in lost.items() if points}
        right = set(lost) == {mutant.question}
        wrong += not right
        print(f"{'ok   ' if right else 'WRONG'} {mutant.question:5} {mutant.name:42} lost {lost}", flush=True)

    try:
        with Classroom(work / "grades", rules, jobs=2) as room:
            room.grade(submissions(sorted((work / "code").iterdir())), finish)
    finally:
        shutil.rmtree(work)
    print(f"{len(MUTANTS)} mutants, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
