"""Run folders: what is written before training, and read by everything else."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.engine.tiny import tiny_recipe

from dualstream.engine.run.info import (
    FlowOrigin,
    RunInfo,
    flow_origins,
    read_metrics,
    read_run,
    save_metrics,
    start_run,
)
from dualstream.errors import CheckpointError, InputError
from dualstream.types import ClipSpec, StreamSpec

INFO = RunInfo(
    manifest="/data",
    manifest_sha256="ab" * 32,
    flow={
        "flow": FlowOrigin("/data/flow", "/data/flow_backward", {"preset": "medium"}),
        "far": FlowOrigin("/data/far"),
    },
    git_commit="cd" * 20,
    seed=3,
)

RECIPE_OF_0_1 = """
title: tiny
source: ''
model:
  name: tsn
  options: {backbone: test_resnet, dropout: 0.5}
  weights: null
  trainable: all
input:
  modality: flow
  num_frames: 4
  frame_stride: 1
  fps: null
  beyond_end: hold
  short_side: 48
  crop_size: 32
  mean: null
  std: null
  stacking: bidirectional
  subtract_mean_flow: false
  flow_method: dis
  flow_bound_px: 20.0
  flow_short_side: 48
augment:
  crop: multi_scale
  scales: [1.0, 0.875, 0.75, 0.66]
  zoom: [1.0, 1.0]
  flip: true
  brightness: 0.0
  contrast: 0.0
  saturation: 0.0
  hue_turns: 0.0
data:
  split: 1
  hold_out: 0.0
  hold_out_seed: 0
  workers: 0
  frozen_views: 0
  class_balanced: false
train:
  epochs: 1
  batch_size: 4
  segments: 2
  optimizer: {name: sgd, lr: 0.02, momentum: 0.9, nesterov: false, weight_decay: 0.0005}
  schedule:
    name: step
    milestones: []
    gamma: 0.1
    warmup_epochs: 0.0
    warmup_start: 0.0
    cosine_over: rest
  accumulate: 1
  clip_norm: null
  label_smoothing: 0.0
  ema_decay: 0.0
  precision: 32-true
  accelerator: cpu
  devices: 1
  strategy: auto
  seed: 0
  validate_every: 1
  early_stop_patience: null
