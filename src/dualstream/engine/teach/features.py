"""What the classifier of a project sees: features of the steps of a video, of both streams.

A video is cut into steps that lie side by side. Of each step a frozen network sees some frames, and
another one their flow, or histograms of that flow are taken. A window is some neighbouring steps,
whose mean it has: windows that overlap share their steps, which are computed once.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dualstream.clips.plan import Cropping
from dualstream.clips.transforms import Normalizer
from dualstream.engine.infer.features import mean_vectors
from dualstream.engine.infer.recognizer import Recognizer, as_recognizer
from dualstream.engine.infer.window_clips import HELD_BYTES, WindowReader
from dualstream.engine.infer.windows import Window, find_windows
from dualstream.engine.teach.settings import HISTOGRAMS, TeachSettings, is_run
from dualstream.errors import InputError, check_shape
from dualstream.flow import optical_flow
from dualstream.flow.histograms import boundary_histogram, flow_histogram, root_normalized
from dualstream.models import create_model
from dualstream.models.fastest import channels_last, fold_batch_norms
from dualstream.models.weights import weights_entry
from dualstream.types import ClipSpec
from dualstream.video import VideoReader, frame_indices_at_rate
from dualstream.video.source import FrameCache, FrameSource

RGB, MOTION = "rgb", "motion"
"""Names of the networks' blocks."""

HISTOGRAM_BLOCKS = ("hof", "mbh_x", "mbh_y")
"""Blocks of motion without a network."""

FLOW_SIDE = 120
"""Short side in pixels of the frames whose flow goes into histograms."""


@dataclass(frozen=True, eq=False)
class StepFeatures:
    """Features of steps, or of windows, of one video."""

    seconds: NDArray[np.float64]
    """(M, 2) start and end of each, from the first frame."""
    blocks: Mapping[str, NDArray[np.float32]]
    """Name -> (M, D)."""

    def __post_init__(self) -> None:
        check_shape("StepFeatures.seconds", self.seconds, ("M", 2))
        for name, table in self.blocks.items():
            check_shape(
                f"StepFeatures.blocks[{name!r}]", table, (len(self.seconds), "D"), "float32"
            )

    def __len__(self) -> int:
        return len(self.seconds)


def joined(parts: Sequence[StepFeatures]) -> StepFeatures:
    """Return the features of parts of a video, at least one, one after the other."""
    return StepFeatures(
        np.concatenate([part.seconds for part in parts]),
        {name: np.concatenate([part.blocks[name] for part in parts]) for name in parts[0].blocks},
    )


def windows_of(steps: StepFeatures, *, count: int) -> StepFeatures:
    """Return the features of the windows of `count` neighbouring steps, one from each step on.

    They are means over the steps; histograms are then scaled (`root_normalized`). A video of fewer
    steps is one window. Of steps 0, 1, 2, 3 and a count of 2 the windows are 0-1, 1-2, 2-3.
    """
    count = min(count, len(steps))
    firsts = np.arange(len(steps) - count + 1)
    seconds = np.stack((steps.seconds[firsts, 0], steps.seconds[firsts + count - 1, 1]), axis=1)
    blocks = {}
    for name, table in steps.blocks.items():
        # (windows, count, D) -> (windows, D)
        means = table[firsts[:, None] + np.arange(count)].mean(axis=1)
        blocks[name] = root_normalized(means) if name in HISTOGRAM_BLOCKS else means
    return StepFeatures(seconds, blocks)


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
        for step in steps:
            shown = self._shown(frames, step)
            frames.prefetch(self._needed(frames, step, shown))
            vectors: dict[str, NDArray[np.float32]] = {}
            views = next(clips).views
            for (block, network), seen in zip(self._networks.items(), views, strict=True):
                heads = mean_vectors(
                    network.model,
                    seen,
                    self._normalizers[block],
                    segments=len(next(iter(seen.values()))),
                )
                vectors[block] = np.concatenate(list(heads.values()))
            if MOTION not in self._networks:
                vectors |= _histograms(frames, shown)
            yield vectors

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
