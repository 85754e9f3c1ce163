"""Tables of what was found in a video."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dualstream.cli.output import percent, stdout

if TYPE_CHECKING:
    from rich.table import Table

    from dualstream.scores.timeline import Segment
    from dualstream.types import Prediction

MOST_ROWS = 24
"""Windows, or segments, that are printed of one video."""


def print_prediction(prediction: Prediction, segments: Sequence[Segment], *, top: int) -> None:
    """Print the ranking of a video, its windows or, where there are many, its segments."""
    from rich.table import Column, Table

    print(prediction.source)
    streams = prediction.streams if len(prediction.streams) > 1 else {}
    heads = ["fused", *(Path(name).name for name in streams)] if streams else ["%"]
    ranking = Table("class", *(Column(head, justify="right") for head in heads))
    for name, probability in prediction.top(top):
        place = prediction.classes.index(name)
        shares = (probability, *(float(values[place]) for values in streams.values()))
        ranking.add_row(name, *map(percent, shares))
    stdout().print(ranking)
    windows = len(prediction.window_seconds)
    if 1 < windows <= MOST_ROWS:
        best = prediction.window_probabilities.argmax(axis=1).tolist()
        rows = [
            (*seconds, prediction.classes[label], float(shares[label]))
            for seconds, shares, label in zip(
                prediction.window_seconds.tolist(),
                prediction.window_probabilities,
                best,
                strict=True,
            )
        ]
        stdout().print(_stretches_table("timeline", rows))
    elif windows > 1 and segments:
        rows = [(s.start_seconds, s.end_seconds, s.label, s.confidence) for s in segments]
        stdout().print(_stretches_table("segments", rows[:MOST_ROWS]))
        if len(rows) > MOST_ROWS:
            print(f"... and {len(rows) - MOST_ROWS} more: write all with --timeline FILE")
    if len(segments) > 1:
        stdout().print(_totals_table(segments))


def _stretches_table(title: str, rows: Sequence[tuple[float, float, str, float]]) -> Table:
    """Stretches of time: start, end, class, probability."""
    from rich.table import Column, Table

    seconds, share = (Column(head, justify="right") for head in ("seconds", "%"))
    table = Table(seconds, "class", share, title=title, title_justify="left")
    for start, end, label, probability in rows:
        table.add_row(f"{start:.1f}-{end:.1f}", label, percent(probability))
    return table


def _totals_table(segments: Sequence[Segment]) -> Table:
    """How often and how long each class is there, as people who score behaviour count it."""
    from rich.table import Column, Table

    from dualstream.scores.timeline import totals

    heads = ("times", "seconds", "first", "longest")
    table = Table(
        "class",
        *(Column(head, justify="right") for head in heads),
        title="totals",
        title_justify="left",
    )
    for label, found in totals(segments).items():
        seconds = (found.seconds, found.first_seconds, found.longest_seconds)
        table.add_row(label, str(found.count), *(f"{value:.1f}" for value in seconds))
    return table
