"""Progress and summary of a `dualstream flow` run, and the estimate of a dry run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from dualstream.cli.output import print_json, stderr, stdout

if TYPE_CHECKING:
    from pathlib import Path

    from dualstream.cli.progress import Progress
    from dualstream.flow.extract.estimate import FlowEstimate, Spread
    from dualstream.flow.extract.job import FlowJob, FlowOutcome, Shard


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
        self._title, self._progress, self._num_jobs = title, progress, len(jobs)
        self._pairs = known if len(known) == len(jobs) else None
        self._done = self._fields = 0

    def add(self, outcome: FlowOutcome) -> None:
        """Keep and show one outcome."""
        self.outcomes.append(outcome)
        done, total, unit, details = len(self.outcomes), self._num_jobs, "videos", ""
        if self._pairs is not None:
            details = f"{done}/{total} videos"
            self._done += self._pairs[outcome.name]
            done, total, unit = self._done, sum(self._pairs.values()), "pairs"
        is_kept = outcome.status == "kept"
        self._progress.update(self._title, done, total, unit=unit, details=details, is_kept=is_kept)
        if outcome.status == "done":
            self._fields += outcome.num_fields
        seconds = self._progress.paces[self._title].seconds
        if self._fields and seconds > 0:
            self.pairs_per_second = self._fields / seconds


def print_summary(
    store: Path, seen: FlowOutcomes, *, seconds: float, shard: Shard | None, json: bool
) -> None:
    """Print counts, fields, time and failures of a run."""
    counts = Counter(outcome.status for outcome in seen.outcomes)
    fields = sum(outcome.num_fields for outcome in seen.outcomes)
    failures = {o.name: o.error for o in seen.outcomes if o.status == "failed"}
    rate = seen.pairs_per_second
    if json:
        print_json(
            {
                "store": str(store),
                "shard": None if shard is None else str(shard),
                "done": counts["done"],
                "kept": counts["kept"],
                "failed": counts["failed"],
                "fields": fields,
                "seconds": round(seconds, 3),
                "pairs_per_second": None if rate is None else round(rate, 1),
                "failures": failures,
            }
        )
        return
    for name, error in failures.items():
        stderr().print(f"{name}: {error}", markup=False, soft_wrap=True)
    text = (
        f"{store}{'' if shard is None else f' (part {shard})'}: {counts['done']} videos done, "
        f"{counts['kept']} kept, {counts['failed']} failed; {fields} flow fields"
    )
    if rate is not None:
        text += f"; {seconds:.1f} s, {rate:.1f} pairs/s"
    stdout().print(text, markup=False, soft_wrap=True)


def print_estimate(estimate: FlowEstimate, *, json: bool) -> None:
    """Print the cost of a run, with the range over the sampled videos."""
    if json:
        print_json(asdict(estimate))
        return
    workers = "1 worker" if estimate.workers == 1 else f"{estimate.workers} workers"
    lines = [
        f"{estimate.num_videos} videos, {estimate.num_pairs} pairs; {estimate.num_sampled} sampled",
        f"pairs/s of a worker: {_range(estimate.pairs_per_second)}",
        f"hours with {workers}: {_range(estimate.hours)}",
        f"gigabytes: {_range(estimate.gigabytes)}",
    ]
    if estimate.num_unreadable:
        lines.append(f"{estimate.num_unreadable} videos tell no length and are not counted.")
    lines.append("Nothing was stored. Ranges: if all were like the fastest or slowest sampled.")
    for line in lines:
        stdout().print(line, markup=False, soft_wrap=True)


def _range(spread: Spread) -> str:
    """1.234 (1.1 to 2)."""
    return f"{_short(spread.value)} ({_short(spread.low)} to {_short(spread.high)})"


def _short(value: float) -> str:
    """Three digits without an exponent: 1234.5 -> 1234, 12.345 -> 12.3, 0.012345 -> 0.0123."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}" if value >= 1e-4 else f"{value:.6f}"
