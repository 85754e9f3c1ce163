"""Grad-CAM: against what is worked out by hand, over layers, time, segments and streams."""

from __future__ import annotations

import pytest
import torch
from tests.engine.tiny_two_inputs import TinyTwoInputs
from torch import Tensor, nn

from dualstream.errors import InputError, ShapeError, UnknownNameError
from dualstream.models import create_model
from dualstream.models.accepts import Accepts
from dualstream.models.grad_cam import feature_maps, grad_cam, last_maps, scaled
from dualstream.models.layers.pooling import global_mean
from dualstream.models.network import Network


class Linear(Network):
    """1 x 1 x 1 filters, the mean over all places, a classifier: linear in the clip."""

    def __init__(self, *, kernel: int = 1) -> None:
        super().__init__(num_classes=2, inputs=Accepts(2))
        self.first = nn.Conv3d(2, 3, (1, kernel, kernel), padding=(0, kernel // 2, kernel // 2))
        self.add_classifier(3, dropout=0.5)

    def parts(self) -> tuple[nn.Module, ...]:
        return (self.first,)

    def pool(self, features: Tensor) -> Tensor:
        return global_mean(features)


def test_it_is_what_is_worked_out_by_hand() -> None:
    model = Linear().train()
    with torch.no_grad():
        model.first.weight.copy_(torch.tensor([[1.0, 0], [0, 1], [1, 1]]).reshape(3, 2, 1, 1, 1))
        model.first.bias.zero_()
        model.classifier.weight.copy_(torch.tensor([[1.0, -2, 0], [0, 1, -1]]))
    # Two frames of 1 x 2 pixels; the features are a, b and a + b.
    a, b = torch.tensor([[[3.0, 0]], [[1, 2]]]), torch.tensor([[[1.0, 1]], [[0, 4]]])
    clips = torch.stack((a, b))[None]  # (1, 2, 2, 1, 2)
    # A logit's slope at each place is its classifier weight over the four places, so the sum is
    # (a - 2 b) / 16 for class 0: 1, -2, 1, -6 before ReLU. For class 1: (b - (a + b)) / 16 = -a/16.
    found = grad_cam(model, clips, layers=["first"], labels=torch.tensor([0]))
    assert found.tolist() == [[[[1.0, 0.0]], [[1.0, 0.0]]]]
    nothing = grad_cam(model, clips, layers=["first"], labels=torch.tensor([1]))
    assert nothing.tolist() == [[[[0.0, 0.0]], [[0.0, 0.0]]]]
    assert model.training
    assert model.first.weight.grad is None


def test_it_is_brought_to_the_clip_and_to_0_to_1() -> None:
    """Of a 2D network: one map for all frames; bilinear as torch's own, edges not aligned."""
    torch.manual_seed(0)
    model = create_model(
        "tsn", backbone="test_resnet", num_classes=3, in_channels=2, length=4, dropout=0
    )
    clips = torch.randn(2, 2, 4, 40, 56)
    labels = torch.tensor([2, 1])
    found = grad_cam(model, clips, layers=["backbone.layer3"], labels=labels)
    kept: list[Tensor] = []
    model.backbone.layer3.register_forward_hook(lambda _, __, output: kept.append(output))
    logits = model.eval()(clips)
    features = kept[-1]
    (slope,) = torch.autograd.grad(logits[0, 2] + logits[1, 1], features)
    by_hand = (slope.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1, keepdim=True).relu()
    by_hand = nn.functional.interpolate(by_hand, size=(40, 56), mode="bilinear")
    by_hand = by_hand / by_hand.amax(dim=(1, 2, 3), keepdim=True)
    assert found.shape == (2, 4, 40, 56)
    torch.testing.assert_close(found, by_hand.detach().expand_as(found))
    assert found.amax(dim=(1, 2, 3)).tolist() == [1, 1]


def test_several_layers_are_averaged_each_over_its_maximum() -> None:
    torch.manual_seed(1)
    model = create_model("tsn", backbone="test_resnet", num_classes=2, in_channels=3)
    clips = torch.randn(1, 3, 1, 64, 64)
    names = ["backbone.layer2", "backbone.layer4"]
    one, other = (grad_cam(model, clips, layers=[name]) for name in names)
    both = grad_cam(model, clips, layers=names)
    torch.testing.assert_close(both, scaled((one + other) / 2))


def test_a_3d_network_tells_when() -> None:
    """Its weights are means over time too, its map has the clip's frames."""
    model = Linear(kernel=3)
    clips = torch.zeros(1, 2, 6, 5, 5)
    clips[0, 0, 4, 2, 2] = 1
    with torch.no_grad():
        model.first.weight.fill_(1.0)
        model.first.bias.zero_()
        model.classifier.weight.fill_(1.0)
    found = grad_cam(model, clips, layers=["first"])
    assert found[0].amax(dim=(1, 2)).tolist() == [0, 0, 0, 0, 1, 0]


def test_segments_and_frames_have_maps_of_their_own() -> None:
    torch.manual_seed(2)
    model = create_model("temporal_conv", backbone="test_resnet", num_classes=2, in_channels=3)
    clips = torch.randn(2, 3, 3, 2, 32, 32)  # (N, S, C, T, H, W)
    found = grad_cam(model, clips, layers=["frames.backbone.layer3"], labels=torch.tensor([0, 1]))
    assert found.shape == (2, 3, 2, 32, 32)
    alone = grad_cam(
        model, clips[:, 1], layers=["frames.backbone.layer3"], labels=torch.tensor([0, 1])
    )
    torch.testing.assert_close(found[:, 1], alone, rtol=1e-4, atol=1e-5)


def test_a_stream_of_several() -> None:
    model = TinyTwoInputs(num_classes=2, in_channels={"rgb": 3, "flow": 2})
    clips = {"rgb": torch.randn(1, 3, 2, 8, 8), "flow": torch.randn(1, 2, 3, 8, 8)}
    with torch.inference_mode():
        found = grad_cam(model, clips, layers=["convs.flow"], stream="flow")
    assert found.shape == (1, 3, 8, 8)
    assert list(feature_maps(model, clips, within="convs.rgb"))[-1] == "convs.rgb"
    with pytest.raises(InputError, match="sees rgb, flow: say which stream, got None"):
        grad_cam(model, clips, layers=["convs.flow"])


def test_maps_of_several_calls_can_be_compared() -> None:
    model = Linear()
    with torch.no_grad():
        model.first.weight.fill_(1.0)
        model.first.bias.zero_()
        model.classifier.weight.fill_(0.5)
    weak, strong = torch.full((1, 2, 1, 2, 2), 1.0), torch.full((1, 2, 1, 2, 2), 3.0)
    # Three channels, each 2 or 6 everywhere; the slope at each of four places is 0.5 / 4.
    for clips, value in ((weak, 0.75), (strong, 2.25)):
        found = grad_cam(model, clips, layers=["first"], scale=False)
        assert found.unique().tolist() == [value]
    with pytest.raises(InputError, match="several layers are joined by scale"):
        grad_cam(model, weak, layers=["first", "first"], scale=False)


class Ways(Network):
    """Two ways to the logits: the mean of one's maps, and of the other's after a further layer."""

    def __init__(self) -> None:
        super().__init__(num_classes=2, inputs=Accepts(1))
        self.one = nn.Sequential(nn.Conv3d(1, 2, 1), nn.ReLU(inplace=True))
        self.other = nn.ModuleDict({"a": nn.Conv3d(1, 2, 1), "b": nn.Conv3d(2, 2, 1)})
        self.same = nn.Identity()
        self.beside = nn.Conv3d(1, 2, 1)
        self.add_classifier(4, dropout=0)

    def encode(self, clips: Tensor) -> Tensor:
        self.beside(clips)  # seen by nobody
        one = self.same(self.one(clips))
        other = self.other["b"](self.other["a"](clips)).relu()
        return torch.cat((global_mean(one), global_mean(other)), dim=1)


def test_the_last_maps_are_found_by_following_the_logits_back() -> None:
    model = Ways().train()
    clips = torch.randn(1, 1, 2, 4, 4)
    assert last_maps(model, clips) == ("one", "other.b")
    assert last_maps(model, clips, within="other.") == ("other.b",)
    assert model.training
    with torch.inference_mode():
        assert last_maps(model.requires_grad_(False), torch.ones(1, 1, 2, 4, 4)) == (
            "one",
            "other.b",
        )
    with pytest.raises(InputError, match="Ways has no layer with a map of several places"):
        last_maps(model, torch.randn(1, 1, 2, 1, 1))


def test_both_pathways_of_slowfast() -> None:
    with torch.device("meta"):
        model = create_model("slowfast_r50_4x16", num_classes=2)
        clips = torch.empty(1, 3, 32, 64, 64)
    assert last_maps(model, clips) == ("res5.slow", "res5.fast")


def test_segments_that_are_joined_over_time_share_the_steps() -> None:
    """Pooled over two segments each, four segments have two maps, in the middle of each pair."""
    tower = {"name": "tsn", "backbone": "test_resnet"}
    model = create_model(
        "conv_fusion",
        num_classes=2,
        towers={"rgb": tower, "flow": tower},
        length={"rgb": 1, "flow": 2},
        after="backbone.layer3",
        fusion="conv_3d",
        steps=4,
        pool=[2, 1, 1],
    )
    clips = {"rgb": torch.randn(1, 4, 3, 1, 64, 64), "flow": torch.randn(1, 4, 2, 2, 64, 64)}
    kept: list[Tensor] = []
    hook = model.tower_of("rgb").backbone.layer4.register_forward_hook(
        lambda _, __, output: kept.append(output)
    )
    names = last_maps(model, clips, within="tower.rgb.")
    kept.clear()
    found = grad_cam(model, clips, layers=names, labels=torch.tensor([1]), stream="rgb")
    hook.remove()
    assert len(kept[0]) == 2
    assert found.shape == (1, 4, 1, 64, 64)
    assert found.isfinite().all()
    # Linear between the middles, held outside of them: segments lie at 1/4 and 3/4 between.
    torch.testing.assert_close(
        found[0, 1], 0.75 * found[0, 0] + 0.25 * found[0, 3], rtol=1e-4, atol=1e-5
    )


def test_bad_input_is_refused() -> None:
    model = create_model("tsn", backbone="test_resnet", num_classes=2, in_channels=3)
    clips = torch.randn(2, 3, 1, 64, 64)
    for name in ("backbone.layer5", "classifier", "backbone.fc"):
        with pytest.raises(UnknownNameError, match=r"Allowed: .*backbone\.layer4"):
            grad_cam(model, clips, layers=[name])
    with pytest.raises(UnknownNameError, match=r"Allowed: backbone\.layer4, backbone\.layer"):
        grad_cam(model, clips, layers=["backbone.layer4x"])  # the nearest first
    with pytest.raises(InputError, match=r"needs a layer, one of: .*backbone\.layer4"):
        grad_cam(model, clips, layers=[])
    with pytest.raises(ShapeError, match=r"labels must be \(2,\)"):
        grad_cam(model, clips, layers=["backbone.layer4"], labels=torch.tensor([0]))
    with pytest.raises(InputError, match=r"labels must lie in 0\.\.1, got \[0, 2\]"):
        grad_cam(model, clips, layers=["backbone.layer4"], labels=torch.tensor([0, 2]))
    with pytest.raises(ShapeError, match="tsn must be"):
        grad_cam(model, clips[:, :2], layers=["backbone.layer4"])
