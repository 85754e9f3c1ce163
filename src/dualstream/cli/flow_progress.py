"""Outcomes of an extraction, shown as they come and kept for the summary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dualstream.cli.progress import Progress
    from dualstream.flow.extract.job import FlowJob, FlowOutcome


class FlowOutcomes:
    """Outcomes so far, and how fast flow is computed.

    Progress is counted in pairs of frames where the length of every video is known, so that long
    videos weigh more, else in videos.

    Args:
        title: what is done.
        jobs: the videos of the run.
        progress: where it is shown.
    """

    def __init__(self, title: str, jobs: Sequence[FlowJob], progress: Progress) -> None:
        known = {job.name: max(1, job.num_frames - 1) for job in jobs if job.num_frames is not None}
        self.outcomes: list[FlowOutcome] = []
        self.pairs_per_second: float | None = None
        """Of this run; None before a field was computed."""
        self._title = title
        self._progress = progress
        self._pairs = known if len(known) == len(jobs) else None
        self._total = sum(known.values()) if self._pairs else len(jobs)
        self._count = f"{len(jobs)} videos"
        self._done = self._fields = 0

    def add(self, outcome: FlowOutcome) -> None:
        """Keep and show one outcome."""
        self.outcomes.append(outcome)
        self._done += 1 if self._pairs is None else self._pairs[outcome.name]
        self._progress.update(
            self._title,
            self._done,
            self._total,
            unit="videos" if self._pairs is None else "pairs",
            details="" if self._pairs is None else f"{len(self.outcomes)}/{self._count}",
            is_kept=outcome.status == "kept",
        )
        if outcome.status == "done":
            self._fields += outcome.num_fields
        seconds = self._progress.paces[self._title].seconds
        if self._fields and seconds > 0:
            self.pairs_per_second = self._fields / seconds
