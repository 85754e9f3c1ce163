"""Six real clips in one file, for docs/long_video.md, and where each lies in it.

    python benchmarks/six_clips.py six.mp4
    dualstream predict six.mp4 ... --timeline six.csv
    python benchmarks/six_clips.py six.mp4 --timeline six.csv

Each clip is played forwards again and again for 20 s (`--seconds`), in 320x240 and 25 frames a
second; from one to the next is a hard cut, and so is each start anew. `--timeline` compares a
timeline of the file with the places: every clip's class must be one segment, whose start and end
are at most half a second off, and nothing else may be named. The clips are of Kinetics-400 classes,
each of which I3D tells when its clip is shown alone.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import dualstream as ds

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

CLIPS = {
    "arm wrestling": "clips/arm_wrestling.mp4",
    "juggling soccer ball": "clips/v_SoccerJuggling_g23_c01.avi",
    "filling eyebrows": "clips/v_ApplyEyeMakeup_g01_c01.avi",
    "hitting baseball": "jhmdb/videos/swing_baseball/"
    "8YearOldHitsaHomeRunBaseball_swing_baseball_f_cm_np1_fr_bad_0.mp4",
    "golf driving": "jhmdb/videos/golf/Anna_Rawson_Driver_Practice_golf_f_nm_np1_ri_bad_0.mp4",
    "pull ups": "jhmdb/videos/pullup/100_pullups_pullup_f_nm_np1_fr_med_1.mp4",
}
"""Kinetics-400 class -> clip, in the order of the file."""

FPS = 25.0
SIZE = 320, 240
TOLERANCE_SECONDS = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each clip")
    parser.add_argument("--timeline", type=Path, help="CSV of `predict`, to compare")
    options = parser.parse_args()
    if options.timeline is None:
        ds.write_video(options.path, frames(options.seconds), fps=FPS)
    places = {
        label: (number * options.seconds, (number + 1) * options.seconds)
        for number, label in enumerate(CLIPS)
    }
    found = [] if options.timeline is None else read_timeline(options.timeline)
    for label, (start, end) in places.items():
        print(f"{start:5.1f}-{end:5.1f} s: {label}{judged(label, start, end, found)}")
    if others := [f"{label} {a:.1f}-{b:.1f}" for label, a, b in found if label not in places]:
        print(f"named besides: {', '.join(others)}")


def frames(seconds: float) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames (H, W, 3) of the file."""
    for name in CLIPS.values():
        clip = ds.read_video(DATA / name)
        times = np.arange(0, clip.pts_seconds[-1] - clip.pts_seconds[0], 1 / FPS)
        shown = np.searchsorted(clip.pts_seconds - clip.pts_seconds[0], times + 1e-6) - 1
        pictures = [cv2.resize(clip.data[i], SIZE, interpolation=cv2.INTER_AREA) for i in shown]
        yield from islice(cycle(pictures), round(seconds * FPS))


def read_timeline(path: Path) -> list[tuple[str, float, float]]:
    """Return label, start and end of the segments of a timeline."""
    with path.open(newline="") as file:
        return [
            (r["label"], float(r["start_seconds"]), float(r["end_seconds"]))
            for r in csv.DictReader(file)
        ]


def judged(label: str, start: float, end: float, found: list[tuple[str, float, float]]) -> str:
    """Say how far off the segments of a clip's class are."""
    if not found:
        return ""
    own = [(a, b) for name, a, b in found if name == label]
    if len(own) != 1:
        return f", {len(own)} segments"
    ((a, b),) = own
    off = max(abs(a - start), abs(b - end))
    return f", {off:.2f} s off{'' if off <= TOLERANCE_SECONDS else ' (too far)'}"


if __name__ == "__main__":
    main()
