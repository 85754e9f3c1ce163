"""Inflation: a still clip gives what the 2D network gives for its frame."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from dualstream.errors import InputError, ShapeError, UnknownNameError, WeightsError
from dualstream.models import create_model
from dualstream.models.fastest import fold_batch_norms
from dualstream.models.zoo.cnn_m import cnn_m_2048
from dualstream.models.zoo.i3d import i3d, inception_v1
from dualstream.models.zoo.inflate import (
    InflatedConv,
    RepeatingConv3d,
    inflate_network,
    inflate_state,
    inflate_weight,
    inflated_2d,
    names_in_resnet,
    repeat_border_frames,
)
from dualstream.models.zoo.resnet_video import i3d_r50, r2plus1d_r50, slow_r50
from dualstream.models.zoo.tsn import tsn

_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)


def settled(model: nn.Module, images: torch.Tensor) -> nn.Module:
    """In evaluation mode, with the statistics of `images`, so that no layer explodes or dies."""
    norms = [m for m in model.modules() if isinstance(m, _NORMS)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
        nn.init.uniform_(norm.weight, 0.5, 1.5)  # residual blocks start as zeros otherwise
        nn.init.normal_(norm.bias, std=0.2)
    with torch.no_grad():
        model.train()(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model.eval()


def still(image: torch.Tensor, length: int) -> torch.Tensor:
    """(N, C, H, W) -> (N, C, length, H, W)."""
    return image.unsqueeze(2).expand(-1, -1, length, -1, -1)


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal to 1e-9 of the largest logit, in float64.

    With statistics of a few images networks amplify roundings: a change of the input by 1e-7
    changes the logits by 1e-5, so float32 could not tell right from almost right here.
    """
    largest = expected.abs().max()
    assert 0.01 < largest < 1e3  # nothing died or exploded
    assert (found - expected).abs().max() <= 1e-9 * largest


@pytest.mark.parametrize(("name", "side"), [("resnet50", 32), ("inception_v3", 75)])
def test_still_clip_gives_the_same_logits_in_single_precision(name: str, side: int) -> None:
    torch.manual_seed(0)
    flat = timm.create_model(name, num_classes=9).eval()
    image = torch.randn(1, 3, side, side)
    with torch.inference_mode():
        expected = flat(image)
        found = inflate_network(flat)(still(image, 3))
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize(
    ("name", "side", "time_kernel"),
    [
        ("resnet50", 32, 3),
        ("resnet18", 64, {"conv1": 5, "layer[34].*.conv1": 3}),
        ("inception_v3", 75, 3),
        ("mobilenetv2_050", 32, 5),
    ],
)
def test_still_clip_gives_the_logits_of_its_frame(
    name: str, side: int, time_kernel: int | dict[str, int]
) -> None:
    torch.manual_seed(0)
    images = torch.randn(4, 3, side, side, dtype=torch.float64)
    flat = settled(timm.create_model(name, num_classes=7).double(), images)
    inflated = inflate_network(flat, time_kernel=time_kernel)
    convs = [m for m in inflated.modules() if isinstance(m, InflatedConv)]
    assert convs
    with torch.inference_mode():
        expected = flat(images[:2])
        for length in (1, 3):
            assert_same(inflated(still(images[:2], length)), expected)
        moving = torch.stack(list(images), dim=1).unsqueeze(0)  # (1, C, N, H, W)
        each = flat(images).mean(dim=0, keepdim=True)
        # The frames do see one another.
        assert (inflated(moving) - each).abs().max() > 1e-2 * each.abs().max()


def test_inception_v1_inflates_to_i3d() -> None:
    torch.manual_seed(0)
    images = torch.randn(4, 3, 64, 64, dtype=torch.float64)
    flat = settled(inception_v1(num_classes=6).double(), still(images, 1))
    model = i3d(num_classes=6, time_padding="repeat").double().eval()
    model.load_state_dict(inflate_state(flat.state_dict(), model))
    with torch.inference_mode():
        expected = flat(still(images[:1], 1))
        for length in (1, 9, 16):
            assert_same(model(still(images[:1], length)), expected)


def test_resnet_of_timm_inflates_to_i3d_r50() -> None:
    torch.manual_seed(0)
    images = torch.randn(4, 3, 64, 64, dtype=torch.float64)
    flat = settled(timm.create_model("resnet50", num_classes=6).double(), images)
    model = i3d_r50(num_classes=6).double().eval()
    names = names_in_resnet(model)
    model.load_state_dict(inflate_state(flat.state_dict(), model, names=names))
    with torch.inference_mode():
        expected = flat(images[:1])
        with_zeros = model(still(images[:1], 8))
        repeat_border_frames(model)
        assert_same(model(still(images[:1], 8)), expected)
        # Zeros over time at the ends of the clip: not the same, as the documentation says.
        assert (with_zeros - expected).abs().max() > 1e-3 * expected.abs().max()


