"""`dualstream fuse`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from dualstream.scores import Accuracy, Fusion, FusionMethod
    from dualstream.types import Scores


def fuse(
    streams: Annotated[
        list[Path],
        typer.Argument(
            help="One a stream: a run folder (its scores.npz), or a score file of this package, "
            "MMAction2 (.pkl) or TSN (.npz)."
        ),
    ],
    method: Annotated[
        Literal["mean", "weighted", "max", "product", "svm", "logistic"],
        typer.Option(help="How to join them; weighted, svm and logistic learn from --fit."),
    ] = "mean",
    weights: Annotated[
        str | None,
        typer.Option(help="Weights of the streams for --method weighted, such as 1,1.5."),
    ] = None,
    fit: Annotated[
        list[Path] | None,
        typer.Option(
            help="Scores of held-out training videos (or a run folder: its scores_held_out.npz); "
            "once for each stream, in the same order.  [default: those of the run folders]"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for scores.npz and fusion.json, or an .npz to write both by."),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="HTML page to write.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Manifest folder: the page shows example videos of it.")
    ] = None,
    all_methods: Annotated[
        bool, typer.Option("--all", help="Print every method that is possible side by side.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Join the scores of several streams and print what each and all together get right."""
    from dualstream.cli.output import print_json, stderr
    from dualstream.errors import InputError
    from dualstream.scores import measure, read_scores, write_scores

    if report is None and data is not None:
        raise InputError("--data serves the page of --report; give that too.")
    names = _stream_names(streams)
    scores = [read_scores(_score_file(path, "scores.npz")) for path in streams]
    held_out = _read_held_out(streams, fit) if fit or all_methods or method != "mean" else None
    fusion = _make_fusion(scores, held_out, method=method, weights=_numbers(weights))
    fused = fusion.apply(scores)
    written: dict[str, Path] = {}
    if out is not None:
        written = _output_files(out)
        write_scores(written["scores"], fused)
        fusion.save(written["fusion"])
    known = bool((fused.labels >= 0).all())
    if report is not None:
        written["report"] = _write_page(
            report, dict(zip(names, scores, strict=True)), fused, fusion=fusion, data=data
        )
    table = {}
    if known:
        table = {name: measure(stream) for name, stream in zip(names, scores, strict=True)}
        table[f"fused ({method})"] = measure(fused)
        if all_methods:
            table |= _other_methods(scores, held_out, but=method)
    elif not json:
        stderr().print("The class of some videos is unknown (-1): no accuracy to print.")
    if json:
        print_json(_as_json(table, fusion=fusion, num_videos=len(fused), written=written))
    else:
        _print(table, fusion=fusion, written=written)


def _score_file(path: Path, name: str) -> Path:
    return path / name if path.is_dir() else path


def _stream_names(paths: Sequence[Path]) -> list[str]:
    """Short names of the streams: the run's folder, or the file without its ending."""
    short = [
        path.resolve().name
        if path.is_dir()
        else (path.resolve().parent.name if path.stem == "scores" else path.stem)
        for path in paths
    ]
    unique = len(set(short)) == len(short) and all(short)
    names = short if unique else [str(path) for path in paths]
    if len(set(names)) == len(names):
        return names
    return [f"{number}: {name}" for number, name in enumerate(names, start=1)]


def _numbers(text: str | None) -> list[float] | None:
    from dualstream.errors import InputError

    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"--weights must be numbers with commas (1,1.5), got {text!r}.") from error


def _read_held_out(streams: Sequence[Path], fit: Sequence[Path] | None) -> list[Scores] | None:
    """Scores to learn from: those of --fit, else those that lie in the run folders, else None."""
    from dualstream.scores import read_scores

    name = "scores_held_out.npz"
    if fit:
        return [read_scores(_score_file(path, name)) for path in fit]
    if all((path / name).is_file() for path in streams):
        return [read_scores(path / name) for path in streams]
    return None


