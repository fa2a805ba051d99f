"""Reads the pickles that CIFAR-10 comes in without running them.

    from imagefiles.cifar10_pickle import read_pickle
    batch = read_pickle(Path('data_batch_1').read_bytes(), ('data', 'labels'))   # uint8 (10000, 3072), [6, 9, ...]

A pickle is a program: it may name any function of any library and call it. So a file is read in three steps.

1. `_program` goes through the opcodes. Only those that a batch file consists of are allowed: constants, lists, tuples,
   dictionaries, names, calls and a memo of at most 2**18 entries. Long strings, the pixels among them, lists and
   dictionaries are replaced by references. What is left has at most 1 MiB, which limits the memory that it can take.
2. Python's own unpickler runs this program. Each name is a `_Name`, and calling it makes a `_Call` that only keeps its
   arguments. Nothing is imported, and no code of NumPy runs.
3. The arrays, integers and byte strings that the wanted keys hold are made from these calls, once each is checked.

(A subclass of `pickle.Unpickler` with a strict `find_class` is not enough: one memo index of 2**31 makes it allocate
32 GiB, and a deeply nested tuple used as a key overflows the C stack.)
"""

from __future__ import annotations

import io
import math
import pickle
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

MAX_FILE_BYTES = 256 * 2**20  # a published batch has 31 MB; as float64 it has 246
_MAX_SHORT = 100  # bytes of a name, or of a number
_MAX_PROGRAM = 2**20  # bytes; a published batch has 300,000 beside its pixels
_ENCODE = ("_codecs", "encode")  # how Python 3 writes bytes with protocols 0 to 2
_NDARRAY, _DTYPE = ("numpy", "ndarray"), ("numpy", "dtype")
_OLD, _NEW = "numpy.core.", "numpy._core."  # NumPy 1 and 2
_RECONSTRUCT = {(core + "multiarray", "_reconstruct") for core in (_OLD, _NEW)}
_SCALAR = {(core + "multiarray", "scalar") for core in (_OLD, _NEW)}
_FROMBUFFER = {(core + "numeric", "_frombuffer") for core in (_OLD, _NEW)}
_NAMES = {_ENCODE, _NDARRAY, _DTYPE} | _RECONSTRUCT | _SCALAR | _FROMBUFFER
_DTYPES = {kind + size for kind in "uif" for size in "1248"} - {"f1"}


def _with_length(zeros: bytes, longest: int) -> bytes:
    """A pattern of up to `longest` bytes after a number that says how many; `zeros` complete that number."""
    return b"|".join(re.escape(bytes([n])) + zeros + b".{%d}" % n for n in range(longest + 1))


# What `pickletools.opcodes` calls these, in the same order.
_TOKENS = re.compile(b"(?:" + b"|".join((
    b"K.",                                                    # BININT1: the labels
    b"[UC\x8c](?:" + _with_length(b"", 255) + b")",           # SHORT_BINSTRING, SHORT_BINBYTES, SHORT_BINUNICODE
    b"[TBX](?:" + _with_length(b"\0\0\0", 255) + b")",        # BINSTRING, BINBYTES, BINUNICODE
    b"q.|r..[\0-\3]\0|h.|j..[\0-\3]\0|\x94",                 # BINPUT, LONG_BINPUT, BINGET, LONG_BINGET, MEMOIZE
    b"M..|J.{4}|G.{8}|\x8a(?:" + _with_length(b"", 8) + b")",  # BININT2, BININT, BINFLOAT, LONG1
    b"[(aesu)t\x85-\x87N\x88\x89Rb\x93]",  # MARK, APPEND(S), SETITEM(S), tuples, None, booleans, REDUCE, BUILD, name
    rb"c[\w.]{1,200}\n[\w.]{1,200}\n",                        # GLOBAL
    b"\x80[\0-\5]|I0[01]\n",                                 # PROTO; protocol 1's booleans
)) + b")*+", re.DOTALL)  # fmt: skip
_LENGTH = {b"T": 4, b"X": 4, b"B": 4, b"\x8d": 8, b"\x8e": 8, b"\x96": 8}  # bytes that give a string's length
_FIRST = b"KUC\x8cTBXqrhj\x94MJG\x8ac\x80I"  # opcodes that data follow
_LONGEST = 404  # bytes of an opcode with what follows it


class PickleRefused(ValueError):
    """The bytes are not a pickle of a CIFAR-10 batch; the message says why, and where there is one, at which byte."""


class _Name:
    """A name that the pickle mentions; it is never looked up."""

    def __init__(self, name: tuple[str, str]) -> None:
        self.name = name

    def __call__(self, *arguments: Any) -> _Call:
        if len(arguments) > 4:  # a long tuple would be copied in each of many calls
            raise TypeError
        return _Call(self.name, arguments)


class _Call:
    """A call that the pickle asks for; it is never made."""

    __slots__ = ("arguments", "name", "state")

    def __init__(self, name: tuple[str, str], arguments: tuple[Any, ...]) -> None:
        self.name, self.arguments = name, arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Dict:
    """A dictionary that only strings and calls can be keys of: hashing a nested tuple could overflow the stack."""

    def __init__(self) -> None:
        self.content: dict[str, Any] = {}

    def __setitem__(self, key: Any, value: Any) -> None:
        self.content[key if isinstance(key, str) else str(_bytes(key, _MAX_SHORT), "latin1")] = value


class _Unpickler(pickle.Unpickler):
    def __init__(self, program: bytes, pieces: Sequence[Any]) -> None:
        super().__init__(io.BytesIO(program), encoding="bytes")
        self._pieces = pieces

    def find_class(self, module: str, name: str) -> _Name:
        if (module, name) not in _NAMES:
            raise PickleRefused(f"asks for '{module[:40]}.{name[:40]}', which no batch file needs")
        return _Name((module, name))

    def persistent_load(self, number: int) -> Any:
        return self._pieces[number]


