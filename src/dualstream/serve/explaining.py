"""Pictures of where the streams looked in a window, as files that the page fetches."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dualstream.engine.infer.drawn_map import DrawnMap
from dualstream.engine.infer.predictor import Predictor
from dualstream.engine.infer.windows import window_between
from dualstream.files import replacing, write_text
from dualstream.flow import flow_to_rgb, optical_flow
from dualstream.report.explanation import Moment, jpeg
from dualstream.serve.messages import EXPLANATION
from dualstream.serve.refusal import RefusedError
from dualstream.video import VideoReader
from dualstream.video.source import FrameSource, FromFirstFrame

MOMENTS = 12
"""Of a window."""
SHORT_SIDE_PX = 240
"""Of the pictures, which the page shows small."""
FLOW_METHOD = "dis"
"""Of the flow that is drawn where no network sees any: quick, for the eye alone."""
FAST_PERCENT = 98.0
"""Percentile of its lengths that is drawn fully saturated."""
LEAST_PX = 0.5
"""Shortest motion that is drawn so; noise stays pale."""


def write_moments(
    folder: Path,
    video: VideoReader,
    predictor: Predictor,
    *,
    path: str,
    start_seconds: float,
    end_seconds: float,
) -> None:
    """Explain one window, and write its moments: the frame, its flow, the map of each stream.

    Args:
        folder: made where it is missing.
        video: that is explained.
        predictor: with the networks themselves.
        path: file of the video.
        start_seconds, end_seconds: the window, as `predict` told it.

    Raises:
        RefusedError: there is no frame in the window.
        InputError: a network without feature maps.
        DiskError: a file cannot be written.
    """
    frames = FromFirstFrame(video)
    pts_seconds = frames.seconds_of(frames.available)
    window = window_between(pts_seconds, start_seconds, end_seconds, last=len(pts_seconds))
    if window is None:
        raise RefusedError("invalid", "There is no frame in this window.")
    explained = next(predictor.explain(path, pieces=0, windows=[window]))
    folder.mkdir(parents=True, exist_ok=True)
    sees_flow = any(stream.spec.is_flow for stream in explained.streams.values())
    pictures: list[tuple[float, str, str, NDArray[np.uint8]]] = []
    for number, (name, stream) in enumerate(explained.streams.items()):
        for layer in stream.maps:
            drawn = DrawnMap(explained, name, stream, layer, frames)
            for moment in drawn.moments(MOMENTS):
                pictures += _pictures(moment, name, layer, with_frame=number == 0)
    if not sees_flow:
        pictures += _flow_pictures(frames, sorted({seconds for seconds, *_ in pictures}))
    entries = []
    for number, (seconds, kind, text, image) in enumerate(pictures):
        file = f"{number:03}.jpg"
        with replacing(folder / file) as temporary:
            temporary.write_bytes(jpeg(_small(image)))
        entries.append({"seconds": round(seconds, 3), "kind": kind, "text": text, "href": file})
    document = {
        "start": start_seconds,
        "end": end_seconds,
        "label": explained.label,
        "probability": round(explained.probability, 6),
        "pictures": entries,
    }
    write_text(folder / EXPLANATION, json.dumps(document, ensure_ascii=False))


def _pictures(
    moment: Moment, name: str, layer: str, *, with_frame: bool
) -> list[tuple[float, str, str, NDArray[np.uint8]]]:
    """Time, kind, text and image of each picture of a moment: frame, drawing of flow, map."""
    frame, *drawing, heat = moment.images
    found = [(moment.seconds, "frame", "frame", frame)] if with_frame else []
    found += [(moment.seconds, "flow", f"flow that {name} saw", image) for image in drawing]
    return [*found, (moment.seconds, "map", f"where {name} looked ({layer})", heat)]


def _flow_pictures(
    video: FrameSource, seconds: list[float]
) -> list[tuple[float, str, str, NDArray[np.uint8]]]:
    """Flow at these times, drawn on one scale."""
    numbers = video.available
    if len(numbers) < 2:
        return []
    times = video.seconds_of(numbers)
    places = np.minimum(np.searchsorted(times, np.array(seconds) - 1e-6), len(numbers) - 2)
    fields = []
    for place in places.tolist():
        frames = video.read([numbers[place], numbers[place] + 1])
        fields.append(optical_flow(frames, method=FLOW_METHOD, short_side=SHORT_SIDE_PX).data[0])
    whole = np.stack(fields)
    # Few pixels move fast: by the longest motion most of the picture would be white.
    fast = float(np.percentile(np.hypot(whole[:, 0], whole[:, 1]), FAST_PERCENT))
    drawn = flow_to_rgb(whole, max_px=max(fast, LEAST_PX))
    return [(at, "flow", "optical flow", image) for at, image in zip(seconds, drawn, strict=True)]


def _small(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    share = SHORT_SIDE_PX / min(height, width)
    if share >= 1:
        return image
    size = (max(1, round(width * share)), max(1, round(height * share)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
