"""The table of a network: rows, grouping, the lecture's receptive fields, what is not known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from dualstream.errors import InputError, ShapeError, UnknownNameError
from dualstream.models import create_model, list_models
from dualstream.models.inspect import LayerRow, inspect_network, usual_input_size

# EECS 498 (Johnson), lecture 18, on 3 x 20 x 64 x 64: kind, output size, receptive field.
LATE = [
    ("Conv3d", (12, 20, 64, 64), (1, 3, 3)),
    ("MaxPool3d", (12, 20, 16, 16), (1, 6, 6)),
    ("Conv3d", (24, 20, 16, 16), (1, 14, 14)),
    ("AdaptiveAvgPool3d", (24, 1, 1, 1), (20, 64, 64)),
]
EARLY = [
    ("Conv2d", (12, 64, 64), (20, 3, 3)),
    ("MaxPool2d", (12, 16, 16), (20, 6, 6)),
    ("Conv2d", (24, 16, 16), (20, 14, 14)),
    ("AdaptiveAvgPool2d", (24, 1, 1), (20, 64, 64)),
]
CNN_3D = [
    ("Conv3d", (12, 20, 64, 64), (3, 3, 3)),
    ("MaxPool3d", (12, 5, 16, 16), (6, 6, 6)),
    ("Conv3d", (24, 5, 16, 16), (14, 14, 14)),
    ("AdaptiveAvgPool3d", (24, 1, 1, 1), (20, 64, 64)),
]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lecture_late_fusion", LATE),
        ("lecture_early_fusion", EARLY),
        ("lecture_3d_cnn", CNN_3D),
    ],
)
def test_table_of_the_lecture(name: str, expected: list[tuple]) -> None:
    table = inspect_network(create_model(name, num_classes=10), input_size=(3, 20, 64, 64))
    assert [(row.kind, row.output_size, row.receptive_field) for row in table.rows[:4]] == expected
    assert table.rows[4].name == "classifier"
    assert len(table.rows) == 5


class FramesInTheBatch(nn.Module):
    """The lecture's late fusion as a 2D network over frames."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 12, 3, padding=1)
        self.pool = nn.MaxPool2d(4)
        self.conv2 = nn.Conv2d(12, 24, 3, padding=1)
        self.classifier = nn.Linear(24, 10)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        frames = clips.transpose(1, 2).flatten(0, 1)
        maps = self.conv2(self.pool(self.conv1(frames).relu())).relu()
        vectors = maps.mean(dim=(2, 3)).reshape(len(clips), clips.shape[2], -1)
        return self.classifier(vectors.mean(dim=1))


def test_frames_in_the_batch_are_frames_all_the_same() -> None:
    table = inspect_network(FramesInTheBatch(), input_size=(3, 20, 64, 64))
    assert [(row.output_size, row.receptive_field) for row in table.rows[:3]] == [
        (size, field) for _, size, field in LATE[:3]
    ]
    over_space, over_time = table.rows[3:5]
    assert (over_space.name, over_space.output_size) == ("(mean)", (24, 20))
    assert over_space.receptive_field == (1, 64, 64)
    assert (over_time.name, over_time.receptive_field) == ("(mean)", (20, 64, 64))


def test_rows_of_a_residual_network() -> None:
    """Fields by hand: 3 x 7 x 7, then 2 x 2 per block at the stride so far."""
    with torch.device("meta"):
        model = create_model("r3d_18", num_classes=400)
    table = inspect_network(model, input_size=(3, 16, 112, 112), depth=1)
    assert [(row.name, row.output_size, row.receptive_field, row.stride) for row in table.rows] == [
        ("stem", (64, 16, 56, 56), (3, 7, 7), (1, 2, 2)),
        ("res2", (64, 16, 56, 56), (11, 23, 23), (1, 2, 2)),
        ("res3", (128, 8, 28, 28), (25, 51, 51), (2, 4, 4)),
        ("res4", (256, 4, 14, 14), (53, 107, 107), (4, 8, 8)),
        ("res5", (512, 2, 7, 7), (109, 219, 219), (8, 16, 16)),
        ("(mean)", (512,), (16, 112, 112), (None, None, None)),
        ("classifier", (400,), (16, 112, 112), (None, None, None)),
    ]
    assert table.row("stem").multiply_adds == 64 * 16 * 56 * 56 * 3 * 3 * 7 * 7
    assert table.row("stem").positions == (16, 56, 56)
    assert table.row("classifier").parameters == 513 * 400


