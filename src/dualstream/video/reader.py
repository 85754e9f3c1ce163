"""Frames of a video file, by number, by time, evenly spaced, at a rate, or all in windows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import InputError, check_least
from dualstream.types import Frames
from dualstream.video.container import is_url, no_frame_error
from dualstream.video.decoder import Decoder, MissingPictureError, frames_of
from dualstream.video.index import FrameIndex, by_decoded_pictures, check_positions, stand_ins
from dualstream.video.info import Layout, VideoInfo, header_info, layout_of
from dualstream.video.rgb import RgbConverter
from dualstream.video.times import (
    CLOCK_ROUNDING_SECONDS,
    DEFAULT_FPS,
    TimedImage,
    check_rate,
    collect,
    cut_windows,
    evenly_spaced,
    frames_shown_at,
    resample,
)


class VideoReader:
    """One open video file.

    Frames are numbered from 0 in the order in which they are shown. Reading any of them gives
    exactly the picture that decoding the file from its start gives. Pictures come as they are
    coded: interlaced ones are not deinterlaced, and pixels that are not square stay so.

    Args:
        path: file name, or a URL that FFmpeg can open.
        num_threads: threads that decode; 1 leaves the other cores to other workers.
        frame_list: that of an earlier reader of the same file, which then need not be made again.

    Raises:
        VideoNotFoundError: no such file.
        NoVideoStreamError: audio only, a folder, or not a media file.
        CorruptVideoError: empty, or without readable structure. All that reads frames raises it
            too where no frame can be decoded.
        InputError: `num_threads` below 1.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        num_threads: int = 1,
        frame_list: FrameIndex | None = None,
    ) -> None:
        check_least(1, num_threads=num_threads)
        self._path = os.fspath(path)
        self._num_threads = num_threads
        self._index = frame_list
        self._num_standing_in: int | None = None
        self._info: VideoInfo | None = None
        self._layout: Layout | None = None
        self._rgb = RgbConverter(self._path, num_threads=num_threads)
        self._decoder = Decoder(self._path, num_threads=num_threads, tells_damage=True)
        if frame_list is not None:
            self._decoder.leave()  # as listing does: reads start at key frames
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the reader cannot be used afterwards."""
        self._decoder.close()
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
        """Mean frames a second; the header's rate where there is one frame only."""
        pts = self.pts_seconds
        return (len(pts) - 1) / float(pts[-1] - pts[0]) if len(pts) > 1 else self.info.fps

    @property
    def available(self) -> range:
        """Numbers of all frames: 0..num_frames - 1."""
        return range(self.num_frames)

    @property
    def info(self) -> VideoInfo:
        """Header facts; decodes the first frame, whose size and rotation hold for all."""
        self._check_open()
        if self._info is None:
            with closing(Decoder(self._path, num_threads=1)) as decoder:
                if first := next(decoder.all_pictures(), None):
                    self._look_at_first(decoder, first)
        if self._info is None:
            raise no_frame_error(self._path)
        return self._info

    @property
    def frame_list(self) -> FrameIndex:
        """List of the frames, made on first use."""
        self._check_open()
        if self._index is None:
            self._index, first = frames_of(self._decoder)
            if first is not None:  # everything was decoded
                self._look_at_first(self._decoder, first)
                self._num_standing_in = 0
        return self._index

    @property
    def pts_seconds(self) -> NDArray[np.float64]:
        """(F,) presentation time of every frame, strictly rising, in seconds of the file's clock.

        Found on first use, by reading the packets without decoding them where that is exact
        (see `dualstream.video.index`).

        Raises:
            CorruptVideoError: no frame can be decoded.
        """
        return self.frame_list.pts_seconds

    @property
    def num_frames(self) -> int:
        """Number of frames that can be read, whatever the header says."""
        return len(self.frame_list)

    @property
    def num_missing(self) -> int:
        """Pictures that the file holds, or its header promises, and that do not decode.

        Decodes the whole file on first use. They are left out of the frames or, where damage
        lies too deep to be seen without decoding, the picture before them stands for them.
        """
        index = self.frame_list
        if self._num_standing_in is None:
            self._count()
        assert self._num_standing_in is not None
        return index.num_stored - len(index) + self._num_standing_in

    def seconds_of(self, indices: Sequence[int]) -> NDArray[np.float64]:
        """(n,) presentation times of frames by number.

        Raises:
            CorruptVideoError: a frame that the header promises is not in the file.
            InputError: an index below 0 or beyond the end, or no index.
        """
        index = self.frame_list
        check_positions(indices, index, source=self._path)
        return index.pts_seconds[np.asarray(indices, np.int64)]

    def read(self, indices: Sequence[int]) -> Frames:
        """Frames by number, in the order asked for; see `FrameSource.read`.

        Frames after those that were read last, in the same group of pictures, are decoded on from
        there: a file that is read from window to window is decoded once.

        Raises:
            CorruptVideoError: a frame that the header promises is not in the file.
            InputError: an index below 0 or beyond the end, or no index.
        """
        numbers = [int(index) for index in indices]
        check_positions(numbers, self.frame_list, source=self._path)
        try:
            return self._read(numbers)
        except MissingPictureError:  # the packets do not tell enough
            self._index = self._count()
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
        check_least(1, count=count)
        return self.read(evenly_spaced(self.num_frames, count))

    def read_all(self) -> Frames:
        """Every frame; takes F x H x W x 3 bytes (`windows` needs less for long files).

        Raises:
            CorruptVideoError: no frame can be decoded.
        """
        return self._collect(self.images())

    def windows(
        self, length: int, *, step: int | None = None, fps: float | None = None
    ) -> Iterator[Frames]:
        """Runs of `length` frames from start to end, decoded once and in constant memory.

        Of a URL the frames are decoded as they come, without looking ahead for their times.

        Args:
            length: frames in a window; the last one may be shorter.
            step: frames from one window's start to the next's; None is `length` (no overlap).
            fps: rate to resample to (see `read_at_rate`); None keeps every frame.

        Yields:
            At least one window; each holds a frame that no window before it held.

        Raises:
            InputError: a length, step or rate that is not above 0.
        """
        step = length if step is None else step
        check_least(1, length=length, step=step)
        frames = self.images()
        if fps is not None:
            check_rate(fps)
            frames = resample(frames, fps)
        return cut_windows(frames, length=length, step=step, source=self._path)

    def read_at_rate(self, fps: float) -> Frames:
        """Frames on display every 1 / fps seconds from the first one, stamped with those times.

        Raises:
            InputError: the rate is not above 0.
            CorruptVideoError: no frame can be decoded.
        """
        check_rate(fps)
        return self._collect(resample(self.images(), fps))

    def images(self) -> Iterator[TimedImage]:
        """Every frame from the start, one by one: (H, W, 3) RGB bytes and its time in seconds.

        Raises:
            CorruptVideoError: no frame can be decoded.
        """
        self._check_open()
        # A decoder of its own, so that the caller may read other frames in between.
        with closing(Decoder(self._path, num_threads=self._num_threads)) as decoder:
            if is_url(self._path):  # may never end, so it is not looked at in advance
                shown = decoder.live()
            else:
                index = self.frame_list
                pictures = stand_ins(index, decoder.numbered(index))
                shown = zip(pictures, index.pts_seconds.tolist(), strict=False)
            is_empty = True
            for picture, seconds in shown:
                if is_empty:
                    self._look_at_first(decoder, picture)
                is_empty = False
                yield np.ascontiguousarray(self._to_rgb(picture)), seconds
        if is_empty:
            raise no_frame_error(self._path)

    def _collect(self, frames: Iterator[TimedImage]) -> Frames:
        likely = self._decoder.stream.frames if self._index is None else len(self._index)
        return collect(frames, expected=likely, source=self._path)

    def _count(self) -> FrameIndex:
        """The same frames, to be found by counting from the start."""
        index = self.frame_list
        with closing(Decoder(self._path, num_threads=self._num_threads)) as decoder:
            counted = by_decoded_pictures(index, [place for place, _ in decoder.numbered(index)])
        if not len(counted):
            raise no_frame_error(self._path)
        self._num_standing_in = len(index) - len(counted.frame_of)
        return counted

    def _read(self, numbers: Sequence[int]) -> Frames:
        index = self.frame_list
        wanted = index.numbers[numbers].tolist() if index.by_count else numbers
        places: dict[int, list[int]] = {}
        for place, picture in enumerate(wanted):
            places.setdefault(picture, []).append(place)
        data: NDArray[np.uint8] | None = None
        for number, picture in self._decoder.pictures(index, sorted(places)):
            first, *others = places[number]
            # The first frame's layout holds for all; this one tells it unless layouts may change.
            if self._layout is None:
                layout = layout_of(picture)
                coded_size = layout.width, layout.height
                if index.turns_within or coded_size != self._decoder.claimed_size:
                    _ = self.info  # looks at the first frame
                self._layout = self._layout or layout
            if data is None:
                data = np.empty((len(numbers), *self._layout.shown_size, 3), np.uint8)
            data[first] = self._to_rgb(picture)
            del picture  # no more than one is held while the next is decoded, see `Decoder`
            data[others] = data[first]
        assert data is not None  # every picture comes or an error is raised
        return Frames(data, index.pts_seconds[numbers], self._path)

    def _look_at_first(self, decoder: Decoder, picture: Any) -> None:
        if self._info is None:
            self._layout = layout_of(picture)
            self._info = header_info(decoder.container, decoder.stream, self._path, picture)

    def _to_rgb(self, picture: Any) -> NDArray[np.uint8]:
        """(H, W, 3) bytes as displayed: a view of FFmpeg's memory."""
        assert self._layout is not None
        return self._rgb.convert(picture, self._layout)
