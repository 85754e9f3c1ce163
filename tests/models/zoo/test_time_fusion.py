"""Time fusion (Karpathy et al. 2014): published sizes, what each network sees, equal forms."""

import pytest
import torch
from torch import nn

from dualstream.errors import InputError, UnknownNameError
from dualstream.models.trainable import set_trainable
from dualstream.models.zoo.time_fusion import (
    ONE_FRAME,
    early_fusion,
    feature_side,
    late_fusion,
    least_frames,
    single_frame,
    slow_fusion,
)

SIDE = 32
MAKERS = {
    "single": single_frame,
    "towers": late_fusion,
    "mean": lambda **options: late_fusion(join="mean", **options),
    "early": early_fusion,
    "slow": slow_fusion,
}
LEAST = {"single": 1, "towers": 2, "mean": 1, "early": 10, "slow": 10}


@pytest.fixture(scope="module")
def nets():
    """One network of each kind for images of 32 pixels, in evaluation mode."""
    torch.manual_seed(0)
    return {
        name: make(num_classes=4, image_size=SIDE, dropout=0.0).eval()
        for name, make in MAKERS.items()
    }


def clip(frames, seed=1):
    return torch.randn(2, 3, frames, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def frames_seen(model, clips):
    """Indices of the frames that change the logits."""
    before = model(clips)
    seen = []
    for t in range(clips.shape[2]):
        changed = clips.clone()
        changed[:, :, t] += 1
        if not torch.equal(model(changed), before):
            seen.append(t)
    return seen


# Convolutions of the single frame: 11*11*3*96 + 96 = 34,944; 5*5*96*256 + 256 = 614,656;
# 9*256*384 + 384 = 885,120; 9*384*384 + 384 = 1,327,488; 9*384*256 + 256 = 884,992.
# Fully connected layers: 9216*4096 + 4096 = 37,752,832 (6*6*256 = 9216); 4096*4096 + 4096 =
# 16,781,312;
# 487 classes of Sports-1M: 4096*487 + 487 = 1,995,239. Together 60,276,583.
# Towers: 9216*4096 more in the first fully connected layer. Early: 9 times 34,848 more. Slow: 3
# times 34,848, 614,400 and 884,736 more.
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("single", 60_276_583),
        ("towers", 98_025_319),
        ("mean", 60_276_583),
        ("early", 60_590_215),
        ("slow", 61_880_263),
    ],
)
def test_parameters(name, parameters):
    with torch.device("meta"):
        model = MAKERS[name](num_classes=487)
    assert sum(p.numel() for p in model.parameters()) == parameters


# (channels, time, height and width) after each stage for 170 x 170 pixels.
SHAPES = {
    ("single", 1): [(96, 1, 27), (256, 1, 13), (384, 1, 13), (384, 1, 13), (256, 1, 6)],
    ("early", 10): [(96, 1, 27), (256, 1, 13), (384, 1, 13), (384, 1, 13), (256, 1, 6)],
    ("slow", 10): [(96, 4, 27), (256, 2, 13), (384, 1, 13), (384, 1, 13), (256, 1, 6)],
    ("slow", 18): [(96, 8, 27), (256, 4, 13), (384, 2, 13), (384, 2, 13), (256, 2, 6)],
    ("towers", 16): [(96, 2, 27), (256, 2, 13), (384, 2, 13), (384, 2, 13), (256, 2, 6)],
    ("mean", 7): [(96, 7, 27), (256, 7, 13), (384, 7, 13), (384, 7, 13), (256, 7, 6)],
}


@pytest.mark.parametrize(("name", "frames"), SHAPES)
def test_sizes_of_the_stages(name, frames):
    found = []
    with torch.device("meta"):
        model = MAKERS[name](num_classes=487)
        for stage in model.stages()[:5]:
            stage.register_forward_hook(lambda _m, _i, y: found.append(tuple(y.shape[1:])))
        assert model(torch.zeros(2, 3, frames, 170, 170)).shape == (2, 487)
    assert found == [(c, t, side, side) for c, t, side in SHAPES[name, frames]]


@pytest.mark.parametrize(("image", "cells"), [(170, 6), (227, 9), (112, 4), (32, 1), (31, 0)])
def test_feature_side(image, cells):
    assert feature_side(image) == cells


@pytest.mark.parametrize(
    ("steps", "frames"),
    [(ONE_FRAME, 1), (((10, 1), (1, 1), (1, 1)), 10), (((4, 2), (2, 2), (2, 2)), 10),
     (((3, 1), (3, 1), (3, 2)), 7)],
)  # fmt: skip
def test_least_frames(steps, frames):
    assert least_frames(steps) == frames


def test_towers_see_the_first_and_the_last_frame(nets):
    clips = clip(16)
    assert frames_seen(nets["towers"], clips) == [0, 15]
    between = clips.clone()
    between[:, :, 1:15] = clips[:, :, torch.arange(14, 0, -1)]
    with torch.inference_mode():
        logits = nets["towers"](clips)
        assert torch.equal(nets["towers"](between), logits)
        assert torch.equal(nets["towers"](clips[:, :, [0, 15]]), logits)
        assert not torch.allclose(nets["towers"](clips.flip(2)), logits)  # the towers are ordered


