"""What the assignment names, taken from a submission: what is missing, or takes other arguments, is said plainly."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from grading.worker.student import Absent, returned, silent, submitted


def part(module: str, name: str) -> Any:
    """The class `name` of the submission's file. Raises Absent where there is none."""
    found = getattr(submitted(module), name, None)
    if found is None:
        raise Absent(f"{module}.py has no class {name}")
    return found


def contained(value: Any, kinds: tuple[type, ...]) -> list[Any]:
    """What is of these kinds in a value, a list, tuple or dictionary."""
    if isinstance(value, kinds):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [found for item in value for found in contained(item, kinds)] if isinstance(value, list | tuple) else []


def put(owner: Any, **methods: Callable[..., Any]) -> None:
    """Give a class these methods, in the place of its own and of their other names, such as `__call__ = forward`."""
    for name, method in methods.items():
        before = inspect.getattr_static(owner, name, None)
        others = {other for base in owner.__mro__ for other, value in vars(base).items() if value is before}
        for other in {name} | (others if before is not None else set()):
            setattr(owner, other, method)


def initialiser(owner: Any) -> Callable[..., None]:
    """`__init__` of a class, to be called from another; one that does nothing where the class has `__new__` alone."""
    alone = owner.__init__ is object.__init__ and owner.__new__ is not object.__new__
    return (lambda *_, **__: None) if alone else owner.__init__


def watch_returns(constructor: Any) -> None:
    """Have it be known if forward or backward of a class returns None."""
    def watched(name: str) -> Callable[..., Any]:
        method = getattr(constructor, name)
        return lambda *given, **more: returned(f"{constructor.__name__}.{name}", method(*given, **more))

    for name in {"forward", "backward"} & vars(constructor).keys():
        static = isinstance(vars(constructor)[name], staticmethod)
        put(constructor, **{name: staticmethod(watched(name)) if static else watched(name)})


def watch_forward(constructor: Any, seen: Callable[[Any], object]) -> None:
    """Call `seen` with a module before each of its forward passes: of the class's `forward`, or of one that is its own.

    One that has neither gets a `forward` that raises Absent.
    """
    init, forward = initialiser(constructor), getattr(constructor, "forward", None)

    def watched(module: Any, *arguments: Any, **keywords: Any) -> Any:
        seen(module)
        return forward(module, *arguments, **keywords)  # type: ignore[misc]

    def made(module: Any, *arguments: Any, **keywords: Any) -> None:
        init(module, *arguments, **keywords)
        own = vars(module).get("forward") if hasattr(module, "__dict__") else None

        def its_own(*arguments: Any, **keywords: Any) -> Any:
            if own is None:
                raise Absent(f"{constructor.__name__} has no method forward")
            seen(module)
            return own(*arguments, **keywords)

        if own is not None or not callable(forward):
            module.forward = its_own

    if callable(forward):
        put(constructor, forward=watched)
    constructor.__init__ = made


def fits(function: Callable[..., Any], *arguments: Any) -> bool:
    """Whether a function can be called with these arguments, as far as its signature says."""
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    except ValueError:  # no signature to be had
        pass
    return True


def takes(label: str, function: Callable[..., Any], expected: Any) -> Absent:
    """The error of a function that takes other arguments than the `expected` names."""
    own = [name for name in inspect.signature(function).parameters if name != "self"]
    return Absent(f"{label} takes ({', '.join(own)}), expected ({', '.join(expected)})")


def call(owner: Any, method: str, **arguments: Any) -> Any:
    """`owner.method(...)` with the arguments in order, whatever the submission calls them."""
    name = type(owner).__name__
    function = getattr(owner, method, None)
    if not callable(function):
        raise Absent(f"{name} has no method {method}")
    if not fits(function, *arguments.values()):
        raise takes(f"{name}.{method}", function, arguments)
    silent.clear()
    return returned(f"{name}.{method}", function(*arguments.values()))


