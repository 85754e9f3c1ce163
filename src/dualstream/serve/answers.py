"""Files of a finished job: what was found, as JSON, CSV and SRT."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from dualstream.files import write_text
from dualstream.report.prediction_files import prediction_entry
from dualstream.report.timeline_files import write_timeline
from dualstream.scores.timeline import find_segments, totals
from dualstream.serve.documents import PredictOptions
from dualstream.serve.messages import RESULT
from dualstream.types import Prediction
from dualstream.video import VideoReader

TIMELINES = ("timeline.csv", "timeline.srt")
CURVES = 8
"""Classes that the page draws over time."""


def write_answer(
    folder: Path, prediction: Prediction, video: VideoReader, name: str, options: PredictOptions
) -> None:
    """Write all files of a job, each whole or not at all.

    Args:
        folder: of the job.
        prediction: of the video.
        video: that it is of.
        name: by which the client calls it.
        options: which segments are wanted.

    Raises:
        DiskError: a file cannot be written.
    """
    segments = find_segments(
        prediction.window_seconds,
        prediction.window_probabilities,
        prediction.classes,
        labels=prediction.labels,
        **options.thresholds,
    )
    for file in TIMELINES:
        write_timeline(folder / file, {name: segments}, classes=prediction.classes)
    height, width = video.size
    seconds = video.pts_seconds
    entry = prediction_entry(replace(prediction, source=name), segments, top=options.top)
    entry |= {
        "video": {
            "width": width,
            "height": height,
            "fps": round(video.fps, 3),
            "frames": video.num_frames,
            "seconds": round(float(seconds[-1] - seconds[0]) + 1 / video.fps, 3),
        },
        "totals": [
            {"label": label, **{k: round(v, 3) for k, v in asdict(total).items()}}
            for label, total in totals(segments).items()
        ],
        "curves": _curves(prediction),
    }
    write_text(folder / RESULT, json.dumps(entry, ensure_ascii=False, allow_nan=False))


def _curves(prediction: Prediction) -> dict[str, Any]:
    """Probabilities in time of the classes that are highest somewhere, the highest first."""
    highest = prediction.window_probabilities.max(axis=0)
    chosen = (-highest).argsort(kind="stable")[:CURVES]
    return {
        prediction.classes[label]: [
            round(share, 4) for share in prediction.window_probabilities[:, label].tolist()
        ]
        for label in chosen.tolist()
    }
