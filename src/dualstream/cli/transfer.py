"""`dualstream transfer`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dualstream.cli.options import (
    Json,
    Limit,
    OptionalData,
    OptionalRecipe,
    Overrides,
    Resume,
    RunFolder,
)

if TYPE_CHECKING:
    from dualstream.engine.train.fit import TrainResult


def transfer(
    data: OptionalData = None,
    overrides: Overrides = None,
    recipe: OptionalRecipe = None,
    teacher: Annotated[
        str | None, typer.Option(help="Weights of a tsn, or the run folder of one, on RGB frames.")
    ] = None,
    out: RunFolder = None,
    limit: Limit = None,
    resume: Resume = None,
    json: Json = False,
) -> None:
    """Let a 2D network teach a 3D one without labels, as a start for training."""
    from functools import partial

    from dualstream.cli.progress import Progress, show_training
    from dualstream.errors import InputError

    if resume is not None:
        if data or recipe or teacher or out or overrides or limit:
            raise InputError("--resume takes its recipe and data from the run; give nothing else.")
        from dualstream.engine import transfer as engine

        with Progress(advice=f"Go on with: dualstream transfer --resume {resume}") as progress:
            listener = partial(show_training, progress, "transfer")
            result = engine.resume_transfer(resume, listener=listener)
    else:
        if data is None or recipe is None or teacher is None or out is None:
            raise InputError(
                "Give the data folder, --recipe, --teacher and --out, for instance: dualstream "
                "transfer work/jhmdb --recipe t3d_transfer_rgb "
                "--teacher efficientnet_lite0_imagenet --out runs/t3d_start"
            )
        from dualstream.engine.recipe import load_recipe

        resolved = load_recipe(recipe, overrides or ())  # before torch, which loads for seconds
        from dualstream.engine import transfer as engine

        with Progress(advice=f"Go on with: dualstream transfer --resume {out}") as progress:
            listener = partial(show_training, progress, "transfer")
            result = engine.transfer(
                resolved, data, out, teacher=teacher, limit=limit, listener=listener
            )
    _print(result, json=json)


def _print(result: TrainResult, *, json: bool) -> None:
    import dataclasses

    from dualstream.cli.output import percent, print_json, stdout

    if json:
        print_json(dataclasses.asdict(result))
        return
    console = stdout()
    console.print(
        f"{result.run}: {result.epochs} epochs in {result.seconds:.0f} s, "
        f"loss {result.train_loss:.3f}, {percent(result.train_top1)}% of the pairs judged rightly "
        "(chance 50%)",
        soft_wrap=True,
    )
    if result.held_out_top1 is not None:
        console.print(f"held-out pairs {percent(result.held_out_top1)}%")
    console.print(
        f"Next: dualstream train DATA --recipe ... --out ... model.weights={result.run}",
        soft_wrap=True,
    )
