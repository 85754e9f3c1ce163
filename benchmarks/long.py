"""A long file through both streams: speed and memory.

    python benchmarks/long.py              # an hour, windows of 10 s a second apart
    python benchmarks/long.py --minutes 5

Two TSN on EfficientNet-Lite0 with untrained weights look at it: one at single frames, one at
stacks of ten flow fields, computed on the way. The file is a clip of 340x256 whose packets are
repeated. Every repeat is a cut, which would leave few windows, so cuts are searched and timed, then
left alone. Bars: at least four times real time and 1.5 GiB. benchmarks/camera.py is for cameras.

`--json` writes benchmarks/results/long.json.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import av

import dualstream as ds
from dualstream.engine.infer.predictor import Predictor
from dualstream.video.cuts import find_cuts
from measure import FOLDER, versions, write_json
from predict import VIDEO, write_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--video", type=Path, default=VIDEO)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--json", action="store_true", help="write a file in results/")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        runs = [
            write_run(Path(work) / "rgb", modality="rgb", num_frames=1, method="tvl1-fast"),
            write_run(Path(work) / "flow", modality="flow", num_frames=10, method="tvl1-fast"),
        ]
        path = repeated(options.video, Path(work) / "long.mp4", seconds=60 * options.minutes)
        found = measured(path, runs, options)
    print("\n".join(f"{name}: {value:.2f}" for name, value in found.items()))
    if options.json:
        write_json(
            FOLDER / "results" / "long.json",
            seconds={},
            settings={"minutes": options.minutes},
            results=found,
            packages=versions("torch", "av", "timm", "numpy"),
        )


def measured(path: Path, runs: list[Path], options: argparse.Namespace) -> dict[str, float]:
    """Seconds, and memory after a short file and after all of it."""
    predictor = Predictor(runs, window_seconds=10.0, step_seconds=1.0, cuts="none")
    predictor.predict(options.video)
    before, wall, cpu = peak_gib(), time.perf_counter(), time.process_time()
    with ds.VideoReader(path) as reader:
        cuts = find_cuts(reader, method="difference")
    search = time.perf_counter() - wall
    result = predictor.predict(path)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    seconds = float(result.window_seconds[-1, 1])
    return {
        "seconds of video": seconds,
        "windows": len(result.window_seconds),
        "cuts": len(cuts),
        "seconds": wall,
        "of which for cuts": search,
        "CPU seconds": cpu,
        "times real time": seconds / wall,
        "times real time, both cores busy": 2 * seconds / cpu,
        "GiB at most, a short file": before,
        "GiB at most": peak_gib(),
    }


def repeated(source: Path, target: Path, *, seconds: float) -> Path:
    """Repeat the packets of a file, with rising times, up to a length."""
    with av.open(str(source)) as container, av.open(str(target), "w") as out:
        video = container.streams.video[0]
        copy = out.add_stream_from_template(video)
        packets = [p for p in container.demux(video) if p.size]
        kept = [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in packets]
        length = max(p.pts + (p.duration or 0) for p in packets)
        repeats = round(seconds / float(length * video.time_base))
        for repeat in range(max(1, repeats)):
            for data, pts, dts, is_key in kept:
                packet = av.Packet(data)
                packet.stream, packet.time_base = copy, video.time_base
                packet.pts, packet.dts = pts + repeat * length, dts + repeat * length
                packet.is_keyframe = is_key
                out.mux(packet)
    return target


def peak_gib() -> float:
    """Most memory that this process has held."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 2**20


if __name__ == "__main__":
    main()
