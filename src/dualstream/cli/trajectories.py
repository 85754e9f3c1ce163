"""`dualstream trajectories`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from dualstream.cli.flow import find_jobs
from dualstream.cli.options import Json
from dualstream.cli.output import Progress, print_json, stderr


def trajectories(
    source: Annotated[
        Path,
        typer.Argument(
            help="Folder that `dualstream prepare` wrote, a video, or a folder of videos."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder.  [default: SOURCE/trajectories beside a manifest]")
    ] = None,
    layout: Annotated[
        Literal["arrays", "text"],
        typer.Option(
            "--format",
            help="arrays, as training reads them, or text: the authors' lines of 436 numbers.",
        ),
    ] = "arrays",
    workers: Annotated[int, typer.Option(help="Videos side by side, one core each.", min=1)] = 1,
    json: Json = False,
) -> None:
    """Compute improved dense trajectories of videos; stopped runs go on where they were."""
    files, store_folder = find_jobs(source, out, kind="trajectories")
    from dualstream.flow.trajectories import TrajectoryJob, TrajectoryStore

    jobs = [TrajectoryJob(file.name, file.path, file.sha256 or "") for file in files]
    if (source / "manifest.csv").is_file():  # rows may be intervals
        from dualstream.clips.data.manifest import Manifest
        from dualstream.engine.run.trajectory_model import jobs_of

        jobs = jobs_of(Manifest.read(source))
    store = TrajectoryStore(store_folder)
    with Progress(advice="Go on with the same command: what is stored is kept.") as progress:
        outcomes = []
        for outcome in store.extract(jobs, workers=workers, layout=layout):
            outcomes.append(outcome)
            is_kept = outcome.status == "kept"
            progress.update(
                "trajectories", len(outcomes), len(jobs), unit="videos", is_kept=is_kept
            )
    failures = {o.name: o.error for o in outcomes if o.status == "failed"}
    counts = {s: sum(o.status == s for o in outcomes) for s in ("done", "kept", "failed")}
    if json:
        print_json({"store": store_folder, **counts, "failures": failures})
    else:
        for name, error in failures.items():
            stderr().print(f"{name}: {error}", style="red", markup=False)
        print(
            f"{store_folder}: {counts['done']} videos done, {counts['kept']} kept, "
            f"{counts['failed']} failed"
        )
    if failures:
        raise typer.Exit(1)
