"""Delay and memory of `dualstream watch` that follows a camera.

    python benchmarks/camera.py               # ten minutes
    python benchmarks/camera.py --minutes 1

The camera is a file of 320x240, 25 frames a second, which a thread sends as a transport stream over
a local TCP socket, each packet when its time has come. `watch` runs in a process of its own, as
somebody would start it: windows of 2 s a second apart through two TSN on EfficientNet-Lite0 with
untrained weights, one at single frames, one at stacks of ten flow fields, computed on the way. The
file is a clip whose packets are repeated; every repeat is a cut, at which `watch` begins anew.

The delay of a window is what `watch` tells: from the arrival of its last frame to its line. Seen
from outside it is from the moment that the window's end is sent to the line, with all that the
socket, the container and decoding hold back. Memory is that of the process. Bars: a largest delay
below 1.5 s, and memory that stays. `--json` writes benchmarks/results/camera.json.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Self

import av
import cv2

import dualstream as ds
from long import repeated
from measure import FOLDER, versions, write_json
from predict import SOURCE, VIDEO, write_run

SIZE, FPS = (320, 240), 25.0
WINDOW_SECONDS, STEP_SECONDS = 2.0, 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--video", type=Path, default=VIDEO)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--threads", type=int, help="of torch; the default is its own choice")
    parser.add_argument("--json", action="store_true", help="write a file in results/")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        runs = [
            write_run(work / "rgb", modality="rgb", num_frames=1, method="tvl1-fast"),
            write_run(work / "flow", modality="flow", num_frames=10, method="tvl1-fast"),
        ]
        clip = smaller(options.video, work / "clip.mp4")
        path = repeated(clip, work / "camera.mp4", seconds=60 * options.minutes)
        found = follow(path, runs, options)
    print("\n".join(f"{name}: {value:.2f}" for name, value in found.items()))
    if options.json:
        write_json(
            FOLDER / "results" / "camera.json",
            seconds={},
            settings={"minutes": options.minutes, "threads": options.threads},
            results=found,
            packages=versions("torch", "av", "timm", "numpy"),
        )


def follow(path: Path, runs: list[Path], options: argparse.Namespace) -> dict[str, float]:
    """Return delay of the windows, frames dropped, and memory after a minute and at the end."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    if options.threads is not None:
        environment["OMP_NUM_THREADS"] = str(options.threads)
    networks = [word for run in runs for word in ("--checkpoint", str(run))]
    times = ["--window", f"{WINDOW_SECONDS:g}", "--step", f"{STEP_SECONDS:g}"]
    lines, come, memory = [], [], []
    with Camera(path) as camera:
        command = ["watch", camera.address, *networks, *times, "--reconnect", "0", "--json"]
        with subprocess.Popen(
            [sys.executable, "-m", "dualstream", *command],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                come.append(time.monotonic() - camera.begin)
                lines.append(json.loads(line))
                memory.append(gib(process.pid))
    if not lines:
        raise SystemExit(f"watch said nothing and ended with {process.returncode}.")
    ends = [line["time"] - lines[0]["start"] for line in lines]
    delays = [line["delay_seconds"] for line in lines]
    outside = [at - end for at, end in zip(come, ends, strict=True)]
    after_a_minute = next((n for n, end in enumerate(ends) if end >= 60), -1)
    return {
        "seconds of video": ends[-1],
        "windows": len(lines),
        "median delay, s": statistics.median(delays),
        "largest delay, s": max(delays),
        "median delay seen from outside, s": statistics.median(outside),
        "largest delay seen from outside, s": max(outside),
        "the same after the first minute, s": max(outside[after_a_minute:]),
        "frames dropped": lines[-1]["dropped"],
        "GiB after a minute": memory[after_a_minute]["VmRSS"],
        "GiB at the end": memory[-1]["VmRSS"],
        "GiB at most, first minute": memory[after_a_minute]["VmHWM"],
        "GiB at most": memory[-1]["VmHWM"],
        "load of the machine, last minute": os.getloadavg()[0],
    }


def smaller(source: Path, target: Path) -> Path:
    """Write a video anew at the size and rate of the camera."""
    frames = ds.read_video(source).data
    ds.write_video(target, (cv2.resize(image, SIZE) for image in frames), fps=FPS)
    return target


class Camera:
    """A file that the first caller gets as it plays.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._server.getsockname()[1]}"
        self.begin = math.nan
        """`time.monotonic()` when its first packet was sent."""

    def __enter__(self) -> Self:
        threading.Thread(target=self._play, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def _play(self) -> None:
        caller, _ = self._server.accept()
        # Unbuffered, and each packet flushed: else frames would come in clumps.
        flushed = {"flush_packets": "1"}
        with (
            caller,
            caller.makefile("wb", buffering=0) as target,
            av.open(str(self._path)) as source,
            av.open(target, "w", format="mpegts", options=flushed) as out,
        ):
            video = source.streams.video[0]
            copy = out.add_stream_from_template(video)
            packets = (packet for packet in source.demux(video) if packet.size)
            for packet in packets:
                seconds = float(packet.dts * packet.time_base)
                if math.isnan(self.begin):
                    self.begin, first = time.monotonic(), seconds
                time.sleep(max(0.0, self.begin + seconds - first - time.monotonic()))
                packet.stream = copy
                out.mux(packet)


def gib(process: int) -> dict[str, float]:
    """Memory of a process: what it holds now (VmRSS) and the most that it has held (VmHWM)."""
    rows = Path(f"/proc/{process}/status").read_text().splitlines()
    found = dict(row.split(":", 1) for row in rows)
    return {name: int(found[name].split()[0]) / 2**20 for name in ("VmRSS", "VmHWM")}


if __name__ == "__main__":
    main()
