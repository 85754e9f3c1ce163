import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualstream.errors import InputError, ShapeError
from dualstream.types import Frames
from dualstream.video import FrameArray, FrameBuffer, FrameSource, VideoReader


def numbered(count: int) -> np.ndarray:
    """(T, 2, 3, 3) images whose every byte is their number."""
    return (
        np.arange(count, dtype=np.uint8)[:, None, None, None].repeat(2, 1).repeat(3, 2).repeat(3, 3)
    )


def numbers(frames: Frames) -> list[int]:
    return frames.data[:, 0, 0, 0].tolist()


def test_all_three_kinds_are_frame_sources(tiny_video):
    with VideoReader(tiny_video(fps=10.0)) as video:
        array = FrameArray(video.read_all())
        buffer = FrameBuffer(12, size=(48, 64), fps=10, name="camera")
        for image, seconds in video.images():
            buffer.append(image, seconds)
        for source in (video, array, buffer):
            assert isinstance(source, FrameSource)
            assert source.size == (48, 64)
            assert source.fps == pytest.approx(10)
            assert source.available == range(12)
            assert source.seconds_of([3, 0]).tolist() == pytest.approx([0.3, 0.0])
            frames = source.read([7, 2, 7])
            assert (frames.data == array.read([7, 2, 7]).data).all()
            assert frames.pts_seconds.tolist() == pytest.approx([0.7, 0.2, 0.7])
            assert frames.source == source.name
        assert video.name == array.name


class TestArray:
    def test_plain_array_with_a_rate(self):
        source = FrameArray(numbered(5), fps=50)
        assert (source.size, source.fps, source.available) == ((2, 3), 50, range(5))
        frames = source.read([4, 0, 1])
        assert numbers(frames) == [4, 0, 1]
        assert frames.pts_seconds.tolist() == [0.08, 0.0, 0.02]

    def test_neighbours_are_a_view(self):
        data = numbered(6)
        assert np.shares_memory(FrameArray(data, fps=25).read([2, 3, 4]).data, data)

    def test_rate_is_that_of_the_times(self):
        times = np.array([5.0, 5.1, 5.4, 5.5])
        assert FrameArray(Frames(numbered(4), times)).fps == pytest.approx(6)
        assert FrameArray(Frames(numbered(1), times[:1])).fps == 25
        assert FrameArray(Frames(numbered(1), times[:1]), fps=30).fps == 30

    @pytest.mark.parametrize("indices", [[5], [-1], [0, 99]])
    def test_frames_that_do_not_exist(self, indices):
        source = FrameArray(Frames(numbered(5), np.arange(5.0), "a.mp4"))
        for call in (source.read, source.seconds_of):
            with pytest.raises(InputError, match=rf"Frame {indices[-1]} of 'a\.mp4' does not"):
                call(indices)

    def test_bad_arrays(self):
        with pytest.raises(InputError, match="pass its rate as fps"):
            FrameArray(numbered(2))
        with pytest.raises(InputError, match="at least one"):
            FrameArray(numbered(0), fps=25)
        with pytest.raises(InputError, match="fps must be"):
            FrameArray(numbered(2), fps=0)
        with pytest.raises(ShapeError):
            FrameArray(numbered(2)[..., 0], fps=25)
        with pytest.raises(InputError, match="at least one"):
            FrameArray(numbered(2), fps=25).read([])


class TestBuffer:
    def filled(self, count: int, capacity: int = 4) -> FrameBuffer:
        buffer = FrameBuffer(capacity, size=(2, 3), fps=25, name="cam")
        for number, image in enumerate(numbered(count)):
            buffer.append(image, number / 25)
        return buffer

    def test_the_last_frames_by_absolute_number(self):
        buffer = self.filled(7)
        assert buffer.available == range(3, 7)
        frames = buffer.read([6, 3])
        assert numbers(frames) == [6, 3]
        assert frames.pts_seconds.tolist() == [6 / 25, 3 / 25]

    def test_what_was_read_stays_as_it_was(self):
        buffer = self.filled(4)
        frames = buffer.read([0, 1])
        for number in range(4, 9):
            buffer.append(np.full((2, 3, 3), number, np.uint8), number / 25)
        assert numbers(frames) == [0, 1]

    @pytest.mark.parametrize(
        ("number", "message"),
        [
            (2, "Frame 2 of 'cam' has passed; available: 3..6"),
            (7, "Frame 7 of 'cam' does not exist; available: 3..6"),
            (-1, "Frame -1 of 'cam' does not exist"),
        ],
    )
    def test_frames_that_are_not_held(self, number, message):
        with pytest.raises(InputError, match=message):
            self.filled(7).read([number])

    def test_nothing_yet(self):
        buffer = self.filled(0)
        assert not buffer.available
        with pytest.raises(InputError, match="available: none yet"):
            buffer.read([0])

    def test_bad_frames(self):
        buffer = self.filled(2)
        with pytest.raises(ShapeError, match=r"Frame 2 of 'cam' must be \(2, 3, 3\) uint8"):
            buffer.append(np.zeros((3, 2, 3), np.uint8), 1.0)
        with pytest.raises(InputError, match=r"not after the frame before \(0\.04 s\)"):
            buffer.append(np.zeros((2, 3, 3), np.uint8), 0.04)
        for options in ({"capacity": 0}, {"size": (0, 3)}, {"fps": 0}):
            with pytest.raises(InputError):
                FrameBuffer(**{"capacity": 1, "size": (2, 3), "fps": 25, **options})

    @given(count=st.integers(0, 40), capacity=st.integers(1, 12), data=st.data())
    def test_it_is_the_end_of_the_list(self, count, capacity, data):
        buffer = self.filled(count, capacity)
        held = list(range(count))[-capacity:]
        assert list(buffer.available) == held
        if held:
            chosen = data.draw(st.lists(st.sampled_from(held), min_size=1))
            assert numbers(buffer.read(chosen)) == chosen
            assert buffer.seconds_of(chosen).tolist() == [number / 25 for number in chosen]
