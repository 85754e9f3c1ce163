"""Damage by chance: bytes flipped, cut, inserted, swapped, and the boxes of containers."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

HEADER_BYTES = 512
"""Bytes at either end that are hit more often: containers keep what they promise there."""

EXTREMES = (0, 1, -1, 2, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, -(2**31), 2**32 - 1, 2**62)
"""Numbers that a reader may trust and should not."""


@dataclass(frozen=True)
class Box:
    """A piece of a container with a head of its own: an MP4 box, a RIFF chunk, an EBML element."""

    start: int
    end: int
    size_at: int
    """Place of its length, of `size_bytes` bytes."""
    size_bytes: int
    order: Literal["big", "little"]


def mutate(data: bytes, seed: int, *, other: bytes = b"") -> tuple[bytes, list[str]]:
    """Damage a file's bytes in one to four ways.

    Args:
        data: the sound file, not empty.
        seed: the same seed damages the same bytes in the same way.
        other: another file, whose pieces are spliced in at times.

    Returns:
        The damaged bytes, and the names of what was done.
    """
    rng = random.Random(seed)
    done: list[str] = []
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        change = rng.choice(CHANGES)
        data = change(bytearray(data), rng, other)
        done.append(change.__name__)
        if not data:
            break
    return data, done


def _place(data: bytearray, rng: random.Random) -> int:
    """A place in the data, in a third of cases near one of its ends."""
    if not data:
        return 0
    near = min(HEADER_BYTES, len(data))
    kind = rng.randrange(6)
    if kind == 0:
        return rng.randrange(near)
    if kind == 1:
        return len(data) - 1 - rng.randrange(near)
    return rng.randrange(len(data))


def _run(data: bytearray, rng: random.Random) -> tuple[int, int]:
    """Start and end of a run of bytes, short ones more often."""
    start = _place(data, rng)
    return start, min(len(data), start + int(2 ** rng.uniform(0, 12)))


def flip_bytes(data: bytearray, rng: random.Random, other: bytes) -> bytes:
    """Replace single bytes anywhere."""
    for _ in range(rng.choice((1, 2, 4, 8, 32))):
        data[_place(data, rng)] = rng.randrange(256)
    return bytes(data)


def flip_bits(data: bytearray, rng: random.Random, other: bytes) -> bytes:
    """Turn single bits around, as memory and old disks do."""
    for _ in range(rng.choice((1, 2, 8))):
        data[_place(data, rng)] ^= 1 << rng.randrange(8)
    return bytes(data)


def flip_header(data: bytearray, rng: random.Random, other: bytes) -> bytes:
    """Replace bytes of the file's beginning."""
    for _ in range(rng.choice((1, 2, 4))):
        data[rng.randrange(min(HEADER_BYTES, len(data)))] = rng.randrange(256)
    return bytes(data)


def cut_end(data: bytearray, rng: random.Random, other: bytes) -> bytes:
    """Leave out the end, as a broken download does."""
    return bytes(data[: rng.randrange(len(data) + 1)])


def cut_run(data: bytearray, rng: random.Random, other: bytes) -> bytes:
    """Leave out a run of bytes."""
    start, end = _run(data, rng)
    return bytes(data[:start] + data[end:])


def insert_run(data: bytearray, rng: random.Random, other: bytes) -> bytes:
    """Put in random bytes, or a copy of some of the file's own."""
    start, end = _run(data, rng)
    new = data[start:end] if rng.randrange(2) else rng.randbytes(end - start)
    place = _place(data, rng)
    return bytes(data[:place] + new + data[place:])


def swap_runs(data: bytearray, rng: random.Random, other: bytes) -> bytes:
    """Exchange two runs of the same length."""
    start, end = _run(data, rng)
    length = end - start
    if 2 * length > len(data):
        return bytes(data)
    place = rng.randrange(len(data) - length + 1)
    if place < end and start < place + length:
        return bytes(data)
    data[start:end], data[place : place + length] = data[place : place + length], data[start:end]
    return bytes(data)


def fill_run(data: bytearray, rng: random.Random, other: bytes) -> bytes:
    """Fill a run with zeros or ones, as a lost block of a disk reads."""
    start, end = _run(data, rng)
    data[start:end] = bytes([rng.choice((0, 255))]) * (end - start)
    return bytes(data)


def set_number(data: bytearray, rng: random.Random, other: bytes) -> bytes:
    """Write an extreme number of 1, 2, 4 or 8 bytes, in either order."""
    for _ in range(rng.choice((1, 1, 4))):
        size, order = rng.choice((1, 2, 4, 8)), rng.choice((">", "<"))
        value = rng.choice(EXTREMES) & (2 ** (8 * size) - 1)
        packed = struct.pack(f"{order}{'BHIQ'[(1, 2, 4, 8).index(size)]}", value)
        place = _place(data, rng)
        data[place : place + size] = packed[: len(data) - place]
    return bytes(data)


