"""The command as a user meets it: verbs, exit codes, errors in one line, the whole chain."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.cli.command import dualstream, succeed
from tests.engine.tiny import tiny_recipe

from dualstream import __version__
from dualstream.cli.app import explain
from dualstream.engine.demo import DemoResult, StageListener
from dualstream.engine.recipe import dump_recipe
from dualstream.scores import Accuracy, write_scores
from dualstream.types import Scores

VERBS = {
    *("demo", "prepare", "flow", "train", "transfer", "expand", "test", "fuse", "predict"),
    *("explain", "models", "weights", "inspect", "teach", "trajectories"),
}

SUB_VERBS = {"weights": ["list"], "teach": ["train"]}


def test_help_lists_every_verb() -> None:
    words = succeed("--help").split()
    assert set(words) >= VERBS


def test_version() -> None:
    assert succeed("--version").strip() == f"dualstream {__version__}"


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_explains_itself(verb: str) -> None:
    assert "--json" in succeed(verb, *SUB_VERBS.get(verb, []), "--help")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train"], 2, "Give the data folder, --recipe and --out"),
        (["train", "x", "--recipe", "tsn_rbg", "--out", "y"], 2, "Did you mean 'tsn_rgb'?"),
        (["train", "x", "train.epoch=1", "--recipe", "tsn_rgb", "--out", "y"], 2, "epochs?"),
        (["train", "x", "--recipe", "tsn_rgb", "--out", "y"], 1, "there is no manifest here"),
        (["train", "x", "--resume", "y"], 2, "--resume takes its recipe"),
        (["train", "--resume", "y", "--limit", "1"], 2, "--resume takes its recipe"),
        (["train", "--resume", "y", "--flow", "z"], 2, "--resume takes its recipe"),
        (["predict", "a.mp4", "--weights", "nothing"], 2, "weights 'nothing'"),
        (["inspect", "x3d_s", "--option", "dropout=abc"], 2, "dropout of x3d_s must be float"),
        (["inspect", "x3d_s", "--option", "name=abc"], 2, "name is no option"),
        (["test", "nothing"], 1, "nothing is not a run folder"),
        (["predict", __file__, "--checkpoint", "nothing"], 1, "nothing is not a run folder"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_errors_are_one_line_and_a_code(
    arguments: list[str], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = dualstream(*arguments)
    assert result.code == code, result.stderr
    assert message in result.stderr
    assert result.stdout == ""
    in_json = json.loads(dualstream(*arguments, "--json").stdout)
    assert in_json["exit_code"] == code
    assert message in in_json["error"] or "stderr says why" in in_json["error"]


def test_a_console_without_the_letters_of_a_path(tmp_path: Path) -> None:
    scores = Scores(("a",), np.array([0]), np.eye(2, dtype=np.float32)[:1], ("x", "y"), "logits")
    write_scores(tmp_path / "über größe" / "scores.npz", scores)
    result = subprocess.run(
        [sys.executable, "-m", "dualstream", "fuse", tmp_path / "über größe"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        timeout=1500,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert b"\\xfcber gr\\xf6\\xdfe" in result.stdout


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (PermissionError(13, "Permission denied", "a.npz"), ("[Errno 13] Permission denied", 1)),
        (MemoryError(), ("Not enough memory (the system gives no more)", 1)),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 8 TB"),
            ("Not enough memory ([enforce fail] DefaultCPUAllocator: can't allocate", 1),
        ),
        (RuntimeError("CUDA out of memory. Tried"), ("Not enough memory (CUDA out of", 1)),
        (RuntimeError("shapes do not fit"), None),
        (ValueError("a bug"), None),
    ],
)
def test_kin_of_os_errors_are_messages_and_bugs_are_not(
    error: Exception, found: tuple[str, int] | None
) -> None:
    explained = explain(error)
    if explained is None or found is None:
        assert explained is found
    else:
        assert explained[0].startswith(found[0])
        assert explained[1] == found[1]


@pytest.fixture(scope="module")
def runs(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with trained runs `rgb` and `flow`, made by the command."""
    folder = tmp_path_factory.mktemp("cli_runs")
    for modality in ("rgb", "flow"):
        recipe = folder / f"{modality}.yaml"
        recipe.write_text(dump_recipe(tiny_recipe(modality, hold_out=0.25, epochs=2)))
        printed = succeed(
            "train", tiny_data, "--recipe", recipe, "--out", folder / modality, "--json"
        )
        assert json.loads(printed)["epochs"] == 2
    return folder


