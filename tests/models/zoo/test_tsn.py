"""Temporal segment networks: published sizes, consensus, freezing, pretrained start."""

import pytest
import timm
import torch
from torch import nn

from dualstream.errors import InputError, ShapeError, UnknownNameError, WeightsError
from dualstream.models.trainable import set_trainable
from dualstream.models.zoo.tsn import tsn


def tiny(**options):
    torch.manual_seed(0)
    return tsn(**{"num_classes": 5, "backbone": "resnet10t", **options})


@pytest.fixture(scope="module")
def flow_net():
    return tiny(in_channels=2, length=3, dropout=0.0).eval()


# 400 classes, RGB: the sizes of TSN (C2D) in public model zoos; 101 classes and 20 channels:
# 3 -> 20 channels add 64*49*17 = 53,312 weights, 2048*(400-101) + 299 = 612,651 fall away.
@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        ({"num_classes": 400, "backbone": "resnet50"}, 24_327_632),
        ({"num_classes": 400, "backbone": "resnet101"}, 43_319_760),
        ({"num_classes": 101, "backbone": "resnet50", "in_channels": 2, "length": 10}, 23_768_293),
        ({"num_classes": 101, "backbone": "resnet101", "in_channels": 2, "length": 10}, 42_760_421),
    ],
)
def test_published_sizes(options, parameters):
    with torch.device("meta"):
        assert sum(p.numel() for p in tsn(**options).parameters()) == parameters


@pytest.mark.parametrize(
    ("backbone", "size", "features"),
    [
        ("resnet18", 32, 512),
        ("vgg11", 224, 4096),
        ("mobilenetv3_small_050", 64, 1024),
        ("tf_efficientnet_lite0", 64, 1280),
        ("convnext_atto", 64, 320),
        ("densenet121", 64, 1024),
    ],
)
def test_backbones_of_many_families_give_logits(backbone, size, features):
    with torch.device("meta"):
        model = tsn(num_classes=6, backbone=backbone, in_channels=2, length=5).eval()
        logits = model(torch.zeros(2, 3, 2, 5, size, size))
    assert logits.shape == (2, 6)
    assert model.classifier.in_features == features


def test_consensus_sees_the_logits_of_each_segment(flow_net):
    clips = torch.randn(2, 3, 2, 3, 32, 32)
    with torch.inference_mode():
        joined = flow_net(clips)
        each = torch.stack([flow_net(clips[:, s]) for s in range(3)], dim=1)
    assert joined.shape == (2, 5)
    torch.testing.assert_close(joined, each.mean(dim=1), rtol=1e-4, atol=1e-6)


def test_backbone_sees_fields_in_the_order_of_time(flow_net):
    clips = torch.randn(1, 2, 3, 32, 32)
    stacked = torch.stack(
        [clips[0, 0, 0], clips[0, 1, 0], clips[0, 0, 1], clips[0, 1, 1], clips[0, 0, 2],
         clips[0, 1, 2]]
    )  # fmt: skip
    with torch.inference_mode():
        expected = flow_net.classifier(flow_net.backbone(stacked[None]))
        torch.testing.assert_close(flow_net(clips), expected)


@pytest.mark.parametrize(
    "options",
    [{"consensus": "max"}, {"consensus": "top_k", "top_k": 2}, {"consensus": "attention"}],
)
def test_more_segments_in_test_than_in_training(options):
    model = tiny(**options).eval()
    with torch.inference_mode():
        assert model(torch.randn(1, 7, 3, 1, 32, 32)).shape == (1, 5)


def test_linear_consensus_needs_its_number_of_segments():
    model = tiny(consensus="linear", num_segments=3).eval()
    with torch.inference_mode():
        assert model(torch.randn(1, 3, 3, 1, 32, 32)).shape == (1, 5)
        with pytest.raises(ShapeError, match="weights for 3 segments, got 4"):
            model(torch.randn(1, 4, 3, 1, 32, 32))