def splice(data: bytearray, rng: random.Random, other: bytes) -> bytes:
    """Go on with the end of another file."""
    if not other:
        return flip_bytes(data, rng, other)
    return bytes(data[: rng.randrange(len(data) + 1)]) + other[rng.randrange(len(other)) :]


def change_box(data: bytearray, rng: random.Random, other: bytes) -> bytes:
    """Resize, rename, drop, repeat, exchange or fill a box; plain files have bytes flipped."""
    boxes = find_boxes(bytes(data))
    if not boxes:
        return flip_header(data, rng, other)
    box = rng.choice(boxes)
    kind = rng.randrange(6)
    whole = data[box.start : box.end]
    if kind == 0:
        size = rng.choice((*EXTREMES, len(whole) + 1, len(whole) - 1, 2 * len(whole)))
        size &= 2 ** (8 * box.size_bytes) - 1
        new = size.to_bytes(box.size_bytes, box.order)
        data[box.size_at : box.size_at + box.size_bytes] = new
    elif kind == 1:  # the four letters of its type stand beside its length
        name_at = box.start if box.size_at != box.start else box.start + box.size_bytes
        data[name_at] = rng.randrange(256)
    elif kind == 2:
        del data[box.start : box.end]
    elif kind == 3:
        data[box.end : box.end] = whole
    elif kind == 4:
        sibling = rng.choice(boxes)
        apart = sibling.start >= box.end or sibling.end <= box.start
        if apart:
            first, second = sorted((box, sibling), key=lambda one: one.start)
            return bytes(
                data[: first.start]
                + data[second.start : second.end]
                + data[first.end : second.start]
                + data[first.start : first.end]
                + data[second.end :]
            )
    else:
        inside = bytearray(whole)
        for _ in range(4):
            inside[rng.randrange(len(inside))] = rng.choice((0, 1, 127, 128, 255))
        data[box.start : box.end] = inside
    return bytes(data)


CHANGES: tuple[Callable[[bytearray, random.Random, bytes], bytes], ...] = (
    flip_bytes,
    flip_bytes,
    flip_bits,
    flip_header,
    cut_end,
    cut_run,
    insert_run,
    swap_runs,
    fill_run,
    set_number,
    set_number,
    splice,
    change_box,
    change_box,
    change_box,
)
"""All ways, the frequent ones more than once."""


def find_boxes(data: bytes) -> list[Box]:
    """Boxes of an MP4, chunks of a RIFF, elements of a Matroska file; else none."""
    if data[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"styp"):
        return _mp4_boxes(data, 0, len(data))
    if data[:4] == b"RIFF":
        return _riff_chunks(data, 0, len(data))
    if data[:4] == b"\x1aE\xdf\xa3":
        return _ebml_elements(data, 0, len(data))
    return []


_MP4_PARENTS = frozenset(
    {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf", b"edts", b"udta", b"moof", b"traf"}
)


def _mp4_boxes(data: bytes, start: int, end: int) -> list[Box]:
    boxes = []
    while start + 8 <= end:
        size = int.from_bytes(data[start : start + 4], "big")
        if size < 8 or start + size > end:
            break
        boxes.append(Box(start, start + size, start, 4, "big"))
        if data[start + 4 : start + 8] in _MP4_PARENTS:
            boxes += _mp4_boxes(data, start + 8, start + size)
        start += size
    return boxes


def _riff_chunks(data: bytes, start: int, end: int) -> list[Box]:
    chunks = []
    while start + 8 <= end:
        size = int.from_bytes(data[start + 4 : start + 8], "little")
        stop = min(start + 8 + size, end)
        chunks.append(Box(start, stop, start + 4, 4, "little"))
        if data[start : start + 4] in (b"RIFF", b"LIST"):
            chunks += _riff_chunks(data, start + 12, stop)
        start = stop + size % 2
    return chunks


_EBML_PARENTS = frozenset({0x18538067, 0x1549A966, 0x1654AE6B, 0xAE, 0xE0, 0x1F43B675, 0x1C53BB6B})


def _ebml_elements(data: bytes, start: int, end: int) -> list[Box]:
    elements = []
    while start + 2 <= end:
        id_bytes = 8 - data[start].bit_length() + 1
        size_at = start + id_bytes
        if id_bytes > 4 or size_at >= end or not data[size_at]:
            break
        size_bytes = 8 - data[size_at].bit_length() + 1
        raw = int.from_bytes(data[size_at : size_at + size_bytes], "big")
        size = raw & (2 ** (7 * size_bytes) - 1)
        inside = size_at + size_bytes
        stop = min(inside + size, end)
        elements.append(Box(start, stop, size_at, size_bytes, "big"))
        if int.from_bytes(data[start:size_at], "big") in _EBML_PARENTS:
            elements += _ebml_elements(data, inside, stop)
        start = stop
    return elements
