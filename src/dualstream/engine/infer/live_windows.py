"""Windows of a live source while its frames come in, and what is seen in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dualstream.engine.infer.windows import Window, sliding, window_between
from dualstream.types import top_classes
from dualstream.video.cuts import LEAST_SCENE_SECONDS, NEIGHBOURS, CutFinder
from dualstream.video.live import LiveReader, Take
from dualstream.video.times import CLOCK_ROUNDING_SECONDS


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


class LiveWindows:
    """Windows of one take, scene by scene: those of `find_windows` with a step.

    Args:
        live: the source.
        take: of that source.
        window_seconds, step_seconds: length, and from a window's start to the next one's.
        finds_cuts: whether a new scene begins at cuts, which are found by differences.
        most_delay_seconds: windows that ended so long before the newest frame are left out; None
            leaves out none.
    """

    def __init__(
        self,
        live: LiveReader,
        take: Take,
        *,
        window_seconds: float,
        step_seconds: float,
        finds_cuts: bool,
        most_delay_seconds: float | None,
    ) -> None:
        self._live, self._take = live, take
        self._length, self._step = window_seconds, step_seconds
        self._most_delay = most_delay_seconds
        self._finds_cuts = finds_cuts
        self._finder = CutFinder()
        self._num_looked_at = 0
        self._finder_start = 0  # number of the first frame that the finder was given
        self._seen_until = 0  # number of the first frame that no window has held
        self._is_finished = False
        self.num_unseen = 0
        """Frames so far that no window held."""

    def __iter__(self) -> Iterator[Window]:
        """Yield each window when its last frame has come."""
        first, start, place = 0, self._take.first_seconds, 0
        while True:
            due = start + place * self._step + self._length
            more = NEIGHBOURS if self._finds_cuts else 0
            came = self._live.wait_for(self._take, due - CLOCK_ROUNDING_SECONDS, frames_more=more)
            cut = self._next_cut(start)
            if cut is not None or not came:
                end = self._take.end_seconds if cut is None else self._seconds(cut)
                last = self._take.buffer.available.stop if cut is None else cut
                for stretch in sliding(start, end, self._length, self._step)[place:]:
                    yield from self._between(*stretch, first, last)
                if cut is None:
                    return
                first, start, place = cut, end, 0
                self._live.release(self._take, cut)
                continue
            newest = self._take.last_seconds
            if self._most_delay is not None and newest - due > self._most_delay:
                place += int((newest - due) / self._step)
            stretch = start + place * self._step, start + place * self._step + self._length
            yield from self._between(*stretch, first, self._take.buffer.available.stop)
            place += 1
            self._live.release(self._take, self._first_after(start + place * self._step))

    def _seconds(self, number: int) -> float:
        return float(self._take.buffer.seconds_of([number])[0])

    def _first_after(self, seconds: float) -> int:
        held = self._take.buffer.available
        times = self._take.buffer.seconds_of(held)
        return held.start + int(np.searchsorted(times, seconds - CLOCK_ROUNDING_SECONDS))

    def _between(self, start: float, end: float, first: int, last: int) -> Iterator[Window]:
        """The window of a stretch of time, if all its frames are still held."""
        held = self._take.buffer.available
        times = self._take.buffer.seconds_of(held)
        inside = max(first, held.start) - held.start, last - held.start
        window = window_between(times, start, end, first=inside[0], last=inside[1])
        has_passed = held.start > first and times[0] > start + CLOCK_ROUNDING_SECONDS
        if window is None or has_passed:
            return
        window = window._replace(first=window.first + held.start, last=window.last + held.start)
        self.num_unseen += max(0, window.first - self._seen_until)
        self._seen_until = max(self._seen_until, window.last)
        yield window

    def _next_cut(self, start: float) -> int | None:
        """Number of the next frame that begins a scene, among those that have come."""
        if not self._finds_cuts:
            return None
        held = self._take.buffer.available
        if held.start > self._num_looked_at:  # frames have passed unseen
            self._finder, self._finder_start = CutFinder(), held.start
            self._num_looked_at = held.start
        while True:
            cuts: list[int] = []
            if self._num_looked_at < held.stop:
                cuts = self._finder.add(self._take.buffer.read([self._num_looked_at]).data)
                self._num_looked_at += 1
            elif self._take.is_over and not self._is_finished:
                cuts, self._is_finished = self._finder.finish(), True
            else:
                return None
            for cut in cuts:
                number = self._finder_start + cut
                if self._seconds(number) - start >= LEAST_SCENE_SECONDS:
                    return number
