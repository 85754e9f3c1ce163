"""`dualstream weights`: list, fetch, verify, path."""

from __future__ import annotations

from typing import Annotated, Any

import typer

weights = typer.Typer(
    help="Pretrained weights: what there is, what is in the cache.", rich_markup_mode=None
)

Names = Annotated[
    list[str] | None, typer.Argument(help="Names of weights.  [default: all in the cache]")
]
Name = Annotated[str, typer.Argument(help="Name of the weights.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@weights.callback(invoke_without_command=True)
def _default(context: typer.Context) -> None:
    """Pretrained weights: what there is, what is in the cache."""
    if context.invoked_subcommand is None:
        list_()


@weights.command(name="list")
def list_(json: Json = False) -> None:
    """List the weights, their source, licence and published accuracy."""
    from dualstream.cli.output import print_json, stdout
    from dualstream.models import WEIGHTS
    from dualstream.models.weights import cached_path

    if json:
        print_json({"weights": [_describe(name) for name in WEIGHTS]})
        return
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 1, 0))
    table.add_column("name, source", overflow="fold")
    table.add_column("network, licence", no_wrap=True)
    table.add_column("millions", justify="right", no_wrap=True)
    table.add_column("top-1", justify="right", no_wrap=True)
    table.add_column("cached", no_wrap=True)
    for name, entry in WEIGHTS.items():
        table.add_row(
            f"{name}\n{entry.source.label}",
            f"{entry.model}\n{entry.licence}",
            f"{entry.parameters / 1e6:.1f}",
            f"{entry.top1_percent:.1f}",
            "yes" if cached_path(name).is_file() else "no",
        )
    stdout().print(table)
    stdout().print(
        "Millions of parameters; top-1 is as published. `dualstream weights list --json` has the "
        "protocol, the input and the checksums."
    )


@weights.command()
def fetch(name: Name, json: Json = False) -> None:
    """Download weights into the cache, checked and ready to load."""
    from dualstream.cli.output import print_json, stderr
    from dualstream.models import fetch as fetch_weights

    with stderr().status(f"fetching {name}"):
        path = fetch_weights(name)
    if json:
        print_json({"name": name, "path": path})
    else:
        print(path)


@weights.command()
def verify(names: Names = None, json: Json = False) -> None:
    """Check weights in the cache against their checksums; downloads nothing."""
    from dualstream.cli.output import print_json, stdout
    from dualstream.models.weights import cached_path, has_checksum, list_weights
    from dualstream.models.weights import verify as verify_weights

    wanted = names or [name for name in list_weights() if cached_path(name).is_file()]
    paths = {name: str(verify_weights(name)) for name in wanted}
    intact = {name: path for name, path in paths.items() if has_checksum(name)}
    unknown = {name: path for name, path in paths.items() if name not in intact}
    if json:
        print_json({"intact": intact, "without_checksum": unknown})
        return
    console = stdout()
    for name, path in intact.items():
        console.print(f"{name}: intact, {path}", soft_wrap=True)
    for name, path in unknown.items():
        console.print(f"{name}: no checksum is known; names and shapes fit, {path}", soft_wrap=True)
    if not paths:
        console.print("The cache holds no weights.")


@weights.command()
def path(name: Name, json: Json = False) -> None:
    """Print where weights lie, or will lie once fetched."""
    from dualstream.cli.output import print_json
    from dualstream.models.weights import cached_path

    where = cached_path(name)
    if json:
        print_json({"name": name, "path": where, "in_cache": where.is_file()})
    else:
        print(where)


def _describe(name: str) -> dict[str, Any]:
    """All that is known about weights, and whether they are in the cache."""
    import dataclasses

    from dualstream.models import WEIGHTS
    from dualstream.models.weights import cached_path

    return {**dataclasses.asdict(WEIGHTS[name]), "in_cache": cached_path(name).is_file()}
