"""Backbones of timm: feature maps, pretrained starts, checkpointing."""

import copy

import pytest
import timm
import torch
from torch import nn

from dualstream.errors import InputError, ShapeError, UnknownNameError, WeightsError
from dualstream.models.layers.backbone import (
    channels_first,
    checkpoint_blocks,
    fixed_side,
    least_size,
    make_backbone,
    make_feature_maps,
    num_features,
    parts,
    run_backbone,
)


# Channels and strides of the networks' published stages.
@pytest.mark.parametrize(
    ("name", "depths", "shapes"),
    [
        ("resnet18", (1, 4), [(64, 16, 16), (512, 2, 2)]),
        ("resnet50", (0, 2, 3), [(64, 32, 32), (512, 8, 8), (1024, 4, 4)]),
        ("vgg16", (2, 5), [(256, 16, 16), (512, 2, 2)]),
        ("densenet121", (3,), [(1024, 4, 4)]),
        ("tf_efficientnet_lite0", (2, 4), [(40, 8, 8), (320, 2, 2)]),
    ],
)
def test_feature_maps_of_depths(name, depths, shapes):
    with torch.device("meta"):
        maps = make_feature_maps(name, in_channels=5, pretrained=False, depths=depths)
        found = channels_first(maps, maps.eval()(torch.zeros(2, 5, 64, 64)))
    assert [tuple(m.shape[1:]) for m in found] == shapes
    assert maps.feature_info.channels() == [shape[0] for shape in shapes]


def test_channels_last_maps_are_turned():
    with torch.device("meta"):
        maps = make_feature_maps(
            "swin_tiny_patch4_window7_224", in_channels=3, pretrained=False, depths=(0, 3)
        )
        found = channels_first(maps, maps(torch.zeros(1, 3, 224, 224)))
    assert [tuple(m.shape) for m in found] == [(1, 96, 56, 56), (1, 768, 7, 7)]


def test_one_size_only():
    with torch.device("meta"):
        assert fixed_side(make_backbone("resnet18", in_channels=3, pretrained=False)) is None
        vit = make_backbone("test_vit", in_channels=3, pretrained=False)
    assert fixed_side(vit) == 160
    assert num_features(vit) == 64


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("resnet18", 1),
        ("vgg11", 32),
        ("inception_v3", 75),
        ("convnext_atto", 32),
        ("test_vit", 160),
    ],
)
def test_least_size_has_an_output_and_less_has_none(name, least):
    with torch.device("meta"):
        backbone = make_backbone(name, in_channels=2, pretrained=False)
        assert least_size(backbone, in_channels=2) == (least, least)
        assert backbone.training
        backbone.eval()
        assert backbone(torch.zeros(1, 2, least, least)).shape == (1, num_features(backbone))
        with pytest.raises((RuntimeError, ValueError, AssertionError)):
            backbone(torch.zeros(1, 2, least - 1, least - 1))


def test_least_size_leaves_weights_alone():
    backbone = make_backbone("resnet10t", in_channels=3, pretrained=False)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    assert least_size(backbone, in_channels=3) == (1, 1)
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_parts_of_a_resnet():
    with torch.device("meta"):
        resnet = make_backbone("resnet18", in_channels=3, pretrained=False)
    assert parts(resnet) == (
        resnet.conv1, resnet.bn1, resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4,
    )  # fmt: skip
    counted = sum(p.numel() for part in parts(resnet) for p in part.parameters())
    assert counted == sum(p.numel() for p in resnet.parameters())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"name": "resnet5O"}, UnknownNameError, "Unknown backbone 'resnet5O'.*resnet50"),
        ({"depths": (2, 9)}, InputError, r"'resnet18' has no feature map at .* \(2, 9\)"),
        ({"name": "test_vit", "depths": (9,)}, InputError, "no feature map"),
        ({"depths": ()}, InputError, "depths must ascend"),
        ({"depths": (3, 1)}, InputError, r"ascend from 0 or more, got \(3, 1\)"),
        ({"depths": (1, 1)}, InputError, "depths must ascend"),
        ({"depths": (-1,)}, InputError, "depths must ascend"),
    ],
)
def test_feature_maps_that_there_are_not(options, error, message):
    options = {"name": "resnet18", "depths": (1,), **options}
    with torch.device("meta"), pytest.raises(error, match=message):
        make_feature_maps(
            options["name"], in_channels=3, pretrained=False, depths=options["depths"]
        )


