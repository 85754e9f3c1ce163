"""MotionNet: the authors' layers, its flow's sizes and units, odd sizes, where gradients go."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dualstream.errors import InputError
from dualstream.models import create_model
from dualstream.models.zoo.motionnet import MotionEstimator, flow_pixels


def small(**options: int) -> MotionEstimator:
    torch.manual_seed(0)
    return MotionEstimator(**{"in_channels": 3, "length": 3, "base_channels": 2, **options})


def convolution(before: int, after: int) -> int:
    return 9 * before * after + after


def transposed(before: int, after: int) -> int:
    return 16 * before * after


def test_parameters_counted_by_hand() -> None:
    """Layer by layer as in the authors' train.prototxt, 11 RGB frames."""
    stages = (
        convolution(33, 64) + convolution(64, 64),
        convolution(64, 128) + convolution(128, 128),
        convolution(128, 256) + convolution(256, 256),
        convolution(256, 512) + convolution(512, 512),
        convolution(512, 512) + convolution(512, 512),
        convolution(512, 1024) + convolution(1024, 1024),
    )
    flows = sum(convolution(width, 20) for width in (1024, 512, 256, 128, 64))
    larger = sum(transposed(a, b) for a, b in ((1024, 512), (512, 256), (256, 128), (128, 64)))
    larger += 4 * transposed(20, 20)
    smooth = (
        convolution(512 + 512 + 20, 512)
        + convolution(512 + 256 + 20, 256)
        + convolution(256 + 128 + 20, 128)
        + convolution(128 + 64 + 20, 64)
    )
    with torch.device("meta"):
        model = create_model("motionnet", num_classes=101)
    found = sum(p.numel() for p in model.motion.parameters())
    assert found == sum(stages) + flows + larger + smooth == 42_318_820
    classifier = 20 * 16 * 101 + 101
    assert sum(p.numel() for p in model.parameters()) == found + classifier


def test_levels_of_the_authors_input() -> None:
    with torch.device("meta"):
        model = MotionEstimator(in_channels=3, length=11)
        levels = model(torch.zeros(2, 3, 11, 224, 224))
    assert [tuple(level.shape) for level in levels] == [
        (2, 10, 2, side, side) for side in (7, 14, 28, 56, 112)
    ]


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (33, 65), (50, 47), (64, 80)])
@pytest.mark.parametrize("length", [2, 5])
def test_any_length_and_any_size(size: tuple[int, int], length: int) -> None:
    """Sides are halved and rounded up: 50 -> 25, 13, 7, 4, 2."""
    model = small(length=length)
    levels = model(torch.randn(2, 3, length, *size))
    height, width = size
    for level in reversed(levels):
        height, width = -(-height // 2), -(-width // 2)
        assert level.shape == (2, length - 1, 2, height, width)


def test_the_decoder_by_hand() -> None:
    """One level up from the bottleneck, from the layers themselves."""
    model = small()
    frames = torch.randn(1, 3, 3, 64, 64)
    x = torch.cat([frames[:, :, t] for t in range(3)], dim=1)  # frame by frame, RGB RGB RGB
    kept = []
    for stage in model.encoder:
        for layer in stage:
            x = F.leaky_relu(x, 0.1) if isinstance(layer, nn.LeakyReLU) else layer(x)
        kept.append(x)
    flow = model.flow[0](x)
    features = F.leaky_relu(model.larger_features[0][0](x), 0.1)
    joined = torch.cat((kept[4], features, model.larger_flow[0](flow)), dim=1)
    finer = model.flow[1](model.smooth[0](joined))
    levels = model(frames)
    torch.testing.assert_close(levels[0].flatten(1, 2), flow)
    torch.testing.assert_close(levels[1].flatten(1, 2), finer)


def test_weights_start_as_the_authors_do() -> None:
    """He et al. 2015: a deviation of sqrt(2 / fan-in), Caffe's fan-in; biases are 0."""
    torch.manual_seed(0)
    model = MotionEstimator(in_channels=3, length=11, base_channels=16)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            fan_in = layer.in_channels * 9
            assert (layer.bias == 0).all()
        elif isinstance(layer, nn.ConvTranspose2d):
            fan_in = layer.out_channels * 16
            assert layer.bias is None
        else:
            continue
        assert layer.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.1)


def test_flow_in_pixels_of_the_frames() -> None:
    finest = torch.full((2, 3, 2, 5, 7), 0.25)
    pixels = flow_pixels(finest, (9, 14))
    assert pixels.shape == (2, 3, 2, 9, 14)
    torch.testing.assert_close(pixels, torch.full_like(pixels, 5.0))


def test_the_classifier_sees_the_flow_on_a_grid() -> None:
    torch.manual_seed(0)
    model = create_model("motionnet", num_classes=4, length=3, base_channels=2).eval()
    clips = torch.randn(2, 3, 3, 32, 48)
    finest = model.motion(clips)[-1]  # (2, 2, 2, 16, 24)
    cells = finest.reshape(2, 4, 4, 4, 4, 6).mean(dim=(3, 5)).flatten(1)
    torch.testing.assert_close(model.embed(clips), cells)
    logits, levels = model.logits_and_levels(clips)
    torch.testing.assert_close(logits, model(clips))
    torch.testing.assert_close(levels[-1], finest)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 1}, "length must be at least 2, got 1"),
        ({"base_channels": 0}, "base_channels must be at least 1, got 0"),
    ],
)
def test_numbers_out_of_range(options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        create_model("motionnet", num_classes=2, **options)
