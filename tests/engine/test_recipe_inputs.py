"""Inputs of recipes: a section a stream, and the short forms for a single one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dualstream.engine.recipe import Recipe, dump_recipe, load_recipe
from dualstream.engine.recipe_text import change_modality, place_of, with_inputs
from dualstream.errors import RecipeError
from dualstream.types import ClipSpec, StreamSpec

JHMDB_FLOW_OF_0_1 = """
title: Temporal stream for J-HMDB, EfficientNet-Lite0 started from ImageNet weights
source: >-
  This project; hyper-parameters chosen on held-out training videos of split 1 (docs/results.md).
model:
  name: tsn
  options: {backbone: tf_efficientnet_lite0, dropout: 0.5}
  weights: efficientnet_lite0_imagenet
input:
  modality: flow
  num_frames: 10
  short_side: 187
  crop_size: 160
  std: [3.0, 3.0]
augment:
  crop: multi_scale
  scales: [1.0, 0.875, 0.75, 0.66]
  flip: true
train:
  epochs: 50
  batch_size: 32
  segments: 1
  optimizer: {name: adamw, lr: 0.002, weight_decay: 0.05}
  schedule: {name: cosine, warmup_epochs: 2}
  clip_norm: 20
  label_smoothing: 0.1
  ema_decay: 0.98
test: {segments: 5, crops: ten}
"""
"""Shipped with version 0.1."""

RGB_OF_0_1 = """
title: Frames of a resampled video
model:
  name: slow_r50
input:
  modality: rgb
  num_frames: 8
  frame_stride: 8
  fps: 30
  beyond_end: loop
  short_side: 256
  crop_size: 224
  mean: [0.45, 0.45, 0.45]
  std: [0.225, 0.225, 0.225]
train: {epochs: 1, batch_size: 8, optimizer: {lr: 0.1}}
test: {segments: 10, crops: three, whole_side: true, num_frames: 16}
"""

TWO_STREAMS = """
title: Frames and flow together
model: {name: joined}
clip: {short_side: 128, crop_size: 112, fps: 25}
inputs:
  rgb:
  flow: {num_frames: 10, std: [3.0, 3.0]}
  far: {modality: flow, num_frames: 5, frame_stride: 4}
train: {epochs: 1, batch_size: 8, optimizer: {lr: 0.1}}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def test_a_recipe_of_0_1_is_the_one_that_took_its_place(tmp_path: Path) -> None:
    assert load_recipe(written(tmp_path, JHMDB_FLOW_OF_0_1)) == load_recipe("jhmdb_flow")


def test_every_field_of_an_old_input_finds_its_place(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, RGB_OF_0_1))
    stream = StreamSpec("rgb", 8, 8, (0.45, 0.45, 0.45), (0.225, 0.225, 0.225))
    assert recipe.clip_spec() == ClipSpec(
        {"rgb": stream}, short_side=256, crop_size=224, fps=30, beyond_end="loop"
    )
    longer = StreamSpec("rgb", 16, 8, (0.45, 0.45, 0.45), (0.225, 0.225, 0.225))
    assert recipe.test_spec() == ClipSpec(
        {"rgb": longer}, short_side=256, crop_size=256, fps=30, beyond_end="loop"
    )


def test_the_resolved_recipe_is_written_in_the_new_form(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, JHMDB_FLOW_OF_0_1))
    text = dump_recipe(recipe)
    assert "\ninputs:\n  flow:\n    modality: flow\n" in text
    assert "\ninput:" not in text
    assert load_recipe(written(tmp_path, text)) == recipe


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"input": {"modality": "flow", "num_frames": 5, "short_side": 256}},
            {
                "clip": {"short_side": 256},
                "inputs": {"flow": {"modality": "flow", "num_frames": 5}},
            },
        ),
        (
            {"clip": {"fps": 25}, "input": {"modality": "rgb", "crop_size": 112}},
            {"clip": {"fps": 25, "crop_size": 112}, "inputs": {"rgb": {"modality": "rgb"}}},
        ),
        (
            {"inputs": {"rgb": None, "far": {"modality": "flow"}, "flow": {"num_frames": 3}}},
            {
                "inputs": {
                    "rgb": {"modality": "rgb"},
                    "far": {"modality": "flow"},
                    "flow": {"modality": "flow", "num_frames": 3},
                }
            },
        ),
    ],
)
def test_with_inputs(values: dict[str, Any], expected: dict[str, Any]) -> None:
    before = repr(values)
    assert with_inputs(values) == expected
    assert with_inputs(with_inputs(values)) == expected
    assert repr(values) == before  # what came in is left as it was


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("test:", "inputs: {rgb: {}}\ntest:"), "input: no such key; did you mean inputs?"),
        (
            ("input:\n  modality: flow", "input: 5\nmore:"),
            "input: no such key; did you mean inputs?",
        ),
        (("augment:", "clip: 5\naugment:"), "clip: Input should be a valid dictionary"),
        (("input:\n", "inputs: 5\nmore:\n"), "inputs: Input should be a valid dictionary"),
        (("input:\n", "inputs: [flow]\nmore:\n"), "inputs: Input should be a valid dictionary"),
    ],
)
def test_inputs_of_no_form_are_named(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = written(tmp_path, JHMDB_FLOW_OF_0_1.replace(*change))
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert message in str(caught.value)
    with pytest.raises(RecipeError):
        load_recipe(path, ["inputs.flow.modality=rgb"])
    with pytest.raises(RecipeError):
        load_recipe(path, ["input.modality=rgb"])


def test_an_empty_clip_is_one_of_defaults(tmp_path: Path) -> None:
    recipe = load_recipe(
        written(tmp_path, JHMDB_FLOW_OF_0_1.replace("augment:", "clip:\naugment:"))
    )
    assert recipe == load_recipe("jhmdb_flow")


def test_several_streams_share_the_clip(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, TWO_STREAMS))
    assert recipe.clip_spec() == ClipSpec(
        {
            "rgb": StreamSpec("rgb"),
            "flow": StreamSpec("flow", num_frames=10, std=(3.0, 3.0)),
            "far": StreamSpec("flow", num_frames=5, frame_stride=4),
        },
        short_side=128,
        crop_size=112,
        fps=25,
    )
    assert recipe.flow_streams() == ("flow", "far")


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("input.fps", ["clip", "fps"]),
        ("input.crop_size", ["clip", "crop_size"]),
        ("input.num_frames", ["inputs", "flow", "num_frames"]),
        ("inputs.flow.num_frames", ["inputs", "flow", "num_frames"]),
        ("train.optimizer.lr", ["train", "optimizer", "lr"]),
        ("title", ["title"]),
    ],
)
def test_place_of_an_override(key: str, place: list[str]) -> None:
    assert place_of({"inputs": {"flow": {"modality": "flow"}}}, key) == place