def test_without_a_terminal_stderr_gets_lines(runs: Path, tiny_data: Path, tmp_path: Path) -> None:
    result = dualstream("test", runs / "rgb", "--workers", 0, "--out", tmp_path / "a.npz", "--json")
    assert json.loads(result.stdout)["videos"] == 4
    assert result.stderr.splitlines()[-1].startswith("test: 4 of 4 videos, ")
    recipe, out = runs / "rgb.yaml", tmp_path / "run"
    result = dualstream("train", tiny_data, "--recipe", recipe, "--out", out, "--json")
    assert json.loads(result.stdout)["epochs"] == 2
    first, second = result.stderr.splitlines()
    assert first.startswith("train: 1 of 2 batches, epoch 1/2, loss ")
    assert second.startswith("train: 2 of 2 batches, epoch 2/2, loss ")
    assert ", held out " in first


def test_the_demo_tells_its_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_demo(out: Path, *, seed: int, workers: int, listener: StageListener) -> DemoResult:
        listener("render", 16, 16, None)
        listener("train temporal", 200, 200, 0.25)
        half, both = Accuracy(32, 0.25, 0.5, 0.25), Accuracy(32, 1.0, 1.0, 1.0)
        return DemoResult(half, half, both, out / "report.html", 60.0)

    monkeypatch.setattr("dualstream.engine.demo.run_demo", run_demo)
    result = dualstream("demo", "--out", tmp_path, "--json")
    assert json.loads(result.stdout)["fused"] == {"top1": 1.0, "top5": 1.0, "mean_class": 1.0}
    first, second = result.stderr.splitlines()
    assert first.startswith("render: 16 of 16 videos, ")
    assert second.startswith("train temporal: 200 of 200 batches, loss 0.250, ")


def test_test_fuse_and_predict_follow_training(runs: Path, tiny_data: Path) -> None:
    for modality in ("rgb", "flow"):
        printed = json.loads(succeed("test", runs / modality, "--workers", 0, "--json"))
        assert printed["videos"] == 4
        assert printed["failed"] == 0
        assert 0 <= printed["top1"] <= 1
        held_out = succeed("test", runs / modality, "--part", "held_out", "--workers", 0, "--json")
        assert json.loads(held_out)["videos"] == 2
        metrics = json.loads((runs / modality / "metrics.json").read_text())
        assert metrics["test"]["top1"] == printed["top1"]
    page = runs / "report.html"
    printed = succeed(
        "fuse", runs / "rgb", runs / "flow", "--report", page, "--data", tiny_data, "--json"
    )
    assert json.loads(printed)
    assert "<html" in page.read_text()
    video = tiny_data / "videos/right/right_4.mp4"
    both = ["--checkpoint", runs / "rgb", "--checkpoint", runs / "flow"]
    result = json.loads(succeed("predict", video, *both, "--json"))
    (prediction,) = result["videos"]
    assert {row["class"] for row in prediction["top"]} == {"right", "down"}
    assert set(prediction["streams"]) == {"rgb", "flow"}
    assert sum(row["probability"] for row in prediction["top"]) == pytest.approx(1, abs=1e-4)
    table = succeed("predict", video, *both)
    assert "fused" in table
    assert "right" in table


def test_predict_reports_bad_files_and_goes_on(
    runs: Path, tiny_data: Path, tmp_path: Path, tiny_video: Callable[..., Path]
) -> None:
    shutil.copy(tiny_data / "videos/down/down_4.mp4", tmp_path / "good.mp4")
    (tmp_path / "bad.mp4").write_bytes(b"")
    result = dualstream("predict", tmp_path, "--checkpoint", runs / "rgb", "--json")
    assert result.code == 1
    printed = json.loads(result.stdout)
    assert [Path(video["source"]).name for video in printed["videos"]] == ["good.mp4"]
    assert [Path(name).name for name in printed["failed"]] == ["bad.mp4"]
    assert "bad.mp4" in result.stderr


def test_a_broken_test_video_is_named_and_the_code_is_1(
    runs: Path, tiny_data: Path, tmp_path: Path
) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(tiny_data, data)
    shutil.copytree(runs / "rgb", run)
    video = data / "videos/right/right_4.mp4"
    video.write_bytes(video.read_bytes()[:200])
    result = dualstream("test", run, "--data", data, "--workers", 0, "--json")
    assert result.code == 1
    printed = json.loads(result.stdout)
    assert (printed["videos"], printed["failed"]) == (3, 1)
    assert "right_4.mp4" in result.stderr
