"""The kernel of dense trajectories against closed forms and plain numpy."""

from __future__ import annotations

import numpy as np
import pytest

kernel = pytest.importorskip("dualstream.flow._trajectories")

SIDE, LENGTH, STEP = 64, 3, 16
EPSILON, CELL = 0.05, 256
"""Added to each bin; pixels of a cell."""


def zeros():
    return np.zeros((SIDE, SIDE), np.float32)


def constant(x, y):
    return np.stack((np.full_like(zeros(), x), np.full_like(zeros(), y)))


def followed(grey, flow, warped=None, *, at=(40, 24)):
    """Points, displacements and descriptors (HOG, HOF, MBHx, MBHy) of the point begun at x, y."""
    tracker = kernel.Tracker(height=SIDE, width=SIDE, length=LENGTH, step=STEP)
    corners = zeros()
    corners[at[1], at[0]] = 1
    tracker.sample(corners, 0.5)
    for _ in range(LENGTH):
        rows = tracker.follow(grey, flow, flow if warped is None else warped)
    (row,) = rows
    points, displacements, *rest = np.split(row, np.cumsum([8, 6, 96, 108, 96]))
    # Every descriptor: (time, column, row, bin).
    return (
        points.reshape(4, 2),
        displacements.reshape(3, 2),
        *(r.reshape(3, 2, 2, -1) for r in rest),
    )


def histogram(bins, **votes):
    """A cell's part of the root of a histogram in which all four cells are alike."""
    values = np.full(bins, EPSILON)
    for name, vote in votes.items():
        values[int(name[1:])] += CELL * vote
    return np.sqrt(values / (4 * values.sum()))


@pytest.mark.parametrize(
    ("x", "y", "votes"),
    [
        (2, 0, {"b0": 2}),
        (0, 2, {"b2": 2}),
        (-3, 0, {"b4": 3}),
        (0, -1, {"b6": 1}),
        (1, 1, {"b1": 2**0.5}),
        (np.cos(np.pi / 8), np.sin(np.pi / 8), {"b0": 0.5, "b1": 0.5}),
        (0.3, 0, {"b8": 1}),  # stands still
    ],
)
def test_hof_of_a_translation_and_no_boundaries_inside_it(x, y, votes):
    points, displacements, hog, hof, mbhx, mbhy = followed(zeros(), constant(x, y))
    np.testing.assert_allclose(points, [(40 + t * x, 24 + t * y) for t in range(4)], rtol=1e-6)
    np.testing.assert_allclose(displacements, [(x, y)] * 3, rtol=1e-6)
    np.testing.assert_allclose(hof, np.broadcast_to(histogram(9, **votes), hof.shape), atol=6e-4)
    for still in (hog, mbhx, mbhy):
        np.testing.assert_allclose(still, 32**-0.5, rtol=1e-5)


def test_a_rotation_changes_x_downwards_and_y_to_the_right():
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32) - 32
    turn = 0.02
    field = np.stack((-turn * y, turn * x))
    *_, mbhx, mbhy = followed(zeros(), constant(0, 0), field)
    # Differences over two pixels.
    np.testing.assert_allclose(mbhx[0, 1, 0], histogram(8, b6=2 * turn), atol=1e-3)
    np.testing.assert_allclose(mbhy[0, 1, 0], histogram(8, b0=2 * turn), atol=1e-3)


def test_points_go_with_the_flow_and_displacements_without_the_camera():
    points, displacements, _, hof, *_ = followed(zeros(), constant(3, 1), constant(0, 2))
    np.testing.assert_allclose(points[-1], (49, 27))
    np.testing.assert_allclose(displacements, [(0, 2)] * 3)
    np.testing.assert_allclose(hof[0, 0, 0], histogram(9, b2=2), atol=1e-4)


def test_descriptors_are_those_of_plain_numpy():
    rng = np.random.default_rng(0)
    grey = rng.uniform(0, 255, (SIDE, SIDE)).astype(np.float32)
    warped = rng.normal(size=(2, SIDE, SIDE)).astype(np.float32)
    found = followed(grey, constant(0, 0), warped, at=(8, 56))[2:]

    def slopes(plane):
        x, y = np.zeros_like(plane), np.zeros_like(plane)
        x[:, 1:-1], y[1:-1] = plane[:, 2:] - plane[:, :-2], plane[2:] - plane[:-2]
        return x, y

    def described(x, y, bins, *, has_still):
        patch = (slice(32, 64), slice(0, 32))  # at the corner of the image
        x, y, around = x[patch], y[patch], bins - has_still
        length = np.hypot(x, y)
        place = np.arctan2(y, x) % (2 * np.pi) / (2 * np.pi) * around
        low = np.floor(place).astype(int)
        still = (length <= 0.4) & has_still
        cells = np.full((2, 2, bins), EPSILON)
        for i, j in np.ndindex(32, 32):
            cell = cells[j // 16, i // 16]
            if still[i, j]:
                cell[-1] += 1
            else:
                cell[low[i, j] % around] += length[i, j] * (1 + low[i, j] - place[i, j])
                cell[(low[i, j] + 1) % around] += length[i, j] * (place[i, j] - low[i, j])
        return np.sqrt(cells / cells.sum())

    expected = (
        described(*slopes(grey), 8, has_still=False),
        described(*warped, 9, has_still=True),
        described(*slopes(warped[0]), 8, has_still=False),
        described(*slopes(warped[1]), 8, has_still=False),
    )
    for descriptor, cells in zip(found, expected, strict=True):
        np.testing.assert_allclose(descriptor, np.stack([cells] * 3), atol=2e-4)


def test_a_cell_with_a_point_gets_no_other_and_points_end_outside():
    tracker = kernel.Tracker(height=SIDE, width=SIDE, length=LENGTH, step=STEP)
    corners = np.ones((SIDE, SIDE), np.float32)
    for _ in range(2):  # the second time all cells are taken
        tracker.sample(corners, 0.5)
    for _ in range(LENGTH):
        rows = tracker.follow(zeros(), constant(6, 0), constant(6, 0))
    starts = rows[:, :2]
    # 8 + 3 x 6 stays inside, 56 + 6 does, 56 + 12 does not.
    assert sorted(map(tuple, starts.tolist())) == [
        (x, y) for x in (8, 24, 40) for y in (8, 24, 40, 56)
    ]


@pytest.mark.parametrize("sizes", [{"height": 31}, {"length": 4}, {"step": 0}])
def test_sizes_that_cannot_be_are_refused(sizes):
    with pytest.raises(ValueError, match="at least a patch"):
        kernel.Tracker(**{"height": SIDE, "width": SIDE, "length": 3, "step": 5, **sizes})
    tracker = kernel.Tracker(height=SIDE, width=SIDE, length=3, step=5)
    with pytest.raises(ValueError, match="height and width"):
        tracker.sample(np.zeros((SIDE, SIDE - 1), np.float32), 0)
