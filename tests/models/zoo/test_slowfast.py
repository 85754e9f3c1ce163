"""SlowFast networks. Their logits are proved in the conversion's test."""

import pytest
import torch
from torch import nn

from dualstream.errors import InputError
from dualstream.models import create_model
from dualstream.models.zoo.slowfast import slow_indices, slowfast_r50_4x16, slowfast_r50_8x8


def on_meta(name, **options):
    with torch.device("meta"):
        return create_model(name, num_classes=400, **options)


def with_random_gains(model):
    """No residual branch is silent."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.weight, 0.3, 0.7)
    return model


@pytest.mark.parametrize(
    ("length", "alpha", "expected"),
    [
        (32, 8, [0, 10, 20, 31]),  # 4x16
        (32, 4, [0, 4, 8, 13, 17, 22, 26, 31]),  # 8x8
        (64, 4, [0, 4, 8, 12, 16, 21, 25, 29, 33, 37, 42, 46, 50, 54, 58, 63]),  # 16x8
        (8, 4, [0, 7]),
        (4, 4, [0]),
        (1, 4, [0]),
        (5, 4, [0, 4]),
        (9, 4, [0, 4, 8]),
    ],
)
def test_frames_of_the_slow_pathway(length, alpha, expected):
    assert slow_indices(length, alpha) == expected


@pytest.mark.parametrize("alpha", [4, 8])
def test_frames_are_those_of_the_reference(alpha):
    for length in range(alpha, 129, alpha):
        reference = torch.linspace(0, length - 1, length // alpha).long()
        assert slow_indices(length, alpha) == reference.tolist()


# Counted from public code: SlowFast's configurations, and pytorchvideo 0.1.5 for the last three.
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("slowfast_r50_4x16", 34_480_216),
        ("slowfast_r50_8x8", 34_566_488),
        ("slowfast_r101_8x8", 62_826_968),
        ("slowfast_r101_16x8", 53_774_808),
    ],
)
def test_parameters(name, count):
    assert sum(parameter.numel() for parameter in on_meta(name).parameters()) == count


# Feichtenhofer et al. 2019, table 1: channels of the slow pathway, T of both, side of both.
@pytest.mark.parametrize(
    ("name", "slow_frames", "fast_frames"),
    [
        ("slowfast_r50_4x16", 4, 32),
        ("slowfast_r50_8x8", 8, 32),
        ("slowfast_r101_8x8", 8, 32),
        ("slowfast_r101_16x8", 16, 64),
    ],
)
def test_sizes_at_the_published_input(name, slow_frames, fast_frames):
    model = on_meta(name)
    found = []
    for stage in model.stages():
        for pathway in (stage.slow, stage.fast):
            pathway.register_forward_hook(
                lambda module, seen, out: found.append(tuple(out.shape[1:]))
            )
    assert model(torch.zeros(1, 3, fast_frames, 224, 224, device="meta")).shape == (1, 400)
    expected = []
    for channels, side in ((64, 56), (256, 56), (512, 28), (1024, 14), (2048, 7)):
        expected.append((channels, slow_frames, side, side))
        expected.append((channels // 8, fast_frames, side, side))
    assert found == expected


def test_windows_in_time():
    model = on_meta("slowfast_r101_16x8")
    assert model.stem.slow[0].conv.kernel_size == (1, 7, 7)
    assert model.stem.fast[0].conv.kernel_size == (5, 7, 7)

    def windows(pathway):
        return [
            "".join(str(block.conv1.conv.kernel_size[0]) for block in getattr(stage, pathway))
            for stage in model.stages()[1:]
        ]

    assert windows("slow") == ["111", "1111", "333333" + "1" * 17, "333"]
    assert windows("fast") == ["333", "3333", "333333" + "1" * 17, "333"]


@pytest.mark.parametrize(
    ("name", "kernel", "alpha"),
    [
        ("slowfast_r50_4x16", 5, 8),
        ("slowfast_r50_8x8", 7, 4),
        ("slowfast_r101_8x8", 5, 4),
        ("slowfast_r101_16x8", 5, 4),
    ],
)
def test_lateral_connections(name, kernel, alpha):
    model = on_meta(name)
    laterals = [stage.lateral for stage in model.stages()]
    assert laterals[-1] is None
    for lateral, channels in zip(laterals[:-1], (8, 32, 64, 128), strict=True):
        assert lateral.conv.in_channels == channels
        assert lateral.conv.out_channels == 2 * channels
        assert lateral.conv.kernel_size == (kernel, 1, 1)
        assert lateral.conv.stride == (alpha, 1, 1)


def test_the_slow_pathway_sees_its_frames_and_the_fast_one_all():
    model = slowfast_r50_4x16(num_classes=3, in_channels=2).eval()
    seen = {}
    for name in ("slow", "fast"):
        getattr(model.stem, name).register_forward_pre_hook(
            lambda module, inputs, name=name: seen.update({name: inputs[0]})
        )
    clips = torch.randn(1, 2, 32, 8, 8)
    with torch.no_grad():
        model(clips)
    assert torch.equal(seen["slow"], clips[:, :, [0, 10, 20, 31]])
    assert torch.equal(seen["fast"], clips)


@pytest.mark.parametrize("length", [1, 3, 4, 5, 10])
def test_any_length(length):
    model = slowfast_r50_8x8(num_classes=3).eval()
    assert model.inputs["clip"].smallest == (1, 1, 1)
    with torch.no_grad():
        assert model(torch.randn(1, 3, length, 1, 1)).isfinite().all()


def test_non_local_blocks_are_in_the_slow_pathway_and_start_as_the_identity():
    places = {"res3": [1, 3], "res4": [1, 3, 5]}
    plain = with_random_gains(slowfast_r50_8x8(num_classes=3)).eval()
    model = slowfast_r50_8x8(num_classes=3, non_local=places).eval()
    missing, unexpected = model.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert {key.rsplit(".non_local.")[0] for key in missing} == {
        "res3.slow.1", "res3.slow.3", "res4.slow.1", "res4.slow.3", "res4.slow.5",
    }  # fmt: skip
    clips = torch.randn(1, 3, 8, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(clips), plain(clips))
    with pytest.raises(InputError, match=r"res4 has blocks 0..5, no 6"):
        on_meta("slowfast_r50_8x8", non_local={"res4": [6]})
