"""Decoding forward: from the start of a file, from a key frame, or on from where it stands."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import av
import numpy as np

from dualstream.errors import CorruptVideoError
from dualstream.video.container import (
    DamagedPacketError,
    decode_packet,
    no_frame_error,
    open_video,
    packets_of,
)
from dualstream.video.ffv1 import Ffv1Guard
from dualstream.video.index import (
    PTS_FORMATS,
    FrameIndex,
    counted_index,
    decode_runs,
    list_packets,
    packet_index,
)
from dualstream.video.packets import is_h264_reference, nal_length_bytes
from dualstream.video.times import DEFAULT_FPS, check_clock, in_seconds, mended_seconds

SKIPPABLE_CODECS = frozenset({"h264"})
"""Codecs whose decoder can leave out pictures that no other refers to and stay exact."""

LONGEST_REORDERING = 16
"""Pictures that H.264 and HEVC may show between two that were coded in turn."""

_END: Any = object()


class MissingPictureError(CorruptVideoError):
    """A frame that the packets tell of does not come out of the decoder as it should."""


class Decoder:
    """One open file and its decoder, which goes on from where it stands wherever that is nearest.

    Pictures are told apart by their place: the frame of the index where frames are recognised by
    their times, else the number of the picture among all that decode. With `tells_damage` every
    damage raises MissingPictureError while frames are recognised by their times, as what a damaged
    picture looks like depends on where decoding started.
    """

    def __init__(self, path: str, *, num_threads: int, tells_damage: bool = False) -> None:
        self._tells_damage = tells_damage
        self.path = path
        self.num_threads = num_threads
        # The picture that came last, and its place. No more are held: into which memory a damaged
        # picture is decoded, and what is left there, would depend on it.
        self._last: tuple[int, Any] | None = None
        self._reads_on = False  # whether the caller reads on from where the last read ended
        self.num_refused = 0
        """Packets that the decoder refused while all pictures were read."""
        self._open()

    def _open(self) -> None:
        self.container, self.stream = open_video(
            self.path, num_threads=self.num_threads, tells_damage=self._tells_damage
        )
        context = self.stream.codec_context
        self.claimed_size = (context.width, context.height)
        """(W, H) of the pictures by the header, which decoding may find to be others."""
        self._begin(at=0)

    def _begin(self, *, at: int) -> None:
        self._packets: Iterator[Any] = packets_of(self.container, self.stream)
        context = self.stream.codec_context
        is_ffv1 = context.codec.canonical_name == "ffv1"
        self._guard = Ffv1Guard(context.extradata or b"") if is_ffv1 else None
        self._decoded: deque[Any] = deque()
        # Place of the picture that comes next; None: elsewhere in the file.
        self._next: int | None = at
        self._starts_at: int | None = at  # until the first picture has come
        # Times of packets: left out, not out of the decoder yet, and those that its threads may
        # be at; and of the key frame.
        self._skipped: set[int] = set()
        self._pending: set[int] = set()
        self._is_emptied = False
        self._latest: deque[int] = deque(maxlen=self.num_threads)
        self._key_pts: int | None = None

    def close(self) -> None:
        """Close the file."""
        self.container.close()

    def leave(self) -> None:
        """Forget the place, after packets were read from the container by another function."""
        self._next = self._last = None

    def all_pictures(self) -> Iterator[Any]:
        """Every picture that decodes, from the start of the file; damaged packets are passed over.

        Raises:
            VideoError: reading or decoding fails other than by damage.
        """
        self._to_start()
        self._next = None
        for packet in self._packets:
            try:
                yield from self._decode(packet)
            except DamagedPacketError:
                self.num_refused += 1

    def numbered(self, index: FrameIndex) -> Iterator[tuple[int | None, Any]]:
        """(number as in `FrameIndex.numbers`, picture) of all that decode."""
        for place, picture in enumerate(self.all_pictures()):
            yield place if index.by_count else picture.pts, picture

    def live(self) -> Iterator[tuple[Any, float]]:
        """(picture, seconds) of all that comes from a source that may never end."""
        last: int | None = None
        for picture in self.all_pictures():
            ticks: int | None = picture.pts
            if last is not None and (ticks is None or ticks <= last):
                ticks = last + 1
            last = ticks or 0
            yield picture, float(last * self.stream.time_base)

    def pictures(self, index: FrameIndex, wanted: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """(place, picture) of each place; `wanted` is in rising order without repeats.

        Raises:
            MissingPictureError: one of them does not come, or the decoder met damage.
        """
        if self._last is not None and self._last[0] == wanted[0]:
            yield self._last
            wanted = wanted[1:]
        if not wanted:
            return
        times = [] if index.by_count else index.numbers[wanted].tolist()
        goes_on = not self._is_emptied and self._skipped.isdisjoint(times)
        runs = decode_runs(wanted, index.keys, stands_at=self._next if goes_on else None)
        # Emptying the decoder saves a few pictures, but it cannot go on afterwards: of a caller
        # that reads forward, only the first read does so, unless it starts with the file.
        self._reads_on |= index.by_count or wanted[0] == 0 or runs[0][0] is None
        if self._is_emptied and self._next is not None:
            self._reads_on |= (runs[0][0] or 0) <= self._next <= wanted[0]
        for number, (key, run) in enumerate(runs, start=1):
            if key is not None:
                self._go_to(index, key)
            yield from self._forward(index, run, goes_on=self._reads_on and number == len(runs))

    def _go_to(self, index: FrameIndex, key: int) -> None:
        if index.by_count or (key == 0 and self._next == 0):
            self._to_start(anew=index.by_count and self._tells_damage)
            return
        try:
            self.container.seek(int(index.numbers[key]), stream=self.stream)
        except av.FFmpegError:  # a server that cannot seek
            self._to_start(anew=True)
        else:
            self._begin(at=key)
            self._key_pts = int(index.numbers[key])

    def _to_start(self, *, anew: bool = False) -> None:
        if anew or self._next != 0:
            self._tells_damage = False
            self.close()
            self._open()

    def _forward(
        self, index: FrameIndex, run: Sequence[int], *, goes_on: bool
    ) -> Iterator[tuple[int, Any]]:
        """(place, picture) of a run. Where nothing `goes_on` from here, the decoder is emptied."""
        due = deque(run)
        # Times of pictures whose packets are still to be decoded.
        unsent = set() if index.by_count else set(index.numbers[list(run)].tolist())
        unsent -= self._pending | {picture.pts for picture in self._decoded}
        while due:
            while not self._decoded:
                if not self._feed(index, unsent, goes_on=goes_on):
                    raise self._missing(due[0])
            picture = self._decoded.popleft()
            place = self._next if index.by_count else index.frame_of.get(picture.pts)
            if place is None or self._next is None or place < self._next:
                continue
            # Decoding could not start at a key frame that is not shown itself, as in pictures
            # that are refreshed in stripes (x264's intra-refresh).
            if place > due[0] or (self._starts_at is not None and place != self._starts_at):
                raise self._missing(due[0])
            self._starts_at = None
            self._next, self._last = place + 1, (place, picture)
            if place == due[0]:
                due.popleft()
                yield place, picture
        # Pictures that are still to come may be what these were predicted from.
        before = set() if index.by_count else set(self._pending)
        for _ in range(LONGEST_REORDERING):
            if not before & self._pending or not self._feed(index, unsent, goes_on=goes_on):
                break

    def _feed(self, index: FrameIndex, unsent: set[int], *, goes_on: bool) -> bool:
        """Decode one packet more, or what the decoder holds back if nothing more is wanted.

        Returns whether there was one.
        """
        if not unsent and not goes_on and not self._is_emptied:
            self._packets, self._is_emptied = iter([None]), True
        packet = next(self._packets, _END)
        if packet is _END:
            return False
        is_last = packet is None or not packet.size
        if not is_last and not index.by_count:
            self._announce(packet, unsent)
        try:
            pictures = self._decode(packet)
        except DamagedPacketError as error:
            if index.by_count or self._leads(min(self._latest, default=None)):
                return True
            raise self._missing(self._next) from error
        self._decoded.extend(pictures)
        if index.by_count:
            return True
        for picture in pictures:
            self._pending.discard(picture.pts)
            # A damaged picture is patched up with parts of the one decoded before it, and one
            # that was decoded should have been shown before those that come later.
            is_overdue = any(pts < picture.pts for pts in self._pending)
            if is_overdue or (picture.is_corrupt and not self._leads(picture.pts)):
                raise self._missing(self._next)
        if self._pending and is_last:
            raise self._missing(self._next)
        return True

    def _decode(self, packet: Any | None) -> list[Any]:
        """The pictures that a packet gives; DamagedPacketError also where it cannot be sound."""
        guard = self._guard
        if packet is None or not packet.size:
            guard = None
        elif guard is not None and not guard.takes(bytes(packet)):
            raise DamagedPacketError(f"A picture of {self.path!r} is damaged (its checksum).")
        try:
            return decode_packet(self.stream, packet)
        except DamagedPacketError:
            if guard is not None:
                guard.lose()
            raise

    def _announce(self, packet: Any, unsent: set[int]) -> None:
        """Note that a packet is decoded next; leave its picture out if none needs it."""
        context = self.stream.codec_context
        is_wanted = not unsent or packet.pts in unsent
        unsent.discard(packet.pts)
        self._latest.append(packet.pts)
        if context.name in SKIPPABLE_CODECS:
            context.skip_frame = "DEFAULT" if is_wanted else "NONREF"
            length_bytes = nal_length_bytes("h264", context.extradata or b"")
            if not is_wanted and not is_h264_reference(bytes(packet), length_bytes=length_bytes):
                self._skipped.add(packet.pts)
                return
        if not self._leads(packet.pts):
            self._pending.add(packet.pts)

    def _leads(self, pts: int | None) -> bool:
        """Whether a picture is shown before the key frame, and may lack what it refers to."""
        return self._key_pts is not None and pts is not None and pts < self._key_pts

    def _missing(self, place: int | None) -> MissingPictureError:
        self.leave()
        return MissingPictureError(
            f"Frame {place} of {self.path!r} cannot be decoded: it is cut off or damaged. Copy or "
            f"download it again."
        )


def frames_of(decoder: Decoder) -> tuple[FrameIndex, Any | None]:
    """List the frames of a file: by its packets where they can be trusted, else by decoding it.

    Returns the list, and the first picture if all were decoded.

    Raises:
        CorruptVideoError: no frame can be decoded, or their times cannot be right.
    """
    time_base = decoder.stream.time_base
    packets = list_packets(decoder.container, decoder.stream)
    decoder.leave()
    if packets is not None:
        stores_pts = decoder.container.format.name in PTS_FORMATS
        index = packet_index(packets, stores_pts=stores_pts, time_base=time_base)
        if index is not None:
            check_clock(index.pts_seconds, decoder.path)
            return index, None
    first: Any | None = None
    pts: list[float] = []
    for picture in decoder.all_pictures():
        first = first or picture
        pts.append(np.nan if picture.pts is None else picture.pts)
    if first is None:
        raise no_frame_error(decoder.path)
    step = 1 / float(decoder.stream.average_rate or DEFAULT_FPS)
    seconds = mended_seconds(in_seconds(np.asarray(pts, np.float64), time_base), step=step)
    check_clock(seconds, decoder.path)
    stored = len(pts) + decoder.num_refused if packets is None else packets.num_stored
    return counted_index(seconds, num_stored=stored), first