def test_depths_say_the_same_in_other_detail() -> None:
    with torch.device("meta"):
        model = create_model("x3d_s", num_classes=10)
    tables = {
        depth: inspect_network(model, input_size=(3, 4, 64, 64), depth=depth)
        for depth in (1, 2, "auto", "all")
    }
    assert len({(t.parameters, t.multiply_adds) for t in tables.values()}) == 1
    for table in tables.values():
        assert sum(row.parameters for row in table.rows) == table.parameters
        assert sum(row.multiply_adds for row in table.rows) == table.multiply_adds
    counts = [len(tables[depth].rows) for depth in (1, 2, "all")]
    assert counts == sorted(set(counts))
    assert len(tables["auto"].rows) <= 40
    assert tables["all"].row("res2.0.non_local").kind == "Identity"
    with pytest.raises(UnknownNameError):
        tables["auto"].row("res2.0.non_local")


class Odds(nn.Module):
    """A parameter of its own, a layer that is never called, one that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3, 1, 1, 1))
        self.inner = nn.Sequential(nn.Conv3d(3, 3, 3, padding=1), nn.Conv3d(3, 3, 1))
        self.unused = nn.Linear(7, 2)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.inner(self.inner(clips * self.scale))


def test_parameters_outside_of_layers_and_repeated_layers() -> None:
    table = inspect_network(Odds(), input_size=(3, 4, 8, 8), depth=1)
    assert [(row.name, row.kind, row.calls, row.parameters) for row in table.rows] == [
        ("scale", "Parameter", 1, 3),
        ("unused.weight", "Parameter", 1, 14),
        ("unused.bias", "Parameter", 1, 2),
        ("inner", "Sequential", 2, 246 + 12),
    ]
    assert table.rows[0].receptive_field is None
    inner = table.row("inner")
    assert inner.receptive_field == (5, 5, 5)
    assert inner.multiply_adds == 2 * (3 * 4 * 8 * 8) * (81 + 3)


class TwoOutputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv3d(3, 4, 3, padding=1)
        self.narrow = nn.Conv3d(3, 2, 1)

    def forward(self, clips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.wide(clips), self.narrow(clips)


def test_parts_with_several_outputs_are_shown_in_parts() -> None:
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.both = TwoOutputs()

        def forward(self, clips: torch.Tensor) -> torch.Tensor:
            return torch.cat(self.both(clips), dim=1)

    table = inspect_network(Whole(), input_size=(3, 4, 8, 8), depth=1)
    assert [row.name for row in table.rows] == ["both.wide", "both.narrow"]
    assert table.row("both.narrow").receptive_field == (1, 1, 1)


class After(nn.Module):
    """A function of a 1x3x3 convolution."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 3, (1, 3, 3), padding=(0, 1, 1))
        self.function = function

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.function(self.conv(clips))


