"""Plans of clips: positions, boxes and colours, all streams from the same places."""

from __future__ import annotations

import numpy as np
import pytest
from tests.clips.specs import joined, one_stream

from dualstream.clips.geometry import View
from dualstream.clips.plan import ClipPlan, Cropping, Sampling, plan_clip
from dualstream.clips.transforms import ColorJitter
from dualstream.types import ClipSpec, StreamSpec

EVENLY = Sampling("evenly_spaced", segments=3)
CENTER = Cropping("center")
RGB = one_stream("rgb")
FLOW = one_stream("flow", num_frames=3)


def plan_of(spec: ClipSpec, num_frames: int, **options: object) -> ClipPlan:
    arguments = {"sampling": EVENLY, "cropping": CENTER, **options}
    return plan_clip(spec, timeline=np.arange(num_frames), size=(48, 64), **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "starts"),
    [
        (RGB, [0, 4, 9]),  # 10 frames, snippets of 1
        (FLOW, [0, 3, 6]),  # 9 fields, snippets of 3
        (joined(RGB, FLOW), [0, 3, 6]),  # the shorter stream, the longer snippet
        (joined(one_stream("rgb", num_frames=8), FLOW), [0, 0, 1]),  # 9 positions, snippets of 8
    ],
)
def test_snippets_of_all_streams_start_at_the_same_positions(
    spec: ClipSpec, starts: list[int]
) -> None:
    assert plan_of(spec, 10).starts.tolist() == starts


def test_a_plan_holds_the_boxes_of_the_reference_grid() -> None:
    plan = plan_of(RGB, 10, cropping=Cropping("three"))
    assert plan.reference == (48, 64)
    assert plan.views == (View(0, 8, 32, 32), View(16, 8, 32, 32), View(32, 8, 32, 32))
    assert plan.num_fields == 9
    assert plan.color is None
    assert plan_of(RGB, 10, num_fields=4).num_fields == 4


def test_what_is_drawn_depends_on_the_generator() -> None:
    def draw(seed: int) -> ClipPlan:
        return plan_of(
            RGB,
            100,
            sampling=Sampling("random_segments", segments=3),
            cropping=Cropping("random"),
            flip=True,
            jitter=ColorJitter(),
            rng=np.random.default_rng(seed),
        )

    first, again, other = draw(1), draw(1), draw(2)
    assert first.starts.tolist() == again.starts.tolist() != other.starts.tolist()
    assert (first.views, first.color) == (again.views, again.color)
    assert first.color != other.color
    assert {draw(seed).views[0].flip for seed in range(10)} == {False, True}


def test_frames_are_those_of_the_timeline() -> None:
    # Every second frame of a video from frame 100 on, as at half its rate.
    plan = plan_clip(
        one_stream("rgb", num_frames=2, frame_stride=2),
        timeline=100 + 2 * np.arange(6),
        size=(48, 64),
        sampling=Sampling("evenly_spaced", segments=2),
        cropping=CENTER,
    )
    stream = StreamSpec("rgb", num_frames=2, frame_stride=2)
    assert plan.frame_steps(stream, "hold").tolist() == [[100, 104], [106, 110]]


def test_steps_beyond_the_end_are_held_or_start_again() -> None:
    stream = StreamSpec("rgb", num_frames=5)
    plan = plan_of(ClipSpec({"rgb": stream}, 48, 32), 3, sampling=Sampling("evenly_spaced"))
    assert plan.frame_steps(stream, "hold").tolist() == [[0, 1, 2, 2, 2]]
    assert plan.frame_steps(stream, "loop").tolist() == [[0, 1, 2, 0, 1]]
    flow = StreamSpec("flow", num_frames=5)
    forward, backward = plan.field_steps(flow, "loop")
    assert forward.tolist() == [[0, 1, 0, 1, 0]]
    assert backward.shape == (1, 0)


def test_bidirectional_streams_read_half_of_the_fields_backward() -> None:
    stream = StreamSpec("flow", num_frames=4, stacking="bidirectional")
    plan = plan_of(ClipSpec({"flow": stream}, 48, 32), 10, sampling=Sampling("evenly_spaced"))
    forward, backward = plan.field_steps(stream, "hold")  # start 2, tau 4
    assert (forward.tolist(), backward.tolist()) == ([[4, 5]], [[3, 2]])


@pytest.mark.parametrize(
    ("spec", "frames"),
    [
        (RGB, [0, 9]),
        (one_stream("rgb_diff"), [0, 1, 8, 9]),
        (FLOW, [0, 1, 2, 3, 6, 7, 8, 9]),  # fields 0 .. 2 and 6 .. 8
        (one_stream("flow", num_frames=2, frame_stride=3), [0, 1, 3, 4, 5, 6, 8, 9]),
        (joined(one_stream("rgb", num_frames=5), FLOW), [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (
            one_stream("flow", num_frames=2, stacking="bidirectional"),
            [0, 1, 2, 7, 8, 9],  # tau 1 and 8, each with the frame before and after
        ),
    ],
)
def test_frames_needed_are_read_or_make_flow(spec: ClipSpec, frames: list[int]) -> None:
    plan = plan_of(spec, 10, sampling=Sampling("evenly_spaced", segments=2))
    assert plan.frames_needed(spec).tolist() == frames


def test_parts_hold_the_snippets_in_order() -> None:
    plan = plan_of(RGB, 50, sampling=Sampling("evenly_spaced", segments=5))
    parts = list(plan.parts(2))
    assert [part.starts.tolist() for part in parts] == [[0, 12], [24, 36], [49]]
    assert all(part.views == plan.views and part.timeline is plan.timeline for part in parts)
    assert [part.starts.tolist() for part in plan.parts(8)] == [plan.starts.tolist()]
