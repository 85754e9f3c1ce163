"""Copied weights give torchvision's logits, in both directions."""

import pytest
import torch
import torchvision.models.video as theirs
from torch import nn
from torchvision.models.video.resnet import (
    BasicBlock,
    BasicStem,
    Conv3DNoTemporal,
    Conv3DSimple,
    R2Plus1dStem,
    VideoResNet,
)

from dualstream.errors import WeightsError
from dualstream.models import create_model
from dualstream.models.convert import from_layout, to_layout
from dualstream.models.convert.layouts import torchvision as names

CLASSES = 6


class Stem2D(nn.Sequential):
    """Stem of the authors' rMC networks, which torchvision lacks."""

    def __init__(self):
        super().__init__(
            nn.Conv3d(3, 64, (1, 7, 7), stride=(1, 2, 2), padding=(0, 3, 3), bias=False),
            nn.BatchNorm3d(64),
            nn.ReLU(),
        )


class OwnMiddle(nn.Sequential):
    """(2+1)D convolution with middle planes of its own, as the authors' PyTorch code has it."""

    get_downsample_stride = staticmethod(lambda stride: (stride,) * 3)

    def __init__(self, before, after, midplanes, stride=1):
        middle = 27 * before * after // (9 * before + 3 * after)
        super().__init__(
            nn.Conv3d(before, middle, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False),
            nn.BatchNorm3d(middle),
            nn.ReLU(),
            nn.Conv3d(middle, after, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False),
        )


def residual(stem, makers, layers):
    return VideoResNet(BasicBlock, makers, layers, stem, num_classes=CLASSES)


def r2plus1d_34():
    model = residual(R2Plus1dStem, [OwnMiddle] * 4, [3, 4, 6, 3])
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eps = 1e-3
    return model


REFERENCES = {
    "r3d_18": lambda: theirs.r3d_18(num_classes=CLASSES),
    "mc3_18": lambda: theirs.mc3_18(num_classes=CLASSES),
    "r2plus1d_18": lambda: theirs.r2plus1d_18(num_classes=CLASSES),
    "s3d": lambda: theirs.s3d(num_classes=CLASSES),
    "rmc3_18": lambda: residual(Stem2D, [Conv3DNoTemporal] + [Conv3DSimple] * 3, [2, 2, 2, 2]),
    "r3d_34": lambda: residual(BasicStem, [Conv3DSimple] * 4, [3, 4, 6, 3]),
    "r2plus1d_34": r2plus1d_34,
}


def reference(name):
    """Torchvision's network, statistics and gains random so that a wrong eps or order shows."""
    torch.manual_seed(5)
    model = REFERENCES[name]().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.02, 1.5)
            module.num_batches_tracked.fill_(7)
    return model


def without_start(name, **options):
    """Ours, with no weights worth a random number."""
    with torch.device("meta"):
        model = create_model(name, num_classes=CLASSES, **options)
    return model.to_empty(device="cpu").eval()


def assert_close(ours, expected):
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("r3d_18", [(8, 56, 56), (5, 37, 51)]),
        ("mc3_18", [(8, 56, 56), (3, 37, 51)]),
        ("r2plus1d_18", [(8, 56, 56), (5, 37, 51)]),
        ("s3d", [(14, 209, 213)]),  # about the least that torchvision's head takes
        ("rmc3_18", [(5, 37, 51)]),
        ("r3d_34", [(5, 37, 51)]),
        ("r2plus1d_34", [(5, 37, 51)]),
    ],
)
def test_copied_weights_give_the_same_logits_and_go_back(name, sizes):
    their = reference(name)
    ours = without_start(name)
    ours.load_state_dict(from_layout(their.state_dict(), ours, layout="torchvision"))
    back = to_layout(ours, layout="torchvision")
    assert list(back) == list(their.state_dict())
    for key, value in their.state_dict().items():
        assert torch.equal(back[key], value), key
    with torch.inference_mode():
        for size in sizes:
            clips = torch.randn(1, 3, *size)
            assert_close(ours(clips), their(clips))


def test_weights_of_ours_give_the_same_logits_there():
    torch.manual_seed(6)
    ours = create_model("mc3_18", num_classes=CLASSES).eval()
    their = REFERENCES["mc3_18"]().eval()
    their.load_state_dict(to_layout(ours, layout="torchvision"))
    clips = torch.randn(1, 3, 4, 32, 32)
    with torch.inference_mode():
        assert_close(their(clips), ours(clips))


@pytest.mark.parametrize("size", [(5, 17, 17), (7, 50, 33), (16, 64, 64)])
def test_features_of_s3d_are_the_same_below_the_least_size_of_their_head(size):
    their = reference("s3d")
    ours = without_start("s3d")
    ours.load_state_dict(from_layout(their.state_dict(), ours, layout="torchvision"))
    clips = torch.randn(1, 3, *size)
    with torch.inference_mode():
        x = ours.pool_4a(ours.mixed_3(ours.stem(clips)))
        x = ours.mixed_5(ours.pool_5a(ours.mixed_4(x)))
        assert_close(x, their.features(clips))


@pytest.mark.parametrize("name", REFERENCES)
def test_names_cover_every_key(name):
    with torch.device("meta"):
        ours = create_model(name, num_classes=CLASSES)
        keys = REFERENCES[name]().state_dict().keys()
    table = names(ours)
    assert list(table) == list(ours.state_dict())
    assert {their.name for their in table.values()} == keys


def test_classifier_may_have_other_classes():
    with torch.device("meta"):
        state = theirs.s3d(num_classes=9).state_dict()
        model = create_model("s3d", num_classes=CLASSES)
    assert from_layout(state, model, layout="torchvision")["classifier.weight"].shape == (9, 1024)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("s3d_g", {}, "without gates"),
        ("s3d", {"layout": "top_heavy", "switch_at": "mixed_4b"}, "time in all layers"),
        ("c3d", {}, "no layout for this c3d"),
        ("r3d_18", {"non_local": {"res4": [1]}}, "res4.1.non_local.query.weight"),
        ("s3d", {"non_local": {"mixed_4": [1]}}, "mixed_4.1.non_local.query.weight"),
    ],
)
def test_networks_that_torchvision_lacks_are_refused(name, options, message):
    with torch.device("meta"):
        model = create_model(name, num_classes=2, **options)
    with pytest.raises(WeightsError, match=message):
        to_layout(model, layout="torchvision")


def test_missing_foreign_and_misshapen_tensors_are_all_listed():
    with torch.device("meta"):
        state = dict(REFERENCES["r2plus1d_18"]().state_dict())
        model = create_model("r2plus1d_18", num_classes=2)
    del state["stem.3.weight"]
    state["layer9.weight"] = torch.zeros(1)
    state["layer1.0.conv1.0.1.bias"] = torch.zeros(3)
    with pytest.raises(WeightsError) as caught:
        from_layout(state, model, layout="torchvision")
    for part in ("stem.3.weight", "layer9.weight", "layer1.0.conv1.0.1.bias (3,)"):
        assert part in str(caught.value)
