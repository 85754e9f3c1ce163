"""`dualstream train`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dualstream.cli.options import (
    BackwardFlow,
    FlowStore,
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


def train(
    data: OptionalData = None,
    overrides: Overrides = None,
    recipe: OptionalRecipe = None,
    out: RunFolder = None,
    flow: FlowStore = None,
    backward_flow: BackwardFlow = None,
    limit: Limit = None,
    resume: Resume = None,
    json: Json = False,
) -> None:
    """Train one stream by a recipe, or go on with a run that was stopped."""
    from functools import partial

    from dualstream.cli.progress import Progress, show_training
    from dualstream.errors import InputError

    if resume is not None:
        if data or recipe or out or overrides or flow or backward_flow or limit:
            raise InputError("--resume takes its recipe and data from the run; give nothing else.")
        from dualstream.engine.train import fit as engine

        with Progress(advice=f"Go on with: dualstream train --resume {resume}") as progress:
            listener = partial(show_training, progress, "train")
            result = engine.resume(resume, listener=listener)
    else:
        if data is None or recipe is None or out is None:
            raise InputError(
                "Give the data folder, --recipe and --out, for instance: "
                "dualstream train work/jhmdb --recipe tsn_rgb --out runs/rgb"
            )
        from dualstream.engine.recipe import load_recipe

        resolved = load_recipe(recipe, overrides or ())  # before torch, which loads for seconds
        from dualstream.engine.train import fit as engine

        with Progress(advice=f"Go on with: dualstream train --resume {out}") as progress:
            result = engine.train(
                resolved,
                data,
                out,
                flow=flow,
                backward_flow=backward_flow,
                limit=limit,
                listener=partial(show_training, progress, "train"),
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
        f"loss {result.train_loss:.3f}, training top-1 {percent(result.train_top1)}%",
        soft_wrap=True,
    )
    if result.held_out_top1 is not None:
        console.print(f"held-out top-1 {percent(result.held_out_top1)}%")
    console.print(f"Next: dualstream test {result.run}", soft_wrap=True)
