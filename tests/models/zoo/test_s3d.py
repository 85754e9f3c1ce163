"""S3D and S3D-G: parameters, sizes, gates, and which layers see time."""

import pytest
import torch
from torch import nn

from dualstream.errors import InputError, UnknownNameError
from dualstream.models.zoo.s3d import (
    ALL_LAYERS,
    FirstOverTime,
    Gating,
    layers_in_time,
    s3d,
    s3d_g,
)


# 8,320,048 is torchvision's own count. A 3x1x1 convolution of c channels has 3 c c weights and 2 c
# of its norm; that of conv_1a 7 x 64 x 64 + 128 = 28,800. Gates of c channels have c c + c.
@pytest.mark.parametrize(
    ("function", "options", "parameters"),
    [
        (s3d, {}, 8_320_048),
        (s3d, {"in_channels": 2}, 8_316_912),
        (s3d, {"layout": "top_heavy", "switch_at": "conv_1a"}, 8_320_048),
        (s3d, {"layout": "top_heavy", "switch_at": "conv_2c"}, 8_291_248),
        (s3d, {"layout": "top_heavy", "switch_at": "mixed_3b"}, 8_180_272),
        (s3d, {"layout": "bottom_heavy", "switch_at": "mixed_5c"}, 7_827_504),
        (s3d, {"layout": "bottom_heavy", "switch_at": "conv_1a"}, 6_009_904),
        (s3d_g, {}, 9_545_056),
    ],
)
def test_parameters_at_400_classes(function, options, parameters):
    with torch.device("meta"):
        model = function(num_classes=400, **options)
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize(
    ("layout", "switch_at", "layers"),
    [
        ("full", None, ALL_LAYERS),
        ("top_heavy", "conv_1a", ALL_LAYERS),
        ("top_heavy", "mixed_5c", ("mixed_5c",)),
        ("top_heavy", "mixed_4f", ("mixed_4f", "mixed_5b", "mixed_5c")),
        ("bottom_heavy", "conv_1a", ()),
        ("bottom_heavy", "mixed_3b", ("conv_1a", "conv_2c")),
    ],
)
def test_layers_in_time(layout, switch_at, layers):
    assert layers_in_time(layout, switch_at) == layers


def test_unfit_layouts_are_refused():
    with pytest.raises(InputError, match="switch_at=None"):
        s3d(num_classes=2, layout="top_heavy")
    with pytest.raises(InputError, match="layout='full' and switch_at='mixed_4b'"):
        s3d(num_classes=2, switch_at="mixed_4b")
    with pytest.raises(UnknownNameError, match="Did you mean 'mixed_4b'"):
        s3d(num_classes=2, layout="bottom_heavy", switch_at="mixed4b")
    with pytest.raises(UnknownNameError, match="Did you mean 'top_heavy'"):
        s3d_g(num_classes=2, layout="topheavy", switch_at="mixed_4b")


@pytest.mark.parametrize(
    "options", [{}, {"layout": "top_heavy", "switch_at": "mixed_4b"}], ids=["full", "top_heavy"]
)
def test_sizes_after_each_stage(options):
    with torch.device("meta"):
        model = s3d_g(num_classes=2, **options)
        x = model.stem(torch.zeros(1, 3, 64, 224, 224))
        shapes = [tuple(x.shape[1:])]
        for stage, pool in (
            (model.mixed_3, model.pool_4a),
            (model.mixed_4, model.pool_5a),
            (model.mixed_5, nn.Identity()),
        ):
            x = stage(x)
            shapes.append(tuple(x.shape[1:]))
            x = pool(x)
    assert shapes == [(192, 32, 28, 28), (480, 32, 28, 28), (832, 16, 14, 14), (1024, 8, 7, 7)]


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return s3d(num_classes=5).eval()


def test_smallest_holds_without_time():
    model = s3d(num_classes=2, layout="bottom_heavy", switch_at="conv_1a").eval()
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 5, 17, 17)).shape == (1, 2)


def test_batch_norm_is_that_of_the_original(small):
    norms = {(m.eps, m.momentum) for m in small.modules() if isinstance(m, nn.BatchNorm3d)}
    assert norms == {(1e-3, 1e-3)}


