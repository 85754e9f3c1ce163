"""Packets looked into without decoding: whole or damaged, key frame or not."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import NamedTuple

from dualstream.video.mpeg4 import PictureFinder

FORBIDDEN_IN_UNIT = (b"\0\0\0", b"\0\0\1", b"\0\0\2")
"""Byte sequences that no sound NAL unit holds (ITU-T H.264, section 7.4.1)."""

RECOVERY_POINT, DISPLAY_ORIENTATION = 6, 47
"""Types of SEI messages."""

NAL_SYNTAX: dict[str, tuple[int, Collection[int], int, Collection[int]]] = {
    "h264": (1, (1, 2, 5), 6, (7, 8)),
    "hevc": (2, range(32), 39, range(32, 35)),
}
"""Bytes of a unit's header; unit types of slices, of SEI messages and of parameter sets."""


class PacketFacts(NamedTuple):
    """Facts that one packet tells of itself."""

    is_whole: bool = True
    """Nothing in its structure speaks of damage; what lies deeper only decoding can tell."""
    is_key: bool = True
    """Decoding can start here, if the container says so too."""
    turns: bool = False
    """It carries an orientation of its own, which later pictures may not have."""
    pictures: str = "?"
    """A letter for each coded picture, known for MPEG-4 part 2 only."""


DAMAGED = PacketFacts(is_whole=False)


def packet_inspector(codec: str, extradata: bytes) -> Callable[[bytes], PacketFacts]:
    """Function that looks into the packets of a stream; `codec` is FFmpeg's name of it."""
    if codec == "mpeg4":
        finder = PictureFinder(extradata)
        return lambda data: _mpeg4_facts(finder, data)
    if codec in NAL_SYNTAX:
        length_bytes = nal_length_bytes(codec, extradata)
        return lambda data: _nal_facts(codec, nal_units(data, length_bytes=length_bytes), extradata)
    known = {"av1": _av1_facts, "vp9": _vp9_facts, "mjpeg": _mjpeg_facts}
    return known.get(codec, lambda data: PacketFacts())


def nal_length_bytes(codec: str, extradata: bytes) -> int | None:
    """Bytes of the length before each NAL unit, or None where start codes stand between them.

    Source:
        ISO/IEC 14496-15, sections 5.3.3.1 (avcC) and 8.3.3.1 (hvcC).
    """
    place = 4 if codec == "h264" else 21
    # Both boxes begin with version 1; start codes begin with zeros.
    if len(extradata) > place and extradata[0] == 1:
        return (extradata[place] & 3) + 1
    return None


def nal_units(packet: bytes, *, length_bytes: int | None) -> list[bytes]:
    """NAL units of one access unit of H.264 or HEVC; none where they do not fill the packet."""
    if length_bytes is None:
        before, *units = packet.split(b"\0\0\1")
        return [unit.rstrip(b"\0") for unit in units] if not before.strip(b"\0") else []
    units, place = [], 0
    while place < len(packet):
        start = place + length_bytes
        place = start + int.from_bytes(packet[place:start], "big")
        units.append(packet[start:place])
    return units if place == len(packet) else []


def _nal_facts(codec: str, units: list[bytes], extradata: bytes) -> PacketFacts:
    """A picture begins with its first macroblock (H.264) or segment (HEVC)."""
    is_h264 = codec == "h264"
    header_bytes, slices, message, parameter_sets = NAL_SYNTAX[codec]
    first, first_kind = b"", 0
    messages: dict[int, bytes] = {}
    for unit in units:
        if _is_damaged(unit):
            return DAMAGED
        kind = unit[0] & 31 if is_h264 else unit[0] >> 1
        if kind in slices and not first:
            first, first_kind = unit, kind
        elif kind == message:
            messages.update(_sei_messages(unit[header_bytes:]))
        elif kind in parameter_sets and unit not in extradata:  # those of a spliced stream
            return DAMAGED
    if len(first) <= header_bytes or first[header_bytes] < 128:
        return DAMAGED
    if is_h264:
        # An IDR picture, or an exact recovery point: it begins with the pictures until it, 0
        # being the bit 1.
        is_key = first_kind == 5 or messages.get(RECOVERY_POINT, b"\0")[:1] >= b"\x80"
    else:
        is_key = 16 <= first_kind <= 21  # a random access point
    return PacketFacts(is_key=is_key, turns=DISPLAY_ORIENTATION in messages)


