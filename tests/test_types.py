"""Values that check themselves on creation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from dualstream.errors import InputError, ShapeError, UnknownNameError
from dualstream.types import Clip, ClipSpec, Flow, StreamSpec, top_classes

RGB = StreamSpec("rgb")
FLOW = StreamSpec("flow", num_frames=10)


def test_what_comes_beyond_the_end_is_a_choice() -> None:
    assert ClipSpec({"rgb": RGB}).beyond_end == "hold"
    assert ClipSpec({"rgb": RGB, "flow": FLOW}, beyond_end="loop").beyond_end == "loop"
    with pytest.raises(UnknownNameError, match="beyond_end"):
        ClipSpec({"rgb": RGB}, beyond_end="mirror")  # type: ignore[arg-type]


@pytest.mark.parametrize("stacking", ["trajectory", "bidirectional"])
def test_paths_through_a_looped_video_are_refused(stacking: Any) -> None:
    streams = {"rgb": RGB, "motion": StreamSpec("flow", num_frames=2, stacking=stacking)}
    assert ClipSpec(streams).streams["motion"].stacking == stacking
    with pytest.raises(InputError, match=r"of stream 'motion'.*use beyond_end='hold'"):
        ClipSpec(streams, beyond_end="loop")


def test_streams_are_told_apart_by_what_they_read() -> None:
    spec = ClipSpec({"rgb": RGB, "flow": FLOW, "change": StreamSpec("rgb_diff", num_frames=5)})
    assert list(spec.frame_streams) == ["rgb", "change"]
    assert list(spec.flow_streams) == ["flow"]
    assert [stream.channels for stream in spec.streams.values()] == [3, 2, 3]
    assert [stream.steps for stream in spec.streams.values()] == [1, 10, 6]


@pytest.mark.parametrize(
    ("modality", "num_frames", "frame_stride", "span"),
    [
        ("rgb", 1, 9, 1),
        ("rgb", 5, 1, 5),
        ("flow", 8, 4, 29),
        ("rgb", 2, 3, 4),
        ("rgb_diff", 2, 3, 7),
    ],
)
def test_span_is_from_the_first_to_the_last_step(
    modality: Any, num_frames: int, frame_stride: int, span: int
) -> None:
    stream = StreamSpec(modality, num_frames=num_frames, frame_stride=frame_stride)
    assert stream.span == span
    assert ClipSpec({"rgb": RGB, "other": stream}).span == span


def test_mean_and_std_are_those_of_the_modality_unless_given() -> None:
    assert (RGB.mean, RGB.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (FLOW.mean, FLOW.std) == ((0.0, 0.0), (1.0, 1.0))
    given = StreamSpec("flow", mean=(0.5, -0.5), std=(3.0, 3.0))
    assert (given.mean, given.std) == ((0.5, -0.5), (3.0, 3.0))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"modality": "sound"}, UnknownNameError, "modality 'sound'"),
        ({"stacking": "pile"}, UnknownNameError, "stacking 'pile'"),
        ({"num_frames": 0}, InputError, r"StreamSpec\.num_frames must be at least 1, got 0"),
        ({"frame_stride": 0}, InputError, r"StreamSpec\.frame_stride must be at least 1, got 0"),
        ({"mean": (0.5,)}, InputError, "need 2 values for flow, got 1 and 2"),
        ({"std": (1.0, 0.0)}, InputError, r"std must be above 0, got \(1\.0, 0\.0\)"),
        ({"stacking": "bidirectional", "num_frames": 5}, InputError, "even num_frames, got 5"),
    ],
)
def test_a_stream_that_cannot_be_is_named(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        StreamSpec(**{"modality": "flow", **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"streams": {}}, "at least one stream"),
        ({"crop_size": 257}, r"crop_size \(257\) must not exceed short_side \(256\)"),
        ({"short_side": 0}, r"ClipSpec\.short_side must be at least 1"),
        ({"fps": 0.0}, r"ClipSpec\.fps must be above 0, got 0\.0"),
    ],
)
def test_a_clip_that_cannot_be_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ClipSpec(**{"streams": {"rgb": RGB}, **changes})


def test_a_sample_of_a_batch_is_a_clip() -> None:
    data = {
        "rgb": torch.arange(2 * 3 * 2, dtype=torch.uint8).reshape(2, 1, 3, 2, 1, 1),
        "flow": torch.arange(2 * 2, dtype=torch.uint8).reshape(2, 1, 2, 1, 1, 1),
    }
    batch = Clip(data, torch.tensor([4, 7]), ("a.mp4", "b.mp4"))
    assert len(batch) == 2
    sample = batch.sample(1)
    assert len(sample) == 1
    assert (int(sample.label), sample.name) == (7, ("b.mp4",))
    assert torch.equal(sample.data["rgb"], data["rgb"][1])
    assert sample.data["flow"].flatten().tolist() == [2, 3]


def test_a_clip_of_another_shape_names_the_stream() -> None:
    with pytest.raises(ShapeError, match=r"Clip\.data\['flow'\] must have 6 dimensions"):
        Clip({"flow": torch.zeros(3, 2, 1, 4, 4, dtype=torch.uint8)}, torch.tensor([1]))


def test_flow_is_pixels_or_bytes_with_their_bound() -> None:
    pixels = np.zeros((3, 2, 4, 5), np.float32)
    assert Flow(pixels, "dis").size == (4, 5)
    assert len(Flow(pixels.astype(np.uint8), "dis", bound_px=20.0)) == 3
    with pytest.raises(ShapeError, match=r"must be .* uint8"):
        Flow(pixels, "dis", bound_px=20.0)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"must be .* float32"):
        Flow(pixels.astype(np.uint8), "dis")
    with pytest.raises(InputError, match="bound_px must be above 0"):
        Flow(pixels.astype(np.uint8), "dis", bound_px=0.0)


def test_top_classes_of_equal_scores_keep_class_order() -> None:
    assert top_classes(np.array([0.2, 0.4, 0.2, 0.2]), "abcd", 3) == [
        ("b", 0.4),
        ("a", 0.2),
        ("c", 0.2),
    ]
    assert top_classes(np.array([0.2, 0.8]), "ab", 5) == [("b", 0.8), ("a", 0.2)]
