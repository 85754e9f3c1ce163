"""Supervision transfer: a run whose weights are the start of ordinary training.

A frozen 2D network teaches a network over clips by asking whether frames and a clip belong
together (Diba et al. 2017); no label is looked at. The recipe, the data, the run folder and the
state that a stopped run goes on from are those of `engine.train.fit`; in log.csv and metrics.json
top-1 is the share of pairs that were judged rightly, .5 by chance.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from dualstream.clips.data.groups import source_group
from dualstream.clips.transforms import normalize
from dualstream.engine.datasets import videos_of
from dualstream.engine.recipe import Recipe
from dualstream.engine.run.checkpoint import build_model, load_checkpoint
from dualstream.engine.train.fit import TrainResult, fit
from dualstream.engine.train.module import TrainingModule
from dualstream.engine.train.opening import TrainingRun, open_run, reopen_run
from dualstream.engine.train.run_data import RunData
from dualstream.engine.train.run_folder import Listener
from dualstream.errors import AnnotationError, InputError, RecipeError, UnknownNameError
from dualstream.models import create_model, list_weights
from dualstream.models.network import Network, fold_segments
from dualstream.models.weights import weights_entry
from dualstream.types import Clip

JOINED_FEATURES = 1024
"""Width that the features of either network are brought to before they are joined."""


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

    Arguments and errors are those of `train` and `load_teacher`, and:

    Args:
        recipe: of the network over clips, on RGB; its training section says how to learn.
        teacher: see `load_teacher`.

    Raises:
        RecipeError: the recipe's network or input does not suit a transfer.
        AnnotationError: all videos are of one source video.
    """
    name = str(Path(teacher).absolute()) if Path(teacher).is_dir() else teacher
    _check_recipe(recipe)
    (accepts,) = load_teacher(name).inputs.values()
    if accepts.side not in (None, recipe.clip.crop_size):
        raise RecipeError(
            f"The teacher takes images of {accepts.side} pixels only: set input.crop_size, got "
            f"{recipe.clip.crop_size}."
        )
    opened = open_run(recipe, manifest_folder, run, limit=limit, teacher=name)
    return fit(opened, match, listener=listener)


def resume_transfer(
    run: str | os.PathLike[str], *, listener: Listener | None = None
) -> TrainResult:
    """Go on with a transfer that was stopped; the result is that of an unbroken one, bit for bit.

    Raises:
        CheckpointError: not a run folder of `transfer`, or its manifest has changed since.
    """
    return fit(reopen_run(run, verb="transfer"), match, listener=listener)


def match(run: TrainingRun, listener: Listener | None) -> tuple[TrainingModule, RunData]:
    """Task of `transfer`: the network of the recipe learns which frames belong to a clip."""
    assert run.info.teacher is not None
    teacher = load_teacher(run.info.teacher)
    for part in ("train", "held_out") if run.recipe.data.hold_out else ("train",):
        records = videos_of(run.manifest, run.recipe, part).records
        sources = {source_group(record.path) for record in records}
        if len(sources) < 2:
            raise AnnotationError(
                f"The {part} videos are all of one source ({sources.pop()}): there is nothing "
                "that mismatches. Give more videos."
            )
    num_classes, with_weights = len(run.manifest.classes), not run.state.is_file()
    student = build_model(run.recipe, num_classes, with_weights=with_weights)
    module = TransferModule(run.recipe, SupervisionTransfer(student, teacher))
    return module, RunData(run.recipe, run.manifest, run.info)


