"""Maps of snippets put back where they belong: over the frames of the video, at their times."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dualstream.clips.geometry import View, source_box
from dualstream.clips.plan import ClipPlan
from dualstream.errors import ShapeError
from dualstream.types import BeyondEnd, StreamSpec

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels, the last two excluded."""


@dataclass(frozen=True, eq=False)
class Places:
    """The frames and the part of the picture that a stream's snippets were cut from."""

    frames: NDArray[np.int64]
    """(V, T) number of the frame at each step; of a flow field, of the frame that it leads from."""
    directions: NDArray[np.int64]
    """(T,) 1 at the steps of backward flow, else 0."""
    view: View
    """Box on the reference grid."""
    reference: tuple[int, int]
    """(H, W) of that grid."""
    size: tuple[int, int]
    """(H, W) of the video."""

    @property
    def grid(self) -> tuple[int, int]:
        """(H, W) that maps are laid on: the video's own, or the reference grid if that is less."""
        return self.size if min(self.size) <= min(self.reference) else self.reference

    def box(self, size: tuple[int, int]) -> Box:
        """The box that the network saw in a picture of the video with another (H, W)."""
        return source_box(self.view, reference=self.reference, source=size)


def places_of(
    plan: ClipPlan, stream: StreamSpec, beyond_end: BeyondEnd, *, size: tuple[int, int]
) -> Places:
    """Return where the snippets of a stream come from.

    Args:
        plan: of one view a snippet.
        stream, beyond_end: its input.
        size: (H, W) of the video.
    """
    (view,) = plan.views
    if stream.is_flow:
        forward, backward = plan.field_steps(stream, beyond_end)
        frames = plan.timeline[np.concatenate((forward, backward), axis=1)]
        directions = np.repeat([0, 1], [forward.shape[1], backward.shape[1]])
    else:
        frames = plan.frame_steps(stream, beyond_end)
        directions = np.zeros(frames.shape[1], np.int64)
    return Places(frames, directions.astype(np.int64), view, plan.reference, size)


def put_back(
    maps: NDArray[np.float32], places: Places
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Lay the maps of snippets over the frames that they are of.

    A frame that several steps show gets the mean of their maps.

    Args:
        maps: (V, T, h, w) in the coordinates of the crop. Of fewer steps than the snippets have,
            they are of the last ones (a difference of frames is of the later one).
        places: of the snippets; a mirrored view is mirrored back.

    Returns:
        (F,) numbers of the frames that were seen, rising, and their maps (F, H, W) on
        `places.grid`, 0 outside of the box.

    Raises:
        ShapeError: maps of other snippets.
    """
    steps = maps.shape[1] if maps.ndim == 4 else 0
    frames = places.frames[:, max(places.frames.shape[1] - steps, 0) :]
    if maps.shape[:2] != frames.shape:
        raise ShapeError(
            f"Maps of {frames.shape[0]} snippets of {frames.shape[1]} steps must be (V, T, H, W), "
            f"got {maps.shape}."
        )
    left, top, right, bottom = places.box(places.grid)
    numbers, which = np.unique(frames, return_inverse=True)
    flat, which = maps.reshape(-1, *maps.shape[2:]), which.ravel()
    laid = np.zeros((len(numbers), *places.grid), np.float32)
    for place in range(len(numbers)):
        mean = flat[which == place].mean(axis=0)
        if places.view.flip:
            mean = mean[:, ::-1]
        # As `cut_frames` reads pixels, the other way round.
        laid[place, top:bottom, left:right] = cv2.resize(
            np.ascontiguousarray(mean), (right - left, bottom - top), interpolation=cv2.INTER_LINEAR
        )
    return numbers, laid


def map_at(
    number: int, numbers: NDArray[np.int64], maps: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the map (H, W) of any frame: linear between those of the nearest frames that have one.

    Before the first and after the last it is theirs.

    Args:
        number: of the frame.
        numbers, maps: as `put_back` gives them.
    """
    after = int(np.searchsorted(numbers, number))
    nearest: NDArray[np.float32] = maps[min(after, len(numbers) - 1)]
    if after == len(numbers) or after == 0 or numbers[after] == number:
        return nearest
    share = np.float32((number - numbers[after - 1]) / (numbers[after] - numbers[after - 1]))
    between: NDArray[np.float32] = (1 - share) * maps[after - 1] + share * maps[after]
    return between
