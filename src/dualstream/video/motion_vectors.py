"""Motion vectors of a compressed video as dense fields: flow that the encoder has computed.

FFmpeg's decoders of H.264 and of the MPEG-1, -2, -4 and H.263 family can hand out the vectors
that they build each picture from. A vector leads from a block of the picture to the place in
another picture (its reference) that the block is copied from.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, count, islice, pairwise
from typing import Any, Literal

import numpy as np
from av.codec.context import Flags, Flags2
from av.video.frame import PictureType
from numpy.typing import NDArray

from dualstream.errors import FlowError, VideoError, check_choice, check_least
from dualstream.types import Flow
from dualstream.video.container import (
    DamagedPacketError,
    decode_packet,
    is_url,
    no_frame_error,
    open_video,
    packets_of,
)
from dualstream.video.decoder import LONGEST_REORDERING, Decoder, frames_of
from dualstream.video.index import stand_ins
from dualstream.video.info import Layout, Orientation, layout_of
from dualstream.video.packets import is_h264_reference, nal_length_bytes

Intra = Literal["repeat", "zero"]
"""Filling where a picture has no vectors: the motion of the field before, or none."""

METHOD = "motion-vectors"
"""`Flow.method` of these fields."""

NO_B_VECTORS_CODECS = frozenset(
    {"mpeg4", "h263", "h263p", "flv1", "wmv1", "wmv2", "rv10", "rv20"}
    | {"msmpeg4v1", "msmpeg4v2", "msmpeg4v3"}
)
"""Codecs of which FFmpeg exports no valid vectors for B pictures (`h263dec.c` stores those of
the others only, and what it hands out for B pictures is left from earlier ones)."""

VECTOR_CODECS = frozenset({"h264", "mpeg1video", "mpeg2video"}) | NO_B_VECTORS_CODECS
"""FFmpeg's names of the codecs whose motion vectors are read here."""

_CELL_PX = 8  # sides and places of all exported blocks are multiples of it


@dataclass(frozen=True, eq=False)
class _Picture:
    number: int
    """Place in the order of showing, from 0."""
    pts: int | None
    """Time at which it is shown, in ticks."""
    order: int
    """Place in the order of decoding."""
    is_reference: bool
    """Whether vectors of other pictures may lead here."""
    borrows: bool
    """Whether its own vectors are not given, so that those of the next reference serve."""
    blocks: NDArray[Any] | None
    """FFmpeg's AVMotionVector records; None where the picture has none."""
    layout: Layout

    @property
    def looks_ahead(self) -> bool:
        """Whether its motion is told by a picture that is shown later."""
        return self.borrows or (self.blocks is not None and bool((self.blocks["source"] > 0).any()))


_Stepped = tuple[_Picture, _Picture, tuple[int, int]]
"""A picture, the one whose vectors tell its motion, and the steps of those vectors."""


def motion_vector_windows(
    path: str | os.PathLike[str], length: int = sys.maxsize, *, intra: Intra = "repeat"
) -> Iterator[Flow]:
    """Motion vectors of a video file as one dense field for each pair of neighbouring frames.

    Field t is what the compressed frame t + 1 says of the way from frame t: each block's vector,
    turned round and repeated over its pixels, so in steps of 8 or 16 pixels. It is a substitute
    for flow that costs little more than decoding, and it is approximate:

    - The vector belongs to the block at its place in frame t + 1, not where it was in frame t.
    - An encoder picks vectors that save bits, not the true motion; flat areas have any.
    - Vectors that lead over n frames are divided by n. The decoder does not tell which of several
      reference pictures one leads to; the nearest one is assumed that was decoded before, in
      the past or in the future as the vector says. Wrong where an H.264 encoder chose an older.
    - Where a block has a past and a future vector, the mean of the two motions is taken.
    - B frames of MPEG-4 part 2 (Xvid, DivX) get the vectors of the P frame that follows them, as
      FFmpeg gives none of their own.

    Args:
        path: file name, or a URL that FFmpeg can open.
        length: fields in a window (length + 1 frames); the last window may be shorter. No field
            is in two windows. By default all are in one.
        intra: what to put where a block, or a whole key frame, has no vectors: `repeat` the
            motion of the field before at that place, or `zero`.

    Yields:
        At least one Flow of method "motion-vectors": (length, 2, H, W) pixels, x right and y down,
        as displayed (rotation applied); T - 1 fields in all for the T frames that `VideoReader`
        reads, decoded once and in constant memory.

    Raises:
        VideoNotFoundError: no such file.
        NoVideoStreamError: audio only, a folder, or not a media file.
        CorruptVideoError: empty, or nothing decodes.
        VideoError: a codec whose vectors FFmpeg does not give (HEVC, VP9, AV1, MJPEG, ...).
        FlowError: the video has only one frame.
        InputError: a length below 1, or another value of `intra`.

    Source:
        Wu et al. 2018, "Compressed Video Action Recognition" (CoViAR), for motion vectors
        as an input; FFmpeg, libavutil/motion_vector.h, for what they mean.
    """
    check_choice("intra", intra, Intra)
    check_least(1, length=length)
    name = os.fspath(path)
    fields = _fields(name, intra)
    windows = iter(lambda: list(islice(fields, length)), [])
    return (Flow(np.stack(window), METHOD, name) for window in windows)