def test_pretrained_feature_maps_are_cross_modal(monkeypatch):
    real = timm.create_model
    torch.manual_seed(1)
    stored = real("resnet10t", features_only=True, out_indices=(1, 2), in_chans=3)

    def create_model(name, *, features_only, out_indices, in_chans, pretrained=False):
        assert in_chans == 3 or not pretrained
        return stored if pretrained else real(
            name, features_only=features_only, out_indices=out_indices, in_chans=in_chans
        )  # fmt: skip

    monkeypatch.setattr(timm, "create_model", create_model)
    made = make_feature_maps("resnet10t", in_channels=2, pretrained=True, depths=(1, 2))
    own, theirs = made.state_dict(), stored.state_dict()
    mean = theirs["conv1.0.weight"].mean(dim=1, keepdim=True)
    assert torch.equal(own.pop("conv1.0.weight"), mean.expand(-1, 2, -1, -1))
    assert all(torch.equal(value, theirs[key]) for key, value in own.items())


def test_hub_out_of_reach_is_explained(monkeypatch):
    real = timm.create_model

    def create_model(name, *, pretrained=False, **options):
        if pretrained:
            raise OSError("no connection")
        return real(name, **options)

    monkeypatch.setattr(timm, "create_model", create_model)
    with pytest.raises(WeightsError, match=r"'resnet10t'.*no connection.*pretrained=False"):
        make_feature_maps("resnet10t", in_channels=3, pretrained=True, depths=(1,))


def held_bytes(make_loss):
    """(loss, bytes of the tensors that its graph holds)."""
    held = 0

    def pack(tensor):
        nonlocal held
        held += tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = make_loss()
    return loss, held


# Of feature maps, timm keeps all activations of the stem and of the last stage.
@pytest.mark.parametrize(("kind", "share"), [("features", 0.5), ("maps", 0.7)])
def test_checkpointing_saves_memory_and_changes_nothing_else(kind, share):
    torch.manual_seed(0)
    if kind == "features":
        plain = make_backbone("resnet26", in_channels=3, pretrained=False)
    else:
        plain = make_feature_maps("resnet26", in_channels=3, pretrained=False, depths=(2, 4))
    saving = copy.deepcopy(plain)
    checkpoint_blocks(saving, name="resnet26")
    copied = copy.deepcopy(saving)  # the hooks of a copy are its own
    images, held = torch.randn(4, 3, 48, 48), []
    for backbone in (plain, saving, copied):
        for _ in range(2):  # statistics must move again in the second step
            outputs, size = held_bytes(lambda b=backbone: b(images))
            total = sum(m.square().mean() for m in outputs) if kind == "maps" else outputs.sum()
            total.backward()
        held.append(size)
    assert held[1] < share * held[0]
    for other in (saving, copied):
        for (name, value), theirs in zip(
            plain.state_dict().items(), other.state_dict().values(), strict=True
        ):
            assert torch.equal(value, theirs), name
        for own, theirs in zip(plain.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(own.grad, theirs.grad)
    norms = [m for m in saving.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {int(norm.num_batches_tracked) for norm in norms} == {2}
    with torch.inference_mode():
        for own, theirs in zip(plain.eval()(images), saving.eval()(images), strict=True):
            assert torch.equal(own, theirs)


def test_backbone_that_cannot_checkpoint_is_refused():
    with torch.device("meta"):
        vgg = make_backbone("vgg11", in_channels=3, pretrained=False)
    with pytest.raises(InputError, match=r"'vgg11'.*checkpointing=False"):
        checkpoint_blocks(vgg, name="vgg11")


@pytest.mark.parametrize(
    ("name", "side", "advice"),
    [
        ("hrnet_w18_small", 112, "112 x 112. The next larger size that it takes is 125 x 125"),
        ("inception_v3", 32, "32 x 32. The next larger size that it takes is 75 x 75"),
        ("tresnet_m", 21, "21 x 21. The next larger size that it takes is 24 x 24"),
    ],
)
def test_sizes_without_an_output_name_one_that_has(name, side, advice):
    with torch.device("meta"):
        backbone = make_backbone(name, in_channels=3, pretrained=False)
        with pytest.raises(ShapeError, match=advice):
            run_backbone(backbone, torch.zeros(2, 3, side, side))
        assert backbone.training


def test_other_errors_of_a_backbone_are_its_own():
    backbone = make_backbone("resnet10t", in_channels=3, pretrained=False)
    with pytest.raises(RuntimeError, match=r"dtype|type"):
        run_backbone(backbone, torch.zeros(2, 3, 32, 32, dtype=torch.int64))


def test_a_backbone_without_any_output_is_refused():
    class Failing(torch.nn.Module):
        def forward(self, images):
            raise RuntimeError("never")

    backbone = Failing()
    backbone.pretrained_cfg = {"fixed_input_size": False}
    with pytest.raises(InputError, match="no output for images up to 1024 x 1024"):
        least_size(backbone, in_channels=3)
