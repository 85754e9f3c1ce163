"""Fusion of runs: score files in; joined scores, fusion, accuracies and report out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from dualstream.errors import InputError
from dualstream.scores import (
    FITTED_METHODS,
    SEVERAL_METHODS,
    Accuracy,
    Fusion,
    FusionMethod,
    SeveralAccuracy,
    accuracy_of,
    make_fusion,
    only_common,
    read_scores,
    write_scores,
)
from dualstream.types import Scores
from dualstream.version import __version__

if TYPE_CHECKING:
    from dualstream.report.page import ExplanationEntry

TEST_SCORES, HELD_OUT_SCORES = "scores.npz", "scores_held_out.npz"
"""Files of a run folder that `dualstream test` writes."""

UNFITTED = (
    "The weights of the streams are equal and unfitted. Scores of held-out training videos would "
    "fit them: train the streams with data.hold_out=0.2 and run `dualstream test RUN --part "
    "held_out` for each, or train them by one recipe (`dualstream train DATA --recipe demo`)."
)


@dataclass(frozen=True, eq=False)
class FusedRuns:
    """Streams, their fusion, and what each and all together get right."""

    streams: Mapping[str, Scores]
    """Short name of a run or score file -> its scores, in the order given."""
    fused: Scores
    """In the order of the first stream."""
    fusion: Fusion
    accuracy: Mapping[str, Accuracy | SeveralAccuracy]
    """Of each stream, then "fused (mean)" and so on, of several classes a video where the scores
    are; empty where a true class is unknown."""
    files: Mapping[str, Path]
    """Files that were written: "scores" and "fusion", "report"."""
    advice: str = ""
    """One line where the mean was taken because nothing could be fitted: what would."""


def fuse_runs(
    streams: Sequence[str | os.PathLike[str]],
    *,
    method: FusionMethod | None = None,
    weights: Sequence[float] | None = None,
    fit: Sequence[str | os.PathLike[str]] | None = None,
    out: str | os.PathLike[str] | None = None,
    report: str | os.PathLike[str] | None = None,
    data: str | os.PathLike[str] | None = None,
    title: str | None = None,
    facts: Mapping[str, str] | None = None,
    all_methods: bool = False,
    common: bool = False,
    explain: int = 0,
) -> FusedRuns:
    """Join the scores of runs, measure them, and write the joined scores and a report.

    Args:
        streams: one a stream: a run folder (its scores.npz) or a score file (`read_scores`).
        method: see `fuse`; "svm", "logistic", and "weighted" without `weights`, learn from `fit`.
            None is "weighted" where there are `weights` or something to learn from, else "mean".
        weights: one a stream, of "weighted" only; scaled to sum to 1.
        fit: scores of held-out training videos, one a stream in the same order: score files, or
            run folders (their scores_held_out.npz). Default: those of the run folders in
            `streams`, if all of them have some.
        out: folder to write scores.npz and fusion.json into, or a name that ends in .npz: fusion
            and scores are then called by it (a.npz, a.fusion.json).
        report: HTML page to write.
        data: manifest folder; the page then shows example videos of it.
        title: heading of the page; default the names of the streams.
        facts: further ones for the page, name -> text.
        all_methods: measure every other method that is possible as well.
        common: leave out the videos that some stream has no scores of (one frame alone has no
            flow) instead of raising.
        explain: number of example videos of which the page also shows where and when each stream
            looked; needs `data`, and run folders in `streams`.

    Raises:
        InputError: options that do not belong together, a method without held-out scores, or a
            report of several classes a video.
        ScoresError: a file cannot be read, the streams cannot be aligned, or a video is in both
            the scored and the held-out ones.
        DiskError: a file cannot be written.
    """
    if data is not None and report is None:
        raise InputError("`data` (--data) serves the page of `report` (--report): give both.")
    paths = [Path(stream) for stream in streams]
    if explain and (data is None or not all(path.is_dir() for path in paths)):
        raise InputError(
            "Explanations need the videos and the networks: give `data` (--data) and the run "
            "folders of all streams instead of score files."
        )
    scores = _read(paths, TEST_SCORES, common=common)
    named = dict(zip(_short_names(paths), scores, strict=True))
    held_out, several = None, scores[0].truth is not None if scores else False
    if several and report is not None:
        raise InputError("A page (--report) is of one class a video; these scores are of several.")
    learns = method in (None, *FITTED_METHODS) and weights is None
    fits = (learns or all_methods) and not several
    if fit or (fits and all((path / HELD_OUT_SCORES).is_file() for path in paths)):
        held_out = _read([Path(path) for path in fit or paths], HELD_OUT_SCORES, common=common)
    fusion = make_fusion(
        scores, method=method, weights=weights, fit_on=held_out if weights is None else None
    )
    fused = fusion.apply(scores)
    accuracy: dict[str, Accuracy | SeveralAccuracy] = {}
    if (fused.labels >= 0).all():
        measured = {**named, f"fused ({fusion.method})": fused}
        for other in get_args(FusionMethod) if all_methods else ():
            if several and other not in SEVERAL_METHODS:
                continue
            if other != fusion.method and (held_out is not None or other not in FITTED_METHODS):
                joined = make_fusion(scores, method=other, fit_on=held_out).apply(scores)
                measured[f"fused ({other})"] = joined
        accuracy = {name: accuracy_of(one) for name, one in measured.items()}
    files: dict[str, Path] = {}
    if out is not None:
        target = Path(out)
        files = {"scores": target / TEST_SCORES, "fusion": target / "fusion.json"}
        if target.suffix == ".npz":
            files = {"scores": target, "fusion": target.with_suffix(".fusion.json")}
        write_scores(files["scores"], fused)
        fusion.save(files["fusion"])
    if report is not None:
        more = {"fusion": str(fusion), **(facts or {})}
        found = _explained(paths, named, fused, fusion, data, count=explain) if explain else []
        files["report"] = _write_page(
            Path(report), named, fused, title, data=data, facts=more, explanations=found
        )
    is_unfitted = not several and method is None and fusion.method == "mean" and len(scores) > 1
    return FusedRuns(named, fused, fusion, accuracy, files, UNFITTED if is_unfitted else "")


def _read(paths: Sequence[Path], name: str, *, common: bool) -> list[Scores]:
    """Scores of files, or of that name in run folders."""
    scores = [read_scores(path / name if path.is_dir() else path) for path in paths]
    return only_common(scores) if common and scores else scores


def _short_names(paths: Sequence[Path]) -> list[str]:
    """Names of the streams: the run's folder, or the file without its ending; all different."""
    short = [
        path.resolve().name
        if path.is_dir()
        else (path.resolve().parent.name if path.stem == "scores" else path.stem)
        for path in paths
    ]
    names = short if len(set(short)) == len(short) and all(short) else [str(p) for p in paths]
    if len(set(names)) == len(names):
        return names
    return [f"{number}: {name}" for number, name in enumerate(names, start=1)]


