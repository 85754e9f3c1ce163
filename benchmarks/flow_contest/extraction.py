"""One timing of a method or of `extract_flow`, in a process of its own.

    python -m flow_contest.extraction '{"method": "dis", "workers": 2,
                                        "videos": [...], "root": "store"}'

Prints one line of JSON. With 0 workers the method alone is timed, on frames in memory. The process
and its workers keep to as many cores as there are workers: a worker that decodes and compresses
beside its computation shall not take another core for it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
from numpy.typing import NDArray

from dualstream.flow import FlowJob, extract_flow, optical_flow
from dualstream.types import Frames
from dualstream.video import VideoReader

POLL_SECONDS = 0.05
WINDOW = 33
"""Frames decoded at once, as `extract_flow` does at 340x256."""


def main() -> None:
    request = json.loads(sys.argv[1])
    cv2.setNumThreads(1)
    keep_to_cores(max(1, request["workers"]))
    if request["workers"] == 0:
        print(json.dumps(method_alone(request["method"], request["videos"])))
    else:
        print(json.dumps(extraction(**request)))


def keep_to_cores(count: int) -> None:
    """Run on the last `count` cores that this process may use, where the system can do that."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-count:])


def method_alone(method: Any, videos: list[str]) -> dict[str, Any]:
    """Time of `optical_flow` over windows of frames that lie in memory.

    Returns:
        `seconds` and `cpu_seconds` of the computation without the conversion to grey (which is
        timed on the same frames and taken off), `pairs` in all, and `decode_cpu_seconds` of
        reading the frames.
    """
    pairs, computing, decoding = 0, np.zeros(2), np.zeros(2)
    warm = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), np.uint8)
    optical_flow(Frames(warm, np.arange(3.0)), method=method)
    for video in videos:
        with VideoReader(video) as reader:
            begin = now()
            for frames in reader.windows(WINDOW, step=WINDOW - 1):
                decoded = now()
                optical_flow(frames, method=method)
                computed = now()
                for image in frames.data:
                    cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
                converted = now()
                decoding += decoded - begin
                computing += (computed - decoded) - (converted - computed)
                pairs += len(frames) - 1
                begin = now()
    return {
        "seconds": computing[0],
        "cpu_seconds": computing[1],
        "pairs": pairs,
        "decode_cpu_seconds": decoding[1],
    }


def extraction(method: Any, workers: int, videos: list[str], root: str) -> dict[str, Any]:
    """Extract the flow of all videos to a new store.

    Returns:
        `seconds` of the whole call, `cpu_seconds` of it with all its processes and threads,
        `clip_seconds` of each clip, `pairs` in all, `peak_mib` of the largest worker (with one
        worker of this process, if that is larger).
    """
    jobs = [FlowJob(f"{number}.mp4", video) for number, video in enumerate(videos)]
    peaks: dict[int, float] = {}
    done = threading.Event()
    watcher = threading.Thread(target=_watch_children, args=(peaks, done))
    watcher.start()
    start = now()
    try:
        outcomes = list(extract_flow(jobs, root, method=method, workers=workers))
    finally:
        seconds, cpu_seconds = now() - start
        done.set()
        watcher.join()
    failed = [outcome.error for outcome in outcomes if outcome.status != "done"]
    if failed:
        raise SystemExit(f"Extraction failed: {failed[0]}")
    if workers == 1:
        peaks[os.getpid()] = peak_mib(os.getpid())
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "clip_seconds": [outcome.seconds for outcome in outcomes],
        "pairs": sum(outcome.num_fields for outcome in outcomes),
        "peak_mib": max(peaks.values()),
    }


def now() -> NDArray[np.float64]:
    """(2,) seconds: of the clock on the wall, and of the processor in this process's threads and
    in child processes that have ended."""
    times = os.times()
    processor = time.process_time() + times.children_user + times.children_system
    return np.array([time.perf_counter(), processor])


def peak_mib(pid: int) -> float:
    """Largest resident memory of a process so far (Linux's VmHWM; elsewhere: of now)."""
    status = Path(f"/proc/{pid}/status")
    try:
        lines = status.read_text().splitlines()
    except FileNotFoundError:
        return float(psutil.Process(pid).memory_info().rss) / 2**20
    kib = next((line.split()[1] for line in lines if line.startswith("VmHWM")), "0")
    return int(kib) / 1024


def _watch_children(peaks: dict[int, float], done: threading.Event) -> None:
    this = psutil.Process()
    while not done.wait(POLL_SECONDS):
        for child in this.children(recursive=True):
            try:
                peaks[child.pid] = max(peaks.get(child.pid, 0.0), peak_mib(child.pid))
            except (psutil.NoSuchProcess, ProcessLookupError):
                continue


if __name__ == "__main__":
    main()
