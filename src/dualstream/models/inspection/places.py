"""What part of the input each entry of a tensor sees; whole numbers and fractions.

A tensor's places are its dimensions (see `digits`) and, along time, height and width, the first
and the last input position that its entry 0 sees. Every operation of a network is one of a few
moves on these: regroup, window, join, spread.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil, prod

from dualstream.models.inspection.digits import (
    Digit,
    Dimension,
    Number,
    Part,
    Tokens,
    canonical,
    digits_of,
    moves,
    moving_axes,
    plain,
    regrouped,
    size_of,
    split_inner,
    still,
)

AXES = 3
"""Time, height, width."""


@dataclass(frozen=True)
class Span:
    """Input positions `first` to `last`, both seen; beyond the border they count as well."""

    first: Number
    last: Number

    @property
    def length(self) -> int:
        """Positions from first to last; between two frames that are 31/3 apart up to 12."""
        return ceil(self.last - self.first) + 1

    def moved(self, distance: Number) -> Span:
        """The same length, further on."""
        return Span(self.first + distance, self.last + distance)

    def widened(self, distance: Number) -> Span:
        """Longer at its end, or for a negative distance at its start."""
        return Span(self.first + min(0, distance), self.last + max(0, distance))

    def joined(self, other: Span) -> Span:
        """The shortest that holds both."""
        return Span(min(self.first, other.first), max(self.last, other.last))


Seen = tuple[Span | None, ...]
"""Of each axis; None where it is not known."""


@dataclass(frozen=True)
class Window:
    """A sliding window along one dimension."""

    kernel: int
    stride: int = 1
    padding: int = 0
    """Entries added in front."""
    dilation: int = 1

    @property
    def is_point(self) -> bool:
        """Whether each entry goes to itself."""
        return self.kernel == 1 and self.stride == 1 and self.padding == 0


@dataclass(frozen=True)
class Places:
    """What the entries of a tensor see."""

    dimensions: tuple[Dimension, ...]
    seen: Seen
    """By the entry 0, 0, ..., 0."""
    input_size: tuple[int, ...]
    """T, H, W."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return tuple(size_of(dimension) for dimension in self.dimensions)

    def field(self, axis: int) -> int | None:
        """Receptive field in frames or pixels; None where it is not known.

        As windows add up, zeros beyond the border included. Only where all entries see the same,
        as behind a global mean, it is cut to the input: 14 + 15 * 4 = 74 pixels of 64 are 64.
        """
        span = self.seen[axis]
        if span is None:
            return None
        if axis in moving_axes(self.dimensions):
            return span.length
        return Span(max(0, span.first), min(self.input_size[axis] - 1, span.last)).length

    def stride(self, axis: int) -> Number | None:
        """Distance of neighbouring entries on the input's grid; None where there are none."""
        jumps: list[Number] = [
            max(digit.jump, -digit.jump)
            for dimension in self.dimensions
            for digit in digits_of(dimension)
            if digit.axis == axis
        ]
        return min(jumps) if jumps else None

    def positions(self, axis: int) -> int | None:
        """Number of entries along an axis; None where there are none."""
        sizes = [
            digit.size
            for dimension in self.dimensions
            for digit in digits_of(dimension)
            if digit.axis == axis
        ]
        return prod(sizes) if sizes else None

    # Regrouping: the entries stay what they are.

    def permuted(self, order: Sequence[int]) -> Places:
        """Dimensions in another order."""
        return replace(self, dimensions=tuple(self.dimensions[i] for i in order))

    def reshaped(self, shape: Sequence[int]) -> Places:
        """Entries in the same order under another shape."""
        if tuple(shape) == self.shape:
            return self
        parts = [part for dimension in self.dimensions for part in dimension]
        dimensions = regrouped(parts, shape)
        return self.lost(shape) if dimensions is None else replace(self, dimensions=dimensions)

    def without(self, dimensions: Iterable[int]) -> Places:
        """Dimensions (of one entry) left out."""
        gone = set(dimensions)
        kept = tuple(d for i, d in enumerate(self.dimensions) if i not in gone)
        return replace(self, dimensions=kept)

    def with_new(self, dimension: int) -> Places:
        """A dimension of one entry put in."""
        kept = list(self.dimensions)
        kept.insert(dimension, ())
        return replace(self, dimensions=tuple(kept))

    def expanded(self, shape: Sequence[int]) -> Places:
        """Dimensions of one entry repeated, and new ones in front."""
        new = len(shape) - len(self.dimensions)
        old = ((),) * new + self.dimensions
        dimensions = tuple(
            dimension if size_of(dimension) == size else plain(size)
            for dimension, size in zip(old, shape, strict=True)
        )
        return replace(self, dimensions=dimensions)

    def repeated(self, counts: Sequence[int]) -> Places:
        """Each dimension a number of times behind itself, with new ones in front."""
        new = len(counts) - len(self.dimensions)
        old = ((),) * new + self.dimensions
        dimensions = tuple(
            canonical((*plain(count), *dimension))
            for dimension, count in zip(old, counts, strict=True)
        )
        return replace(self, dimensions=dimensions)

    # Choosing: fewer entries.

    def sliced(self, dimension: int, *, start: int, step: Number, size: int) -> Places | None:
        """Entries start, start + step, ... of a dimension; a negative step goes backwards.

        None where the entries see nothing, as a class token in front of the first attention.
        """
        parts = canonical(self.dimensions[dimension])
        if start == 0 and step == 1 and size == size_of(parts):
            return self
        if size == 0:
            return None
        if len(parts) != 1:
            if not moves(parts):
                return self.with_parts(dimension, plain(size))
            return self._sliced_outer(dimension, start=start, step=step, size=size)
        part = parts[0]
        if isinstance(part, Tokens):
            return self._sliced_tokens(dimension, part, start=start, step=step, size=size)
        digit = Digit(size, part.axis, part.jump * step, part.shift * step)
        return self.with_parts(dimension, canonical((digit,)), self.seen_from(part, start))

    def _sliced_outer(self, dimension: int, *, start: int, step: Number, size: int) -> Places:
        """Whole runs of the inner digits: 4 digits x 7 from 7 on is 3 digits x 7."""
        parts = canonical(self.dimensions[dimension])
        inner = size_of(parts[1:])
        outer = parts[0]
        if step != 1 or start % inner or size % inner or isinstance(outer, Tokens):
            return self.lost_along(dimension, size=size)
        chosen = canonical((replace(outer, size=size // inner), *parts[1:]))
        return self.with_parts(dimension, chosen, self.seen_from(outer, start // inner))

    def _sliced_tokens(
        self, dimension: int, part: Tokens, *, start: int, step: Number, size: int
    ) -> Places | None:
        end = part.size - part.after
        if step == 1 and start <= part.before and start + size >= end:
            tokens = Tokens(part.before - start, part.digits, start + size - end)
            ragged = tokens.before or tokens.after
            return self.with_parts(dimension, (tokens,) if ragged else canonical(part.digits))
        if not moves((part,)):
            return self.with_parts(dimension, plain(size))
        outside = start + size <= part.before or start >= end
        if outside and all(digit.shift for digit in part.digits):
            return None
        return self.lost_along(dimension, size=size)

    def picked(self, dimension: int, index: int) -> Places | None:
        """One entry of a dimension, which is left out."""
        parts = self.dimensions[dimension]
        if any(isinstance(part, Tokens) for part in parts):
            one = self.sliced(dimension, start=index, step=1, size=1)
            return one.without([dimension]) if one else None
        seen = list(self.seen)
        for digit in reversed(digits_of(parts)):
            seen = list(moved(seen, digit, index % digit.size))
            index //= digit.size
        return self.with_parts(dimension, (), tuple(seen)).without([dimension])

    def padded(self, dimension: int, *, before: int, after: int) -> Places:
        """Entries that see nothing put on both sides; negative numbers cut entries off."""
        parts = canonical(self.dimensions[dimension])
        size = before + size_of(parts) + after
        if before <= 0 and after <= 0:
            cut = self.sliced(dimension, start=-before, step=1, size=size)
            return self.lost_along(dimension, size=size) if cut is None else cut
        if len(parts) == 1 and isinstance(parts[0], Digit) and parts[0].axis is not None:
            digit = replace(parts[0], size=size)
            return self.with_parts(dimension, (digit,), self.seen_from(digit, -before))
        if not any(digit.axis is not None for digit in digits_of(parts)):
            return self.with_parts(dimension, plain(size))
        if before < 0 or after < 0:
            return self.lost_along(dimension, size=size)
        if len(parts) == 1 and isinstance(parts[0], Tokens):
            inner = parts[0]
            more = Tokens(inner.before + before, inner.digits, inner.after + after)
            return self.with_parts(dimension, (more,))
        return self.with_parts(dimension, (Tokens(before, digits_of(parts), after),))

    # Mixing: entries see more.

    def windowed(self, dimension: int, window: Window, *, size: int) -> Places:
        """Each of `size` new entries sees `kernel` old ones."""
        parts = canonical(self.dimensions[dimension])
        if window.is_point and size == size_of(parts):
            return self
        if len(parts) != 1 or isinstance(parts[0], Tokens):
            if not moves(parts):
                return self.with_parts(dimension, plain(size))
            return self.lost_along(dimension, size=size)
        digit = parts[0]
        seen = moved(self.seen, digit, -window.padding)
        seen = widened(seen, digit, (window.kernel - 1) * window.dilation)
        new = Digit(size, digit.axis, digit.jump * window.stride, digit.shift * window.stride)
        return self.with_parts(dimension, canonical((new,)), seen)

    def spread(self, dimensions: Iterable[int]) -> Places:
        """Every entry sees what any entry along these dimensions sees; the places stay."""
        seen, kept = self.seen, list(self.dimensions)
        for dimension in dimensions:
            for digit in digits_of(kept[dimension]):
                seen = widened(seen, digit, digit.size - 1)
            kept[dimension] = still(kept[dimension])
        return replace(self, dimensions=tuple(kept), seen=seen)

    def reduced(self, dimensions: Iterable[int], *, keep: bool) -> Places:
        """One entry, which sees all, in place of each of these dimensions."""
        gone = list(dimensions)
        spread = self.spread(gone)
        for dimension in gone:
            spread = spread.with_parts(dimension, ())
        return spread if keep else spread.without(gone)

    def mixed(self, dimension: int, *, size: int, groups: int = 1) -> Places:
        """`size` new entries see all old ones of a dimension, or all of their group."""
        parts = self.dimensions[dimension]
        if groups == size == size_of(parts):
            return self
        halves = split_inner(parts, size_of(parts) // groups)
        if halves is None:
            if moves(parts):
                return self.lost_along(dimension, size=size)
            return self.with_parts(dimension, plain(size))
        outer, inner = halves
        apart = self.with_parts(dimension, inner).spread([dimension])
        return apart.with_parts(dimension, canonical((*outer, *plain(size // groups))))

    def lost(self, shape: Sequence[int], axes: Iterable[int] | None = None) -> Places:
        """Nothing is known any more of axes (None: those that entries differ in)."""
        gone = moving_axes(self.dimensions, least=2) if axes is None else set(axes)
        seen = tuple(None if axis in gone else span for axis, span in enumerate(self.seen))
        return Places(tuple(plain(size) for size in shape), seen, self.input_size)

    def lost_along(self, dimension: int, *, size: int) -> Places:
        """Nothing is known any more of what differs along one dimension, now of `size` entries."""
        gone = moving_axes([self.dimensions[dimension]], least=2)
        seen = tuple(None if axis in gone else span for axis, span in enumerate(self.seen))
        return self.with_parts(dimension, plain(size), seen)

    def with_parts(self, dimension: int, parts: Dimension, seen: Seen | None = None) -> Places:
        """Another reading of one dimension."""
        kept = list(self.dimensions)
        kept[dimension] = parts
        return replace(self, dimensions=tuple(kept), seen=self.seen if seen is None else seen)

    def seen_from(self, part: Part, entries: int) -> Seen:
        """What entry `entries` of a part sees."""
        return moved(self.seen, part, entries) if isinstance(part, Digit) else self.seen


def moved(seen: Sequence[Span | None], digit: Digit, entries: int) -> Seen:
    """What entry `entries` of a digit sees, where entry 0 sees `seen`."""
    return tuple(
        span.moved(entries * digit.shift) if span is not None and axis == digit.axis else span
        for axis, span in enumerate(seen)
    )


def widened(seen: Sequence[Span | None], digit: Digit, entries: int) -> Seen:
    """What entries 0 to `entries` of a digit see together."""
    return tuple(
        span.widened(entries * digit.shift) if span is not None and axis == digit.axis else span
        for axis, span in enumerate(seen)
    )
