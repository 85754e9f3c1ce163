"""Fusion of feature maps in closed form; groups of segments; the layers of towers."""

import math

import pytest
import torch
from torch import nn

from dualstream.errors import InputError, ShapeError, UnknownNameError
from dualstream.models import create_model
from dualstream.models.joined.maps import (
    MapFusion,
    VolumePool,
    Volumes,
    cut_after,
    gaussian_window,
    names_to_show,
    num_groups,
    run_with,
    survey,
)


def maps(*channels, size=(4, 5, 6), samples=2):
    torch.manual_seed(0)
    return [torch.randn(samples, c, *size) for c in channels]


def test_sum_max_and_concatenation():
    one, other = maps(3, 3)
    assert torch.equal(MapFusion("sum", (3, 3))(one, other), one + other)
    larger = torch.where(one > other, one, other)
    assert torch.equal(MapFusion("max", (3, 3))(one, other), larger)
    both = MapFusion("concatenation", (3, 3))
    joined = both(one, other)
    assert both.out_channels == joined.shape[1] == 6
    assert torch.equal(joined[:, :3], one)
    assert torch.equal(joined[:, 3:], other)


def test_conv_starts_as_the_sum_of_both():
    one, other = (m.abs() for m in maps(3, 3))
    fusion = MapFusion("conv", (3, 3))
    assert fusion.conv.weight.shape == (3, 6, 1, 1, 1)
    torch.testing.assert_close(fusion(one, other), one + other)
    assert torch.equal(fusion(-one, -other), torch.zeros_like(one))  # ReLU


def test_conv_3d_starts_as_a_weighted_gaussian():
    fusion = MapFusion("conv_3d", (2, 2))
    weight = fusion.conv.weight.detach()
    assert weight.shape == (2, 4, 3, 3, 3)
    weights = {0: 1.0, 1: math.exp(-0.5), 2: math.exp(-1.0), 3: math.exp(-1.5)}  # by distance^2
    total = weights[0] + 6 * weights[1] + 12 * weights[2] + 8 * weights[3]
    for t, y, x in ((1, 1, 1), (0, 1, 1), (1, 2, 0), (2, 0, 2)):
        distance = abs(t - 1) + abs(y - 1) + abs(x - 1)
        expected = (
            weights[distance] / total * torch.tensor([[0.25, 0, 0.75, 0], [0, 0.25, 0, 0.75]])
        )
        torch.testing.assert_close(weight[:, :, t, y, x], expected)
    assert not fusion.conv.bias.any()
    # Maps that are the same everywhere stay so, but for the border.
    one, other = torch.full((1, 2, 5, 5, 5), 4.0), torch.full((1, 2, 5, 5, 5), 8.0)
    inner = fusion(one, other)[:, :, 1:-1, 1:-1, 1:-1]
    torch.testing.assert_close(inner, torch.full_like(inner, 0.25 * 4 + 0.75 * 8))


def test_other_channels_start_as_the_identity_as_far_as_it_goes():
    one, other = (m.abs() for m in maps(3, 2))
    expected = one.clone()
    expected[:, :2] += other
    torch.testing.assert_close(MapFusion("conv", (3, 2))(one, other), expected)


def test_the_window_sums_to_one():
    window = gaussian_window()
    assert window.shape == (3, 3, 3)
    torch.testing.assert_close(window.sum(), torch.tensor(1.0))


def test_bilinear_is_the_mean_of_products():
    one, other = maps(2, 3, size=(1, 2, 2), samples=1)
    products = torch.zeros(2, 3)
    for y in range(2):
        for x in range(2):
            products += torch.outer(one[0, :, 0, y, x], other[0, :, 0, y, x]) / 4
    roots = products.sign() * products.abs().sqrt()
    fused = MapFusion("bilinear", (2, 3))(one, other)
    torch.testing.assert_close(fused, (roots / roots.norm()).reshape(1, 6), rtol=1e-4, atol=1e-5)
    nothing = torch.zeros_like(one).requires_grad_()
    vector = MapFusion("bilinear", (2, 3))(nothing, other)
    vector.sum().backward()
    assert not vector.any()
    assert nothing.grad.isfinite().all()


def test_what_cannot_be_fused():
    for name in ("sum", "max"):
        with pytest.raises(InputError, match=f"by {name} needs as many channels in both maps"):
            MapFusion(name, (3, 2))
    with pytest.raises(UnknownNameError, match="bilinear"):
        MapFusion("mean", (3, 3))
    with pytest.raises(ShapeError, match="choose layers whose channels stand first"):
        MapFusion("conv", (3, 3))(*maps(3, 4))


@pytest.mark.parametrize(
    ("segments", "steps", "groups"),
    [(1, 1, 1), (7, 1, 7), (25, 5, 5), (50, 5, 10), (10, 5, 2), (8, 5, 1), (3, 5, 1), (12, 5, 2)],
)
def test_groups(segments, steps, groups):
    assert num_groups(segments, steps) == groups


