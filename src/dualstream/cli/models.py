"""`dualstream models`, and `dualstream weights`: list, fetch, verify, path."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Annotated, Any

import typer

from dualstream.cli.options import Json
from dualstream.cli.output import print_json, stderr, stdout
from dualstream.errors import InputError, WeightsError

weights = typer.Typer(
    help="Pretrained weights: what there is, what is in the cache.", rich_markup_mode=None
)

Name = Annotated[str, typer.Argument(help="Name of the weights.")]


def models(
    name: Annotated[str | None, typer.Argument(help="Show the options of this network.")] = None,
    json: Json = False,
) -> None:
    """List the networks, or the options of one of them."""
    from rich.markup import escape
    from rich.table import Table

    from dualstream.models import list_models

    described = [_describe(model) for model in ([name] if name else list_models())]
    if json:
        print_json({"models": described})
        return
    if name is None:
        table = Table("name", "network", "pretrained weights")
        for model in described:
            table.add_row(model["name"], model["summary"], ", ".join(model["weights"]))
    else:
        table = Table("option", "default", "value", title=described[0]["summary"])
        for option in described[0]["options"]:
            default = "must be given" if option["required"] else str(option["default"])
            table.add_row(option["name"], default, escape(option["type"]))
    stdout().print(table)


def _describe(name: str) -> dict[str, Any]:
    """Name, first line of the docstring, options and weights of a network."""
    from dualstream.models import WEIGHTS
    from dualstream.models.create import choices, model_function, network_options, type_name

    fields = network_options(name).model_fields
    return {
        "name": name,
        "summary": (inspect.getdoc(model_function(name)) or "").partition("\n")[0],
        "options": [
            {
                "name": option,
                "default": None if field.is_required() else field.default,
                "required": field.is_required(),
                "choices": list(choices(field.annotation)) or None,
                "type": type_name(field.annotation),
            }
            for option, field in fields.items()
        ],
        "weights": [entry.name for entry in WEIGHTS.values() if entry.model == name],
    }


@weights.callback(invoke_without_command=True)
def _default(context: typer.Context, json: Json = False) -> None:
    """Pretrained weights: what there is, what is in the cache."""
    if context.invoked_subcommand is None:
        list_(json)
    elif json:
        verb = context.invoked_subcommand
        raise InputError(f"Give --json after {verb}: dualstream weights {verb} --json")


@weights.command(name="list")
def list_(json: Json = False) -> None:
    """List the weights, their source, licence and published accuracy."""
    from dualstream.models import WEIGHTS
    from dualstream.models.weights import cached_path

    if json:
        described = [
            {**dataclasses.asdict(entry), "in_cache": cached_path(name).is_file()}
            for name, entry in WEIGHTS.items()
        ]
        print_json({"weights": described})
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
    from dualstream.models import fetch as fetch_weights

    with stderr().status(f"fetching {name}"):
        path = fetch_weights(name)
    if json:
        print_json({"name": name, "path": path})
    else:
        print(path)


@weights.command()
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names of weights.  [default: all in the cache]")
    ] = None,
    json: Json = False,
) -> None:
    """Check weights in the cache against their checksums; downloads nothing."""
    from dualstream.models.weights import cached_names, has_checksum, weights_entry
    from dualstream.models.weights import verify as verify_weights

    cached = cached_names()
    texts = {
        "intact": "intact, ",
        "without_checksum": "no checksum is known; names and shapes fit, ",
        "damaged": "damaged. ",
        "missing": "missing. ",
    }
    found: dict[str, dict[str, str]] = {status: {} for status in texts}
    for name in [weights_entry(name).name for name in names or cached]:
        try:
            path = str(verify_weights(name))
        except WeightsError as error:
            found["damaged" if name in cached else "missing"][name] = str(error)
        else:
            found["intact" if has_checksum(name) else "without_checksum"][name] = path
    if json:
        print_json(found)
    else:
        lines = [
            f"{name}: {texts[status]}{detail}"
            for status, details in found.items()
            for name, detail in details.items()
        ]
        for line in lines or ["The cache holds no weights."]:
            stdout().print(line, soft_wrap=True, markup=False)
    if found["damaged"] or found["missing"]:
        raise typer.Exit(1)


@weights.command()
def path(name: Name, json: Json = False) -> None:
    """Print where weights lie, or will lie once fetched."""
    from dualstream.models.weights import cached_path

    where = cached_path(name)
    if json:
        print_json({"name": name, "path": where, "in_cache": where.is_file()})
    else:
        print(where)
