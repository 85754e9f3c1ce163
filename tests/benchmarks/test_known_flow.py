"""Rendered pairs: the truth is the truth."""

import cv2
import numpy as np
import pytest
from benchmarks.known_flow import (
    DEVELOPMENT_SEEDS,
    FINAL_SEEDS,
    GENERATED_GROUPS,
    development_pairs,
    generated_pair,
    public_pairs,
)
from benchmarks.known_flow.scenes import Affine, Blob, Layer, Scene, Waves, pixel_centres
from benchmarks.known_flow.textures import TEXELS_PER_PX, Texture, frame_texture, noise_texture
from scipy.ndimage import map_coordinates

HEIGHT, WIDTH = 64, 96
WAVES = Waves(
    np.array([[3.0, -1.0], [0.5, 2.0]]),
    np.array([[0.05, 0.02], [-0.03, 0.06]]),
    np.array([0.3, 2.0]),
    shift_px=(1.25, -0.5),
)


def shift(x, y):
    return Affine(np.eye(2), shift_px=(x, y))


def textured(seed=0):
    return noise_texture(HEIGHT, WIDTH, rng=np.random.default_rng(seed))


def fetched(image, flow):
    """image(x + flow(x)) by splines: cv2.remap's cubic kernel is off by up to 0.04 px."""
    x, y = pixel_centres(*image.shape[:2]) + flow
    planes = [
        map_coordinates(image[..., c].astype(np.float32), [y, x], mode="mirror") for c in range(3)
    ]
    return np.stack(planes, axis=-1)


def residual_motion(first, second, mask):
    """The (x, y) that explains what is left between two images, by least squares."""
    mean = (first + second) / 2
    dy, dx = np.gradient(mean, axis=(0, 1))
    slopes = np.stack([dx[mask].ravel(), dy[mask].ravel()], axis=1)
    return np.linalg.lstsq(slopes, (first - second)[mask].ravel(), rcond=None)[0]


@pytest.mark.parametrize(
    ("samples", "x"), [(1, [0, 1, 2]), (2, [-0.25, 0.25, 0.75, 1.25, 1.75, 2.25])]
)
def test_pixel_centres(samples, x):
    points = pixel_centres(1, 3, samples=samples)
    assert points.shape == (2, samples, 3 * samples)
    np.testing.assert_allclose(points[0, 0], x)
    np.testing.assert_allclose(points[1, :, 0], [0] if samples == 1 else [-0.25, 0.25])


@pytest.mark.parametrize(
    "motion",
    [Affine(np.array([[1.1, -0.2], [0.3, 0.9]]), (20.0, 10.0), (3.0, -4.0)), WAVES],
    ids=["affine", "waves"],
)
def test_motions_are_inverted(motion):
    points = pixel_centres(HEIGHT, WIDTH)
    np.testing.assert_allclose(motion.backward(motion.forward(points)), points, atol=1e-9)
    np.testing.assert_allclose(motion.forward(motion.backward(points)), points, atol=1e-9)


def test_affine_keeps_its_centre_but_for_the_shift():
    motion = Affine(np.array([[0.0, -1.0], [1.0, 0.0]]), centre_px=(5.0, 7.0), shift_px=(1.0, 2.0))
    points = np.array([[[5.0, 6.0]], [[7.0, 7.0]]])  # the centre, and 1 px right of it
    np.testing.assert_allclose(motion.forward(points)[:, 0], [[6.0, 6.0], [9.0, 10.0]])


def test_texture_gives_its_texels():
    texels = np.random.default_rng(0).uniform(0, 255, (6, 8, 3)).astype(np.float32)
    points = pixel_centres(6, 8) / TEXELS_PER_PX
    np.testing.assert_allclose(Texture(texels).at(points), texels, atol=0.02)
    mirrored = Texture(texels).at(np.array([[[-0.5]], [[0.0]]]))
    np.testing.assert_allclose(mirrored[0, 0], texels[0, 1], atol=0.02)


def test_frame_texture_shows_the_frame():
    frame = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    frame = cv2.GaussianBlur(frame, (0, 0), 2)
    texture = frame_texture(frame)
    assert texture.texels.shape == (40, 60, 3)
    # Doubling puts the frame's pixel n between texels 2n and 2n + 1.
    shown = texture.at(pixel_centres(20, 30) + 0.25)
    np.testing.assert_allclose(shown[2:-2, 2:-2], frame[2:-2, 2:-2], atol=3)


def test_whole_pixels_move_whole_pixels():
    scene = Scene((Layer(textured(), shift(3, -2)),), HEIGHT, WIDTH)
    flow, valid = scene.flow()
    assert (flow[0] == 3).all()
    assert (flow[1] == -2).all()
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[2:, : WIDTH - 3] = True
    np.testing.assert_array_equal(valid, expected)
    np.testing.assert_allclose(
        scene.second()[: HEIGHT - 2, 3:], scene.first()[2:, : WIDTH - 3], atol=0.05
    )


