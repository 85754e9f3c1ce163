"""Supervision transfer: pairs that are judged, parts that learn and parts that stay."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dualstream.engine.train.transfer import SupervisionTransfer, mismatched_partners
from dualstream.errors import ShapeError
from dualstream.models import create_model
from dualstream.models.network import Network
from dualstream.models.zoo.t3d import T3D


def small_student() -> Network:
    return create_model("lecture_3d_cnn", num_classes=3)


def joined(student: Network | None = None) -> SupervisionTransfer:
    teacher = create_model("tsn", num_classes=9, backbone="test_resnet")
    return SupervisionTransfer(student or small_student(), teacher)


@pytest.mark.parametrize(
    ("videos", "partners"),
    [
        (["a", "b"], (1, 0)),
        (["a", "b", "c"], (1, 2, 0)),
        (["a", "a", "b"], (2, 2, 0)),
        (["a", "a", "b", "b"], (2, 2, 0, 0)),
        (["a", "b", "a", "a"], (1, 2, 1, 1)),
        (["a"], ()),
        (["a", "a", "a"], ()),
        ([], ()),
    ],
)
def test_partners_are_the_next_of_another_video(videos: list[str], partners: tuple[int]) -> None:
    assert mismatched_partners(videos) == partners


def test_rows_are_own_frames_first_then_the_partners() -> None:
    torch.manual_seed(1)
    model = joined().eval()
    clips, frames = torch.randn(3, 3, 4, 32, 32), torch.randn(3, 3, 4, 32, 32)
    partners = (2, 0, 1)
    with torch.no_grad():
        logits = model(clips, frames, partners)
        assert logits.shape == (6, 2)
        for clip in range(3):
            for row, seen in ((clip, clip), (3 + clip, partners[clip])):
                # The teacher's features are averaged over the frames before the layers.
                images = frames[seen].transpose(0, 1)  # (T, 3, H, W)
                taught = sum(model.teacher.embed(image[None, :, None]) for image in images) / 4
                embedded = model.student.embed(clips[clip : clip + 1])
                pair = torch.cat([model.of_student(embedded), model.of_teacher(taught)], dim=1)
                expected = model.answer(model.joined(pair))[0]
                torch.testing.assert_close(logits[row], expected, rtol=1e-4, atol=1e-5)


def test_fully_connected_layers_are_the_papers() -> None:
    model = joined()
    shapes = {
        name: tuple(p.shape)
        for name, p in model.named_parameters()
        if not name.startswith(("student.", "teacher.")) and p.ndim == 2
    }
    # lecture_3d_cnn has 24 features.
    assert shapes == {
        "of_student.0.weight": (1024, 24),
        "of_teacher.0.weight": (1024, model.of_teacher[0].in_features),
        "joined.0.0.weight": (512, 2048),
        "joined.1.0.weight": (128, 512),
        "answer.weight": (2, 128),
    }


@pytest.mark.parametrize("kind", ["lecture", "t3d"])
def test_the_teacher_stays_bit_for_bit_and_the_student_learns(kind: str) -> None:
    torch.manual_seed(2)
    student = (
        small_student()
        if kind == "lecture"
        else T3D(num_classes=3, layers=(1, 1, 1, 1), dropout=0.0)
    )
    model = joined(student)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    clips = torch.randn(2, 3, 15, 32, 32)
    model.eval().train()  # as validation does in between
    for _ in range(2):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(clips, clips, (1, 0)), torch.tensor([1, 1, 0, 0]))
        loss.backward()
        optimiser.step()
    after = model.state_dict()
    same = {name for name in before if torch.equal(before[name], after[name])}
    frozen = {name for name in before if name.startswith(("teacher.", "student.classifier."))}
    assert frozen <= same
    assert all(p.grad is None for p in model.teacher.parameters())
    assert all(p.grad is None for p in student.classifier.parameters())
    for name, parameter in student.named_parameters():
        assert name.startswith("classifier.") or parameter.grad is not None, name
    assert not any(name.startswith("student.conv1") for name in same)


def test_segments_count_as_clips() -> None:
    torch.manual_seed(3)
    model = joined().eval()
    clips = torch.randn(2, 2, 3, 4, 32, 32)  # (N, S, C, T, H, W)
    flat = clips.flatten(0, 1)
    partners = (2, 2, 0, 0)
    with torch.no_grad():
        assert torch.equal(model(clips, clips, partners), model(flat, flat, partners))


@pytest.mark.parametrize(
    ("clips", "message"), [((2, 2, 4, 32, 32), "C = 3"), ((2, 3, 3, 32, 32), "at least 4 x 4 x 4")]
)
def test_clips_that_do_not_fit_are_refused(clips: tuple[int, ...], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        joined()(torch.randn(clips), torch.randn(2, 3, 4, 32, 32), (1, 0))


def test_without_partners_there_are_matching_pairs_alone() -> None:
    torch.manual_seed(2)
    clips = torch.randn(2, 3, 4, 32, 32)
    model = joined().eval()
    with torch.no_grad():
        torch.testing.assert_close(model(clips, clips, ()), model(clips, clips, (1, 0))[:2])
