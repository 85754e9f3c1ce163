"""`dualstream predict`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from dualstream.cli.networks import Networks, choose_networks
from dualstream.cli.options import (
    Crops,
    Device,
    Enter,
    ExportedModel,
    FittedFusion,
    Json,
    Leave,
    Optimize,
    Runs,
    Segments,
    StreamWeights,
    Weights,
)
from dualstream.cli.output import Progress, print_json, stderr
from dualstream.cli.prediction_tables import print_prediction
from dualstream.errors import InputError, VideoError

if TYPE_CHECKING:
    from dualstream.engine.infer.predictor import PredictorOptions
    from dualstream.scores.timeline import Segment, Thresholds


def predict(
    videos: Annotated[
        list[str],
        typer.Argument(
            help="Video files, folders of them, or URLs; @LIST for those in a text file, a line "
            "each, - for those on standard input."
        ),
    ],
    checkpoint: Runs = None,
    weights: Weights = None,
    model: ExportedModel = None,
    stream_weights: StreamWeights = None,
    fusion: FittedFusion = None,
    window: Annotated[float, typer.Option(help="Seconds of a window of the timeline.")] = 10.0,
    step: Annotated[
        float | None,
        typer.Option(
            help="Seconds from a window's start to the next one's.  [default: side by side]"
        ),
    ] = None,
    cuts: Annotated[
        Literal["auto", "transnetv2", "difference", "none"],
        typer.Option(help="How cuts are found, which no window lies across."),
    ] = "auto",
    segments: Segments = None,
    crops: Crops = "center",
    top: Annotated[int, typer.Option(help="Classes to print.", min=1)] = 5,
    timeline: Annotated[
        Path | None,
        typer.Option(
            help="Write the segments of all videos to a .csv, .json or .boris (for BORIS), or to "
            "the .srt of one."
        ),
    ] = None,
    overlay: Annotated[
        Path | None,
        typer.Option(
            help="Write the video with segments, bars and flow drawn in: an .mp4, or a folder of "
            "them for several."
        ),
    ] = None,
    enter: Enter = None,
    leave: Leave = None,
    merge_seconds: Annotated[
        float | None, typer.Option(help="Join segments of a class at most so far apart.")
    ] = None,
    least_seconds: Annotated[float | None, typer.Option(help="Leave out shorter segments.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="In bulk: write a line a video to this .jsonl file (or a .parquet), and go on "
            "with it where an earlier call stopped."
        ),
    ] = None,
    features: Annotated[
        bool,
        typer.Option("--features", help="Write what the classifiers see, not classes, to --out."),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes that write to --out.  [default: 1; all cores of --ray]", min=1
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Work on a Ray cluster: auto or HOST:PORT. All nodes must see videos and runs "
            "under the same paths.",
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Only the I-th of N equal parts, for batch schedulers; -I-of-N is added to the "
            "name of --out.",
        ),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try again what failed in --out.")
    ] = False,
    device: Device = "cpu",
    optimize: Optimize = False,
    json: Json = False,
) -> None:
    """Rank the classes of videos with one trained stream or several, flow computed on the way."""
    from dualstream.report.overlay_files import overlay_files
    from dualstream.report.timeline_files import check_timeline_file
    from dualstream.scores.timeline import check_thresholds

    # Errors of the call come before torch and weights are loaded, which takes seconds.
    networks = choose_networks(
        checkpoint, weights, model=model, stream_weights=stream_weights, fusion=fusion
    )
    for name, seconds in {"--window": window, "--step": step}.items():
        if seconds is not None and not seconds > 0:
            raise InputError(f"{name} must be above 0 seconds, got {seconds:g}.")
    files = list_files(videos)
    if timeline is not None:
        check_timeline_file(timeline, num_videos=len(files))
    given = {
        "enter": enter,
        "leave": leave,
        "merge_seconds": merge_seconds,
        "least_seconds": least_seconds,
    }
    overlays = {} if overlay is None else overlay_files(overlay, files)
    thresholds = cast("Thresholds", {k: v for k, v in given.items() if v is not None})
    check_thresholds(**thresholds)
    options: PredictorOptions = {
        "fusion": networks.fusion,
        "window_seconds": window,
        "step_seconds": step,
        "cuts": cuts,
        "segments": segments,
        "crops": crops,
        "optimize": optimize,
    }
    in_bulk = {
        "--features": features,
        "--workers": workers,
        "--ray": ray,
        "--shard": shard,
        "--retry-failed": retry_failed,
    }
    one_by_one = {"--timeline": timeline, "--overlay": overlay, "--model": model}
    if out is None:
        _refuse(in_bulk, "give --out FILE too, for work in bulk.")
        _one_by_one(
            files,
            networks,
            options,
            thresholds,
            timeline=timeline,
            overlays=overlays,
            top=top,
            device=device,
            json=json,
        )
        return
    _refuse(one_by_one, "leave out for work in bulk (--out).")
    from dualstream.cli.bulk import predict_in_bulk
    from dualstream.engine.infer.bulk import BulkSettings
    from dualstream.jobs import Shard

    settings = BulkSettings(
        runs=tuple(networks.runs),
        weights=tuple(entry.name for entry in networks.entries),
        device=device,
        content="features" if features else "predictions",
        top=top,
        options=options,
        thresholds=thresholds,
    )
    predict_in_bulk(
        files,
        out,
        settings,
        workers=workers,
        shard=None if shard is None else Shard.parse(shard),
        ray=ray,
        retry_failed=retry_failed,
        json=json,
    )


def _refuse(options: Mapping[str, object], advice: str) -> None:
    """Raise InputError that names those of the options that are given."""
    if in_vain := [name for name, value in options.items() if value]:
        raise InputError(f"{' and '.join(in_vain)}: {advice}")


def _one_by_one(
    files: list[str],
    networks: Networks,
    options: PredictorOptions,
    thresholds: Thresholds,
    *,
    timeline: Path | None,
    overlays: Mapping[str, Path],
    top: int,
    device: str,
    json: bool,
) -> None:
    """Predict and print each video; exit code 1 if one failed."""
    from dualstream.report.prediction_files import prediction_entry
    from dualstream.report.timeline_files import write_timeline
    from dualstream.scores.timeline import find_segments
    from dualstream.video import probe
    from dualstream.video.container import is_url

    predictor = None
    failures: dict[str, str] = {}
    results: list[dict[str, Any]] = []
    segments_of: dict[str, tuple[Segment, ...]] = {}
    with Progress() as progress:
        for done, video in enumerate(files, start=1):
            try:
                if not is_url(video) and not os.path.exists(video):
                    probe(video)  # raises; where all are missing, nothing is loaded
                if predictor is None:
                    from dualstream.engine.infer.overlay import write_overlay
                    from dualstream.engine.infer.predictor import Predictor

                    predictor = Predictor(networks.load(device=device), **options)
                prediction = predictor.predict(video)
                windows = prediction.window_seconds, prediction.window_probabilities
                found = find_segments(
                    *windows, prediction.classes, labels=prediction.labels, **thresholds
                )
                if video in overlays:
                    write_overlay(
                        overlays[video],
                        prediction,
                        predictor.recognizers,
                        segments=found,
                        listener=partial(_drawn, progress, video),
                    )
            except VideoError as error:
                failures[video] = str(error)
                stderr().print(f"{video}: {error}", style="red", markup=False)
            else:
                segments_of[video] = found
                if json:
                    results.append(prediction_entry(prediction, found, top=top))
                    if video in overlays:
                        results[-1]["overlay"] = overlays[video]
                else:
                    print_prediction(prediction, found, top=top)
                    if video in overlays:
                        print(overlays[video])
            if json:  # else the tables show how far it is
                progress.update("predict", done, len(files), unit="videos")
    if timeline is not None and predictor is not None and segments_of:
        write_timeline(timeline, segments_of, classes=predictor.classes)
    if json:
        print_json({"videos": results, "failed": failures})
    if failures:
        raise typer.Exit(1)


def _drawn(progress: Progress, video: str, done: int, total: int) -> None:
    # Networks were loaded before the first frame.
    progress.update(f"draw {video}", done, total, unit="frames", is_kept=done == 1)


def list_files(videos: list[str]) -> list[str]:
    """Return the arguments, lists and folders replaced by the videos in them."""
    from dualstream.clips.data.video_files import list_videos

    files: list[str] = []
    for video in chain.from_iterable(map(_listed, videos)):
        folder = Path(video)
        inside = (
            [str(folder / name) for name in list_videos(folder)] if folder.is_dir() else [video]
        )
        if not inside:
            raise InputError(f"{folder} holds no video file.")
        files += inside
    return files


def _listed(video: str) -> list[str]:
    """Return the videos of `@list.txt`, or of standard input for `-`; else the argument itself."""
    from dualstream.files import read_lines

    if video == "-":
        lines = sys.stdin.read().splitlines()
    elif video.startswith("@"):
        lines = read_lines(video[1:], remedy="Save the list as UTF-8, a video a line.")
    else:
        return [video]
    return [line for line in lines if line.strip()]