@pytest.mark.parametrize(
    "motion",
    [
        shift(0.5, 0.0),
        shift(1.31, -2.77),
        Affine(np.array([[1.02, -0.03], [0.03, 1.01]]), (48.0, 32.0), (0.4, 1.7)),
        WAVES,
    ],
    ids=["half", "shift", "affine", "waves"],
)
def test_nothing_is_left_after_the_truth(motion):
    scene = Scene((Layer(textured(1), motion),), HEIGHT, WIDTH)
    flow, valid = scene.flow()
    inner = cv2.erode(valid.astype(np.uint8), np.ones((17, 17)), borderValue=0) > 0
    first = scene.first(blur_px=1)  # so that pixels hold all detail and splines find it
    second = fetched(scene.second(blur_px=1), flow)
    assert np.abs(residual_motion(first, second, inner)).max() < 0.005
    assert np.abs(first - second)[inner].mean() < 0.5


def test_layers_hide_what_is_behind_them():
    disk = Blob((40.0, 30.0), 12.5, np.zeros(0), np.zeros(0))
    background = Layer(textured(2), shift(-1, 0))
    scene = Scene((background, Layer(textured(3), shift(6, 0), disk)), HEIGHT, WIDTH)
    flow, valid = scene.flow()
    x, y = pixel_centres(HEIGHT, WIDTH)
    on_disk = np.hypot(x - 40, y - 30) < 12.5
    np.testing.assert_array_equal(flow[0], np.where(on_disk, 6, -1))
    assert (flow[1] == 0).all()
    # A background point at x is at x - 1 in frame 2, where the disk's centre is at 46.
    hidden = ~on_disk & (np.hypot(x - 1 - 46, y - 30) < 12.5)
    np.testing.assert_array_equal(valid, ~hidden & (x >= 1))
    assert hidden.sum() > 100
    inner = cv2.erode(on_disk.astype(np.uint8), np.ones((3, 3))) > 0
    np.testing.assert_allclose(
        np.roll(scene.second(), -6, axis=1)[inner], scene.first()[inner], atol=0.05
    )


def test_front_layer_wins():
    disks = [Blob((40.0, 30.0), radius, np.zeros(0), np.zeros(0)) for radius in (20.0, 10.0)]
    layers = [Layer(textured(n), shift(n, 0), disk) for n, disk in enumerate([None, *disks])]
    flow, _ = Scene(tuple(layers), HEIGHT, WIDTH).flow()
    assert [flow[0, 30, x] for x in (40, 55, 70)] == [2, 1, 0]


@pytest.mark.parametrize("group", GENERATED_GROUPS)
def test_generated_pair(group, tmp_path):
    pair = generated_pair(group, 2, clips=tmp_path)
    assert pair.name == f"{group}-2-noise"
    assert pair.group == group
    assert pair.first.shape == pair.second.shape == (256, 340, 3)
    assert pair.first.dtype == pair.second.dtype == np.uint8
    assert (pair.flow.shape, pair.flow.dtype) == ((2, 256, 340), np.float32)
    assert pair.valid.shape == (256, 340)
    assert 0.85 < pair.valid.mean() < 1
    assert 1 < np.hypot(*pair.flow).mean() < 15
    first, second = (cv2.GaussianBlur(p.astype(np.float32), (0, 0), 1) for p in pair[2:4])
    inner = cv2.erode(pair.valid.astype(np.uint8), np.ones((5, 5)), borderValue=0) > 0
    # At most a change of light by 2 % and 2 of 255, and what blurred noise leaves.
    left = np.median(np.abs(fetched(second, pair.flow) - first)[inner])
    assert left < 5
    assert np.abs(second - first)[inner].mean() > 1.3 * left


def test_seeds_give_other_pairs(tmp_path):
    one, other = (generated_pair("affine", seed, clips=tmp_path) for seed in (0, 1000))
    assert not np.array_equal(one.flow, other.flow)
    assert not np.array_equal(one.first, other.first)
    for value, same in zip(one, generated_pair("affine", 0, clips=tmp_path), strict=True):
        np.testing.assert_array_equal(value, same)
    assert not set(DEVELOPMENT_SEEDS) & set(FINAL_SEEDS)


def test_development_pairs_begin_with_the_first_seed():
    pair = next(development_pairs(count=1))
    np.testing.assert_array_equal(pair.first, generated_pair("affine", 0).first)


def test_real_texture(shared):
    pair = generated_pair("affine", 1, clips=shared / "clips")
    assert pair.name == "affine-1-clip"
    inner = cv2.erode(pair.valid.astype(np.uint8), np.ones((5, 5)), borderValue=0) > 0
    left = np.abs(fetched(pair.second, pair.flow) - pair.first)[inner].mean()
    assert left < 0.5 * np.abs(pair.second.astype(int) - pair.first)[inner].mean()


def test_public_pairs(shared):
    pairs = list(public_pairs(shared / "flow"))
    assert [pair.group for pair in pairs] == ["chairs"] * 3 + ["middlebury"]
    for pair in pairs:
        assert pair.flow.shape[1:] == pair.first.shape[:2] == pair.second.shape[:2]
        left = np.abs(fetched(pair.second, pair.flow) - pair.first)[pair.valid]
        assert np.median(left) < np.median(np.abs(pair.second.astype(int) - pair.first)[pair.valid])
    assert 0.9 < pairs[3].valid.mean() < 1  # RubberWhale has pixels of unknown flow
    assert np.abs(pairs[3].flow).max() < 10


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Texture(np.zeros((4, 4), np.float32)), "Texels must be"),
        (lambda: Waves(np.ones((2, 2)), np.ones((2, 2)), np.zeros(2)), "sum to 4.00"),
        (lambda: Scene((), 4, 4), "background"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