def read_pickle(data: bytes, keys: Sequence[str]) -> dict[str, Any]:
    """Reads what the dictionary in `data` holds under `keys`, written by Python 2 or 3 with protocols 1 to 5.

    Args:
        data: the whole file.
        keys: which of its entries are wanted.

    Returns:
        Those entries that are there. Arrays are views of `data` where possible; byte strings are bytes, whichever
        Python wrote them; NumPy's integers in a list are int.

    Raises:
        PickleRefused: truncated, not a pickle, or one that holds more than a batch file has to.
    """
    program, pieces = _program(data)
    try:
        result = _Unpickler(program, pieces).load()
        if not isinstance(result, _Dict):
            raise PickleRefused("does not hold a dictionary")
        return {key: _value(result.content[key]) for key in keys if key in result.content}
    except PickleRefused:
        raise
    except (ArithmeticError, AttributeError, EOFError, LookupError, TypeError, ValueError,
            pickle.UnpicklingError) as error:
        raise PickleRefused(f"is not a pickle of a batch ({type(error).__name__})") from None


def _program(data: bytes) -> tuple[bytes, list[Any]]:
    """The opcodes of `data`, and the lists, dictionaries and long strings that they refer to by BINPERSID."""
    view, at, program = memoryview(data), 0, bytearray()
    pieces: list[Any] = []
    if data[:2] == b"(d":
        raise PickleRefused("is a pickle of protocol 0, which is text; save it again with protocol 2")
    while True:
        tokens = _TOKENS.match(data, at, at + _MAX_PROGRAM + _LONGEST)
        end = tokens.end() if tokens else at
        program += view[at:end]
        if len(program) > _MAX_PROGRAM:
            raise PickleRefused(f"has more than {_MAX_PROGRAM:,} bytes beside arrays; images must be one, as "
                                "np.asarray(images, np.uint8) makes it")
        opcode = data[end : end + 1]
        piece: Any
        if opcode == b".":
            return bytes(program + opcode), pieces
        if opcode == b"\x95":  # FRAME: only says how many bytes to read at once
            at = end + 9
            continue
        if opcode == b"]":  # EMPTY_LIST
            piece, at = [], end + 1
        elif opcode == b"}":  # EMPTY_DICT
            piece, at = _Dict(), end + 1
        elif opcode in _LENGTH:
            start = end + 1 + _LENGTH[opcode]
            at = start + int.from_bytes(data[end + 1 : start], "little")
            piece = view[start:at]
        elif len(data) - end < _LONGEST and opcode in _FIRST:
            at = len(data) + 1
        else:
            raise PickleRefused(f"has opcode 0x{opcode.hex()} at byte {end}, which no batch file has there")
        if at > len(data):
            raise PickleRefused("ends in the middle, or is not a pickle")
        program += b"J" + len(pieces).to_bytes(4, "little") + b"Q"
        pieces.append(piece)


def _value(value: Any) -> Any:
    """An entry of the dictionary, its calls replaced by what they stand for."""
    if isinstance(value, list):
        return [_scalar(item) if isinstance(item, _Call) else item for item in value]
    if not isinstance(value, _Call) or value.name == _ENCODE:
        return _bytes(value) if isinstance(value, _Call | memoryview) else value
    if value.name in _RECONSTRUCT and value.arguments[0].name == _NDARRAY:
        _, shape, dtype, fortran, content = value.state
        order = "F" if fortran else "C"
    elif value.name in _FROMBUFFER:
        content, dtype, shape, order = value.arguments
    else:
        raise PickleRefused(f"calls {'.'.join(value.name)} where no batch file does")
    kind = _dtype(dtype)
    if len(shape) > 4 or set(map(type, shape)) - {int} or min(shape, default=0) < 0:
        raise PickleRefused("holds an array of impossible shape")
    content = _bytes(content)
    if math.prod(shape) * kind.itemsize != len(content):
        raise PickleRefused(f"says its array has shape {shape}, but brings {len(content)} bytes for it")
    return np.frombuffer(content, kind).reshape(shape, order="F" if order == "F" else "C")


def _scalar(call: _Call) -> Any:
    """A number of NumPy, or a byte string, in a list."""
    if call.name == _ENCODE:
        return _bytes(call, _MAX_SHORT)
    if call.name not in _SCALAR:
        raise PickleRefused(f"calls {'.'.join(call.name)} where no batch file does")
    dtype, content = call.arguments
    return np.frombuffer(_bytes(content, _MAX_SHORT), _dtype(dtype)).item()


def _dtype(call: _Call) -> np.dtype:
    code, order = (value if isinstance(value, str) else str(_bytes(value, _MAX_SHORT), "ascii")
                   for value in (call.arguments[0], call.state[1]))
    if call.name != _DTYPE or code not in _DTYPES or order not in "|<>":
        raise PickleRefused("holds an array of something other than numbers")
    return np.dtype(order + code)


def _bytes(value: Any, longest: int = MAX_FILE_BYTES) -> bytes | memoryview:
    """A byte string, also one that Python 3 writes as text to be encoded. Raises TypeError where it is longer."""
    if isinstance(value, _Call) and value.name == _ENCODE and value.arguments[1:] == ("latin1",):
        text = value.arguments[0]
        if len(text) > longest:  # looked at first: the same text may be encoded again and again
            raise TypeError
        return (text if isinstance(text, str) else str(text, "utf-8")).encode("latin1")
    if not isinstance(value, bytes | memoryview):
        raise TypeError
    return value
