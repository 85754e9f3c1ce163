"""A picture of what a network's layers see: one SVG file that needs nothing else.

A panel for time and one for space, layers from left to right. Each layer has a bar, as long as
its receptive field beside the input's length, and ticks where its output has positions: the
bars grow, the ticks thin out. Below, each layer's share of the cost and of the parameters.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup

from dualstream.errors import InputError, ReportError
from dualstream.files import write_text
from dualstream.report.page import rendered

if TYPE_CHECKING:
    from dualstream.models.inspect import LayerRow, NetworkTable


class _Panel(NamedTuple):
    """Drawing of one axis."""

    kind: str
    """"time" or "space", for its colour."""
    heading: str
    axis: int
    unit: str
    length: int
    """Of the largest input, in `unit`."""
    inputs: list[tuple[int, str]]
    """Lengths of the inputs and their labels, the largest first."""


def write_network_picture(path: str | os.PathLike[str], table: NetworkTable) -> Path:
    """Write the picture of a network as one SVG file; see `network_svg`.

    Args:
        path: of the .svg file; missing folders are made, an old file is replaced.
        table: of `inspect_network`.

    Returns:
        The path.

    Raises:
        InputError: the path does not end in .svg, or no layer sees the input.
        ReportError: the file cannot be written.
    """
    target = Path(path)
    if target.suffix != ".svg":
        raise InputError(f"{target}: the picture is an SVG file; give a name that ends in .svg.")
    try:
        write_text(target, network_svg(table))
    except OSError as error:
        raise ReportError(f"{target}: cannot be written ({error.strerror}).") from error
    return target


def network_svg(table: NetworkTable) -> Markup:
    """Receptive field and positions in time and space against depth, and each layer's cost.

    It follows the reader's light or dark setting and says all numbers of a layer on hover.
    Height and width share a panel where they are equal in all layers.

    Args:
        table: of `inspect_network`; rows that do not see the input (parameters) are left out.

    Raises:
        InputError: there is no other row.
    """
    rows = [row for row in table.rows if row.receptive_field is not None]
    if not rows:
        raise InputError(f"No layer of {table.name} sees the input; there is nothing to draw.")
    costs = [row.multiply_adds / max(1, table.multiply_adds) for row in rows]
    sizes = [row.parameters / max(1, table.parameters) for row in rows]
    return rendered(
        "network.svg.j2",
        table=table,
        layers=list(zip(rows, zip(costs, sizes, strict=True), strict=True)),
        panels=_panels(table, rows),
        digits=max(len(str(field)) for row in rows for field in row.receptive_field or ()),
        largest_share=max(costs + sizes),
        longest_name=max(len(row.name) for row in rows),
    )


def _panels(table: NetworkTable, rows: Sequence[LayerRow]) -> list[_Panel]:
    """Time and space, or time, height and width."""
    square = all(size[2] == size[3] for size in table.sizes.values()) and all(
        sizes[1] == sizes[2] for row in rows for sizes in (row.receptive_field or (), row.positions)
    )
    drawn = [("time", "Time", 0, "frames")]
    if square:
        drawn.append(("space", "Space (height and width)", 1, "pixels"))
    else:
        drawn += [("space", "Height", 1, "pixels"), ("space", "Width", 2, "pixels")]
    return [
        _Panel(*panel, length=table.lengths[panel[2]], inputs=_inputs(table, panel[2]))
        for panel in drawn
    ]


def _inputs(table: NetworkTable, axis: int) -> list[tuple[int, str]]:
    """[(32, "rgb 32"), (8, "flow 8")]; without names where all inputs are as long."""
    names: dict[int, list[str]] = {}
    for name, size in table.sizes.items():
        names.setdefault(size[1 + axis], []).append(name)
    if len(names) == 1:
        return [(length, str(length)) for length in names]
    return [(length, f"{', '.join(names[length])} {length}") for length in sorted(names)[::-1]]
