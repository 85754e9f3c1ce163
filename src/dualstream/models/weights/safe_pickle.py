"""Nested dicts of numpy arrays out of a pickle, without running anything that the pickle names."""

from __future__ import annotations

import math
import pickletools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import WeightsError

NUMBERS = ("b1", "f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")
"""Types of arrays that are read."""

MOST_DIMENSIONS = 64
"""Of an array, as numpy allows."""

MOST_LEVELS = 50
"""Of dicts in each other."""

LONGEST_KEY = 1000
"""In characters."""

MOST_REPEATED = 2
"""Bytes of all arrays together, in parts of the file's: the same one may have two names."""


def read_arrays(content: bytes, *, source: str) -> dict[str, NDArray[Any]]:
    """Arrays of a pickle that holds nested dicts of numpy arrays, as checkpoints of JAX do.

    A pickle is a program for a stack machine that may call any function, and `pickle.load` runs it.
    Here a machine of this file's own runs it, which knows the few instructions that such dicts
    need, and of functions only the three that make an array, each by what it stands for. So
    nothing is executed or imported, not even numpy's own code for restoring arrays, and neither
    time nor memory goes beyond some multiple of the file's size.

    Args:
        content: the whole file, of protocol 3 or 4; the others need more than arrays do.
        source: what to call it in errors.

    Returns:
        Keys on the way, joined by "/", -> array: {"a": {"b": x}} gives {"a/b": x}.

    Raises:
        WeightsError: anything but nested dicts of numbers in arrays.

    Source:
        The instructions' meanings: Python's `pickletools`, which also takes the program apart.
    """
    try:
        tree = _Machine().run(content)
    except WeightsError as error:
        raise WeightsError(f"{source} is not read: {error}") from None
    except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        raise WeightsError(f"{source} is not a pickle of arrays: {error}") from error
    arrays = _flatten(tree, source)
    if sum(array.nbytes for array in arrays.values()) > MOST_REPEATED * len(content):
        raise WeightsError(f"{source} is not read: it stands for more numbers than it holds.")
    return {
        name: array.astype(array.dtype.newbyteorder("="), copy=False)
        for name, array in arrays.items()
    }


@dataclass(frozen=True)
class _Name:
    """A class or function that the pickle names."""

    text: str


_ARRAY = _Name("numpy.ndarray")
_DTYPE = _Name("numpy.dtype")
_EMPTY_ARRAY = (
    _Name("numpy.core.multiarray._reconstruct"),
    _Name("numpy._core.multiarray._reconstruct"),
)
_KNOWN = (_ARRAY, _DTYPE, *_EMPTY_ARRAY)


@dataclass(eq=False)
class _Dict:
    """A dict; its keys are looked at, and hashed, only once they are known to be names."""

    items: list[tuple[object, object]] = field(default_factory=list)


class _Dtype:
    """Stands for `numpy.dtype`: a plain number in a byte order."""

    def __init__(self, code: object, *_align_and_copy: object) -> None:
        if not isinstance(code, str) or code not in NUMBERS:
            name = code[:20] if isinstance(code, str) else type(code).__name__
            raise WeightsError(f"it holds an array of type {name!r}, which is no plain number.")
        self.code = code
        self.order = "|"

    def build(self, state: tuple[Any, ...]) -> None:
        """Take (version, byte order, subtype, names, fields, size, alignment, flags)."""
        order, *structure = state[1:5]
        if order not in ("<", ">", "|") or any(part is not None for part in structure):
            raise WeightsError("it holds an array of a structured type.")
        self.order = order


class _Array:
    """Stands for `numpy.ndarray`; holds the array once its state is known."""

    value: NDArray[Any] | None = None

    def build(self, state: tuple[Any, ...]) -> None:
        """Take (version, shape, type, whether columns come first, bytes)."""
        _, shape, dtype, is_fortran, raw = state
        if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes):
            raise WeightsError("it holds an array whose values are not plain bytes.")
        if not isinstance(shape, tuple) or len(shape) > MOST_DIMENSIONS:
            raise WeightsError("it holds an array whose shape is no tuple of sizes.")
        if any(not isinstance(n, int) or not 0 <= n < 2**63 for n in shape):
            raise WeightsError("it holds an array whose shape is no tuple of sizes.")
        values = np.frombuffer(raw, np.dtype(f"{dtype.order}{dtype.code}"))
        if len(values) != math.prod(shape):
            raise WeightsError(f"it holds an array of {len(values)} values in another shape.")
        self.value = values.reshape(shape, order="F" if is_fortran else "C")


