"""Export: trained networks as one file that another runtime runs, checked against eager."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from dualstream.clips.data.manifest import Manifest
from dualstream.deploy.card import Card, OnnxRuntime
from dualstream.deploy.graph import Graph, make_card, trace
from dualstream.deploy.onnx_file import OnnxFile, check_can_write, write_onnx
from dualstream.deploy.quantize import Int8, Videos, quantize_run
from dualstream.deploy.torch_file import TorchFile, write_torch
from dualstream.engine.infer.recognizer import Trained, as_recognizers
from dualstream.engine.run.checkpoint import Checkpoint, load_checkpoint
from dualstream.engine.run.streams import named_streams
from dualstream.errors import ExportError, InputError, check_choice, check_least
from dualstream.files import replacing
from dualstream.scores import Fusion, weighted_fusion

if TYPE_CHECKING:
    from dualstream.deploy.runtime import ExportedFile

ExportFormat = Literal["onnx", "torch-export"]

SUFFIXES: dict[ExportFormat, str] = {"onnx": ".onnx", "torch-export": ".pt2"}

TOLERANCE = 1e-4
"""Largest difference of a logit to eager, where no logit is above 1; else as a part of the
largest."""

CHECKED_SAMPLES = (1, 3)
"""N of the clips that a file is compared with eager on."""

SEGMENTS = 8
"""S of a network that joins segments and does not come from a run, as `default_segments` has it."""


@dataclass(frozen=True, eq=False)
class Export:
    """An exported file."""

    path: Path
    card: Card
    difference: float
    """Largest difference of a logit to eager, on random clips."""
    probability_difference: float
    """The same of the fused probabilities."""
    int8: Int8 | None = None
    """What quantisation costs; the differences are then those of the file before it."""


def export(
    models: Trained | Sequence[Trained],
    out: str | os.PathLike[str] | None = None,
    *,
    format: ExportFormat = "onnx",
    runtime: OnnxRuntime = "onnxruntime",
    fusion: Fusion | None = None,
    weights: Sequence[float] | None = None,
    segments: int | None = None,
    int8: bool = False,
    data: str | os.PathLike[str] | None = None,
    workers: int = 2,
    listener: Callable[[str, int, int], object] = lambda *_: None,
) -> Export:
    """Write one network or several into one file, and compare it with eager in its own runtime.

    The file takes clips as bytes, any number at a time, and gives the logits of each network and
    the fused probabilities; its metadata say how clips are read (see `deploy.card`). It is written
    only if its logits are those of the network as trained.

    Args:
        models: what `Predictor` takes; a folder of a recipe of several streams is all of them and
            their fusion.
        out: the file; None is RUN/model.onnx (model.pt2), for a run folder.
        format: "onnx" for ONNX runtime and others, "torch-export" for torch.
        runtime: what an ONNX file is written for and checked in. "openvino" leaves convolutions
            over time as they are, "onnxruntime" makes 2D ones of them; either runs in both.
        fusion: of several networks; the default is the mean, or that of the folder.
        weights: of a weighted mean, instead of `fusion`.
        segments: S for networks that join the segments of a video; None is that of their test.
        int8: quantise the ONNX file of run folders (see `deploy.quantize`), which needs the videos
            that they were trained on.
        data: another place of the manifest than the runs' own, for int8.
        workers: reading processes for int8, 0 for none.
        listener: told by int8 what is done, how far it is, and of how much.

    Raises:
        InputError: no network, or options that do not fit.
        MissingDependencyError: the packages of the extra `export`, or `openvino`, are not
            installed.
        ExportError: the network cannot be exported, or the file answers otherwise than eager.
        CheckpointError: a run folder cannot be loaded, or classes or labels differ.
        ScoresError: a fusion that does not join several labels, where networks tell those.
        DiskError: the file cannot be written.
    """
    check_choice("format", format, ExportFormat)
    check_choice("runtime", runtime, OnnxRuntime)
    if fusion is not None and weights is not None:
        raise InputError("Give either fusion or weights.")
    if segments is not None:
        check_least(1, segments=segments)
    if format == "onnx":
        check_can_write(runtime)  # raises before networks are loaded
    elif int8:
        raise InputError("int8 is for the format onnx.")
    elif runtime != "onnxruntime":
        raise InputError(f"The runtime {runtime} is for the format onnx.")
    if int8 and runtime != "onnxruntime":
        raise InputError("int8 is for the runtime onnxruntime.")
    given, fitted = named_streams(models)
    if fitted is not None and fusion is None and weights is None:
        fusion = Fusion.load(fitted)
    single = given[0] if len(given) == 1 and isinstance(given[0], Path) else None
    folder = fitted.parent if fitted is not None else single
    loaded = [load_checkpoint(m) if isinstance(m, str | os.PathLike) else m for m in given]
    if out is None:
        if folder is None:
            raise InputError(
                "Several networks, or one that is no run folder: give `out` (--out FILE)."
            )
        out = folder / f"model{SUFFIXES[format]}"
    path = Path(out)
    if path.suffix != SUFFIXES[format]:
        raise InputError(f"A file of the format {format} ends in {SUFFIXES[format]}, got {path}.")
    recognizers = as_recognizers(loaded)
    videos = _videos(loaded, data, workers) if int8 else []
    if weights is not None:
        fusion = weighted_fusion(weights, num_streams=len(recognizers))
    fusion = fusion or Fusion("mean", len(recognizers))
    if fusion.num_streams != len(recognizers):
        raise InputError(
            f"The fusion joins {fusion.num_streams} streams, got {len(recognizers)} networks: give "
            "those that it was made with, in their order."
        )
    if recognizers[0].labels == "several":
        fusion.check_several()
    card = make_card(
        recognizers, fusion, runtime, segments=[segments or _segments(m) for m in loaded]
    )
    networks = [one.model for one in recognizers]
    graph = Graph(networks, card)
    is_flat = format == "onnx" and runtime == "onnxruntime"
    program = trace(Graph(networks, card, flat=True) if is_flat else graph)
    write = write_onnx if format == "onnx" else write_torch
    with replacing(path, keep_suffix=True) as temporary:
        write(program, card, temporary)
        opened = OnnxFile(temporary) if format == "onnx" else TorchFile(temporary)
        logits, probabilities = compare(opened, graph)
        found = None
        if int8:
            with replacing(temporary, keep_suffix=True) as quantized:
                found = quantize_run(temporary, quantized, card, videos, listener=listener)
            card = OnnxFile(temporary).card
    return Export(path, card, logits, probabilities, found)


def _videos(
    models: Sequence[Trained], data: str | os.PathLike[str] | None, workers: int
) -> list[Videos]:
    """Where int8 finds the videos of each run."""
    runs = [model for model in models if isinstance(model, Checkpoint)]
    if len(runs) < len(models):
        raise InputError("int8 needs run folders, whose recipes and manifests name the videos.")
    return [
        Videos(run, Manifest.read(Path(data or run.info.manifest)), workers=workers) for run in runs
    ]


def _segments(model: Trained) -> int:
    return model.recipe.test.segments if isinstance(model, Checkpoint) else SEGMENTS


def compare(opened: ExportedFile, graph: Graph) -> tuple[float, float]:
    """Return the largest difference of a logit and of a probability between a file and eager.

    Args:
        opened: the file in its own runtime.
        graph: what it was traced from.

    Raises:
        ExportError: a logit differs by more than `TOLERANCE`, or an output is missing.
    """
    logits, probabilities = 0.0, 0.0
    for samples in CHECKED_SAMPLES:
        clips = graph.random_clips(samples, seed=samples)
        with torch.inference_mode():
            eager = {name: value.numpy() for name, value in graph(clips).items()}
        found = opened.run({name: clip.numpy() for name, clip in clips.items()}, list(eager))
        for name, expected in eager.items():
            difference = float(np.abs(found[name] - expected).max())
            if name == "probabilities":
                probabilities = max(probabilities, difference)
                largest = 1.0
            else:
                logits = max(logits, difference)
                largest = max(1.0, float(np.abs(expected).max()))
            if not difference <= TOLERANCE * largest:  # also where it is no number
                raise ExportError(
                    f"The exported file differs from the network in {name} by {difference:.1e} on "
                    f"{samples} random clips (logits up to {largest:.1f}): it is not written."
                )
    return logits, probabilities
