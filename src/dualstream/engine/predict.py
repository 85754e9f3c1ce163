"""Prediction on files of any length: windows in time, all streams, flow computed on the way."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dualstream.clips.geometry import View, center_crop, reference_size, ten_crops, three_crops
from dualstream.clips.samplers import covered, evenly_spaced_starts
from dualstream.clips.views import (
    ViewPlan,
    bidirectional_views,
    flow_views,
    frame_views,
    steps_read,
)
from dualstream.engine.checkpoint import Checkpoint, load_checkpoint
from dualstream.engine.evaluate import view_logits
from dualstream.errors import CheckpointError, CorruptVideoError, InputError
from dualstream.flow import FlowParams, quantize
from dualstream.flow.named import named_flow
from dualstream.models.network import Network
from dualstream.scores import Fusion, average_views, fuse, probabilities
from dualstream.types import InputSpec, Prediction, Scores
from dualstream.video import VideoReader, frame_indices_at_rate

Crops = Literal["center", "three", "ten"]
Indices = NDArray[np.int64]

MOST_SEGMENTS = 8
"""Snippets a window, where their number is not given."""

RUN_LENGTH = 32
"""Neighbouring flow fields computed at once; bounds memory, changes no result."""


@dataclass(frozen=True, eq=False)
class Stream:
    """One network that looks at a video."""

    name: str
    model: Network
    spec: InputSpec
    classes: tuple[str, ...]
    flow_params: FlowParams | None = None
    """Settings of the flow method; None takes its defaults."""
    run: Callable[[Tensor], Tensor] | None = None
    """Computes the model's logits in its place (`models.fastest`)."""


Seer = Stream | Checkpoint | Network | str | os.PathLike[str]
"""What can look at a video: a stream, a trained checkpoint or its run folder, or a network that
brings its input and classes (`create_model(..., weights=...)`)."""


def as_stream(seer: Seer) -> Stream:
    """A stream of anything that can look at a video.

    Raises:
        InputError: a network that does not know its input or its classes.
        CheckpointError: a run folder that cannot be loaded.
    """
    if isinstance(seer, Stream):
        return seer
    if isinstance(seer, Network):
        if seer.spec is None or not seer.classes:
            raise InputError(
                "This network does not know its input or its classes. Use one made with "
                "create_model(weights=...) and its own classes, a run folder, or a Stream."
            )
        return Stream(seer.name, seer, seer.spec, seer.classes)
    checkpoint = seer if isinstance(seer, Checkpoint) else load_checkpoint(seer)
    return Stream(
        checkpoint.folder.name,
        checkpoint.model,
        checkpoint.spec,
        checkpoint.classes,
        checkpoint.flow_params,
    )


def predict(
    source: str | os.PathLike[str],
    seers: Seer | Sequence[Seer],
    *,
    fusion: Fusion | None = None,
    weights: Sequence[float] | None = None,
    window_seconds: float = 10.0,
    segments: int | None = None,
    crops: Crops = "center",
    num_threads: int = 1,
) -> Prediction:
    """Classes of a video and of each of its windows in time.

    The video is cut into windows of about equal length; in each, `segments` snippets are seen
    through `crops` views by every stream and their softmax is averaged. The whole video is the
    mean of its windows. Only the frames of the snippets are decoded and only their flow is
    computed, a few at a time, so memory does not grow with the length of the video. Networks see
    it in evaluation mode, whatever mode they are in.

    Args:
        source: a video file or URL.
        seers: one or more of what can look at a video, with the same classes.
        fusion: fitted on held-out training data (`fit_fusion`); default is the mean.
        weights: of a weighted mean of the streams, instead of `fusion`.
        window_seconds: aimed length of a window, above 0.
        segments: snippets a window; None takes `default_segments` of each stream.
        crops: views of a snippet.
        num_threads: decoding threads.

    Raises:
        VideoError: the file cannot be read.
        InputError: no stream, or arguments out of range.
        CheckpointError: streams of different classes.
    """
    several = isinstance(seers, Sequence) and not isinstance(seers, str)
    streams = [as_stream(seer) for seer in cast(Sequence[Seer], seers if several else [seers])]
    if not streams:
        raise InputError("predict needs at least one stream.")
    if not window_seconds > 0 or (segments is not None and segments < 1):
        raise InputError(
            f"window_seconds must be above 0 and segments at least 1, got {window_seconds} and "
            f"{segments}."
        )
    if fusion is not None and weights is not None:
        raise InputError("Give either fusion or weights.")
    for stream in streams[1:]:
        if stream.classes != streams[0].classes:
            raise CheckpointError(
                f"Streams {streams[0].name} and {stream.name} have different classes; they must "
                "come from the same data set."
            )
    networks = [stream.model for stream in streams]
    with VideoReader(source, num_threads=num_threads) as video, _evaluating(networks):
        windows = window_edges(video.pts_seconds, window_seconds=window_seconds)
        seconds = np.array([(a, b) for _, _, a, b in windows])
        tables = {
            name: np.stack(
                [
                    _window_probabilities(video, first, last, stream, segments, crops)
                    for first, last, _, _ in windows
                ]
            )
            for name, stream in zip(_distinct_names(streams), streams, strict=True)
        }  # name -> (M, K)
    fused = _fuse(tables, streams[0].classes, fusion, weights)  # (M + 1, K), whole video last
    return Prediction(
        source=str(source),
        classes=streams[0].classes,
        probabilities=fused[-1],
        window_seconds=seconds,
        window_probabilities=fused[:-1],
        streams={name: table.mean(axis=0) for name, table in tables.items()},
    )


