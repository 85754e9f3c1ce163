"""State dicts of other packages -> ours, and back, by one table a layout (`layouts.LAYOUTS`)."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

import torch

from dualstream.errors import WeightsError, check_choice
from dualstream.models.convert.layouts import LAYOUTS, NON_LOCAL, Layout, Their
from dualstream.models.layers.conv import first_convolution
from dualstream.models.network import Network

__all__ = ["NON_LOCAL", "Layout", "from_layout", "to_layout"]

AROUND = ("model_state", "state_dict", "model")
"""Keys under which training programs put the state dict beside other things."""

PREFIXES = ("module.", "_orig_mod.")
"""Prefixes that DistributedDataParallel and `torch.compile` put before every name."""

MOST_LISTED = 3
"""Names that an error lists."""


def plain_state(loaded: Any, *, own: Container[str] = ()) -> Any:
    """Take a state dict out of what it was saved in, and off its names what wrappers added.

    Args:
        loaded: {"state_dict": ...}, {"module.conv.weight": ...} or both in each other; anything
            else comes back as it is.
        own: names of the network; those that begin with a prefix of their own keep it.
    """
    for key in AROUND:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    for prefix in PREFIXES * 2:
        if (
            isinstance(loaded, Mapping)
            and loaded
            and all(
                isinstance(key, str) and key.startswith(prefix) and key not in own for key in loaded
            )
        ):
            loaded = {key.removeprefix(prefix): value for key, value in loaded.items()}
    return loaded


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
    check_choice("layout", layout, Layout)
    table, own = LAYOUTS[layout](model), model.state_dict()
    state = plain_state(state)
    expected = {their.name for their in table.values() if isinstance(their, Their)}
    channels = first_convolution(model)[1].weight.shape[1]
    converted: dict[str, torch.Tensor] = {}
    misshapen = []
    for ours, their in table.items():
        if not isinstance(their, Their):
            converted[ours] = torch.full(own[ours].shape, their or 0, dtype=own[ours].dtype)
        elif their.name in state:
            value = their.to_ours(state[their.name])
            if value is not None and _fits(value, own[ours], ours, channels):
                converted[ours] = value
            else:
                found, wanted = tuple(state[their.name].shape), their.shape(own[ours].shape)
                misshapen.append(f"{their.name} {found} instead of {wanted}")
    problems = listed(
        {
            "missing": sorted(expected - state.keys()),
            "not of this network": sorted(state.keys() - expected),
            "of another shape": misshapen,
        }
    )
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
    check_choice("layout", layout, Layout)
    table, own = LAYOUTS[layout](model), model.state_dict()
    other = [
        ours
        for ours, their in table.items()
        if isinstance(their, float) and (own[ours] != their).any()
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


def _fits(value: torch.Tensor, own: torch.Tensor, key: str, input_channels: int) -> bool:
    """Return whether a tensor of theirs has our shape, but for classes and input channels."""
    wanted = list(own.shape)
    if key.startswith("classifier.") and value.ndim:
        wanted[0] = value.shape[0]
    elif own.ndim > 2 and value.ndim == own.ndim and own.shape[1] == input_channels:
        wanted[1] = value.shape[1]
    return list(value.shape) == wanted


def listed(groups: Mapping[str, Sequence[str]]) -> list[str]:
    """A text for each group that has names, with the first of them: '4 missing: a, b, c, ...'."""
    return [f"{len(keys)} {what}: {first_of(keys)}" for what, keys in groups.items() if keys]


def first_of(keys: Sequence[str]) -> str:
    """Text of the first few names."""
    return ", ".join([*keys[:MOST_LISTED], *(["..."] if len(keys) > MOST_LISTED else [])])
