"""Packets looked into without decoding: key frame or not, and what decoders do not tell."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from dualstream.video.mpeg4 import PictureFinder

RECOVERS_AT_ONCE = re.compile(rb"\x06[\x01-\x05][\x80-\xff]")
"""SEI message "recovery point" after no pictures; ITU-T H.264, sections 7.3.2.3.1 and D.1.8."""

DISPLAY_ORIENTATION = re.compile(rb"\x2f[\x01-\x07]")
"""Type and size of the SEI message "display orientation" (D.1.27 there)."""


class PacketFacts(NamedTuple):
    """Facts that one packet tells of itself."""

    is_whole: bool = True
    """Nothing speaks of damage or of a spliced stream; only decoding can tell the rest."""
    is_key: bool = True
    """Decoding can start here, if the container says so too."""
    turns: bool = False
    """It may carry an orientation of its own, which later pictures need not have."""
    pictures: str = "?"
    """A letter for each coded picture, known for MPEG-4 part 2 only."""


def packet_inspector(codec: str, extradata: bytes) -> Callable[[bytes], PacketFacts]:
    """Function that looks into the packets of a stream.

    Args:
        codec: FFmpeg's name of it.
        extradata: the codec's header as the container stores it, may be empty.
    """
    if codec == "mpeg4":
        find = PictureFinder(extradata).find
        return lambda data: _mpeg4_facts(find(data))
    if codec in ("h264", "hevc"):
        length_bytes, is_hevc = nal_length_bytes(codec, extradata), codec == "hevc"
        return lambda data: _nal_facts(
            nal_units(data, length_bytes=length_bytes), extradata, is_hevc=is_hevc
        )
    return _mjpeg_facts if codec == "mjpeg" else lambda _: PacketFacts()


def _mpeg4_facts(pictures: str) -> PacketFacts:
    return PacketFacts(is_whole="?" not in pictures, is_key="I" in pictures, pictures=pictures)


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
    """NAL units of one access unit of H.264 or HEVC, without empty ones.

    None where they do not fill the packet. `length_bytes`: see `nal_length_bytes`.
    """
    if length_bytes is None:
        before, *units = (part.rstrip(b"\0") for part in packet.split(b"\0\0\1"))
        return [] if before else list(filter(None, units))
    units, place = [], 0
    while place < len(packet):
        start = place + length_bytes
        place = start + int.from_bytes(packet[place:start], "big")
        units.append(packet[start:place])
    return list(filter(None, units)) if place == len(packet) else []


def _nal_facts(units: list[bytes], extradata: bytes, *, is_hevc: bool) -> PacketFacts:
    kinds = [unit[0] >> 1 & 63 if is_hevc else unit[0] & 31 for unit in units]
    parameters, message = ((32, 33, 34), 39) if is_hevc else ((7, 8), 6)
    messages = [unit[1:] for unit, kind in zip(units, kinds, strict=True) if kind == message]
    if is_hevc:  # a random access point
        is_key = any(16 <= kind <= 21 for kind in kinds)
    else:  # an IDR picture or an exact recovery point
        is_key = 5 in kinds or any(map(RECOVERS_AT_ONCE.search, messages))
    is_known = (u in extradata for u, kind in zip(units, kinds, strict=True) if kind in parameters)
    return PacketFacts(
        is_whole=bool(units) and all(is_known),  # else a stream was spliced in
        is_key=is_key,
        turns=any(map(DISPLAY_ORIENTATION.search, messages)),
    )


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


def is_h264_reference(packet: bytes, *, length_bytes: int | None) -> bool:
    """Whether other pictures may refer to the H.264 picture in a packet (its nal_ref_idc).

    True too where no slice is found. `length_bytes`: see `nal_length_bytes`.

    Source:
        ITU-T H.264, section 7.3.1 (NAL unit).
    """
    units = nal_units(packet, length_bytes=length_bytes)
    slices = (unit for unit in units if unit[0] & 31 in (1, 2, 5))  # 2: the first part of one
    return next((unit[0] >> 5 & 3 != 0 for unit in slices), True)
