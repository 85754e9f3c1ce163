"""3D convolutions by 2D ones give the same numbers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dualstream.deploy.flatten import FlatConv, flatten_convolutions
from dualstream.models.layers.conv import ConvUnit, RepeatingConv3d


@pytest.mark.parametrize("stride", [(1, 1, 1), (2, 1, 1), (1, 2, 2), (3, 2, 2)])
@pytest.mark.parametrize(
    ("kernel", "padding"),
    [
        ((1, 1, 1), (0, 0, 0)),
        ((1, 3, 3), (0, 1, 1)),
        ((3, 1, 1), (1, 0, 0)),
        ((3, 3, 3), (1, 1, 1)),
        ((5, 3, 1), (2, 0, 1)),
        ((2, 2, 2), (0, 0, 0)),
        ((1, 1, 1), (1, 1, 1)),
    ],
)
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("bias", [True, False])
def test_flat_is_the_convolution(
    kernel: tuple[int, int, int],
    padding: tuple[int, int, int],
    stride: tuple[int, int, int],
    groups: int,
    bias: bool,
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv3d(4, 8, kernel, stride=stride, padding=padding, groups=groups, bias=bias)
    x = torch.randn(2, 4, 7, 6, 5)
    expected = conv(x).relu()
    found = FlatConv(conv, nn.ReLU())(x)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_network_is_flattened_but_for_what_repeats_the_border() -> None:
    torch.manual_seed(0)
    repeating = ConvUnit(8, 8, (3, 3, 3))
    repeating.conv = RepeatingConv3d(8, 8, 3, padding=1, bias=False)
    network = nn.Sequential(
        ConvUnit(3, 8, (3, 3, 3), stride=(1, 2, 2), activation="swish"),
        repeating,
        nn.Conv3d(8, 4, 1),
    ).eval()
    for name, value in network.named_buffers():
        if name.endswith("running_mean"):
            value.uniform_(-1, 1)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 2)
    x = torch.randn(2, 3, 4, 8, 8)
    with torch.no_grad():
        expected = network(x)
        flatten_convolutions(network)
        found = network(x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    kinds = [type(network.get_submodule(name)) for name in ("0.conv", "1.conv", "2")]
    assert kinds == [FlatConv, RepeatingConv3d, FlatConv]
