"""`dualstream flow`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from dualstream.cli.options import Json
from dualstream.cli.output import Progress, print_json
from dualstream.errors import FlowStoreError, InputError

if TYPE_CHECKING:
    from dualstream.flow.extract.estimate import FlowEstimate, Spread
    from dualstream.flow.extract.job import FlowJob, FlowOutcome, Layout
    from dualstream.flow.extract.run import Directions
    from dualstream.jobs import Shard


def flow(
    source: Annotated[
        Path,
        typer.Argument(
            help="Folder that `dualstream prepare` wrote, a video, or a folder of videos."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Flow store.  [default: SOURCE/flow beside a manifest]")
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="tvl1-fast, tvl1, dis, farneback, raft, motion-vectors, or a plugin's name."
        ),
    ] = "tvl1-fast",
    param: Annotated[
        list[str] | None,
        typer.Option(help="Setting of the method, for instance warps=2; may be repeated."),
    ] = None,
    warped: Annotated[
        bool, typer.Option("--warped", help="Remove the camera's motion from the flow.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Videos side by side, one core each.  [default: 1; all cores of --ray]", min=1
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Work on a Ray cluster: auto or HOST:PORT. All nodes must see videos and store "
            "under the same paths.",
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Only the I-th of N equal parts, for batch schedulers."),
    ] = None,
    device: Annotated[
        str, typer.Option(help="Device for tvl1, tvl1-fast and raft: cpu or cuda.")
    ] = "cpu",
    short_side: Annotated[
        int | None, typer.Option(help="Resize frames to this short side first.", min=1)
    ] = None,
    bound: Annotated[float, typer.Option(help="Largest displacement stored, in pixels.")] = 20.0,
    direction: Annotated[
        str, typer.Option(help="forward, backward, or both: backward flow goes to STORE_backward.")
    ] = "forward",
    quality: Annotated[int, typer.Option(help="JPEG quality.", min=1, max=100)] = 95,
    layout: Annotated[
        str, typer.Option("--format", help="store, or folders as MMAction2 reads them.")
    ] = "store",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Compute all again.")] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Store nothing; tell hours and gigabytes from a sample of the videos."
        ),
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compute nothing; check every stored file.")
    ] = False,
    json: Json = False,
) -> None:
    """Compute the optical flow of videos into a flow store; stopped runs go on where they were."""
    from dualstream.flow.extract.estimate import estimate_flow
    from dualstream.flow.extract.job import shard_jobs
    from dualstream.flow.extract.run import flow_settings, run_extraction, stores_of, verify_flow
    from dualstream.flow.methods.lookup import params_from_settings
    from dualstream.jobs import Shard

    given = {"--dry-run": dry_run, "--verify": verify, "--ray": ray is not None}
    names = [name for name, is_given in given.items() if is_given]
    if len(names) > 1:
        raise InputError(f"Give one of {' and '.join(names)}; they do not go together.")
    jobs, store = find_jobs(source, out)
    part = None if shard is None else Shard.parse(shard)
    if part is not None:
        jobs = shard_jobs(jobs, part)
    directions = cast("Directions", direction)
    if verify:
        results = verify_flow(jobs, stores_of(store, directions).values())
        _follow(results, jobs, title="verify", store=store, shard=part, json=json)
        return
    settings = flow_settings(
        store,
        method=method,
        params=params_from_settings(method, param) if param else None,
        device=device,
        short_side=short_side,
        bound_px=bound,
        quality=quality,
        direction=directions,
        warped=warped,
        overwrite=overwrite,
        layout=cast("Layout", layout),
    )
    if dry_run:
        _print_estimate(estimate_flow(jobs, settings, workers=workers or 1), json=json)
        return
    results = run_extraction(jobs, settings, workers=workers, ray=ray)
    _follow(results, jobs, title=f"flow ({method})", store=store, shard=part, json=json)


def _follow(
    results: Iterator[FlowOutcome],
    jobs: Sequence[FlowJob],
    *,
    title: str,
    store: Path,
    shard: Shard | None,
    json: bool,
) -> None:
    """Show each result as it comes, then the summary; exit code 1 if a video failed."""
    with Progress(advice="Go on with the same command: what is stored is kept.") as progress:
        seen = FlowOutcomes(title, jobs, progress)
        full: FlowStoreError | None = None
        try:
            for outcome in results:
                seen.add(outcome)
        except FlowStoreError as error:  # the store is full: what came before is still told
            full = error
    counts = Counter(outcome.status for outcome in seen.outcomes)
    fields = sum(outcome.num_fields for outcome in seen.outcomes)
    failures = {o.name: o.error for o in seen.outcomes if o.status == "failed"}
    seconds, rate = progress.seconds, seen.pairs_per_second
    if json:
        print_json(
            {
                "store": str(store),
                "shard": None if shard is None else str(shard),
                **{status: counts[status] for status in ("done", "kept", "failed")},
                "fields": fields,
                "seconds": round(seconds, 3),
                "pairs_per_second": None if rate is None else round(rate, 1),
                "failures": failures,
            }
        )
    else:
        for name, reason in failures.items():
            print(f"{name}: {reason}", file=sys.stderr)
        print(
            f"{store}{'' if shard is None else f' (part {shard})'}: {counts['done']} videos done, "
            f"{counts['kept']} kept, {counts['failed']} failed; {fields} flow fields"
            + ("" if rate is None else f"; {seconds:.1f} s, {rate:.1f} pairs/s")
        )
    if full is not None:
        raise full
    if failures:
        raise typer.Exit(1)


def find_jobs(source: Path, out: Path | None, *, kind: str = "flow") -> tuple[list[FlowJob], Path]:
    """Videos below `source` and the store to write, which is called `kind` beside a manifest.

    Raises:
        InputError: there is no such file or folder, no video in it, or `out` is missing.
        AnnotationError: a manifest that cannot be read.
    """
    from dualstream.flow.extract.job import FlowJob

    if (source / "manifest.csv").is_file() or source.name == "manifest.csv":
        from dualstream.clips.data.manifest import Manifest

        manifest = Manifest.read(source)
        folder = source if source.is_dir() else source.parent
        jobs = [
            FlowJob(r.path, str(manifest.video_path(r)), r.sha256 or None, r.frames)
            for r in manifest.files
        ]
        return jobs, out or folder / kind
    if source.is_file():
        jobs = [FlowJob(source.name, str(source))]
    elif source.is_dir():
        from dualstream.clips.data.video_files import list_videos

        jobs = [FlowJob(name, str(source / name)) for name in list_videos(source)]
    else:
        raise InputError(f"{source} does not exist. Give a prepared folder, a video or a folder.")
    if not jobs:
        raise InputError(f"{source} holds no manifest.csv and no video file.")
    if out is None:
        raise InputError(f"{source} has no manifest.csv beside which to store: give --out FOLDER.")
    return jobs, out


class FlowOutcomes:
    """Outcomes so far, and how fast flow is computed.

    Progress is counted in pairs of frames where the length of every video is known, so that long
    videos weigh more, else in videos.
    """

    def __init__(self, title: str, jobs: Sequence[FlowJob], progress: Progress) -> None:
        known = {job.name: max(1, job.num_frames - 1) for job in jobs if job.num_frames is not None}
        self.outcomes: list[FlowOutcome] = []
        self._title, self._progress, self._num_jobs = title, progress, len(jobs)
        self._pairs = known if len(known) == len(jobs) else None
        self._done_pairs, self._all_pairs = 0, sum(known.values())

    @property
    def pairs_per_second(self) -> float | None:
        """Rate of this run; None before a field was computed."""
        fields = sum(o.num_fields for o in self.outcomes if o.status == "done")
        seconds = self._progress.paces[self._title].seconds if fields else 0.0
        return fields / seconds if seconds > 0 else None

    def add(self, outcome: FlowOutcome) -> None:
        """Keep and show one outcome."""
        self.outcomes.append(outcome)
        done, total, unit, details = len(self.outcomes), self._num_jobs, "videos", ""
        if self._pairs is not None:
            details = f"{done}/{total} videos"
            self._done_pairs += self._pairs[outcome.name]
            done, total, unit = self._done_pairs, self._all_pairs, "pairs"
        is_kept = outcome.status == "kept"
        self._progress.update(self._title, done, total, unit=unit, details=details, is_kept=is_kept)


def _print_estimate(estimate: FlowEstimate, *, json: bool) -> None:
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
    print("\n".join(lines))


def _range(spread: Spread) -> str:
    """1.23 (1.1 to 1235): three digits without an exponent."""
    value, low, high = (
        f"{n:.0f}" if n >= 100 else f"{n:.3g}" if n >= 1e-4 else f"{n:.6f}"
        for n in (spread.value, spread.low, spread.high)
    )
    return f"{value} ({low} to {high})"
