"""The scheduling of the calling thread, kept from encoders that change it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept_scheduling() -> Iterator[None]:
    """Give the calling thread its scheduling policy and priority back at the end of the block.

    To be put around every encoding with SVT-AV1 (`libsvtav1`). Where the user is root, as in many
    containers, that encoder makes the thread which opens it a real-time one (SCHED_FIFO, priority
    99) and leaves it so. All threads and processes that it starts from then on inherit this, and
    other processes of the machine stand still whenever they compute.

    Changes nothing where the system has no such policies (macOS, Windows).

    Source:
        SVT-AV1, `svt_av1_enc_init`; seen with its 4.1 in PyAV's wheels.
    """
    if not hasattr(os, "sched_setscheduler"):
        yield
        return
    policy, param = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, param)
