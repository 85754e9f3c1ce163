"""Frames of a video file, by index, by time, evenly spaced, at a rate, or all in windows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from dualstream.errors import CorruptVideoError, InputError
from dualstream.types import Frames
from dualstream.video.container import (
    decode_packet,
    decode_stream,
    is_url,
    no_frame_error,
    open_video,
    packets_of,
)
from dualstream.video.index import (
    CLOCK_ROUNDING_SECONDS,
    FrameIndex,
    check_positions,
    check_rate,
    counted_index,
    decode_runs,
    evenly_spaced,
    frames_shown_at,
    index_packets,
)
from dualstream.video.info import DEFAULT_FPS, VideoInfo, header_info
from dualstream.video.orientation import Orientation, orientation_of_frame
from dualstream.video.windows import TimedImage, collect, cut_windows, resample

SKIPPABLE_CODECS = frozenset({"h264"})
"""Codecs whose decoder can leave out pictures that no other refers to and stay exact."""


class _IndexDiffersError(CorruptVideoError):
    """Decoding met other frames than the packets promised; the index is now the decoded one."""


class VideoReader:
    """One open video file.

    Frames are numbered from 0 in the order in which they are shown. Reading any of them gives
    exactly the picture that decoding the file from its start gives. Pictures come as they are
    coded: interlaced ones are not deinterlaced, and pixels that are not square stay so.

    Args:
        path: file name, or a URL that FFmpeg can open.
        num_threads: threads that decode; 1 leaves the other cores to other workers.

    Raises:
        VideoNotFoundError: no such file.
        NoVideoStreamError: audio only, a folder, or not a media file.
        CorruptVideoError: empty, or without readable structure.
        InputError: `num_threads` below 1.
    """

    def __init__(self, path: str | os.PathLike[str], *, num_threads: int = 1) -> None:
        if num_threads < 1:
            raise InputError(f"num_threads must be at least 1, got {num_threads}.")
        self._path = os.fspath(path)
        self._num_threads = num_threads
        self._index: FrameIndex | None = None
        self._num_promised = 0
        self._info: VideoInfo | None = None
        self._orientation: Orientation | None = None
        self._reformatter = VideoReformatter()
        self._container, self._stream = open_video(self._path, num_threads=num_threads)
        self._at_start = True
        self._is_closed = False
        # Frames of another size in the middle of a stream are scaled to the first one's.
        self._size = (self._stream.codec_context.width, self._stream.codec_context.height)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the reader cannot be used afterwards."""
        self._container.close()
        self._is_closed = True

    def _check_open(self) -> None:
        if self._is_closed:
            raise InputError(f"The reader of {self._path!r} is closed; make a new one.")

    @property
    def name(self) -> str:
        """The file or URL."""
        return self._path

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of every frame as displayed."""
        return self.info.height, self.info.width

    @property
    def fps(self) -> float:
        """Mean frames a second; 25 where there is one frame only."""
        pts = self.pts_seconds
        return (len(pts) - 1) / float(pts[-1] - pts[0]) if len(pts) > 1 else self.info.fps

    @property
    def available(self) -> range:
        """Numbers of all frames: 0..num_frames - 1."""
        return range(self.num_frames)

    def seconds_of(self, indices: Sequence[int]) -> NDArray[np.float64]:
        """(n,) presentation times of frames by number.

        Raises:
            InputError: an index below 0 or beyond the end.
        """
        index = self._frame_index()
        check_positions(indices, len(index), promised=self._num_promised, source=self._path)
        return index.pts_seconds[np.asarray(indices, np.int64)]

    @property
    def info(self) -> VideoInfo:
        """Header facts; decodes the first frame, which alone tells the rotation."""
        self._check_open()
        if self._info is None:
            container, stream = open_video(self._path, num_threads=1)
            with container:
                first = next(decode_stream(container, stream), None)
                if first is None:
                    raise no_frame_error(self._path)
                self._info = header_info(container, stream, self._path, first)
        return self._info

    @property
    def pts_seconds(self) -> NDArray[np.float64]:
        """(F,) presentation time of every frame, strictly rising, in seconds of the file's clock.

        Found on first use, by reading the packets without decoding them where that is exact
        (see `dualstream.video.index`).

        Raises:
            CorruptVideoError: no frame can be decoded.
        """
        return self._frame_index().pts_seconds

    @property
    def num_frames(self) -> int:
        """Number of frames that the file holds, whatever its header says."""
        return len(self._frame_index())

    def read(self, indices: Sequence[int]) -> Frames:
        """Frames by number, in the order asked for; repeats are allowed.

        Raises:
            CorruptVideoError: a frame that the header promises is not in the file.
            InputError: an index below 0 or beyond the end, or no index.
        """
        numbers = [int(index) for index in indices]
        if not numbers:
            raise InputError(f"No frame indices were given for {self._path!r}; pass at least one.")
        try:
            return self._read(numbers)
        except _IndexDiffersError:
            return self._read(numbers)

    def read_at(self, seconds: Sequence[float]) -> Frames:
        """Frames on display at the given times of the file's clock.

        Before its first frame a video shows that frame; the last one stays for as long as the
        others last on average.

        Raises:
            InputError: a time below 0, not a number, or after the end; or no time.
        """
        times = np.asarray(seconds, np.float64)
        pts = self.pts_seconds
        mean = (pts[-1] - pts[0]) / (len(pts) - 1) if len(pts) > 1 else 1 / DEFAULT_FPS
        end = float(pts[-1] + mean)
        latest = end + CLOCK_ROUNDING_SECONDS
        if times.ndim != 1 or not times.size or not ((times >= 0) & (times <= latest)).all():
            raise InputError(
                f"seconds must be a list of times in 0..{end:.3f}, the end of {self._path!r}; "
                f"got {seconds}."
            )
        return self.read(frames_shown_at(pts, times).tolist())

    def read_evenly(self, count: int) -> Frames:
        """The middle frames of `count` equal parts: indices int((i + 0.5) * F / count).

        Raises:
            InputError: `count` below 1.
        """
        if count < 1:
            raise InputError(f"count must be at least 1, got {count}.")
        try:
            return self._read(evenly_spaced(self.num_frames, count))
        except _IndexDiffersError:
            return self._read(evenly_spaced(self.num_frames, count))

    def read_all(self) -> Frames:
        """Every frame; takes F x H x W x 3 bytes (`windows` needs less for long files).

        Raises:
            CorruptVideoError: no frame can be decoded.
        """
        return collect(self.images(), expected=self._stream.frames, source=self._path)

    def windows(
        self, length: int, *, step: int | None = None, fps: float | None = None
    ) -> Iterator[Frames]:
        """Runs of `length` frames from start to end, decoded once and in constant memory.

        Of a URL the frames are decoded as they come, without looking ahead for their times.

        Args:
            length: frames in a window; the last one may be shorter.
            step: frames from one window's start to the next's; None is `length` (no overlap).
            fps: rate to resample to: frames on display every 1 / fps seconds, stamped with
                those times; None keeps every frame.

        Yields:
            At least one window; each holds a frame that no window before it held.

        Raises:
            InputError: a length, step or rate that is not above 0.
            CorruptVideoError: no frame can be decoded.
        """
        step = length if step is None else step
        if length < 1 or step < 1:
            raise InputError(f"length and step must be at least 1, got {length} and {step}.")
        if fps is not None:
            check_rate(fps)
        return self._windows(length, step, fps)

    def read_at_rate(self, fps: float) -> Frames:
        """Frames on display every 1 / fps seconds from the first one, stamped with those times.

        Raises:
            InputError: the rate is not above 0.
            CorruptVideoError: no frame can be decoded.
        """
        check_rate(fps)
        frames = resample(self.images(), fps)
        return collect(frames, expected=self._stream.frames, source=self._path)

    def decoded_pts_seconds(self) -> NDArray[np.float64]:
        """(F,) times of the frames that really decode, found by decoding the whole file.

        Differs from `pts_seconds` of a fresh reader only where the file is damaged.

        Raises:
            CorruptVideoError: no frame can be decoded.
        """
        return np.asarray([seconds for _, seconds in self._decoded_frames()], np.float64)

    def _windows(self, length: int, step: int, fps: float | None) -> Iterator[Frames]:
        frames = self.images()
        if fps is not None:
            frames = resample(frames, fps)
        yield from cut_windows(frames, length=length, step=step, source=self._path)

    def _frame_index(self) -> FrameIndex:
        self._check_open()
        if self._index is None:
            self._rewind()
            self._at_start = False
            index = index_packets(self._container, self._stream)
            promised = 0 if index is None else len(index)
            self._num_promised = max(self._stream.frames, promised)
            self._index = index or self._decoded_index()
        return self._index

    def _decoded_index(self) -> FrameIndex:
        """Index by decoding the whole file."""
        container, stream = open_video(self._path, num_threads=self._num_threads)
        with container:
            return self._index_of([frame.pts for frame in decode_stream(container, stream)])

    def _index_of(self, pts: Sequence[int | None]) -> FrameIndex:
        """Index of decoded frames: by their times where those rise, else by the header's rate."""
        if not pts:
            raise no_frame_error(self._path)
        known = [time for time in pts if time is not None]
        if len(known) == len(pts) and (np.diff(known) > 0).all():
            return counted_index(known, self._stream.time_base)
        rate = self._stream.average_rate or Fraction(DEFAULT_FPS)
        return counted_index(range(len(pts)), 1 / rate)

    def _rewind(self) -> None:
        """Go to the start of the file: by seeking where that is exact, else by opening it anew."""
        if self._at_start:
            return
        if self._index is not None and not self._index.by_count:
            self._seek(int(self._index.pts[0]))
        else:
            self._reopen()
        self._at_start = True

    def _reopen(self) -> None:
        self._container.close()
        self._container, self._stream = open_video(self._path, num_threads=self._num_threads)

    def _seek(self, pts: int) -> None:
        """Go to the key frame at a time, or to the start of what cannot be sought in (a server)."""
        try:
            self._container.seek(pts, stream=self._stream)
        except av.FFmpegError:
            self._reopen()

    def _read(self, numbers: Sequence[int]) -> Frames:
        index = self._frame_index()
        check_positions(numbers, len(index), promised=self._num_promised, source=self._path)
        places: dict[int, list[int]] = {}
        for place, number in enumerate(numbers):
            places.setdefault(number, []).append(place)
        data: NDArray[np.uint8] | None = None
        for key, positions in decode_runs(sorted(places), index.keys):
            for position, frame in self._decode_run(index, key, positions):
                image = self._to_rgb(frame)
                if data is None:
                    data = np.empty((len(numbers), *image.shape), np.uint8)
                data[places[position]] = image
        assert data is not None  # every run gives its frames or raises
        return Frames(data, index.pts_seconds[list(numbers)], self._path)

    def _decode_run(
        self, index: FrameIndex, key: int, positions: Sequence[int]
    ) -> Iterator[tuple[int, Any]]:
        """(position, frame) of rising positions, decoded in one go from a key frame."""
        if key == 0:
            self._rewind()
        else:
            self._seek(int(index.pts[key]))
        self._at_start = False
        missing = set(positions)
        frames = self._counted() if index.by_count else self._timed(index, key, positions)
        for position, frame in frames:
            if position in missing:
                missing.remove(position)
                yield position, frame
                if not missing:
                    return
        self._index = self._decoded_index()
        raise _IndexDiffersError(
            f"Frames {sorted(missing)} of {self._path!r} cannot be decoded: it is cut off or "
            f"damaged. Copy or download it again."
        )

    def _counted(self) -> Iterator[tuple[int, Any]]:
        return enumerate(decode_stream(self._container, self._stream))

    def _timed(
        self, index: FrameIndex, key: int, positions: Iterable[int]
    ) -> Iterator[tuple[int, Any]]:
        """(position, frame) of wanted frames, recognised by their times, decoding little else."""
        position_of = {int(index.pts[position]): position for position in positions}
        unsent = set(position_of)
        key_time = int(index.pts[key])
        is_sound = False
        context = self._stream.codec_context
        for packet in packets_of(self._container, self._stream):
            if context.name in SKIPPABLE_CODECS:
                context.skip_frame = "DEFAULT" if packet.pts in unsent else "NONREF"
            unsent.discard(packet.pts)
            frames = decode_packet(self._stream, packet)
            if not unsent and packet.size:
                # The end of input makes the decoder give what it holds back for reordering.
                frames += decode_packet(self._stream, None)
            for frame in frames:
                is_sound = is_sound or frame.pts == key_time
                if frame.pts in position_of:
                    if not is_sound:
                        # The key frame itself is not shown, so decoding could not start there:
                        # a picture refreshed in stripes (x264's intra-refresh), or damage.
                        return
                    yield position_of[frame.pts], frame
            if not unsent:
                return

    def _decoded_frames(self) -> Iterator[tuple[Any, float]]:
        """(frame, seconds) of all that decodes from the start; mends an index that differs."""
        self._check_open()
        # What comes from a URL may never end, so it is not looked at in advance.
        index = None if is_url(self._path) else self._frame_index()
        # A container of its own, so that the caller may read other frames in between.
        container, stream = open_video(self._path, num_threads=self._num_threads)
        times = index.pts.tolist() if index is not None and index.by_count else []
        base = index.time_base if index is not None else stream.time_base
        decoded: list[int | None] = []
        last = None
        with container:
            for number, frame in enumerate(decode_stream(container, stream)):
                decoded.append(frame.pts)
                ticks = times[number] if number < len(times) else frame.pts
                if last is not None and (ticks is None or ticks <= last):
                    ticks = last + 1
                last = ticks or 0
                yield frame, last * base.numerator / base.denominator
        if not decoded:
            raise no_frame_error(self._path)
        if index is not None and len(decoded) != len(index):
            self._index = self._index_of(decoded)

    def images(self) -> Iterator[TimedImage]:
        """Every frame from the start, one by one: (H, W, 3) RGB bytes and its time in seconds.

        Raises:
            CorruptVideoError: no frame can be decoded.
        """
        return ((self._to_rgb(frame), seconds) for frame, seconds in self._decoded_frames())

    def _to_rgb(self, frame: Any) -> NDArray[np.uint8]:
        """(H, W, 3) bytes as displayed."""
        if self._orientation is None:
            self._orientation = orientation_of_frame(frame)
        width, height = self._size
        rgb = self._reformatter.reformat(
            frame, width=width, height=height, format="rgb24", threads=self._num_threads
        )
        return self._orientation.apply(np.asarray(rgb.to_ndarray(), np.uint8))
