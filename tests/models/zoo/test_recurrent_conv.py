"""Recurrent convolutional network: the unit against loops in NumPy, the depths, any length."""

import numpy as np
import pytest
import torch
from torch import nn

from dualstream.errors import InputError, ShapeError, UnknownNameError
from dualstream.models import create_model
from dualstream.models.trainable import set_trainable
from dualstream.models.zoo.recurrent_conv import ConvGRU, recurrent_conv


def tiny(**options):
    torch.manual_seed(0)
    settings = {"num_classes": 5, "backbone": "resnet10t", "depths": (1, 2), "hidden": (4, 6)}
    return recurrent_conv(**{**settings, **options})


# ResNet-50 without its classifier has 23,508,032. A unit over C channels with h of its own:
# 9 * (3 C h + 3 h h) + 3 h. C = 256, 512, 1024, 2048 and h = 64, 128, 256, 256 give
# 553,152 + 2,212,224 + 8,848,128 + 15,926,016 = 27,539,520; classifier 704*101 + 101 = 71,205.
# Stacked: 9 * 3 h (h below) more: 9*3*(128*64 + 256*128 + 256*256) = 2,875,392.
@pytest.mark.parametrize(("stacked", "parameters"), [(False, 51_118_757), (True, 53_994_149)])
def test_parameters(stacked, parameters):
    with torch.device("meta"):
        model = recurrent_conv(num_classes=101, stacked=stacked)
    assert sum(p.numel() for p in model.parameters()) == parameters


def convolved(image, weight):
    """(C, H, W), (O, C, k, k) -> (O, H, W) with zeros around, one product at a time."""
    outputs, channels, kernel, _ = weight.shape
    _, height, width = image.shape
    result = np.zeros((outputs, height, width))
    for o, c, dy, dx in np.ndindex(outputs, channels, kernel, kernel):
        for y, x in np.ndindex(height, width):
            v, u = y + dy - kernel // 2, x + dx - kernel // 2
            if 0 <= v < height and 0 <= u < width:
                result[o, y, x] += weight[o, c, dy, dx] * image[c, v, u]
    return result


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("kernel", [1, 3])
def test_conv_gru_is_the_hand_written_step(kernel):
    torch.manual_seed(1)
    unit = ConvGRU(2, 3, kernel=kernel).double()
    clip = torch.randn(1, 3, 2, 4, 5, dtype=torch.float64)
    with torch.no_grad():
        found = unit(clip)[0].numpy()
    update_x, reset_x, candidate_x = np.split(unit.of_input.weight.detach().numpy(), 3)
    update_b, reset_b, candidate_b = np.split(unit.of_input.bias.detach().numpy(), 3)
    update_h, reset_h = np.split(unit.of_state.weight.detach().numpy(), 2)
    candidate_h = unit.of_reset_state.weight.detach().numpy()
    state = np.zeros((3, 4, 5))
    for t, x in enumerate(clip[0].numpy()):
        z = sigmoid(convolved(x, update_x) + convolved(state, update_h) + update_b[:, None, None])
        r = sigmoid(convolved(x, reset_x) + convolved(state, reset_h) + reset_b[:, None, None])
        c = np.tanh(
            convolved(x, candidate_x)
            + convolved(r * state, candidate_h)
            + candidate_b[:, None, None]
        )
        state = (1 - z) * state + z * c
        np.testing.assert_allclose(found[t], state, rtol=0, atol=1e-12)


def test_a_closed_update_gate_keeps_the_state_and_an_open_one_forgets_it():
    unit = ConvGRU(1, 2, kernel=3)
    clip = torch.randn(2, 6, 1, 5, 5)
    with torch.inference_mode():
        unit.of_input.weight[:2].zero_()
        unit.of_state.weight[:2].zero_()
        unit.of_input.bias[:2] = -100.0
        assert unit(clip).abs().max() == 0
        unit.of_input.bias[:2] = 100.0
        unit.of_reset_state.weight.zero_()
        torch.testing.assert_close(unit(clip), unit(clip.flip(1)).flip(1))


def test_states_of_earlier_frames_do_not_depend_on_later_ones():
    model = tiny(stacked=True).eval()
    clips = torch.randn(2, 3, 5, 32, 32)
    with torch.inference_mode():
        for all_frames, three in zip(
            model.states(clips), model.states(clips[:, :, :3]), strict=True
        ):
            torch.testing.assert_close(all_frames[:, :3], three)


def test_depths_have_their_own_sizes_and_the_last_states_are_classified():
    model = tiny(depths=(0, 2, 4), hidden=(3, 5, 7)).eval()
    clips = torch.randn(2, 3, 4, 64, 96)
    with torch.inference_mode():
        states = model.states(clips)
        assert [tuple(s.shape) for s in states] == [
            (2, 4, 3, 32, 48), (2, 4, 5, 8, 12), (2, 4, 7, 2, 3),
        ]  # fmt: skip
        means = torch.cat([s[:, -1].mean(dim=(2, 3)) for s in states], dim=1)
        torch.testing.assert_close(model(clips), model.classifier(means))
    assert model.num_features == 15


