"""Seconds of a two-stream prediction of one file, beside another version of dualstream.

Two TSN on EfficientNet-Lite0 with untrained weights look at a file of 10 s, 340x256: one at single
frames, one at stacks of ten flow fields, which are computed on the way. Each version runs in a
process of its own that has loaded both networks and predicted once; rounds are taken in turn, each
of one whole prediction from the file to the fused result.

    python benchmarks/predict.py --beside PATH_OF_ANOTHER_CHECKOUT/src

The run folders are written in the form of version 0.1, which later versions read too, with the flow
method that is given (`--method`). `--json` writes benchmarks/results/predict.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors.torch import save_file

from dualstream.models import create_model
from measure import FOLDER, interleaved, ratio_of_medians, summary, versions, write_json

SOURCE = FOLDER.parent / "src"
VIDEO = FOLDER.parents[1] / "shared" / "data" / "clips" / "arm_wrestling.mp4"
PACKAGES = ("torch", "av", "opencv-python-headless", "numpy", "timm")
CLASSES = 21
BACKBONE = "tf_efficientnet_lite0"

WORKER = """
import sys, time
import dualstream as ds
video, *runs = sys.argv[1:]
models = [ds.load_checkpoint(run) for run in runs]
for line in sys.stdin:
    start = time.perf_counter()
    result = ds.predict(video, models)
    print(time.perf_counter() - start, result.top(1)[0][0], flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--video", type=Path, default=VIDEO)
    parser.add_argument("--beside", type=Path, help="`src` of another version")
    parser.add_argument("--method", default="tvl1-fast", help="flow method of the temporal run")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="write a file in results/")
    options = parser.parse_args()
    sources = {"dualstream": SOURCE}
    if options.beside is not None:
        sources["beside"] = options.beside.resolve()
    with tempfile.TemporaryDirectory() as work:
        runs = [
            write_run(Path(work) / "rgb", modality="rgb", num_frames=1, method=options.method),
            write_run(Path(work) / "flow", modality="flow", num_frames=10, method=options.method),
        ]
        with workers(sources, options.video, runs) as calls:
            seconds = interleaved(calls, rounds=options.rounds, warm_up=2)
    results = {}
    for name, values in seconds.items():
        print(f"{name:12}{summary(values)}")
    if "beside" in seconds:
        results["times as fast"] = 1 / ratio_of_medians(seconds, "dualstream", "beside")
        print(f"{results['times as fast']:.2f} times as fast")
    if options.json:
        settings = {
            "video": options.video.name,
            "method": options.method,
            "beside": None if options.beside is None else git_commit(options.beside),
        }
        path = FOLDER / "results" / "predict.json"
        write_json(
            path, seconds=seconds, settings=settings, results=results, packages=versions(*PACKAGES)
        )
        print(f"Written to {path}.")


def git_commit(source: Path) -> str:
    """Commit of the checkout that `source` lies in."""
    command = ["git", "-C", str(source), "rev-parse", "--short=12", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def write_run(folder: Path, *, modality: str, num_frames: int, method: str) -> Path:
    """Write a run folder of version 0.1 with untrained weights."""
    folder.mkdir()
    channels = 2 if modality == "flow" else 3
    model = create_model(
        "tsn", backbone=BACKBONE, num_classes=CLASSES, in_channels=channels, length=num_frames
    )
    save_file(model.state_dict(), folder / "model.safetensors")
    (folder / "classes.txt").write_text("".join(f"class {i}\n" for i in range(CLASSES)))
    info = {"manifest": "/", "manifest_sha256": "", "flow_store": None}
    (folder / "run.json").write_text(json.dumps(info))
    (folder / "recipe.yaml").write_text(
        f"title: benchmark\n"
        f"model: {{name: tsn, options: {{backbone: {BACKBONE}}}}}\n"
        f"input: {{modality: {modality}, num_frames: {num_frames}, flow_method: {method}}}\n"
        f"train: {{epochs: 1, batch_size: 1, optimizer: {{lr: 0.1}}}}\n"
    )
    return folder


@contextmanager
def workers(
    sources: dict[str, Path], video: Path, runs: list[Path]
) -> Iterator[dict[str, Callable[[], float]]]:
    """Give a function for each version that predicts once in its process."""
    processes = {
        name: subprocess.Popen(
            [sys.executable, "-c", WORKER, str(video), *map(str, runs)],
            env={**os.environ, "PYTHONPATH": str(source)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name, source in sources.items()
    }

    def call(process: subprocess.Popen[str]) -> float:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        return float(process.stdout.readline().split()[0])

    try:
        yield {name: lambda p=process: call(p) for name, process in processes.items()}  # type: ignore[misc]
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
