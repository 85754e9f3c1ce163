"""`dualstream transfer`."""

from __future__ import annotations

from typing import Annotated

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
from dualstream.cli.train import check_alone, print_result, showing
from dualstream.errors import InputError


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
        check_alone(data, overrides, recipe, teacher, out, limit)
        from dualstream.engine.train import transfer as engine

        with showing("transfer", resume) as listener:
            result = engine.resume_transfer(resume, listener=listener)
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

        with showing("transfer", out) as listener:
            result = engine.transfer(
                resolved, data, out, teacher=teacher, limit=limit, listener=listener
            )
    print_result(
        result,
        "loss {loss:.3f}, {top1}% of the pairs judged rightly (chance 50%)",
        held_out="held-out pairs",
        then=f"dualstream train DATA --recipe ... --out ... model.weights={result.run}",
        json=json,
    )
