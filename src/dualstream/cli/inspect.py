"""`dualstream inspect`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dualstream.cli.options import Json
from dualstream.errors import InputError, RecipeError

if TYPE_CHECKING:
    from dualstream.models.inspect import InputSize, LayerRow, NetworkTable
    from dualstream.models.network import Network

KINETICS_CLASSES = 400
"""Classes of a network that is looked at without saying."""


def inspect(
    model: Annotated[str, typer.Argument(help="A name of `dualstream models`.")],
    input_size: Annotated[
        str | None,
        typer.Option(
            "--input",
            help="Channels x frames x height x width, such as 3x16x112x112."
            "  [default: that of the network's recipe or weights]",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(help="An option of the network: key=value; may be given often."),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Options and input of these weights; nothing is downloaded."),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(help="Rows for parts of so many names (res2.0 is 2).", min=1),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="A row for every layer.")] = False,
    picture: Annotated[
        Path | None, typer.Option(help="Draw what the layers see over depth: an SVG file.")
    ] = None,
    json: Json = False,
) -> None:
    """Show a network layer by layer: output size, receptive field, parameters, multiply-adds."""
    import dataclasses

    from dualstream.cli.output import print_json, stderr
    from dualstream.models.inspect import inspect_network

    if every and depth is not None:
        raise InputError("Give --all or --depth, not both.")
    size = _parsed_size(input_size) if input_size else None
    made = _make(model, option or [], weights)
    table = inspect_network(
        made,
        input_size=size or _default_size(made, model, weights),
        depth="all" if every else depth or "auto",
    )
    if picture is not None:
        from dualstream.report.network_picture import write_network_picture

        write_network_picture(picture, table)
        stderr().print(f"picture: {picture}", soft_wrap=True)
    if json:
        print_json(dataclasses.asdict(table))
    else:
        _print(table)


def _parsed_size(text: str) -> InputSize:
    """ "3x16x112x112" -> (3, 16, 112, 112)."""
    try:
        channels, frames, height, width = (int(part) for part in text.split("x"))
    except ValueError as error:
        raise InputError(
            f"--input must look like 3x16x112x112 (channels x frames x height x width), "
            f"got {text!r}."
        ) from error
    return channels, frames, height, width


def _make(name: str, given: list[str], weights: str | None) -> Network:
    """The network without numbers: large ones take no memory and no time."""
    import torch

    from dualstream.models import create_model
    from dualstream.models.weights import weights_entry

    options: dict[str, Any] = {"num_classes": KINETICS_CLASSES}
    if weights is not None:
        entry = weights_entry(weights)
        options |= dict(entry.options)
        entry.check_fits(name, _parsed_options(given))
    options |= _parsed_options(given)
    if options.get("pretrained") is True:  # what the numbers are does not show
        options["pretrained"] = False
    with torch.device("meta"):
        return create_model(name, **options)


def _parsed_options(given: list[str]) -> dict[str, Any]:
    """["length=10", "backbone=resnet18"] -> {"length": 10, "backbone": "resnet18"}."""
    from dualstream.engine.recipe_text import read_yaml

    options = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise InputError(f"--option must look like key=value, got {text!r}.")
        if key in ("name", "weights"):
            raise InputError(f"{key} is no option of a network: give the argument, or --weights.")
        try:
            options[key] = read_yaml(value, f"The value of --option {text!r}")
        except RecipeError as error:
            raise InputError(str(error)) from error
    return options


def _default_size(
    made: Network, name: str, weights: str | None
) -> InputSize | Mapping[str, InputSize]:
    """The largest input of the shipped recipes of a network, or else of its weights."""
    from dualstream.engine.recipe import list_recipes, load_recipe
    from dualstream.models import WEIGHTS
    from dualstream.models.inspect import USUAL, usual_input_size
    from dualstream.models.weights import weights_entry

    if weights is not None:
        specs = [weights_entry(weights).spec]
    else:
        recipes = [load_recipe(recipe) for recipe in list_recipes()]
        specs = [recipe.clip_spec() for recipe in recipes if recipe.model.name == name]
        specs = specs or [entry.spec for entry in WEIGHTS.values() if entry.model == name]
    sizes = [
        (stream.num_frames, spec.crop_size, spec.crop_size)
        for spec in specs
        for stream in spec.streams.values()
        if stream.channels == next(iter(made.inputs.values())).channels
    ]
    largest = max(sizes, key=lambda size: (size[1], size[0]), default=USUAL)
    return usual_input_size(made, wanted=largest)


def _print(table: NetworkTable) -> None:
    from rich.measure import Measurement
    from rich.table import Table

    from dualstream.cli.output import stdout

    shown = Table(box=None, padding=(0, 2, 0, 0), title_justify="left")
    for heading in ("layer", "kind", "output"):
        shown.add_column(heading)
    for heading in ("receptive field", "stride", "parameters", "multiply-adds"):
        shown.add_column(heading, justify="right")
    for row in table.rows:
        shown.add_row(*_cells(row))
    shown.add_section()
    total = (f"{table.parameters:,}", metric(table.multiply_adds))
    shown.add_row("total", "", "", "", "", *total, style="bold")
    console = stdout()
    if not console.is_terminal:  # a file or a pipe has no width to keep to
        natural = console.options.update(max_width=10_000)
        console.width = max(console.width, Measurement.get(console, natural, shown).maximum)
    clips = ", ".join(f"{name} {by(size)}".strip() for name, size in table.sizes.items())
    console.print(f"{table.name} on {clips} (channels x frames x height x width)\n")
    console.print(shown)
    console.print("\nReceptive field and stride are frames x height x width of the input.")
    for note in table.notes:
        console.print(f"? {note}", soft_wrap=True)


def _cells(row: LayerRow) -> tuple[str, ...]:
    kind = row.kind if row.calls == 1 else f"{row.kind} x{row.calls}"
    field = "" if row.receptive_field is None else by(row.receptive_field, missing="?")
    stride = by(row.stride, missing="-") if any(row.stride) else ""
    parameters = f"{row.parameters:,}" if row.parameters else ""
    multiply_adds = metric(row.multiply_adds) if row.multiply_adds else ""
    return row.name, kind, by(row.output_size), field, stride, parameters, multiply_adds


def by(sizes: tuple[float | None, ...], *, missing: str = "") -> str:
    """(3, None, 112) -> "3x?x112" with "?" for what is missing."""
    return "x".join(missing if size is None else f"{size:g}" for size in sizes)


def metric(count: int) -> str:
    """40_696_553_472 -> "40.7 G", 205_200 -> "205 k", 984 -> "984"."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)
