"""What holds for every network of `MODELS`.

Shapes, errors and the reach of gradients are looked at on the meta device, where nothing is
computed; values on one network of each class. Parity and the papers' numbers are in the tests of
the networks' own files.
"""

from typing import get_type_hints

import pytest
import torch
from torch import nn

from dualstream.errors import InputError, ShapeError, UnknownNameError
from dualstream.models import MODELS, create_model, set_trainable
from dualstream.models.create import fixed_options, model_function, network_options
from dualstream.models.grad_cam import grad_cam, last_maps, tower_prefix

K = 3
CHANNELS = 2
TOWER = {"name": "tsn", "backbone": "test_resnet"}
BOTH = {
    "in_channels": {"rgb": 3, "flow": CHANNELS},
    "towers": {"rgb": TOWER, "flow": TOWER},
    "length": {"rgb": 1, "flow": 2},
}
"""Options of a small network of two streams."""

SMALL = {
    "c3d": {"image_size": 16},
    "cnn_lstm": {"backbone": "test_resnet", "hidden": 8},
    "cnn_m_2048": {"image_size": 41, "length": 3},
    "conv_fusion": {**BOTH, "after": "backbone.layer3", "fusion": "conv_3d"},
    "cross_attention": {
        **{option: BOTH[option] for option in ("in_channels", "length")},
        "backbone": "test_resnet",
        "hidden": 4,
    },
    "early_fusion": {"image_size": 32, "length": 3},
    "hidden_two_stream": {
        "temporal_options": {"backbone": "test_resnet"},
        "length": 4,
        "base_channels": 2,
    },
    "inflated_2d": {"backbone": "test_resnet"},
    "late_fusion": {"image_size": 32},
    "lecture_early_fusion": {"length": 5},
    "motionnet": {"length": 3, "base_channels": 2},
    "recurrent_conv": {"backbone": "test_resnet", "depths": [0, 2], "hidden": [4, 6]},
    "single_frame": {"image_size": 32},
    "slow_fusion": {"image_size": 32},
    "temporal_attention": {"backbone": "test_resnet", "hidden": 8, "heads": 2},
    "temporal_conv": {"backbone": "test_resnet", "hidden": 8},
    "tsn": {"backbone": "test_resnet", "length": 2},
    "two_stream": BOTH,
}
"""Options that keep a network small; the others have no such options."""

ONE_OF_EACH_CLASS = (
    "c2d_r50", "c3d", "cnn_lstm", "cnn_m_2048", "conv_fusion", "cross_attention",
    "hidden_two_stream", "i3d", "inflated_2d", "lecture_3d_cnn", "lecture_early_fusion",
    "motionnet", "r2plus1d_18", "recurrent_conv", "s3d_g", "slow_fusion", "slowfast_r50_4x16",
    "t3d_121", "temporal_attention", "temporal_conv", "tsn", "two_stream", "x3d_xs",
)  # fmt: skip


def made(name, **options):
    usual = {"num_classes": K, "in_channels": CHANNELS, **SMALL.get(name, {}), **options}
    return create_model(name, **usual)


def clip_of(model, wanted=(1, 1, 1), device="meta"):
    """(2, C, T, H, W), as near to `wanted` as the network takes; of several streams a mapping."""
    clips = {
        stream: torch.randn(2, accepts.channels, *accepts.nearest(wanted), device=device)
        for stream, accepts in model.inputs.items()
    }
    return clips if len(clips) > 1 else clips["clip"]


def each(clips, change):
    """`change` of the clips, or of those of each stream."""
    if isinstance(clips, dict):
        return {stream: change(one) for stream, one in clips.items()}
    return change(clips)


def shapes_of(clips):
    return each(clips, lambda one: tuple(one.shape))


def on_meta(name):
    with torch.device("meta"):
        return made(name)


@pytest.fixture(scope="module", params=sorted(MODELS))
def network(request):
    """On the meta device."""
    return on_meta(request.param)


@pytest.fixture(scope="module", params=ONE_OF_EACH_CLASS)
def of_class(request):
    """On the meta device, one network of each class."""
    return on_meta(request.param)


def test_logits_of_clips_segments_and_mappings(network):
    network.eval()
    clips = clip_of(network)
    segments = each(clips, lambda one: torch.stack((one, one, one), dim=1))  # (N, S, C, T, H, W)
    network.check(shapes_of(segments))
    assert network(segments).shape == (2, K)
    if len(network.inputs) == 1:
        assert network({"flow": clips}).shape == (2, K)


def test_its_heads_are_as_declared(network):
    clips = clip_of(network.eval())
    outputs = network.outputs(clips)
    assert tuple(outputs) == network.heads
    assert {logits.shape for logits in outputs.values()} == {(2, K)}
    for stream in network.inputs:
        lacks = {stream: torch.zeros(2, dtype=torch.bool, device="meta")}
        assert network.outputs(clips, absent=lacks)[network.heads[0]].shape == (2, K)


