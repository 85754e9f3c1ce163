"""Memory that a process has freed is used again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS_OF_ROUNDS = """
import resource, sys
import numpy as np
from dualstream.memory import keep_freed_memory

def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        np.ones(64 * 2**20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "kept":
    keep_freed_memory()
print(faults(1), faults(20))
"""


def faults(which: str) -> tuple[int, int]:
    """Page faults of one large array, and of twenty that come and go after it."""
    command = [sys.executable, "-c", FAULTS_OF_ROUNDS, which]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    one, twenty = map(int, printed.split())
    return one, twenty


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_arrays_that_come_and_go_take_the_memory_of_the_first() -> None:
    one, twenty = faults("kept")
    assert twenty < one / 2
    one, twenty = faults("by default")
    assert twenty > 10 * one
