"""The search: greedy on held-out videos, goes on where it stopped, refuses nonsense."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from tests.engine.tiny import changed, tiny_recipe
from tests.models.x3d_factors import PUBLISHED

from dualstream.clips.data.manifest import Manifest
from dualstream.engine.datasets import videos_of
from dualstream.engine.recipe import Recipe, load_recipe
from dualstream.engine.run.checkpoint import load_checkpoint
from dualstream.engine.train import expansion
from dualstream.engine.train.expansion import (
    Expansion,
    next_candidates,
    search,
    start_factors,
    with_factors,
)
from dualstream.engine.train.fit import TrainResult
from dualstream.errors import DivergedError, InputError, RecipeError
from dualstream.models.x3d_expansion import Axis, Factors, multiply_adds

AXES = ["duration", "resolution", "width", "bottleneck", "depth"]
"""All but the frame rate, which cannot rise from one frame at stride one."""


def x3d_recipe(*, hold_out: float = 0.25, stride: int = 1, **changes: object) -> Recipe:
    """X2D on 16 x 16 pixels, trained for one epoch."""
    recipe = tiny_recipe(hold_out=hold_out, epochs=1, segments=1)
    x2d = {"model__name": "x3d", "model__options": {"dropout": 0.0}, "input__frame_stride": stride}
    size = {"input__short_side": 20, "input__crop_size": 16}
    return changed(recipe, **{**x2d, **size, **changes})


def start_cost(recipe: Recipe, num_classes: int = 2) -> int:
    return multiply_adds(start_factors(recipe), num_classes=num_classes)


@pytest.fixture(scope="module")
def searched(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Expansion]:
    """Folder and result of a search of two steps."""
    folder = tmp_path_factory.mktemp("search") / "x3d"
    recipe = x3d_recipe()
    return folder, search(recipe, tiny_data, folder, target=3 * start_cost(recipe))


def test_two_steps_are_trained_and_the_best_are_kept(
    searched: tuple[Path, Expansion],
) -> None:
    _, result = searched
    assert len(result.steps) == 2
    assert result.reached.multiply_adds == pytest.approx(3 * result.start_multiply_adds, rel=0.25)
    for number, step in enumerate(result.steps, start=1):
        assert [trial.step for trial in step.trials] == [number] * len(step.trials)
        assert all(trial.run.is_dir() for trial in step.trials)
        assert step.chosen.held_out_top1 == max(trial.held_out_top1 for trial in step.trials)
    assert [trial.axis for trial in result.steps[0].trials] == AXES
    # Each step grows what the one before has chosen.
    grown = result.steps[1].trials[0].factors
    assert asdict(grown) | {"gamma_t": 0} == asdict(result.steps[0].chosen.factors) | {"gamma_t": 0}
    checkpoint = load_checkpoint(result.steps[0].trials[1].run)
    assert checkpoint.recipe.clip.crop_size == result.steps[0].trials[1].factors.image_size


def test_the_table_holds_all_candidates(searched: tuple[Path, Expansion]) -> None:
    folder, result = searched
    table = json.loads((folder / "expansion.json").read_text())
    assert table["start"]["multiply_adds"] == result.start_multiply_adds
    rows = table["trials"]
    assert len(rows) == sum(len(step.trials) for step in result.steps)
    assert [row["factors"] for row in rows if row["chosen"]] == [
        asdict(step.chosen.factors) for step in result.steps
    ]
    assert rows[0]["run"] == "step_1/duration"
    assert rows[0]["held_out_top1"] == result.steps[0].trials[0].held_out_top1


def test_the_recipe_is_that_of_the_network_reached(searched: tuple[Path, Expansion]) -> None:
    _, result = searched
    assert start_factors(load_recipe(result.recipe_file)) == result.reached.factors


def test_a_finished_search_trains_nothing(
    searched: tuple[Path, Expansion], tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, result = searched
    monkeypatch.setattr(expansion, "train", None)
    monkeypatch.setattr(expansion, "resume", None)
    recipe = x3d_recipe()
    assert search(recipe, tiny_data, folder, target=3 * start_cost(recipe)) == result


def test_a_stopped_search_goes_on(
    searched: tuple[Path, Expansion], tiny_data: Path, tmp_path: Path
) -> None:
    whole, result = searched
    folder = tmp_path / "x3d"
    shutil.copytree(whole, folder)
    # As a kill leaves it: one run unfinished, the later ones not begun.
    unfinished, *missing = [trial.run.relative_to(whole) for trial in result.steps[1].trials][-2:]
    (folder / unfinished / "metrics.json").unlink()
    for run in missing:
        shutil.rmtree(folder / run)
    seen: list[str] = []
    recipe = x3d_recipe()
    again = search(
        recipe,
        tiny_data,
        folder,
        target=3 * start_cost(recipe),
        listener=lambda stage, _: seen.append(stage),
    )
    axes = [trial.axis for trial in result.steps[1].trials]
    stages = [f"step 2, {axis} ({n} of {len(axes)})" for n, axis in enumerate(axes, start=1)]
    assert set(seen) <= set(stages[-2:])
    assert seen[-1] == stages[-1]
    assert [
        [(trial.axis, trial.factors, trial.held_out_top1) for trial in step.trials]
        for step in again.steps
    ] == [
        [(trial.axis, trial.factors, trial.held_out_top1) for trial in step.trials]
        for step in result.steps
    ]


def test_another_search_in_the_same_folder_is_refused(
    searched: tuple[Path, Expansion], tiny_data: Path
) -> None:
    folder, _ = searched
    recipe = x3d_recipe()
    with pytest.raises(InputError, match="another target"):
        search(recipe, tiny_data, folder, target=5 * start_cost(recipe))
    with pytest.raises(InputError, match="another flow_store"):
        search(recipe, tiny_data, folder, target=3 * start_cost(recipe), flow=folder)
    with pytest.raises(InputError, match="another recipe, limit"):
        search(x3d_recipe(train__seed=1), tiny_data, folder, target=3 * start_cost(recipe), limit=1)


Scores = dict[tuple[int, Axis], float]


@pytest.fixture
def pretended(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[Callable[[int, Axis, Recipe], float]], None]:
    """Function that replaces training by a function (step, axis, recipe) -> accuracy."""

    def replace_by(accuracy: Callable[[int, Axis, Recipe], float]) -> None:
        def train(recipe: Recipe, data: Path, run: Path, **_: object) -> TrainResult:
            step = int(run.parent.name.removeprefix("step_"))
            top1 = accuracy(step, run.name, recipe)
            return TrainResult(run, 1, 0.0, 0.0, top1, 0.0)

        monkeypatch.setattr(expansion, "train", train)

    return replace_by


def test_greedy_choices_lead_to_x3d_s(
    pretended: Callable[..., None], tiny_data: Path, tmp_path: Path
) -> None:
    best: list[Axis] = ["bottleneck", "frame_rate", "resolution", "depth", "duration"]
    best += ["frame_rate", "duration"]
    pretended(lambda step, axis, recipe: 0.9 if axis == best[step - 1] else 0.5)
    recipe = x3d_recipe(stride=24, input__crop_size=112, input__short_side=128)
    cost = multiply_adds(PUBLISHED["x3d_s"], num_classes=2)
    result = search(recipe, tiny_data, tmp_path / "x3d", target=cost)
    assert [step.chosen.axis for step in result.steps] == best
    assert result.reached.factors == replace(PUBLISHED["x3d_s"], gamma_s=160 / 112)
    found = load_recipe(result.recipe_file)
    assert (found.inputs["rgb"].num_frames, found.inputs["rgb"].frame_stride) == (13, 6)
    assert (found.clip.crop_size, found.clip.short_side) == (160, 183)
    assert found.model.options == {
        "dropout": 0.0,
        "gamma_w": 1.0,
        "gamma_b": 2.25,
        "gamma_d": 2.2,
    }


def test_of_equal_candidates_the_cheapest_is_kept(
    pretended: Callable[..., None], tiny_data: Path, tmp_path: Path
) -> None:
    pretended(lambda step, axis, recipe: 0.5)
    recipe = x3d_recipe()
    result = search(recipe, tiny_data, tmp_path / "x3d", target=2 * start_cost(recipe))
    (step,) = result.steps
    assert step.chosen.multiply_adds == min(trial.multiply_adds for trial in step.trials)


def test_a_candidate_that_diverges_is_not_chosen(
    pretended: Callable[..., None], tiny_data: Path, tmp_path: Path
) -> None:
    def accuracy(step: int, axis: Axis, recipe: Recipe) -> float:
        if axis == "depth":
            raise DivergedError("not a number")
        return 0.0 if axis != "width" else 0.1

    pretended(accuracy)
    recipe = x3d_recipe()
    result = search(recipe, tiny_data, tmp_path / "x3d", target=2 * start_cost(recipe))
    assert result.steps[0].chosen.axis == "width"
    rows = json.loads((tmp_path / "x3d" / "expansion.json").read_text())["trials"]
    assert {row["axis"]: row["held_out_top1"] for row in rows}["depth"] is None


def test_all_candidates_diverge(
    pretended: Callable[..., None], tiny_data: Path, tmp_path: Path
) -> None:
    def accuracy(step: int, axis: Axis, recipe: Recipe) -> float:
        raise DivergedError("not a number")

    pretended(accuracy)
    recipe = x3d_recipe()
    with pytest.raises(DivergedError, match=r"step 1 diverged. Lower train.optimizer.lr"):
        search(recipe, tiny_data, tmp_path / "x3d", target=2 * start_cost(recipe))


def test_no_candidate_sees_a_test_video(
    pretended: Callable[..., None], tiny_data: Path, tmp_path: Path
) -> None:
    manifest = Manifest.read(tiny_data)
    seen: set[str] = set()

    def accuracy(step: int, axis: Axis, recipe: Recipe) -> float:
        for part in ("train", "held_out"):
            seen.update(record.path for record in videos_of(manifest, recipe, part).records)
        return 0.5

    pretended(accuracy)
    recipe = x3d_recipe()
    search(recipe, tiny_data, tmp_path / "x3d", target=2 * start_cost(recipe))
    assert seen == {record.path for record in manifest.subset(1, "train").records}


def test_factors_of_a_recipe_and_back() -> None:
    recipe = x3d_recipe(stride=6, input__num_frames=13, input__crop_size=160, input__short_side=182)
    recipe = changed(recipe, model__options={"gamma_b": 2.25})
    factors = start_factors(recipe)
    assert factors == Factors(gamma_tau=6, gamma_t=13, gamma_s=160 / 112, gamma_b=2.25)
    assert start_factors(with_factors(recipe, PUBLISHED["x3d_m"])) == PUBLISHED["x3d_m"]


def test_steps_end_at_the_target() -> None:
    recipe = x3d_recipe(stride=24, input__crop_size=112, input__short_side=128)
    start = start_factors(recipe)
    cost = start_cost(recipe)
    assert next_candidates(recipe, start, num_classes=2, target=1.1 * cost) == ()
    assert next_candidates(recipe, start, num_classes=2, target=0.5 * cost) == ()
    last = next_candidates(recipe, start, num_classes=2, target=1.5 * cost)
    assert {round(candidate.multiply_adds / cost, 1) for candidate in last} <= {1.4, 1.5, 1.6}
    (larger,) = {
        round(candidate.multiply_adds / cost)
        for candidate in next_candidates(
            recipe, start, num_classes=2, target=99 * cost, step_factor=4.0
        )
    }
    assert larger == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hold_out": 0.0}, r"set data.hold_out"),
        ({"model__name": "tsn"}, r"Set model.name=x3d"),
        ({"model__options": {"gamma_w": "wide"}}, r"gamma_w must be a number"),
        ({"model__weights": "something"}, r"Leave model.weights out"),
        ({"input__crop_size": 18}, r"multiple of 8"),
        (
            {
                "input__stacking": "bidirectional",
                "input__modality": "flow",
                "input__num_frames": 2,
            },
            r"needs even lengths",
        ),
        ({"train__devices": 2}, r"train.devices=2"),
        ({"train__epochs": 3, "train__validate_every": 2}, r"multiple of train.validate_every"),
    ],
)
def test_recipes_that_cannot_be_expanded(
    changes: dict[str, object], message: str, tiny_data: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=message):
        search(x3d_recipe(**changes), tiny_data, tmp_path / "x3d", target=1e9)
    assert not (tmp_path / "x3d").exists()


@pytest.mark.parametrize(
    ("target", "step_factor", "message"),
    [(1.0, 2.0, "Choose a higher target"), (0.0, 2.0, "target"), (1e9, 1.0, "step_factor")],
)
def test_targets_and_steps_out_of_range(
    target: float, step_factor: float, message: str, tiny_data: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        search(x3d_recipe(), tiny_data, tmp_path / "x3d", target=target, step_factor=step_factor)
