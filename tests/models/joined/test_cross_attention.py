"""Cross attention: the streams' maps, how they start, who sees whose, and no label in a test."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dualstream.errors import InputError, ShapeError, UnknownNameError
from dualstream.models import create_model
from dualstream.models.grad_cam import grad_cam
from dualstream.models.joined.attention import START, AttentionNetwork
from dualstream.models.joined.cross_attention import CrossAttention
from dualstream.models.network import Network


def tiny(**options: object) -> CrossAttention:
    torch.manual_seed(0)
    model: Network = create_model(
        "cross_attention",
        num_classes=3,
        backbone="test_resnet",
        length={"rgb": 1, "flow": 4},
        **options,
    )
    assert isinstance(model, CrossAttention)
    return model.eval()


def clips_of(*shape: int, side: int = 64) -> dict[str, Tensor]:
    """Clips (*shape, C, T, H, W) of both streams."""
    torch.manual_seed(1)
    return {
        "rgb": torch.randn(*shape, 3, 1, side, side),
        "flow": torch.randn(*shape, 2, 4, side, side),
    }


def with_random_maps(model: CrossAttention) -> CrossAttention:
    """As after training: the filters of the maps and the attention networks are not at rest."""
    torch.manual_seed(2)
    for part in (*model.map_filters.parameters(), *model.attention.parameters()):
        torch.nn.init.normal_(part, std=0.3)
    return model


def test_it_starts_as_two_streams_with_the_constant_map() -> None:
    model, x = tiny(), clips_of(2, 3)
    plain = create_model(
        "two_stream",
        num_classes=3,
        towers={s: {"name": "tsn", "backbone": "test_resnet"} for s in ("rgb", "flow")},
        length={"rgb": 1, "flow": 4},
    ).eval()
    plain.tower.load_state_dict(model.tower.state_dict())
    for head, logits in model.outputs(x).items():
        torch.testing.assert_close(logits, plain.outputs(x)[head], rtol=1e-4, atol=1e-5)
    found = model.attend(x)
    for stream in ("rgb", "flow"):
        assert found.seen[stream].shape == (2, 3, 64, 64)
        torch.testing.assert_close(found.seen[stream], torch.full((2, 3, 64, 64), START))


def test_the_map_is_one_more_input_channel() -> None:
    """The first convolution with the map's filters equals one over C * T + 1 channels."""
    model = with_random_maps(tiny())
    for stream, channels in (("rgb", 3), ("flow", 8)):
        tower = model.towers()[stream]
        first = tower.get_submodule("backbone.conv1.0")
        whole = torch.cat((first.weight, model.map_filters[stream].weight), dim=1)
        assert whole.shape[1] == channels + 1
        x, seen = clips_of(2), torch.rand(2, 64, 64)
        found: list[Tensor] = []
        after = tower.get_submodule("backbone.conv1.1")
        after.register_forward_hook(lambda _, inputs, __, found=found: found.append(inputs[0]))
        maps = {model.other(stream): seen, stream: seen}
        with torch.no_grad():
            model.outputs(x, maps=maps)
            stacked = x[stream].transpose(1, 2).flatten(1, 2)
            images = torch.cat((stacked, seen[:, None]), dim=1)
            expected = torch.nn.functional.conv2d(images, whole, None, first.stride, first.padding)
        torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-4)


def test_segments_hand_their_maps_on() -> None:
    """As written down in Algorithm 1, attention networks in place of Grad-CAM."""
    model, x = with_random_maps(tiny()), clips_of(2, 3)
    with torch.no_grad():
        found = model.attend(x)
        start = torch.full((2, 64, 64), START)
        _, features = model._look("flow", x["flow"][:, 0], start)
        of_temporal = model.attention["flow"](features, (64, 64))
        for segment in range(3):
            torch.testing.assert_close(found.seen["rgb"][:, segment], of_temporal)
            logits, features = model._look("rgb", x["rgb"][:, segment], of_temporal)
            torch.testing.assert_close(found.logits["rgb"][:, segment], logits)
            of_spatial = model.attention["rgb"](features, (64, 64))
            torch.testing.assert_close(found.seen["flow"][:, segment], of_spatial)
            logits, features = model._look("flow", x["flow"][:, segment], of_spatial)
            torch.testing.assert_close(found.logits["flow"][:, segment], logits)
            of_temporal = model.attention["flow"](features, (64, 64))
        assert (found.seen["rgb"][:, 0] - found.seen["rgb"][:, 1]).abs().max() > 1e-4
        fused = model(x)
    by_hand = sum(found.logits[s].mean(dim=1) for s in ("rgb", "flow")) / 2
    torch.testing.assert_close(fused, by_hand)


