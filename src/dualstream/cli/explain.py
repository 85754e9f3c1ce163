"""`dualstream explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dualstream.cli.networks import choose_networks
from dualstream.cli.options import Device, Json, Runs, Weights
from dualstream.cli.output import print_json, stderr


def explain(
    video: Annotated[str, typer.Argument(help="Video file.")],
    checkpoint: Runs = None,
    weights: Weights = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            help="Layer to look at (`dualstream inspect`), for instance backbone.Mixed_7c; several "
            "times for several maps.  [default: the last with a map]"
        ),
    ] = None,
    label: Annotated[
        str | None, typer.Option("--class", help="Class to look for.  [default: the one found]")
    ] = None,
    cross: Annotated[
        bool,
        typer.Option("--cross", help="Lay over each stream where the other one looked."),
    ] = False,
    segments: Annotated[int, typer.Option(help="Snippets a window.", min=1)] = 3,
    window: Annotated[float, typer.Option(help="Seconds of a window.")] = 10.0,
    out: Annotated[Path, typer.Option(help="Picture to write, .png or .jpg.")] = Path(
        "explanation.png"
    ),
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Draw where each stream looked (Grad-CAM), over the frames and the flow that it saw."""
    # Errors of the call come before torch and weights are loaded, which takes seconds.
    networks = choose_networks(checkpoint, weights)
    from dualstream.engine.infer.explain import explain as engine
    from dualstream.report.attention import write_attention_strip

    models = networks.load(device=device)
    with stderr().status(f"looking at {video}"):
        windows = engine(
            video,
            models,
            layers=layer or (),
            label=label,
            segments=segments,
            window_seconds=window,
        )
    rows = [row for one in windows for row in one.looks(cross=cross)]
    picture = write_attention_strip(out, rows)
    if json:
        explained = [
            {
                "start": one.start_seconds,
                "end": one.end_seconds,
                "class": one.label,
                "streams": {stream: list(maps) for stream, maps in one.maps.items()},
            }
            for one in windows
        ]
        print_json({"source": video, "picture": picture, "windows": explained})
        return
    for one in windows:
        print(f"{one.start_seconds:.1f}-{one.end_seconds:.1f} s: {one.label}")
    print(picture)
