"""`dualstream flow`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

if TYPE_CHECKING:
    from dualstream.flow import Direction, FlowJob, FlowMethod, FlowOutcome
    from dualstream.flow.extract import Layout


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
    method: Annotated[str, typer.Option(help="dis, farneback, tvl1 or raft.")] = "dis",
    param: Annotated[
        list[str] | None,
        typer.Option(help="Setting of the method, for instance preset=fast; may be repeated."),
    ] = None,
    workers: Annotated[
        int, typer.Option(help="Processes side by side, one thread each.", min=1)
    ] = 1,
    device: Annotated[str, typer.Option(help="Device for tvl1 and raft: cpu or cuda.")] = "cpu",
    short_side: Annotated[
        int | None, typer.Option(help="Resize frames to this short side first.", min=1)
    ] = None,
    bound: Annotated[float, typer.Option(help="Largest displacement stored, in pixels.")] = 20.0,
    direction: Annotated[str, typer.Option(help="forward or backward.")] = "forward",
    quality: Annotated[int, typer.Option(help="JPEG quality.", min=1, max=100)] = 95,
    layout: Annotated[
        str, typer.Option("--format", help="store, or folders as MMAction2 reads them.")
    ] = "store",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Compute all anew.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compute nothing; check every stored file.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compute the optical flow of videos into a flow store; stopped runs go on where they were."""
    from dualstream.cli.output import progress_bar
    from dualstream.flow import extract_flow, params_from_settings

    jobs, store = find_jobs(source, out)
    if verify:
        results = verify_jobs(jobs, store)
    else:
        results = extract_flow(
            jobs,
            store,
            method=cast("FlowMethod", method),
            params=params_from_settings(method, param or ()),
            workers=workers,
            device=device,
            short_side=short_side,
            bound_px=bound,
            quality=quality,
            direction=cast("Direction", direction),
            overwrite=overwrite,
            layout=cast("Layout", layout),
        )
    outcomes: list[FlowOutcome] = []
    with progress_bar("videos") as bar:
        task = bar.add_task("verify" if verify else f"flow ({method})", total=len(jobs))
        for outcome in results:
            outcomes.append(outcome)
            bar.advance(task)
    _print_summary(store, outcomes, json=json)
    if any(outcome.status == "failed" for outcome in outcomes):
        raise typer.Exit(1)


def find_jobs(source: Path, out: Path | None) -> tuple[list[FlowJob], Path]:
    """Videos below `source` and the store to write.

    Raises:
        InputError: there is no such file or folder, no video in it, or `out` is missing.
        AnnotationError: a manifest that cannot be read.
    """
    from dualstream.errors import InputError
    from dualstream.flow import FlowJob

    if (source / "manifest.csv").is_file() or source.name == "manifest.csv":
        from dualstream.clips.manifest import Manifest

        manifest = Manifest.read(source)
        folder = source if source.is_dir() else source.parent
        jobs = [
            FlowJob(record.path, str(manifest.video_path(record)), record.sha256 or None)
            for record in manifest.records
        ]
        return jobs, out or folder / "flow"
    if source.is_file():
        jobs = [FlowJob(source.name, str(source))]
    elif source.is_dir():
        from dualstream.clips.video_files import list_videos

        jobs = [FlowJob(name, str(source / name)) for name in list_videos(source)]
    else:
        raise InputError(f"{source} does not exist. Give a prepared folder, a video or a folder.")
    if not jobs:
        raise InputError(f"{source} holds no manifest.csv and no video file.")
    if out is None:
        raise InputError(f"{source} has no manifest.csv beside which to store: give --out FOLDER.")
    return jobs, out


def verify_jobs(jobs: Sequence[FlowJob], store: Path) -> Iterator[FlowOutcome]:
    """Check every stored file against its checksums and its video: `kept` or `failed`."""
    import time

    from dualstream.errors import FlowStoreError
    from dualstream.flow import FlowOutcome, FlowStore

    for job in jobs:
        start = time.perf_counter()
        try:
            with FlowStore(store).open(job.name, source_sha256=job.sha256) as file:
                file.verify()
                outcome = FlowOutcome(
                    job.name, "kept", file.num_fields, time.perf_counter() - start
                )
        except FlowStoreError as error:
            outcome = FlowOutcome(job.name, "failed", 0, time.perf_counter() - start, str(error))
        yield outcome


def _print_summary(store: Path, outcomes: Sequence[FlowOutcome], *, json: bool) -> None:
    from dualstream.cli.output import print_json, stderr, stdout

    counts = {
        status: sum(outcome.status == status for outcome in outcomes)
        for status in ("done", "kept", "failed")
    }
    fields = sum(outcome.num_fields for outcome in outcomes)
    failures = {outcome.name: outcome.error for outcome in outcomes if outcome.status == "failed"}
    if json:
        print_json({"store": str(store), **counts, "fields": fields, "failures": failures})
        return
    for name, error in failures.items():
        stderr().print(f"{name}: {error}", markup=False, soft_wrap=True)
    stdout().print(
        f"{store}: {counts['done']} videos done, {counts['kept']} kept, "
        f"{counts['failed']} failed; {fields} flow fields",
        markup=False,
        soft_wrap=True,
    )
