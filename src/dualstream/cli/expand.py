"""`dualstream expand`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dualstream.cli.options import (
    DATA_HELP,
    RECIPE_HELP,
    FlowStore,
    Json,
    Limit,
    Overrides,
)

if TYPE_CHECKING:
    from dualstream.engine.recipe import Recipe
    from dualstream.engine.train.expansion import Expansion
    from dualstream.models.x3d_expansion import Factors


def expand(
    data: Annotated[Path, typer.Argument(help=DATA_HELP)],
    overrides: Overrides = None,
    *,
    recipe: Annotated[
        str,
        typer.Option(help=f"{RECIPE_HELP} Its network must be x3d."),
    ],
    target: Annotated[float, typer.Option(help="Cost to reach, in 1e9 multiply-adds a clip.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the search; a stopped one goes on.")
    ] = None,
    step_factor: Annotated[float, typer.Option(help="Growth of the cost in one step.")] = 2.0,
    flow: FlowStore = None,
    limit: Limit = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the first candidates and their cost only.")
    ] = False,
    json: Json = False,
) -> None:
    """Grow an X3D on a data set: expand, train the candidates, keep the best, again."""
    from dualstream.cli.progress import Progress, show_training
    from dualstream.engine.recipe import load_recipe
    from dualstream.engine.train.expansion import ExpansionProgress, search
    from dualstream.errors import InputError

    resolved = load_recipe(recipe, overrides or ())
    if dry_run:
        _list(resolved, data, target=1e9 * target, step_factor=step_factor, json=json)
        return
    if out is None:
        raise InputError(
            "Give --out, the folder of the search (or --dry-run), for instance: "
            f"dualstream expand {data} --recipe {recipe} --target {target:g} --out runs/x3d"
        )
    with Progress(advice="Go on with the same command.") as progress:

        def show(trial: ExpansionProgress) -> None:
            stage = f"step {trial.step}, {trial.axis} ({trial.trial} of {trial.trials})"
            show_training(progress, stage, trial.training)

        result = search(
            resolved,
            data,
            out,
            target=1e9 * target,
            step_factor=step_factor,
            flow_store=flow,
            limit=limit,
            listener=show,
        )
    _print(result, data, json=json)


def _list(recipe: Recipe, data: Path, *, target: float, step_factor: float, json: bool) -> None:
    """Print the candidates of the first step; which of them later steps start from is unknown."""
    import dataclasses

    from rich.table import Table

    from dualstream.cli.output import print_json, stdout
    from dualstream.clips.data.manifest import Manifest
    from dualstream.engine.train.expansion import next_candidates, start_factors
    from dualstream.models.x3d_expansion import multiply_adds

    start, num_classes = start_factors(recipe), len(Manifest.read(data).classes)
    cost = multiply_adds(start, num_classes=num_classes, in_channels=recipe.input.spec().channels)
    candidates = next_candidates(
        recipe, start, num_classes=num_classes, target=target, step_factor=step_factor
    )
    if json:
        print_json(
            {
                "start": {"factors": dataclasses.asdict(start), "multiply_adds": cost},
                "candidates": [dataclasses.asdict(candidate) for candidate in candidates],
            }
        )
        return
    table = Table("axis", *_COLUMNS)
    table.add_row("(start)", *_cells(start, cost))
    for candidate in candidates:
        table.add_row(candidate.axis, *_cells(candidate.factors, candidate.multiply_adds))
    stdout().print(table)


_COLUMNS = ("frames", "stride", "size", "width", "bottleneck", "depth", "1e9 multiply-adds")


def _cells(factors: Factors, multiply_adds: int) -> list[str]:
    return [
        str(factors.gamma_t),
        str(factors.gamma_tau),
        str(factors.image_size),
        f"{factors.gamma_w:g}",
        f"{factors.gamma_b:g}",
        f"{factors.gamma_d:g}",
        f"{multiply_adds / 1e9:.4f}",
    ]


def _print(result: Expansion, data: Path, *, json: bool) -> None:
    import dataclasses

    from rich.table import Table

    from dualstream.cli.output import percent, print_json, stdout

    if json:
        values: dict[str, Any] = dataclasses.asdict(result)
        reached = {
            "factors": dataclasses.asdict(result.factors),
            "multiply_adds": result.multiply_adds,
        }
        print_json(values | {"reached": reached})
        return
    table = Table("step", "axis", *_COLUMNS, "held-out top-1 %", "taken")
    table.add_row("", "(start)", *_cells(result.start, result.start_multiply_adds), "", "")
    for step in result.steps:
        for trial in step.trials:
            top1 = "diverged" if trial.held_out_top1 is None else percent(trial.held_out_top1)
            taken = "yes" if trial is step.chosen else ""
            cells = _cells(trial.factors, trial.multiply_adds)
            table.add_row(str(trial.step), trial.axis, *cells, top1, taken)
    console = stdout()
    console.print(table)
    console.print(
        f"Next: dualstream train {data} --recipe {result.recipe_file} --out ...", soft_wrap=True
    )
