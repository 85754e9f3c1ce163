"""The lecture's small networks: its table of sizes and receptive fields, and its parameters."""

import pytest
import torch

from dualstream.models.zoo.lecture import lecture_3d_cnn, lecture_early_fusion, lecture_late_fusion

LAYERS = ("conv1", "max_pool", "conv2", "global_pool")

# EECS 498, lecture 18: for an input of 3 x 20 x 64 x 64, output size and receptive field (T, H, W)
# of each layer.
TABLE = {
    lecture_late_fusion: [
        ((12, 20, 64, 64), (1, 3, 3)),
        ((12, 20, 16, 16), (1, 6, 6)),
        ((24, 20, 16, 16), (1, 14, 14)),
        ((24, 1, 1, 1), (20, 64, 64)),
    ],
    lecture_early_fusion: [
        ((12, 64, 64), (20, 3, 3)),
        ((12, 16, 16), (20, 6, 6)),
        ((24, 16, 16), (20, 14, 14)),
        ((24, 1, 1), (20, 64, 64)),
    ],
    lecture_3d_cnn: [
        ((12, 20, 64, 64), (3, 3, 3)),
        ((12, 5, 16, 16), (6, 6, 6)),
        ((24, 5, 16, 16), (14, 14, 14)),
        ((24, 1, 1, 1), (20, 64, 64)),
    ],
}


def outputs(model):
    """List that the outputs of the four layers go to at each forward pass."""
    found = []
    for name in LAYERS:
        getattr(model, name).register_forward_hook(lambda _m, _i, y: found.append(y))
    return found


@pytest.mark.parametrize("make", TABLE)
def test_output_sizes(make):
    model = make(num_classes=10)
    found = outputs(model)
    assert model(torch.randn(2, 3, 20, 64, 64)).shape == (2, 10)
    assert [tuple(y.shape[1:]) for y in found] == [size for size, _ in TABLE[make]]


def extent(gradient):
    """(T, H, W) from the first to the last element of (T, H, W) that is not zero."""
    indices = gradient.nonzero()
    return tuple((indices.max(dim=0).values - indices.min(dim=0).values + 1).tolist())


@pytest.mark.parametrize("make", TABLE)
@pytest.mark.parametrize("layer", range(4))
def test_receptive_fields_by_gradient(make, layer):
    """The input that one middle output depends on; weights of 1 let nothing cancel."""
    model = make(num_classes=10)
    for parameter in model.parameters():
        parameter.data.fill_(0.01)
    found = outputs(model)
    # A maximum passes the gradient to one place only, so each place has to be it once.
    reached = torch.zeros(20, 64, 64)
    for seed in range(120 if layer in (1, 2) else 1):
        clips = torch.rand(1, 3, 20, 64, 64, generator=torch.Generator().manual_seed(seed))
        clips.requires_grad_()
        found.clear()
        model(clips)
        output = found[layer]
        middle = (0, 0, *(size // 2 for size in output.shape[2:]))
        output[middle].backward()
        reached += clips.grad[0].abs().sum(dim=0)
        if extent(reached) == TABLE[make][layer][1]:
            break
    assert extent(reached) == TABLE[make][layer][1]


# late: 3*3*3*12 + 12 = 336 and 3*3*12*24 + 24 = 2,616; early: 60*9*12 + 12 = 6,492 and 2,616;
# 3D: 27*3*12 + 12 = 984 and 27*12*24 + 24 = 7,800; classifier 24*10 + 10 = 250.
@pytest.mark.parametrize(
    ("make", "parameters"),
    [(lecture_late_fusion, 3_202), (lecture_early_fusion, 9_358), (lecture_3d_cnn, 9_034)],
)
def test_parameters(make, parameters):
    assert sum(p.numel() for p in make(num_classes=10).parameters()) == parameters


def test_late_fusion_does_not_know_the_order_of_frames():
    clips = torch.randn(2, 3, 9, 16, 20)
    shuffled = clips[:, :, torch.randperm(9)]
    late, three_d = lecture_late_fusion(num_classes=5), lecture_3d_cnn(num_classes=5)
    with torch.inference_mode():
        torch.testing.assert_close(late(shuffled), late(clips))
        assert not torch.allclose(three_d(shuffled), three_d(clips))


def test_early_fusion_equals_a_3d_network_of_one_step():
    """Its first layer as a 3D convolution over all frames, without padding in time."""
    model, clips = lecture_early_fusion(num_classes=5, length=4), torch.randn(2, 3, 4, 12, 12)
    weight = model.conv1.weight.unflatten(1, (4, 3)).transpose(1, 2)  # (12, C, T, 3, 3)
    found = outputs(model)
    with torch.inference_mode():
        model(clips)
        expected = torch.conv3d(clips, weight, model.conv1.bias, padding=(0, 1, 1))
        torch.testing.assert_close(found[0], expected[:, :, 0])
