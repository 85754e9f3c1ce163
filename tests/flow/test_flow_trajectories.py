"""Points carried along: translation, rotation and shear in closed form, and the dense grid."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualstream.errors import InputError, ShapeError
from dualstream.flow.trajectories import Trajectories, dense_starts, follow, sample
from dualstream.types import Flow

HEIGHT, WIDTH = 40, 60


def affine_flow(matrix, offset, *, count=15, size=(HEIGHT, WIDTH)) -> Flow:
    """Fields d(p) = matrix p + offset, the same at every step."""
    y, x = np.mgrid[: size[0], : size[1]]
    field = np.einsum("ij,jhw->ihw", np.asarray(matrix, float), np.stack((x, y)).astype(float))
    field += np.reshape(offset, (2, 1, 1))
    return Flow(np.repeat(field[None].astype(np.float32), count, axis=0), "affine")


STILL = np.zeros((2, 2))


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ((0, 0), (0, 100)),
        ((1, 0), (1, 101)),
        ((0, 1), (10, 110)),
        ((0.5, 0), (0.5, 100.5)),
        ((0.25, 0.5), (5.25, 105.25)),
        ((2, 1), (12, 112)),
        ((1.5, 1), (11.5, 111.5)),
        ((-3, 0), (0, 100)),  # outside: the border
        ((7, 9), (12, 112)),
        ((1, -0.5), (1, 101)),
    ],
)
def test_sample(point, expected):
    field = np.array([[[0, 1, 2], [10, 11, 12]], [[100, 101, 102], [110, 111, 112]]], np.float32)
    result = sample(field, np.array([point], np.float32))
    assert result.tolist() == [list(expected)]
    assert result.dtype == np.float32


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(0, WIDTH - 1), st.floats(0, HEIGHT - 1)), max_size=8))
def test_a_field_that_is_linear_is_sampled_exactly(points):
    matrix, offset = np.array([[0.3, -0.1], [0.2, 0.4]]), np.array([1.0, -2.0])
    places = np.array(points, np.float64).reshape(-1, 2)
    result = sample(affine_flow(matrix, offset, count=1).data[0], places)
    assert np.allclose(result, places @ matrix.T + offset, atol=1e-4)


def test_sampling_agrees_with_cv2():
    rng = np.random.default_rng(4)
    field = rng.normal(size=(2, 9, 11)).astype(np.float32)
    # cv2.remap splits pixels into 32 parts; at those it is exact
    points = rng.integers(0, [10 * 32, 8 * 32], (50, 2)).astype(np.float32) / 32
    for plane, result in zip(field, sample(field, points).T, strict=True):
        expected = cv2.remap(plane, points[:, :1], points[:, 1:], cv2.INTER_LINEAR)
        assert np.allclose(result, expected[:, 0], atol=1e-6)


@pytest.mark.parametrize("median_size", [1, 3, 5])
@pytest.mark.parametrize("shift", [(1.5, -0.5), (0, 0), (-2, 1.25)])
def test_a_translation_carries_points_straight_on(median_size, shift):
    starts = np.array([[30, 20], [31.5, 19.25]], np.float32)
    flow = affine_flow(STILL, shift)
    paths = follow(flow, starts, length=12, median_size=median_size)
    assert paths.points.shape == (2, 13, 2)
    assert paths.points.dtype == np.float32
    assert len(paths) == 2
    expected = starts[:, None] + np.arange(13)[:, None] * np.array(shift)
    assert np.allclose(paths.points, expected, atol=1e-4)
    assert paths.alive.all()


def test_a_rotation_carries_points_round():
    angle, centre = 0.1, np.array([29.5, 19.5])
    cosine, sine = np.cos(angle), np.sin(angle)
    turn = np.array([[cosine, -sine], [sine, cosine]])
    matrix = turn - np.eye(2)
    flow = affine_flow(matrix, -matrix @ centre)
    starts = centre + np.array([[10, 0], [0, 12.5], [-3, 4]])
    paths = follow(flow, starts.astype(np.float32), length=15, median_size=1)
    for step in range(16):
        expected = (starts - centre) @ np.linalg.matrix_power(turn, step).T + centre
        assert np.allclose(paths.points[:, step], expected, atol=1e-3)
    assert paths.alive.all()
    # the median of a linear field is the field itself, away from the border
    filtered = follow(flow, starts.astype(np.float32), length=15, median_size=3)
    assert np.allclose(filtered.points, paths.points, atol=1e-2)


def test_each_step_reads_its_own_field():
    data = np.zeros((3, 2, 8, 16), np.float32)
    data[:, 0] = np.array([1, 2, 4]).reshape(3, 1, 1)
    paths = follow(Flow(data, ""), np.array([[2, 3]], np.float32), length=3)
    assert paths.points[0].tolist() == [[2, 3], [3, 3], [5, 3], [9, 3]]


def test_points_that_leave_the_image_stay_where_they_left():
    flow = affine_flow(STILL, (2, 0), count=4, size=(10, 8))
    starts = np.array([[1, 5], [5, 5], [7.5, 5], [-3, 5]], np.float32)
    paths = follow(flow, starts, length=4, median_size=1)
    assert paths.points[:, :, 0].tolist() == [
        [1, 3, 5, 7, 9],
        [5, 7, 9, 9, 9],
        [7.5, 9.5, 9.5, 9.5, 9.5],  # half a pixel beyond the last middle is still the image
        [-3, -3, -3, -3, -3],
    ]
    assert paths.alive.astype(int).tolist() == [
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 0],
        [1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
    ]


def test_the_median_takes_single_wrong_vectors_out():
    data = np.zeros((1, 2, 9, 9), np.float32)
    data[0, :, 4, 4] = 3
    start = np.array([[4, 4]], np.float32)
    assert follow(Flow(data, ""), start, length=1, median_size=1).points[0, 1].tolist() == [7, 7]
    assert follow(Flow(data, ""), start, length=1).points[0, 1].tolist() == [4, 4]


def test_no_points():
    paths = follow(affine_flow(STILL, (1, 1)), np.empty((0, 2), np.float32), length=2)
    assert paths.points.shape == (0, 3, 2)
    assert paths.alive.shape == (0, 3)


def test_dense_starts_are_a_grid_without_even_areas():
    image = np.full((30, 41), 90, np.uint8)
    image[:, :20] = np.random.default_rng(0).integers(0, 255, (30, 20))
    starts = dense_starts(image, step_px=5)
    assert starts.dtype == np.float32
    assert set(starts[:, 1]) == {2, 7, 12, 17, 22, 27}
    assert {2, 7, 12, 17} <= set(starts[:, 0]) <= {2, 7, 12, 17, 22}
    # row by row
    assert starts[:4].tolist() == [[2, 2], [7, 2], [12, 2], [17, 2]]
    colour = np.repeat(image[:, :, None], 3, axis=2)
    assert (dense_starts(colour) == starts).all()


def test_dense_starts_keep_what_is_above_the_quality():
    rng = np.random.default_rng(1)
    image = np.full((64, 64), 128, np.uint8)
    image[:32] = rng.integers(0, 256, (32, 64))  # strong
    image[32:] += rng.integers(0, 4, (32, 64)).astype(np.uint8)  # weak
    everywhere = dense_starts(image, step_px=4, quality=0)
    strong = dense_starts(image, step_px=4, quality=0.01)
    assert len(everywhere) == 16 * 16
    assert (strong[:, 1] <= 34).all()
    assert len(strong) > 100


@pytest.mark.parametrize(
    ("size", "step_px", "xs", "ys"),
    [
        ((7, 9), 1, range(9), range(7)),
        ((7, 9), 2, [1, 3, 5, 7], [1, 3, 5]),
        ((7, 9), 5, [2, 7], [2]),
        ((7, 9), 20, [], []),
        ((1, 1), 1, [], []),
    ],
)
def test_grid_of_dense_starts(size, step_px, xs, ys):
    image = np.random.default_rng(3).integers(0, 256, size, dtype=np.uint8)
    starts = dense_starts(image, step_px=step_px, quality=0)
    assert starts.tolist() == [[x, y] for y in ys for x in xs]


@pytest.mark.parametrize("level", [0, 255])
def test_constant_images_have_no_starts(level):
    assert dense_starts(np.full((20, 20, 3), level, np.uint8)).shape == (0, 2)


def test_strided_images_and_fields_are_taken():
    rng = np.random.default_rng(6)
    image = rng.integers(0, 256, (40, 80), dtype=np.uint8)
    assert (dense_starts(image[:, ::2]) == dense_starts(image[:, ::2].copy())).all()
    data = rng.normal(size=(2, 2, 20, 60)).astype(np.float32)[..., ::2]
    data.flags.writeable = False
    start = np.array([[9.5, 9.5]], np.float32)
    plain = follow(Flow(data.copy(), ""), start, length=2)
    assert (follow(Flow(data, ""), start, length=2).points == plain.points).all()


def test_bad_input_is_named():
    flow = affine_flow(STILL, (0, 0), count=3)
    starts = np.zeros((2, 2), np.float32)
    for length in (0, 4):
        with pytest.raises(InputError, match=rf"length must lie in 1\.\.3.*got {length}"):
            follow(flow, starts, length=length)
    with pytest.raises(InputError, match="median_size must be 1, 3 or 5, got 7"):
        follow(flow, starts, length=3, median_size=7)
    with pytest.raises(ShapeError, match=r"starts must be \(N, 2\), got \(2, 3\)"):
        follow(flow, np.zeros((2, 3), np.float32), length=3)
    starts[1, 0] = np.nan
    with pytest.raises(InputError, match="starts holds a NaN or an infinity at point 1"):
        follow(flow, starts, length=3)
    with pytest.raises(InputError, match="points holds a NaN"):
        sample(flow.data[0], starts)
    with pytest.raises(ShapeError, match="flow_field must be"):
        sample(flow.data, np.zeros((1, 2), np.float32))
    flow.data[2, 0, 0, 0] = np.inf
    with pytest.raises(InputError, match="Flow of memory holds a NaN"):
        follow(flow, np.zeros((2, 2), np.float32), length=3)
    image = np.zeros((8, 8), np.uint8)
    with pytest.raises(InputError, match="step_px must be at least 1"):
        dense_starts(image, step_px=0)
    with pytest.raises(InputError, match=r"quality must lie in 0\.\.1"):
        dense_starts(image, quality=-1)
    with pytest.raises(ShapeError, match="image must be"):
        dense_starts(image.astype(np.float32))
    with pytest.raises(ShapeError, match="points must be"):
        Trajectories(np.zeros((3, 2), np.float32), np.zeros((3, 2), bool))
    with pytest.raises(ShapeError, match=r"alive must be \(3, 4\)"):
        Trajectories(np.zeros((3, 4, 2), np.float32), np.zeros((3, 3), bool))