@pytest.mark.parametrize(
    ("function", "field", "note"),
    [
        (lambda x: nn.functional.interpolate(x, scale_factor=2), (None,) * 3, "upsample_nearest3d"),
        (lambda x: torch.fft.rfft(x, dim=2).abs(), (None,) * 3, "_fft_r2c"),
        (lambda x: x.flatten(3)[..., 3:50].roll(2, dims=3), (None,) * 3, "roll"),
        (lambda x: x.roll(1, dims=2).mean(dim=2), (None,) * 3, "roll"),
        (lambda x: nn.functional.conv3d(x, x[:, :, :1, :1, :1]), (None,) * 3, "convolution"),
    ],
)
def test_what_cannot_be_followed_is_said(
    function: Callable[[torch.Tensor], torch.Tensor], field: tuple[None, ...], note: str
) -> None:
    table = inspect_network(nn.Sequential(After(function), nn.ReLU()), input_size=(3, 4, 8, 8))
    last = table.rows[-1]
    assert last.receptive_field == field
    assert note in [row.kind for row in table.rows]
    assert note in table.notes[0]
    assert table.notes[0].startswith("0: ")


def shifted(x: torch.Tensor) -> torch.Tensor:
    """TSM's shift: some channels from the next frame, some from the last."""
    out = torch.zeros_like(x)
    out[:, :1, :-1] = x[:, :1, 1:]
    out[:, 1:2, 1:] = x[:, 1:2, :-1]
    out[:, 2:] = x[:, 2:]
    return out


@pytest.mark.parametrize(
    ("function", "field"),
    [
        (lambda x: x[:, :, [2, 0, 3, 1]], (1, 3, 3)),
        (lambda x: torch.cat([x[:, :, 2:], x[:, :, :2]], dim=2), (1, 3, 3)),
        (lambda x: nn.Conv3d(3, 3, 1)(shifted(x)), (3, 3, 3)),
    ],
)
def test_entries_moved_about_are_followed(
    function: Callable[[torch.Tensor], torch.Tensor], field: tuple[int, ...]
) -> None:
    table = inspect_network(After(function), input_size=(3, 4, 8, 8), depth="all")
    assert table.notes == ()
    output = inspect_network(
        nn.Sequential(After(function), nn.ReLU()), input_size=(3, 4, 8, 8), depth="all"
    )
    assert output.rows[-1].receptive_field == field


