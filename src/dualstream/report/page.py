"""Report: one HTML file that needs nothing else, neither a server nor a network; its pictures.

SVG comes from a template rather than a plotting library, so that it takes its colours from the page
(light or dark), shows names and counts on hover, and adds nothing to the page's size.
"""

from __future__ import annotations

import base64
import hashlib
import io
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple, NotRequired, TypedDict, Unpack

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from dualstream.errors import InputError, check_shape
from dualstream.files import write_text
from dualstream.report.samples import SampleFigure
from dualstream.report.tables import agreement_rows, class_rows, compare, fusion_gain, headline
from dualstream.scores import confusion_matrix, most_confused_pairs
from dualstream.types import Scores

MOST_PAIRS = 8
MOST_ROWS_AT_ONCE = 30
"""A longer table of classes scrolls within the page."""
CHARACTER_WIDTH = 0.6
"""Mean width of a character, in font sizes, of the widest of the page's fonts (DejaVu Sans)."""
GAP_PX = 4
"""Between a video and its flow in one picture."""
LONGEST_LABEL = 26
HEIGHT_PX, MOST_FRAMES, WEBP_QUALITY = 144, 24, 60
"""Of the animated pictures."""


@dataclass(frozen=True)
class ExplanationEntry:
    """A window of a video, explained, as pages show it."""

    source: str
    start_seconds: float
    end_seconds: float
    label: str
    """The class that the pictures speak for."""
    probability: float
    top: Sequence[tuple[str, float]]
    """The most probable classes, best first."""
    strips: Sequence[bytes]
    """JPEG files of its streams (`explanation.jpeg`)."""


class PageContent(TypedDict):
    """Keyword arguments of `write_report` and `render_report`."""

    title: str
    """Heading of the page."""
    streams: Mapping[str, Scores]
    """Name -> scores of the same videos, every class known, in any order."""
    fused: NotRequired[Scores | None]
    """Scores of their fusion."""
    samples: NotRequired[Sequence[SampleFigure]]
    """Example videos, shown in this order."""
    explanations: NotRequired[Sequence[ExplanationEntry]]
    """Windows of videos with where and when the streams looked, shown after the examples."""
    facts: NotRequired[Mapping[str, str]]
    """Facts about the run (recipe, seed, protocol, versions), name -> text."""
    fused_name: NotRequired[str]
    """Name of the fusion's column, for instance "fused (mean)"; the default is "fused"."""


def write_report(path: str | os.PathLike[str], **content: Unpack[PageContent]) -> Path:
    """Write the results of one or more streams and their fusion as one self-contained page.

    The page asks for nothing outside itself (pictures, styles and its few lines of script are
    within; its content policy forbids all else), follows the reader's light or dark setting and
    is readable on a phone.

    Args:
        path: of the .html file; missing folders are made, an old page is replaced.
        content: see `PageContent`.

    Returns:
        The path.

    Raises:
        InputError: the path does not end in .html, or there is no stream.
        ScoresError: the scores do not fit together, or a true class is unknown.
        DiskError: the file cannot be written.
    """
    target = Path(path)
    if target.suffix not in (".html", ".htm"):
        raise InputError(f"{target}: a report is an HTML page; give a name that ends in .html.")
    write_text(target, render_report(**content))
    return target


def render_report(**content: Unpack[PageContent]) -> str:
    """Return the page of `write_report` as text; see there."""
    comparable = compare(
        content["streams"], content.get("fused"), fused_name=content.get("fused_name", "fused")
    )
    rows = headline(comparable)
    main_name, main = comparable.main
    colours = {name: f"s{i % 6}" for i, name in enumerate(comparable.names)}
    script = package_text("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return rendered(
        "page.html.j2",
        title=content["title"],
        style=Markup(package_text("page.css")),
        script=Markup(script),
        script_hash=f"sha256-{digest}",  # the page's content policy allows no other script
        comparable=comparable,
        headline=rows,
        chance=1 / len(main.classes),
        comparison=fusion_gain(comparable),
        best=rows[comparable.best_stream],
        agreement=agreement_rows(comparable),
        class_rows=class_rows(comparable),
        most_rows=MOST_ROWS_AT_ONCE,
        main_name=main_name,
        matrix=confusion_svg(confusion_matrix(main), main.classes),
        pairs=most_confused_pairs(main, MOST_PAIRS),
        examples=[
            (figure, animation(figure.frames, figure.flow_rgb, fps=figure.fps))
            for figure in content.get("samples", ())
        ],
        explanations=explanation_sections(content.get("explanations", ())),
        stream_colours={**colours, comparable.fused_name: "fused"},
        facts=dict(content.get("facts", {})),
    )


class MatrixStyle(NamedTuple):
    """Sizes in pixels of a confusion matrix of at most so many classes."""

    most_classes: float
    cell: int
    font: int
    counts: bool
    """Whether the number of videos is written into each cell."""


