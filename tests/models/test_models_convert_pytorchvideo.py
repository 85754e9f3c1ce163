"""ResNets over clips and SlowFast beside pytorchvideo's with the same weights, both ways."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from dualstream.errors import WeightsError
from dualstream.models import create_model
from dualstream.models.convert import from_layout, to_layout
from dualstream.models.convert.layouts import pytorchvideo as names

with warnings.catch_warnings():  # fvcore compiles a loss in a way torch warns about
    warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
    from pytorchvideo.models import hub
    from pytorchvideo.models.slowfast import create_slowfast

NUM_CLASSES = 7


def hub_4x16(*, pretrained, **options):
    """SlowFast's configuration SLOWFAST_4x16_R50, which the hub lacks, in the hub's code."""
    return create_slowfast(
        slowfast_fusion_conv_kernel_size=(5, 1, 1),
        slowfast_fusion_conv_stride=(8, 1, 1),
        head_pool_kernel_sizes=((4, 7, 7), (32, 7, 7)),
        **options,
    )


# Ours, theirs, T, and alpha where there are two pathways.
RESNETS = [
    ("c2d_r50", hub.c2d_r50, 8, None),
    ("i3d_r50", hub.i3d_r50, 8, None),
    ("slow_r50", hub.slow_r50, 8, None),
    ("r2plus1d_r50", hub.r2plus1d_r50, 16, None),
]
SLOWFASTS = [
    ("slowfast_r50_4x16", hub_4x16, 32, 8),
    ("slowfast_r50_8x8", hub.slowfast_r50, 32, 4),
    ("slowfast_r101_8x8", hub.slowfast_r101, 32, 4),
    ("slowfast_r101_16x8", hub.slowfast_16x8_r101_50_50, 64, 4),
]
ALL = RESNETS + SLOWFASTS


def reference(make, seed):
    """Their network for evaluation, with random norms and statistics, and logits at any size."""
    torch.manual_seed(seed)
    model = make(pretrained=False, model_num_class=NUM_CLASSES)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            # Gains that keep the sum of many blocks small, variances near eps.
            nn.init.uniform_(module.weight, 0.2, 0.6)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 1e-4, 2.0)
            module.num_batches_tracked += seed
    model.blocks[-1].activation = None  # R(2+1)D's softmax
    return model.eval()


def their_logits(model, clips, alpha):
    """Logits; of SlowFast with the frames that its authors' code picks."""
    if alpha is None:
        return model(clips)
    length = clips.shape[2]
    picked = torch.linspace(0, length - 1, length // alpha).long()
    return model([clips.index_select(2, picked), clips.clone()])


def pool_everything(model):
    """Their head for inputs below 224 pixels: one mean in place of a window of 7x7."""
    for module in model.modules():
        for name, part in module.named_children():
            if isinstance(part, nn.AvgPool3d):
                setattr(module, name, nn.AdaptiveAvgPool3d(1))


def on_meta(name, **options):
    with torch.device("meta"):
        return create_model(name, **{"num_classes": NUM_CLASSES, **options})


def filled(name, state):
    """Our network with these tensors, for evaluation."""
    model = on_meta(name)
    model.load_state_dict(state, assign=True)
    return model.eval()


def relative_difference(found, expected):
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize(("name", "make", "frames", "alpha"), ALL, ids=[row[0] for row in ALL])
def test_same_logits_in_both_directions(name, make, frames, alpha):
    theirs = reference(make, seed=1)
    pool_everything(theirs)
    clips = torch.randn(1, 3, frames, 48, 48)
    state = {key: value.clone() for key, value in theirs.state_dict().items()}
    with torch.no_grad():
        expected = their_logits(theirs, clips, alpha)
    ours = filled(name, from_layout(state, on_meta(name), layout="pytorchvideo"))
    with torch.no_grad():
        found = ours(clips)
    assert expected.std() > 0.01
    assert relative_difference(found, expected) < 1e-5
    for tensor in theirs.state_dict().values():
        tensor.zero_()
    theirs.load_state_dict(to_layout(ours, layout="pytorchvideo"))
    for key, tensor in theirs.state_dict().items():
        assert torch.equal(tensor, state[key]), key
    with torch.no_grad():
        assert torch.equal(their_logits(theirs, clips, alpha), expected)


def test_same_logits_with_their_own_head_above_the_training_size():
    theirs = reference(hub.slow_r50, seed=3)
    state = theirs.state_dict()
    ours = filled("slow_r50", from_layout(state, on_meta("slow_r50"), layout="pytorchvideo"))
    clips = torch.randn(1, 3, 8, 256, 224)  # 8 x 7 places after res5, a window of 7 x 7
    with torch.no_grad():
        assert relative_difference(ours(clips), theirs(clips)) < 1e-5


@pytest.mark.parametrize("name", [row[0] for row in ALL])
def test_every_tensor_has_a_place_of_its_own(name):
    model = on_meta(name)
    table = names(model)
    assert table.keys() == model.state_dict().keys()
    assert len({their.name for their in table.values()}) == len(table)


@pytest.mark.parametrize(
    ("name", "ours", "theirs"),
    [
        ("slow_r50", "stem.0.conv.weight", "blocks.0.conv.weight"),
        ("slow_r50", "stem.0.norm.bias", "blocks.0.norm.bias"),
        ("slow_r50", "res3.2.conv2.norm.weight", "blocks.2.res_blocks.2.branch2.norm_b.weight"),
        ("i3d_r50", "res3.0.shortcut.conv.weight", "blocks.3.res_blocks.0.branch1_conv.weight"),
        ("i3d_r50", "classifier.bias", "blocks.6.proj.bias"),
        (
            "r2plus1d_r50",
            "res2.0.conv2.conv.weight",
            "blocks.1.res_blocks.0.branch2.conv_b.conv_xy.weight",
        ),
        (
            "r2plus1d_r50",
            "res2.0.conv2_time.norm.bias",
            "blocks.1.res_blocks.0.branch2.conv_b.norm.bias",
        ),
        (
            "slowfast_r50_8x8",
            "res5.fast.1.conv3.conv.weight",
            "blocks.4.multipathway_blocks.1.res_blocks.1.branch2.conv_c.weight",
        ),
        (
            "slowfast_r50_8x8",
            "stem.lateral.conv.weight",
            "blocks.0.multipathway_fusion.conv_fast_to_slow.weight",
        ),
    ],
)
def test_names(name, ours, theirs):
    assert names(on_meta(name))[ours].name == theirs


def test_weights_of_other_classes_keep_their_classifier():
    with torch.device("meta"):
        state = hub.slow_r50(pretrained=False, model_num_class=9).state_dict()
    converted = from_layout(state, on_meta("slow_r50"), layout="pytorchvideo")
    assert converted["classifier.weight"].shape == (9, 2048)


def test_another_network_s_weights_are_refused_with_what_differs():
    with torch.device("meta"):
        state = hub.slow_r50(pretrained=False).state_dict()
    model = on_meta("i3d_r50")
    with pytest.raises(WeightsError, match=r"pytorchvideo's i3d_r50\. .*missing.*not of this") as e:
        from_layout(state, model, layout="pytorchvideo")
    assert "116 missing: blocks.4.res_blocks.3.branch2.conv_a.weight" in str(e.value)
    assert "blocks.0.conv.weight (64, 3, 1, 7, 7) instead of (64, 3, 5, 7, 7)" in str(e.value)


def test_networks_that_pytorchvideo_lacks_are_refused():
    foreign = on_meta("cnn_m_2048")
    model = on_meta("i3d_r50", non_local={"res4": [5]})
    with pytest.raises(WeightsError, match="pytorchvideo has no network cnn_m_2048"):
        to_layout(foreign, layout="pytorchvideo")
    lacking = r"no tensor for res4\.5\.non_local\.query\.weight, .*non_local\.key\.weight"
    with pytest.raises(WeightsError, match=lacking):
        to_layout(model, layout="pytorchvideo")
