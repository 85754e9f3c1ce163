"""Live sources: a camera, a stream from the network, or a file that is played at its own pace."""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, Self

from dualstream.errors import InputError, VideoError
from dualstream.video.container import (
    DamagedPacketError,
    camera_format,
    decode_packet,
    is_url,
    open_video,
    packets_of,
)
from dualstream.video.info import Layout, layout_of
from dualstream.video.rgb import RgbConverter
from dualstream.video.source import FrameBuffer
from dualstream.video.times import DEFAULT_FPS

LIKELY_FPS = (1.0, 240.0)
"""Rates that a stream's header is believed to tell."""

SPARE = 1.25
"""Frames are kept for this much longer than asked for, as rates are not exact."""

WAITED_SECONDS = 0.002
"""Reading a packet that takes longer waited for the source, so nothing lies in wait."""

CLOCK_BACK_SECONDS = 1.0
"""A stream's clock that goes back by more has started anew."""

RETRY_SECONDS = 1.0
"""Between two attempts to reach a source that has gone away."""


class Take:
    """Frames of a live source that follow each other without a break.

    A new take begins where the source was lost and came back, or where its picture changed in
    size.
    """

    def __init__(self, buffer: FrameBuffer) -> None:
        self.buffer = buffer
        """The last frames."""
        self.is_over = False
        """Whether no further frames will come."""
        self.first_seconds = math.nan
        self.last_seconds = math.nan
        """Times of the first and the last frame that came."""
        self.needed_from = 0
        """Number of the first frame that is still to be read; see `LiveReader`."""
        self._arrivals: deque[float] = deque()

    @property
    def end_seconds(self) -> float:
        """When the last frame ends, if it lasts as long as the mean of the others."""
        count = self.buffer.available.stop
        mean = (self.last_seconds - self.first_seconds) / max(1, count - 1)
        return self.last_seconds + mean

    def arrived(self, number: int) -> float:
        """`time.monotonic()` when a frame came in that is still held."""
        return self._arrivals[number - self.buffer.available.stop]

    def add(self, image: Any, seconds: float, arrived: float) -> None:
        """Keep a frame."""
        self.buffer.append(image, seconds)
        self._arrivals.append(arrived)
        while len(self._arrivals) > len(self.buffer.available):
            self._arrivals.popleft()
        if math.isnan(self.first_seconds):
            self.first_seconds = seconds
        self.last_seconds = seconds