MATRIX_STYLES = (
    MatrixStyle(12, 40, 13, True),
    MatrixStyle(26, 30, 12, True),
    MatrixStyle(60, 15, 11, False),
    MatrixStyle(math.inf, 9, 9, False),
)


def confusion_svg(matrix: NDArray[np.int64], classes: Sequence[str]) -> Markup:
    """Draw a confusion matrix: row the true class, column the predicted one.

    Cells are shaded by their share of the row; those without a video are not drawn, which keeps
    101 classes small. Each drawn cell says on hover which class was taken for which how often.

    Args:
        matrix: (K, K) counts, row the true class.
        classes: K names.

    Raises:
        ShapeError: the matrix is not (K, K).
    """
    k = len(classes)
    check_shape(f"The confusion matrix of {k} classes", matrix, (k, k))
    style = next(style for style in MATRIX_STYLES if k <= style.most_classes)
    totals = matrix.sum(axis=1)
    longest = LONGEST_LABEL
    labels = [name if len(name) <= longest else f"{name[: longest - 1]}…" for name in classes]
    margin = round(max(len(label) for label in labels) * style.font * CHARACTER_WIDTH) + 10
    return rendered(
        "matrix.svg.j2",
        style=style,
        classes=classes,
        labels=labels,
        left=margin,
        top=margin + 18,
        side=k * style.cell,
        cells=[(i, j, int(matrix[i, j]), int(totals[i])) for i, j in np.argwhere(matrix > 0)],
        # Thin lines: between all classes where cells are large, else every five.
        lines=[*range(0, k, 1 if style.counts else 5), k],
    )


class Animation(NamedTuple):
    """A moving picture and a still one of its middle, as data URIs, and their size in pixels."""

    moving: Markup
    still: Markup
    """For readers who asked their system for less motion."""
    width: int
    height: int


def animation(
    frames: NDArray[np.uint8],
    flow_rgb: NDArray[np.uint8] | None = None,
    *,
    fps: float = 12.5,
) -> Animation:
    """Draw a video as an animated picture, with its flow to the right where there is one.

    Frames and flow share one picture so that they stay in step. It is at most 144 pixels high and
    never enlarged; of a video of more than 24 frames it shows as many at equal spacing.

    Args:
        frames: (T, H, W, 3) RGB.
        flow_rgb: (T', H', W', 3), brought to the time and size of the frames.
        fps: frames shown a second of the whole video; thinned out it plays just as long.
    """
    from PIL import Image

    from dualstream.video.times import evenly_spaced

    total, height, width = frames.shape[:3]
    count, height_px = min(total, MOST_FRAMES), min(HEIGHT_PX, height)
    size = (max(1, round(width * height_px / height)), height_px)
    sides = [frames] if flow_rgb is None else [frames, flow_rgb]
    pictures = []
    for i in range(count):
        canvas = Image.new(
            "RGB", (size[0] * len(sides) + GAP_PX * (len(sides) - 1), size[1]), "gray"
        )
        for place, side in enumerate(sides):
            picture = Image.fromarray(side[evenly_spaced(len(side), count)[i]])
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
        quality=WEBP_QUALITY,
        method=4,
    )
    pictures[count // 2].save(still, format="WEBP", quality=WEBP_QUALITY, method=4)
    return Animation(
        _data_uri(moving.getvalue(), "webp"),
        _data_uri(still.getvalue(), "webp"),
        *pictures[0].size,
    )


def explanation_sections(entries: Sequence[ExplanationEntry]) -> Markup:
    """A section for each window: its class, what was found, the strips of its streams."""
    shown = [
        {**vars(entry), "pictures": [_data_uri(strip, "jpeg") for strip in entry.strips]}
        for entry in entries
    ]
    return rendered("explanation_sections.html.j2", entries=shown)


def _data_uri(content: bytes, kind: str) -> Markup:
    encoded = base64.b64encode(content).decode("ascii")
    return Markup(f"data:image/{kind};base64,{encoded}")


def rendered(template: str, **values: object) -> Markup:
    """Fill in a template of this folder; values are escaped unless they are `Markup`.

    In it, `percent`, `points` and `p_value` format numbers.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(percent=percent, points=points, p_value=p_value_text)
    return Markup(environment.from_string(package_text(template)).render(values))


def package_text(name: str) -> str:
    """Return the text of a file of this folder."""
    return files("dualstream.report").joinpath(name).read_text(encoding="utf-8")


def percent(share: float) -> str:
    """0.8325 -> '83.2 %'; a NaN (a class without a video) -> a dash."""
    return "\u2013" if math.isnan(share) else f"{100 * share:.1f}\u202f%"


def points(difference: float) -> str:
    """A difference of shares in percentage points with its sign: 0.094 -> '+9.4', 0.0 -> '0.0'."""
    text = f"{100 * difference:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "\u2212")


def p_value_text(value: float) -> str:
    """'p < 0.001', or 'p = 0.042'."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
