"""Tensors that know which part of the input each of their entries sees.

A `Traced` tensor has a shape and no numbers: the networks that it goes through compute nothing.
Each operation is done instead on the first and the last input position that an entry sees and on
the place where it lies, in time, height and width. Windows reach beyond the border, where
positions go on at the same distance.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from math import ceil, inf, nan
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import flop_registry

AXES = 3
"""Time, height, width."""

Seen = tuple[Tensor, ...]
"""First position, last position and place of time, of height and of width: nine tensors.

Each has as many dimensions as the tensor that it is about, of size 1 where all entries agree.
What sees nothing sees from inf to -inf, what could not be followed from -inf to inf. An entry
without a place of its own, as after a mean, has the place NaN.
"""

Arguments = dict[str, Any]
"""Of an operation, by their names in torch's schema, defaults too."""

FIRST, LAST, PLACE = range(3)


class Operation(NamedTuple):
    """One operation on traced tensors."""

    name: str
    """Torch's, without the overload: "convolution", "mean"."""
    before: int
    """Number of entries of its first traced argument."""
    output: Traced
    """The first one."""
    multiply_adds: int
    """Of a convolution or a matrix product; 0 of all others."""
    lost: Sequence[int]
    """Axes in which it could not be followed."""


Recorder = Callable[[Operation], None]
"""Hears of every operation on traced tensors."""


class Traced(Tensor):
    """A tensor without numbers and what its entries see; None if nothing."""

    meta: Tensor
    seen: Seen | None
    recorder: Recorder
    whole: Traced | None
    """The tensor that this one is a view of."""

    @staticmethod
    def __new__(
        cls, meta: Tensor, seen: Seen | None, recorder: Recorder, whole: Traced | None = None
    ) -> Traced:
        made: Traced = Tensor._make_wrapper_subclass(
            cls, meta.shape, strides=meta.stride(), dtype=meta.dtype, device=torch.device("meta")
        )
        made.meta, made.recorder, made.whole = meta, recorder, whole
        sees = seen and seen[0].ndim == meta.ndim and (seen[0] != inf).any()
        made.seen = seen if sees else None
        return made

    @classmethod
    def of_clip(cls, size: Sequence[int], recorder: Recorder) -> Traced:
        """Clip (1, C, T, H, W), each entry of which sees itself."""
        seen: list[Tensor] = []
        for dimension in range(2, 2 + AXES):
            shape = [-1 if d == dimension else 1 for d in range(2 + AXES)]
            seen += [torch.arange(float(size[dimension - 1])).double().reshape(shape)] * 3
        return cls(torch.empty((1, *size), device="meta"), tuple(seen), recorder)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch declares a disabled one
        cls, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        metas, options = tree_map(_meta, (tuple(args), kwargs))
        if "device" in options:
            options["device"] = "meta"
        result = func(*metas, **options)
        outputs = [item for item in tree_leaves(result) if isinstance(item, Tensor)]
        traced = [item for item in tree_leaves((args, kwargs)) if isinstance(item, Traced)]
        if not outputs:
            return result
        after, lost = _followed(func, args, kwargs, outputs)
        if outputs[0] is metas[0]:  # in place
            args[0].overwrite(after[0])
            found = [args[0]]
        else:
            first = args[0]
            whole = None
            if func.is_view:
                whole = first if first.whole is None else first.whole
            made = zip(outputs, after, strict=True)
            found = [cls(output, seen, traced[0].recorder, whole) for output, seen in made]
        count = flop_registry.get(func._overloadpacket, lambda *_, **__: 0)
        cost = count(*metas, **options, out_val=result) // 2
        operation = Operation(_name(func), traced[0].numel(), found[0], cost, lost)
        traced[0].recorder(operation)
        rest = iter(found)
        return tree_map(lambda item: next(rest) if isinstance(item, Tensor) else item, result)

    def overwrite(self, seen: Seen | None) -> None:
        """Take other entries in place of these, also in the tensor that this is a view of."""
        self.seen = seen
        if self.whole is None:
            return
        whole, offset = self.whole, self.meta.storage_offset() - self.whole.meta.storage_offset()
        layout = (whole.shape, whole.meta.stride())
        written = [torch.empty_strided(*layout, dtype=p.dtype).copy_(p) for p in _seen(whole)]
        for target, part in zip(written, _seen(self), strict=True):
            target.as_strided(self.shape, self.meta.stride(), offset).copy_(part.expand(self.shape))
        whole.seen = tuple(map(_compact, written))

    def sees_as(self, other: Traced) -> bool:
        """Whether it has the shape of another one, and its entries see and lie the same."""
        if self.shape != other.shape:
            return False
        pairs = zip(_seen(self), _seen(other), strict=True)
        return all(a.shape == b.shape and _alike(a, b) for a, b in pairs)

    def places(self, axis: int) -> list[float]:
        """Places that entries lie at along an axis, each once, in their order; maybe none."""
        places = _seen(self)[3 * axis + PLACE]
        return sorted({round(place, 6) for place in places[places.isfinite()].tolist()})

    def field(self, axis: int, length: int) -> int | None:
        """Positions of an input of `length` from the first to the last that an entry sees.

        That of the entry that sees most. Positions beyond the border count as well unless all
        entries see the same, as after a mean. None if it could not be followed.
        """
        first, last = _seen(self)[3 * axis : 3 * axis + PLACE]
        first, last = first.expand_as(first + last), last.expand_as(first + last)
        sees = first != inf
        first, last = first[sees], last[sees]
        if not first.isfinite().all():
            return None
        alike = bool((first == first[:1]).all() and (last == last[:1]).all())
        if alike or not len(self.places(axis)):
            first, last = first.clamp(min=0), last.clamp(max=length - 1)
        return ceil(float((last - first).max()) - 1e-6) + 1


