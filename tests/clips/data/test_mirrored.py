"""Classes that a mirrored picture exchanges."""

from __future__ import annotations

import pytest

from dualstream.clips.data.groups import mirrored_classes


@pytest.mark.parametrize(
    ("classes", "pairs"),
    [
        (("Moving something left", "run", "Moving something right"), ((0, 2),)),
        (("Pushing [x] from right to left", "Pushing [x] from left to right"), ((0, 1),)),
        (("SwipeRight", "swipe_left", "Slide two fingers left"), ((0, 1),)),
        (("Turning Hand Counterclockwise", "Turning Hand Clockwise"), ((0, 1),)),
        (("turn anti-clockwise", "turn clockwise"), ((0, 1),)),
        (("move leftwards", "move rightward", "move rightwards"), ((0, 2),)),
        (("left-handed throw", "right-handed throw"), ((0, 1),)),
        # One side without the other, both in one name, and words that only hold a side.
        (("turn left", "go on"), ()),
        (("left or right", "left"), ()),
        (("bright", "bleft", "leftover", "rightover"), ()),
        ((), ()),
    ],
)
def test_mirrored_classes(classes: tuple[str, ...], pairs: tuple[tuple[int, int], ...]) -> None:
    assert mirrored_classes(classes) == pairs
