"""Test of a stream of dense trajectories."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dualstream.clips.data.manifest import Manifest
from dualstream.engine.datasets import Part, videos_of
from dualstream.engine.run.trajectory_model import (
    TrajectoryModel,
    jobs_of,
    store_of,
    sums_of,
)
from dualstream.errors import CheckpointError, DualstreamError, ScoresError
from dualstream.types import Scores


def score_trajectories(
    model: TrajectoryModel,
    *,
    part: Part,
    data: str | os.PathLike[str] | None = None,
    workers: int = 2,
    listener: Callable[[int, int], object] | None = None,
) -> tuple[Scores, dict[str, str]]:
    """Return logits of the videos of one part of a run's split, and why others have none.

    Trajectories that are not there yet are computed and kept, in `trajectories` beside the
    manifest. A video without any, as where nothing moves or there are fewer than 16 frames, has
    equal scores.

    Args:
        model: of a run folder.
        part: "held_out" and "train" serve to fit a fusion.
        data: another place of the manifest than the run's own.
        workers: processes that compute trajectories.
        listener: called after every video with the number of those done, and of all.

    Raises:
        CheckpointError: the manifest's classes are not the run's.
        ScoresError: no video could be scored.
    """
    folder = Path(data or model.info.manifest)
    manifest = Manifest.read(folder)
    if manifest.classes != model.classes:
        raise CheckpointError(
            f"The classes of {model.folder} are not those of {folder}. Test with the data set that "
            "the stream was trained on, or train again."
        )
    videos, store = videos_of(manifest, model.recipe, part), store_of(model.recipe, folder)
    rows, failures = {}, {}
    for done, outcome in enumerate(store.extract(jobs_of(videos), workers=workers), start=1):
        try:
            if outcome.status == "failed":
                failures[outcome.name] = outcome.error
            else:
                rows[outcome.name] = model.logits(sums_of(model.codebook, store.read(outcome.name)))
        except DualstreamError as error:
            failures[outcome.name] = str(error)
        if listener is not None:
            listener(done, len(videos))
    scored = [record for record in videos.records if record.name in rows]
    if not scored:
        raise ScoresError("No video could be scored; the errors of the single videos say why.")
    names = tuple(record.name for record in scored)
    labels = np.array([record.label for record in scored], np.int64)
    table = np.stack([rows[name] for name in names])
    return Scores(names, labels, table, model.classes, "logits"), failures
