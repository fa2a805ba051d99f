"""Packages that a submission imports and may not, or cannot, use here: a stand-in that fails where it is used.

An import alone is excused: half of all submissions import what they do not use. Four kinds of module:

- a framework where the question asks for NumPy: what a file that scripts share sets up of it is excused as well; to
  compute with it is the submission's fault, an ImportError that says so, and is seen by the worker. In the sandbox
  `stub` lies over the package itself, so that no way of importing finds more;
- a package that is not installed here (PACKAGES): using it is not its fault. It raises, and is noted in `needed`, so
  that the question is not graded;
- one of those that only draws, prints, logs or debugs (OUTPUT, DEBUGGERS, COLAB): it takes every call and does nothing;
- any other module that is not there, such as a file that was not handed in: using it raises.

Stand-ins are given to the submission's own imports alone, and not inside `try`: a submission that tries an import also
works without it.
"""

from __future__ import annotations

import ast
import os
import re
import sys
import warnings
from abc import ABCMeta
from collections.abc import Callable, Iterator
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from numbers import Number
from types import FrameType, FunctionType, ModuleType
from typing import Any, Union

import numpy as np

from grading.worker.watch import FRAMEWORK

FRAMEWORKS = {"torch", "torchvision", "torchtext", "pytorch_lightning", "tensorflow", "jax", "autograd", "cupy",
              "theano", "keras"}
LOGGER = "torch.utils.tensorboard"  # part of torch, but useless without the package tensorboard
OUTPUT = {"seaborn", "tensorboard", "tensorboardX", "tabulate", "pandas", "wandb", "termcolor", "colorama",
          "prettytable", "texttable", "plotly", "visdom", "graphviz", "torchviz", "torchsummary", "torchinfo",
          "livelossplot", "tikzplotlib", "IPython"}
DEBUGGERS, COLAB = {"ipdb", "pudb", "wdb"}, {"google", "google.colab"}
PACKAGES = OUTPUT | FRAMEWORKS | DEBUGGERS | COLAB | {
    "scipy", "sklearn", "PIL", "cv2", "skimage", "imageio", "h5py", "numba", "sympy", "tqdm", "networkx", "psutil",
    "yaml", "requests", "joblib", "cython", "progressbar"}
# calls that change nothing here: seeds are set by the check, and the sandbox has no GPU
HARMLESS = {"manual_seed", "manual_seed_all", "seed_everything", "set_seed", "is_available", "set_num_threads"}
# calls that may be given numbers: of what sets up, and of classes, of which networks are made
SETS_UP = re.compile(r"set_\w+|device|\w*seed\w*|[A-Z]\w*")

STUB = os.path.join(os.path.dirname(__file__), "stub")

needed: set[str] = set()  # packages that are not installed and were used all the same
missing: set[str] = set()  # modules that are imported and are nowhere
left: set[str] = set()  # what `elsewhere` passes over, by the names of `checks.LEFT`
folder = ""  # of the submission


class StandIn(ModuleType):
    """A module, or anything in one, that is not there: names can be taken from it; what is done with it is a use.

    use: called with the dotted name at every use, '' for one that needs the real thing; it raises, or returns what the
    use gives.
    """

    def __init__(self, name: str, use: Callable[[str], Any]):
        super().__init__(name)
        self.__dict__.update(__path__=[], _use=use)

    def __getattr__(self, name: str) -> Any:
        if name == "__version__":
            return "0"
        if name == "__all__":  # from it import *
            return self._use("")
        if name.startswith("__"):
            raise AttributeError(name)
        return type(self)(f"{self.__name__}.{name}", self._use)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        name = self.__name__.rpartition(".")[2]
        if name in HARMLESS:
            return False
        result = self._use(self.__name__)
        if name == "color_palette":  # which matplotlib is given
            return [f"C{i}" for i in range(10)]
        if name in ("tabulate", "colored"):  # which is added to text and written to files
            return str(arguments[0]) if arguments else ""
        return result

    def __mro_entries__(self, bases: Any) -> Any:  # a class is derived from it
        return self._use("")

    def __instancecheck__(self, instance: Any) -> bool:
        return False

    def __subclasscheck__(self, kind: type) -> bool:
        return False

    def __or__(self, other: Any) -> Any:  # in an annotation
        return Union[self, other]  # noqa: UP007

    __ror__ = __or__

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        return iter((self._use(self.__name__),) * 0)

    def __repr__(self) -> str:
        return f"<{self.__name__.partition('.')[0]}, which is not installed here>"

    def __exit__(self, *_: object) -> None:
        pass


