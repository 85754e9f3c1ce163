"""T3D: sizes and parameters of the paper's table, its transitions, and DenseNet's own layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models.densenet import _DenseBlock

from dualstream.models import create_model
from dualstream.models.trainable import set_trainable
from dualstream.models.zoo.t3d import T3D, DenseLayer, TemporalTransition, TransitionBranch

PARTS = (
    "stem",
    "dense1",
    "transition1",
    "dense2",
    "transition2",
    "dense3",
    "transition3",
    "dense4",
)

# C, T, H, W of 3 x 32 x 224 x 224. Sizes in time and space are those of table 1 of Diba et al.
# 2017; channels follow from a growth of 32 and transitions of 3 x 128.
SIZES = {
    "t3d_121": (
        (64, 16, 56, 56),
        (256, 16, 56, 56),
        (384, 8, 28, 28),
        (768, 8, 28, 28),
        (384, 4, 14, 14),
        (1152, 4, 14, 14),
        (384, 2, 7, 7),
        (896, 2, 7, 7),
    ),
    "t3d_169": (
        (64, 16, 56, 56),
        (256, 16, 56, 56),
        (384, 8, 28, 28),
        (768, 8, 28, 28),
        (384, 4, 14, 14),
        (1408, 4, 14, 14),
        (384, 2, 7, 7),
        (1408, 2, 7, 7),
    ),
}


def meta(name: str, **options: object) -> T3D:
    with torch.device("meta"):
        model = create_model(name, **{"num_classes": 400, **options})
    assert isinstance(model, T3D)
    return model


def small(**options: object) -> T3D:
    """A T3D with one layer a dense block."""
    values = {"num_classes": 5, "in_channels": 3, "dropout": 0.0, "checkpointing": False}
    return T3D(layers=(1, 1, 1, 1), **{**values, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_those_of_the_papers_table(name: str) -> None:
    model = meta(name)
    x = torch.zeros(1, 3, 32, 224, 224, device="meta")
    for part, size in zip(PARTS, SIZES[name], strict=True):
        x = getattr(model, part)(x)
        assert tuple(x.shape) == (1, *size), part
    assert model.num_features == SIZES[name][-1][0]


@pytest.mark.parametrize(
    ("name", "options", "parameters"),
    [
        ("t3d_121", {}, 29_876_880),
        ("t3d_169", {}, 38_519_184),
        # 299 classes fewer: 299 * 897. Two channels instead of three: 3 * 7 * 7 * 64 fewer.
        ("t3d_121", {"num_classes": 101, "in_channels": 2}, 29_876_880 - 268_203 - 9_408),
    ],
)
def test_parameters(name: str, options: dict[str, object], parameters: int) -> None:
    assert sum(p.numel() for p in meta(name, **options).parameters()) == parameters


@pytest.mark.parametrize(("name", "third", "last"), [("t3d_121", 24, 16), ("t3d_169", 32, 32)])
def test_parameters_by_hand(name: str, third: int, last: int) -> None:
    # Layers of table 1, channel by channel.
    def dense(channels: int, layers: int) -> tuple[int, int]:
        count = 0
        for _ in range(layers):
            count += 2 * channels + 128 * channels + 2 * 128 + 27 * 128 * 32
            channels += 32
        return count, channels

    total, channels = 3 * 3 * 7 * 7 * 64 + 2 * 64, 64
    for layers, longest in ((6, 6), (12, 4), (third, 4)):
        count, channels = dense(channels, layers)
        total += count + 3 * 2 * channels + channels * 128 * (1 + 3 * 9 + longest * 9)
        channels = 384
    count, channels = dense(channels, last)
    total += count + 2 * channels + (channels + 1) * 400
    assert sum(p.numel() for p in meta(name).parameters()) == total


def test_windows_of_the_transitions() -> None:
    model = meta("t3d_169")
    windows = [
        [branch.conv.kernel_size for branch in getattr(model, part).branches]
        for part in ("transition1", "transition2", "transition3")
    ]
    assert windows == [
        [(1, 1, 1), (3, 3, 3), (6, 3, 3)],
        [(1, 1, 1), (3, 3, 3), (4, 3, 3)],
        [(1, 1, 1), (3, 3, 3), (4, 3, 3)],
    ]


@pytest.mark.parametrize(
    ("frames", "sees"),
    [(1, (0,)), (3, (-1, 0, 1)), (4, (-1, 0, 1, 2)), (6, (-2, -1, 0, 1, 2, 3))],
)
def test_which_frames_a_branch_sees(frames: int, sees: tuple[int, ...]) -> None:
    branch = TransitionBranch(1, (frames, 3, 3)).eval()
    nn.init.ones_(branch.conv.weight)
    for lit in range(8):
        clip = torch.zeros(1, 1, 8, 3, 3)
        clip[:, :, lit] = 1
        answer = branch(clip)[0, 0, :, 1, 1]
        assert len(answer) == 8
        seeing = {t for t in range(8) if answer[t] > 0}
        assert seeing == {t for t in range(8) if lit - t in sees}


@pytest.mark.parametrize("frames", [2, 3, 5])
def test_a_transition_halves_and_joins_in_order(frames: int) -> None:
    transition = TemporalTransition(8, longest=4).eval()
    clip = torch.randn(2, 8, frames, 5, 4)
    joined = transition(clip)
    assert joined.shape == (2, 384, frames // 2, 2, 2)
    for index, branch in enumerate(transition.branches):
        own = nn.functional.avg_pool3d(branch(clip), 2)
        torch.testing.assert_close(joined[:, 128 * index : 128 * (index + 1)], own)


def test_on_one_frame_a_dense_block_is_torchvisions() -> None:
    theirs = _DenseBlock(3, 16, 4, 32, 0.0).eval()
    ours = nn.Sequential(*(DenseLayer(16 + 32 * index) for index in range(3))).eval()
    with torch.no_grad():
        for tensor in (*theirs.parameters(), *theirs.buffers()):
            tensor.copy_(torch.rand_like(tensor.float()) + 0.1)
        for layer, reference in zip(ours, theirs.values(), strict=True):
            layer.norm1.load_state_dict(reference.norm1.state_dict())
            layer.conv1.norm.load_state_dict(reference.norm2.state_dict())
            layer.conv1.conv.weight.copy_(reference.conv1.weight.unsqueeze(2))
            # Only the middle of the three frames is there; what lies beside it must not matter.
            layer.conv2.weight[:, :, 1].copy_(reference.conv2.weight)
        images = torch.randn(2, 16, 6, 7)
        torch.testing.assert_close(ours(images.unsqueeze(2)).squeeze(2), theirs(images))


def test_stages_are_all_but_the_classifier() -> None:
    model = small()
    staged = [id(p) for stage in model.stages() for p in stage.parameters()]
    assert len(staged) == len(set(staged))
    rest = {name for name, p in model.named_parameters() if id(p) not in set(staged)}
    assert rest == {"classifier.weight", "classifier.bias"}
    assert len(model.stages()) == 8


def test_the_last_stage_alone_learns_from_kept_features() -> None:
    model = small()
    set_trainable(model, 1)
    learning = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert learning == {"dense4", "ending", "classifier"}
    assert model.num_frozen_parts() == 7
    model.eval()
    clip = torch.randn(1, 3, 15, 29, 29)
    kept = model.begin(clip, parts=7)
    assert kept.shape == (1, 384, 1, 1, 1)
    assert torch.equal(model.finish(kept, parts=7), model(clip))
