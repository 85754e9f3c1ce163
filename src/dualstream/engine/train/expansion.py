"""The greedy expansion of X2D on a data set: train the candidates, keep the best, and again.

OUT/search.json         recipe, data and target of the search; another search is refused
OUT/step_1/width/ ...   run folder of each candidate
OUT/expansion.json      all candidates with cost and accuracy, and which were taken
OUT/expanded.yaml       recipe of the network that was reached
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualstream.clips.data.manifest import MANIFEST_FILE, Manifest, folder_of_manifest
from dualstream.engine.recipe import Recipe, dump_recipe
from dualstream.engine.run.checkpoint import read_metrics, read_object
from dualstream.engine.train.fit import resume, train
from dualstream.engine.train.run_folder import TrainProgress
from dualstream.errors import DivergedError, InputError, RecipeError
from dualstream.files import file_sha256, write_text
from dualstream.models.x3d_expansion import (
    IMAGE_SIZE,
    SIZE_STEP,
    Axis,
    Candidate,
    Factors,
    expand,
    multiply_adds,
)

CLOSE = 0.9
"""Share of the target's cost from which on the search is done."""

NETWORK_FACTORS = ("gamma_w", "gamma_b", "gamma_d")
"""Factors that are options of the network; the other three lie in the recipe's input."""


@dataclass(frozen=True)
class Trial:
    """One candidate, trained."""

    step: int
    """From 1."""
    axis: Axis
    factors: Factors
    multiply_adds: int
    run: Path
    held_out_top1: float | None
    """0..1; None where training diverged."""


@dataclass(frozen=True)
class Step:
    """All candidates of one step, in the order of `AXES`."""

    trials: tuple[Trial, ...]
    chosen: Trial
    """The one of the best accuracy; of equal ones the cheapest, then the first."""


@dataclass(frozen=True)
class Expansion:
    """What a search has found."""

    start: Factors
    start_multiply_adds: int
    steps: tuple[Step, ...]
    recipe_file: Path
    """Recipe of the network that was reached."""

    @property
    def factors(self) -> Factors:
        """Of the network that was reached."""
        return self.steps[-1].chosen.factors

    @property
    def multiply_adds(self) -> int:
        """Of the network that was reached."""
        return self.steps[-1].chosen.multiply_adds


@dataclass(frozen=True)
class ExpansionProgress:
    """Where a search stands; handed to the listener after every batch and epoch of a trial."""

    step: int
    """From 1."""
    trial: int
    """From 1, of this step."""
    trials: int
    axis: Axis
    training: TrainProgress


ExpansionListener = Callable[[ExpansionProgress], None]


def start_factors(recipe: Recipe) -> Factors:
    """Factors of the network and the clips of a recipe, where a search starts.

    Raises:
        RecipeError: the network is not `x3d`, its options are no numbers, or the crop size is no
            multiple of 8.
    """
    if recipe.model.name != "x3d":
        raise RecipeError(
            f"The expansion grows the network x3d, the recipe has {recipe.model.name}. Set "
            "model.name=x3d."
        )
    size = recipe.input.crop_size
    if size % SIZE_STEP:
        raise RecipeError(
            f"input.crop_size must be a multiple of {SIZE_STEP} for an expansion, got {size}."
        )
    options = recipe.model.options
    for name in NETWORK_FACTORS:
        if not isinstance(options.get(name, 1.0), int | float):
            raise RecipeError(f"model.options.{name} must be a number, got {options[name]!r}.")
    return Factors(
        gamma_tau=recipe.input.frame_stride,
        gamma_t=recipe.input.num_frames,
        gamma_s=size / IMAGE_SIZE,
        **{name: float(options.get(name, 1.0)) for name in NETWORK_FACTORS},
    )


def with_factors(recipe: Recipe, factors: Factors) -> Recipe:
    """The recipe with another network and other clips; the short side grows with the crop.

    Tests see clips as long as in training.
    """
    size = factors.image_size
    seen = recipe.input
    network = {name: getattr(factors, name) for name in NETWORK_FACTORS}
    return recipe.model_copy(
        update={
            "model": recipe.model.model_copy(update={"options": recipe.model.options | network}),
            "input": seen.model_copy(
                update={
                    "num_frames": factors.gamma_t,
                    "frame_stride": factors.gamma_tau,
                    "crop_size": size,
                    "short_side": round(seen.short_side * size / seen.crop_size),
                }
            ),
            "test": recipe.test.model_copy(update={"num_frames": None}),
        }
    )


