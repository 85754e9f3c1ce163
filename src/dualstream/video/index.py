"""One list of the frames of a file: which they are, when they are shown, how each is reached.

The list is known before the first frame is given out and never changes afterwards. Files are
opened thousands of times in training, so a sound file must be listed without decoding it: its
packets tell the frames where the container stores when each picture is shown (MP4, Matroska) and
each packet is one picture, or where the pictures of MPEG-4 part 2 can be counted (Xvid and DivX in
AVI: UCF-101, HMDB-51). They are trusted if the first packet is a true key frame (by its bits, not
by the container's flag) and no picture is shown before it, and if every packet has a time of its
own and nothing in it speaks of damage (`dualstream.video.packets`).

All other files are decoded once, from start to end, and the list is what came out (pictures whose
references were cut away are stored, but they are no frames); its frames are then found by counting
from the start. A picture of a trusted file that a decoder refuses does not change the list: the
picture before it stays on display (`stand_ins`), and `VideoReader.num_missing` counts it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import CorruptVideoError, InputError
from dualstream.video.container import packets_of
from dualstream.video.packets import display_slots, packet_inspector
from dualstream.video.times import DEFAULT_FPS, in_seconds, mended_seconds

T = TypeVar("T")

PTS_FORMATS = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})
"""FFmpeg's names of the containers that store when each frame is shown."""

ONE_FRAME_CODECS = frozenset(
    {"h264", "hevc", "av1", "vp9", "ffv1", "mjpeg", "prores", "dnxhd", "png", "rawvideo", "huffyuv"}
)
"""Codecs of which every packet in those containers shows exactly one frame."""

SEEK_COST_FRAMES = 4
"""A seek throws the decoder's state away; it must save this many frames to be worth it."""


@dataclass(frozen=True, eq=False)
class FrameIndex:
    """Frames of a stream in the order in which they are shown."""

    pts_seconds: NDArray[np.float64]
    """(F,) time of each frame in seconds of the stream's clock, strictly increasing."""
    numbers: NDArray[np.int64]
    """(F,) by what the decoder's pictures are recognised: the time of each frame in ticks, or its
    place among all pictures that decode, counted from the start of the file."""
    by_count: bool
    """Which of the two `numbers` are."""
    keys: tuple[int, ...] = (0,)
    """Frames (0 <= number < F) at which decoding can start; has 0."""
    num_stored: int = 0
    """Pictures that the file holds or its header promises, whether they decode or not."""
    turns_within: bool = False
    """Whether pictures carry an orientation of their own; that of the first one counts."""

    def __len__(self) -> int:
        return len(self.numbers)

    @cached_property
    def frame_of(self) -> dict[int, int]:
        """Frame of each of the `numbers`; of frames with the same picture the first one."""
        return {number: frame for frame, number in reversed([*enumerate(self.numbers.tolist())])}


@dataclass
class PacketList:
    """Packets of a stream, in the order of decoding."""

    pts: list[int] = field(default_factory=list)
    """Time of each packet's picture in ticks."""
    dts: list[int] = field(default_factory=list)
    """Time at which each packet is due."""
    keys: list[int] = field(default_factory=list)
    """Packets at which decoding can start."""
    pictures: list[str] = field(default_factory=list)
    """Letters of the pictures in each packet; known for MPEG-4 part 2 only."""
    num_stored: int = 0
    """Pictures that they hold, with those that a header promises beyond the last one."""
    is_trusted: bool = True
    """Whether they tell the frames; see the head of this file."""
    turns_within: bool = False
    """See `FrameIndex`."""


def list_packets(container: Any, stream: Any) -> PacketList | None:
    """Read all packets of a stream, from the container's present position.

    None where the container or the codec is one whose packets do not tell the frames.
    """
    codec = stream.codec_context.codec.canonical_name
    stores_pts = container.format.name in PTS_FORMATS
    is_mpeg4 = codec == "mpeg4" and (stores_pts or container.format.name == "avi")
    if not is_mpeg4 and not (stores_pts and codec in ONE_FRAME_CODECS):
        return None
    inspect = packet_inspector(codec, stream.codec_context.extradata or b"")
    found = PacketList()
    num_hidden = 0
    starts_at: int | None = None  # time of the first picture of all
    for packet in packets_of(container, stream):
        if not packet.size:
            continue
        facts = inspect(bytes(packet))
        is_key = bool(packet.is_keyframe and facts.is_key)
        found.turns_within |= facts.turns
        found.is_trusted &= facts.is_whole and not packet.is_corrupt
        found.is_trusted &= not packet.has_sidedata("new_extradata")
        if not found.pts and not num_hidden:
            found.is_trusted &= is_key
            starts_at = packet.pts
        if packet.is_discard:
            num_hidden += 1
            continue
        if packet.pts is None or starts_at is None or packet.pts < starts_at:
            found.is_trusted = False
        if codec == "ffv1" and found.pts and (packet.pts or 0) <= found.pts[-1]:
            found.is_trusted = False  # it shows pictures in the order of decoding
        if is_key:
            found.keys.append(len(found.pts))
        found.pts.append(packet.pts or 0)
        found.dts.append(found.pts[-1] if packet.dts is None else packet.dts)
        found.pictures.append(facts.pictures)
    # Of AVI the header counts placeholder packets too.
    num_pictures = sum(map(len, found.pictures))
    placeholders = len(found.pts) - num_pictures if is_mpeg4 else 0
    found.num_stored = max(num_pictures, stream.frames - num_hidden - placeholders)
    found.is_trusted &= bool(found.pts)
    return found


