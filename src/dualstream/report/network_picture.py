"""A picture of what a network's layers see: one SVG file that needs nothing else.

A panel for time and one for space, layers from left to right. Each layer has a bar, as long as
its receptive field beside the input's length, and ticks where its output has positions: the
bars grow, the ticks thin out. Below, each layer's share of the cost and of the parameters.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from dualstream.errors import InputError, ReportError
from dualstream.files import write_text

if TYPE_CHECKING:
    from dualstream.models.inspect import LayerRow, NetworkTable

LEFT_PX = 92
RIGHT_PX = 24
TOP_PX = 92
PANEL_PX = 210
"""Height of the panels of time and space."""
INSIDE = 0.62
"""Share of a panel's height that the input takes; bars that reach further are cut there."""
SHARES_PX = 96
"""Height of the panel of costs."""
GAP_PX = 62
"""Between panels, with their headings."""
MOST_TICKS = 64
"""Positions up to which each gets a tick; more are a line."""
CHARACTER_PX = 6.4
"""Width of a character of a layer's name."""
DIGIT_PX = 7.4
"""Width of a digit of a receptive field."""
LONGEST_NAME = 28
"""Characters of a name that are shown, the last ones; all of it on hover."""

STYLE = """
svg { --paper: #ffffff; --ink: #16191f; --soft: #5c6573; --line: #dfe3e9; --tint: #f1f4f8;
  --time: #d9730d; --space: #0e8a8a; --cost: #2f55d4; --size: #b5316b;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif }
@media (prefers-color-scheme: dark) { svg { --paper: #181b21; --ink: #e8eaee; --soft: #9aa3b2;
  --line: #2b3039; --tint: #21252d; --time: #f0964a; --space: #3fbdbd; --cost: #7f9cff;
  --size: #ec7aa9 } }
.paper { fill: var(--paper) } .input { fill: var(--tint) }
text { fill: var(--ink); font-size: 11px } .title { font-size: 19px; font-weight: 650 }
.head { font-size: 13px; font-weight: 600 } .soft { fill: var(--soft) }
.time { --c: var(--time) } .space { --c: var(--space) } .cost { --c: var(--cost) }
.size { --c: var(--size) }
.bar { fill: var(--c) } .over { fill: var(--c); fill-opacity: .3 }
.ticks { stroke: var(--ink); stroke-width: 1.4; fill: none }
.edge { stroke: var(--soft); stroke-dasharray: 4 4 }
.base { stroke: var(--line) }
.field { fill: var(--c); font-weight: 600 }
.layer > .hover { fill: transparent } .layer:hover > .hover { fill: var(--ink); fill-opacity: .06 }
"""


@dataclass(frozen=True)
class _Panel:
    """Drawing of one axis."""

    kind: str
    """"time" or "space", for its colour."""
    heading: str
    axis: int
    unit: str
    length: int
    """Of the input, frames or pixels."""
    top: float

    @property
    def scale(self) -> float:
        """Pixels of the picture for each frame or pixel of the input."""
        return PANEL_PX * INSIDE / self.length

    @property
    def middle(self) -> float:
        return self.top + PANEL_PX / 2


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
    digits = max(len(str(field)) for row in rows for field in row.receptive_field or ())
    step = max(26.0, digits * DIGIT_PX + 4, min(64.0, 960 / len(rows)))
    panels = _panels(table, rows)
    shares_top = panels[-1].top + PANEL_PX + GAP_PX
    largest = max(max(_share_of(table, row)) for row in rows)
    share_px = SHARES_PX * 0.82 / largest if largest else 0.0
    names_px = max(len(_end_of(row.name)) for row in rows) * CHARACTER_PX
    right = LEFT_PX + step * len(rows)
    width = round(max(right + RIGHT_PX, 700))
    height = round(shares_top + SHARES_PX + 24 + names_px * 0.87 + 20)
    parts = [
        Markup(
            '<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{w}" height="{h}" '
            'viewBox="0 0 {w} {h}"><title>{name}: what its layers see</title><style>{style}'
            '</style><rect class="paper" width="{w}" height="{h}"/>'
        ).format(w=width, h=height, name=table.name, style=Markup(STYLE)),
        *_title(table),
        *(part for panel in panels for part in _frame(panel, right)),
        *_shares_frame(shares_top, right),
    ]
    for i, row in enumerate(rows):
        centre = LEFT_PX + (i + 0.5) * step
        parts.append(Markup('<g class="layer"><title>{}</title>').format(_hover(row)))
        for panel in panels:
            parts += _column(panel, row, centre=centre, step=step)
        parts += _shares(table, row, centre=centre, step=step, top=shares_top, px=share_px)
        parts.append(_name(row, x=centre, y=shares_top + SHARES_PX + 16))
        height_px = shares_top + SHARES_PX - TOP_PX
        parts.append(_rect("hover", centre - step / 2, TOP_PX, step, height_px) + Markup("</g>"))
    return Markup("").join([*parts, Markup("</svg>\n")])


