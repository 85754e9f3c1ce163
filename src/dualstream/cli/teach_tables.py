"""Tables of a project of one's own actions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dualstream.cli.output import percent, stdout

if TYPE_CHECKING:
    from dualstream.engine.teach.model import Suggestion, VideoTimeline
    from dualstream.engine.teach.project import Project
    from dualstream.engine.teach.report import TeachReport

MOST_ROWS = 40
"""Segments that are printed of one video."""

MOST_COLUMNS = 8
"""Classes of a table of what is taken for what."""


def print_report(report: TeachReport, folder: Path) -> None:
    """Print how well each class is told, and what to do next."""
    from rich.table import Column, Table

    table = Table(
        "action",
        *(
            Column(head, justify="right")
            for head in ("marks", "windows", "precision", "recall", "F1")
        ),
    )
    for name, found in report.per_class.items():
        shares = (found.precision, found.recall, found.f1)
        table.add_row(
            name,
            str(found.examples),
            str(found.windows),
            *("-" if share is None else percent(share) for share in shares),
        )
    stdout().print(table)
    if report.accuracy is not None and report.chance is not None:
        over = {"videos": "videos that were not learnt from", "intervals": "marks left out"}
        print(
            f"{percent(report.accuracy)}% of the windows of "
            f"{over.get(report.measured_over, '')} are right "
            f"(always saying the most frequent: {percent(report.chance)}%)."
        )
    if report.interval_accuracy is not None:
        print(f"{percent(report.interval_accuracy)}% of the marks are told by their windows.")
    if report.confusion is not None and 1 < len(report.classes) <= MOST_COLUMNS:
        _print_confusion(report)
    for note in report.notes:
        stdout().print(f"Note: {note}", soft_wrap=True, markup=False)
    print(f"Next: dualstream teach review {folder}, or dualstream teach timeline {folder}")


def _print_confusion(report: TeachReport) -> None:
    from rich.table import Column, Table

    assert report.confusion is not None
    if not any(map(any, report.confusion)):
        return
    heads = (Column(name, justify="right") for name in report.classes)
    table = Table("is \\ taken for", *heads)
    for name, row in zip(report.classes, report.confusion, strict=True):
        table.add_row(name, *map(str, row))
    stdout().print(table)


def print_timelines(timelines: Sequence[VideoTimeline]) -> None:
    """Print the segments of videos."""
    from rich.table import Column, Table

    for timeline in timelines:
        print(timeline.video)
        if not timeline.segments:
            print("None of the actions was found.")
            continue
        heads = (Column(head, justify="right") for head in ("start", "end"))
        table = Table(*heads, "action", Column("%", justify="right"))
        for segment in timeline.segments[:MOST_ROWS]:
            times = (f"{s:.1f}" for s in (segment.start_seconds, segment.end_seconds))
            table.add_row(*times, segment.label, percent(segment.confidence))
        stdout().print(table)
        if (rest := len(timeline.segments) - MOST_ROWS) > 0:
            print(f"... and {rest} more: write all with --out FILE")


def print_suggestions(found: Sequence[Suggestion], folder: Path) -> None:
    """Print windows to mark next, and how."""
    from rich.table import Column, Table

    if not found:
        print("Every window is marked or in a video that is marked completely.")
        return
    heads = (Column(head, justify="right") for head in ("start", "end"))
    table = Table("video", *heads, "seems", "or", Column("certainty %", justify="right"))
    for one in found:
        times = (f"{s:.1f}" for s in (one.start_seconds, one.end_seconds))
        table.add_row(one.video, *times, one.label, one.runner_up, percent(one.certainty))
    stdout().print(table)
    first = found[0]
    stdout().print(
        f"Look at them and mark what they are: dualstream teach mark {folder} {first.video} "
        f"{first.start_seconds:g} {first.end_seconds:g} LABEL",
        soft_wrap=True,
        markup=False,
    )


def print_project(project: Project, report: TeachReport | None, *, is_stale: bool) -> None:
    """Print videos with their marks, and how the last training did."""
    from rich.table import Column, Table

    table = Table("video", *(Column(head, justify="right") for head in ("seconds", "marks")), "")
    for video in project.videos:
        table.add_row(
            video.name,
            f"{video.duration_seconds:.1f}",
            str(len(project.marks_of(video.name))),
            "marked completely" if video.is_reviewed else "",
        )
    stdout().print(table)
    for mark in project.marks:
        print(f"{mark.video} {mark.start_seconds:g} {mark.end_seconds:g} {mark.label}")
    if report is None:
        print(f"Not trained yet: dualstream teach train {project.folder}")
    elif report.accuracy is not None:
        changed = " Marks have changed since: train again." if is_stale else ""
        print(f"Last training: {percent(report.accuracy)}% of held-out windows right.{changed}")