def load_teacher(name: str) -> Network:
    """The 2D network over single RGB frames that supervision is transferred from.

    Args:
        name: of its weights (`dualstream weights`), or the folder of a run that trained it.

    Raises:
        UnknownNameError: neither of both.
        InputError: another network, or one that sees more than single RGB frames.
        WeightsError, CheckpointError: the weights cannot be had or read.
    """
    known = name in list_weights()
    if not known and not Path(name).is_dir():
        names = [n for n in list_weights() if weights_entry(n).model == "tsn"]
        raise UnknownNameError("teacher", name, (*names, "the folder of a run of tsn"))
    source = weights_entry(name) if known else load_checkpoint(name)
    streams = [(s.modality, s.num_frames) for s in source.spec.streams.values()]
    if streams == [("rgb", 1)]:  # else no download
        made = source.model
        network = made if isinstance(made, Network) else create_model(made, weights=name)
        network.spec = source.spec
        inputs = [(accepts.channels, accepts.length) for accepts in network.inputs.values()]
        if network.conv_dims == 2 and inputs == [(3, 1)]:
            return network
    raise InputError(
        f"The teacher must be a 2D network on single RGB frames, as a tsn may be; {name} is not."
    )


class SupervisionTransfer(nn.Module):
    """Student on clips and frozen teacher on frames, joined by layers that tell whether they match.

    To know whether frames are those of a clip, the student has to see what the teacher sees. The
    teacher's features are averaged over the frames; both sides go through a fully connected layer
    of 1024, are joined, and go through fully connected layers of 512 and 128 to two logits.
    Student and fully connected layers learn; the teacher, its batch norms included, stays bit for
    bit what it was, and so does the student's classifier, which has no part in this.

    Args:
        student: network over clips; afterwards it is the start of ordinary training, once
            `set_trainable` has been called for it: its classifier is frozen meanwhile.
        teacher: network over single RGB frames, for instance a `tsn`.

    Source:
        Diba et al. 2017, section 3.2 and figure 2.
    """

    def __init__(self, student: Network, teacher: Network) -> None:
        super().__init__()
        self.student = student
        self.teacher = teacher
        self.of_student = _fully_connected(student.num_features, JOINED_FEATURES)
        self.of_teacher = _fully_connected(teacher.num_features, JOINED_FEATURES)
        self.joined = nn.Sequential(
            _fully_connected(2 * JOINED_FEATURES, 512), _fully_connected(512, 128)
        )
        self.answer = nn.Linear(128, 2)
        self.teacher.requires_grad_(False)
        self.student.classifier.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """As `nn.Module.train`, but the teacher stays in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, clips: Tensor, frames: Tensor, partners: Sequence[int]) -> Tensor:
        """Judge each clip twice: with its own frames, and with those of its partner.

        Args:
            clips: (N, C, T, H, W) as the student sees them, or (N, S, C, T, H, W) with S segments,
                which count as N*S clips.
            frames: the frames of the same clips, (N, 3, T, H, W) or (N, S, 3, T, H, W), as the
                teacher sees them.
            partners: for each of the N*S clips, the index of one of another video
                (see `mismatched_partners`); () where there is none.

        Returns:
            (2*N*S, 2) logits of 'do not match' (0) and 'match' (1): first each clip with its own
            frames, then each clip with its partner's. Without partners (N*S, 2).

        Raises:
            ShapeError: clips of another C, or too short or small for the student.
        """
        of_clips = self.of_student(self.student.embed(clips))  # (N*S, 1024)
        of_frames = self.of_teacher(self._teacher_features(fold_segments(frames)))  # (N*S, 1024)
        matching = torch.cat([of_clips, of_frames], dim=1)  # (N*S, 2048)
        mismatched = torch.cat([of_clips[: len(partners)], of_frames[list(partners)]], dim=1)
        logits: Tensor = self.answer(self.joined(torch.cat([matching, mismatched])))
        return logits

    @torch.no_grad()
    def _teacher_features(self, frames: Tensor) -> Tensor:
        """Teacher's features, averaged over the frames: (N, 3, T, H, W) -> (N, D)."""
        # One clip at a time: 16 clips of 32 frames at once would be 512 images.
        images = frames.transpose(1, 2).unsqueeze(3)  # (N, T, 3, 1, H, W)
        return torch.stack([self.teacher.embed(clip).mean(dim=0) for clip in images])


