"""Frames shared by several readers are read from their source once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from dualstream.errors import InputError
from dualstream.types import Frames
from dualstream.video.source import FrameArray, FrameCache


class Counting(FrameArray):
    """Frames whose pixels are their number; keeps what was asked for."""

    def __init__(self, num_frames: int) -> None:
        data = np.empty((num_frames, 4, 6, 3), np.uint8)
        data[...] = np.arange(num_frames)[:, None, None, None]
        super().__init__(Frames(data, np.arange(num_frames) / 10, "counted"))
        self.reads: list[list[int]] = []

    def read(self, indices: Sequence[int]) -> Frames:
        self.reads.append(list(indices))
        return super().read(indices)


def numbers_of(frames: Frames) -> list[int]:
    assert frames.source == "counted"
    numbers = [int(image[0, 0, 0]) for image in frames.data]
    np.testing.assert_allclose(frames.pts_seconds, np.array(numbers) / 10)
    return numbers


def test_held_frames_are_read_once() -> None:
    source = Counting(20)
    cache = FrameCache(source)
    cache.prefetch(np.array([3, 4, 5, 9]))
    assert numbers_of(cache.read([4, 5])) == [4, 5]
    assert numbers_of(cache.read([9, 3, 3])) == [9, 3, 3]
    assert numbers_of(cache.read([3, 4, 5, 9])) == [3, 4, 5, 9]
    assert source.reads == [[3, 4, 5, 9]]


def test_the_next_prefetch_keeps_what_it_needs_again() -> None:
    source = Counting(20)
    cache = FrameCache(source)
    cache.prefetch(np.array([3, 4, 5]))
    cache.prefetch(np.array([4, 5, 6, 7]))
    assert numbers_of(cache.read([4, 5, 6, 7])) == [4, 5, 6, 7]
    assert source.reads == [[3, 4, 5], [6, 7]]
    cache.prefetch(np.array([5, 6]))
    assert numbers_of(cache.read([6, 5])) == [6, 5]
    assert len(source.reads) == 2
    assert numbers_of(cache.read([3])) == [3]  # no longer held
    assert source.reads[2:] == [[3]]


def test_frames_that_are_not_held_come_from_the_source() -> None:
    source = Counting(20)
    cache = FrameCache(source)
    assert numbers_of(cache.read([7, 2])) == [7, 2]
    cache.prefetch(np.array([1, 2]))
    assert numbers_of(cache.read([2, 8])) == [2, 8]
    assert source.reads == [[7, 2], [1, 2], [2, 8]]


def test_it_is_like_its_source() -> None:
    source = Counting(5)
    cache = FrameCache(source)
    assert (cache.name, cache.size, cache.available) == ("counted", (4, 6), range(5))
    assert cache.fps == pytest.approx(10)
    assert cache.frame_bytes == 4 * 6 * 3
    assert cache.seconds_of([2, 0]).tolist() == [0.2, 0.0]
    with pytest.raises(InputError, match="Frame 5 of 'counted'"):
        cache.prefetch(np.array([4, 5]))
    with pytest.raises(InputError, match="Frame 9 of 'counted'"):
        cache.read([9])