def next_candidates(
    recipe: Recipe, factors: Factors, *, num_classes: int, target: float, step_factor: float = 2.0
) -> tuple[Candidate, ...]:
    """Candidates of the next step from `factors`; () where the target is reached.

    Args:
        recipe: says the input's channels.
        factors: where the search stands.
        num_classes: K.
        target: multiply-adds that the search is to reach.
        step_factor: growth of one step; the last one grows less, to the target.

    Raises:
        InputError: `step_factor` is not above 1, or the target is not above 0.
    """
    if not step_factor > 1:
        raise InputError(f"step_factor must be above 1, got {step_factor}.")
    if not target > 0:
        raise InputError(f"target must be above 0, got {target}.")
    channels = recipe.input.spec().channels
    present = multiply_adds(factors, num_classes=num_classes, in_channels=channels)
    if present >= CLOSE * target:
        return ()
    return expand(
        factors,
        target=min(step_factor * present, target),
        num_classes=num_classes,
        in_channels=channels,
    )


def search(
    recipe: Recipe,
    manifest_folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    target: float,
    step_factor: float = 2.0,
    flow_store: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    listener: ExpansionListener | None = None,
) -> Expansion:
    """Expand a network step by step on held-out training videos, or go on with a stopped search.

    In each step every candidate is trained by the recipe, and the one that is best on the
    held-out videos is expanded next, until the target's cost is reached to a tenth. Test videos
    are never looked at. A candidate that was trained before is not trained again.

    Args:
        recipe: network `x3d` with the factors to start from, and how to train (briefly).
        manifest_folder: what `dualstream prepare` wrote.
        out: folder of the search.
        target: multiply-adds of the network to reach.
        step_factor: growth of the cost in one step.
        flow_store: root of the flow store; default is `flow` beside the manifest.
        limit: batches an epoch is cut to, for trials.
        listener: called after every batch and epoch.

    Raises:
        InputError: the folder holds another search, the target is not above the start's cost, or
            no axis comes near it.
        RecipeError: the recipe holds out no videos, or cannot be expanded.
        DivergedError: no candidate of a step could be trained.

    Source:
        Feichtenhofer 2020, section 3.2: coordinate descent in the space of the factors, a
        doubling of the cost a step. The contraction that ends it is here a smaller last step.
    """
    _check_recipe(recipe)
    data = folder_of_manifest(manifest_folder)
    running = _Search(
        recipe=recipe,
        data=data,
        folder=Path(out),
        num_classes=len(Manifest.read(data).classes),
        target=target,
        step_factor=step_factor,
        flow_store=flow_store,
        limit=limit,
        listener=listener,
    )
    start = start_factors(recipe)
    if not running.candidates(start):
        raise InputError(
            f"The start costs {running.cost(start):,} multiply-adds, and no axis leads nearer to "
            f"the target {target:,.0f}. Choose a higher target."
        )
    running.claim_folder()
    return running.run(start)


