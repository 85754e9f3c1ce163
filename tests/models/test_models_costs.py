"""Parameters and multiply-adds of every network that has published figures."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dualstream.models import create_model
from dualstream.models.inspect import inspect_network

ZOO = "pytorchvideo's and SlowFast's model zoos (crops of 256 pixels, X3D: as named)"
TORCHVISION = "torchvision's weights of the network"
COUNTED = "counted from public code"
DEEP = {"slowfast_r101_8x8", "slowfast_r101_16x8", "x3d_l"}
"""Networks of so many layers that counting takes seconds; smaller ones of their classes remain."""
NON_LOCAL = {"res3": [1, 3], "res4": [1, 3, 5]}

# network, options, parameters, input (C, T, H, W), billions of multiply-adds, source of those
PUBLISHED: list[tuple[str, dict[str, Any], int, tuple[int, int, int, int], float, str]] = [
    ("c3d", {"num_classes": 101}, 78_409_573, (3, 16, 112, 112), 38.55, COUNTED),
    ("i3d", {}, 12_697_264, (3, 64, 224, 224), 111.33, COUNTED),
    ("i3d", {"in_channels": 2}, 12_675_312, (2, 64, 224, 224), 102.52, COUNTED),
    ("s3d", {}, 8_320_048, (3, 64, 224, 224), 72.27, COUNTED),
    ("r3d_18", {}, 33_371_472, (3, 16, 112, 112), 40.70, TORCHVISION),
    ("mc3_18", {}, 11_695_440, (3, 16, 112, 112), 43.34, TORCHVISION),
    ("r2plus1d_18", {}, 31_505_325, (3, 16, 112, 112), 40.52, TORCHVISION),
    ("r2plus1d_34", {}, 63_697_175, (3, 32, 112, 112), 152, "Feichtenhofer et al. 2019, table 2"),
    ("c2d_r50", {}, 24_327_632, (3, 8, 256, 256), 25.89, ZOO),
    ("i3d_r50", {}, 28_043_472, (3, 8, 256, 256), 37.53, ZOO),
    ("r2plus1d_r50", {}, 28_107_600, (3, 16, 256, 256), 76.45, ZOO),
    ("slow_r50", {}, 32_454_096, (3, 8, 256, 256), 54.52, ZOO),
    ("slowfast_r50_4x16", {}, 34_480_216, (3, 32, 256, 256), 36.69, ZOO),
    ("slowfast_r50_8x8", {}, 34_566_488, (3, 32, 256, 256), 65.71, ZOO),
    ("slowfast_r101_8x8", {}, 62_826_968, (3, 32, 256, 256), 127.20, ZOO),
    ("slowfast_r101_16x8", {}, 53_774_808, (3, 64, 256, 256), 215.61, ZOO),
    ("x3d_xs", {}, 3_794_274, (3, 4, 160, 160), 0.60, ZOO),
    ("x3d_s", {}, 3_794_274, (3, 13, 160, 160), 1.96, ZOO),
    ("x3d_m", {}, 3_794_274, (3, 16, 224, 224), 4.73, ZOO),
    ("x3d_l", {}, 6_153_384, (3, 16, 312, 312), 18.37, ZOO),
    ("tsn", {"backbone": "resnet50"}, 24_327_632, (3, 1, 224, 224), 4.11, COUNTED),
    ("tsn", {"backbone": "resnet101"}, 43_319_760, (3, 1, 224, 224), 7.83, COUNTED),
    (
        "tsn",
        {"backbone": "resnet50", "in_channels": 2, "length": 10, "num_classes": 101},
        23_768_293,
        (2, 10, 224, 224),
        4.78,
        COUNTED,
    ),
    (
        "tsn",
        {"backbone": "resnet101", "in_channels": 2, "length": 10, "num_classes": 101},
        42_760_421,
        (2, 10, 224, 224),
        8.50,
        COUNTED,
    ),
]


def costs(name: str, options: dict[str, Any], size: tuple[int, int, int, int]) -> tuple[int, int]:
    """Parameters and multiply-adds, as `dualstream inspect` counts them."""
    key = (name, str(options), size)
    if key not in COUNTED_BEFORE:
        COUNTED_BEFORE[key] = _counted(name, options, size)
    return COUNTED_BEFORE[key]


COUNTED_BEFORE: dict[tuple[str, str, tuple[int, ...]], tuple[int, int]] = {}


def _counted(
    name: str, options: dict[str, Any], size: tuple[int, int, int, int]
) -> tuple[int, int]:
    with torch.device("meta"):
        model = create_model(name, **{"num_classes": 400, **options})
    table = inspect_network(model, input_size=size, depth=1)
    assert sum(row.parameters for row in table.rows) == table.parameters
    assert sum(row.multiply_adds for row in table.rows) == table.multiply_adds
    return table.parameters, table.multiply_adds


@pytest.mark.parametrize(
    ("name", "options", "parameters", "size", "billions", "source"),
    [
        pytest.param(
            *row,
            id="-".join([row[0], *map(str, row[1].values())]),
            marks=[pytest.mark.slow] if row[0] in DEEP else [],
        )
        for row in PUBLISHED
    ],
)
def test_published(
    name: str,
    options: dict[str, Any],
    parameters: int,
    size: tuple[int, int, int, int],
    billions: float,
    source: str,
) -> None:
    counted, multiply_adds = costs(name, options, size)
    assert counted == parameters
    assert multiply_adds / 1e9 == pytest.approx(billions, rel=0.02), source


# Figures of papers that differ from those above: other counters count norms and pooling too.
ALSO_PUBLISHED = [
    ("slow_r50", (3, 8, 256, 256), 54.75),
    ("slowfast_r50_8x8", (3, 32, 256, 256), 66.07),
    ("slowfast_r101_8x8", (3, 32, 256, 256), 126.4),
    ("slowfast_r101_16x8", (3, 64, 256, 256), 214.1),
    ("x3d_xs", (3, 4, 160, 160), 0.63),
    ("x3d_s", (3, 13, 160, 160), 2.03),
    ("x3d_m", (3, 16, 224, 224), 4.90),
    ("x3d_l", (3, 16, 312, 312), 18.93),
    ("r3d_18", (3, 16, 112, 112), 40.74),
    ("mc3_18", (3, 16, 112, 112), 43.40),
    ("r2plus1d_18", (3, 16, 112, 112), 40.64),
]


@pytest.mark.parametrize(
    ("name", "size", "billions"),
    [
        pytest.param(*row, marks=[pytest.mark.slow] if row[0] in DEEP else [])
        for row in ALSO_PUBLISHED
    ],
)
def test_figures_of_other_counters_agree(
    name: str, size: tuple[int, int, int, int], billions: float
) -> None:
    _, multiply_adds = costs(name, {}, size)
    assert multiply_adds / 1e9 == pytest.approx(billions, rel=0.06)


@pytest.mark.parametrize(
    ("kind", "millions"), [("embedded_gaussian", 35.4), ("dot_product", 35.4), ("gaussian", 31.7)]
)
def test_parameters_with_non_local_blocks(kind: str, millions: float) -> None:
    """MMAction2's I3D ResNet-50 with five non-local blocks."""
    options = {"non_local": NON_LOCAL, "non_local_kind": kind}
    parameters, _ = costs("i3d_r50", options, (3, 8, 64, 64))
    assert parameters / 1e6 == pytest.approx(millions, abs=0.05)


