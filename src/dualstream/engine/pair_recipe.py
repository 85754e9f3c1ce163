"""The recipe of several networks that see a stream each, and of the fusion of their scores.

    title: TSN, RGB and optical flow
    streams:
      rgb: {recipe: tsn_rgb}
      flow: {recipe: tsn_flow, overrides: [train.epochs=200]}
    overrides: [data.hold_out=0.2]
    fusion: {method: weighted}

A stream is a recipe, shipped or a file (from the folder of this one), with its own changes, or a
whole recipe in place; `overrides` beside `streams` are for all of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from dualstream.engine.recipe import Recipe, read_recipe, resolve
from dualstream.engine.recipe_sections import Section
from dualstream.engine.recipe_text import apply_change, explained, parse_override, shipped_recipes
from dualstream.errors import RecipeError
from dualstream.scores import FITTED_METHODS, FusionMethod

PAIR_FILE = "pair.yaml"
"""Resolved recipe in the folder that it trains into; each stream's run is a folder in it."""

FUSION_FILE = "fusion.json"
"""Fitted fusion in the same folder."""


class FusionSection(Section):
    """How the streams' scores are joined, and which training videos teach it."""

    method: FusionMethod = "weighted"
    folds: int = Field(0, ge=0)
    """0: the fusion is fitted on the videos that `data.hold_out` keeps from all streams, which
    costs no training more. K of 2 or more: on all training videos, which K further networks of
    each stream, trained without a fold each, have scored; the streams learn from all videos."""


class PairRecipe(Section):
    """Two streams or more, trained one after the other, and their fusion."""

    title: str
    source: str = ""
    """Publication that the settings follow."""
    streams: dict[str, Recipe] = Field(min_length=2)
    """Name, which its run folder has too -> recipe."""
    fusion: FusionSection = FusionSection()

    @field_validator("streams")
    @classmethod
    def _names_are_folders(cls, streams: dict[str, Recipe]) -> dict[str, Recipe]:
        if wrong := [name for name in streams if not re.fullmatch(r"[A-Za-z0-9_-]+", name)]:
            raise ValueError(f"names of streams are of letters, digits, _ and -, got {wrong[0]!r}")
        return streams

    @model_validator(mode="after")
    def _consistent(self) -> PairRecipe:
        fusion, sections = self.fusion, [recipe.data for recipe in self.streams.values()]
        parts = {(data.split, data.hold_out, data.hold_out_seed) for data in sections}
        if len(parts) > 1:
            raise ValueError(
                "all streams must have the same data.split, hold_out and hold_out_seed: the "
                "fusion needs scores of the same videos"
            )
        if any(recipe.train.labels == "several" for recipe in self.streams.values()):
            raise ValueError(
                "train.labels must be one here: train each stream by its own recipe on several "
                "classes a video, and give all of them to `dualstream predict`"
            )
        if any(data.folds for data in sections):
            raise ValueError("data.folds is set for each fold; give fusion.folds")
        if any(recipe.train.processes > 1 for recipe in self.streams.values()):
            raise ValueError(
                "train.devices must be 1 here, train.nodes too: train each stream by its own "
                "recipe on several, and join them with `dualstream fuse`"
            )
        is_fitted, hold_out = fusion.method in FITTED_METHODS, sections[0].hold_out
        if fusion.folds == 1 or (fusion.folds and (hold_out or not is_fitted)):
            raise ValueError(
                "fusion.folds is 2 or more, for data.hold_out=0 and a fusion.method that learns "
                f"({', '.join(FITTED_METHODS)})"
            )
        if is_fitted and not fusion.folds and not hold_out:
            raise ValueError(
                f"fusion.method={fusion.method} learns from training videos that the networks "
                "have not seen: set data.hold_out=0.2, or fusion.folds=5 (five further trainings "
                "of each stream), or choose fusion.method=mean"
            )
        return self


def list_pairs() -> tuple[str, ...]:
    """Names of the recipes of several networks that come with the package."""
    return tuple(shipped_recipes("dualstream.recipes.pairs"))