def test_a_test_runs_one_tower_more_than_plain_streams() -> None:
    """25 segments: 51 runs of a tower, whatever the maps; so at most 1.1 of plain two streams."""
    model, runs = tiny(), []
    for stream, tower in model.towers().items():
        tower.register_forward_hook(lambda *_, stream=stream: runs.append(stream))
    with torch.no_grad():
        model(clips_of(1, 25))
    assert (runs.count("rgb"), runs.count("flow")) == (25, 26)


def multiply_adds(model: torch.nn.Module, x: dict[str, Tensor]) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(x)
    return counter.get_total_flops() // 2


def test_it_costs_at_most_a_tenth_more_than_two_streams() -> None:
    backbone = "tf_efficientnet_lite0"
    length = {"rgb": 1, "flow": 10}
    with torch.device("meta"):
        model = create_model("cross_attention", num_classes=51, length=length, backbone=backbone)
        towers = {s: {"name": "tsn", "backbone": backbone} for s in length}
        plain = create_model("two_stream", num_classes=51, length=length, towers=towers)
        x = {
            "rgb": torch.empty(1, 2, 3, 1, 224, 224),
            "flow": torch.empty(1, 2, 2, 10, 224, 224),
        }
        one, two = (multiply_adds(model, {s: c[:, :n] for s, c in x.items()}) for n in (1, 2))
        each_plain = multiply_adds(plain, x) / 2
    each, once = two - one, 2 * one - two  # of every segment, and of a video
    assert 25 * each + once <= 1.1 * 25 * each_plain


def test_grad_cam_of_a_stream_is_that_of_its_tower() -> None:
    model, x = tiny(), clips_of(2, 2)  # its filters are at rest, so that maps change nothing
    for tower in model.towers().values():
        torch.nn.init.uniform_(tower.classifier.weight)  # what is there speaks for every class
    labels = torch.tensor([0, 2])
    found = model.grad_cam(x, model.constant_maps(x), labels=labels, stream="flow")
    alone = grad_cam(
        model.towers()["flow"],
        x["flow"].flatten(0, 1),
        layers=["backbone.layer4"],
        labels=labels.repeat_interleave(2),
    )
    assert found.shape == (2, 2, 64, 64)
    torch.testing.assert_close(found.flatten(0, 1), alone[:, 0])
    with_maps = with_random_maps(model)
    seen = {s: torch.rand(2, 2, 64, 64) for s in x}
    other = with_maps.grad_cam(x, seen, labels=labels, stream="flow")
    assert (other - found).abs().max() > 0.01


def test_its_targets() -> None:
    assert tiny().targets == ("backbone.layer4",)
    model = tiny(targets=["backbone.layer3", "backbone.layer4"])
    first = model.attention["rgb"].layers[0]
    channels = [model.towers()["rgb"].get_submodule(f"backbone.layer{n}") for n in (3, 4)]
    assert first.in_channels == sum(
        [m for m in part.modules() if isinstance(m, torch.nn.BatchNorm2d)][-1].num_features
        for part in channels
    )
    assert model.attend(clips_of(1)).seen["rgb"].shape == (1, 1, 64, 64)
    with pytest.raises(UnknownNameError, match=r"target layer of tsn.*Allowed: .*backbone.layer4"):
        tiny(targets=["Mixed_7c"])
    with torch.device("meta"):
        thesis = create_model("cross_attention", num_classes=51)
    assert thesis.targets == ("backbone.Mixed_7c",)


def test_an_attention_network_learns_a_map() -> None:
    """Binary cross entropy is least where both maps are the same (Park 2019, page 15)."""
    torch.manual_seed(0)
    network = AttentionNetwork(4, hidden=8)
    features = torch.randn(16, 4, 6, 6)
    wanted = features[:, 0].sigmoid()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(150):
        loss = torch.nn.functional.binary_cross_entropy(network([features], (6, 6)), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = network.eval()([features], (6, 6)).flatten()
    assert torch.corrcoef(torch.stack((found, wanted.flatten())))[0, 1] > 0.95


def test_bad_input_is_refused() -> None:
    model, x = tiny(), clips_of(2)
    maps = model.constant_maps(x)
    with pytest.raises(ShapeError, match=r"maps of flow must be \(2, 64, 64\).* of other clips"):
        model.outputs(x, maps={**maps, "flow": maps["flow"][:1]})
    with pytest.raises(InputError, match="needs the maps of flow, got rgb"):
        model.outputs(x, maps={"rgb": maps["rgb"]})
    with pytest.raises(ShapeError, match="same H and W, got 64 x 64 and 32 x 32"):
        model({"rgb": x["rgb"], "flow": x["flow"][..., :32, :32]})
    for backbone in ("test_vit", "swin_tiny_patch4_window7_224"):
        with (
            torch.device("meta"),
            pytest.raises(InputError, match=r"no feature maps.*choose a convolutional backbone"),
        ):
            create_model("cross_attention", num_classes=2, backbone=backbone)
    with pytest.raises(InputError, match="of two streams, got rgb: two_stream takes others"):
        create_model("cross_attention", num_classes=2, in_channels={"rgb": 3})