class _MadeTensors(TorchFunctionMode):
    """Indices keep their numbers on a device without any; states to start from get traced."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor, torch.arange, torch.linspace):
            kwargs.pop("device", None)
        if func is Tensor.__getitem__ and isinstance(args[1], tuple):
            lists = (torch.tensor(i) if isinstance(i, list) else i for i in args[1])
            args = (args[0], tuple(lists))
        made = func(*args, **kwargs)
        return Traced(made, None, self.recorder) if func is torch.zeros and made.is_meta else made


@contextmanager
def without_numbers(recorder: Recorder) -> Iterator[None]:
    """Let torch run networks as the operations that are followed here, none of them fused."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), _MadeTensors(recorder):
        yield


def _meta(item: Any) -> Any:
    if isinstance(item, Traced):
        return item.meta
    return item.to("meta") if isinstance(item, Tensor) else item


def _name(func: Any) -> str:
    """ "relu" of aten::relu_."""
    name = str(func._schema.name).removeprefix("aten::")
    return name.removesuffix("_") or name


def _seen(item: Tensor) -> Seen:
    """Return what a traced tensor sees; any other sees nothing."""
    if isinstance(item, Traced) and item.seen:
        return item.seen
    return _constant((inf, -inf, nan) * AXES, item.ndim)


def _constant(values: Sequence[float], rank: int) -> Seen:
    return tuple(torch.full((1,) * rank, value, dtype=torch.double) for value in values)


def _compact(values: Tensor) -> Tensor:
    """Keep one entry along dimensions in which all are equal."""
    for dimension in sorted(
        range(values.ndim), key=values.stride
    ):  # those of stride 0 cost nothing
        one = values.narrow(dimension, 0, 1)
        if values.stride(dimension) == 0 or _alike(one, values):
            values = one
    return values


def _alike(one: Tensor, other: Tensor) -> bool:
    return bool(one.isclose(other, 0, 0, equal_nan=True).all())


# Moves that operations are made of


def _each(seen: Seen, function: Callable[[int, Tensor], Tensor]) -> Seen:
    """A function of FIRST, LAST or PLACE and the values, on all nine tensors."""
    return tuple(function(i % 3, values) for i, values in enumerate(seen))


