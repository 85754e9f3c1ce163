"""I3D: sizes, padding, parameters, training."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from dualstream.errors import InputError, UnknownNameError
from dualstream.models import set_trainable
from dualstream.models.zoo.i3d import I3D, SamePool, SameUnit, i3d, inception_v1, same_padding


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [
        (224, 7, 2, (2, 3)),
        (225, 7, 2, (3, 3)),
        (64, 7, 2, (2, 3)),
        (1, 7, 2, (3, 3)),
        (2, 7, 2, (2, 3)),
        (112, 3, 2, (0, 1)),
        (113, 3, 2, (1, 1)),
        (14, 2, 2, (0, 0)),
        (7, 2, 2, (0, 1)),
        (8, 3, 1, (1, 1)),
        (8, 1, 1, (0, 0)),
        (9, 1, 4, (0, 0)),
    ],
)
def test_same_padding(size: int, kernel: int, stride: int, expected: tuple[int, int]) -> None:
    """By hand from TensorFlow's rule: ceil(size / stride) outputs, the odd one after."""
    assert same_padding(size, kernel=kernel, stride=stride) == expected


@pytest.mark.parametrize(
    ("in_channels", "parameters"), [(3, 12_697_264), (2, 12_675_312)], ids=["rgb", "flow"]
)
def test_parameters(in_channels: int, parameters: int) -> None:
    """published.md: counted from public code, gains of the batch norms included."""
    with torch.device("meta"):
        model = i3d(num_classes=400, in_channels=in_channels)
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize(
    ("size", "features"),
    [
        ((64, 224, 224), (8, 7, 7)),
        ((79, 224, 224), (10, 7, 7)),
        ((9, 193, 225), (2, 7, 8)),
        ((1, 1, 1), (1, 1, 1)),
        ((16, 112, 128), (2, 4, 4)),
    ],
)
def test_features_are_an_eighth_and_a_32nd_rounded_up(
    size: tuple[int, int, int], features: tuple[int, int, int]
) -> None:
    sizes = []
    with torch.device("meta"):
        model = i3d(num_classes=2).eval()
        model.mixed_5[1].register_forward_hook(lambda _m, _i, y: sizes.append(tuple(y.shape)))
        logits = model(torch.zeros(1, 3, *size))
    assert logits.shape == (1, 2)
    assert sizes == [(1, 1024, *features)]


@pytest.mark.parametrize("size", [(5, 7, 8), (4, 6, 9), (1, 2, 3)])
@pytest.mark.parametrize(
    ("kernel", "stride"), [((3, 3, 3), (2, 2, 2)), ((2, 2, 2), (2, 2, 2)), ((1, 3, 3), (1, 2, 2))]
)
def test_pool_is_that_of_tensorflow(
    size: tuple[int, int, int], kernel: tuple[int, int, int], stride: tuple[int, int, int]
) -> None:
    x = torch.randn(2, 3, *size) - 3  # negative: a zero of padding would win
    pads = [same_padding(n, kernel=k, stride=s) for n, k, s in zip(size, kernel, stride)]  # noqa: B905
    (t, h, w) = pads
    padded = nn.functional.pad(x, (*w, *h, *t), value=float("-inf"))
    expected = nn.functional.max_pool3d(padded, kernel, stride)
    torch.testing.assert_close(SamePool(kernel, stride=stride)(x), expected)


def test_units_have_the_authors_batch_norm() -> None:
    with torch.device("meta"):
        model = i3d(num_classes=2)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm3d)]
    assert len(norms) == 57
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}
    assert model.dropout.p == 0.5


def test_still_clip_gives_what_its_frame_gives_with_repeated_ends() -> None:
    torch.manual_seed(0)
    model = i3d(num_classes=4, time_padding="repeat").eval()
    zeros = i3d(num_classes=4).eval()
    zeros.load_state_dict(model.state_dict())
    frame = torch.rand(1, 3, 1, 40, 40)
    with torch.inference_mode():
        once = model(frame)
        for length in (2, 5, 16):
            still = frame.expand(-1, -1, length, -1, -1)
            torch.testing.assert_close(model(still), once, rtol=1e-4, atol=1e-4)
        assert (zeros(still) - once).abs().max() > 1e-2 * once.abs().max()


def test_unit_with_steps_sees_the_ends_again() -> None:
    """By hand: ones over 3 frames at stride 2 on 1, 2, 3, 4; SAME pads one frame, after."""
    for padding, expected in (("zeros", [6.0, 7.0]), ("repeat", [6.0, 11.0])):
        unit = SameUnit(1, 1, (3, 1, 1), stride=(2, 1, 1), time_padding=padding)
        nn.init.ones_(unit.conv.weight)
        unit.norm = nn.Identity()  # type: ignore[assignment]
        x = torch.arange(1.0, 5).reshape(1, 1, 4, 1, 1)
        assert unit(x).flatten().tolist() == expected


def test_non_local_blocks_start_as_the_identity() -> None:
    torch.manual_seed(0)
    plain = i3d(num_classes=3).eval()
    extended = i3d(num_classes=3, non_local={"mixed_3": [1], "mixed_4": [0, 4]}).eval()
    missing = extended.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert len(missing) == 3 * 12  # torch never misses the counter of a batch norm
    assert all(".non_local." in key for key in missing)
    clip = torch.rand(1, 3, 8, 48, 48)
    with torch.inference_mode():
        assert torch.equal(extended(clip), plain(clip))
    with pytest.raises(UnknownNameError, match="Allowed: mixed_3, mixed_4, mixed_5"):
        i3d(num_classes=3, non_local={"stem": [0]})


def saved_bytes(model: I3D, clips: torch.Tensor) -> int:
    """Bytes of activations that a forward pass keeps for the backward pass."""
    own = {p.data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model(clips)
    del logits
    return sum(kept.values())


def test_checkpointing_keeps_less() -> None:
    clips = torch.rand(1, 3, 16, 64, 64)
    plain = saved_bytes(i3d(num_classes=3), clips)
    saving = saved_bytes(i3d(num_classes=3, checkpointing=True), clips)
    assert saving < 0.25 * plain


def test_stages_are_trained_from_the_end() -> None:
    with torch.device("meta"):
        model = i3d(num_classes=3)
    assert model.stages() == (model.stem, model.mixed_3, model.mixed_4, model.mixed_5)
    set_trainable(model, 1)
    trained = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"mixed_5", "classifier"}


def test_inception_v1_looks_at_each_frame_by_itself() -> None:
    torch.manual_seed(0)
    model = inception_v1(num_classes=5).eval()
    clip = torch.rand(1, 3, 4, 48, 50)
    with torch.inference_mode():
        frames = torch.stack([model(clip[:, :, t : t + 1]) for t in range(4)])
        torch.testing.assert_close(model(clip), frames.mean(dim=0), rtol=1e-4, atol=1e-5)
    with torch.device("meta"):
        flat = inception_v1(num_classes=1000)
    assert {m.kernel_size[0] for m in flat.modules() if isinstance(m, nn.Conv3d)} == {1}


def test_wrong_options_are_named() -> None:
    with pytest.raises(UnknownNameError, match="time_padding 'reflect'"):
        i3d(num_classes=2, time_padding="reflect")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="dropout"):
        i3d(num_classes=2, dropout=1.0)


def test_copies_work() -> None:
    model = i3d(num_classes=2, time_padding="repeat").eval()
    clip = torch.rand(1, 3, 3, 16, 16)
    assert torch.equal(copy.deepcopy(model)(clip), model(clip))
