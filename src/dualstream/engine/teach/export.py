"""What other verbs go on with: the manifest of a project and run folders of its heads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dualstream.clips.data.intervals import cut_overlaps
from dualstream.clips.data.manifest import MANIFEST_FILE, Manifest, VideoRecord
from dualstream.clips.data.prepare import split_by_source
from dualstream.engine.teach.project import Project
from dualstream.engine.teach.settings import TeachSettings, is_run
from dualstream.errors import AnnotationError, InputError

if TYPE_CHECKING:
    from dualstream.engine.teach.head import Head

RUNS_FOLDER, TIMELINE_FILE = "runs", "timeline.csv"

_DECIDED_BY_INPUTS = ("num_classes", "in_channels", "length")

TEST_SHARE = 0.25
"""Of the videos, that the manifest's split tests on."""


def manifest_of(project: Project) -> Manifest | None:
    """Return the marks as a manifest, None where there are none or it cannot say them.

    Where marks of several labels overlap they are cut, and each piece has all its labels. About a
    quarter of the videos is the test part of split 1, where each class is in two videos.
    """
    classes = tuple(sorted({mark.label for mark in project.marks}))
    if not classes:
        return None
    files = {video.name: project.file_of(video) for video in project.videos}
    try:
        root = Path(os.path.commonpath([file.parent for file in files.values()]))
        records = []
        for video in project.videos:
            marks = [(m.interval, classes.index(m.label)) for m in project.marks_of(video.name)]
            records += [
                VideoRecord(
                    path=files[video.name].relative_to(root).as_posix(),
                    label=piece.labels[0],
                    splits=("",),
                    frames=video.frames,
                    fps=video.fps,
                    width=video.width,
                    height=video.height,
                    sha256=video.sha256,
                    interval=piece.interval,
                    more_labels=piece.labels[1:],
                )
                for piece in cut_overlaps(marks)
            ]
        manifest = Manifest(tuple(records), classes, root)
    except (InputError, ValueError):  # several drives; a path with line ends
        return None
    try:
        return split_by_source(manifest, test_fraction=TEST_SHARE)
    except AnnotationError:
        taught = tuple(replace(record, splits=("train",)) for record in manifest.records)
        return replace(manifest, records=taught)


def write_manifest(project: Project) -> None:
    """Write the manifest of a project beside its marks, or remove that of marks that are gone."""
    manifest = manifest_of(project)
    if manifest is None:
        (project.folder / MANIFEST_FILE).unlink(missing_ok=True)
    else:
        manifest.write(project.folder)


def write_runs(project: Project, heads: Mapping[str, Head], classes: tuple[str, ...]) -> list[str]:
    """Write a run folder for each network: its frozen weights with a head of its own.

    `dualstream predict --checkpoint FOLDER/runs/rgb` and all verbs that take runs go on with them.

    Args:
        project: that was taught.
        heads: `rgb` or `motion` -> the classifier on that network's features alone.
        classes: K names.

    Returns:
        What could not be written and why; empty where all could.

    Raises:
        DiskError: a file cannot be written.
    """
    notes = []
    for block, head in heads.items():
        name = project.settings.rgb if block == "rgb" else project.settings.motion
        try:
            _write_run(project, name, head, classes, project.folder / RUNS_FOLDER / block)
        except InputError as error:
            notes.append(f"There is no run folder of {block}: {error}")
    return notes


def _write_run(
    project: Project, name: str, head: Head, classes: tuple[str, ...], folder: Path
) -> None:
    import torch

    from dualstream.engine.recipe import Recipe
    from dualstream.engine.run.checkpoint import build_model, load_checkpoint, save_weights
    from dualstream.engine.run.info import RunInfo, start_run
    from dualstream.files import file_sha256
    from dualstream.models import create_model
    from dualstream.models.weights import weights_entry

    flow = {}
    if is_run(name):
        run = load_checkpoint(name)
        trained, recipe, flow = run.model, run.recipe, dict(run.info.flow)
    else:
        trained = create_model(weights_entry(name).model, weights=name)
        recipe = Recipe.model_validate(recipe_values(name, project.settings))
    labels = {"train": recipe.train.model_copy(update={"labels": head.labels})}
    recipe = recipe.model_copy(update=labels)
    model = build_model(recipe, len(classes), with_weights=False)
    named = [key for key, module in model.named_modules() if module is model.classifier]
    if len(model.classifiers()) != 1 or not named or trained.joins_segments:
        raise InputError(f"{name} has no single classifier that could be exchanged.")
    state = dict(trained.state_dict())
    weights, biases = head.plain()
    biases = biases.clip(min=-1e4)  # a class without an example: safetensors and JSON hold no inf
    state[f"{named[0]}.weight"] = torch.from_numpy(weights).float()
    state[f"{named[0]}.bias"] = torch.from_numpy(biases).float()
    manifest = project.folder / MANIFEST_FILE
    sha256 = file_sha256(manifest) if manifest.is_file() else ""
    start_run(folder, recipe, classes, RunInfo(str(project.folder.absolute()), sha256, flow=flow))
    save_weights(folder, state)


def recipe_values(name: str, settings: TeachSettings) -> dict[str, object]:
    """Return the recipe of a head on published weights.

    `dualstream train` takes it for a longer training on the same marks. Its `train` is what the
    recipe jhmdb_i3d_linear has; the head that is taught is not made by it.
    """
    from dualstream.engine.teach.features import spec_of_weights
    from dualstream.models.weights import weights_entry

    entry = weights_entry(name)
    spec = spec_of_weights(entry.spec, settings)
    return {
        "title": f"Taught head on {name}",
        "model": {
            "name": entry.model,
            "weights": name,
            "options": {k: v for k, v in entry.options.items() if k not in _DECIDED_BY_INPUTS},
            "trainable": "last_layer",
        },
        "clip": {
            "short_side": spec.short_side,
            "crop_size": spec.crop_size,
            "fps": spec.fps,
            "beyond_end": spec.beyond_end,
        },
        "inputs": {stream: asdict(one) for stream, one in spec.streams.items()},
        "augment": {"crop": "center", "flip": False},
        "train": {
            "epochs": 20,
            "batch_size": 32,
            "optimizer": {"name": "adamw", "lr": 0.003, "weight_decay": 0.05},
            "schedule": {"name": "cosine"},
        },
        "test": {"segments": 1, "crops": "center"},
    }
