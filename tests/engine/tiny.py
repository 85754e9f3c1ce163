"""A recipe that trains in a second, for the tests of the engine."""

from __future__ import annotations

from dualstream.engine.recipe import Recipe


def tiny_recipe(modality: str = "rgb", *, hold_out: float = 0.0, **train: object) -> Recipe:
    """A recipe that trains a small network in a second."""
    values = {
        "title": "tiny",
        "model": {"name": "tsn", "options": {"backbone": "test_resnet", "dropout": 0.5}},
        "input": {
            "modality": modality,
            "num_frames": 3 if modality == "flow" else 1,
            "short_side": 48,
            "crop_size": 32,
        },
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
