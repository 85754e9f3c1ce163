"""Runs of training before they start: what they are of, checked, and where their data lie."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypedDict, Unpack

import torch
from lightning.pytorch.utilities import rank_zero_only

from dualstream.clips.data.manifest import MANIFEST_FILE, Manifest, folder_of_manifest
from dualstream.engine.recipe import Recipe
from dualstream.engine.run.checkpoint import (
    build_model,
    check_device,
    learns_classes,
    starting_weights,
)
from dualstream.engine.run.consistency import check_losses, check_streams
from dualstream.engine.run.info import (
    FlowFolders,
    RunInfo,
    flow_origins,
    git_commit,
    read_run,
)
from dualstream.engine.train.cross_attention import check_attention
from dualstream.engine.train.frozen import check_frozen
from dualstream.engine.train.multi_task import (
    named_folders,
    naming,
    samples_of_batch,
    tell_shared_classes,
)
from dualstream.engine.train.several_labels import check_labels
from dualstream.engine.train.stored_flow import check_flow, default_origin, with_flow_of
from dualstream.errors import CheckpointError, InputError, RecipeError
from dualstream.files import file_sha256
from dualstream.models.trainable import set_trainable

Verb = Literal["train", "transfer"]
"""Command that starts and resumes a run."""


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """A run folder whose training can start or go on."""

    folder: Path
    recipe: Recipe
    manifest: Manifest
    info: RunInfo
    is_new: bool
    """Whether the folder is still to be made."""
    others: tuple[TrainingRun, ...] = ()
    """Those of the further data sets, with the folders of their heads."""

    @property
    def num_classes(self) -> int:
        """K of the network, over all heads."""
        return sum(len(one.manifest.classes) for one in (self, *self.others))

    @property
    def state(self) -> Path:
        """File that training goes on from; missing until the first epoch has ended."""
        return self.folder / "trainer.ckpt"


class RunOptions(TypedDict, total=False):
    """Keyword arguments of `train` and `open_run`."""

    flow: FlowFolders | None
    """Root of the flow store, or stream -> its root; the default lies beside the manifest, in the
    folder named like the stream or in `flow` (`stored_flow.default_origin`)."""
    backward_flow: FlowFolders | None
    """The same for backward flow; the default is that folder's name and `_backward`."""
    limit: int | None
    """Batches an epoch is cut to, for trials."""
    also: Sequence[str | os.PathLike[str]]
    """Manifest folders of further data sets, each of which gets a head of its own
    (`engine.train.multi_task`); "NAME=FOLDER" names one, the default is the folder's name. Their
    flow lies beside their manifests."""


def open_run(
    recipe: Recipe,
    manifest_folder: str | os.PathLike[str],
    run: str | os.PathLike[str],
    *,
    teacher: str | None = None,
    **options: Unpack[RunOptions],
) -> TrainingRun:
    """Describe a new run; `fit` makes its folder.

    Arguments and errors are those of `train`; `teacher` is the network that supervision is
    transferred from.
    """
    folder, source = Path(run).absolute(), folder_of_manifest(manifest_folder)
    if is_first_process() and (folder / "recipe.yaml").exists():
        raise InputError(
            f"{folder} holds a run already. Go on with `dualstream {_verb_of(teacher)} --resume "
            f"{run}`, or choose another folder."
        )
    folders = named_folders(source, options.get("also", ()))
    manifests = {name: Manifest.read(place) for name, place in folders.items()}
    _check_recipe(recipe, manifests, learns_classes=teacher is None and learns_classes(recipe))
    common = RunInfo("", "", seed=recipe.train.seed, teacher=teacher, git_commit=git_commit())
    common = replace(common, limit=options.get("limit"))
    if len(folders) == 1:
        return _described(recipe, folder, source, manifests[source.name], common, options)
    tell_shared_classes({name: manifest.classes for name, manifest in manifests.items()})
    common = replace(common, heads={name: len(m.classes) for name, m in manifests.items()})
    runs: list[TrainingRun] = []
    for name, head_folder in common.head_folders(folder).items():
        info, given = replace(common, head=name), options if not runs else RunOptions()
        with naming(name):
            runs.append(
                _described(recipe, head_folder, folders[name], manifests[name], info, given)
            )
    return replace(runs[0], others=tuple(runs[1:]))


