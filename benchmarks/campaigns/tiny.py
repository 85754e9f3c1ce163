"""A data set of seconds, and networks that nobody has trained, for the campaigns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .containers import moving_square

CLASSES = ("right", "down")


def tiny_recipe(modality: str, **train: Any) -> Any:
    """Recipe of a small network of one stream; three epochs take seconds."""
    from dualstream.engine.recipe import Recipe

    return Recipe.model_validate(
        {
            "title": "tiny",
            "model": {"name": "tsn", "options": {"backbone": "test_resnet", "dropout": 0.5}},
            "clip": {"short_side": 48, "crop_size": 32},
            "inputs": {modality: {"num_frames": 3 if modality == "flow" else 1}},
            "data": {"workers": 0},
            "train": {
                "epochs": 3,
                "batch_size": 4,
                "segments": 2,
                "accelerator": "cpu",
                "optimizer": {"name": "sgd", "lr": 0.02},
                **train,
            },
            "test": {"segments": 2, "crops": "center"},
        }
    )


def tiny_videos(folder: Path, *, per_class: int = 3, num_frames: int = 12) -> Path:
    """Write `folder/videos/CLASS/N.mp4`; returns `folder`."""
    from dualstream.video import write_video

    for label, name in enumerate(CLASSES):
        for number in range(per_class):
            frames = moving_square(num_frames + number, 48, 64)
            if label:
                frames = frames.transpose(0, 2, 1, 3)[:, :48]
            write_video(folder / "videos" / name / f"{name}_{number}.mp4", frames, fps=25)
    return folder


def tiny_run(folder: Path, modality: str) -> Path:
    """A run folder of an untrained network of one stream."""
    import torch

    from dualstream.engine.run.checkpoint import build_model, save_weights
    from dualstream.engine.run.info import FlowOrigin, RunInfo, start_run

    recipe = tiny_recipe(modality)
    flow = {"flow": FlowOrigin(str(folder / "store"))} if modality == "flow" else {}
    start_run(folder, recipe, CLASSES, RunInfo(str(folder), "0" * 64, flow))
    torch.manual_seed(0)
    save_weights(folder, build_model(recipe, 2, with_weights=False).state_dict())
    return folder
