"""Prediction in bulk: many videos into one file, by several processes or a Ray cluster."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from dualstream.engine.infer.journal import open_journal
from dualstream.engine.infer.predictor import Predictor, PredictorOptions
from dualstream.engine.infer.recognizer import open_models
from dualstream.engine.run.checkpoint import run_sha256
from dualstream.errors import DualstreamError, InputError, check_least
from dualstream.jobs import Shard, run_jobs, run_on_cluster
from dualstream.jobs.cluster import import_ray
from dualstream.jobs.processes import reason_of_death
from dualstream.models.weights import weights_entry
from dualstream.report.prediction_files import (
    Content,
    check_parquet,
    features_entry,
    prediction_entry,
    write_parquet,
)
from dualstream.scores.timeline import Thresholds, check_thresholds, find_segments
from dualstream.video.container import is_url

PARQUET = ".parquet"

_NO_PART = frozenset({"fusion", "optimize"})
"""Options of `Predictor` that are no part of the settings as they are."""

_loaded: dict[str, Predictor] = {}
"""The networks of this worker process, by the key of their settings."""


@dataclass(frozen=True, kw_only=True)
class BulkSettings:
    """How every video is predicted: networks, which worker processes load by name, and options."""

    runs: tuple[Path, ...] = ()
    """Run folders."""
    weights: tuple[str, ...] = ()
    """Names of published weights, after the runs."""
    device: str = "cpu"
    content: Content = "predictions"
    """Or `features`: the vectors that classifiers see (`Predictor.features`)."""
    top: int = 5
    """Classes of a prediction that are kept."""
    options: PredictorOptions = field(default_factory=PredictorOptions)
    """Of `Predictor`."""
    thresholds: Thresholds = field(default_factory=Thresholds)
    """Of the segments of a prediction."""

    def __post_init__(self) -> None:
        check_least(1, top=self.top)
        check_thresholds(**self.thresholds)
        if not self.runs and not self.weights:
            raise InputError("Prediction needs at least one network: give runs or weights.")

    def described(self) -> dict[str, Any]:
        """Return all that the lines of a file depend on, as JSON; networks by their checksums.

        Raises:
            CheckpointError: a run folder that cannot be used.
            UnknownNameError: weights that there are not.
        """
        runs = [f"{run.name} {run_sha256(run)[:16]}" for run in self.runs]
        entries = [weights_entry(name) for name in self.weights]
        named = [f"{entry.name} {(entry.tensors_sha256 or '')[:16]}" for entry in entries]
        options: dict[str, Any] = {
            key: value for key, value in self.options.items() if key not in _NO_PART
        }
        described = {"content": self.content, "networks": [*runs, *named], **options}
        if self.content == "features":
            described.pop("weights", None)
            return described
        if fusion := self.options.get("fusion"):
            text = json.dumps(asdict(fusion), default=np.ndarray.tolist)
            described["fusion"] = f"{fusion} {hashlib.sha256(text.encode()).hexdigest()[:16]}"
        enter, leave, merge_seconds, least_seconds = check_thresholds(**self.thresholds)
        return described | {
            "top": self.top,
            "enter": enter,
            "leave": leave,
            "merge_seconds": merge_seconds,
            "least_seconds": least_seconds,
        }

    def predictor(self) -> Predictor:
        """Load the networks."""
        return Predictor(open_models(self.runs, self.weights, device=self.device), **self.options)


@dataclass(frozen=True)
class BulkFile:
    """One video of the job."""

    source: str
    """Its name, as it was given."""
    path: str
    """Where it lies, for processes that started elsewhere; or the URL."""


@dataclass(frozen=True)
class BulkOutcome:
    """What became of one video."""

    source: str
    error: str | None
    """Why it failed; None where it went well."""
    is_kept: bool
    """The file had its line already."""


class BulkPrediction:
    """Predictions, or features, of many videos in one file; the same call goes on after a kill.

    The file has a line of JSON for each video: `prediction_entry` or `features_entry`, or its
    source and `error` where it failed. Lines are whole and come in the order in which videos are
    finished. A file that is there already is gone on with if it was made with the same settings,
    which lie beside it (`NAME.settings.json`). A `.parquet` is written when all lines are there,
    from the lines in `NAME.jsonl` beside it.

    Work is done in processes of its own: a script has its call of `run` under
    `if __name__ == "__main__":`.

        job = BulkPrediction(files, "predictions.jsonl", BulkSettings(runs=(Path("runs/rgb"),)))
        failed = [outcome.source for outcome in job.run(workers=8) if outcome.error]

    Args:
        sources: files and URLs; one that is given twice counts once.
        out: a `.jsonl` or `.parquet` file.
        settings: how each video is predicted.
        shard: take one part of the sources only, into a file of its own (`Shard.beside`).
        retry_failed: predict again what failed in an earlier call.

    Raises:
        InputError: another suffix.
        MissingDependencyError: `.parquet`, and pyarrow is not installed.
    """

    def __init__(
        self,
        sources: Iterable[str],
        out: str | os.PathLike[str],
        settings: BulkSettings,
        *,
        shard: Shard | None = None,
        retry_failed: bool = False,
    ) -> None:
        path = Path(out)
        if path.suffix not in (".jsonl", PARQUET):
            raise InputError(f"{path}: predictions go to a .jsonl or .parquet file; name it so.")
        if path.suffix == PARQUET:
            check_parquet()
        every = list(dict.fromkeys(sources))
        self.sources = tuple(every if shard is None else shard.part(every))
        """Those of the shard, in their order."""
        self.path = path if shard is None else shard.beside(path)
        """The file that is written."""
        self.journal_path = self.path.with_suffix(".jsonl")
        """The lines."""
        self.settings = settings
        self._retry_failed = retry_failed

    def run(self, *, workers: int | None = None, ray: str | None = None) -> Iterator[BulkOutcome]:
        """Predict the videos that the file does not have; give the outcome of each.

        Each process loads the networks once. A video that cannot be read fails and the others go
        on. So it is with one whose process dies, after it was tried once more. Memory does not grow
        with the number of videos, but for their names.

        Args:
            workers: processes side by side, which share the cores; None is 1 here, and every core
                of a Ray cluster.
            ray: address of a Ray cluster (`auto`, `host:6379`) whose nodes do the work, one core
                (and the GPU, for a device other than cpu) each. Each has this version of the
                package and sees videos and run folders under the same paths.

        Yields:
            BulkOutcome, of the videos that the file has first, then in order of completion.

        Raises:
            MissingDependencyError: `ray` is asked for and not installed (raised at once).
            InputError: `workers` below 1 (raised at once); the file was made with other settings,
                or another process writes it.
            CheckpointError, WeightsError: networks that cannot be loaded.
            ClusterError: no Ray cluster can be reached.
            DiskError: the file cannot be written; what is there stays.
        """
        check_least(1, workers=1 if workers is None else workers)
        if ray is not None:
            import_ray()
        return self._run(workers, ray)

    def _run(self, workers: int | None, ray: str | None) -> Iterator[BulkOutcome]:
        described = self.settings.described()
        opened = open_journal(self.journal_path, described, retry_failed=self._retry_failed)
        with opened as journal:
            for source in self.sources:
                if source in journal.kept:
                    yield BulkOutcome(source, journal.kept[source], is_kept=True)
            due = [source for source in self.sources if source not in journal.kept]
            with closing(self._entries(due, described, workers, ray)) as entries:
                for entry in entries:
                    journal.append(entry)
                    yield BulkOutcome(entry["source"], entry.get("error"), is_kept=False)
            if self.path.suffix == PARQUET:
                write_parquet(self.path, journal.entries(), content=self.settings.content)

    def _entries(
        self, due: Sequence[str], described: dict[str, Any], workers: int | None, ray: str | None
    ) -> Generator[dict[str, Any], None, None]:
        """Yield the entries of videos as they are finished."""
        files = [BulkFile(s, s if is_url(s) else os.path.abspath(s)) for s in due]
        if not files:
            return
        settings = self.settings
        work = partial(predict_file, settings=settings, key=json.dumps(described))
        if ray is not None:
            runs = [Path(os.path.abspath(run)) for run in settings.runs]
            yield from run_on_cluster(
                partial(work, settings=replace(settings, runs=tuple(runs)), num_threads=1),
                files,
                address=ray,
                limit=workers,
                num_gpus=0 if settings.device == "cpu" else 1,
                shared=runs,
                on_failure=_failed,
            )
            return
        workers = min(workers or 1, len(files))
        num_threads = max(1, torch.get_num_threads() // workers)
        yield from run_jobs(
            partial(work, num_threads=num_threads), files, workers=workers, on_death=_died
        )


def predict_file(
    file: BulkFile, *, settings: BulkSettings, key: str, num_threads: int
) -> dict[str, Any]:
    """Return the entry of one video, in a worker process; its faults become an `error`.

    Args:
        file: the video.
        settings: networks and options.
        key: tells settings apart; the networks are loaded when it changes.
        num_threads: threads that compute.

    Raises:
        DualstreamError: the networks cannot be loaded.
    """
    if key not in _loaded:
        torch.set_num_threads(num_threads)
        cv2.setNumThreads(num_threads)
        _loaded.clear()
        _loaded[key] = settings.predictor()
    try:
        entry = _entry(_loaded[key], file.path, settings)
    # RuntimeError is what torch raises when a GPU's memory is full.
    except (DualstreamError, OSError, MemoryError, RuntimeError) as error:
        return {"source": file.source, "error": str(error) or type(error).__name__}
    return {**entry, "source": file.source}


def _entry(predictor: Predictor, path: str, settings: BulkSettings) -> dict[str, Any]:
    if settings.content == "features":
        return features_entry(predictor.features(path))
    prediction = predictor.predict(path)
    segments = find_segments(
        prediction.window_seconds,
        prediction.window_probabilities,
        prediction.classes,
        labels=prediction.labels,
        **settings.thresholds,
    )
    return prediction_entry(prediction, segments, top=settings.top)


def _failed(file: BulkFile, reason: str) -> dict[str, Any]:
    return {"source": file.source, "error": f"{file.path}: {reason}."}


def _died(file: BulkFile, exit_code: int) -> dict[str, Any]:
    return _failed(file, reason_of_death(exit_code))