def _explained(
    runs: Sequence[Path],
    streams: Mapping[str, Scores],
    fused: Scores,
    fusion: Fusion,
    data: str | os.PathLike[str] | None,
    *,
    count: int,
) -> list[ExplanationEntry]:
    """Explanations of the first example videos by the networks of all runs together."""
    from dualstream.clips.data.manifest import Manifest
    from dualstream.engine.infer.explain_files import explained_entries
    from dualstream.report import choose_examples

    assert data is not None
    manifest = Manifest.read(Path(data))
    records = {record.path: record for record in manifest.records}
    names = [name for name in choose_examples(streams, fused, count=count) if name in records]
    videos = {name: manifest.video_path(records[name]) for name in names}
    return explained_entries(videos, list(runs), fusion=fusion)


def _write_page(
    path: Path,
    streams: Mapping[str, Scores],
    fused: Scores,
    title: str | None,
    *,
    facts: Mapping[str, str],
    data: str | os.PathLike[str] | None,
    explanations: Sequence[ExplanationEntry],
) -> Path:
    from dualstream.report import example_figures, write_report  # not for scores alone

    samples = []
    if data is not None:
        from dualstream.clips.data.manifest import Manifest

        samples = example_figures(Manifest.read(Path(data)), streams, fused)
    return write_report(
        path,
        title=title or " + ".join(streams),
        streams=streams,
        fused=fused,
        samples=samples,
        explanations=explanations,
        facts={"streams": ", ".join(streams), **facts, "dualstream": __version__},
    )
