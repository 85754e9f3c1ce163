"""Finding the pictures in packets of MPEG-4 part 2 video (Xvid, DivX).

AVI files of that codec may pack a P and a B picture into one packet and follow it by a
placeholder ("not coded") packet, so neither packets nor their times tell the frames. The
syntax is ISO/IEC 14496-2, sections 6.2.3 (video object layer) and 6.2.5 (video object plane).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

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


class PictureFinder:
    """Lists the pictures that packets show; remembers the clock of the layer header."""

    def __init__(self, extradata: bytes) -> None:
        self._increment_bits = 1
        self.find(extradata)

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
