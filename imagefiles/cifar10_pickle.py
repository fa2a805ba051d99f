"""Reads the pickles that CIFAR-10 comes in without running them.

    from imagefiles.cifar10_pickle import read_pickle
    batch = read_pickle(open('data_batch_1', 'rb').read())  # {'data': uint8 (10000, 3072), 'labels': [6, 9, ...], ...}

A pickle is a program: it may name any function of any library and call it. A downloaded file is not to be trusted
with that, so this module interprets the few opcodes a batch file consists of and nothing else. Names of functions
stay names: nothing is imported, nothing is called, and neither memory nor time outgrows the file.
(A subclass of `pickle.Unpickler` with a strict `find_class` is not enough: one memo index of 2**31 makes it allocate
32 GiB, and a deeply nested tuple used as a key overflows the C stack.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

_RECONSTRUCT = {"numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct"}
_NDARRAY, _DTYPE, _ENCODE = "numpy ndarray", "numpy dtype", "_codecs encode"
_GLOBALS = _RECONSTRUCT | {_NDARRAY, _DTYPE, _ENCODE}
_DTYPES = {"u1": "u1", "i4": "<i4", "i8": "<i8"}
_MAX_OPCODES = 1_000_000  # a published batch has 30,000; each makes at most a small object
_VIEW_FROM = 4096  # bytes from which a string stays a view of the file: the pixels are not copied here


class PickleRefused(ValueError):
    """The bytes are no pickle of a CIFAR-10 batch; the message says at which byte, and why."""


@dataclass(frozen=True)
class _Global:
    """A name the pickle mentioned: never looked up."""

    name: str


@dataclass
class _Dtype:
    code: str


@dataclass
class _Array:
    """Filled by BUILD, so that one array met twice in the pickle is filled once."""

    array: np.ndarray | None = None


def read_pickle(data: bytes) -> dict[str, Any]:
    """Reads the dictionary in `data`, written by Python 2 or 3 with pickle protocols 2 to 4.

    Args:
        data: the whole file.

    Returns:
        The dictionary, its keys as str; arrays are read-only views of `data` where possible; short byte strings are
        bytes, whichever Python wrote them.

    Raises:
        PickleRefused: truncated, not a pickle, or one that holds more than a batch file has to.
    """
    view = memoryview(data)
    try:
        result = _interpret(data, view)
    except PickleRefused:
        raise
    except IndexError:
        raise PickleRefused("ends in the middle, or is no pickle") from None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise PickleRefused(f"is no pickle of a batch ({type(error).__name__})") from None
    if not isinstance(result, dict):
        raise PickleRefused("holds no dictionary")
    return {
        (key.decode("latin1") if isinstance(key, bytes) else key): value.array if isinstance(value, _Array) else value
        for key, value in result.items()
    }


def _interpret(data: bytes, view: memoryview) -> Any:
    """Runs the opcodes; the opcodes' one-letter names and meanings are those of `pickletools.opcodes`."""
    at = 0
    stack: list[Any] = []
    below: list[list[Any]] = []  # the stacks under each MARK
    memo: dict[int, Any] = {}
    growth_left = len(data)  # what `encode` may still make: the same text may be encoded again and again

    def integer(size: int, signed: bool = False) -> int:
        nonlocal at
        at += size
        return int.from_bytes(data[at - size : at], "little", signed=signed)

    def string(size: int) -> Any:
        nonlocal at
        at += size
        if size < 0 or at > len(data):
            raise IndexError
        return data[at - size : at] if size < _VIEW_FROM else view[at - size : at]

    def pop_mark() -> list[Any]:
        nonlocal stack
        items, stack = stack, below.pop()
        return items

    for _ in range(_MAX_OPCODES):
        op = data[at]
        at += 1
        # The first four opcodes are 99 % of a batch file (labels and file names), hence first and inline.
        if op == 0x4B:  # K, BININT1
            stack.append(data[at])
            at += 1
        elif op == 0x55:  # U, SHORT_BINSTRING
            end = at + 1 + data[at]
            stack.append(data[at + 1 : end])
            at = end
        elif op == 0x72:  # r, LONG_BINPUT
            memo[int.from_bytes(data[at : at + 4], "little")] = stack[-1]
            at += 4
        elif op == 0x71:  # q, BINPUT
            memo[data[at]] = stack[-1]
            at += 1
        elif op == 0x94:  # MEMOIZE
            memo[len(memo)] = stack[-1]
        elif op == 0x28:  # (, MARK
            below.append(stack)
            stack = []
        elif op == 0x65:  # e, APPENDS
            items = pop_mark()
            _expect(stack[-1], list).extend(items)
        elif op == 0x61:  # a, APPEND
            item = stack.pop()
            _expect(stack[-1], list).append(item)
        elif op in b"us":  # SETITEMS, SETITEM
            items = pop_mark() if op == 0x75 else [stack.pop(-2), stack.pop()]
            for key, value in zip(items[::2], items[1::2], strict=True):
                _expect(stack[-1], dict)[_expect(key, bytes, str)] = value
        elif op == 0x80:  # PROTO
            if data[at] > 4:
                raise PickleRefused(f"has pickle protocol {data[at]}, only 2 to 4 are read")
            at += 1
        elif op == 0x95:  # FRAME
            at += 8
        elif op == 0x7D:  # }, EMPTY_DICT
            stack.append({})
        elif op == 0x5D:  # ], EMPTY_LIST
            stack.append([])
        elif op == 0x29:  # ), EMPTY_TUPLE
            stack.append(())
        elif op == 0x74:  # t, TUPLE
            several = tuple(pop_mark())
            stack.append(several)
        elif op in b"\x85\x86\x87":  # TUPLE1, TUPLE2, TUPLE3
            size = op - 0x84
            if len(stack) < size:
                raise IndexError
            stack[-size:] = [tuple(stack[-size:])]
        elif op == 0x4E:  # N, NONE
            stack.append(None)
        elif op in b"\x88\x89":  # NEWTRUE, NEWFALSE
            stack.append(op == 0x88)
        elif op == 0x4D:  # M, BININT2
            stack.append(integer(2))
        elif op == 0x4A:  # J, BININT
            stack.append(integer(4, signed=True))
        elif op in b"\x8a":  # LONG1
            stack.append(integer(integer(1), signed=True))
        elif op == 0x43:  # C, SHORT_BINBYTES
            stack.append(string(integer(1)))
        elif op in b"TB":  # BINSTRING, BINBYTES
            stack.append(string(integer(4, signed=op == 0x54)))
        elif op in b"\x8cX":  # SHORT_BINUNICODE, BINUNICODE
            stack.append(str(string(integer(1 if op == 0x8C else 4)), "utf-8"))
        elif op == 0x68:  # h, BINGET
            stack.append(memo[integer(1)])
        elif op == 0x6A:  # j, LONG_BINGET
            stack.append(memo[integer(4)])
        elif op in b"c\x93":  # GLOBAL, STACK_GLOBAL
            if op == 0x63:
                first = data.index(b"\n", at, at + 200)
                second = data.index(b"\n", first + 1, first + 200)
                name = f"{data[at:first].decode('ascii')} {data[first + 1 : second].decode('ascii')}"
                at = second + 1
            else:
                name = " ".join([_expect(stack.pop(-2), str), _expect(stack.pop(), str)])
            if name not in _GLOBALS:
                raise PickleRefused(f"asks for {name[:80].replace(' ', '.')!r}, which no batch file needs")
            stack.append(_Global(name))
        elif op == 0x52:  # R, REDUCE
            arguments = _expect(stack.pop(), tuple)
            name = _expect(stack.pop(), _Global).name
            if name == _ENCODE and arguments[1:] == ("latin1",):  # how Python 3 writes bytes with protocol 2
                growth_left -= len(_expect(arguments[0], str))
                if growth_left < 0:
                    raise PickleRefused("unpacks to more than the file holds")
                stack.append(arguments[0].encode("latin1"))
            elif name == _DTYPE:
                stack.append(_Dtype(_text(arguments[0])))
            elif name in _RECONSTRUCT and arguments[0] == _Global(_NDARRAY):
                stack.append(_Array())
            else:
                raise PickleRefused(f"calls {name.replace(' ', '.')!r} as no batch file does")
        elif op == 0x62:  # b, BUILD
            state = _expect(stack.pop(), tuple)
            if isinstance(_expect(stack[-1], _Array, _Dtype), _Array):
                stack[-1].array = _array(*state)
            elif _text(state[1]) not in "|<":
                raise PickleRefused("has numbers of another byte order")
        elif op == 0x2E:  # ., STOP
            return stack.pop()
        else:
            raise PickleRefused(f"has an opcode (0x{op:02x} at byte {at - 1}) that no batch file needs")
    raise PickleRefused(f"goes on for more than {_MAX_OPCODES:,} opcodes")


