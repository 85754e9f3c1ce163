"""The greedy expansion of X2D on a data set: train the candidates, keep the best, and again.

OUT/search.json         recipe, data and target of the search; another search is refused
OUT/step_1/width/ ...   run folder of each candidate
OUT/expansion.json      all candidates with cost and accuracy, and which were taken
OUT/expanded.yaml       recipe of the network that was reached
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Unpack, cast

from dualstream.clips.data.manifest import MANIFEST_FILE, Manifest, folder_of_manifest
from dualstream.engine.recipe import Recipe, dump_recipe
from dualstream.engine.recipe_sections import StreamSection
from dualstream.engine.run.info import read_metrics
from dualstream.engine.train.fit import resume, train
from dualstream.engine.train.opening import RunOptions
from dualstream.engine.train.run_folder import Listener, TrainProgress
from dualstream.errors import CheckpointError, DivergedError, InputError, RecipeError
from dualstream.files import file_sha256, read_json, write_text
from dualstream.models.x3d_expansion import (
    IMAGE_SIZE,
    NETWORK_FACTORS,
    SIZE_STEP,
    Candidate,
    Factors,
    expand,
    multiply_adds,
)

CLOSE = 0.9
"""Share of the target's cost from which on the search is done."""


@dataclass(frozen=True)
class Trial(Candidate):
    """One candidate, trained."""

    step: int
    """From 1."""
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
    """Result of a search."""

    start: Factors
    start_multiply_adds: int
    steps: tuple[Step, ...]
    recipe_file: Path
    """Recipe of the network that was reached."""

    @property
    def reached(self) -> Trial:
        """The network that was reached."""
        return self.steps[-1].chosen


SearchListener = Callable[[str, TrainProgress], None]
"""Called after every batch and epoch with its place ("step 2, depth (5 of 6)") and progress."""


def start_factors(recipe: Recipe) -> Factors:
    """Factors of the network and the clips of a recipe, where a search starts.

    Raises:
        RecipeError: the network is not `x3d`, its options are no numbers, there are several
            inputs, or the crop size is no multiple of 8.
    """
    if recipe.model.name != "x3d":
        raise RecipeError(
            f"The expansion grows the network x3d, the recipe has {recipe.model.name}. Set "
            "model.name=x3d."
        )
    size, stream = recipe.clip.crop_size, _stream(recipe)
    if size % SIZE_STEP:
        raise RecipeError(
            f"input.crop_size must be a multiple of {SIZE_STEP} for an expansion, got {size}."
        )
    options = {name: recipe.model.options.get(name, 1.0) for name in NETWORK_FACTORS.values()}
    for name, value in options.items():
        if not isinstance(value, int | float):
            raise RecipeError(f"model.options.{name} must be a number, got {value!r}.")
    return Factors(stream.frame_stride, stream.num_frames, size / IMAGE_SIZE, **options)


def with_factors(recipe: Recipe, factors: Factors) -> Recipe:
    """The recipe with another network and other clips; the short side grows with the crop.

    Tests see clips as long as in training.
    """
    values, size = recipe.model_dump(), factors.image_size
    (stream,) = values["inputs"].values()
    short_side = round(recipe.clip.short_side * size / recipe.clip.crop_size)
    values["model"]["options"] |= {
        name: getattr(factors, name) for name in NETWORK_FACTORS.values()
    }
    values["clip"] |= {"crop_size": size, "short_side": short_side}
    stream |= {"num_frames": factors.gamma_t, "frame_stride": factors.gamma_tau}
    values["test"]["num_frames"] = None
    return Recipe.model_validate(values)


def cost_of(recipe: Recipe, factors: Factors, *, num_classes: int) -> int:
    """Multiply-adds of a clip of the recipe's modality through the network of the factors."""
    channels = _stream(recipe).spec().channels
    return multiply_adds(factors, num_classes=num_classes, in_channels=channels)


def next_candidates(
    recipe: Recipe, factors: Factors, *, num_classes: int, target: float, step_factor: float = 2.0
) -> tuple[Candidate, ...]:
    """Candidates of the next step of `search` from `factors`; () where the target is reached.

    Raises:
        InputError: `step_factor` is not above 1, or the target is not above 0.
    """
    if not (step_factor > 1 and target > 0):
        raise InputError(
            f"step_factor must be above 1 and target above 0, got {step_factor} and {target}."
        )
    present = cost_of(recipe, factors, num_classes=num_classes)
    if present >= CLOSE * target:
        return ()
    channels = _stream(recipe).spec().channels
    target = min(step_factor * present, target)
    return expand(factors, target=target, num_classes=num_classes, in_channels=channels)