def test_a_group_holds_segments_of_the_whole_video():
    # Sample n, segment s, frame t: the value 100 n + 10 s + t.
    n, s, t = torch.meshgrid(torch.arange(2), torch.arange(6), torch.arange(3), indexing="ij")
    values = (100 * n + 10 * s + t).float()
    of_3d = values.flatten(0, 1)[:, None, :, None, None]  # (N*S, 1, T, 1, 1)
    volumes = Volumes(samples=2, segments=6, groups=2)
    whole = volumes.of(of_3d)
    first = [0, 1, 2, 20, 21, 22, 40, 41, 42]
    expected = [first, [v + 10 for v in first], [v + 100 for v in first], [v + 110 for v in first]]
    assert whole[:, 0, :, 0, 0].tolist() == expected
    of_2d = values.flatten()[:, None, None, None]  # (N*S*T, 1, 1, 1)
    assert torch.equal(volumes.of(of_2d), whole)
    assert volumes.back(whole, 5) is whole
    assert volumes.back(whole, 4).flatten().tolist() == [v for row in expected for v in row]
    alone = Volumes(samples=2, segments=6, groups=6)
    assert torch.equal(alone.of(of_3d), of_3d)
    assert torch.equal(alone.back(alone.of(of_2d), 4), of_2d)


def test_the_pool_keeps_what_no_window_is_full_of():
    volume = torch.arange(8.0).reshape(1, 1, 8, 1, 1)
    assert VolumePool((5, 1, 1))(volume).flatten().tolist() == [4, 7]
    assert VolumePool((5, 2, 2))(volume[:, :, :3]).flatten().tolist() == [2]


def small_tower():
    torch.manual_seed(0)
    return create_model("tsn", num_classes=3, backbone="test_resnet").eval()


def test_layers_of_a_tower():
    tower = small_tower()
    known = survey(tower)
    clip = torch.randn(1, 3, 1, 32, 32)
    seen = {}
    for name in known.channels:
        tower.get_submodule(name).register_forward_hook(
            lambda _, __, output, name=name: seen.update({name: output.shape[1]})
        )
    tower(clip)
    assert seen == known.channels
    assert {"backbone.layer1", "backbone.layer3.0.conv1"} <= known.channels.keys()
    assert not {"classifier", "backbone", "dropout", "backbone.global_pool"} & known.channels.keys()
    assert not any(parameter.is_meta for parameter in tower.parameters())


def test_a_layer_that_runs_twice_is_none_to_fuse_after():
    tower = small_tower()
    tower.backbone.layer1 = nn.Sequential(tower.backbone.maxpool, tower.backbone.layer1)
    assert "backbone.maxpool" not in survey(tower).channels


def test_names_for_an_error():
    assert names_to_show(["a", "a.b", "a.b.c"]) == ("a", "a.b", "a.b.c")
    deep = [f"a.{number}.{part}" for number in range(30) for part in "xy"]
    shown = names_to_show(["a", *(f"a.{number}" for number in range(30)), *deep])
    assert shown == ("a", *(f"a.{number}" for number in range(30)), "and deeper ones")
    assert len(names_to_show(deep)) == len(deep)


def test_a_changed_map_goes_on():
    tower, clip = small_tower(), torch.randn(2, 3, 1, 32, 32)
    plain = tower(clip)
    same = run_with(tower, clip, layer="backbone.layer2", change=lambda m: m.clone())
    assert torch.equal(same, plain)
    zeros = run_with(tower, clip, layer="backbone.layer4", change=torch.zeros_like)
    torch.testing.assert_close(zeros, tower.classifier.bias.expand(2, 3))
    assert run_with(tower, clip, layer="backbone.layer2", change=lambda _: None) is None
    assert torch.equal(tower(clip), plain)  # nothing is left behind


def test_errors_in_the_middle_come_out_as_they_are():
    tower, clip = small_tower(), torch.randn(2, 3, 1, 32, 32)

    def refuse(_):
        raise ShapeError("not these maps")

    with pytest.raises(ShapeError, match="not these maps"):
        run_with(tower, clip, layer="backbone.layer2", change=refuse)
    with pytest.raises(ShapeError, match=r"tsn cannot go on after backbone.layer2 with maps of"):
        run_with(tower, clip, layer="backbone.layer2", change=lambda m: m[:, :1])


@pytest.mark.parametrize("layer", ["backbone.layer2", "backbone.layer2.0.conv1"])
def test_a_cut_tower_runs_to_its_layer_with_nothing_to_spare(layer):
    tower, clip = small_tower().train(), torch.randn(4, 3, 1, 32, 32)
    before = sum(p.numel() for p in tower.parameters())
    cut_after(tower, layer, survey(tower))
    found = []
    run_with(tower, clip, layer=layer, change=lambda m: found.append(m))
    found[0].sum().backward()
    assert [name for name, p in tower.named_parameters() if p.grad is None] == []
    assert sum(p.numel() for p in tower.parameters()) < before
    assert {"classifier", "backbone.layer3", "backbone.layer4"} <= set(tower.left_out)