def _expect(value: Any, *types: type) -> Any:
    if not isinstance(value, types):
        raise TypeError
    return value


def _text(value: bytes | str) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else _expect(value, str)


def _array(version: int, shape: tuple[int, ...], dtype: _Dtype, fortran: bool, data: Any) -> np.ndarray:
    """The state that ndarray.__setstate__ takes, checked before NumPy sees any of it."""
    kind = np.dtype(_DTYPES[dtype.code])
    if fortran or any(not isinstance(size, int) or size < 0 for size in shape) or len(shape) > 4:
        raise PickleRefused("holds an array that is not laid out in rows")
    if math.prod(shape) * kind.itemsize != len(data):
        raise PickleRefused(f"says its array has shape {shape}, but brings {len(data)} bytes for it")
    return np.frombuffer(data, kind).reshape(shape)


def write_pickle(value: dict[str, Any]) -> bytes:
    """Writes `value` as Python 2 would with protocol 2: readable by every reader of CIFAR-10, old or new.

    Args:
        value: a dictionary of str (written as byte strings), integers, lists of these, and uint8 matrices.
    """
    return b"\x80\x02" + _opcodes(value) + b"."


def _opcodes(value: Any) -> bytes:
    if isinstance(value, dict):
        return b"}(" + b"".join(_opcodes(part) for item in value.items() for part in item) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(_opcodes, value)) + b"e"
    if isinstance(value, int):
        small = 0 <= value < 256
        return b"K" + value.to_bytes(1, "little") if small else b"J" + value.to_bytes(4, "little", signed=True)
    if isinstance(value, str):
        value = value.encode("latin1")
    if isinstance(value, bytes):
        short = len(value) < 256
        return (b"U" + len(value).to_bytes(1, "little") if short else b"T" + len(value).to_bytes(4, "little")) + value
    shape = b"(" + b"".join(map(_opcodes, value.shape)) + b"t"
    dtype = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    return empty + b"(K\x01" + shape + dtype + b"\x89" + _opcodes(value.tobytes()) + b"tb"
