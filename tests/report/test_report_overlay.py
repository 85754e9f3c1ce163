"""Drawn frames: what stands where, and what changes when."""

from __future__ import annotations

import numpy as np
import pytest

from dualstream.errors import InputError, ShapeError
from dualstream.report.overlay import BACK, COLOURS, PALE, OverlayPage, clock, window_at
from dualstream.scores.timeline import Segment
from dualstream.types import Prediction

CLASSES = ("läuft", "прыжок", "Sitzen", "跳")


def prediction(streams: int = 2, *, num_windows: int = 2) -> Prediction:
    """Window 0 is surely class 0, window 1 half class 1, half class 2, in all streams."""
    table = np.zeros((num_windows, 4), np.float32)
    table[0, 0] = 1
    table[1:, 1] = table[1:, 2] = 0.5
    edges = np.arange(num_windows + 1, dtype=np.float64)
    return Prediction(
        "a.mp4",
        CLASSES,
        table.mean(axis=0),
        np.stack((edges[:-1], edges[1:]), axis=1),
        table,
        window_streams={f"stream {n}": table for n in range(streams)},
    )


def grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def count(page: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((page == colour).all(axis=-1).sum())


@pytest.mark.parametrize(
    ("size", "page"),
    [
        ((240, 320), 480),  # as it is
        ((48, 64), 480),  # five times as large: 240 x 320
        ((1, 1), 480),
        ((37, 641), 642),  # odd sides become even
        ((700, 3), 480),
        ((2160, 3840), 1920),  # half
    ],
)
def test_every_size_has_a_page(size: tuple[int, int], page: int) -> None:
    drawn = OverlayPage(prediction(), (), size=size)
    assert drawn.size[1] == page
    assert drawn.size[0] % 2 == 0
    assert drawn.draw(grey(*size), 0.5).shape == (*drawn.size, 3)


def test_the_picture_is_not_hidden() -> None:
    page = OverlayPage(prediction(), (), size=(240, 480))
    image = np.random.default_rng(0).integers(0, 255, (240, 480, 3), np.uint8)
    assert (page.draw(image, 0.5)[:240] == image).all()


def test_the_inset_stands_at_the_upper_right() -> None:
    page = OverlayPage(prediction(), (), size=(240, 480))
    drawn = page.draw(grey(240, 480), 0.5, inset=np.full((10, 20, 3), (255, 0, 0), np.uint8))
    height, width = page.inset_size
    assert (height, width) == (84, 168)
    assert (drawn[:height, 480 - width :] == (255, 0, 0)).all()
    assert count(drawn, (255, 0, 0)) == height * width
    assert (drawn[height + 4 : 240] == 128).all()


def test_bars_are_as_long_as_the_probabilities() -> None:
    """Sure in window 0, two halves in window 1: as much colour, but for what letters cover."""
    page = OverlayPage(prediction(1), (), size=(240, 480), top=2)
    first, second = (page.draw(grey(240, 480), seconds) for seconds in (0.5, 1.5))
    rows = [(first, 1), (second, 2)]
    for drawn, bars in rows:
        coloured = (drawn == COLOURS[0]).all(axis=-1).sum(axis=1)
        longest = coloured.max()
        assert longest == pytest.approx((480 - 2 * 6) / bars, abs=8)
        pale = (drawn == PALE).all(axis=-1).sum(axis=1)
        assert pale.max() > 0
    assert (first != second).any()


def test_a_column_for_the_fusion_and_for_each_stream() -> None:
    several = OverlayPage(prediction(2), (), size=(240, 960)).draw(grey(240, 960), 0.5)
    assert all(count(several, colour) for colour in COLOURS[:3])
    assert not count(several, COLOURS[3])
    one = OverlayPage(prediction(1), (), size=(240, 960)).draw(grey(240, 960), 0.5)
    assert count(one, COLOURS[0])
    assert not count(one, COLOURS[1])


def test_many_streams_stand_below_each_other() -> None:
    few, many = (OverlayPage(prediction(n), (), size=(240, 480)) for n in (2, 7))
    assert many.size[0] > few.size[0]
    drawn = many.draw(grey(240, 480), 0.5)
    assert all(count(drawn, colour) for colour in COLOURS)


def test_the_segment_is_named_while_it_lasts() -> None:
    segments = (Segment(0.2, 0.4, "läuft", 0.9), Segment(0.4, 0.6, "Sitzen", 0.5))
    page = OverlayPage(prediction(), segments, size=(240, 480))
    before, during, next_one, after = (
        page.draw(grey(240, 480), seconds) for seconds in (0.1, 0.3, 0.5, 0.7)
    )
    left = np.s_[240 : 240 + 18, :240]  # the label's place; the time is at the right
    assert (before[left] == BACK).all()
    assert (during[left] != BACK).any()
    assert (during[left] != next_one[left]).any()
    assert (after[left] == before[left]).all()


def test_nothing_is_known_in_a_gap() -> None:
    gap = prediction(1)
    gap.window_seconds[1] = (3, 4)
    page = OverlayPage(gap, (), size=(240, 480))
    assert not count(page.draw(grey(240, 480), 2.0), COLOURS[0])
    assert count(page.draw(grey(240, 480), 3.5), COLOURS[0])


def test_wrong_input() -> None:
    with pytest.raises(InputError, match="top must be at least 1"):
        OverlayPage(prediction(), (), size=(48, 64), top=0)
    page = OverlayPage(prediction(), (), size=(48, 64))
    with pytest.raises(ShapeError, match=r"image must be \(48, 64, 3\) uint8"):
        page.draw(grey(64, 48), 0)


@pytest.mark.parametrize(
    ("seconds", "window"),
    [(-1, None), (0, 0), (1.9, 0), (2.9, 0), (3.1, 1), (5.9, 1), (6, None), (8, 2), (9, None)],
)
def test_window_of_a_time(seconds: float, window: int | None) -> None:
    windows = np.array([(0.0, 4.0), (2.0, 6.0), (8.0, 9.0)])
    assert window_at(windows, seconds) == window


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00.0"), (0.99, "0:00.9"), (75.25, "1:15.2"), (3661, "1:01:01.0"), (0.3, "0:00.3")],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
