"""Flow computed when read: bit for bit what a store gives."""

import numpy as np
import pytest

from dualstream.errors import FlowError, InputError, UnknownNameError
from dualstream.flow import (
    ComputedFlow,
    DISParams,
    FlowJob,
    FlowStore,
    StoredFlow,
    TVL1Params,
    extract_flow,
    optical_flow,
    pixels,
)
from dualstream.flow.compute import FieldCache, runs
from dualstream.types import Frames
from dualstream.video import VideoReader
from dualstream.video.source import FrameArray

PARAMS = {"tvl1": TVL1Params(warps=2, outer_iterations=3), "dis": DISParams(preset="fast")}


class CountedReader:
    """A frame source that remembers what was read of another."""

    def __init__(self, source):
        self.source = source
        self.name, self.size, self.fps = source.name, source.size, source.fps
        self.available, self.seconds_of = source.available, source.seconds_of
        self.reads = []

    def read(self, indices):
        self.reads.append(list(indices))
        return self.source.read(indices)


@pytest.fixture
def frames():
    data = np.random.default_rng(1).integers(0, 256, (50, 20, 24, 3), np.uint8)
    return CountedReader(FrameArray(Frames(data, np.arange(50) / 25, "noise")))


@pytest.mark.parametrize("short_side", [None, 35])
@pytest.mark.parametrize("method", ["tvl1-fast", "tvl1", "dis", "farneback"])
def test_the_bytes_are_those_of_the_store(tmp_path, tiny_video, method, short_side):
    video = str(tiny_video("a.mp4", num_frames=40))  # 48x64: more than one window and one run
    options = {"method": method, "params": PARAMS.get(method), "short_side": short_side}
    jobs = [FlowJob("a.mp4", video)]
    (outcome,) = extract_flow(jobs, tmp_path / "flow", direction="both", bound_px=15.0, **options)
    assert outcome.status == "done", outcome.error
    stores = FlowStore(tmp_path / "flow"), FlowStore(tmp_path / "flow_backward")
    with (
        stores[0].open("a.mp4") as there,
        stores[1].open("a.mp4") as back,
        VideoReader(video) as reader,
    ):
        stored = StoredFlow(there, back)
        computed = ComputedFlow(reader, range(40), bound_px=15.0, **options)
        assert (computed.num_fields, computed.size) == (stored.num_fields, stored.size)
        for indices in (range(39), [38, 3, 3, 4, 20]):
            for direction in ("forward", "backward"):
                expected = stored.read(indices, direction=direction)
                found = computed.read(indices, direction=direction)
                assert (found.method, found.bound_px) == (expected.method, expected.bound_px)
                np.testing.assert_array_equal(found.data, expected.data)


@pytest.mark.parametrize("name", ["warped-dis", "warped-tvl1-fast"])
def test_warped_flow_is_that_of_the_store(tmp_path, tiny_video, name):
    video = str(tiny_video("a.mp4", num_frames=5))
    options = {"method": name.removeprefix("warped-"), "warped": True}
    list(extract_flow([FlowJob("a.mp4", video)], tmp_path / "flow", **options))
    with FlowStore(tmp_path / "flow").open("a.mp4") as stored, VideoReader(video) as reader:
        computed = ComputedFlow(reader, range(5), method=name)
        np.testing.assert_array_equal(computed.read(range(4)).data, stored.read(range(4)))
        with pytest.raises(InputError, match="'forward' only"):
            computed.read([0], direction="backward")


def test_fields_lead_from_each_frame_shown_to_the_next(frames):
    computed = ComputedFlow(frames, [4, 8, 8, 10], method="dis")
    flow = computed.read([2, 0, 1])
    pair = frames.source.read([8, 10])
    expected = optical_flow(pair, method="dis").data[0]
    # Noise is far from smooth: JPEG changes its bytes by up to 20 steps of 0.16 px.
    assert np.abs(pixels(flow)[0] - np.clip(expected, -20, 20)).mean() < 0.5
    assert (flow.data[2] == 128).all()
    assert (flow.source, flow.method) == ("noise", "dis")


def test_frames_are_read_in_runs_and_fields_are_kept(frames):
    computed = ComputedFlow(frames, range(50), method="dis")
    first = computed.read(range(40)).data
    assert frames.reads == [list(range(33)), list(range(32, 41))]
    computed.read(range(5), direction="backward")
    frames.reads.clear()
    shared = computed.read([38, 39, 40, 41]).data
    assert frames.reads == [[40, 41, 42]]
    np.testing.assert_array_equal(shared[:2], first[38:])
    assert computed.read([]).data.shape == (0, 2, 20, 24)


def test_the_cache_keeps_what_was_read_last():
    cache = FieldCache(most_bytes=3 * 8)
    fields = [np.full((2, 2, 2), n, np.uint8) for n in range(5)]
    for number in range(3):
        cache.put(("dis", number, number + 1), fields[number])
    assert cache.get(("dis", 0, 1)) is fields[0]
    cache.put(("dis", 3, 4), fields[3])
    assert cache.get(("dis", 1, 2)) is None
    assert cache.get(("tvl1", 3, 4)) is None
    cache.forget(before=3)
    assert cache.get(("dis", 2, 3)) is None
    assert cache.get(("dis", 3, 4)) is fields[3]
    cache.put(("dis", 4, 5), fields[4])
    cache.put(("dis", 9, 10), fields[0])  # those that were let go take no room
    assert cache.get(("dis", 3, 4)) is fields[3]


def test_flow_of_the_same_frames_shares_a_cache(frames):
    cache = FieldCache()
    there = ComputedFlow(frames, range(10), method="dis", cache=cache).read(range(9)).data
    frames.reads.clear()
    # A timeline of its own, of which two fields lead between the same frames.
    later = ComputedFlow(frames, [5, 6, 7, 9], method="dis", cache=cache).read(range(3)).data
    assert frames.reads == [[7, 9]]
    np.testing.assert_array_equal(later[:2], there[5:7])
    ComputedFlow(frames, range(10), method="dis", bound_px=15.0, cache=cache).read([5])
    assert frames.reads[1:] == [[5, 6]]


def test_threads_change_nothing(frames):
    scattered = [0, 1, 3, 4]
    shown = range(6)
    one = ComputedFlow(frames, shown).read(scattered)
    two = ComputedFlow(frames, shown, num_threads=2).read(scattered)
    np.testing.assert_array_equal(one.data, two.data)
    assert len(np.unique(one.data)) > 10


def test_bad_calls(frames):
    with pytest.raises(FlowError, match="at least 2 frames; noise has 1"):
        ComputedFlow(frames, [3])
    with pytest.raises(UnknownNameError, match="Unknown flow method 'flo'"):
        ComputedFlow(frames, range(3), method="flo")
    with pytest.raises(InputError, match="'dis' takes DISParams"):
        ComputedFlow(frames, range(3), method="dis", params=TVL1Params())
    for index in (-1, 2):
        with pytest.raises(InputError, match=f"noise has 2 flow fields, there is no field {index}"):
            ComputedFlow(frames, range(3)).read([0, index])


@pytest.mark.parametrize(
    ("indices", "expected"),
    [
        ([], []),
        ([3, 4, 5, 9], [(3, 5), (9, 9)]),
        ([1, 2, 3, 4, 5], [(1, 2), (3, 4), (5, 5)]),
    ],
)
def test_runs(indices, expected):
    assert list(runs(indices, longest=32 if len(indices) < 5 else 2)) == expected
