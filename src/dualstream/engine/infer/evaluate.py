"""Test of a trained network: every video seen through segments x crops views, scores averaged.

Runs of dense trajectories, which have no views, are tested too.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dualstream.clips.data.manifest import Manifest
from dualstream.clips.loader import EpochBatches, make_loader
from dualstream.engine.datasets import Part, test_dataset, videos_of
from dualstream.engine.infer.predictor import Predictor
from dualstream.engine.infer.trajectories import score_trajectories
from dualstream.engine.recipe_sections import Crops
from dualstream.engine.run.checkpoint import Checkpoint, load_checkpoint
from dualstream.engine.run.info import FlowFolders, flow_origins, read_run, save_metrics
from dualstream.engine.run.trajectory_model import load_trajectory_model
from dualstream.engine.trajectory_recipe import is_trajectory_run
from dualstream.errors import CheckpointError, DualstreamError, InputError, ScoresError
from dualstream.scores import (
    Accuracy,
    SeveralAccuracy,
    accuracy_of,
    write_scores,
)
from dualstream.types import Clip, Scores


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Result of a test."""

    scores: Scores
    """Of the videos that could be read."""
    accuracy: Accuracy | SeveralAccuracy
    """Of several classes a video where the recipe's train.labels says so."""
    failures: Mapping[str, str]
    """Video -> why it could not be scored."""
    path: Path
    """The score file."""
    metrics: Mapping[str, Any]
    """As in metrics.json of the run."""


def evaluate(
    run: Checkpoint | str | os.PathLike[str],
    *,
    part: Part = "test",
    data: str | os.PathLike[str] | None = None,
    flow: FlowFolders | None = None,
    backward_flow: FlowFolders | None = None,
    segments: int | None = None,
    crops: Crops | None = None,
    out: str | os.PathLike[str] | None = None,
    workers: int = 2,
    device: str = "cpu",
    optimize: bool = False,
    listener: Callable[[int, int], object] | None = None,
) -> Evaluation:
    """Score the videos of one part of a run's split, and write scores and metrics.

    The mean over the 25 x 10 views of each video's softmax is taken as Simonyan & Zisserman
    (2014, section 5) do. A video that cannot be read is among the failures, and the rest goes on.

    Args:
        run: run folder that training wrote, or its checkpoint.
        part: "held_out" and "train" serve to fit a fusion.
        data: another place of the manifest than the run's own. Of a run on several data sets it
            chooses the head, by the class list; scores and metrics go to the folder of that head.
        flow: another place of the flow than the run's own.
        backward_flow: another place of the backward flow than the run's own.
        segments: snippets a video; None takes the recipe's.
        crops: views of a snippet; None takes the recipe's.
        out: the score file; None is `scores.npz` of the run, `scores_PART.npz` for other parts.
        workers: reading processes, 0 for none.
        device: where the network runs.
        optimize: compile the network first where that is faster.
        listener: called after every video with the number of those done, and of all.

    Raises:
        CheckpointError: not a trained run, or the manifest's classes are not the checkpoint's.
        InputError: an option of networks, of a run of trajectories.
        ScoresError: no video could be scored.
    """
    if not isinstance(run, Checkpoint) and is_trajectory_run(run):
        if any((flow, backward_flow, segments, crops, device != "cpu", optimize)):
            raise InputError(
                f"{run} is of dense trajectories, which are computed from the whole video on the "
                "CPU: leave out segments, crops, flow, device and optimize."
            )
        model = load_trajectory_model(run)
        scores, failures = score_trajectories(
            model, part=part, data=data, workers=workers, listener=listener
        )
        return _written(scores, failures, model.folder, part=part, out=out)
    checkpoint = run if isinstance(run, Checkpoint) else load_checkpoint(run, device=device)
    folder = Path(data or checkpoint.info.manifest)
    manifest = Manifest.read(folder)
    checkpoint = _checkpoint_for(checkpoint, manifest.classes, folder)
    given = {"segments": segments, "crops": crops}
    given = {name: value for name, value in given.items() if value is not None}
    test = checkpoint.recipe.test.model_copy(update=given)
    recipe = checkpoint.recipe.model_copy(update={"test": test})
    origins = flow_origins(checkpoint.info.flow, forward=flow, backward=backward_flow)
    videos = videos_of(manifest, recipe, part)
    if recipe.train.labels == "one" and videos.has_several_labels:
        raise CheckpointError(
            f"Videos of {folder} have several classes, and {checkpoint.folder} was trained with "
            "train.labels=one. Train it with train.labels=several."
        )
    checkpoint.model.to(device)
    predictor = Predictor(checkpoint, segments=test.segments, crops=test.crops, optimize=optimize)
    loader = make_loader(
        test_dataset(videos, recipe, dataclasses.replace(checkpoint.info, flow=origins)),
        EpochBatches(len(videos), batch_size=1, shuffle=False),
        workers=workers,
        pin_memory=device.startswith("cuda"),
    )
    scores, failures = score_videos(predictor, videos, loader, listener)
    views = {"segments": test.segments, "crops": test.crops}
    return _written(scores, failures, checkpoint.folder, part=part, out=out, **views)


