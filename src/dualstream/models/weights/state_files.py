"""State dicts out of files, without running code that a file may hold."""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dualstream.errors import WeightsError
from dualstream.models.convert.naming import AROUND, plain_state
from dualstream.unpickle import ARRAYS, PICKLE_ERRORS, read_pickle

MOST_REPEATED = 2
"""Bytes of arrays and names, in parts of the file's: the same array may have two names."""


def read_state_file(path: Path, *, arrays: bool = False) -> dict[str, torch.Tensor]:
    """State dict of a file: safetensors, numpy's .npz, or what torch saved.

    Args:
        path: .safetensors and .npz are told by their suffix.
        arrays: a pickle of nested dicts of numpy arrays instead (`read_pickled_arrays`).

    Raises:
        WeightsError: no such file, or it holds no state dict.
    """
    if not path.is_file():
        raise WeightsError(f"{path} does not exist or is no file.")
    if path.suffix == ".safetensors":
        return _safetensors(path)
    if path.suffix == ".npz":
        return _npz(path)
    content = path.read_bytes()
    read = read_pickled_arrays if arrays else read_torch_state
    return read(content, source=str(path))


def read_torch_state(content: bytes, *, source: str) -> dict[str, torch.Tensor]:
    """State dict of a file that torch saved, read with `weights_only`.

    Args:
        content: the whole file. It may hold the state dict beside other things, under the key
            model_state (as pytorchvideo's), state_dict or model.
        source: what to call it in errors.

    Raises:
        WeightsError: it is no such file, or holds no state dict.
    """
    try:
        with warnings.catch_warnings():  # of torch's, on pickles that it then refuses
            warnings.simplefilter("ignore")
            loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes lead torch's reader to errors of a dozen kinds
        # Torch's own text advises to read the file without `weights_only`, which runs it.
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        found = (
            f"it names {named[1]}, which weights do not need. Nothing was executed"
            if named
            else "it is damaged, or no state dict that torch saved"
        )
        raise WeightsError(
            f"{source} is not read: {found}. Get the file from its source again; do not open this "
            "one."
        ) from error
    loaded = plain_state(loaded)
    if not _is_state(loaded):
        raise WeightsError(
            f"{source} holds no state dict (names and tensors), neither at its top nor under "
            f"{', '.join(AROUND)}."
        )
    return dict(loaded)


def read_pickled_arrays(content: bytes, *, source: str) -> dict[str, torch.Tensor]:
    """Tensors of a pickle that holds nested dicts of numpy arrays, as checkpoints of JAX do.

    Args:
        content: the whole file.
        source: what to call it in errors.

    Returns:
        Keys on the way, joined by "/", -> tensor: {"a": {"b": x}} gives {"a/b": x}.

    Raises:
        WeightsError: anything but nested dicts of numbers in arrays; nothing was executed.
    """
    try:
        tree = read_pickle(content, ARRAYS)
    except PICKLE_ERRORS as error:
        raise WeightsError(
            f"{source} is not read as a pickle of arrays: {error}. Get the file from its source "
            "again; do not open this one."
        ) from error
    tensors: dict[str, torch.Tensor] = {}
    waiting: list[tuple[str, Any]] = [("", tree)]
    used_bytes = 0
    while waiting:
        place, node = waiting.pop()
        used_bytes += len(place) + (node.nbytes if isinstance(node, np.ndarray) else 1)
        if used_bytes > MOST_REPEATED * len(content):
            raise WeightsError(f"{source} is not read: it stands for more numbers than it holds.")
        if isinstance(node, dict) and all(isinstance(key, str) for key in node):
            start = f"{place}/" if place else ""
            waiting += [(start + key, value) for key, value in reversed(node.items())]
        elif isinstance(node, np.ndarray) and node.dtype.kind in "biuf" and place not in tensors:
            tensors[place] = torch.tensor(node.astype(node.dtype.newbyteorder("="), copy=False))
        else:
            raise WeightsError(
                f"{source} is not read: at {place[:200] or 'its top'} it holds neither a dict with "
                "names nor an array of numbers under a name of its own."
            )
    return tensors


def _is_state(loaded: Any) -> bool:
    return (
        isinstance(loaded, Mapping)
        and len(loaded) > 0
        and all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in loaded.items())
    )


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise WeightsError(f"{path} is damaged or no safetensors file: {error}") from error


def _npz(path: Path) -> dict[str, torch.Tensor]:
    if not zipfile.is_zipfile(path):
        raise WeightsError(f"{path} is no .npz file.")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {key: torch.from_numpy(arrays[key]) for key in arrays.files}
    except Exception as error:  # of numpy, zipfile, zlib: damage comes in many forms
        raise WeightsError(f"{path} is no .npz file of numbers: {error}") from error
