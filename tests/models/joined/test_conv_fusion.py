"""Fusion inside two towers: its answers in closed form, over time too, its costs and its errors."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dualstream.errors import InputError, ShapeError, UnknownNameError
from dualstream.models import create_model, set_trainable
from dualstream.models.inspect import inspect_network
from dualstream.models.joined.maps import survey
from dualstream.models.weights.loading import load_state

K = 4
TOWER = {"name": "tsn", "backbone": "test_resnet", "dropout": 0.0}
BLOCKS = ("conv1", "bn1", "act1", "maxpool", "layer1", "layer2", "layer3", "layer4", "global_pool")
"""Of the backbone, in their order."""


def made(towers=TOWER, **options):
    both = towers if isinstance(towers, str) else {"rgb": towers, "flow": towers}
    usual = {"length": {"rgb": 1, "flow": 2}, "after": "backbone.layer2"}
    torch.manual_seed(0)
    return create_model("conv_fusion", num_classes=K, towers=both, **{**usual, **options})


def clips_of(model, samples=2, segments=(), size=(4, 32, 32)):
    torch.manual_seed(1)
    return {
        stream: torch.randn(samples, *segments, accepts.channels, *accepts.nearest(size))
        for stream, accepts in model.inputs.items()
    }


def images(clips):
    """(N, C, T, H, W) -> (N, T*C, H, W)."""
    return clips.transpose(1, 2).flatten(1, 2)


def before(tower, clips, last="layer2"):
    x = images(clips)
    for name in BLOCKS[: BLOCKS.index(last) + 1]:
        x = getattr(tower.backbone, name)(x)
    return x


def after(tower, x, last="layer2"):
    for name in BLOCKS[BLOCKS.index(last) + 1 :]:
        x = getattr(tower.backbone, name)(x)
    return tower.classifier(x)


@pytest.mark.parametrize("fusion", ["sum", "max", "conv", "conv_3d"])
def test_the_first_tower_goes_on_with_the_fused_map(fusion):
    model = made(fusion=fusion).eval()
    for parameter in model.fusion.parameters():
        nn.init.normal_(parameter, std=0.2)
    clips, (rgb, flow) = clips_of(model), model.towers().values()
    one, other = before(rgb, clips["rgb"]), before(flow, clips["flow"])
    if fusion in ("sum", "max"):
        fused = one + other if fusion == "sum" else torch.maximum(one, other)
    else:
        conv, both = model.fusion.conv, torch.cat((one, other), dim=1).unsqueeze(2)
        pad = 0 if fusion == "conv" else 1
        fused = F.conv3d(both, conv.weight, conv.bias, padding=pad).relu().squeeze(2)
    joint, own = after(rgb, fused), flow(clips["flow"])
    outputs = model.outputs(clips)
    assert model.heads == tuple(outputs) == ("fused", "joint", "flow")
    torch.testing.assert_close(outputs["joint"], joint)
    torch.testing.assert_close(outputs["flow"], own)
    torch.testing.assert_close(outputs["fused"], (joint + own) / 2)
    assert torch.equal(model(clips), outputs["fused"])


@pytest.mark.parametrize("fusion", ["concatenation", "bilinear"])
def test_a_fused_map_of_other_channels_has_a_classifier_of_its_own(fusion):
    model = made(fusion=fusion, own_head=False).eval()
    clips, (rgb, flow) = clips_of(model), model.towers().values()
    one, other = before(rgb, clips["rgb"]), before(flow, clips["flow"])
    if fusion == "concatenation":
        vectors = torch.cat((one, other), dim=1).mean(dim=(2, 3))
    else:
        vectors = torch.einsum("nchw,ndhw->ncd", one, other).flatten(1) / one[0, 0].numel()
        vectors = F.normalize(vectors.sign() * vectors.abs().sqrt(), dim=1)
    outputs = model.outputs(clips)
    assert tuple(outputs) == model.heads == ("fused",)
    torch.testing.assert_close(outputs["fused"], model.classifier(vectors), rtol=1e-4, atol=1e-5)
    assert {"layer3", "layer4"} <= {name.split(".")[1] for name in rgb.left_out if "." in name}
    assert rgb.left_out == flow.left_out


@pytest.mark.parametrize("own_head", [True, False])
def test_segments_are_the_steps_of_volumes(own_head):
    model = made(fusion="conv_3d", steps=2, pool=[2, 1, 1], own_head=own_head).eval()
    nn.init.normal_(model.fusion.conv.weight, std=0.2)
    clips, (rgb, flow) = clips_of(model, segments=(4,)), model.towers().values()
    assert model.joins_segments
    joint, own = [], []
    for group in range(2):  # segments 0 and 2, then 1 and 3: each group sees the whole video
        volumes = {}
        for stream, tower in model.towers().items():
            steps = [before(tower, clips[stream][:, segment]) for segment in (group, group + 2)]
            volumes[stream] = torch.stack(steps, dim=2)  # (N, C, 2, h, w)
        fused = model.fusion.conv(torch.cat((volumes["rgb"], volumes["flow"]), dim=1)).relu()
        joint.append(after(rgb, fused.amax(dim=2)))
        if own_head:
            own.append(after(flow, volumes["flow"].amax(dim=2)))
    outputs = model.outputs(clips)
    first = "joint" if own_head else "fused"
    torch.testing.assert_close(outputs[first], sum(joint) / 2, rtol=1e-4, atol=1e-5)
    if own_head:
        torch.testing.assert_close(outputs["flow"], sum(own) / 2)


def test_without_a_pool_the_steps_go_on_one_by_one():
    model = made(fusion="sum", steps=3).eval()
    clips = clips_of(model, segments=(3,))
    alone = made(fusion="sum").eval()
    torch.testing.assert_close(model(clips), alone(clips))


def test_3d_towers_are_fused_and_pooled_over_time():
    model = made("lecture_3d_cnn", length=None, after="max_pool", fusion="sum", pool=[2, 1, 1])
    clips, (rgb, flow) = clips_of(model.eval(), size=(8, 16, 16)), model.towers().values()
    maps = {s: t.max_pool(t.conv1(clips[s]).relu()) for s, t in model.towers().items()}

    def rest(tower, volume):
        pooled = F.max_pool3d(volume, (2, 1, 1))
        return tower.classifier(tower.conv2(pooled).relu().mean(dim=(2, 3, 4)))

    outputs = model.outputs(clips)
    torch.testing.assert_close(outputs["joint"], rest(rgb, maps["rgb"] + maps["flow"]))
    torch.testing.assert_close(outputs["flow"], rest(flow, maps["flow"]))
    segments = {stream: torch.stack((one, one), dim=1) for stream, one in clips.items()}
    torch.testing.assert_close(model(segments), model(clips))
    assert not model.joins_segments


def test_what_comes_after_the_layer_does_not_change_what_is_fused():
    # ReLU in place follows; the sum is of the maps in front of it.
    options = {"after": "features.12", "image_size": 48, "fusion": "sum"}
    model = made("cnn_m_2048", **options).eval()
    clips, (rgb, flow) = clips_of(model), model.towers().values()
    one, other = (t.features[:13](images(clips[s])) for s, t in model.towers().items())
    rest = rgb.features[13:](one + other).flatten(1)
    torch.testing.assert_close(model.outputs(clips)["joint"], rgb.classifier(rgb.full(rest)))
    torch.testing.assert_close(model.outputs(clips)["flow"], flow(clips["flow"]))


def test_layers_of_two_names_in_the_order_of_the_streams():
    towers = {"flow": {**TOWER, "length": 2}, "rgb": TOWER}
    layers = {"rgb": "backbone.layer2", "flow": "backbone.layer2.0"}
    channels = {"rgb": 3, "flow": 2}
    torch.manual_seed(0)
    options = {"num_classes": K, "towers": towers, "after": layers, "in_channels": channels}
    model = create_model("conv_fusion", **options).eval()
    assert (model.into, model.other) == ("rgb", "flow")
    flow_first = create_model("conv_fusion", **{**options, "in_channels": {"flow": 2, "rgb": 3}})
    assert (flow_first.into, flow_first.other) == ("flow", "rgb")
    assert flow_first.heads == ("fused", "joint", "rgb")


@pytest.mark.parametrize("own_head", [True, False])
@pytest.mark.parametrize(("lengths", "channels"), [((2, 2), 5), ((1, 3), 9)])
def test_early_fusion_stacks_the_channels_of_clips(lengths, channels, own_head):
    length = dict(zip(("rgb", "flow"), lengths, strict=True))
    options = {"length": length, "after": "input", "fusion": "concatenation"}
    model = made(**options, own_head=own_head).eval()
    joint = model.towers()["rgb"]
    assert joint.inputs["clip"].channels == channels
    assert {s: a.length for s, a in model.inputs.items()} == length
    clips = clips_of(model)
    if lengths == (2, 2):
        seen = torch.cat((clips["rgb"], clips["flow"]), dim=1)
    else:
        seen = torch.cat((images(clips["rgb"]), images(clips["flow"])), dim=1).unsqueeze(2)
    outputs = model.outputs(clips)
    first = "joint" if own_head else "fused"
    torch.testing.assert_close(outputs[first], joint(seen))
    assert set(model.towers()) == ({"rgb", "flow"} if own_head else {"rgb"})
    no_rgb = model.outputs(clips, absent={"rgb": torch.ones(2, dtype=torch.bool)})[first]
    torch.testing.assert_close(no_rgb, model.outputs({**clips, "rgb": 0 * clips["rgb"]})[first])


def test_early_fusion_of_3d_networks():
    options = {"after": "input", "fusion": "concatenation", "length": None, "own_head": False}
    model = made("lecture_3d_cnn", **options).eval()
    clips = clips_of(model)
    joined = model.towers()["rgb"](torch.cat((clips["rgb"], clips["flow"]), dim=1))
    assert torch.equal(model(clips), joined)
    with pytest.raises(ShapeError, match=r"rgb has 4 x 32 x 32, flow 5 x 32 x 32.*num_frames"):
        model({**clips, "flow": clips["flow"][:, :, [0, 1, 2, 3, 3]]})


def test_a_sample_without_a_stream():
    model = made(fusion="sum").eval()
    clips, (rgb, flow) = clips_of(model, samples=3), model.towers().values()
    absent = {"rgb": torch.tensor([True, False, False]), "flow": torch.tensor([False, False, True])}
    outputs = model.outputs(clips, absent=absent)
    torch.testing.assert_close(
        outputs["joint"][0], after(rgb, before(flow, clips["flow"]))[0]
    )  # the other's map alone
    torch.testing.assert_close(outputs["joint"][2], rgb(clips["rgb"])[2])
    torch.testing.assert_close(outputs["fused"][2], rgb(clips["rgb"])[2])  # no own head
    whole = model.outputs(clips)
    torch.testing.assert_close(outputs["fused"][1], whole["fused"][1])
    torch.testing.assert_close(outputs["flow"], whole["flow"])


BACKBONES = ("cnn_lstm", "inflated_2d", "recurrent_conv", "temporal_conv", "tsn")


@pytest.mark.parametrize("name", [*BACKBONES, "c3d", "cnn_m_2048", "r2plus1d_18", "slow_fusion"])
def test_networks_of_all_kinds_serve_as_towers(name):
    small = {"backbone": "test_resnet"} if name in BACKBONES else {}
    tower = {"name": name, **small}
    both = {"rgb": tower, "flow": tower}
    with torch.device("meta"):
        tower = create_model(name, num_classes=K, **small)
        layers, stages = survey(tower).channels, tower.stages()
        layer = [n for n, m in tower.named_modules() if n in layers and (m in stages or not stages)]
        for options in ({"fusion": "conv", "own_head": False}, {"fusion": "max"}):
            options |= {"num_classes": K, "towers": both, "after": layer[-1]}
            model = create_model("conv_fusion", **options).train()
            outputs = model.outputs(clips_of(model))
            sum(logits.sum() for logits in outputs.values()).backward()
            assert [n for n, p in model.named_parameters() if p.grad is None] == []
            for count in range(1, 1 + len(model.stages())):
                set_trainable(model, count)


def test_a_tower_cut_in_one_of_two_pathways():
    with torch.device("meta"):
        options = {"num_classes": K, "towers": "slowfast_r50_4x16", "after": "res5.fast"}
        create_model("conv_fusion", **options)
        with pytest.raises(InputError, match=r"stem.slow.* more parameters of slowfast.*own_head"):
            create_model("conv_fusion", own_head=False, **options)


def test_it_costs_its_towers_and_its_filters():
    options = {"length": None, "after": "max_pool"}
    with torch.device("meta"):
        model = made("lecture_3d_cnn", fusion="conv_3d", **options)
        summed = made("lecture_3d_cnn", fusion="sum", **options)
        headless = made("lecture_3d_cnn", fusion="sum", own_head=False, **options)
    sizes = {"rgb": (3, 16, 64, 64), "flow": (2, 16, 64, 64)}
    alone = {s: inspect_network(t, input_size=sizes[s]) for s, t in summed.towers().items()}
    both = sum(table.multiply_adds for table in alone.values())
    assert inspect_network(summed, input_size=sizes).multiply_adds == both
    filters = 2 * 12 * 12 * 27 * (4 * 16 * 16)  # 24 maps to 12, of 4 x 16 x 16 places
    assert inspect_network(model, input_size=sizes).multiply_adds == both + filters
    rest = sum(alone["flow"].row(name).multiply_adds for name in ("conv2", "classifier"))
    assert inspect_network(headless, input_size=sizes).multiply_adds == both - rest


def test_frozen_towers_leave_the_fusion_to_be_trained():
    with torch.device("meta"):
        model = made("i3d", length=None, after="mixed_4", fusion="conv")
    set_trainable(model, "last_layer")
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    heads = {f"tower.{s}.classifier.{p}" for s in ("rgb", "flow") for p in ("weight", "bias")}
    assert trained == heads | {"fusion.conv.weight", "fusion.conv.bias"}
    set_trainable(model, {"rgb": 1, "flow": "none"})
    names = {n.split(".")[2] for n, p in model.named_parameters() if p.requires_grad and "rgb" in n}
    assert names == {"mixed_5", "classifier"}
    assert not any(p.requires_grad for p in model.towers()["flow"].parameters())
    assert not any(module.training for module in model.train().towers()["flow"].modules())


def test_a_cut_tower_takes_the_weights_of_the_whole_network():
    whole = create_model("tsn", num_classes=7, backbone="test_resnet")
    model = made(fusion="sum", own_head=False)
    flow = model.towers()["flow"]
    load_state(flow, whole.state_dict(), source="whole", new_classifier=True)
    state = flow.state_dict()
    first = "backbone.conv1.0.weight"
    mean = whole.state_dict()[first].mean(dim=1, keepdim=True)
    torch.testing.assert_close(state.pop(first), mean.expand(-1, 4, -1, -1))  # cross-modality
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in state.items())


def test_a_copy_is_another_network():
    model = made(fusion="sum").eval()
    clips = clips_of(model)
    other = copy.deepcopy(model)
    assert torch.equal(other(clips), model(clips))
    nn.init.zeros_(other.towers()["rgb"].classifier.weight)
    assert not torch.equal(other(clips), model(clips))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"in_channels": {"a": 3, "b": 2, "c": 2}}, InputError, "joins two streams, got a, b, c"),
        ({"fusion": "mean"}, UnknownNameError, "bilinear"),
        ({"steps": 0}, InputError, "steps must be at least 1"),
        ({"pool": [5, 1]}, InputError, r"three sizes of at least 1, got \[5, 1\]"),
        ({"pool": [0, 1, 1]}, InputError, "three sizes of at least 1"),
        ({"pool": [1, 2, 2], "fusion": "bilinear"}, InputError, "leave pool out"),
        ({"after": "input"}, InputError, "by fusion='concatenation'"),
        ({"after": "input", "fusion": "concatenation", "steps": 2}, InputError, "with steps=1"),
        (
            {"after": {"rgb": "backbone.layer2"}},
            InputError,
            "layers of rgb, the streams are rgb, f",
        ),
        (
            {"after": "backbone.layer9"},
            UnknownNameError,
            r"tower \(tsn\) 'backbone.layer9'. Did you mean 'backbone.layer4'\? Allowed: input, b",
        ),
        ({"after": "classifier"}, UnknownNameError, "Unknown layer of the rgb tower"),
        (
            {"after": {"rgb": "backbone.layer2", "flow": "backbone.layer3"}, "fusion": "sum"},
            InputError,
            "by sum needs as many channels in both maps, got 48 and 192",
        ),
        (
            {"towers": {"name": "i3d", "checkpointing": True}, "after": "mixed_3", "length": None},
            InputError,
            "'rgb' cannot be checkpointed",
        ),
    ],
)
def test_options_that_do_not_fit(options, error, message):
    with torch.device("meta"), pytest.raises(error, match=message):
        made(**options)


def test_maps_of_other_sizes_are_told_apart():
    layers = {"rgb": "backbone.layer2", "flow": "backbone.layer3"}
    model = made(after=layers).eval()
    with pytest.raises(ShapeError, match=r"rgb has 1 x 4 x 4, flow 1 x 2 x 2.*options\.after"):
        model(clips_of(model))
    model = made("lecture_3d_cnn", length=None, after="conv1").eval()
    clips = clips_of(model)
    with pytest.raises(ShapeError, match=r"rgb has 4 x .*, flow 5 x .*inputs\.flow\.num_frames"):
        model({**clips, "flow": clips["flow"][:, :, [0, 1, 2, 3, 3]]})


def test_too_small_a_rest_says_so():
    model = made("cnn_m_2048", after="features.13", image_size=48, pool=[1, 2, 2]).eval()
    with pytest.raises(ShapeError, match=r"cnn_m_2048 cannot go on after features.13.*Pool less"):
        model(clips_of(model))