def _does(self: StandIn, *_: Any) -> Any:
    return self._use(self.__name__)


def _must(self: StandIn, *_: Any, **__: Any) -> Any:
    return self._use("")


for _name in ("enter", "getitem", "setitem", "delitem", "add", "radd", "iadd", "sub", "rsub", "mul", "rmul",
              "truediv", "rtruediv", "mod", "floordiv", "pow", "matmul", "rmatmul", "neg", "lt", "le", "gt", "ge"):
    setattr(StandIn, f"__{_name}__", _does)
for _name in ("len", "contains", "float", "int", "index", "array"):
    setattr(StandIn, f"__{_name}__", _must)


class Framework(StandIn):
    """A framework, or anything in it or made by it, where NumPy is asked for. It has no numbers, and takes none.

    A call with an array is a use, and one with a number as well, but for those of classes and of what sets up.
    """

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        from grading.worker.interface import contained

        name = self.__name__.rpartition(".")[2]
        if name in HARMLESS or name.startswith("is_"):
            return False
        data = (np.ndarray,) if SETS_UP.fullmatch(name) else (np.ndarray, Number)
        if any(not isinstance(value, bool) for value in contained([*arguments, keywords], data)):
            return self._use(self.__name__)
        if len(arguments) == 1 and isinstance(arguments[0], FunctionType | type):  # it decorates, or compiles
            return arguments[0]
        return Framework(f"{self.__name__}()", self._use)

    def __mro_entries__(self, bases: Any) -> Any:
        return (Deriving(self.__name__, (Derived,), {"_framework": self}),)

    def __lt__(self, other: Any) -> bool:  # such as a number of GPUs
        return False

    __le__ = __gt__ = __ge__ = __lt__

    def __enter__(self) -> Framework:
        return self

    def __getitem__(self, kinds: Any) -> Framework:  # of a class, in an annotation
        return self


class Deriving(ABCMeta):
    """The class of classes that are derived from a framework's: what they lack, such as `apply`, is the framework's."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(cls._framework, name)


class Derived(metaclass=Deriving):
    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return getattr(type(self), name)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._framework()(*arguments, **keywords)


def forbidden(name: str) -> Any:
    sys.audit(FRAMEWORK)  # `watch` is told
    raise ImportError(f"{name or 'a framework'} is used, but this question asks for NumPy alone")


def inert(name: str, stub: str) -> None:
    """What the file `stub` does where it is imported as the framework `name`, over which it lies."""
    if not excused(stub):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    sys.modules[name] = Framework(name, forbidden)


def lies_over(package: str) -> bool:
    """Whether `STUB` lies in the place of this package."""
    spec, stub = PathFinder.find_spec(package), os.path.join(STUB, "__init__.py")
    return bool(spec and spec.origin and all(map(os.path.exists, (spec.origin, stub)))  # the handout has none
                and os.path.samefile(spec.origin, stub))


def not_installed(package: str) -> Callable[[str], Any]:
    def use(name: str) -> Any:
        left.update({"breakpoint"} if package in DEBUGGERS else {"notebook"} if package in COLAB else ())
        if package in DEBUGGERS | COLAB or (package in OUTPUT and name):
            return StandIn(f"{package}.result", use)
        needed.add(package)
        raise ModuleNotFoundError(f"{package} is not installed on this machine", name=package)

    return use


def absent(package: str) -> Callable[[str], Any]:
    def use(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    return use


class Finder:
    """Gives stand-ins for FRAMEWORKS where `numpy_only`, and for whatever is not there."""

    def __init__(self, numpy_only: bool):
        self.numpy_only = numpy_only
        self.no_logger = numpy_only or not installed("tensorboard")

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        package = name.partition(".")[0]
        if name.startswith("google.colab"):
            package = "google.colab"
        if name.startswith(LOGGER) and self.no_logger:
            use = not_installed("tensorboard")
        elif package in FRAMEWORKS and self.numpy_only:
            if name == package and lies_over(package):
                return None
            use = forbidden
        elif package not in DEBUGGERS and (
                not isinstance(sys.modules.get(package), StandIn | None) or installed(package)):
            return None
        else:
            use = (not_installed if package in PACKAGES else absent)(package)
        if excused():
            missing.update({package} - PACKAGES)
            return ModuleSpec(name, _Loader(use), is_package=True)
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)


class _Loader(Loader):
    def __init__(self, use: Callable[[str], Any]):
        self.use = use

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return (Framework if self.use is forbidden else StandIn)(spec.name, self.use)

    def exec_module(self, module: ModuleType) -> None:
        pass


def installed(package: str) -> bool:
    """Whether it is found without us: as a library, or as a file of the submission's own."""
    return any(finder.find_spec(package, None) for finder in sys.meta_path if not isinstance(finder, Finder))


