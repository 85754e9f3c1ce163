"""`dualstream fuse` as a user calls it."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from tests.cli.command import dualstream
from typer.testing import CliRunner

from dualstream.cli.fuse import fuse as verb
from dualstream.errors import DualstreamError, InputError, ScoresError
from dualstream.scores import Fusion, fuse, measure, read_scores, write_scores
from dualstream.types import Scores

CLASSES = ("red left", "red right", "blue left", "blue right")


def stream(number: int, *, prefix: str, n: int, seed: int, labels: bool = True) -> Scores:
    """Stream 0 knows the colour, stream 1 the direction."""
    rng = np.random.default_rng(seed)
    truth, classes = np.arange(n) % 4, np.arange(4)
    seen, known = (truth // 2, classes // 2) if number == 0 else (truth % 2, classes % 2)
    logits = rng.normal(scale=0.3, size=(n, 4)) + 3.0 * (known == seen[:, None])
    return Scores(
        tuple(f"{prefix}{i}.mp4" for i in range(n)),
        (truth if labels else np.full(n, -1)).astype(np.int64),
        logits.astype(np.float32),
        CLASSES,
        "logits",
    )


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Two run folders with test scores and scores of held-out training videos."""
    folders = []
    for number, name in enumerate(("rgb", "flow")):
        folder = tmp_path / "runs" / name
        write_scores(folder / "scores.npz", stream(number, prefix="test", n=40, seed=number))
        held_out = stream(number, prefix="train", n=32, seed=2 + number)
        write_scores(folder / "scores_held_out.npz", held_out)
        folders.append(folder)
    return folders


def call(*arguments: object) -> str:
    """What the verb prints; an error of ours comes through as in the real command line."""
    app = typer.Typer()
    app.command()(verb)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, DualstreamError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def call_json(*arguments: object) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(call(*arguments, "--json"))
    return value


def test_mean_of_two_runs_as_a_table_and_as_json(runs: list[Path]) -> None:
    text = call(*runs, "--method", "mean")
    assert "40 videos, fusion: mean" in text
    expected = fuse([read_scores(run / "scores.npz") for run in runs])
    accuracy = measure(expected)
    assert f"{100 * accuracy.top_1:.1f}" in text
    value = call_json(*runs, "--method", "mean")
    assert list(value["accuracy"]) == ["rgb", "flow", "fused (mean)"]
    assert value["accuracy"]["fused (mean)"] == {
        "top1": accuracy.top_1,
        "top5": None,
        "mean_class": accuracy.mean_class,
    }
    assert (value["videos"], value["method"], value["weights"]) == (40, "mean", None)
    assert (value["temperatures"], value["advice"]) == (None, None)


def test_the_fitted_fusion_is_the_default_where_the_runs_have_held_out_scores(
    runs: list[Path], tmp_path: Path
) -> None:
    value = call_json(*runs, "--out", tmp_path)
    assert (value["method"], value["advice"]) == ("weighted", None)
    streams, held_out = (
        [read_scores(run / name) for run in runs] for name in ("scores.npz", "scores_held_out.npz")
    )
    expected = fuse(streams, method="weighted", fit_on=held_out)
    np.testing.assert_array_equal(read_scores(tmp_path / "scores.npz").scores, expected.scores)
    fusion = Fusion.load(tmp_path / "fusion.json")
    assert value["weights"] == list(fusion.weights)
    assert value["temperatures"] == list(fusion.temperatures)
    (runs[1] / "scores_held_out.npz").unlink()
    assert call_json(*runs)["method"] == "mean"


def test_without_them_one_line_says_what_would_fit_the_weights(runs: list[Path]) -> None:
    files = [str(run / "scores.npz") for run in runs]
    done = dualstream("fuse", *files)
    (line,) = done.stderr.splitlines()
    assert "equal and unfitted" in line
    assert "dualstream test RUN --part held_out" in line
    assert call_json(*files)["advice"] == line
    assert dualstream("fuse", *files, "--method", "mean").stderr == ""
    assert dualstream("fuse", *files, "--weights", "1,2").stderr == ""
    assert dualstream("fuse", *map(str, runs)).stderr == ""


