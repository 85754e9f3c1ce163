"""Speed and memory of improved dense trajectories, flow and camera motion included.

python benchmarks/trajectories.py [VIDEO ...] [--frames 300] [--rounds 3]

Frames a second of one core at 320x240, by the processor's time and by the clock: of the videos that
are given, or of a rendered scene. Then the peak memory over a short and a long video of the same
scene, each in a process of its own: it must not grow with the length.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from dualstream.flow.trajectories import trajectory_runs
from dualstream.types import Frames
from dualstream.video import VideoReader
from dualstream.video.source import FrameArray, FrameSource
from measure import interleaved, machine_facts, summary

HEIGHT, WIDTH = 240, 320
NOISE = np.random.default_rng(0).integers(0, 256, (3, 40, 60), np.uint8)


class Scene:
    """Frames that are rendered when they are read: two sprites before a slowly moving camera."""

    name, size, fps = "scene", (HEIGHT, WIDTH), 25.0

    def __init__(self, num_frames: int) -> None:
        self.available = range(num_frames)
        coarse = NOISE[0].repeat(16, axis=0).repeat(16, axis=1)  # (640, 960)
        kernel = np.ones(9) / 9
        smooth = np.apply_along_axis(np.convolve, 0, coarse.astype(float), kernel, "same")
        smooth = np.apply_along_axis(np.convolve, 1, smooth, kernel, "same")
        self._world = (smooth + np.random.default_rng(1).normal(0, 8, smooth.shape)).clip(0, 255)
        self._sprites = [NOISE[i].repeat(2, axis=0).repeat(2, axis=1) for i in (1, 2)]

    def seconds_of(self, indices: list[int]) -> np.ndarray:
        return np.asarray(indices) / self.fps

    def read(self, indices: list[int]) -> Frames:
        images = np.empty((len(indices), HEIGHT, WIDTH, 3), np.uint8)
        for image, t in zip(images, indices, strict=True):
            x, y = (round(200 + 150 * f(t / 40)) for f in (np.sin, np.cos))
            image[:] = self._world[y : y + HEIGHT, x : x + WIDTH, None]
            for number, sprite in enumerate(self._sprites):
                left = round((0.5 + 0.45 * np.sin(t / 15 + number)) * (WIDTH - 120))
                top = round((0.5 + 0.45 * np.cos(t / 11 + 2 * number)) * (HEIGHT - 80))
                image[top : top + 80, left : left + 120] = sprite[:, :, None]
        return Frames(images, self.seconds_of(indices), self.name)


def count(frames: FrameSource) -> int:
    """Number of trajectories, of which a part is held at a time."""
    return sum(len(part) for part in trajectory_runs(frames))


def peak_mebibytes(num_frames: int) -> tuple[float, int]:
    """Peak memory of a process that looks at so many frames, and its trajectories."""
    command = [sys.executable, __file__, "--peak-of", str(num_frames)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = json.loads(printed)
    return found["mebibytes"], found["trajectories"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", nargs="*", type=Path)
    parser.add_argument("--frames", type=int, default=300, help="of the rendered scene")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peak-of", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_of:
        found = count(Scene(options.peak_of))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"mebibytes": peak, "trajectories": found}))
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for fact, value in machine_facts().items():
        print(f"{fact}: {value}")
    sources: dict[str, FrameSource] = {}
    for path in options.videos:
        with VideoReader(path) as video:
            sources[path.name] = FrameArray(video.read_all())
    if not sources:
        scene = Scene(options.frames)
        sources["scene"] = FrameArray(scene.read(list(scene.available)))
    print("frames/s of one core (processor's time; by the clock), decoding left out:")
    for name, source in sources.items():
        number = len(source.available)
        found = count(source)
        clock = time.perf_counter()
        used = interleaved(
            {name: lambda source=source: count(source)},
            rounds=options.rounds,
            warm_up=0,
            clock=time.process_time,
        )[name]
        passed = (time.perf_counter() - clock) / options.rounds
        spread = summary(used)
        height, width = source.size
        print(
            f"  {name} ({width}x{height}, {number} frames, {found} trajectories): "
            f"{number / spread.median:.1f} ({number / spread.quartile_3:.1f} to "
            f"{number / spread.quartile_1:.1f}); {number / passed:.1f}"
        )
    print("peak memory of a process, by the video's length:")
    for length in (100, 400, 1600):
        peak, found = peak_mebibytes(length)
        print(f"  {length} frames: {peak:.0f} MiB ({found} trajectories)")


if __name__ == "__main__":
    main()
