"""Receptive fields: which part of the input each entry of each tensor of a network sees.

Networks run on torch's meta device, where they compute nothing. Each operation is done instead on
the first and the last input position that an entry sees and on the place where it lies, in time,
height and width. Windows reach beyond the border, where positions go on at the same distance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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

from dualstream.models.receptive_field_rules import (
    AXES,
    PLACE,
    Seen,
    along,
    compact,
    follow,
    operation_name,
    seen_by,
)

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
        before, last = self.seen[3 * axis : 3 * axis + PLACE]
        before, last = before.expand_as(before + last), last.expand_as(before + last)
        sees = before > -inf
        before, last = before[sees], last[sees]
        if not before.isfinite().all():
            return None
        alike = bool((before == before[:1]).all() and (last == last[:1]).all())
        if alike or not self.places(axis):
            before, last = before.clamp(max=0), last.clamp(max=length - 1)
        return ceil(float((before + last).max()) - 1e-6) + 1


class ReceptiveFields(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """While it is entered, the operations on tensors of the meta device are followed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self._seen: Any = WeakTensorKeyDictionary()
        self._whole: Any = WeakTensorKeyDictionary()
        """View -> the tensor that it is a view of."""

    def clip(self, size: Sequence[int]) -> Tensor:
        """Clip (1, C, T, H, W), each entry of which sees itself."""
        clip, seen = torch.empty((1, *size), device="meta"), []
        for dimension in range(2, 2 + AXES):
            places = along(torch.arange(float(size[dimension - 1])).double(), dimension, 2 + AXES)
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
        after, lost = follow(self._seen, func, args, kwargs, outputs)
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
        self.operation(operation_name(func), before, self.outputs(outputs[0])[0], cost, lost)
        return result

    def _write_through(self, view: Tensor) -> None:
        """Let the tensor that this one is a view of see what was written into the view."""
        whole = self._whole.get(view)
        if whole is None:
            return
        offset = view.storage_offset() - whole.storage_offset()
        written = []
        for before, part in zip(seen_by(self._seen, whole), seen_by(self._seen, view), strict=True):
            values = torch.empty_strided(whole.shape, whole.stride(), dtype=part.dtype)
            values.copy_(before)
            values.as_strided(view.shape, view.stride(), offset).copy_(part.expand(view.shape))
            written.append(compact(values))
        self._seen[whole] = tuple(written)


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