def make(constructor: Any, *, extra: Mapping[str, Any] | None = None, **arguments: Any) -> Any:
    """An instance, from the assignment's arguments in order, and where it needs them those that a submission adds.

    extra: {name: value} of what the submission itself passes beyond those.
    """
    values = list(arguments.values())
    if fits(constructor, *values):
        return constructor(*values)
    free = [name for name, parameter in inspect.signature(constructor).parameters.items()
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)]
    keywords = {**dict(zip(free, values, strict=False)),
                **{name: value for name, value in (extra or {}).items() if name in free[len(values):]}}
    try:
        inspect.signature(constructor).bind(**keywords)
    except TypeError:
        raise takes(f"{constructor.__name__}.__init__", constructor, arguments) from None
    if len(free) < len(values):
        raise takes(f"{constructor.__name__}.__init__", constructor, arguments)
    return constructor(**keywords)


class Parameters:
    """The weight (out, in) and bias (out,) of a submission's LinearModule, by name or else by size.

    keys: the submission's names for 'weight' and 'bias'. misnamed: "params has 'weights', expected 'weight'", or ''.
    """

    def __init__(self, module: Any, n_in: int, n_out: int):
        self.module, self.sizes = module, {"weight": (n_out, n_in), "bias": (n_out,)}
        self.params = dictionary(module, "params")
        self.keys = {role: self.key("params", self.params, role) for role in self.sizes}
        self.misnamed = misnamed("params", self.params, self.keys)
        shape = np.shape(self.params[self.keys["weight"]])
        if n_in == n_out:  # then a layer of another form has to tell
            other = make(type(module), in_features=n_in, out_features=n_out + 1)
            self.transposed: bool = Parameters(other, n_in, n_out + 1).transposed
        else:
            self.transposed = shape == (n_in, n_out)

    def key(self, attribute: str, owner: Mapping[str, Any], role: str, known: str = "") -> str:
        """The name under which `owner` holds a role: the assignment's, `known`, or the one that has its size."""
        for name in (role, known):
            if name in owner:
                return name
        size = np.prod(self.sizes[role])
        fitting = [name for name in owner if name not in self.sizes and np.size(owner[name]) == size]
        if len(fitting) != 1:
            raise Absent(misnamed(attribute, owner, {role: ""}))
        return fitting[0]

    def put(self, weight: np.ndarray, bias: np.ndarray) -> None:
        """Give the module a weight (out, in) and a bias (out,), in its own arrays and its own layout."""
        for role, value in (("weight", weight.T if self.transposed else weight), ("bias", bias)):
            own = self.params[self.keys[role]]
            if np.size(own) != value.size:
                raise Absent(f"params[{self.keys[role]!r}] has the shape {np.shape(own)}, expected {value.shape}")
            value = value.reshape(np.shape(own))
            if isinstance(own, np.ndarray) and own.dtype.kind == "f" and own.flags.writeable:
                own[...] = value  # a submission may also keep the array under another name
            else:
                self.params[self.keys[role]] = value.copy()

    def gradient(self, role: str) -> tuple[Any, str]:
        """What `grads` holds for a role, in the submission's own layout, and how it is misnamed there, if it is."""
        grads = dictionary(self.module, "grads")
        key = self.key("grads", grads, role, self.keys[role])
        value = grads[key]
        if value is None:
            raise Absent(f"grads[{key!r}] is None after backward")
        return value, misnamed("grads", grads, {role: key}) if self.keys[role] == role else ""


def dictionary(module: Any, attribute: str) -> Any:
    found = getattr(module, attribute, None)
    name = type(module).__name__
    if found is None:
        raise Absent(f"{name} has no {attribute}")
    if not hasattr(found, "keys"):
        raise Absent(f"{name}.{attribute} is a {type(found).__name__}, expected a dict with 'weight' and 'bias'")
    return found


def misnamed(attribute: str, owner: Mapping[str, Any], keys: Mapping[str, str]) -> str:
    """How `owner` names roles otherwise than the assignment, {role: its key}; '' where it does not."""
    wanted = [repr(role) for role, key in keys.items() if key != role]
    if not wanted:
        return ""
    others = [repr(key) for key in owner if key not in ("weight", "bias")]
    return f"{attribute} has {', '.join(others) or 'nothing else'}, expected {', '.join(wanted)}" if owner else (
        f"{attribute} is empty, expected {', '.join(wanted)}")
