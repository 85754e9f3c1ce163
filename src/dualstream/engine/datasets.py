"""Which videos and which views of them a recipe means."""

from __future__ import annotations

from typing import Literal

from dualstream.clips.data.manifest import Manifest
from dualstream.clips.dataset import ClipDataset, FlowStores
from dualstream.clips.plan import Cropping, Sampling
from dualstream.clips.transforms import ColorJitter
from dualstream.engine.recipe import Recipe
from dualstream.engine.run.info import RunInfo
from dualstream.engine.trajectory_recipe import TrajectoryRecipe
from dualstream.errors import RecipeError
from dualstream.flow import FlowStore

Part = Literal["train", "held_out", "test"]


def videos_of(manifest: Manifest, recipe: Recipe | TrajectoryRecipe, part: Part) -> Manifest:
    """The videos of one part of the recipe's split.

    `train` and `held_out` share the split's training videos as `data.hold_out` or `data.folds`
    says; `test` is the split's test videos, which training never sees.

    Raises:
        AnnotationError: the part has no video.
        RecipeError: held-out videos are asked for and the recipe holds out none.
    """
    data = recipe.data
    if part == "test":
        return manifest.subset(data.split, "test")
    training = manifest.subset(data.split, "train")
    if data.folds:
        kept, held_out = training.fold(data.fold, folds=data.folds, seed=data.hold_out_seed)
    elif data.hold_out:
        kept, held_out = training.hold_out(data.hold_out, seed=data.hold_out_seed)
    elif part == "held_out":
        raise RecipeError("The recipe holds out no videos: set data.hold_out above 0.")
    else:
        return training
    return kept if part == "train" else held_out


def training_dataset(videos: Manifest, recipe: Recipe, info: RunInfo) -> ClipDataset:
    """Return random snippets, crops, flips and colours."""
    augment = recipe.augment
    colours = {"brightness", "contrast", "saturation", "hue_turns"}
    return ClipDataset(
        videos,
        recipe.clip_spec(),
        sampling=Sampling("random_segments", segments=recipe.train.segments),
        cropping=Cropping(augment.crop, scales=augment.scales, zoom=augment.zoom),
        jitter=ColorJitter(**augment.model_dump(include=colours)),
        flip=augment.flip,
        flow=_flow_stores(info),
        labels_each=recipe.train.labels,
        seed=recipe.train.seed,
    )


def validation_dataset(videos: Manifest, recipe: Recipe, info: RunInfo) -> ClipDataset:
    """Return the centre of each segment, the centre crop."""
    return ClipDataset(
        videos,
        recipe.clip_spec(),
        sampling=Sampling("segment_centers", segments=recipe.train.segments),
        cropping=Cropping("center"),
        flow=_flow_stores(info),
        labels_each=recipe.train.labels,
    )


def test_dataset(videos: Manifest, recipe: Recipe, info: RunInfo) -> ClipDataset:
    """Return all segments x crops views of the recipe's test."""
    return ClipDataset(
        videos,
        recipe.test_spec(),
        sampling=Sampling("evenly_spaced", segments=recipe.test.segments),
        cropping=Cropping(recipe.test.crops),
        flow=_flow_stores(info),
        labels_each=recipe.train.labels,
    )


def _flow_stores(info: RunInfo) -> dict[str, FlowStores]:
    return {
        name: FlowStores(
            FlowStore(origin.store),
            None if origin.backward_store is None else FlowStore(origin.backward_store),
        )
        for name, origin in info.flow.items()
    }