def _is_damaged(unit: bytes) -> bool:
    """Whether these bytes cannot be a NAL unit."""
    if not unit or unit[0] >= 128:
        return True
    # Zeros may follow a unit; some writers count them in.
    return b"\0\0" in unit and any(code in unit.rstrip(b"\0") for code in FORBIDDEN_IN_UNIT)


def _sei_messages(body: bytes) -> list[tuple[int, bytes]]:
    """(type, content) of the messages of an SEI unit; ITU-T H.264, section 7.3.2.3.1."""
    messages, place = [], 0
    while place + 2 < len(body):
        numbers = []
        for _ in ("type", "size"):
            number = 0
            while place < len(body) and body[place] == 255:
                number, place = number + 255, place + 1
            numbers.append(number + (body[place] if place < len(body) else 0))
            place += 1
        messages.append((numbers[0], body[place : place + numbers[1]]))
        place += numbers[1]
    return messages


def _av1_facts(data: bytes) -> PacketFacts:
    """AV1 bitstream specification, sections 5.3 (open bitstream units) and 5.9 (frame header)."""
    place, is_key = 0, False
    kinds: set[int] = set()
    while place < len(data):
        header = data[place]
        kind = header >> 3 & 15
        place += 2 if header & 4 else 1
        size, shift = 0, 0
        while header & 2 and place < len(data) and shift < 35:
            byte = data[place]
            size, shift, place = size | (byte & 127) << shift, shift + 7, place + 1
            if byte < 128:
                break
        if not header & 2:
            size = len(data) - place
        if header & 129 or kind not in (1, 2, 3, 4, 5, 6, 7, 8, 15):
            return DAMAGED
        if kind in (3, 6) and not kinds & {3, 6}:
            # show_existing_frame (1 bit), frame_type (2 bits, a key frame is 0)
            is_key = bool(data[place : place + 1]) and not data[place] & 0b1110_0000
        kinds.add(kind)
        place += size
    return PacketFacts(is_whole=place == len(data) and bool(kinds & {3, 6}), is_key=is_key)


def _vp9_facts(data: bytes) -> PacketFacts:
    """VP9 bitstream specification, section 6.2 (uncompressed header)."""
    bits = f"{int.from_bytes(data[:8].ljust(8, bytes(1)), 'big'):064b}"
    marker, low, high = bits[:2], bits[2], bits[3]
    rest = bits[5:] if low + high == "11" else bits[4:]
    is_shown_again, is_key = rest[0] == "1", rest[:2] == "00"
    # show_frame and error_resilient_mode stand before the sync code
    has_sync = rest[4:28] == f"{0x498342:024b}"
    is_whole = marker == "10" and (is_shown_again or not is_key or has_sync)
    return PacketFacts(is_whole=is_whole, is_key=is_key)


def _mjpeg_facts(data: bytes) -> PacketFacts:
    """A picture has its own tables; else it would be decoded with those of the one before.

    Source:
        ITU-T T.81, annex B (markers and segments).
    """
    place, kinds = 2, set()
    while data[place : place + 1] == b"\xff" and 0xDA not in kinds:
        kinds.add(data[place + 1] if place + 1 < len(data) else 0)
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    end = data.rstrip(b"\0")[-2:]
    has_all = kinds >= {0xC4, 0xDA, 0xDB} and kinds & {0xC0, 0xC1, 0xC2}
    is_plain = not re.search(rb"\xff[^\x00\xd0-\xd7\xff]", data[place : data.rfind(end)])
    return PacketFacts(
        is_whole=bool(data[:2] == b"\xff\xd8" and end == b"\xff\xd9" and has_all and is_plain),
        turns=0xE1 in kinds,
    )


def _mpeg4_facts(finder: PictureFinder, data: bytes) -> PacketFacts:
    pictures = finder.find(data)
    return PacketFacts(is_whole="?" not in pictures, is_key="I" in pictures, pictures=pictures)


def is_h264_reference(packet: bytes, *, length_bytes: int | None) -> bool:
    """Whether other pictures may refer to the H.264 picture in a packet (its nal_ref_idc).

    True too where no slice is found.

    Source:
        ITU-T H.264, section 7.3.1 (NAL unit).
    """
    for unit in nal_units(packet, length_bytes=length_bytes):
        if unit and unit[0] & 31 in (1, 2, 5):  # a slice, or the first partition of one
            return unit[0] >> 5 & 3 != 0
    return True
