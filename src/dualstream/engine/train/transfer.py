"""Supervision transfer: a run whose weights are the start of ordinary training.

A frozen 2D network teaches a network over clips by asking whether frames and a clip belong
together (Diba et al. 2017); no label is looked at. The recipe, the data, the run folder and the
state that a stopped run goes on from are those of `engine.train`; in log.csv and metrics.json
top-1 is the share of pairs that were judged rightly, .5 by chance.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from dualstream.clips.data.groups import source_group
from dualstream.clips.data.manifest import Manifest
from dualstream.clips.transforms import normalize
from dualstream.engine.datasets import videos_of
from dualstream.engine.recipe import Recipe
from dualstream.engine.run.checkpoint import build_model, load_checkpoint
from dualstream.engine.train.fit import OpenRun, TrainResult, fit, open_run, reopen_run
from dualstream.engine.train.frozen import VideoListener
from dualstream.engine.train.loaders import RunData
from dualstream.engine.train.module import TrainingModule
from dualstream.engine.train.run_folder import Listener
from dualstream.errors import (
    AnnotationError,
    CheckpointError,
    InputError,
    RecipeError,
    UnknownNameError,
)
from dualstream.models import create_model, list_weights
from dualstream.models.network import Network
from dualstream.models.supervision_transfer import (
    SupervisionTransfer,
    matching_answers,
    mismatched_partners,
)
from dualstream.models.weights import weights_entry
from dualstream.types import Clip, InputSpec


def transfer(
    recipe: Recipe,
    manifest_folder: str | os.PathLike[str],
    run: str | os.PathLike[str],
    *,
    teacher: str,
    limit: int | None = None,
    listener: Listener | None = None,
) -> TrainResult:
    """Teach the recipe's network into a new run folder, for `model.weights` of a later training.

    Each clip of a batch is judged with its own frames and with those of the next clip that is of
    another source video. The student's classifier stays as it started.

    Args:
        recipe: of the network over clips, on RGB; its training section says how to learn.
        manifest_folder: what `dualstream prepare` wrote.
        run: folder to create.
        teacher: see `load_teacher`.
        limit: batches an epoch is cut to, for trials.
        listener: called after every batch and epoch.

    Raises:
        InputError: `run` holds a run already, or the teacher sees something else.
        UnknownNameError, WeightsError, CheckpointError: the teacher cannot be had.
        RecipeError: the recipe's network or input does not suit a transfer.
        AnnotationError, VideoError: the data cannot be read, or all are of one source video.
    """
    name = str(Path(teacher).absolute()) if Path(teacher).is_dir() else teacher
    _check_recipe(recipe)
    _check_size(recipe, load_teacher(name))
    opened = open_run(recipe, manifest_folder, run, limit=limit, teacher=name)
    return fit(opened, _match, listener=listener)


def resume_transfer(
    run: str | os.PathLike[str], *, listener: Listener | None = None
) -> TrainResult:
    """Go on with a transfer that was stopped; the result is that of an unbroken one, bit for bit.

    Raises:
        CheckpointError: not a run of `transfer`, or its manifest has changed since.
    """
    opened = reopen_run(run)
    if opened.info.teacher is None:
        raise CheckpointError(
            f"{run} is not a run of `dualstream transfer`: go on with "
            f"`dualstream train --resume {run}`."
        )
    return fit(opened, _match, listener=listener)


@dataclass(frozen=True, eq=False)
class Teacher:
    """A network over single RGB frames, and its input."""

    network: Network
    spec: InputSpec


def load_teacher(name: str) -> Teacher:
    """The network that supervision is transferred from.

    Args:
        name: weights of a `tsn` (`dualstream weights`), or the folder of a run that trained one
            on single RGB frames.

    Raises:
        UnknownNameError: neither of both.
        InputError: another network, or one that sees more than single RGB frames.
        WeightsError, CheckpointError: the weights cannot be had or read.
    """
    network: Network
    if name in list_weights():
        if weights_entry(name).model != "tsn":
            raise InputError(f"The teacher must be a tsn, weights {name} are of another network.")
        network = create_model("tsn", weights=name)
        spec = network.spec
    elif Path(name).is_dir():
        checkpoint = load_checkpoint(name)
        network, spec = checkpoint.model, checkpoint.spec
    else:
        names = [n for n in list_weights() if weights_entry(n).model == "tsn"]
        raise UnknownNameError("teacher", name, (*names, "the folder of a run of tsn"))
    if (
        spec is None
        or spec.modality != "rgb"
        or [(a.channels, a.length) for a in network.inputs.values()] != [(3, 1)]
    ):
        raise InputError(f"The teacher must be a tsn on single RGB frames, {name} is not.")
    return Teacher(network, spec)


class TransferModule(TrainingModule):
    """Trains a `SupervisionTransfer` by a recipe; saves its student.

    Args:
        recipe: the resolved recipe.
        model: student and teacher, joined.
        teacher_spec: what the teacher wants to see.
        steps_per_epoch: optimiser steps of one epoch over all devices.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: SupervisionTransfer,
        *,
        teacher_spec: InputSpec,
        steps_per_epoch: int,
    ) -> None:
        super().__init__(recipe, model, steps_per_epoch=steps_per_epoch)
        # Both look at the same cut of the same frames, each in the numbers that it is used to.
        self.teacher_spec = dataclasses.replace(teacher_spec, num_frames=self.spec.num_frames)

    @property
    def saved_model(self) -> nn.Module:
        """The student."""
        joined = self.tested_model
        assert isinstance(joined, SupervisionTransfer)
        return joined.student

    def answers(self, network: nn.Module, batch: Clip) -> tuple[Tensor, Tensor]:
        """Logits (2*N*S, 2) of the batch's matching and mismatched pairs, and the right answers.

        Where all clips of the batch happen to be of one source video: (N*S, 2), matching pairs.
        """
        pixels = batch.data["rgb"]  # (N, S, C, T, H, W)
        sources = [source_group(name) for name in batch.name for _ in range(pixels.shape[1])]
        partners = mismatched_partners(sources)
        logits = network(
            normalize(pixels, self.spec), normalize(pixels, self.teacher_spec), partners
        )
        answers = matching_answers(len(sources), device=pixels.device)
        return logits, answers[: len(logits)]

    def validation_step(self, batch: Clip, batch_idx: int) -> None:
        # A last batch of one video only has no mismatched pair: it is left out.
        if len({source_group(name) for name in batch.name}) > 1:
            super().validation_step(batch, batch_idx)


