"""Moves of what the entries of tensors see of an input, which operations are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from math import inf

import torch
from torch import Tensor

AXES = 3
"""Time, height, width."""

Seen = tuple[Tensor, ...]
"""Of time, of height and of width: minus the first position, the last one, and the place.

Each of the nine has as many dimensions as the tensor that it is about, of size 1 where all entries
agree. An entry that sees nothing has -inf in all, one that could not be followed inf in the first
two, one without a place of its own, as after a mean, the place -inf: who sees more has more.
"""

PLACE = 2

LONGEST_PERIOD = 32
"""Entries of one step of the coarsest level that decoders start from."""


def along(values: Tensor, dimension: int, rank: int) -> Tensor:
    return values.reshape([-1 if d == dimension else 1 for d in range(rank)])


def compact(values: Tensor) -> Tensor:
    """Keep one entry along dimensions in which all are equal, at first those of stride 0."""
    for dimension in sorted(range(values.ndim), key=values.stride):
        one = values.narrow(dimension, 0, 1)
        if values.stride(dimension) == 0 or (one == values).all():
            values = one
    return values


def each(seen: Seen, function: Callable[[int, Tensor], Tensor]) -> Seen:
    """A function of the kind (0, 1 or PLACE) and the values, on all nine tensors."""
    return tuple(function(i % 3, values) for i, values in enumerate(seen))


def reduced(kind: int, values: Tensor, dimensions: Sequence[int]) -> Tensor:
    """Values of one entry that sees all along some dimensions.

    It lies where the first of them does if there are others elsewhere, as in other frames.
    """
    most = values.amax(tuple(dimensions), keepdim=True)
    if kind != PLACE:
        return most
    least = values.amin(tuple(dimensions), keepdim=True)
    return torch.where(least == most, least, -inf) if compact(least).numel() == 1 else least


def joined(seen: Seen, dimensions: Sequence[int]) -> Seen:
    """One entry, which sees all, in place of those along some dimensions."""
    return each(seen, lambda kind, values: reduced(kind, values, dimensions))


def spread(seen: Seen, dimensions: Sequence[int]) -> Seen:
    """Every entry sees all along some dimensions and stays in its place."""
    return each(seen, lambda kind, v: v if kind == PLACE else reduced(kind, v, dimensions))


def union(*several: Seen) -> Seen:
    """Join what entries see that meet one by one; of two places the later one stays."""
    return tuple(reduce(torch.maximum, parts) for parts in zip(*several, strict=True))


def slid(
    seen: Seen, dimension: int, size: int, *, reach: int, stride: int, padding: int, dilation: int
) -> Seen:
    """A window that slides along a dimension, to `size` places."""

    def slide(kind: int, values: Tensor) -> Tensor:
        if values.shape[dimension] == 1:
            return values
        before, over = (0, 1) if kind == PLACE else (padding, reach)
        after = (size - 1) * stride + over - values.shape[dimension] - before
        values = extended(values, dimension, before, after)
        return values.unfold(dimension, over, stride)[..., ::dilation].amax(-1)

    return each(seen, slide)


def extended(values: Tensor, dimension: int, before: int, after: int) -> Tensor:
    """Entries beyond both ends, which go on as those between; below 0 they are cut.

    They go on in steps that repeat, as after a transposed convolution, or at the mean distance.
    """
    size = values.shape[dimension]
    if size == 1:
        return values
    period = _period(values, dimension)
    if period == 0:
        ends = values.narrow(dimension, 0, 1), values.narrow(dimension, size - 1, 1)
        period, step = 1, ((ends[1] - ends[0]) / (size - 1)).nan_to_num(0, 0, 0)
    else:
        ends = values.narrow(dimension, 0, period), values.narrow(dimension, size - period, period)
        step = values.narrow(dimension, period, 1) - values.narrow(dimension, 0, 1)

    def beyond(end: Tensor, places: Tensor) -> Tensor:
        """Places count from the first entry of an end."""
        rounds = along(places // period, dimension, values.ndim)
        return end.index_select(dimension, places % period) + step * rounds

    ahead = beyond(ends[0], torch.arange(min(0, -before), 0))
    behind = beyond(ends[1], torch.arange(period, period + max(0, after)))
    kept = values.narrow(dimension, max(0, -before), size + min(0, before) + min(0, after))
    return torch.cat([ahead, kept, behind], dimension)


def _period(values: Tensor, dimension: int) -> int:
    """Entries after which the same steps come again, 0 where they do not (0, 0, 1, 1, 2, 2: 2)."""
    size = values.shape[dimension]
    for period in range(1, min(size // 2, LONGEST_PERIOD) + 1):
        later = values.narrow(dimension, period, size - period)
        steps = later - values.narrow(dimension, 0, size - period)
        if ((steps - steps.narrow(dimension, 0, 1)).abs() < 1e-6).all():
            return period
    return 0


def resampled(seen: Seen, dimension: int, places: Tensor, first: Tensor, last: Tensor) -> Seen:
    """Entries at `places` between those along a dimension, that see those from first to last."""
    low = places.floor().long()
    before = -min(0, int(first.min()), int(low.min()))

    def move(kind: int, values: Tensor) -> Tensor:
        size = values.shape[dimension]
        if size == 1:
            return values
        after = max(0, int(last.max()) - size + 1, int(low.max()) + 2 - size)
        wide = extended(values, dimension, before, after)

        def at(index: Tensor) -> Tensor:
            return wide.index_select(dimension, index + before)

        if kind == PLACE:
            step = (at(low + 1) - at(low)).nan_to_num(0, 0, 0)
            return at(low) + along(places - low, dimension, values.ndim) * step
        most = int((last - first).max())
        return reduce(torch.maximum, (at((first + r).clamp(max=last)) for r in range(most + 1)))

    return each(seen, move)
