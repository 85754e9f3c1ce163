"""The other end of `flow_contest.worker`."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

BENCHMARKS = Path(__file__).resolve().parents[1]

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENCV_FOR_THREADS_NUM": "1",
}


class Worker:
    """One worker process, for a `with` block."""

    def __init__(self, python: Path, environment: str) -> None:
        self._process = subprocess.Popen(
            [str(python), "-m", "flow_contest.worker", environment],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | ONE_THREAD | {"PYTHONPATH": str(BENCHMARKS)},
        )
        hello = self._answer()
        self.contenders: list[str] = hello["contenders"]
        self.refused: dict[str, str] = hello["refused"]
        """Contender -> why it cannot run in this environment."""
        self.versions: dict[str, str] = hello["versions"]

    def compute(
        self,
        contender: str,
        first: NDArray[np.uint8],
        second: NDArray[np.uint8],
        *,
        clock: Literal["wall", "cpu"] = "wall",
    ) -> tuple[NDArray[np.float32], list[float]]:
        """Flow of one pair, and how long each call took.

        Args:
            contender: one of `contenders`.
            first: (H, W, 3) RGB.
            second: (H, W, 3).
            clock: `cpu` counts the worker's processor time.

        Returns:
            (2, H, W) pixels, and the seconds of one to seven calls.
        """
        head = {"contender": contender, "size": first.shape[:2], "clock": clock}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(head).encode() + b"\n")
        self._process.stdin.write(np.stack([first, second]).tobytes())
        self._process.stdin.flush()
        answer = self._answer()
        flow = np.frombuffer(self._read(4 * int(np.prod(answer["shape"]))), np.float32)
        return flow.reshape(answer["shape"]), answer["seconds"]

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if kind is not None:
            self._process.kill()
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"A flow worker ended with exit code {self._process.wait()}.")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _read(self, count: int) -> bytes:
        assert self._process.stdout is not None
        data = self._process.stdout.read(count)
        if len(data) < count:
            raise RuntimeError(f"A flow worker ended with exit code {self._process.wait()}.")
        return data
