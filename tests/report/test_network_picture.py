"""The picture of a network: well formed, self-contained, and with the table's numbers."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from torch import nn

from dualstream.errors import InputError, ReportError
from dualstream.models.inspect import LayerRow, NetworkTable, inspect_network
from dualstream.report.network_picture import network_svg, write_network_picture

SVG = "{http://www.w3.org/2000/svg}"


def row(name: str, field: tuple[int | None, ...] | None, **changes: object) -> LayerRow:
    values: dict[str, object] = {
        "name": name,
        "kind": "Conv3d",
        "calls": 1,
        "output_size": (12, 16, 64, 64),
        "positions": (16, 64, 64),
        "receptive_field": field,
        "stride": (1, 1, 1),
        "parameters": 10,
        "multiply_adds": 1000,
        **changes,
    }
    return LayerRow(**values)  # type: ignore[arg-type]


def table(*rows: LayerRow, size: tuple[int, int, int, int] = (3, 16, 64, 64)) -> NetworkTable:
    return NetworkTable(
        name="a <net> & more",
        input_size=size,
        rows=rows,
        parameters=sum(r.parameters for r in rows),
        multiply_adds=sum(r.multiply_adds for r in rows),
    )


def drawn(shown: NetworkTable) -> ElementTree.Element:
    return ElementTree.fromstring(network_svg(shown))


def texts(root: ElementTree.Element) -> list[str]:
    return ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]


def test_shows_fields_positions_names_and_totals() -> None:
    root = drawn(
        table(
            row("conv1", (3, 7, 7)),
            row("res2", (9, 99, 99), positions=(8, 32, 32), stride=(2, 2, 2)),
            row("(mean)", (16, 64, 64), positions=(None,) * 3, stride=(None,) * 3),
        )
    )
    shown = texts(root)
    assert {"conv1", "res2", "(mean)", "a <net> & more"} <= set(shown)
    assert {"3", "9", "16", "7", "99", "64", "8", "32"} <= set(shown)
    assert "Space (height and width), pixels" in shown
    assert any("30 parameters" in text for text in shown)
    titles = ["".join(element.itertext()) for element in root.iter(f"{SVG}title")]
    assert any("conv1 (Conv3d)" in title and "sees 3 frames" in title for title in titles)


def test_bars_are_as_long_as_fields() -> None:
    """A field of half the input is half as long as the input; what is beyond is pale."""
    root = drawn(table(row("half", (8, 32, 32)), row("beyond", (17, 80, 80))))
    (ground, *_) = [e for e in root.iter(f"{SVG}rect") if e.get("class") == "input"]
    whole = float(ground.get("height") or 0)
    bars = [e for e in root.iter(f"{SVG}rect") if e.get("class") == "bar"]
    heights = [float(bar.get("height") or 0) for bar in bars]
    assert heights[0] == pytest.approx(whole / 2, abs=0.1)
    pale = [
        float(e.get("height") or 0) for e in root.iter(f"{SVG}rect") if e.get("class") == "over"
    ]
    assert pale[0] == pytest.approx(whole / 2, abs=0.1)
    assert pale[2] == pytest.approx(whole * 17 / 16, abs=0.1)
    assert pale[3] > whole


def test_ticks_stand_where_positions_are() -> None:
    root = drawn(table(row("four", (8, 32, 32), positions=(4, 64, 65), stride=(4, 1, 1))))
    paths = [e.get("d") or "" for e in root.iter(f"{SVG}path") if e.get("class") == "ticks"]
    assert [path.count("M") for path in paths] == [4, 64, 1]  # 65 are a line
    places = [float(y) for y in re.findall(r"M[\d.]+ ([\d.]+)h", paths[0])]
    steps = {round(b - a, 1) for a, b in pairwise(places)}
    assert max(steps) - min(steps) <= 0.11  # 4 of 16 frames, rounded to a tenth of a pixel


def test_height_and_width_are_apart_where_they_differ() -> None:
    wide = drawn(table(row("conv", (1, 3, 3)), size=(3, 16, 64, 96)))
    assert {"Height, pixels", "Width, pixels"} <= set(texts(wide))
    strips = drawn(table(row("conv", (1, 3, 1))))
    assert {"Height, pixels", "Width, pixels"} <= set(texts(strips))


def test_every_input_is_drawn_where_lengths_differ() -> None:
    sizes = {"rgb": (3, 32, 64, 64), "flow": (2, 8, 64, 64)}
    shown = replace(table(row("conv", (1, 3, 3))), input_size=sizes)
    root = drawn(shown)
    assert {"rgb 32", "flow 8", "64"} <= set(texts(root))
    heights = [
        float(e.get("height") or 0) for e in root.iter(f"{SVG}rect") if e.get("class") == "input"
    ]
    assert heights[0] == pytest.approx(4 * heights[1], abs=0.3)
    assert len(heights) == 3  # two of time, one of space


def test_unknown_fields_are_a_question_mark() -> None:
    shown = texts(drawn(table(row("roll", (1, None, None)))))
    assert shown.count("?") == 1
    with pytest.raises(InputError, match="No layer of"):
        network_svg(table(row("cls_token", None)))


def test_needs_nothing_else_and_follows_light_and_dark() -> None:
    text = network_svg(table(row("conv", (1, 3, 3))))
    assert "prefers-color-scheme: dark" in text
    assert "href" not in text
    assert "<script" not in text
    assert re.findall(r"https?://[^\"]+", text) == ["http://www.w3.org/2000/svg"]


def test_real_network() -> None:
    net = nn.Sequential(nn.Conv3d(3, 4, 3, padding=1), nn.MaxPool3d(2), nn.Conv3d(4, 8, 3))
    root = drawn(inspect_network(net, input_size=(3, 8, 16, 16)))
    assert {"0", "1", "2"} <= set(texts(root))


def test_writing(tmp_path: Path) -> None:
    shown = table(row("conv", (1, 3, 3)))
    path = write_network_picture(tmp_path / "a" / "b.svg", shown)
    assert path.read_text(encoding="utf-8") == network_svg(shown)
    with pytest.raises(InputError, match=r"ends in \.svg"):
        write_network_picture(tmp_path / "b.png", shown)
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportError, match="cannot be written"):
        write_network_picture(tmp_path / "file" / "b.svg", shown)
