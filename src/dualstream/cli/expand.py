"""`dualstream expand`."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dualstream.cli.options import DATA_HELP, RECIPE_HELP, Json, Limit, Overrides
from dualstream.cli.output import Progress, percent, print_json, show_training, stdout
from dualstream.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from dualstream.engine.recipe import Recipe
    from dualstream.engine.train.expansion import Expansion
    from dualstream.models.x3d_expansion import Factors


def expand(
    data: Annotated[Path, typer.Argument(help=DATA_HELP)],
    overrides: Overrides = None,
    *,
    recipe: Annotated[str, typer.Option(help=f"{RECIPE_HELP} Its network must be x3d.")],
    target: Annotated[float, typer.Option(help="Cost to reach, in 1e9 multiply-adds a clip.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the search; a stopped one goes on.")
    ] = None,
    step_factor: Annotated[float, typer.Option(help="Growth of the cost in one step.")] = 2.0,
    flow: Annotated[
        Path | None, typer.Option(help="Flow store.  [default: `flow` beside the manifest]")
    ] = None,
    limit: Limit = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the first candidates and their cost only.")
    ] = False,
    json: Json = False,
) -> None:
    """Grow an X3D on a data set: expand, train the candidates, keep the best, again."""
    from dualstream.engine.recipe import load_recipe
    from dualstream.engine.train.expansion import search

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
        result = search(
            resolved,
            data,
            out,
            target=1e9 * target,
            step_factor=step_factor,
            flow=flow,
            limit=limit,
            listener=partial(show_training, progress),
        )
    _print(result, data, json=json)


def _list(recipe: Recipe, data: Path, *, target: float, step_factor: float, json: bool) -> None:
    """Print the candidates of the first step; which of them later steps start from is unknown."""
    from dualstream.clips.data.manifest import Manifest
    from dualstream.engine.train.expansion import cost_of, next_candidates, start_factors

    factors, num_classes = start_factors(recipe), len(Manifest.read(data).classes)
    cost = cost_of(recipe, factors, num_classes=num_classes)
    candidates = next_candidates(
        recipe, factors, num_classes=num_classes, target=target, step_factor=step_factor
    )
    if json:
        start = {"factors": asdict(factors), "multiply_adds": cost}
        print_json({"start": start, "candidates": [asdict(c) for c in candidates]})
        return
    table = _table("axis")
    table.add_row("(start)", *_cells(factors, cost))
    for candidate in candidates:
        table.add_row(candidate.axis, *_cells(candidate.factors, candidate.multiply_adds))
    stdout().print(table)


def _table(*columns: str, after: tuple[str, ...] = ()) -> Table:
    from rich.table import Table

    network = ("frames", "stride", "size", "width", "bottleneck", "depth", "1e9 multiply-adds")
    return Table(*columns, *network, *after)


def _cells(factors: Factors, multiply_adds: int) -> tuple[str, ...]:
    sizes = (factors.gamma_t, factors.gamma_tau, factors.image_size)
    parts = (factors.gamma_w, factors.gamma_b, factors.gamma_d)
    return *(f"{value:g}" for value in sizes + parts), f"{multiply_adds / 1e9:.4f}"


def _print(result: Expansion, data: Path, *, json: bool) -> None:
    if json:
        last = result.reached
        reached = {"factors": asdict(last.factors), "multiply_adds": last.multiply_adds}
        print_json({**asdict(result), "reached": reached})
        return
    table = _table("step", "axis", after=("held-out top-1 %", "taken"))
    table.add_row("", "(start)", *_cells(result.start, result.start_multiply_adds))
    for step in result.steps:
        for trial in step.trials:
            top1 = "diverged" if trial.held_out_top1 is None else percent(trial.held_out_top1)
            cells = _cells(trial.factors, trial.multiply_adds)
            taken = "yes" if trial is step.chosen else ""
            table.add_row(str(trial.step), trial.axis, *cells, top1, taken)
    console = stdout()
    console.print(table)
    console.print(
        f"Next: dualstream train {data} --recipe {result.recipe_file} --out ...", soft_wrap=True
    )