def excused(stub: str = "") -> bool:
    """Whether the import that is going on stands in a file of the submission, and not in a `try` with a way out."""
    frame: FrameType | None = sys._getframe(1)
    while frame and (frame.f_code.co_filename in (__file__, stub) or "importlib" in frame.f_code.co_filename):
        frame = frame.f_back
    if frame is None or not folder:
        return False
    path = os.path.abspath(frame.f_code.co_filename)
    return path.startswith(folder + os.sep) and not tried(path, frame.f_lineno)


def tried(path: str, line: int) -> bool:
    """Whether this line of a file is in the body of a `try` that catches something."""
    try:
        with open(path, "rb") as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):
        return False
    return any(isinstance(node, ast.Try) and node.handlers
               and node.body[0].lineno <= line <= (node.body[-1].end_lineno or 0) for node in ast.walk(tree))


def stand_in(numpy_only: bool) -> None:
    sys.meta_path.insert(0, Finder(numpy_only))  # type: ignore[arg-type]


# ---------------------------------------------------------------- as they were in 2020


OLD_NUMPY = {"float": float, "int": int, "object": object, "str": str, "complex": complex, "bool": bool, "Inf": "inf",
             "infty": "inf", "NaN": "nan", "float_": "float64", "product": "prod", "cumproduct": "cumprod",
             "alltrue": "all", "sometrue": "any", "in1d": "isin", "row_stack": "vstack", "asfarray": "asarray"}


def restore_2020() -> None:
    """What NumPy, matplotlib and PyTorch have dropped since, and submissions of 2020 still ask for."""
    os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"  # torch.load of a whole network, as it was before 2.6
    import matplotlib
    import matplotlib.pyplot
    import matplotlib.style

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, now in OLD_NUMPY.items():
            if not hasattr(np, name):
                setattr(np, name, getattr(np, now) if isinstance(now, str) else now)
        styles = matplotlib.style.library
        for name in [name for name in styles if name.startswith("seaborn-v0_8")]:
            styles.setdefault(name.replace("-v0_8", ""), styles[name])
        if not hasattr(matplotlib.cm, "get_cmap"):
            matplotlib.cm.__dict__["get_cmap"] = matplotlib.pyplot.get_cmap
    grid = matplotlib.axes.Axes.grid

    def grid_of_2020(axes: Any, *arguments: Any, b: bool | None = None, **keywords: Any) -> None:
        grid(axes, *arguments, **keywords if b is None else {**keywords, "visible": b})

    matplotlib.axes.Axes.grid = grid_of_2020  # type: ignore[method-assign, assignment]


def compile_nothing() -> None:
    """Have PyTorch give back as it is what it is to compile: that cannot be watched, and takes minutes.

    What PyTorch compiles of its own, as for derivatives in forward mode, it compiles as ever.
    """
    import torch

    def unless_by_pytorch(compiler: Callable[..., Any]) -> Any:
        def compiled(function: Any = None, *more: Any, **named: Any) -> Any:
            if sys._getframe(1).f_globals.get("__name__", "").startswith("torch."):
                return compiler(function, *more, **named)
            return (lambda decorated: decorated) if function is None else function

        return compiled

    torch.compile = unless_by_pytorch(torch.compile)
    torch.jit.script, torch.jit.trace = unless_by_pytorch(torch.jit.script), unless_by_pytorch(torch.jit.trace)
    torch.nn.Module.compile = lambda *_, **__: None  # type: ignore[method-assign]
