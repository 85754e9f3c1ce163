"""Frames as flow methods read them: windows of grey images."""

import numpy as np
import pytest

from dualstream.flow.images import grey_images, grey_windows, resize_short_side


@pytest.mark.parametrize(
    ("count", "length", "expected"),
    [
        (5, 3, [[0, 1, 2], [2, 3, 4]]),
        (4, 3, [[0, 1, 2], [2, 3]]),
        (3, 3, [[0, 1, 2]]),
        (3, 2, [[0, 1], [1, 2]]),
        (2, 9, [[0, 1]]),
        (1, 3, [[0]]),
        (0, 3, []),
    ],
)
def test_windows_share_one_frame(count, length, expected):
    images = (np.full((4, 6, 3), number, np.uint8) for number in range(count))
    windows = list(grey_windows(images, length, short_side=None))
    assert [window[:, 0, 0].tolist() for window in windows] == expected
    assert all(window.shape[1:] == (4, 6) for window in windows)


def test_windows_are_the_grey_of_resized_frames():
    frames = np.random.default_rng(0).integers(0, 256, (5, 20, 30, 3)).astype(np.uint8)
    (window,) = grey_windows(iter(frames), 8, short_side=10)
    np.testing.assert_array_equal(window, grey_images(resize_short_side(frames, 10)))
    assert window.shape == (5, 10, 15)


def test_grey_is_luma():
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]], np.uint8)
    assert grey_images(colours[None, None])[0, 0].tolist() == [76, 150, 29, 9]
