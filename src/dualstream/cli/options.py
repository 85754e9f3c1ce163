"""Arguments and options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from dualstream.errors import InputError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
DATA_HELP = "Folder that `dualstream prepare` wrote."
RECIPE_HELP = "Name of a shipped recipe, or a YAML file."
Overrides = Annotated[
    list[str] | None, typer.Argument(help="Changes of the recipe: section.key=value ...")
]
Limit = Annotated[int | None, typer.Option(help="Batches an epoch is cut to, for trials.", min=1)]
FlowStore = Annotated[
    list[str] | None,
    typer.Option(
        help="Flow store: FOLDER, or STREAM=FOLDER once for each stream that reads flow.  "
        "[default: beside the manifest, named like the stream or `flow`; or the run's]"
    ),
]
Also = Annotated[
    list[str] | None,
    typer.Option(
        help="Folder of a further data set, which gets a head of its own: FOLDER or NAME=FOLDER; "
        "once for each."
    ),
]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")]
Optimize = Annotated[
    bool,
    typer.Option(
        "--optimize", help="Compile the network first where that is faster: for many videos."
    ),
]

Runs = Annotated[
    list[Path] | None,
    typer.Option(
        help="Run folder or hf://OWNER/NAME, once for each stream; or that of a recipe of several."
    ),
]
Weights = Annotated[
    list[str] | None,
    typer.Option(help="Published weights (`dualstream weights`); once for each stream."),
]
ExportedModel = Annotated[
    Path | None,
    typer.Option(
        help="File of `dualstream export`, instead of runs and weights; .onnx needs no torch."
    ),
]
StreamWeights = Annotated[
    str | None,
    typer.Option(
        help="Numbers such as 1,1.5 for a weighted mean of the streams, checkpoints first.  "
        "[default: equal]"
    ),
]
FittedFusion = Annotated[
    Path | None,
    typer.Option(
        help="Fitted fusion.json of `dualstream fuse`.  [default: that of a run of several streams]"
    ),
]
Segments = Annotated[
    int | None,
    typer.Option(help="Snippets a window.  [default: 8, or as many as lie side by side]", min=1),
]
Crops = Annotated[Literal["center", "three", "ten"], typer.Option(help="Views of a snippet.")]
Enter = Annotated[
    float | None, typer.Option(help="Probability at which a segment starts.  [default: 0.5]")
]
Leave = Annotated[
    float | None, typer.Option(help="Probability below which it ends.  [default: 0.3]")
]


def flow_folders(given: list[str] | None, option: str) -> Path | dict[str, Path] | None:
    """Return the folder of all streams, or stream -> folder, that an option names.

    Raises:
        InputError: several folders, and not a stream before each; names the option.
    """
    if not given:
        return None
    if len(given) == 1 and ("=" not in given[0] or Path(given[0]).exists()):
        return Path(given[0])
    pairs = [one.partition("=") for one in given]
    streams = [stream for stream, _, _ in pairs]
    if not all(stream and folder for stream, _, folder in pairs) or len(set(streams)) < len(pairs):
        raise InputError(
            f"{option} is one FOLDER, or STREAM=FOLDER once for each; got {', '.join(given)}."
        )
    return {stream: Path(folder) for stream, _, folder in pairs}


def numbers(text: str, option: str) -> tuple[float, ...]:
    """Read the value of an option such as "1,1.5".

    Raises:
        InputError: it is anything else; names the option.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        message = f"{option} must be numbers with commas (1,1.5), got {text!r}."
        raise InputError(message) from None