def test_windows_over_time_sum_to_the_flat_one() -> None:
    weight = torch.arange(24.0).reshape(2, 3, 2, 2)
    inflated = inflate_weight(weight, time_kernel=4)
    assert inflated.shape == (2, 3, 4, 2, 2)
    torch.testing.assert_close(inflated.sum(dim=2), weight)
    assert torch.equal(inflated[:, :, 0], weight / 4)
    assert torch.equal(inflate_weight(weight.unsqueeze(2), time_kernel=4), inflated)
    with pytest.raises(ShapeError, match=r"\(2, 3, 3, 2, 2\)"):
        inflate_weight(torch.zeros(2, 3, 3, 2, 2), time_kernel=3)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("stem.0.conv.weight", "conv1.weight"),
        ("stem.0.norm.running_var", "bn1.running_var"),
        ("res2.0.conv1.conv.weight", "layer1.0.conv1.weight"),
        ("res3.1.conv2.norm.bias", "layer2.1.bn2.bias"),
        ("res5.2.conv3.norm.num_batches_tracked", "layer4.2.bn3.num_batches_tracked"),
        ("res4.0.shortcut.conv.weight", "layer3.0.downsample.0.weight"),
        ("res4.0.shortcut.norm.weight", "layer3.0.downsample.1.weight"),
        ("classifier.bias", "fc.bias"),
    ],
)
def test_names_in_resnet(ours: str, theirs: str) -> None:
    with torch.device("meta"):
        model = slow_r50(num_classes=2, non_local={"res3": [1]})
    names = names_in_resnet(model)
    assert names[ours] == theirs
    assert not any(".non_local." in key for key in names)
    with torch.device("meta"):
        assert set(names.values()) == set(timm.create_model("resnet50").state_dict())


def test_networks_without_a_flat_form_are_refused() -> None:
    with torch.device("meta"):
        models = (r2plus1d_r50(num_classes=2), i3d(num_classes=2))
    for model in models:
        with pytest.raises(WeightsError, match="not the 3D form of a 2D ResNet-50"):
            names_in_resnet(model)
    with pytest.raises(InputError, match="time_padding='repeat'"):
        repeat_border_frames(models[1])


def test_what_does_not_fit_is_listed() -> None:
    flat = inception_v1(num_classes=3).state_dict()
    model = i3d(num_classes=4)
    with pytest.raises(WeightsError, match=r"2 of another shape: classifier\.bias \(3,\) instead"):
        inflate_state(flat, model)
    started = inflate_state(flat, model, new_classifier=True)
    assert started.keys() == model.state_dict().keys()
    assert torch.equal(started["classifier.weight"], model.classifier.weight)
    del flat["stem.conv_2b.norm.bias"]
    flat["extra"] = torch.zeros(1)
    with pytest.raises(WeightsError) as raised:
        inflate_state(flat, model, new_classifier=True)
    assert "1 missing in the weights: stem.conv_2b.norm.bias" in str(raised.value)
    assert "1 not in the network: extra" in str(raised.value)


def test_non_local_blocks_keep_their_start() -> None:
    torch.manual_seed(0)
    model = i3d(num_classes=3, non_local={"mixed_3": [0]})
    started = inflate_state(inception_v1(num_classes=3).state_dict(), model)
    kept = [key for key in started if ".non_local." in key]
    assert len(kept) == 13
    assert all(torch.equal(started[key], model.state_dict()[key]) for key in kept)


def test_own_2d_networks_are_inflated() -> None:
    torch.manual_seed(0)
    image = torch.rand(2, 3, 1, 48, 48)
    for flat in (
        cnn_m_2048(num_classes=4, image_size=48),
        tsn(num_classes=4, backbone="resnet18"),
    ):
        flat.eval()
        inflated = inflate_network(flat)
        with torch.inference_mode():
            expected = flat(image)
            found = inflated(image.expand(-1, -1, 3, -1, -1))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(InputError, match=r"CNNM2048 takes clips of 5 frames"):
        inflate_network(cnn_m_2048(num_classes=4, image_size=48, length=5))


