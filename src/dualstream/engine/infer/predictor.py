"""`Predictor`: networks over a source of frames, for testing, prediction and all else.

A source is cut into windows in time; in each, every network sees a clip of some snippets, read by
`read_views` as in training. All networks, streams and windows share the frames, which are decoded
once, and the flow, which is computed once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypedDict, Unpack, cast

import numpy as np
from numpy.typing import NDArray

from dualstream.clips.data.groups import mirrored_labels
from dualstream.clips.plan import Cropping
from dualstream.engine.infer.live_windows import LiveWindows
from dualstream.engine.infer.recognizer import (
    Model,
    Recognizes,
    SeesVideo,
    Views,
    as_recognizers,
    open_stream,
)
from dualstream.engine.infer.window_clips import WindowClips, WindowReader
from dualstream.engine.infer.windows import Window, check_seconds, find_windows
from dualstream.engine.recipe_sections import Crops
from dualstream.errors import CheckpointError, InputError, check_choice
from dualstream.jobs import keep_freed_memory
from dualstream.scores import Fusion, average_views, probabilities, weighted_fusion
from dualstream.scores.views import Average
from dualstream.types import Clip, Features, Labels, Prediction, Scores, top_classes
from dualstream.video import VideoReader
from dualstream.video.cuts import CutMethod, find_cuts
from dualstream.video.live import LiveReader
from dualstream.video.source import FrameSource


class PredictorOptions(TypedDict, total=False):
    """Keyword arguments of `Predictor`."""

    fusion: Fusion | None
    """Fitted on held-out training data (`fit_fusion`); the default is the mean."""
    weights: Sequence[float] | None
    """Of a weighted mean of the networks, instead of `fusion`."""
    window_seconds: float
    """Length of a window, above 0; the default is 10. See `find_windows`."""
    step_seconds: float | None
    """From a window's start to the next one's; None, the default, lays them side by side."""
    cuts: CutMethod
    """How cuts are found, which no window and no flow lies across; the default is "auto". A video
    that is one window long is not searched."""
    segments: int | None
    """Snippets a window; None takes `default_segments` of each network."""
    crops: Crops
    """Views of a snippet; the default is the centre."""
    optimize: bool
    """Run the networks in the form that is fastest here; off by default, as finding it takes up to
    a minute."""


@dataclass(frozen=True, eq=False)
class Moment:
    """What a live source shows in one window."""

    start_seconds: float
    end_seconds: float
    classes: tuple[str, ...]
    """K class names."""
    probabilities: NDArray[np.float32]
    """(K,)."""
    streams: dict[str, NDArray[np.float32]]
    """Stream name -> (K,) probabilities before fusion."""
    delay_seconds: float
    """From the coming in of the window's last frame until now."""
    num_dropped: int
    """Frames so far that no window held, as the machine was too slow."""

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The k most probable classes, best first."""
        return top_classes(self.probabilities, self.classes, k)


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
        several = isinstance(models, Sequence) and not isinstance(models, str)
        given = [open_stream(m) for m in cast("Sequence[Model]", models if several else [models])]
        self.video_streams = {i: one for i, one in enumerate(given) if isinstance(one, SeesVideo)}
        """Place among the streams -> one that looks at whole windows instead of clips."""
        networks = [one for one in given if not isinstance(one, SeesVideo)]
        self.recognizers = as_recognizers(networks) if networks or not given else ()
        """The networks."""
        self.names = _names([one.name for one in self.recognizers], self.video_streams)
        """Of all streams, in the order given."""
        streams: list[Recognizes | SeesVideo] = [*self.recognizers, *self.video_streams.values()]
        self.classes = streams[0].classes
        for other in self.video_streams.values():
            if other.classes != self.classes:
                raise CheckpointError(
                    f"{other.name} and {self.names[0]} have different classes; they must come from "
                    "the same data set."
                )
        self.window_seconds = options.get("window_seconds", 10.0)
        self.step_seconds = options.get("step_seconds")
        self.cut_method: CutMethod = options.get("cuts", "auto")
        self.segments = options.get("segments")
        self.cropping = Cropping(options.get("crops", "center"))
        optimize = options.get("optimize", False)
        self._label_when_mirrored = list(mirrored_labels(self.classes))
        self._running = [one.running(optimize=optimize) for one in self.recognizers]
        check_seconds(window_seconds=self.window_seconds, step_seconds=self.step_seconds)
        check_choice("cuts", self.cut_method, CutMethod)
        if self.segments is not None and self.segments < 1:
            raise InputError(f"segments must be at least 1, got {self.segments}.")
        for one in self.recognizers:
            if one.num_segments not in (None, self.segments or one.num_segments):
                raise InputError(
                    f"{one.name} was exported for {one.num_segments} segments, got "
                    f"{self.segments}: leave `segments` out, or export it for that number."
                )
        fusion, weights = options.get("fusion"), options.get("weights")
        if fusion is not None and weights is not None:
            raise InputError("Give either fusion or weights.")
        if weights is not None:
            fusion = weighted_fusion(weights, num_streams=len(self.names))
        self.fusion = fusion or Fusion("mean", len(self.names))
        self.labels: Labels = self.recognizers[0].labels if self.recognizers else "one"
        if self.labels == "several" and self.video_streams:
            raise InputError("Trajectories tell one class of a video, the networks several.")
        if self.labels == "several" and not self.fusion.keeps_independent:
            raise InputError(
                f"Networks that tell several classes at once are joined by their mean, or with "
                f"given weights, not by {str(self.fusion)!r}."
            )

    def predict(
        self, source: str | os.PathLike[str] | FrameSource, *, num_threads: int = 1
    ) -> Prediction:
        """Return the classes of a video and of each of its windows in time.

        The whole video is the mean of its windows. Memory does not grow with its length.

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
        windows, cuts = self.windows(frames)
        tables = np.empty((len(self.names), len(windows), len(self.classes)), np.float32)
        if self.recognizers:
            rows = [self.scores(w.views) for w in self.clips(frames, windows, path=path)]
            of_networks = [i for i in range(len(tables)) if i not in self.video_streams]
            tables[of_networks] = np.stack(rows, axis=1)  # (networks, M, K)
        for place, stream in self.video_streams.items():
            bounds = [(window.first, window.last) for window in windows]
            tables[place] = stream.window_probabilities(frames, bounds)
        fused = self.fuse(np.concatenate((tables, tables.mean(axis=1, keepdims=True)), axis=1))
        return Prediction(
            source=frames.name,
            classes=self.classes,
            probabilities=fused[-1],
            window_seconds=np.array([(w.start_seconds, w.end_seconds) for w in windows]),
            window_probabilities=fused[:-1],
            streams={
                name: table.mean(axis=0) for name, table in zip(self.names, tables, strict=True)
            },
            cut_seconds=cuts,
            window_streams=dict(zip(self.names, tables, strict=True)),
            labels=self.labels,
        )

    def watch(
        self, live: LiveReader, *, most_delay_seconds: float | None = 1.0
    ) -> Iterator[Moment]:
        """Yield the classes of each window of a live source, as soon as its last frame is there.

        Windows and scores are those that `predict` gives for the same frames of a file, with
        windows at the step (or at their length, where there is none). Windows that come too late
        are left out, so that the delay is bounded on a machine that is too slow.

        Args:
            live: the source, entered. It must keep a window and `most_delay_seconds` of frames.
                Cuts are found by differences, unless `cuts` is "none".
            most_delay_seconds: windows that ended so long before the newest frame are left out.
                None leaves out none.

        Raises:
            VideoError: the source cannot be opened, or was lost.
        """
        self.check_networks_only("watch a live source")
        num_unseen = 0
        for take in live.takes():
            reader = self.reader(take.buffer)
            windows = LiveWindows(
                live,
                take,
                window_seconds=self.window_seconds,
                step_seconds=self.step_seconds or self.window_seconds,
                finds_cuts=self.cut_method != "none",
                most_delay_seconds=most_delay_seconds,
            )
            for window in windows:
                arrived = take.arrived(window.last - 1)
                try:
                    views = reader.read(window).views
                except InputError:
                    if window.first >= take.buffer.available.start:
                        raise
                    continue  # its frames have passed while they were read
                table = self.scores(views)
                yield Moment(
                    window.start_seconds,
                    window.end_seconds,
                    self.classes,
                    self.fuse(table[:, None])[0],
                    {r.name: row for r, row in zip(self.recognizers, table, strict=True)},
                    time.monotonic() - arrived,
                    num_unseen + windows.num_unseen + live.num_dropped,
                )
            num_unseen += windows.num_unseen

    def features(
        self, source: str | os.PathLike[str] | FrameSource, *, num_threads: int = 1
    ) -> Features:
        """Return what the networks' classifiers see of each window, the mean over its views.

        Arguments and errors are those of `predict`; fusion and `optimize` have no part in it.
        """
        self.check_networks_only("give features")
        if not isinstance(source, str | os.PathLike):
            return self._features(source, None)
        with VideoReader(source, num_threads=num_threads) as video:
            return self._features(video, os.fspath(source))

    def _features(self, frames: FrameSource, path: str | None) -> Features:
        from dualstream.engine.infer.features import features_of  # needs torch

        windows = self.clips(frames, self.windows(frames)[0], path=path)
        crops = self.cropping.num_views
        return features_of(frames.name, windows, self.recognizers, num_crops=crops)

    def check_networks_only(self, what: str) -> None:
        """Raise InputError where a stream is of trajectories, for what only networks do."""
        for stream in self.video_streams.values():
            raise InputError(
                f"{stream.name} is a stream of trajectories, which cannot {what}: leave it out."
            )

    def windows(self, frames: FrameSource) -> tuple[list[Window], NDArray[np.float64]]:
        """Return the windows of a video, and the times of the cuts between which they lie."""
        numbers = frames.available
        pts_seconds = frames.seconds_of(numbers)
        find = partial(
            find_windows,
            pts_seconds,
            window_seconds=self.window_seconds,
            step_seconds=self.step_seconds,
        )
        found, cuts = find(), list[int]()
        if len(found) > 1 and (cuts := find_cuts(frames, method=self.cut_method)):
            found = find(cuts=cuts)
        return [
            window._replace(first=window.first + numbers.start, last=window.last + numbers.start)
            for window in found
        ], pts_seconds[cuts]

    def clips(
        self, frames: FrameSource, windows: Sequence[Window], *, path: str | None = None
    ) -> Iterator[WindowClips]:
        """Yield windows of a video, each read once for all networks.

        Args:
            frames: of the video.
            windows: in their order; frames that a later one needs again are kept for it.
            path: file that the frames are of; methods that read flow which the file holds, such as
                motion vectors, need it.

        Raises:
            InputError: a method needs `path`.
            VideoError: the frames cannot be read, or there are none.
        """
        yield from self.reader(frames, path=path).read_all(windows)

    def reader(self, frames: FrameSource, *, path: str | None = None) -> WindowReader:
        """Return what reads windows of these frames for the networks; arguments as of `clips`."""
        return WindowReader(
            frames, self.recognizers, segments=self.segments, cropping=self.cropping, path=path
        )

    def scores(self, clips: Sequence[Clip | Views]) -> NDArray[np.float32]:
        """Return the probabilities (networks, K) of one video's clips, means over their views.

        Args:
            clips: one for each network, of segments x crops views.
        """
        rows = []
        for logits_of, clip in zip(self._running, clips, strict=True):
            views = clip.data if isinstance(clip, Clip) else clip
            segments = len(next(iter(views.values()))) // self.cropping.num_views
            logits = logits_of(views, segments)
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


def _names(networks: list[str], others: Mapping[int, SeesVideo]) -> list[str]:
    """Names of all streams in their order; of equal ones a later one is numbered."""
    names = list(networks)
    for place, stream in sorted(others.items()):
        same = sum(name == stream.name or name.startswith(f"{stream.name} (") for name in names)
        names.insert(place, f"{stream.name} ({same + 1})" if same else stream.name)
    return names


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