def test_given_weights_and_files_written(runs: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "fused"
    value = call_json(*runs, "--method", "weighted", "--weights", "1,3", "--out", out)
    assert value["weights"] == [0.25, 0.75]
    streams = [read_scores(run / "scores.npz") for run in runs]
    expected = fuse(streams, method="weighted", weights=[1, 3])
    np.testing.assert_array_equal(read_scores(out / "scores.npz").scores, expected.scores)
    again = Fusion.load(out / "fusion.json").apply(streams)
    np.testing.assert_array_equal(again.scores, expected.scores)
    assert value["files"] == {
        "scores": str(out / "scores.npz"),
        "fusion": str(out / "fusion.json"),
    }


def test_an_npz_as_output(runs: list[Path], tmp_path: Path) -> None:
    call(*runs, "--out", tmp_path / "both.npz")
    assert len(read_scores(tmp_path / "both.npz")) == 40
    assert Fusion.load(tmp_path / "both.fusion.json").method == "weighted"


@pytest.mark.parametrize("method", ["weighted", "svm", "logistic"])
def test_held_out_scores_of_the_runs_are_learned_from(runs: list[Path], method: str) -> None:
    value = call_json(*runs, "--method", method)
    assert value["accuracy"][f"fused ({method})"]["top1"] > 0.95


def test_fit_files_are_taken_before_those_of_the_runs(runs: list[Path], tmp_path: Path) -> None:
    for number in range(2):
        held_out = stream(number, prefix="other", n=16, seed=9)
        write_scores(tmp_path / f"fit{number}.npz", held_out)
    tests = [run / "scores.npz" for run in runs]
    options = ["--fit", tmp_path / "fit0.npz", "--fit", tmp_path / "fit1.npz"]
    assert "fused (svm)" in call_json(*tests, "--method", "svm", *options)["accuracy"]
    assert "svm, C = " in call(*tests, "--method", "svm", *options)
    with pytest.raises(ScoresError, match="fitting on the test set"):
        call(*tests, "--method", "svm", "--fit", tests[0], "--fit", tests[1])


def test_all_methods_that_are_possible(runs: list[Path]) -> None:
    everything = call_json(*runs, "--all")["accuracy"]
    assert list(everything) == ["rgb", "flow"] + [
        f"fused ({m})" for m in ("weighted", "mean", "max", "product", "svm", "logistic")
    ]
    files = [run / "scores.npz" for run in runs]
    without = call_json(*files, "--all")["accuracy"]
    assert list(without) == ["rgb", "flow", "fused (mean)", "fused (max)", "fused (product)"]


def test_report_is_written(runs: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    assert call_json(*runs, "--report", path)["files"] == {"report": str(path)}
    text = path.read_text(encoding="utf-8")
    assert "rgb + flow" in text
    assert "fused" in text


def test_unknown_classes_are_joined_without_accuracy(tmp_path: Path) -> None:
    for number in range(2):
        scores = stream(number, prefix="x", n=8, seed=0, labels=False)
        write_scores(tmp_path / f"{number}.npz", scores)
    value = call_json(tmp_path / "0.npz", tmp_path / "1.npz", "--out", tmp_path / "out")
    assert value["accuracy"] == {}
    assert len(read_scores(tmp_path / "out" / "scores.npz")) == 8


def test_foreign_files(tmp_path: Path) -> None:
    for number in range(2):
        scores = stream(number, prefix="x", n=8, seed=0)
        items = [
            {"pred_score": row, "gt_label": int(label)}
            for row, label in zip(scores.scores, scores.labels, strict=True)
        ]
        (tmp_path / f"{number}.pkl").write_bytes(pickle.dumps(items))
    accuracy = call_json(tmp_path / "0.pkl", tmp_path / "1.pkl")["accuracy"]
    assert accuracy["fused (mean)"]["top1"] == 1.0


def test_names_of_streams_stay_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        scores = stream(0, prefix="x", n=8, seed=0)
        write_scores(tmp_path / name / "rgb.npz", scores)
    one, other = tmp_path / "a" / "rgb.npz", tmp_path / "b" / "rgb.npz"
    assert list(call_json(one, other)["accuracy"])[:2] == [str(one), str(other)]
    assert list(call_json(one, one)["accuracy"])[:2] == [f"1: {one}", f"2: {one}"]


def test_wrong_calls_say_what_to_do(runs: list[Path], tmp_path: Path) -> None:
    files = [run / "scores.npz" for run in runs]
    with pytest.raises(InputError, match="dualstream test RUN --part held_out"):
        call(*files, "--method", "svm")
    with pytest.raises(InputError, match="belong to the method 'weighted', not to 'mean'"):
        call(*files, "--method", "mean", "--weights", "1,2")
    with pytest.raises(InputError, match="numbers with commas"):
        call(*files, "--method", "weighted", "--weights", "1;2")
    with pytest.raises(InputError, match="2 streams need 2 weights, got 3"):
        call(*files, "--method", "weighted", "--weights", "1,2,3")
    with pytest.raises(InputError, match="--report"):
        call(*files, "--data", tmp_path)
    with pytest.raises(ScoresError, match="no such score file"):
        call(tmp_path / "missing", files[0])
