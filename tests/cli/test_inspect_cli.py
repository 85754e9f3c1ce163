"""`dualstream inspect` as a user calls it."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import typer
from typer.testing import CliRunner

from dualstream.cli.inspect import by, inspect, metric
from dualstream.errors import InputError, ShapeError, UnknownNameError, WeightsError

Call = Callable[..., str]


@pytest.fixture
def call() -> Call:
    """Function (arguments) -> standard output of the command."""
    app = typer.Typer(rich_markup_mode=None)
    app.command()(inspect)

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


def test_table_of_the_lecture(call: Call) -> None:
    """Lecture 18 of EECS 498: the 3D network on 3x20x64x64."""
    lines = call(
        "lecture_3d_cnn", "--input", "3x20x64x64", "--option", "num_classes=10"
    ).splitlines()
    assert lines[0].startswith("lecture_3d_cnn on 3x20x64x64")
    cells = [line.split() for line in lines]
    assert ["conv1", "Conv3d", "12x20x64x64", "3x3x3", "1x1x1", "984", "79.6", "M"] in cells
    assert ["conv2", "Conv3d", "24x5x16x16", "14x14x14", "4x4x4", "7,800", "9.95", "M"] in cells
    assert ["global_pool", "AdaptiveAvgPool3d", "24x1x1x1", "20x64x64"] in cells
    assert ["total", "9,034", "89.6", "M"] in cells


def test_no_line_is_cut_where_there_is_no_terminal(call: Call) -> None:
    out = call("tsn", "--option", "backbone=resnet18", "--input", "3x1x64x64")
    assert "…" not in out
    assert "11,381,712" in out


def test_json(call: Call) -> None:
    shown = json.loads(call("r3d_18", "--input", "3x16x112x112", "--depth", "1", "--json"))
    assert shown["parameters"] == 33_371_472
    assert shown["multiply_adds"] == 40_696_553_472
    assert shown["input_size"] == [3, 16, 112, 112]
    assert [row["name"] for row in shown["rows"]][:3] == ["stem", "res2", "res3"]
    assert shown["rows"][1]["receptive_field"] == [11, 23, 23]
    assert shown["rows"][1]["stride"] == [1, 2, 2]


def test_every_layer(call: Call) -> None:
    few = json.loads(call("c3d", "--json"))["rows"]
    every = json.loads(call("c3d", "--all", "--json"))["rows"]
    assert len(every) > len(few)
    assert "ReLU" in {row["kind"] for row in every} - {row["kind"] for row in few}


def test_options_change_the_network(call: Call) -> None:
    arguments = ("tsn", "--option", "backbone=resnet50", "--option", "in_channels=2")
    out = call(*arguments, "--option", "length=10", "--option", "num_classes=101", "--json")
    shown = json.loads(out)
    assert shown["input_size"] == [2, 10, 224, 224]
    assert shown["parameters"] == 23_768_293
    assert shown["rows"][0]["receptive_field"] == [10, 7, 7]


def test_options_are_read_as_overrides_of_a_recipe_are(call: Call) -> None:
    plain = call("x3d_xs", "--depth", "1", "--json")
    assert call("x3d_xs", "--option", "dropout=1e-1", "--depth", "1", "--json") == plain


def test_pretrained_weights_are_not_asked_for(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    real = timm.create_model

    def create_model(name: str, *, pretrained: bool = False, **options: Any) -> torch.nn.Module:
        assert not pretrained, "timm's weights were asked for"
        return real(name, **options)

    monkeypatch.setattr(timm, "create_model", create_model)
    small = ("tsn", "--option", "backbone=resnet18", "--input", "3x1x64x64", "--json")
    assert call(*small, "--option", "pretrained=true") == call(*small)
    with pytest.raises(InputError, match="pretrained of tsn must be bool"):
        call(*small, "--option", "pretrained=much")
    with pytest.raises(UnknownNameError, match="option of r3d_18"):
        call("r3d_18", "--option", "pretrained=true")


def test_input_is_that_of_the_recipe_or_weights(call: Call) -> None:
    assert json.loads(call("tsn", "--json", "--depth", "1"))["input_size"] == [3, 1, 224, 224]
    weights = ("tsn", "--weights", "efficientnet_lite0_imagenet", "--json", "--depth", "2")
    shown = json.loads(call(*weights))
    assert shown["input_size"] == [3, 1, 224, 224]
    assert "backbone.conv_stem" in [row["name"] for row in shown["rows"]]


def test_picture(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "new" / "net.svg"
    call("lecture_3d_cnn", "--input", "3x20x64x64", "--picture", str(path))
    assert ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_notes_are_printed(call: Call) -> None:
    swin = "backbone=swin_tiny_patch4_window7_224"
    out = call("tsn", "--option", swin)
    assert "1x?x?" in out
    assert "? backbone.layers.0.blocks.1: roll could not be followed in height and width" in out


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["r3d18"], UnknownNameError, "Did you mean 'r3d_18'"),
        (["r3d_18", "--input", "16x112x112"], InputError, "must look like 3x16x112x112"),
        (["r3d_18", "--input", "3xTx112x112"], InputError, "must look like 3x16x112x112"),
        (["r3d_18", "--input", "3x0x112x112"], InputError, "at least 1"),
        (["r3d_18", "--input", "2x16x112x112"], ShapeError, "C = 3"),
        (["r3d_18", "--option", "depth"], InputError, "must look like key=value"),
        (["r3d_18", "--option", "depth=[3"], InputError, r"--option 'depth=\[3' is not YAML"),
        (["r3d_18", "--option", "dept=3"], UnknownNameError, "option of r3d_18"),
        (["r3d_18", "--all", "--depth", "2"], InputError, "not both"),
        (["r3d_18", "--weights", "nothing"], UnknownNameError, "weights"),
        (["r3d_18", "--weights", "efficientnet_lite0_imagenet"], WeightsError, "for 'tsn'"),
        (["c3d", "--picture", "net.png"], InputError, "ends in .svg"),
    ],
)
def test_bad_calls(arguments: list[str], error: type[Exception], message: str, call: Call) -> None:
    with pytest.raises(error, match=message):
        call(*arguments)


@pytest.mark.parametrize(
    ("count", "text"),
    [(40_696_553_472, "40.7 G"), (205_200, "205 k"), (984, "984"), (10**9, "1 G"), (10**6, "1 M")],
)
def test_metric(count: int, text: str) -> None:
    assert metric(count) == text


def test_by() -> None:
    assert by((3, None, 112), missing="?") == "3x?x112"
    assert by((10.33, 4, 4)) == "10.33x4x4"
