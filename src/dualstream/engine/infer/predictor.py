"""`Predictor`: networks over a source of frames, for testing, prediction and all else.

A source is cut into windows in time; in each, every network sees a clip of some snippets, read by
`read_views` as in training. All networks, streams and windows share the frames, which are decoded
once, and the flow, which is computed once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from dualstream.clips.plan import Cropping
from dualstream.engine.infer.live_windows import LiveWindows, Moment
from dualstream.engine.infer.opening import opened
from dualstream.engine.infer.recognizer import Model, Views
from dualstream.engine.infer.scoring import Scoring
from dualstream.engine.infer.sensitivity import PIECES
from dualstream.engine.infer.window_clips import WindowClips, WindowReader
from dualstream.engine.infer.windows import Window, check_seconds, find_windows
from dualstream.engine.recipe_sections import Crops
from dualstream.errors import InputError, check_choice
from dualstream.jobs import keep_freed_memory
from dualstream.scores import Fusion
from dualstream.types import Clip, Features, Prediction
from dualstream.video.cuts import CutMethod, find_cuts
from dualstream.video.live import LiveReader
from dualstream.video.source import FrameSource

if TYPE_CHECKING:
    from dualstream.engine.infer.explain import ExplainedWindow, Explainer


class PredictorOptions(TypedDict, total=False):
    """Keyword arguments of `Predictor`."""

    fusion: Fusion | None
    """Fitted on held-out training data (`fit_fusion`); the default is the mean, or that of a folder
    of several streams."""
    weights: Sequence[float] | None
    """Of a weighted mean of the networks, instead of `fusion`."""
    window_seconds: float
    """Length of a window, above 0; the default is 10. See `find_windows`."""
    step_seconds: float | None
    """From a window's start to the next one's; None, the default, lays them side by side. Windows
    that overlap share their snippets (`shared_starts`), each of which is run once."""
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


class Predictor:
    """One network or several over the windows of a video, their probabilities fused.

    Networks see videos in evaluation mode, whatever mode they are in.

    Args:
        models: a recognizer or what one is made of, or several with the same classes; or the
            folder of a recipe of several streams (`train_pair`), which is all of them and their
            fitted fusion.
        options: see `PredictorOptions`.

    Raises:
        InputError: no network, or options out of range.
        CheckpointError: networks of different classes.
    """

    def __init__(self, models: Model | Sequence[Model], **options: Unpack[PredictorOptions]):
        keep_freed_memory()
        self.scoring = Scoring(
            models,
            cropping=Cropping(options.get("crops", "center")),
            fusion=options.get("fusion"),
            weights=options.get("weights"),
            optimize=options.get("optimize", False),
        )
        """From views to probabilities."""
        self.recognizers = self.scoring.recognizers
        self.classes = self.scoring.classes
        self.labels = self.scoring.labels
        self.window_seconds = options.get("window_seconds", 10.0)
        self.step_seconds = options.get("step_seconds")
        self.cut_method: CutMethod = options.get("cuts", "auto")
        self.segments = options.get("segments")
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

    def predict(
        self,
        source: str | os.PathLike[str] | FrameSource,
        *,
        num_threads: int = 1,
        path: str | None = None,
        listener: Callable[[int, int], None] | None = None,
    ) -> Prediction:
        """Return the classes of a video and of each of its windows in time.

        The whole video is the mean of its windows. Memory does not grow with its length. Times
        of a file count from its first frame, as players show them; other frames keep their clock.

        Args:
            source: a video file or URL, or frames.
            num_threads: decoding threads for a file.
            path: file that given frames are of, see `clips`.
            listener: called with the windows that are done and their number, first with 0; what it
                raises ends the work.

        Raises:
            VideoError: the file cannot be read.
        """
        with opened(source, num_threads=num_threads, path=path) as (frames, file):
            return self._predict(frames, file, listener)

    def _predict(
        self, frames: FrameSource, path: str | None, listener: Callable[[int, int], None] | None
    ) -> Prediction:
        windows, cuts = self.windows(frames)
        told = listener or (lambda done, total: None)
        told(0, len(windows))
        names, others = self.scoring.names, self.scoring.video_streams
        tables = np.empty((len(names), len(windows), len(self.classes)), np.float32)
        if self.recognizers:
            of_networks = [place for place in range(len(names)) if place not in others]
            scores, reader = self.scoring.of_windows(), self.reader(frames, path=path)
            for number, window in enumerate(reader.read_all(windows, known=scores.known)):
                tables[of_networks, number] = scores.of(window)
                told(number + 1, len(windows))
        for place, stream in others.items():
            bounds = [(window.first, window.last) for window in windows]
            tables[place] = stream.window_probabilities(frames, bounds)
        fused = self.fuse(np.concatenate((tables, tables.mean(axis=1, keepdims=True)), axis=1))
        return Prediction(
            source=frames.name,
            classes=self.classes,
            probabilities=fused[-1],
            window_seconds=np.array([(w.start_seconds, w.end_seconds) for w in windows]),
            window_probabilities=fused[:-1],
            streams={name: table.mean(axis=0) for name, table in zip(names, tables, strict=True)},
            cut_seconds=cuts,
            window_streams=dict(zip(names, tables, strict=True)),
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
        self.scoring.check_networks_only("watch a live source")
        num_unseen = 0
        for take in live.takes():
            scores, reader = self.scoring.of_windows(), self.reader(take.buffer)
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
                    clips = reader.read(window, known=scores.known)
                except InputError:
                    if window.first >= take.buffer.available.start:
                        raise
                    continue  # its frames have passed while they were read
                table = scores.of(clips)
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
        self.scoring.check_networks_only("give features")
        with opened(source, num_threads=num_threads) as (frames, path):
            return self._features(frames, path)

    def _features(self, frames: FrameSource, path: str | None) -> Features:
        from dualstream.engine.infer.features import features_of  # needs torch

        windows = self.clips(frames, self.windows(frames)[0], path=path)
        crops = self.scoring.cropping.num_views
        return features_of(frames.name, windows, self.recognizers, num_crops=crops)

    def explain(
        self,
        source: str | os.PathLike[str] | FrameSource,
        *,
        layers: Sequence[str] = (),
        label: str | None = None,
        pieces: int = PIECES,
        windows: Sequence[Window] | None = None,
    ) -> Iterator[ExplainedWindow]:
        """Explain what the networks make of a video, stream by stream and window by window.

        Where each looked, by Grad-CAM (`models.grad_cam`), and when, by taking pieces of the window
        away in turn (`sensitivity`). Networks see the snippets that `predict` shows them. A network
        whose streams exchange attention maps has those too, under the name of `SEEN`.

        Args:
            source: a video file, or frames.
            layers: as `dualstream inspect` shows them; of networks with towers those of the towers.
                Each gets a map in every network that has it. A network that has none of them, and
                all for (), are looked at in their last layers with a map of several places
                (`last_maps`).
            label: class to speak for; None takes the class found for each window.
            pieces: of each window, for the sensitivity; each costs a run of the network for each of
                its streams. 0 leaves it out.
            windows: those to explain; None takes all that `windows` finds.

        Yields:
            A window, when it is there; nothing is kept of it.

        Raises:
            UnknownNameError: no such class, or no network has such a layer (lists those there are).
            InputError: a network without feature maps, an exported file, or crops other than the
                centre.
            VideoError: the file cannot be read.
        """
        from dualstream.engine.infer.explain import Explainer  # needs torch

        return self._explained(source, Explainer(self.scoring, layers, label, pieces), windows)

    def _explained(
        self,
        source: str | os.PathLike[str] | FrameSource,
        explainer: Explainer,
        chosen: Sequence[Window] | None,
    ) -> Iterator[ExplainedWindow]:
        with opened(source) as (frames, path):
            windows = self.windows(frames)[0] if chosen is None else chosen
            for window in self.clips(frames, windows, path=path):
                yield explainer.explained(window, frames)

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
        overlap = self.step_seconds is not None and self.step_seconds < self.window_seconds
        return WindowReader(
            frames,
            self.recognizers,
            segments=self.segments,
            cropping=self.scoring.cropping,
            step_seconds=self.step_seconds if overlap else None,
            path=path,
        )

    def scores(self, clips: Sequence[Clip | Views]) -> NDArray[np.float32]:
        """Return the probabilities (networks, K) of one video's clips, means over their views.

        Args:
            clips: one for each network, of segments x crops views.
        """
        return self.scoring.scores(clips)

    def fuse(self, tables: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return fused probabilities (M, K) of those of the networks (networks, M, K)."""
        return self.scoring.fuse(tables)


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


def explain(
    source: str | os.PathLike[str] | FrameSource,
    models: Predictor | Model | Sequence[Model],
    *,
    layers: Sequence[str] = (),
    label: str | None = None,
    pieces: int = PIECES,
    **options: Unpack[PredictorOptions],
) -> Iterator[ExplainedWindow]:
    """Explain what networks make of a video, stream by stream and window by window.

    The same as `Predictor(models, **options).explain(source, ...)`, errors too.

    Args:
        models: a predictor, or what one is made of.
        options: of the predictor, where it is not given.

    Raises:
        InputError: options of a given predictor.
    """
    if isinstance(models, Predictor) and options:
        raise InputError(f"The predictor has its options already; got {', '.join(options)}.")
    predictor = models if isinstance(models, Predictor) else Predictor(models, **options)
    return predictor.explain(source, layers=layers, label=label, pieces=pieces)
