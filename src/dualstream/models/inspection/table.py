"""A network layer by layer: output size, receptive field, stride, parameters, multiply-adds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Literal, TypeVar

from torch import nn

from dualstream.errors import InputError, UnknownNameError
from dualstream.models.inspection.digits import digits_of
from dualstream.models.inspection.places import AXES, Places
from dualstream.models.inspection.trace import Output, Trace, Visit, trace
from dualstream.models.optimize import OptimizedNetwork

Depth = Literal["auto", "all"] | int
"""How far a table goes into the parts of a network: every layer, or so many names deep."""

MOST_ROWS = 40
"""Rows up to which `auto` goes deeper."""

Value = TypeVar("Value")

InputSize = tuple[int, int, int, int]
"""C, T, H, W."""


@dataclass(frozen=True)
class LayerRow:
    """One layer, or all layers of one block or stage."""

    name: str
    """As in the state dict."""
    kind: str
    """Class of the module, "Parameter" of one outside of any layer, or torch's operation."""
    calls: int
    """How often it runs on one clip; all of them are counted, the sizes are those of the last."""
    output_size: tuple[int, ...]
    """Without the batch; frames that were folded into the batch stand behind the channels."""
    positions: tuple[int | None, ...]
    """Frames, height and width of the output; None where a mean or a full layer joined them."""
    receptive_field: tuple[int | None, ...] | None
    """Frames, height and width that one entry of the output sees; None in an axis where it could
    not be followed, None in all where the output does not depend on the input."""
    stride: tuple[float | None, ...]
    """Frames, height and width between neighbouring positions; None where there are none."""
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class NetworkTable:
    """All rows of a network; parameters and multiply-adds are those of the whole network."""

    name: str
    input_size: InputSize
    rows: tuple[LayerRow, ...]
    parameters: int
    multiply_adds: int
    notes: tuple[str, ...] = ()
    """Where a receptive field could not be followed, and why."""

    def row(self, name: str) -> LayerRow:
        """The row of that name.

        Raises:
            UnknownNameError: there is none.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise UnknownNameError("layer", name, [row.name for row in self.rows])


def inspect_network(
    model: nn.Module, *, input_size: InputSize, depth: Depth = "auto"
) -> NetworkTable:
    """Count and measure every layer of a network on one clip, without computing it.

    The network runs once in evaluation mode on tensors that have a shape and no numbers. What
    each entry of each tensor sees of the input follows from the operations that are really run:
    a window of k entries adds (k - 1) * dilation * stride so far; entries that meet (sums,
    concatenation) see the union; behind a mean, a full layer or attention over positions the
    field is the whole input. Windows add up beyond the border. Where entries of one tensor see
    more or less (recurrent layers), the largest field is given. Zero padding, and the statistics
    of norms, are not counted as seen.

    Args:
        model: takes (N, C, T, H, W); it may itself be on the meta device. It is not changed.
        input_size: C, T, H, W.
        depth: "all" gives a row to every layer, a number to every part of the network at that
            many names' depth (1: `res2`, 2: `res2.0`), "auto" to the deepest that has at most
            40 rows. But for "all", layers without parameters that change nothing in size or
            receptive field are left out.

    Raises:
        InputError: a size or the depth is below 1.
        ShapeError: the network does not take that input.
        UnknownNameError: `depth` is a text and none of the above.

    Source:
        Araujo, Norris & Sim 2019, "Computing receptive fields of convolutional neural networks",
        for windows and sums; multiply-adds as in the papers (see `multiply_adds`).
    """
    if len(input_size) != 1 + AXES or any(size < 1 for size in input_size):
        raise InputError(
            f"input_size must be four sizes C, T, H, W of at least 1, got {input_size}."
        )
    if isinstance(depth, str) and depth not in ("auto", "all"):
        raise UnknownNameError("depth", depth, ("auto", "all", "a number"))
    if isinstance(depth, int) and depth < 1:
        raise InputError(f"depth must be at least 1, got {depth}.")
    if isinstance(model, OptimizedNetwork):
        model = model.plain  # its other forms have the same layers
    tree = _Tree(model, trace(model, input_size=input_size))
    return NetworkTable(
        name=str(getattr(model, "name", type(model).__name__)),
        input_size=input_size,
        rows=_rows(tree, depth),
        parameters=tree.parameters(""),
        multiply_adds=tree.multiply_adds(""),
        notes=tree.trace.notes,
    )


def _rows(tree: _Tree, depth: Depth) -> tuple[LayerRow, ...]:
    if depth == "all":
        return tuple(tree.rows("", tree.deepest, idle=True))
    if isinstance(depth, int):
        return tuple(tree.rows("", depth))
    rows: tuple[LayerRow, ...] = ()
    for tried in range(1, tree.deepest + 1):
        deeper = tuple(tree.rows("", tried))
        if rows and len(deeper) > MOST_ROWS:
            break
        rows = deeper
    return rows


class _Tree:
    """The modules of a network by their names, with what happened in each."""

    def __init__(self, model: nn.Module, traced: Trace) -> None:
        self.trace = traced
        self._kinds = {name: type(module).__name__ for name, module in model.named_modules()}
        self._shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
        self._parameters = _by_part((name, prod(shape)) for name, shape in self._shapes.items())
        self._visits = _by_part(traced.modules.items())
        self._children: dict[str, list[str]] = {}
        for name in self._visits:
            if name:
                self._children.setdefault(name.rpartition(".")[0], []).append(name)
        self.deepest = max(1, *(name.count(".") + 1 for name in self._kinds))

    def parameters(self, name: str) -> int:
        """Number of parameters in a module and all within."""
        return sum(self._parameters.get(name, ()))

    def multiply_adds(self, name: str) -> int:
        """Of a module and all within."""
        return sum(visit.multiply_adds for visit in self._visits[name])

    def rows(self, name: str, depth: int, *, idle: bool = False) -> Iterator[LayerRow]:
        """Rows of a module, `depth` names deep, in the order of their first call.

        Parts that give several tensors are always shown in parts. With `idle`, activations and
        others that have nothing and change nothing get rows, too.
        """
        children = self._children.get(name, [])
        own = self.trace.modules.get(name)
        several = own is not None and len(own.outputs) > 1
        if not children or (depth == 0 and not several):
            if idle or own is None or not own.idle or self.parameters(name):
                yield self._row(name)
            return
        yield from self._parameter_rows(name, children)
        parts = [(min(v.order for v in self._visits[child]), child) for child in children]
        operations = {visit.order: visit for visit in self.trace.operations.get(name, ())}
        for order, child in sorted([*parts, *((order, "") for order in operations)]):
            if child:
                yield from self.rows(child, max(0, depth - 1), idle=idle)
            else:
                yield _of_operation(operations[order], owner=name)

    def _row(self, name: str) -> LayerRow:
        own = self.trace.modules.get(name)
        visits = self._visits[name]
        last = own or max(visits, key=lambda visit: visit.last)
        return _layer_row(
            name or "network",
            self._kinds[name],
            calls=own.calls if own else 1,
            output=last.outputs[0] if last.outputs else None,
            parameters=self.parameters(name),
            multiply_adds=self.multiply_adds(name),
        )

    def _parameter_rows(self, name: str, children: list[str]) -> Iterator[LayerRow]:
        """Parameters of a module that are in none of those parts that get rows."""
        shown = set(children)
        for key, shape in self._shapes.items():
            parts = set(_parts(key))
            if name in parts and not parts & shown:
                yield LayerRow(
                    name=key,
                    kind="Parameter",
                    calls=1,
                    output_size=shape,
                    positions=(None,) * AXES,
                    receptive_field=None,
                    stride=(None,) * AXES,
                    parameters=prod(shape),
                    multiply_adds=0,
                )


def _parts(name: str) -> list[str]:
    """ "res2.0.conv" -> ["", "res2", "res2.0", "res2.0.conv"]."""
    names = name.split(".") if name else []
    return ["", *(".".join(names[: i + 1]) for i in range(len(names)))]


def _by_part(values: Iterable[tuple[str, Value]]) -> dict[str, list[Value]]:
    """Values of each module and all within it."""
    found: dict[str, list[Value]] = {}
    for name, value in values:
        for part in _parts(name):
            found.setdefault(part, []).append(value)
    return found


def _of_operation(visit: Visit, *, owner: str) -> LayerRow:
    return _layer_row(
        f"{owner}.({visit.kind})" if owner else f"({visit.kind})",
        visit.kind,
        calls=visit.calls,
        output=visit.outputs[0],
        parameters=0,
        multiply_adds=visit.multiply_adds,
    )


def _layer_row(
    name: str, kind: str, *, calls: int, output: Output | None, parameters: int, multiply_adds: int
) -> LayerRow:
    places = output.places if output else None
    return LayerRow(
        name=name,
        kind=kind,
        calls=calls,
        output_size=_output_size(output) if output else (),
        positions=_per_axis(places.positions) if places else (None,) * AXES,
        receptive_field=_per_axis(places.field) if places else None,
        stride=_stride(places) if places else (None,) * AXES,
        parameters=parameters,
        multiply_adds=multiply_adds,
    )


def _per_axis(of_axis: Callable[[int], int | None]) -> tuple[int | None, ...]:
    return tuple(of_axis(axis) for axis in range(AXES))


def _stride(places: Places) -> tuple[float | None, ...]:
    """Whole numbers stay whole; frames that are 31/3 apart are 10.33 apart."""
    strides = (places.stride(axis) for axis in range(AXES))
    return tuple(
        None if s is None else int(s) if s == int(s) else round(float(s), 2) for s in strides
    )


def _output_size(output: Output) -> tuple[int, ...]:
    """Without a batch of one; frames in the batch go behind the channels of maps and vectors.

    (1, 12, 20, 16, 16) -> (12, 20, 16, 16); 20 frames of (12, 16, 16) -> (12, 20, 16, 16).
    """
    shape = output.shape
    if not shape or shape[0] == 1:
        return shape[1:]
    if output.places is None or len(shape) not in (2, 4):
        return shape
    batch, channels = (
        {digit.axis for digit in digits_of(dimension)} for dimension in output.places.dimensions[:2]
    )
    frames_of_maps = batch == {0} and channels <= {None}
    return (shape[1], shape[0], *shape[2:]) if frames_of_maps else shape