class LiveReader:
    """The last seconds of a live source, read by a thread of its own.

    Frames that come faster than they can be decoded are left out before they are decoded, up to the
    next key frame, and counted, so that what is shown is never much older than `most_lag_seconds`
    and memory stays. A source that is lost is called again.

    Args:
        source: a camera ("0", "/dev/video0"), a URL ("rtsp://..."), or a file, which is played at
            its own pace.
        keep_seconds: frames that are held.
        most_lag_seconds: how far decoding may fall behind the source before frames are left out.
            None never leaves out any: reading waits until frames before `Take.needed_from` may go,
            which only a source that can wait allows.
        timeout_seconds: how long the source may send nothing before it counts as lost.
        reconnect_seconds: how long a lost camera or stream is called; 0 ends where it ends.
        num_threads: threads that decode.
        listener: called with a sentence when the source is lost and when it is back.

    Raises:
        InputError: seconds out of range.
        VideoError: by `takes`, where the source cannot be opened or does not come back.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        keep_seconds: float,
        most_lag_seconds: float | None = 1.0,
        timeout_seconds: float = 10.0,
        reconnect_seconds: float = 60.0,
        num_threads: int = 1,
        listener: Callable[[str], object] | None = None,
    ) -> None:
        seconds = {
            "keep_seconds": keep_seconds,
            "most_lag_seconds": most_lag_seconds,
            "timeout_seconds": timeout_seconds,
        }
        for name, value in seconds.items():
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"{name} must be above 0, got {value:g}.")
        self.name = os.fspath(source)
        self._is_file = os.path.isfile(self.name) or not (
            is_url(self.name) or camera_format(self.name)
        )
        self._keep_seconds, self._most_lag = keep_seconds, most_lag_seconds
        self._timeout = timeout_seconds
        self._reconnect = 0.0 if self._is_file else reconnect_seconds
        self._num_threads, self._listener = num_threads, listener
        self._rgb = RgbConverter(self.name, num_threads=num_threads)
        self._news = threading.Condition()
        self._takes: deque[Take] = deque()
        self._last_take: Take | None = None
        self._stop = False
        self._is_over = False
        self._error: VideoError | None = None
        self._num_dropped = 0
        self._thread = threading.Thread(target=self._run, name=f"live {self.name}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop reading; a source that is silent right now is left to end by its time-out."""
        with self._news:
            self._stop = True
            self._news.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=2.0)

    @property
    def num_dropped(self) -> int:
        """Frames that were left out before they were decoded."""
        return self._num_dropped

    def takes(self) -> Iterator[Take]:
        """Yield each take when its first frame has come, until the source ends or is closed.

        Raises:
            VideoError: the source cannot be opened, or does not come back.
        """
        while True:
            with self._news:
                self._news.wait_for(lambda: self._takes or self._is_over or self._stop)
                if not self._takes:
                    if self._error is not None:
                        raise self._error
                    return
                take = self._takes.popleft()
            yield take

    def wait_for(self, take: Take, seconds: float, *, frames_more: int = 0) -> bool:
        """Wait until a frame at or after a time has come, and some more frames.

        Returns:
            Whether it came; False where the take is over, or the reader closed, before.
        """

        def is_there() -> bool:
            held = take.buffer.available
            if len(held) <= frames_more:
                return False
            (last,) = take.buffer.seconds_of([held.stop - 1 - frames_more])
            return bool(last >= seconds)

        with self._news:
            self._news.wait_for(lambda: is_there() or take.is_over or self._stop)
            return is_there() and not self._stop

    def release(self, take: Take, needed_from: int) -> None:
        """Say that frames before this one will not be read any more."""
        with self._news:
            take.needed_from = needed_from
            self._news.notify_all()

    def _run(self) -> None:
        lost_at: float | None = None
        was_open = False
        while not self._stop:
            error: VideoError | None = None
            try:
                container, stream = open_video(
                    self.name, num_threads=self._num_threads, timeout_seconds=self._timeout
                )
                with closing(container):
                    if lost_at is not None:
                        self._tell(f"{self.name}: back after {time.monotonic() - lost_at:.0f} s")
                    was_open, lost_at = True, None
                    self._follow(container, stream)
            except VideoError as problem:
                error = problem
            self._end_take()
            if not was_open or not self._reconnect:
                self._error = error
                break
            lost_at = time.monotonic() if lost_at is None else lost_at
            if time.monotonic() - lost_at > self._reconnect:
                self._error = error or VideoError(f"{self.name!r} has ended.")
                break
            if error is None or time.monotonic() - lost_at < RETRY_SECONDS:
                self._tell(f"{self.name}: lost ({error or 'it ended'}); calling it again")
            with self._news:
                self._news.wait_for(lambda: self._stop, timeout=RETRY_SECONDS)
        with self._news:
            self._is_over = True
            self._news.notify_all()

    def _tell(self, message: str) -> None:
        if self._listener is not None and not self._stop:
            self._listener(message)

    def _follow(self, container: Any, stream: Any) -> None:
        """Frames of one connection into takes, until it ends."""
        clock = _Clock(stream, self._last_take)
        is_skipping = False
        packets = packets_of(container, stream)
        while not self._stop:
            asked = time.monotonic()
            packet = next(packets, None)
            if packet is None:
                break
            if self._is_file and not self._paced(clock, packet):
                break
            now = time.monotonic()
            lag = clock.lag(packet, now, waited=now - asked > WAITED_SECONDS)
            is_late = self._most_lag is not None and lag > self._most_lag
            if is_late and not is_skipping:
                is_skipping = True
                self._decode(stream, None, clock, now)  # those that the decoder holds back
                stream.codec_context.flush_buffers()
            if is_skipping and packet.size:
                if is_late or not packet.is_keyframe:
                    self._num_dropped += 1
                    continue
                is_skipping = False
            self._decode(stream, packet, clock, now)

    def _decode(self, stream: Any, packet: Any | None, clock: _Clock, arrived: float) -> None:
        """Keep the pictures that a packet, or the end (None), brings out of the decoder."""
        try:
            pictures = decode_packet(stream, packet)
        except DamagedPacketError:
            return
        for picture in pictures:
            seconds = clock.seconds(picture)
            layout = layout_of(picture)
            if seconds is None or clock.layout != layout:
                clock.layout = layout
                seconds = clock.begin(picture) if seconds is None else seconds
                self._begin_take(layout, clock.fps)
            self._keep(self._rgb.convert(picture, layout), seconds, arrived)

    def _paced(self, clock: _Clock, packet: Any) -> bool:
        """Wait until a packet of a file is due; False where the reader was closed."""
        wait = clock.due(packet) - time.monotonic()
        if wait > 0:
            with self._news:
                self._news.wait_for(lambda: self._stop, timeout=wait)
        return not self._stop

    def _begin_take(self, layout: Layout, fps: float) -> None:
        self._end_take()
        capacity = math.ceil(self._keep_seconds * fps * SPARE) + 4
        buffer = FrameBuffer(capacity, size=layout.shown_size, fps=fps, name=self.name)
        self._last_take = Take(buffer)

    def _end_take(self) -> None:
        if self._last_take is not None:
            with self._news:
                self._last_take.is_over = True
                self._news.notify_all()

    def _keep(self, image: Any, seconds: float, arrived: float) -> None:
        take = self._last_take
        assert take is not None
        buffer = take.buffer
        with self._news:
            if self._most_lag is None:
                self._news.wait_for(
                    lambda: (
                        self._stop
                        or len(buffer.available) < buffer.capacity
                        or buffer.available.start < take.needed_from
                    )
                )
            is_first = math.isnan(take.first_seconds)
            take.add(image, seconds, arrived)
            if is_first:
                self._takes.append(take)
            self._news.notify_all()


