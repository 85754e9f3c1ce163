"""Rate and time left of an extraction; the clock is a number."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from dualstream.cli.flow import FlowOutcomes
from dualstream.cli.output import Progress
from dualstream.flow import FlowJob, FlowOutcome


class Run:
    """An extraction of videos with so many frames, and what it prints to a log."""

    def __init__(self, *frames: int | None) -> None:
        self.now = 100.0
        self._log = io.StringIO()
        jobs = [FlowJob(f"{n}", "", num_frames=count) for n, count in enumerate(frames)]
        console = Console(file=self._log, width=120, highlight=False)
        self.progress = Progress(console=console, clock=lambda: self.now)
        self.seen = FlowOutcomes("flow (dis)", jobs, self.progress)

    def end(self, name: int, fields: int = 0, *, after: float, status: str = "done") -> None:
        """A video ends `after` seconds after the one before."""
        self.now += after
        self.seen.add(FlowOutcome(str(name), status, fields, 0.0))  # type: ignore[arg-type]

    @property
    def rate_and_left(self) -> tuple[float | None, float | None]:
        return self.seen.pairs_per_second, self.progress.paces["flow (dis)"].seconds_left

    @property
    def lines(self) -> list[str]:
        return self._log.getvalue().splitlines()


def test_frames_weigh_the_videos() -> None:
    run = Run(11, 31, 61)
    run.end(0, 10, after=5)
    assert run.rate_and_left == (2, 45)
    run.end(2, 60, after=5)
    assert run.rate_and_left == (7, pytest.approx(30 / 7))
    run.end(1, 30, after=30)
    assert run.rate_and_left == (2.5, 0)
    assert run.lines == [
        "flow (dis): 100 of 100 pairs, 3/3 videos, 2.5 pairs/s, in 0:00:40",
    ]


def test_without_frames_videos_count_alike() -> None:
    run = Run(None, 31, 61, None)
    run.end(1, 30, after=31)
    assert run.rate_and_left == (pytest.approx(30 / 31), 93)
    assert run.lines == ["flow (dis): 1 of 4 videos, 0.0323 videos/s, 0:01:33 left"]


def test_kept_videos_do_not_make_the_rest_look_fast() -> None:
    run = Run(*[11] * 9)
    for name in range(3):
        run.end(name, 10, after=0.2, status="kept")
    assert run.rate_and_left == (None, None)
    for name in (3, 4):
        run.end(name, 10, after=5)
    assert run.rate_and_left == (2, 20)


def test_failed_videos_take_their_time_and_give_no_field() -> None:
    run = Run(11, 11, 11)
    run.end(0, after=4, status="failed")
    assert run.rate_and_left == (None, 8)
    run.end(1, 10, after=1)
    assert run.rate_and_left == (2, 2.5)


def test_what_an_outcome_costs_does_not_grow_with_the_jobs() -> None:
    """A sum over all videos at each of a million would take hours."""

    class Counted(dict):  # type: ignore[type-arg]
        looks = 0

        def values(self):  # type: ignore[no-untyped-def]
            Counted.looks += 1
            return super().values()

    run = Run(*[10] * 50)
    run.seen._pairs = Counted(run.seen._pairs or {})
    for number in range(50):
        run.end(number, 9, after=1.0)
    assert Counted.looks == 0
