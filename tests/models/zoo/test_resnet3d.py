"""R3D, MC3, rMC3, R(2+1)D: parameters as published, sizes, which stages see time."""

import pytest
import torch
from torch import nn

from dualstream.errors import InputError, UnknownNameError
from dualstream.models import set_trainable
from dualstream.models.zoo.resnet3d import (
    mc3_18,
    middle_planes,
    r2plus1d_18,
    r2plus1d_34,
    r3d_18,
    r3d_34,
    rmc3_18,
)

EIGHTEEN = [r3d_18, mc3_18, rmc3_18, r2plus1d_18]


def count(function, **options):
    with torch.device("meta"):
        return sum(p.numel() for p in function(**options).parameters())


@pytest.mark.parametrize(
    ("in_channels", "out_channels", "planes"),
    [
        (64, 64, 144),
        (64, 128, 230),
        (128, 128, 288),
        (128, 256, 460),
        (256, 256, 576),
        (256, 512, 921),
        (512, 512, 1152),
    ],
)
def test_middle_planes(in_channels, out_channels, planes):
    assert middle_planes(in_channels, out_channels) == planes


# The first three are torchvision's own counts. R3D-34 adds to R3D-18 one block of 221,440
# weights, two of 885,248, four of 3,539,968 and one of 14,157,824. rMC3-18 is R3D-18 without two
# thirds of the stem (18,816) and of the first stage's four convolutions (73,728 each).
# R(2+1)D-34: 63.6 to 63.8 million in the papers.
@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (r3d_18, 33_371_472),
        (mc3_18, 11_695_440),
        (r2plus1d_18, 31_505_325),
        (r3d_34, 63_681_104),
        (rmc3_18, 33_057_744),
        (r2plus1d_34, 63_697_175),
    ],
)
def test_parameters_at_400_classes(function, parameters):
    assert count(function, num_classes=400) == parameters


def test_flow_changes_the_first_convolution_only():
    # 64 x 3 x 7 x 7 weights for each input channel.
    assert count(r3d_18, num_classes=400) - count(r3d_18, num_classes=400, in_channels=2) == 9408


# T, H, W after the stem and each stage for 16 x 112 x 112 (Tran et al. 2018, table 1; 2D stages
# keep T).
@pytest.mark.parametrize(
    ("function", "lengths"),
    [
        (r3d_18, (16, 16, 8, 4, 2)),
        (r3d_34, (16, 16, 8, 4, 2)),
        (mc3_18, (16, 16, 16, 16, 16)),
        (rmc3_18, (16, 16, 8, 4, 2)),
        (r2plus1d_18, (16, 16, 8, 4, 2)),
        (r2plus1d_34, (16, 16, 8, 4, 2)),
    ],
)
def test_sizes_after_each_stage(function, lengths):
    with torch.device("meta"):
        x = torch.zeros(1, 3, 16, 112, 112)
        shapes = []
        for stage in function(num_classes=2).stages():
            x = stage(x)
            shapes.append(tuple(x.shape))
    expected = zip((64, 64, 128, 256, 512), lengths, (56, 56, 28, 14, 7), strict=True)
    assert shapes == [(1, width, length, side, side) for width, length, side in expected]


@pytest.fixture(scope="module", params=EIGHTEEN, ids=lambda function: function.__name__)
def small(request):
    torch.manual_seed(0)
    return request.param(num_classes=5, in_channels=2).eval()


def frames_that_change(stages, length=4):
    """Frames of the output that differ when frame 2 of the input does."""
    torch.manual_seed(1)
    one = torch.randn(1, 3, length, 16, 16)
    other = one.clone()
    other[:, :, 2] += 1
    with torch.inference_mode():
        for stage in stages:
            one, other = stage(one), stage(other)
    return [t for t in range(one.shape[2]) if not torch.equal(one[:, :, t], other[:, :, t])]


def test_first_stages_of_rmc3_see_single_frames_and_the_others_time():
    model = rmc3_18(num_classes=2).eval()
    assert frames_that_change(model.stages()[:2]) == [2]
    assert frames_that_change(model.stages()[:3]) == [0, 1]


def test_last_stages_of_mc3_see_single_frames_and_the_first_time():
    model = mc3_18(num_classes=2).eval()
    assert frames_that_change(model.stages()[:1]) == [1, 2, 3]
    # res2 has four convolutions of 3 frames.
    assert frames_that_change(model.stages()[:2], length=9) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert frames_that_change(model.stages(), length=9) == [0, 1, 2, 3, 4, 5, 6, 7]


def test_batch_norm_of_the_authors_34_layers():
    def epsilons(function):
        with torch.device("meta"):
            modules = function(num_classes=2).modules()
            return {m.eps for m in modules if isinstance(m, nn.BatchNorm3d)}

    assert epsilons(r2plus1d_34) == {1e-3}
    assert epsilons(r2plus1d_18) == epsilons(r3d_34) == {1e-5}


def test_start_is_that_of_torchvision():
    torch.manual_seed(2)
    model = r3d_18(num_classes=50)
    # He et al. by outgoing connections: sqrt(2 / (512 * 27)) = 0.012028.
    assert model.res5[1].second.conv.weight.std().item() == pytest.approx(0.012028, rel=0.01)
    assert model.classifier.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert model.classifier.bias.abs().max() == 0


def test_non_local_blocks_start_as_the_identity():
    torch.manual_seed(3)
    plain = mc3_18(num_classes=4).eval()
    placed = mc3_18(num_classes=4, non_local={"res3": [1], "res4": [0, 1]}).eval()
    missing, unexpected = placed.load_state_dict(plain.state_dict(), strict=False)
    blocks = {".".join(key.split(".")[:3]) for key in missing}
    assert blocks == {"res3.1.non_local", "res4.0.non_local", "res4.1.non_local"}
    assert not unexpected
    clips = torch.randn(1, 3, 2, 32, 32)
    with torch.inference_mode():
        assert torch.equal(placed(clips), plain(clips))
        placed.res4[1].non_local.norm.weight.fill_(1)
        assert not torch.allclose(placed(clips), plain(clips))


def test_unknown_stage_and_bad_dropout_are_refused():
    with torch.device("meta"):
        with pytest.raises(UnknownNameError, match="res3"):
            r3d_18(num_classes=2, non_local={"layer2": [0]})
        with pytest.raises(InputError, match="dropout"):
            r3d_18(num_classes=2, dropout=1.0)


def test_last_stages_can_be_trained_alone():
    with torch.device("meta"):
        model = r3d_18(num_classes=2)
    set_trainable(model, 2)
    trained = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"res4", "res5", "classifier"}
