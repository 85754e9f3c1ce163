"""`dualstream models`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dualstream.cli.options import Json


def models(
    name: Annotated[str | None, typer.Argument(help="Show the options of this network.")] = None,
    json: Json = False,
) -> None:
    """List the networks, or the options of one of them."""
    from dualstream.cli.output import print_json, stdout
    from dualstream.models import list_models

    described = [_describe(model) for model in ([name] if name else list_models())]
    if json:
        print_json({"models": described})
        return
    from rich.table import Table

    if name is None:
        table = Table("name", "network", "pretrained weights")
        for model in described:
            table.add_row(model["name"], model["summary"], ", ".join(model["weights"]))
    else:
        table = Table("option", "default", "value", title=described[0]["summary"])
        for option in described[0]["options"]:
            default = "must be given" if option["required"] else str(option["default"])
            kind = " | ".join(option["choices"]) if option["choices"] else option["type"]
            table.add_row(option["name"], default, kind)
    stdout().print(table)


def _describe(name: str) -> dict[str, Any]:
    """Name, first line of the docstring, options and weights of a network."""
    import inspect
    import typing

    from dualstream.models import WEIGHTS, model_function

    function = model_function(name)
    hints = typing.get_type_hints(function)
    parameters = inspect.signature(function).parameters.values()
    return {
        "name": name,
        "summary": (inspect.getdoc(function) or "").partition("\n")[0],
        "options": [
            {
                "name": parameter.name,
                "default": None if parameter.default is parameter.empty else parameter.default,
                "required": parameter.default is parameter.empty,
                "choices": list(typing.get_args(hints[parameter.name]))
                if typing.get_origin(hints[parameter.name]) is typing.Literal
                else None,
                "type": str(parameter.annotation),
            }
            for parameter in parameters
        ],
        "weights": [entry.name for entry in WEIGHTS.values() if entry.model == name],
    }
