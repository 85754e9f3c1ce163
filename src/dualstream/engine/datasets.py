"""Which videos and which views of them a recipe means."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from dualstream.clips.data.manifest import Manifest
from dualstream.clips.dataset import ClipDataset, Cropping, Sampling
from dualstream.clips.transforms import ColorJitter
from dualstream.engine.checkpoint import RunInfo
from dualstream.engine.recipe import Recipe
from dualstream.errors import RecipeError
from dualstream.flow import FlowStore

Part = Literal["train", "held_out", "test"]


def videos_of(manifest: Manifest, recipe: Recipe, part: Part) -> Manifest:
    """The videos of one part of the recipe's split.

    `train` and `held_out` share the split's training videos as `data.hold_out` says; `test` is
    the split's test videos, which training never sees.

    Raises:
        AnnotationError: the part has no video.
        RecipeError: held-out videos are asked for and the recipe holds out none.
    """
    split = recipe.data.split
    if part == "test":
        return manifest.subset(split, "test")
    training = manifest.subset(split, "train")
    if not recipe.data.hold_out:
        if part == "held_out":
            raise RecipeError("The recipe holds out no videos: set data.hold_out above 0.")
        return training
    kept, held_out = training.hold_out(recipe.data.hold_out, seed=recipe.data.hold_out_seed)
    return kept if part == "train" else held_out


def training_dataset(videos: Manifest, recipe: Recipe, info: RunInfo) -> ClipDataset:
    """Random snippets, crops, flips and colours."""
    augment = recipe.augment
    jitter = ColorJitter(
        brightness=augment.brightness,
        contrast=augment.contrast,
        saturation=augment.saturation,
        hue_turns=augment.hue_turns,
    )
    return ClipDataset(
        videos,
        [recipe.input.spec()],
        sampling=Sampling("random_segments", segments=recipe.train.segments),
        cropping=Cropping(augment.crop, scales=augment.scales, zoom=augment.zoom),
        jitter=jitter,
        flip=augment.flip,
        flow_store=_store(info.flow_store),
        backward_store=_store(info.backward_store),
        seed=recipe.train.seed,
    )


def validation_dataset(videos: Manifest, recipe: Recipe, info: RunInfo) -> ClipDataset:
    """The centre of each segment, the centre crop."""
    return ClipDataset(
        videos,
        [recipe.input.spec()],
        sampling=Sampling("segment_centers", segments=recipe.train.segments),
        cropping=Cropping("center"),
        flow_store=_store(info.flow_store),
        backward_store=_store(info.backward_store),
    )


def test_dataset(videos: Manifest, recipe: Recipe, info: RunInfo) -> ClipDataset:
    """All segments x crops views of the recipe's test."""
    return ClipDataset(
        videos,
        [recipe.test_spec()],
        sampling=Sampling("evenly_spaced", segments=recipe.test.segments),
        cropping=Cropping(recipe.test.crops),
        flow_store=_store(info.flow_store),
        backward_store=_store(info.backward_store),
    )


def _store(root: str | None) -> FlowStore | None:
    return FlowStore(Path(root)) if root else None