def mismatched_partners(videos: Sequence[str]) -> tuple[int, ...]:
    """For each clip of a batch, the next one (going round) that is of another video.

    Example:
        a b c -> 1 2 0; a a b -> 2 2 0; a a -> nothing, as there is no other video.

    Args:
        videos: name of the video of each clip.

    Returns:
        One index a clip, or () where all clips are of one video.
    """
    if len(set(videos)) < 2:
        return ()
    count = len(videos)
    return tuple(
        next(i % count for i in range(index + 1, index + count) if videos[i % count] != video)
        for index, video in enumerate(videos)
    )


def _fully_connected(in_features: int, out_features: int) -> nn.Sequential:
    layer = nn.Linear(in_features, out_features)
    # Torch's own start shrinks the features layer by layer, and SGD then stands still for epochs.
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return nn.Sequential(layer, nn.ReLU(inplace=True))


class TransferModule(TrainingModule):
    """Trains a `SupervisionTransfer` by a recipe; saves its student.

    Args:
        recipe: see `TrainingModule`.
        model: student and teacher, joined.
        teacher_stream: input of the teacher.
    """

    def __init__(self, recipe: Recipe, model: SupervisionTransfer) -> None:
        super().__init__(recipe, model)
        ((self.stream_name, self.stream),) = self.spec.streams.items()
        assert model.teacher.spec is not None
        (stream,) = model.teacher.spec.streams.values()
        # Both look at the same cut of the same frames, each in the numbers that it is used to.
        self.teacher_stream = replace(stream, num_frames=self.stream.num_frames)

    @property
    def saved_model(self) -> nn.Module:
        """The student."""
        joined = self.tested_model
        assert isinstance(joined, SupervisionTransfer)
        return joined.student

    def outputs_and_labels(
        self, network: nn.Module, batch: Clip, *, absent: Mapping[str, Tensor] | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return logits (2*N*S, 2) of the batch's matching and mismatched pairs, and their labels.

        Where all clips of the batch happen to be of one source video: (N*S, 2), matching pairs.
        """
        pixels = batch.data[self.stream_name]  # (N, S, C, T, H, W)
        sources = [source_group(name) for name in batch.name for _ in range(pixels.shape[1])]
        logits = network(
            normalize(pixels, self.stream),
            normalize(pixels, self.teacher_stream),
            mismatched_partners(sources),
        )
        rows = torch.arange(len(logits), device=pixels.device)
        return {"matching": logits}, (rows < len(sources)).long()

    def validation_step(self, batch: Clip, batch_idx: int) -> None:
        # A last batch of one video only has no mismatched pair: it is left out.
        if len({source_group(name) for name in batch.name}) > 1:
            super().validation_step(batch, batch_idx)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Complete the state of version 0.1, which has the teacher's backbone in place of it."""
        own, found = self.state_dict(), checkpoint["state_dict"]
        for name in [n for n in own.keys() - found.keys() if ".teacher." in n]:
            found[name] = found.pop(name.replace(".teacher.backbone.", ".teacher."), own[name])


def _check_recipe(recipe: Recipe) -> None:
    """Raise RecipeError where the recipe does not suit a transfer, whoever teaches."""
    modalities = [section.modality for section in recipe.inputs.values()]
    size, devices = recipe.train.batch_size, recipe.train.processes
    problems = {
        "The teacher sees the frames of the clips, so a transfer needs input.modality=rgb and no "
        f"other input, got {', '.join(modalities)}.": modalities != ["rgb"],
        "A transfer trains all of the network but its classifier: set model.trainable=all, got "
        f"{recipe.model.trainable}.": recipe.model.trainable != "all",
        "A transfer has no frozen stages of the student: set data.frozen_views=0.": (
            recipe.data.frozen_views
        ),
        f"A transfer needs at least two clips a batch and device, got train.batch_size={size} "
        f"on {devices}.": size // devices < 2,
    }
    for problem, applies in problems.items():
        if applies:
            raise RecipeError(problem)
    with torch.device("meta"):
        network = build_model(recipe, 1, with_weights=False)
    if network.conv_dims == 2 and any(a.length is not None for a in network.inputs.values()):
        raise RecipeError(
            f"A transfer teaches a network over clips; {recipe.model.name} is none. Choose "
            "for instance model.name=t3d_121."
        )