class _Clock:
    """Times of one connection, going on from those of the one before it."""

    layout: Layout | None = None
    """Of the picture that came last."""

    def __init__(self, stream: Any, before: Take | None) -> None:
        self._base = float(stream.time_base) if stream.time_base else 1 / DEFAULT_FPS
        rate = stream.average_rate or stream.guessed_rate or DEFAULT_FPS
        least, most = LIKELY_FPS
        self.fps = float(rate) if least <= rate <= most else DEFAULT_FPS
        self._before = before
        self._offset: float | None = None if before is not None else 0.0
        self._last: float | None = None
        self._begun = time.monotonic()  # of this connection
        self._edge: float | None = None  # least time between a packet's stamp and its coming
        self._first_stamp: float | None = None

    def seconds(self, picture: Any) -> float | None:
        """Time of a picture, after that of the one before; None where the clock starts anew."""
        if self._offset is None:
            return None
        pts = picture.pts
        last = self._last
        if pts is None:
            seconds = 0.0 if last is None else last + 1 / self.fps
        else:
            seconds = pts * self._base + self._offset
        if last is not None and seconds <= last:
            if seconds < last - CLOCK_BACK_SECONDS:
                return None
            seconds = math.nextafter(last, math.inf)
        self._last = seconds
        return seconds

    def begin(self, picture: Any) -> float:
        """Time of the first picture after a break: the time that has passed is added."""
        last, passed = self._last, 0.0
        if last is None:
            assert self._before is not None
            last = self._before.last_seconds
            passed = time.monotonic() - self._before.arrived(self._before.buffer.available.stop - 1)
        seconds = last + max(passed, 1 / self.fps)
        self._offset = seconds - (picture.pts or 0) * self._base
        self._last = seconds
        return seconds

    def _stamp(self, packet: Any) -> float | None:
        ticks = packet.dts if packet.dts is not None else packet.pts
        return None if ticks is None else ticks * self._base

    def due(self, packet: Any) -> float:
        """When a packet of a file that is played is due, by `time.monotonic()`."""
        stamp = self._stamp(packet)
        if stamp is None:
            return 0.0
        if self._first_stamp is None:
            self._first_stamp = stamp
        return self._begun + stamp - self._first_stamp

    def lag(self, packet: Any, now: float, *, waited: bool) -> float:
        """Seconds by which a packet comes later than it could have.

        Clocks of source and machine drift, so wherever the packet was waited for it counts as in
        time.
        """
        stamp = self._stamp(packet)
        if stamp is None:
            return 0.0
        if self._edge is None or waited or now - stamp < self._edge:
            self._edge = now - stamp
        return now - stamp - self._edge
