"""`dualstream predict --out`: many videos into one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dualstream.cli.output import Progress, print_json, stderr

if TYPE_CHECKING:
    from dualstream.engine.infer.bulk import BulkSettings
    from dualstream.jobs import Shard


def predict_in_bulk(
    files: Sequence[str],
    out: Path,
    settings: BulkSettings,
    *,
    workers: int | None,
    shard: Shard | None,
    ray: str | None,
    retry_failed: bool,
    json: bool,
) -> None:
    """Show each video as it is finished, then the summary; exit code 1 if a video failed.

    Args:
        files, out, settings, shard, retry_failed: see `BulkPrediction`.
        workers, ray: see `BulkPrediction.run`.
        json: print the summary as one object.
    """
    from dualstream.engine.infer.bulk import BulkPrediction

    job = BulkPrediction(files, out, settings, shard=shard, retry_failed=retry_failed)
    results = job.run(workers=workers, ray=ray)
    total, title, console = len(job.sources), settings.content, stderr()
    done = kept = failed = fresh = 0
    with Progress(advice="Go on with the same command: what is written is kept.") as progress:
        for finished, outcome in enumerate(results, start=1):
            if outcome.error is not None:
                failed += 1
                if not outcome.is_kept:
                    text = f"{outcome.source}: {outcome.error}"
                    console.print(text, style="red", markup=False, soft_wrap=True)
            elif outcome.is_kept:
                kept += 1
            else:
                done += 1
            fresh += not outcome.is_kept
            # Networks were loaded before the first new one, so it says nothing of the rate.
            is_kept = outcome.is_kept or fresh == 1
            progress.update(title, finished, total, unit="videos", is_kept=is_kept)
    pace = progress.paces.get(title)
    rate = None if pace is None else pace.rate
    if json:
        print_json(
            {
                "out": str(job.path),
                "shard": None if shard is None else str(shard),
                "done": done,
                "kept": kept,
                "failed": failed,
                "seconds": round(progress.seconds, 3),
                "videos_per_second": None if rate is None else round(rate, 3),
            }
        )
    else:
        print(
            f"{job.path}{'' if shard is None else f' (part {shard})'}: {done} videos done, "
            f"{kept} kept, {failed} failed; {progress.seconds:.1f} s"
            + ("" if rate is None else f", {rate:.3g} videos/s")
        )
    if failed:
        raise typer.Exit(1)
