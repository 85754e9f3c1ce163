"""Receptive fields: which part of the input each entry of each tensor of a network sees.

Networks run on torch's meta device, where they compute nothing. Each operation is done instead on
the first and the last input position that an entry sees and on the place where it lies, in time,
height and width. Windows reach beyond the border, where positions go on at the same distance.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce
from math import ceil, inf
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import flop_registry
from torch.utils.weak import WeakTensorKeyDictionary

AXES = 3
"""Time, height, width."""

Seen = tuple[Tensor, ...]
"""Of time, of height and of width: minus the first position, the last one, and the place.

Each of the nine has as many dimensions as the tensor that it is about, of size 1 where all entries
agree. An entry that sees nothing has -inf in all, one that could not be followed inf in the first
two, one without a place of its own, as after a mean, the place -inf: who sees more has more.
"""

Arguments = dict[str, Any]
"""Of an operation, by their names in torch's schema, defaults too."""

PLACE = 2
COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd


class Output(NamedTuple):
    """Shape of a tensor and what its entries see; None if nothing."""

    shape: torch.Size
    seen: Seen | None

    def sees_as(self, other: Output) -> bool:
        """Whether it has the shape of another one, and its entries see and lie the same."""
        if self.shape != other.shape or self.seen is None or other.seen is None:
            return self == other
        return all(map(torch.equal, self.seen, other.seen))

    def places(self, axis: int) -> list[float]:
        """Places that entries lie at along an axis, each once, in their order; maybe none."""
        if self.seen is None:
            return []
        places = self.seen[3 * axis + PLACE]
        return sorted({round(place, 6) for place in places[places.isfinite()].tolist()})

    def field(self, axis: int, length: int) -> int | None:
        """Positions of an input of `length` from the first to the last that an entry sees.

        That of the entry that sees most. Positions beyond the border count as well unless all
        entries see the same, as after a mean. None if it could not be followed.
        """
        assert self.seen is not None
        ends = torch.broadcast_tensors(*self.seen[3 * axis : 3 * axis + PLACE])
        before, last = (end[ends[0] > -inf] for end in ends)
        if not before.isfinite().all():
            return None
        alike = bool((before == before[:1]).all() and (last == last[:1]).all())
        if alike or not self.places(axis):
            before, last = before.clamp(max=0), last.clamp(max=length - 1)
        return ceil(float((before + last).max()) - 1e-6) + 1


