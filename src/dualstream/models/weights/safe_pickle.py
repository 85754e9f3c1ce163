"""Nested dicts of numpy arrays out of a pickle, without running anything that the pickle names."""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import WeightsError

INSTRUCTIONS = {
    *("PROTO", "FRAME", "STOP", "MARK", "EMPTY_DICT", "SETITEM", "SETITEMS"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "NONE", "NEWTRUE", "NEWFALSE"),
    *("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "MEMOIZE", "BINPUT", "LONG_BINPUT"),
    *("BINGET", "LONG_BINGET", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"),
}
"""Of a pickle's program, what nested dicts of arrays need."""

NUMBERS = ("b1", "f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")
"""Types of arrays that are read."""


def read_arrays(content: bytes, *, source: str) -> dict[str, NDArray[Any]]:
    """Arrays of a pickle that holds nested dicts of numpy arrays, as checkpoints of JAX do.

    A pickle names functions and their arguments, and `pickle.load` calls them. Here three names
    are known (numpy's array, its type, and the function that makes an empty one), and each stands
    for a small class of this file; any other name ends the reading. So nothing runs, not even
    numpy's own code for restoring arrays; and what could take memory without limit is refused
    before it is read.

    Args:
        content: the whole file, of protocol 3 or 4; the others need more than arrays do.
        source: what to call it in errors.

    Returns:
        Keys on the way, joined by "/", -> array: {"a": {"b": x}} gives {"a/b": x}.

    Raises:
        WeightsError: anything but nested dicts of numbers in arrays.
    """
    try:
        _check_instructions(content)
        tree = _ArrayUnpickler(io.BytesIO(content)).load()
    except WeightsError as error:
        raise WeightsError(f"{source} is not read: {error}") from None
    except (pickle.UnpicklingError, *_BROKEN) as error:
        raise WeightsError(f"{source} is not a pickle of arrays: {error}") from error
    return _flatten(tree, source)


_BROKEN = (EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, MemoryError,
           OverflowError, ImportError, RecursionError)  # fmt: skip
"""What the unpickler raises on bytes that are no pickle, or one that makes no sense."""


class _Dtype:
    """Stands for `numpy.dtype`: a plain number in a byte order."""

    def __init__(self, code: object, *_align_and_copy: object) -> None:
        if not isinstance(code, str) or code not in NUMBERS:
            name = code[:20] if isinstance(code, str) else type(code).__name__
            raise WeightsError(f"it holds an array of type {name!r}, which is no plain number.")
        self.code = code
        self.order = "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        # (version, byte order, subtype, names, fields, size, alignment, flags)
        order, *structure = state[1:5]
        if order not in ("<", ">", "|") or any(part is not None for part in structure):
            raise WeightsError("it holds an array of a structured type.")
        self.order = order


class _Array:
    """Stands for `numpy.ndarray`; holds the array once its state is known."""

    value: NDArray[Any] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, raw = state
        if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes):
            raise WeightsError("it holds an array whose values are not plain bytes.")
        if not isinstance(shape, tuple) or any(not isinstance(n, int) or n < 0 for n in shape):
            raise WeightsError("it holds an array whose shape is no tuple of sizes.")
        values = np.frombuffer(raw, np.dtype(f"{dtype.order}{dtype.code}"))
        if len(values) != math.prod(shape):
            raise WeightsError(f"it holds an array of {len(values)} values in another shape.")
        native = values.astype(values.dtype.newbyteorder("="), copy=False)
        self.value = native.reshape(shape, order="F" if is_fortran else "C")


class _Reconstruct:
    """Stands for `numpy.core.multiarray._reconstruct`, which makes an empty array."""

    def __call__(self, kind: object, *_shape_and_type: object) -> _Array:
        if kind is not _Array:
            raise WeightsError("it makes an array of another kind than numpy's own.")
        return _Array()

    def __setstate__(self, _state: object) -> None:
        raise WeightsError("it changes the function that makes arrays.")


_KNOWN: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _Reconstruct(),
    ("numpy._core.multiarray", "_reconstruct"): _Reconstruct(),
}


class _ArrayUnpickler(pickle.Unpickler):
    """Knows the names of `_KNOWN` and no other."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """The stand-in for a name; never imports anything."""
        if (module_name, global_name) not in _KNOWN:
            raise WeightsError(
                f"it names {module_name}.{global_name}, which arrays do not need. Nothing was "
                f"executed. Get the file from its source again; do not open this one."
            )
        return _KNOWN[module_name, global_name]


def _check_instructions(content: bytes) -> None:
    """Raise WeightsError on an instruction that arrays do not need.

    A tuple that is used again could hold itself over and over: some hundred bytes would stand for
    more numbers than any memory, and for hours of hashing.
    """
    kept: dict[int, bool] = {}  # place -> whether a tuple was kept there
    is_tuple = False  # what was put on the stack last
    for count, (instruction, argument, _) in enumerate(pickletools.genops(content)):
        if instruction.name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            place = len(kept) if instruction.name == "MEMOIZE" else cast("int", argument)
            kept[place] = is_tuple
        else:
            is_tuple = "TUPLE" in instruction.name
        if instruction.name in ("BINGET", "LONG_BINGET") and kept.get(cast("int", argument)):
            raise WeightsError("it uses a tuple again, which arrays do not need.")
        if instruction.name not in INSTRUCTIONS:
            raise WeightsError(
                f"it uses the instruction {instruction.name}, which arrays do not need. Nothing "
                "was executed."
            )
        # Python's reader makes room for every place up to the number that is named here.
        if instruction.name == "LONG_BINPUT" and cast("int", argument) > count:
            raise WeightsError("it keeps a value at a place that it cannot have come to yet.")


def _flatten(tree: object, source: str) -> dict[str, NDArray[Any]]:
    """{"a": {"b": x}} -> {"a/b": x}."""
    arrays: dict[str, NDArray[Any]] = {}
    seen: set[int] = set()
    waiting: list[tuple[tuple[str, ...], object]] = [((), tree)]
    while waiting:
        path, node = waiting.pop()
        if isinstance(node, _Array) and node.value is not None:
            name = "/".join(path)
            if name in arrays:  # {"a": {"b": x}, "a/b": y}
                raise WeightsError(f"{source} has two arrays called {name}.")
            arrays[name] = node.value
        elif isinstance(node, dict) and id(node) not in seen:
            seen.add(id(node))  # one that contains itself would have no end
            if not all(isinstance(key, str) for key in node):
                raise WeightsError(
                    f"{source} has a key that is no name, at {'/'.join(path) or 'its top'}."
                )
            waiting += [((*path, key), value) for key, value in reversed(node.items())]
        else:
            raise WeightsError(
                f"{source} has neither an array nor a dict of its own at "
                f"{'/'.join(path) or 'its top'}."
            )
    return arrays