def window_edges(
    pts_seconds: NDArray[np.float64], *, window_seconds: float
) -> list[tuple[int, int, float, float]]:
    """Windows of about equal length that together hold every frame once.

    Args:
        pts_seconds: (F,) presentation times, rising.
        window_seconds: aimed length.

    Returns:
        (first frame, one past the last frame, start, end) of each window; the number of windows
        is the duration over the aimed length, rounded, at least 1. A window without a frame
        (a gap in the video) is left out.

    Example:
        25 s at 1 frame a second and windows of 10 s: 0..13 and 13..25.
    """
    count = len(pts_seconds)
    if count == 0:
        raise CorruptVideoError("The video has no frame.")
    interval = (pts_seconds[-1] - pts_seconds[0]) / max(1, count - 1)
    start, end = float(pts_seconds[0]), float(pts_seconds[-1] + interval)
    number = max(1, round((end - start) / window_seconds))
    edges = np.linspace(start, end, number + 1)
    firsts = np.searchsorted(pts_seconds, edges[:-1], side="left")
    lasts = np.append(firsts[1:], count)
    return [
        (int(first), int(last), float(a), float(b))
        for first, last, a, b in zip(firsts, lasts, edges[:-1], edges[1:], strict=True)
        if last > first
    ]


def default_segments(spec: InputSpec, *, positions: int, joined: bool) -> int:
    """Snippets that one window is seen through: as many as lie side by side in it, 8 at most.

    10 s at 25 frames a second are 250 positions: 4 snippets of 64 frames, 8 of 16 frames. A
    network that sees single frames gets 8 of any window, and so does one that joins segments.

    Args:
        spec: input of the stream.
        positions: frames (or fields) of the window at the stream's frame rate.
        joined: whether the network joins the segments of a video by weights of its own.
    """
    length = covered(steps_read(spec), stride=spec.frame_stride)
    if length == 1 or joined:
        return MOST_SEGMENTS
    return min(MOST_SEGMENTS, -(-positions // length))


@contextmanager
def _evaluating(networks: Sequence[Network]) -> Iterator[None]:
    """Networks in evaluation mode, and back in theirs afterwards."""
    training = [network for network in networks if network.training]
    for network in training:
        network.eval()
    try:
        yield
    finally:
        for network in training:
            network.train()


def _distinct_names(streams: Sequence[Stream]) -> list[str]:
    """Names of the streams, numbered where two share one: rgb, rgb -> rgb, rgb (2)."""
    names: list[str] = []
    for stream in streams:
        count = sum(other.name == stream.name for other in streams[: len(names)])
        names.append(stream.name if not count else f"{stream.name} ({count + 1})")
    return names


def _window_probabilities(
    video: VideoReader, first: int, last: int, stream: Stream, segments: int | None, crops: Crops
) -> NDArray[np.float32]:
    """(K,) of the frames first .. last - 1."""
    spec = stream.spec
    shown = np.arange(first, last)
    if spec.fps is not None:
        shown = first + frame_indices_at_rate(video.pts_seconds[first:last], spec.fps)
    if spec.modality == "flow" and len(shown) < 2:
        # One frame alone does not move; its neighbour in the video tells how it got there.
        first = max(0, min(first, video.num_frames - 2))
        shown = np.arange(first, min(first + 2, video.num_frames))
    positions = max(1, len(shown) - (spec.modality == "flow"))
    if segments is None:
        joined = stream.model.joins_segments
        segments = default_segments(spec, positions=positions, joined=joined)
    length = covered(steps_read(spec), stride=spec.frame_stride)
    starts = evenly_spaced_starts(positions, count=segments, length=length)
    plan = _plan(video, starts, spec, crops)
    if spec.modality == "flow":
        forward = ComputedFlow(video, shown, stream, "forward")
        if spec.stacking == "bidirectional":
            backward = ComputedFlow(video, shown, stream, "backward")
            views = bidirectional_views(forward, backward, plan, spec)
        else:
            views = flow_views(forward, plan, spec)
    else:
        views = frame_views(video, shown, plan, spec)
    logits = view_logits(stream.model, views, spec, segments=segments, run=stream.run)
    return average_views(logits, average="probabilities")


def _plan(video: VideoReader, starts: Indices, spec: InputSpec, crops: Crops) -> ViewPlan:
    size = spec.crop_size
    reference = reference_size(video.info.height, video.info.width, short_side=spec.short_side)
    boxes = {"center": _one_center, "three": three_crops, "ten": ten_crops}[crops]
    return ViewPlan(starts, boxes(*reference, size=size), reference, None)


def _one_center(height: int, width: int, *, size: int) -> tuple[View, ...]:
    return (center_crop(height, width, size=size),)


class ComputedFlow:
    """Flow of a window of a video, computed when read; stands where a stored file would."""

    def __init__(
        self,
        video: VideoReader,
        shown: Indices,
        stream: Stream,
        direction: Literal["forward", "backward"],
    ) -> None:
        self.num_fields = len(shown) - 1
        self._video = video
        self._shown = shown
        self._stream = stream
        self._direction = direction
        if self.num_fields < 1:
            raise CorruptVideoError(
                f"{video.info.path} has one frame only; optical flow needs two. Predict it with "
                "an RGB stream."
            )

    def read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Fields as bytes, (n, 2, H, W)."""
        return np.concatenate([self._run(a, b) for a, b in runs(indices)])

    def _run(self, first: int, last: int) -> NDArray[np.uint8]:
        spec = self._stream.spec
        flow = named_flow(
            self._video.read(self._shown[first : last + 2].tolist()),
            name=spec.flow_method,
            params=self._stream.flow_params,
            short_side=spec.flow_short_side,
            direction=self._direction,
        )
        return quantize(flow.data, bound_px=spec.flow_bound_px)


def runs(indices: Sequence[int], *, longest: int = RUN_LENGTH) -> Iterator[tuple[int, int]]:
    """Rising indices as (first, last) of unbroken runs of at most `longest`.

    Example:
        3, 4, 5, 9 -> (3, 5), (9, 9).
    """
    first = previous = None
    for index in indices:
        if first is None or previous is None:
            first = index
        elif index != previous + 1 or index - first >= longest:
            yield first, previous
            first = index
        previous = index
    if first is not None and previous is not None:
        yield first, previous


def _fuse(
    tables: dict[str, NDArray[np.float32]],
    classes: tuple[str, ...],
    fusion: Fusion | None,
    weights: Sequence[float] | None,
) -> NDArray[np.float32]:
    """(M + 1, K) fused probabilities of the windows and, last, of the whole video."""
    scores = []
    for table in tables.values():
        rows = np.concatenate([table, table.mean(axis=0, keepdims=True)])
        scores.append(
            Scores(
                names=tuple(str(i) for i in range(len(rows))),
                labels=np.full(len(rows), -1, np.int64),
                scores=rows.astype(np.float32),
                classes=classes,
                kind="probabilities",
            )
        )
    if fusion is not None:
        fused = fusion.apply(scores)
    elif weights is not None:
        fused = fuse(scores, method="weighted", weights=weights)
    else:
        fused = fuse(scores, method="mean")
    return probabilities(fused).astype(np.float32)