def test_vectors_of_the_classifier(of_class):
    clips = clip_of(of_class.eval())
    segments = each(clips, lambda one: torch.stack((one, one, one), dim=1))  # (N, S, C, T, H, W)
    if of_class.towers():
        with pytest.raises(InputError, match="those of a tower"):
            of_class.embed(segments)
        return
    assert of_class.embed(segments).shape == (6, of_class.num_features)


def test_each_classifier_sees_vectors(network):
    """Its towers' classifiers, where a network of several streams has no other."""
    clips = clip_of(network.eval())
    segments = each(clips, lambda one: torch.stack((one, one, one), dim=1))  # (N, S, C, T, H, W)
    vectors, classifiers = network.vectors(segments), network.classifiers()
    assert set(vectors) == set(classifiers) <= set(network.heads)
    for head, seen in vectors.items():
        assert seen.shape == (6, classifiers[head].in_features)
        assert classifiers[head].out_features == K


def test_its_input_is_as_declared(network):
    streams = {"rgb": 3, "flow": CHANNELS} if network.towers() else {"clip": CHANNELS}
    assert network.name in MODELS
    assert {stream: accepts.channels for stream, accepts in network.inputs.items()} == streams
    fixed = fixed_options(network.name)
    for accepts in network.inputs.values():
        assert ("length" in fixed) == (accepts.length is not None)
        # Towers have it where their network does.
        assert ("image_size" in fixed and not network.towers()) == (accepts.side is not None)
    over_time = any(isinstance(part, nn.Conv3d) for part in network.modules())
    assert network.conv_dims == (3 if over_time else 2)


@pytest.mark.parametrize("axis", [2, 3, 4])
def test_one_less_than_the_smallest_is_refused(network, axis):
    clips = each(clip_of(network), lambda one: one.narrow(axis, 0, one.shape[axis] - 1))
    with pytest.raises(ShapeError, match=network.name):
        network.eval()(clips)
    with pytest.raises(ShapeError, match=network.name):
        network.check(shapes_of(clips))
    if network.towers():
        return
    accepts = network.inputs["clip"]
    if accepts.length is None and accepts.side is None and accepts.smallest[axis - 2] > 1:
        with pytest.raises(RuntimeError):  # its layers have no output
            network.encode(clips)


def test_other_input_is_refused(network):
    clips = clip_of(network)
    changes = (
        lambda one: one[:, :1],
        lambda one: torch.cat((one, one), dim=1),
        lambda one: one[0],
        lambda one: one.byte(),
    )
    for change in changes:
        with pytest.raises(ShapeError, match=f"{network.name}|tsn"):
            network(each(clips, change))
    if any(accepts.length is not None for accepts in network.inputs.values()):
        with pytest.raises(ShapeError, match="T = "):
            network(each(clips, lambda one: torch.cat((one, one), dim=2)))
    if network.towers():
        with pytest.raises(InputError, match="a mapping of rgb, flow, got one tensor"):
            network(clips["rgb"])
        with pytest.raises(ShapeError, match="must have the same N and S"):
            network({**clips, "flow": clips["flow"][:1]})
    else:
        with pytest.raises(InputError, match="one input, got a mapping of rgb, flow"):
            network({"rgb": clips, "flow": clips})


def test_gradients_reach_every_parameter(of_class):
    of_class(clip_of(of_class.train(), (4, 16, 16))).sum().backward()
    assert [name for name, p in of_class.named_parameters() if p.grad is None] == []


def test_stages_are_trained_from_the_last_one_on(network):
    head = {id(p) for module in network.head() for p in module.parameters()}
    last = {id(p) for stage in network.stages()[-1:] for p in stage.parameters()}
    for which, expected in (("last_layer", head), (1, head | last)):
        if which == 1 and not network.stages():
            continue
        set_trainable(network, which)
        assert {id(p) for p in network.parameters() if p.requires_grad} == expected
    set_trainable(network, "all")
    assert all(p.requires_grad for p in network.parameters())
    with pytest.raises(InputError, match=f"{network.name} has .* stages"):
        set_trainable(network, len(network.stages()) + 1)


WITH_PLACES = (8, 72, 80)
"""T, H, W of clips that leave the last features several places, of most networks."""


def looked_at(model, clips):
    """Stream -> (layer, Grad-CAM) of its last layers with a map."""
    if model.exchanges_maps:  # its towers run several times for a video
        towers = model.towers()
        return {stream: looked_at(towers[stream], clips[stream])["clip"] for stream in towers}
    several = isinstance(clips, dict)
    return {
        stream: [
            (layer, grad_cam(model, clips, layers=[layer], stream=stream if several else None))
            for layer in last_maps(model, clips, within=tower_prefix(model, stream))
        ]
        for stream in model.inputs
    }


def test_grad_cam_of_the_last_layers_has_the_size_of_the_clips(network):
    clips = clip_of(network.eval(), WITH_PLACES)
    for stream, maps in looked_at(network, clips).items():
        one = clips[stream] if isinstance(clips, dict) else clips
        assert maps
        assert {tuple(found.shape) for _, found in maps} == {(2, *one.shape[2:])}