def test_overrides_of_the_only_stream(tmp_path: Path) -> None:
    path = written(tmp_path, JHMDB_FLOW_OF_0_1)
    changed = load_recipe(path, ["input.num_frames=5", "input.crop_size=96", "input.fps=12.5"])
    assert changed == load_recipe(
        path, ["inputs.flow.num_frames=5", "clip.crop_size=96", "clip.fps=12.5"]
    )
    assert changed.inputs["flow"].num_frames == 5
    assert (changed.clip.crop_size, changed.clip.fps) == (96, 12.5)


def test_overrides_of_several_streams_name_theirs(tmp_path: Path) -> None:
    path = written(tmp_path, TWO_STREAMS)
    changed = load_recipe(path, ["inputs.far.num_frames=7", "input.short_side=160"])
    lengths = {name: stream.num_frames for name, stream in changed.inputs.items()}
    assert lengths == {"rgb": 1, "flow": 10, "far": 7}
    assert changed.clip.short_side == 160  # shared by all, so no stream is named
    message = r"has the streams rgb, flow, far; say which, for instance inputs\.rgb\.num_frames"
    with pytest.raises(RecipeError, match=message):
        load_recipe(path, ["input.num_frames=7"])


def test_a_stream_may_be_added_by_an_override(tmp_path: Path) -> None:
    path = written(tmp_path, JHMDB_FLOW_OF_0_1)
    recipe = load_recipe(path, ["inputs.rgb.modality=rgb"])
    assert recipe.clip_spec().streams["rgb"] == StreamSpec("rgb")
    assert recipe.inputs["flow"] == load_recipe("jhmdb_flow").inputs["flow"]


def test_input_modality_makes_the_other_stream_of_a_pair() -> None:
    values: dict[str, Any] = {
        "clip": {"fps": 30, "crop_size": 112},
        "inputs": {"rgb": {"modality": "rgb", "num_frames": 8, "mean": [0.45] * 3}},
    }
    change_modality(values, "input.modality", "flow")
    assert values == {
        "clip": {"crop_size": 112},
        "inputs": {"flow": {"modality": "flow", "num_frames": 8}},
    }
    named: dict[str, Any] = {"inputs": {"motion": {"modality": "flow", "std": [3, 3]}}}
    change_modality(named, "input.modality", "rgb_diff")
    assert named == {"inputs": {"motion": {"modality": "rgb_diff"}}}


def test_the_modality_of_a_named_stream_leaves_names_and_others_alone(tmp_path: Path) -> None:
    changed = load_recipe(
        written(tmp_path, TWO_STREAMS),
        ["inputs.flow.modality=rgb_diff", "inputs.flow.num_frames=4"],
    )
    assert changed.clip_spec().streams == {
        "rgb": StreamSpec("rgb"),
        "flow": StreamSpec("rgb_diff", num_frames=4),
        "far": StreamSpec("flow", num_frames=5, frame_stride=4),
    }
    assert changed.clip.fps == 25
    single = load_recipe("jhmdb_flow", ["inputs.flow.modality=rgb"])
    assert single.clip_spec().streams == {"flow": StreamSpec("rgb", num_frames=10)}


def test_a_test_of_another_length_is_of_every_stream(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, TWO_STREAMS), ["test.num_frames=3"])
    assert isinstance(recipe, Recipe)
    assert [stream.num_frames for stream in recipe.test_spec().streams.values()] == [3, 3, 3]
