"""RGB weights as the start of other inputs."""

import pytest
import torch
from torch import nn

from dualstream.errors import InputError, WeightsError
from dualstream.models.layers.conv import (
    cross_modality_start,
    first_convolution,
    spread_channels,
)


def net(channels):
    return nn.Sequential(nn.Sequential(nn.Conv2d(channels, 2, 1)), nn.Conv2d(2, 4, 1))


def test_mean_over_rgb_is_copied_to_every_channel():
    weight = torch.tensor([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]])[:, :, None, None]
    spread = spread_channels(weight, in_channels=4)
    assert spread.shape == (2, 4, 1, 1)
    assert spread[:, :, 0, 0].tolist() == [[3.0] * 4, [1.0] * 4]


def test_equal_channels_answer_as_grey_times_their_number():
    weight = torch.randn(5, 3, 7, 7)
    grey = torch.randn(1, 1, 9, 9)
    rgb = nn.functional.conv2d(grey.repeat(1, 3, 1, 1), weight)
    flow = nn.functional.conv2d(grey.repeat(1, 10, 1, 1), spread_channels(weight, in_channels=10))
    torch.testing.assert_close(flow, rgb * 10 / 3, rtol=1e-4, atol=1e-4)


def test_state_fits_and_only_the_first_convolution_changes():
    source, target = net(3), net(10)
    state = cross_modality_start(source.state_dict(), target)
    target.load_state_dict(state)
    assert torch.equal(target[0][0].weight[:, 7], source[0][0].weight.mean(dim=1))
    assert torch.equal(target[0][0].bias, source[0][0].bias)
    assert torch.equal(target[1].weight, source[1].weight)
    assert source[0][0].weight.shape == (2, 3, 1, 1)


def test_same_channels_keep_their_weights():
    source, target = net(3), net(3)
    state = cross_modality_start(source.state_dict(), target)
    assert torch.equal(state["0.0.weight"], source[0][0].weight)


def test_first_convolution_is_found_by_name():
    model = net(3)
    name, convolution = first_convolution(model)
    assert name == "0.0"
    assert convolution is model[0][0]
    with pytest.raises(InputError, match="Linear has no 2D or 3D convolution"):
        first_convolution(nn.Linear(1, 1))


def test_3d_convolutions_are_spread_too():
    weight = torch.randn(4, 3, 2, 5, 6)
    spread = spread_channels(weight, in_channels=2)
    assert spread.shape == (4, 2, 2, 5, 6)
    assert torch.equal(spread[:, 1], weight.mean(dim=1))
    source, target = (nn.Sequential(nn.Conv3d(channels, 2, 1)) for channels in (3, 2))
    target.load_state_dict(cross_modality_start(source.state_dict(), target))
    assert torch.equal(target[0].weight[:, 0], source[0].weight.mean(dim=1))


def test_every_pathway_gets_its_start():
    def pathways(channels):
        return nn.ModuleDict({"slow": net(channels), "fast": nn.Conv2d(channels, 3, 3)})

    source, target = pathways(3), pathways(10)
    target.load_state_dict(cross_modality_start(source.state_dict(), target))
    assert torch.equal(target["fast"].weight[:, 9], source["fast"].weight.mean(dim=1))
    assert torch.equal(target["slow"][0][0].weight[:, 0], source["slow"][0][0].weight.mean(dim=1))


def test_other_shapes_are_left_for_the_check_of_shapes():
    source, target = net(3), nn.Sequential(nn.Sequential(nn.Conv2d(10, 2, 3)), nn.Conv2d(2, 4, 1))
    state = cross_modality_start(source.state_dict(), target)
    assert state["0.0.weight"].shape == (2, 3, 1, 1)


def test_state_of_another_network_is_refused():
    with pytest.raises(WeightsError, match=r"'0\.0\.weight'"):
        cross_modality_start({"conv.weight": torch.zeros(1, 3, 1, 1)}, net(10))
