"""The peak rate of float32 multiply-adds of this machine, which no network can pass.

python benchmarks/peak.py [--threads 2]
"""

from __future__ import annotations

import argparse
import ctypes
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOURCE = Path(__file__).with_name("multiply_adds.c")
ROUNDS = 20_000_000
"""Of one timed call: some tenths of a second."""


def multiply_adds_per_second(*, threads: int, repeats: int = 5) -> float | None:
    """Rate of `threads` cores that multiply and add in registers; None without a C compiler.

    The fastest of `repeats` counts: what else runs only ever takes away from it.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "multiply_adds.so"
        command = ["cc", "-O3", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC"]
        try:
            subprocess.run([*command, "-o", path, SOURCE], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        library = ctypes.CDLL(str(path))
    library.run.argtypes = [ctypes.c_size_t, ctypes.c_float, ctypes.c_float]
    library.run.restype = ctypes.c_float
    library.multiply_adds.argtypes = [ctypes.c_size_t]
    library.multiply_adds.restype = ctypes.c_size_t
    with ThreadPoolExecutor(threads) as pool:
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            list(pool.map(lambda _: library.run(ROUNDS, 0.5, 1.0), range(threads)))
            seconds.append(time.perf_counter() - start)
    return threads * library.multiply_adds(ROUNDS) / min(seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    rate = multiply_adds_per_second(threads=parser.parse_args().threads)
    print("no C compiler (cc)" if rate is None else f"{rate / 1e9:.0f} multiply-adds/ns")