def _written(
    scores: Scores,
    failures: Mapping[str, str],
    folder: Path,
    *,
    part: Part,
    out: str | os.PathLike[str] | None,
    **views: int | str,
) -> Evaluation:
    """Measure scores, and write them and their metrics into the run folder."""
    path = Path(out or folder / f"scores{'' if part == 'test' else f'_{part}'}.npz")
    write_scores(path, scores)
    accuracy = accuracy_of(scores)
    metrics = {
        "videos": accuracy.num_videos,
        "failed": len(failures),
        **accuracy.as_dict(),
        **views,
    }
    save_metrics(folder, {part: metrics})
    return Evaluation(scores, accuracy, failures, path, metrics)


def _checkpoint_for(
    checkpoint: Checkpoint, classes: tuple[str, ...], data: str | os.PathLike[str]
) -> Checkpoint:
    """The checkpoint whose classes are those of a data set: this one, or another head of its run.

    Heads are told apart by their class lists, names and order; where several have the same, by
    the folder of the data set, then by its name.

    Raises:
        CheckpointError: there is none, or several; names the first class that differs.
    """
    folders = {checkpoint.folder.name: checkpoint.folder}
    if checkpoint.info.run_folder(checkpoint.folder) == checkpoint.folder:
        folders = checkpoint.info.head_folders(checkpoint.folder) or folders
    if len(folders) == 1 and checkpoint.classes == classes:
        return checkpoint
    runs = {name: read_run(folder) for name, folder in folders.items()}
    fitting = [name for name, (_, known, _) in runs.items() if known == classes]
    place = Path(data).absolute()
    here = [name for name in fitting if Path(runs[name][2].manifest) == place]
    found = here or [name for name in fitting if len(fitting) == 1 or name == place.name]
    if len(found) == 1:
        (folder,) = (folders[name] for name in found)
        if folder == checkpoint.folder:
            return checkpoint
        return load_checkpoint(folder, device=str(next(checkpoint.model.parameters()).device))
    if fitting:
        raise CheckpointError(
            f"{data} has the classes of several heads of {checkpoint.folder}: "
            f"{', '.join(fitting)}. Say which one is meant, for instance: dualstream test "
            f"{folders[fitting[-1]]} --data {data}"
        )
    details = {name: _difference(known, classes) for name, (_, known, _) in runs.items()}
    differing = (
        "; ".join(f"{name}: {detail}" for name, detail in details.items())
        if len(details) > 1
        else next(iter(details.values()))
    )
    raise CheckpointError(
        f"The classes of {checkpoint.folder} are not those of {data}: {differing}. "
        "Test with the data set that the network was trained on, or train again."
    )


def _difference(theirs: tuple[str, ...], ours: tuple[str, ...]) -> str:
    pairs = enumerate(zip(theirs, ours, strict=False))
    details = (f"class {i} is {a!r} there and {b!r} here" for i, (a, b) in pairs if a != b)
    return next(details, f"{len(theirs)} classes there, {len(ours)} here")


def score_videos(
    predictor: Predictor,
    videos: Manifest,
    loader: Iterable[Clip],
    listener: Callable[[int, int], object] | None = None,
) -> tuple[Scores, dict[str, str]]:
    """Return the probabilities of the videos that can be read, and why the others cannot.

    Args:
        predictor: of one network.
        videos: their names and classes.
        loader: a batch of one clip for each of them, or its error.
        listener: called after every video with the number of those done, and of all.

    Raises:
        ScoresError: no video could be scored.
    """
    scored, rows, failures = [], [], {}
    batches = iter(loader)
    for done, record in enumerate(videos.records, start=1):
        try:
            clip = next(batches).sample(0)
        except DualstreamError as error:
            failures[record.name] = str(error)
        else:
            scored.append(record)
            rows.append(predictor.scores([clip])[0])
        if listener is not None:
            listener(done, len(videos))
    if not rows:
        raise ScoresError("No video could be scored; the errors of the single videos say why.")
    names, labels = tuple(r.name for r in scored), np.array([r.label for r in scored], np.int64)
    truth = None
    if predictor.labels == "several":
        places = np.arange(len(predictor.classes))
        truth = np.stack([np.isin(places, record.labels) for record in scored])
    table = np.stack(rows)
    return Scores(names, labels, table, predictor.classes, "probabilities", truth), failures
