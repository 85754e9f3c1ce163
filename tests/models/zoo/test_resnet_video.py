"""C2D, I3D, Slow and R(2+1)D of 50 layers. Their logits are proved in the conversion's test."""

import pytest
import torch
from torch import nn

from dualstream.errors import InputError, UnknownNameError
from dualstream.models import create_model
from dualstream.models.zoo.resnet_video import VideoResNet, i3d_r50, slow_r50

FIVE_BLOCKS = {"res3": [1, 3], "res4": [1, 3, 5]}


def on_meta(name, **options):
    with torch.device("meta"):
        return create_model(name, num_classes=400, **options)


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def randomised(model):
    """Random gains and statistics, so that no residual branch is silent."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model


# Counted from public code: pytorchvideo 0.1.5's hub networks of the same names.
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("c2d_r50", 24_327_632),
        ("i3d_r50", 28_043_472),
        ("slow_r50", 32_454_096),
        ("r2plus1d_r50", 28_107_600),
    ],
)
def test_parameters(name, count):
    assert parameters(on_meta(name)) == count


# A block of C channels has 2 C^2 + 4.5 C parameters, or C^2 + 3.5 C for a Gaussian: with two of
# 512 and three of 1024 that is 7,358,464, or 3,684,352. Published: 35.4 M and 31.7 M.
@pytest.mark.parametrize(
    ("kind", "count"), [("embedded_gaussian", 35_401_936), ("gaussian", 31_727_824)]
)
def test_parameters_with_the_five_non_local_blocks(kind, count):
    assert parameters(on_meta("i3d_r50", non_local=FIVE_BLOCKS, non_local_kind=kind)) == count


# Sizes after stem, res2, res3, res4, res5: Wang et al. 2018, table 1 (its pool is after res2);
# Feichtenhofer et al. 2019, table 1; pytorchvideo's r2plus1d_r50.
@pytest.mark.parametrize(
    ("name", "frames", "sizes"),
    [
        ("c2d_r50", 8, [(8, 56), (8, 56), (4, 28), (4, 14), (4, 7)]),
        ("i3d_r50", 8, [(8, 56), (8, 56), (4, 28), (4, 14), (4, 7)]),
        ("slow_r50", 8, [(8, 56), (8, 56), (8, 28), (8, 14), (8, 7)]),
        ("r2plus1d_r50", 16, [(16, 112), (16, 56), (16, 28), (8, 14), (4, 7)]),
    ],
)
def test_sizes_at_the_published_input(name, frames, sizes):
    model = on_meta(name)
    found = []
    for stage in model.stages():
        stage.register_forward_hook(lambda module, seen, out: found.append(tuple(out.shape[1:])))
    logits = model(torch.zeros(2, 3, frames, 224, 224, device="meta"))
    assert logits.shape == (2, 400)
    channels = (64, 256, 512, 1024, 2048)
    assert found == [(c, t, s, s) for c, (t, s) in zip(channels, sizes, strict=True)]


# Window in time of the stem, then of conv1 of each block, from pytorchvideo 0.1.5.
@pytest.mark.parametrize(
    ("name", "stem", "blocks"),
    [
        ("c2d_r50", 1, ["111", "1111", "111111", "111"]),
        ("i3d_r50", 5, ["333", "3131", "313131", "131"]),
        ("slow_r50", 1, ["111", "1111", "333333", "333"]),
        ("r2plus1d_r50", 1, ["111", "1111", "111111", "111"]),
    ],
)
def test_windows_in_time(name, stem, blocks):
    model = on_meta(name)
    assert model.stem[0].conv.kernel_size == (stem, 7, 7)
    found = [
        "".join(str(block.conv1.conv.kernel_size[0]) for block in stage)
        for stage in model.stages()[1:]
    ]
    assert found == blocks


def test_only_r2plus1d_splits_its_3x3x3_and_strides_are_in_it():
    block = on_meta("r2plus1d_r50").res4[0]
    assert block.conv2_time.conv.kernel_size == (3, 1, 1)
    assert block.conv2_time.conv.stride == (2, 1, 1)
    assert block.conv2.conv.kernel_size == (1, 3, 3)
    assert block.conv2.conv.stride == (1, 2, 2)
    assert block.shortcut.conv.stride == (2, 2, 2)
    block = on_meta("i3d_r50").res3[0]
    assert isinstance(block.conv2_time, nn.Identity)
    assert block.conv1.conv.stride == (1, 1, 1)
    assert block.conv2.conv.stride == (1, 2, 2)
    assert isinstance(on_meta("i3d_r50").res3[1].shortcut, nn.Identity)


def test_larger_features_than_in_training_are_averaged_by_windows():
    model = slow_r50(num_classes=3).eval()
    features = torch.randn(1, 2048, 8, 8, 8)
    model.stem, model.res2, model.res3, model.res4, model.res5 = [nn.Identity()] * 5
    weights = torch.tensor([1.0, 2, 2, 2, 2, 2, 2, 1]) / 14  # two places of a window of 7 in 8
    expected = torch.einsum("ncthw,h,w->nc", features, weights, weights) / 8
    torch.testing.assert_close(model.encode(features), expected)


def test_blocks_start_as_their_shortcuts():
    torch.manual_seed(0)
    model = slow_r50(num_classes=3).eval()
    x = torch.randn(1, 256, 2, 4, 4).relu()
    with torch.no_grad():
        assert torch.equal(model.res2[1](x), x)
    # He et al. 2015 with fan out 256 x 1 x 3 x 3: deviation sqrt(2 / 2304) = 0.02946.
    assert model.res4[0].conv2.conv.weight.std().item() == pytest.approx(0.02946, rel=0.01)


@pytest.mark.parametrize("kind", ["embedded_gaussian", "dot_product"])
def test_non_local_blocks_start_as_the_identity(kind):
    torch.manual_seed(0)
    plain = randomised(i3d_r50(num_classes=5)).eval()
    model = i3d_r50(num_classes=5, non_local=FIVE_BLOCKS, non_local_kind=kind).eval()
    missing, unexpected = model.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert {key.rsplit(".non_local.")[0] for key in missing} == {
        "res3.1", "res3.3", "res4.1", "res4.3", "res4.5",
    }  # fmt: skip
    clips = torch.randn(1, 3, 4, 32, 32)
    with torch.no_grad():
        expected = plain(clips)
        assert torch.equal(model(clips), expected)
        nn.init.ones_(model.res4[5].non_local.norm.weight)
        assert not torch.equal(model(clips), expected)


def test_wrong_options_are_refused():
    with pytest.raises(UnknownNameError, match="Allowed: res2, res3, res4, res5"):
        on_meta("slow_r50", non_local={"res6": [0]})
    with pytest.raises(InputError, match=r"res5 has blocks 0..2, no 3"):
        on_meta("slow_r50", non_local={"res5": [3]})
    with pytest.raises(UnknownNameError, match="'gaussian'"):
        on_meta("slow_r50", non_local_kind="gausian")
    with pytest.raises(InputError, match="dropout"):
        on_meta("slow_r50", dropout=1.0)


def test_stages_are_in_order():
    model = on_meta("i3d_r50")
    assert isinstance(model, VideoResNet)
    assert model.stages() == (model.stem, model.res2, model.res3, model.res4, model.res5)
