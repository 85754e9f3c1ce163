"""Run a network once without numbers, and note what each part of it does.

Parameters and input are on torch's meta device: tensors with a shape and nothing in it, so that
any network takes milliseconds and no memory.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from dualstream.errors import ShapeError
from dualstream.models.inspection.call import Call
from dualstream.models.inspection.digits import Digit
from dualstream.models.inspection.multiply_adds import MATRIX_PRODUCTS, multiply_adds
from dualstream.models.inspection.operations import POOLS, REDUCTIONS, places_after
from dualstream.models.inspection.places import AXES, Places, Span

MOST_KNOWN_NUMBERS = 4096
"""Size up to which index tensors are computed for real."""

NOTEWORTHY = frozenset({"convolution", *MATRIX_PRODUCTS, *POOLS, *REDUCTIONS})
"""Operations that get a row where a network calls them outside of any layer."""

FROM_NUMBERS = frozenset({"arange", "linspace", "full", "zeros", "ones", "scalar_tensor"})
"""Operations that make tensors from numbers alone."""


@dataclass(frozen=True)
class Output:
    """One tensor that a part of a network gives."""

    shape: tuple[int, ...]
    places: Places | None


@dataclass
class Visit:
    """What happened in one module, or in one operation outside of any layer."""

    name: str
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


@dataclass(frozen=True)
class Trace:
    """One run of a network."""

    modules: dict[str, Visit]
    """Those that were called, by name; the network itself is ''."""
    operations: dict[str, list[Visit]]
    """Those outside of any layer, by the module that called them."""
    notes: tuple[str, ...]
    """Where the receptive field could not be followed."""


def trace(model: nn.Module, *, input_size: tuple[int, int, int, int]) -> Trace:
    """Run a network in evaluation mode on one clip.

    Args:
        model: takes (N, C, T, H, W); it is not changed.
        input_size: C, T, H, W.

    Raises:
        ShapeError: the network does not take that input, or needs numbers to run.
    """
    shadow, known = _without_numbers(model)
    clip = torch.empty((1, *input_size), device="meta")
    recorder = _Recorder(known, {id(module): name for name, module in shadow.named_modules()})
    recorder.place(clip, _input_places(input_size))
    hooks = [
        register_module_forward_pre_hook(recorder.enter),
        register_module_forward_hook(recorder.leave, always_call=True),
    ]
    try:
        with torch.no_grad(), _IndicesOnCpu(), recorder:
            shadow(clip)
    except RuntimeError as error:
        raise ShapeError(
            f"{getattr(model, 'name', type(model).__name__)} cannot be run on "
            f"{' x '.join(map(str, input_size))} (channels x frames x height x width): {error}"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    return Trace(recorder.modules, recorder.operations, tuple(recorder.notes))


def _input_places(input_size: tuple[int, int, int, int]) -> Places:
    """(1, C, T, H, W), every entry of which sees itself."""
    dimensions = tuple((Digit(input_size[1 + a], a, 1, 1),) for a in range(AXES))
    channels = (Digit(input_size[0]),) if input_size[0] > 1 else ()
    return Places(((), channels, *dimensions), (Span(0, 0),) * AXES, input_size[1:])


def _without_numbers(model: nn.Module) -> tuple[nn.Module, dict[int, torch.Tensor]]:
    """A copy of a network on the meta device, and what its small buffers hold."""
    memo: dict[int, Any] = {}
    known: dict[int, torch.Tensor] = {}
    for parameter in model.parameters():
        empty = torch.empty_like(parameter, device="meta")
        memo[id(parameter)] = nn.Parameter(empty, requires_grad=False)
    for buffer in model.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
        if buffer.numel() <= MOST_KNOWN_NUMBERS and not buffer.is_meta:
            known[id(memo[id(buffer)])] = buffer.detach().cpu()
    shadow = copy.deepcopy(model, memo)
    return shadow.eval(), known


class _IndicesOnCpu(TorchFunctionMode):
    """Keeps the numbers of lists that become tensors, which on the meta device would be lost."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor) and "device" in kwargs:
            device = kwargs.pop("device")
            return func(*args, **kwargs).to(device)
        if func is torch.Tensor.__getitem__:
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            args = (args[0], tuple(torch.tensor(i) if _is_list_of_numbers(i) else i for i in index))
        return func(*args, **kwargs)