def _described(
    recipe: Recipe,
    folder: Path,
    source: Path,
    manifest: Manifest,
    info: RunInfo,
    options: RunOptions,
) -> TrainingRun:
    """A new run on one data set, or its part in one on several, with where its flow lies."""
    default = {
        name: default_origin(name, recipe, manifest, source) for name in recipe.flow_streams()
    }
    origins = flow_origins(
        default, forward=options.get("flow"), backward=options.get("backward_flow")
    )
    for name in origins:
        check_flow(recipe, manifest, source, name, origins[name])
        recipe, origins[name] = with_flow_of(name, origins[name], recipe, manifest)
    sha256 = file_sha256(source / MANIFEST_FILE)
    info = replace(info, manifest=str(source), manifest_sha256=sha256, flow=origins)
    return TrainingRun(folder, recipe, manifest, info, is_new=True)


def reopen_run(run: str | os.PathLike[str], *, verb: Verb) -> TrainingRun:
    """A run folder that training goes on in.

    Args:
        verb: kind of run that it must be.

    Raises:
        CheckpointError: not a run folder of that kind, or its manifest has changed since.
    """
    folder = Path(run).absolute()
    _, _, info = read_run(folder)
    if (found := _verb_of(info.teacher)) != verb:
        raise CheckpointError(
            f"{run} is a run of `dualstream {found}`, not of `dualstream {verb}`: go on with "
            f"`dualstream {found} --resume {run}`."
        )
    if (whole := info.run_folder(folder)) != folder:
        raise CheckpointError(
            f"{run} is the head of one data set. Go on with the whole run: `dualstream train "
            f"--resume {whole}`."
        )
    first, *others = [_reopened(place) for place in info.head_folders(folder).values() or [folder]]
    return replace(first, others=tuple(others))


def _reopened(folder: Path) -> TrainingRun:
    recipe, classes, info = read_run(folder)
    path = Path(info.manifest, MANIFEST_FILE)
    if not path.is_file() or file_sha256(path) != info.manifest_sha256:
        raise CheckpointError(
            f"{path} has {'changed' if path.is_file() else 'gone'} since {folder} was started. Put "
            "the old one back, or start a new run."
        )
    manifest = Manifest.read(Path(info.manifest))
    if manifest.classes != classes:
        raise CheckpointError(f"{folder}/classes.txt differs from the classes of {info.manifest}.")
    return TrainingRun(folder, recipe, manifest, info, is_new=False)


def _check_recipe(
    recipe: Recipe, manifests: Mapping[str, Manifest], *, learns_classes: bool
) -> None:
    """Raise what making the network, or its device, would raise, and what several data sets do.

    Args:
        recipe: of the run.
        manifests: data set -> its manifest.
        learns_classes: whether labels are looked at.
    """
    sources = starting_weights(recipe)
    samples_of_batch(recipe.train.batch_size, tuple(manifests), recipe.data.shares)
    num_classes = sum(len(manifest.classes) for manifest in manifests.values())
    with torch.device("meta"):
        model = build_model(recipe, num_classes, with_weights=False)
        for stream in sources.keys() - {""}:
            model.tower_of(stream)
        set_trainable(model, recipe.model.trainable)
        check_streams(model, recipe)
        check_losses(model, recipe)
        check_attention(model, recipe)
    if learns_classes:
        check_labels(model, recipe, manifests)
    if recipe.data.frozen_views:
        check_frozen(model, recipe)
    for what, applies in {
        "data.frozen_views keeps the features": recipe.data.frozen_views > 0,
        "A loss of motion is": "motion" in recipe.train.losses,
        f"{model.name} learns by the attention maps": model.exchanges_maps,
    }.items():
        if applies and len(manifests) > 1:
            raise RecipeError(
                f"{what} of one data set: train on one, or choose a recipe without it (--also)."
            )
    if recipe.train.accelerator == "gpu":
        check_device("cuda")


def _verb_of(teacher: str | None) -> Verb:
    return "train" if teacher is None else "transfer"


def is_first_process() -> bool:
    """False in the further processes that lightning or torchrun started for DDP."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0
