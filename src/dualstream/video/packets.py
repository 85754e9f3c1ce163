"""Packets looked into without decoding: whole or damaged, key frame or not, which pictures."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from dualstream.video.ffv1 import is_whole_packet

FORBIDDEN_IN_UNIT = re.compile(rb"\0\0[\0-\2]")
"""Byte sequences that no sound NAL unit holds (ITU-T H.264, section 7.4.1)."""

RECOVERY_POINT, DISPLAY_ORIENTATION = 6, 47
"""Types of SEI messages."""

NAL_SYNTAX: dict[str, tuple[int, Collection[int], int, Collection[int]]] = {
    "h264": (1, (1, 2, 5), 6, (7, 8)),
    "hevc": (2, range(32), 39, range(32, 35)),
}
"""Bytes of a unit's header; unit types of slices, of SEI messages and of parameter sets."""

START_CODE = b"\x00\x00\x01"
LAYER_CODES = range(0x20, 0x30)
PICTURE_CODE = 0xB6
PICTURE_TYPES = "IPBS"
"""Letter of each value of vop_coding_type."""

LAYER = re.compile(
    ".{9}"  # random access, object type
    "(0|1.{7})"  # version, priority
    "((?!1111).{4}|1111.{16})"  # aspect ratio, given as two numbers if it is 15
    "(0|1...(0|1.{79}))"  # chroma format, low delay, buffer sizes with their marker bits
    "...(?P<clock>.{16})"  # shape and marker before it
)

LONGEST_PLACEHOLDER_BYTES = 16
"""Longer packets begin with a start code, unless they are damaged."""


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
        return PictureFinder(extradata).facts
    if codec in NAL_SYNTAX:
        length_bytes = nal_length_bytes(codec, extradata)
        return lambda data: _nal_facts(codec, nal_units(data, length_bytes=length_bytes), extradata)
    if codec == "ffv1":
        return lambda data: PacketFacts(is_whole=not extradata or is_whole_packet(data))
    known = {"av1": _av1_facts, "vp9": _vp9_facts, "mjpeg": _mjpeg_facts}
    return known.get(codec, lambda data: PacketFacts())


def nal_length_bytes(codec: str, extradata: bytes) -> int | None:
    """Bytes of the length before each NAL unit, or None where start codes stand between them.

    Source: ISO/IEC 14496-15, sections 5.3.3.1 (avcC) and 8.3.3.1 (hvcC).
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
        if not unit or unit[0] >= 128:
            return DAMAGED
        # Zeros may follow a unit; some writers count them in.
        if b"\0\0" in unit and FORBIDDEN_IN_UNIT.search(unit.rstrip(b"\0")):
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

    Source: ITU-T T.81, annex B (markers and segments).
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
    """Whether other pictures may refer to the H.264 picture in a packet; true without a slice.

    Source: ITU-T H.264, section 7.3.1 (nal_ref_idc of a NAL unit).
    """
    for unit in nal_units(packet, length_bytes=length_bytes):
        if unit and unit[0] & 31 in (1, 2, 5):  # a slice, or the first partition of one
            return unit[0] >> 5 & 3 != 0
    return True


class PictureFinder:
    """Lists the pictures that packets of MPEG-4 part 2 (Xvid, DivX) show.

    AVI files may pack a P and a B picture into one packet and follow it by a placeholder ("not
    coded"), so neither packets nor their times tell the frames. The syntax is ISO/IEC 14496-2,
    sections 6.2.3 (video object layer, whose clock is remembered) and 6.2.5 (plane).
    """

    def __init__(self, extradata: bytes) -> None:
        self._increment_bits = 1
        self.find(extradata)

    def facts(self, data: bytes) -> PacketFacts:
        """Facts of one packet."""
        found = self.find(data)
        return PacketFacts(is_whole="?" not in found, is_key="I" in found, pictures=found)

    def find(self, data: bytes) -> str:
        """Types of the coded pictures of one packet: "P" mostly, "PB" packed, "" placeholder.

        A "?" stands for what is damaged: a picture header, or a packet without any.
        """
        found = ""
        position = data.find(START_CODE)
        if position and len(data) > LONGEST_PLACEHOLDER_BYTES:
            return "?"
        while 0 <= position < len(data) - 4:
            # 36 bytes hold every header field that is read here.
            code, body = data[position + 3], data[position + 4 : position + 40]
            if code in LAYER_CODES:
                self._increment_bits = max(1, (layer_clock(body) - 1).bit_length())
            elif code == PICTURE_CODE:
                found += picture_type(body, increment_bits=self._increment_bits)
            position = data.find(START_CODE, position + 4)
        return found


def _bits(body: bytes) -> str:
    """Its bits as digits; zeros follow its end."""
    return f"{int.from_bytes(body, 'big'):0{8 * len(body)}b}" + "0" * 160


def layer_clock(body: bytes) -> int:
    """vop_time_increment_resolution (ticks a second) of a video object layer header."""
    found = LAYER.match(_bits(body))
    return max(1, int(found["clock"], 2)) if found else 1


def picture_type(body: bytes, *, increment_bits: int) -> str:
    """Letter of a video object plane's picture, "" for a placeholder (vop_coded = 0), "?" for none.

    `increment_bits` is the width of vop_time_increment, enough for the layer's clock - 1.
    """
    # vop_coding_type, a 1 for every second passed, 0, marker, vop_time_increment, marker, vop_coded
    found = re.match(rf"(..)1*01.{{{increment_bits}}}1(.)", _bits(body))
    if not found:
        return "?"
    return PICTURE_TYPES[int(found[1], 2)] if found[2] == "1" else ""


def display_slots(pictures: Sequence[str]) -> list[int]:
    """Packet number at whose time each picture is shown, in the order of showing.

    The decoder gives at most one picture a packet; a packed one waits for the placeholder after
    it, and one that still waits at the end is never shown. Where there are B pictures the
    decoder gives each picture one packet late, which is taken back: I,-,PB,-,P,- (an encoder's
    delay after the first picture, then packed) is shown at 0, 1, 2, 3 and I,P,-,P (a picture
    dropped) at 0, 1, 3.
    """
    given: list[int] = []
    waiting = 0
    for packet, found in enumerate(pictures):
        waiting += len(found)
        if waiting:
            given.append(packet)
            waiting -= 1
    if len(given) > 1 and any("B" in found for found in pictures):
        delay = given[1] - given[0]
        return [slot - delay for slot in given[1:]] + [given[-1] + 1 - delay]
    return given
