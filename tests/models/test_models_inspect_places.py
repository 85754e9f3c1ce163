"""The arithmetic behind receptive fields, as tables of literal cases."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualstream.models.inspection.digits import (
    Digit,
    Dimension,
    Tokens,
    canonical,
    refined,
    regrouped,
    size_of,
    split_part,
)
from dualstream.models.inspection.joining import end_to_end, joined, laid_together
from dualstream.models.inspection.places import Places, Span, Window

TIME = Digit(16, 0, 1, 1)
HEIGHT, WIDTH = Digit(14, 1, 16, 16), Digit(14, 2, 16, 16)
CHANNELS = Digit(64)


def clip(*, frames: int = 16, height: int = 32, width: int = 32) -> Places:
    """(1, 3, T, H, W), each entry seeing itself."""
    dimensions: tuple[Dimension, ...] = (
        (),
        (Digit(3),),
        (Digit(frames, 0, 1, 1),),
        (Digit(height, 1, 1, 1),),
        (Digit(width, 2, 1, 1),),
    )
    return Places(dimensions, (Span(0, 0),) * 3, (frames, height, width))


@pytest.mark.parametrize(
    ("dimension", "expected"),
    [
        ((Digit(8, 1, 28, 28), Digit(7, 1, 4, 4)), (Digit(56, 1, 4, 4),)),
        ((Digit(8, 1, 28, 28), Digit(7, 1, 4, 0)), (Digit(8, 1, 28, 28), Digit(7, 1, 4, 0))),
        ((Digit(3), Digit(4)), (Digit(12),)),
        ((Digit(1, 0, 1, 1), Digit(4)), (Digit(4),)),
        ((Digit(1, 0, 1, 1),), (Digit(1, 0, 1, 1),)),
        ((Digit(1),), ()),
        ((TIME, CHANNELS), (TIME, CHANNELS)),
    ],
)
def test_canonical(dimension: Dimension, expected: Dimension) -> None:
    assert canonical(dimension) == expected


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        (4, (Digit(4, 0, 4, 4), Digit(4, 0, 1, 1))),
        (16, (Digit(1, 0, 16, 16), TIME)),
        (3, None),
        (0, None),
    ],
)
def test_split_part(inner: int, expected: tuple[Digit, Digit] | None) -> None:
    assert split_part(TIME, inner) == expected
    assert split_part(Tokens(1, (TIME,), 0), inner) is None


TOKENS = Tokens(1, (HEIGHT, WIDTH), 0)


@pytest.mark.parametrize(
    ("parts", "sizes", "expected"),
    [
        ((TIME, HEIGHT, WIDTH), (16, 196), ((TIME,), (HEIGHT, WIDTH))),
        ((TIME, HEIGHT, WIDTH), (224, 14), ((TIME, HEIGHT), (WIDTH,))),
        ((TIME,), (4, 1, 4), ((Digit(4, 0, 4, 4),), (), (Digit(4, 0, 1, 1),))),
        ((Digit(1, 0, 1, 1), CHANNELS), (1, 64), ((Digit(1, 0, 1, 1),), (CHANNELS,))),
        ((TOKENS, CHANNELS), (197, 8, 8), ((TOKENS,), (Digit(8),), (Digit(8),))),
        ((TIME, Digit(3)), (24, 2), None),  # 2 does not end where the 3 ends
        ((TOKENS,), (1, 197, 1), ((), (TOKENS,), ())),
        ((Tokens(0, (TIME,), 0),), (4, 4), None),
    ],
)  # fmt: skip
def test_regrouped(parts, sizes, expected) -> None:
    assert regrouped(parts, sizes) == expected


def test_refined() -> None:
    halves = (Digit(8, 1, 28, 28), Digit(7, 1, 4, 4))
    assert refined((Digit(56, 1, 4, 4),), (Digit(8), Digit(7))) == [
        (halves[0], Digit(8)),
        (halves[1], Digit(7)),
    ]
    assert refined((Digit(6),), (Digit(2), Digit(3))) == [
        (Digit(2), Digit(2)),
        (Digit(3), Digit(3)),
    ]
    assert refined((Digit(2), Digit(3)), (Digit(3), Digit(2))) is None


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.integers(1, 6), st.integers(1, 6))
def test_regrouping_keeps_every_entry(sizes: list[int], a: int, b: int) -> None:
    """There and back gives what there was, where the borders fit."""
    digits = canonical(tuple(Digit(size) for size in sizes) or ())
    total = size_of(digits)
    other = regrouped(digits, (total // a, a)) if total % a == 0 else None
    if other is not None:
        assert [size_of(dimension) for dimension in other] == [total // a, a]
        parts = [part for dimension in other for part in dimension]
        back = regrouped(parts, (total,))
        assert back is not None
        assert size_of(back[0]) == total


# (kernel, stride, padding, dilation) of convolutions and pools -> field, stride; the sources are
# the lecture's table (3, 6, 14) and counting by hand.
STACKS = [
    ([(3, 1, 1, 1)], 3, 1),
    ([(3, 1, 1, 1), (4, 4, 0, 1)], 6, 4),
    ([(3, 1, 1, 1), (4, 4, 0, 1), (3, 1, 1, 1)], 14, 4),
    ([(7, 2, 3, 1), (3, 2, 1, 1)], 11, 4),
    ([(3, 1, 2, 2)], 5, 1),
    ([(1, 2, 0, 1), (3, 1, 1, 1)], 5, 2),
    ([(2, 2, 0, 1)] * 3, 8, 8),
]


@pytest.mark.parametrize(("windows", "field", "stride"), STACKS)
def test_windows(windows: list[tuple[int, int, int, int]], field: int, stride: int) -> None:
    places = clip(height=64)
    for kernel, step, padding, dilation in windows:
        before = places.shape[3]
        size = (before + 2 * padding - dilation * (kernel - 1) - 1) // step + 1
        places = places.windowed(3, Window(kernel, step, padding, dilation), size=size)
    assert (places.field(1), places.stride(1), places.field(0)) == (field, stride, 1)


def test_means_are_cut_to_the_input() -> None:
    """16 places at distance 4, each seeing 14: 74 with what lies beyond the border, 64 without."""
    places = Places(((Digit(16, 1, 4, 4),),), (Span(0, 0), Span(-5, 8), Span(0, 0)), (1, 64, 64))
    assert places.field(1) == 14
    mean = places.reduced([0], keep=False)
    assert (mean.field(1), mean.stride(1), mean.positions(1), mean.shape) == (64, None, None, ())
    assert places.reduced([0], keep=True).shape == (1,)
    softmax = places.spread([0])
    assert (softmax.field(1), softmax.stride(1), softmax.positions(1)) == (64, 4, 16)


def test_frames_fold_into_the_batch_and_the_channels() -> None:
    frames = clip().permuted([0, 2, 1, 3, 4]).reshaped((16, 3, 32, 32))
    assert (frames.positions(0), frames.stride(0), frames.field(0)) == (16, 1, 1)
    assert frames.reshaped((1, 16, 3, 32, 32)).permuted([0, 2, 1, 3, 4]) == clip()
    stacked = clip().permuted([0, 2, 1, 3, 4]).reshaped((1, 48, 32, 32))
    assert stacked.mixed(1, size=64).field(0) == 16
    by_frame = stacked.mixed(1, size=32, groups=16)
    assert (by_frame.field(0), by_frame.positions(0)) == (1, 16)
    assert stacked.mixed(1, size=48, groups=48) == stacked


@pytest.mark.parametrize(
    ("start", "step", "size", "first", "stride"),
    [(0, 2, 8, 0, 2), (3, 5, 3, 3, 5), (15, -1, 16, 15, 1), (0, Fraction(31, 3), 4, 0, 31 / 3)],
)  # fmt: skip
def test_slices(start: int, step: int, size: int, first: int, stride: float) -> None:
    places = clip(frames=32 if size == 4 else 16).sliced(2, start=start, step=step, size=size)
    assert places is not None
    assert places.seen[0] == Span(first, first)
    assert places.stride(0) == pytest.approx(stride)
    assert places.positions(0) == size


def test_one_frame_has_no_time() -> None:
    frame = clip().picked(2, 5)
    assert frame is not None
    assert frame.seen[0] == Span(5, 5)
    assert (frame.field(0), frame.stride(0)) == (1, None)
    inner = clip().reshaped((1, 3, 4, 4, 32, 32)).picked(2, 3)
    assert inner is not None
    assert inner.seen[0] == Span(12, 12)
    assert inner.positions(0) == 4


def test_joined_sees_both() -> None:
    """A 3-wide window beside a pool of 4 that starts where it does."""
    three = clip().windowed(3, Window(3, 4, 1), size=8)
    four = clip().windowed(3, Window(4, 4, 0), size=8)
    assert joined(three, four).seen[1] == Span(-1, 3)
    assert joined(three, four).stride(1) == 4


def test_joined_with_a_gate_sees_all() -> None:
    gate = clip().reduced([2, 3, 4], keep=True)
    scaled = joined(clip(), gate)
    assert [scaled.field(axis) for axis in range(3)] == [16, 32, 32]
    assert [scaled.stride(axis) for axis in range(3)] == [1, 1, 1]


def test_joined_at_unequal_distances_covers_the_drift() -> None:
    """Frames 0, 10, 20, 31 beside 0, 8, 16, 24: the last is 7 further on."""
    slow = clip(frames=32).sliced(2, start=0, step=Fraction(31, 3), size=4)
    fast = clip(frames=32).windowed(2, Window(5, 8, 2), size=4)
    assert slow is not None
    both = joined(slow, fast)
    assert both.seen[0] == Span(-2, 7)
    assert both.stride(0) == 8


def test_joined_across_borders_is_not_known() -> None:
    tokens = clip(height=6, width=4).reshaped((1, 3, 16, 24))
    turned = clip(height=6, width=4).permuted([0, 1, 2, 4, 3]).reshaped((1, 3, 16, 24))
    assert joined(tokens, turned).seen == (Span(0, 0), None, None)


def test_laid_together() -> None:
    def frame(first: int, last: int) -> Places:
        return Places((), (Span(first, last), Span(0, 0), Span(0, 0)), (16, 32, 32))

    picked = laid_together([frame(0, 0), frame(4, 4), frame(8, 8)])
    assert picked.dimensions == ((Digit(3, 0, 4, 4),),)
    assert picked.field(0) == 1
    states = laid_together([frame(0, 0), frame(0, 1), frame(0, 2)])
    assert states.dimensions == ((Digit(3, 0, 1, 0),),)
    assert states.field(0) == 3
    backwards = laid_together([frame(0, 2), frame(1, 2), frame(2, 2)])
    assert backwards.dimensions == ((Digit(3, 0, 1, 0),),)
    mixed = laid_together([frame(0, 0), frame(3, 3), frame(4, 4)])
    assert mixed.dimensions == ((Digit(3),),)
    assert mixed.field(0) == 5
    assert laid_together([frame(2, 2)] * 2).dimensions == ((Digit(2),),)


def test_end_to_end() -> None:
    first = clip().sliced(2, start=0, step=1, size=7)
    last = clip().sliced(2, start=7, step=1, size=9)
    assert first is not None
    assert last is not None
    assert end_to_end([first, last], 2) == clip()
    swapped = end_to_end([last, first], 2)
    assert swapped.seen == (None, Span(0, 0), Span(0, 0))
    assert swapped.shape == (1, 3, 16, 32, 32)
    channels = end_to_end([clip(), clip().windowed(3, Window(3, 1, 1), size=32)], 1)
    assert (channels.shape[1], channels.field(1), channels.field(2)) == (6, 3, 1)


def test_class_token() -> None:
    patches = Places(
        ((HEIGHT, WIDTH), (CHANNELS,)), (Span(0, 0),) + (Span(0, 15),) * 2, (1, 224, 224)
    )
    tokens = patches.padded(0, before=1, after=0)
    assert tokens.shape == (197, 64)
    assert tokens.picked(0, 0) is None  # sees nothing yet
    assert tokens.sliced(0, start=1, step=1, size=196) == patches
    attended = tokens.spread([0])
    token = attended.picked(0, 0)
    assert token is not None
    assert [token.field(axis) for axis in range(3)] == [1, 224, 224]
    assert tokens.sliced(0, start=5, step=1, size=10).seen == (Span(0, 0), None, None)


def test_window_across_folded_places_is_not_known() -> None:
    tokens = clip().reshaped((1, 3, 16, 1024))
    blurred = tokens.windowed(3, Window(3, 1, 1), size=1024)
    assert blurred.seen == (Span(0, 0), None, None)
    assert blurred.windowed(2, Window(3, 1, 1), size=16).field(0) == 3