def _reduced(kind: int, values: Tensor, dimensions: Sequence[int]) -> Tensor:
    """Values of one entry that sees all along some dimensions.

    It lies where the first of them does if there are others elsewhere, as in other frames.
    """
    least, most = (f(tuple(dimensions), keepdim=True) for f in (values.amin, values.amax))
    if kind == PLACE and _compact(least).numel() == 1:
        return torch.where(least == most, least, nan)
    return most if kind == LAST else least


def _joined(seen: Seen, dimensions: Sequence[int]) -> Seen:
    """One entry, which sees all, in place of those along some dimensions."""
    return _each(seen, lambda kind, values: _reduced(kind, values, dimensions))


def _spread(seen: Seen, dimensions: Sequence[int]) -> Seen:
    """Every entry sees all along some dimensions and stays in its place."""
    return _each(seen, lambda kind, v: v if kind == PLACE else _reduced(kind, v, dimensions))


def _union(*several: Seen) -> Seen:
    """Join what entries see that meet one by one; of two places the later one stays."""
    joins = (torch.minimum, torch.maximum, torch.fmax) * AXES
    return tuple(reduce(join, parts) for join, *parts in zip(joins, *several, strict=True))


class _Window(NamedTuple):
    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1


def _windows(kernel: Sequence[int], given: Arguments) -> Iterator[_Window]:
    """Windows of a convolution or pool along its dimensions; torch repeats a single number."""
    numbers = [given["stride"] or kernel, given["padding"], given.get("dilation", [1])]
    for i, size in enumerate(kernel):
        yield _Window(size, *(values[i if len(values) > 1 else 0] for values in numbers))


def _slid(seen: Seen, dimension: int, size: int, window: _Window) -> Seen:
    """A window that slides along a dimension, to `size` places."""
    reach = (window.kernel - 1) * window.dilation + 1

    def slide(kind: int, values: Tensor) -> Tensor:
        if values.shape[dimension] == 1:
            return values
        before, over = (0, 1) if kind == PLACE else (window.padding, reach)
        after = (size - 1) * window.stride + over - values.shape[dimension] - before
        values = _extended(values, dimension, before, after)
        windows = values.unfold(dimension, over, window.stride)[..., :: window.dilation]
        return windows.amax(-1) if kind == LAST else windows.amin(-1)

    return _each(seen, slide)


def _extended(values: Tensor, dimension: int, before: int, after: int) -> Tensor:
    """Entries beyond both ends, at the mean distance of those between; below 0 they are cut."""
    size = values.shape[dimension]
    if size == 1:
        return values
    first, last = values.narrow(dimension, 0, 1), values.narrow(dimension, size - 1, 1)
    step = ((last - first) / (size - 1)).nan_to_num(0, 0, 0)
    shape = [-1 if d == dimension else 1 for d in range(values.ndim)]
    ahead = first + step * torch.arange(min(0, -before), 0).reshape(shape)
    beyond = last + step * torch.arange(1, max(0, after) + 1).reshape(shape)
    kept = values.narrow(dimension, max(0, -before), size + min(0, before) + min(0, after))
    return torch.cat([ahead, kept, beyond], dimension)


# What operations do to what their first tensor sees; None where they cannot be followed