class Indexed(nn.Module):
    """Frames chosen by a buffer and by torch's own sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("index", torch.tensor([1, 5, 9]))

    def forward(self, clips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        evenly = torch.linspace(0, 11, 3, device=clips.device).long()  # 0, 5, 11
        return clips.index_select(2, self.index), clips[:, :, evenly]


def test_indices_are_known_without_computing_the_network() -> None:
    model = nn.Sequential(Indexed(), nn.Identity())
    table = inspect_network(model, input_size=(3, 12, 8, 8), depth="all")
    assert table.notes == ()
    assert table.row("0").stride == (4, 1, 1)
    assert table.row("0").receptive_field == (1, 1, 1)


def test_products_outside_of_layers_have_rows() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.key = nn.Conv3d(2, 5, 1)

        def forward(self, clips: torch.Tensor) -> torch.Tensor:
            key = self.key(clips).flatten(2)  # (N, 5, n)
            return (key.transpose(1, 2) @ key).softmax(dim=2) @ clips.flatten(2).transpose(1, 2)

    table = inspect_network(Attention(), input_size=(2, 3, 4, 4))
    assert [(row.name, row.multiply_adds, row.receptive_field) for row in table.rows] == [
        ("key", 48 * 2 * 5, (1, 1, 1)),
        ("(bmm)", 48 * 48 * 5, (3, 4, 4)),
        ("(bmm)", 48 * 48 * 2, (3, 4, 4)),
    ]
    assert table.multiply_adds == 48 * (10 + 48 * 7)


def test_networks_of_several_streams_take_a_mapping() -> None:
    class TwoStreams(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rgb = nn.Conv3d(3, 4, (1, 3, 3), padding=(0, 1, 1))
            self.flow = nn.Conv3d(2, 4, (5, 1, 1))

        def forward(self, clips: dict[str, torch.Tensor]) -> torch.Tensor:
            return (self.rgb(clips["rgb"]) + self.flow(clips["flow"])).mean(dim=(3, 4))

    sizes = {"rgb": (3, 1, 8, 8), "flow": (2, 5, 8, 8)}
    table = inspect_network(TwoStreams(), input_size=sizes)
    assert [(row.name, row.receptive_field) for row in table.rows] == [
        ("rgb", (1, 3, 3)),
        ("flow", (5, 1, 1)),
        ("(mean)", (5, 8, 8)),
    ]
    assert table.multiply_adds == 64 * 4 * (27 + 10)
    assert table.lengths == (5, 8, 8)
    with pytest.raises(ShapeError, match="cannot be run on rgb 3 x 1 x 8 x 8, flow 1 x 5 x 8 x 8"):
        inspect_network(TwoStreams(), input_size={**sizes, "flow": (1, 5, 8, 8)})


def test_the_network_is_left_as_it_was() -> None:
    model = create_model("lecture_3d_cnn", num_classes=3)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.train()
    inspect_network(model, input_size=(3, 8, 16, 16))
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(parameter.is_meta for parameter in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not nn.modules.module._global_forward_hooks
    assert not nn.modules.module._global_forward_pre_hooks


def test_bad_calls() -> None:
    model = create_model("lecture_3d_cnn", num_classes=3)
    with pytest.raises(InputError, match="C, T, H, W of at least 1"):
        inspect_network(model, input_size=(3, 0, 16, 16))
    with pytest.raises(InputError, match="C, T, H, W of at least 1"):
        inspect_network(model, input_size=(3, 16, 16))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="depth must be at least 1"):
        inspect_network(model, input_size=(3, 8, 16, 16), depth=0)
    with pytest.raises(UnknownNameError, match="auto, all"):
        inspect_network(model, input_size=(3, 8, 16, 16), depth="every")  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="at least 4 x 4 x 4"):
        inspect_network(model, input_size=(3, 2, 16, 16))
    with pytest.raises(ShapeError, match="C = 3"):
        inspect_network(model, input_size=(2, 8, 16, 16))
    with pytest.raises(ShapeError, match="cannot be run on 3 x 1 x 2 x 2"):
        inspect_network(nn.Conv3d(3, 1, 3), input_size=(3, 1, 2, 2))
    assert not nn.modules.module._global_forward_hooks


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("r3d_18", {}, (3, 16, 112, 112)),
        ("lecture_early_fusion", {"in_channels": 2}, (2, 20, 112, 112)),
        ("single_frame", {}, (3, 16, 170, 170)),
        ("cnn_m_2048", {"in_channels": 2, "length": 10}, (2, 10, 224, 224)),
        ("tsn", {"backbone": "vit_tiny_patch16_224"}, (3, 1, 224, 224)),
    ],
)
def test_usual_input_size(name: str, options: dict, expected: tuple[int, ...]) -> None:
    with torch.device("meta"):
        model = create_model(name, num_classes=5, **options)
    assert usual_input_size(model) == expected


DEEP = {
    *("cross_attention", "s3d", "slowfast_r101_16x8", "slowfast_r101_8x8", "t3d_169", "x3d_l"),
    "x3d_xl",
}
"""Networks with so many layers that following them takes seconds; smaller kin remain."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in DEEP else [])
        for name in list_models()
    ],
)
def test_every_network_is_followed_to_its_logits(name: str) -> None:
    """The classifier sees the whole clip, or all that the network uses of it; each tower has its
    own."""
    with torch.device("meta"):
        model = create_model(name, num_classes=7)
    size = usual_input_size(model, wanted=(10, 64, 64))
    table = inspect_network(model, input_size=size, depth=1)
    assert table.notes == ()
    if not model.towers():
        assert table.row("classifier").receptive_field == size[1:]
    assert all(row.receptive_field is not None for row in table.rows if row.kind != "Parameter")
    assert isinstance(table.rows[0], LayerRow)
    assert table.name == name
