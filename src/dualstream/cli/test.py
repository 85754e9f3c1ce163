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
    """Score the test videos with a trained stream and print its accuracy."""
    from dataclasses import replace

    from dualstream.cli.output import percent, print_json, stderr, stdout
    from dualstream.cli.progress import Progress
    from dualstream.engine.checkpoint import load_checkpoint, save_metrics, with_test_views
    from dualstream.engine.evaluate import collect, evaluate
    from dualstream.scores import measure, write_scores

    checkpoint = with_test_views(load_checkpoint(run), segments=segments, crops=crops)
    if optimize:
        model = checkpoint.model.to(device).optimized()
        checkpoint = replace(checkpoint, model=model)
    count, results = evaluate(
        checkpoint,
        part=part,
        manifest_folder=data,
        flow_store=flow,
        backward_store=backward_flow,
        workers=workers,
        device=device,
    )
    done = []
    with Progress() as progress:
        for result in results:
            done.append(result)
            progress.update(part, len(done), count, unit="videos")
    failures = [result for result in done if result.error is not None]
    scores = collect(done, checkpoint.classes)
    path = out or run / ("scores.npz" if part == "test" else f"scores_{part}.npz")
    write_scores(path, scores)
    accuracy = measure(scores)
    metrics = {
        "videos": accuracy.num_videos,
        "failed": len(failures),
        "top1": accuracy.top_1,
        "top5": accuracy.top_5,
        "mean_class": accuracy.mean_class,
        "segments": checkpoint.recipe.test.segments,
        "crops": checkpoint.recipe.test.crops,
    }
    save_metrics(run, {part: metrics})
    for failure in failures:
        stderr().print(f"{failure.name}: {failure.error}", style="red", markup=False)
    if json:
        print_json({**metrics, "scores": path})
    else:
        top_5 = "" if accuracy.top_5 is None else f"top-5 {percent(accuracy.top_5)}%  "
        stdout().print(
            f"{part}: {len(scores)} videos  top-1 {percent(accuracy.top_1)}%  {top_5}"
            f"mean class {percent(accuracy.mean_class)}%  -> {path}",
            soft_wrap=True,
        )
    if failures:
        raise typer.Exit(1)
