"""Pickles of other programs, read without running anything that they name.

A pickle is a program for a stack machine, which may name any function for the reader to call. Here
only the names of a short table are answered, each with a function that is safe for any arguments;
any other name stops the reading before a single call.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

PICKLE_ERRORS = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    IndexError,
    KeyError,
    RuntimeError,
    OverflowError,
    MemoryError,
    ImportError,
)
"""Errors that a broken or hostile pickle can raise while it is read."""

MOST_LEVELS = 100
"""Of values in each other."""

MOST_COPIES = 100
"""Values that a pickle may stand for, in parts of its bytes: few may hold each other very often."""

# The function that numpy itself names in its pickles, found through the public protocol.
_SCALAR: Any = np.float32(0).__reduce__()[0]


class Safe:
    """A function that stands for a name in pickles, which cannot change it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("it changes a function")


Names = Mapping[tuple[str, str], Safe]
"""(module, name) -> what stands for it."""


def read_pickle(content: bytes, names: Names) -> Any:
    """Return what a pickle holds.

    Args:
        content: the whole pickle.
        names: what it may ask for, such as `ARRAYS`.

    Raises:
        UnpicklingError or another of `PICKLE_ERRORS`: it asks for another name, stands for far more
            than it holds, or is broken.
    """
    _check_size(content)
    return _Unpickler(content, names).load()


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes, names: Names) -> None:
        super().__init__(io.BytesIO(content), encoding="latin1")
        self._names = names

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._names:
            asked = f"{module}.{name}"[:100]
            raise pickle.UnpicklingError(
                f"it names {asked}, which arrays do not need; nothing was executed"
            )
        return self._names[module, name]


def _check_size(content: bytes) -> None:
    """Refuse what would take the reader's whole memory, stack or time.

    Values in each other over and over (2^40 tuples, each two times the same one) have no end where
    they are hashed, and a deep chain ends the process; a high number in the memo makes a table of
    that size. So the program is run on depths and sizes first.

    Source:
        Effects of the instructions on the stack: `pickletools`.
    """
    stack: list[tuple[int, int]] = []  # (levels, values) of each; a mark is (0, 0)
    memo: dict[int, tuple[int, int]] = {}
    for instruction, argument, _ in pickletools.genops(content):
        name, before = instruction.name, instruction.stack_before
        if "PUT" in name or name == "MEMOIZE":
            place = len(memo) if argument is None else int(argument)
            if place > len(content):
                raise pickle.UnpicklingError("it numbers more values than it has bytes")
            memo[place] = stack[-1]
            continue
        if "GET" in name:
            stack.append(memo[int(argument or 0)])
            continue
        used: list[tuple[int, int]] = []
        if pickletools.markobject in before:
            mark = len(stack) - 1 - stack[::-1].index((0, 0))
            used, stack = stack[mark + 1 :], stack[:mark]
            before = before[: before.index(pickletools.markobject)]
        if before:
            used = stack[-len(before) :] + used
            del stack[-len(before) :]
        grows = name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD")
        levels = max((n for n, _ in used[grows:]), default=0) + 1
        made = max([levels, *(n for n, _ in used[:grows])]), sum(n for _, n in used) + 1
        if made[0] > MOST_LEVELS or made[1] > MOST_COPIES * len(content):
            raise pickle.UnpicklingError("its values hold each other too deep or too often")
        stack += [(0, 0) if name == "MARK" else made] * len(instruction.stack_after)


def _array_type(*_: object) -> None:
    raise pickle.UnpicklingError("it builds an array in another way than numpy does")


_NDARRAY = Safe(_array_type)


class _Numbers:
    """Type of an array's values, for the pickle to fill: numpy's own trusts whatever comes."""

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or not re.fullmatch(r"[biufcSUO]\d{1,6}", code):
            raise pickle.UnpicklingError("it builds a type that is none of numbers or text")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        match state:
            case (_, "<" | ">" | "|", None, None, None, *_):
                self.dtype = self.dtype.newbyteorder(state[1])
            case _:
                _array_type()


class _Array(np.ndarray[Any, Any]):
    """Empty array for the pickle to fill."""

    def __setstate__(self, state: Any) -> None:
        match state:
            case (version, shape, _Numbers(), fortran, values):
                super().__setstate__((version, shape, state[2].dtype, fortran, values))
            case _:
                _array_type()


def _reconstruct(subtype: object, shape: object, dtype: bytes) -> _Array:
    """Return an empty array; numpy always asks for shape (0,)."""
    if subtype is not _NDARRAY or shape != (0,):
        _array_type()
    return _Array((0,))


def _scalar(numbers: _Numbers, data: bytes) -> Any:
    if numbers.dtype.hasobject:
        raise pickle.UnpicklingError("it hides an object in a numpy scalar")
    return _SCALAR(numbers.dtype, data)


def _from_buffer(buffer: Any, numbers: _Numbers, shape: Any, order: Any) -> NDArray[Any]:
    return np.frombuffer(buffer, dtype=numbers.dtype).reshape(shape, order=order).copy()


def _encode_latin1(text: str, encoding: str) -> bytes:
    """Return bytes as pickles of protocol 2 spell them; no other codec is ever asked for."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the codec {encoding!r}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Return the empty value as pickles of protocol 2 spell it."""
    return b""


ARRAYS: Names = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): Safe(_Numbers),
    ("collections", "OrderedDict"): Safe(OrderedDict),
    ("_codecs", "encode"): Safe(_encode_latin1),
    ("__builtin__", "bytes"): Safe(_no_bytes),
} | {
    (f"{core}.{module}", name): Safe(function)
    for core in ("numpy.core", "numpy._core")
    for module, name, function in (
        ("multiarray", "_reconstruct", _reconstruct),
        ("multiarray", "scalar", _scalar),
        ("numeric", "_frombuffer", _from_buffer),
    )
}
"""Names that pickles of plain values and numpy's arrays ask for."""
