"""Pickles of scores: plain values, numpy arrays and torch tensors, see `unpickle`."""

from __future__ import annotations

import io
import os
import pickle
from collections import OrderedDict
from typing import IO, Any

from dualstream.errors import ScoresError
from dualstream.unpickle import ARRAYS, PICKLE_ERRORS, Safe, read_pickle


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
    names = {
        **ARRAYS,
        ("torch._utils", "_rebuild_tensor_v2"): Safe(_rebuild_tensor),
        ("torch.storage", "_load_from_bytes"): Safe(_load_storage),
    }
    try:
        return read_pickle(file.read(), names)
    except PICKLE_ERRORS as error:
        raise ScoresError(f"{source}: not a readable pickle of scores ({error}).") from error


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
