"""A network layer by layer: output size, receptive field, stride, parameters, multiply-adds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal

from torch import nn

from dualstream.errors import InputError, UnknownNameError, check_least
from dualstream.models.network import Network
from dualstream.models.receptive_field import Output, Trace, Visit, network_name, traced
from dualstream.models.receptive_field_moves import AXES, PLACE

Depth = Literal["auto", "all"] | int
"""How far a table goes into the parts of a network: every layer, or so many names deep."""

InputSize = tuple[int, int, int, int]
"""C, T, H, W."""

MOST_ROWS = 40
"""Rows up to which `auto` goes deeper."""

USUAL = (16, 112, 112)
"""Frames, height, width; of R3D and C3D."""

NONE: tuple[Any, ...] = (None,) * AXES
"""Positions or strides of what does not depend on the input."""


@dataclass(frozen=True)
class LayerRow:
    """One layer, or all layers of one block or stage."""

    name: str
    """As in the state dict; an operation outside of any layer stands in brackets."""
    kind: str
    """Class of the module, "Parameter" of one outside of any layer, or torch's operation."""
    calls: int
    """How often it runs on one clip; all of them are counted, the sizes are those of the last."""
    output_size: tuple[int, ...]
    """Without the batch; frames that were folded into the batch stand after the channels."""
    positions: tuple[int | None, ...]
    """Frames, height and width of the output; None where a mean or a fully connected layer joined
    them."""
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
    input_size: InputSize | Mapping[str, InputSize]
    """Of each stream where the network sees several."""
    rows: tuple[LayerRow, ...]
    parameters: int
    multiply_adds: int
    notes: tuple[str, ...] = ()
    """Where a receptive field could not be followed, and why."""

    @property
    def sizes(self) -> dict[str, InputSize]:
        """Stream -> size of the input; "" where there is one."""
        size = self.input_size
        return dict(size) if isinstance(size, Mapping) else {"": size}

    @property
    def lengths(self) -> tuple[int, int, int]:
        """Frames, height and width of the input, the largest of all streams."""
        _, frames, height, width = map(max, zip(*self.sizes.values(), strict=True))
        return frames, height, width

    def row(self, name: str) -> LayerRow:
        """Return the row of that name.

        Raises:
            UnknownNameError: there is none.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise UnknownNameError("layer", name, [row.name for row in self.rows])


def usual_input_size(
    model: Network, *, wanted: tuple[int, int, int] = USUAL
) -> InputSize | Mapping[str, InputSize]:
    """Size of a clip that the network takes, as near to `wanted` as may be.

    What fully connected layers or a backbone fix (length, image size) is kept to, and too small
    is enlarged.

    Args:
        model: any network of this package.
        wanted: frames, height, width.

    Returns:
        C, T, H, W; of several inputs a mapping from each stream's name to them.
    """
    sizes = {
        stream: (accepts.channels, *accepts.nearest(wanted))
        for stream, accepts in model.inputs.items()
    }
    return sizes if len(sizes) > 1 else next(iter(sizes.values()))


def inspect_network(
    model: nn.Module,
    *,
    input_size: InputSize | Mapping[str, InputSize],
    depth: Depth = "auto",
) -> NetworkTable:
    """Count and measure every layer of a network on one clip, without computing it.

    The network runs once in evaluation mode on tensors that have a shape and no numbers. What
    each entry of each tensor sees of the input follows from the operations that are really run:
    a window of k entries adds (k - 1) * dilation * stride so far; entries that meet (sums,
    concatenation) see the union; after a mean, a fully connected layer or attention over
    positions the field is the whole input. Windows add up beyond the border. Where entries of one
    tensor see more or less (recurrent layers), the largest field is given. Zero padding, and the
    statistics of norms, are not counted as seen.

    Args:
        model: takes (N, C, T, H, W), or a mapping of streams to them; it may itself be on the
            meta device. It is not changed.
        input_size: C, T, H, W; a mapping for a network that sees several streams. Positions of
            all streams are counted on one grid.
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
        for windows and sums. Multiply-adds are what the papers of these networks call FLOPs: of
        convolutions and matrix products only, one multiplication and one addition count once
        (half of what `torch.utils.flop_counter` counts).
    """
    sizes = dict(input_size) if isinstance(input_size, Mapping) else {"": input_size}
    for size in sizes.values():
        if len(size) != 1 + AXES or any(number < 1 for number in size):
            raise InputError(f"input_size must be four sizes C, T, H, W of at least 1, got {size}.")
    if isinstance(depth, str) and depth not in ("auto", "all"):
        raise UnknownNameError("depth", depth, ("auto", "all", "a number"))
    if isinstance(depth, int):
        check_least(1, depth=depth)
    trace = traced(model, sizes)
    return NetworkTable(
        name=network_name(model),
        input_size=input_size,
        rows=_Rows(model, trace).down_to(depth),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        multiply_adds=sum(visit.multiply_adds for visit in trace.modules.values()),
        notes=tuple(trace.notes),
    )


class _Rows:
    """Rows of a network's modules by their names, with what happened in each."""

    def __init__(self, model: nn.Module, trace: Trace) -> None:
        self._trace = trace
        self._kinds = {name: type(module).__name__ for name, module in model.named_modules()}
        self._shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}

    def down_to(self, depth: Depth) -> tuple[LayerRow, ...]:
        """Return the rows of a depth."""
        deepest = max(1, *(name.count(".") + 1 for name in self._kinds))
        if depth != "auto":
            every = depth == "all"
            return tuple(self._of("", deepest if every else int(depth), idle=every))
        rows: tuple[LayerRow, ...] = ()
        for tried in range(1, deepest + 1):
            deeper = tuple(self._of("", tried))
            if rows and len(deeper) > MOST_ROWS:
                break
            rows = deeper
        return rows

    def _of(self, name: str, depth: int, *, idle: bool = False) -> Iterator[LayerRow]:
        """Rows of a module, `depth` names deep, in the order of their first call.

        Parts that give several tensors are shown in parts; with `idle`, activations get rows too.
        """
        start = f"{name}." if name else ""
        called = [key for key in self._trace.modules if key.startswith(start) and key != name]
        children = dict.fromkeys(start + key[len(start) :].partition(".")[0] for key in called)
        own = self._trace.modules.get(name)
        within = {key: visit for key, visit in self._trace.modules.items() if _is_in(key, name)}
        parameters = sum(prod(s) for key, s in self._shapes.items() if _is_in(key, name))
        if not children or (depth == 0 and (own is None or len(own.outputs) < 2)):
            if idle or own is None or not own.idle or parameters:
                visit = own or replace(max(within.values(), key=lambda v: v.last), calls=1)
                cost = sum(visit.multiply_adds for visit in within.values())
                yield self._row(name or "network", self._kinds[name], visit, parameters, cost)
            return
        for key, shape in self._shapes.items():
            if _is_in(key, name) and not any(_is_in(key, child) for child in children):
                yield LayerRow(key, "Parameter", 1, shape, NONE, None, NONE, prod(shape), 0)
        parts: list[tuple[int, str | Visit]] = [
            (min(v.order for key, v in within.items() if _is_in(key, child)), child)
            for child in children
        ]
        operations = self._trace.operations.get(name, {})
        parts += [(visit.order, visit) for visit in operations.values()]
        for _, part in sorted(parts, key=lambda part: part[0]):
            if isinstance(part, str):
                yield from self._of(part, max(0, depth - 1), idle=idle)
            else:
                yield self._row(f"{start}({part.kind})", part.kind, part, 0, part.multiply_adds)

    def _row(
        self, name: str, kind: str, visit: Visit, parameters: int, multiply_adds: int
    ) -> LayerRow:
        output = visit.outputs[0] if visit.outputs else None
        positions, fields, strides = NONE, None, NONE
        if output is not None and output.seen is not None:
            along = [self._along(visit, axis) for axis in range(AXES)]
            positions, fields, strides = zip(*along, strict=True)
        size = () if output is None else _output_size(output)
        return LayerRow(
            name, kind, visit.calls, size, positions, fields, strides, parameters, multiply_adds
        )

    def _along(self, visit: Visit, axis: int) -> tuple[int | None, int | None, float | None]:
        """Positions, receptive field and stride along an axis."""
        output = visit.outputs[0]
        places = output.places(axis)
        count, length = len(places) or None, self._trace.lengths[axis]
        if count == 1 and axis in visit.larger:
            places = visit.larger[axis].places(axis)
            if len(places) > 1:
                output, length = visit.larger[axis], 10**9
        stride: float | None = 1 if len(places) == length == 1 else None
        if len(places) > 1:
            stride = round((places[-1] - places[0]) / (len(places) - 1), 2)
            stride = int(stride) if stride == int(stride) else stride
        return count, output.field(axis, length), stride


def _is_in(key: str, name: str) -> bool:
    """Whether "res2.0.conv" is "res2" or in it; everything is in ""."""
    return not name or key == name or key.startswith(f"{name}.")


def _output_size(output: Output) -> tuple[int, ...]:
    """Size without a batch of one; frames in the batch go after the channels of maps and vectors.

    (1, 12, 20, 16, 16) -> (12, 20, 16, 16); 20 frames of (12, 16, 16) -> (12, 20, 16, 16).
    """
    shape = tuple(output.shape)
    if not shape or shape[0] == 1:
        return shape[1:]
    if output.seen is None or len(shape) not in (2, 4):
        return shape
    along = [output.seen[3 * axis + PLACE].shape[:2] for axis in range(AXES)]
    frames_of_maps = [tuple(sizes) for sizes in along] == [(shape[0], 1), (1, 1), (1, 1)]
    return (shape[1], shape[0], *shape[2:]) if frames_of_maps else shape
