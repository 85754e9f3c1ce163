"""Receptive fields: which part of the input each entry of each tensor of a network sees.

Networks run on torch's meta device, where they compute nothing. Each operation is done instead on
the first and the last input position that an entry sees and on the place where it lies, in time,
height and width. Windows reach beyond the border, where positions go on at the same distance.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, inf
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import flop_registry
from torch.utils.weak import WeakTensorKeyDictionary

from dualstream.errors import ShapeError
from dualstream.models.receptive_field_moves import AXES, PLACE, Seen, along, compact
from dualstream.models.receptive_field_rules import follow, mixes, operation_name, seen_by

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


@dataclass
class Visit:
    """Calls of one module, or of one operation outside of any layer."""

    kind: str
    order: int
    """Of the first call."""
    calls: int = 0
    multiply_adds: int = 0
    """Of all calls, without those of other modules within."""
    outputs: list[Output] = field(default_factory=list)
    """Of the last call."""
    last: int = 0
    """Order of the end of the last call."""
    idle: bool = False
    """Whether the last call gave what it got, but for the numbers, as activations do."""
    larger: dict[int, Output] = field(default_factory=dict)
    """Axis -> (first) output for a clip that is larger along it, where there is one place here."""


class Trace(TorchDispatchMode):
    """One run of a network in evaluation mode on tensors without numbers.

    Raises:
        ShapeError: the network does not take clips of these sizes.
    """

    def __init__(self, model: nn.Module, sizes: Mapping[str, Sequence[int]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self._seen: Any = WeakTensorKeyDictionary()
        self._whole: Any = WeakTensorKeyDictionary()
        """View -> the tensor that it is a view of."""
        self.lengths = [max(size[1 + axis] for size in sizes.values()) for axis in range(AXES)]
        """Frames, height and width of the input."""
        self.modules: dict[str, Visit] = {}
        """Those that were called, by name; the network itself is ''."""
        self.operations: dict[str, dict[tuple[str, torch.Size], Visit]] = {}
        """Those outside of any layer, by the module that called them, name and output size."""
        self.notes: dict[str, None] = {}
        parameters: dict[int, Any] = {
            id(p): nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=False)
            for p in model.parameters()
        }
        shadow = copy.deepcopy(model, parameters).eval()
        self._names = {id(module): name for name, module in shadow.named_modules()}
        self._stack: list[str] = []
        self._clock = itertools.count(1)
        clips = {stream: self._clip(size) for stream, size in sizes.items()}
        entering = register_module_forward_pre_hook(self._enter)
        leaving = register_module_forward_hook(self._leave, always_call=True)
        # Torch runs networks as the operations that are followed here, none of them fused.
        unfused = sdpa_kernel(SDPBackend.MATH)
        try:
            with entering, leaving, torch.inference_mode(), unfused, _IndicesWithNumbers(), self:
                shadow(clips.get("", clips))
        except RuntimeError as error:
            shown = [f"{key} {' x '.join(map(str, size))}".strip() for key, size in sizes.items()]
            raise ShapeError(
                f"{network_name(model)} cannot be run on {', '.join(shown)} "
                f"(channels x frames x height x width): {error}"
            ) from error

    def visits(self) -> list[Visit]:
        """All of them, in an order that is the same for all inputs."""
        return [
            *self.modules.values(),
            *(v for some in self.operations.values() for v in some.values()),
        ]

    def _clip(self, size: Sequence[int]) -> Tensor:
        """Clip (1, C, T, H, W), each entry of which sees itself."""
        clip, seen = torch.empty((1, *size), device="meta"), []
        for dimension in range(2, 2 + AXES):
            places = along(torch.arange(float(size[dimension - 1])).double(), dimension, 2 + AXES)
            seen += [-places, places, places]
        self._seen[clip] = tuple(seen)
        return clip

    def _outputs(self, value: Any) -> list[Output]:
        """Shape and seen part of the input of each tensor in some arguments or results."""
        tensors = (item for item in tree_leaves(value) if isinstance(item, Tensor))
        return [Output(item.shape, self._seen.get(item)) for item in tensors]

    def _enter(self, module: nn.Module, inputs: Any) -> None:
        name = self._names.get(id(module), "")
        visit = self.modules.setdefault(name, Visit(type(module).__name__, next(self._clock)))
        visit.calls += 1
        self._stack.append(name)

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        visit, got = self.modules[self._stack.pop()], self._outputs(inputs)
        visit.outputs, visit.last = self._outputs(output), next(self._clock)
        visit.idle = bool(visit.outputs and got) and visit.outputs[0].sees_as(got[0])

    def _note(
        self, name: str, before: int, output: Output, multiply_adds: int, lost: Sequence[int]
    ) -> None:
        """Add an operation to its module's cost, and keep what happens between its layers."""
        owner = self._stack[-1] if self._stack else ""
        if owner in self.modules:
            self.modules[owner].multiply_adds += multiply_adds
        if lost:
            axes = " and ".join(("time", "height", "width")[axis] for axis in lost)
            where = owner or "the network"
            self.notes[f"{where}: {name} could not be followed in {axes}"] = None
        joined = output.shape.numel() != before and output.seen is not None and mixes(name)
        if not (multiply_adds or lost or joined):
            return
        own = self.operations.setdefault(owner, {})
        visit = own.setdefault((name, output.shape), Visit(name, next(self._clock)))
        visit.calls += 1
        visit.multiply_adds += multiply_adds
        visit.outputs = [output]

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
        metas, options = tree_map_only(Tensor, lambda t: t.to("meta"), (tuple(args), kwargs))
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
        self._note(operation_name(func), before, self._outputs(outputs[0])[0], cost, lost)
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


def traced(model: nn.Module, sizes: Mapping[str, Sequence[int]]) -> Trace:
    """Run a network; where one place is left along an axis, also on a clip that is larger there.

    One place has no stride, and no distance at which positions go on beyond the border.
    """
    trace = Trace(model, sizes)
    for axes in ((0,), (1, 2)):
        long = [axis for axis in axes if trace.lengths[axis] > 1]
        outputs = [visit.outputs[0] for visit in trace.visits() if visit.outputs]
        if not any(len(output.places(axis)) == 1 for output in outputs for axis in long):
            continue
        enlarged = {
            stream: [n * 4 if i - 1 in axes else n for i, n in enumerate(size)]
            for stream, size in sizes.items()
        }
        try:
            larger = Trace(model, enlarged)
        except Exception:  # whatever it says to a length or side that it is not made for
            continue
        for visit, other in zip(trace.visits(), larger.visits(), strict=False):
            visit.larger |= {axis: other.outputs[0] for axis in axes if other.outputs}
    return trace


def network_name(model: nn.Module) -> str:
    """Name in `MODELS`, or that of the class."""
    return str(getattr(model, "name", type(model).__name__))


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
