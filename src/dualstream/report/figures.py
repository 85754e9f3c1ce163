"""Pictures of a report: SVG that follows the page's colours, and animated WebP of videos.

SVG is drawn here rather than by a plotting library, so that it takes its colours from the page
(light or dark), shows names and counts on hover, and adds nothing to the page's size.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from dualstream.errors import ShapeError

CHARACTER_WIDTH = 0.6
"""Mean width of a character, in font sizes, of the widest of the page's fonts (DejaVu Sans)."""
GAP_PX = 4
"""Between a video and its flow in one picture."""
LONGEST_LABEL = 26


@dataclass(frozen=True)
class MatrixStyle:
    """Sizes of a confusion matrix in pixels."""

    cell: int
    font: float
    counts: bool
    """Whether the number of videos is written into each cell."""


def matrix_style(num_classes: int) -> MatrixStyle:
    """Return sizes that keep every class name readable: larger cells for fewer classes."""
    if num_classes <= 12:
        return MatrixStyle(cell=40, font=13, counts=True)
    if num_classes <= 26:
        return MatrixStyle(cell=30, font=12, counts=True)
    if num_classes <= 60:
        return MatrixStyle(cell=15, font=11, counts=False)
    return MatrixStyle(cell=9, font=9, counts=False)


def confusion_svg(matrix: NDArray[np.int64], classes: Sequence[str]) -> Markup:
    """Draw a confusion matrix: row the true class, column the predicted one.

    Cells are shaded by their share of the row; those without a video are not drawn, which keeps
    101 classes small. Each drawn cell says on
    hover which class was taken for which how often.

    Args:
        matrix: (K, K) counts, row the true class.
        classes: K names.

    Raises:
        ShapeError: the matrix is not (K, K).
    """
    k = len(classes)
    if matrix.shape != (k, k) or k == 0:
        raise ShapeError(f"A confusion matrix of {k} classes is ({k}, {k}), got {matrix.shape}.")
    style = matrix_style(k)
    labels = [shortened(name) for name in classes]
    margin = round(max(len(label) for label in labels) * style.font * CHARACTER_WIDTH) + 10
    side = k * style.cell
    top = margin + 18
    parts = [
        Markup(
            '<svg class="matrix" role="img" aria-label="Confusion matrix" width="{w}" height="{h}" '
            'viewBox="0 0 {w} {h}" font-size="{f}">'
        ).format(w=margin + side + 2, h=top + side + 2, f=style.font),
        Markup(
            '<text class="axis" x="{}" y="12" text-anchor="middle">predicted class</text>'
        ).format(margin + side / 2),
        Markup('<text class="axis" x="{}" y="{}" text-anchor="end">true class</text>').format(
            margin - 6, top - 8
        ),
        Markup('<rect class="ground" x="{}" y="{}" width="{s}" height="{s}"/>').format(
            margin, top, s=side
        ),
    ]
    for i, label in enumerate(labels):
        middle = (i + 0.5) * style.cell
        parts.append(
            Markup('<text x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(
                margin - 6, top + middle + style.font * 0.35, label
            )
        )
        parts.append(
            Markup('<text transform="translate({:.1f} {}) rotate(-90)">{}</text>').format(
                margin + middle + style.font * 0.35, top - 5, label
            )
        )
    parts += _matrix_cells(matrix, classes, style=style, left=margin, top=top)
    parts += _matrix_grid(k, style=style, left=margin, top=top)
    return Markup("").join([*parts, Markup("</svg>")])


