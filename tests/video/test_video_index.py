from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualstream.errors import CorruptVideoError, InputError
from dualstream.video.index import (
    FrameIndex,
    PacketList,
    by_decoded_pictures,
    check_positions,
    counted_index,
    decode_runs,
    packet_index,
    stand_ins,
)


@pytest.mark.parametrize(
    ("wanted", "keys", "seek_cost", "runs"),
    [
        ([3, 5, 99], [0, 50], 4, [(0, (3, 5)), (50, (99,))]),
        ([0, 1, 2], [0, 1, 2], 4, [(0, (0, 1, 2))]),
        ([7], [0, 5, 10], 4, [(5, (7,))]),
        ([10], [0, 5, 10], 4, [(10, (10,))]),
        # From 5 the next frame to decode is 6; the key frame 10 saves 4 frames, 9 only 3.
        ([5, 12], [0, 10], 4, [(0, (5,)), (10, (12,))]),
        ([5, 12], [0, 9], 4, [(0, (5, 12))]),
        ([5, 12], [0, 9], 3, [(0, (5,)), (9, (12,))]),
        ([5, 200], [0], 4, [(0, (5, 200))]),
        ([], [0], 4, []),
    ],
)
def test_decode_runs(wanted, keys, seek_cost, runs):
    assert decode_runs(wanted, keys, seek_cost=seek_cost) == runs


@given(
    wanted=st.sets(st.integers(0, 300), min_size=1).map(sorted),
    keys=st.sets(st.integers(1, 300)).map(lambda more: [0, *sorted(more)]),
)
def test_decode_runs_keep_every_position_and_never_decode_more_than_from_the_start(wanted, keys):
    runs = decode_runs(wanted, keys)
    assert [position for _, positions in runs for position in positions] == wanted
    assert all(key in keys and key <= positions[0] for key, positions in runs)
    work = sum(positions[-1] - key + 1 for key, positions in runs)
    assert work <= wanted[-1] + 1


@pytest.mark.parametrize(
    ("wanted", "keys", "stands_at", "runs"),
    [
        ([5, 6], [0], 5, [(None, (5, 6))]),
        ([9], [0], 5, [(None, (9,))]),
        ([9], [0, 8], 5, [(None, (9,))]),  # the key frame would save three frames only
        ([10], [0, 9], 5, [(9, (10,))]),
        ([4, 9], [0], 5, [(0, (4, 9))]),
        ([6, 99], [0, 50], 5, [(None, (6,)), (50, (99,))]),
    ],
)
def test_decode_runs_go_on_from_where_the_decoder_stands(wanted, keys, stands_at, runs):
    assert decode_runs(wanted, keys, stands_at=stands_at) == runs


def packets(pts, keys, **changes) -> PacketList:
    facts = {
        "pts": pts,
        "dts": pts,
        "keys": keys,
        "pictures": ["?"] * len(pts),
        "num_stored": len(pts),
        "is_trusted": True,
        "turns_within": False,
    }
    return PacketList(**{**facts, **changes})


def index_of(pts, keys, **changes) -> FrameIndex | None:
    return packet_index(packets(pts, keys, **changes), stores_pts=True, time_base=Fraction(1, 100))


def test_packets_are_sorted_by_the_time_at_which_they_are_shown():
    # Decoding order I P B B | I P B, the second I (packet 4) is shown sixth.
    index = index_of([0, 30, 10, 20, 50, 60, 40], [0, 4])
    assert index.numbers.tolist() == [0, 10, 20, 30, 40, 50, 60]
    assert index.pts_seconds.tolist() == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert index.keys == (0, 5)
    assert not index.by_count


def test_two_packets_at_one_time_do_not_tell_the_frames():
    assert index_of([0, 1, 1], [0]) is None


def test_packets_that_are_not_trusted_do_not_tell_the_frames():
    assert index_of([0, 1, 2], [0], is_trusted=False) is None


def test_decoding_starts_at_the_first_packet_even_if_an_edit_list_hides_the_key_frame():
    assert index_of([0, 1, 2, 3], [2]).keys == (0, 2)


def test_pictures_of_packed_avi_are_counted():
    found = packets([0, 1, 2, 3, 4], [0], pictures=("I", "", "PB", "", "P"), num_stored=4)
    index = packet_index(found, stores_pts=False, time_base=Fraction(1, 10))
    assert index.by_count
    assert index.keys == (0,)
    assert index.numbers.tolist() == [0, 1, 2, 3]
    assert index.pts_seconds.tolist() == [0.0, 0.1, 0.2, 0.3]


def timed(num_frames: int) -> FrameIndex:
    return index_of([10 * frame for frame in range(num_frames)], [0])


@pytest.mark.parametrize(
    ("decoded", "expected"),
    [
        ([0, 10, 20, 30, 40], [0, 10, 20, 30, 40]),
        ([10, 30], [10, 10, 10, 30, 30]),
        ([0, 10, 20], [0, 10, 20, 20, 20]),
        ([0, 5, None, 20, 10, 30, 40], [0, 0, 20, 30, 40]),  # 5 is no frame, 10 comes too late
        ([], []),
    ],
)
def test_stand_ins(decoded, expected):
    index = timed(5)
    assert list(stand_ins(index, ((time, time) for time in decoded))) == expected
    counted = by_decoded_pictures(index, decoded)
    assert [decoded[number] for number in counted.numbers] == expected
    again = stand_ins(counted, enumerate(decoded))
    assert list(again) == expected


def test_counted_index():
    index = counted_index(np.array([0.4, 0.6, 0.7]), num_stored=5)
    assert index.numbers.tolist() == [0, 1, 2]
    assert (index.keys, index.by_count, len(index), index.num_stored) == ((0,), True, 3, 5)


@pytest.mark.parametrize(
    ("positions", "error"),
    [
        ([0, 9], None),
        ([0, 10], CorruptVideoError),
        ([11], CorruptVideoError),
        ([12], InputError),
        ([-1], InputError),
    ],
)
def test_check_positions(positions, error):
    """A file that tells of 12 frames, of which 10 decode."""
    index = counted_index(np.arange(10.0), num_stored=12)
    if error is None:
        check_positions(positions, index, source="a.mp4")
    else:
        with pytest.raises(error, match=rf"Frame {positions[-1]} of 'a\.mp4'"):
            check_positions(positions, index, source="a.mp4")
