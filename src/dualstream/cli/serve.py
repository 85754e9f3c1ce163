"""`dualstream serve`."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dualstream.cli.networks import choose_networks
from dualstream.cli.options import (
    Crops,
    Device,
    ExportedModel,
    FittedFusion,
    Optimize,
    Runs,
    Segments,
    StreamWeights,
    Weights,
)
from dualstream.cli.output import print_line
from dualstream.errors import InputError, MissingDependencyError
from dualstream.files import cache_folder

if TYPE_CHECKING:
    from dualstream.engine.infer.predictor import PredictorOptions

NEEDED = ("fastapi", "prometheus_client", "python_multipart", "uvicorn")
"""Modules of the extra `serve`."""


def serve(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(help="Run folders or hf://OWNER/NAME, one for each stream."),
    ] = None,
    checkpoint: Runs = None,
    weights: Weights = None,
    model: ExportedModel = None,
    stream_weights: StreamWeights = None,
    fusion: FittedFusion = None,
    window: Annotated[
        float, typer.Option(help="Seconds of a window, where a request does not say.")
    ] = 2.0,
    step: Annotated[
        float | None,
        typer.Option(
            help="Seconds from a window's start to the next one's.  [default: side by side]"
        ),
    ] = None,
    segments: Segments = None,
    crops: Crops = "center",
    host: Annotated[
        str, typer.Option(help="Address to listen at; others than this machine need --token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at; 0 takes a free one.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(envvar="DUALSTREAM_TOKEN", help="What requests must bring as a bearer token."),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(help="Folder of videos that requests may name by path.  [default: none]"),
    ] = None,
    allow_urls: Annotated[
        bool, typer.Option("--allow-urls", help="Fetch videos from http(s) addresses too.")
    ] = False,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(help="Further name by which browsers call this machine; several times."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of the jobs.  [default: serve in the cache folder]"),
    ] = None,
    max_upload_mb: Annotated[float, typer.Option(help="Size of a video, MB.")] = 1000.0,
    max_seconds: Annotated[float, typer.Option(help="Length of a video.")] = 3600.0,
    max_side: Annotated[int, typer.Option(help="Longer side of its pictures, pixels.")] = 4096,
    max_running: Annotated[int, typer.Option(help="Videos worked on at once.")] = 2,
    max_queue: Annotated[int, typer.Option(help="Videos that may wait.")] = 32,
    answer_seconds: Annotated[
        float, typer.Option(help="Length up to which a video is answered in the same call.")
    ] = 15.0,
    keep_minutes: Annotated[
        float, typer.Option(help="How long videos and answers are kept after the work.")
    ] = 60.0,
    device: Device = "cpu",
    optimize: Optimize = False,
) -> None:
    """Serve networks as a web page and by HTTP: upload a video, see when what happens in it."""
    # Errors of the call come before torch is loaded, which takes seconds.
    chosen = choose_networks(
        [*(runs or []), *(checkpoint or [])],
        weights,
        model=model,
        stream_weights=stream_weights,
        fusion=fusion,
    )
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise MissingDependencyError(
            f"The service needs {', '.join(missing)}: pip install 'dualstream[serve]'."
        )
    if chosen.exported and device != "cpu":
        raise InputError("An exported file runs on the CPU: leave out --device.")
    from dualstream.serve.server import serve as listen
    from dualstream.serve.settings import Limits, NetworkSettings, Settings

    options: PredictorOptions = {
        "fusion": chosen.fusion,
        "window_seconds": window,
        "step_seconds": step,
        "segments": segments,
        "crops": crops,
        "optimize": optimize,
    }
    settings = Settings(
        networks=NetworkSettings(
            runs=tuple(chosen.runs),
            weights=tuple(entry.name for entry in chosen.entries),
            exported=model,
            device=device,
            options=options,
        ),
        folder=data or cache_folder() / "serve",
        limits=Limits(
            upload_bytes=int(max_upload_mb * 1e6),
            video_seconds=max_seconds,
            side_px=max_side,
            concurrency=max_running,
            queue=max_queue,
            answer_seconds=answer_seconds,
            keep_seconds=keep_minutes * 60,
        ),
        host=host,
        port=port,
        token=token,
        root=root,
        allows_urls=allow_urls,
        allowed_hosts=tuple(allowed_host or ()),
    )
    listen(settings, on_ready=lambda url: print_line(f"dualstream is served at {url}"))
