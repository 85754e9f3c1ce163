"""Maps of snippets back over the frames of the video."""

from __future__ import annotations

import numpy as np
import pytest

from dualstream.clips.geometry import View
from dualstream.clips.plan import Cropping, Sampling, plan_clip
from dualstream.clips.transforms import cut_frames
from dualstream.engine.infer.placing import Places, map_at, places_of, put_back
from dualstream.errors import ShapeError
from dualstream.types import ClipSpec, StreamSpec


def planned(spec: ClipSpec, *, size: tuple[int, int], frames: int, segments: int) -> Places:
    """Places of the one stream of a clip of all frames, which start at number 100."""
    plan = plan_clip(
        spec,
        timeline=100 + np.arange(frames),
        size=size,
        sampling=Sampling("evenly_spaced", segments=segments),
        cropping=Cropping("center"),
    )
    (stream,) = spec.streams.values()
    return places_of(plan, stream, spec.beyond_end, size=size)


@pytest.mark.parametrize("size", [(240, 320), (480, 270), (1080, 1920)])
@pytest.mark.parametrize("flip", [False, True])
def test_a_spot_comes_back_to_where_it_was_cut_from(size: tuple[int, int], flip: bool) -> None:
    """Off by less than a step of the crop's grid."""
    spec = ClipSpec({"rgb": StreamSpec("rgb")}, short_side=256, crop_size=224)
    places = planned(spec, size=size, frames=1, segments=1)
    view = places.view.mirrored(flip)
    places = Places(places.frames, places.directions, view, places.reference, size)
    y, x = size[0] * 2 // 3, size[1] * 2 // 5
    frame = np.zeros((1, *size, 3), np.uint8)
    radius = max(size) // 60
    frame[0, y - radius : y + radius + 1, x - radius : x + radius + 1] = 255
    cut = cut_frames(frame, view, reference=places.reference, size=224)  # (3, 1, 224, 224)
    numbers, laid = put_back(np.asarray(cut[:1] / 255, np.float32), places)
    assert numbers.tolist() == [100]
    assert laid.shape == (1, *places.grid)
    assert places.grid == (size if min(size) <= 256 else places.reference)
    rows, columns = np.nonzero(laid[0] > 0.5)
    scale = size[0] / places.grid[0]
    assert abs((rows.mean() + 0.5) * scale - (y + 0.5)) < 1.5 * scale
    assert abs((columns.mean() + 0.5) * scale - (x + 0.5)) < 1.5 * scale
    left, top, right, bottom = places.box(places.grid)
    outside = laid[0].copy()
    outside[top:bottom, left:right] = 0
    assert not outside.any()
    assert min(bottom - top, right - left) * 256 / 224 == pytest.approx(min(places.grid), abs=2)


def test_frames_seen_twice_get_the_mean() -> None:
    spec = ClipSpec({"rgb": StreamSpec("rgb", num_frames=3)}, short_side=8, crop_size=8)
    places = planned(spec, size=(8, 8), frames=5, segments=2)
    assert places.frames.tolist() == [[100, 101, 102], [102, 103, 104]]
    maps = np.ones((2, 3, 8, 8), np.float32)
    maps[0, 2], maps[1, 0] = 0.25, 0.75
    maps[1, 2] = 0
    numbers, laid = put_back(maps, places)
    assert numbers.tolist() == [100, 101, 102, 103, 104]
    assert laid.mean(axis=(1, 2)).tolist() == [1, 1, 0.5, 1, 0]


def test_fields_belong_to_the_frame_they_lead_from_and_differences_to_the_later() -> None:
    flow = ClipSpec(
        {"flow": StreamSpec("flow", num_frames=4, stacking="bidirectional")},
        short_side=8,
        crop_size=8,
    )
    places = planned(flow, size=(8, 8), frames=9, segments=1)
    # Eight fields, start 2, the middle frame is 4: forward 4, 5, backward 3, 2.
    assert places.frames.tolist() == [[104, 105, 103, 102]]
    assert places.directions.tolist() == [0, 0, 1, 1]
    difference = ClipSpec(
        {"rgb_diff": StreamSpec("rgb_diff", num_frames=2)}, short_side=8, crop_size=8
    )
    places = planned(difference, size=(8, 8), frames=3, segments=1)
    assert places.frames.tolist() == [[100, 101, 102]]
    numbers, _ = put_back(np.zeros((1, 2, 8, 8), np.float32), places)
    assert numbers.tolist() == [101, 102]
    with pytest.raises(ShapeError, match=r"Maps of 1 snippets of 3 steps must be"):
        put_back(np.zeros((2, 3, 8, 8), np.float32), places)


def test_between_frames_that_were_seen_maps_are_linear() -> None:
    numbers, maps = np.array([4, 8, 9]), np.array([0.0, 1, 0.5], np.float32).reshape(3, 1, 1)
    found = [map_at(number, numbers, maps).item() for number in (1, 4, 5, 7, 8, 9, 20)]
    assert found == [0, 0, 0.25, 0.75, 1, 0.5, 0.5]


def test_a_view_of_its_own_grid() -> None:
    places = Places(np.array([[0]]), np.array([0]), View(2, 1, 4, 4), (8, 8), (16, 16))
    assert places.grid == (8, 8)
    assert places.box((16, 16)) == (4, 2, 12, 10)
