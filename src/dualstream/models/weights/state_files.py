"""State dicts out of files, without running code that a file may hold."""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dualstream.errors import WeightsError
from dualstream.models.weights.safe_pickle import read_arrays

_AROUND = ("model_state", "state_dict", "model")
"""Keys under which training programs put the state dict beside other things."""


def read_state_file(path: Path, *, arrays: bool = False) -> dict[str, torch.Tensor]:
    """State dict of a file: safetensors, numpy's .npz, or what torch saved.

    Args:
        path: .safetensors and .npz are told by their suffix.
        arrays: a pickle of nested dicts of numpy arrays instead (`safe_pickle.read_arrays`).

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
    for key in _AROUND:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not _is_state(loaded):
        raise WeightsError(
            f"{source} holds no state dict (names and tensors), neither at its top nor under "
            f"{', '.join(_AROUND)}."
        )
    return dict(loaded)


def read_pickled_arrays(content: bytes, *, source: str) -> dict[str, torch.Tensor]:
    """`safe_pickle.read_arrays` as tensors.

    Raises:
        WeightsError: anything but nested dicts of numbers in arrays.
    """
    arrays = read_arrays(content, source=source)
    return {key: torch.tensor(value) for key, value in arrays.items()}


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
    import numpy as np

    if not zipfile.is_zipfile(path):
        raise WeightsError(f"{path} is no .npz file.")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {key: torch.from_numpy(arrays[key]) for key in arrays.files}
    except Exception as error:  # of numpy, zipfile, zlib: damage comes in many forms
        raise WeightsError(f"{path} is no .npz file of numbers: {error}") from error
