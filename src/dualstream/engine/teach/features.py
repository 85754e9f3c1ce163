"""Frozen networks and histograms over the steps of a video, which is decoded once for all."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dualstream.clips.plan import Cropping
from dualstream.clips.transforms import Normalizer
from dualstream.engine.infer.features import mean_vectors
from dualstream.engine.infer.recognizer import Recognizer, as_recognizer
from dualstream.engine.infer.window_clips import HELD_BYTES, WindowReader
from dualstream.engine.infer.windows import Window, find_windows
from dualstream.engine.teach.settings import HISTOGRAMS, TeachSettings, is_run
from dualstream.engine.teach.steps import MOTION, RGB
from dualstream.errors import InputError
from dualstream.flow import optical_flow
from dualstream.flow.histograms import boundary_histogram, flow_histogram
from dualstream.models import create_model
from dualstream.models.fastest import channels_last, fold_batch_norms
from dualstream.models.weights import weights_entry
from dualstream.types import ClipSpec
from dualstream.video import VideoReader, frame_indices_at_rate
from dualstream.video.source import FrameCache, FrameSource

FLOW_SIDE = 120
"""Short side in pixels of the frames whose flow goes into histograms."""

STEPS_AT_ONCE = 4
"""Steps that go through a network together."""


class FeatureExtractor:
    """The frozen networks of a project, and what they see of videos.

    Args:
        settings: of the project.
        device: where the networks run.

    Raises:
        UnknownNameError, WeightsError, CheckpointError: networks that cannot be had.
        InputError: a network for motion that sees no flow, or one for RGB that does.
    """

    def __init__(self, settings: TeachSettings, *, device: str = "cpu") -> None:
        self._settings = settings
        self._networks: dict[str, Recognizer] = {RGB: _frozen(settings.rgb, settings, device)}
        if settings.motion != HISTOGRAMS:
            self._networks[MOTION] = _frozen(settings.motion, settings, device)
        for block, network in self._networks.items():
            sees_flow = bool(network.spec.flow_streams)
            if sees_flow != (block == MOTION):
                raise InputError(
                    f"{block} cannot be {getattr(settings, block)}: it sees "
                    f"{'flow' if sees_flow else 'no flow'}. Give a network of the other stream."
                )
        self._normalizers = {name: Normalizer(n.spec) for name, n in self._networks.items()}

    def steps(self, video: VideoReader) -> list[Window]:
        """Return the steps of a video, side by side and of about the length of the settings."""
        return find_windows(video.pts_seconds, window_seconds=self._settings.step_seconds)

    def features(
        self, video: VideoReader, steps: Sequence[Window]
    ) -> Iterator[dict[str, NDArray[np.float32]]]:
        """Yield the blocks of each step, name -> (D,); frames are decoded once for all.

        Memory does not grow with the length of the video.

        Args:
            video: open.
            steps: some of `steps(video)`, in their order.

        Raises:
            VideoError: frames cannot be read.
        """
        frames = FrameCache(video)
        reader = WindowReader(
            frames,
            list(self._networks.values()),
            segments=None,
            cropping=Cropping("center"),
            path=video.name,
        )
        clips = reader.read_all(steps)
        for first in range(0, len(steps), STEPS_AT_ONCE):
            views, motion = [], []
            for step in steps[first : first + STEPS_AT_ONCE]:
                shown = self._shown(frames, step)
                frames.prefetch(self._needed(frames, step, shown))
                views.append(next(clips).views)
                motion.append({} if MOTION in self._networks else _histograms(frames, shown))
            rows: list[dict[str, NDArray[np.float32]]] = [{} for _ in views]
            for place, (block, network) in enumerate(self._networks.items()):
                seen = [of_step[place] for of_step in views]
                means = mean_vectors(network.model, seen, self._normalizers[block], num_crops=1)
                for row, heads in zip(rows, means, strict=True):
                    row[block] = np.concatenate(list(heads.values()))
            for row, histograms in zip(rows, motion, strict=True):
                yield row | histograms

    def _shown(self, frames: FrameSource, step: Window) -> NDArray[np.int64]:
        """Frames of a step at the rate of the settings, and the one after them: at least two."""
        seconds = frames.seconds_of(range(step.first, step.last))
        places = np.unique(frame_indices_at_rate(seconds, self._settings.fps))
        shown = step.first + places
        if step.last in frames.available:
            shown = np.append(shown, step.last)
        elif len(shown) < 2:
            shown = np.array([step.first - 1, step.first])
        return shown

    def _needed(
        self, frames: FrameCache, step: Window, shown: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Frames of a step that are worth holding: all that the networks and histograms read."""
        if all(network.spec.fps == self._settings.fps for network in self._networks.values()):
            return shown
        every = np.union1d(np.arange(step.first, step.last), shown)
        return every if len(every) * frames.frame_bytes <= HELD_BYTES else shown


def spec_of_weights(spec: ClipSpec, settings: TeachSettings) -> ClipSpec:
    """Return what published weights are fed here: fewer and smaller frames than in their test.

    Networks that see single frames go on with one.
    """
    streams = {
        name: stream if stream.num_frames == 1 else replace(stream, num_frames=settings.frames)
        for name, stream in spec.streams.items()
    }
    return replace(
        spec, streams=streams, fps=settings.fps, short_side=settings.side, crop_size=settings.side
    )


def _frozen(name: str, settings: TeachSettings, device: str) -> Recognizer:
    """A network that is not trained any more, in a form that runs faster than its own."""
    if is_run(name):
        network = as_recognizer(name)
    else:
        network = as_recognizer(create_model(weights_entry(name).model, weights=name))
        network = replace(network, spec=spec_of_weights(network.spec, settings))
    model = copy.deepcopy(network.model).eval().requires_grad_(False)
    fold_batch_norms(model)
    channels_last(model)
    return replace(network, model=model.to(device))


def _histograms(frames: FrameSource, shown: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
    """HOF and MBH of a step."""
    images = frames.read(shown.tolist()).data
    fields = np.asarray(optical_flow(images, short_side=FLOW_SIDE).data, np.float32)
    boundaries = boundary_histogram(fields)  # (times, rows, columns, 2, bins)
    return {
        "hof": flow_histogram(fields).ravel(),
        "mbh_x": boundaries[..., 0, :].ravel(),
        "mbh_y": boundaries[..., 1, :].ravel(),
    }