class ReceptiveFields(TorchDispatchMode):
    """While it is entered, the operations on tensors of the meta device are followed."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: Any = WeakTensorKeyDictionary()
        self._whole: Any = WeakTensorKeyDictionary()
        """View -> the tensor that it is a view of."""

    def clip(self, size: Sequence[int]) -> Tensor:
        """Clip (1, C, T, H, W), each entry of which sees itself."""
        clip, seen = torch.empty((1, *size), device="meta"), []
        for dimension in range(2, 2 + AXES):
            places = _along(torch.arange(float(size[dimension - 1])).double(), dimension, 2 + AXES)
            seen += [-places, places, places]
        self._seen[clip] = tuple(seen)
        return clip

    @contextmanager
    def following(self) -> Iterator[None]:
        """Let torch run networks as the operations that are followed here, none of them fused."""
        with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), _IndicesWithNumbers(), self:
            yield

    def outputs(self, value: Any) -> list[Output]:
        """Return what each tensor in some arguments or results sees."""
        tensors = (item for item in tree_leaves(value) if isinstance(item, Tensor))
        return [Output(item.shape, self._seen.get(item)) for item in tensors]

    def operation(
        self, name: str, before: int, output: Output, multiply_adds: int, lost: Sequence[int]
    ) -> None:
        """Hear of every operation.

        Args:
            name: torch's, without the overload: "convolution", "mean".
            before: entries of its first tensor.
            output: the first one.
            multiply_adds: of a convolution or a matrix product; 0 of all others.
            lost: axes in which it could not be followed.
        """

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        if not any(t.is_meta for t in tensors):  # indices and tables of positions
            return func(*args, **kwargs)
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), COMPOSITE):
            with self:
                return func._op_dk(COMPOSITE, *args, **kwargs)
        if func is torch.ops.aten.stack.default:
            with self:
                return torch.cat([part.unsqueeze(*args[1:] or [0]) for part in args[0]], *args[1:])
        metas, options = tree_map(_meta, (tuple(args), kwargs))
        if "device" in options:
            options["device"] = "meta"
        result = func(*metas, **options)
        outputs = [item for item in tree_leaves(result) if isinstance(item, Tensor)]
        if not outputs:
            return result
        before = next((t for t in tensors if t in self._seen), tensors[0]).numel()
        after, lost = self._followed(func, args, kwargs, outputs)
        for output, seen in zip(outputs, after, strict=True):
            self._seen.pop(output, None)
            if seen and seen[0].ndim == output.ndim and (seen[0] > -inf).any():
                self._seen[output] = seen
        if outputs[0] is args[0]:
            self._write_through(args[0])
        elif func.is_view:
            self._whole.update({output: self._whole.get(args[0], args[0]) for output in outputs})
        count = flop_registry.get(func._overloadpacket, lambda *_, **__: 0)
        cost = count(*metas, **options, out_val=result) // 2
        self.operation(_name(func), before, *self.outputs(outputs[0]), cost, lost)
        return result

    def _write_through(self, view: Tensor) -> None:
        """Let the tensor that this one is a view of see what was written into the view."""
        whole = self._whole.get(view)
        if whole is None:
            return
        offset = view.storage_offset() - whole.storage_offset()
        written = []
        for before, part in zip(self._of(whole), self._of(view), strict=True):
            values = torch.empty_strided(whole.shape, whole.stride(), dtype=part.dtype)
            values.copy_(before)
            values.as_strided(view.shape, view.stride(), offset).copy_(part.expand(view.shape))
            written.append(_compact(values))
        self._seen[whole] = tuple(written)

    def _of(self, tensor: Tensor) -> Seen:
        nothing = torch.full((1,) * tensor.ndim, -inf, dtype=torch.double)
        seen: Seen = self._seen.get(tensor, (nothing,) * 3 * AXES)
        return seen

    def _followed(
        self, func: Any, args: Any, kwargs: dict[str, Any], outputs: list[Tensor]
    ) -> tuple[list[Seen | None], list[int]]:
        """Return what the outputs of an operation see, and the axes in which that is lost."""
        name, first, rank = _name(func), args[0], outputs[0].ndim
        read = args[1] if name == "copy" else (args, kwargs)
        tensors = [t for t in tree_leaves(read) if isinstance(t, Tensor)]
        followed = [self._of(t) for t in tensors if t in self._seen]
        if not followed or name in SHAPE_ONLY:
            return [None] * len(outputs), []
        given = {a.name: a.default_value for a in func._schema.arguments if a.has_default_value()}
        given |= {a.name: value for a, value in zip(func._schema.arguments, args, strict=False)}
        given |= kwargs
        after: Seen | None = None
        rule = _rule(name)
        alone = len(followed) == 1 and first in self._seen
        if torch.Tag.pointwise in func.tags or name in UNMARKED:
            after = _union(*(_of_rank(seen, rank) for seen in followed))
        elif name in PRODUCTS:
            *added, left, right = map(self._of, tensors)
            after = _union(_product(left, right), *(_of_rank(seen, rank) for seen in added))
        elif name == "cat":
            parts = [t for t in tensors if t.shape != (0,)]
            after = _end_to_end(parts, list(map(self._of, parts)), given["dim"] % rank)
        elif alone and (func.is_view or name in RESHAPES or name in MOVES):
            if all(not t.is_meta or t is first for t in tensors):  # indices are known
                if name in RESHAPES:
                    args = (first, outputs[0].shape)
                whole = [values.expand(first.shape) for values in self._of(first)]
                moved = [tree_leaves(_move(func, v, args[1:], kwargs)) for v in whole]
                return list(zip(*moved, strict=True)), []
        elif alone and rule is not None:
            after = rule(given, self._of(first), outputs[0])
        if after is not None:
            return [after] * len(outputs), []
        return _lost(followed, outputs)


class _IndicesWithNumbers(TorchFunctionMode):
    """Indices that a network makes on its device, the meta device, keep their numbers."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor, torch.arange, torch.linspace):
            kwargs.pop("device", None)
        if func is Tensor.__getitem__ and isinstance(args[1], tuple):
            lists = (torch.tensor(i) if isinstance(i, list) else i for i in args[1])
            args = (args[0], tuple(lists))
        return func(*args, **kwargs)


