"""Reading windows of a video: views for each network, frames and flow shared by all."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dualstream.clips.plan import ClipPlan, Cropping, Sampling, plan_clip
from dualstream.clips.read import read_views
from dualstream.engine.infer.recognizer import Recognizes, Views
from dualstream.engine.infer.snippets import shared_starts, timelines
from dualstream.engine.infer.windows import Window
from dualstream.errors import CorruptVideoError
from dualstream.flow import ComputedFlow, FlowSource
from dualstream.flow.coded import CodedFields, CodedFlow
from dualstream.flow.compute import FieldCache
from dualstream.flow.methods.lookup import find_method
from dualstream.jobs import num_threads
from dualstream.types import Clip, ClipSpec
from dualstream.video import frame_indices_at_rate
from dualstream.video.source import FrameCache, FrameSource

MOST_SEGMENTS = 8
"""Snippets a window, where their number is not given."""

HELD_BYTES = 256 * 2**20
"""Frames of a window that are held at once, unless one snippet needs more; bounds memory, changes
no result."""

AHEAD_BYTES = 512 * 2**20
"""Frames of a window that are kept for the windows that overlap it; bounds memory, changes no
result."""


@dataclass(frozen=True, eq=False)
class WindowClips:
    """A window of a video, as the networks see it."""

    start_seconds: float
    end_seconds: float
    first: int
    """Number of its first frame."""
    views: tuple[Views, ...]
    """Stream -> bytes (V, C, T, H, W), for each network; without snippets that are known."""
    plans: tuple[ClipPlan, ...]
    """Frames and boxes of each network's views."""
    snippets: tuple[tuple[int, ...] | None, ...]
    """For each network: number of the first frame of each snippet, which tells all of it, where
    windows share them; else None."""
    name: str
    """Of the video."""

    @property
    def clips(self) -> tuple[Clip, ...]:
        """The views as clips of tensors, which share their memory; one for each network."""
        import torch

        return tuple(
            Clip(
                {stream: torch.as_tensor(value) for stream, value in views.items()},
                torch.tensor(-1),
                (self.name,),
            )
            for views in self.views
        )