@dataclass(frozen=True, eq=False)
class _Search:
    """The settings of one search, and what it does with them."""

    recipe: Recipe
    data: Path
    folder: Path
    num_classes: int
    target: float
    step_factor: float
    flow_store: str | os.PathLike[str] | None
    limit: int | None
    listener: ExpansionListener | None

    def run(self, start: Factors) -> Expansion:
        """All steps; every step is in expansion.json once it is done."""
        factors = start
        steps: list[Step] = []
        while candidates := self.candidates(factors):
            number = len(steps) + 1
            trials = tuple(
                self.trial(number, index, candidates) for index in range(len(candidates))
            )
            steps.append(Step(trials, _best(trials)))
            factors = steps[-1].chosen.factors
            self.write_table(start, steps)
        recipe_file = self.folder / "expanded.yaml"
        write_text(recipe_file, dump_recipe(with_factors(self.recipe, factors)))
        return Expansion(start, self.cost(start), tuple(steps), recipe_file)

    def candidates(self, factors: Factors) -> tuple[Candidate, ...]:
        return next_candidates(
            self.recipe,
            factors,
            num_classes=self.num_classes,
            target=self.target,
            step_factor=self.step_factor,
        )

    def cost(self, factors: Factors) -> int:
        channels = self.recipe.input.spec().channels
        return multiply_adds(factors, num_classes=self.num_classes, in_channels=channels)

    def trial(self, step: int, index: int, candidates: tuple[Candidate, ...]) -> Trial:
        """Train one candidate, unless an earlier call has."""
        candidate = candidates[index]
        run = self.folder / f"step_{step}" / candidate.axis

        def tell(training: TrainProgress) -> None:
            if self.listener is not None:
                self.listener(
                    ExpansionProgress(step, index + 1, len(candidates), candidate.axis, training)
                )

        top1 = self.train(with_factors(self.recipe, candidate.factors), run, tell)
        return Trial(step, candidate.axis, candidate.factors, candidate.multiply_adds, run, top1)

    def train(
        self, recipe: Recipe, run: Path, listener: Callable[[TrainProgress], None]
    ) -> float | None:
        """Accuracy on the held-out videos, 0..1; None where training diverged."""
        known = read_metrics(run)
        if "held_out_top1" in known:  # written at the end of a training
            top1: float = known["held_out_top1"]
            return top1
        try:
            if (run / "recipe.yaml").is_file():
                return resume(run, listener=listener).held_out_top1
            return train(
                recipe,
                self.data,
                run,
                flow_store=self.flow_store,
                limit=self.limit,
                listener=listener,
            ).held_out_top1
        except DivergedError:
            return None

    def claim_folder(self) -> None:
        """Write search.json, or compare with the one that is there."""
        wanted: dict[str, Any] = {
            "recipe": self.recipe.model_dump(mode="json"),
            "data": str(self.data),
            "manifest_sha256": file_sha256(self.data / MANIFEST_FILE),
            "target": float(self.target),
            "step_factor": float(self.step_factor),
            "limit": self.limit,
            "flow_store": None
            if self.flow_store is None
            else str(Path(self.flow_store).absolute()),
        }
        path = self.folder / "search.json"
        if not path.is_file():
            write_text(path, json.dumps(wanted, indent=2) + "\n")
        found = read_object(path)
        differing = [name for name in wanted if found.get(name) != wanted[name]]
        if differing:
            raise InputError(
                f"{self.folder} holds a search of another {', '.join(differing)}. Name another "
                "folder, or give what search.json there says."
            )

    def write_table(self, start: Factors, steps: list[Step]) -> None:
        """Write expansion.json; runs are named from the folder, so that it can be moved."""
        table = {
            "start": {"factors": dataclasses.asdict(start), "multiply_adds": self.cost(start)},
            "trials": [
                {
                    **dataclasses.asdict(trial),
                    "run": trial.run.relative_to(self.folder).as_posix(),
                    "chosen": trial is step.chosen,
                }
                for step in steps
                for trial in step.trials
            ],
        }
        write_text(self.folder / "expansion.json", json.dumps(table, indent=2) + "\n")


def _check_recipe(recipe: Recipe) -> None:
    settings = recipe.train
    if not recipe.data.hold_out:
        raise RecipeError(
            "An expansion chooses on held-out training videos: set data.hold_out, say to 0.2."
        )
    if settings.epochs % settings.validate_every:
        raise RecipeError(
            f"train.epochs ({settings.epochs}) must be a multiple of train.validate_every "
            f"({settings.validate_every}), so that every network is measured at its end."
        )
    if settings.devices > 1:
        raise RecipeError(
            f"The candidates are trained on one device, got train.devices={settings.devices}. Set "
            "it to 1; the network that is found may be trained on more."
        )
    if recipe.model.weights is not None:
        raise RecipeError(
            f"The candidates differ in their layers, so none can start from weights "
            f"({recipe.model.weights}). Leave model.weights out."
        )
    if recipe.input.stacking == "bidirectional":
        raise RecipeError("Bi-directional stacking needs even lengths, candidates have any.")


def _best(trials: tuple[Trial, ...]) -> Trial:
    measured = [trial for trial in trials if trial.held_out_top1 is not None]
    if not measured:
        raise DivergedError(
            f"Every candidate of step {trials[0].step} diverged. Lower train.optimizer.lr or set "
            "train.clip_norm, and search in a new folder."
        )
    return min(measured, key=lambda trial: (-(trial.held_out_top1 or 0.0), trial.multiply_adds))
