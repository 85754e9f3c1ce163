"""`dualstream transfer` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.command import dualstream
from tests.engine.tiny import tiny_recipe

from dualstream.engine.train.fit import train

STUDENT = """
title: student
source: tests
model: {name: lecture_3d_cnn}
input: {modality: rgb, num_frames: 4, short_side: 32, crop_size: 32}
data: {workers: 0, hold_out: 0.25}
train:
  epochs: 2
  batch_size: 4
  accelerator: cpu
  optimizer: {name: adamw, lr: 0.001}
test: {segments: 1, crops: center}
"""


def test_transfer_then_training_from_it(tiny_data: Path, tmp_path: Path) -> None:
    teacher, start, trained = (tmp_path / name for name in ("teacher", "start", "trained"))
    train(tiny_recipe(epochs=1), tiny_data, teacher)
    recipe = tmp_path / "student.yaml"
    recipe.write_text(STUDENT)
    common = ["--recipe", recipe, "--teacher", teacher, "--out", start]

    result = dualstream("transfer", tiny_data, "train.epochs=1", *common, "--limit", 1)
    assert result.code == 0, result.stderr
    assert "of the pairs judged rightly (chance 50%)" in result.stdout
    assert f"model.weights={start}" in result.stdout
    assert json.loads((start / "run.json").read_text())["limit"] == 1

    result = dualstream("transfer", "--resume", start, "--json")
    assert result.code == 0, result.stderr
    assert json.loads(result.stdout)["epochs"] == 1

    result = dualstream("transfer", tiny_data, *common)
    assert result.code == 2
    assert f"dualstream transfer --resume {start}" in result.stderr

    result = dualstream("test", start)
    assert result.code == 1
    assert "it knows no classes yet" in result.stderr

    result = dualstream(
        "train", tiny_data, f"model.weights={start}", "--recipe", recipe, "--out", trained, "--json"
    )
    assert result.code == 0, result.stderr
    assert json.loads(result.stdout)["epochs"] == 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "Give the data folder, --recipe, --teacher and --out"),
        (["x", "--recipe", "t3d_rgb", "--out", "y"], 2, "Give the data folder, --recipe"),
        (["--resume", "y", "--teacher", "z"], 2, "--resume takes its recipe"),
        (["--resume", "y"], 1, "y is not a run folder"),
        (
            ["x", "--recipe", "student.yaml", "--teacher", "efficientnet_lite0", "--out", "y"],
            2,
            "Did you mean 'efficientnet_lite0_imagenet'?",
        ),
    ],
)
def test_errors_are_one_line_and_a_code(
    arguments: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "student.yaml").write_text(STUDENT)
    result = dualstream("transfer", *arguments)
    assert result.code == code, result.stderr
    assert message in result.stderr
    assert not (tmp_path / "y").exists()