# Closed forms: outputs x window x channels of a group; rows x inner x columns.
LAYERS = [
    (torch.nn.Conv3d(3, 12, 3, padding=1), (3, 20, 64, 64), 12 * 20 * 64 * 64 * 3 * 27),
    (
        torch.nn.Conv3d(12, 24, (1, 5, 3), stride=2, groups=4),
        (12, 9, 11, 9),
        24 * 5 * 4 * 4 * 3 * 15,
    ),
    (torch.nn.ConvTranspose3d(4, 6, 2, stride=2), (4, 3, 5, 5), 4 * 3 * 5 * 5 * 6 * 8),
    (torch.nn.Linear(7, 5), (2, 3, 4, 7), 2 * 3 * 4 * 7 * 5),
    (torch.nn.BatchNorm3d(4), (4, 3, 5, 5), 0),
    (torch.nn.MaxPool3d(2), (4, 4, 6, 6), 0),
]


@pytest.mark.parametrize(("layer", "size", "multiply_adds"), LAYERS)
def test_closed_forms(
    layer: torch.nn.Module, size: tuple[int, int, int, int], multiply_adds: int
) -> None:
    assert inspect_network(layer, input_size=size).multiply_adds == multiply_adds


class OverFrames(torch.nn.Module):
    """A layer on (N, T, D) made of (N, C, T, H, W) with D = C * H * W."""

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        frames = clips.transpose(1, 2).flatten(2)
        if isinstance(self.layer, torch.nn.MultiheadAttention):
            seen: torch.Tensor = self.layer(frames, frames, frames, need_weights=False)[0]
            return seen
        states: torch.Tensor = self.layer(frames)[0]
        return states


def test_recurrent_layers_and_attention() -> None:
    """Hidden size 5, 7 frames of 12 numbers: four gates of an LSTM, three of a GRU."""
    size = (3, 7, 2, 2)
    lstm = OverFrames(torch.nn.LSTM(12, 5, num_layers=2, batch_first=True))
    assert inspect_network(lstm, input_size=size).multiply_adds == 7 * 4 * 5 * (12 + 5 + 5 + 5)
    gru = OverFrames(torch.nn.GRU(12, 5, batch_first=True))
    assert inspect_network(gru, input_size=size).multiply_adds == 7 * 3 * 5 * (12 + 5)
    attention = OverFrames(torch.nn.MultiheadAttention(12, 3, batch_first=True))
    projections, products = 4 * 7 * 12 * 12, 2 * 7 * 7 * 12
    assert inspect_network(attention, input_size=size).multiply_adds == projections + products