test: {segments: 2, crops: three, num_frames: null, whole_side: false}
"""
"""As version 0.1.0 wrote it; short lists in one line."""

INFO_OF_0_1 = {
    "manifest": "/data",
    "manifest_sha256": "ab" * 32,
    "flow_store": "/data/flow",
    "backward_store": "/data/flow_backward",
    "flow_params": {"preset": "medium"},
    "teacher": None,
    "version": "0.1.0",
    "git_commit": None,
    "seed": 0,
    "limit": None,
    "torch_version": "2.14.1+cu130",
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    start_run(folder, tiny_recipe("flow"), ("right", "down"), INFO)
    return folder


def test_what_is_written_is_read(run: Path) -> None:
    assert read_run(run) == (tiny_recipe("flow"), ("right", "down"), INFO)


def test_a_run_of_0_1_is_read(run: Path) -> None:
    (run / "recipe.yaml").write_text(RECIPE_OF_0_1)
    (run / "run.json").write_text(json.dumps(INFO_OF_0_1))
    recipe, _, info = read_run(run)
    stream = StreamSpec(
        "flow", num_frames=4, stacking="bidirectional", flow_method="dis", flow_short_side=48
    )
    assert recipe.clip_spec() == ClipSpec({"flow": stream}, short_side=48, crop_size=32)
    origin = FlowOrigin("/data/flow", "/data/flow_backward", {"preset": "medium"})
    assert info.flow == {"flow": origin}
    assert (info.version, info.torch_version) == ("0.1.0", "2.14.1+cu130")


def test_a_run_of_0_1_on_frames_has_no_flow(run: Path) -> None:
    without = {"flow_store": None, "backward_store": None, "flow_params": None}
    (run / "run.json").write_text(json.dumps({**INFO_OF_0_1, **without}))
    assert read_run(run)[2].flow == {}


KNOWN = {"flow": FlowOrigin("/a", params={"preset": "fast"}), "far": FlowOrigin("/b", "/c")}


@pytest.mark.parametrize(
    ("folders", "stores"),
    [
        ({}, {"flow": ("/a", None), "far": ("/b", "/c")}),
        ({"forward": "/x"}, {"flow": ("/x", None), "far": ("/x", "/c")}),
        ({"forward": {"far": Path("/x")}}, {"flow": ("/a", None), "far": ("/x", "/c")}),
        (
            {"forward": {"flow": "/x"}, "backward": "/y"},
            {"flow": ("/x", "/y"), "far": ("/b", "/y")},
        ),
    ],
)
def test_flow_origins(folders: dict[str, Any], stores: dict[str, tuple[str, str | None]]) -> None:
    origins = flow_origins(KNOWN, **folders)
    assert {n: (origin.store, origin.backward_store) for n, origin in origins.items()} == stores
    assert origins["flow"].params == {"preset": "fast"}


def test_flow_origins_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert flow_origins(KNOWN, forward="there")["far"].store == str(tmp_path / "there")


def test_flow_of_a_stream_that_there_is_not_is_refused() -> None:
    with pytest.raises(InputError, match="'rgb'; the streams that read flow are: flow, far"):
        flow_origins(KNOWN, forward={"rgb": "/x"})
    with pytest.raises(InputError, match="'flow'; the streams that read flow are: none"):
        flow_origins({}, backward={"flow": "/x"})
    assert flow_origins({}, forward="/x") == {}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("recipe.yaml", b"title: \xdc", r"recipe\.yaml:1: byte 0xdc is not .* Copy the file"),
        ("recipe.yaml", b"a: [", r"recipe\.yaml is not YAML"),
        ("classes.txt", b"\xdc\n", r"classes\.txt:1: byte 0xdc is not UTF-8 text.* train again"),
        ("run.json", b'"\xdc"', r"run\.json:1: byte 0xdc is not UTF-8 text"),
        ("run.json", b"{", r"run\.json:1: this is not JSON.* Copy the file again"),
        ("run.json", b"[1]", r"run\.json: it must hold one object with keys, got list"),
        ("run.json", b'{"manifest": "x"}', r"run\.json: it lacks manifest_sha256\. Copy"),
        (
            "run.json",
            b'{"manifest": "x", "manifest_sha256": "y", "flow": {"flow": {"folder": "z"}}}',
            r"run\.json: flow must hold a store for each stream .*folder.* Copy the file again",
        ),
        (
            "run.json",
            b'{"manifest": "x", "manifest_sha256": "y", "flow": ["flow"]}',
            r"run\.json: flow must hold a store for each stream .* Copy the file again",
        ),
        *(
            (
                "run.json",
                b'{"manifest": "x", "manifest_sha256": "y", %s}' % heads,
                r"run\.json: heads must hold the number of classes of each data set.* Copy",
            )
            for heads in (b'"heads": ["a"]', b'"heads": {"a": 2}', b'"heads": {"a": "b"}')
        ),
    ],
)
def test_broken_files_are_named(run: Path, name: str, content: bytes, message: str) -> None:
    (run / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"(?s){message}"):
        read_run(run)


def test_a_run_of_another_version_is_told_from_a_broken_one(run: Path) -> None:
    values = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**values, "planet": "Mars"}))
    with pytest.raises(CheckpointError, match=r"run\.json says planet, which this version"):
        read_run(run)


@pytest.mark.parametrize("name", ["recipe.yaml", "classes.txt", "run.json"])
def test_a_folder_that_is_no_run_is_named(run: Path, name: str) -> None:
    (run / name).unlink()
    with pytest.raises(CheckpointError, match=f"is not a run folder: {name} is missing"):
        read_run(run)
    shutil.rmtree(run)
    with pytest.raises(CheckpointError, match=r"is not a run folder: recipe\.yaml is missing"):
        read_run(run)


def test_heads_are_rows_in_folders_of_their_own(tmp_path: Path) -> None:
    info = replace(INFO, heads={"a": 2, "b": 3, "c": 4}, head="b")
    assert info.names == ("a", "b", "c")
    assert [replace(info, head=name).rows for name in "abc"] == [
        slice(0, 2),
        slice(2, 5),
        slice(5, 9),
    ]
    folders = info.head_folders(tmp_path)
    assert folders == {"a": tmp_path, "b": tmp_path / "heads/b", "c": tmp_path / "heads/c"}
    for name, folder in folders.items():
        assert replace(info, head=name).run_folder(folder) == tmp_path
    start_run(folders["b"], tiny_recipe(), ("x", "y", "z"), info)
    assert read_run(folders["b"])[2] == info


def test_one_data_set_has_no_heads(tmp_path: Path) -> None:
    assert (INFO.names, INFO.rows, INFO.head_folders(tmp_path)) == ((), slice(None), {})
    assert INFO.run_folder(tmp_path) == tmp_path


def test_metrics_are_added(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) == {}
    save_metrics(tmp_path, {"epochs": 2})
    save_metrics(tmp_path, {"test": 0.5})
    assert read_metrics(tmp_path) == {"epochs": 2, "test": 0.5}


def test_broken_metrics_are_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"metrics\.json:1: .* Copy the file again"):
        save_metrics(tmp_path, {"epochs": 3})
