"""Snippets that a window is seen through; what windows share is tested through `Predictor`."""

from __future__ import annotations

import pytest

from dualstream.engine.infer.window_clips import default_segments
from dualstream.types import ClipSpec, StreamSpec


@pytest.mark.parametrize(
    ("num_frames", "stride", "positions", "joined", "expected"),
    [
        (64, 1, 250, False, 4),
        (64, 1, 64, False, 1),
        (64, 1, 10, False, 1),
        (16, 1, 250, False, 8),
        (8, 8, 300, False, 6),  # 57 positions each
        (1, 1, 3, False, 8),
        (64, 1, 250, True, 8),
    ],
)
def test_default_segments(
    num_frames: int, stride: int, positions: int, joined: bool, expected: int
) -> None:
    stream = StreamSpec("rgb", num_frames=num_frames, frame_stride=stride)
    spec = ClipSpec({"short": StreamSpec("rgb"), "long": stream})
    assert default_segments(spec, positions=positions, joined=joined) == expected
