"""`dualstream train`, `transfer` and `test`: they write, resume and measure run folders."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dualstream.cli.fuse import as_dict as fused_as_dict
from dualstream.cli.fuse import show as show_fused
from dualstream.cli.options import (
    DATA_HELP,
    RECIPE_HELP,
    Also,
    Device,
    FlowStore,
    Json,
    Limit,
    Optimize,
    Overrides,
    flow_folders,
)
from dualstream.cli.output import Progress, percent, print_json, show_training, stderr
from dualstream.errors import InputError

if TYPE_CHECKING:
    from dualstream.engine.pair import PairListener, PairResult
    from dualstream.engine.train.fit import TrainResult
    from dualstream.engine.train.opening import RunOptions, Verb
    from dualstream.engine.train.trajectories import TrajectoryResult


MEASURES = {
    "top1": "top-1",
    "top5": "top-5",
    "mean_class": "mean class",
    "map": "mean average precision",
    "hit1": "hit@1",
}
"""Names of accuracies in JSON -> as they are printed."""

OptionalData = Annotated[Path | None, typer.Argument(help=DATA_HELP)]
OptionalRecipe = Annotated[str | None, typer.Option(help=RECIPE_HELP)]
RunFolder = Annotated[Path | None, typer.Option(help="Run folder to create.")]
Resume = Annotated[
    Path | None, typer.Option(help="Run folder to go on with; takes no other argument.")
]
BackwardFlow = Annotated[
    list[str] | None,
    typer.Option(
        help="Store of backward flow, for bi-directional stacking: FOLDER or STREAM=FOLDER.  "
        "[default: that of the flow with `_backward` after its name, or the run's]"
    ),
]


def train(
    data: OptionalData = None,
    overrides: Overrides = None,
    recipe: OptionalRecipe = None,
    out: RunFolder = None,
    also: Also = None,
    flow: FlowStore = None,
    backward_flow: BackwardFlow = None,
    limit: Limit = None,
    resume: Resume = None,
    json: Json = False,
) -> None:
    """Train by a recipe, or go on with a run that was stopped.

    A recipe of several streams trains them one after the other, scores them, fits their fusion and
    writes the page; the same command goes on with it.
    """
    options: RunOptions = {
        "flow": flow_folders(flow, "--flow"),
        "backward_flow": flow_folders(backward_flow, "--backward-flow"),
        "limit": limit,
        "also": also or (),
    }
    if resume is not None:
        _check_alone(data, overrides, recipe, out, also, flow, backward_flow, limit)
        from dualstream.engine.pair_recipe import PAIR_FILE

        if (resume / PAIR_FILE).is_file():
            from dualstream.engine.pair import resume_pair

            with _showing("train", resume) as tell:
                trained = resume_pair(resume, listener=tell)
            _print_pair(trained, resume, json=json)
            return
        from dualstream.engine.trajectory_recipe import is_trajectory_run

        if is_trajectory_run(resume):
            from dualstream.engine.train.trajectories import resume_trajectories

            with _showing("train", resume) as tell:
                found = resume_trajectories(resume, listener=partial(tell, "train"))
            _print_trajectories(found, json=json)
            return
        from dualstream.engine.train import fit

        with _showing("train", resume) as tell:
            result = fit.resume(resume, listener=partial(tell, "train"))
    elif data is None or recipe is None or out is None:
        raise InputError(
            "Give the data folder, --recipe and --out, for instance: "
            "dualstream train work/jhmdb --recipe tsn_rgb --out runs/rgb"
        )
    else:
        # Recipes before torch, which loads for seconds.
        from dualstream.engine.pair_recipe import holds_streams, load_pair
        from dualstream.engine.recipe import load_recipe
        from dualstream.engine.trajectory_recipe import holds_trajectories, load_trajectory_recipe

        if holds_trajectories(recipe):
            if any((also, flow, backward_flow, limit)):
                raise InputError(
                    "A recipe of trajectories computes its own flow, of one data set: leave out "
                    "--also, --flow, --backward-flow and --limit."
                )
            chosen = load_trajectory_recipe(recipe, overrides or ())
            from dualstream.engine.train.trajectories import train_trajectories

            with _showing("train", out) as tell:
                found = train_trajectories(chosen, data, out, listener=partial(tell, "train"))
            _print_trajectories(found, json=json)
            return
        if holds_streams(recipe):
            pair = load_pair(recipe, overrides or ())
            from dualstream.engine.pair import train_pair

            with _showing("train", out) as tell:
                trained = train_pair(pair, data, out, listener=tell, **options)
            _print_pair(trained, out, json=json)
            return
        resolved = load_recipe(recipe, overrides or ())
        from dualstream.engine.train import fit

        with _showing("train", out) as tell:
            result = fit.train(resolved, data, out, listener=partial(tell, "train"), **options)
    is_start = result.measure not in ("top-1", "hit@1")  # it knows no classes yet
    _print_result(
        result,
        f"loss {{loss:.3f}}, training {result.measure} {{top1}}%",
        held_out=f"held-out {result.measure}",
        then=_train_from(result) if is_start else f"dualstream test {result.run}",
        json=json,
    )


def transfer(
    data: OptionalData = None,
    overrides: Overrides = None,
    recipe: OptionalRecipe = None,
    teacher: Annotated[
        str | None,
        typer.Option(help="Weights or run folder of a 2D network on RGB frames, such as a tsn."),
    ] = None,
    out: RunFolder = None,
    limit: Limit = None,
    resume: Resume = None,
    json: Json = False,
) -> None:
    """Let a 2D network teach a 3D one without labels, as a start for training."""
    if resume is not None:
        _check_alone(data, overrides, recipe, teacher, out, limit)
        from dualstream.engine.train import transfer as engine

        with _showing("transfer", resume) as tell:
            result = engine.resume_transfer(resume, listener=partial(tell, "transfer"))
    elif data is None or recipe is None or teacher is None or out is None:
        raise InputError(
            "Give the data folder, --recipe, --teacher and --out, for instance: dualstream "
            "transfer work/jhmdb --recipe t3d_transfer_rgb "
            "--teacher efficientnet_lite0_imagenet --out runs/t3d_start"
        )
    else:
        from dualstream.engine.recipe import load_recipe

        resolved = load_recipe(recipe, overrides or ())  # before torch, which loads for seconds
        from dualstream.engine.train import transfer as engine

        with _showing("transfer", out) as tell:
            listener = partial(tell, "transfer")
            result = engine.transfer(
                resolved, data, out, teacher=teacher, limit=limit, listener=listener
            )
    _print_result(
        result,
        "loss {loss:.3f}, {top1}% of the pairs judged rightly (chance 50%)",
        held_out="held-out pairs",
        then=_train_from(result),
        json=json,
    )


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
        Path | None,
        typer.Option(
            help="Manifest folder; of a run on several data sets it chooses the head.  "
            "[default: the run's]"
        ),
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
            flow=flow_folders(flow, "--flow"),
            backward_flow=flow_folders(backward_flow, "--backward-flow"),
            out=out,
            workers=workers,
            device=device,
            optimize=optimize,
            listener=lambda done, total: progress.update(part, done, total, unit="videos"),
        )
    _print_failures(result.failures)
    if json:
        print_json({**result.metrics, "scores": result.path})
    else:
        shares = (
            f"{MEASURES[k]} {percent(v)}%"
            for k, v in result.accuracy.as_dict().items()
            if v is not None
        )
        print(f"{part}: {len(result.scores)} videos  {'  '.join(shares)}  -> {result.path}")
    if result.failures:
        raise typer.Exit(1)


def _check_alone(*arguments: object) -> None:
    """Refuse other arguments beside --resume."""
    if any(arguments):
        raise InputError("--resume takes its recipe and data from the run; give nothing else.")


@contextmanager
def _showing(verb: Verb, run: Path) -> Iterator[PairListener]:
    """Show the progress of a run on stderr, and how to go on when it is interrupted."""
    with Progress(advice=f"Go on with: dualstream {verb} --resume {run}") as progress:
        yield partial(show_training, progress)


def _train_from(result: TrainResult) -> str:
    return f"dualstream train DATA --recipe ... --out ... model.weights={result.run}"


def _print_result(
    result: TrainResult, reached: str, *, held_out: str, then: str, json: bool
) -> None:
    """Print what a training reached, by a format of `loss` and `top1`, and the next command."""
    if json:
        print_json(dataclasses.asdict(result))
        return
    done = reached.format(loss=result.train_loss, top1=percent(result.train_top1))
    print(f"{result.run}: {result.epochs} epochs in {result.seconds:.0f} s, {done}")
    if result.held_out_top1 is not None:
        print(f"{held_out} {percent(result.held_out_top1)}%")
    for name, tops in result.heads.items():
        shown = (f"{top.removesuffix('_top1')} {percent(value)}%" for top, value in tops.items())
        print(f"head {name}: top-1 {', '.join(shown)}")
    print(f"Next: {then}")


def _print_trajectories(result: TrajectoryResult, *, json: bool) -> None:
    """Print what a training of trajectories reached, and the next command."""
    if json:
        print_json(dataclasses.asdict(result))
        return
    without = f", {result.without} without trajectories left out" if result.without else ""
    print(f"{result.run}: SVM of {result.videos} videos{without}, in {result.seconds:.0f} s")
    for name in ("cross_validated_top1", "held_out_top1"):
        if (top1 := getattr(result, name)) is not None:
            print(f"{name[:-5].replace('_', '-')} top-1 {percent(top1)}%")
    print(f"Next: dualstream test {result.run}")


def _print_pair(result: PairResult, run: Path, *, json: bool) -> None:
    """Print what the streams of a pair and their fusion reached, and the next command."""
    _print_failures(result.failures)
    names = list(result.fused.streams)
    if json:
        runs = {name: run / name for name in names}
        print_json(
            {
                "run": run,
                "streams": runs,
                **fused_as_dict(result.fused),
                "files": dict(result.fused.files),
                "failed": dict(result.failures),
                "seconds": result.seconds,
            }
        )
    else:
        show_fused(result.fused)
        print(f"page: {run / 'report.html'}   ({result.seconds:.0f} s)")
        print(f"Next: dualstream predict VIDEO --checkpoint {run}")
    if result.failures:
        raise typer.Exit(1)


def _print_failures(failures: Mapping[str, str]) -> None:
    for name, error in failures.items():
        stderr().print(f"{name}: {error}", style="red", markup=False)