def _panels(table: NetworkTable, rows: Sequence[LayerRow]) -> list[_Panel]:
    """Time and space, or time, height and width."""
    frames, height, width = table.lengths
    square = height == width and all(
        sizes[1] == sizes[2] for row in rows for sizes in (row.receptive_field or (), row.positions)
    )
    drawn = [("time", "Time", 0, "frames", frames)]
    if square:
        drawn.append(("space", "Space (height and width)", 1, "pixels", height))
    else:
        drawn.append(("space", "Height", 1, "pixels", height))
        drawn.append(("space", "Width", 2, "pixels", width))
    return [
        _Panel(kind, heading, axis, unit, length, top=TOP_PX + 24 + i * (PANEL_PX + GAP_PX))
        for i, (kind, heading, axis, unit, length) in enumerate(drawn)
    ]


def _text(x: float, y: float, text: object, css: str = "soft", *, anchor: str = "start") -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        css, x, y, anchor, text
    )


def _rect(css: str, x: float, y: float, width: float, height: float) -> Markup:
    return Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
        css, x, y, width, height
    )


def _line(css: str, right: float, y: float) -> Markup:
    return Markup('<line class="{}" x1="{}" x2="{}" y1="{y:.1f}" y2="{y:.1f}"/>').format(
        css, LEFT_PX, right, y=y
    )


def _title(table: NetworkTable) -> Iterator[Markup]:
    clips = [
        f"{name} {c} channels, {t} frames of {h} x {w} pixels".strip()
        for name, (c, t, h, w) in table.sizes.items()
    ]
    yield _text(24, 36, table.name, "title")
    cost = f"{table.multiply_adds / 1e9:,.2f} billion multiply-adds"
    yield _text(24, 58, f"{'; '.join(clips)}; {table.parameters:,} parameters; {cost}")
    meaning = "Bars: receptive field of one entry, pale beyond the input."
    yield _text(24, 76, f"{meaning} Ticks: positions of the output.")


def _frame(panel: _Panel, right: float) -> Iterator[Markup]:
    """Heading, the input's extent, and its first and last position."""
    half = panel.length * panel.scale / 2
    low, high = panel.middle - half, panel.middle + half
    yield _text(24, panel.top - 8, f"{panel.heading}, {panel.unit}", "head")
    yield _rect("input", LEFT_PX, low, right - LEFT_PX, high - low)
    for y, text in ((low, "1"), (high, str(panel.length))):
        yield _line("edge", right, y)
        yield _text(LEFT_PX - 8, y + 4, text, anchor="end")
    for y, text in ((panel.top + 10, "field"), (panel.top + PANEL_PX - 2, "positions")):
        yield _text(LEFT_PX - 8, y, text, anchor="end")


