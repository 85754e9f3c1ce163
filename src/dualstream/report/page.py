"""Report: one HTML file that needs nothing else, neither a server nor a network."""

from __future__ import annotations

import base64
import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from markupsafe import Markup

from dualstream.errors import InputError, ReportError
from dualstream.files import write_text
from dualstream.report.figures import animation, confusion_svg
from dualstream.report.samples import SampleFigure
from dualstream.report.tables import (
    Comparable,
    agreement_rows,
    class_rows,
    compare,
    fusion_gain,
    headline,
)
from dualstream.scores import confusion_matrix, most_confused_pairs
from dualstream.types import Scores

MOST_PAIRS = 8
MOST_ROWS_AT_ONCE = 30
"""A longer table of classes scrolls within the page."""


@dataclass(frozen=True)
class Example:
    """One sample as the template shows it."""

    figure: SampleFigure
    moving: Markup
    """Data URI of the animated picture."""
    still: Markup
    """Data URI of one frame, for readers who asked their system for less motion."""
    width: int
    height: int


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    streams: Mapping[str, Scores],
    fused: Scores | None = None,
    samples: Sequence[SampleFigure] = (),
    facts: Mapping[str, str] | None = None,
    fused_name: str = "fused",
) -> Path:
    """Write the results of one or more streams and their fusion as one self-contained page.

    The page asks for nothing outside itself (pictures, styles and its few lines of script are
    within; its content policy forbids all else), follows the reader's light or dark setting and
    is readable on a phone.

    Args:
        path: of the .html file; missing folders are made, an old page is replaced.
        title: heading of the page.
        streams: name -> scores of the same videos, every class known, in any order.
        fused: scores of their fusion.
        samples: example videos, shown in this order.
        facts: what was done and how (recipe, seed, protocol, versions), name -> text.
        fused_name: name of the fusion's column, for instance "fused (mean)".

    Returns:
        The path.

    Raises:
        InputError: the path does not end in .html, or there is no stream.
        ScoresError: the scores do not fit together, or a true class is unknown.
        ReportError: the file cannot be written.
    """
    target = Path(path)
    if target.suffix not in (".html", ".htm"):
        raise InputError(f"{target}: a report is an HTML page; give a name that ends in .html.")
    text = render_report(
        title=title,
        streams=streams,
        fused=fused,
        samples=samples,
        facts=facts,
        fused_name=fused_name,
    )
    try:
        write_text(target, text)
    except OSError as error:
        raise ReportError(f"{target}: cannot be written ({error.strerror}).") from error
    return target


def render_report(
    *,
    title: str,
    streams: Mapping[str, Scores],
    fused: Scores | None = None,
    samples: Sequence[SampleFigure] = (),
    facts: Mapping[str, str] | None = None,
    fused_name: str = "fused",
) -> str:
    """Return the page of `write_report` as text; see there."""
    from jinja2 import Environment, StrictUndefined

    comparable = compare(streams, fused, fused_name=fused_name)
    rows = headline(comparable)
    main_name, main = comparable.main
    script = _package_text("page.js")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(percent=percent, points=points, p_value=p_value_text)
    return environment.from_string(_package_text("page.html.j2")).render(
        title=title,
        style=Markup(_package_text("page.css")),
        script=Markup(script),
        script_hash=_content_hash(script),
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
        examples=[_example(figure) for figure in samples],
        stream_colours=_colours(comparable),
        facts=dict(facts or {}),
    )


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


def _colours(comparable: Comparable) -> dict[str, str]:
    """Column name -> CSS class of its colour."""
    colours = {name: f"s{i % 6}" for i, name in enumerate(comparable.names)}
    return {**colours, comparable.fused_name: "fused"}


def _example(figure: SampleFigure) -> Example:
    moving, still, width, height = animation(figure.frames, figure.flow_rgb, fps=figure.fps)
    return Example(figure, Markup(moving), Markup(still), width, height)


def _package_text(name: str) -> str:
    return files("dualstream.report").joinpath(name).read_text(encoding="utf-8")


def _content_hash(script: str) -> str:
    """Return the hash by which the page's content policy allows this script and no other."""
    digest = hashlib.sha256(script.encode()).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")
