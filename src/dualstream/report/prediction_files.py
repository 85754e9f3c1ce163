"""Predictions and features as JSON has them, an entry a video, and as Parquet files."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import MissingDependencyError, check_choice
from dualstream.files import replacing
from dualstream.report.timeline_files import segment_entry
from dualstream.scores.timeline import Segment
from dualstream.types import Features, Prediction, top_classes

Content = Literal["predictions", "features"]
"""Whether entries hold classes or vectors."""

Entry = Mapping[str, Any]
"""Of one video: its `source`, and what was found or the `error`."""

_ROWS_AT_ONCE = 1000
"""Rows of a group of a Parquet file, which are held in memory."""


def prediction_entry(
    prediction: Prediction, segments: Sequence[Segment], *, top: int
) -> dict[str, Any]:
    """Return source, classes and timeline of a video as `dualstream predict --json` has them.

    Args:
        prediction: of the video.
        segments: of its timeline.
        top: classes to give, the most probable ones.
    """

    def ranked(values: NDArray[np.float32]) -> list[dict[str, Any]]:
        best = top_classes(values, prediction.classes, top)
        return [{"class": name, "probability": round(share, 6)} for name, share in best]

    return {
        "source": prediction.source,
        "top": ranked(prediction.probabilities),
        "streams": {name: ranked(values) for name, values in prediction.streams.items()},
        "timeline": [
            {"start": float(start), "end": float(end), "top": ranked(values)}
            for (start, end), values in zip(
                prediction.window_seconds, prediction.window_probabilities, strict=True
            )
        ],
        "segments": [segment_entry(segment) for segment in segments],
        "cuts": [round(float(seconds), 3) for seconds in prediction.cut_seconds],
    }


def features_entry(features: Features) -> dict[str, Any]:
    """Return source and vectors of a video: of each window start, end and network -> vector.

    Numbers have the nine digits from which float32 comes back as it was.
    """
    return {
        "source": features.source,
        "windows": [
            {
                "start": float(start),
                "end": float(end),
                "features": {
                    name: [float(f"{value:.9g}") for value in table[window].tolist()]
                    for name, table in features.vectors.items()
                },
            }
            for window, (start, end) in enumerate(features.window_seconds)
        ],
    }


def check_parquet() -> None:
    """Raise MissingDependencyError unless Parquet files can be written here."""
    try:
        importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise MissingDependencyError(
            "Parquet files need pyarrow: pip install 'dualstream[parquet]'."
        ) from error


def write_parquet(
    path: str | os.PathLike[str], entries: Iterable[Entry], *, content: Content
) -> Path:
    """Write the entries of videos as a Parquet file, whole or not at all, in bounded memory.

    Predictions are a row a video, with the columns that an entry has; `streams` is a map from
    network to classes. Features are a row for each video, window and network: source, start, end
    (seconds), network, features (list of float32). A video that failed is a row of its source and
    error, all else null.

    Args:
        path: of the file.
        entries: as `prediction_entry` or `features_entry` give them, or of source and error.
        content: which of the two.

    Raises:
        MissingDependencyError: pyarrow is not installed.
        DiskError: the file cannot be written.
    """
    check_choice("content", content, Content)
    check_parquet()
    pa, parquet = map(importlib.import_module, ("pyarrow", "pyarrow.parquet"))
    schema = _schema(pa, content)
    rows_of = _prediction_rows if content == "predictions" else _feature_rows
    rows = chain.from_iterable(map(rows_of, entries))
    with replacing(path) as temporary, parquet.ParquetWriter(temporary, schema) as writer:
        while group := list(islice(rows, _ROWS_AT_ONCE)):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
    return Path(path)


def _schema(pa: Any, content: Content) -> Any:
    text, number = pa.string(), pa.float64()
    times = {"start": number, "end": number}
    classes = pa.list_(pa.struct({"class": text, "probability": number}))
    if content == "features":
        vector = pa.list_(pa.float32())
        columns = {"source": text, **times, "network": text, "features": vector, "error": text}
    else:
        segment = {"label": text, **times, "confidence": number}
        columns = {
            "source": text,
            "top": classes,
            "streams": pa.map_(text, classes),
            "timeline": pa.list_(pa.struct({**times, "top": classes})),
            "segments": pa.list_(pa.struct(segment)),
            "cuts": pa.list_(number),
            "error": text,
        }
    return pa.schema(columns)


def _prediction_rows(entry: Entry) -> Iterator[dict[str, Any]]:
    row = {**entry, "source": _as_text(entry["source"])}
    if "streams" in entry:
        row["streams"] = list(entry["streams"].items())
    yield row


def _feature_rows(entry: Entry) -> Iterator[dict[str, Any]]:
    source = _as_text(entry["source"])
    if "error" in entry:
        yield {"source": source, "error": entry["error"]}
    for window in entry.get("windows", ()):
        times = {"start": window["start"], "end": window["end"]}
        for network, vector in window["features"].items():
            yield {"source": source, **times, "network": network, "features": vector}


def _as_text(name: str) -> str:
    """Return a name of a file whose bytes need not be UTF-8, which Parquet asks for."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
