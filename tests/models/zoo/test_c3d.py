"""C3D: parameters as published, sizes by hand, input."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dualstream.errors import InputError
from dualstream.models.zoo.c3d import c3d, feature_size


# 101 classes: counted from public code. Flow: 64 x 27 weights less. 64 pixels: 9 cells instead of
# 16 reach the first full layer, 7 x 512 x 4096 weights less.
@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        ({}, 78_409_573),
        ({"in_channels": 2}, 78_407_845),
        ({"image_size": 64}, 63_729_509),
    ],
)
def test_parameters_at_101_classes(options, parameters):
    with torch.device("meta"):
        model = c3d(num_classes=101, **options)
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize(
    ("length", "image_size", "size"),
    [
        (16, 112, (1, 4)),
        (16, 16, (1, 1)),
        (31, 31, (1, 1)),
        (32, 32, (2, 2)),
        (16, 128, (1, 5)),
        (48, 224, (3, 8)),
    ],
)
def test_feature_size_is_that_of_the_last_pool(length, image_size, size):
    assert feature_size(length, image_size) == size
    with torch.device("meta"):
        x = torch.zeros(1, 3, length, image_size, image_size)
        for group in c3d(num_classes=2, length=length, image_size=image_size).stages()[:5]:
            x = group(x)
    assert x.shape == (1, 512, size[0], size[1], size[1])


def test_sizes_after_each_group_at_112():
    with torch.device("meta"):
        x = torch.zeros(1, 3, 16, 112, 112)
        shapes = []
        for group in c3d(num_classes=2).stages()[:5]:
            x = group(x)
            shapes.append(tuple(x.shape[1:4]))
    assert shapes == [(64, 16, 56), (128, 8, 28), (256, 4, 14), (512, 2, 7), (512, 1, 4)]


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return c3d(num_classes=7, in_channels=2, image_size=33).eval()


def test_logits_are_those_of_the_layers_written_out(small):
    weights = list(small.parameters())
    pools = {0: (1, 2, 2), 1: (2, 2, 2), 3: (2, 2, 2), 5: (2, 2, 2), 7: (2, 2, 2)}
    clips = torch.randn(2, 2, 16, 33, 33)
    x = clips
    for index in range(8):
        x = F.conv3d(x, weights[2 * index], weights[2 * index + 1], padding=1).clamp(min=0)
        if index in pools:
            x = F.max_pool3d(x, pools[index], padding=(0, 1, 1) if index == 7 else 0)
    x = x.reshape(2, -1)
    for index in (8, 9):
        x = (x @ weights[2 * index].T + weights[2 * index + 1]).clamp(min=0)
    expected = x @ weights[20].T + weights[21]
    with torch.inference_mode():
        torch.testing.assert_close(small(clips), expected, rtol=1e-4, atol=1e-5)


def test_start_keeps_the_signal_alive(small):
    with torch.inference_mode():
        logits = small(torch.randn(4, 2, 16, 33, 33))
    assert 1e-3 < logits.std() < 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 15}, "length of c3d must be at least 16, got 15"),
        ({"image_size": 15}, "image_size of c3d must be at least 16, got 15"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        c3d(num_classes=2, **options)


def test_dropout_acts_after_both_fully_connected_layers():
    with torch.device("meta"):
        model = c3d(num_classes=2, dropout=0.9)
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.9, 0.9]
    assert isinstance(model.full_6[-1], nn.Dropout)
