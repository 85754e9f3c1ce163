"""Several tensors made one: element by element, or laid next to each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

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
    refined,
    size_of,
)
from dualstream.models.inspection.places import AXES, Places, Seen, widened


def joined(first: Places, second: Places) -> Places:
    """Entries of two tensors together, dimensions of one entry repeated as torch does."""
    rank = max(len(first.dimensions), len(second.dimensions))
    left = ((),) * (rank - len(first.dimensions)) + first.dimensions
    right = ((),) * (rank - len(second.dimensions)) + second.dimensions
    seen = (first.seen, second.seen)
    dimensions: list[Dimension] = []
    lost: set[int] = set()
    for a, b in zip(left, right, strict=True):
        size = max(size_of(a), size_of(b))
        if size == 1:
            dimensions.append(a or b)
            continue
        pairs = refined(*(plain(size) if size_of(side) == 1 else side for side in (a, b)))
        if pairs is None:
            lost |= moving_axes([a, b], least=2)
            dimensions.append(plain(size))
            continue
        parts = []
        for pair in pairs:
            part = _combined(*pair)
            parts.append(part)
            seen = (_over(seen[0], pair[0], part), _over(seen[1], pair[1], part))
        dimensions.append(canonical(tuple(parts)))
    together = tuple(
        None if p is None or q is None or axis in lost else p.joined(q)
        for axis, (p, q) in enumerate(zip(*seen, strict=True))
    )
    return Places(tuple(dimensions), together, first.input_size)


def _over(seen: Seen, part: Part, combined: Part) -> Seen:
    """What entry 0 sees at most where entries that lie as `part` are taken to lie as `combined`.

    Every 10th frame taken for every 8th one: of 4 entries the last is 6 frames further on.
    """
    digits, new = digits_of((part,)), digits_of((combined,))
    same_layout = [digit.size for digit in digits] == [digit.size for digit in new]
    shifts = [digit.shift for digit in new] if same_layout else [0] * len(digits)
    for digit, shift in zip(digits, shifts, strict=True):
        drift = Digit(digit.size, digit.axis, shift=digit.shift - shift)
        seen = widened(seen, drift, digit.size - 1)
    return seen


def _combined(first: Part, second: Part) -> Part:
    """Two readings of as many entries as one.

    Where only one of them knows a place or moves, entries keep the place and all see the same.
    """
    if first == second:
        return first
    if isinstance(first, Digit) and isinstance(second, Digit):
        if first.axis is None or second.axis is None:
            return (second if first.axis is None else first).still()
        if first.axis != second.axis:
            return Digit(first.size)
        nearer = min(first, second, key=lambda d: (Fraction(d.jump).denominator, abs(d.jump)))
        return nearer if first.shift and second.shift else nearer.still()
    if isinstance(first, Tokens) and isinstance(second, Tokens):
        return first.still() if first.still() == second.still() else Digit(first.size)
    return (first if isinstance(first, Tokens) else second).still()


def laid_together(tensors: Sequence[Places]) -> Places:
    """Tensors of one shape along a new first dimension.

    Frames 0, 4, 8 picked one by one are frames at distance 4 again; states of a recurrent layer
    that saw frames 0..0, 0..1, 0..2 are three states that see 0..2 together, at distance 1.
    """
    count = len(tensors)
    together = tensors[0]
    for other in tensors[1:]:
        together = joined(together, other)
    alike = count > 1 and len({tensor.dimensions for tensor in tensors}) == 1
    steps = {axis: _progress(tensors, axis) for axis in range(AXES)} if alike else {}
    told = [axis for axis, (jump, _) in steps.items() if jump]
    if len(told) != 1:
        return replace(together, dimensions=(plain(count), *together.dimensions))
    (axis,) = told
    jump, moving = steps[axis]
    digit = Digit(count, axis, jump, jump if moving else 0)
    seen = list(together.seen)
    if moving:
        seen[axis] = tensors[0].seen[axis]
    return Places(((digit,), *together.dimensions), tuple(seen), together.input_size)


def _progress(tensors: Sequence[Places], axis: int) -> tuple[Number, bool]:
    """Equal steps from tensor to tensor along an axis (0 for none), and whether both ends move."""
    spans = [span for tensor in tensors if (span := tensor.seen[axis]) is not None]
    if len(spans) < len(tensors):
        return 0, False
    starts = {b.first - a.first for a, b in pairwise(spans)}
    ends = {b.last - a.last for a, b in pairwise(spans)}
    if starts == ends and len(starts) == 1:
        return starts.pop(), True
    if len(starts) == len(ends) == 1 and 0 in starts | ends:
        return sum(starts | ends), False
    return 0, False


def end_to_end(tensors: Sequence[Places], dimension: int) -> Places:
    """Tensors along an old dimension."""
    if len(tensors) == 1:
        return tensors[0]
    parts = [canonical(tensor.dimensions[dimension]) for tensor in tensors]
    total = sum(size_of(part) for part in parts)
    if total == len(tensors):
        laid = laid_together([tensor.without([dimension]) for tensor in tensors])
        order = [*range(1, dimension + 1), 0, *range(dimension + 1, len(laid.dimensions))]
        return laid.permuted(order)
    if any(moves(part) for part in parts):
        whole = _continued(tensors, dimension, total)
        if whole is not None:
            return whole
        tensors = [tensor.lost_along(dimension, size=total) for tensor in tensors]
    together = tensors[0].with_parts(dimension, plain(total))
    for other in tensors[1:]:
        together = joined(together, other.with_parts(dimension, plain(total)))
    return together


def _continued(tensors: Sequence[Places], dimension: int, total: int) -> Places | None:
    """A clip whose parts these are in their order; None if they are not."""
    first = tensors[0]
    start = canonical(first.dimensions[dimension])
    if len(start) != 1 or not isinstance(start[0], Digit):
        return None
    at = 0
    for tensor in tensors:
        own = canonical(tensor.dimensions[dimension])
        if len(own) != 1 or replace(start[0], size=own[0].size) != own[0]:
            return None
        if first.seen_from(start[0], at) != tensor.seen:
            return None
        at += own[0].size
    return first.with_parts(dimension, (replace(start[0], size=total),))
