"""Files of an explanation: maps as arrays, picture strips, overlay videos, a page of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np

from dualstream.engine.infer.drawn_map import MOMENTS, DrawnMap
from dualstream.engine.infer.explain import ExplainedWindow
from dualstream.engine.infer.opening import opened
from dualstream.engine.infer.predictor import Predictor, PredictorOptions, explain
from dualstream.engine.infer.recognizer import Model
from dualstream.engine.infer.sensitivity import PIECES
from dualstream.files import replacing
from dualstream.report.explanation import JPEG_QUALITY, jpeg
from dualstream.report.explanation_page import write_explanation_page
from dualstream.report.page import ExplanationEntry
from dualstream.video.source import FrameSource
from dualstream.video.write import write_video


@dataclass(frozen=True)
class StreamFiles:
    """Files of one map of a stream in a window."""

    stream: str
    layer: str
    array: Path
    strip: Path
    video: Path | None


@dataclass(frozen=True)
class WindowFiles:
    """Files of a window, and what they say."""

    start_seconds: float
    end_seconds: float
    label: str
    """The class that the maps speak for."""
    probability: float
    top: tuple[tuple[str, float], ...]
    """The most probable classes, best first."""
    files: tuple[StreamFiles, ...]
    decisive: Mapping[str, tuple[float, float, float] | None]
    """Stream -> start and end of the piece whose loss costs most probability, and how much."""


def write_explanation(
    folder: str | os.PathLike[str],
    window: ExplainedWindow,
    frames: FrameSource,
    *,
    number: int = 1,
    with_video: bool = True,
    moments: int = MOMENTS,
    quality: int = JPEG_QUALITY,
) -> list[StreamFiles]:
    """Write what a window's streams looked at: of each layer an array, a strip and a video.

    The files are named like the stream (`rgb.npz`, `rgb.jpg`, `rgb.mp4`), with the layer behind
    where there are several, and with the number of the window from the second on.

    - The array is an `.npz`: `maps` (F, H, W) float32 in 0..1 over the whole frame, 0 where the
      network saw nothing; `frames` and `seconds` (F,) of the frames that it saw; `box` (left, top,
      right, bottom) that it saw, in pixels of the maps; `frame_size` (H, W) of the video, which the
      maps have too unless its short side is larger than what the network is made for; `stream`,
      `layer`, `label`, `probability`; `piece_seconds` (G, 2) and `falls` (G,) of `Sensitivity`.
    - The strip shows moments of the window, for flow also its drawing, with the map over them.
    - The video shows every frame of the window; between frames that were seen, maps are
      interpolated.

    Args:
        folder: made where it is missing.
        window: of `explain`.
        frames: of the same video.
        number: of the window, from 1.
        with_video: whether to write the videos, which takes longest.
        moments: pictures in a row of a strip, at most.
        quality: of the strip as a JPEG, 1 to 100.

    Raises:
        InputError: no moment, or another quality.
        DiskError: a file cannot be written.
        VideoError: the frames cannot be read.
    """
    written = []
    for name, stream in window.streams.items():
        for layer in stream.maps:
            stem = f"{name}.{layer}" if len(stream.maps) > 1 else name
            stem = re.sub(r"[^\w.() -]+", "-", stem) + (f"_{number}" if number > 1 else "")
            base = Path(folder) / stem
            drawn = DrawnMap(window, name, stream, layer, frames)
            files = StreamFiles(
                name,
                layer,
                _write_array(base.with_name(f"{stem}.npz"), drawn),
                _write(base.with_name(f"{stem}.jpg"), jpeg(drawn.strip(moments), quality=quality)),
                base.with_name(f"{stem}.mp4") if with_video else None,
            )
            if files.video is not None:
                write_video(files.video, drawn.video(), fps=frames.fps)
            written.append(files)
    return written


def explain_to_files(
    video: str | os.PathLike[str],
    models: Predictor | Model | Sequence[Model],
    folder: str | os.PathLike[str],
    *,
    layers: Sequence[str] = (),
    label: str | None = None,
    pieces: int = PIECES,
    with_video: bool = True,
    moments: int = MOMENTS,
    quality: int = JPEG_QUALITY,
    **options: Unpack[PredictorOptions],
) -> Iterator[WindowFiles]:
    """Explain a video file, and write each window as `write_explanation` does.

    Args and errors are those of `explain` and `write_explanation`; one window is held at a time.

    Yields:
        A window when its files are written.
    """
    windows = explain(video, models, layers=layers, label=label, pieces=pieces, **options)
    with opened(video) as (frames, _):
        for number, window in enumerate(windows, start=1):
            files = write_explanation(
                folder,
                window,
                frames,
                number=number,
                with_video=with_video,
                moments=moments,
                quality=quality,
            )
            yield WindowFiles(
                window.start_seconds,
                window.end_seconds,
                window.label,
                window.probability,
                tuple(window.top),
                tuple(files),
                {name: stream.sensitivity.decisive for name, stream in window.streams.items()},
            )


def explained_entries(
    videos: Mapping[str, str | os.PathLike[str]],
    models: Predictor | Model | Sequence[Model],
    *,
    pieces: int = PIECES,
    **options: Unpack[PredictorOptions],
) -> list[ExplanationEntry]:
    """Explain videos for a page, without files: all their windows, with the strips of all streams.

    Args:
        videos: name -> file.
        models, pieces, options: see `explain`, which also has the errors.
    """
    predictor = models if isinstance(models, Predictor) else Predictor(models, **options)
    entries = []
    for name, path in videos.items():
        with opened(path) as (frames, _):
            for window in predictor.explain(path, pieces=pieces):
                strips = [
                    jpeg(DrawnMap(window, stream, window.streams[stream], layer, frames).strip())
                    for stream in window.streams
                    for layer in window.streams[stream].maps
                ]
                entries.append(
                    ExplanationEntry(
                        name,
                        window.start_seconds,
                        window.end_seconds,
                        window.label,
                        window.probability,
                        window.top,
                        strips,
                    )
                )
    return entries


def folders_of(videos: Sequence[str], folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Return the folder of each video's files: the folder itself of one, else one named like it.

    Of several videos of one name each has the whole path in the folder's name.
    """
    if len(videos) == 1:
        return {videos[0]: Path(folder)}
    stems = [Path(video).stem for video in videos]
    return {
        video: Path(folder)
        / (stem if stems.count(stem) == 1 else re.sub(r"[^\w.-]+", "-", video.strip("./\\")))
        for video, stem in zip(videos, stems, strict=True)
    }


def write_page(
    path: str | os.PathLike[str],
    written: Mapping[str, Sequence[WindowFiles]],
    *,
    title: str = "Explanations",
) -> Path:
    """Write one page of the strips of videos; see `report.explanation_page`.

    Args:
        written: video -> what `explain_to_files` gave.
    """
    entries = [
        ExplanationEntry(
            video,
            one.start_seconds,
            one.end_seconds,
            one.label,
            one.probability,
            one.top,
            tuple(file.strip.read_bytes() for file in one.files),
        )
        for video, windows in written.items()
        for one in windows
    ]
    return write_explanation_page(path, entries, title=title)


def _write_array(path: Path, drawn: DrawnMap) -> Path:
    found = drawn.stream.sensitivity
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            maps=drawn.maps,
            frames=drawn.numbers,
            seconds=drawn.seconds,
            box=np.array(drawn.stream.places.box(drawn.stream.places.grid)),
            frame_size=np.array(drawn.source.size),
            stream=np.array(drawn.name),
            layer=np.array(drawn.layer),
            label=np.array(drawn.window.label),
            probability=np.float32(drawn.stream.probability),
            piece_seconds=found.seconds,
            falls=found.falls,
        )
    return path


def _write(path: Path, content: bytes) -> Path:
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return path