def test_classifier_starts_as_in_the_reference():
    classifier = tsn(num_classes=400, backbone="resnet10t").classifier
    assert classifier.weight.std().item() == pytest.approx(0.001, rel=0.02)
    assert classifier.bias.abs().max() == 0


def test_partial_freezing_leaves_the_first_batch_norm():
    model = tiny(frozen_batch_norm="partial")
    model.eval()
    model.train()
    norms = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert [name for name, norm in norms if norm.training] == ["backbone.conv1.1"]
    assert [name for name, norm in norms if norm.weight.requires_grad] == ["backbone.conv1.1"]
    assert len(norms) > 8


def test_last_layer_includes_the_consensus():
    model = tiny(consensus="attention")
    set_trainable(model, "last_layer")
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        "classifier.weight", "classifier.bias", "consensus.score.weight",
    }  # fmt: skip


def test_backbone_of_one_size_says_which():
    with torch.device("meta"):
        model = tsn(num_classes=2, backbone="test_vit").eval()
        assert model(torch.zeros(1, 3, 1, 160, 160)).shape == (1, 2)
        with pytest.raises(ShapeError, match="160 x 160, got 128 x 160"):
            model(torch.zeros(1, 3, 1, 128, 160))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"backbone": "resnet5O"}, UnknownNameError, "Unknown backbone 'resnet5O'.*resnet50"),
        ({"backbone": "hf-hub:someone/else"}, UnknownNameError, "timm.list_models"),
        ({"consensus": "avg"}, UnknownNameError, "Unknown consensus"),
        ({"frozen_batch_norm": "some"}, UnknownNameError, "frozen_batch_norm"),
        ({"dropout": 1.0}, InputError, "dropout"),
        ({"num_classes": 0}, InputError, "num_classes must be at least 1"),
        ({"in_channels": 0}, InputError, "in_channels must be at least 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        tiny(**options)


@pytest.fixture
def hub(monkeypatch):
    """timm.create_model whose 'hub' holds one random network; gives (network, recorded calls)."""
    real, calls = timm.create_model, []
    torch.manual_seed(1)
    stored = real("resnet10t", num_classes=0, in_chans=3)

    def create_model(name, *, num_classes, in_chans, pretrained=False):
        calls.append((in_chans, pretrained))
        return stored if pretrained else real(name, num_classes=num_classes, in_chans=in_chans)

    monkeypatch.setattr(timm, "create_model", create_model)
    return stored, calls


def test_pretrained_start_is_cross_modal_and_not_timms_own(hub):
    stored, calls = hub
    model = tiny(in_channels=2, length=3, pretrained=True)
    assert (3, True) in calls
    assert all(in_chans == 3 for in_chans, pretrained in calls if pretrained)
    own, theirs = model.backbone.state_dict(), stored.state_dict()
    first = "conv1.0.weight"
    assert torch.equal(own[first], theirs[first].mean(dim=1, keepdim=True).expand(-1, 6, -1, -1))
    assert all(torch.equal(own[key], theirs[key]) for key in theirs if key != first)


def test_pretrained_rgb_is_the_hubs_network(hub):
    stored, _ = hub
    own = tiny(pretrained=True).backbone.state_dict()
    assert all(torch.equal(own[key], value) for key, value in stored.state_dict().items())


@pytest.mark.parametrize("error", [OSError("no connection"), RuntimeError("No pretrained weights")])
def test_hub_out_of_reach_is_explained(monkeypatch, error):
    real = timm.create_model

    def create_model(name, *, num_classes, in_chans, pretrained=False):
        if pretrained:
            raise error
        return real(name, num_classes=num_classes, in_chans=in_chans)

    monkeypatch.setattr(timm, "create_model", create_model)
    with pytest.raises(WeightsError, match=f"'resnet10t'.*{error}.*pretrained=False"):
        tiny(pretrained=True)
