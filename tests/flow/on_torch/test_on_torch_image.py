"""Images as tensors: sizes, gradients, values between the pixels."""

import cv2
import numpy as np
import pytest
import torch

from dualstream.flow.on_torch.image import half_size, resize, sample, with_gradient


def quadratic(x, y):
    return x * x / 4 - x * y / 8 + y * y / 16 + 2 * x - 3 * y + 5


def test_gradient_is_half_the_difference_of_the_neighbours():
    image = torch.tensor([[[1.0, 2, 4, 8], [1, 3, 5, 7], [0, 0, 0, 0]]])
    brightness, along_x, along_y = with_gradient(image)[0]
    assert torch.equal(brightness, image[0])
    assert along_x[1].tolist() == [1.0, 2.0, 2.0, 1.0]  # 3-1, 5-1, 7-3, 7-5, halved
    assert along_y[:, 2].tolist() == [0.5, -2.0, -2.5]  # 5-4, 0-4, 0-5, halved


def test_half_size_leaves_out_odd_edges():
    image = torch.arange(15.0).reshape(1, 3, 5)
    assert half_size(image).tolist() == [[[3.0, 5.0]]]  # mean of 0 1 5 6, of 2 3 7 8


def test_resize_by_hand():
    row = torch.tensor([[[0.0, 8.0, 16.0]]])
    doubled = resize(row, (1, 6), ratio_y=1, ratio_x=0.5, factor=2)
    assert doubled.tolist() == [[[0.0, 4.0, 12.0, 20.0, 28.0, 32.0]]]
    # The given ratio counts, not that of the sizes: places 0.5 and 2.5 (cut to 2).
    assert resize(row, (1, 2), ratio_y=1, ratio_x=2).tolist() == [[[4.0, 16.0]]]


@pytest.mark.parametrize("size", [(9, 13), (20, 31), (24, 40)])
def test_resize_is_opencvs(size):
    image = np.random.default_rng(1).normal(size=(20, 31)).astype(np.float32)
    expected = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
    ratio_y, ratio_x = 20 / size[0], 31 / size[1]
    found = resize(torch.from_numpy(image)[None], size, ratio_y=ratio_y, ratio_x=ratio_x)
    assert found[0].numpy() == pytest.approx(expected, abs=1e-4)


def test_samples_at_pixels_are_the_pixels():
    images = with_gradient(torch.rand(2, 5, 7))
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(7.0), indexing="ij")
    brightness, slopes = sample(images, x.expand(2, 5, 7), y.expand(2, 5, 7))
    assert torch.equal(brightness, images[:, 0])
    assert torch.equal(slopes, images[:, 1:])


def test_samples_of_a_quadratic_are_exact():
    y, x = torch.meshgrid(torch.arange(9.0), torch.arange(11.0), indexing="ij")
    images = with_gradient(quadratic(x, y)[None])
    generator = torch.Generator().manual_seed(1)
    x = 1 + 8 * torch.rand(1, 4, 5, generator=generator)  # with both neighbours inside
    y = 1 + 6 * torch.rand(1, 4, 5, generator=generator)
    brightness, slopes = sample(images, x, y)
    assert brightness.numpy() == pytest.approx(quadratic(x, y).numpy(), abs=1e-4)
    assert slopes[:, 0].numpy() == pytest.approx((x / 2 - y / 8 + 2).numpy(), abs=1e-4)
    assert slopes[:, 1].numpy() == pytest.approx((y / 8 - x / 8 - 3).numpy(), abs=1e-4)
