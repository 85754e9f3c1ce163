"""`fuse_runs` as a Python user calls it; tests/cli/test_cli_fuse.py has its options."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.engine.tiny import changed, tiny_recipe, untrained_run

from dualstream import fuse_runs
from dualstream.errors import InputError
from dualstream.scores import Accuracy, SeveralAccuracy, read_scores, write_scores
from dualstream.types import Scores


def write(folder: Path, rows: list[list[float]], labels: list[int]) -> Path:
    names = tuple(f"{i}.mp4" for i in range(len(rows)))
    values = np.array(rows, np.float32)
    scores = Scores(names, np.array(labels), values, ("left", "right"), "probabilities")
    write_scores(folder / "scores.npz", scores)
    return folder


def test_streams_fusion_accuracy_and_files(tmp_path: Path) -> None:
    labels = [0, 1, 1, 0]
    rgb = write(tmp_path / "rgb", [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.6, 0.4]], labels)
    flow = write(tmp_path / "flow", [[0.6, 0.4], [0.3, 0.7], [0.1, 0.9], [0.2, 0.8]], labels)
    result = fuse_runs([rgb, flow], out=tmp_path / "fused", report=tmp_path / "page.html")
    assert list(result.streams) == ["rgb", "flow"]
    assert str(result.fusion) == "mean"
    np.testing.assert_allclose(result.fused.scores[2], [0.35, 0.65], rtol=1e-6)
    assert result.accuracy == {
        "rgb": Accuracy(4, 0.75, None, 0.75),
        "flow": Accuracy(4, 0.75, None, 0.75),
        "fused (mean)": Accuracy(4, 0.75, None, 0.75),
    }
    assert result.files == {
        "scores": tmp_path / "fused" / "scores.npz",
        "fusion": tmp_path / "fused" / "fusion.json",
        "report": tmp_path / "page.html",
    }
    assert all(path.is_file() for path in result.files.values())
    weighted = fuse_runs([rgb, flow], method="weighted", weights=[3, 1])
    assert str(weighted.fusion) == "weighted, 0.75 : 0.25"
    assert weighted.accuracy["fused (weighted)"].top_1 == 1.0
    assert weighted.files == {}


def test_scores_of_several_classes(tmp_path: Path) -> None:
    truth = np.array([[True, True, False], [False, True, False]])
    tables = [[[0.9, 0.8, 0.1], [0.2, 0.4, 0.6]], [[0.7, 0.2, 0.3], [0.8, 0.9, 0.4]]]
    for name, table in zip("ab", tables, strict=True):
        values, labels = np.array(table, np.float32), np.array([0, 1])
        one = Scores(("x", "y"), labels, values, ("w", "t", "s"), "probabilities", truth)
        for file in ("scores.npz", "scores_held_out.npz"):  # which nothing is fitted on
            write_scores(tmp_path / name / file, one)
    result = fuse_runs([tmp_path / "a", tmp_path / "b"], out=tmp_path, all_methods=True)
    assert result.fusion.method == "mean"
    assert list(result.accuracy) == ["a", "b", "fused (mean)", "fused (product)"]
    # b: x has w below y, which has none: 1/2. t: both have it: 1.
    assert result.accuracy["b"] == SeveralAccuracy(2, mean_ap=0.75, hit_1=1.0)
    assert read_scores(result.files["scores"]).truth is not None
    with pytest.raises(InputError, match="one class a video"):
        fuse_runs([tmp_path / "a", tmp_path / "b"], report=tmp_path / "page.html")


def test_unknown_classes_are_not_measured(tmp_path: Path) -> None:
    rgb = write(tmp_path / "rgb", [[0.9, 0.1]], [-1])
    assert fuse_runs([rgb, rgb]).accuracy == {}


def test_the_page_shows_where_the_streams_looked(tiny_data: Path, tmp_path: Path) -> None:
    runs = []
    names = ("right/right_4.mp4", "down/down_4.mp4", "down/down_5.mp4")
    for stream, values in (("rgb", (0.9, 0.2, 0.4)), ("flow", (0.6, 0.3, 0.7))):
        recipe = changed(tiny_recipe(stream), clip={"short_side": 72, "crop_size": 64})
        runs.append(untrained_run(recipe, tiny_data, tmp_path / stream))
        rows = np.array([(value, 1 - value) for value in values], np.float32)
        classes, labels = ("right", "down"), np.array([0, 1, 1])
        scores = Scores(names, labels, rows, classes, "probabilities")
        write_scores(tmp_path / stream / "scores.npz", scores)
    page = tmp_path / "page.html"
    fuse_runs(runs, report=page, data=tiny_data, explain=2)
    text = page.read_text()
    assert text.count('<p class="strip"><img src="data:image/jpeg') == 4  # two videos, two streams
    assert 'href="#explanations"' in text
    fuse_runs(runs, report=page, data=tiny_data)
    assert "#explanations" not in page.read_text()
    with pytest.raises(InputError, match="give `data`"):
        fuse_runs(runs, report=page, explain=1)
    with pytest.raises(InputError, match="run folders of all streams"):
        fuse_runs([tmp_path / "rgb" / "scores.npz"], report=page, data=tiny_data, explain=1)


def test_options_that_do_not_go_together(tmp_path: Path) -> None:
    rgb = write(tmp_path / "rgb", [[0.9, 0.1]], [0])
    with pytest.raises(InputError, match="give both"):
        fuse_runs([rgb], data=tmp_path)
    with pytest.raises(InputError, match="learns from `fit_on`"):
        fuse_runs([rgb, rgb], method="svm")
