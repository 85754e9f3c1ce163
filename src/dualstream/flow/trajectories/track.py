"""Improved dense trajectories of a video, in memory that does not grow with its length."""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dualstream.errors import InputError, MissingDependencyError, check_least
from dualstream.flow.camera import estimate_camera_motion, warp_back
from dualstream.flow.compute import RUN_LENGTH, optical_flow
from dualstream.flow.images import grey_images, one_opencv_thread
from dualstream.flow.methods.params import DEFAULT_METHOD
from dualstream.flow.trajectories.arrays import Trajectories
from dualstream.flow.trajectories.rules import is_kept, places
from dualstream.types import Flow, Frames
from dualstream.video.reader import VideoReader
from dualstream.video.source import FrameArray, FrameSource

PATCH_PX = 32
"""Side of the square that is described around a point; a scale of the video is no smaller."""
SCALE_STEP = 2**0.5
TIMES = 3
"""Parts of a trajectory that are described one after the other."""
MEDIAN_PX = 5
MIN_MATCHES, MIN_INLIERS = 51, 25
"""For the camera's motion to be removed."""

_kernel: ModuleType | None
try:
    _kernel = importlib.import_module("dualstream.flow._trajectories")
except ImportError:  # installed where no compiler was
    _kernel = None


@dataclass(frozen=True)
class TrajectoryParams:
    """How points are chosen and followed; the defaults are the authors'."""

    method: str = DEFAULT_METHOD
    """Flow method, a name as `optical_flow` takes."""
    scales: int = 8
    """At most; a factor of the square root of 2 apart, none smaller than a patch of 32 px."""
    step_px: int = 5
    """Side of the cells of each scale, which hold one point at least where there is structure."""
    quality: float = 0.001
    """Smallest corner measure of a point, in relation to the largest of the image."""
    length: int = 15
    """Steps of a trajectory: a multiple of 3."""

    def __post_init__(self) -> None:
        check_least(1, scales=self.scales, step_px=self.step_px)
        if self.length < TIMES or self.length % TIMES:
            raise InputError(f"length must be a multiple of {TIMES} from it on, got {self.length}.")
        if not 0 <= self.quality < 1:
            raise InputError(f"quality must be 0 or above and below 1, got {self.quality}.")


def dense_trajectories(
    source: str | os.PathLike[str] | FrameSource | Frames,
    *,
    params: TrajectoryParams | None = None,
) -> Trajectories:
    """Follow points through a video and describe what is seen around them.

    Points lie on a grid of every scale where the image has structure, and follow the
    median-filtered flow for 15 frames; new ones begin wherever a cell has become empty. Motion of
    the camera is removed by a homography from SIFT features and flow (the authors' SURF is patented
    and not in free builds of OpenCV): what moves with the background is dropped. Around the others
    gradients (HOG), flow (HOF) and changes of flow (MBH) are counted in cells of space and time.

    All trajectories are held at once, some 900 bytes each and often tens of thousands a second of
    video; `trajectory_runs` gives them a part at a time.

    Args:
        source: a video file or URL, or frames, at least 32x32 px.
        params: None takes the authors'.

    Returns:
        Trajectories; none where the video has fewer than 16 frames, or nothing moves in it.

    Raises:
        MissingDependencyError: the compiled kernel was not built.
        InputError: frames below 32 px, or a flow method that sees no frames.
        VideoError: the file cannot be read.

    Source:
        Wang & Schmid 2013, "Action Recognition with Improved Trajectories", and their release.
    """
    params = params or TrajectoryParams()
    with ExitStack() as stack:
        if isinstance(source, Frames):
            source = FrameArray(source)
        elif isinstance(source, str | os.PathLike):
            source = stack.enter_context(VideoReader(source))
        runs = trajectory_runs(source, params=params)
        return Trajectories.joined([Trajectories.empty(params.length), *runs])


def trajectory_runs(
    frames: FrameSource,
    *,
    numbers: range | None = None,
    params: TrajectoryParams | None = None,
) -> Iterator[Trajectories]:
    """Yield the trajectories of a video as they end, those of up to 32 frames at a time.

    Memory is that of 33 frames and of the points that are followed, however long the video is.

    Args:
        frames: of the video.
        numbers: frames to look at, neighbours; None takes all.
        params: None takes the authors'.

    Raises:
        DualstreamError: as of `dense_trajectories`.
    """
    params = params or TrajectoryParams()
    if _kernel is None:
        raise MissingDependencyError(
            "Dense trajectories need the compiled kernel, and this dualstream was installed "
            "without a C++ compiler. Install a compiler and run `pip install --force-reinstall "
            "--no-deps dualstream`."
        )
    numbers = frames.available if numbers is None else numbers
    if min(frames.size) < PATCH_PX:
        raise InputError(
            f"{frames.name or 'The video'} is {frames.size[1]}x{frames.size[0]} px; trajectories "
            f"are described by patches of {PATCH_PX} px. Give a larger video."
        )
    if len(numbers) <= params.length:
        return
    tracks = _Tracks(_kernel, frames.size, numbers, params)
    for first in range(0, len(numbers) - 1, RUN_LENGTH):
        run = frames.read(numbers[first : first + RUN_LENGTH + 1])
        with one_opencv_thread():
            parts = [part for step in _steps(run, params.method) for part in tracks.follow(*step)]
        if parts:
            yield Trajectories.joined(parts)


