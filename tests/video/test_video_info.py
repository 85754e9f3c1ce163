import numpy as np
import pytest

from dualstream.video.info import Orientation, orientation_of_matrix

ONE = 1 << 16
PICTURE = np.arange(6, dtype=np.uint8).reshape(2, 3)  # rows 0 1 2 / 3 4 5


@pytest.mark.parametrize(
    ("a", "b", "c", "d", "degrees", "shown"),
    [
        (ONE, 0, 0, ONE, 0, [[0, 1, 2], [3, 4, 5]]),
        (0, ONE, -ONE, 0, 90, [[3, 0], [4, 1], [5, 2]]),
        (-ONE, 0, 0, -ONE, 180, [[5, 4, 3], [2, 1, 0]]),
        (0, -ONE, ONE, 0, 270, [[2, 5], [1, 4], [0, 3]]),
        (-ONE, 0, 0, ONE, 0, [[2, 1, 0], [5, 4, 3]]),  # mirrored left to right
        (ONE, 0, 0, -ONE, 180, [[3, 4, 5], [0, 1, 2]]),  # mirrored top to bottom
        (0, ONE, ONE, 0, 270, [[0, 3], [1, 4], [2, 5]]),  # transposed
        (ONE, 900, -900, ONE, 0, [[0, 1, 2], [3, 4, 5]]),  # nearly upright
    ],
)
def test_pictures_are_turned_as_the_matrix_moves_their_pixels(a, b, c, d, degrees, shown):
    orientation = orientation_of_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
    picture = np.repeat(PICTURE[:, :, None], 3, axis=2)
    assert orientation.apply(picture)[:, :, 0].tolist() == shown
    assert orientation.rotation_degrees == degrees


def test_pixels_move_by_the_formula():
    """(x, y) -> (a x + c y, b x + d y), shifted so that the smallest coordinates are 0."""
    for a, b, c, d in [(0, 1, -1, 0), (0, -1, 1, 0), (-1, 0, 0, -1), (-1, 0, 0, 1), (0, 1, 1, 0)]:
        y, x = np.mgrid[:2, :3]
        new_x, new_y = a * x + c * y, b * x + d * y
        expected = np.zeros((np.ptp(new_y) + 1, np.ptp(new_x) + 1), np.uint8)
        expected[new_y - new_y.min(), new_x - new_x.min()] = PICTURE
        orientation = orientation_of_matrix([a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 0])
        got = orientation.apply(np.repeat(PICTURE[:, :, None], 3, axis=2))[:, :, 1]
        assert got.tolist() == expected.tolist()


def test_upright_is_the_default():
    assert Orientation() == orientation_of_matrix([ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30])
