"""`dualstream predict`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from dualstream.cli.options import Device, Json, Optimize, numbers
from dualstream.cli.output import Progress, percent, print_json, stderr, stdout
from dualstream.errors import InputError, VideoError

if TYPE_CHECKING:
    from rich.table import Table

    from dualstream.engine.infer.recognizer import Model
    from dualstream.models.weights.catalogue import WeightsEntry
    from dualstream.scores import Fusion
    from dualstream.scores.timeline import Segment, Thresholds
    from dualstream.types import Prediction


def predict(
    videos: Annotated[list[str], typer.Argument(help="Video files, folders of them, or URLs.")],
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(help="Run folder, once for each stream; or that of a recipe of several."),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(help="Published weights (`dualstream weights`); once for each stream."),
    ] = None,
    stream_weights: Annotated[
        str | None,
        typer.Option(
            help="Numbers such as 1,1.5 for a weighted mean of the streams, checkpoints first.  "
            "[default: equal]"
        ),
    ] = None,
    fusion: Annotated[
        Path | None,
        typer.Option(
            help="Fitted fusion.json of `dualstream fuse`.  [default: that of a run of several "
            "streams]"
        ),
    ] = None,
    window: Annotated[float, typer.Option(help="Seconds of a window of the timeline.")] = 10.0,
    segments: Annotated[
        int | None,
        typer.Option(
            help="Snippets a window.  [default: 8, or as many as lie side by side]", min=1
        ),
    ] = None,
    crops: Annotated[
        Literal["center", "three", "ten"], typer.Option(help="Views of a snippet.")
    ] = "center",
    top: Annotated[int, typer.Option(help="Classes to print.", min=1)] = 5,
    timeline: Annotated[
        Path | None,
        typer.Option(help="Write the segments of all videos to a .csv or .json, or .srt of one."),
    ] = None,
    enter: Annotated[
        float | None, typer.Option(help="Probability at which a segment starts.  [default: 0.5]")
    ] = None,
    leave: Annotated[
        float | None, typer.Option(help="Probability below which it ends.  [default: 0.3]")
    ] = None,
    merge_seconds: Annotated[
        float | None, typer.Option(help="Join segments of a class at most so far apart.")
    ] = None,
    least_seconds: Annotated[float | None, typer.Option(help="Leave out shorter segments.")] = None,
    device: Device = "cpu",
    optimize: Optimize = False,
    json: Json = False,
) -> None:
    """Rank the classes of videos with one trained stream or several, flow computed on the way."""
    from dualstream.engine.pair_recipe import PAIR_FILE, load_pair
    from dualstream.models.weights import weights_entry
    from dualstream.report.timeline_files import check_timeline_file, write_timeline
    from dualstream.scores.timeline import check_thresholds, find_segments
    from dualstream.video import probe
    from dualstream.video.container import is_url

    # Errors of the call come before torch and weights are loaded, which takes seconds.
    runs, entries = checkpoint or [], [weights_entry(name) for name in weights or []]
    if len(runs) == 1 and not entries and (runs[0] / PAIR_FILE).is_file():
        pair, streams = runs[0], load_pair(runs[0] / PAIR_FILE).streams
        runs = [pair / name for name in streams]
        if stream_weights is None:
            fusion = fusion or pair / "fusion.json"
    if not runs and not entries:
        raise InputError(
            "Nothing to predict with: give --checkpoint RUN for a stream of your own, or "
            "--weights NAME for published weights (`dualstream weights` lists them)."
        )
    if not window > 0:
        raise InputError(f"--window must be above 0 seconds, got {window:g}.")
    files = _files(videos)
    if timeline is not None:
        check_timeline_file(timeline, num_videos=len(files))
    given = {
        "enter": enter,
        "leave": leave,
        "merge_seconds": merge_seconds,
        "least_seconds": least_seconds,
    }
    thresholds = cast("Thresholds", {k: v for k, v in given.items() if v is not None})
    check_thresholds(**thresholds)
    fitted = _fusion(fusion, stream_weights, num_streams=len(runs) + len(entries))
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
                    from dualstream.engine.infer.predictor import Predictor

                    predictor = Predictor(
                        load_models(runs, entries, device=device),
                        fusion=fitted,
                        window_seconds=window,
                        segments=segments,
                        crops=crops,
                        optimize=optimize,
                    )
                prediction = predictor.predict(video)
            except VideoError as error:
                failures[video] = str(error)
                stderr().print(f"{video}: {error}", style="red", markup=False)
            else:
                windows = prediction.window_seconds, prediction.window_probabilities
                segments_of[video] = find_segments(
                    *windows, prediction.classes, labels=prediction.labels, **thresholds
                )
                if json:
                    results.append(_as_dict(prediction, segments_of[video], top))
                else:
                    _print(prediction, segments_of[video], top)
            if json:  # else the tables show how far it is
                progress.update("predict", done, len(files), unit="videos")
    if timeline is not None and segments_of:
        write_timeline(timeline, segments_of)
    if json:
        print_json({"videos": results, "failed": failures})
    if failures:
        raise typer.Exit(1)


def _fusion(fusion: Path | None, stream_weights: str | None, *, num_streams: int) -> Fusion | None:
    """Return the fitted fusion, or that of the weights of the streams, if one of them is given."""
    from dualstream.scores import Fusion, weighted_fusion

    if fusion is not None and stream_weights is not None:
        raise InputError("Give either --fusion or --stream-weights.")
    if stream_weights is not None:
        parts = numbers(stream_weights, "--stream-weights")
        try:
            return weighted_fusion(parts, num_streams=num_streams)
        except InputError as error:
            raise InputError(f"--stream-weights {stream_weights}: {error}") from error
    if fusion is None:
        return None
    fitted = Fusion.load(fusion)
    if fitted.num_streams != num_streams:
        raise InputError(
            f"--fusion {fusion} joins {fitted.num_streams} streams, this call has "
            f"{num_streams}: give the streams that it was made with, in their order."
        )
    return fitted


def load_models(runs: list[Path], entries: list[WeightsEntry], *, device: str) -> list[Model]:
    """Networks of run folders, then those of published weights, which are fetched if necessary."""
    from dualstream.engine.run.checkpoint import check_device, load_checkpoint
    from dualstream.models import create_model

    place = check_device(device)
    found: list[Model] = []
    for run in runs:
        found.append(checkpoint := load_checkpoint(run, device=device))
        others = [
            str(folder)
            for name, folder in checkpoint.info.head_folders(
                checkpoint.info.run_folder(run)
            ).items()
            if name != checkpoint.info.head
        ]
        if others:
            stderr().print(
                f"{run}: head of {checkpoint.info.head}; other heads: {', '.join(others)}",
                soft_wrap=True,
                markup=False,
            )
    for entry in entries:
        with stderr().status(f"loading {entry.name}"):
            found.append(create_model(entry.model, weights=entry.name).to(place))
    return found


def _files(videos: list[str]) -> list[str]:
    """Return the arguments, folders replaced by the video files in them."""
    from dualstream.clips.data.video_files import list_videos

    files: list[str] = []
    for video in videos:
        folder = Path(video)
        inside = (
            [str(folder / name) for name in list_videos(folder)] if folder.is_dir() else [video]
        )
        if not inside:
            raise InputError(f"{folder} holds no video file.")
        files += inside
    return files


def _as_dict(prediction: Prediction, segments: Sequence[Segment], top: int) -> dict[str, Any]:
    from dualstream.report.timeline_files import segment_entry
    from dualstream.types import top_classes

    def ranked(values: Any) -> list[dict[str, Any]]:
        best = top_classes(values, prediction.classes, top)
        return [{"class": name, "probability": round(share, 6)} for name, share in best]

    return {
        "source": prediction.source,
        "top": ranked(prediction.probabilities),
        "streams": {name: ranked(values) for name, values in prediction.streams.items()},
        "timeline": [
            {"start": float(start), "end": float(end), "top": ranked(values)}
            for (start, end), values in zip(
                prediction.window_seconds, prediction.window_probabilities, strict=True
            )
        ],
        "segments": [segment_entry(segment) for segment in segments],
    }


def _print(prediction: Prediction, segments: Sequence[Segment], top: int) -> None:
    from rich.table import Column, Table

    print(prediction.source)
    streams = prediction.streams if len(prediction.streams) > 1 else {}
    heads = ["fused", *(Path(name).name for name in streams)] if streams else ["%"]
    ranking = Table("class", *(Column(head, justify="right") for head in heads))
    for name, probability in prediction.top(top):
        place = prediction.classes.index(name)
        shares = (probability, *(float(values[place]) for values in streams.values()))
        ranking.add_row(name, *map(percent, shares))
    stdout().print(ranking)
    if len(prediction.window_seconds) > 1:
        seconds, share = (Column(head, justify="right") for head in ("seconds", "%"))
        timeline = Table(seconds, "class", share, title="timeline", title_justify="left")
        for (start, end), values in zip(
            prediction.window_seconds, prediction.window_probabilities, strict=True
        ):
            best = int(values.argmax())
            timeline.add_row(
                f"{start:.1f}-{end:.1f}", prediction.classes[best], percent(float(values[best]))
            )
        stdout().print(timeline)
    if len(segments) > 1:
        stdout().print(_totals_table(segments))


def _totals_table(segments: Sequence[Segment]) -> Table:
    """How often and how long each class is there, as people who score behaviour count it."""
    from rich.table import Column, Table

    from dualstream.scores.timeline import totals

    heads = ("times", "seconds", "first", "longest")
    table = Table(
        "class",
        *(Column(head, justify="right") for head in heads),
        title="segments",
        title_justify="left",
    )
    for label, found in totals(segments).items():
        seconds = (found.seconds, found.first_seconds, found.longest_seconds)
        table.add_row(label, str(found.count), *(f"{value:.1f}" for value in seconds))
    return table
