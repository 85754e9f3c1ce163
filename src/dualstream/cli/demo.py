"""`dualstream demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dualstream.cli.options import Json
from dualstream.cli.output import Progress, percent, print_json, stdout

SEES = ("single frames: the look", "optical flow: the motion", "both")


def demo(
    out: Annotated[Path, typer.Option(help="Folder for videos, flow, runs and the page.")] = Path(
        "dualstream-demo"
    ),
    seed: Annotated[int, typer.Option(help="Of data and training.", min=0)] = 0,
    workers: Annotated[int, typer.Option(help="Processes side by side.", min=1)] = 2,
    json: Json = False,
) -> None:
    """Render a data set, train both streams on it and show that two beat one, in minutes."""
    from dualstream.engine.demo import run_demo

    with Progress(advice="Go on with the same command.") as progress:

        def listener(stage: str, done: int, total: int, loss: float | None) -> None:
            details = "" if loss is None else f"loss {loss:.3f}"
            unit = "batches" if stage.startswith("train") else "videos"
            progress.update(stage, done, total, unit=unit, details=details)

        result = run_demo(out, seed=seed, workers=workers, listener=listener)
    rows = {"spatial": result.spatial, "temporal": result.temporal, "fused": result.fused}
    if json:
        accuracies = {name: accuracy.as_dict() for name, accuracy in rows.items()}
        print_json({**accuracies, "page": result.page, "seconds": result.seconds})
        return
    from rich.table import Column, Table

    heads = (Column(head, justify="right") for head in ("top-1 %", "mean class %"))
    title = "16 classes = 4 looks x 4 motions, test videos"
    table = Table("stream", "sees", *heads, title=title, title_justify="left")
    for (name, accuracy), sees in zip(rows.items(), SEES, strict=True):
        table.add_row(name, sees, percent(accuracy.top_1), percent(accuracy.mean_class))
    stdout().print(table)
    print(f"page: {result.page}   ({result.seconds:.0f} s)")
