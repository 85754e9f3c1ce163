"""Exported files beside eager and `--optimize`: time of a clip, from bytes to logits.

    python benchmarks/export.py                       # every network
    python benchmarks/export.py --networks tsn i3d --rounds 9
    python benchmarks/export.py --threads 1 --cpu     # on a machine that does other work too

Random weights, batch 1 (`--batch`), `--threads` threads (two), rounds in turn, medians. "eager" is
the network as it is and "optimized" `models.fastest` (`dualstream predict --optimize`), which
chooses among its forms by measuring; both with the normalisation of `Predictor`. "onnx" is the file
in ONNX runtime, "openvino" that for OpenVINO, "torch-export" the .pt2 file in torch, "int8" the
quantised ONNX file (ranges of random clips: only its time counts here, its accuracy is measured by
`dualstream export --int8`).
`--cpu` counts the processor's seconds of one thread instead of those of the clock, which a busy
machine prolongs.

Results go to benchmarks/results/export.json.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from dualstream.clips.transforms import Normalizer
from dualstream.deploy.export import export
from dualstream.deploy.onnx_file import OnnxFile
from dualstream.deploy.quantize import quantize
from dualstream.deploy.torch_file import TorchFile
from dualstream.engine.infer.recognizer import Recognizer
from dualstream.models import create_model
from dualstream.models.fastest import fastest
from dualstream.types import ClipSpec, StreamSpec
from measure import FOLDER, interleaved, summary, versions, write_json

PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "openvino", "dualstream")
CLASSES = 21


@dataclass(frozen=True)
class Case:
    """A network and the clip that it sees."""

    network: str
    frames: int
    side: int
    options: dict[str, Any] = field(default_factory=dict)


CASES = {
    "tsn": Case("tsn", 1, 224),
    "cnn_m_2048": Case("cnn_m_2048", 1, 224),
    "i3d": Case("i3d", 64, 224),
    "r2plus1d_18": Case("r2plus1d_18", 16, 112),
    "x3d_s": Case("x3d_s", 13, 160),
    "slowfast_r50_4x16": Case("slowfast_r50_4x16", 32, 224),
}
INT8 = ("tsn", "cnn_m_2048")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--json", type=Path, default=FOLDER / "results" / "export.json")
    options = parser.parse_args()
    if options.cpu and options.threads > 1:
        parser.error("--cpu is for --threads 1: the seconds of several threads add up.")
    clock = time.process_time if options.cpu else time.perf_counter
    torch.set_num_threads(options.threads)
    seconds: dict[str, list[float]] = {}
    results: dict[str, Any] = {}
    for name in options.networks:
        case = CASES[name]
        with tempfile.TemporaryDirectory() as folder:
            runs, notes = contenders(name, case, Path(folder), options.batch)
            taken = interleaved(runs, rounds=options.rounds, clock=clock)
        base = median(taken["optimized"])
        ratios = {run: base / median(values) for run, values in taken.items()}
        print(f"\n{name}, {options.batch} x {case.frames}x{case.side}x{case.side} {notes}")
        for run, values in taken.items():
            print(f"  {run:13} {summary(values)}  x {ratios[run]:.2f} of optimized")
        results[name] = {"times as fast as optimized": ratios, **notes}
        seconds |= {f"{name}, {run}": values for run, values in taken.items()}
    write_json(
        options.json,
        seconds=seconds,
        settings={
            "threads": options.threads,
            "batch": options.batch,
            "rounds": options.rounds,
            "clock": "processor" if options.cpu else "wall",
        },
        results=results,
        packages=versions(*PACKAGES),
    )
    print(f"\nWritten to {options.json}.")


def contenders(
    name: str, case: Case, folder: Path, batch: int
) -> tuple[dict[str, Callable[[], object]], dict[str, Any]]:
    """Calls to time, and what is to be noted beside them."""
    torch.manual_seed(0)
    model = create_model(case.network, num_classes=CLASSES, **case.options).eval()
    spec = ClipSpec(
        {"rgb": StreamSpec("rgb", num_frames=case.frames)},
        short_side=case.side,
        crop_size=case.side,
    )
    recognizer = Recognizer(name, model, spec, tuple(f"class {i}" for i in range(CLASSES)))
    written = export(recognizer, folder / "a.onnx")
    openvino = export(recognizer, folder / "openvino.onnx", runtime="openvino")
    other = export(recognizer, folder / "a.pt2", format="torch-export")
    files = {
        "onnx": OnnxFile(written.path),
        "openvino": OnnxFile(openvino.path),
        "torch-export": TorchFile(other.path),
    }
    shape = (batch, 3, case.frames, case.side, case.side)
    clip = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    if name in INT8:
        samples = iter([{"rgb": clip}])
        quantize(written.path, folder / "int8.onnx", written.card, samples)
        files["int8"] = OnnxFile(folder / "int8.onnx")
    normalizer, optimized = Normalizer(spec), fastest(model)
    views = {"rgb": torch.from_numpy(clip)}

    def eager() -> object:
        with torch.inference_mode():
            return model(normalizer(views))

    def compiled() -> object:
        return optimized(normalizer(views))

    compiled()
    [forms] = optimized.forms.values()
    runs: dict[str, Callable[[], object]] = {"eager": eager, "optimized": compiled}
    for kind, file in files.items():
        runs[kind] = lambda file=file: file.run({"rgb": clip}, ["logits"])  # type: ignore[misc]
    return runs, {
        "form": forms[0].name,
        "largest difference of a logit, onnx": written.difference,
        "MiB, onnx": round(written.path.stat().st_size / 2**20, 1),
    }


if __name__ == "__main__":
    main()
