"""Place and form of a tensor of ours in another package's state dict."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

AS_1X1X1 = (0, 1, None, None, None)
"""`Their.order` of a linear layer that is a 1x1x1 convolution there."""

NON_LOCAL = ".non_local."
"""In the names of what non-local blocks have; published weights have none."""


@dataclass(frozen=True)
class Their:
    """The other package's tensor for one of ours."""

    name: str
    """Key in their state dict."""
    order: tuple[int | None, ...] | None = None
    """Dimension of ours that each of theirs is, None for one of size one: (2, 3, 4, 1, 0) where a
    kernel is (T, H, W, in, out) there. Without it all are the same."""

    def shape(self, ours: Sequence[int]) -> tuple[int, ...]:
        """Shape of theirs for a shape of ours."""
        order = range(len(ours)) if self.order is None else self.order
        return tuple(1 if dim is None else ours[dim] for dim in order)

    def from_ours(self, ours: torch.Tensor) -> torch.Tensor:
        """Our tensor as they have it."""
        order = range(ours.ndim) if self.order is None else self.order
        inner = [dim for dim in order if dim is not None]
        return ours.permute(inner).reshape(self.shape(ours.shape))

    def to_ours(self, theirs: torch.Tensor) -> torch.Tensor | None:
        """Their tensor as we have it; None where its dimensions are not those of `order`."""
        order = range(theirs.ndim) if self.order is None else self.order
        ones = tuple(index for index, dim in enumerate(order) if dim is None)
        if theirs.ndim != len(order) or any(theirs.shape[index] != 1 for index in ones):
            return None
        inner = [dim for dim in order if dim is not None]
        back = [inner.index(dim) for dim in range(len(inner))]
        return theirs.squeeze(ones).permute(back).contiguous()


@dataclass(frozen=True)
class Fixed:
    """The other package has no such tensor; its network works as if it were this number."""

    value: float
    ignored: bool = False
    """True for a counter that no output depends on: ours may have any value."""


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


def plain_keys(model: nn.Module) -> list[str]:
    """Names in the state dict of a network, but for those of non-local blocks."""
    return [key for key in model.state_dict() if NON_LOCAL not in key]


def renamed(key: str, pairs: Iterable[tuple[str, str]]) -> str:
    """Key after `re.sub` of each pattern in turn."""
    for pattern, replacement in pairs:
        key = re.sub(pattern, replacement, key)
    return key


def listed(groups: Mapping[str, Sequence[str]]) -> list[str]:
    """A text for each group that has names, with the first of them: '4 missing: a, b, c, ...'."""
    return [f"{len(keys)} {what}: {first_of(keys)}" for what, keys in groups.items() if keys]


def first_of(keys: Sequence[str]) -> str:
    """Text of the first few names."""
    return ", ".join([*keys[:MOST_LISTED], *(["..."] if len(keys) > MOST_LISTED else [])])
