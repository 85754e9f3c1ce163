"""Reading foreign pickles of arrays and tensors without running anything from them.

A pickle names functions for the reader to call. This reader answers those names from its own
short table: numpy's array, dtype and scalar builders, torch's tensor builder, OrderedDict. Any
other name stops the reading before a single call, so that a malicious file does nothing.
"""

from __future__ import annotations

import io
import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import ScoresError

# The functions that numpy itself names in its pickles, found through the public protocol.
_RECONSTRUCT = np.zeros(0).__reduce__()[0]
_SCALAR = np.float32(0).__reduce__()[0]

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
"""What a broken or hostile pickle can raise while it is read."""


def load_arrays(file: IO[bytes], *, source: str | os.PathLike[str]) -> Any:
    """Read one pickle that holds plain values, numpy arrays and torch tensors.

    Args:
        file: open for reading, at the start of the pickle.
        source: name of the file, for messages.

    Returns:
        What was pickled; torch tensors come back as tensors.

    Raises:
        ScoresError: the pickle asks for anything else, or is broken.
    """
    try:
        return _ArrayUnpickler(file, encoding="latin1").load()
    except PICKLE_ERRORS as error:
        raise ScoresError(f"{source}: not a readable pickle of scores ({error}).") from error


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = _allowed().get((module, name))
        if found is None:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, which score files have no need of; nothing of it "
                f"was run"
            )
        return found


def _allowed() -> dict[tuple[str, str], Any]:
    allowed: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("collections", "OrderedDict"): OrderedDict,
        ("_codecs", "encode"): _encode_latin1,
        ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
        ("torch.storage", "_load_from_bytes"): _load_storage,
    }
    for core in ("numpy.core", "numpy._core"):
        allowed[f"{core}.multiarray", "_reconstruct"] = _reconstruct
        allowed[f"{core}.multiarray", "scalar"] = _scalar
        allowed[f"{core}.numeric", "_frombuffer"] = _from_buffer
    return allowed


def _reconstruct(subtype: type, shape: tuple[int, ...], dtype: bytes) -> NDArray[Any]:
    """An empty array for the pickle to fill; numpy always asks for shape (0,)."""
    if subtype is not np.ndarray or shape != (0,):
        raise pickle.UnpicklingError("it builds an array in another way than numpy does")
    empty: NDArray[Any] = _as_function(_RECONSTRUCT)(subtype, shape, dtype)
    return empty


def _scalar(dtype: np.dtype[Any], data: bytes) -> Any:
    if dtype.hasobject:
        raise pickle.UnpicklingError("it hides an object in a numpy scalar")
    return _as_function(_SCALAR)(dtype, data)


def _from_buffer(buffer: Any, dtype: np.dtype[Any], shape: Any, order: Any) -> NDArray[Any]:
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order=order).copy()


def _encode_latin1(text: str, encoding: str) -> bytes:
    """How pickles of protocol 2 spell bytes; no other codec is ever asked for."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the codec {encoding!r}")
    return text.encode("latin1")


def _load_storage(data: bytes) -> Any:
    """The numbers of a tensor, which torch stores as a file within the pickle."""
    import torch

    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _rebuild_tensor(
    storage: Any,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    requires_grad: bool,
    backward_hooks: OrderedDict[str, Any],
    metadata: Any = None,
) -> Any:
    """A tensor over a storage; refuses sizes that reach beyond it. Hooks are dropped."""
    import torch

    if not isinstance(storage, torch.storage.TypedStorage):
        raise pickle.UnpicklingError("it builds a tensor from something that is no storage")
    typed: Any = storage  # its public untyped() warns that its class will go
    whole = torch.empty(0, dtype=typed.dtype).set_(typed._untyped_storage)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if min((*size, *stride, offset), default=0) < 0 or (0 not in size and last >= len(whole)):
        raise pickle.UnpicklingError("it builds a tensor that reaches beyond its storage")
    return torch.as_strided(whole, size, stride, offset).clone()


def _as_function(value: object) -> Callable[..., Any]:
    if not callable(value):
        raise TypeError(f"numpy names {value!r} in its pickles, which cannot be called")
    return value
