"""`dualstream fuse`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dualstream.cli.options import Json, numbers
from dualstream.cli.output import HEADS, percent, print_json, stdout

if TYPE_CHECKING:
    from dualstream.engine.infer.fuse_runs import FusedRuns


def fuse(
    streams: Annotated[
        list[Path],
        typer.Argument(
            help="One a stream: a run folder (its scores.npz), or a score file of this package, "
            "MMAction2 (.pkl) or TSN (.npz)."
        ),
    ],
    method: Annotated[
        Literal["mean", "weighted", "max", "product", "svm", "logistic"] | None,
        typer.Option(
            help="How to join them; weighted, svm and logistic learn from --fit.  [default: "
            "weighted, or the mean where there is nothing to learn from]"
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Weights of the streams for --method weighted, such as 1,1.5."),
    ] = None,
    fit: Annotated[
        list[Path] | None,
        typer.Option(
            help="Scores of held-out training videos (or a run folder: its scores_held_out.npz); "
            "once for each stream, in the same order.  [default: those of the run folders]"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for scores.npz and fusion.json, or an .npz to write both by."),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="HTML page to write.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Manifest folder: the page shows example videos of it.")
    ] = None,
    explain: Annotated[
        int,
        typer.Option(
            help="Example videos of which the page shows where and when each stream looked "
            "(`dualstream explain`); needs --data and run folders.",
            min=0,
        ),
    ] = 0,
    all_methods: Annotated[
        bool, typer.Option("--all", help="Print every method that is possible side by side.")
    ] = False,
    json: Json = False,
) -> None:
    """Join the scores of several streams and print what each and all together get right."""
    from dualstream.engine.infer.fuse_runs import fuse_runs

    result = fuse_runs(
        streams,
        method=method,
        weights=None if weights is None else numbers(weights, "--weights"),
        fit=fit,
        out=out,
        report=report,
        data=data,
        all_methods=all_methods,
        explain=explain,
    )
    if json:
        print_json({**as_dict(result), "files": dict(result.files)})
        return
    if result.advice:
        print(result.advice, file=sys.stderr)
    if result.accuracy:
        show(result)
    else:
        print("The class of some videos is unknown (-1): no accuracy to print.", file=sys.stderr)
    for what, path in result.files.items():
        print(f"{what}: {path}")


def as_dict(result: FusedRuns) -> dict[str, Any]:
    """Return what --json says of a fusion, besides its files."""
    return {
        "method": result.fusion.method,
        "weights": list(result.fusion.weights) or None,
        "temperatures": list(result.fusion.temperatures) or None,
        "advice": result.advice or None,
        "videos": len(result.fused),
        "accuracy": {name: row.as_dict() for name, row in result.accuracy.items()},
    }


def show(result: FusedRuns) -> None:
    """Print the accuracy of the streams and their fusion as a table."""
    from rich.table import Column, Table

    rows = {name: row.as_dict() for name, row in result.accuracy.items()}
    told = [key for key in HEADS if all(row.get(key) is not None for row in rows.values())]
    table = Table(
        Column("stream", overflow="fold"),
        *(Column(HEADS[key], justify="right") for key in told),
        title=f"{len(result.fused)} videos, fusion: {result.fusion}",
        title_justify="left",
    )
    for name, row in rows.items():
        table.add_row(name, *(percent(row[key] or 0.0) for key in told))
    stdout().print(table)