def _is_list_of_numbers(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, int) for item in value)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own gap
    """Sees every operation, follows places through it, and notes both under the module."""

    def __init__(self, known: dict[int, torch.Tensor], names: dict[int, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own gap
        self.modules: dict[str, Visit] = {}
        self.operations: dict[str, list[Visit]] = {}
        self.notes: dict[str, None] = {}
        self._known = known
        self._names = names
        self._places: dict[int, Places] = {}
        self._kept: list[torch.Tensor] = []
        """Keeps tensors alive, so that their ids stay theirs; they hold no numbers."""
        self._stack: list[Visit] = []
        self._clock = 0

    def enter(self, module: nn.Module, inputs: Any) -> None:
        """Hook in front of every module."""
        name = self._names.get(id(module), "")
        visit = self.modules.get(name)
        if visit is None:
            visit = Visit(name, type(module).__name__, self._tick())
            self.modules[name] = visit
        visit.calls += 1
        self._stack.append(visit)

    def leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """Hook behind every module."""
        visit = self._stack.pop()
        visit.outputs = [
            Output(tuple(tensor.shape), self.places_of(tensor)) for tensor in _tensors(output)
        ]
        visit.last = self._tick()
        got = [Output(tuple(tensor.shape), self.places_of(tensor)) for tensor in _tensors(inputs)]
        visit.idle = visit.outputs[:1] == got[:1]

    def place(self, tensor: torch.Tensor, places: Places | None) -> None:
        """Note what a tensor sees."""
        self._kept.append(tensor)
        if places is None:
            self._places.pop(id(tensor), None)
        else:
            self._places[id(tensor)] = places

    def places_of(self, tensor: object) -> Places | None:
        """What a tensor sees; None if it does not depend on the input."""
        return self._places.get(id(tensor))

    def value_of(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """What a tensor holds, where it is known."""
        return self._known.get(id(tensor)) if tensor.is_meta else tensor

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        outputs = list(_tensors(output))
        if not outputs:
            return output
        call = Call(
            name=func._schema.name.removeprefix("aten::").removesuffix("_") or func._schema.name,
            pointwise=torch.Tag.pointwise in func.tags,
            arguments=_by_name(func, args, kwargs or {}),
            output=output,
            places_of=self.places_of,
            value_of=self.value_of,
        )
        lost = self._follow(call, outputs, writes=func._schema.is_mutable)
        self._compute(func, args, kwargs or {}, output)
        self._count(call, outputs[0], lost=lost)
        return output

    def _follow(self, call: Call, outputs: list[torch.Tensor], *, writes: bool) -> bool:
        """Note what the outputs see; whether that of some axis is lost by this call."""
        before = [p for tensor in call.tensors if (p := self.places_of(tensor)) is not None]
        result = places_after(call)
        after = result if isinstance(result, list) else [result] * len(outputs)
        was = self.places_of(outputs[0])
        for tensor, places in zip(outputs, after, strict=True):
            shape = tuple(tensor.shape)
            self.place(tensor, places.lost(shape) if places and places.shape != shape else places)
        if writes and self.places_of(outputs[0]) != was and outputs[0]._is_view():
            self._overwrite(outputs[0], call)
        now = [places for places in after if places is not None]
        lost = [
            axis
            for axis in range(AXES)
            if all(p.seen[axis] for p in before) and not all(p.seen[axis] for p in now)
        ]
        self._note(call.name, lost)
        return bool(lost)

    def _overwrite(self, part: torch.Tensor, call: Call) -> None:
        """A part of a tensor was written to: the whole holds now this, now that."""
        places = self.places_of(part)
        whole = part._base
        if places is not None and whole is not None:
            self.place(whole, places.lost(tuple(whole.shape), range(AXES)))
            self._note(f"{call.name} to a part of a tensor", list(range(AXES)))

    def _note(self, what: str, axes: list[int]) -> None:
        if axes:
            names = " and ".join(("time", "height", "width")[axis] for axis in axes)
            where = self._stack[-1].name if self._stack else ""
            self.notes[f"{where or 'the network'}: {what} could not be followed in {names}"] = None

    def _compute(self, func: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        """Indices are computed for real: small tensors made from numbers or from each other."""
        (first, *_) = _tensors(output)
        name = func._schema.name.removeprefix("aten::")
        flat = _tensors([args, list(kwargs.values())])
        values = [self.value_of(tensor) for tensor in flat]
        small = first.numel() <= MOST_KNOWN_NUMBERS and first.is_meta
        if (
            not small
            or not isinstance(output, torch.Tensor)
            or (not flat and name not in FROM_NUMBERS)
        ):
            return
        if any(value is None or value.numel() > MOST_KNOWN_NUMBERS for value in values):
            return
        real = {id(tensor): value for tensor, value in zip(flat, values, strict=True)}
        result = func(*_replaced(args, real), **_replaced({**kwargs, **_on_cpu(kwargs)}, real))
        self._kept.append(first)
        self._known[id(first)] = result

    def _count(self, call: Call, output: torch.Tensor, *, lost: bool) -> None:
        """Add to the module's cost, and note what happens between its layers."""
        if not self._stack:
            return
        owner, count = self._stack[-1], multiply_adds(call)
        owner.multiply_adds += count
        shape, places = tuple(output.shape), self.places_of(output)
        same_size = bool(call.tensors) and prod(shape) == call.tensors[0].numel()
        mixes = call.name in NOTEWORTHY and not same_size and places is not None
        if not (count or lost or mixes):
            return
        own = self.operations.setdefault(owner.name, [])
        visit = next((v for v in own if (v.kind, v.outputs[0].shape) == (call.name, shape)), None)
        if visit is None:
            visit = Visit(call.name, call.name, self._tick())
            own.append(visit)
        visit.calls += 1
        visit.multiply_adds += count
        visit.outputs = [Output(shape, places)]
        visit.last = self._tick()

    def _tick(self) -> int:
        self._clock += 1
        return self._clock


def _by_name(func: Any, args: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a call by their names in the schema, defaults filled in."""
    schema = func._schema.arguments
    named = {
        argument.name: args[i] if i < len(args) else argument.default_value
        for i, argument in enumerate(schema)
        if i < len(args) or argument.has_default_value()
    }
    return {**named, **kwargs}


def _tensors(value: Any) -> list[torch.Tensor]:
    """All tensors in nested lists, tuples and dicts, in their order."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in _tensors(item)]
    return []


def _replaced(value: Any, real: dict[int, Any]) -> Any:
    if isinstance(value, torch.Tensor):
        return real[id(value)]
    if isinstance(value, dict):
        return {key: _replaced(item, real) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_replaced(item, real) for item in value)
    return value


def _on_cpu(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {"device": torch.device("cpu")} if "device" in kwargs else {}
