"""`dualstream prepare`."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from dualstream.cli.options import Json
from dualstream.cli.output import Progress, print_json, stdout

if TYPE_CHECKING:
    from dualstream.clips.data.annotations import AnnotationFormat
    from dualstream.clips.data.prepare import PrepareReport

SHOWN_PER_KIND = 3
"""Problems of one kind that are printed; problems.csv has them all."""


def prepare(
    source: Annotated[
        Path, typer.Argument(help="Data set's folder; its folder `videos`, if any, holds them.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write the manifest into.")],
    annotations: Annotated[
        Path | None,
        typer.Option(
            "--splits",
            "--annotations",
            help="Split file or folder of them.  [default: what lies in SOURCE]",
        ),
    ] = None,
    format: Annotated[
        str,
        typer.Option(
            help="auto, folders, ucf101, hmdb51, kinetics, something, sports1m, intervals, boris, "
            "elan or list."
        ),
    ] = "auto",
    test_fraction: Annotated[
        float | None,
        typer.Option(help="Share to test on, for data sets without splits (e.g. 0.25)."),
    ] = None,
    background: Annotated[
        float | None,
        typer.Option(
            help="Draw so many intervals without a label for each labelled one (e.g. 0.5), as the "
            "class 'none of these'."
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Another seed draws another test part and background.")
    ] = 0,
    workers: Annotated[
        int | None, typer.Option(help="Processes that decode.  [default: one a CPU core]", min=1)
    ] = None,
    check: Annotated[
        bool, typer.Option(help="Decode every video whole; else only count its packets.")
    ] = True,
    json: Json = False,
) -> None:
    """Check a data set's videos and split files, and write its manifest.

    Faults are listed in OUT/problems.csv with file and line; the rest is used. The checks are
    kept in OUT/checked.jsonl, so that an interrupted run goes on and a second one is quick.
    """
    from dualstream.clips.data import prepare as layer
    from dualstream.clips.data.background import add_background
    from dualstream.types import BACKGROUND

    preparation = layer.prepare(
        source,
        annotations=annotations,
        # `prepare` checks the name and lists the allowed ones.
        format=cast("AnnotationFormat", format),
        workers=workers or os.cpu_count() or 1,
        check=check,
        journal=out / layer.JOURNAL_FILE,
    )
    reused = 0
    with Progress(advice="Go on with the same command: what is checked is kept.") as progress:
        for done, video in enumerate(preparation, start=1):
            reused += video.is_reused
            total = len(preparation)
            progress.update("check", done, total, unit="videos", is_kept=video.is_reused)
    report = preparation.report()
    if background is not None:
        manifest = add_background(report.manifest, share=background, seed=seed)
        report = layer.PrepareReport(manifest, report.problems)
    if test_fraction is not None:
        manifest = layer.split_by_source(report.manifest, test_fraction=test_fraction, seed=seed)
        report = layer.PrepareReport(manifest, report.problems)
    report.write(out)
    manifest = report.manifest
    sides = [Counter(r.splits[i] for r in manifest.records) for i in range(manifest.num_splits)]
    summary = {
        "out": str(out),
        "format": preparation.format,
        "videos": len(manifest.files),
        "intervals": sum(record.interval is not None for record in manifest.records),
        "background": sum(manifest.classes[r.label] == BACKGROUND for r in manifest.records),
        "classes": len(manifest.classes),
        "frames": sum(record.frames for record in manifest.files),
        "splits": [{"train": side["train"], "test": side["test"]} for side in sides],
        "reused": reused,
        "problems": dict(Counter(problem.kind for problem in report.problems)),
        "problems_file": str(out / layer.PROBLEMS_FILE),
    }
    if json:
        print_json(summary)
    else:
        _print(report, summary, out=out)


def _print(report: PrepareReport, summary: dict[str, Any], *, out: Path) -> None:
    from rich.table import Table

    drawn = f" ({summary['background']} of background)" if summary["background"] else ""
    intervals = f"{summary['intervals']} intervals{drawn} in " if summary["intervals"] else ""
    print(
        f"{intervals}{summary['videos']} videos of {summary['classes']} classes, "
        f"{summary['frames']} frames ({summary['format']} annotations)"
    )
    table = Table("split", "train", "test")
    for number, split in enumerate(summary["splits"], start=1):
        table.add_row(str(number), str(split["train"]), str(split["test"]))
    stdout().print(table)
    if not any(split["train"] and split["test"] for split in summary["splits"]):
        print("No split has train and test videos: give --splits, or --test-fraction 0.25.")
    for kind, count in summary["problems"].items():
        print(f"{kind}: {count}")
        first = [problem for problem in report.problems if problem.kind == kind]
        for problem in first[:SHOWN_PER_KIND]:
            print(f"  {problem.where}: {problem.what}")
    if report.problems:
        print(f"All of them, with what to do: {summary['problems_file']}")
    else:
        print("No problems.")
    print(f"Next: dualstream flow {out}")
