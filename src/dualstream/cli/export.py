"""`dualstream export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from dualstream.cli.networks import load_fusion
from dualstream.cli.options import DATA_HELP, FittedFusion, Json, StreamWeights
from dualstream.cli.output import HEADS, Progress, percent, print_json


def export(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Run folders, one for each stream; or that of a recipe of several streams."
        ),
    ],
    format: Annotated[
        Literal["onnx", "torch-export"],
        typer.Option(help="onnx for ONNX runtime and others, torch-export for torch."),
    ] = "onnx",
    runtime: Annotated[
        Literal["onnxruntime", "openvino"],
        typer.Option(
            help="What an ONNX file is written for: openvino (pip install openvino) is faster for "
            "networks that convolve over time."
        ),
    ] = "onnxruntime",
    out: Annotated[
        Path | None,
        typer.Option(help="File to write.  [default: RUN/model.onnx or model.pt2]"),
    ] = None,
    stream_weights: StreamWeights = None,
    fusion: FittedFusion = None,
    segments: Annotated[
        int | None,
        typer.Option(
            help="Segments for networks that join those of a video.  [default: as in their test]",
            min=1,
        ),
    ] = None,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="Quantise to 8-bit integers, calibrated on training videos, and print the "
            "accuracy before and after.",
        ),
    ] = False,
    data: Annotated[
        Path | None, typer.Option(help=f"{DATA_HELP} For --int8.  [default: the run's]")
    ] = None,
    workers: Annotated[int, typer.Option(help="Reading processes for --int8.", min=0)] = 2,
    json: Json = False,
) -> None:
    """Write trained networks as one file that other runtimes run, and check it against eager."""
    from dualstream.engine.run.streams import named_streams

    # Errors of the call come before torch and weights are loaded, which takes seconds.
    streams, _ = named_streams(runs)
    fitted = load_fusion(fusion, stream_weights, num_streams=len(streams))
    from dualstream.deploy.export import export as export_runs

    with Progress() as progress:
        result = export_runs(
            runs,
            out,
            format=format,
            runtime=runtime,
            fusion=fitted,
            segments=segments,
            int8=int8,
            data=data,
            workers=workers,
            listener=lambda what, done, total: progress.update(what, done, total, unit="videos"),
        )
    card = result.card
    size = result.path.stat().st_size
    if json:
        print_json(
            {
                "file": str(result.path),
                "format": format,
                "runtime": card.runtime if format == "onnx" else None,
                "bytes": size,
                "inputs": {name: list(shape) for name, shape in card.shapes().items()},
                "outputs": list(card.outputs()),
                "largest_difference": {
                    "logits": result.difference,
                    "probabilities": result.probability_difference,
                },
                "int8": None
                if result.int8 is None
                else {
                    "part": result.int8.part,
                    "calibration_videos": result.int8.calibration_videos,
                    "before": result.int8.before.as_dict(),
                    "after": result.int8.after.as_dict(),
                },
            }
        )
        return
    for name, shape in card.shapes().items():
        print(f"input {name}: bytes N x {' x '.join(map(str, shape))}")
    print(f"outputs: {', '.join(card.outputs())}")
    print(
        f"largest difference to eager: {result.difference:.1e} of a logit, "
        f"{result.probability_difference:.1e} of a probability"
    )
    if result.int8 is not None:
        before, after = result.int8.before, result.int8.after
        key = "top1" if card.labels == "one" else "map"
        shares = [percent(one.as_dict()[key] or 0.0) for one in (before, after)]
        print(
            f"int8, {before.num_videos} videos ({result.int8.part}): "
            f"{HEADS[key].removesuffix(' %')} {shares[0]} % before, {shares[1]} % after"
        )
    print(f"{result.path}: {size / 2**20:.1f} MiB")
