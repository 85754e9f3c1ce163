"""Entries of predictions and features, and their Parquet files."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dualstream.errors import MissingDependencyError, UnknownNameError
from dualstream.report.prediction_files import (
    features_entry,
    prediction_entry,
    write_parquet,
)
from dualstream.scores.timeline import Segment
from dualstream.types import Features, Prediction

PREDICTION = Prediction(
    source="a.mp4",
    classes=("run", "jump", "sit"),
    probabilities=np.array([0.25, 0.7, 0.05], np.float32),
    window_seconds=np.array([[0.0, 4.0], [4.0, 8.0]]),
    window_probabilities=np.array([[0.4, 0.5, 0.1], [0.1, 0.9, 0.0]], np.float32),
    streams={"rgb": np.array([0.5, 0.4, 0.1], np.float32), "flow": np.eye(3, dtype=np.float32)[1]},
    cut_seconds=np.array([4.0]),
)
SEGMENTS = (Segment(0.0, 8.0, "jump", 0.7),)
FEATURES = Features(
    "a.mp4",
    np.array([[0.0, 4.0], [4.0, 8.0]]),
    {
        "rgb": np.array([[0.1, -2e-9, 16777216.0], [1 / 3, 0, 3e38]], np.float32),
        "pair/flow": np.array([[0.5], [0.7]], np.float32),
    },
)
FAILED = {"source": "b.mp4", "error": "b.mp4 is no video."}


def ranked(*pairs: tuple[str, float]) -> list[dict[str, Any]]:
    return [{"class": name, "probability": share} for name, share in pairs]


def test_the_entry_of_a_prediction() -> None:
    entry = prediction_entry(PREDICTION, SEGMENTS, top=2)
    assert entry == {
        "source": "a.mp4",
        "top": ranked(("jump", 0.7), ("run", 0.25)),
        "streams": {
            "rgb": ranked(("run", 0.5), ("jump", 0.4)),
            "flow": ranked(("jump", 1.0), ("run", 0.0)),
        },
        "timeline": [
            {"start": 0.0, "end": 4.0, "top": ranked(("jump", 0.5), ("run", 0.4))},
            {"start": 4.0, "end": 8.0, "top": ranked(("jump", 0.9), ("run", 0.1))},
        ],
        "segments": [{"label": "jump", "start": 0.0, "end": 8.0, "confidence": 0.7}],
        "cuts": [4.0],
    }
    assert json.loads(json.dumps(entry)) == entry


def test_features_come_back_as_they_were() -> None:
    entry = json.loads(json.dumps(features_entry(FEATURES)))
    assert [(w["start"], w["end"]) for w in entry["windows"]] == [(0.0, 4.0), (4.0, 8.0)]
    for name, table in FEATURES.vectors.items():
        read = np.array([window["features"][name] for window in entry["windows"]], np.float32)
        np.testing.assert_array_equal(read, table)


def without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


def test_parquet_of_predictions_equals_the_entries(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    entries = [prediction_entry(PREDICTION, SEGMENTS, top=3), FAILED]
    table = parquet.read_table(
        write_parquet(tmp_path / "a.parquet", entries, content="predictions")
    )
    rows = [without_nulls(row) for row in table.to_pylist()]
    rows[0]["streams"] = dict(rows[0]["streams"])
    assert rows == entries


def test_parquet_of_features_has_a_row_a_window_and_network(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    entries = [features_entry(FEATURES), FAILED]
    file = write_parquet(tmp_path / "a.parquet", entries, content="features")
    table = parquet.read_table(file)
    *rows, failed = table.to_pylist()
    assert without_nulls(failed) == FAILED
    assert [(row["source"], row["start"], row["network"]) for row in rows] == [
        ("a.mp4", 0.0, "rgb"),
        ("a.mp4", 0.0, "pair/flow"),
        ("a.mp4", 4.0, "rgb"),
        ("a.mp4", 4.0, "pair/flow"),
    ]
    assert str(table.schema.field("features").type.value_type) == "float"
    for window, start in enumerate((0.0, 4.0)):
        for name, vectors in FEATURES.vectors.items():
            (found,) = (r for r in rows if (r["start"], r["network"]) == (start, name))
            np.testing.assert_array_equal(np.float32(found["features"]), vectors[window])
            assert found["end"] == start + 4


def test_parquet_of_names_that_are_no_text(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    entry = {"source": "caf\udce9.mp4", "error": "no"}  # as Python reads the byte E9 of a name
    file = write_parquet(tmp_path / "a.parquet", [entry], content="predictions")
    assert parquet.read_table(file)["source"].to_pylist() == ["caf\\udce9.mp4"]


def test_parquet_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    file = write_parquet(tmp_path / "a.parquet", [FAILED], content="predictions")

    def broken() -> Iterator[dict[str, Any]]:
        for _ in range(1500):
            yield FAILED
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_parquet(file, broken(), content="predictions")
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]
    assert parquet.read_table(file).num_rows == 1
    write_parquet(file, [FAILED] * 2500, content="predictions")
    assert parquet.read_table(file).num_rows == 2500


def test_without_pyarrow_its_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'dualstream\[parquet\]'"):
        write_parquet(tmp_path / "a.parquet", [], content="predictions")
    with pytest.raises(UnknownNameError, match="content"):
        write_parquet(tmp_path / "a.parquet", [], content="rows")  # type: ignore[arg-type]
