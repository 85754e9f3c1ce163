"""Draw the figures of the network pages: boxes and arrows, with the shapes that networks have.

    python docs/figures/draw.py

writes an SVG file for each figure of `figures.py` beside it. A box that names a layer has that
layer's shape; `tests/test_docs_figures.py` asks the networks whether it is so.
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.sax.saxutils import escape

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))

from boxes import Arrow, Box, Figure  # noqa: E402
from figures import FIGURES  # noqa: E402

WIDTH, PITCH_X, PITCH_Y, MARGIN = 138, 158, 92, 16
LINE = 15
"""Height of a line of text; all lengths are in pixels."""

COLOURS = {
    "input": ("#e8f0fe", "#3b6fb6"),
    "layer": ("#f3f4f6", "#6b7280"),
    "join": ("#fdf1dc", "#b7791f"),
    "motion": ("#e6f5ea", "#2f855a"),
    "output": ("#f5e8f5", "#8a4f8a"),
}
"""Kind of a box -> fill and edge, both on a white card: the same on a light and a dark page."""


def lines_of(box: Box) -> list[str]:
    return [*box.text.split("\n"), *([box.shape] if box.shape else [])]


def height_of(box: Box) -> int:
    return 14 + LINE * len(lines_of(box))


def corner(box: Box) -> tuple[float, float]:
    """Left and top of a box; rows are centred on their middle."""
    left = MARGIN + box.column * PITCH_X
    middle = MARGIN + 40 + box.row * PITCH_Y
    return left, middle - height_of(box) / 2


def drawn_box(box: Box) -> str:
    left, top = corner(box)
    fill, edge = COLOURS[box.kind]
    parts = [
        (
            f'<rect x="{left:g}" y="{top:g}" width="{WIDTH}" height="{height_of(box)}" rx="6" '
            f'fill="{fill}" stroke="{edge}"/>'
        )
    ]
    for number, line in enumerate(lines_of(box)):
        is_shape = bool(box.shape) and number == len(lines_of(box)) - 1
        style = 'class="s"' if is_shape else 'class="t"'
        y = top + 7 + LINE * (number + 0.75)
        parts.append(f'<text x="{left + WIDTH / 2:g}" y="{y:g}" {style}>{escape(line)}</text>')
    return "".join(parts)


def drawn_arrow(arrow: Arrow, boxes: dict[str, Box]) -> str:
    """From the right edge to the left one, or up and down in a column."""
    start, end = boxes[arrow.start], boxes[arrow.end]
    (x1, y1), (x2, y2) = corner(start), corner(end)
    h1, h2 = height_of(start), height_of(end)
    if start.column == end.column:
        x = x1 + WIDTH / 2
        path = f"M{x:g} {y1 + h1:g}V{y2 - 2:g}" if y2 > y1 else f"M{x:g} {y1:g}V{y2 + h2 + 2:g}"
        label = (x + 6, (y1 + y2 + h2) / 2 + 4)
        anchor = "start"
    else:
        is_forward = end.column > start.column
        left, right = (x1 + WIDTH, x2 - 2) if is_forward else (x1, x2 + WIDTH + 2)
        from_y, to_y = y1 + h1 / 2, y2 + h2 / 2
        # Arrows between rows turn just in front of their end, so that they cross no box; those
        # that lead back end lower than where the forward ones begin, each on a line of its own.
        turn = right - 12
        if not is_forward:
            to_y += 16
            turn = right + (6 if abs(end.row - start.row) < 1.5 else 12)
        path = (
            f"M{left:g} {from_y:g}H{right:g}"
            if from_y == to_y
            else (f"M{left:g} {from_y:g}H{turn:g}V{to_y:g}H{right:g}")
        )
        label = ((left + right) / 2, from_y - 5)
        anchor = "middle"
    style = ' stroke-dasharray="4 3"' if arrow.dashed else ""
    drawn = f'<path d="{path}" class="a"{style} marker-end="url(#h)"/>'
    if arrow.label:
        drawn += (
            f'<text x="{label[0]:g}" y="{label[1]:g}" class="l" text-anchor="{anchor}">'
            f"{escape(arrow.label)}</text>"
        )
    return drawn


def svg(figure: Figure) -> str:
    """Return the figure as one SVG file that needs nothing else."""
    boxes = {box.name: box for box in figure.boxes}
    width = MARGIN * 2 + WIDTH + PITCH_X * max(box.column for box in figure.boxes)
    height = max(corner(box)[1] + height_of(box) for box in figure.boxes) + MARGIN
    notes = []
    for number, line in enumerate(figure.note.split("\n") if figure.note else []):
        height += LINE
        y = height - MARGIN / 2
        notes.append(f'<text x="{MARGIN}" y="{y:g}" class="n">{escape(line)}</text>')
        height += 3 * (number == 0)
    return "\n".join(
        [
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
                f'width="{width:g}" height="{height:g}" role="img" '
                f'aria-label="{escape(figure.title)}">'
            ),
            f"<title>{escape(figure.title)}</title>",
            (
                "<style>text{font-family:system-ui,sans-serif}.t,.s{text-anchor:middle}"
                ".t{font-size:12px;fill:#111827}.s{font-size:11px;fill:#374151;font-weight:600}"
                ".l{font-size:10.5px;fill:#374151}.n{font-size:11px;fill:#374151;text-anchor:start}"
                ".a{fill:none;stroke:#374151;stroke-width:1.3}</style>"
            ),
            (
                '<defs><marker id="h" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="7" '
                'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#374151"/></marker>'
                "</defs>"
            ),
            f'<rect width="{width:g}" height="{height:g}" rx="8" fill="#ffffff"/>',
            *(drawn_arrow(arrow, boxes) for arrow in figure.arrows),
            *(drawn_box(box) for box in figure.boxes),
            *notes,
            "</svg>\n",
        ]
    )


def main() -> None:
    for figure in FIGURES:
        path = FOLDER / f"{figure.name}.svg"
        path.write_text(svg(figure), encoding="utf-8", newline="\n")
    print(f"{len(FIGURES)} figures in {FOLDER}")


if __name__ == "__main__":
    main()