def search(
    recipe: Recipe,
    manifest_folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    target: float,
    step_factor: float = 2.0,
    flow: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    listener: SearchListener | None = None,
) -> Expansion:
    """Expand a network step by step on held-out training videos, or go on with a stopped search.

    In each step every candidate is trained by the recipe, and the one that is best on the
    held-out videos is expanded next, until the target's cost is reached to a tenth. Test videos
    are never looked at. A candidate that was trained before is not trained again.

    The other arguments are those of `train`.

    Args:
        recipe: network `x3d` with the factors to start from, and how to train (briefly).
        out: folder of the search.
        target: multiply-adds of the network to reach.
        step_factor: growth of the cost in one step.

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
    data, folder, start = folder_of_manifest(manifest_folder), Path(out), start_factors(recipe)
    num_classes = len(Manifest.read(data).classes)
    cost = cost_of(recipe, start, num_classes=num_classes)
    candidates_after = partial(
        next_candidates, recipe, num_classes=num_classes, target=target, step_factor=step_factor
    )
    candidates = candidates_after(start)
    if not candidates:
        raise InputError(
            f"The start costs {cost:,} multiply-adds, and no axis leads nearer to the target "
            f"{target:,.0f}. Choose a higher target."
        )
    _claim(
        folder,
        recipe=recipe.model_dump(mode="json"),
        data=str(data),
        manifest_sha256=file_sha256(data / MANIFEST_FILE),
        target=float(target),
        step_factor=float(step_factor),
        limit=limit,
        flow_store=None if flow is None else str(Path(flow).absolute()),
    )
    steps: list[Step] = []
    while candidates:
        step, trials = len(steps) + 1, []
        for number, candidate in enumerate(candidates, start=1):
            run = folder / f"step_{step}" / candidate.axis
            stage = f"step {step}, {candidate.axis} ({number} of {len(candidates)})"
            top1 = _held_out_top1(
                with_factors(recipe, candidate.factors),
                data,
                run,
                listener=partial(listener, stage) if listener else None,
                flow=flow,
                limit=limit,
            )
            trials.append(Trial(**vars(candidate), step=step, run=run, held_out_top1=top1))
        steps.append(Step(tuple(trials), _best(trials)))
        _write_table(folder, start, cost, steps)
        candidates = candidates_after(steps[-1].chosen.factors)
    recipe_file = folder / "expanded.yaml"
    write_text(recipe_file, dump_recipe(with_factors(recipe, steps[-1].chosen.factors)))
    return Expansion(start, cost, tuple(steps), recipe_file)


def _held_out_top1(
    recipe: Recipe,
    data: Path,
    run: Path,
    *,
    listener: Listener | None,
    **options: Unpack[RunOptions],
) -> float | None:
    """Train a candidate; accuracy on the held-out videos, 0..1, None where training diverged."""
    known = read_metrics(run)
    if "held_out_top1" in known:  # written at the end of a training
        return cast("float | None", known["held_out_top1"])
    try:
        if (run / "recipe.yaml").is_file():
            return resume(run, listener=listener).held_out_top1
        return train(recipe, data, run, listener=listener, **options).held_out_top1
    except DivergedError:
        return None


def _best(trials: Sequence[Trial]) -> Trial:
    measured = [trial for trial in trials if trial.held_out_top1 is not None]
    if not measured:
        raise DivergedError(
            f"Every candidate of step {trials[0].step} diverged. Lower train.optimizer.lr or set "
            "train.clip_norm, and search in a new folder."
        )
    return min(measured, key=lambda t: (-(t.held_out_top1 or 0.0), t.multiply_adds))


def _claim(folder: Path, **wanted: Any) -> None:
    """Write search.json, or compare with the one that is there."""
    path = folder / "search.json"
    if not path.is_file():
        write_text(path, json.dumps(wanted, indent=2) + "\n")
    found = read_json(path, error=CheckpointError, remedy="Search in a new folder.")
    differing = [name for name in wanted if found.get(name) != wanted[name]]
    if differing:
        raise InputError(
            f"{folder} holds a search of another {', '.join(differing)}. Name another "
            "folder, or give the values of search.json there."
        )


def _write_table(folder: Path, start: Factors, cost: int, steps: list[Step]) -> None:
    """Write expansion.json; runs are named from the folder, so that it can be moved."""
    trials = [
        {
            **asdict(trial),
            "run": trial.run.relative_to(folder).as_posix(),
            "chosen": trial is step.chosen,
        }
        for step in steps
        for trial in step.trials
    ]
    first = {"factors": asdict(start), "multiply_adds": cost}
    text = json.dumps({"start": first, "trials": trials}, indent=2)
    write_text(folder / "expansion.json", text + "\n")


def _stream(recipe: Recipe) -> StreamSection:
    """Return the one input of the recipe."""
    if len(recipe.inputs) > 1:
        raise RecipeError(
            f"The expansion grows a network of one input, the recipe has {len(recipe.inputs)}: "
            f"{', '.join(recipe.inputs)}. Leave all but one out."
        )
    (stream,) = recipe.inputs.values()
    return stream


def _check_recipe(recipe: Recipe) -> None:
    settings = recipe.train
    problems = {
        "An expansion chooses on held-out training videos: set data.hold_out, say to 0.2.": (
            not recipe.data.hold_out
        ),
        f"train.epochs ({settings.epochs}) must be a multiple of train.validate_every "
        f"({settings.validate_every}), so that every network is measured at its end.": (
            settings.epochs % settings.validate_every
        ),
        f"The candidates are trained on one device, got train.devices={settings.devices} and "
        f"train.nodes={settings.nodes}. Set both to 1; the network that is found may be trained "
        "on more.": settings.processes > 1,
        f"The candidates differ in their layers, so none can start from weights "
        f"({recipe.model.weights}). Leave model.weights out.": recipe.model.weights is not None,
        "Bi-directional stacking needs even lengths, candidates have any.": (
            _stream(recipe).stacking == "bidirectional"
        ),
    }
    for problem, applies in problems.items():
        if applies:
            raise RecipeError(problem)
