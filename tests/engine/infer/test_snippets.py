"""Snippets on the grid that windows share: literal tables, and what holds for any video."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualstream.engine.infer.snippets import num_positions, shared_starts, timelines
from dualstream.types import ClipSpec, StreamSpec
from dualstream.video.times import frames_shown_at

FRAME = ClipSpec({"rgb": StreamSpec("rgb")})
I3D = ClipSpec({"rgb": StreamSpec("rgb", num_frames=64)})
FLOW = ClipSpec({"flow": StreamSpec("flow", num_frames=10)})


@pytest.mark.parametrize(
    ("spec", "num_frames", "step", "count", "expected"),
    [
        (FRAME, 250, 1.0, 8, [0, 25, 50, 75, 125, 150, 175, 225]),
        (FRAME, 50, 1.0, 8, [0, 7, 13, 19, 25, 32, 38, 44]),  # quarters of a second
        (FRAME, 250, 1.0, 1, [100]),
        (I3D, 250, 1.0, 4, [0, 50, 100, 175]),
        (I3D, 64, 1.0, 4, [0, 0, 0, 0]),  # fits once
        (I3D, 63, 1.0, 4, None),
        (FLOW, 11, 1.0, 1, [0]),
        (FLOW, 10, 1.0, 1, None),  # ten fields need eleven frames
    ],
)
def test_starts_at_25_frames_a_second(
    spec: ClipSpec, num_frames: int, step: float, count: int, expected: list[int] | None
) -> None:
    pts = 3.0 + np.arange(num_frames) / 25
    found = shared_starts(pts, spec, start_seconds=3.0, step_seconds=step, count=count)
    if expected is None:
        assert found is None
        return
    assert found is not None
    assert found.tolist() == expected


def test_positions_of_a_snippet_at_a_rate_of_its_own() -> None:
    spec = ClipSpec({"rgb": StreamSpec("rgb", num_frames=4)}, fps=5.0)
    pts = np.arange(40) / 10
    starts = shared_starts(pts, spec, start_seconds=0.0, step_seconds=1.0, count=2)
    assert starts is not None
    assert starts.tolist() == [0, 30]
    shown, places = timelines(pts, spec, starts)
    assert shown.tolist() == [0, 2, 4, 6, 30, 32, 34, 36]
    assert places.tolist() == [0, 4]


@given(
    gaps=st.lists(st.floats(0.01, 0.2), min_size=4, max_size=120),
    step=st.floats(0.1, 2.0),
    count=st.integers(1, 10),
    length=st.integers(1, 12),
    fps=st.none() | st.floats(2.0, 40.0),
    flow=st.booleans(),
)
def test_every_snippet_ends_in_the_window(
    gaps: list[float], step: float, count: int, length: int, fps: float | None, flow: bool
) -> None:
    pts = np.cumsum([0.0, *gaps])
    kind = "flow" if flow else "rgb"
    spec = ClipSpec({kind: StreamSpec(kind, num_frames=length)}, fps=fps)
    starts = shared_starts(pts, spec, start_seconds=0.0, step_seconds=step, count=count)
    if starts is None:
        return
    assert len(starts) == count
    assert (np.diff(starts) >= 0).all()
    shown, places = timelines(pts, spec, starts)
    needed = places[:, None] + np.arange(num_positions(spec))
    assert needed.max() < len(shown)
    assert (shown[needed[:, 0]] == starts).all()
    if fps is not None:
        # The last position is a frame of the window, not held beyond its end.
        ends = pts[starts] + (num_positions(spec) - 1) / fps
        assert (ends <= pts[-1] + 0.0011).all()
        np.testing.assert_array_equal(shown[needed[:, -1]], frames_shown_at(pts, ends))


def test_windows_of_a_long_video_share_all_but_one_snippet() -> None:
    pts = np.arange(25 * 60) / 25
    seen: set[int] = set()
    new = []
    for second in range(50):
        inside = pts[second * 25 : (second + 10) * 25]
        found = shared_starts(inside, FRAME, start_seconds=second, step_seconds=1.0, count=8)
        assert found is not None
        firsts = {second * 25 + start for start in found.tolist()}
        new.append(len(firsts - seen))
        seen |= firsts
    assert new[0] == 8
    assert set(new[3:]) == {1}
