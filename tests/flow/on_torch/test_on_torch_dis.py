"""Dense inverse search in torch."""

import cv2
import numpy as np
import pytest
import torch

from dualstream.flow.methods.params import TVL1FastParams
from dualstream.flow.on_torch import dis
from dualstream.flow.on_torch.dis import corners, patch_images, search_flow

SEARCH = TVL1FastParams(patch_stride=4, descent_steps=12, rounds=2)


def texture(height=48, width=56, *, x=0.0, y=0.0, seed=1) -> np.ndarray:
    """(H, W) smooth noise in 0..255, moved right by x and down by y."""
    noise = np.random.default_rng(seed).normal(size=(height + 40, width + 40)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.5) * 400 + 128
    matrix = np.array([[1, 0, x - 20], [0, 1, y - 20]], np.float64)
    return cv2.warpAffine(smooth, matrix, (width, height), flags=cv2.INTER_CUBIC)


def prepared(*images: np.ndarray) -> torch.Tensor:
    return patch_images(torch.from_numpy(np.stack(images).astype(np.float32)))


@pytest.mark.parametrize(
    ("size", "stride", "expected"),
    [
        (20, 5, [0, 5, 10, 12]),
        (20, 4, [0, 4, 8, 12]),
        (21, 4, [0, 4, 8, 12, 13]),
        (8, 4, [0]),
        (9, 8, [0, 1]),
    ],
)
def test_corners(size, stride, expected):
    assert corners(size, stride) == expected


def test_patch_images_have_a_border_and_sobel_slopes():
    y, x = np.mgrid[:9, :12].astype(np.float32)
    brightness, along_x, along_y = patch_images(torch.from_numpy(3 * x - 2 * y)[None])[0]
    assert brightness.shape == (9 + 32, 12 + 32)
    assert torch.equal(brightness[16:25, 16:28], torch.from_numpy(3 * x - 2 * y))
    assert torch.equal(brightness[:16], brightness[16].expand(16, -1))
    assert torch.equal(brightness[:, -16:], brightness[:, -17:-16].expand(-1, 16))
    assert along_x[16:25, 17:27].unique().tolist() == [3.0]
    assert along_x[16:25, 16].unique().tolist() == [1.5]  # the edge is repeated
    assert along_y[17:24, 16:28].unique().tolist() == [-2.0]
    assert along_y[24, 16:28].unique().tolist() == [-1.0]
    peak = torch.zeros(1, 3, 3)
    peak[0, 1, 1] = 8
    _, along_x, along_y = patch_images(peak)[0, :, 16:19, 16:19]
    assert along_x.tolist() == [[1, 0, -1], [2, 0, -2], [1, 0, -1]]
    assert along_y.tolist() == [[1, 2, 1], [0, 0, 0], [-1, -2, -1]]


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (2.0, -1.0), (-1.4, 2.7)])
def test_a_translation_is_found(x, y):
    first, second = prepared(texture()), prepared(texture(x=x, y=y))
    flow, brightening = search_flow(first, second, None, SEARCH)
    inside = flow[0, :, 6:-6, 6:-6].flatten(1)
    assert inside.median(1).values.tolist() == pytest.approx([x, y], abs=0.05)
    assert brightening.median() == pytest.approx(0, abs=0.5)


def test_a_start_is_doubled():
    first, second = prepared(texture()), prepared(texture(x=10, y=-8))
    coarser = torch.empty(1, 2, 24, 28)
    coarser[:, 0], coarser[:, 1] = 4.6, -4.3  # leaves (0.8, 0.6) to find
    flow, _ = search_flow(first, second, coarser, SEARCH)
    assert flow[0, :, 10:-10, 12:-12].flatten(1).median(1).values.tolist() == pytest.approx(
        [10, -8], abs=0.1
    )


def test_brightening_is_no_motion():
    image = texture()
    flow, brightening = search_flow(prepared(image), prepared(image + 7), None, SEARCH)
    assert flow.abs().max() < 1e-3
    assert brightening.numpy() == pytest.approx(np.full((1, 48, 56), 7), abs=1e-3)


def test_images_without_texture_keep_their_start():
    flat = prepared(np.full((16, 24), 9))
    coarser = torch.full((1, 2, 8, 12), 0.75)
    flow, _ = search_flow(flat, flat, coarser, SEARCH)
    assert torch.equal(flow, torch.full((1, 2, 16, 24), 1.5))


def test_a_neighbour_helps_a_lost_patch():
    # Every second patch starts far from the truth, where it finds nothing.
    first, second = prepared(texture()), prepared(texture(x=9.0))
    coarser = torch.zeros(1, 2, 24, 28)
    coarser[:, 0, :, :14] = 4.5
    alone, _ = search_flow(
        first, second, coarser, TVL1FastParams(patch_stride=4, descent_steps=12, rounds=0)
    )
    asked, _ = search_flow(
        first, second, coarser, TVL1FastParams(patch_stride=4, descent_steps=12, rounds=12)
    )
    alone_found, asked_found = ((flow[0, 0] - 9).abs() < 0.5 for flow in (alone, asked))
    assert asked_found.float().mean() > alone_found.float().mean() + 0.2


@pytest.mark.parametrize("stride", [1, 3, 8])
def test_pairs_and_parts_do_not_matter(monkeypatch, stride):
    search = TVL1FastParams(patch_stride=stride, descent_steps=4, rounds=1)
    images = [texture(22, 27, x=x, seed=seed) for x, seed in ((0, 1), (1.5, 1), (0, 2))]
    first, second = prepared(*images), prepared(*images[1:], images[0])
    together = search_flow(first, second, None, search)
    monkeypatch.setattr(dis, "_CPU_PATCHES", 5)
    for n in range(3):
        alone = search_flow(first[n : n + 1], second[n : n + 1], None, search)
        for planes, alone_planes in zip(together, alone, strict=True):
            assert torch.allclose(planes[n], alone_planes[0], atol=1e-4)


def test_an_image_of_one_patch():
    image = texture(8, 8)
    flow, brightening = search_flow(prepared(image), prepared(image), None, SEARCH)
    assert flow.shape == (1, 2, 8, 8)
    assert not flow.any()
    assert not brightening.any()