def _column(panel: _Panel, row: LayerRow, *, centre: float, step: float) -> Iterator[Markup]:
    """One layer's bar and ticks."""
    assert row.receptive_field is not None
    field, positions = row.receptive_field[panel.axis], row.positions[panel.axis] or 1
    bar = min(16.0, step * 0.4)
    left = centre - bar * 0.85
    yield Markup('<g class="{}">').format(panel.kind)
    if field is not None:
        inside = min(field, panel.length) * panel.scale
        drawn = min(field * panel.scale, PANEL_PX - 36)
        for css, length in (("over", drawn), ("bar", inside)):
            yield _rect(css, left, panel.middle - length / 2, bar, max(length, 1))
    yield _text(centre, panel.top + 10, "?" if field is None else field, "field", anchor="middle")
    yield Markup('<path class="ticks" d="{}"/>').format(
        _ticks(panel, positions, row.stride[panel.axis] or 0, x=left + bar + 2, length=bar / 2)
    )
    yield _text(centre, panel.top + PANEL_PX - 2, positions, anchor="middle")
    yield Markup("</g>")


def _ticks(panel: _Panel, positions: int, stride: float, *, x: float, length: float) -> str:
    """Path of one tick a position, `stride` apart around the middle."""
    first = panel.middle - (positions - 1) / 2 * stride * panel.scale
    places = [first + i * stride * panel.scale for i in range(positions)]
    if positions > MOST_TICKS:
        return f"M{x + length / 2:.1f} {first:.1f}V{places[-1]:.1f}"
    return "".join(f"M{x:.1f} {y:.1f}h{length:.1f}" for y in places)


def _shares_frame(top: float, right: float) -> Iterator[Markup]:
    yield Markup(
        '<text class="head" x="24" y="{:.1f}">Share of the '
        '<tspan class="cost field">multiply-adds</tspan> and of the '
        '<tspan class="size field">parameters</tspan>, per cent</text>'
    ).format(top - 10)
    yield _line("base", right, top + SHARES_PX)


def _shares(
    table: NetworkTable, row: LayerRow, *, centre: float, step: float, top: float, px: float
) -> Iterator[Markup]:
    """Two bars of `px` pixels for the whole network, and the longer one's per cent."""
    bar = min(13.0, step * 0.36)
    shares = _share_of(table, row)
    lefts = (centre - bar - 1, centre + 1)
    for css, share, left in zip(("cost", "size"), shares, lefts, strict=True):
        rect = _rect("bar", left, top + SHARES_PX - share * px, bar, share * px)
        yield Markup('<g class="{}">{}</g>').format(css, rect)
    largest = max(shares)
    if largest >= 0.005:
        y = top + SHARES_PX - largest * px - 4
        yield _text(centre, y, round(100 * largest), anchor="middle")


def _share_of(table: NetworkTable, row: LayerRow) -> tuple[float, float]:
    """Of the network's multiply-adds and parameters."""
    return (
        row.multiply_adds / max(1, table.multiply_adds),
        row.parameters / max(1, table.parameters),
    )


def _name(row: LayerRow, *, x: float, y: float) -> Markup:
    return Markup(
        '<text transform="translate({:.1f} {:.1f}) rotate(-60)" text-anchor="end">{}</text>'
    ).format(x + 4, y, _end_of(row.name))


def _end_of(name: str) -> str:
    """At most 28 characters; a longer name loses its beginning."""
    return name if len(name) <= LONGEST_NAME else "…" + name[1 - LONGEST_NAME :]


def _hover(row: LayerRow) -> str:
    """All numbers of a layer in a few lines."""
    assert row.receptive_field is not None
    named = zip(row.receptive_field, ("frames", "height", "width"), strict=True)
    field = ", ".join(f"{'?' if size is None else size} {axis}" for size, axis in named)
    return "\n".join(
        [
            f"{row.name} ({row.kind})",
            f"output {' x '.join(map(str, row.output_size))}",
            f"sees {field}",
            f"{row.parameters:,} parameters, {row.multiply_adds:,} multiply-adds",
        ]
    )
