"""The recipe of a stream of dense trajectories: no network, but a codebook and a linear SVM."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, model_validator

from dualstream.engine.recipe import read_recipe
from dualstream.engine.recipe_sections import Positive, Section, SplitSection
from dualstream.engine.recipe_text import apply_change, explained, parse_override
from dualstream.errors import InputError, RecipeError
from dualstream.flow.trajectories import TrajectoryParams


class TrajectorySection(Section):
    """How points are chosen and followed; the fields are those of `TrajectoryParams`."""

    method: str = TrajectoryParams.method
    scales: int = TrajectoryParams.scales
    step_px: int = TrajectoryParams.step_px
    quality: float = TrajectoryParams.quality
    length: int = TrajectoryParams.length

    @model_validator(mode="after")
    def _is_possible(self) -> TrajectorySection:
        try:
            self.params()
        except InputError as error:
            raise ValueError(str(error)) from None
        return self

    def params(self) -> TrajectoryParams:
        """Return the same as `TrajectoryParams`."""
        return TrajectoryParams(**self.model_dump())


class EncodingSection(Section):
    """The codebook that Fisher vectors are made with."""

    gaussians: Positive = 256
    samples: Positive = 256_000
    """Trajectories of training videos that it is learnt from, as many of each video."""
    seed: int = Field(0, ge=0)


class ClassifierSection(Section):
    """The linear SVM, one class against the others."""

    c: float = Field(100.0, gt=0)
    calibration_folds: int = Field(5, ge=2)
    """Parts of the training videos (whole source groups) that are each scored by an SVM of the
    others; the scale of the scores is fitted on them."""


class TrajectoryRecipe(Section):
    """A whole recipe; see `dualstream/recipes/trajectories/idt.yaml`."""

    title: str
    source: str = ""
    """Publication that the settings follow."""
    trajectories: TrajectorySection
    encoding: EncodingSection = EncodingSection()
    classifier: ClassifierSection = ClassifierSection()
    data: SplitSection = SplitSection()


def holds_trajectories(name_or_path: str | os.PathLike[str]) -> bool:
    """Tell whether a recipe is of trajectories; errors are those of `load_recipe`."""
    return "trajectories" in read_recipe(name_or_path)[0]


def is_trajectory_run(folder: str | os.PathLike[str]) -> bool:
    """Tell whether a folder is a run of a recipe of trajectories; a broken one is not."""
    path = Path(folder) / "recipe.yaml"
    try:
        return path.is_file() and holds_trajectories(path)
    except RecipeError:
        return False


def load_trajectory_recipe(
    name_or_path: str | os.PathLike[str], overrides: Sequence[str] = ()
) -> TrajectoryRecipe:
    """Read a recipe of trajectories and apply overrides.

    Arguments and errors are those of `load_recipe`.
    """
    values, where = read_recipe(name_or_path)
    for key, value in map(parse_override, overrides):
        apply_change(values, key, value)
    with explained(TrajectoryRecipe, where):
        return TrajectoryRecipe.model_validate(values)