def _convolution(given: Arguments, seen: Seen, output: Tensor) -> Seen | None:
    shape, groups = given["weight"].shape, given["groups"]
    if given["transposed"]:
        return None

    def mix(kind: int, values: Tensor) -> Tensor:
        if values.shape[1] == 1 or groups == values.shape[1] == shape[0]:
            return values
        mixed = _reduced(kind, values.reshape(len(values), groups, -1, *values.shape[2:]), [2])
        each = (-1, -1, shape[0] // groups, *mixed.shape[3:])
        return _compact(mixed.expand(each).flatten(1, 2))

    seen = _each(seen, mix)
    for d, window in enumerate(_windows(shape[2:], given), start=2):
        seen = _slid(seen, d, output.shape[d], window)
    return seen


def _pool(given: Arguments, seen: Seen, output: Tensor) -> Seen:
    kernel, before = given["kernel_size"], given["self"].shape
    for d, window in enumerate(_windows(kernel, given), start=output.ndim - len(kernel)):
        if window.kernel == before[d] and not window.padding:  # a mean over all
            seen = _joined(seen, [d])
        else:
            seen = _slid(seen, d, output.shape[d], window)
    return seen


def _adaptive_pool(given: Arguments, seen: Seen, output: Tensor) -> Seen | None:
    for d in range(output.ndim - len(given["output_size"]), output.ndim):
        before, after = given["self"].shape[d], output.shape[d]
        if before % after:
            return None
        side = before // after
        seen = _joined(seen, [d]) if after == 1 else _slid(seen, d, after, _Window(side, side))
    return seen


def _reduction(given: Arguments, seen: Seen, output: Tensor) -> Seen:
    rank = seen[0].ndim
    which = given.get("dim")
    gone = [d % rank for d in ([which] if isinstance(which, int) else which or range(rank))]
    joined = _joined(seen, gone)
    return joined if output.ndim == rank else tuple(v.squeeze(gone) for v in joined)


def _pad(given: Arguments, seen: Seen, output: Tensor) -> Seen:
    sides = given["pad"] if "pad" in given else given["padding"]
    for i in range(0, len(sides), 2):
        d = output.ndim - 1 - i // 2
        seen = tuple(_extended(v, d, sides[i], sides[i + 1]) for v in seen)
    return seen


Rule = Callable[[Arguments, Seen, Tensor], Seen | None]

RULES: dict[str, Rule] = {
    r"convolution": _convolution,
    r"(max|avg)_pool\dd(_with_indices)?": _pool,
    r"_?adaptive_(max|avg)_pool\dd": _adaptive_pool,
    r"mean|sum|prod|all|any|a?max|a?min|argmax|argmin|logsumexp": _reduction,
    r"norm|linalg_vector_norm|(std|var)(_mean)?": _reduction,
    r"(constant|reflection|replication)_pad(_n|\d)d": _pad,
    r"_(log_|safe_)?softmax|cumsum|sort": lambda given, seen, _: _spread(seen, [given["dim"]]),
    r"topk": lambda given, seen, _: _joined(seen, [given["dim"]]),
    r"native_layer_norm|_fused_rms_norm": lambda given, seen, _: _spread(
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


PRODUCTS = {
    "mm": ("self", "mat2"),
    "bmm": ("self", "mat2"),
    "addmm": ("mat1", "mat2"),
    "baddbmm": ("batch1", "batch2"),
}
"""Matrix products and their factors."""
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


def _followed(
    func: Any, args: Any, kwargs: dict[str, Any], outputs: list[Tensor]
) -> tuple[list[Seen | None], list[int]]:
    """Return what the outputs of an operation see, and the axes in which that is lost."""
    name = _name(func)
    tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Traced) and t.seen]
    if name == "copy":
        tensors = [t for t in tensors if t is args[1]]
    if not tensors or name in SHAPE_ONLY:
        return [None] * len(outputs), []
    given = {a.name: a.default_value for a in func._schema.arguments if a.has_default_value()}
    given |= {a.name: value for a, value in zip(func._schema.arguments, args, strict=False)}
    given |= kwargs
    after: Seen | None = None
    rule = _rule(name)
    alone = tensors[0] is args[0] and not tensors[1:]
    if torch.Tag.pointwise in func.tags or name in UNMARKED:
        after = _union(*(_of_rank(_seen(t), outputs[0].ndim) for t in tensors))
    elif name in PRODUCTS:
        after = _product(given, *(given[side] for side in PRODUCTS[name]))
    elif name == "cat":
        after = _end_to_end(given["tensors"], given["dim"] % outputs[0].ndim)
    elif name == "stack":
        dimension = given["dim"] % outputs[0].ndim
        after = _end_to_end([t.unsqueeze(dimension) for t in given["tensors"]], dimension)
    elif alone and (func.is_view or name in RESHAPES or name in MOVES):
        several = _moved(func, args, kwargs, outputs)
        if several is not None:
            return several, []
    elif alone and rule is not None:
        after = rule(given, _seen(tensors[0]), outputs[0])
    if after is not None:
        return [after] * len(outputs), []
    return _lost(tensors, outputs)


def _of_rank(seen: Seen, rank: int) -> Seen:
    return tuple(v.reshape((1,) * (rank - v.ndim) + v.shape) for v in seen)


def _product(given: Arguments, left: Tensor, right: Tensor) -> Seen:
    """Matrix product; entries lie where those of the left factor do, if those have places."""
    rows, columns = _joined(_seen(left), [-1]), _joined(_seen(right), [-2])
    both = _union(rows, columns)
    places = zip(rows[PLACE::3], columns[PLACE::3], strict=True)
    chosen = [column if row.isnan().all() else row for row, column in places]
    product = tuple(chosen[i // 3] if i % 3 == PLACE else v for i, v in enumerate(both))
    added = given["self"]
    if added is left or not isinstance(added, Traced):
        return product
    return _union(product, _of_rank(_seen(added), left.ndim))


def _end_to_end(tensors: Sequence[Tensor], dimension: int) -> Seen:
    """Tensors put end to end along a dimension."""
    tensors = [tensor for tensor in tensors if tensor.shape != (0,)]
    joined = []
    for parts in zip(*map(_seen, tensors), strict=True):
        shape = [max(sizes) for sizes in zip(*(part.shape for part in parts), strict=True)]
        sized = []
        for tensor, part in zip(tensors, parts, strict=True):
            shape[dimension] = tensor.shape[dimension]
            sized.append(part.expand(shape))
        joined.append(_compact(torch.cat(sized, dimension)))
    return tuple(joined)


def _moved(
    func: Any, args: Any, kwargs: dict[str, Any], outputs: list[Tensor]
) -> list[Seen | None] | None:
    """Do to the nine tensors what is done to the first argument; None where indices are unknown."""
    name, moved = _name(func), []
    if any(t.is_meta for t in tree_leaves(args[1:]) if isinstance(t, Tensor)):
        return None
    for values in _seen(args[0]):
        whole = values.expand(args[0].shape)
        shaped = name in RESHAPES
        new = whole.reshape(outputs[0].shape) if shaped else func(whole, *args[1:], **kwargs)
        several = [_compact(v) for v in ([new] if isinstance(new, Tensor) else new)]
        moved.append([_even(v) for v in several] if name.startswith("index") else several)
    return list(zip(*moved, strict=True))


def _even(values: Tensor) -> Tensor:
    """0, 10, 20, 31 -> 0, 10.33, 20.67, 31: even distances that were cut to whole frames."""
    for dimension in range(values.ndim):
        size = values.shape[dimension]
        ends = values.narrow(dimension, 0, 1), values.narrow(dimension, size - 1, 1)
        shape = [-1 if d == dimension else 1 for d in range(values.ndim)]
        line = torch.lerp(*ends, torch.linspace(0, 1, size, dtype=values.dtype).reshape(shape))
        if ((line - values).abs() < 1).all():
            values = line
    return values


def _lost(tensors: list[Traced], outputs: list[Tensor]) -> tuple[list[Seen | None], list[int]]:
    """Nothing is known any more in axes in which entries see different positions."""
    known: list[float] = []
    lost = []
    for axis in range(AXES):
        ends = [torch.cat([_seen(t)[3 * axis + k].flatten() for t in tensors]) for k in (0, 1)]
        first, last = float(ends[0].min()), float(ends[1].max())
        if (ends[0] != first).any() or (ends[1] != last).any():
            lost.append(axis)
            first, last = -inf, inf
        known += [first, last, nan]
    return [_constant(known, output.ndim) for output in outputs], lost
