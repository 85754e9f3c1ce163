"""Boxes as literals, and their place in other resolutions."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualstream.clips.geometry import (
    View,
    center_crop,
    corner_offsets,
    multi_scale_crop,
    multi_scale_sizes,
    random_crop,
    reference_size,
    source_box,
    ten_crops,
    three_crops,
)
from dualstream.errors import InputError

TEN_OF_256_X_340 = (
    View(0, 0, 224, 224),
    View(116, 0, 224, 224),
    View(0, 32, 224, 224),
    View(116, 32, 224, 224),
    View(58, 16, 224, 224),
    View(0, 0, 224, 224, flip=True),
    View(116, 0, 224, 224, flip=True),
    View(0, 32, 224, 224, flip=True),
    View(116, 32, 224, 224, flip=True),
    View(58, 16, 224, 224, flip=True),
)


@pytest.mark.parametrize(
    ("height", "width", "short_side", "expected"),
    [
        (240, 320, 256, (256, 341)),
        (320, 240, 256, (341, 256)),
        (240, 320, 240, (240, 320)),
        (256, 340, 128, (128, 170)),
        (100, 101, 50, (50, 51)),  # 50.5 rounds up
        (7, 7, 224, (224, 224)),
    ],
)
def test_reference_size(
    height: int, width: int, short_side: int, expected: tuple[int, int]
) -> None:
    assert reference_size(height, width, short_side=short_side) == expected


def test_ten_crops_are_corners_centre_and_mirrored() -> None:
    assert ten_crops(256, 340, size=224) == TEN_OF_256_X_340
    assert center_crop(256, 340, size=224) == TEN_OF_256_X_340[4]


def test_odd_margins_leave_the_spare_pixel_right_and_below() -> None:
    assert center_crop(5, 8, size=4) == View(2, 0, 4, 4)
    assert center_crop(4, 7, size=4) == View(1, 0, 4, 4)


def test_three_crops_follow_the_long_side() -> None:
    assert [view.x for view in three_crops(256, 341, size=256)] == [0, 42, 85]
    assert {view.y for view in three_crops(256, 341, size=256)} == {0}
    assert [view.y for view in three_crops(341, 256, size=224)] == [0, 58, 117]
    assert {view.x for view in three_crops(341, 256, size=224)} == {16}


def test_random_crop_reaches_every_place_and_no_other() -> None:
    rng = np.random.default_rng(0)
    views = [random_crop(5, 6, size=4, rng=rng) for _ in range(300)]
    places = {(view.x, view.y) for view in views}
    assert places == {(x, y) for x in (0, 1, 2) for y in (0, 1)}
    assert {(view.width, view.height, view.flip) for view in views} == {(4, 4, False)}


def test_a_zoomed_random_crop_is_as_much_smaller() -> None:
    # 224 of a short side of 256 to 320 is 224 / 1 to 224 / 1.25 = 179.2 of one of 256.
    rng = np.random.default_rng(0)
    views = [random_crop(256, 340, size=224, rng=rng, zoom=(1.0, 1.25)) for _ in range(400)]
    sides = [view.width for view in views]
    assert all(view.width == view.height for view in views)
    assert (min(sides), max(sides)) == (179, 224)
    # The factor is even over its range: a quarter lies above 1.1875, in sides up to 189.
    assert 70 < sum(side <= 189 for side in sides) < 130
    assert {min(view.x, view.y) for view in views} >= {0, 1, 2}
    assert all(view.x + view.width <= 340 and view.y + view.height <= 256 for view in views)


@pytest.mark.parametrize("zoom", [(0.9, 1.0), (1.2, 1.1)])
def test_a_zoom_must_enlarge(zoom: tuple[float, float]) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="zoom must rise from at least 1"):
        random_crop(32, 32, size=16, rng=rng, zoom=zoom)


def test_multi_scale_sizes_of_tsn() -> None:
    # Sides 256, 224, 192, 168; width and height at most one place apart.
    assert multi_scale_sizes(256, size=224, scales=(1, 0.875, 0.75, 0.66)) == (
        (256, 256),
        (224, 256),
        (256, 224),
        (224, 224),
        (192, 224),
        (224, 192),
        (192, 192),
        (168, 192),
        (192, 168),
        (168, 168),
    )


def test_a_side_near_the_size_becomes_the_size() -> None:
    assert multi_scale_sizes(256, size=166, scales=(0.66,)) == ((166, 166),)
    assert multi_scale_sizes(256, size=165, scales=(0.66,)) == ((168, 168),)
    # ... but never one that does not fit
    assert multi_scale_sizes(100, size=102, scales=(1,)) == ((100, 100),)


def test_corner_offsets_of_tsn() -> None:
    assert corner_offsets(256, 340, crop=(224, 192)) == (
        (0, 0),
        (116, 0),
        (0, 64),
        (116, 64),
        (58, 32),
    )
    # Margins that are no multiple of 4 keep the reference's four equal steps: 117 // 4 * 4 = 116.
    assert corner_offsets(224, 341, crop=(224, 224))[1] == (116, 0)


def test_multi_scale_crop_draws_all_sizes_and_places() -> None:
    rng = np.random.default_rng(0)
    views = [multi_scale_crop(256, 340, size=224, rng=rng) for _ in range(4000)]
    sizes = Counter((view.width, view.height) for view in views)
    assert set(sizes) == set(multi_scale_sizes(256, size=224, scales=(1, 0.875, 0.75, 0.66)))
    assert min(sizes.values()) > 300  # ten sizes, equally likely: 400 expected
    assert len({(v.x, v.y) for v in views if (v.width, v.height) == (192, 192)}) == 5


def test_flip_of_a_flip_is_the_view() -> None:
    view = View(1, 2, 3, 4)
    assert view.mirrored() == View(1, 2, 3, 4, flip=True)
    assert view.mirrored(False) == view
    assert view.mirrored().mirrored() == view


@pytest.mark.parametrize(
    ("view", "reference", "source", "expected"),
    [
        (View(58, 16, 224, 224), (256, 341), (240, 320), (54, 15, 265, 225)),
        (View(0, 0, 256, 256), (256, 341), (240, 320), (0, 0, 240, 240)),
        (View(85, 0, 256, 256), (256, 341), (240, 320), (80, 0, 320, 240)),
        (View(3, 5, 7, 9), (20, 30), (20, 30), (3, 5, 10, 14)),
        (View(1, 1, 1, 1), (4, 4), (8, 8), (2, 2, 4, 4)),
        (View(3, 3, 1, 1), (4, 4), (1, 1), (0, 0, 1, 1)),  # never empty
    ],
)
def test_source_box(
    view: View,
    reference: tuple[int, int],
    source: tuple[int, int],
    expected: tuple[int, int, int, int],
) -> None:
    assert source_box(view, reference=reference, source=source) == expected


@given(
    data=st.data(),
    reference=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    source=st.tuples(st.integers(1, 900), st.integers(1, 900)),
)
def test_source_boxes_stay_inside_and_near(
    data: st.DataObject, reference: tuple[int, int], source: tuple[int, int]
) -> None:
    height, width = reference
    x = data.draw(st.integers(0, width - 1))
    y = data.draw(st.integers(0, height - 1))
    view = View(x, y, data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y)))
    left, top, right, bottom = source_box(view, reference=reference, source=source)
    assert 0 <= left < right <= source[1]
    assert 0 <= top < bottom <= source[0]
    scale = source[1] / width
    if view.width * scale >= 1:  # a box below one pixel is widened to one
        assert abs(left - x * scale) <= 0.5
        assert abs(right - (x + view.width) * scale) <= 0.5


def test_misuse_is_named() -> None:
    with pytest.raises(InputError, match="crop of 300 does not fit into 256 x 340"):
        center_crop(256, 340, size=300)
    with pytest.raises(InputError, match="leaves the 10 x 10"):
        source_box(View(5, 5, 6, 2), reference=(10, 10), source=(10, 10))
    with pytest.raises(InputError, match="width, height >= 1"):
        View(0, 0, 0, 4)
    with pytest.raises(InputError, match="scales"):
        multi_scale_sizes(10, size=5, scales=())
    with pytest.raises(InputError, match="scales"):
        multi_scale_sizes(10, size=5, scales=(1.2,))
    with pytest.raises(InputError, match="short_side must be at least 1"):
        reference_size(4, 4, short_side=0)