def _make_fusion(
    scores: Sequence[Scores],
    held_out: Sequence[Scores] | None,
    *,
    method: FusionMethod,
    weights: Sequence[float] | None,
) -> Fusion:
    from dualstream.errors import InputError
    from dualstream.scores import (
        FITTED_METHODS,
        Fusion,
        check_fit_on,
        fit_fusion,
        weighted_fusion,
    )

    if weights is not None:
        if method != "weighted":
            raise InputError(f"--weights belong to --method weighted, not to {method}.")
        return weighted_fusion(weights, num_streams=len(scores))
    if held_out is not None:
        check_fit_on(scores, held_out)
        return fit_fusion(held_out, method=method)
    if method in FITTED_METHODS:
        raise InputError(
            f"--method {method} learns from held-out training videos: write their scores with "
            f"`dualstream test RUN --part held_out` for each stream, or give score files by --fit."
        )
    return Fusion(method, len(scores))


def _other_methods(
    scores: Sequence[Scores], held_out: Sequence[Scores] | None, *, but: FusionMethod
) -> dict[str, Accuracy]:
    from typing import get_args

    from dualstream.scores import FITTED_METHODS, FusionMethod, measure

    table = {}
    for method in get_args(FusionMethod):
        if method != but and (held_out is not None or method not in FITTED_METHODS):
            fusion = _make_fusion(scores, held_out, method=method, weights=None)
            table[f"fused ({method})"] = measure(fusion.apply(scores))
    return table


def _output_files(out: Path) -> dict[str, Path]:
    """runs/fused -> runs/fused/scores.npz and fusion.json; a.npz -> a.npz and a.fusion.json."""
    if out.suffix == ".npz":
        return {"scores": out, "fusion": out.with_suffix(".fusion.json")}
    return {"scores": out / "scores.npz", "fusion": out / "fusion.json"}


def _write_page(
    path: Path,
    streams: Mapping[str, Scores],
    fused: Scores,
    *,
    fusion: Fusion,
    data: Path | None,
) -> Path:
    from dualstream.report import write_report
    from dualstream.version import __version__

    samples = []
    if data is not None:
        from dualstream.clips.data.manifest import Manifest
        from dualstream.engine.examples import example_figures

        samples = example_figures(Manifest.read(data), streams, fused)
    facts = {"streams": ", ".join(streams), "fusion": _describe(fusion), "dualstream": __version__}
    return write_report(
        path,
        title=" + ".join(streams),
        streams=streams,
        fused=fused,
        samples=samples,
        facts=facts,
    )


def _describe(fusion: Fusion) -> str:
    if fusion.weights:
        return f"weighted, {' : '.join(f'{weight:.3g}' for weight in fusion.weights)}"
    if fusion.classifier is not None:
        return f"{fusion.method}, C = {fusion.classifier.c:g}"
    return fusion.method


def _as_json(
    table: Mapping[str, Accuracy], *, fusion: Fusion, num_videos: int, written: Mapping[str, Path]
) -> dict[str, Any]:
    rows = {
        name: {"top1": row.top_1, "top5": row.top_5, "mean_class": row.mean_class}
        for name, row in table.items()
    }
    return {
        "method": fusion.method,
        "weights": list(fusion.weights) or None,
        "videos": num_videos,
        "accuracy": rows,
        "files": dict(written),
    }


def _print(table: Mapping[str, Accuracy], *, fusion: Fusion, written: Mapping[str, Path]) -> None:
    from rich.table import Table

    from dualstream.cli.output import percent, stdout

    console = stdout()
    if table:
        videos = next(iter(table.values())).num_videos
        view = Table(title=f"{videos} videos, fusion: {_describe(fusion)}", title_justify="left")
        view.add_column("stream", overflow="fold")
        for head in ("top-1 %", "top-5 %", "mean class %"):
            view.add_column(head, justify="right")
        for name, row in table.items():
            view.add_row(name, *(percent(x) for x in (row.top_1, row.top_5, row.mean_class)))
        console.print(view)
    for what, path in written.items():
        console.print(f"{what}: {path}", soft_wrap=True, markup=False)