def _matrix_cells(
    matrix: NDArray[np.int64], classes: Sequence[str], *, style: MatrixStyle, left: int, top: int
) -> list[Markup]:
    totals = matrix.sum(axis=1)
    cells = []
    for row, column in np.argwhere(matrix > 0):
        count, total = int(matrix[row, column]), int(totals[row])
        x, y = left + column * style.cell, top + row * style.cell
        share = count / total
        cells.append(
            Markup(
                '<g class="{}"><title>{} taken for {}: {} of {}</title><rect x="{}" y="{}" '
                'width="{s}" height="{s}" fill-opacity="{o:.2f}"/>'
            ).format(
                "hit" if row == column else "miss",
                classes[row],
                classes[column],
                count,
                total,
                x,
                y,
                s=style.cell,
                o=0.12 + 0.88 * share,
            )
        )
        if style.counts:
            cells.append(
                Markup(
                    '<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text>'
                ).format(
                    "on" if share > 0.5 else "off",
                    x + style.cell / 2,
                    y + style.cell / 2 + style.font * 0.35,
                    count,
                )
            )
        cells.append(Markup("</g>"))
    return cells


def _matrix_grid(k: int, *, style: MatrixStyle, left: int, top: int) -> list[Markup]:
    """Draw thin lines: between all classes where cells are large, else every five."""
    step = 1 if style.counts else 5
    side = k * style.cell
    path = "".join(
        f"M{left + i * style.cell} {top}v{side}M{left} {top + i * style.cell}h{side}"
        for i in [*range(0, k, step), k]
    )
    return [Markup('<path class="grid" d="{}"/>').format(path)]


def shortened(text: str) -> str:
    """Cut a text to 26 characters, the last one of a longer text being an ellipsis."""
    return text if len(text) <= LONGEST_LABEL else text[: LONGEST_LABEL - 1] + "…"


def evenly(total: int, count: int) -> list[int]:
    """Return `count` places from 0 to total - 1 at equal spacing, both ends among them.

    evenly(9, 3) is [0, 4, 8]; evenly(2, 4) is [0, 0, 1, 1].
    """
    if count == 1:
        return [0]
    return [(2 * i * (total - 1) + count - 1) // (2 * (count - 1)) for i in range(count)]


def animation(
    frames: NDArray[np.uint8],
    flow_rgb: NDArray[np.uint8] | None = None,
    *,
    fps: float = 12.5,
    height_px: int = 144,
    most_frames: int = 24,
    quality: int = 60,
) -> tuple[str, str, int, int]:
    """Draw a video as an animated picture, with its flow to the right where there is one.

    Frames and flow share one picture so that they stay in step.

    Args:
        frames: (T, H, W, 3) RGB.
        flow_rgb: (T', H', W', 3), brought to the time and size of the frames.
        fps: frames shown a second of the whole video; thinned out to `most_frames` it plays
            just as long.
        height_px: height of the picture; never enlarged.
        most_frames: of a longer video as many frames at equal spacing.
        quality: of WebP, 0 to 100.

    Returns:
        (moving picture, still picture of its middle, width, height): data URIs, pixels.
    """
    from PIL import Image

    total, height, width = frames.shape[:3]
    count = min(total, most_frames)
    height_px = min(height_px, height)
    size = (max(1, round(width * height_px / height)), height_px)
    sides = [frames] if flow_rgb is None else [frames, flow_rgb]
    pictures = []
    for i in range(count):
        canvas = Image.new(
            "RGB", (size[0] * len(sides) + GAP_PX * (len(sides) - 1), size[1]), "gray"
        )
        for place, side in enumerate(sides):
            picture = Image.fromarray(side[evenly(len(side), count)[i]])
            canvas.paste(
                picture.resize(size, Image.Resampling.LANCZOS), (place * (size[0] + GAP_PX), 0)
            )
        pictures.append(canvas)
    moving, still = io.BytesIO(), io.BytesIO()
    pictures[0].save(
        moving,
        format="WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=max(20, round(1000 * total / (fps * count))),
        loop=0,
        quality=quality,
        method=4,
    )
    pictures[count // 2].save(still, format="WEBP", quality=quality, method=4)
    return _data_uri(moving), _data_uri(still), pictures[0].width, pictures[0].height


def _data_uri(content: io.BytesIO) -> str:
    return "data:image/webp;base64," + base64.b64encode(content.getvalue()).decode("ascii")