def reference_steps(
    number: int, order: int, references: Sequence[tuple[int, int]]
) -> tuple[int, int]:
    """How many frames the vectors of a picture lead over: into the past and into the future.

    Of the pictures that were decoded before this one, the nearest on each side is taken to be
    its reference. Without one on a side, vectors of that side lead to the other one.

    Args:
        number, order: places of the picture in the orders of showing and of decoding.
        references: (number, order) of pictures that others may refer to.

    Returns:
        Signed steps of the first and of the second list of vectors; (-1, -1) where nothing is
        known. Shown as 0 P, 1 b, 2 B, 3 b, 4 P and decoded as 0, 4, 2, 1, 3, picture 2 gives
        (-2, 2), picture 3 (-1, 1) and picture 4 (-4, -4).
    """
    known = [place - number for place, decoded in references if decoded < order]
    past = max((step for step in known if step < 0), default=None)
    future = min((step for step in known if step > 0), default=None)
    if past is None:
        past = -1 if future is None else future
    return past, past if future is None else future


def block_motion(
    blocks: NDArray[Any], *, steps: tuple[int, int], grid: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Vectors of one picture on a grid of cells of 8x8 pixels, as motion from the frame before.

    Args:
        blocks: AVMotionVector records.
        steps: see `reference_steps`.
        grid: (rows, columns) of cells.

    Returns:
        (2, rows, columns) pixels a frame, and (rows, columns) whether a block covers the cell.
    """
    total = np.zeros((*grid, 2), np.float32)
    count = np.zeros(grid, np.float32)
    step = np.where(blocks["source"] > 0, steps[1], steps[0])
    motion = np.stack((blocks["motion_x"], blocks["motion_y"]), -1).astype(np.float32)
    motion /= (blocks["motion_scale"] * step).astype(np.float32)[:, None]
    width, height = blocks["w"].astype(np.int64), blocks["h"].astype(np.int64)
    # FFmpeg gives the middle of the block.
    left = (blocks["dst_x"] - width // 2) // _CELL_PX
    top = (blocks["dst_y"] - height // 2) // _CELL_PX
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        row, column = top + down, left + right
        covers = (height > down * _CELL_PX) & (width > right * _CELL_PX)
        covers &= (row >= 0) & (row < grid[0]) & (column >= 0) & (column < grid[1])
        place = (row[covers], column[covers])
        np.add.at(total, place, motion[covers])
        np.add.at(count, place, 1)
    total /= np.maximum(count, np.float32(1))[..., None]
    return total.transpose(2, 0, 1), count > 0  # (rows, columns, 2) -> (2, rows, columns)


def turned(field: NDArray[np.float32], orientation: Orientation) -> NDArray[np.float32]:
    """(2, H, W) field of a picture as coded -> (2, H', W') of the picture as displayed."""
    if orientation == Orientation():
        return field
    if orientation.transpose:
        field = field[::-1]  # (x, y) change places, as (H, W) do
    x, y = (orientation.apply(component) for component in field)
    return np.stack((-x if orientation.mirror_x else x, -y if orientation.mirror_y else y))


def _fields(path: str, intra: Intra) -> Iterator[NDArray[np.float32]]:
    """(2, H, W) field of every frame but the first."""
    container, stream = open_video(path, num_threads=1)
    with container:
        context = stream.codec_context
        codec = context.codec.canonical_name
        if codec not in VECTOR_CODECS:
            raise VideoError(
                f"{path!r} is coded as {codec}, of which FFmpeg gives no motion vectors. Take a "
                f"method that computes flow, or convert the file to H.264."
            )
        context.flags2 |= Flags2.export_mvs
        context.flags |= Flags.copy_opaque  # a frame then tells the packet that it came in
        shown = _with_steps(_pictures(container, stream))
        if not is_url(path):  # of which all that decode are shown, else what `VideoReader` lists
            with closing(Decoder(path, num_threads=1)) as decoder:
                index, _ = frames_of(decoder)
            numbers = ((p[0].number if index.by_count else p[0].pts, p) for p in shown)
            shown = stand_ins(index, numbers)
        start = list(islice(shown, 2))
        if not start:
            raise no_frame_error(path)
        if len(start) < 2:
            raise FlowError(f"Motion vectors need at least 2 frames; {path!r} has 1.")
        orientation, width, height = start[0][0].layout
        still = field = np.zeros((2, height, width), np.float32)
        for before, entry in pairwise(chain(start, shown)):
            if entry is before:  # a missing picture, for which the one before it is shown again
                field = still
            else:
                field = _spread(*entry[1:], field if intra == "repeat" else still)
            yield turned(field, orientation)


def _spread(
    picture: _Picture, steps: tuple[int, int], elsewhere: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(2, H, W) motion of a picture's blocks, scaled to the video, and `elsewhere` in between."""
    if picture.blocks is None:
        return elsewhere
    _, width, height = picture.layout
    cells, covered = block_motion(
        picture.blocks, steps=steps, grid=(-(-height // _CELL_PX), -(-width // _CELL_PX))
    )
    shown_height, shown_width = elsewhere.shape[1:]
    rows = (np.arange(shown_height) * height // shown_height) // _CELL_PX
    columns = (np.arange(shown_width) * width // shown_width) // _CELL_PX
    scale = np.array([shown_width / width, shown_height / height], np.float32)
    dense: NDArray[np.float32] = (cells * scale[:, None, None]).take(rows, 1).take(columns, 2)
    if not covered.all():
        np.copyto(dense, elsewhere, where=~covered.take(rows, 0).take(columns, 1))
    return dense


def _with_steps(pictures: Iterator[_Picture]) -> Iterator[_Stepped]:
    """Each picture with the one whose vectors tell its motion.

    A picture waits until its reference in the future has been shown.
    """
    past: deque[tuple[int, int]] = deque(maxlen=LONGEST_REORDERING)
    waiting: deque[_Picture] = deque()
    for picture in chain(pictures, [None]):
        if picture is not None:
            waiting.append(picture)
        while waiting:
            first = waiting[0]
            later = [p for p in islice(waiting, 1, None) if p.is_reference]
            following = next((p for p in later if p.order < first.order), None)
            is_settled = following is not None or not first.looks_ahead
            if picture is not None and not is_settled and len(waiting) <= LONGEST_REORDERING:
                break
            waiting.popleft()
            carrier = following if first.borrows and following is not None else first
            references = [*past, *((p.number, p.order) for p in later)]
            yield first, carrier, reference_steps(carrier.number, carrier.order, references)
            if first.is_reference:
                past.append((first.number, first.order))


def _pictures(container: Any, stream: Any) -> Iterator[_Picture]:
    """Every picture that decodes, in the order of showing."""
    codec = stream.codec_context.codec.canonical_name
    length_bytes = nal_length_bytes("h264", stream.codec_context.extradata or b"")
    numbers = count()
    for place, packet in enumerate(packets_of(container, stream)):
        if packet.size:
            packet.opaque = (
                place,
                codec == "h264" and is_h264_reference(bytes(packet), length_bytes=length_bytes),
            )
        try:
            frames = decode_packet(stream, packet)
        except DamagedPacketError:
            continue
        for frame in frames:
            order, is_reference = frame.opaque or (place, True)
            is_b = frame.pict_type == PictureType.B
            borrows = is_b and codec in NO_B_VECTORS_CODECS
            vectors = None if borrows else frame.side_data.get("MOTION_VECTORS")
            yield _Picture(
                number=next(numbers),
                pts=frame.pts,
                order=order,
                is_reference=is_reference if codec == "h264" else not is_b,
                borrows=borrows,
                blocks=None if vectors is None else vectors.to_ndarray(),
                layout=layout_of(frame),
            )
