"""`dualstream explain`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dualstream.cli.networks import choose_networks
from dualstream.cli.options import Device, Json, Runs, Weights
from dualstream.cli.output import Progress, percent, print_json, stderr
from dualstream.cli.predict import list_files
from dualstream.errors import InputError, VideoError

if TYPE_CHECKING:
    from dualstream.engine.infer.explain_files import WindowFiles
    from dualstream.engine.infer.recognizer import Model

PICTURES = (".png", ".jpg", ".jpeg")
PICTURE_SEGMENTS = 3
"""Snippets a window of the picture alone, unless another number is asked for."""


def explain(
    videos: Annotated[list[str], typer.Argument(help="Video files, or folders of them.")],
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
        str | None,
        typer.Option("--class", "--label", help="Class to look for.  [default: the one found]"),
    ] = None,
    cross: Annotated[
        bool,
        typer.Option(
            "--cross", help="Lay over each stream where the other one looked: a picture alone."
        ),
    ] = False,
    pieces: Annotated[
        int,
        typer.Option(
            help="Pieces of a window that are taken away in turn, for its sensitivity over time; 0 "
            "leaves that out.",
            min=0,
        ),
    ] = 8,
    segments: Annotated[
        int | None,
        typer.Option(help="Snippets a window.  [default: as predict; 3 of a picture]", min=1),
    ] = None,
    window: Annotated[float, typer.Option(help="Seconds of a window.")] = 10.0,
    video: Annotated[
        bool, typer.Option("--video/--no-video", help="Write overlay videos too.")
    ] = True,
    moments: Annotated[int, typer.Option(help="Pictures in a row of a strip.", min=1)] = 6,
    quality: Annotated[
        int, typer.Option(help="Of strips as JPEG files: less makes them smaller.", min=1, max=100)
    ] = 90,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for arrays, strips, videos and page.html; or a .png or .jpg of one video: "
            "its snippets in a picture.  [default: explanation, with --cross explanation.png]"
        ),
    ] = None,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Show where and when each stream looked: Grad-CAM over time, and what it could not miss."""
    # Errors of the call come before torch and weights are loaded, which takes seconds.
    networks = choose_networks(checkpoint, weights)
    target = out or Path("explanation.png" if cross else "explanation")
    is_picture = target.suffix.lower() in PICTURES
    if cross and not is_picture:
        raise InputError(f"--cross draws one picture: give --out a .png or .jpg, got {target}.")
    files = list_files(videos)
    if is_picture and len(files) > 1:
        raise InputError(f"{target} is the picture of one video, here are {len(files)}.")
    models = networks.load(device=device)
    options = {
        "layers": layer or (),
        "label": label,
        "segments": segments or (PICTURE_SEGMENTS if is_picture else None),
        "fusion": networks.fusion,
        "window_seconds": window,
    }
    if is_picture:
        _draw(files[0], models, target, cross=cross, json=json, options=options)
    else:
        options |= {
            "pieces": pieces,
            "with_video": video,
            "moments": moments,
            "quality": quality,
        }
        _write(files, models, target, json=json, options=options)


def _draw(
    video: str,
    models: list[Model],
    target: Path,
    *,
    cross: bool,
    json: bool,
    options: dict[str, Any],
) -> None:
    """The picture alone."""
    from dualstream.engine.infer.predictor import explain as engine
    from dualstream.report.attention import write_attention_strip

    with stderr().status(f"looking at {video}"):
        windows = list(engine(video, models, pieces=0, **options))
    rows = [row for one in windows for row in one.looks(cross=cross)]
    picture = write_attention_strip(target, rows)
    if json:
        explained = [
            {
                "start": one.start_seconds,
                "end": one.end_seconds,
                "class": one.label,
                "streams": {name: list(stream.maps) for name, stream in one.streams.items()},
            }
            for one in windows
        ]
        print_json({"source": video, "picture": picture, "windows": explained})
        return
    for one in windows:
        print(f"{one.start_seconds:.1f}-{one.end_seconds:.1f} s: {one.label}")
    print(picture)


def _write(
    files: list[str], models: list[Model], folder: Path, *, json: bool, options: dict[str, Any]
) -> None:
    """Files of each video, in a folder of its own where there are several, and the page."""
    from dualstream.engine.infer.explain_files import explain_to_files, folders_of, write_page

    written: dict[str, list[WindowFiles]] = {}
    failed: dict[str, str] = {}
    with Progress() as progress:
        for done, (video, place) in enumerate(folders_of(files, folder).items(), start=1):
            if not json:
                print(video)
            try:
                for one in explain_to_files(video, models, place, **options):
                    written.setdefault(video, []).append(one)
                    if not json:
                        _print(one)
            except VideoError as error:
                failed[video] = str(error)
                stderr().print(f"{video}: {error}", style="red", markup=False)
            progress.update("explain", done, len(files), unit="videos")
    page = write_page(folder / "page.html", written) if written else None
    if json:
        videos = [
            {"source": video, "windows": [_as_dict(one) for one in windows]}
            for video, windows in written.items()
        ]
        print_json({"videos": videos, "failed": failed, "page": page})
    elif page is not None:
        print(page)
    if failed:
        raise typer.Exit(1)


def _print(one: WindowFiles) -> None:
    seconds = f"{one.start_seconds:.1f}-{one.end_seconds:.1f} s"
    print(f"  {seconds}: {one.label} {percent(one.probability)} %")
    for stream, decisive in one.decisive.items():
        if decisive is not None:
            start, end, fall = decisive
            points = f"without it {percent(fall)} points less"
            print(f"    {stream} decides at {start:.2f}-{end:.2f} s: {points}")
    for file in one.files:
        print(f"    {file.strip}")


def _as_dict(one: WindowFiles) -> dict[str, Any]:
    return {
        "start": one.start_seconds,
        "end": one.end_seconds,
        "class": one.label,
        "probability": round(one.probability, 6),
        "top": [{"class": name, "probability": round(share, 6)} for name, share in one.top],
        "decisive": {
            stream: None
            if found is None
            else dict(zip(("start", "end", "fall"), found, strict=True))
            for stream, found in one.decisive.items()
        },
        "files": [
            {
                "stream": file.stream,
                "layer": file.layer,
                "array": file.array,
                "strip": file.strip,
                "video": file.video,
            }
            for file in one.files
        ],
    }
