"""Where the entries of one tensor dimension lie on the input's grid; whole numbers and fractions.

A dimension is a list of digits, outermost first, like the digits of a clock: entry i of a
dimension (Digit(16), Digit(7)) is entry i // 7 of the first and i % 7 of the second. So a reshape
is a regrouping of digits, and time that was folded into the batch or the channels is not lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod

Number = int | Fraction
"""A distance on the input's grid. Of 32 frames, 4 taken evenly are 31/3 frames apart."""


@dataclass(frozen=True)
class Digit:
    """A run of entries at equal distances, or entries that have no place (channels)."""

    size: int
    axis: int | None = None
    """0 time, 1 height, 2 width; None for entries without a place."""
    jump: Number = 0
    """Distance of neighbours on the input's grid: frames or pixels."""
    shift: Number = 0
    """How far what an entry sees moves from one to the next: `jump`, or 0 where all see the same
    (behind attention or a recurrent layer)."""

    def still(self) -> Digit:
        """The same places, all seeing the same."""
        return replace(self, shift=0)


@dataclass(frozen=True)
class Tokens:
    """Digits with entries before and after them that have no place, as a class token."""

    before: int
    digits: tuple[Digit, ...]
    after: int

    @property
    def size(self) -> int:
        """Number of entries."""
        return self.before + prod(digit.size for digit in self.digits) + self.after

    def still(self) -> Tokens:
        """The same places, all seeing the same."""
        return replace(self, digits=tuple(digit.still() for digit in self.digits))


Part = Digit | Tokens
Dimension = tuple[Part, ...]


def plain(size: int) -> Dimension:
    """Entries without a place."""
    return () if size == 1 else (Digit(size),)


def size_of(dimension: Dimension) -> int:
    """Number of entries."""
    return prod(part.size for part in dimension)


def digits_of(dimension: Dimension) -> tuple[Digit, ...]:
    """All digits, those inside tokens too."""
    found: list[Digit] = []
    for part in dimension:
        found += part.digits if isinstance(part, Tokens) else (part,)
    return tuple(found)


def still(dimension: Dimension) -> Dimension:
    """The same places, all seeing the same."""
    return tuple(part.still() for part in dimension)


def moves(dimension: Dimension) -> bool:
    """Whether entries see different parts of the input."""
    return any(digit.shift for digit in digits_of(dimension))


def moving_axes(dimensions: Iterable[Dimension], *, least: int = 1) -> set[int]:
    """Axes along which entries see different parts of the input, if there are `least` entries."""
    return {
        digit.axis
        for dimension in dimensions
        for digit in digits_of(dimension)
        if digit.shift and digit.axis is not None and digit.size >= least
    }


def canonical(dimension: Dimension) -> Dimension:
    """Neighbouring digits that count on are one, digits of one entry are left out.

    (Digit(8, 1, 28, 28), Digit(7, 1, 4, 4)) -> (Digit(56, 1, 4, 4),). A single digit of one entry
    stays where it has a place.
    """
    wide = [part for part in dimension if part.size > 1]
    if not wide:
        return tuple(
            part for part in dimension if isinstance(part, Digit) and part.axis is not None
        )[:1]
    merged: list[Part] = []
    for part in wide:
        before = merged[-1] if merged else None
        if isinstance(before, Digit) and isinstance(part, Digit) and _counts_on(before, part):
            merged[-1] = replace(part, size=before.size * part.size)
        else:
            merged.append(part)
    return tuple(merged)


def _counts_on(outer: Digit, inner: Digit) -> bool:
    return (
        outer.axis == inner.axis
        and outer.jump == inner.size * inner.jump
        and outer.shift == inner.size * inner.shift
    )


def split_part(part: Part, inner_size: int) -> tuple[Digit, Digit] | None:
    """Digit(12, 0, 1, 1), 4 -> Digit(3, 0, 4, 4), Digit(4, 0, 1, 1); None where it cannot be."""
    if isinstance(part, Tokens) or inner_size < 1 or part.size % inner_size:
        return None
    outer = Digit(
        part.size // inner_size, part.axis, part.jump * inner_size, part.shift * inner_size
    )
    return outer, replace(part, size=inner_size)


def regrouped(parts: Sequence[Part], sizes: Sequence[int]) -> tuple[Dimension, ...] | None:
    """Deal the parts of a tensor out to new dimensions of these sizes.

    (Digit(16), Digit(14), Digit(14)) dealt to sizes (16, 196) gives ((16,), (14, 14)).

    Returns:
        One dimension a size; None where a border falls inside something that has no border there.
    """
    rest = list(parts)
    dimensions: list[Dimension] = []
    for size in sizes:
        if size == 1:
            dimensions.append((rest.pop(0),) if rest and rest[0].size == 1 else ())
            continue
        taken: list[Part] = []
        while (found := size_of(tuple(taken))) < size and rest:
            part = rest.pop(0)
            if size % found == 0 and part.size <= size // found:
                taken.append(part)
                continue
            split = split_part(part, part.size * found // size) if size % found == 0 else None
            if split is None or size_of((*taken, split[0])) != size:
                return None
            taken.append(split[0])
            rest.insert(0, split[1])
        if size_of(tuple(taken)) != size:
            return None
        dimensions.append(canonical(tuple(taken)))
    return tuple(dimensions)


def split_inner(dimension: Dimension, inner_size: int) -> tuple[Dimension, Dimension] | None:
    """Outer and inner digits of a dimension, the inner ones of `inner_size` entries in all."""
    halves = regrouped(dimension, (size_of(dimension) // inner_size, inner_size))
    return None if halves is None else (halves[0], halves[1])


def refined(first: Dimension, second: Dimension) -> list[tuple[Part, Part]] | None:
    """Two readings of one dimension cut at the same borders.

    (Digit(56),) and (Digit(8), Digit(7)) -> [(Digit(8), Digit(8)), (Digit(7), Digit(7))].

    Returns:
        Pairs of parts of equal size, outermost first; None where the borders cross.
    """
    left = [part for part in first if part.size > 1]
    right = [part for part in second if part.size > 1]
    pairs: list[tuple[Part, Part]] = []
    while left and right:
        a, b = left.pop(), right.pop()
        if a.size > b.size:
            cut = split_part(a, b.size)
            if cut is None:
                return None
            left.append(cut[0])
            a = cut[1]
        elif b.size > a.size:
            cut = split_part(b, a.size)
            if cut is None:
                return None
            right.append(cut[0])
            b = cut[1]
        pairs.append((a, b))
    return None if left or right else pairs[::-1]
