"""Place and form of a tensor of ours in another package's state dict."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Their:
    """The other package's tensor for one of ours."""

    name: str
    """Key in their state dict."""
    ones: int = 0
    """Dimensions of size one that theirs has after ours: 3 for a linear layer that is a 1x1x1
    convolution there."""
    order: tuple[int, ...] | None = None
    """Dimension of ours that each of theirs is; None: the same order. (2, 3, 4, 1, 0) where a
    kernel is (T, H, W, in, out) there."""
    ones_in_front: int = 0
    """Dimensions of size one that theirs has in front."""

    def shape(self, ours: Sequence[int]) -> tuple[int, ...]:
        """Shape of theirs for a shape of ours."""
        inner = [ours[dim] for dim in self.order or range(len(ours))]
        return (*[1] * self.ones_in_front, *inner, *[1] * self.ones)

    def from_ours(self, ours: torch.Tensor) -> torch.Tensor:
        """Our tensor as they have it."""
        value = ours.permute(self.order) if self.order else ours
        return value.reshape(self.shape(ours.shape))

    def to_ours(self, theirs: torch.Tensor) -> torch.Tensor | None:
        """Their tensor as we have it; None where it does not have the ones."""
        stop = theirs.ndim - self.ones
        around = (*theirs.shape[: self.ones_in_front], *theirs.shape[stop:])
        inner = theirs.shape[self.ones_in_front : stop]
        if around != (1,) * (self.ones_in_front + self.ones):
            return None
        value = theirs.reshape(inner).contiguous()
        if not self.order:
            return value
        if len(self.order) != len(inner):
            return None
        return value.permute([self.order.index(dim) for dim in range(len(inner))]).contiguous()


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


def renamed(key: str, pairs: Iterable[tuple[str, str]]) -> str:
    """Key after `re.sub` of each pattern in turn."""
    for pattern, replacement in pairs:
        key = re.sub(pattern, replacement, key)
    return key


def listed(keys: Sequence[str], what: str) -> str:
    """Text of how many names are `what`, with the first of them.

    >>> listed(["a", "b", "c", "d"], "missing")
    '4 missing: a, b, c, ...'
    """
    return f"{len(keys)} {what}: {first_of(keys)}"


def first_of(keys: Sequence[str]) -> str:
    """Text of the first few names."""
    return ", ".join([*keys[:MOST_LISTED], *(["..."] if len(keys) > MOST_LISTED else [])])
