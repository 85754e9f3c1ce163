"""From an H.264 file to stored flow, beside the rate of the method alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dualstream.video import read_video, write_video

from .client import BENCHMARKS, ONE_THREAD
from .realpairs import HEIGHT, WIDTH, resized

PIPELINE_METHODS = ("dis", "farneback", "tvl1", "tvl1-fast")
NUM_CLIPS = 4
"""An even number, every second a copy: two workers get the same work."""

ALONE, ONE, TWO = "method alone", "1 worker", "2 workers"
_WORKERS = {ALONE: 0, ONE: 1, TWO: 2}


@dataclass(frozen=True)
class PipelineResult:
    """One method's runs."""

    method: str
    num_clips: int
    num_frames: int
    """Of each clip."""
    runs: dict[str, list[dict[str, Any]]]
    """`method alone`, `1 worker`, `2 workers` -> what `flow_contest.extraction` printed."""

    @property
    def seconds(self) -> dict[str, list[float]]:
        """Seconds of each run, the starting of worker processes included."""
        return {name: [run["seconds"] for run in runs] for name, runs in self.runs.items()}

    def pairs_per_second(self, name: str) -> float:
        """Median over the runs, with the starting of worker processes."""
        return median(run["pairs"] / run["seconds"] for run in self.runs[name])

    def steady_pairs_per_second(self, name: str) -> float:
        """Median over the runs, of the workers' time on their clips alone."""
        workers = _WORKERS[name]
        return median(workers * run["pairs"] / sum(run["clip_seconds"]) for run in self.runs[name])

    def cpu_ms_per_pair(self, name: str, measure: str) -> float:
        """Median over the runs of processor time, which other programs hardly change."""
        return 1e3 * median(run[measure] / run["pairs"] for run in self.runs[name])

    def peak_mib(self, name: str) -> float:
        """Largest memory of a worker in any run."""
        return max(float(run["peak_mib"]) for run in self.runs[name])

    def figures(self) -> dict[str, Any]:
        """What the pipeline is judged by."""
        alone = self.pairs_per_second(ALONE)
        one, two = self.steady_pairs_per_second(ONE), self.steady_pairs_per_second(TWO)
        return {
            "alone_pairs_per_second": alone,
            "one_worker_pairs_per_second": one,
            "two_workers_pairs_per_second": two,
            "one_worker_with_start_pairs_per_second": self.pairs_per_second(ONE),
            "two_workers_with_start_pairs_per_second": self.pairs_per_second(TWO),
            "one_worker_share_of_alone": one / alone,
            "two_workers_to_one": two / one,
            "one_worker_peak_mib": self.peak_mib(ONE),
            "two_workers_peak_mib": self.peak_mib(TWO),
            "alone_cpu_ms_per_pair": self.cpu_ms_per_pair(ALONE, "cpu_seconds"),
            "one_worker_cpu_ms_per_pair": self.cpu_ms_per_pair(ONE, "cpu_seconds"),
            "decode_cpu_ms_per_pair": self.cpu_ms_per_pair(ALONE, "decode_cpu_seconds"),
        }


def measure_pipeline(method: str, *, data: Path, rounds: int, num_frames: int) -> PipelineResult:
    """Time the method alone, one worker and two workers in turn, each in a new process.

    Args:
        method: a method that runs on the CPU without weights.
        data: folder with `clips/`; where there are none the clips are drifting noise.
        rounds: times that each is run.
        num_frames: length of each clip.
    """
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in _WORKERS}
    with tempfile.TemporaryDirectory() as folder:
        videos = written_clips(Path(folder), data, num_frames)
        order = list(_WORKERS.items())
        for number in range(rounds):
            for name, workers in order:
                root = Path(folder, f"store-{number}-{workers}")
                request = {"method": method, "workers": workers, "videos": videos}
                runs[name].append(_run({**request, "root": str(root)}))
            order.reverse()
    return PipelineResult(method, len(videos), num_frames, runs)


def pipeline_table(results: list[PipelineResult]) -> list[list[str]]:
    """Rows of text, the first of them the heading."""
    heading = ["method", "alone, pairs/s", "1 worker on 1 core", "of alone", "CPU ms a pair"]
    rows = [[*heading, "2 workers on 2 cores", "of 1 worker", "peak MiB a worker"]]
    for result in results:
        found = result.figures()
        cpu_ms = (found[f"{name}_cpu_ms_per_pair"] for name in ("alone", "one_worker"))
        peak = max(found["one_worker_peak_mib"], found["two_workers_peak_mib"])
        rows.append(
            [
                result.method,
                f"{found['alone_pairs_per_second']:.1f}",
                f"{found['one_worker_pairs_per_second']:.1f}",
                f"{100 * found['one_worker_share_of_alone']:.0f} %",
                " -> ".join(f"{value:.2f}" for value in cpu_ms),
                f"{found['two_workers_pairs_per_second']:.1f}",
                f"{found['two_workers_to_one']:.2f}",
                f"{peak:.0f}",
            ]
        )
    return rows


def written_clips(folder: Path, data: Path, num_frames: int) -> list[str]:
    """Paths of H.264 files of 340x256, 30 frames a second, in pairs of the same content."""
    sources = [p for p in sorted(data.glob("clips/*")) if p.suffix in (".avi", ".mp4")]
    paths = []
    for number in range(NUM_CLIPS):
        path = folder / f"clip-{number}.mp4"
        # 0, 0, 1, 1, ...: the two workers take neighbours at the same time.
        source = sources[number // 2 % len(sources)] if sources else None
        frames = drifting_noise(number // 2) if source is None else there_and_back(source)
        write_video(path, islice(frames, num_frames), fps=30, crf=23)
        paths.append(str(path))
    return paths


def there_and_back(source: Path) -> Iterator[NDArray[np.uint8]]:
    """Frames (256, 340, 3) of a video forwards, backwards, forwards, ... without end."""
    frames = [resized(frame) for frame in read_video(source).data]
    while True:
        yield from frames
        frames.reverse()


def drifting_noise(seed: int) -> Iterator[NDArray[np.uint8]]:
    """Frames (256, 340, 3) of a texture that goes round in whole pixels, without end."""
    noise = np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    picture = cv2.GaussianBlur(noise, (0, 0), 2)
    shift = 0
    while True:
        yield np.roll(picture, (shift, -2 * shift), axis=(0, 1))
        shift += 1


def _run(request: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "flow_contest.extraction", json.dumps(request)],
        env=os.environ | ONE_THREAD | {"PYTHONPATH": str(BENCHMARKS)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