def test_towers_share_weights_and_meet_in_the_first_full_layer(nets):
    model, clips = nets["towers"], clip(2)
    with torch.inference_mode():
        first, second = (run(model.stages()[:5], clips[:, :, [t]]).flatten(1) for t in (0, 1))
        joined = model.classifier(model.full7(model.full6(torch.cat((first, second), 1))))
        torch.testing.assert_close(model(clips), joined)


def run(stages, x):
    return nn.Sequential(*stages)(x)


@pytest.mark.parametrize(
    ("name", "frames", "seen"),
    [("single", 3, 3), ("mean", 3, 3), ("early", 10, 10), ("slow", 10, 10), ("slow", 18, 18),
     ("slow", 17, 10)],
)  # fmt: skip
def test_frames_seen(nets, name, frames, seen):
    assert frames_seen(nets[name], clip(frames)) == list(range(seen))


def test_single_frame_is_the_mean_of_its_frames_logits(nets):
    clips = clip(5)
    with torch.inference_mode():
        each = torch.stack([nets["single"](clips[:, :, [t]]) for t in range(5)])
        torch.testing.assert_close(nets["single"](clips), each.mean(dim=0))


def test_mean_has_the_weights_of_a_single_frame_and_its_logits_for_a_still_clip(nets):
    model = MAKERS["mean"](num_classes=4, image_size=SIDE, dropout=0.0).eval()
    model.load_state_dict(nets["single"].state_dict())
    still, moving = clip(1).expand(-1, -1, 6, -1, -1), clip(6)
    with torch.inference_mode():
        torch.testing.assert_close(model(still), nets["single"](still))
        features = run(model.stages()[:5], moving).mean(dim=2).flatten(1)
        joined = model.classifier(model.full7(model.full6(features)))
        torch.testing.assert_close(model(moving), joined)
        assert not torch.allclose(model(moving), nets["single"](moving))


def test_early_fusion_is_a_2d_network_over_stacked_frames(nets):
    model, clips = nets["early"], clip(10)
    conv = model.conv1[0]
    weight = conv.weight.transpose(1, 2).flatten(1, 2)  # (96, T, C, 11, 11) -> (96, T*C, 11, 11)
    stacked = clips.transpose(1, 2).flatten(1, 2)  # (N, T*C, H, W)
    with torch.inference_mode():
        expected = nn.functional.conv2d(stacked, weight, conv.bias, stride=3)
        torch.testing.assert_close(conv(clips)[:, :, 0], expected, rtol=1e-4, atol=1e-4)


def test_slow_fusion_of_18_frames_is_the_mean_of_two_windows(nets):
    clips = clip(18)
    with torch.inference_mode():
        windows = nets["slow"](clips[:, :, :10]) + nets["slow"](clips[:, :, 8:])
        torch.testing.assert_close(nets["slow"](clips), windows / 2)


def test_response_norm_is_krizhevskys():
    """b = a / (2 + 1e-4 * sum of a^2 over 5 channels) ^ 0.5; 3 channels at the border."""
    norm = single_frame(num_classes=2, image_size=SIDE).conv1[2]
    a = torch.tensor([100.0, 50, 20, 10, 200]).reshape(1, 5, 1, 1, 1)
    found = norm(a).flatten()
    assert found[2].item() == pytest.approx(20 / (2 + 1e-4 * 53_000) ** 0.5, rel=1e-5)
    assert found[0].item() == pytest.approx(100 / (2 + 1e-4 * 12_900) ** 0.5, rel=1e-5)


def test_stages_are_trained_from_the_end():
    with torch.device("meta"):
        model = slow_fusion(num_classes=2)
    set_trainable(model, 3)
    trained = {n.split(".")[0] for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {"conv5", "full6", "full7", "classifier"}
    assert len(model.stages()) == 7


@pytest.mark.parametrize("name", MAKERS)
def test_frozen_parts_can_be_computed_beforehand(nets, name):
    model, clips = MAKERS[name](num_classes=4, image_size=SIDE).eval(), clip(10)
    model.load_state_dict(nets[name].state_dict())
    set_trainable(model, 2)  # both fully connected layers
    assert model.num_frozen_parts() == 7  # frames, five convolutions, rows
    with torch.inference_mode():
        rows = model.begin(clips, parts=7)
        assert rows.shape == (2, 10 if name == "single" else 1, 512 if name == "towers" else 256)
        torch.testing.assert_close(model.finish(rows, parts=7), nets[name](clips))


@pytest.mark.parametrize(
    ("make", "options", "error", "message"),
    [
        (single_frame, {"image_size": 31}, InputError, "image_size must be at least 32, got 31"),
        (late_fusion, {"join": "max"}, UnknownNameError, "join 'max'"),
        (early_fusion, {"length": 0}, InputError, "length must be at least 1"),
        (slow_fusion, {"dropout": 1.0}, InputError, "dropout"),
        (single_frame, {"dropout": 1.5}, InputError, "dropout must lie in"),
        (early_fusion, {"dropout": -0.1}, InputError, "dropout must lie in"),
    ],
)
def test_options_that_make_no_sense_are_refused(make, options, error, message):
    with torch.device("meta"), pytest.raises(error, match=message):
        make(num_classes=2, **options)
