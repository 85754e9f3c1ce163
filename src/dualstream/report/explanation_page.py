"""One self-contained page of explanations of many videos, for a person to look through."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from dualstream.errors import InputError
from dualstream.files import write_text
from dualstream.report.page import ExplanationEntry, explanation_sections, package_text, rendered


def write_explanation_page(
    path: str | os.PathLike[str],
    entries: Sequence[ExplanationEntry],
    *,
    title: str = "Explanations",
) -> Path:
    """Write the page, which holds its pictures and asks for nothing outside itself.

    Args:
        path: of the .html file; missing folders are made, an old page is replaced.
        entries: shown in this order.
        title: heading.

    Raises:
        InputError: the path does not end in .html, or there is no entry.
        DiskError: the file cannot be written.
    """
    target = Path(path)
    if target.suffix not in (".html", ".htm"):
        raise InputError(f"{target}: this is an HTML page; give a name that ends in .html.")
    if not entries:
        raise InputError("There is no explanation to show: give at least one entry.")
    text = rendered(
        "explanation.html.j2",
        title=title,
        style=Markup(package_text("page.css")),
        count=len(entries),
        sections=explanation_sections(entries),
    )
    write_text(target, text)
    return target
