"""The recipe: one checked YAML file that says how a network is trained and tested.

A recipe is read from a file or from `dualstream/recipes/` by name, changed by `section.key=value`
overrides, and saved resolved beside every checkpoint. Unknown keys are errors that name the
nearest known key.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, model_validator

from dualstream.engine.recipe_sections import (
    AttentionSection,
    AugmentSection,
    ClipSection,
    DataSection,
    ModelSection,
    Section,
    StreamSection,
    TestSection,
    TrainSection,
)
from dualstream.engine.recipe_text import (
    apply_change,
    change_modality,
    explained,
    parse_override,
    read_yaml,
    shipped_recipes,
    with_inputs,
)
from dualstream.errors import RecipeError, UnknownNameError
from dualstream.files import read_text
from dualstream.types import ClipSpec


class Recipe(Section):
    """A whole recipe; see the files in `dualstream/recipes/`."""

    title: str
    source: str = ""
    """Publication that the settings follow."""
    model: ModelSection
    clip: ClipSection = ClipSection()
    inputs: dict[str, StreamSection] = Field(min_length=1)
    """Stream -> its input, an entry for each stream that the network sees."""
    augment: AugmentSection = AugmentSection()
    data: DataSection = DataSection()
    train: TrainSection
    test: TestSection = TestSection()

    @model_validator(mode="before")
    @classmethod
    def _of_0_1(cls, values: Any) -> Any:
        return with_inputs(values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        train, augment = self.train, self.augment
        if train.early_stop_patience and not self.data.hold_out:
            raise ValueError("train.early_stop_patience needs data.hold_out above 0")
        if train.batch_size % train.processes:
            raise ValueError(
                f"train.batch_size {train.batch_size} must be a multiple of devices {train.devices}"
                + (f" times nodes {train.nodes}" if train.nodes > 1 else "")
            )
        if train.optimizer.nesterov and not (
            train.optimizer.name == "sgd" and train.optimizer.momentum
        ):
            raise ValueError("train.optimizer.nesterov needs sgd with a momentum above 0")
        if train.modality_dropout and len(self.inputs) < 2:
            raise ValueError("train.modality_dropout needs inputs of several streams")
        if train.attention is not None:
            _check_attention(train, train.attention)
        milestones = list(train.schedule.milestones)
        if milestones != sorted(set(milestones)):
            raise ValueError(f"train.schedule.milestones must rise, got {milestones}")
        if not 1 <= augment.zoom[0] <= augment.zoom[1]:
            raise ValueError(f"augment.zoom must rise from at least 1, got {list(augment.zoom)}")
        if augment.zoom != (1.0, 1.0) and augment.crop != "random":
            raise ValueError(f"augment.zoom is for augment.crop=random, not {augment.crop}")
        self.clip_spec()
        return self

    def clip_spec(self) -> ClipSpec:
        """Return what the network sees in training."""
        streams = {name: section.spec() for name, section in self.inputs.items()}
        return ClipSpec(streams, **self.clip.model_dump())

    def flow_streams(self) -> tuple[str, ...]:
        """Return the names of the streams that read flow."""
        return tuple(name for name, section in self.inputs.items() if section.modality == "flow")

    def test_spec(self) -> ClipSpec:
        """Return what the network sees in a test and in prediction."""
        spec, length = self.clip_spec(), self.test.num_frames
        streams = {
            name: replace(stream, num_frames=length or stream.num_frames)
            for name, stream in spec.streams.items()
        }
        crop_size = spec.short_side if self.test.whole_side else spec.crop_size
        return replace(spec, streams=streams, crop_size=crop_size)


def _check_attention(train: TrainSection, attention: AttentionSection) -> None:
    """Raise ValueError where the epochs of `train.attention` do not fit together."""
    is_two_phase = attention.schedule == "two_phase"
    if is_two_phase != bool(attention.constant_epochs):
        raise ValueError(
            "train.attention.constant_epochs must be at least 1 with schedule=two_phase, and 0 "
            "with end_to_end"
        )
    if attention.constant_epochs + attention.network_epochs >= train.epochs:
        raise ValueError(
            f"train.epochs={train.epochs} leaves no epoch with maps beside "
            f"{attention.constant_epochs} constant_epochs and {attention.network_epochs} "
            "network_epochs of train.attention"
        )
    if train.early_stop_patience:
        raise ValueError("train.early_stop_patience would end a run before train.attention does")


def list_recipes() -> tuple[str, ...]:
    """Names of the recipes of one network that come with the package."""
    return tuple(shipped_recipes("dualstream.recipes"))


def load_recipe(name_or_path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Recipe:
    """Read the recipe of one network and apply overrides.

    Args:
        name_or_path: a name of `list_recipes()`, or a YAML file.
        overrides: `section.key=value`, the value in YAML (`train.epochs=5`,
            `train.optimizer.lr=1e-3`, `input.mean=[0,0]`).

    Raises:
        UnknownNameError: neither a file nor a recipe of the package.
        RecipeError: not UTF-8, not YAML, a key that is unknown or stands twice, a value that does
            not fit, a recipe of several networks (`load_pair`) or of none.
    """
    values, where = read_recipe(name_or_path)
    if "streams" in values:
        raise RecipeError(
            f"{where} trains a network for each of several streams, here one is wanted: give the "
            "recipe of one of its streams. `dualstream train` (in Python `train_pair`) takes all."
        )
    if "trajectories" in values:
        raise RecipeError(
            f"{where} is of dense trajectories, here a network is wanted. `dualstream train`, "
            "`test`, `fuse` and `predict` take it."
        )
    return resolve(values, [parse_override(override) for override in overrides], where)


def read_recipe(name_or_path: str | os.PathLike[str]) -> tuple[dict[str, Any], str]:
    """Return the sections of a recipe as they stand, and what errors call it; see `load_recipe`."""
    text = str(name_or_path)
    packages = ("recipes", "recipes.pairs", "recipes.trajectories")
    shipped = {k: v for p in packages for k, v in shipped_recipes(f"dualstream.{p}").items()}
    if Path(text).suffix in {".yaml", ".yml"}:
        if not Path(text).is_file():
            raise RecipeError(f"There is no recipe file {text}. Shipped: {tuple(shipped)}.")
        content, where = read_text(text, error=RecipeError), text
    elif text in shipped:
        content, where = shipped[text].read_text(encoding="utf-8"), f"recipe {text}"
    else:
        raise UnknownNameError("recipe", text, tuple(shipped))
    values = read_yaml(content, where)
    if not isinstance(values, dict):
        raise RecipeError(f"{where} must hold sections with keys, got {type(values).__name__}.")
    return values, where


def resolve(values: dict[str, Any], changes: Sequence[tuple[str, Any]], where: str) -> Recipe:
    """Return the recipe of one network with (key, value) changes; see `load_recipe`."""
    values = with_inputs(values)
    # First, as the other fields of the stream are then in units of the new modality.
    for key, value in changes:
        change_modality(values, key, str(value))
    for key, value in changes:
        apply_change(values, key, value)
    with explained(Recipe, where):
        return Recipe.model_validate(values)


def dump_recipe(recipe: Section) -> str:
    """The recipe as YAML that `load_recipe` (`load_pair`) reads back to an equal one."""
    text: str = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
    return text