def _match(run: OpenRun, told: VideoListener) -> tuple[TrainingModule, RunData]:
    """What `fit` trains: the recipe's network beside the teacher."""
    assert run.info.teacher is not None
    teacher = load_teacher(run.info.teacher)
    _check_videos(run.recipe, run.manifest)
    student = build_model(
        run.recipe, len(run.manifest.classes), with_weights=not run.state.is_file()
    )
    model = SupervisionTransfer(student, teacher.network)
    data = RunData(run.recipe, run.manifest, run.info)
    module = TransferModule(
        run.recipe, model, teacher_spec=teacher.spec, steps_per_epoch=data.steps_per_epoch
    )
    return module, data


def _check_recipe(recipe: Recipe) -> None:
    """Raise RecipeError where the recipe does not suit a transfer, whoever teaches."""
    if recipe.input.modality != "rgb":
        raise RecipeError(
            f"The teacher sees the frames of the clips, so a transfer needs input.modality=rgb, "
            f"got {recipe.input.modality}."
        )
    if recipe.model.trainable != "all":
        raise RecipeError(
            f"A transfer trains all of the network but its classifier: set model.trainable=all, "
            f"got {recipe.model.trainable}."
        )
    if recipe.data.frozen_views:
        raise RecipeError(
            "A transfer has no frozen stages of the student: set data.frozen_views=0."
        )
    if recipe.train.batch_size // recipe.train.devices < 2:
        raise RecipeError(
            f"A transfer needs at least two clips a batch and device, got train.batch_size="
            f"{recipe.train.batch_size} on {recipe.train.devices}."
        )
    with torch.device("meta"):
        network = build_model(recipe, 1, with_weights=False)
    if any(accepts.length == 1 for accepts in network.inputs.values()):
        raise RecipeError(
            f"A transfer teaches a network over clips; {recipe.model.name} is none. Choose "
            "for instance model.name=t3d_121."
        )


def _check_size(recipe: Recipe, teacher: Teacher) -> None:
    """Raise RecipeError where the teacher cannot see images of the recipe's size."""
    side = recipe.input.crop_size
    (accepts,) = teacher.network.inputs.values()
    if accepts.side not in (None, side):
        raise RecipeError(
            f"The teacher takes images of {accepts.side} pixels only: set input.crop_size, got "
            f"{side}."
        )


def _check_videos(recipe: Recipe, manifest: Manifest) -> None:
    """Raise AnnotationError where a part of the split has no two source videos."""
    for part in ("train", "held_out") if recipe.data.hold_out else ("train",):
        sources = {source_group(r.path) for r in videos_of(manifest, recipe, part).records}
        if len(sources) < 2:
            raise AnnotationError(
                f"The {part} videos are all of one source ({sources.pop()}): there is nothing "
                "that mismatches. Give more videos."
            )