def packet_index(
    packets: PacketList, *, stores_pts: bool, time_base: Fraction
) -> FrameIndex | None:
    """The frames that packets tell of, or None where they must be decoded to be known."""
    if not packets.is_trusted:
        return None
    is_plain = all(len(found) == 1 for found in packets.pictures)
    if is_plain and (stores_pts or packets.pts == packets.dts):
        shown = np.sort(np.asarray(packets.pts, np.int64))
        if (np.diff(shown) <= 0).any():
            return None
        keys = np.searchsorted(shown, [packets.pts[key] for key in packets.keys]).tolist()
        return FrameIndex(
            pts_seconds=in_seconds(shown, time_base),
            numbers=shown,
            by_count=False,
            # Where an edit list hides the first key frame, decoding starts there all the same.
            keys=tuple(sorted({0, *keys})),
            num_stored=packets.num_stored,
            turns_within=packets.turns_within,
        )
    slots = display_slots(packets.pictures)
    if stores_pts or not slots:
        return None
    times = np.asarray([packets.dts[slot] for slot in slots], np.float64)
    return counted_index(
        mended_seconds(in_seconds(times, time_base), step=1 / DEFAULT_FPS),
        num_stored=packets.num_stored,
    )


def counted_index(pts_seconds: NDArray[np.float64], *, num_stored: int) -> FrameIndex:
    """The frames of a file of which every picture is one that decodes, in that order."""
    return FrameIndex(
        pts_seconds=pts_seconds,
        numbers=np.arange(len(pts_seconds)),
        by_count=True,
        num_stored=max(num_stored, len(pts_seconds)),
    )


def stand_ins(index: FrameIndex, pictures: Iterable[tuple[int | None, T]]) -> Iterator[T]:
    """Give each frame of the list its picture, from all pictures of the file in decoded order.

    Where a picture is missing, the one before it stays on display; where the first ones are, the
    first that decodes stands for them. Pictures that are no frames are left out.

    Args:
        index: the frames, F of them.
        pictures: (number as in `FrameIndex.numbers`, picture).

    Yields:
        F pictures, or none if no frame decodes: of frames 0 1 2 3 4 and pictures 1 and 3 come
        1 1 1 3 3.
    """
    due = 0
    shown: T | None = None
    for number, picture in pictures:
        frame = index.frame_of.get(number, -1) if number is not None else -1
        if frame < due:
            continue
        for _ in range(due, frame):
            yield picture if shown is None else shown
        yield picture
        shown, due = picture, frame + 1
    if shown is not None:
        for _ in range(due, len(index)):
            yield shown


def by_decoded_pictures(index: FrameIndex, pts: Iterable[int | None]) -> FrameIndex:
    """The same frames, each found by counting to the picture that stands for it.

    `pts` are the times of all pictures that decode, in decoded order. Empty if no frame decodes.
    """
    pictures = ((time, number) for number, time in enumerate(pts))
    numbers = list(stand_ins(index, pictures))
    return replace(
        index,
        numbers=np.asarray(numbers, np.int64),
        pts_seconds=index.pts_seconds[: len(numbers)],
        by_count=True,
        keys=(0,),
    )


def decode_runs(
    wanted: Sequence[int],
    keys: Sequence[int],
    *,
    stands_at: int | None = None,
    seek_cost: int = SEEK_COST_FRAMES,
) -> list[tuple[int | None, tuple[int, ...]]]:
    """Split wanted frames, rising without repeats, into runs that are decoded in one go.

    Args:
        wanted: frames.
        keys: key frames in rising order, the first is 0.
        stands_at: the frame that the decoder gives next, or None.
        seek_cost: frames that a seek must save.

    Returns:
        One (key frame, its wanted frames) for each run; the key frame is None where the decoder
        goes on from where it stands: wanted (3, 5, 99), keys (0, 50), cost 4 -> (0, (3, 5)),
        (50, (99,)).
    """
    runs: list[tuple[int | None, list[int]]] = []
    for frame in wanted:
        key = keys[bisect_right(keys, frame) - 1]
        if stands_at is None or frame < stands_at or key - stands_at >= seek_cost:
            runs.append((key, []))
        elif not runs:
            runs.append((None, []))
        runs[-1][1].append(frame)
        stands_at = frame + 1
    return [(key, tuple(frames)) for key, frames in runs]


def check_positions(positions: Sequence[int], index: FrameIndex, *, source: str) -> None:
    """Raise unless every position is one of a file's frames; see `VideoReader.read`."""
    if not len(positions):
        raise InputError(f"No frame indices were given for {source!r}; pass at least one.")
    bad = next((position for position in positions if not 0 <= position < len(index)), None)
    if bad is None:
        return
    if 0 <= bad < index.num_stored:
        raise CorruptVideoError(
            f"Frame {bad} of {source!r} is missing: the file tells of {index.num_stored} frames, "
            f"{len(index)} can be decoded. It is cut off or damaged: copy or download it again, "
            f"or ask for frames below {len(index)}."
        )
    raise InputError(
        f"Frame {bad} of {source!r} does not exist: its frames are 0..{len(index) - 1}."
    )
