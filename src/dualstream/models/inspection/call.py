"""One call of a torch operation, as the rules for places see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from dualstream.models.inspection.digits import moving_axes
from dualstream.models.inspection.joining import joined
from dualstream.models.inspection.places import Places

Result = Places | None | list[Places | None]
"""Places of the output, or of each of several; None sees nothing of the input."""


@dataclass(frozen=True)
class Call:
    """One call of an operation."""

    name: str
    """As in torch's schema without the overload: "convolution", "mean"."""
    pointwise: bool
    """Whether torch marks it as working element by element."""
    arguments: dict[str, Any]
    """All of them by name, defaults too."""
    output: Any
    """A tensor, or several."""
    places_of: Callable[[object], Places | None]
    """Places of a tensor; None of one that does not depend on the input."""
    value_of: Callable[[torch.Tensor], torch.Tensor | None]
    """What a tensor holds, where that is known without computing the network."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the (first) output."""
        first = self.output if isinstance(self.output, torch.Tensor) else self.output[0]
        return tuple(first.shape)

    @property
    def tensors(self) -> list[torch.Tensor]:
        """All tensors among the arguments."""
        found: list[torch.Tensor] = []
        for value in self.arguments.values():
            values = value if isinstance(value, list | tuple) else [value]
            found += [item for item in values if isinstance(item, torch.Tensor)]
        return found

    @property
    def source(self) -> Places:
        """Places of the first argument."""
        places = self.places_of(next(iter(self.arguments.values())))
        assert places is not None  # `places_after` asks for rules only where there are some
        return places

    def number(self, name: str) -> int:
        """A dimension or an index counted from the front."""
        value: int = self.arguments[name]
        return value

    def dimension(self, name: str = "dim") -> int:
        """A dimension counted from the front."""
        return self.number(name) % max(1, len(self.source.dimensions))

    def dimensions(self, name: str = "dim") -> list[int]:
        """Dimensions counted from the front; all where none are given."""
        rank = len(self.source.dimensions)
        value = self.arguments.get(name)
        if value is None or value == []:
            return list(range(rank))
        return [d % rank for d in (value if isinstance(value, list | tuple) else [value])]


def unknown(call: Call, followed: Sequence[Places]) -> Places:
    """Nothing is known any more of the axes that entries differ in."""
    axes = set().union(*(moving_axes(places.dimensions, least=2) for places in followed))
    lost = followed[0].lost(call.shape, axes)
    for other in followed[1:]:
        lost = joined(lost, other.lost(call.shape, axes))
    return lost