def test_parts_are_a_chain_that_can_be_cut(of_class):
    clips, count = clip_of(of_class.eval()), len(of_class.parts())
    if not count:
        with pytest.raises(InputError, match="no chain of parts"):
            of_class.begin(clips, parts=0)
    for parts in sorted({count // 2, count}) if count else ():
        assert of_class.finish(of_class.begin(clips, parts=parts), parts=parts).shape == (2, K)


def test_options_are_checked(network):
    name = network.name
    with pytest.raises(UnknownNameError, match="Did you mean 'num_classes'"):
        create_model(name, num_clases=2)
    with pytest.raises(InputError, match=f"{name} needs the option 'num_classes'"):
        create_model(name)
    for option, value in (("num_classes", "3"), ("num_classes", True), ("in_channels", 1.5)):
        with pytest.raises(InputError, match=f"Option {option} of {name} must be (int|.*Mapping)"):
            create_model(name, **{"num_classes": 2, option: value})
    for option in ("num_classes", "in_channels"):
        none = {"rgb": 3, "flow": 0} if network.towers() and option == "in_channels" else 0
        with pytest.raises(InputError, match=f"{option} must be at least 1, got 0"):
            create_model(name, **{"num_classes": 2, option: none})
    if "dropout" not in network_options(name).model_fields:
        return
    with (
        torch.device("meta"),
        pytest.raises(InputError, match="dropout must lie in 0 <= dropout < 1, got 1"),
    ):
        made(name, dropout=1.0)


def with_random_gains(model):
    """No residual branch is silent, as zero gains at the start make them."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            nn.init.uniform_(module.weight, 0.3, 0.7)
    return model


@pytest.fixture(scope="module", params=ONE_OF_EACH_CLASS)
def small(request):
    """With values, and clips for it."""
    torch.manual_seed(0)
    model = with_random_gains(made(request.param))
    return model, clip_of(model, (4, 16, 20), device="cpu")


def test_evaluation_is_repeatable_and_segments_are_averaged(small):
    model, clips = small
    model.eval()
    with torch.inference_mode():
        alone = model(clips)
        assert alone.isfinite().all()
        assert torch.equal(model(clips), alone)
        joined = model(each(clips, lambda one: one[None]))  # two segments of one sample
    torch.testing.assert_close(joined[0], alone.mean(dim=0), rtol=1e-4, atol=1e-5)


def test_grad_cam_of_the_last_layers_is_finite(small):
    model, _ = small
    clips = clip_of(model.eval(), WITH_PLACES, device="cpu")
    for maps in looked_at(model, clips).values():
        for layer, found in maps:
            assert found.isfinite().all(), layer
            assert found.min() >= 0, layer
            # 1, or 0 where no place speaks for the class.
            assert all(most in (0, 1) for most in found.amax(dim=(1, 2, 3)).tolist()), layer
    assert all(parameter.grad is None for parameter in model.parameters())


def test_vectors_times_the_weights_are_the_logits(small):
    model, clips = small
    model.eval()
    segments = each(clips, lambda one: torch.stack((one, one.flip(0)), dim=1))
    with torch.inference_mode():
        for x in (clips, segments):
            vectors, outputs = model.vectors(x), model.outputs(x)
            for head, classifier in model.classifiers().items():
                logits = vectors[head] @ classifier.weight.T + classifier.bias  # (N*S, K)
                mean = logits.reshape(2, -1, K).mean(dim=1)
                torch.testing.assert_close(mean, outputs[head], rtol=1e-4, atol=1e-5)


def test_the_state_makes_another_the_same_and_checkpointing_changes_nothing(small):
    model, clips = small
    can_save = "checkpointing" in network_options(model.name).model_fields
    saving = made(model.name, **({"checkpointing": True} if can_save else {}))
    saving.load_state_dict(model.state_dict())
    with torch.inference_mode():
        assert torch.equal(saving.eval()(clips), model.eval()(clips))
    labels = torch.tensor([0, 2])
    losses = []
    for one in (model, saving):
        torch.manual_seed(2)  # of dropout
        losses.append(nn.functional.cross_entropy(one.train()(clips), labels))
        losses[-1].backward()
    torch.testing.assert_close(*losses)
    for (name, found), expected in zip(saving.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-3, atol=1e-5, msg=name)
    for (name, found), expected in zip(saving.named_buffers(), model.buffers(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6, msg=name)
    model.zero_grad()


def class_of(name):
    """Class of a network: it is made by the class itself, or by a function that returns one."""
    function = model_function(name)
    return function if isinstance(function, type) else get_type_hints(function)["return"]


def test_one_of_each_class_is_looked_at():
    assert {class_of(name) for name in ONE_OF_EACH_CLASS} == {class_of(name) for name in MODELS}


def test_the_logits_of_some_classes_are_rows_of_the_classifier(network):
    """So that a network for several data sets has a head for each."""
    with torch.device("meta"):
        more = made(network.name, num_classes=K + 2)
    own, whole = network.state_dict(), more.state_dict()
    assert own.keys() == whole.keys()
    differing = {name: value for name, value in whole.items() if value.shape != own[name].shape}
    assert {name for name in differing if "classifier" not in name} == set()
    for name, value in differing.items():
        assert value[:K].shape == own[name].shape
    assert network.class_groups == (K,)
