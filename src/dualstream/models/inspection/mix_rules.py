"""What operations that compute from several entries do to places: windows, sums, products."""

from __future__ import annotations

from dualstream.models.inspection.call import Call, Result, unknown
from dualstream.models.inspection.joining import joined
from dualstream.models.inspection.places import Places, Window

# Windows


def _listed(value: object, count: int) -> list[int]:
    """One number for each of `count` dimensions; torch repeats a single one."""
    numbers = [int(v) for v in value] if isinstance(value, list | tuple) else []
    return numbers * count if len(numbers) == 1 else numbers


def convolution(call: Call) -> Result:
    places, arguments = call.source, call.arguments
    kernel = [int(size) for size in arguments["weight"].shape[2:]]
    count = len(kernel)
    if arguments["transposed"] or len(places.dimensions) != count + 2:
        return unknown(call, [places])
    places = places.mixed(1, size=call.shape[1], groups=arguments["groups"])
    stride, padding = _listed(arguments["stride"], count), _listed(arguments["padding"], count)
    dilation = _listed(arguments["dilation"], count)
    for i in range(count):
        window = Window(kernel[i], stride[i], padding[i], dilation[i])
        places = places.windowed(2 + i, window, size=call.shape[2 + i])
    return places


def pool(call: Call) -> Result:
    places, arguments = call.source, call.arguments
    count = 3 if "3d" in call.name else 2 if "2d" in call.name else 1
    kernel = _listed(arguments["kernel_size"], count)
    stride = _listed(arguments["stride"], count) or kernel
    padding = _listed(arguments["padding"], count)
    dilation = _listed(arguments.get("dilation", [1]), count)
    first = len(places.dimensions) - count
    for i in range(count):
        dimension, window = first + i, Window(kernel[i], stride[i], padding[i], dilation[i])
        if kernel[i] == places.shape[dimension] > 1 and not padding[i]:  # a mean over all
            places = places.reduced([dimension], keep=True)
        else:
            places = places.windowed(dimension, window, size=call.shape[dimension])
    return places


def adaptive_pool(call: Call) -> Result:
    """One window over all, or windows of equal size side by side."""
    places = call.source
    count = 3 if "3d" in call.name else 2 if "2d" in call.name else 1
    first = len(places.dimensions) - count
    for dimension in range(first, first + count):
        size, new = places.shape[dimension], call.shape[dimension]
        if new == 1:
            places = places.reduced([dimension], keep=True)
        elif size % new == 0:
            window = Window(size // new, size // new)
            places = places.windowed(dimension, window, size=new)
        else:
            places = places.lost_along(dimension, size=new)
    return places


# Mixing


def reduce(call: Call) -> Result:
    keep = bool(call.arguments.get("keepdim", False))
    return call.source.reduced(call.dimensions(), keep=keep)


def spread(call: Call) -> Result:
    """The dimension stays, each entry sees all of it: softmax, cumulative sums, sorting."""
    dimension = call.dimension()
    places = call.source.spread([dimension])
    if places.shape != call.shape:  # the largest k, in the order of their size
        places = places.reduced([dimension], keep=True).expanded(call.shape)
    return places


def layer_norm(call: Call) -> Result:
    rank = len(call.source.dimensions)
    return call.source.spread(range(rank - len(call.arguments["normalized_shape"]), rank))


def product(call: Call) -> Result:
    """Matrix products, with and without a batch in front or a sum behind."""
    names = {"addmm": ("mat1", "mat2"), "baddbmm": ("batch1", "batch2"), "mv": ("self", "vec")}
    left_name, right_name = names.get(call.name, ("self", "mat2"))
    left, right = (call.places_of(call.arguments[name]) for name in (left_name, right_name))
    together: Places | None = None
    if left is not None:
        last = len(left.dimensions) - 1
        together = left.reduced([last], keep=call.name != "mv").expanded(call.shape)
    if right is not None:
        inner = max(0, len(right.dimensions) - 2)
        other = right.reduced([inner], keep=call.name != "mv").expanded(call.shape)
        together = other if together is None else joined(together, other)
    added = call.places_of(call.arguments["self"]) if call.name in names else None
    if call.name != "mv" and added is not None:
        together = added if together is None else joined(together, added)
    return together


def attention(call: Call) -> Result:
    """Each query sees all keys and values."""
    query = call.places_of(call.arguments["query"])
    rank = len(call.shape)
    seen = query.reduced([rank - 1], keep=True).expanded(call.shape) if query else None
    for name in ("key", "value"):
        places = call.places_of(call.arguments[name])
        if places is not None:
            all_of = places.reduced([rank - 2, rank - 1], keep=True).expanded(call.shape)
            seen = all_of if seen is None else joined(seen, all_of)
    return seen
