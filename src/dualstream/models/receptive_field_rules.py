"""Effect of operations on the part of an input that each entry of a tensor sees."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from dualstream.models.receptive_field_moves import (
    AXES,
    PLACE,
    Seen,
    along,
    compact,
    each,
    extended,
    joined,
    reduced,
    resampled,
    slid,
    spread,
    union,
)

Arguments = dict[str, Any]
"""Of an operation, by their names in torch's schema, defaults too."""

Known = Mapping[Tensor, Seen]
"""Tensor -> what its entries see; what is not in it sees nothing."""


def operation_name(func: Any) -> str:
    """ "relu" of aten::relu_."""
    name = str(func._schema.name).removeprefix("aten::")
    return name.removesuffix("_") or name


def seen_by(known: Known, tensor: Tensor) -> Seen:
    """Return what a tensor sees, -inf everywhere if that is nothing."""
    if tensor in known:
        return known[tensor]
    return (torch.full((1,) * tensor.ndim, -inf, dtype=torch.double),) * 3 * AXES


# What operations do to what their first tensor sees; None where they cannot be followed


def _convolution(given: Arguments, seen: Seen, output: Tensor) -> Seen | None:
    shape, groups = given["weight"].shape, given["groups"]
    if given["transposed"]:
        return _transposed(given, seen, output)

    def mix(kind: int, values: Tensor) -> Tensor:
        if values.shape[1] == 1 or groups == values.shape[1] == shape[0]:
            return values
        mixed = reduced(kind, values.reshape(len(values), groups, -1, *values.shape[2:]), [2])
        sizes = (-1, -1, shape[0] // groups, *mixed.shape[3:])
        return compact(mixed.expand(sizes).flatten(1, 2))

    seen = each(seen, mix)
    return _windows(given, seen, output, shape[2:])


def _transposed(given: Arguments, seen: Seen, output: Tensor) -> Seen | None:
    """Each entry of the input is spread over a window of the output; of one group only."""
    kernel = given["weight"].shape[2:]
    if given["groups"] > 1:
        return None
    seen = joined(seen, [1])
    for i, width in enumerate(kernel):
        d = output.ndim - len(kernel) + i
        step, pad, apart = (
            given[name][i % len(given[name])] for name in ("stride", "padding", "dilation")
        )
        reach = (width - 1) * apart
        shifted = torch.arange(output.shape[d]) + pad  # output p sees inputs (p + pad - k) / step
        first, last = -((reach - shifted) // step), shifted // step
        seen = resampled(seen, d, (shifted - reach / 2) / step, first, last)
    return seen


def _enlarged(given: Arguments, seen: Seen, output: Tensor) -> Seen:
    """Bilinear resizing, the corners not aligned; each entry sees its two neighbours."""
    for d in (-2, -1):
        before, after = given["self"].shape[d], output.shape[d]
        places = (torch.arange(after).double() + 0.5) * before / after - 0.5
        places = places.clamp(0, before - 1)
        first = places.floor().long()
        seen = resampled(seen, output.ndim + d, places, first, places.ceil().long())
    return seen


def _windows(given: Arguments, seen: Seen, output: Tensor, kernel: Sequence[int]) -> Seen:
    """Windows of a convolution or pool along the last dimensions; one number holds for all."""
    numbers = {"stride": given["stride"] or kernel, "padding": given["padding"]}
    numbers["dilation"] = given.get("dilation", [1])
    for i, size in enumerate(kernel):
        d = output.ndim - len(kernel) + i
        window = {name: values[i % len(values)] for name, values in numbers.items()}
        reach = (size - 1) * window["dilation"] + 1
        seen = slid(seen, d, output.shape[d], reach=reach, **window)
    return seen


def _pool(given: Arguments, seen: Seen, output: Tensor) -> Seen:
    kernel, padding = given["kernel_size"], given["padding"]
    for i, size in enumerate(kernel, start=-len(kernel)):
        if size == given["self"].shape[i] and not padding[i % len(padding)]:  # a mean over all
            seen = joined(seen, [i])
    return _windows(given, seen, output, kernel)


def _adaptive_pool(given: Arguments, seen: Seen, output: Tensor) -> Seen | None:
    sides = [given["self"].shape[d] / output.shape[d] for d in range(-len(given["output_size"]), 0)]
    if any(side % 1 for side in sides):
        return None
    kernel = [int(side) for side in sides]
    return _pool(given | {"kernel_size": kernel, "stride": kernel, "padding": [0]}, seen, output)


def _reduction(given: Arguments, seen: Seen, output: Tensor) -> Seen:
    rank = seen[0].ndim
    which = given.get("dim")
    gone = [d % rank for d in ([which] if isinstance(which, int) else which or range(rank))]
    seen = joined(seen, gone)
    return seen if output.ndim == rank else tuple(v.squeeze(gone) for v in seen)


def _pad(given: Arguments, seen: Seen, output: Tensor) -> Seen:
    sides = given["pad"] if "pad" in given else given["padding"]
    for i in range(0, len(sides), 2):
        d = output.ndim - 1 - i // 2
        seen = tuple(extended(v, d, sides[i], sides[i + 1]) for v in seen)
    return seen


Rule = Callable[[Arguments, Seen, Tensor], Seen | None]

RULES: dict[str, Rule] = {
    r"convolution": _convolution,
    r"upsample_bilinear2d": _enlarged,
    r"(max|avg)_pool\dd(_with_indices)?": _pool,
    r"_?adaptive_(max|avg)_pool\dd": _adaptive_pool,
    r"mean|sum|prod|all|any|a?max|a?min|argmax|argmin|logsumexp": _reduction,
    r"norm|linalg_vector_norm|(std|var)(_mean)?": _reduction,
    r"(constant|reflection|replication)_pad(_n|\d)d": _pad,
    r"_(log_|safe_)?softmax|cumsum|sort": lambda given, seen, _: spread(seen, [given["dim"]]),
    r"topk": lambda given, seen, _: joined(seen, [given["dim"]]),
    r"native_layer_norm|_fused_rms_norm": lambda given, seen, _: spread(
        seen, range(-len(given["normalized_shape"]), 0)
    ),
    # Statistics of norms are left out, as is usual for receptive fields.
    r"clone|contiguous|lift_fresh|_to_copy|native_dropout|.*batch_norm.*|native_group_norm": (
        lambda given, seen, _: seen
    ),
}
"""Names of operations -> what they do."""


def _rule(name: str) -> Rule | None:
    return next((rule for names, rule in RULES.items() if re.fullmatch(names, name)), None)


def mixes(name: str) -> bool:
    """Whether an operation without parameters makes one entry of several."""
    return _rule(name) in (_pool, _adaptive_pool, _reduction)


PRODUCTS = frozenset({"mm", "bmm", "addmm", "baddbmm"})
"""Matrix products; their last two tensors are the factors."""
RESHAPES = frozenset({"view", "_unsafe_view", "reshape", "_reshape_alias"})
MOVES = frozenset({"flip", "repeat", "index", "index_select"})
"""Operations beside views that only move entries about."""
UNMARKED = frozenset({"copy", "hardswish", "log_sigmoid_forward", "masked_fill", "_prelu_kernel"})
"""Operations that work element by element and that torch does not mark so."""
SHAPE_ONLY = frozenset(
    {"fill", "zero", "empty_like", "full_like", "ones_like", "zeros_like"}
    | {"new_empty", "new_full", "new_ones", "new_zeros"}
)
"""Operations that take only the shape of a tensor."""


def follow(
    known: Known, func: Any, args: Any, kwargs: dict[str, Any], outputs: list[Tensor]
) -> tuple[list[Seen | None], list[int]]:
    """Return what the outputs of an operation see, and the axes in which that is lost."""
    name, first, rank = operation_name(func), args[0], outputs[0].ndim
    read = args[1] if name == "copy" else (args, kwargs)
    tensors = [t for t in tree_leaves(read) if isinstance(t, Tensor)]
    followed = [seen_by(known, t) for t in tensors if t in known]
    if not followed or name in SHAPE_ONLY:
        return [None] * len(outputs), []
    given = {a.name: a.default_value for a in func._schema.arguments if a.has_default_value()}
    given |= {a.name: value for a, value in zip(func._schema.arguments, args, strict=False)}
    given |= kwargs
    after: Seen | None = None
    rule = _rule(name)
    alone = len(followed) == 1 and first in known
    if torch.Tag.pointwise in func.tags or name in UNMARKED:
        after = union(*(_of_rank(seen, rank) for seen in followed))
    elif name in PRODUCTS:
        *added, left, right = (seen_by(known, t) for t in tensors)
        after = union(_product(left, right), *(_of_rank(seen, rank) for seen in added))
    elif name == "cat":
        parts = [t for t in tensors if t.shape != (0,)]
        after = _end_to_end(parts, [seen_by(known, t) for t in parts], given["dim"] % rank)
    elif alone and (func.is_view or name in RESHAPES or name in MOVES):
        if all(not t.is_meta or t is first for t in tensors):  # indices are known
            if name in RESHAPES:
                args = (first, outputs[0].shape)
            whole = [values.expand(first.shape) for values in seen_by(known, first)]
            moved = [tree_leaves(_move(func, v, args[1:], kwargs)) for v in whole]
            return list(zip(*moved, strict=True)), []
    elif alone and rule is not None:
        after = rule(given, seen_by(known, first), outputs[0])
    if after is not None:
        return [after] * len(outputs), []
    return _lost(followed, outputs)


def _of_rank(seen: Seen, rank: int) -> Seen:
    return tuple(v.reshape((1,) * (rank - v.ndim) + v.shape) for v in seen)


def _product(left: Seen, right: Seen) -> Seen:
    """Matrix product; entries lie where those of the left factor do, if those have places."""

    def meet(kind: int, row: Tensor, column: Tensor) -> Tensor:
        if kind != PLACE:
            return torch.maximum(row, column)
        return row if (row > -inf).any() else column

    pairs = zip(joined(left, [-1]), joined(right, [-2]), strict=True)
    return tuple(meet(i % 3, *pair) for i, pair in enumerate(pairs))


def _end_to_end(tensors: Sequence[Tensor], several: Sequence[Seen], dimension: int) -> Seen:
    """Tensors put end to end along a dimension."""
    ends = []
    for parts in zip(*several, strict=True):
        shape = [max(sizes) for sizes in zip(*(part.shape for part in parts), strict=True)]
        sized = []
        for tensor, part in zip(tensors, parts, strict=True):
            shape[dimension] = tensor.shape[dimension]
            sized.append(part.expand(shape))
        ends.append(compact(torch.cat(sized, dimension)))
    return tuple(ends)


def _move(func: Any, values: Tensor, options: Sequence[Any], named: dict[str, Any]) -> Any:
    """Do to one of the nine tensors what is done to the tensor that they are about."""
    name = operation_name(func)
    moved = values.reshape(*options) if name in RESHAPES else func(values, *options, **named)
    return tree_map(compact, _even(moved) if name.startswith("index") else moved)


def _even(values: Tensor) -> Tensor:
    """0, 10, 20, 31 -> 0, 10.33, 20.67, 31: even distances that were cut to whole frames."""
    for dimension in range(values.ndim):
        size = values.shape[dimension]
        ends = values.narrow(dimension, 0, 1), values.narrow(dimension, size - 1, 1)
        steps = torch.linspace(0, 1, size, dtype=values.dtype)
        line = torch.lerp(*ends, along(steps, dimension, values.ndim))
        if ((line - values).abs() < 1).all():
            values = line
    return values


def _lost(
    several: Sequence[Seen], outputs: Sequence[Tensor]
) -> tuple[list[Seen | None], list[int]]:
    """Nothing is known any more in axes in which entries see different positions."""
    known, lost = [], []
    for axis in range(AXES):
        kinds = zip(*(seen[3 * axis : 3 * axis + PLACE] for seen in several), strict=True)
        ends = [torch.cat([part.flatten() for part in parts]) for parts in kinds]
        if any((end != end[0]).any() for end in ends):
            lost.append(axis)
            ends = [torch.tensor([inf]).double()] * 2
        known += [*(end[:1] for end in ends), torch.tensor([-inf]).double()]
    return [tuple(v.reshape((1,) * o.ndim) for v in known) for o in outputs], lost
