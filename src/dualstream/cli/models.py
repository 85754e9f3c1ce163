"""`dualstream models`."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import typer

from dualstream.cli.options import Json
from dualstream.cli.output import print_json, stdout


def models(
    name: Annotated[str | None, typer.Argument(help="Show the options of this network.")] = None,
    json: Json = False,
) -> None:
    """List the networks, or the options of one of them."""
    from dualstream.models import list_models

    described = [_describe(model) for model in ([name] if name else list_models())]
    if json:
        print_json({"models": described})
        return
    from rich.markup import escape
    from rich.table import Table

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