class _Machine:
    """Runs the program of a pickle, as far as it makes dicts of arrays."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        """The stacks that were left at each mark."""
        self.memo: dict[int, Any] = {}

    def run(self, content: bytes) -> object:
        """What the program leaves on the stack.

        Raises:
            WeightsError: an instruction or a name that arrays do not need.
            ValueError, TypeError, KeyError, IndexError, OverflowError: a broken program.
        """
        for instruction, argument, _ in pickletools.genops(content):
            self._step(instruction.name, argument)
        return self.stack.pop()

    def _step(self, instruction: str, argument: Any) -> None:
        match instruction:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                self.stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[instruction])
            case "BININT" | "BININT1" | "BININT2" | "LONG1":
                self.stack.append(argument)
            case "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8":
                self.stack.append(argument)
            case "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8":
                self.stack.append(argument)
            case "MEMOIZE":
                self.memo[len(self.memo)] = self.stack[-1]
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = self.stack[-1]
            case "BINGET" | "LONG_BINGET":
                self.stack.append(self.memo[argument])
            case "MARK":
                self.below.append(self.stack)
                self.stack = []
            case "EMPTY_DICT":
                self.stack.append(_Dict())
            case "SETITEM":
                self._set_items(self._popped(2))
            case "SETITEMS":
                self._set_items(self._since_mark())
            case "EMPTY_TUPLE":
                self.stack.append(())
            case "TUPLE":
                values = self._since_mark()  # another stack from here on
                self.stack.append(tuple(values))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                self.stack.append(tuple(self._popped(int(instruction[-1]))))
            case "GLOBAL":
                self._name(*argument.split(" ", 1))
            case "STACK_GLOBAL":
                self._name(*self._popped(2))
            case "REDUCE":
                self._call(*self._popped(2))
            case "BUILD":
                self._build(self.stack.pop())
            case _:
                raise WeightsError(
                    f"it uses the instruction {instruction}, which arrays do not need. Nothing "
                    "was executed."
                )

    def _popped(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise ValueError("a value is missing")
        values = self.stack[-count:]
        del self.stack[-count:]
        return values

    def _since_mark(self) -> list[Any]:
        values, self.stack = self.stack, self.below.pop()
        return values

    def _set_items(self, flat: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, _Dict):
            raise TypeError("items are set of what is no dict")
        target.items += zip(flat[::2], flat[1::2], strict=True)

    def _name(self, module: object, name: object) -> None:
        found = _Name(f"{module}.{name}") if isinstance(module, str) else None
        if found not in _KNOWN or not isinstance(name, str):
            text = found.text[:100] if found and isinstance(name, str) else "no name"
            raise WeightsError(
                f"it names {text}, which arrays do not need. Nothing was executed. Get the file "
                "from its source again; do not open this one."
            )
        self.stack.append(found)

    def _call(self, function: object, arguments: object) -> None:
        if not isinstance(arguments, tuple):
            raise TypeError("arguments are no tuple")
        if function in _EMPTY_ARRAY:
            if arguments[0] != _ARRAY:
                raise WeightsError("it makes an array of another kind than numpy's own.")
            self.stack.append(_Array())
        elif function == _DTYPE:
            self.stack.append(_Dtype(*arguments))
        else:
            raise TypeError("something is called that is no function")

    def _build(self, state: object) -> None:
        target = self.stack[-1]
        if not isinstance(target, _Array | _Dtype) or not isinstance(state, tuple):
            raise WeightsError("it changes something that is no array.")
        target.build(state)


def _flatten(tree: object, source: str) -> dict[str, NDArray[Any]]:
    """{"a": {"b": x}} -> {"a/b": x}."""
    arrays: dict[str, NDArray[Any]] = {}
    seen: set[int] = set()
    waiting: list[tuple[tuple[str, ...], object]] = [((), tree)]
    while waiting:
        path, node = waiting.pop()
        where = "/".join(path)
        if isinstance(node, _Array) and node.value is not None:
            if where in arrays:  # {"a": {"b": x}, "a/b": y}
                raise WeightsError(f"{source} has two arrays called {where}.")
            arrays[where] = node.value
        elif isinstance(node, _Dict) and id(node) not in seen:
            seen.add(id(node))  # one that contains itself would have no end
            if len(path) == MOST_LEVELS:
                raise WeightsError(f"{source} has more than {MOST_LEVELS} dicts in each other.")
            for key, value in reversed(node.items):
                if not isinstance(key, str) or len(key) > LONGEST_KEY:
                    raise WeightsError(
                        f"{source} has a key that is no name, at {where or 'its top'}."
                    )
                waiting.append(((*path, key), value))
        else:
            raise WeightsError(
                f"{source} has neither an array nor a dict of its own at {where or 'its top'}."
            )
    return arrays