class WindowReader:
    """Windows of one video as networks see them.

    Networks, streams and windows share the frames, which are read once while they are held, and
    the flow, which is computed once while it is kept.

    Args:
        frames: of the video.
        recognizers: the networks.
        segments: snippets a window; None takes `default_segments` of each network.
        cropping: views of a snippet.
        step_seconds: from a window's start to the next one's, where they overlap: their snippets
            are then laid where they share them. None lays them evenly in each window.
        path: file that the frames are of; methods that read flow which the file holds, such as
            motion vectors, need it.
    """

    def __init__(
        self,
        frames: FrameSource,
        recognizers: Sequence[Recognizes],
        *,
        segments: int | None,
        cropping: Cropping,
        step_seconds: float | None = None,
        path: str | None = None,
    ) -> None:
        self._frames = FrameCache(frames)
        self._recognizers = tuple(recognizers)
        self._segments, self._cropping, self._step = segments, cropping, step_seconds
        self._flow = _FlowOfVideo(path)

    def read_all(
        self, windows: Sequence[Window], *, known: Sequence[Collection[int]] | None = None
    ) -> Iterator[WindowClips]:
        """Yield the views of each window.

        Frames that a later window needs again are kept for it.

        Args:
            windows: in their order.
            known: for each network the snippets, by their first frames, that need not be read.
                Those of a window must be among them before the next window is asked for. None
                reads all snippets of every window.

        Raises:
            InputError: a method needs `path`.
            VideoError: the frames cannot be read, or there are none.
        """
        planned: dict[int, _Planned] = {}
        starts = [window.first for window in windows]
        seen = None if known is None else [set(snippets) for snippets in known]
        for place, window in enumerate(windows):
            overlapping = range(place + 1, bisect_left(starts, window.last, lo=place + 1))
            for number in (place, *overlapping):
                if number not in planned:
                    planned[number] = self._planned(windows[number], seen)
            now = planned.pop(place)
            later = [other.needed for other in planned.values()]
            ahead = np.unique(np.concatenate(later)) if later else np.empty(0, np.int64)
            ahead = ahead[ahead < window.last][: AHEAD_BYTES // self._frames.frame_bytes]
            self._flow.computed.forget(before=window.first)
            yield WindowClips(
                window.start_seconds,
                window.end_seconds,
                window.first,
                self._read(now, ahead),
                tuple(now.plans),
                tuple(now.snippets),
                self._frames.name,
            )

    def read(
        self, window: Window, *, known: Sequence[Collection[int]] | None = None
    ) -> WindowClips:
        """Return the views of one window; arguments and errors as of `read_all`."""
        return next(self.read_all([window], known=known))

    def _planned(self, window: Window, seen: Sequence[set[int]] | None) -> _Planned:
        """Plan a window; its snippets are added to those that are seen."""
        found = [self._plan(recognizer, window) for recognizer in self._recognizers]
        plans, snippets = [plan for plan, _ in found], [firsts for _, firsts in found]
        unread = list(plans)
        for place, firsts in enumerate(snippets):
            if seen is None or firsts is None:
                continue
            # A snippet that serves twice is read once.
            new = [n for n, one in enumerate(firsts) if one not in {*seen[place], *firsts[:n]}]
            unread[place] = replace(plans[place], starts=plans[place].starts[new])
            seen[place].update(firsts)
        return _Planned(plans, snippets, unread, self._needed(unread))

    def _plan(
        self, recognizer: Recognizes, window: Window
    ) -> tuple[ClipPlan, tuple[int, ...] | None]:
        """Plan the clip of one network; and the first frames of snippets that windows share."""
        frames, spec = self._frames, recognizer.spec
        numbers = frames.available
        first, last = window.first, window.last
        if spec.flow_streams and last - first < 2:
            # One frame alone does not move; its neighbour in the video tells how it got there.
            first = max(numbers.start, min(first, numbers.stop - 2))
            last = min(first + 2, numbers.stop)
        if spec.flow_streams and last - first < 2:
            raise CorruptVideoError(
                f"{frames.name} has one frame only; optical flow needs two. Predict it with a "
                "network that sees RGB."
            )
        timeline, seconds = np.arange(first, last), frames.seconds_of(range(first, last))
        if spec.fps is not None:
            timeline = first + frame_indices_at_rate(seconds, spec.fps)
        positions = max(1, len(timeline) - bool(spec.flow_streams))
        joined = recognizer.joins_segments
        segments = self._segments or recognizer.num_segments
        segments = segments or default_segments(spec, positions=positions, joined=joined)
        plan = plan_clip(
            spec,
            timeline=timeline,
            size=frames.size,
            sampling=Sampling("evenly_spaced", segments=segments),
            cropping=self._cropping,
        )
        starts = None
        if self._step is not None:
            starts = shared_starts(
                seconds,
                spec,
                start_seconds=window.start_seconds,
                step_seconds=self._step,
                count=segments,
            )
        if starts is None:
            return plan, None
        shown, places = timelines(seconds, spec, starts)
        plan = replace(plan, timeline=first + shown, num_fields=len(shown) - 1, starts=places)
        return plan, None if joined else tuple((first + starts).tolist())

    def _read(self, planned: _Planned, ahead: NDArray[np.int64]) -> tuple[Views, ...]:
        """Views for each network, read in so many parts that the frames of each fit."""
        frames, plans = self._frames, planned.unread
        num_parts = max(1, -(-len(planned.needed) * frames.frame_bytes // HELD_BYTES))
        parts: list[list[Views]] = [[] for _ in plans]
        split = [plan.parts(max(1, -(-len(plan.starts) // num_parts))) for plan in plans]
        for now in zip_longest(*split):  # None for a network whose snippets are all read
            frames.prefetch(np.union1d(self._needed(now), ahead))
            for views, recognizer, plan in zip(parts, self._recognizers, now, strict=True):
                if plan is not None:
                    flow = self._flow.sources(frames, recognizer, plan)
                    views.append(read_views(plan, frames, flow, recognizer.spec))
        return tuple(
            {name: np.concatenate([part[name] for part in views]) for name in views[0]}
            if len(views) > 1
            else (views or [{}])[0]
            for views in parts
        )

    def _needed(self, plans: Sequence[ClipPlan | None]) -> NDArray[np.int64]:
        """Frames that the networks of a window need, rising."""
        pairs = zip(self._recognizers, plans, strict=True)
        needed = [p.frames_needed(r.spec) for r, p in pairs if p is not None]
        return np.unique(np.concatenate(needed))


class _Planned(NamedTuple):
    """A window that is to be read."""

    plans: list[ClipPlan]
    """Of each network."""
    snippets: list[tuple[int, ...] | None]
    """See `WindowClips.snippets`."""
    unread: list[ClipPlan]
    """The plans without the snippets that are known, or are read with a window before."""
    needed: NDArray[np.int64]
    """Frames that those need, rising."""


class _FlowOfVideo:
    """Flow of one video: computed from its frames, or held by its file and read along with them."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._held: dict[object, CodedFields] = {}
        self.computed = FieldCache()

    def sources(
        self, frames: FrameSource, recognizer: Recognizes, plan: ClipPlan
    ) -> dict[str, FlowSource]:
        """Flow of each stream of a network."""
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
            else:
                flow[name] = ComputedFlow(
                    frames,
                    plan.timeline,
                    method=method.name,
                    params=params,
                    **grid,
                    num_threads=num_threads(),
                    cache=self.computed,
                )
        return flow


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
