"""A process that computes flow on demand and times nothing but the computation.

    python -m flow_contest.worker dualstream

It reads requests from its standard input and answers on its standard output: a line of JSON, then
the bytes of the arrays that the line tells of. It ends with its input. It runs in any environment
that has numpy and the libraries of the contenders asked for.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from flow_contest.contenders import CONTENDERS, Prepare, planes

MOST_CALLS = 7
LONGEST_REPETITION_SECONDS = 0.2

_CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


def main() -> None:
    # Whatever a library prints goes to stderr: stdout carries the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    one_thread()
    started, refused = start(sys.argv[1])
    send(answers, {"contenders": sorted(started), "refused": refused, "versions": versions()})
    requests = sys.stdin.buffer
    while line := requests.readline():
        request = json.loads(line)
        shape = (2, *request["size"], 3)
        pair = np.frombuffer(requests.read(int(np.prod(shape))), np.uint8).reshape(shape)
        clock = _CLOCKS[request["clock"]]
        flow, seconds = computed(started[request["contender"]], pair[0], pair[1], clock)
        send(answers, {"seconds": seconds, "shape": flow.shape}, flow.tobytes())


def start(environment: str) -> tuple[dict[str, Prepare], dict[str, str]]:
    """The contenders of an environment that can run here, and why others cannot."""
    started, refused = {}, {}
    for name, contender in CONTENDERS.items():
        if contender.environment != environment:
            continue
        try:
            started[name] = contender.start()
        except (ImportError, LookupError, TypeError, FileNotFoundError) as error:
            refused[name] = f"{type(error).__name__}: {error}"
    return started, refused


def computed(
    prepare: Prepare,
    first: NDArray[np.uint8],
    second: NDArray[np.uint8],
    clock: Callable[[], float],
) -> tuple[NDArray[np.float32], list[float]]:
    """Flow (2, H, W), and the seconds of one call, or of up to seven where they are short."""
    call = prepare(first, second)
    seconds: list[float] = []
    while True:
        begin = clock()
        result = call()
        seconds.append(clock() - begin)
        most = int(LONGEST_REPETITION_SECONDS / max(seconds[0], 1e-6))
        if len(seconds) >= max(1, min(MOST_CALLS, most)):
            return planes(result), seconds


def send(stream: BinaryIO, head: dict[str, Any], data: bytes = b"") -> None:
    stream.write(json.dumps(head).encode() + b"\n" + data)
    stream.flush()


def one_thread() -> None:
    """OMP_NUM_THREADS=1 comes from the parent; OpenCV has threads of its own."""
    import cv2

    cv2.setNumThreads(1)


def versions() -> dict[str, str]:
    import cv2

    return {"python": sys.version.split()[0], "opencv": cv2.__version__, "numpy": np.__version__}


if __name__ == "__main__":
    main()
