"""What operations that move entries about do to their places: views, slices, concatenation."""

from __future__ import annotations

from fractions import Fraction

import torch

from dualstream.models.inspection.call import Call, Result, unknown
from dualstream.models.inspection.digits import moves
from dualstream.models.inspection.joining import end_to_end, laid_together
from dualstream.models.inspection.places import Places

# Regrouping


def same(call: Call) -> Result:
    return call.source


def reshape(call: Call) -> Result:
    return call.source.reshaped(call.shape)


def permute(call: Call) -> Result:
    return call.source.permuted(call.dimensions("dims"))


def transpose(call: Call) -> Result:
    order = list(range(len(call.source.dimensions)))
    if call.name == "t":
        return call.source.permuted(order[::-1])
    a, b = call.dimension("dim0"), call.dimension("dim1")
    order[a], order[b] = b, a
    return call.source.permuted(order)


def unsqueeze(call: Call) -> Result:
    return call.source.with_new(call.number("dim") % len(call.shape))


def squeeze(call: Call) -> Result:
    places = call.source
    return places.without(d for d in call.dimensions() if places.shape[d] == 1)


def expand(call: Call) -> Result:
    return call.source.expanded(call.shape)


def repeat(call: Call) -> Result:
    return call.source.repeated(call.arguments["repeats"])


def as_strided(call: Call) -> Result:
    places = call.source
    return places if places.shape == call.shape else unknown(call, [places])


def flip(call: Call) -> Result:
    places = call.source
    for dimension in call.dimensions("dims"):
        size = places.shape[dimension]
        if not isinstance(flipped := _reversed(places, dimension, size), Places):
            return unknown(call, [places])
        places = flipped
    return places


def _reversed(places: Places, dimension: int, size: int) -> Places | None:
    return places.sliced(dimension, start=size - 1, step=-1, size=size) if size > 1 else places


def roll(call: Call) -> Result:
    """What comes back at the other side lies at no equal distance: not followed."""
    places = call.source
    if not call.arguments["dims"]:
        return unknown(call, [places])
    for dimension in call.dimensions("dims"):
        if moves(places.dimensions[dimension]):
            places = places.lost_along(dimension, size=places.shape[dimension])
    return places


# Choosing


def slice_(call: Call) -> Result:
    dimension = call.dimension()
    size = call.source.shape[dimension]
    start, step = call.arguments["start"] or 0, call.number("step")
    start = min(max(start + size if start < 0 else start, 0), size)
    return call.source.sliced(dimension, start=start, step=step, size=call.shape[dimension])


def select(call: Call) -> Result:
    dimension = call.dimension()
    return call.source.picked(dimension, call.number("index") % call.source.shape[dimension])


def unbind(call: Call) -> Result:
    dimension = call.dimension()
    return [call.source.picked(dimension, i) for i in range(call.source.shape[dimension])]


def split(call: Call) -> Result:
    dimension, start, parts = call.dimension(), 0, list[Places | None]()
    for output in call.output:
        size = int(output.shape[dimension])
        parts.append(call.source.sliced(dimension, start=start, step=1, size=size))
        start += size
    return parts


def index_select(call: Call) -> Result:
    return _at_indices(call, call.dimension(), call.arguments["index"])


def index(call: Call) -> Result:
    given = [(d, index) for d, index in enumerate(call.arguments["indices"]) if index is not None]
    if len(given) != 1 or given[0][1].ndim != 1 or given[0][1].dtype == torch.bool:
        return unknown(call, [call.source])
    return _at_indices(call, *given[0])


def _at_indices(call: Call, dimension: int, index: torch.Tensor) -> Result:
    """Entries at equal distances are a slice, also where those were cut to whole frames.

    0, 10, 20, 31 are 31/3 apart. Of entries in another order nothing is known.
    """
    value = call.value_of(index)
    if value is None or value.ndim != 1 or not len(value):
        return call.source.lost_along(dimension, size=len(index))
    chosen = [int(i) % call.source.shape[dimension] for i in value]
    step = Fraction(chosen[-1] - chosen[0], max(1, len(chosen) - 1)) or Fraction(1)
    if any(abs(chosen[0] + step * i - place) >= 1 for i, place in enumerate(chosen)):
        return call.source.lost_along(dimension, size=len(index))
    exact = int(step) if step.denominator == 1 else step
    return call.source.sliced(dimension, start=chosen[0], step=exact, size=len(chosen))


def pad(call: Call) -> Result:
    """Zeros, reflected or repeated entries: what is added at the border is not counted."""
    places = call.source
    amounts = call.arguments["pad"] if "pad" in call.arguments else call.arguments["padding"]
    for i in range(0, len(amounts), 2):
        dimension = len(places.dimensions) - 1 - i // 2
        places = places.padded(dimension, before=amounts[i], after=amounts[i + 1])
    return places


# Joining


def cat(call: Call) -> Result:
    tensors = [t for t in call.arguments["tensors"] if t.shape != (0,)]
    dimension = call.number("dim") % tensors[0].ndim
    followed = [(i, p) for i, t in enumerate(tensors) if (p := call.places_of(t)) is not None]
    sizes = [int(t.shape[dimension]) for t in tensors]
    if [i for i, _ in followed] != list(range(followed[0][0], followed[-1][0] + 1)):
        return unknown(call, [places for _, places in followed])
    together = end_to_end([places for _, places in followed], dimension)
    before, after = sum(sizes[: followed[0][0]]), sum(sizes[followed[-1][0] + 1 :])
    return together.padded(dimension, before=before, after=after) if before or after else together


def stack(call: Call) -> Result:
    followed = [call.places_of(tensor) for tensor in call.arguments["tensors"]]
    known = [places for places in followed if places is not None]
    laid = laid_together(known)
    if len(known) < len(followed):
        laid = laid.spread([0]).with_parts(0, ()).expanded((len(followed), *known[0].shape))
    dimension = call.number("dim") % len(call.shape)
    order = [*range(1, dimension + 1), 0, *range(dimension + 1, len(call.shape))]
    return laid.permuted(order)
