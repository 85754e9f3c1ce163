"""`Predictor`: networks over a source of frames, for testing, prediction and all else.

A source is cut into windows in time; in each, every network sees a clip of some snippets, read by
`read_clip` as in training. All networks and streams share the frames, which are decoded once, and
the flow, which is computed once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, TypedDict, Unpack

import numpy as np
import torch
from numpy.typing import NDArray

from dualstream.clips.data.groups import mirrored_labels
from dualstream.clips.plan import ClipPlan, Cropping, Sampling, plan_clip
from dualstream.clips.read import read_clip
from dualstream.clips.transforms import Normalizer
from dualstream.engine.infer.recognizer import Model, Recognizer, as_recognizers, view_logits
from dualstream.engine.recipe_sections import Crops
from dualstream.errors import CorruptVideoError, InputError
from dualstream.flow import ComputedFlow, FlowSource
from dualstream.flow.coded import CodedFields, CodedFlow
from dualstream.flow.methods.lookup import find_method
from dualstream.jobs import keep_freed_memory
from dualstream.models.fastest import fastest
from dualstream.scores import Fusion, average_views, probabilities, weighted_fusion
from dualstream.scores.views import Average
from dualstream.types import Clip, ClipSpec, Prediction, Scores
from dualstream.video import VideoReader, frame_indices_at_rate
from dualstream.video.source import FrameCache, FrameSource

MOST_SEGMENTS = 8
"""Snippets a window, where their number is not given."""

HELD_BYTES = 256 * 2**20
"""Frames of a window that are held at once, unless one snippet needs more; bounds memory, changes
no result."""


class PredictorOptions(TypedDict, total=False):
    """Keyword arguments of `Predictor`."""

    fusion: Fusion | None
    """Fitted on held-out training data (`fit_fusion`); the default is the mean."""
    weights: Sequence[float] | None
    """Of a weighted mean of the networks, instead of `fusion`."""
    window_seconds: float
    """Aimed length of a window, above 0; the default is 10."""
    segments: int | None
    """Snippets a window; None takes `default_segments` of each network."""
    crops: Crops
    """Views of a snippet; the default is the centre."""
    optimize: bool
    """Run the networks in the form that is fastest here; off by default, as finding it takes up to
    a minute."""


@dataclass(frozen=True, eq=False)
class Window:
    """A piece of a video, as the networks see it."""

    start_seconds: float
    end_seconds: float
    clips: tuple[Clip, ...]
    """One for each network."""


class Predictor:
    """One network or several over the windows of a video, their probabilities fused.

    Networks see videos in evaluation mode, whatever mode they are in.

    Args:
        models: a recognizer or what one is made of, or several with the same classes.
        options: see `PredictorOptions`.

    Raises:
        InputError: no network, or options out of range.
        CheckpointError: networks of different classes.
    """

    def __init__(self, models: Model | Sequence[Model], **options: Unpack[PredictorOptions]):
        keep_freed_memory()
        self.recognizers = as_recognizers(models)
        self.classes = self.recognizers[0].classes
        self.window_seconds = options.get("window_seconds", 10.0)
        self.segments = options.get("segments")
        self.cropping = Cropping(options.get("crops", "center"))
        networks = [recognizer.model for recognizer in self.recognizers]
        optimize = options.get("optimize", False)
        self._label_when_mirrored = list(mirrored_labels(self.classes))
        self._normalizers = [Normalizer(recognizer.spec) for recognizer in self.recognizers]
        self._runs = [fastest(network) if optimize else network for network in networks]
        if not self.window_seconds > 0 or (self.segments is not None and self.segments < 1):
            raise InputError(
                f"window_seconds must be above 0 and segments at least 1, got "
                f"{self.window_seconds} and {self.segments}."
            )
        fusion, weights = options.get("fusion"), options.get("weights")
        if fusion is not None and weights is not None:
            raise InputError("Give either fusion or weights.")
        if weights is not None:
            fusion = weighted_fusion(weights, num_streams=len(networks))
        self.fusion = fusion or Fusion("mean", len(networks))
        self.labels = self.recognizers[0].labels
        if self.labels == "several" and not self.fusion.keeps_independent:
            raise InputError(
                f"Networks that tell several classes at once are joined by their mean, or with "
                f"given weights, not by {str(self.fusion)!r}."
            )

    def predict(
        self, source: str | os.PathLike[str] | FrameSource, *, num_threads: int = 1
    ) -> Prediction:
        """Return the classes of a video and of each of its windows in time.

        The whole video is the mean of its windows. Only the frames of the snippets are decoded
        and only their flow is computed, so memory does not grow with the length of the video.

        Args:
            source: a video file or URL, or frames.
            num_threads: decoding threads for a file.

        Raises:
            VideoError: the file cannot be read.
        """
        if not isinstance(source, str | os.PathLike):
            return self._predict(source, None)
        with VideoReader(source, num_threads=num_threads) as video:
            return self._predict(video, os.fspath(source))

    def _predict(self, frames: FrameSource, path: str | None) -> Prediction:
        seconds, rows = [], []
        for window in self.clips(frames, path=path):
            seconds.append((window.start_seconds, window.end_seconds))
            rows.append(self.scores(window.clips))
        tables = np.stack(rows, axis=1)  # (networks, M, K)
        fused = self.fuse(np.concatenate((tables, tables.mean(axis=1, keepdims=True)), axis=1))
        return Prediction(
            source=frames.name,
            classes=self.classes,
            probabilities=fused[-1],
            window_seconds=np.array(seconds),
            window_probabilities=fused[:-1],
            streams={
                recognizer.name: table.mean(axis=0)
                for recognizer, table in zip(self.recognizers, tables, strict=True)
            },
            labels=self.labels,
        )

    def clips(self, frames: FrameSource, *, path: str | None = None) -> Iterator[Window]:
        """Yield the windows of a video, each read once for all networks.

        Args:
            frames: of the video.
            path: file that the frames are of; methods that read flow which the file holds, such as
                motion vectors, need it.

        Raises:
            InputError: a method needs `path`.
            VideoError: the frames cannot be read, or there are none.
        """
        cache, of_file = FrameCache(frames), _FlowOfFile(path)
        numbers = frames.available
        pts_seconds = frames.seconds_of(numbers)
        edges = window_edges(pts_seconds, window_seconds=self.window_seconds)
        for *window, start, end in edges:
            plans = [self._plan(r, cache, pts_seconds, numbers, *window) for r in self.recognizers]
            yield Window(start, end, self._read(cache, plans, of_file))

    def scores(self, clips: Sequence[Clip]) -> NDArray[np.float32]:
        """Return the probabilities (networks, K) of one video's clips, means over their views.

        Args:
            clips: one for each network, of segments x crops views.
        """
        rows = []
        with ExitStack() as back_to_training:
            for recognizer, run, normalizer, clip in zip(
                self.recognizers, self._runs, self._normalizers, clips, strict=True
            ):
                if recognizer.model.training:
                    back_to_training.callback(recognizer.model.train)
                    recognizer.model.eval()
                segments = len(next(iter(clip.data.values()))) // self.cropping.num_views
                logits = view_logits(recognizer.model, clip, normalizer, segments=segments, run=run)
                # Left and right change places in a mirrored view.
                mirrored = np.resize(self.cropping.mirrored_views, len(logits))
                logits[mirrored] = logits[mirrored][:, self._label_when_mirrored]
                average: Average = "independent" if self.labels == "several" else "probabilities"
                rows.append(average_views(logits, average=average))
        return np.stack(rows)

    def fuse(self, tables: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return fused probabilities (M, K) of those of the networks (networks, M, K)."""
        scores = [
            Scores(
                names=tuple(str(i) for i in range(len(table))),
                labels=np.full(len(table), -1, np.int64),
                scores=table.astype(np.float32),
                classes=self.classes,
                kind="probabilities",
            )
            for table in tables
        ]
        return probabilities(self.fusion.apply(scores)).astype(np.float32)

    def _plan(
        self,
        recognizer: Recognizer,
        frames: FrameSource,
        pts_seconds: NDArray[np.float64],
        numbers: range,
        first: int,
        last: int,
    ) -> ClipPlan:
        """Plan the clip of one network, of frames first .. last - 1 of those available."""
        spec = recognizer.spec
        if spec.flow_streams and last - first < 2:
            # One frame alone does not move; its neighbour in the video tells how it got there.
            first = max(0, min(first, len(numbers) - 2))
            last = min(first + 2, len(numbers))
        if spec.flow_streams and last - first < 2:
            raise CorruptVideoError(
                f"{frames.name} has one frame only; optical flow needs two. Predict it with a "
                "network that sees RGB."
            )
        inside = np.arange(first, last)
        if spec.fps is not None:
            inside = first + frame_indices_at_rate(pts_seconds[first:last], spec.fps)
        timeline = numbers.start + inside
        positions = max(1, len(timeline) - bool(spec.flow_streams))
        joined = recognizer.model.joins_segments
        segments = self.segments or default_segments(spec, positions=positions, joined=joined)
        return plan_clip(
            spec,
            timeline=timeline,
            size=frames.size,
            sampling=Sampling("evenly_spaced", segments=segments),
            cropping=self.cropping,
        )

    def _read(
        self, cache: FrameCache, plans: Sequence[ClipPlan], of_file: _FlowOfFile
    ) -> tuple[Clip, ...]:
        """One clip for each network, read in so many parts that the frames of each fit."""
        num_parts = -(-len(self._needed(plans)) * cache.frame_bytes // HELD_BYTES)
        parts: list[list[Clip]] = [[] for _ in plans]
        split = [plan.parts(-(-len(plan.starts) // num_parts)) for plan in plans]
        for now in zip_longest(*split):  # None for a network whose snippets are all read
            cache.prefetch(self._needed(now))
            sources: dict[object, FlowSource] = {}
            for clips, recognizer, plan in zip(parts, self.recognizers, now, strict=True):
                if plan is not None:
                    flow = of_file.sources(cache, recognizer, plan, sources)
                    clips.append(read_clip(plan, cache, flow, recognizer.spec, name=cache.name))
        return tuple(
            Clip(
                {name: torch.cat([clip.data[name] for clip in clips]) for name in clips[0].data},
                clips[0].label,
                clips[0].name,
            )
            if len(clips) > 1
            else clips[0]
            for clips in parts
        )

    def _needed(self, plans: Sequence[ClipPlan | None]) -> NDArray[np.int64]:
        """Frames that the networks of a window need, rising."""
        pairs = zip(self.recognizers, plans, strict=True)
        return np.unique(
            np.concatenate([p.frames_needed(r.spec) for r, p in pairs if p is not None])
        )


class _FlowOfFile:
    """Flow of one video: computed from its frames, or held by its file and read along with them."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._held: dict[object, CodedFields] = {}

    def sources(
        self,
        frames: FrameSource,
        recognizer: Recognizer,
        plan: ClipPlan,
        computed: dict[object, FlowSource],
    ) -> dict[str, FlowSource]:
        """Flow of each stream of a network; streams that are alike share one of `computed`."""
        flow: dict[str, FlowSource] = {}
        for name, stream in recognizer.spec.flow_streams.items():
            method, params = find_method(stream.flow_method), recognizer.flow_params.get(name)
            grid: dict[str, Any] = {
                "short_side": stream.flow_short_side,
                "bound_px": stream.flow_bound_px,
            }
            if method.read_file is not None and self._path is not None:
                held = self._held.setdefault(
                    (name, recognizer.name), CodedFields(self._path, method, params)
                )
                flow[name] = CodedFlow(held, plan.timeline, size=frames.size, **grid)
                continue
            grid |= {"method": method.name, "params": params}
            alike = (*grid.values(), plan.timeline.tobytes())
            if alike not in computed:
                threads = torch.get_num_threads()
                computed[alike] = ComputedFlow(frames, plan.timeline, **grid, num_threads=threads)
            flow[name] = computed[alike]
        return flow


def predict(
    source: str | os.PathLike[str] | FrameSource,
    models: Model | Sequence[Model],
    *,
    num_threads: int = 1,
    **options: Unpack[PredictorOptions],
) -> Prediction:
    """Return the classes of a video and of each of its windows in time.

    The same as `Predictor(models, **options).predict(source, num_threads=num_threads)`, errors
    too; for many videos make the predictor once.
    """
    return Predictor(models, **options).predict(source, num_threads=num_threads)


def window_edges(
    pts_seconds: NDArray[np.float64], *, window_seconds: float
) -> list[tuple[int, int, float, float]]:
    """Return windows of about equal length that together hold every frame once.

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


def default_segments(spec: ClipSpec, *, positions: int, joined: bool) -> int:
    """Return the snippets that one window is seen through: as many as lie side by side, 8 at most.

    10 s at 25 frames a second are 250 positions: 4 snippets of 64 frames, 8 of 16 frames. A
    network that sees single frames gets 8 of any window, and so does one that joins segments.

    Args:
        spec: input of the network.
        positions: frames (or fields) of the window at the network's frame rate.
        joined: whether the network joins the segments of a video by weights of its own.
    """
    if spec.span == 1 or joined:
        return MOST_SEGMENTS
    return min(MOST_SEGMENTS, -(-positions // spec.span))
