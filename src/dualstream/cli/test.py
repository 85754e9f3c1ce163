"""`dualstream test`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from dualstream.cli.options import (
    BackwardFlow,
    Crops,
    Device,
    FlowStore,
    Json,
    Optimize,
    Segments,
)
from dualstream.cli.output import percent, print_json, stderr
from dualstream.cli.progress import Progress


def test(
    run: Annotated[Path, typer.Argument(help="Run folder that `dualstream train` wrote.")],
    part: Annotated[
        Literal["test", "held_out", "train"],
        typer.Option(help="Videos to score; the latter two serve to fit a fusion."),
    ] = "test",
    segments: Segments = None,
    crops: Crops = None,
    data: Annotated[
        Path | None, typer.Option(help="Manifest folder.  [default: the run's]")
    ] = None,
    flow: FlowStore = None,
    backward_flow: BackwardFlow = None,
    out: Annotated[Path | None, typer.Option(help="Score file.  [default: RUN/scores.npz]")] = None,
    workers: Annotated[int, typer.Option(help="Reading processes.", min=0)] = 2,
    device: Device = "cpu",
    optimize: Optimize = False,
    json: Json = False,
) -> None:
    """Score the test videos with a trained network and print its accuracy."""
    from dualstream.engine.infer.evaluate import evaluate

    with Progress() as progress:
        result = evaluate(
            run,
            part=part,
            segments=segments,
            crops=crops,
            data=data,
            flow=flow,
            backward_flow=backward_flow,
            out=out,
            workers=workers,
            device=device,
            optimize=optimize,
            listener=lambda done, total: progress.update(part, done, total, unit="videos"),
        )
    for name, error in result.failures.items():
        stderr().print(f"{name}: {error}", style="red", markup=False)
    if json:
        print_json({**result.metrics, "scores": result.path})
    else:
        accuracy = result.accuracy
        top_5 = "" if accuracy.top_5 is None else f"top-5 {percent(accuracy.top_5)}%  "
        print(
            f"{part}: {accuracy.num_videos} videos  top-1 {percent(accuracy.top_1)}%  {top_5}"
            f"mean class {percent(accuracy.mean_class)}%  -> {result.path}"
        )
    if result.failures:
        raise typer.Exit(1)