def _meta(item: Any) -> Any:
    return item.to("meta") if isinstance(item, Tensor) else item


def _name(func: Any) -> str:
    """ "relu" of aten::relu_."""
    name = str(func._schema.name).removeprefix("aten::")
    return name.removesuffix("_") or name


def _along(values: Tensor, dimension: int, rank: int) -> Tensor:
    return values.reshape([-1 if d == dimension else 1 for d in range(rank)])


def _compact(values: Tensor) -> Tensor:
    """Keep one entry along dimensions in which all are equal, at first those of stride 0."""
    for dimension in sorted(range(values.ndim), key=values.stride):
        one = values.narrow(dimension, 0, 1)
        if values.stride(dimension) == 0 or (one == values).all():
            values = one
    return values


# Moves that operations are made of


def _each(seen: Seen, function: Callable[[int, Tensor], Tensor]) -> Seen:
    """A function of the kind (0, 1 or PLACE) and the values, on all nine tensors."""
    return tuple(function(i % 3, values) for i, values in enumerate(seen))


def _reduced(kind: int, values: Tensor, dimensions: Sequence[int]) -> Tensor:
    """Values of one entry that sees all along some dimensions.

    It lies where the first of them does if there are others elsewhere, as in other frames.
    """
    most = values.amax(tuple(dimensions), keepdim=True)
    if kind != PLACE:
        return most
    least = values.amin(tuple(dimensions), keepdim=True)
    return torch.where(least == most, least, -inf) if _compact(least).numel() == 1 else least


def _joined(seen: Seen, dimensions: Sequence[int]) -> Seen:
    """One entry, which sees all, in place of those along some dimensions."""
    return _each(seen, lambda kind, values: _reduced(kind, values, dimensions))


def _spread(seen: Seen, dimensions: Sequence[int]) -> Seen:
    """Every entry sees all along some dimensions and stays in its place."""
    return _each(seen, lambda kind, v: v if kind == PLACE else _reduced(kind, v, dimensions))


def _union(*several: Seen) -> Seen:
    """Join what entries see that meet one by one; of two places the later one stays."""
    return tuple(reduce(torch.maximum, parts) for parts in zip(*several, strict=True))


def _slid(
    seen: Seen,
    dimension: int,
    size: int,
    *,
    kernel: int,
    stride: int,
    padding: int = 0,
    dilation: int = 1,
) -> Seen:
    """A window that slides along a dimension, to `size` places."""
    reach = (kernel - 1) * dilation + 1

    def slide(kind: int, values: Tensor) -> Tensor:
        if values.shape[dimension] == 1:
            return values
        before, over = (0, 1) if kind == PLACE else (padding, reach)
        after = (size - 1) * stride + over - values.shape[dimension] - before
        values = _extended(values, dimension, before, after)
        return values.unfold(dimension, over, stride)[..., ::dilation].amax(-1)

    return _each(seen, slide)


