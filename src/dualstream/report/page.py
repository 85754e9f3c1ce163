"""Report: one HTML file that needs nothing else, neither a server nor a network."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict, Unpack

from markupsafe import Markup

from dualstream.errors import InputError
from dualstream.files import write_text
from dualstream.report.figures import animation, confusion_svg, package_text, rendered
from dualstream.report.samples import SampleFigure
from dualstream.report.tables import agreement_rows, class_rows, compare, fusion_gain, headline
from dualstream.scores import confusion_matrix, most_confused_pairs
from dualstream.types import Scores

MOST_PAIRS = 8
MOST_ROWS_AT_ONCE = 30
"""A longer table of classes scrolls within the page."""


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
        stream_colours={**colours, comparable.fused_name: "fused"},
        facts=dict(content.get("facts", {})),
    )
