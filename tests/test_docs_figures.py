"""Figures of docs/networks: drawn anew they are the committed ones, and their shapes are true."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "figures"


@pytest.fixture(scope="module")
def draw() -> Iterator[ModuleType]:
    """The script that draws them."""
    sys.path.insert(0, str(FOLDER))
    try:
        yield importlib.import_module("draw")
    finally:
        sys.path.remove(str(FOLDER))


def test_committed_figures_are_those_of_the_script(draw: ModuleType) -> None:
    drawn = {f"{figure.name}.svg": draw.svg(figure) for figure in draw.FIGURES}
    assert drawn.keys() == {path.name for path in FOLDER.glob("*.svg")}
    for name, text in drawn.items():
        assert (FOLDER / name).read_text(encoding="utf-8") == text, (
            f"run docs/figures/draw.py: {name}"
        )


def test_no_box_lies_on_another_and_text_fits(draw: ModuleType) -> None:
    for figure in draw.FIGURES:
        places = []
        for box in figure.boxes:
            left, top = draw.corner(box)
            assert max(map(len, draw.lines_of(box))) <= 21, (figure.name, box.text)
            places.append((left, top, left + draw.WIDTH, top + draw.height_of(box)))
        for number, (a, b, c, d) in enumerate(places):
            for x, y, z, w in places[:number]:
                assert c <= x or z <= a or d <= y or w <= b, (
                    figure.name,
                    figure.boxes[number].text,
                )


@pytest.mark.slow
def test_shapes_are_those_of_the_networks(draw: ModuleType) -> None:
    import torch

    from dualstream.engine.recipe import load_recipe
    from dualstream.engine.run.checkpoint import build_model
    from dualstream.models.inspect import inspect_network

    told: dict[str, dict[str, str]] = {}
    for figure in draw.FIGURES:
        for box in figure.boxes:
            if box.layer:
                recipe, _, layer = box.layer.partition(":")
                told.setdefault(recipe, {})[layer] = box.shape
    for name, layers in told.items():
        recipe = load_recipe(name)
        side = recipe.clip.crop_size
        with torch.device("meta"):
            model = build_model(recipe, 400, with_weights=False)
        streams = recipe.clip_spec().streams.items()
        sizes = {stream: (seen.channels, seen.num_frames, side, side) for stream, seen in streams}
        size = sizes if len(sizes) > 1 else next(iter(sizes.values()))
        tables = {
            depth: inspect_network(model, input_size=size, depth=depth)
            for depth in sorted({layer.count(".") + 1 for layer in layers})
        }
        for layer, shape in layers.items():
            row = tables[layer.count(".") + 1].row(layer)
            assert "x".join(map(str, row.output_size)) == shape, f"{name}: {layer}"