def _extended(values: Tensor, dimension: int, before: int, after: int) -> Tensor:
    """Entries beyond both ends, at the mean distance of those between; below 0 they are cut."""
    size = values.shape[dimension]
    if size == 1:
        return values
    first, last = values.narrow(dimension, 0, 1), values.narrow(dimension, size - 1, 1)
    step = ((last - first) / (size - 1)).nan_to_num(0, 0, 0)
    ahead = first + step * _along(torch.arange(min(0, -before), 0), dimension, values.ndim)
    beyond = last + step * _along(torch.arange(1, max(0, after) + 1), dimension, values.ndim)
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
    return _windows(given, seen, output, shape[2:])


def _windows(given: Arguments, seen: Seen, output: Tensor, kernel: Sequence[int]) -> Seen:
    """Windows of a convolution or pool along the last dimensions; one number holds for all."""
    numbers = {"stride": given["stride"] or kernel, "padding": given["padding"]}
    numbers["dilation"] = given.get("dilation", [1])
    for i, size in enumerate(kernel):
        d = output.ndim - len(kernel) + i
        window = {name: values[i % len(values)] for name, values in numbers.items()}
        seen = _slid(seen, d, output.shape[d], kernel=size, **window)
    return seen


def _pool(given: Arguments, seen: Seen, output: Tensor) -> Seen:
    kernel, padding = given["kernel_size"], given["padding"]
    for i, size in enumerate(kernel, start=-len(kernel)):
        if size == given["self"].shape[i] and not padding[i % len(padding)]:  # a mean over all
            seen = _joined(seen, [i])
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


def _of_rank(seen: Seen, rank: int) -> Seen:
    return tuple(v.reshape((1,) * (rank - v.ndim) + v.shape) for v in seen)


def _product(left: Seen, right: Seen) -> Seen:
    """Matrix product; entries lie where those of the left factor do, if those have places."""

    def meet(kind: int, row: Tensor, column: Tensor) -> Tensor:
        if kind != PLACE:
            return torch.maximum(row, column)
        return row if (row > -inf).any() else column

    pairs = zip(_joined(left, [-1]), _joined(right, [-2]), strict=True)
    return tuple(meet(i % 3, *pair) for i, pair in enumerate(pairs))


def _end_to_end(tensors: Sequence[Tensor], several: Sequence[Seen], dimension: int) -> Seen:
    """Tensors put end to end along a dimension."""
    joined = []
    for parts in zip(*several, strict=True):
        shape = [max(sizes) for sizes in zip(*(part.shape for part in parts), strict=True)]
        sized = []
        for tensor, part in zip(tensors, parts, strict=True):
            shape[dimension] = tensor.shape[dimension]
            sized.append(part.expand(shape))
        joined.append(_compact(torch.cat(sized, dimension)))
    return tuple(joined)


def _move(func: Any, values: Tensor, options: Sequence[Any], named: dict[str, Any]) -> Any:
    """Do to one of the nine tensors what is done to the tensor that they are about."""
    moved = values.reshape(*options) if _name(func) in RESHAPES else func(values, *options, **named)
    if _name(func).startswith("index"):
        moved = _even(moved)
    return tree_map(_compact, moved)


def _even(values: Tensor) -> Tensor:
    """0, 10, 20, 31 -> 0, 10.33, 20.67, 31: even distances that were cut to whole frames."""
    for dimension in range(values.ndim):
        size = values.shape[dimension]
        ends = values.narrow(dimension, 0, 1), values.narrow(dimension, size - 1, 1)
        steps = torch.linspace(0, 1, size, dtype=values.dtype)
        line = torch.lerp(*ends, _along(steps, dimension, values.ndim))
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
        ends = [torch.cat([part.flatten() for part in parts]).unique() for parts in kinds]
        if any(len(end) > 1 for end in ends):
            lost.append(axis)
            ends = [torch.tensor([inf]).double()] * 2
        known += [*ends, torch.tensor([-inf]).double()]
    return [tuple(v.reshape((1,) * o.ndim) for v in known) for o in outputs], lost