def holds_streams(name_or_path: str | os.PathLike[str]) -> bool:
    """Tell whether a recipe is of several networks (`load_pair`) or of one (`load_recipe`).

    Errors are those of `load_recipe`.
    """
    return "streams" in read_recipe(name_or_path)[0]


def load_pair(name_or_path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> PairRecipe:
    """Read the recipe of several networks and apply overrides.

    Args:
        name_or_path: a name of `list_pairs()`, or a YAML file.
        overrides: `streams=[NAME, NAME]` keeps these streams only,
            `streams.NAME.section.key=value` changes one stream's recipe, `fusion.key=value` the
            fusion, any other `section.key=value` all streams' recipes.

    Raises:
        UnknownNameError: neither a file nor a recipe of the package.
        RecipeError: as `load_recipe`; a recipe of one network; or streams that do not go together.
    """
    values, where = read_recipe(name_or_path)
    streams = values.pop("streams", None)
    if not isinstance(streams, dict) or not streams:
        raise RecipeError(
            f"{where} has no `streams:` with a recipe each; a recipe of one network is for "
            "`load_recipe`."
        )
    shared = _listed(values.pop("overrides", []), where)
    changes_of_all = [parse_override(override) for override in overrides]
    for key, value in changes_of_all:
        if key == "streams":
            streams = _chosen(streams, value)
    of_streams: dict[str, list[tuple[str, Any]]] = {str(name): [] for name in streams}
    for key, value in changes_of_all:
        if key == "streams":
            continue
        first, _, rest = key.partition(".")
        if first in PairRecipe.model_fields and first != "streams":
            apply_change(values, key, value)
            continue
        name, _, inner = rest.partition(".")
        if first == "streams" and (name not in of_streams or not inner):
            raise RecipeError(
                f"Override {key!r} must look like streams.NAME.section.key; the streams are "
                f"{', '.join(of_streams)}."
            )
        for changes in [of_streams[name]] if first == "streams" else of_streams.values():
            changes.append((inner if first == "streams" else key, value))
    folder = Path(name_or_path).parent
    recipes = {
        str(name): _stream(entry, shared, of_streams[str(name)], folder, f"{where}, stream {name}")
        for name, entry in streams.items()
    }
    with explained(PairRecipe, where):
        return PairRecipe.model_validate({**values, "streams": recipes})


def _chosen(streams: dict[str, Any], names: Any) -> dict[str, Any]:
    """The streams that an override `streams=[NAME, NAME]` names, in its order."""
    if not isinstance(names, list) or not all(
        isinstance(name, str) and name in streams for name in names
    ):
        raise RecipeError(
            f"Override streams={names!r} must be a list of streams, in brackets and with commas; "
            f"the streams are {', '.join(map(str, streams))}."
        )
    return {name: streams[name] for name in names}


def _stream(
    entry: Any, shared: list[str], changes: list[tuple[str, Any]], folder: Path, where: str
) -> Recipe:
    """Return a stream's recipe: its base with the changes for all, its own, and those given."""
    if not isinstance(entry, dict):
        raise RecipeError(f"{where} must be a recipe or hold `recipe: NAME`, got {entry!r}.")
    own: list[str] = []
    if "recipe" in entry:
        if unknown := sorted(map(str, entry.keys() - {"recipe", "overrides"})):
            raise RecipeError(f"{where}: no such key {unknown[0]!r}; known: recipe, overrides.")
        own = _listed(entry.get("overrides", []), where)
        inside = folder / str(entry["recipe"])
        entry, _ = read_recipe(inside if inside.is_file() else str(entry["recipe"]))
    return resolve(entry, [*map(parse_override, [*shared, *own]), *changes], where)


def _listed(overrides: Any, where: str) -> list[str]:
    if isinstance(overrides, list) and all(isinstance(one, str) for one in overrides):
        return overrides
    raise RecipeError(f"{where}: overrides must be a list of section.key=value, got {overrides!r}.")