def test_only_chosen_convolutions_see_time() -> None:
    with torch.device("meta"):
        flat = timm.create_model("resnet18")
        by_default = inflate_network(flat).network
        chosen = inflate_network(flat, time_kernel={"layer1.0.*": 5, "layer1.*": 1}).network
    windows = {n: m.kernel_size for n, m in by_default.named_modules() if hasattr(m, "clock")}
    assert len(windows) == 17  # all but the three 1x1 shortcuts
    assert windows["conv1"] == (3, 7, 7)
    windows = {n: m.kernel_size for n, m in chosen.named_modules() if hasattr(m, "clock")}
    assert windows == {"layer1.0.conv1": (5, 3, 3), "layer1.0.conv2": (5, 3, 3)}
    assert not any(hasattr(m, "clock") for m in flat.modules())  # a copy was taken


@pytest.mark.parametrize(
    ("time_kernel", "message"),
    [
        (2, "odd and at least 1, got 2"),
        ({"conv1": 0}, "got 0"),
        ({"conv9": 3}, r"'conv9', which no 2D convolution.*conv1"),
        ({}, "no 2D convolution to inflate"),
    ],
)
def test_wrong_windows_are_named(time_kernel: int | dict[str, int], message: str) -> None:
    with torch.device("meta"), pytest.raises(InputError, match=message):
        inflate_network(timm.create_model("resnet18"), time_kernel=time_kernel)


def test_special_convolutions_are_refused() -> None:
    with (
        torch.device("meta"),
        pytest.raises(InputError, match="conv_stem is a Conv2dSame that pads or weighs"),
    ):
        inflate_network(timm.create_model("tf_efficientnet_b0"))


def test_modes_are_kept() -> None:
    with torch.device("meta"):
        flat = timm.create_model("resnet18")
        for training in (True, False):
            inflated = inflate_network(flat.train(training))
            assert {m.training for m in inflated.modules()} == {training}
            model = slow_r50(num_classes=2).train(training)
            repeat_border_frames(model)
            assert {m.training for m in model.modules()} == {training}


def test_batch_norms_fold_into_repeating_convolutions() -> None:
    torch.manual_seed(0)
    model = settled(slow_r50(num_classes=3), torch.randn(4, 3, 4, 32, 32)).double()
    repeat_border_frames(model)
    clip = torch.randn(1, 3, 5, 32, 32, dtype=torch.float64)
    with torch.inference_mode():
        expected = model(clip)
        fold_batch_norms(model)
        assert_same(model(clip), expected)


def test_repeating_convolution_by_hand() -> None:
    conv = RepeatingConv3d(1, 1, (3, 1, 1), padding=(1, 0, 0), bias=False)
    nn.init.ones_(conv.weight)
    x = torch.tensor([1.0, 2.0, 4.0]).reshape(1, 1, 3, 1, 1)
    assert conv(x).flatten().tolist() == [4.0, 7.0, 10.0]


class TestInflated2D:
    def test_is_its_backbone_on_still_clips(self) -> None:
        torch.manual_seed(0)
        images = torch.randn(4, 3, 32, 32, dtype=torch.float64)
        model = inflated_2d(num_classes=5, backbone="resnet18", time_kernel={"layer3.*": 3})
        settled(model.double(), still(images, 1))
        with torch.inference_mode():
            once = model(still(images, 1))
            assert_same(model(still(images, 5)), once)

    def test_least_size_is_true(self) -> None:
        assert inflated_2d(num_classes=2, backbone="resnet18").inputs["clip"].smallest == (1, 1, 1)
        model = inflated_2d(num_classes=2, backbone="inception_v3").eval()
        assert model.inputs["clip"].smallest == (1, 75, 75)
        assert model(torch.rand(1, 3, 1, 75, 75)).shape == (1, 2)
        for size in ((74, 75), (75, 74)):
            with pytest.raises(ShapeError, match="at least 1 x 75 x 75"):
                model(torch.rand(1, 3, 1, *size))

    def test_stages_and_errors(self) -> None:
        with torch.device("meta"):
            model = inflated_2d(num_classes=2, backbone="resnet18")
        assert model.stages()[-1] is model.backbone.network.layer4
        with pytest.raises(UnknownNameError, match="Did you mean 'resnet50'"):
            inflated_2d(num_classes=2, backbone="resnet5O")
        with pytest.raises(InputError, match="takes images of"):
            inflated_2d(num_classes=2, backbone="vit_tiny_patch16_224")


@pytest.mark.parametrize("name", ["x3d_xs", "s3d", "t3d_121"])
def test_networks_that_pad_time_themselves_are_refused_whole(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name, num_classes=2)
    before = [type(module) for module in model.modules()]
    with pytest.raises(InputError, match="pads time in a way of its own"):
        repeat_border_frames(model)
    assert [type(module) for module in model.modules()] == before


def test_convolutions_that_pad_otherwise_are_not_inflated() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"))
    with pytest.raises(InputError, match="in its own way"):
        inflate_network(network)
