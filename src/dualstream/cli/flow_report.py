"""Summary of a `dualstream flow` run, and the estimate of a dry run."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from dualstream.cli.output import print_json, stderr, stdout

if TYPE_CHECKING:
    from pathlib import Path

    from dualstream.cli.flow_progress import FlowOutcomes
    from dualstream.flow.extract.estimate import FlowEstimate, Spread
    from dualstream.flow.extract.job import Shard


def print_summary(
    store: Path, seen: FlowOutcomes, *, seconds: float, shard: Shard | None, json: bool
) -> None:
    """Print counts, fields, time and failures of a run."""
    outcomes = seen.outcomes
    counts = {
        status: sum(outcome.status == status for outcome in outcomes)
        for status in ("done", "kept", "failed")
    }
    fields = sum(outcome.num_fields for outcome in outcomes)
    failures = {outcome.name: outcome.error for outcome in outcomes if outcome.status == "failed"}
    rate = seen.pairs_per_second
    if json:
        print_json(
            {
                "store": str(store),
                "shard": None if shard is None else str(shard),
                **counts,
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
    """1.234 (1.1 to 2): three digits each."""
    return f"{_short(spread.value)} ({_short(spread.low)} to {_short(spread.high)})"


def _short(value: float) -> str:
    """Three digits without an exponent: 1234.5 -> 1234, 12.345 -> 12.3, 0.012345 -> 0.0123."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if value >= 1e-4 else f"{value:.6f}"