def level_sizes(size: tuple[int, int], scales: int) -> list[tuple[int, int]]:
    """Return (H, W) of each scale: 240x320, 170x226, 120x160, ... down to a patch."""
    count = int(math.log(min(size) / PATCH_PX, SCALE_STEP) + 1e-9) + 1
    shrunk = (SCALE_STEP**level for level in range(min(scales, count)))
    return [(round(size[0] / by), round(size[1] / by)) for by in shrunk]


Step = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]
"""A grey image (H, W), the flow (2, H, W) from it to the next one, and that without the camera."""


def _steps(frames: Frames, method: str) -> Iterator[Step]:
    """Yield each image but the last with its flow, median-filtered."""
    greys = grey_images(frames.data)
    flow = _filtered(optical_flow(greys, method=method).data)
    camera = estimate_camera_motion(
        frames,
        Flow(flow, method, frames.source),
        min_matches=MIN_MATCHES,
        min_inliers=MIN_INLIERS,
    )
    for grey, following, field, homography in zip(
        greys[:-1], greys[1:], flow, camera.homographies, strict=True
    ):
        warped = field
        if not np.array_equal(homography, np.eye(3)):
            pair = np.stack((grey, warp_back(grey, following, homography)))
            (warped,) = _filtered(optical_flow(pair, method=method).data)
        yield grey, field, warped


def _filtered(flow: NDArray[Any]) -> NDArray[np.float32]:
    """(T, 2, H, W) -> the same, each plane by a median of 5x5."""
    planes = [[cv2.medianBlur(plane, MEDIAN_PX) for plane in field] for field in flow]
    return np.asarray(planes, np.float32)


class _Tracks:
    """Points on all scales of one video."""

    def __init__(
        self, kernel: ModuleType, size: tuple[int, int], numbers: range, params: TrajectoryParams
    ) -> None:
        self._size, self._numbers, self._params = size, numbers, params
        self._next = 1
        """Place in `numbers` of the frame that the next step leads to."""
        sizes = level_sizes(size, params.scales)
        given = {"length": params.length, "step": params.step_px}
        self._levels = {(h, w): kernel.Tracker(height=h, width=w, **given) for h, w in sizes}

    def follow(
        self, image: NDArray[np.uint8], flow: NDArray[np.float32], warped: NDArray[np.float32]
    ) -> list[Trajectories]:
        """Begin new points and move all on by a frame; return those that end, if any."""
        ended: list[Trajectories] = []
        for level, ((height, width), tracker) in enumerate(self._levels.items()):
            image = np.asarray(cv2.resize(image, (width, height)), np.uint8)
            corners = cv2.cornerMinEigenVal(image, 3, ksize=3)
            tracker.sample(corners, float(corners.max()) * self._params.quality)
            fields = (_resized(field, (height, width)) for field in (flow, warped))
            rows = tracker.follow(image.astype(np.float32), *fields)
            if len(rows):
                ended.append(self._finished(rows, SCALE_STEP**level))
        self._next += 1
        return [part for part in ended if len(part)]

    def _finished(self, rows: NDArray[np.float32], scale: float) -> Trajectories:
        """Trajectories of the rows of a tracker that are to be kept."""
        length = self._params.length
        points = scale * rows[:, : 2 * length + 2].reshape(-1, length + 1, 2)
        displacements = scale * rows[:, 2 * length + 2 : 4 * length + 2].reshape(-1, length, 2)
        kept = is_kept(points, displacements)
        points, displacements = points[kept], displacements[kept]
        place = places(
            points,
            frame=self._numbers[self._next],
            scale=scale,
            size=self._size,
            time=(self._next - length / 2) / len(self._numbers),
        )
        way = np.hypot(displacements[..., 0], displacements[..., 1]).sum(axis=1)  # above 1 px
        shape = displacements.reshape(len(place), 2 * length) / way[:, None]
        return Trajectories.from_table(
            np.concatenate((place, shape, rows[kept, 4 * length + 2 :]), axis=1)
        )


def _resized(field: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """(2, H, W) flow on another grid, in its pixels."""
    if field.shape[1:] == size:
        return field
    planes = [
        cv2.resize(plane, size[::-1], interpolation=cv2.INTER_AREA) * (new / old)
        for plane, new, old in zip(field, size[::-1], field.shape[:0:-1], strict=True)
    ]
    return np.asarray(planes, np.float32)
