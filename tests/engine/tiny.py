"""Recipes that train in a second, and listeners that stop them, for the tests of the engine."""

from __future__ import annotations

from collections.abc import Callable

from dualstream.engine.recipe import Recipe
from dualstream.engine.recipe_inputs import place_of
from dualstream.engine.train.run_folder import TrainProgress


def tiny_recipe(modality: str = "rgb", *, hold_out: float = 0.0, **train: object) -> Recipe:
    """A recipe that trains a small network in a second."""
    values = {
        "title": "tiny",
        "model": {"name": "tsn", "options": {"backbone": "test_resnet", "dropout": 0.5}},
        "clip": {"short_side": 48, "crop_size": 32},
        "inputs": {modality: {"num_frames": 3 if modality == "flow" else 1}},
        "data": {"workers": 0, "hold_out": hold_out},
        "train": {
            "epochs": 3,
            "batch_size": 4,
            "segments": 2,
            "accelerator": "cpu",
            "optimizer": {"name": "sgd", "lr": 0.02},
            **train,
        },
        "test": {"segments": 2, "crops": "three"},
    }
    return Recipe.model_validate(values)


def changed(recipe: Recipe, **changes: object) -> Recipe:
    """The recipe with other values: `model__name="tsn"`, `input__num_frames=4` of its one input."""
    values = recipe.model_dump()
    for key, value in changes.items():
        *sections, last = place_of(values, key.replace("__", "."))
        target = values
        for section in sections:
            target = target[section]
        target[last] = value
    return Recipe.model_validate(values)


def stop_in_epoch(epoch: int) -> Callable[[TrainProgress], None]:
    """A listener that raises RuntimeError after the first batch of an epoch, counted from 0."""

    def listener(progress: TrainProgress) -> None:
        if (progress.phase, progress.epoch, progress.batch) == ("train", epoch, 1):
            raise RuntimeError("stopped by the test")

    return listener
