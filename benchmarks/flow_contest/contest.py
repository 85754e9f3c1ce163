"""All contenders on all pairs, in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from .client import Worker
from .metrics import end_point_error_px, photometric_error, tvl1_energy
from .realpairs import RealPair
from .results import REAL_GROUP, PairResult

if TYPE_CHECKING:
    from known_flow import KnownPair

Clock = Literal["wall", "cpu"]


def measure(
    pairs: Iterable[KnownPair | RealPair],
    workers: Sequence[Worker],
    contenders: Sequence[str],
    *,
    clock: Clock,
    report: Callable[[PairResult], None] = lambda result: None,
) -> list[PairResult]:
    """Every contender on every pair, pair by pair; every other pair in reverse order.

    Nothing else runs meanwhile: a worker that is not asked waits for its input.

    Args:
        pairs: with known flow, or real.
        workers: processes that have the contenders between them.
        contenders: names in the order of the tables.
        clock: see `Worker.compute`.
        report: called with each pair's result.
    """
    owner = {name: worker for worker in workers for name in worker.contenders}
    results: list[PairResult] = []
    for number, pair in enumerate(pairs):
        if number == 0:
            for name in contenders:  # the first call of a library loads and allocates
                owner[name].compute(name, pair.first, pair.second)
        group = REAL_GROUP if isinstance(pair, RealPair) else pair.group
        result = PairResult(pair.name, group, seconds=dict.fromkeys(contenders, 0.0))
        for name in contenders if number % 2 == 0 else reversed(contenders):
            flow, seconds = owner[name].compute(name, pair.first, pair.second, clock=clock)
            result.seconds[name] = median(seconds)
            judge(result, name, pair, flow)
        results.append(result)
        report(result)
    return results


def judge(
    result: PairResult, name: str, pair: KnownPair | RealPair, flow: NDArray[np.float32]
) -> None:
    """Add a contender's errors on a pair to its result."""
    if not isinstance(pair, RealPair):
        result.error_px[name] = end_point_error_px(flow, pair.flow, pair.valid)
        return
    first, second = (cv2.cvtColor(p, cv2.COLOR_RGB2GRAY) for p in (pair.first, pair.second))
    result.photometric[name] = photometric_error(first, second, flow)
    result.energy[name] = tvl1_energy(first, second, flow)