def test_convolutions_over_time_start_as_the_identity(small):
    x = torch.randn(1, 128, 4, 3, 3)
    with torch.inference_mode():
        assert torch.equal(small.mixed_3[0].branch_1.wide.temporal.conv(x), x)
        halved = small.stem.conv_1a.temporal.conv(x[:, :64])
    assert torch.equal(halved, x[:, :64, ::2])


# 5 frames are right too, but without the remedy they end the test run by a segmentation fault.
@pytest.mark.parametrize("length", [6, 7, 8, 9])
def test_first_convolution_over_time_has_the_right_gradient_for_short_clips(length):
    torch.manual_seed(3)
    exact = nn.Conv3d(64, 64, (7, 1, 1), (2, 1, 1), (3, 0, 0), bias=False).double()
    ours = FirstOverTime(64, 64)
    ours.load_state_dict(exact.state_dict())
    clips = torch.randn(2, 64, length, 20, 20)
    expected = exact(clips.double())
    weights = torch.randn_like(expected)
    (expected * weights).sum().backward()
    found = ours(clips)
    # What is read by mistake is memory given back: make sure that it is nothing harmless.
    junk = [torch.full((count * 64 * 64 * 7,), 1e30) for count in range(1, 8)]
    del junk
    (found * weights.float()).sum().backward()
    torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.weight.grad, exact.weight.grad.float(), rtol=1e-4, atol=1e-3)


def test_gates_follow_their_formula():
    gating = Gating(2)
    with torch.no_grad():
        gating.weigh.weight.copy_(torch.tensor([[0.0, 1.0], [2.0, 0.0]]))
        gating.weigh.bias.copy_(torch.tensor([0.5, -1.0]))
    # Channel means 1.5 and 0.25: gates sigmoid(0.25 + 0.5) = 0.679179, sigmoid(3 - 1) = 0.880797.
    x = torch.tensor([[1.0, 2.0], [0.0, 0.5]]).reshape(1, 2, 2, 1, 1)
    expected = torch.tensor([[0.679179, 1.358357], [0.0, 0.440399]]).reshape(1, 2, 2, 1, 1)
    torch.testing.assert_close(gating(x), expected, rtol=1e-5, atol=1e-6)


def test_open_gates_change_nothing(small):
    gated = s3d_g(num_classes=5).eval()
    missing, unexpected = gated.load_state_dict(small.state_dict(), strict=False)
    assert not unexpected
    assert len(missing) == 2 * (9 * 4 + 1)
    clips = torch.randn(1, 3, 6, 32, 32)
    with torch.inference_mode():
        closed = gated(clips)
        for module in gated.modules():
            if isinstance(module, Gating):
                module.weigh.bias.fill_(40)  # sigmoid(40) is 1 in float32
        torch.testing.assert_close(gated(clips), small(clips), rtol=1e-5, atol=1e-6)
        assert not torch.allclose(closed, small(clips))


def test_lower_layers_of_top_heavy_see_single_frames():
    torch.manual_seed(1)
    model = s3d(num_classes=2, layout="top_heavy", switch_at="mixed_3b").eval()
    one = torch.randn(1, 3, 6, 17, 17)
    other = one.clone()
    other[:, :, 2] += 1
    with torch.inference_mode():
        before, after = model.stem(one), model.stem(other)
        other[:, :, 1] += 1  # between the steps of the first layer
        same = model.stem(other)
    changed = [t for t in range(3) if not torch.equal(before[:, :, t], after[:, :, t])]
    assert changed == [1]
    assert torch.equal(after, same)


def test_non_local_blocks_start_as_the_identity(small):
    placed = s3d(num_classes=5, non_local={"mixed_3": [1], "mixed_4": [0, 2, 4]}).eval()
    missing, _ = placed.load_state_dict(small.state_dict(), strict=False)
    assert {key.split(".")[1] for key in missing if key.startswith("mixed_4")} == {"0", "2", "4"}
    clips = torch.randn(1, 3, 5, 32, 32)
    with torch.inference_mode():
        assert torch.equal(placed(clips), small(clips))
    with torch.device("meta"), pytest.raises(UnknownNameError, match="mixed_3"):
        s3d(num_classes=2, non_local={"stem": [0]})
