"""How fast an extraction goes and how long it will still take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from dualstream.flow.extract.job import FlowJob, FlowOutcome


@dataclass
class Throughput:
    """Counts what a run has done; times are given from outside, in seconds of one clock.

    Videos that the store has already take next to no time, so they count as finished but not for
    the rate: 3 of 9 videos kept at once and 2 computed in 10 s leave 4 videos and 20 s.
    """

    weights: dict[str, int] | None
    """Pairs of each video by name; None where not all are known: each video then counts 1."""
    start: float
    left: int
    """Weight of the videos that are not finished."""
    computed: int = 0
    """Weight of the videos that were computed or failed."""
    fields: int = 0
    """Flow fields computed."""
    seconds: float = 0.0
    """From the start, or the last kept video before any was computed, to the last outcome."""

    @classmethod
    def of(cls, jobs: Sequence[FlowJob], start: float) -> Throughput:
        """Nothing done yet of `jobs`."""
        known = {job.name: max(1, job.num_frames - 1) for job in jobs if job.num_frames is not None}
        weights = known if len(known) == len(jobs) else None
        return cls(weights, start, sum(known.values()) if weights else len(jobs))

    def add(self, outcome: FlowOutcome, now: float) -> int:
        """Count one outcome; returns its weight."""
        weight = 1 if self.weights is None else self.weights[outcome.name]
        self.left -= weight
        if outcome.status != "kept":
            self.computed += weight
        elif not self.computed:
            self.start = now
        if outcome.status == "done":
            self.fields += outcome.num_fields
        self.seconds = now - self.start
        return weight

    @property
    def pairs_per_second(self) -> float | None:
        """Fields computed in a second, None before there is one."""
        return self.fields / self.seconds if self.fields and self.seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """Time for the other videos at the pace so far, None before one was computed."""
        return self.left * self.seconds / self.computed if self.computed else None


def duration(seconds: float | None) -> str:
    """3725.4 -> '1:02:05'; None -> '-:--:--'."""
    if seconds is None:
        return "-:--:--"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


class FlowBar:
    """A bar on stderr with videos, pairs a second, elapsed and remaining time; a context manager.

    Args:
        title: what is done.
        jobs: the videos of the run.
    """

    def __init__(self, title: str, jobs: Sequence[FlowJob]) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        from dualstream.cli.output import stderr

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[videos]}/" + f"{len(jobs)} videos"),
            TextColumn("{task.fields[rate]} pairs/s"),
            TimeElapsedColumn(),
            TextColumn("left {task.fields[left]}"),
            console=stderr(),
        )
        self._start = time.perf_counter()
        self.throughput = Throughput.of(jobs, self._start)
        self.outcomes: list[FlowOutcome] = []
        total = self.throughput.left
        self._task = self._bar.add_task(title, total=total, videos=0, rate="-", left=duration(None))

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._bar.stop()
        if kind is KeyboardInterrupt:
            from dualstream.cli.output import stderr

            stderr().print("Go on with the same command: what is stored is kept.", soft_wrap=True)

    @property
    def seconds(self) -> float:
        """Time since the bar was made."""
        return time.perf_counter() - self._start

    def add(self, outcome: FlowOutcome) -> None:
        """Count and show one outcome."""
        self.outcomes.append(outcome)
        weight = self.throughput.add(outcome, time.perf_counter())
        rate = self.throughput.pairs_per_second
        self._bar.update(
            self._task,
            advance=weight,
            videos=len(self.outcomes),
            rate="-" if rate is None else f"{rate:.0f}",
            left=duration(self.throughput.seconds_left),
        )
