"""docs/networks.md says what is true: names, recipes, clips, sizes, costs, weights, commands."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from dualstream.engine.recipe import Recipe, load_recipe
from dualstream.engine.run.checkpoint import build_model
from dualstream.models import MODELS, WEIGHTS, list_weights, set_trainable
from dualstream.models.weights import weights_entry

PAGE = Path(__file__).resolve().parents[1] / "docs" / "networks.md"


@dataclass(frozen=True)
class Row:
    """One line of the tables."""

    network: str
    recipe: str
    borrowed: bool
    """The recipe of another network, marked with a star."""
    clip: str
    parameters: str
    multiply_adds: str
    top1_percent: str
    weights: tuple[str, ...]


def rows() -> list[Row]:
    found = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("| `") or len(cells) != 8:
            continue
        name, _, recipe, clip, parameters, cost, top1, weights = cells
        found.append(
            Row(
                network=name.strip("`"),
                recipe=recipe.removesuffix("*").strip().strip("`"),
                borrowed=recipe.endswith("*"),
                clip=clip,
                parameters=parameters,
                multiply_adds=cost,
                top1_percent=top1.partition(" ")[0],
                weights=tuple(re.findall("`([^`]+)`", weights)),
            )
        )
    return found


def recipe_of(row: Row) -> Recipe:
    return load_recipe(row.recipe, [f"model.name={row.network}"] if row.borrowed else [])


def test_every_network_stands_there_once() -> None:
    assert sorted(row.network for row in rows()) == sorted(MODELS)


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.network)
def test_a_row_is_true(row: Row) -> None:
    recipe = recipe_of(row)
    assert recipe.model.name == row.network
    side, several = recipe.clip.crop_size, len(recipe.inputs) > 1
    clips = {n: f"{seen.num_frames}x{seen.frame_stride}" for n, seen in recipe.inputs.items()}
    shown = " + ".join(f"{n} {clip}" if several else clip for n, clip in clips.items())
    assert row.clip == f"{shown}, {side}"
    with torch.device("meta"):
        model = build_model(recipe, 400, with_weights=False)
    assert row.parameters == f"{sum(p.numel() for p in model.parameters()):,}"
    streams = recipe.clip_spec().streams
    sizes = {n: (stream.channels, stream.num_frames, side, side) for n, stream in streams.items()}
    clip = {name: torch.empty(1, *size, device="meta") for name, size in sizes.items()}
    with FlopCounterMode(display=False) as counter:  # multiplications and additions
        model.eval()(clip if several else next(iter(clip.values())))
    assert row.multiply_adds == f"{counter.get_total_flops() / 2e9:.2f}"


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.network)
def test_the_weights_of_a_row_are_all_there_are(row: Row) -> None:
    assert row.weights == tuple(n for n in list_weights() if WEIGHTS[n].model == row.network)
    if row.weights and row.network != "tsn":
        assert row.top1_percent == f"{WEIGHTS[row.weights[0]].top1_percent}"


def test_commands_can_be_given() -> None:
    lines = re.findall(r"^\$ .*dualstream train (.*)$", PAGE.read_text(encoding="utf-8"), re.M)
    assert len(lines) == 13
    runs = set()
    for line in lines:
        words = shlex.split(line)
        runs.add(words[words.index("--out") + 1])
        overrides = [word for word in words if "=" in word]
        recipe = load_recipe(words[words.index("--recipe") + 1], overrides)
        if isinstance(recipe.model.weights, str) and recipe.model.weights not in runs:
            assert weights_entry(recipe.model.weights).model == recipe.model.name
        with torch.device("meta"):
            set_trainable(build_model(recipe, 5, with_weights=False), recipe.model.trainable)
