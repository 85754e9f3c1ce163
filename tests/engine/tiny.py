"""Recipes that train in a second and runs without training, for the tests of the engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from dualstream.engine.pair_recipe import FUSION_FILE, PAIR_FILE, PairRecipe
from dualstream.engine.recipe import Recipe, dump_recipe
from dualstream.engine.recipe_text import place_of
from dualstream.engine.run.checkpoint import build_model, save_weights
from dualstream.engine.run.info import FlowFolders, start_run
from dualstream.engine.train.opening import open_run
from dualstream.engine.train.run_folder import TrainProgress
from dualstream.scores import Fusion


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


def joint_recipe(name: str, **tower: object) -> Recipe:
    """A recipe of both streams that trains in seconds: `two_stream` or `conv_fusion`.

    Args:
        name: of the network.
        tower: options of both towers, small `tsn`.
    """
    towers = {s: {"name": "tsn", "backbone": "test_resnet", **tower} for s in ("rgb", "flow")}
    options = {"after": "backbone.layer3", "fusion": "conv_3d", "steps": 2, "pool": [2, 1, 1]}
    values = tiny_recipe(hold_out=0.25, batch_size=3, epochs=4).model_dump()
    values["model"] = {"name": name, "options": {"towers": towers}}
    values["inputs"] = {"rgb": {"modality": "rgb"}, "flow": {"modality": "flow", "num_frames": 3}}
    values["train"]["modality_dropout"] = 0.3
    if name == "conv_fusion":
        values["model"]["options"] |= options
        values["train"]["losses"] = {"joint": 1.0, "flow": 1.0}
    else:
        values["train"]["losses"] = {"fused": 1.0, "rgb": 0.5, "flow": 0.5}
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


def untrained_run(
    recipe: Recipe,
    data: Path,
    folder: Path,
    *,
    flow: FlowFolders | None = None,
    seed: int = 0,
) -> Path:
    """A run folder as training leaves it, with the random weights that training starts from.

    Args:
        recipe: of the run.
        data: folder of the manifest.
        folder: to be made.
        flow: store of the flow; the default lies beside the manifest.
        seed: of the weights.
    """
    run = open_run(recipe, data, folder, flow=flow)
    start_run(folder, run.recipe, run.manifest.classes, run.info)
    torch.manual_seed(seed)
    model = build_model(run.recipe, len(run.manifest.classes), with_weights=False)
    save_weights(folder, model.state_dict())
    return folder


def untrained_pair(data: Path, folder: Path, fusion: Fusion) -> Path:
    """A folder as the training of the streams rgb and flow leaves it, with random weights."""
    recipes = {name: tiny_recipe(name, hold_out=0.25) for name in ("rgb", "flow")}
    for name, recipe in recipes.items():
        untrained_run(recipe, data, folder / name)
    values = {"title": "Both", "streams": {name: one.model_dump() for name, one in recipes.items()}}
    (folder / PAIR_FILE).write_text(dump_recipe(PairRecipe.model_validate(values)))
    fusion.save(folder / FUSION_FILE)
    return folder
