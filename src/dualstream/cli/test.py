"""`dualstream test`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def test(
    run: Annotated[Path, typer.Argument(help="Run folder that `dualstream train` wrote.")],
    part: Annotated[
        Literal["test", "held_out", "train"],
        typer.Option(help="Videos to score; the latter two serve to fit a fusion."),
    ] = "test",
    segments: Annotated[
        int | None, typer.Option(help="Snippets a video.  [default: the recipe's]", min=1)
    ] = None,
    crops: Annotated[
        Literal["center", "three", "ten"] | None,
        typer.Option(help="Views of a snippet.  [default: the recipe's]"),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Manifest folder.  [default: the run's]")
    ] = None,
    flow: Annotated[Path | None, typer.Option(help="Flow store.  [default: the run's]")] = None,
    backward_flow: Annotated[
        Path | None, typer.Option(help="Store of backward flow.  [default: the run's]")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Score file.  [default: RUN/scores.npz]")] = None,
    workers: Annotated[int, typer.Option(help="Reading processes.", min=0)] = 2,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    optimize: Annotated[
        bool,
        typer.Option(
            "--optimize", help="Compile the network first where that is faster: for many videos."
        ),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Score the test videos with a trained stream and print its accuracy."""
    from dualstream.cli.output import percent, print_json, progress_bar, stderr, stdout
    from dualstream.engine.checkpoint import load_checkpoint, save_metrics, with_test_views
    from dualstream.engine.evaluate import collect, evaluate
    from dualstream.scores import measure, write_scores

    checkpoint = with_test_views(load_checkpoint(run), segments=segments, crops=crops)
    count, results = evaluate(
        checkpoint,
        part=part,
        manifest_folder=data,
        flow_store=flow,
        backward_store=backward_flow,
        workers=workers,
        device=device,
        optimize=optimize,
    )
    done = []
    with progress_bar("videos") as bar:
        for result in bar.track(results, total=count, description=part):
            done.append(result)
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
        stdout().print(
            f"{part}: {len(scores)} videos  top-1 {percent(accuracy.top_1)}%  "
            f"top-5 {percent(accuracy.top_5)}%  "
            f"mean class {percent(accuracy.mean_class)}%  -> {path}",
            soft_wrap=True,
        )
    if failures:
        raise typer.Exit(1)