@pytest.mark.parametrize(("stacked", "reaches"), [(False, False), (True, True)])
def test_stacked_units_see_the_states_below(stacked, reaches):
    """The deeper unit answers to a change of the shallower one only if they are stacked."""
    model = tiny(stacked=stacked).eval()
    clips = torch.randn(1, 3, 2, 32, 32)
    with torch.inference_mode():
        before = model.states(clips)[1]
        model.over_time[0].of_input.bias += 1
        assert torch.equal(model.states(clips)[1], before) != reaches


def test_stacked_input_is_max_pooled():
    model = tiny(stacked=True).eval()
    seen = []
    model.over_time[1].register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        below = model.states(torch.randn(2, 3, 3, 32, 32))[0]  # (2, 3, 4, 8, 8)
        pooled = below.reshape(2, 3, 4, 4, 2, 4, 2).amax(dim=(4, 6))
    assert torch.equal(seen[0][:, :, -4:], pooled)


@pytest.mark.parametrize("frames", [1, 2, 33])
def test_any_length_from_one_frame_of_one_pixel(frames):
    model = tiny(depths=(2, 4), stacked=True).eval()
    assert model.inputs["clip"].smallest == (1, 1, 1)
    with torch.inference_mode():
        assert model(torch.randn(2, 3, frames, 1, 1)).shape == (2, 5)


@pytest.mark.parametrize("backbone", ["vgg11", "mobilenetv3_small_050", "test_convnext"])
def test_other_backbones(backbone):
    with torch.device("meta"):
        model = recurrent_conv(num_classes=3, backbone=backbone, depths=(1, 3), hidden=(4, 4))
        assert model.eval()(torch.zeros(1, 3, 2, 64, 64)).shape == (1, 3)


@pytest.mark.parametrize("stacked", [False, True])
def test_gradient_reaches_every_parameter_with_and_without_checkpointing(stacked):
    gradients, statistics = [], []
    for checkpointing in (False, True):
        model = tiny(
            in_channels=2, depths=(1, 4), stacked=stacked, dropout=0.0, checkpointing=checkpointing
        )
        for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.weight.data.fill_(1.0)  # timm starts the last one of a block at 0
        torch.manual_seed(5)
        model(torch.randn(2, 2, 3, 32, 32)).square().sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
        statistics.append(dict(model.named_buffers()))
        assert all(g.abs().sum() > 0 for g in gradients[-1].values())
    for without, with_ in (gradients, statistics):
        for name, value in without.items():
            torch.testing.assert_close(with_[name], value, msg=name)


def test_stages_are_trained_from_the_end():
    model = tiny(depths=(1, 4))
    set_trainable(model, 2)
    trained = {".".join(n.split(".")[:2]) for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {
        "backbone.layer4", "over_time.0", "over_time.1", "classifier.weight", "classifier.bias",
    }  # fmt: skip


def test_backbone_with_a_least_size_says_which():
    """VGG halves four times in front of its map 4: 16 pixels give one cell."""
    with torch.device("meta"):
        model = recurrent_conv(num_classes=2, backbone="vgg11", depths=(1, 4), hidden=(4, 4))
        assert model.inputs["clip"].smallest == (1, 16, 16)
        assert model(torch.zeros(1, 3, 1, 16, 16)).shape == (1, 2)
        with pytest.raises(ShapeError, match="at least 1 x 16 x 16"):
            model(torch.zeros(1, 3, 1, 16, 15))


def test_backbone_of_one_size_says_which():
    with torch.device("meta"):
        model = recurrent_conv(num_classes=2, backbone="test_vit", depths=(1,), hidden=(4,)).eval()
        with pytest.raises(ShapeError, match="160 x 160, got 192 x 160"):
            model(torch.zeros(1, 3, 2, 192, 160))
        assert model(torch.zeros(1, 3, 2, 160, 160)).shape == (1, 2)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"hidden": (4,)}, InputError, r"one number from 1 for each of the depths \(1, 2\)"),
        ({"hidden": (4, 0)}, InputError, r"got \(4, 0\)"),
        ({"depths": (), "hidden": ()}, InputError, "hidden must have"),
        ({"depths": (2, 1)}, InputError, "depths must ascend"),
        ({"depths": (1, 7)}, InputError, "no feature map"),
        ({"kernel": 2}, InputError, "kernel must be odd and at least 1, got 2"),
        ({"dropout": 1.0}, InputError, "dropout"),
        ({"backbone": "resnet5O"}, UnknownNameError, "Unknown backbone"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, error, message):
    with torch.device("meta"), pytest.raises(error, match=message):
        tiny(**options)


@pytest.mark.parametrize("options", [{"depths": 2}, {"hidden": 8}, {"hidden": ["64"] * 4}])
def test_numbers_instead_of_lists_are_refused(options):
    with pytest.raises(InputError, match=r"of recurrent_conv must be Sequence\[int\], got"):
        create_model("recurrent_conv", num_classes=2, backbone="resnet10t", **options)
