"""Timing of alternatives in turn, and the facts that a timing needs beside it.

Used by the scripts of this folder, which Python finds when one of them is run:
`python benchmarks/decode.py`.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Summary:
    """Spread of repeated timings, in seconds."""

    median: float
    quartile_1: float
    quartile_3: float
    smallest: float
    rounds: int

    def __str__(self) -> str:
        return (
            f"{1e3 * self.median:9.2f} ms  (middle half {1e3 * self.quartile_1:.2f} to "
            f"{1e3 * self.quartile_3:.2f}, {self.rounds} rounds)"
        )


def interleaved(
    functions: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warm_up: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Time functions in turn, so that a change in the machine's load meets all of them.

    Each round begins with the next of them: a, b, c, then b, c, a, then c, a, b. So of three or
    more none ever follows itself, which would find its weights in the caches.

    Args:
        functions: name -> call without arguments.
        rounds: timed calls of each, at least 1.
        warm_up: untimed calls of each before.
        clock: seconds; `time.process_time` counts only this process's work.

    Returns:
        Name -> seconds of each round.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}.")
    for _ in range(warm_up):
        for function in functions.values():
            function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    order = list(functions.items())
    for _ in range(rounds):
        for name, function in order:
            start = clock()
            function()
            seconds[name].append(clock() - start)
        order.append(order.pop(0))
    return seconds


def summary(seconds: Sequence[float]) -> Summary:
    """Median and quartiles (inclusive method) of at least one timing."""
    if len(seconds) == 1:
        quartiles = [seconds[0]] * 3
    else:
        quartiles = statistics.quantiles(seconds, n=4, method="inclusive")
    return Summary(
        median=quartiles[1],
        quartile_1=quartiles[0],
        quartile_3=quartiles[2],
        smallest=min(seconds),
        rounds=len(seconds),
    )


def ratio_of_medians(seconds: Mapping[str, Sequence[float]], name: str, reference: str) -> float:
    """How many times the reference's median the other one takes: below 1 is faster."""
    return statistics.median(seconds[name]) / statistics.median(seconds[reference])


def machine_facts() -> dict[str, Any]:
    """Processor, cores that this process may use, memory, load, system, Python, commit."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": _processor(),
        "cores": cores,
        "memory_gib": _memory_gib(),
        "load_average_1_min": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "commit": git_commit(),
    }


def git_commit() -> str | None:
    """Commit of the checkout that this file lies in, with "+" where files differ from it."""
    commands = (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain"])
    found = []
    for command in commands:
        try:
            run = subprocess.run(
                ["git", "-C", str(FOLDER), *command], capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.CalledProcessError):
            return None
        found.append(run.stdout.strip())
    return found[0] + ("+" if found[1] else "")


def versions(*packages: str) -> dict[str, str | None]:
    """Installed version of each distribution, None where it is not installed."""
    found: dict[str, str | None] = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def write_json(
    path: str | os.PathLike[str],
    *,
    seconds: Mapping[str, Sequence[float]],
    settings: Mapping[str, Any],
    results: Mapping[str, Any],
    packages: Mapping[str, str | None],
) -> None:
    """Write timings with all that is needed to judge them.

    Args:
        path: file to write.
        seconds: `interleaved`'s result; stored with its summaries.
        settings: what was measured.
        results: numbers derived from the timings, such as ratios.
        packages: `versions`' result.
    """
    document = {
        "settings": dict(settings),
        "results": dict(results),
        "summaries": {name: asdict(summary(values)) for name, values in seconds.items()},
        "seconds": {name: list(values) for name, values in seconds.items()},
        "versions": dict(packages),
        "machine": machine_facts(),
        "date": time.strftime("%Y-%m-%d"),
    }
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(".tmp")
    temporary.write_text(json.dumps(document, indent=2) + "\n")
    os.replace(temporary, target)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory_gib() -> float | None:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
