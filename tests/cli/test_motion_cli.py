"""Hidden Two-Stream as a user meets it: three runs, each from the one before."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.command import dualstream, succeed

COMMON = """
source: tests
clip: {short_side: 32, crop_size: 24}
inputs: {rgb: {num_frames: 3}}
data: {workers: 0, hold_out: 0.25}
test: {segments: 1, crops: center}
"""

TRAIN = """
train:
  epochs: 1
  batch_size: 4
  accelerator: cpu
  optimizer: {name: adamw, lr: 0.001}
"""

MOTION = f"""
title: motion
model: {{name: motionnet, options: {{base_channels: 2}}}}
{COMMON}{TRAIN}  losses: {{motion: 1}}
"""

HIDDEN = f"""
title: hidden
model:
  name: hidden_two_stream
  options: {{base_channels: 2, temporal_options: {{backbone: test_resnet}}}}
  trainable: 1
{COMMON}{TRAIN}
"""


def test_three_stages(tiny_data: Path, tmp_path: Path) -> None:
    for name, text in (("motion", MOTION), ("hidden", HIDDEN)):
        (tmp_path / f"{name}.yaml").write_text(text)
    motion, hidden, end = (tmp_path / name for name in ("one", "two", "three"))

    call = ["train", tiny_data, "--recipe", tmp_path / "motion.yaml", "--out", motion]
    printed = succeed(*call, "--limit", 1)
    assert "training similarity of warped frames" in printed
    assert "held-out similarity of warped frames" in printed
    assert f"Next: dualstream train DATA --recipe ... --out ... model.weights={motion}" in printed
    resumed = json.loads(succeed("train", "--resume", motion, "--json"))
    assert resumed["measure"] == "similarity of warped frames"

    result = dualstream("test", motion)
    assert result.code == 1
    assert "made without labels; it knows no classes yet" in result.stderr

    call = ["train", tiny_data, "--recipe", tmp_path / "hidden.yaml"]
    printed = succeed(*call, "--out", hidden, f"model.weights={motion}")
    assert "training top-1" in printed
    assert f"Next: dualstream test {hidden}" in printed
    changes = [f"model.weights={hidden}", "model.trainable=all"]
    changes += ["train.losses={answer: 1, motion: 0.1}", "train.optimizer.lr_factors.motion=0.001"]
    succeed(*call, "--out", end, *changes)
    assert json.loads(succeed("test", end, "--workers", 0, "--json"))["videos"] == 4
    video = next((tiny_data / "videos" / "right").glob("*.mp4"))
    assert "right" in succeed("predict", video, "--checkpoint", end)
