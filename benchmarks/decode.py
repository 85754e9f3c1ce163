"""Decoding 25 evenly spaced frames of a 10 s, 340x256 H.264 file, beside torchcodec.

The bar: at most 1.15 times the time of torchcodec's `get_frames_at`, with the same number of
threads, measured in turn.

torchcodec is no part of this project and is never installed into its environment. It needs the
FFmpeg shared libraries and the torch version that it was built for. Set it up beside the project
(from the repository's root, after `make .venv`):

    sudo apt-get install ffmpeg                    # or: conda install -c conda-forge ffmpeg
    python3.11 -m venv /tmp/bench-decode
    # See the project's packages (torch, av, dualstream) instead of installing them again:
    echo "$PWD/.venv/lib/python3.11/site-packages" \
        > /tmp/bench-decode/lib/python3.11/site-packages/project.pth
    echo "$PWD/src" >> /tmp/bench-decode/lib/python3.11/site-packages/project.pth
    /tmp/bench-decode/bin/pip install --no-deps torchcodec==0.17.0
    OMP_NUM_THREADS=1 /tmp/bench-decode/bin/python benchmarks/decode.py --json

Without torchcodec the script still measures this project's reader. Each alternative is timed
twice: opening the file included (what a data loader does for every sample), and on an open file.
The frames of both are compared first. `--json` writes benchmarks/results/decode.json.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np

from dualstream.video import VideoReader, write_video
from measure import (
    FOLDER,
    interleaved,
    machine_facts,
    ratio_of_medians,
    summary,
    versions,
    write_json,
)

REAL_CLIP = FOLDER.parents[1] / "shared" / "data" / "clips" / "arm_wrestling.mp4"
NUM_FRAMES = 25
BAR = 1.15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--video", type=Path, help="H.264 file; default: the shared real clip")
    parser.add_argument("--threads", type=int, default=1, help="decoder threads of each")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: for a machine in other use"
    )
    parser.add_argument("--json", action="store_true", help="write results/decode.json")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        path = options.video or (REAL_CLIP if REAL_CLIP.is_file() else written_clip(Path(folder)))
        with VideoReader(path) as reader:
            info, count = reader.info, reader.num_frames
        indices = [int((i + 0.5) * count / NUM_FRAMES) for i in range(NUM_FRAMES)]
        functions = alternatives(path, indices, options.threads)
        clock = time.perf_counter if options.clock == "wall" else time.process_time
        seconds = interleaved(functions, rounds=options.rounds, clock=clock)

    packages = versions("dualstream", "av", "torchcodec", "torch", "numpy")
    print(f"{path.name}: {count} frames, {info.width}x{info.height}, {info.codec}; ", end="")
    print(f"{NUM_FRAMES} frames, {options.threads} thread(s), {options.clock} time")
    for name, values in seconds.items():
        print(f"  {name:32} {summary(values)}")
    results = {}
    for case in ("file opened each time", "file open"):
        ours, theirs = f"dualstream, {case}", f"torchcodec, {case}"
        if theirs in seconds:
            results[case] = ratio_of_medians(seconds, ours, theirs)
            verdict = "met" if results[case] <= BAR else "MISSED"
            print(f"  ratio, {case}: {results[case]:.3f} (bar {BAR}: {verdict})")
    print(f"  {packages}\n  FFmpeg of av: libavcodec {av.library_versions['libavcodec']}")
    print(f"  {machine_facts()}")
    if options.json:
        write_json(
            FOLDER / "results" / "decode.json",
            seconds=seconds,
            settings={
                "video": path.name,
                "frames_in_video": count,
                "frames_read": NUM_FRAMES,
                "size": [info.width, info.height],
                "threads": options.threads,
                "clock": options.clock,
            },
            results={"ratio_to_torchcodec": results, "bar": BAR},
            packages=packages,
        )


def alternatives(path: Path, indices: list[int], threads: int) -> dict[str, Callable[[], object]]:
    """The calls to time, after a check that all of them give the same pictures."""

    def ours() -> np.ndarray:
        with VideoReader(path, num_threads=threads) as reader:
            return reader.read_evenly(NUM_FRAMES).data

    def everything() -> object:
        with VideoReader(path, num_threads=threads) as reader:
            return reader.read_all().data[indices]

    open_reader = VideoReader(path, num_threads=threads)
    functions: dict[str, Callable[[], object]] = {"dualstream, file opened each time": ours}
    try:
        from torchcodec.decoders import VideoDecoder
    except ImportError as error:
        print(f"torchcodec is not installed ({error}); its timing is left out. See --help's file.")
    else:
        open_decoder = VideoDecoder(str(path), num_ffmpeg_threads=threads, dimension_order="NHWC")

        def theirs() -> object:
            decoder = VideoDecoder(str(path), num_ffmpeg_threads=threads, dimension_order="NHWC")
            return decoder.get_frames_at(indices).data

        difference = np.abs(ours().astype(int) - np.asarray(theirs()))
        print(f"largest difference of any byte to torchcodec's frames: {difference.max()}")
        functions["torchcodec, file opened each time"] = theirs
        functions["torchcodec, file open"] = lambda: open_decoder.get_frames_at(indices).data
    functions["dualstream, file open"] = lambda: open_reader.read_evenly(NUM_FRAMES).data
    functions["dualstream, every frame decoded"] = everything
    return functions


def written_clip(folder: Path) -> Path:
    """10 s of drifting noise at 28 frames a second, where the real clip is missing."""
    rng = np.random.default_rng(0)
    scene = cv2.GaussianBlur(rng.integers(0, 255, (320, 640, 3), dtype=np.uint8), (0, 0), 2)
    path = folder / "written.mp4"
    frames = (np.roll(scene, (t, -2 * t), axis=(0, 1))[:256, :340] for t in range(280))
    write_video(path, frames, fps=28, crf=23)
    return path


if __name__ == "__main__":
    main()
