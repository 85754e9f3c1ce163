"""Time and storage of an extraction, estimated from a sample of its videos."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dualstream.errors import FlowError, VideoError
from dualstream.flow.extract.job import FlowJob, FlowSettings
from dualstream.flow.extract.run import run_extraction
from dualstream.video import probe

SAMPLE_VIDEOS = 8
SAMPLE_FIELDS = 128
"""Fields computed of each video of the sample, unless it has fewer."""


@dataclass(frozen=True)
class Spread:
    """A figure and its range over the videos of the sample."""

    low: float
    value: float
    high: float


@dataclass(frozen=True)
class FlowEstimate:
    """Cost of a whole run, if the other videos are like those of the sample."""

    num_videos: int
    num_pairs: int
    """Pairs of frames to compute in all videos."""
    num_unreadable: int
    """Videos of which no length could be found; they are not counted."""
    num_sampled: int
    """Videos of the sample that could be computed."""
    workers: int
    pairs_per_second: Spread
    """Of one worker while all of them work."""
    hours: Spread
    """Of the whole run; the range has all videos as fast as the fastest or slowest sampled."""
    gigabytes: Spread
    """10^9 bytes, without what the file system adds to each file."""


def estimate_flow(
    jobs: Sequence[FlowJob], settings: FlowSettings, *, workers: int = 1, seed: int = 0
) -> FlowEstimate:
    """Compute the flow of a few videos into a temporary folder and reckon the rest from them.

    What the store has already is counted as if it had to be computed. Lengths come from the jobs,
    else from the files' headers.

    Args:
        jobs: the videos.
        settings: how their flow will be made; nothing is written below their `roots`.
        workers: processes side by side; the sample is computed by as many, so that what they take
            from each other is in the figure.
        seed: chooses the sample.

    Raises:
        FlowError: no video of the sample can be computed; the message gives the first reason.
    """
    counts = [num_pairs(job) for job in jobs]
    readable = [job for job, count in zip(jobs, counts, strict=True) if count]
    sample = random.Random(seed).sample(readable, min(len(readable), max(SAMPLE_VIDEOS, workers)))
    with tempfile.TemporaryDirectory(prefix="dualstream-") as folder:
        roots = {direction: Path(folder, direction) for direction in settings.roots}
        trial = replace(settings, roots=roots, overwrite=True, max_fields=SAMPLE_FIELDS)
        outcomes = list(run_extraction(sample, trial, workers=workers, ray=None))
        done = [outcome for outcome in outcomes if outcome.status == "done"]
        sizes = [sum(_bytes(trial.target(o.name, d)) for d in trial.roots) for o in done]
    if not done:
        reasons = [outcome.error for outcome in outcomes] or ["none of them can be read"]
        raise FlowError(f"Nothing can be estimated from {len(jobs)} videos: {reasons[0]}")
    total = sum(counts)
    fields = [outcome.num_fields for outcome in done]
    rate = _spread(fields, [outcome.seconds for outcome in done])
    hours = total / 3600 / workers
    return FlowEstimate(
        num_videos=len(jobs),
        num_pairs=total,
        num_unreadable=counts.count(0),
        num_sampled=len(done),
        workers=workers,
        pairs_per_second=rate,
        hours=Spread(hours / rate.high, hours / rate.value, hours / rate.low),
        gigabytes=_spread([total * size / 1e9 for size in sizes], fields),
    )


def num_pairs(job: FlowJob) -> int:
    """Pairs of neighbouring frames by the job or the file's header, 0 if neither has them."""
    if job.num_frames is not None:
        return max(0, job.num_frames - 1)
    try:
        info = probe(job.path)
    except VideoError:
        return 0
    frames = info.num_frames_from_header
    if frames is None and info.duration_seconds_from_header is not None:
        frames = round(info.duration_seconds_from_header * info.fps)
    return max(0, (frames or 0) - 1)


def _spread(above: Sequence[float], below: Sequence[float]) -> Spread:
    """Sum over sum, and the range of the single quotients."""
    quotients = [a / b for a, b in zip(above, below, strict=True)]
    return Spread(min(quotients), sum(above) / sum(below), max(quotients))


def _bytes(path: Path) -> int:
    """Size of a flow file or of the images of a folder."""
    return sum(file.stat().st_size for file in (path.iterdir() if path.is_dir() else [path]))
